"""`lab bench`: a suite, from its plan to its records.

For each experiment of the suite: make the plan, prepare each backend once, then run trial after
trial and append each record as it is made. Everything that was started is on one ExitStack.
"""

from __future__ import annotations

import contextlib
import random
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from lab import host, ownership
from lab.backends import find_backend
from lab.backends.base import Backend, Prepared
from lab.backends.context import Context, Shared
from lab.errors import ExperimentError
from lab.experiment import ExperimentSpec, Suite, closest
from lab.experiments import Experiment, find_experiment
from lab.interrupt import Interrupts
from lab.plan import Plan, make_plan
from lab.record import Record, TrialId
from lab.store import Results, Run, RunWriter
from lab.trial import run_trial, skipped

__all__ = ["PlannedExperiment", "Progress", "bench", "new_run_id", "plan_suite"]


class Progress(Protocol):
    """Who watches a run. Every method returns at once."""

    def experiment(self, planned: PlannedExperiment, done: frozenset[int]) -> None:
        """The trials of this experiment begin; those in `done` were run before."""

    def preparing(self, what: str) -> None:
        """Something untimed and possibly long happens: an image, a kernel, a probe."""

    def trial(self, trial: TrialId) -> None:
        """This trial begins."""

    def record(self, record: Record) -> None:
        """It has ended."""


@dataclass(frozen=True)
class PlannedExperiment:
    """One experiment of a suite, checked: it exists, and so does all that it names."""

    spec: ExperimentSpec
    experiment: Experiment
    plan: Plan


@dataclass
class _Side:
    """One backend of one experiment, made ready; or the reason why it is left out."""

    backend: Backend | None = None
    prepared: Prepared | None = None
    reason: str = ""


def new_run_id(suite: str) -> str:
    """``20261124T131502-quick-3fa9``: sorts by time, says what, and does not collide."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    return f"{now}-{suite}-{secrets.token_hex(2)}"


def plan_suite(suite: Suite) -> list[PlannedExperiment]:
    """Check every name in the suite and make the plans. Creates nothing.

    Raises `ExperimentError`."""
    seed = suite.seed if suite.seed is not None else random.SystemRandom().randrange(2**31)
    planned = []
    for spec in suite.experiment:
        experiment = find_experiment(spec.kind)
        for name in (*spec.backends, *_named(spec)):
            find_backend(name)
        _check_options(spec)
        _check_image(spec.image)
        planned.append(PlannedExperiment(spec, experiment, make_plan(spec, experiment, seed)))
    return planned


def _named(spec: ExperimentSpec) -> Iterator[str]:
    """Backends that stand as keys of per-backend tables."""
    for table in (spec.trials, spec.levels, spec.options):
        if isinstance(table, Mapping):
            yield from table


def _check_options(spec: ExperimentSpec) -> None:
    for backend, options in spec.options.items():
        known = find_backend(backend).options
        for key, value in options.items():
            where = f"options.{backend}.{key}"
            if key not in known:
                raise ExperimentError(f"unknown key {where}; {closest(key, known)}")
            if value not in known[key]:
                raise ExperimentError(f'{where}: "{value}" is not one of {", ".join(known[key])}')


def _check_image(name: str) -> None:
    from lab.backends.images import known_images

    known = known_images()
    if name not in known:
        raise ExperimentError(f'image: there is no image "{name}"; {closest(name, known)}')


def bench(
    suite: Suite,
    planned: Sequence[PlannedExperiment],
    results: Results,
    cache: Path,
    progress: Progress,
    *,
    run: str,
    resume: bool = False,
) -> None:
    """Run everything that is planned and not done yet. Raises `Interrupted` on SIGINT or SIGTERM,
    after everything that was started has been stopped."""
    with contextlib.ExitStack() as stack:
        interrupts = stack.enter_context(Interrupts())
        state = stack.enter_context(ownership.own_run(cache, run))
        shared = stack.enter_context(Shared(run, cache, state))
        facts = host.facts()
        for item in planned:
            _run_experiment(suite, item, results, shared, facts, progress, interrupts, resume)


def _run_experiment(
    suite: Suite,
    planned: PlannedExperiment,
    results: Results,
    shared: Shared,
    facts: dict[str, Any],
    progress: Progress,
    interrupts: Interrupts,
    resume: bool,
) -> None:
    spec, plan = planned.spec, planned.plan
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(_writer(suite, planned, results, shared.run, facts, resume))
        done = frozenset(writer.done())
        left = [trial for trial in plan.trials if trial.index not in done]
        sides = {
            name: _prepare(name, planned, shared, stack, progress)
            for name in dict.fromkeys(trial.backend for trial in left)
        }
        progress.experiment(planned, done)
        for trial in left:
            side = sides[trial.backend]
            progress.trial(trial)
            if side.backend is None or side.prepared is None:
                record = skipped(shared.run, trial, side.reason)
            else:
                record = run_trial(
                    shared.run,
                    trial,
                    spec,
                    planned.experiment,
                    side.backend,
                    side.prepared,
                    interrupts,
                )
            with interrupts.held():
                writer.append(record)
            progress.record(record)
        writer.finish()


def _writer(
    suite: Suite,
    planned: PlannedExperiment,
    results: Results,
    run: str,
    facts: dict[str, Any],
    resume: bool,
) -> RunWriter:
    if resume:
        for existing in results.find(run):
            if existing.experiment == planned.spec.kind:
                _check_resumable(existing, planned.plan, facts)
                return results.open_for_resume(existing)
    document = suite.model_copy(update={"seed": planned.plan.seed}).as_document()
    return results.create(
        facts["hostname"],
        planned.spec.kind,
        run,
        host_facts=facts,
        experiment_doc=document,
        plan=planned.plan.trials,
        seed=planned.plan.seed,
    )


def _check_resumable(run: Run, plan: Plan, facts: dict[str, Any]) -> None:
    if run.host != facts["hostname"]:
        raise ExperimentError(
            f"run {run.run_id} was made on {run.host} and this host is {facts['hostname']}: "
            "records of two hosts are not pooled in one run"
        )
    if run.plan != list(plan.trials):
        raise ExperimentError(
            f"{run.path}: its plan is not the one that this version of the lab makes from the same "
            "experiment and seed: begin a new run"
        )


def _prepare(
    name: str,
    planned: PlannedExperiment,
    shared: Shared,
    stack: contextlib.ExitStack,
    progress: Progress,
) -> _Side:
    spec = planned.spec
    backend = find_backend(name)(Context(shared, spec.options.get(name, {})))
    stack.callback(backend.close)
    can = backend.capabilities()
    if not can.available:
        return _Side(reason=f"{name}: {can.missing['available']}")
    for need in sorted(planned.experiment.needs & can.missing.keys()):
        return _Side(reason=f"{name}: lacks {need}: {can.missing[need]}")
    progress.preparing(f"{spec.kind}: preparing {name} ({spec.image})")
    return _Side(backend, backend.prepare(planned.experiment.workload(spec)))
