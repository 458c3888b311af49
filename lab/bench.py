"""`lab bench`: a suite, from its plan to its records.

For each experiment of the suite: prepare each backend once, then run trial after trial and append
each record as it is made. Everything that was started is on one ExitStack.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from lab import checks, host, ownership
from lab.backends import find_backend
from lab.backends.base import Backend, Prepared
from lab.backends.context import Context, Shared
from lab.checks import LeftOut
from lab.errors import BackendError, ExperimentError
from lab.experiment import ExperimentSpec, Suite
from lab.experiments import Experiment, find_experiment
from lab.gc import collect_run
from lab.interrupt import Interrupts
from lab.mistakes import closest
from lab.plan import Plan, make_plan
from lab.record import Record, TrialId
from lab.store import Results, Run, RunWriter
from lab.trial import in_words, not_run, run_trial

__all__ = ["PlannedExperiment", "Progress", "bench", "plan_suite"]


class Progress(Protocol):
    """Who watches a run. Every method returns at once."""

    def begin(self, planned: Sequence[PlannedExperiment], left_out: LeftOut) -> None:
        """All was checked, and now it begins."""

    def note(self, text: str) -> None:
        """Something that a reader of the records should know."""

    def experiment(self, planned: PlannedExperiment, done: frozenset[int]) -> None:
        """This experiment's turn; its trials in `done` were run before."""

    def preparing(self, backend: str) -> None:
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


def plan_suite(suite: Suite) -> list[PlannedExperiment]:
    """Check every name in the suite and make the plans. Creates nothing.

    Raises `ExperimentError`."""
    seed = suite.seed if suite.seed is not None else random.SystemRandom().randrange(2**31)
    planned = []
    for spec in suite.experiment:
        experiment = find_experiment(spec.kind)
        try:
            _check_names(spec)
        except ExperimentError as error:
            raise ExperimentError(f"{spec.kind}: {error}") from error
        planned.append(PlannedExperiment(spec, experiment, make_plan(spec, experiment, seed)))
    return planned


def _check_names(spec: ExperimentSpec) -> None:
    for name in (*spec.backends, *_named(spec)):
        find_backend(name)
    _check_options(spec)
    _check_image(spec.image)


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
    alone: contextlib.AbstractContextManager[None] | None = None,
) -> None:
    """Run everything that is planned and not done yet, within `alone`. Raises `Interrupted` on
    SIGINT, SIGTERM or SIGHUP, after everything that was started has been stopped.

    Before anything is made raises `HostError` if no backend can run here, `ExperimentError` for a
    run that cannot be gone on with, `StoreError` for results that cannot be written; later
    `RunBusy`, and `StoreError` for a record that cannot be written."""
    left_out = checks.left_out(planned, cache)
    facts = host.facts()
    begun = checks.check_resumable(results, run, planned, facts) if resume else {}
    checks.check_folders(results.root, cache)
    with contextlib.ExitStack() as stack:
        interrupts = stack.enter_context(Interrupts())
        if alone is not None:
            stack.enter_context(alone)
        stack.enter_context(_nothing_left(cache, run))
        state = stack.enter_context(ownership.own_run(cache, run))
        shared = stack.enter_context(Shared(run, cache, state))
        progress.begin(planned, left_out)
        for one in list(begun.values())[:1]:
            for text in checks.changed_since(one, facts):
                progress.note(text)
        for item in planned:
            writer = _writer(suite, item, results, run, facts, begun.get(item.spec.kind))
            _Turn(item, writer, shared, left_out, progress, interrupts).run()


@contextlib.contextmanager
def _nothing_left(cache: Path, run: str) -> Iterator[None]:
    """Before: what a killed owner of the same run left would be in the way. After a failure or an
    interrupt: one may have come between the making of a thing and the note that it must go."""
    for _ in collect_run(cache, run):
        pass
    try:
        yield
    except BaseException:
        for _ in collect_run(cache, run):
            pass
        raise


def _writer(
    suite: Suite,
    planned: PlannedExperiment,
    results: Results,
    run: str,
    facts: dict[str, Any],
    begun: Run | None,
) -> RunWriter:
    if begun is not None:
        return results.open_for_resume(begun)
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


@dataclass(frozen=True)
class _Side:
    """One backend of one experiment, made ready."""

    backend: Backend
    prepared: Prepared


@dataclass(frozen=True)
class _Absent:
    """One that takes no part: left out because it cannot, or failed where it should have."""

    status: Literal["failed", "skipped"]
    cause: str
    log_tail: str = ""


@dataclass(frozen=True)
class _Turn:
    """One experiment's turn within a run."""

    planned: PlannedExperiment
    writer: RunWriter
    shared: Shared
    left_out: LeftOut
    progress: Progress
    interrupts: Interrupts

    def run(self) -> None:
        """All trials that are not done yet, in the plan's order."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.writer)
            done = frozenset(self.writer.done())
            left = [trial for trial in self.planned.plan.trials if trial.index not in done]
            self.progress.experiment(self.planned, done)
            names = dict.fromkeys(trial.backend for trial in left)
            sides = {name: self._prepare(name, stack) for name in names}
            for trial in left:
                self.progress.trial(trial)
                record = self._trial(trial, sides[trial.backend])
                with self.interrupts.held():
                    self.writer.append(record)
                self.progress.record(record)
            self.writer.finish()

    def _trial(self, trial: TrialId, side: _Side | _Absent) -> Record:
        if isinstance(side, _Absent):
            return not_run(self.shared.run, trial, side.status, side.cause, side.log_tail)
        return run_trial(
            self.shared.run,
            trial,
            self.planned.spec,
            self.planned.experiment,
            side.backend,
            side.prepared,
            self.interrupts,
        )

    def _prepare(self, name: str, stack: contextlib.ExitStack) -> _Side | _Absent:
        spec = self.planned.spec
        if reason := self.left_out.get((spec.kind, name)):
            return _Absent("skipped", f"{name}: {reason}")
        self.progress.preparing(name)
        try:
            backend = find_backend(name)(Context(self.shared, spec.options.get(name, {})))
            stack.callback(backend.close)
            prepared = backend.prepare(self.planned.experiment.workload(spec))
        except (BackendError, OSError) as error:
            cause, log_tail = in_words(error)
            return _Absent("failed", f"{name} could not be prepared: {cause}", log_tail)
        self._check_image(name, prepared)
        return _Side(backend, prepared)

    def _check_image(self, name: str, prepared: Prepared) -> None:
        """A run that is gone on with has one image to its end, even if its name has moved."""
        for record in self.writer.run.records():
            if record.trial.backend != name or record.workload is None:
                continue
            if record.workload.image_digest != prepared.image_digest:
                raise ExperimentError(
                    f"--resume: image {prepared.workload.image} was "
                    f"{record.workload.image_digest} when run {record.run} began and is "
                    f"{prepared.image_digest} now: begin a new run"
                )
