"""The backends `docker` and `docker-lab`: Docker Engine with runc, and with this repository's
runtime in its place.

    docker run --rm --network none …

Everything is what a user of Docker gets: the client, the daemon, containerd and its shim, then the
runtime; Docker's own root file system, default seccomp filter and capabilities. Only the whole run
can be measured, for the client hands no descriptor to the container.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from lab.backends.base import Capabilities, Prepared, Workload
from lab.backends.channel import Pipes
from lab.backends.context import Context
from lab.backends.peers.daemon import Daemon
from lab.backends.peers.instance import Group, PeerInstance, make_folder
from lab.backends.peers.oci import install_lab_oci
from lab.backends.peers.program import missing_program, version
from lab.backends.process import root_needed, translated

__all__ = ["DockerBackend", "DockerLabBackend", "docker_line"]

_PROGRAMS = {"docker": "docker.io", "dockerd": "docker.io", "containerd": "containerd"}

_MISSING = {
    "event_channel": "docker run hands no descriptor to the container",
    "private_root": "its blocks are in Docker's own store",
}


class DockerBackend:
    """With runc."""

    name = "docker"
    runtime = "runc"
    options: Mapping[str, tuple[str, ...]] = MappingProxyType({})

    def __init__(self, context: Context) -> None:
        self._shared = context.shared
        self._daemon = Daemon(context.shared, f"{self.name}-daemon", {})

    def capabilities(self) -> Capabilities:
        """Root, and the programs."""
        if os.geteuid():
            return root_needed()
        for program, package in _PROGRAMS.items():
            if not (can := missing_program(program, package)).available:
                return can
        return Capabilities(True, _MISSING)

    def prepare(self, workload: Workload) -> Prepared:
        """Have the daemon running, and the image in its store."""
        with translated():
            image = self._shared.images.ensure(workload.image)
            tree = self._shared.images.flatten(image)
        self._daemon.start()
        self._daemon.load(tree, _tag(image.digest))
        return Prepared(
            workload,
            image_digest=image.digest,
            factors={
                "kind": "container",
                "kernel": platform.release(),
                "disk": "overlay2",
                "root": "Docker's, after t0",
                "network": "own namespace",
                "program": f"{version('dockerd')}; {self._runtime_version()}",
            },
            shared_paths=tuple(image.layers),
        )

    def _runtime_version(self) -> str:
        return version("runc")

    def launch(self, prepared: Prepared, name: str) -> PeerInstance:
        """Call the client."""
        from runtime.spawn import Request

        folder = self._shared.state / name
        path = f"{self._shared.cgroup.path}/{name}"
        with translated(), contextlib.ExitStack() as undo:
            make_folder(folder)
            undo.callback(shutil.rmtree, folder)
            pipes = Pipes(stdin=prepared.workload.stdin)
            undo.callback(pipes.close)
            line = docker_line(
                prepared.workload,
                _tag(prepared.image_digest),
                runtime=self.runtime,
                name=f"{self._shared.run}-{name}",
                group=path,
            )
            process = self._shared.spawner.spawn(
                Request(
                    argv=(*self._daemon.client, *line),
                    env=self._daemon.environment,
                    cwd=str(folder),
                    fds=pipes.child,
                )
            )
            undo.pop_all()
        pipes.launched()
        group = Group(self._shared.cgroup.layout, path)
        return PeerInstance(name, process, group, pipes, folders=(folder,), marks={}, failure=_said)

    def close(self) -> None:
        """Stop the daemon."""
        self._daemon.close()


class DockerLabBackend(DockerBackend):
    """With this repository's runtime (`dockerd --add-runtime`)."""

    name = "docker-lab"
    runtime = "lab"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._program = str(context.shared.state / f"{self.name}-oci")
        self._daemon = Daemon(context.shared, f"{self.name}-daemon", {self.runtime: self._program})

    def prepare(self, workload: Workload) -> Prepared:
        """Have the runtime installed, too."""
        install_lab_oci(Path(self._program))
        return super().prepare(workload)

    def _runtime_version(self) -> str:
        return version(self._program)


def docker_line(
    work: Workload, image: str, *, runtime: str, name: str, group: str
) -> tuple[str, ...]:
    """``docker run``, in the foreground. `group` is the cgroup of this container alone, in which
    Docker makes another."""
    limits = work.limits
    line = ["run", "--rm", "--name", name, "--hostname", name[-63:], "--runtime", runtime]
    line += ["--network", "none", "--cgroup-parent", f"/{group}"]
    line += ["--memory", str(limits.memory), "--memory-swap", str(limits.memory)]
    line += ["--cpus", f"{limits.cpus:g}", "--pids-limit", str(limits.pids)]
    line += ["--security-opt", "no-new-privileges", "--workdir", work.cwd]
    line += ["--user", f"{work.uid}:{work.gid}", *(["--interactive"] if work.stdin else [])]
    for key, value in work.env.items():
        line += ["--env", f"{key}={value}"]
    return (*line, image, *work.argv)


def _tag(digest: str) -> str:
    return f"lab:{digest.removeprefix('sha256:')}"


def _said(status: int, err: bytes) -> str:
    """The last line of the client's own failures: 125 is always one, 126 and 127 may be the
    workload's (docker-run(1), "EXIT STATUS")."""
    lines = [one for one in err.decode(errors="replace").splitlines() if one.startswith("docker: ")]
    if status == 125 or (status in (126, 127) and lines):
        return lines[-1] if lines else f"docker run: status {status}"
    return ""
