"""scale: many containers of one big image, all alive at once.

*Measured*, at each N, for all N together:

- `start_s`: from the first launch's `t0` until the last has said ready; as many are on their way at
  a time as the host has CPUs;
- `first_s` and `last_s`: the median, over the first tenth and the last tenth of the N (at most 50
  each), of the time from one's own `t0` to its ready byte: the cost of the last start against the
  first. All of them are samples;
- `host_bytes`, `pss_bytes`, `cgroup_bytes`: memory, as in the density experiment;
- `disk_bytes`: blocks of what belongs to the N alone; `image_bytes`: of what all share;
- `gone_s`: from the first kill until nothing is left, no process, cgroup or file.

*What can fool it*: `host_bytes` holds what the lab itself needs for an instance, its objects,
pipes and the pidfd, besides what the kernel needs for it. The kernel takes network namespaces down
after the last process has ended, on its own time: `gone_s` does not wait for it, and MemAvailable
has not settled when it ends, so trials begin with a settling time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from lab.backends.base import Workload
from lab.experiments.boot import ENV, IDLE
from lab.samplers import allocated, mem_available, proportional_set_size

if TYPE_CHECKING:
    from lab.experiment import ExperimentSpec
    from lab.experiments import Factors
    from lab.trial import Running, Trial

__all__ = ["Scale"]

_MOST = 50
"""Starts at either end that are compared."""


class Scale:
    """See the module's text."""

    kind = "scale"
    needs = frozenset({"event_channel", "private_root"})

    def cells(self, spec: ExperimentSpec, backend: str) -> Sequence[Factors]:
        """One cell for each number of instances."""
        return [{"n": n} for n in spec.levels_of(backend)]

    def workload(self, spec: ExperimentSpec) -> Workload:
        """A shell that says ready and idles, on a root that it may write to."""
        return Workload(
            argv=IDLE,
            image=spec.image,
            env=ENV,
            limits=spec.limits.as_limits(),
            writes_root=True,
        )

    def measure(self, trial: Trial, factors: Factors) -> None:
        """Launch n, settle, read memory and disk, end them all."""
        trial.sleep(trial.spec.settle)
        free = mem_available()
        running = trial.launch_many(int(factors["n"]), at_once=os.cpu_count() or 1)
        begin = running[0].t0_ns
        trial.metrics["start_s"] = (max(r.ready_ns for r in running) - begin) / 1e9
        _starts(trial, running)
        trial.sleep(trial.spec.settle)
        trial.metrics["host_bytes"] = float(free - mem_available())
        _sizes(trial, running)
        trial.check_alive(running)
        begin = time.monotonic_ns()
        trial.stop_all(running)
        trial.metrics["gone_s"] = (time.monotonic_ns() - begin) / 1e9


def _starts(trial: Trial, running: Sequence[Running]) -> None:
    begin = running[0].t0_ns
    each = [(r.ready_ns - r.t0_ns) / 1e9 for r in running]
    some = min(_MOST, -(-len(each) // 10))
    trial.metrics["first_s"] = median(each[:some])
    trial.metrics["last_s"] = median(each[-some:])
    trial.samples.extend(
        {"n": n, "t0_s": (r.t0_ns - begin) / 1e9, "ready_s": ready}
        for n, (r, ready) in enumerate(zip(running, each, strict=True), 1)
    )


def _sizes(trial: Trial, running: Sequence[Running]) -> None:
    instances = [r.instance for r in running]
    pss = sum(proportional_set_size(pid) for one in instances for pid in one.pids())
    trial.metrics["pss_bytes"] = float(pss)
    charged = [one.cgroup_memory() for one in instances]
    if all(bytes_ is not None for bytes_ in charged):
        trial.metrics["cgroup_bytes"] = float(sum(bytes_ or 0 for bytes_ in charged))
    own = (path for one in instances for path in one.disk_paths())
    trial.metrics["disk_bytes"] = float(allocated(own))
    trial.metrics["image_bytes"] = float(allocated(trial.prepared.shared_paths))
