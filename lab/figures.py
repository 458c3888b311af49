"""Figures of the three experiments, for notebooks and papers. Notebooks hold no logic: it is here.

Each function takes the records of one run folder and returns a `matplotlib.figure.Figure`, as wide
as a page's text (7.2 inches), that says so where nothing was measured. For a paper::

    figures.boot_times(records).savefig("boot.pdf")

Colours are Okabe and Ito's, which people with any colour vision can tell apart (Color Universal
Design, 2008); one backend has one colour and one marker everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation

from lab.record import Record
from lab.series import MEASURES, ORDER, backends_of, phase_marks, points, slope_of, used, values
from lab.statistics import median_interval
from lab.table import Quantity, format_interval

__all__ = ["STYLE", "boot_phases", "boot_times", "colour_of", "disk_over_n", "memory_over_n"]

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    *("#000000", "#E69F00", "#56B4E9", "#009E73"),
    *("#F0E442", "#0072B2", "#D55E00", "#CC79A7"),
)
BACKENDS = dict(zip(ORDER, (GREEN, BLUE, SKY, VERMILION, ORANGE), strict=True))
OTHERS = (PURPLE, "#666666", "#8C6D31", YELLOW, BLACK)
STEPS = (BLUE, SKY, GREEN, YELLOW, ORANGE, VERMILION, PURPLE, "#999999")
MARKERS = "osD^vPX*<>"

STYLE: Any = {
    "figure.constrained_layout.use": True,
    "figure.dpi": 110,
    "savefig.dpi": 200,
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "legend.title_fontsize": 7.5,
    "lines.linewidth": 1.5,
    "pdf.fonttype": 42,
    "svg.hashsalt": "lab",
}
WIDTH = 7.2
"""Inches: the text's width of a page of A4 or letter."""

MIB = 2.0**20


def _styled(draw: Callable[[Sequence[Record]], Figure]) -> Callable[[Sequence[Record]], Figure]:
    """The style holds until the figure is drawn once: ticks take theirs when they are made."""

    @wraps(draw)
    def styled(records: Sequence[Record]) -> Figure:
        with mpl.rc_context(STYLE):
            figure = draw(records)
            figure.draw_without_rendering()
        return figure

    return styled


def colour_of(backend: str, among: Sequence[str] = ()) -> str:
    """The backend's colour; one from outside this repository gets one by its place among those
    `among` that are."""
    if backend in BACKENDS:
        return BACKENDS[backend]
    return OTHERS[_place(backend, among) % len(OTHERS)]


def _marker(backend: str, among: Sequence[str]) -> str:
    place = ORDER.index(backend) if backend in ORDER else len(ORDER) + _place(backend, among)
    return MARKERS[place % len(MARKERS)]


def _place(backend: str, among: Sequence[str]) -> int:
    strangers = [name for name in among if name not in BACKENDS]
    return strangers.index(backend) if backend in strangers else 0


def _nothing(x: str, y: str) -> Figure:
    """A figure that says that there is nothing to show."""
    figure = Figure(figsize=(WIDTH, 1.2))
    axes = figure.subplots()
    axes.text(0.5, 0.5, "no trial was measured", ha="center", va="center", color="#666666")
    axes.set(xlabel=x, ylabel=y, xticks=[], yticks=[])
    return figure


def _measured(records: Sequence[Record], metric: str) -> dict[str, list[Record]]:
    """Backend → its records that count and have the metric."""
    rows = {
        name: [r for r in used(records, name) if metric in r.metrics]
        for name in backends_of(used(records))
    }
    return {name: mine for name, mine in rows.items() if mine}


