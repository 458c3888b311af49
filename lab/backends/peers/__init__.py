"""Peers: other programs that start containers, as backends, so that they are measured beside ours.

The same image's tree, argv, environment, directory, limits, capabilities and seccomp filter reach
all of them; what a program cannot be told is a factor or a missing ability. One rule for the root
file system of `crun`, `runc`, `lab-oci` and `bwrap`: it is an overlay over the image's layers,
mounted in `prepare` and shared by the instances, for whoever uses such a program mounts the root
before he calls it. So the mount counts against our own container, which makes one within the timed
section, and not against them. A workload that writes to its root gets an overlay of its own, which
is mounted after `t0`, since it cannot be there before.

All are started by the lab's spawner, as everything is: a fork of the lab itself would be dearer.
"""

from __future__ import annotations

__all__: list[str] = []
