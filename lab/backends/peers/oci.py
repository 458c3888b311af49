"""The backends `crun`, `runc` and `lab-oci`: OCI runtimes, called by their command line.

    RUNTIME run --preserve-fds 1 --bundle FOLDER NAME

The bundle's folder and config.json are written within the timed section (phase `bundle`), as
whoever calls a runtime has to. `lab-oci` is this repository's own, as a user installs it.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from lab.backends.base import Capabilities, Prepared, Workload
from lab.backends.channel import Pipes
from lab.backends.context import Context
from lab.backends.peers.bundle import NAME, config_text, run_line
from lab.backends.peers.instance import Group, PeerInstance, make_folder
from lab.backends.peers.program import missing_program, version
from lab.backends.peers.stage import RootStages, own_root
from lab.backends.process import root_needed, translated
from lab.errors import BackendError

if TYPE_CHECKING:
    from runtime.engine.steps import Step

__all__ = ["CrunBackend", "LabOciBackend", "OciBackend", "RuncBackend"]


@dataclass(frozen=True)
class OciPrepared(Prepared):
    """`config` is the text of config.json with `NAME` in it, `before` what comes before the
    runtime's exec."""

    layers: tuple[Path, ...] = ()
    config: str = ""
    before: tuple[Step, ...] = ()


class OciBackend:
    """What the three have in common."""

    name = ""
    package = ""
    """Debian's, for whoever lacks it."""
    options: Mapping[str, tuple[str, ...]] = MappingProxyType({})

    def __init__(self, context: Context) -> None:
        self._shared = context.shared
        self._stages = RootStages(context.shared, self.name, hide_v2=self._hides_v2())
        self._program = ""

    def capabilities(self) -> Capabilities:
        """Root, and the program."""
        return root_needed() if os.geteuid() else missing_program(self.name, self.package)

    def prepare(self, workload: Workload) -> OciPrepared:
        """Have the image, the root mounted, and the configuration's text."""
        with translated():
            image = self._shared.images.ensure(workload.image)
            stage = self._stages.of(tuple(image.layers))
            config = config_text(
                workload,
                image.layers,
                "rootfs" if workload.writes_root else stage.root,
                f"{self._shared.cgroup.path}/{NAME}",
            )
        self._program = self._program or self._installed()
        return OciPrepared(
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
            shared_paths=tuple(image.layers),
            layers=tuple(image.layers),
            config=config,
            before=stage.enter,
        )

    def _hides_v2(self) -> bool:
        return False

    def _installed(self) -> str:
        """The program's path."""
        found = shutil.which(self.name)
        if found is None:
            raise BackendError(f"{self.name}: is not installed any more")
        return found

    @property
    def _states(self) -> Path:
        """Where the runtime keeps the state of its containers."""
        return self._shared.state / f"{self.name}-states"

    def launch(self, prepared: Prepared, name: str) -> PeerInstance:
        """Write the bundle, call the runtime."""
        assert isinstance(prepared, OciPrepared)
        from runtime.spawn import Request

        work = prepared.workload
        folder = self._shared.state / name
        log = folder / "log.json"
        with translated(), contextlib.ExitStack() as undo:
            before = prepared.before
            make_folder(folder)
            undo.callback(shutil.rmtree, folder)
            if work.writes_root:
                before += own_root(folder, prepared.layers)
            (folder / "config.json").write_text(prepared.config.replace(NAME, name))
            marks = {"bundle": time.monotonic_ns()}
            pipes = Pipes(stdin=work.stdin)
            undo.callback(pipes.close)
            process = self._shared.spawner.spawn(
                Request(
                    argv=run_line(self._program, self._states, folder, name, log=log),
                    env={"PATH": os.environ.get("PATH", os.defpath)},
                    cwd=str(folder),
                    fds=pipes.child,
                    before=before,
                )
            )
            undo.pop_all()
        pipes.launched()
        layout = self._shared.cgroup.layout
        group = Group(layout, f"{self._shared.cgroup.path}/{name}")
        return PeerInstance(
            name,
            process,
            group,
            pipes,
            folders=(folder, self._states / name),
            marks=marks,
            failure=lambda status, err: logged(log),
        )

    def close(self) -> None:
        """Unmount, and remove the runtime's folder."""
        self._stages.close()
        shutil.rmtree(self._states, ignore_errors=True)


class CrunBackend(OciBackend):
    """crun, in C."""

    name = "crun"
    package = "crun"

    def _hides_v2(self) -> bool:
        """crun runs on v1 or v2, and refuses the hybrid of both: there it shall see v1 alone."""
        from runtime.cgroups import CgroupLayout

        return CgroupLayout.detect().kind == "hybrid"


class RuncBackend(OciBackend):
    """runc, in Go: Docker's."""

    name = "runc"
    package = "runc"


class LabOciBackend(OciBackend):
    """This repository's own."""

    name = "lab-oci"

    def capabilities(self) -> Capabilities:
        """Root."""
        return root_needed()

    def _installed(self) -> str:
        return install_lab_oci(self._shared.state / "lab-oci")


def install_lab_oci(path: Path) -> str:
    """Write the command, and say where."""
    from runtime.oci.install import install

    if not path.exists():
        with translated():
            install(path)
    return str(path)


def logged(log: Path) -> str:
    """The runtime's own words on why it failed; empty if the failure is the workload's."""
    try:
        lines = [json.loads(line) for line in log.read_text().splitlines()]
    except (OSError, ValueError):
        return ""
    return "; ".join(" ".join(str(one["msg"]).split()) for one in lines if one["level"] == "error")
