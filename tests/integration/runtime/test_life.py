"""PID 1, terminals, a start that waits, an end for many at once."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from runtime import Cgroup, Container, ContainerSpec, ExecFailed, Spawner, SpawnError
from runtime.terminal import Terminal
from tests.integration.runtime.conftest import Run

pytestmark = pytest.mark.root

MakeSpec = Callable[..., ContainerSpec]


def until(terminal: Terminal, word: bytes) -> bytes:
    """Read on until the word has come, under a deadline that only ends a hang."""
    seen = b""
    deadline = time.monotonic() + 30
    while word not in seen:
        ready, _, _ = select.select([terminal], [], [], deadline - time.monotonic())
        assert ready, f"no {word!r} in {seen!r}"
        got = terminal.read()
        assert got, f"the end came before {word!r}: {seen!r}"
        seen += got
    return seen


def test_the_init_reaps_orphans_and_ends_with_the_program(run: Run) -> None:
    orphans = "for i in 1 2 3; do (sh -c 'exit 3' & ) ; done; cat /proc/1/comm;"
    wait = "while ps -o stat | grep -q Z; do :; done; echo clean; exit 5"
    result = run(orphans + wait, init=True)
    assert result.out.split() == ["init", "clean"]
    assert result.status == 5
    assert run("kill -9 $$", init=True).status == 128 + 9


def zombies(container: Container) -> list[str]:
    """Children of its PID 1 that have ended and that nobody has waited for."""
    pids = Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text().split()
    files = [(pid, Path(f"/proc/{pid}/status")) for pid in pids]
    found = []
    for pid, file in files:
        with suppress(FileNotFoundError, ProcessLookupError):  # waited for just now
            if "State:\tZ" in file.read_text():
                found.append(pid)
    return found


def test_without_init_the_workload_is_pid_1_and_orphans_stay_zombies(
    run: Run, spawner: Spawner, group: Cgroup, make_spec: MakeSpec
) -> None:
    assert run("echo $$").out == "1\n"
    script = "(sh -c 'sleep 0.2' & ); exec sleep 1000"
    with Container.launch(make_spec("/bin/sh", "-c", script), spawner, parent=group) as container:
        deadline = time.monotonic() + 30
        while not zombies(container):
            assert time.monotonic() < deadline
        assert container.process.poll() is None


def test_the_init_passes_signals_on(spawner: Spawner, group: Cgroup, make_spec: MakeSpec) -> None:
    read, write = os.pipe()
    script = "trap 'echo got >&3; exit 7' USR1; echo ready >&3; while :; do sleep 1000 & wait; done"
    spec = make_spec("/bin/sh", "-c", script, fds={3: write}, init=True)
    with Container.launch(spec, spawner, parent=group) as container, os.fdopen(read) as lines:
        os.close(write)
        assert lines.readline() == "ready\n"
        container.kill(signal.SIGUSR1)
        assert container.wait(30) == 7
        assert lines.read() == "got\n"


def test_the_init_is_small(spawner: Spawner, group: Cgroup, make_spec: MakeSpec) -> None:
    spec = make_spec("/bin/sleep", "1000", init=True)
    with Container.launch(spec, spawner, parent=group) as container:
        container.process.started()
        text = Path(f"/proc/{container.pid}/smaps_rollup").read_text()
        own = dict(line.split()[:2] for line in text.splitlines()[1:])["Anonymous:"]
        assert int(own) < 200  # kB, the program itself is shared; a Python has 7000


def test_the_init_cannot_be_written_to_through_proc(run: Run) -> None:
    result = run("echo x > /proc/1/exe", init=True)
    assert result.status != 0


def test_a_missing_program_is_said_with_an_init_too(
    spawner: Spawner, group: Cgroup, make_spec: MakeSpec
) -> None:
    spec = make_spec("no-such", init=True)
    with (
        Container.launch(spec, spawner, parent=group) as container,
        pytest.raises(ExecFailed, match=r"find the program no-such.*ENOENT"),
    ):
        container.process.started()


@pytest.mark.parametrize("init", [False, True])
def test_a_terminal_with_size_echo_keys_and_hang_up(
    spawner: Spawner, group: Cgroup, make_spec: MakeSpec, init: bool
) -> None:
    spec = make_spec("/bin/sh", "-i", terminal=(24, 80), init=init)
    with Container.launch(spec, spawner, parent=group) as container:
        terminal = container.terminal
        assert terminal is not None
        terminal.write(b"tty; stty size; ls -l /dev/console | cut -c1; echo EN''D\n")
        out = until(terminal, b"END").decode().replace("\r", "").splitlines()
        assert "/dev/pts/0" in out
        assert "24 80" in out
        assert "c" in out
        terminal.resize(50, 100)
        terminal.write(b"stty size; cat\n")
        until(terminal, b"50 100")
        terminal.write(b"typed\n")
        until(terminal, b"typed\r\ntyped\r\n")  # the echo, and the cat's
        terminal.write(b"\x03")  # Ctrl-C: the line discipline sends SIGINT to the foreground
        until(terminal, b"# ")
        terminal.write(b"echo status $?\n")
        until(terminal, b"status 130")
        terminal.write(b"exit 3\n")
        assert container.wait(30) == 3


def test_the_terminals_end_is_the_sessions(
    spawner: Spawner, group: Cgroup, make_spec: MakeSpec
) -> None:
    script = "trap 'exit 9' HUP; echo ready; while :; do sleep 1000 & wait; done"
    spec = make_spec("/bin/sh", "-c", script, terminal=(24, 80))
    with Container.launch(spec, spawner, parent=group) as container:
        assert container.terminal is not None
        until(container.terminal, b"ready")
        container.terminal.close()
        assert container.wait(30) == 9


def test_a_terminal_for_an_exec(spawner: Spawner, group: Cgroup, make_spec: MakeSpec) -> None:
    with Container.launch(make_spec("/bin/sleep", "1000"), spawner, parent=group) as container:
        container.process.started()
        process, terminal = container.exec(
            ("sh", "-c", "tty; stty size; id -u; echo EN''D"), terminal=(7, 9), uid=5
        )
        assert terminal is not None
        with process:
            out = until(terminal, b"END").decode().split()
            assert process.wait(30) == 0
            assert out == ["/dev/pts/0", "7", "9", "5", "END"]
        terminal.close()


def test_a_start_that_waits(spawner: Spawner, group: Cgroup, make_spec: MakeSpec) -> None:
    read, write = os.pipe()
    spec = make_spec("/bin/sh", "-c", "echo $$ >&3", fds={3: write})
    with Container.launch(spec, spawner, parent=group, start=False) as container:
        os.close(write)
        container.process.meet("start")
        assert container.process.poll() is None
        assert list(Path(f"/proc/{container.pid}/root/proc/sys").iterdir())
        assert not select.select([read], [], [], 0)[0]
        container.start()
        with os.fdopen(read) as lines:
            assert lines.read() == "1\n"
        assert container.wait(30) == 0
        with pytest.raises(SpawnError):
            container.start()


def test_one_that_waits_for_its_start_can_be_given_up(
    spawner: Spawner, group: Cgroup, make_spec: MakeSpec
) -> None:
    spec = make_spec("/bin/sleep", "1000")
    container = Container.launch(spec, spawner, parent=group, start=False)
    container.process.meet("start")
    pid = container.pid
    container.stop()
    assert not Path(f"/proc/{pid}").exists()
    assert not spec.state_dir.exists()


def test_a_missing_program_is_said_before_the_start(
    spawner: Spawner, group: Cgroup, make_spec: MakeSpec
) -> None:
    spec = make_spec("no-such")
    with (
        Container.launch(spec, spawner, parent=group, start=False) as container,
        pytest.raises(ExecFailed, match="no-such"),
    ):
        container.process.meet("start")


def test_many_stop_together(spawner: Spawner, group: Cgroup, make_spec: MakeSpec) -> None:
    specs = [make_spec("/bin/sleep", "1000") for _ in range(8)]
    containers = [Container.launch(spec, spawner, parent=group) for spec in specs]
    pids = [container.process.started().pid for container in containers]
    Container.stop_all(containers)
    Container.stop_all(containers)
    for spec, pid in zip(specs, pids, strict=True):
        assert not spec.state_dir.exists()
        assert not Path(f"/proc/{pid}").exists()


def test_frozen_ones_stop_too(spawner: Spawner, group: Cgroup, make_spec: MakeSpec) -> None:
    container = Container.launch(make_spec("/bin/sleep", "1000"), spawner, parent=group)
    container.process.started()
    assert container.cgroup is not None
    container.cgroup.freeze()
    with pytest.raises(subprocess.TimeoutExpired):
        container.wait(0.01)
    container.stop()
    assert not container.spec.state_dir.exists()