@_styled
def boot_times(records: Sequence[Record]) -> Figure:
    """Every boot as a point, with median and 95 % interval, a row a backend, on a log axis."""
    rows = _measured(records, "boot_s")
    words = "time from t0 to the workload's first instruction (ms, log scale)"
    if not rows:
        return _nothing(words, "backend")
    figure = Figure(figsize=(WIDTH, 0.5 * len(rows) + 0.9))
    axes = figure.subplots()
    scatter = np.random.default_rng(1)
    for row, (backend, mine) in enumerate(rows.items()):
        times = values(mine, "boot_s")
        heights = row + scatter.uniform(-0.24, 0.24, len(times))
        look: Any = {
            "marker": _marker(backend, list(rows)),
            "color": colour_of(backend, list(rows)),
        }
        axes.plot(np.array(times) * 1e3, heights, ls="", ms=3.5, alpha=0.5, mew=0, **look)
        centre = median_interval(times)
        if centre.has_bounds:
            reach = [[centre.estimate - centre.low], [centre.high - centre.estimate]]
            bar: Any = {"color": BLACK, "lw": 1.2, "capsize": 4}
            axes.errorbar(centre.estimate * 1e3, row, xerr=np.array(reach) * 1e3, **bar)
        axes.plot(centre.estimate * 1e3, row, "D", ms=4, mfc="white", mec=BLACK, mew=1)
        axes.annotate(
            format_interval(centre, "s"),
            (1.01, row),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
        )
    _log_ticks(axes, [time * 1e3 for mine in rows.values() for time in values(mine, "boot_s")])
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(words)
    axes.set_ylabel("backend")
    return figure


def _log_ticks(axes: Axes, shown: Sequence[float]) -> None:
    """A log axis with plain numbers; below two decades 2 and 5 are labelled too."""
    axes.set_xscale("log")
    low, high = min(shown), max(shown)
    near = math.log10(high / low) < 2 if low > 0 else False
    axes.set_xlim(low / 1.3, high * 1.3)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if near else (1,), numticks=15))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


@_styled
def boot_phases(records: Sequence[Record]) -> Figure:
    """Where the median boot spends its time: a bar a backend, each on a scale of its own."""
    rows = _measured(records, "boot_s")
    words = "time since t0 (ms)"
    if not rows:
        return _nothing(words, "backend")
    marks = {name: phase_marks(mine) for name, mine in rows.items()}
    heights = [max(0.45, 0.15 * len(steps)) + 0.55 for steps in marks.values()]
    figure = Figure(figsize=(WIDTH, sum(heights)))
    panels = figure.subplots(len(rows), 1, squeeze=False, height_ratios=heights)[:, 0]
    colours: dict[str, str] = {}
    for axes, (backend, steps) in zip(panels, marks.items(), strict=True):
        before = 0.0
        for name, at in steps:
            colour = colours.setdefault(name, _free_colour([s for s, _ in steps], colours))
            took = f"{name}  {Quantity(at - before, 's')}"
            width = (at - before) * 1e3
            edge: Any = {"edgecolor": "white", "linewidth": 0.8}
            axes.barh(0, width, 0.7, left=before * 1e3, color=colour, label=took, **edge)
            before = at
        axes.set_title(backend)
        axes.set(yticks=[], ylim=(-0.5, 0.5), xlabel=words, ylabel="median")
        axes.spines["left"].set_visible(False)
        if steps:
            axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), handlelength=1, borderpad=0)
        else:
            axes.text(0.01, 0, "no phases were recorded", va="center", color="#666666")
    figure.align_ylabels()
    return figure


def _free_colour(together: Sequence[str], taken: dict[str, str]) -> str:
    """A colour that no other step of the same bar has."""
    near = {taken[name] for name in together if name in taken}
    return next((colour for colour in STEPS if colour not in near), STEPS[len(near) % len(STEPS)])


def _line(
    axes: Axes,
    records: Sequence[Record],
    metric: str,
    *,
    colour: str,
    marker: str,
    label: str,
) -> None:
    """Points, the fitted line, and the band that the slope's interval spans."""
    n, sizes = points(records, metric)
    if not n:
        return
    look: Any = {"color": colour, "marker": marker, "ms": 4.5, "mew": 0}
    axes.plot(n, np.array(sizes) / MIB, ls="", alpha=0.6, **look)
    fitted = slope_of(records, metric)
    if fitted is None:
        axes.plot([], [], ls="", label=f"{label}: one level of N", **look)
        return
    axes.plot([], [], label=f"{label}: {format_interval(fitted.slope, 'B')}", **look)
    slope, x = fitted.slope, np.array([min(n), max(n)])
    pivot = float(np.mean(n))
    centre = fitted.intercept + slope.estimate * pivot
    axes.plot(x, (centre + slope.estimate * (x - pivot)) / MIB, color=colour)
    if slope.has_bounds:
        low, high = ((centre + s * (x - pivot)) / MIB for s in (slope.low, slope.high))
        axes.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)


