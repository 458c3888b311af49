"""disk: blocks really allocated for N instances of one image.

*Measured*: `before_bytes`, the blocks (stat(2) st_blocks × 512) of everything that belongs to the N
instances alone when all are ready; then each writes `written_bytes` into a new file and calls
fsync(2); `after_bytes`, the same sum again. `image_bytes` is what they all share, allocated once.
The result is the slope over N before and after: what one more instance costs on disk, untouched and
touched.

*What can fool it*: delayed allocation (hence the fsync); a file system that reflinks counts one
extent in two files' st_blocks; a guest's file system writes its superblock when it is mounted (it
has no journal), and qcow2 then copies the whole cluster of 64 KiB and makes the tables that point
to it, before the workload writes anything: this is part of `before_bytes`, for it is what a virtual
machine costs. What a guest writes of itself in the seconds after is not waited for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lab.backends.base import Workload
from lab.experiments.boot import ENV
from lab.samplers import allocated

if TYPE_CHECKING:
    from lab.experiment import ExperimentSpec
    from lab.experiments import Factors
    from lab.trial import Trial

__all__ = ["Disk"]

WROTE = b"w"

SCRIPT = """\
printf r >&3
read -r _
dd if=/dev/urandom of=/var/tmp/written bs=4096 count="$LAB_WRITE_BLOCKS" conv=fsync || exit
printf w >&3
exec sleep 2147483647
"""
BLOCK = 4096


class Disk:
    """See the module's text."""

    kind = "disk"
    needs = frozenset({"event_channel", "private_root"})

    def cells(self, spec: ExperimentSpec, backend: str) -> Sequence[Factors]:
        """One cell for each number of instances."""
        return [{"n": n} for n in spec.levels_of(backend)]

    def workload(self, spec: ExperimentSpec) -> Workload:
        """Wait for a line of input, then write and say so."""
        return Workload(
            argv=("/bin/sh", "-c", SCRIPT),
            image=spec.image,
            env={**ENV, "LAB_WRITE_BLOCKS": str(_blocks(spec))},
            limits=spec.limits.as_limits(),
            stdin=True,
            writes_root=True,
        )

    def measure(self, trial: Trial, factors: Factors) -> None:
        """Launch n, count, let each write, count again."""
        running = trial.launch_many(int(factors["n"]), at_once=os.cpu_count() or 1)
        own = [path for r in running for path in r.instance.disk_paths()]
        trial.metrics["before_bytes"] = float(allocated(own))
        for r in running:
            r.instance.write_stdin(b"go\n")
        trial.await_byte(running, WROTE)
        trial.metrics["after_bytes"] = float(allocated(own))
        trial.metrics["written_bytes"] = float(_blocks(trial.spec) * BLOCK)
        trial.metrics["image_bytes"] = float(allocated(trial.prepared.shared_paths))
        for r in running:
            trial.samples.append(
                {"instance": r.instance.name, "after_bytes": allocated(r.instance.disk_paths())}
            )


def _blocks(spec: ExperimentSpec) -> int:
    return -(-spec.write // BLOCK)
