"""boot: time from `t0` to the workload's first instruction.

*Measured*: one instance at a time; `boot_s` is from just before the launch's first system call to
the moment the host receives the byte that the workload's first instruction wrote; every step
between has a name in `phases`. `stop_s` is the time to end the instance and remove everything it
had.

*What can fool it*: caches (the image and the kernel are warm after the warm-ups: this is a warm
start); the workload's own start (a static shell, about a millisecond, the same on every backend);
on a host without usable KVM the virtual machine is emulated, which the accelerator in the record
tells.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lab.backends.base import Workload

if TYPE_CHECKING:
    from lab.experiment import ExperimentSpec
    from lab.experiments import Factors
    from lab.trial import Trial

__all__ = ["ENV", "IDLE", "Boot"]

ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}

IDLE = ("/bin/sh", "-c", "printf r >&3; exec sleep 2147483647")
"""Say ready, then cost as little as a process can."""


class Boot:
    """See the module's text."""

    kind = "boot"
    metric = "boot_s"
    """What the time until ready is recorded as."""
    needs = frozenset({"event_channel"})

    def cells(self, spec: ExperimentSpec, backend: str) -> Sequence[Factors]:
        """One cell: nothing is varied but the backend."""
        return [{}]

    def workload(self, spec: ExperimentSpec) -> Workload:
        """A shell that says ready and idles."""
        return Workload(argv=IDLE, image=spec.image, env=ENV, limits=spec.limits.as_limits())

    def measure(self, trial: Trial, factors: Factors) -> None:
        """Launch one, wait for ready, stop it."""
        running = trial.launch()
        trial.await_ready([running])
        trial.metrics[self.metric] = (running.ready_ns - running.t0_ns) / 1e9
        begin = time.monotonic_ns()
        running.instance.stop()
        trial.metrics["stop_s"] = (time.monotonic_ns() - begin) / 1e9
