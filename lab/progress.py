"""What a person sees while `lab bench` measures: what runs now, how far, how long still.

The time left is the sum, over the trials left, of what trials of the same cell have taken so far
(or of the same backend, scaled by the number of instances, while its cell has not been seen): with
backends whose trials differ a thousandfold, counting trials would tell nothing.
"""

from __future__ import annotations

from collections import defaultdict
from statistics import mean
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.progress import TaskID

    from lab.bench import PlannedExperiment
    from lab.record import Record, TrialId

__all__ = ["TerminalProgress", "TimeLeft"]


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
    """A bar on a terminal; a line for each experiment where output is not one."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._left: list[TrialId] = []
        self._time = TimeLeft()
        self._failed = 0
        self._task: TaskID | None = None
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            transient=True,
        )

    def __enter__(self) -> TerminalProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def preparing(self, what: str) -> None:
        """A line, or the bar's text."""
        self._show(what, left="")

    def experiment(self, planned: PlannedExperiment, done: frozenset[int]) -> None:
        """A new bar for a new experiment."""
        trials = planned.plan.trials
        self._left = [t for t in trials if t.index not in done]
        self._failed = 0
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task("", total=len(trials), completed=len(done), left="")
        names = ", ".join(planned.spec.backends)
        resumed = f", {len(done)} already done" if done else ""
        self._console.print(f"{planned.spec.kind}: {len(trials)} trials on {names}{resumed}")

    def trial(self, trial: TrialId) -> None:
        """What runs now."""
        factors = "".join(f" {k}={v}" for k, v in trial.factors.items())
        warm = " warm-up" if trial.warmup else ""
        seconds = self._time.estimate(self._left)
        left = "" if seconds is None else f"{_clock(seconds)} left"
        self._show(f"{trial.experiment}: {trial.backend}{factors}{warm}", left=left)

    def record(self, record: Record) -> None:
        """One trial nearer to the end; a failure is told at once."""
        self._left = [t for t in self._left if t.index != record.trial.index]
        if record.status == "ok":
            self._time.learn(record.trial, record.duration_s)
        elif record.status == "failed":
            self._console.print(
                f"trial {record.trial.index} failed: {record.cause}", style="red", markup=False
            )
        if self._task is not None:
            self._bars.advance(self._task)

    def _show(self, description: str, left: str) -> None:
        if self._task is None:
            self._task = self._bars.add_task("", total=None, left="")
        self._bars.update(self._task, description=f"{description:<40}", left=left)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
