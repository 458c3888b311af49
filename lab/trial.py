"""One trial: launch, wait for what the workload sends, measure, stop, and make the record.

Everything a trial starts is on one ExitStack: it ends when the trial ends, however that is.
"""

from __future__ import annotations

import contextlib
import selectors
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from lab.backends.base import READY, Backend, Instance, Prepared
from lab.errors import BackendError, NotReady
from lab.interrupt import Interrupts
from lab.record import Record, TrialId, WorkloadFacts

if TYPE_CHECKING:
    from lab.experiment import ExperimentSpec
    from lab.experiments import Experiment

__all__ = ["Running", "Trial", "in_words", "not_run", "run_trial"]

_SLICE_S = 0.25
"""How soon an interrupt is noticed while only the end of a workload is waited for."""

TAIL = 4096
"""Bytes of a failed workload's output that its record keeps."""


@dataclass(slots=True)
class Running:
    """An instance and when its bytes came. Times are host CLOCK_MONOTONIC nanoseconds."""

    instance: Instance
    t0_ns: int
    events: list[tuple[bytes, int]] = field(default_factory=list)
    ended: bool = False

    def arrival(self, byte: bytes) -> int | None:
        """When `byte` first came, or None."""
        return next((ns for data, ns in self.events if byte in data), None)

    @property
    def ready_ns(self) -> int:
        """When the ready byte came. Raises `NotReady` before that."""
        if (arrived := self.arrival(READY)) is None:
            raise NotReady(f"{self.instance.name}: has not said ready")
        return arrived


class Trial:
    """What an experiment's `measure` works with."""

    def __init__(
        self,
        spec: ExperimentSpec,
        backend: Backend,
        prepared: Prepared,
        name: str,
        stack: contextlib.ExitStack,
        interrupts: Interrupts,
    ) -> None:
        self.spec = spec
        self.backend = backend
        self.prepared = prepared
        self.metrics: dict[str, float] = {}
        self.samples: list[dict[str, Any]] = []
        self.launched: list[Running] = []
        self._name = name
        self._stack = stack
        self._interrupts = interrupts

    def elapsed(self) -> float:
        """Seconds since the first launch's t0."""
        return (time.monotonic_ns() - self.launched[0].t0_ns) / 1e9

    def sleep(self, seconds: float) -> None:
        """Let things settle; an interrupt ends it."""
        self._interrupts.sleep(seconds)

    def launch(self) -> Running:
        """Start one instance. `t0` is taken here, before the backend does anything."""
        name = f"{self._name}-{len(self.launched)}"
        t0 = time.monotonic_ns()
        instance = self.backend.launch(self.prepared, name)
        running = Running(instance, t0)
        self.launched.append(running)
        self._stack.callback(instance.stop)
        return running

    def launch_many(self, n: int, *, at_once: int) -> list[Running]:
        """Start `n`, at most `at_once` of them on their way to ready at a time; wait for all."""
        running: list[Running] = []
        waiting: list[Running] = []
        while len(running) < n:
            if len(waiting) >= at_once:
                self._await(waiting, READY, at_least=1)
                waiting = [r for r in waiting if r.arrival(READY) is None]
                continue
            running.append(self.launch())
            waiting.append(running[-1])
        self.await_ready(waiting)
        return running

    def await_ready(self, running: Sequence[Running]) -> None:
        """Wait until each has sent its ready byte. Raises `NotReady`."""
        self.await_byte(running, READY)

    def await_byte(self, running: Sequence[Running], byte: bytes) -> None:
        """Wait until each has sent `byte`, at most the experiment's timeout. Raises `NotReady`."""
        waiting = [r for r in running if r.arrival(byte) is None]
        self._await(waiting, byte, at_least=len(waiting))

    def await_end(self, running: Running) -> None:
        """Wait until the workload has ended by itself, at most the experiment's timeout. Raises
        `BackendError` if that was not with status 0."""
        deadline = time.monotonic() + self.spec.timeout
        # In slices, for a signal only leaves a mark; the end itself is waited for and not polled.
        while (end := running.instance.wait(_SLICE_S)) is None:
            self._interrupts.check()
            if time.monotonic() >= deadline:
                raise self._failure(running, f"did not end within {self.spec.timeout:g} s")
        if end.status:
            raise self._failure(running, f"ended with status {end.status}")

    def stop_all(self, running: Sequence[Running]) -> None:
        """End them and remove all they had."""
        for r in running:
            r.instance.stop()

    def check_alive(self, running: Sequence[Running]) -> None:
        """Raises `BackendError` if a workload has ended that should still run."""
        for r in running:
            if (end := r.instance.wait(0)) is not None:
                raise self._failure(r, f"ended early with status {end.status}")

    def _await(self, waiting: Sequence[Running], byte: bytes, *, at_least: int) -> None:
        deadline = time.monotonic() + self.spec.timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self._interrupts, selectors.EVENT_READ)
            for r in waiting:
                selector.register(r.instance.fileno(), selectors.EVENT_READ, r)
            ready = list(waiting)  # look first: see `Instance.fileno`
            while True:
                now = time.monotonic_ns()
                for r in ready:
                    self._take(r, now)
                    if r.arrival(byte) is not None:
                        selector.unregister(r.instance.fileno())
                        at_least -= 1
                    elif r.ended:
                        raise self._failure(r, f"ended before it sent {byte.decode()!r}")
                if at_least <= 0:
                    return
                found = selector.select(deadline - time.monotonic())
                ready = [key.data for key, _ in found if key.data is not None]
                self._interrupts.check()
                if not ready and time.monotonic() >= deadline:
                    late = next(k.data for k in selector.get_map().values() if k.data is not None)
                    raise self._failure(
                        late, f"did not send {byte.decode()!r} within {self.spec.timeout:g} s"
                    )

    @staticmethod
    def _take(running: Running, now: int) -> None:
        data = running.instance.read_events()
        if data is None:
            running.ended = True
        elif data:
            running.events.append((data, now))

    def _failure(self, running: Running, what: str) -> NotReady:
        end = running.instance.wait(1.0) if running.ended else None
        out, err = running.instance.output()
        tail = (err or out)[-TAIL:].decode(errors="replace")
        status = f" (status {end.status})" if end is not None else ""
        last = f"; last words: {tail.strip().splitlines()[-1]}" if tail.strip() else ""
        return NotReady(
            f"{running.instance.name}: the workload {what}{status}{last}",
            argv=tuple(running.instance.argv),
            log_tail=tail,
        )


