"""Messages say what was tried, on what, what came back and what to do."""

from __future__ import annotations

import errno

from runtime import (
    ControllerMissing,
    ExecFailed,
    ImageNotFound,
    LayerRefused,
    StepFailed,
    StillAlive,
)


def test_messages() -> None:
    assert str(StepFailed("mount proc on /proc", errno.EPERM, "/proc")) == (
        "could not mount proc on /proc: Operation not permitted (EPERM)"
    )
    assert str(ExecFailed("execute x", errno.ENOENT, "/bin/x", "is it there?")) == (
        "could not execute x on '/bin/x': No such file or directory (ENOENT); is it there?"
    )
    assert "a, b" in str(ImageNotFound("x", ["b", "a"], []))
    assert "member '../x': no" in str(LayerRefused("l.tar", "../x", "no"))
    assert "strict=False" in str(ControllerMissing(["cpu"], "v2"))
    alive = StillAlive("box", ["process 7", "directory /d"])
    assert alive.left == ("process 7", "directory /d")
    assert "process 7; directory /d" in str(alive)
