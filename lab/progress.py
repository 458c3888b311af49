"""What a person sees while `lab bench` measures: what runs now, how far, how long still.

The time left is the sum, over the trials left, of what trials of the same cell have taken so far
(or of the same backend, scaled by the number of instances, while its cell has not been seen): with
backends whose trials differ a thousandfold, counting trials would tell nothing.

Drawing takes a millisecond or two, in the process that takes the times. So it is done between
trials, and within one only when it has lasted longer than a second.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from statistics import mean
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn
from rich.progress import Progress as Bars
from rich.spinner import Spinner
from rich.text import Text

from lab.checks import grouped

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from rich.console import RenderableType
    from rich.progress import Task, TaskID

    from lab.bench import PlannedExperiment
    from lab.checks import LeftOut
    from lab.record import Record, TrialId

__all__ = ["TerminalProgress", "TimeLeft"]

_TICK_S = 1.0
_SPIN_S = 0.1
_NOW = 18
"""Columns for what runs now."""
_TOLD = 3
"""Failures of one backend that are told one by one; the rest are counted."""


class TimeLeft:
    """Learns from the durations of trials how long the others will take."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str, int], list[float]] = defaultdict(list)
        self._each: dict[str, list[float]] = defaultdict(list)

    def learn(self, trial: TrialId, seconds: float) -> None:
        """A trial took this long."""
        n = _instances(trial)
        self._cells[trial.experiment, trial.backend, n].append(seconds)
        self._each[trial.backend].append(seconds / n)

    def estimate(self, trials: Sequence[TrialId]) -> float | None:
        """Seconds for these trials, or None while a backend among them has not been seen."""
        total = 0.0
        for trial in trials:
            n = _instances(trial)
            if seen := self._cells.get((trial.experiment, trial.backend, n)):
                total += mean(seen)
            elif each := self._each.get(trial.backend):
                total += mean(each) * n
            else:
                return None
        return total


def _instances(trial: TrialId) -> int:
    return int(trial.factors.get("n", 1))


