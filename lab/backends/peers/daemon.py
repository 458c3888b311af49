"""A dockerd of the lab's own: beside one that the host may have, and gone after the run.

It lives in a mount namespace with a /run of its own, so that its mounts, its containerd's sockets
and its state show nowhere and go with its processes; those are in a cgroup of the run. Only its
data and its socket are on the host's disk, in the run's folder. So `lab gc` finds all that a killed
lab leaves of it.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lab.backends.process import translated
from lab.errors import BackendError

if TYPE_CHECKING:
    from lab.backends.context import Shared
    from runtime.spawn import Process

__all__ = ["Daemon", "daemon_line"]

_START_S = 60.0
_STOP_S = 30.0
_LONGEST_SOCKET = 107
"""Bytes of a socket's path (unix(7))."""


def daemon_line(folder: Path, runtimes: Mapping[str, str]) -> tuple[str, ...]:
    """The command line: no network of its own, nothing of the host's configuration."""
    line = ["dockerd", "--host", f"unix://{folder}/socket", "--config-file", f"{folder}/config"]
    line += ["--data-root", f"{folder}/data", "--exec-root", "/run/docker"]
    line += ["--pidfile", "/run/docker.pid", "--storage-driver", "overlay2"]
    line += ["--exec-opt", "native.cgroupdriver=cgroupfs", "--bridge", "none"]
    line += ["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]
    for name, path in runtimes.items():
        line += ["--add-runtime", f"{name}={path}"]
    return tuple(line)


class Daemon:
    """Started by `start`, ended by `close`."""

    def __init__(self, shared: Shared, name: str, runtimes: Mapping[str, str]) -> None:
        self._shared = shared
        self._name = name
        self._runtimes = runtimes
        self._folder = shared.state / name
        self._process: Process | None = None
        self._stack = contextlib.ExitStack()
        self._images: set[str] = set()

    @property
    def client(self) -> tuple[str, ...]:
        """How its client is called."""
        return ("docker", "--host", f"unix://{self._folder}/socket")

    @property
    def environment(self) -> dict[str, str]:
        """The client's: no configuration of a user's."""
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self._folder)}

    def start(self) -> None:
        """Start it and wait until it says that it is ready (sd_notify(3)). Raises `BackendError`
        with the end of its log."""
        if self._process is not None:
            return
        if len(os.fsencode(self._folder / "socket")) > _LONGEST_SOCKET:
            raise BackendError(
                f"{self._folder}/socket: longer than the {_LONGEST_SOCKET} bytes that a socket's "
                "path may have: choose a shorter LAB_CACHE_DIR"
            )
        self._folder.mkdir()
        (self._folder / "config").write_text("{}")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
            notified.bind(str(self._folder / "notify"))
            with translated(), (self._folder / "log").open("wb") as log:
                self._spawn(log.fileno())
            self._await(notified)

    def _spawn(self, log: int) -> None:
        from runtime.engine.constants import CLONE_NEWNS, MS_NODEV, MS_NOSUID, MS_PRIVATE, MS_REC
        from runtime.spawn import Request

        cgroup = self._shared.cgroup.child(self._name)
        self._stack.callback(cgroup.remove)
        self._stack.callback(cgroup.kill)  # shims outlive a daemon that was killed
        self._process = self._shared.spawner.spawn(
            Request(
                argv=daemon_line(self._folder, self._runtimes),
                env={**self.environment, "NOTIFY_SOCKET": f"{self._folder}/notify"},
                fds={1: log, 2: log},
                cgroup=cgroup,
                before=(
                    ("unshare", CLONE_NEWNS),
                    ("mount", None, "/", None, MS_REC | MS_PRIVATE, None),
                    ("mount", "tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755"),
                ),
            )
        )
        self._stack.callback(self._end)
        self._process.started()

    def _await(self, notified: socket.socket) -> None:
        assert self._process is not None
        watched = select.poll()
        watched.register(notified, select.POLLIN)
        watched.register(self._process, select.POLLIN)
        ready = [fd for fd, _ in watched.poll(_START_S * 1000)]
        if self._process.fileno() in ready:
            raise self._failed(f"ended with status {self._process.wait()}")
        if not ready or b"READY=1" not in notified.recv(4096):
            raise self._failed(f"was not ready after {_START_S:g} s")

    def _failed(self, what: str) -> BackendError:
        log = (self._folder / "log").read_text(errors="replace")
        last = (log.strip().splitlines() or ["nothing"])[-1]
        return BackendError(
            f"dockerd {what}; its last words: {last}",
            argv=daemon_line(self._folder, self._runtimes),
            log_tail=log,
        )

    def call(self, *line: str, stdin: int = subprocess.DEVNULL) -> str:
        """One command of its client, untimed. Raises `BackendError`."""
        command = (*self.client, *line)
        done = subprocess.run(
            command,
            stdin=stdin,
            capture_output=True,
            text=True,
            check=False,
            env=self.environment,
        )
        if done.returncode:
            words = f"docker {line[0]}: status {done.returncode}: {done.stderr.strip()}"
            raise BackendError(words, argv=command, log_tail=done.stderr)
        return done.stdout

    def load(self, tree: Path, name: str) -> None:
        """Have this file system as an image of this name."""
        if name in self._images:
            return
        command = ["tar", "--numeric-owner", "--xattrs", "-C", str(tree), "-c", "."]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as packed:
            assert packed.stdout is not None and packed.stderr is not None
            self.call("import", "-", name, stdin=packed.stdout.fileno())
            if packed.wait():
                raise BackendError(f"{tree}: cannot be packed: {packed.stderr.read()!r}")
        self._images.add(name)

    def _end(self) -> None:
        process, self._process = self._process, None
        assert process is not None
        process.kill(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_S)
        process.close()

    def close(self) -> None:
        """Stop it, its shims and its containers."""
        with translated():
            self._stack.close()
        if self._folder.exists():
            shutil.rmtree(self._folder)
