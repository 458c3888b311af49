"""density: memory of N idle instances alive at once.

*Measured*, at each N, over all instances together and after a settling time:

- `pss_bytes`: proportional set size (proc_pid_smaps_rollup(5)) of every host process that exists
  because of the instances, shims and QEMU included, so that both kinds are counted alike;
- `cgroup_bytes`: what their memory cgroups are charged;
- `host_bytes`: how far the host's MemAvailable fell since before the first launch.

The result is the slope over N, the cost of one more, by each of the three.

*What can fool it*: PSS leaves out kernel memory (page tables, slab, network namespaces); a cgroup
is charged for a page by whoever touched it first, so shared pages make the first instance look dear
and the rest cheap (the slope is robust to it, the total is not); MemAvailable moves by itself by a
few hundred KiB, hence several levels and repeats. Page cache is not dropped between trials: it
counts as available.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from statistics import median
from typing import TYPE_CHECKING

from lab.backends.base import Workload
from lab.experiments.boot import ENV, IDLE
from lab.samplers import mem_available, proportional_set_size

if TYPE_CHECKING:
    from lab.experiment import ExperimentSpec
    from lab.experiments import Factors
    from lab.trial import Trial

__all__ = ["Density"]

READINGS = 3
"""Readings of one trial; the median is the metric, all are kept as samples."""


class Density:
    """See the module's text."""

    kind = "density"
    needs = frozenset({"event_channel"})

    def cells(self, spec: ExperimentSpec, backend: str) -> Sequence[Factors]:
        """One cell for each number of instances."""
        return [{"n": n} for n in spec.levels_of(backend)]

    def workload(self, spec: ExperimentSpec) -> Workload:
        """A shell that says ready and idles."""
        return Workload(argv=IDLE, image=spec.image, env=ENV, limits=spec.limits.as_limits())

    def measure(self, trial: Trial, factors: Factors) -> None:
        """Launch n, settle, read all three measures, stop them all."""
        trial.sleep(trial.spec.settle)
        free = _median(mem_available() for _ in range(READINGS))
        running = trial.launch_many(int(factors["n"]), at_once=os.cpu_count() or 1)
        trial.sleep(trial.spec.settle)
        for reading in range(READINGS):
            if reading:
                trial.sleep(0.05)
            pss = sum(proportional_set_size(pid) for r in running for pid in r.instance.pids())
            charged = [r.instance.cgroup_memory() for r in running]
            sample: dict[str, float] = {"pss_bytes": pss, "host_bytes": free - mem_available()}
            if all(c is not None for c in charged):
                sample["cgroup_bytes"] = sum(c for c in charged if c is not None)
            trial.samples.append({"t_s": trial.elapsed(), "n": len(running), **sample})
        trial.check_alive(running)
        for name in ("pss_bytes", "cgroup_bytes", "host_bytes"):
            values = [s[name] for s in trial.samples if name in s]
            if values:
                trial.metrics[name] = _median(values)


def _median(values: Iterable[float]) -> float:
    return float(median(values))
