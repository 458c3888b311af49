"""The host's ends of a workload's pipes: real pipes, no process."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.backends.channel import KEPT, Pipes
from lab.errors import BackendError


class Child:
    """The ends that a child would have."""

    def __init__(self, pipes: Pipes) -> None:
        self.fds = {number: os.dup(fd) for number, fd in pipes.child.items()}
        pipes.launched()

    def write(self, number: int, data: bytes) -> None:
        os.write(self.fds[number], data)

    def end(self, *numbers: int) -> None:
        for number in numbers or tuple(self.fds):
            os.close(self.fds.pop(number))


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    before = sorted(Path("/proc/self/fd").iterdir())
    made = Pipes(stdin=True)
    yield made
    made.close()
    made.close()
    assert sorted(Path("/proc/self/fd").iterdir()) == before


@pytest.fixture
def child(pipes: Pipes) -> Iterator[Child]:
    child = Child(pipes)
    yield child
    child.end()


def readable(pipes: Pipes) -> bool:
    return bool(select.select([pipes], [], [], 0)[0])


def test_events_come_in_order_and_then_their_end(pipes: Pipes, child: Child) -> None:
    assert not readable(pipes)
    assert pipes.read() == b""
    child.write(3, b"r")
    child.write(3, b"w")
    assert readable(pipes)
    assert pipes.read() == b"rw"
    child.end(3)
    assert readable(pipes)
    assert pipes.read() is None
    assert pipes.read() is None
    assert not readable(pipes)


def test_output_is_drained_while_events_are_read_and_its_end_kept(
    pipes: Pipes, child: Child
) -> None:
    for letter in b"abcdefgh":
        child.write(1, bytes([letter]) * 40000)
        assert pipes.read() == b""
    child.write(2, b"error")
    out, errors = pipes.output()
    assert len(out) == KEPT
    assert out == (b"f" * 40000 + b"g" * 40000 + b"h" * 40000)[-KEPT:]
    assert errors == b"error"


def test_looking_at_the_output_loses_no_event_and_no_wake_up(pipes: Pipes, child: Child) -> None:
    child.write(3, b"r")
    child.write(1, b"out")
    pipes.pump()
    assert pipes.output() == (b"out", b"")
    assert readable(pipes)
    assert pipes.read() == b"r"


def test_output_stays_after_the_pipes_are_closed(pipes: Pipes, child: Child) -> None:
    child.write(1, b"last words")
    pipes.read()
    pipes.close()
    assert pipes.output() == (b"last words", b"")


def test_input_arrives(pipes: Pipes, child: Child) -> None:
    pipes.write(b"go\n")
    assert os.read(child.fds[0], 10) == b"go\n"


def test_input_that_nobody_reads_is_an_error_not_a_hang(
    pipes: Pipes, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.backends.channel._PATIENCE_S", 0.01)
    with pytest.raises(BackendError, match="of 1000000 bytes of input unread"):
        pipes.write(b"x" * 1000000)


def test_input_to_one_that_has_closed_it_or_never_had_it(pipes: Pipes, child: Child) -> None:
    child.end(0)
    with pytest.raises(BackendError, match="closed its standard input"):
        pipes.write(b"x")
    without = Pipes(stdin=False, outputs=False)
    assert list(without.child) == [3]
    with pytest.raises(BackendError, match="no standard input"):
        without.write(b"x")
    without.close()
