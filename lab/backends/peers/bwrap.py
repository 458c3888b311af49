"""The backend `bwrap`: bubblewrap, Flatpak's sandbox, called by its command line.

It is told to do what the others do as far as it can be: the same root, namespaces, capabilities
and seccomp filter. It knows no cgroups, so one is made here, as for a plain process, within the
timed section (phase `cgroup`). It hides nothing in /proc, shows the host's /sys, and starts the
workload under a small init of its own, PID 1, which is what its users get.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from lab.backends.base import Capabilities, Prepared, Workload
from lab.backends.channel import Pipes
from lab.backends.context import Context
from lab.backends.peers.instance import PeerInstance, make_folder
from lab.backends.peers.program import missing_program, version
from lab.backends.peers.stage import RootStages, own_root
from lab.backends.process import root_needed, translated
from lab.errors import BackendError

if TYPE_CHECKING:
    from runtime.engine.steps import Step

__all__ = ["BwrapBackend", "bwrap_line"]

_FILTER_FD = 4
"""Where it reads the seccomp filter; it closes it."""


@dataclass(frozen=True)
class BwrapPrepared(Prepared):
    """`root` is the shared overlay, `before` what comes before the exec."""

    layers: tuple[Path, ...] = ()
    root: str = ""
    before: tuple[Step, ...] = ()


class BwrapBackend:
    """See the module's text."""

    name = "bwrap"
    options: Mapping[str, tuple[str, ...]] = MappingProxyType({})

    def __init__(self, context: Context) -> None:
        self._shared = context.shared
        self._stages = RootStages(context.shared, self.name)
        self._program = ""
        self._filter = Path()

    def capabilities(self) -> Capabilities:
        """Root, for the cgroup, and the program."""
        return root_needed() if os.geteuid() else missing_program("bwrap", "bubblewrap")

    def prepare(self, workload: Workload) -> BwrapPrepared:
        """Have the image, the root mounted, and the filter compiled.

        Raises `BackendError` for a workload of another user than root: bwrap changes the user only
        in a user namespace, where files would belong to nobody."""
        if workload.uid or workload.gid:
            raise BackendError("bwrap changes the user only in a user namespace: use uid 0, gid 0")
        with translated():
            image = self._shared.images.ensure(workload.image)
            layers = tuple(image.layers)
            stage = self._stages.of(layers)
            self._filter = self._compiled()
        self._program = shutil.which("bwrap") or "bwrap"
        return BwrapPrepared(
            workload,
            image_digest=image.digest,
            factors={
                "kind": "container",
                "kernel": platform.release(),
                "disk": "overlayfs",
                "root": stage.kind_of_root(workload),
                "network": "own namespace",
                "program": version(self._program),
            },
            shared_paths=layers,
            layers=layers,
            root=stage.root,
            before=stage.enter,
        )

    def _compiled(self) -> Path:
        from runtime.capabilities import DEFAULT
        from runtime.security.seccomp import compile_profile, default_profile

        path = self._shared.state / f"{self.name}-filter"
        path.write_bytes(compile_profile(default_profile(DEFAULT))[0])
        return path

    def launch(self, prepared: Prepared, name: str) -> PeerInstance:
        """Make the cgroup, call bwrap in it."""
        assert isinstance(prepared, BwrapPrepared)
        from runtime.spawn import Request

        work, limits = prepared.workload, prepared.workload.limits
        folder = self._shared.state / name
        with translated(), contextlib.ExitStack() as undo:
            cgroup = self._shared.cgroup.child(
                name, cpus=limits.cpus, memory=limits.memory, pids=limits.pids
            )
            undo.callback(cgroup.remove)
            marks = {"cgroup": time.monotonic_ns()}
            before, root = prepared.before, prepared.root
            make_folder(folder)
            undo.callback(shutil.rmtree, folder)
            if work.writes_root:
                before += own_root(folder, prepared.layers)
                root = str(folder / "rootfs")
            pipes = Pipes(stdin=work.stdin)
            undo.callback(pipes.close)
            with self._filter.open("rb") as filter_:
                process = self._shared.spawner.spawn(
                    Request(
                        argv=bwrap_line(self._program, work, root, name, _kept()),
                        cwd=str(folder),
                        fds={**pipes.child, _FILTER_FD: filter_.fileno()},
                        before=before,
                        cgroup=cgroup,
                    )
                )
            undo.pop_all()
        pipes.launched()
        return PeerInstance(
            name, process, cgroup, pipes, folders=(folder,), marks=marks, failure=_said
        )

    def close(self) -> None:
        """Unmount."""
        self._stages.close()
        self._filter.unlink(missing_ok=True) if self._filter.name else None


def bwrap_line(
    program: str, work: Workload, root: str, name: str, keep: Iterable[str]
) -> tuple[str, ...]:
    """The command line. `keep` are the capabilities; descriptor 3 is inherited."""
    line = [program, "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    line += ["--unshare-cgroup", "--hostname", name, "--die-with-parent", "--new-session"]
    line += ["--bind", root, "/", "--proc", "/proc", "--dev", "/dev", "--ro-bind", "/sys", "/sys"]
    line += ["--cap-drop", "ALL", *(word for one in keep for word in ("--cap-add", one))]
    line += ["--seccomp", str(_FILTER_FD), "--chdir", work.cwd, "--clearenv"]
    for key, value in work.env.items():
        line += ["--setenv", key, value]
    return (*line, "--", *work.argv)


def _kept() -> list[str]:
    from runtime.capabilities import DEFAULT

    return sorted(DEFAULT)


def _said(status: int, err: bytes) -> str:
    """Its last line, if that is bwrap's own."""
    last = err.decode(errors="replace").strip().rpartition("\n")[2]
    return last if status == 1 and last.startswith("bwrap: ") else ""
