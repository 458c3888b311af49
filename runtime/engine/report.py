"""What the parent hears of a launch: the receiving end of `runtime.engine.child`'s messages.

`begin` clones in this process, as the command line does. The API's `runtime.spawn.Process` reads
the same messages of children that the spawn helper has made.
"""

from __future__ import annotations

import os
from _socket import AF_UNIX, MSG_NOSIGNAL, SOCK_CLOEXEC, SOCK_SEQPACKET, socket, socketpair
from marshal import loads
from select import POLLIN, poll

from runtime.engine.launch import start

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.engine.plan import Plan
    from runtime.errors import SpawnError

__all__ = ["Report", "begin"]


class Report:
    """One launch. `receive` takes what comes, the attributes tell what came."""

    __slots__ = ("_socket", "failure", "marks", "meeting", "open", "pid", "plan", "stage")

    def __init__(self, plan: Plan | None, end: socket) -> None:
        self.plan = plan
        self._socket = end
        self.open = True
        """More can come. At the end without a failure, the program runs, or has run."""
        self.pid: int | None = None
        self.stage: int | None = None
        """A process between this one and the child, to be reaped (`reap_stage`)."""
        self.marks: dict[str, int] = {}
        self.meeting: str | None = None
        """Where the child waits now; `go` lets it go on."""
        self.failure: SpawnError | None = None

    def receive(self, timeout_ms: float | None = None) -> bool:
        """Take one message; False if none came in time."""
        poller = poll()
        poller.register(self._socket.fileno(), POLLIN)
        if not poller.poll(timeout_ms):
            return False
        message = self._socket.recv(1 << 16)
        kind, body = message[:1], message[1:]
        if kind == b"P":
            self.pid = loads(body)
        elif kind == b"S":
            self.stage = loads(body)
        elif kind == b"M":
            self.marks.update(loads(body))
        elif kind == b"H":
            self.meeting = loads(body)
        elif kind == b"E":
            from runtime.engine.describe import explain

            self.failure = explain(self.plan, *loads(body))
        elif kind == b"X":
            from runtime.engine.describe import explain

            number = int.from_bytes(body, "little")
            step = self.plan.steps[-1] if self.plan else ("execute", (), ("the program",), {})
            self.failure = explain(None, "inside", 0, number, None, step)
        else:
            self.close()
        return True

    def until(self, meeting: str | None) -> None:
        """Wait until the child has come to this meeting, or, for None, runs its program.

        Raises the failure if there is one: the child is then dead, and reaped here."""
        while self.open and (meeting is None or self.meeting != meeting or self.pid is None):
            self.receive()
        if self.failure is not None:
            self.reap()
            raise self.failure
        if meeting is not None and self.meeting != meeting:
            self.reap()
            from runtime.errors import SpawnError

            what = f"child of {self.plan.argv[0]!r}" if self.plan else "child"
            raise SpawnError(f"the {what} was killed in its set-up")

    def go(self) -> None:
        """Let the child go on from where it waits."""
        self.meeting = None
        self._socket.send(b"+", MSG_NOSIGNAL)

    def reap_stage(self) -> None:
        """Wait for the stage's end, if there was one: it has nothing to do after its clone."""
        if self.stage is not None:
            os.waitpid(self.stage, 0)
            self.stage = None

    def reap(self) -> None:
        """Wait for the end of a child that has failed."""
        self.reap_stage()
        if self.pid is not None:
            os.waitpid(self.pid, 0)

    def close(self) -> None:
        """Hang up: a child that waits, or comes to a meeting, ends. Idempotent."""
        if self.open:
            self._socket.close()
            self.open = False
        self.reap_stage()

    def detach(self) -> int:
        """The socket's descriptor, for another process to go on with."""
        self.open = False
        return self._socket.detach()


def begin(plan: Plan, fds: Sequence[int] = ()) -> Report:
    """Start a plan with a clone of this process, which must have a single thread. `fds` are the
    descriptors for the plan's numbers."""
    ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    try:
        start(plan.message(), theirs.fileno(), fds, private=ours.fileno())
    finally:
        theirs.close()
    return Report(plan, ours)
