"""The state directory: ids, lock, record, and the status that is seen and not stored."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import ContainerError, NoSuchContainer, StateError, UsageError
from runtime.oci.state import Container, check_id, default_root, started_at


def record(pid: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "pid": pid,
        "started": started_at(pid) if pid else 0,
        "creating": False,
        "bundle": "/b",
        "rootfs": "/b/rootfs",
        "program": "sleep",
        "created": "2026-01-01T00:00:00Z",
        "annotations": {},
        "hooks": {},
        "cgroup": None,
        "shared_pids": False,
        **more,
    }


def made(root: Path, container: str = "one", **values: Any) -> Container:
    found = Container.make(str(root), container)
    found.record = record(**values)
    found.save()
    found.unlock()
    return found


@pytest.mark.parametrize("name", ["a", "A-b_c.d+e", "1" * 255, "..a"])
def test_ids(name: str) -> None:
    assert check_id(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "a\n", "é", "1" * 256])
def test_no_ids(name: str) -> None:
    with pytest.raises(UsageError, match="invalid container id"):
        check_id(name)


def test_an_id_is_taken_by_its_directory(tmp_path: Path) -> None:
    root = tmp_path / "not" / "yet"
    made(root)
    with pytest.raises(StateError, match="already exists"):
        Container.make(str(root), "one")
    assert Container.find(str(root), "one").record == record()
    with Container.locked(str(root), "one") as found:
        found.remove()
        found.remove()
    with pytest.raises(NoSuchContainer, match="does not exist"):
        Container.find(str(root), "one")
    made(root)


def test_a_record_that_is_not_there_or_not_whole(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    with pytest.raises(NoSuchContainer):
        Container.find(str(tmp_path), "one")
    (tmp_path / "one" / "state.json").write_text("{")
    with pytest.raises(ContainerError, match="state of container 'one': line 1"):
        Container.find(str(tmp_path), "one")
    with pytest.raises(NoSuchContainer):
        Container.locked(str(tmp_path), "two")


def test_the_lock_is_one_for_all(tmp_path: Path) -> None:
    made(tmp_path)
    with Container.locked(str(tmp_path), "one"):
        fd = os.open(tmp_path / "one", os.O_RDONLY)
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(fd)


def test_unlocking_reaches_copies_of_the_descriptor(tmp_path: Path) -> None:
    """A container's process at its gate has one, as any child has."""
    container = Container.make(str(tmp_path), "one")
    container.record = record()
    container.save()
    copy = os.dup(container.lock_fd)
    container.unlock()
    try:
        with Container.locked(str(tmp_path), "one"):
            pass
    finally:
        os.close(copy)


def test_waiting_for_the_lock_of_one_that_is_removed(tmp_path: Path) -> None:
    made(tmp_path)
    held = Container.locked(str(tmp_path), "one")
    code = (
        "from runtime.oci.state import Container\nfrom runtime.errors import NoSuchContainer\n"
        "print('waiting', flush=True)\n"
        f"try: Container.locked({str(tmp_path)!r}, 'one')\n"
        "except NoSuchContainer: print('gone')\n"
    )

    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[4],
    ) as waiter:
        assert waiter.stdout is not None
        assert waiter.stdout.readline() == "waiting\n"
        held.remove()
        held.unlock()
        assert waiter.stdout.readline() == "gone\n"


def test_status_is_what_the_process_is(tmp_path: Path) -> None:
    container = made(tmp_path)
    assert container.status() == "stopped"
    with subprocess.Popen(["sleep", "1000"]) as process:
        container.record = record(process.pid)
        assert container.status() == "running"
        (tmp_path / "one" / "gate").touch()
        assert container.status() == "created"
        state = container.state()
        assert (state["pid"], state["status"]) == (process.pid, "created")
        assert "annotations" not in state
        container.record["creating"] = True
        assert container.status() == "created"  # nobody is at it any more
        with Container.locked(str(tmp_path), "one"):
            assert container.status() == "creating"
        process.kill()
        while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            pass
        container.record["creating"] = False
        assert container.status() == "stopped"  # a zombie has ended
        assert container.state()["pid"] == 0


def test_a_pid_that_was_used_again_is_another(tmp_path: Path) -> None:
    container = made(tmp_path, pid=os.getpid())
    assert container.alive()
    container.record["started"] -= 1
    assert not container.alive()


def test_where_state_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert default_root() == "/run/lab-oci"
