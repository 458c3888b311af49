"""From records to the tables that the terminal, the notebooks and the report show.

One row a backend. What a row leaves out or mixes is in the notes (`lab.caveats`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from lab.caveats import caveats
from lab.record import Record
from lab.rows import durations, rows_of, who
from lab.series import MEASURES, backends_of, points, slope_of, used, values
from lab.starts import run_tables, scale_tables, start_tables
from lab.statistics import Slope, median_interval, ratio_of_medians, slope
from lab.table import Cell, Estimate, Quantity, Steps, Table, Who, format_interval

if TYPE_CHECKING:
    from lab.run import Run

__all__ = ["document", "summarize", "summarize_run"]

REFERENCES = {"container": "floor-container", "vm": "floor-vm"}
"""Backend → the same start made by hand."""

PAGE = 4096


def summarize_run(run: Run) -> list[Table]:
    """The tables of one run folder, whatever state it is in."""
    tables = summarize(run.records(), planned=len(run.plan))
    tables[0].notes.extend(run.warnings)
    return tables


def document(runs: Sequence[Run]) -> dict[str, Any]:
    """What `lab show --json` prints: the tables of several run folders of one run, numbers in base
    units. docs/reference/record-format.md tells its form."""
    return {
        "format": 1,
        "run": runs[0].run_id,
        "experiments": [
            {
                "experiment": run.experiment,
                "host": run.host,
                "path": str(run.path),
                "state": run.state,
                "tables": [table.document() for table in summarize_run(run)],
            }
            for run in runs
        ],
    }


def summarize(records: Sequence[Record], *, planned: int | None = None) -> list[Table]:
    """The tables of one run folder's records; one kind of experiment. `planned` is the length of
    its plan, so that what is missing is told."""
    makers: dict[str, Callable[[Sequence[Record]], list[Table]]] = {
        "boot": _boot,
        "density": _density,
        "disk": _disk,
        "start": start_tables,
        "run": run_tables,
        "scale": scale_tables,
    }
    if not records:
        tables = [Table("no records yet")]
    elif not used(records):
        tables = [Table(f"{records[0].trial.experiment}: no trial was measured")]
    else:
        tables = makers.get(records[0].trial.experiment, _any)(records)
    tables[0].notes.extend([*_without_interval(tables), *caveats(records, planned)])
    return tables


def _without_interval(tables: Sequence[Table]) -> list[str]:
    """Why an estimate stands alone, and whose."""
    whose: dict[str, dict[str, None]] = {}
    for table in tables:
        for first, *cells in table.cells:
            for cell in cells:
                if isinstance(cell, Estimate) and not cell.interval.has_bounds:
                    name = first.backend if isinstance(first, Who) else str(first)
                    whose.setdefault(cell.interval.method, {})[name] = None
    return [f"{', '.join(names)}: no interval: {why}" for why, names in whose.items()]


def _boot(records: Sequence[Record]) -> list[Table]:
    rows = rows_of(records, "boot_s")
    times = {name: values(mine, "boot_s") for name, mine in rows}
    bases = _bases(times)
    table = Table(
        "boot: t0 to the workload's first instruction (median, 95 % interval)",
        {"backend": "backend", "trials": "n", "boot_s": "time"}
        | {f"over_{base}": f"/ {base}" for base in bases},
    )
    steps = Table(
        "phases: median time from t0, as the difference to the phase before",
        {"backend": "backend", "phases": "phases"},
    )
    for name, mine in rows:
        time = Estimate(median_interval(times[name]), "s")
        ratios = [
            Estimate(ratio_of_medians(times[name], times[base_of[name]]), "×")
            if name in base_of
            else None
            for base_of in bases.values()
        ]
        table.cells.append((who(name, mine), len(mine), time, *ratios))
        steps.cells.append((name, Steps(durations(mine))))
    if "reference" in bases:
        table.notes.append("reference: the same start made by hand, floor-…")
    return [table, steps]


def _bases(names: Collection[str]) -> dict[str, dict[str, str]]:
    """Column of ratios → backend → what it is compared with, of those that were measured."""
    every = {
        "native": dict.fromkeys((name for name in names if name != "native"), "native"),
        "container": {"vm": "container"},
        "reference": REFERENCES,
    }
    there = {
        column: {name: base for name, base in pairs.items() if {name, base} <= set(names)}
        for column, pairs in every.items()
    }
    return {column: pairs for column, pairs in there.items() if pairs}


def _slope_cell(records: Sequence[Record], metric: str) -> Estimate | None:
    fitted = slope_of(records, metric)
    return None if fitted is None else Estimate(fitted.slope, "B")


def _levels(rows: Sequence[tuple[str, list[Record]]], metric: str) -> list[str]:
    """``N: native, container 1, 8, 32; vm 1, 2, 3``, and who has too few for a slope."""
    found: dict[str, list[str]] = {}
    alone = []
    for name, mine in rows:
        levels = sorted(set(points(mine, metric)[0]))
        found.setdefault(", ".join(f"{n:g}" for n in levels), []).append(name)
        if len(levels) < 2:
            alone.append(name)
    notes = ["N: " + "; ".join(f"{', '.join(who)} {levels}" for levels, who in found.items())]
    if alone:
        notes.append(f"{', '.join(alone)}: a slope needs two levels of N")
    return notes


def _density(records: Sequence[Record]) -> list[Table]:
    table = Table(
        "density: host memory of one more idle instance (slope over N, 95 % interval)",
        {"backend": "backend", "trials": "n", **MEASURES},
    )
    rows = rows_of(records, "pss_bytes")
    for name, mine in rows:
        cells = [_slope_cell(mine, metric) for metric in MEASURES]
        table.cells.append((who(name, mine), len(mine), *cells))
    table.notes.extend([*_levels(rows, "pss_bytes"), "host: how far MemAvailable fell"])
    table.notes.extend(_below_noise(rows))
    table.notes.extend(_why_different(rows))
    return [table]


def _measured_cost(records: Sequence[Record], metric: str) -> Slope | None:
    """The slope, if it is a cost: its whole interval is above 0."""
    fitted = slope_of(records, metric)
    return fitted if fitted is not None and fitted.slope.low > 0 else None


def _below_noise(rows: Sequence[tuple[str, list[Record]]]) -> list[str]:
    """An instance cannot cost nothing or less: where the interval does not rule that out, no cost
    was measured."""
    notes = []
    for metric, words in MEASURES.items():
        lost = []
        for name, mine in rows:
            fitted = slope_of(mine, metric)
            if fitted and fitted.slope.has_bounds and not _measured_cost(mine, metric):
                lost.append(name)
        if lost:
            notes.append(
                f"{', '.join(lost)}: by {words} the cost is below the noise, for the interval "
                "reaches 0 or less; a quiet host, more trials or a wider range of N would show it"
            )
    return notes


WHY = {
    ("host_bytes", "pss_bytes"): "PSS leaves out kernel memory: page tables, stacks, slab, "
    "namespaces, cgroups",
    ("pss_bytes", "host_bytes"): "PSS counts mapped file pages, which the host goes on counting as "
    "available",
    ("cgroup_bytes", "pss_bytes"): "the cgroup is charged for kernel memory too, and for page "
    "cache that it was the first to touch",
    ("pss_bytes", "cgroup_bytes"): "pages shared with others are charged to whoever touched them "
    "first, and PSS counts a part of them",
    ("host_bytes", "cgroup_bytes"): "the host also loses what is charged to no instance: "
    "the cgroup itself, namespaces, kernel memory without an account",
    ("cgroup_bytes", "host_bytes"): "the cgroup is charged for page cache, which the host goes on "
    "counting as available",
}
"""(more, less) → what one measure counts and the other does not, by their definitions:
proc_pid_smaps_rollup(5), kernel documents admin-guide/cgroup-v2.rst (memory.current) and
filesystems/proc.rst (MemAvailable)."""


def _why_different(rows: Sequence[tuple[str, list[Record]]]) -> list[str]:
    """One sentence for each pair of measures that differ by more than chance and a page: by how
    much, in the same trials, and what the one counts and the other does not."""
    notes = []
    for (more, less), why in WHY.items():
        found = []
        for name, mine in rows:
            fitted = slope_of(mine, more, minus=less)
            # Of a measure that is noise, no difference is explained: not by what it counts.
            costs = all(_measured_cost(mine, metric) for metric in (more, less))
            if costs and fitted and fitted.slope.low > 0 and fitted.slope.estimate >= PAGE:
                found.append(f"{name} {format_interval(fitted.slope, 'B')}")
        if found:
            words = f"{MEASURES[more]} more than {MEASURES[less]}"
            notes.append(f"{words}: {', '.join(found)}: {why}")
    return notes


def _disk(records: Sequence[Record]) -> list[Table]:
    table = Table(
        "disk: blocks allocated for one more instance (slope over N, 95 % interval)",
        {
            "backend": "backend",
            "trials": "n",
            "image_bytes": "image",
            "before_bytes": "untouched",
            "after_bytes": "written to",
            "amplification": "×",
        },
    )
    rows = rows_of(records, "before_bytes")
    for name, mine in rows:
        image = values(mine, "image_bytes")
        table.cells.append(
            (
                who(name, mine),
                len(mine),
                Quantity(max(image), "B") if image else None,
                _slope_cell(mine, "before_bytes"),
                _slope_cell(mine, "after_bytes"),
                _amplification(mine),
            )
        )
    wrote = sorted({value for _, mine in rows for value in values(mine, "written_bytes")})
    texts = " or ".join(str(Quantity(value, "B")) for value in wrote) or "nothing"
    table.notes.extend(
        [
            *_levels(rows, "before_bytes"),
            f"image: what all share; written to: after each wrote {texts}; "
            "×: blocks allocated per byte written",
        ]
    )
    return [table]


def _amplification(records: Sequence[Record]) -> Estimate | None:
    """Slope over N of the growth, in units of what each wrote: both sums of one trial."""
    xs, ys = [], []
    for record in records:
        m, n = record.metrics, record.trial.factors.get("n")
        if isinstance(n, int | float) and m.get("written_bytes") and "after_bytes" in m:
            xs.append(float(n))
            ys.append((m["after_bytes"] - m["before_bytes"]) / m["written_bytes"])
    return Estimate(slope(xs, ys).slope, "×") if len(set(xs)) > 1 else None


def _any(records: Sequence[Record]) -> list[Table]:
    """For an experiment from elsewhere: the median of each metric, a row a backend and cell."""
    kind = records[0].trial.experiment
    good = used(records)
    metrics = sorted({metric for r in good for metric in r.metrics})
    levels = list(dict.fromkeys(name for r in good for name in r.trial.factors))
    headings = {"backend": "backend"} | {f"level.{name}": name for name in levels}
    headings |= {"trials": "n"} | {f"metric.{name}": name for name in metrics}
    table = Table(f"{kind} (median, 95 % interval)", headings)
    for backend in backends_of(good):
        cells: dict[tuple[str, ...], list[Record]] = {}
        for record in used(good, backend):
            key = tuple(str(record.trial.factors.get(name, "")) for name in levels)
            cells.setdefault(key, []).append(record)
        for key, mine in cells.items():
            numbers: list[Cell] = [_median_cell(mine, metric) for metric in metrics]
            table.cells.append((who(backend, mine), *key, len(mine), *numbers))
    return [table]


def _median_cell(records: Sequence[Record], metric: str) -> Estimate | None:
    unit = {"s": "s", "bytes": "B"}.get(metric.rpartition("_")[2], "")
    found = values(records, metric)
    return Estimate(median_interval(found), unit) if found else None
