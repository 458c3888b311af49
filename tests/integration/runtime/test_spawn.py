"""The spawner with plain processes: no namespace, whatever else is asked for."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from runtime import (
    Cgroup,
    ExecFailed,
    Image,
    Process,
    Request,
    Spawner,
    SpawnerDied,
    SpawnError,
    StepFailed,
)

pytestmark = pytest.mark.root


def read_all(spawner: Spawner, **request: object) -> tuple[int, str]:
    read, write = os.pipe()
    with os.fdopen(read) as out:
        try:
            process = spawner.spawn(Request(fds={1: write}, **request))  # type: ignore[arg-type]
        finally:
            os.close(write)
        with process:
            process.started()
            text = out.read()  # first: a full pipe would hold it up
            return process.wait(30), text


def test_a_child_is_ours_and_its_end_is_ours_to_see(spawner: Spawner) -> None:
    with spawner.spawn(Request(argv=("/bin/sleep", "1000"))) as process:
        process.started()
        stat = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        assert int(stat[1]) == os.getpid()
        assert process.poll() is None
        process.kill(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
        assert process.returncode == process.poll() == 143
        assert process.rusage is not None
        process.kill()  # after its end: nothing


def test_environment_is_only_what_was_given(spawner: Spawner) -> None:
    assert read_all(spawner, argv=("env",), env={"PATH": "/usr/bin:/bin", "X": "1"}) == (
        0,
        "PATH=/usr/bin:/bin\nX=1\n",
    )


def test_a_request_larger_than_a_packet(spawner: Spawner) -> None:
    env = {f"V{number}": "x" * 1000 for number in range(300)}
    status, out = read_all(spawner, argv=("/usr/bin/env",), env=env)
    assert status == 0
    assert len(out.splitlines()) == 300


def test_descriptors_at_high_and_colliding_numbers(spawner: Spawner) -> None:
    pipes = [os.pipe() for _ in range(12)]
    targets = range(33, 45)  # where the helper itself receives descriptors
    fds = {target: pipe[1] for target, pipe in zip(targets, pipes, strict=True)}
    script = "; ".join(f"echo {target} >/proc/self/fd/{target}" for target in targets)
    with spawner.spawn(Request(argv=("/bin/sh", "-c", script), fds=fds)) as process:
        assert process.started().wait(30) == 0
    for target, (read, write) in zip(targets, pipes, strict=True):
        os.close(write)
        with os.fdopen(read) as lines:
            assert lines.read() == f"{target}\n"


def test_no_descriptor_of_ours_is_inherited_whatever_its_number() -> None:
    """The helper itself gets three, whose numbers depend on how many are open here."""
    held = [os.open("/", os.O_RDONLY) for _ in range(50)]
    try:
        with Spawner() as spawner:
            status, out = read_all(spawner, argv=("/bin/ls", "/proc/self/fd"))
    finally:
        for fd in held:
            os.close(fd)
    assert (status, out.split()) == (0, ["0", "1", "2", "3"])


def test_chroot_for_a_plain_process(spawner: Spawner, busybox: Image) -> None:
    status, out = read_all(
        spawner,
        argv=("sh", "-c", "cat /etc/passwd | wc -l"),
        root=str(busybox.layers[0]),
    )
    assert (status, out) == (0, "2\n")


def test_a_plain_process_in_a_cgroup(spawner: Spawner, group: Cgroup) -> None:
    child = group.child("x", memory=2**26)
    request = Request(argv=("/bin/sleep", "1000"), cgroup=child)
    with spawner.spawn(request) as process:
        process.started()
        assert child.processes() == (process.pid,)
        text = Path(f"/proc/{process.pid}/cgroup").read_text()
        assert f"/{child.path}\n" in text
        child.kill()
        assert process.wait(30) == 137
    child.remove()


def test_rlimits(spawner: Spawner) -> None:
    status, out = read_all(
        spawner,
        argv=("/bin/sh", "-c", "ulimit -n; ulimit -c"),
        rlimits={resource.RLIMIT_NOFILE: (100, 200), resource.RLIMIT_CORE: (0, 0)},
    )
    assert (status, out.split()) == (0, ["100", "0"])


def test_spawning_from_many_threads(spawner: Spawner) -> None:
    statuses: list[int] = []

    def one(number: int) -> None:
        with spawner.spawn(Request(argv=("/bin/sh", "-c", f"exit {number}"))) as process:
            statuses.append(process.wait(30))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == list(range(20))


def test_errors_come_typed(spawner: Spawner) -> None:
    with spawner.spawn(Request(argv=("/bin/no",))) as process, pytest.raises(ExecFailed) as caught:
        process.started()
    assert caught.value.path == "/bin/no"
    with (
        spawner.spawn(Request(argv=("/bin/true",), root="/no")) as process,
        pytest.raises(StepFailed, match=r"chroot to /no.*ENOENT"),
    ):
        process.wait(30)


def test_it_opens_in_the_main_thread_only() -> None:
    caught: list[Exception] = []

    def open_one() -> None:
        try:
            Spawner().open()
        except SpawnError as error:
            caught.append(error)

    thread = threading.Thread(target=open_one)
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])


def test_the_helpers_death_is_an_error_for_new_launches_only(spawner: Spawner) -> None:
    with spawner.spawn(Request(argv=("/bin/sleep", "1000"))) as process:
        process.started()
        os.kill(spawner.pid, signal.SIGKILL)
        os.waitid(os.P_PID, spawner.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(SpawnerDied):
            spawner.spawn(Request(argv=("/bin/true",))).started()
        assert process.poll() is None


def test_a_closed_spawner_says_so() -> None:
    with pytest.raises(SpawnerDied, match="not open"):
        Spawner().spawn(Request(argv=("/bin/true",)))


def test_no_descriptor_is_left(spawner: Spawner) -> None:
    def count() -> int:
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in ("self", spawner.pid))

    before = count()
    for argv in (("/bin/true",), ("/bin/no",)) * 5:
        process = spawner.spawn(Request(argv=argv))
        with suppress(ExecFailed):
            process.wait(30)
        process.close()
    assert count() == before


def test_importing_the_package_is_cheap() -> None:
    """No heavy module comes along; time itself is not asserted."""
    program = "import sys, runtime; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    heavy = {"ctypes", "dataclasses", "subprocess", "tarfile", "typing", "socket"}
    assert not heavy & set(done.stdout.split())


def test_process_is_exported() -> None:
    assert Process.__module__ == "runtime.spawn.process"
