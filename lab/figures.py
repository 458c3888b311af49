"""Figures of the three experiments, for notebooks and papers. Notebooks hold no logic: it is here.

Colours are Okabe and Ito's, which people with any colour vision can tell apart (Color Universal
Design, 2008); one backend has one colour everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab.record import Record
from lab.statistics import median_interval
from lab.summary import MEASURES, slope_of, used

__all__ = ["COLOURS", "boot_phases", "boot_times", "disk_over_n", "memory_over_n"]

COLOURS = {
    "native": "#009E73",
    "container": "#0072B2",
    "floor-container": "#56B4E9",
    "vm": "#D55E00",
    "floor-vm": "#E69F00",
}
OTHER = "#CC79A7"
PHASES = ("#0072B2", "#56B4E9", "#009E73", "#F0E442", "#E69F00", "#D55E00", "#CC79A7")

STYLE: Any = {
    "figure.constrained_layout.use": True,
    "figure.dpi": 110,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "font.size": 9.5,
    "legend.frameon": False,
    "svg.hashsalt": "lab",
}
MIB = 2.0**20


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        axes = figure.subplots(1, columns, squeeze=False)
    return figure, list(axes[0])


def _backends(records: Sequence[Record]) -> list[str]:
    names = {r.trial.backend for r in used(records)}
    return [*(name for name in COLOURS if name in names), *sorted(names - COLOURS.keys())]


def _colour(backend: str) -> str:
    return COLOURS.get(backend, OTHER)


def boot_times(records: Sequence[Record]) -> Figure:
    """Every boot as a point, with median and 95 % interval, a row a backend, on a log axis."""
    backends = _backends(records)
    figure, (axes,) = _figure(7, 0.6 * len(backends) + 1.2)
    scatter = np.random.default_rng(1)
    for row, backend in enumerate(backends):
        times = [r.metrics["boot_s"] for r in used(records, backend) if "boot_s" in r.metrics]
        heights = row + scatter.uniform(-0.22, 0.22, len(times))
        axes.plot(times, heights, "o", ms=3, alpha=0.5, mew=0, color=_colour(backend))
        centre = median_interval(times)
        if centre.has_bounds:
            axes.plot([centre.low, centre.high], [row, row], lw=5, alpha=0.5, color="black")
        axes.plot(centre.estimate, row, "|", ms=18, mew=2, color="black")
    axes.set_xscale("log")
    axes.set_yticks(range(len(backends)), backends)
    axes.set_ylim(len(backends) - 0.5, -0.5)
    axes.set_xlabel("time from t0 to the workload's first instruction (s, log scale)")
    axes.set_ylabel("backend")
    return figure


def boot_phases(records: Sequence[Record]) -> Figure:
    """Where the median boot spends its time: one panel a backend, for their scales differ."""
    backends = _backends(records)
    figure, panels = _figure(7, 2.6, len(backends))
    for axes, backend in zip(panels, backends, strict=True):
        marks = [r.phases for r in used(records, backend)]
        bottom = 0.0
        for colour, name in zip(PHASES * 2, marks[0], strict=False):
            at = median(m[name] for m in marks if name in m) * 1e3
            axes.bar(0, at - bottom, 0.6, bottom=bottom, color=colour, label=f"until {name}")
            bottom = at
        axes.set_title(backend, fontsize=9.5)
        axes.set_xticks([])
        axes.set_xlim(-0.4, 0.4)
        axes.set_xlabel("median boot")
        axes.set_ylabel("time since t0 (ms)")
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, -0.12))
    return figure


def _points(records: Sequence[Record], metric: str) -> tuple[list[float], list[float]]:
    chosen = [r for r in records if metric in r.metrics]
    return (
        [float(r.trial.factors["n"]) for r in chosen],
        [r.metrics[metric] / MIB for r in chosen],
    )


def _line(axes: Axes, records: Sequence[Record], metric: str, colour: str, label: str) -> None:
    """Points, the fitted line, and the band that the slope's interval spans."""
    n, values = _points(records, metric)
    if not n:
        return
    axes.plot(n, values, "o", ms=4, alpha=0.6, mew=0, color=colour)
    fitted = slope_of(records, metric)
    if fitted is None:
        axes.plot([], [], color=colour, label=label)
        return
    x = np.array([min(n), max(n)])
    pivot = float(np.mean(n))
    at_pivot = fitted.intercept + fitted.slope.estimate * pivot
    axes.plot(
        x,
        (at_pivot + fitted.slope.estimate * (x - pivot)) / MIB,
        color=colour,
        label=f"{label}: {fitted.slope.estimate / MIB:.3g} MiB each",
    )
    if fitted.slope.has_bounds:
        edges = [(at_pivot + s * (x - pivot)) / MIB for s in (fitted.slope.low, fitted.slope.high)]
        axes.fill_between(x, edges[0], edges[1], color=colour, alpha=0.15, lw=0)


def memory_over_n(records: Sequence[Record]) -> Figure:
    """Memory of N idle instances by three measures, with fitted lines; one panel a backend."""
    backends = _backends(records)
    figure, panels = _figure(3.2 * len(backends), 3.2, len(backends))
    for axes, backend in zip(panels, backends, strict=True):
        for colour, (metric, label) in zip(PHASES, MEASURES.items(), strict=False):
            _line(axes, used(records, backend), metric, colour, label)
        axes.set_title(backend, fontsize=9.5)
        axes.set_xlabel("instances alive, N (count)")
        axes.set_ylabel("memory of all of them (MiB)")
        axes.legend(fontsize=7)
    return figure


def disk_over_n(records: Sequence[Record]) -> Figure:
    """Blocks of N instances before and after each wrote a little; one panel a moment."""
    moments = {"before_bytes": "untouched", "after_bytes": "after each wrote"}
    figure, panels = _figure(8, 3.2, len(moments))
    for axes, (metric, title) in zip(panels, moments.items(), strict=True):
        for backend in _backends(records):
            _line(axes, used(records, backend), metric, _colour(backend), backend)
        axes.set_title(title, fontsize=9.5)
        axes.set_xlabel("instances of one image, N (count)")
        axes.set_ylabel("blocks allocated for all of them (MiB)")
        axes.legend(fontsize=7)
    return figure
