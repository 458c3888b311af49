"""Doing something that may hang, crash, or change the process it is done in.

A probe unshares namespaces, gives up its rights and mounts file systems. So it does it in a forked
child with a process group and a deadline of its own: what belongs to the child (namespaces, the
mounts in them, open files) is gone with it, however it ends.

Linux kills the child when its parent dies (PR_SET_PDEATHSIG(2const)), and a child's child too.
Call from a process with one thread: only that one is in the child.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
from collections.abc import Callable
from typing import Any, NoReturn

from runtime.syscalls import PR_SET_PDEATHSIG, prctl

__all__ = ["Crashed", "OutOfTime", "call", "die_with_parent", "nested"]

_LONGEST = 32 * 1024
"""Bytes of an answer: less than a pipe holds, so that it is written and read in one go."""

_WORDS = 4096
"""Characters of an error that are kept."""


class OutOfTime(Exception):
    """The child did not answer before its deadline, and was killed."""


class Crashed(Exception):
    """The child ended without an answer."""


def call(work: Callable[[], Any], seconds: float) -> Any:
    """Return what `work` returns (JSON-ready), from a child that has `seconds` to do it.

    Raises OSError as the child raised it, `OutOfTime`, and `Crashed` for any other end. The child
    and its process group are dead and gone before this returns or raises."""
    pid, reader = _fork(work, group=True)
    try:
        return _answer(reader, seconds)
    finally:
        # Before the child is waited for: until then nobody else can have its group's number.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        os.close(reader)
        os.waitpid(pid, 0)


def nested(work: Callable[[], Any]) -> Any:
    """The same within a probe: the first child after unshare(2) is the one that is inside the new
    PID or time namespace. It shares the deadline of the probe."""
    pid, reader = _fork(work, group=False)
    try:
        return _answer(reader, None)
    finally:
        os.close(reader)
        os.waitpid(pid, 0)


def _fork(work: Callable[[], Any], *, group: bool) -> tuple[int, int]:
    parent = os.getpid()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _child(work, writer, parent, group=group)
    os.close(writer)
    if group:
        # Here and in the child: whoever comes second finds it done.
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(pid, pid)
    return pid, reader


def _child(work: Callable[[], Any], writer: int, parent: int, *, group: bool) -> NoReturn:
    try:
        if group:
            os.setpgid(0, 0)
            _quiet()
        die_with_parent()
        # It may have died before. In a new PID namespace it is outside, and its number is 0.
        if os.getppid() in (parent, 0):
            os.write(writer, json.dumps(_outcome(work)).encode())
    finally:
        # No handlers and buffers of the parent's: they are copies, and not ours to flush.
        os._exit(0)


def _quiet() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)


def die_with_parent() -> None:
    """Be killed when the parent ends. A change of uid undoes it: then say so again."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _outcome(work: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"value": work()}
    except OSError as error:
        return {"errno": error.errno, "words": error.strerror, "file": error.filename}
    except Exception as error:  # whatever it is, it is told by the one who asked
        return {"crash": str(error)[:_WORDS] or type(error).__name__}


def _answer(reader: int, seconds: float | None) -> Any:
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    if not poll.poll(None if seconds is None else seconds * 1000):
        raise OutOfTime(f"no answer within {seconds:g} s")
    try:
        answer: dict[str, Any] = json.loads(os.read(reader, _LONGEST))
    except ValueError:
        raise Crashed("the child died without an answer") from None
    if "crash" in answer:
        raise Crashed(answer["crash"])
    if "value" in answer:
        return answer["value"]
    number = answer["errno"] or errno.EIO
    raise OSError(number, answer["words"] or os.strerror(number), answer["file"])
