"""`lab bench`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from lab.bench import PlannedExperiment, bench, plan_suite
from lab.cli.overrides import Overrides
from lab.errors import ExperimentError, HostError, RunNotFound
from lab.experiment import Suite, builtin_suites, load_suite, parse_suite
from lab.experiments import known_experiments
from lab.host import file_system_of
from lab.interrupt import Interrupted, Interrupts
from lab.mistakes import closest
from lab.ownership import new_run_id
from lab.paths import cache_dir, results_dir
from lab.progress import TerminalProgress
from lab.store import Results
from lab.turns import turn

if TYPE_CHECKING:
    from lab.store import Run

__all__ = ["choose_suite", "print_plan", "run_bench"]


def run_bench(
    what: str | None,
    overrides: Overrides,
    results_root: Path | None,
    *,
    resume: str | None,
    dry_run: bool,
    report: bool,
    alongside: bool,
) -> None:
    """Plan, measure, print, report. Exits with 1 if an experiment has no trial that went well."""
    console = Console(highlight=False)
    results = Results((results_root or results_dir()).absolute())
    if resume is not None:
        suite, run = _resumed(results, resume, what, overrides)
    else:
        suite = choose_suite(what, overrides)
        run = new_run_id(suite.name)
    planned = plan_suite(suite)
    if dry_run:
        print_plan(console, suite, planned)
        return
    _check_cache(planned)
    alone = nullcontext() if alongside else _alone(console, planned, run)
    with _advised(results, run, results_root), TerminalProgress(console, run) as progress:
        bench(
            suite,
            planned,
            results,
            cache_dir(),
            progress,
            run=run,
            resume=resume is not None,
            alone=alone,
        )
    found = results.find(run)
    barren = [one.experiment for one in found if not _went_well(one)]
    _present(console, results, found, report=report and len(barren) < len(found))
    if barren:
        print(f"lab: {', '.join(barren)}: not one trial went well", file=sys.stderr)
        raise typer.Exit(1)


def _check_cache(planned: Sequence[PlannedExperiment]) -> None:
    """Told before minutes are measured without any container: in a container of Docker's, the
    cache is on an overlay unless it is a volume. Raises HostError."""
    wanted = {name for item in planned for name in item.spec.backends}
    if wanted & {"container", "floor-container"} and file_system_of(cache_dir()) == "overlay":
        raise HostError(
            f"the cache {cache_dir()} is on an overlay, and a container's own cannot lie on "
            "another: name a directory on a disk or a volume in LAB_CACHE_DIR, or leave the "
            "container out by --backends native,vm; nothing was measured"
        )


def _alone(
    console: Console, planned: Sequence[PlannedExperiment], run: str
) -> AbstractContextManager[None]:
    """Nobody else measures meanwhile, unless nothing real is measured."""

    def waiting(who: str) -> None:
        console.print(
            f"waiting for {who}, which measures on this host now: two at once would disturb each "
            "other. Ctrl-C gives up; --alongside measures all the same",
            style="yellow",
        )

    fake = all(item.spec.backends == ("fake",) for item in planned)
    return nullcontext() if fake else turn(run, waiting)


@contextmanager
def _advised(results: Results, run: str, given: Path | None) -> Iterator[None]:
    """An interrupt tells what is kept and how to go on."""
    try:
        yield
    except Interrupted as error:
        try:
            kept = sum(len(one.records()) for one in results.find(run))
        except RunNotFound:
            raise Interrupted(f"{error}; nothing had been measured", error.number) from error
        where = f" --results {given}" if given else ""
        trials = "1 trial is" if kept == 1 else f"{kept} trials are"
        raise Interrupted(
            f"{error}; {trials} measured and kept. Go on with:\n  lab bench --resume {run}{where}",
            error.number,
        ) from error


def _went_well(run: Run) -> bool:
    return any(record.status == "ok" for record in run.records())


def _present(console: Console, results: Results, found: Sequence[Run], *, report: bool) -> None:
    from lab.cli.runs import print_tables

    print_tables(console, found)
    for one in found:
        console.print(f"records:   {one.path}", soft_wrap=True)
    if report:
        _report(console, results, found[0].run_id)


def _report(console: Console, results: Results, run: str) -> None:
    from lab.report import report

    try:
        with Interrupts(), console.status("executing the notebooks for the report"):
            page = report(run, results.root)
    except HostError as error:  # all was measured: a page less is no failure
        print(f"lab: no report: {error}", file=sys.stderr)
        return
    except Interrupted as error:
        raise Interrupted(
            f"{error} in the report; all was measured. Write it with:\n  lab report {run}",
            error.number,
        ) from error
    console.print(f"notebooks: {page.parent}", soft_wrap=True)
    console.print(f"report:    {page}", soft_wrap=True)


def choose_suite(what: str | None, overrides: Overrides) -> Suite:
    """The suite that `what` names, with the command line's values. Raises `ExperimentError`."""
    suites = builtin_suites()
    what = "quick" if what is None else what
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
            "--resume goes on with a run as it was planned: it takes no experiment and none of "
            f"{', '.join(Overrides.options())}"
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
