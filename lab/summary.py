"""From records to the tables that the terminal, the notebooks and the report show.

A `Table` is text in columns; whoever shows it needs to know nothing of what is in it. Failed and
skipped trials are told in the notes, never dropped in silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from lab.record import Record
from lab.statistics import Interval, Slope, median_interval, ratio_of_medians, slope
from lab.units import format_numbers

__all__ = ["MEASURES", "Table", "format_interval", "slope_of", "summarize", "used"]

MEASURES = {
    "pss_bytes": "PSS",
    "cgroup_bytes": "cgroup",
    "host_bytes": "host",
}
"""The three measures of memory, in the order of the table."""

PAIRS = (("vm", "container"), ("container", "floor-container"), ("vm", "floor-vm"))
"""Ratios that are told besides those to native."""

ABSENT = "-"


@dataclass(frozen=True)
class Table:
    """Rows of text under named columns, with a title above and notes below."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """The table as Markdown."""
        lines = [" | ".join(self.columns), " | ".join("---" for _ in self.columns)]
        lines += [" | ".join(row) for row in self.rows]
        text = "\n".join(f"| {line} |" for line in lines)
        notes = "".join(f"\n- {note}" for note in self.notes)
        return f"**{self.title}**\n\n{text}\n{notes}\n"


def format_interval(interval: Interval, unit: str) -> str:
    """``1.93 ms [1.88, 2.01]``, or the estimate alone where there are no bounds."""
    texts, name = format_numbers(unit, (interval.estimate, interval.low, interval.high))
    shown = f"{texts[0]}{'' if name == '×' else ' '}{name}"
    return f"{shown} [{texts[1]}, {texts[2]}]" if interval.has_bounds else shown


def used(records: Iterable[Record], backend: str | None = None) -> list[Record]:
    """The records that count: ok, no warm-up, of this backend if one is named."""
    return [
        r
        for r in records
        if r.status == "ok" and not r.trial.warmup and backend in (None, r.trial.backend)
    ]


def summarize(records: Sequence[Record]) -> list[Table]:
    """The tables of one run folder's records; one kind of experiment."""
    if not records:
        return [Table("no records yet", ())]
    kind = records[0].trial.experiment
    makers: dict[str, Callable[[Sequence[Record]], list[Table]]] = {
        "boot": _boot,
        "density": _density,
        "disk": _disk,
    }
    tables = makers.get(kind, _any)(records)
    tables[0].notes.extend(_left_out(records))
    return tables


def _backends(records: Sequence[Record]) -> list[str]:
    """Backends in a fixed order: the baseline first, then by name of what is compared."""
    order = {"native": 0, "container": 1, "floor-container": 2, "vm": 3, "floor-vm": 4}
    names = {r.trial.backend for r in records}
    return sorted(names, key=lambda name: (order.get(name, 9), name))


def _values(records: Iterable[Record], metric: str) -> list[float]:
    return [r.metrics[metric] for r in records if metric in r.metrics]


def _label(backend: str, records: Sequence[Record]) -> str:
    """``vm (microvm, tcg)``: without what it ran on, a virtual machine's time says nothing."""
    facts = records[0].factors
    how = [str(facts[key]) for key in ("machine", "accelerator") if key in facts]
    return f"{backend} ({', '.join(how)})" if how else backend


def _boot(records: Sequence[Record]) -> list[Table]:
    backends = [b for b in _backends(records) if _values(used(records, b), "boot_s")]
    times = {b: _values(used(records, b), "boot_s") for b in backends}
    table = Table(
        "boot: t0 to the workload's first instruction (median, 95 % interval)",
        ("backend", "n", "time", "/ native"),
    )
    for backend in backends:
        sample = times[backend]
        time = format_interval(median_interval(sample), "s")
        ratio = _ratio(times, backend, "native")
        table.rows.append((_label(backend, used(records, backend)), str(len(sample)), time, ratio))
    for ours, base in PAIRS:
        if ours in times and base in times:
            table.notes.append(f"{ours} / {base}: {_ratio(times, ours, base)}")
    return [table, _phases(records, backends)]


def _ratio(times: Mapping[str, Sequence[float]], backend: str, base: str) -> str:
    if base not in times:
        return ABSENT
    if backend == base:
        return "1×"
    return format_interval(ratio_of_medians(times[backend], times[base]), "×")


def _phases(records: Sequence[Record], backends: Sequence[str]) -> Table:
    table = Table("phases: time since the one before (median)", ("backend", "phases"))
    for backend in backends:
        marks = [r.phases for r in used(records, backend)]
        steps, before = [], 0.0
        for name in marks[0]:
            at = median(m[name] for m in marks if name in m)
            text, unit = format_numbers("s", [at - before])
            steps.append(f"{name} {text[0]} {unit}")
            before = at
        table.rows.append((backend, ", ".join(steps)))
    return table


def slope_of(records: Sequence[Record], metric: str) -> Slope | None:
    """The metric's slope over n, or None where there are not two levels of n."""
    points = [
        (float(r.trial.factors["n"]), r.metrics[metric]) for r in records if metric in r.metrics
    ]
    if len({n for n, _ in points}) < 2:
        return None
    return slope([n for n, _ in points], [y for _, y in points])


