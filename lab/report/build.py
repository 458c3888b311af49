"""Execute the notebooks of a run and make the page.

One kernel serves all notebooks: starting it and importing the scientific stack takes longer than
all figures. The page is made from a small template of our own: everything in it is inline, and it
loads nothing from anywhere.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import HostError, StoreError
from lab.store import REPORTS, Results, Run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyter_client.manager import KernelManager
    from nbformat import NotebookNode

__all__ = ["NOTEBOOKS", "ReportError", "notebooks_dir", "report"]

NOTEBOOKS = {"boot": "boot_time", "density": "memory_density", "disk": "disk_sharing"}
"""Experiment → notebook."""

CELL_TIMEOUT = 120


class ReportError(StoreError):
    """A notebook failed: the message has the traceback's end; what ran until then is kept."""


def notebooks_dir() -> Path:
    """`notebooks/` of the checkout, or the copy inside an installed package."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package.parent / "notebooks", package / "_notebooks"):
        if (folder / "boot_time.ipynb").is_file():
            return folder
    raise HostError(
        f"the lab's notebooks are neither beside nor inside {package}: install it again"
    )


def report(name: str, root: Path, output: Path | None = None) -> Path:
    """Execute the notebooks of a run's experiments; write them and one HTML page.

    `name` as in `Results.find`. The page is `<results>/<host>/reports/<run id>/report.html`, or
    `output`. Raises `RunNotFound`, `ReportError`, and `HostError` without the `notebooks` extra.
    """
    runs = Results(root).find(name)
    folder = runs[0].path.parent.parent / REPORTS / runs[0].run_id
    folder.mkdir(parents=True, exist_ok=True)
    executed = execute(runs, folder)
    page = render(runs, executed)
    path = output or folder / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def execute(runs: Sequence[Run], folder: Path) -> list[NotebookNode]:
    """Execute each run's notebook into `folder`, all on one kernel."""
    try:
        import nbformat
    except ImportError as error:
        raise HostError(
            f"reports need the notebooks extra ({error}): pip install 'isolation-lab[notebooks]'"
        ) from error
    executed = []
    with _kernel() as kernel:
        for run in runs:
            if run.experiment not in NOTEBOOKS:
                continue
            source = notebooks_dir() / f"{NOTEBOOKS[run.experiment]}.ipynb"
            notebook = nbformat.read(source, as_version=4)
            _inject(notebook, RUN=str(run.path), RESULTS=str(run.path.parents[2]))
            try:
                _run(notebook, kernel, folder)
            finally:
                nbformat.write(notebook, folder / source.name)
            executed.append(notebook)
    return executed


@contextmanager
def _kernel() -> Iterator[KernelManager]:
    """The Python kernel of this very interpreter, whatever kernels are installed."""
    from jupyter_client.manager import KernelManager

    # Unix sockets in a private folder: nobody else on the host can speak to the kernel.
    with tempfile.TemporaryDirectory(prefix="lab-kernel-") as sockets:
        kernel = KernelManager(kernel_name="python3", transport="ipc", ip=f"{sockets}/kernel")
        kernel.start_kernel(extra_arguments=["--HistoryManager.enabled=False"])
        try:
            yield kernel
        finally:
            kernel.shutdown_kernel(now=True)


def _inject(notebook: NotebookNode, **values: str) -> None:
    """A cell after the one tagged ``parameters``, as papermill does it."""
    from nbformat.v4 import new_code_cell

    lines = [f"{name} = {value!r}" for name, value in values.items()]
    cell = new_code_cell("\n".join(lines), metadata={"tags": ["injected-parameters"]})
    for index, candidate in enumerate(notebook.cells):
        if "parameters" in candidate.metadata.get("tags", []):
            notebook.cells.insert(index + 1, cell)
            return
    notebook.cells.insert(0, cell)


def _run(notebook: NotebookNode, kernel: KernelManager, folder: Path) -> None:
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError

    client = NotebookClient(
        notebook,
        km=kernel,
        timeout=CELL_TIMEOUT,
        resources={"metadata": {"path": str(folder)}},
    )
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError) as error:
        tail = "\n".join(str(error).strip().splitlines()[-12:])
        raise ReportError(
            f"a notebook failed; as far as it came it is in {folder}:\n{tail}"
        ) from error


def render(runs: Sequence[Run], notebooks: Sequence[NotebookNode]) -> str:
    """The page as one string of HTML."""
    import mistune
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from lab.record import FORMAT

    environment = Environment(
        loader=PackageLoader("lab.report"), autoescape=True, undefined=StrictUndefined
    )
    markdown = mistune.create_markdown(escape=True, plugins=["table"])
    facts = {k: v for k, v in runs[0].host_facts.items() if not isinstance(v, dict)}
    return environment.get_template("report.html").render(
        run=runs[0].run_id,
        format=FORMAT,
        facts=facts,
        experiment=json.dumps(runs[0].experiment_doc, indent=1),
        again=f"lab bench {runs[0].path / 'experiment.toml'}",
        sections=[[_cell(cell, markdown) for cell in n.cells] for n in notebooks],
    )


def _cell(cell: NotebookNode, markdown: Any) -> dict[str, Any]:
    """A cell as the template wants it: HTML of its text, or code with its outputs."""
    if cell.cell_type == "markdown":
        return {"kind": "markdown", "html": markdown(cell.source)}
    outputs = []
    for output in cell.outputs:
        data = output.get("data", {})
        if "image/png" in data:
            meta = output.metadata.get("image/png", output.metadata)
            image = data["image/png"].replace("\n", "")
            outputs.append({"kind": "image", "png": image, "alt": meta.get("alt", "figure")})
        elif "text/markdown" in data:
            outputs.append({"kind": "html", "html": markdown(data["text/markdown"])})
        elif "text" in output or "text/plain" in data:
            outputs.append({"kind": "text", "text": output.get("text") or data["text/plain"]})
    return {"kind": "code", "source": cell.source, "outputs": outputs}
