"""One container of a client: what docker-py's `Container` can do."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.client import values
from runtime.client.attach import Attachment
from runtime.client.errors import ClientError, ContainerNotFound, RuntimeFailed
from runtime.client.log import read_log
from runtime.client.record import Record, State
from runtime.errors import NotRunning, StateError

if TYPE_CHECKING:
    from runtime.client.client import Client
    from runtime.images.image import Image

__all__ = ["Container", "ExecResult"]

_POLL_S = 0.02
_STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class ExecResult:
    """How a further process in a container ended."""

    exit_code: int
    """128+n after signal n."""
    output: bytes
    """Standard output and error, as they came; standard output alone with `demux`."""
    errors: bytes = b""
    """Standard error, with `demux`."""


class Container:
    """A handle: the container itself is its record and its monitor, and needs no client."""

    def __init__(self, client: Client, record: Record) -> None:
        self._client = client
        self.record = record
        self._what = record.description()

    def __repr__(self) -> str:
        return f"<Container {self.short_id} {self.name!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Container) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def id(self) -> str:
        """64 hexadecimal digits."""
        return self.record.id

    @property
    def short_id(self) -> str:
        """Its first 12 digits, which is its host name too."""
        return self.id[:12]

    @property
    def name(self) -> str:
        """Its name."""
        return str(self._what["name"])

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""
        return dict(self._what["labels"])

    @property
    def image(self) -> Image:
        """The image that it was made from."""
        return self._client.images.store.get(self._what["image_digest"])

    @property
    def state(self) -> State:
        """What became of it, read anew each time."""
        return self.record.state()

    @property
    def status(self) -> str:
        """`created`, `running`, `paused`, `exited` or `dead`."""
        status = self.state.status
        if status == "running":
            found = self._client.runtime.state(self.id)
            if found is not None and found["status"] == "paused":
                return "paused"
        return status

    @property
    def attrs(self) -> dict[str, Any]:
        """All that is recorded of it: the description, the OCI configuration, the state."""
        import dataclasses

        return {**self._what, "state": dataclasses.asdict(self.state), "status": self.status}

    # --- life ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it, and return when its program runs. One that has ended starts again on what it
        has written. Raises StateError if it runs, RuntimeFailed and the like if it cannot."""
        if self.state.status == "running":
            raise StateError(f"container {self.name} runs already")
        self._clean()
        reader, writer = os.pipe2(os.O_CLOEXEC)
        log = self.record.directory / "monitor.log"
        try:
            with log.open("ab") as errors:
                self._launch(writer, errors.fileno())
        finally:
            os.close(writer)
        with open(reader, "rb") as sync:
            line = sync.readline()
        if not line:
            said = log.read_text().strip().splitlines()[-1:] or ["it said nothing"]
            raise ClientError(f"the monitor of {self.name} ended at once: {said[0]}")
        answer = json.loads(line)
        if "error" in answer:
            raise ClientError(f"container {self.name} cannot be started: {answer['error']}")

    def _launch(self, sync: int, errors: int) -> None:
        """Start the monitor as a child of nobody: by a process in between, which ends at once, so
        that it is never a zombie of ours."""
        paths = os.pathsep.join(path for path in sys.path if path)
        command = [sys.executable, "-m", "runtime.client.monitor", str(self.record.directory)]
        between = (
            "import subprocess, sys; "
            "subprocess.Popen(sys.argv[2:], start_new_session=True, pass_fds=[int(sys.argv[1])])"
        )
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", between, str(sync), *command, str(sync)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            pass_fds=(sync,),
            env={**os.environ, "PYTHONPATH": paths},
            check=True,
        )

    def _clean(self) -> None:
        """Remove what a killed monitor has left running."""
        if self.state.status == "dead" and self._client.runtime.state(self.id) is not None:
            self._client.runtime.call("delete", "--force", self.id)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended and everything is given back; its exit status. Raises
        TimeoutError."""
        deadline = None if timeout is None else time.monotonic() + timeout
        lock = self.record.directory / "monitor.lock"
        try:
            with lock.open("r") as file:
                if not _locked(file.fileno(), deadline):
                    raise TimeoutError(f"container {self.name} still runs after {timeout:g} s")
                # Still open: also of one that has removed itself the state can be read.
                return self._last_state().exit_code
        except FileNotFoundError:
            return self.state.exit_code

    def _last_state(self) -> State:
        try:
            return self.state
        except ContainerNotFound:
            return State("exited")

    def kill(self, sig: int | str = signal.SIGKILL) -> None:
        """Send a signal to its PID 1. Raises NotRunning."""
        if self.state.status != "running":
            raise NotRunning(f"container {self.name} is not running: {self.state.status}")
        text = sig.upper() if isinstance(sig, str) else str(int(sig))
        self._client.runtime.call("kill", self.id, text)

    def stop(self, timeout: float = _STOP_S) -> None:
        """Ask it to end by its stop signal; kill it if it has not in `timeout` seconds."""
        if self.state.status != "running":
            return
        try:
            self.kill(self._what["stop_signal"])
            self.wait(timeout)
        except NotRunning:
            self.wait(timeout)
        except RuntimeFailed:
            if self.state.status == "running":
                raise
        except TimeoutError:
            self.kill(signal.SIGKILL)
            self.wait(_STOP_S)

    def restart(self, timeout: float = _STOP_S) -> None:
        """Stop and start."""
        self.stop(timeout)
        self.start()

    def pause(self) -> None:
        """Freeze it."""
        self._running()
        self._client.runtime.call("pause", self.id)

    def unpause(self) -> None:
        """Let it go on."""
        self._running()
        self._client.runtime.call("resume", self.id)

    def remove(self, *, force: bool = False, v: bool = False) -> None:
        """Remove it with what it has written; with `force` also if it runs, with `v` its volumes
        without a name too. Raises StateError."""
        if self.state.status == "running":
            if not force:
                raise StateError(
                    f"container {self.name} runs: stop it first, or remove it with force=True"
                )
            self.kill(signal.SIGKILL)
            self.wait(_STOP_S)
        self._clean()
        self._client.records.remove(self.record)
        if v:
            for name in self._what["anonymous_volumes"]:
                self._client.volumes.get(name).remove()

    # --- looking -------------------------------------------------------------------------------

    def logs(
        self,
        *,
        stdout: bool = True,
        stderr: bool = True,
        stream: bool = False,
        follow: bool | None = None,
        tail: int | str = "all",
        timestamps: bool = False,
    ) -> bytes | Iterator[bytes]:
        """What it has written, as bytes; with `stream`, pieces as they come, until it ends."""
        streams = [name for name, on in (("stdout", stdout), ("stderr", stderr)) if on]
        follow = stream if follow is None else follow
        entries = read_log(
            self.record.log,
            streams=streams,
            tail=None if tail == "all" else int(tail),
            timestamps=timestamps,
            more=self._more if follow else None,
        )
        pieces = (data for _, data in entries)
        return pieces if stream else b"".join(pieces)

    def _more(self) -> bool:
        """Wait a little for more output; False once there will be none."""
        alive = self.record.monitored()
        if alive:
            time.sleep(_POLL_S)
        return alive

    def top(self) -> list[dict[str, Any]]:
        """Its processes, as the host sees them: pid, user id, command."""
        found = []
        for pid in self._client.runtime.processes(self.id):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                uid = Path(f"/proc/{pid}").stat().st_uid
            except FileNotFoundError:
                continue
            command = " ".join(os.fsdecode(word) for word in words).strip()
            found.append({"pid": pid, "uid": uid, "command": command})
        return found

    def stats(self) -> dict[str, Any]:
        """What it uses now, in the form of Docker Engine's ``/containers/ID/stats``."""
        from runtime.cgroups import Cgroup, CgroupLayout
        from runtime.cgroups.stats import engine_document, system_cpu_ns

        self._running()
        group = Cgroup.adopt(CgroupLayout.detect(), self._what["config"]["linux"]["cgroupsPath"])
        return engine_document(group.usage(), system_cpu_ns(), os.cpu_count() or 1)

    def diff(self) -> list[dict[str, Any]]:
        """What it has changed of its image: ``{"Path": …, "Kind": 0, 1 or 2}`` for changed, added,
        deleted, as docker-py has it."""
        kinds = {"C": 0, "A": 1, "D": 2}
        changes = self._client.images.store.diff(self.record.upper, self.image)
        return [{"Path": one.path, "Kind": kinds[one.kind]} for one in changes]

    # --- doing ---------------------------------------------------------------------------------

    def exec_run(
        self,
        cmd: str | Sequence[str],
        *,
        environment: Mapping[str, Any] | Sequence[str] | None = None,
        workdir: str | None = None,
        user: str | int | None = None,
        input: bytes = b"",
        demux: bool = False,
        detach: bool = False,
    ) -> ExecResult:
        """Run a further process in it, to its end. With `detach`, only start it: status 0 and no
        output. Raises NotRunning."""
        self._running()
        words = self._exec_words(cmd, environment, workdir, user, detach)
        errors = subprocess.PIPE if demux else subprocess.STDOUT
        if detach:
            self._client.runtime.call(*words)
            return ExecResult(0, b"")
        done = subprocess.run(
            self._client.runtime.argv(*words),
            input=input,
            stdout=subprocess.PIPE,
            stderr=errors,
            check=False,
        )
        return ExecResult(done.returncode, done.stdout, done.stderr or b"")

    def _exec_words(
        self,
        cmd: str | Sequence[str],
        environment: Mapping[str, Any] | Sequence[str] | None,
        workdir: str | None,
        user: str | int | None,
        detach: bool,
    ) -> list[str]:
        words = ["exec"]
        for name, text in values.environment(environment).items():
            words += ["--env", f"{name}={text}"]
        if workdir is not None:
            words += ["--cwd", workdir]
        if user is not None:
            found = self._client.containers.find_user(self.image, str(user))
            words += ["--user", f"{found.uid}:{found.gid}"]
        if detach:
            words.append("--detach")
        return [*words, self.id, *(values.words("cmd", cmd) or ())]

    def attach(self) -> Attachment:
        """Its output from now on, its input and its terminal's size; a context."""
        self._running()
        return Attachment(self.record)

    def update(self, **limits: Any) -> None:
        """Change limits while it runs: the keywords of `run` for memory, CPU and pids."""
        from runtime.client.options import RunOptions

        self._running()
        resources = RunOptions.parse(limits).resources()
        self._client.runtime.call(
            "update", "--resources", "-", self.id, input=json.dumps(resources)
        )

    def commit(
        self,
        repository: str,
        tag: str | None = None,
        *,
        message: str = "",
        author: str = "",
        changes: Mapping[str, Any] | None = None,
    ) -> Image:
        """An image of it: its own image, and a layer with nothing but what it has changed. It is
        frozen meanwhile."""
        frozen = self.status == "running"
        if frozen:
            self.pause()
        try:
            return self._client.images.store.commit(
                self.record.upper,
                self.image,
                f"{repository}:{tag}" if tag else repository,
                config=changes,
                author=author,
                message=message,
                created_by=" ".join(self._what["config"]["process"]["args"]),
            )
        finally:
            if frozen:
                self.unpause()

    def _running(self) -> None:
        if (status := self.state.status) != "running":
            raise NotRunning(f"container {self.name} is not running: {status}")


def _locked(fd: int, deadline: float | None) -> bool:
    """Wait for the monitor's lock. flock(2) has no deadline, so with one a child of ours waits."""
    if deadline is None:
        fcntl.flock(fd, fcntl.LOCK_SH)
        return True
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            select.select([], [], [], min(_POLL_S, left))
        else:
            return True