def _slope_text(records: Sequence[Record], metric: str) -> str:
    fitted = slope_of(records, metric)
    return ABSENT if fitted is None else format_interval(fitted.slope, "B")


def _levels(records: Sequence[Record]) -> str:
    return ", ".join(str(n) for n in sorted({int(r.trial.factors["n"]) for r in records}))


def _density(records: Sequence[Record]) -> list[Table]:
    table = Table(
        "density: host memory of one more idle instance (slope over N, 95 % interval)",
        ("backend", "N", *MEASURES.values()),
    )
    reasons: dict[str, list[str]] = {}
    for backend in _backends(records):
        mine = used(records, backend)
        if not mine:
            continue
        cells = [_slope_text(mine, metric) for metric in MEASURES]
        table.rows.append((_label(backend, mine), _levels(mine), *cells))
        for reason in _why_different(mine):
            reasons.setdefault(reason, []).append(backend)
    table.notes.append("host: how far MemAvailable fell")
    table.notes.extend(f"{', '.join(backends)}: {why}" for why, backends in reasons.items())
    return [table]


def _why_different(records: Sequence[Record]) -> list[str]:
    """One sentence where two measures of the same memory are further apart than chance."""
    fits = {metric: slope_of(records, metric) for metric in MEASURES}
    found = {metric: fit.slope for metric, fit in fits.items() if fit and fit.slope.has_bounds}
    host, pss, cgroup = (found.get(m) for m in ("host_bytes", "pss_bytes", "cgroup_bytes"))
    reasons = {
        "the host loses more than PSS says, for PSS leaves out kernel memory (page tables, slab, "
        "namespaces, cgroups)": _apart(host, pss),
        "PSS says more than the host loses, for it counts file pages, which stay available to "
        "others as page cache": _apart(pss, host),
        "the cgroup is charged more than PSS: kernel memory, and page cache that it was the first "
        "to touch": _apart(cgroup, pss),
        "the cgroup is charged less than PSS: shared pages were charged to whoever touched them "
        "first": _apart(pss, cgroup),
    }
    return [reason for reason, holds in reasons.items() if holds]


def _apart(more: Interval | None, less: Interval | None) -> bool:
    """Whether the whole interval of one lies above the whole interval of the other."""
    return more is not None and less is not None and more.low > less.high


def _disk(records: Sequence[Record]) -> list[Table]:
    table = Table(
        "disk: blocks allocated for one more instance (slope over N, 95 % interval)",
        ("backend", "N", "image", "untouched", "written to", "×"),
    )
    wrote = ABSENT
    for backend in _backends(records):
        mine = used(records, backend)
        if not mine:
            continue
        image, written = (_values(mine, m)[-1] for m in ("image_bytes", "written_bytes"))
        table.rows.append(
            (
                _label(backend, mine),
                _levels(mine),
                _size(image),
                _slope_text(mine, "before_bytes"),
                _slope_text(mine, "after_bytes"),
                _amplification(mine, written),
            )
        )
        wrote = _size(written)
    table.notes.append(
        f"image: what all share; written to: after each wrote {wrote}; ×: blocks per byte written"
    )
    return [table]


def _amplification(records: Sequence[Record], written: float) -> str:
    before, after = (slope_of(records, metric) for metric in ("before_bytes", "after_bytes"))
    if before is None or after is None:
        return ABSENT
    return f"{(after.slope.estimate - before.slope.estimate) / written:.2f}"


def _size(value: float) -> str:
    texts, name = format_numbers("B", [value])
    return f"{texts[0]} {name}"


def _any(records: Sequence[Record]) -> list[Table]:
    """For an experiment from elsewhere: the median of each metric."""
    kind = records[0].trial.experiment
    metrics = sorted({metric for r in used(records) for metric in r.metrics})
    table = Table(f"{kind} (median, 95 % interval)", ("backend", "n", *metrics))
    units = {"s": "s", "bytes": "B"}
    for backend in _backends(records):
        mine = used(records, backend)
        cells = []
        for metric in metrics:
            values = _values(mine, metric)
            unit = units.get(metric.rpartition("_")[2], "")
            cells.append(format_interval(median_interval(values), unit) if values else ABSENT)
        table.rows.append((backend, str(len(mine)), *cells))
    return [table]


def _left_out(records: Sequence[Record]) -> list[str]:
    """What the numbers above do not contain."""
    notes = []
    warm = sum(r.trial.warmup for r in records)
    if warm:
        notes.append(f"{warm} warm-up trials are recorded and not used")
    failed = Counter((r.trial.backend, r.cause) for r in records if r.status == "failed")
    skipped = Counter((r.trial.backend, r.cause) for r in records if r.status == "skipped")
    notes += [f"{b}: {count} trials failed: {cause}" for (b, cause), count in failed.items()]
    notes += [f"{b}: left out ({count} trials): {cause}" for (b, cause), count in skipped.items()]
    return notes
