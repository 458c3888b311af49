import time
from pathlib import Path

import pytest

from tests.integration.vm.conftest import LIMIT_S, Boot, soon
from vm import BaseDisk, ConfigError, Kernel, allocated

pytestmark = [pytest.mark.root, pytest.mark.qemu]


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("machine_type", ["microvm", "q35"])
def test_a_workload_from_ready_to_end(boot: Boot, machine_type: str) -> None:
    start = time.monotonic_ns()
    machine = boot(
        *("sh", "-c", "printf r >&3; cat; echo problem >&2; exit 3"),
        machine=machine_type,
        stdin=True,
    )
    assert machine.wait_event(soon()) == b"r"
    phases = machine.phases()
    assert start < phases["process"] < phases["kernel"] < phases["init"]
    machine.write_stdin(b"first\nsecond\n")
    machine.close_stdin()
    ended = machine.wait(LIMIT_S)
    assert ended is not None
    assert ended.status == 3
    assert ended.user_s + ended.system_s > 0
    assert ended.max_rss > 2**16
    assert machine.output() == (b"first\nsecond\n", b"problem\n")
    state_dir, pid = machine.config.state_dir, machine.pid
    machine.stop()
    machine.stop()
    assert not alive(pid)
    assert not state_dir.exists()


def test_the_bzimage_boots_too(boot: Boot, kernel: Kernel) -> None:
    machine = boot("sh", "-c", "printf r >&3; uname -r", kernel=kernel.vmlinuz)
    assert machine.wait_event(soon()) == b"r"
    assert machine.wait(LIMIT_S) is not None
    assert machine.output()[0].decode().strip() == kernel.release


def test_more_tasks_than_allowed_are_refused(boot: Boot) -> None:
    script = "for i in 1 2 3 4 5 6; do sleep 60 & done; echo not here"
    machine = boot("/bin/sh", "-c", script, job={"tasks": 4, "uid": 0})
    ended = machine.wait(LIMIT_S)
    assert ended is not None
    out, errors = machine.output()
    assert (ended.status, out) == (2, b"")
    assert b"can't fork" in errors


def test_the_job_is_given_as_it_is(boot: Boot) -> None:
    script = "env; pwd; id -u; id -g; id -G; hostname; ulimit -n; cat /proc/self/mounts"
    machine = boot(
        *("/bin/sh", "-c", script),
        job={
            "env": {"PATH": "/bin", "WORDS": "two words\n'and' \"more\"", "NAME": "Grüße"},
            "cwd": "/bin",
            "uid": 1234,
            "gid": 5678,
            "groups": (42,),
            "hostname": "guest-1",
            "rlimits": {7: (99, 99)},
        },
    )
    ended = machine.wait(LIMIT_S)
    assert ended is not None
    assert ended.status == 0, machine.output()
    out = machine.output()[0].decode()
    assert "WORDS=two words\n'and' \"more\"\n" in out
    assert "NAME=Grüße\n" in out
    assert "HOME=" not in out
    assert "/bin\n1234\n5678\n5678 42\nguest-1\n99\n" in out
    mounts = {line.split()[1] for line in out.splitlines() if line.count(" ") == 5}
    assert {"/", "/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/tmp"} <= mounts


def test_death_by_signal(boot: Boot) -> None:
    machine = boot("sh", "-c", "kill -9 $$")
    ended = machine.wait(LIMIT_S)
    assert ended is not None
    assert ended.status == 137


def test_writes_go_to_the_overlay_alone(boot: Boot, base: BaseDisk) -> None:
    before = base.path.stat().st_mtime_ns, allocated(base.path)
    machine = boot(
        *("sh", "-c", "printf r >&3; dd if=/dev/urandom of=/file bs=1M count=8; sync; printf w >&3")
    )
    assert machine.wait_event(soon()) == b"r"
    assert machine.wait_event(soon()) == b"w"
    (overlay,) = machine.disk_paths()
    assert allocated(overlay) >= 8 * 2**20
    assert (base.path.stat().st_mtime_ns, allocated(base.path)) == before


def test_poweroff_at_the_workloads_end(boot: Boot) -> None:
    machine = boot("sh", "-c", "printf r >&3", job={"poweroff": True})
    assert machine.wait_event(soon()) == b"r"
    while machine.read_events() is not None:
        assert machine._poll(soon())
    assert machine.exit is not None
    assert machine.exit.status == 0
    machine.stop()


def test_pause_and_resume_over_qmp(boot: Boot) -> None:
    machine = boot("sh", "-c", "read line; printf r >&3; sleep 1000", stdin=True)
    machine.wait_phase("init", soon())
    assert machine.qmp.status() == "running"
    machine.pause()
    assert machine.qmp.status() == "paused"
    machine.resume()
    machine.write_stdin(b"\n")
    assert machine.wait_event(soon()) == b"r"
    machine.stop()


def test_small_machine_is_enough(boot: Boot) -> None:
    machine = boot("sh", "-c", "printf r >&3; free -m")
    assert machine.wait_event(soon()) == b"r"
    assert machine.config.memory == 128 * 2**20
    assert machine.config.vcpus == 1


def test_the_clock_goes_on_without_a_told_tsc(boot: Boot) -> None:
    machine = boot("sh", "-c", "printf r >&3", machine="q35", tsc_khz=None)
    assert machine.wait_event(soon()) == b"r"


def test_a_state_directory_in_use_is_refused(boot: Boot, tmp_path: Path) -> None:
    (tmp_path / "machine").mkdir()
    (tmp_path / "machine/mine").touch()
    with pytest.raises(ConfigError, match="there already"):
        boot("true")
    assert (tmp_path / "machine/mine").exists()
