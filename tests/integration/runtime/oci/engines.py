"""The real Docker Engine and Podman, with directories, sockets and cgroups of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["Docker", "Engine", "Podman", "cgroup_roots", "missing"]

_START = 60.0
_CALL = 120.0


def missing(*commands: str) -> str:
    """The commands that this host lacks, as the reason of a skip."""
    absent = [command for command in commands if shutil.which(command) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


class Engine:
    """What the tests need of an engine: its command line, and what it calls things."""

    name = ""
    image = "lab-test"

    def __init__(
        self, folder: Path, command: list[str], run_options: list[str], group: str
    ) -> None:
        self.folder = folder
        """Where all is that belongs to it."""
        self.command = command
        self.run_options = [*run_options, "--cgroup-parent", f"/{group}"]
        self.group = group
        """The cgroup that all containers are in."""

    def __call__(
        self, *line: str, check: bool = True, timeout: float = _CALL, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        """One command line of the engine."""
        done = subprocess.run(
            [*self.command, *line],
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=self.folder,  # conmon 2.1 leaves a file named "oom" where it is started
            **more,
        )
        if check:
            assert done.returncode == 0, f"{line}: {done.returncode}: {done.stderr or done.stdout}"
        return done

    def run(self, *line: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`run --rm`: options, then "--", then the command in the container."""
        return self(*self.run_line("--rm", *line), check=check)

    def run_line(self, *line: str) -> list[str]:
        at = line.index("--")
        return ["run", *self.run_options, *line[:at], self.image, *line[at + 1 :]]

    @contextmanager
    def running(self, *line: str) -> Iterator[str]:
        """A container in the background, removed at the end; its id."""
        container = self(*self.run_line("--detach", *line)).stdout.strip()
        try:
            yield container
        finally:
            self("rm", "--force", container)

    def inspect(self, container: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("inspect", container).stdout)[0]
        return found

    def import_image(self, rootfs: Path) -> None:
        archive = subprocess.run(
            ["tar", "-C", str(rootfs), "-c", "."], check=True, capture_output=True
        ).stdout
        subprocess.run(
            [*self.command, "import", "-", self.image], check=True, input=archive, timeout=_CALL
        )

    def cgroups(self) -> list[str]:
        """Directories of containers that are left in any hierarchy."""
        left = []
        for root in cgroup_roots():
            path = Path(root, self.group)
            if path.is_dir():
                left += [
                    str(one) for one in path.iterdir() if one.is_dir() and one.name != "conmon"
                ]
        return [path for path in left if not path.endswith("/conmon")]  # that is Podman's own

    def remove_cgroups(self) -> None:
        for root in cgroup_roots():
            path = Path(root, self.group)
            if path.is_dir():
                for one in [*path.iterdir(), path]:
                    if one.is_dir():
                        one.rmdir()


def cgroup_roots() -> list[str]:
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [line[1] for line in lines if line[2] in {"cgroup", "cgroup2"}]


class Docker(Engine):
    """A dockerd of our own, and Debian's client for it. Used as a context."""

    name = "docker"

    def __init__(self, runtimes: dict[str, str], runtime: str) -> None:
        # Short: containerd's socket below it may have 107 bytes (unix(7)). On a disk: overlay2.
        folder = Path(tempfile.mkdtemp(prefix="lab-docker-", dir="/var/tmp"))
        host = f"unix://{folder}/docker.sock"
        options = ["--runtime", runtime, "--network", "none"]
        super().__init__(folder, ["/usr/bin/docker", "--host", host], options, folder.name)
        (self.folder / "daemon.json").write_text("{}")
        command = ["dockerd", "--host", host, "--config-file", f"{self.folder}/daemon.json"]
        command += ["--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec"]
        command += ["--pidfile", f"{self.folder}/pid", "--bridge", "none", "--iptables=false"]
        command += ["--ip6tables=false"]
        for name, path in runtimes.items():
            command += ["--add-runtime", f"{name}={path}"]
        self._log: list[str] = []
        self._ready = threading.Event()
        self._daemon = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder)},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._daemon.stderr is not None
        for line in self._daemon.stderr:
            self._log.append(line)
            if "API listen on" in line:
                self._ready.set()
        self._ready.set()

    def __enter__(self) -> Docker:
        if not self._ready.wait(_START) or self._daemon.poll() is not None:
            self.__exit__()
            raise AssertionError(f"dockerd did not start:\n{''.join(self._log[-20:])}")
        return self

    def __exit__(self, *_: object) -> None:
        if self._daemon.poll() is None:
            for container in self("ps", "--all", "--quiet", check=False).stdout.split():
                self("rm", "--force", container, check=False)
            self._daemon.terminate()
        try:
            self._daemon.wait(_START)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            self._daemon.wait()
        self._reader.join(5)
        if self._daemon.stderr is not None:
            self._daemon.stderr.close()
        self.remove_cgroups()
        _remove(self.folder)


class Podman(Engine):
    """Podman with storage of its own. Used as a context."""

    name = "podman"

    def __init__(self, runtime: str) -> None:
        folder = Path(tempfile.mkdtemp(prefix="lab-podman-", dir="/var/tmp"))
        command = ["podman", "--root", f"{folder}/root", "--runroot", f"{folder}/run"]
        command += ["--tmpdir", f"{folder}/tmp", "--cgroup-manager", "cgroupfs"]
        command += ["--storage-driver", "overlay", "--events-backend", "file"]
        command += ["--runtime", runtime]
        # Podman's defaults raise limits, for which a host may have no rights.
        options = ["--network", "none", "--ulimit", "nofile=1024:1024"]
        options += ["--ulimit", "nproc=4096:4096"]
        super().__init__(folder, command, options, folder.name)

    def __enter__(self) -> Podman:
        return self

    def __exit__(self, *_: object) -> None:
        self("rm", "--all", "--force", "--time", "0", check=False)
        self.remove_cgroups()
        _remove(self.folder)


def _remove(folder: Path) -> None:
    """The folder, and what is still mounted in it."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for path in sorted(mounts, key=len, reverse=True):
        if path.startswith(f"{folder}/"):
            subprocess.run(["umount", "--lazy", path], check=False)
    deadline = time.monotonic() + 10
    while True:  # a shim of a container just removed may still write its last file
        try:
            shutil.rmtree(folder)
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
