"""What the notebooks call: open a run, show its tables, show a figure."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from IPython.display import Image, Markdown, display

from lab.errors import RunNotFound
from lab.paths import results_dir
from lab.store import Results, Run
from lab.summary import summarize

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["open_run", "show", "show_tables"]


def open_run(experiment: str, run: str = "latest", results: str | None = None) -> Run:
    """The run folder of one experiment. Raises `RunNotFound`."""
    found = Results(Path(results) if results else results_dir()).find(run)
    for one in found:
        if one.experiment == experiment:
            return one
    have = ", ".join(r.experiment for r in found)
    raise RunNotFound(f'run {found[0].run_id} has no experiment "{experiment}"; it has: {have}')


def show_tables(run: Run) -> None:
    """The same tables as in the terminal."""
    for table in summarize(run.records()):
        display(Markdown(table.markdown()))


def show(figure: Figure) -> None:
    """The figure as PNG, with its axes in words: for readers who do not see it, and for tests."""
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    axes = [
        {"x": a.get_xlabel(), "y": a.get_ylabel(), "title": a.get_title(), "drawn": len(_drawn(a))}
        for a in figure.axes
    ]
    alt = "; ".join(f"{a['title'] or 'figure'}: {a['y']} against {a['x']}" for a in axes)
    display(Image(image.getvalue(), alt=alt, metadata={"axes": axes}))


def _drawn(axes: object) -> list[object]:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    lines = [line for line in axes.lines if len(line.get_xdata())]  # type: ignore[arg-type]
    return [*lines, *axes.patches, *axes.collections]