def _panels(count: int, entries: int, *, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """Up to three panels a row, with room below each for a legend of so many entries.

    By hand: constrained layout would make panels narrower than the legends below them."""
    columns = min(count, 3)
    lines = -(-count // columns)
    left, beside, above, below, height = 0.62, 0.74, 0.28, 0.75 + 0.165 * entries, 1.9
    width = WIDTH / columns - beside
    tall = lines * (above + height + below)
    figure = Figure(figsize=(WIDTH, tall))
    figure.set_layout_engine("none")
    grid = figure.subplots(
        lines,
        columns,
        squeeze=False,
        sharey=sharey,
        gridspec_kw={
            "left": left / WIDTH,
            "right": 1 - (beside - left) / WIDTH,
            "top": 1 - above / tall,
            "bottom": below / tall,
            "wspace": beside / width,
            "hspace": (above + below) / height,
        },
    ).flat
    panels = list(grid)
    for axes in panels[count:]:
        axes.remove()
    return figure, panels[:count]


def _finish(axes: Axes, x: str, y: str, data: Sequence[float]) -> None:
    """Limits by the points and not by the bands, of which a wide one would push them together."""
    low, high = min(0.0, *data) / MIB, max(0.0, *data) / MIB
    margin = 0.06 * (high - low or 1.0)
    axes.set_ylim(low - margin, high + margin)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    figure = axes.get_figure(root=True)
    assert figure is not None
    axes.legend(
        title="one more, with 95 % interval",
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=axes.transAxes + ScaledTranslation(-0.5, -0.45, figure.dpi_scale_trans),
        alignment="left",
        borderaxespad=0,
        borderpad=0,
        handlelength=1.5,
    )


@_styled
def memory_over_n(records: Sequence[Record]) -> Figure:
    """Memory of N idle instances by three measures, with fitted lines; one panel a backend."""
    rows = _measured(records, "pss_bytes")
    x, y = "instances alive, N (count)", "memory of all (MiB)"
    if not rows:
        return _nothing(x, y)
    figure, panels = _panels(len(rows), len(MEASURES))
    for axes, (backend, mine) in zip(panels, rows.items(), strict=True):
        looks = zip((BLUE, ORANGE, GREEN), "os^", strict=True)
        for (metric, label), (colour, marker) in zip(MEASURES.items(), looks, strict=True):
            _line(axes, mine, metric, colour=colour, marker=marker, label=label)
        axes.set_title(backend)
        _finish(axes, x, y, [v for metric in MEASURES for v in values(mine, metric)])
    return figure


@_styled
def disk_over_n(records: Sequence[Record]) -> Figure:
    """Blocks of N instances before and after each wrote a little; one panel a moment."""
    rows = _measured(records, "before_bytes")
    x, y = "instances of one image, N (count)", "blocks of all (MiB)"
    if not rows:
        return _nothing(x, y)
    moments = {"before_bytes": "untouched", "after_bytes": "after each wrote"}
    figure, panels = _panels(len(moments), len(rows), sharey=True)
    for axes, (metric, title) in zip(panels, moments.items(), strict=True):
        for backend, mine in rows.items():
            look = {
                "colour": colour_of(backend, list(rows)),
                "marker": _marker(backend, list(rows)),
            }
            _line(axes, mine, metric, label=backend, **look)
        axes.set_title(title)
        shown = [v for mine in rows.values() for m in moments for v in values(mine, m)]
        _finish(axes, x, y, shown)
    return figure
