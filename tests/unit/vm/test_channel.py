import socket

import pytest

from vm.channel import Channel, Control, WorkloadExit
from vm.errors import GuestError, LaunchError, VmError


def test_channel_keeps_the_end_and_sees_the_end() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = Channel(ours, keep=4)
        assert channel.pump() == b""
        assert channel.first_ns is None
        theirs.sendall(b"abcdef")
        assert channel.pump() == b"abcdef"
        assert channel.data == b"cdef"
        assert channel.first_ns is not None
        theirs.close()
        assert channel.pump() == b""
        assert not channel.open


def test_control_lines_may_come_in_pieces() -> None:
    control = Control()
    control.feed(b"phase in", 1)
    control.feed(b"it\nexit 768 1500 2", 2)
    assert control.phases == {"init": 2}
    control.feed(b"500 1024\n", 3)
    assert control.exit == WorkloadExit(768, 0.0015, 0.0025, 2**20)
    assert control.exit.status == 3


def test_the_first_failure_is_kept() -> None:
    control = Control()
    control.feed(b"error exec 2 /x: No such file\nerror job 22 later\n", 1)
    assert control.failure is not None
    assert (control.failure.step, control.failure.errno) == ("exec", 2)
    assert control.failure.text == "/x: No such file"


@pytest.mark.parametrize("line", [b"nonsense\n", b"exit 1\n", b"error\n"])
def test_another_language_is_an_error(line: bytes) -> None:
    with pytest.raises(VmError, match="should not"):
        Control().feed(line, 1)


def test_status_is_what_a_shell_says() -> None:
    assert WorkloadExit(9, 0, 0, 0).status == 137
    assert WorkloadExit(0x8B, 0, 0, 0).status == 139  # with a core dump


def test_errors_carry_command_and_last_words() -> None:
    error = LaunchError(
        "QEMU ended", name="m", exit_code=1, argv=["qemu", "a b"], output="bad\n", console="hello"
    )
    text = str(error)
    assert "m: QEMU ended" in text
    assert "exit code: 1" in text
    assert "qemu 'a b'" in text
    assert "QEMU said: bad" in text
    assert "console: hello" in text
    assert GuestError("x", step="exec", errno=2).errno == 2
