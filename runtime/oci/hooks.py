"""Hooks: programs of others that run at six points of a container's life (config.md, "Hooks").

A hook gets the container's state as JSON on standard input. Its output is kept and shown if it
fails. It runs in a process group of its own, which is killed as a whole when its time is over.
"""

from __future__ import annotations

import os
import time
from _signal import SIGKILL, SIGPIPE, SIGXFSZ  # type: ignore[import-not-found]  # no Python half
from select import POLLIN, poll

from runtime.errors import HookFailed
from runtime.oci.lightjson import dumps

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from typing import Any

__all__ = ["run_hooks"]

_TAIL = 2000
"""Bytes of a failed hook's output that go into the message."""


def run_hooks(kind: str, hooks: list[dict[str, Any]], state: dict[str, Any]) -> None:
    """Run the hooks of one kind in their order, in the namespaces of this process.

    Raises HookFailed at the first that fails; those behind it are not run."""
    if not hooks:
        return
    text = dumps(state).encode()
    for number, hook in enumerate(hooks):
        failure = _run(hook, text)
        if failure:
            raise HookFailed(f"{kind} hook #{number} {hook['path']}: {failure}")


def _run(hook: dict[str, Any], state: bytes) -> str:
    """Run one hook; why it failed, or nothing."""
    stdin = os.memfd_create("state")  # not a pipe: a hook need not read what it is given
    output = os.memfd_create("output")
    try:
        os.write(stdin, state)
        os.lseek(stdin, 0, os.SEEK_SET)
        variables = hook.get("env")
        pid = os.posix_spawn(
            hook["path"],
            hook.get("args") or [hook["path"]],
            os.environ if variables is None else _environment(variables),
            file_actions=[(os.POSIX_SPAWN_DUP2, stdin, 0)]
            + [(os.POSIX_SPAWN_DUP2, output, fd) for fd in (1, 2)],
            setpgroup=0,
            setsigdef=[SIGPIPE, SIGXFSZ],  # Python ignores these two, and an exec keeps that
        )
        failure = _wait(pid, hook.get("timeout"))
        if failure:
            size = os.fstat(output).st_size
            said = os.pread(output, _TAIL, max(0, size - _TAIL)).decode(errors="replace").strip()
            failure += f"; it said: {said}" if said else "; it said nothing"
        return failure
    except OSError as error:
        return f"cannot be run: {error.strerror}"
    finally:
        os.close(stdin)
        os.close(output)


def _environment(variables: list[str]) -> dict[str, str]:
    return dict(variable.partition("=")[::2] for variable in variables)


def _wait(pid: int, timeout: int | None) -> str:
    pidfd = os.pidfd_open(pid)
    try:
        poller = poll()
        poller.register(pidfd, POLLIN)
        deadline = time.monotonic() + (timeout or 0)
        over = False
        while not poller.poll(None if timeout is None else _left(deadline)):
            over = time.monotonic() >= deadline
            if over:
                os.killpg(pid, SIGKILL)
                break
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(pidfd)
    if over:
        return f"timed out after {timeout} s and was killed"
    if code < 0:
        return f"was killed by signal {-code}"
    return f"exit status {code}" if code else ""


def _left(deadline: float) -> float:
    """Milliseconds until then; poll(2) takes a negative number for ever."""
    return max(0.0, deadline - time.monotonic()) * 1000
