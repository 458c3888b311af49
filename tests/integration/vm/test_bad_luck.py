import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.integration.vm.conftest import LIMIT_S, Boot, soon
from vm import (
    BaseDisk,
    ConfigError,
    GuestError,
    GuestPanic,
    LaunchError,
    NotReady,
    QmpError,
    build_base,
)

pytestmark = [pytest.mark.root, pytest.mark.qemu]


@pytest.mark.parametrize("program", ["/no/such", "no-such"])
def test_exec_of_a_missing_file(boot: Boot, program: str) -> None:
    machine = boot(program)
    with pytest.raises(GuestError, match=program) as caught:
        machine.wait_event(soon())
    assert (caught.value.step, caught.value.errno) == ("exec", 2)
    machine.stop()
    assert not machine.config.state_dir.exists()


def test_exec_of_what_is_no_program(boot: Boot) -> None:
    with pytest.raises(GuestError) as caught:
        boot("/bin").wait(LIMIT_S)
    assert (caught.value.step, caught.value.errno) == ("exec", 13)


def test_a_missing_working_directory(boot: Boot) -> None:
    with pytest.raises(GuestError) as caught:
        boot("true", job={"cwd": "/nowhere"}).wait_event(soon())
    assert caught.value.step == "cwd"


def test_a_root_that_is_no_file_system(boot: Boot, base: BaseDisk, tmp_path: Path) -> None:
    empty = tmp_path / "empty.raw"
    empty.write_bytes(bytes(2**20))
    blank = tmp_path / "blank.qcow2"
    backing = ("-F", "raw", "-b", str(empty))
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(blank)], check=True)
    disk = BaseDisk(empty, blank, "sha256:empty", 2**20)
    with pytest.raises(GuestError, match="/dev/vda") as caught:
        boot("true", disk=disk).wait_event(soon())
    assert caught.value.step == "mount-root"


def test_qemu_killed_in_the_middle_of_the_boot(boot: Boot) -> None:
    machine = boot("true")
    machine.wait_phase("kernel", soon())
    os.kill(machine.pid, signal.SIGKILL)
    with pytest.raises(LaunchError) as caught:
        machine.wait_event(soon())
    assert caught.value.exit_code == -signal.SIGKILL
    assert "-kernel" in caught.value.argv
    machine.stop()
    assert not machine.config.state_dir.exists()


def test_a_missing_kernel(boot: Boot) -> None:
    with pytest.raises(LaunchError, match="/no/kernel") as caught:
        boot("true", kernel=Path("/no/kernel")).wait_event(soon())
    assert caught.value.exit_code == 1
    assert "/no/kernel" in caught.value.output


def test_a_panic_is_told_in_the_kernels_words(boot: Boot) -> None:
    machine = boot("true", append=("rdinit=/nothing", "root=/dev/ram7"))
    with pytest.raises(GuestPanic, match="Kernel panic") as caught:
        machine.wait_event(soon())
    assert "Unable to mount root" in caught.value.console


def test_a_workload_that_never_says_ready(boot: Boot) -> None:
    machine = boot("sleep", "1000")
    machine.wait_phase("init", soon())
    with pytest.raises(NotReady, match="before the deadline"):
        machine.wait_event(0.0)
    machine.stop()


def test_a_workload_that_ends_without_ready(boot: Boot) -> None:
    with pytest.raises(NotReady, match="status 7"):
        boot("sh", "-c", "exit 7").wait_event(soon())


def test_a_stopped_qemu_is_killed_in_the_end(boot: Boot) -> None:
    machine = boot("sh", "-c", "printf r >&3; sleep 1000")
    machine.wait_event(soon())
    os.kill(machine.pid, signal.SIGSTOP)
    machine.stop(grace=0.2)
    assert not Path(f"/proc/{machine.pid}").exists()


def test_a_refused_monitor_command_keeps_both_messages(boot: Boot) -> None:
    machine = boot()
    with pytest.raises(QmpError) as caught:
        machine.qmp.execute("no-such-command", {"a": 1})
    assert caught.value.sent == {"execute": "no-such-command", "arguments": {"a": 1}}
    assert "CommandNotFound" in str(caught.value.received)


def test_input_without_a_port(boot: Boot) -> None:
    with pytest.raises(ConfigError, match="without an input port"):
        boot().write_stdin(b"x")


def test_the_same_digest_gives_the_same_disk(tree: Path, tmp_path: Path) -> None:
    one = build_base(tree, "sha256:1", tmp_path / "a")
    two = build_base(tree, "sha256:1", tmp_path / "b")
    assert one.size == two.size
    assert one.path.read_bytes()[1128:1144] == two.path.read_bytes()[1128:1144]  # s_uuid
