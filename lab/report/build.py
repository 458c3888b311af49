"""The report: execute the notebooks of a run, and make one page of them.

How notebooks are executed is `lab.report.execute`'s; what the page looks like, the template's.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import StoreError
from lab.record import FORMAT
from lab.report.execute import execute
from lab.store import REPORTS, Results, Run
from lab.summary import summarize_run
from lab.table import Quantity

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["render", "report"]


def report(name: str, root: Path, output: Path | None = None) -> Path:
    """Execute the notebooks of a run's experiments; write them and one HTML page.

    `name` as in `Results.find`. Notebooks go into `<results>/<host>/reports/<run id>/`, and the
    page, `report.html`, beside them, or to `output`. Raises `RunNotFound`, `ReportError`, and
    `HostError` without the `notebooks` extra.
    """
    runs = Results(root).find(name)
    page = output or _folder(runs[0]) / "report.html"
    try:
        for run in runs:
            _folder(run).mkdir(parents=True, exist_ok=True)
        page.parent.mkdir(parents=True, exist_ok=True)
        executed = execute([(run, _folder(run)) for run in runs])
        page.write_text(render(runs, executed), encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"{error.filename or page}: cannot be written: {error.strerror}"
        ) from error
    return page


def _folder(run: Run) -> Path:
    return run.path.parent.parent / REPORTS / run.run_id


@dataclass(frozen=True)
class _Host:
    """A host of the run, as the page tells of it."""

    name: str
    facts: dict[str, str]
    sections: list[list[dict[str, Any]]]

    @property
    def sentence(self) -> str:
        """What a reader must know before any number."""
        known = ("os", "kernel", "cpu_model", "cpus", "memory_bytes", "hypervisor", "qemu")
        labels = {"kernel": "kernel {}", "cpus": "{} CPUs", "memory_bytes": "{} of memory"}
        told = [
            labels.get(key, "{}").format(self.facts[key])
            for key in known
            if self.facts.get(key, UNKNOWN) != UNKNOWN
        ]
        if self.facts.get("virtualized") == "yes":
            told.append("itself a virtual machine")
        return ", ".join(told)


UNKNOWN = "unknown"


def render(runs: Sequence[Run], notebooks: Sequence[NotebookNode | None]) -> str:
    """The page as one string of HTML: for each run its executed notebook, or, for an experiment
    that has none, its tables. It loads nothing from anywhere."""
    import mistune
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from lab import __version__

    environment = Environment(
        loader=PackageLoader("lab.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    parse = mistune.create_markdown(escape=True, plugins=["table"])

    def markdown(text: str) -> str:
        # The page has a title of its own: every other heading is one level down.
        return re.sub(r"(</?h)(\d)", lambda tag: f"{tag[1]}{int(tag[2]) + 1}", str(parse(text)))

    hosts: dict[str, _Host] = {}
    for run, notebook in zip(runs, notebooks, strict=True):
        host = hosts.setdefault(run.host, _Host(run.host, _facts(run.host_facts), []))
        if notebook is None:
            text = "\n".join(table.markdown() for table in summarize_run(run))
            cell = {"kind": "markdown", "html": markdown(f"# {run.experiment}\n\n{text}")}
            host.sections.append([cell])
        else:
            # The cells that only name the run are not worth a line.
            told = [c for c in notebook.cells if not c.metadata.get("tags")]
            host.sections.append([_cell(cell, markdown) for cell in told])
    return environment.get_template("report.html").render(
        run=runs[0].run_id,
        format=FORMAT,
        version=__version__,
        hosts=list(hosts.values()),
        unfinished=[run.experiment for run in runs if run.state != "finished"],
        experiment=json.dumps(runs[0].experiment_doc, indent=1),
        again=f"lab bench {shlex.quote(str(runs[0].path / 'experiment.toml'))}",
        folders=[str(run.path) for run in runs],
    )


def _facts(document: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """`host.json` in words, nested keys with a dot."""
    facts: dict[str, str] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            facts |= _facts(value, f"{prefix}{key}.")
        elif value is None:
            facts[prefix + key] = UNKNOWN
        elif isinstance(value, bool):
            facts[prefix + key] = "yes" if value else "no"
        elif key.endswith("_bytes"):
            facts[prefix + key] = str(Quantity(value, "B"))
        else:
            facts[prefix + key] = str(value)
    return facts


def _cell(cell: NotebookNode, markdown: Callable[[str], str]) -> dict[str, Any]:
    """A cell as the template wants it: HTML of its text, or code with its outputs."""
    if cell.cell_type == "markdown":
        return {"kind": "markdown", "html": markdown(cell.source)}
    outputs = [_output(output, markdown) for output in cell.outputs]
    return {"kind": "code", "source": cell.source, "outputs": [o for o in outputs if o]}


def _output(output: NotebookNode, markdown: Callable[[str], str]) -> dict[str, Any] | None:
    data = output.get("data", {})
    if "image/svg+xml" in data:
        meta = output.metadata.get("image/png", {})
        # An image and not a part of the page: two figures may use the same ids.
        svg = base64.b64encode(data["image/svg+xml"].encode()).decode()
        source = f"data:image/svg+xml;base64,{svg}"
    elif "image/png" in data:
        meta = output.metadata.get("image/png", {})
        source = f"data:image/png;base64,{data['image/png'].replace(chr(10), '')}"
    elif "text/markdown" in data:
        return {"kind": "html", "html": markdown(data["text/markdown"])}
    elif "text" in output or "text/plain" in data:
        return {"kind": "text", "text": output.get("text") or data["text/plain"]}
    else:
        return None
    return {
        "kind": "image",
        "source": source,
        "alt": meta.get("alt", "figure"),
        "width": meta.get("width"),
    }
