"""start and run: our container beside other programs that start containers.

*Measured*, one container at a time, all backends interleaved, on the same root file system:

- `start`: `ready_s`, from just before the launch's first system call to the moment the host
  receives the byte that the workload's first instruction wrote; `stop_s`, to end it and remove all
  it had.
- `run`: `run_s`, one whole run of ``/bin/true``, from the same moment until the command has ended
  and nothing of it is left: no process, cgroup, mount or file.

*What can fool it*: what each backend has done before `t0`. The factor `root` in each record tells
whose root file system was mounted before and whose was not, and the phases tell what it took to
come to the program itself (`process`). Not all do the same: bwrap makes no cgroup (the lab does)
and hides nothing in /proc; Docker has a daemon, a shim and a log, and that is what its users get.
A runtime that compiles its seccomp filter anew for each container spends most of its time there.
Caches are warm after the warm-ups.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lab.backends.base import Workload
from lab.experiments.boot import ENV, Boot

if TYPE_CHECKING:
    from lab.experiment import ExperimentSpec
    from lab.experiments import Factors
    from lab.trial import Trial

__all__ = ["TRUE", "RunWhole", "Start"]

TRUE = ("/bin/true",)


class Start(Boot):
    """From `t0` to the workload's first instruction: `boot`, with programs that start containers in
    the place of a virtual machine."""

    kind = "start"
    metric = "ready_s"


class RunWhole:
    """From `t0` until all has ended and is gone."""

    kind = "run"
    needs: frozenset[str] = frozenset()

    def cells(self, spec: ExperimentSpec, backend: str) -> Sequence[Factors]:
        """One cell: nothing is varied but the backend."""
        return [{}]

    def workload(self, spec: ExperimentSpec) -> Workload:
        """The shortest there is."""
        return Workload(argv=TRUE, image=spec.image, env=ENV, limits=spec.limits.as_limits())

    def measure(self, trial: Trial, factors: Factors) -> None:
        """Launch one, wait for its end, remove what it had."""
        running = trial.launch()
        trial.await_end(running)
        running.instance.stop()
        trial.metrics["run_s"] = (time.monotonic_ns() - running.t0_ns) / 1e9
