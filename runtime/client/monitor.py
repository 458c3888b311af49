"""The process that stays with a container: `python -m runtime.client.monitor DIRECTORY SYNC_FD`.

As containerd's shim and conmon do, it keeps what the container needs of a living process: the
other ends of its pipes or terminal, the network that belongs to it, the mount of its root, and its
exit status, which only a parent gets. The one that started it may end; a container does not
outlive its monitor unseen, since its lock is then free and the next to look kills what is left.

The root is an overlay in the monitor's own mount namespace: it never shows in the host's mount
table, and is gone with the last process that has it.

When the container runs, or cannot, one line of JSON goes to SYNC_FD.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
from dataclasses import replace
from pathlib import Path
from typing import Any

from runtime import syscalls
from runtime.client.errors import RuntimeFailed
from runtime.client.log import LogWriter
from runtime.client.network import attach, network_state
from runtime.client.ociruntime import OciRuntime
from runtime.client.record import Record, State, now
from runtime.engine.constants import CLONE_NEWNS, MS_PRIVATE, MS_REC
from runtime.engine.rootfs import overlay_step
from runtime.engine.steps import STEPS
from runtime.errors import ContainerError

__all__ = ["FRAME", "main"]

FRAME = struct.Struct("!cI")
"""Of the attach socket, both ways: a kind and a length, then that many bytes. `i` input, `e` its
end, `r` rows and columns as JSON; `o` output, `E` error output."""

_PR_SET_CHILD_SUBREAPER = 36  # include/uapi/linux/prctl.h
_CHUNK = 64 * 1024


class Monitor:
    """One container, from its start until everything it had is given back."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.what = record.description()
        self.runtime = OciRuntime(tuple(self.what["runtime"]), Path(self.what["runtime_root"]))
        self.state = State()
        self._stack = contextlib.ExitStack()
        self._selector = self._stack.enter_context(selectors.DefaultSelector())
        self._log = LogWriter(record.log)
        self._stack.callback(self._log.close)
        self._input = -1
        self._master = -1
        self._sources: dict[int, str] = {}
        self._watchers: dict[socket.socket, bytes] = {}

    def run(self, sync: int) -> None:
        """All of it. What stops the start is told through `sync` and in the state."""
        os.chdir("/")
        syscalls.prctl(_PR_SET_CHILD_SUBREAPER, 1)
        with self._stack:
            try:
                self._start()
            except ContainerError as error:
                failed = replace(self.state, status="exited", exit_code=127, error=str(error))
                self.record.write_state(replace(failed, finished_at=now()))
                _tell(sync, {"error": str(error)})
                return
            _tell(sync, {"pid": self.state.pid})
            self._watch()
        # The network is given back by now, and the lock is still held: who waits for the lock
        # finds everything done.
        self.record.write_state(self.state)

    def _start(self) -> None:
        network = self._stack.enter_context(attach(self.what["network"], self.what["root"]))
        self.state = replace(self.state, networks=network_state(network))
        config = self._configuration(network)
        bundle = self.record.bundle
        (bundle / "config.json").write_text(json.dumps(config))
        self._mount_root()
        listener = self._listen()
        container = self.record.id
        pid_file = self.record.directory / "pid"
        command = ["create", "--bundle", str(bundle), "--pid-file", str(pid_file)]
        if config["process"]["terminal"]:
            self._create_with_terminal(command, container)
        else:
            self._create_with_pipes(command, container)
        self._stack.callback(self._delete, container)
        pid = int(pid_file.read_text())
        pidfd = os.pidfd_open(pid)
        self._stack.callback(os.close, pidfd)
        self._selector.register(pidfd, selectors.EVENT_READ, self._ended)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self.runtime.call("start", container)
        self.state = replace(self.state, status="running", pid=pid, started_at=now())
        self.record.write_state(self.state)

    def _configuration(self, network: Any) -> dict[str, Any]:
        """The configuration, with the network's namespace and files in their places."""
        config: dict[str, Any] = self.what["config"]
        if network is not None and network.namespace is not None:
            for namespace in config["linux"]["namespaces"]:
                if namespace["type"] == "network":
                    namespace["path"] = str(network.namespace.path)
        texts = {"hostname": f"{config['hostname']}\n"}
        if network is not None:
            texts |= {"hosts": network.hosts, "resolv.conf": network.resolv_conf}
        for name, text in texts.items():
            path = self.record.directory / name
            path.write_text(text)
            path.chmod(0o644)
            config["mounts"].append(
                {
                    "destination": f"/etc/{name}",
                    "type": "bind",
                    "source": str(path),
                    "options": ["rbind", "rprivate"],
                }
            )
        return config

    def _mount_root(self) -> None:
        work = self.record.directory / "work"
        # A volatile overlay leaves a mark there, on which it is never mounted again
        # (overlayfs.rst, "Volatile mount"): what survives a crash of the host is not promised.
        shutil.rmtree(work)
        work.mkdir()
        overlay = (list(self.what["layers"]), str(self.record.upper), str(work))
        syscalls.unshare(CLONE_NEWNS)
        syscalls.mount(None, "/", None, MS_REC | MS_PRIVATE, None)
        name, *arguments = overlay_step(str(self.record.bundle / "rootfs"), overlay)
        try:
            STEPS[str(name)](*arguments)
        except OSError as error:
            raise ContainerError(
                f"cannot mount the overlay of {self.record.id[:12]}: {error.strerror}; its "
                "directory cannot lie on another overlay; dmesg has the kernel's reason"
            ) from error

    def _create(self, words: list[str], container: str, **streams: Any) -> None:
        """The runtime's `create`; the container's streams are the command's own, so what it says
        itself is taken from its log."""
        log = self.record.directory / "runtime.log"
        argv = self.runtime.argv(*words, container, log=log)
        status = subprocess.run(argv, check=False, **streams).returncode
        if status:
            said = log.read_text().splitlines() if log.exists() else []
            errors = [json.loads(line)["msg"] for line in said if '"error"' in line]
            raise RuntimeFailed("create", status, errors[-1] if errors else "it said nothing")

    def _create_with_pipes(self, words: list[str], container: str) -> None:
        ends: dict[str, int] = {}
        for stream in ("stdout", "stderr"):
            reader, ends[stream] = os.pipe2(os.O_CLOEXEC)
            self._source(reader, stream)
        ends["stdin"] = subprocess.DEVNULL
        if self.what["stdin_open"]:
            ends["stdin"], self._input = os.pipe2(os.O_CLOEXEC)
        try:
            self._create(words, container, **ends)
        finally:
            for fd in ends.values():
                if fd >= 0:
                    os.close(fd)

    def _create_with_terminal(self, words: list[str], container: str) -> None:
        path = self._short(self.record.directory / "console.sock")
        null = subprocess.DEVNULL
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen(1)
            words = [*words, "--console-socket", path]
            self._create(words, container, stdin=null, stdout=null, stderr=null)
            connection, _ = server.accept()
        with connection:
            _, (master, *_), _, _ = socket.recv_fds(connection, 4096, 1)
        Path(path).unlink()
        self._master = self._input = master
        self._source(master, "stdout")

    def _source(self, fd: int, stream: str) -> None:
        os.set_blocking(fd, False)
        self._sources[fd] = stream
        self._selector.register(fd, selectors.EVENT_READ, self._output)

    def _listen(self) -> socket.socket:
        listener = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(self._short(self.record.socket))
        listener.listen()
        return listener

    def _short(self, path: Path) -> str:
        """A way to a new socket that is short for all processes: its path has at most 107 bytes
        (unix(7))."""
        path.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
        self._stack.callback(os.close, folder)
        return f"/proc/{os.getpid()}/fd/{folder}/{path.name}"

    def _watch(self) -> None:
        """Until the container has ended and all it wrote has been taken."""
        while self.state.status == "running":
            for key, _ in self._selector.select():
                key.data(key.fileobj)
        for fd in list(self._sources):
            self._output(fd)
        for watcher in list(self._watchers):
            watcher.close()

    def _ended(self, pidfd: int) -> None:
        _, status = os.waitpid(self.state.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        self.state = replace(
            self.state,
            status="exited",
            exit_code=code if code >= 0 else 128 - code,
            oom_killed=self._oom_killed(),
            pid=0,
            finished_at=now(),
        )

    def _oom_killed(self) -> bool:
        from runtime.cgroups import Cgroup, CgroupLayout

        group = Cgroup.adopt(CgroupLayout.detect(), self.what["config"]["linux"]["cgroupsPath"])
        memory = group.usage().memory
        return bool(memory and memory.oom_kills)

    def _output(self, fd: int) -> None:
        while fd in self._sources:
            try:
                data = os.read(fd, _CHUNK)
            except BlockingIOError:
                return
            except OSError:
                data = b""  # EIO: nobody has the terminal open any more (pty(7))
            stream = self._sources[fd]
            if not data:
                self._selector.unregister(fd)
                del self._sources[fd]
                if fd != self._master:
                    os.close(fd)
                return
            self._log.write(stream, data)
            kind = b"o" if stream == "stdout" else b"E"
            for watcher in list(self._watchers):
                self._send(watcher, kind, data)

    def _send(self, watcher: socket.socket, kind: bytes, data: bytes) -> None:
        try:
            watcher.sendall(FRAME.pack(kind, len(data)) + data)
        except OSError:
            self._forget(watcher)

    def _accept(self, listener: socket.socket) -> None:
        watcher, _ = listener.accept()
        watcher.settimeout(5)  # one that does not read must not hold up the container
        self._watchers[watcher] = b""
        self._selector.register(watcher, selectors.EVENT_READ, self._take)

    def _take(self, watcher: socket.socket) -> None:
        try:
            data = watcher.recv(_CHUNK)
        except OSError:
            data = b""
        if not data:
            self._forget(watcher)
            return
        data = self._watchers[watcher] + data
        while len(data) >= FRAME.size:
            kind, length = FRAME.unpack_from(data)
            if len(data) < FRAME.size + length:
                break
            self._obey(kind, data[FRAME.size : FRAME.size + length])
            data = data[FRAME.size + length :]
        self._watchers[watcher] = data

    def _obey(self, kind: bytes, body: bytes) -> None:
        if kind == b"r" and self._master >= 0:
            rows, columns = json.loads(body)
            size = struct.pack("HHHH", rows, columns, 0, 0)
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)
        elif kind == b"i" and self._input >= 0:
            with contextlib.suppress(BrokenPipeError, OSError):  # it has closed its input
                os.write(self._input, body)
        elif kind == b"e" and self._input >= 0 and self._master < 0:
            os.close(self._input)
            self._input = -1

    def _forget(self, watcher: socket.socket) -> None:
        del self._watchers[watcher]
        self._selector.unregister(watcher)
        watcher.close()

    def _delete(self, container: str) -> None:
        self.runtime.call("delete", "--force", container)


def _tell(sync: int, message: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # who asked for it has gone meanwhile
        os.write(sync, json.dumps(message).encode() + b"\n")
    os.close(sync)


def main(directory: str, sync: int) -> None:
    """The whole life of this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    record = Record(Path(directory))
    with (record.directory / "monitor.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        monitor = Monitor(record)
        monitor.run(sync)
        if monitor.what["auto_remove"] and monitor.state.status == "exited":
            from runtime.client.record import Records

            Records(Path(monitor.what["root"])).remove(record)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
