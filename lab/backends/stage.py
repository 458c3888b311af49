"""What a plain process needs besides its image's tree: /dev, /proc and /sys.

A container and a guest have them of their own; a process that is chrooted into a bare tree has
none, and a workload as simple as ``dd if=/dev/urandom`` would fail on one backend only. They are
mounted as one does it for any chroot, but in a mount namespace that a holder process keeps: nothing
shows in the host's mount table, and however the lab ends, the mounts go with the holder.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from lab.backends.process import translated

if TYPE_CHECKING:
    from lab.backends.context import Shared
    from runtime.cgroups import Cgroup
    from runtime.engine.steps import Step
    from runtime.spawn import Process

__all__ = ["Holder", "Stage", "furnish"]


def furnish(root: Path) -> tuple[Step, ...]:
    """Mount /dev, /proc and /sys on the tree's own directories, in a new mount namespace.

    A directory that the tree lacks, or has as a link, is left out: making it would change an image
    that others share, and a link could lead out of the tree."""
    from runtime.engine.constants import (
        CLONE_NEWNS,
        MS_BIND,
        MS_NODEV,
        MS_NOEXEC,
        MS_NOSUID,
        MS_PRIVATE,
        MS_RDONLY,
        MS_REC,
    )

    strict = MS_NOSUID | MS_NOEXEC | MS_NODEV
    mounts: dict[str, Step] = {
        "dev": ("mount", "/dev", f"{root}/dev", None, MS_BIND | MS_REC, None),
        "proc": ("mount", "proc", f"{root}/proc", "proc", strict, None),
        "sys": ("mount", "sysfs", f"{root}/sys", "sysfs", strict | MS_RDONLY, None),
    }
    return (
        ("unshare", CLONE_NEWNS),
        ("mount", None, "/", None, MS_REC | MS_PRIVATE, None),
        *(
            mount
            for name, mount in mounts.items()
            if (root / name).is_dir() and not (root / name).is_symlink()
        ),
    )


class Holder:
    """A mount namespace of the lab's own, kept by a process that sleeps in it: what is mounted
    there by `steps` shows nowhere else, and goes when the process does. A context."""

    def __init__(self, shared: Shared, name: str, steps: tuple[Step, ...]) -> None:
        self._shared = shared
        self._name = name
        self._steps = steps
        self._cgroup: Cgroup | None = None
        self._process: Process | None = None

    def __enter__(self) -> Self:
        from runtime.spawn import Request

        with translated():
            self._cgroup = self._shared.cgroup.child(self._name)
            try:
                self._process = self._shared.spawner.spawn(
                    Request(
                        argv=("sleep", "infinity"),
                        env={"PATH": os.environ.get("PATH", os.defpath)},
                        cgroup=self._cgroup,
                        before=self._steps,
                    )
                )
                self._process.started()
            except BaseException:
                self.__exit__(None, None, None)
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with translated(), contextlib.ExitStack() as stack:
            if self._cgroup is not None:
                stack.callback(self._cgroup.remove)
            if self._process is not None:
                stack.callback(self._process.close)

    @property
    def process(self) -> Process:
        """Who holds it."""
        assert self._process is not None, "used outside its context"
        return self._process


class Stage(Holder):
    """A tree furnished once, for all processes that share it. Made in `prepare`, as a context."""

    def __init__(self, shared: Shared, tree: Path, name: str) -> None:
        super().__init__(shared, name, furnish(tree))
        self._tree = tree

    @property
    def root(self) -> str:
        """The furnished tree, as a path to chroot to. The link /proc/PID/root leads into the
        holder's mount namespace, and what is reached through it has that one's mounts
        (proc_pid_root(5)): the process itself needs no namespace."""
        return f"/proc/{self.process.pid}/root{self._tree}"
