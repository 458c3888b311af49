"""What the notebooks call: open a run, show its tables, show a figure."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
from IPython.display import Markdown, display

from lab.figures import STYLE
from lab.paths import results_dir
from lab.store import Results, Run
from lab.summary import summarize_run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["open_run", "show", "show_tables"]


def open_run(experiment: str, run: str = "latest", results: str | None = None) -> Run:
    """The run folder of one experiment; `run` as in `Results.find`. Raises `RunNotFound`."""
    return Results(Path(results) if results else results_dir()).find_one(experiment, run)


def show_tables(run: Run) -> None:
    """The same tables as in the terminal."""
    for table in summarize_run(run):
        display(Markdown(table.markdown()))


def show(figure: Figure) -> None:
    """The figure as PNG and as SVG, with its axes in words: for readers who do not see it, and for
    tests."""
    axes = [
        {"x": a.get_xlabel(), "y": a.get_ylabel(), "title": a.get_title("left"), "drawn": _drawn(a)}
        for a in figure.axes
    ]
    alt = "; ".join(f"{a['title'] or 'figure'}: {a['y']} against {a['x']}" for a in axes)
    display(
        {"image/png": _image(figure, "png"), "image/svg+xml": _image(figure, "svg")},
        metadata={"image/png": {"alt": alt, "axes": axes, "width": _width(figure)}},
        raw=True,
    )


def _image(figure: Figure, kind: str) -> str:
    """PNG in base64, as Jupyter's messages want it, or SVG as text; the same from the same
    records."""
    image = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(image, format=kind, metadata={"Date": None} if kind == "svg" else None)
    data = image.getvalue()
    return data.decode() if kind == "svg" else base64.b64encode(data).decode()


def _width(figure: Figure) -> int:
    """CSS pixels, of which an inch has 96."""
    return round(figure.get_figwidth() * 96)


def _drawn(axes: Axes) -> int:
    """How many things with data are in it."""
    lines = [line for line in axes.lines if len(line.get_xdata())]  # type: ignore[arg-type]
    return len([*lines, *axes.patches, *axes.collections])
