"""Execute the notebooks of runs.

One kernel serves all notebooks: starting it and importing the scientific stack takes longer than
all figures.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import HostError, StoreError
from lab.store import Run

if TYPE_CHECKING:
    from jupyter_client.blocking.client import BlockingKernelClient
    from jupyter_client.manager import KernelManager
    from nbformat import NotebookNode

__all__ = ["NOTEBOOKS", "ReportError", "execute", "notebooks_dir"]

NOTEBOOKS = {"boot": "boot_time", "density": "memory_density", "disk": "disk_sharing"}
"""Experiment → notebook."""

CELL_TIMEOUT = 120
START_TIMEOUT = 60
"""Seconds, only there to end a hang."""


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


def execute(runs: Sequence[tuple[Run, Path]]) -> list[NotebookNode | None]:
    """Execute the notebook of each run into its folder, all on one kernel; None for an experiment
    that has no notebook. Raises `ReportError`, and `HostError` without the `notebooks` extra."""
    try:
        import jinja2  # noqa: F401
        import mistune  # noqa: F401
        import nbclient  # noqa: F401
        import nbformat
    except ImportError as error:
        raise HostError(
            f"reports need the notebooks extra ({error}): pip install 'isolation-lab[notebooks]'"
        ) from error
    executed: list[NotebookNode | None] = []
    with _kernel() as (kernel, client):
        for run, folder in runs:
            if run.experiment not in NOTEBOOKS:
                executed.append(None)
                continue
            source = notebooks_dir() / f"{NOTEBOOKS[run.experiment]}.ipynb"
            notebook = nbformat.read(source, as_version=4)
            _inject(notebook, RUN=str(run.path), RESULTS=str(run.path.parents[2]))
            try:
                _run(notebook, kernel, client, folder)
            finally:
                nbformat.write(notebook, folder / source.name)
            executed.append(notebook)
    return executed


@contextmanager
def _kernel() -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
    """The Python kernel of this very interpreter with this very lab, whatever kernels and labs are
    installed or stand in the working directory; and a client of it."""
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import KernelManager

    package = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(package), *filter(None, [os.environ.get("PYTHONPATH")])])
    # Unix sockets in a private folder: nobody else on the host can speak to the kernel.
    with tempfile.TemporaryDirectory(prefix="lab-kernel-") as private:
        kernel = KernelManager(
            kernel_name="python3",
            transport="ipc",
            ip=f"{private}/kernel",
            # With no folders to look into, the one spec left is ipykernel's own.
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
        )
        kernel.start_kernel(
            extra_arguments=["--HistoryManager.enabled=False"],
            cwd=private,
            env={**os.environ, "PYTHONPATH": path},
        )
        client = kernel.blocking_client()
        try:
            client.start_channels()
            client.wait_for_ready(timeout=START_TIMEOUT)
            client.allow_stdin = False
            yield kernel, client
        except RuntimeError as error:  # What jupyter_client raises for a kernel that died.
            raise ReportError(f"the Python kernel for the notebooks: {error}") from error
        finally:
            client.stop_channels()
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


def _run(
    notebook: NotebookNode, kernel: KernelManager, client: BlockingKernelClient, folder: Path
) -> None:
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    runner = NotebookClient(notebook, km=kernel, timeout=CELL_TIMEOUT)
    # One client for all: nbclient would make its own for each, and leave them open.
    runner.kc = client
    try:
        runner.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        tail = "\n".join(str(error).strip().splitlines()[-12:])
        raise ReportError(
            f"a notebook failed; as far as it came it is in {folder}:\n{tail}"
        ) from error