class TerminalProgress:
    """A bar for each experiment on a terminal; a few lines where output is not one."""

    def __init__(self, console: Console, run: str) -> None:
        self._console = console
        self._run = run
        self._left: dict[str, list[TrialId]] = {}
        self._time = TimeLeft()
        self._failed: Counter[tuple[str, str]] = Counter()
        self._kind = ""
        self._since = time.monotonic()
        """When the current trial or preparation began."""
        self._estimate: tuple[float | None, float | None] = (None, None)
        """Seconds left of the experiment and of the run, when the current trial began."""
        self._tasks: dict[str, TaskID] = {}
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            _Now(),
            _Clock(self),
            console=console,
            auto_refresh=False,
            disable=not console.is_terminal,
        )
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> TerminalProgress:
        self._bars.start()
        # rich hides it, and a killed lab could not show it again.
        self._console.show_cursor(True)
        self._ticker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._ticker.join()
        self._finish()
        self._bars.stop()

    def _tick(self) -> None:
        spinning = self._bars.live
        while not self._ended.wait(_SPIN_S if self._preparing else _TICK_S):
            if spinning.is_started and (self._preparing or self.since > _TICK_S):
                self._bars.refresh()

    # --- what `lab.bench.Progress` asks for ------------------------------------------------------

    def begin(self, planned: Sequence[PlannedExperiment], left_out: LeftOut) -> None:
        """A header, who is left out, and an empty bar for each experiment."""
        total = sum(len(item.plan.trials) for item in planned)
        self._print(f"run {self._run}: {total} trials, seed {planned[0].plan.seed}")
        if left_out:
            self._print(f"left out: {grouped(left_out)}", style="yellow")
        width = max(len(item.spec.kind) for item in planned)
        for item in planned:
            kind = item.spec.kind
            self._left[kind] = list(item.plan.trials)
            self._tasks[kind] = self._bars.add_task(
                f"{kind:<{width}}", total=len(item.plan.trials), start=False, now=""
            )
        self._bars.refresh()

    def note(self, text: str) -> None:
        """A line."""
        self._print(f"note: {text}", style="yellow")

    def experiment(self, planned: PlannedExperiment, done: frozenset[int]) -> None:
        """Its bar begins to move."""
        self._finish()
        self._kind = kind = planned.spec.kind
        self._left[kind] = [t for t in planned.plan.trials if t.index not in done]
        self._bars.start_task(self._tasks[kind])
        self._bars.update(self._tasks[kind], completed=len(done))
        if done or not self._console.is_terminal:
            resumed = f", {len(done)} of them done before" if done else ""
            names = ", ".join(planned.spec.backends)
            self._print(f"{kind}: {len(planned.plan.trials)} trials on {names}{resumed}")

    def preparing(self, backend: str) -> None:
        """It may take long the first time."""
        self._now(f"preparing {backend}", preparing=True)
        if not self._console.is_terminal:
            self._print(f"{self._kind}: preparing {backend}")

    def trial(self, trial: TrialId) -> None:
        """What runs now."""
        later = [t for kind, left in self._left.items() if kind != self._kind for t in left]
        here = self._time.estimate(self._left[self._kind])
        rest = self._time.estimate(later) if later else None
        self._estimate = here, None if here is None or rest is None else here + rest
        factors = "".join(f" {k}={v}" for k, v in trial.factors.items())
        self._now(f"{trial.backend}{factors}{' (warm-up)' if trial.warmup else ''}")

    def record(self, record: Record) -> None:
        """One trial nearer to the end; a failure is told at once."""
        trial = record.trial
        self._left[self._kind] = [t for t in self._left[self._kind] if t.index != trial.index]
        self._time.learn(trial, record.duration_s)
        self._bars.advance(self._tasks[self._kind])
        if record.status == "failed":
            self._tell(record)

    # --- below -----------------------------------------------------------------------------------

    def _tell(self, record: Record) -> None:
        trial = record.trial
        key = trial.experiment, trial.backend
        self._failed[key] += 1
        told = self._failed[key]
        if record.workload is None:  # not even begun, and all its trials for the same reason
            if told == 1:
                self._print(f"{trial.experiment}: {record.cause}", style="red")
            return
        if told <= _TOLD:
            self._print(
                f"{trial.experiment}: trial {trial.index} failed: {record.cause}", style="red"
            )
        if told == _TOLD:
            self._print(
                f"{trial.experiment}: further failures of {trial.backend} are only counted",
                style="red",
            )

    @property
    def _preparing(self) -> bool:
        return bool(self._kind) and bool(
            self._bars.tasks[self._tasks[self._kind]].fields.get("preparing")
        )

    @property
    def since(self) -> float:
        """Seconds since the current trial began."""
        return time.monotonic() - self._since

    def left(self, task: Task) -> str:
        """``0:12 left``, and of the whole run if there is more of it."""
        if self._tasks.get(self._kind) != task.id or task.fields.get("preparing"):
            return ""
        here, whole = self._estimate
        if here is None:
            return ""
        text = f"{_clock(here - self.since)} left"
        return text if whole is None else f"{text}, {_clock(whole - self.since)} in all"

    def _now(self, what: str, *, preparing: bool = False) -> None:
        self._since = time.monotonic()
        self._bars.update(self._tasks[self._kind], now=what, preparing=preparing)
        self._bars.refresh()

    def _finish(self) -> None:
        """The bar of the current experiment stops, whether it came to its end or not."""
        if not self._kind:
            return
        task = self._bars.tasks[self._tasks[self._kind]]
        failed = sum(n for (kind, _), n in self._failed.items() if kind == self._kind)
        told = f"{failed} failed" if failed else ""
        self._bars.stop_task(task.id)
        self._bars.update(task.id, now=told, preparing=False)
        self._bars.refresh()
        if not self._console.is_terminal:
            done = f"{self._kind}: {task.completed:g} of {task.total:g} trials done"
            self._print(f"{done} in {_clock(task.elapsed or 0)}{told and ', '}{told}")
        self._kind = ""

    def _print(self, text: str, style: str | None = None) -> None:
        self._console.print(text, style=style, markup=False, soft_wrap=True)


class _Clock(ProgressColumn):
    """How long it took; while it runs, how long still."""

    def __init__(self, progress: TerminalProgress) -> None:
        super().__init__()
        self._progress = progress

    def render(self, task: Task) -> Text:
        """See `ProgressColumn`."""
        if task.start_time is None:
            return Text("")
        if task.stop_time is not None:
            return Text(_clock(task.stop_time - task.start_time))
        return Text(self._progress.left(task), style="cyan")


class _Now(ProgressColumn):
    """What runs now; a spinner while something untimed does."""

    def __init__(self) -> None:
        super().__init__()
        self._spinner = Spinner("dots")

    def render(self, task: Task) -> RenderableType:
        """See `ProgressColumn`."""
        if task.fields.get("preparing"):
            self._spinner.update(text=task.fields["now"])
            return self._spinner
        now = f"{task.fields['now']:<{_NOW}}"  # so that what follows does not jump
        return Text(now, style="red" if "failed" in now else "", overflow="ellipsis", no_wrap=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02d}"
