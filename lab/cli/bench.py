"""`lab bench`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lab.bench import PlannedExperiment, bench, new_run_id, plan_suite
from lab.errors import ExperimentError
from lab.experiment import Suite, builtin_suites, closest, load_suite, parse_suite
from lab.experiments import known_experiments
from lab.interrupt import Interrupted
from lab.paths import cache_dir, results_dir
from lab.progress import TerminalProgress
from lab.store import Results

__all__ = ["Overrides", "run_bench"]


@dataclass(frozen=True)
class Overrides:
    """Options of the command line that stand for keys of the experiment file."""

    trials: int | None = None
    backends: str | None = None
    seed: int | None = None
    image: str | None = None
    machine: str | None = None
    accel: str | None = None

    def apply(self, document: dict[str, Any]) -> dict[str, Any]:
        """The document with these values in the place of its own."""
        changed = dict(document)
        if self.seed is not None:
            changed["seed"] = self.seed
        changed["experiment"] = [self._one(dict(e)) for e in document["experiment"]]
        return changed

    def _one(self, experiment: dict[str, Any]) -> dict[str, Any]:
        if self.trials is not None:
            experiment["trials"] = self.trials
        if self.backends is not None:
            experiment["backends"] = [name.strip() for name in self.backends.split(",")]
        if self.image is not None:
            experiment["image"] = self.image
        vm = {k: v for k, v in (("machine", self.machine), ("accel", self.accel)) if v is not None}
        if vm:
            options = dict(experiment.get("options", {}))
            options["vm"] = {**options.get("vm", {}), **vm}
            experiment["options"] = options
        return experiment


def run_bench(
    what: str | None,
    overrides: Overrides,
    results_root: Path | None,
    *,
    resume: str | None,
    dry_run: bool,
    report: bool,
) -> None:
    """Plan, measure, print, report."""
    console = Console(highlight=False)
    results = Results(results_root or results_dir())
    if resume is not None:
        suite, run = _resumed(results, resume, what, overrides)
    else:
        suite = choose_suite(what, overrides)
        run = new_run_id(suite.name)
    planned = plan_suite(suite)
    if dry_run:
        print_plan(console, suite, planned)
        return
    console.print(f"run {run}, seed {planned[0].plan.seed}")
    try:
        with TerminalProgress(console) as progress:
            bench(
                suite, planned, results, cache_dir(), progress, run=run, resume=resume is not None
            )
    except Interrupted as error:
        raise Interrupted(
            f"{error}; what was measured is kept. Go on with: lab bench --resume {run}"
        ) from error
    _present(console, results, run, report=report)


def _present(console: Console, results: Results, run: str, *, report: bool) -> None:
    from lab.cli.runs import print_tables

    found = results.find(run)
    print_tables(console, found)
    for one in found:
        console.print(f"records: {one.path}", soft_wrap=True)
    if report:
        from lab.report import report as write

        console.print(f"report:  {write(run, results.root)}", soft_wrap=True)


def choose_suite(what: str | None, overrides: Overrides) -> Suite:
    """The suite that `what` names, with the command line's values. Raises `ExperimentError`."""
    suites = builtin_suites()
    what = what or "quick"
    if what in suites:
        base, source = load_suite(suites[what]), what
    elif what in known_experiments():
        base, source = _single(what), what
    elif what.endswith(".toml") or "/" in what:
        base, source = load_suite(Path(what)), what
    else:
        choices = [*suites, *known_experiments()]
        raise ExperimentError(
            f'there is no suite, experiment or .toml file "{what}"; {closest(what, choices)}'
        )
    return parse_suite(overrides.apply(base.as_document()), source=source)


def _single(kind: str) -> Suite:
    """One experiment alone: as the quick suite has it, or with the defaults."""
    quick = load_suite(builtin_suites()["quick"])
    for spec in quick.experiment:
        if spec.kind == kind:
            return quick.model_copy(update={"name": kind, "description": "", "experiment": (spec,)})
    return parse_suite({"name": kind, "experiment": [{"kind": kind}]}, source=kind)


def _resumed(
    results: Results, resume: str, what: str | None, overrides: Overrides
) -> tuple[Suite, str]:
    if what is not None or overrides != Overrides():
        raise ExperimentError(
            "--resume goes on with a run as it was planned: it takes no experiment and no options"
        )
    first = results.find(resume)[0]
    return parse_suite(first.experiment_doc, source=str(first.path)), first.run_id


def print_plan(console: Console, suite: Suite, planned: Sequence[PlannedExperiment]) -> None:
    """What would run, and in which order it begins."""
    for item in planned:
        plan = item.plan
        table = Table(
            title=f"{suite.name}: {item.spec.kind}, seed {plan.seed}", title_justify="left"
        )
        for column in ("backend", "cell", "trials", "warm-ups"):
            table.add_column(column)
        cells: Counter[tuple[str, str]] = Counter()
        warm: Counter[tuple[str, str]] = Counter()
        for trial in plan.trials:
            cell = " ".join(f"{k}={v}" for k, v in trial.factors.items()) or "-"
            (warm if trial.warmup else cells)[trial.backend, cell] += 1
        for key, count in cells.items():
            table.add_row(*key, str(count), str(warm[key]))
        console.print(table)
        order = ", ".join(
            t.backend + "".join(f" {k}={v}" for k, v in t.factors.items()) for t in plan.trials[:8]
        )
        console.print(f"order: {order}{', …' if len(plan.trials) > 8 else ''}")
    console.print(f"{sum(len(p.plan.trials) for p in planned)} trials; nothing was run")