def run_trial(
    run: str,
    trial_id: TrialId,
    spec: ExperimentSpec,
    experiment: Experiment,
    backend: Backend,
    prepared: Prepared,
    interrupts: Interrupts,
) -> Record:
    """Run one trial to its record. A failure of the trial is a record too; an interrupt is not."""
    started = datetime.now(UTC)
    begin = time.monotonic()
    cause: str | None = None
    argv: list[str] = []
    log_tail = ""
    trial: Trial | None = None
    try:
        with interrupts.held(), contextlib.ExitStack() as stack:
            name = f"{trial_id.experiment}-{trial_id.backend}-{trial_id.index}"
            trial = Trial(spec, backend, prepared, name, stack, interrupts)
            experiment.measure(trial, trial_id.factors)
    except (BackendError, OSError) as error:
        cause, log_tail = in_words(error)
        argv = list(getattr(error, "argv", ()))
    launched = trial.launched if trial else []
    return Record(
        run=run,
        trial=trial_id,
        status="ok" if cause is None else "failed",
        cause=cause,
        started_at=started.isoformat(timespec="milliseconds"),
        t0_ns=launched[0].t0_ns if launched else None,
        duration_s=round(time.monotonic() - begin, 6),
        workload=workload_facts(prepared),
        factors=dict(prepared.factors),
        phases=_phases(launched[0]) if launched else {},
        metrics=trial.metrics if trial else {},
        samples=trial.samples if trial else [],
        argv=argv,
        log_tail=log_tail,
    )


def in_words(error: BackendError | OSError) -> tuple[str, str]:
    """The cause in one line, and the log that belongs to it."""
    if not isinstance(error, BackendError):
        about = f"{error.filename}: " if error.filename else ""
        return f"{about}{error.strerror or error}", ""
    cause, _, more = str(error).partition("\n")
    return cause, (error.log_tail or more)[-TAIL:]


def not_run(
    run: str,
    trial_id: TrialId,
    status: Literal["failed", "skipped"],
    cause: str,
    log_tail: str = "",
) -> Record:
    """The record of a trial that was not even begun: skipped, because the backend cannot run it
    here, or failed, because it could not be prepared."""
    return Record(
        run=run,
        trial=trial_id,
        status=status,
        cause=cause,
        started_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        t0_ns=None,
        duration_s=0.0,
        workload=None,
        log_tail=log_tail,
    )


def workload_facts(prepared: Prepared) -> WorkloadFacts:
    """The work as it really was on this backend."""
    work = prepared.workload
    limits = prepared.limits or work.limits
    return WorkloadFacts(
        image=work.image,
        image_digest=prepared.image_digest,
        argv=list(work.argv),
        env=dict(work.env),
        cwd=work.cwd,
        uid=work.uid,
        gid=work.gid,
        cpus=limits.cpus,
        memory_bytes=limits.memory,
        pids=limits.pids,
    )


def _phases(running: Running) -> dict[str, float]:
    marks = dict(running.instance.phases())
    if (ready := running.arrival(READY)) is not None:
        marks["ready"] = ready
    return {
        name: round((ns - running.t0_ns) / 1e9, 9)
        for name, ns in sorted(marks.items(), key=lambda mark: mark[1])
    }
