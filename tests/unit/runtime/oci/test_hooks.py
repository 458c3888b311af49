"""Hooks as real programs."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from runtime.errors import HookFailed
from runtime.oci.hooks import run_hooks

STATE = {"ociVersion": "1.2.0", "id": "x", "status": "creating", "pid": 1, "bundle": "/b"}


def shell(script: str, **more: object) -> dict[str, object]:
    return {"path": "/bin/sh", "args": ["sh", "-c", script], **more}


def test_state_on_standard_input_and_order(tmp_path: Path) -> None:
    hooks = [shell(f"cat > {tmp_path}/state"), shell(f"cat {tmp_path}/state > {tmp_path}/copy")]
    run_hooks("createRuntime", hooks, STATE)
    assert json.loads((tmp_path / "copy").read_text()) == STATE


def test_environment_is_the_given_one(tmp_path: Path) -> None:
    hook = shell(f'echo "$A:$HOME" > {tmp_path}/out', env=["A=a=b"])
    run_hooks("poststart", [hook], STATE)
    assert (tmp_path / "out").read_text() == "a=b:\n"


def test_a_failure_says_which_and_what_it_said(tmp_path: Path) -> None:
    hooks = [shell("true"), shell("echo oh; exit 3"), shell(f"touch {tmp_path}/ran")]
    with pytest.raises(HookFailed, match=r"prestart hook #1 /bin/sh: exit status 3; it said: oh"):
        run_hooks("prestart", hooks, STATE)
    assert not (tmp_path / "ran").exists()


def test_a_hook_that_is_not_there() -> None:
    with pytest.raises(HookFailed, match="#0 /nowhere: cannot be run: No such file or directory"):
        run_hooks("poststop", [{"path": "/nowhere"}], STATE)


def test_a_signal() -> None:
    with pytest.raises(HookFailed, match="was killed by signal 15"):
        run_hooks("poststop", [shell("kill -TERM $$")], STATE)


def test_timeout_ends_the_hook_and_its_children(tmp_path: Path) -> None:
    hook = shell(f"sleep 1000 & echo $! > {tmp_path}/child; wait", timeout=1)
    began = time.monotonic()
    with pytest.raises(HookFailed, match="timed out after 1 s"):
        run_hooks("createContainer", [hook], STATE)
    assert time.monotonic() - began < 60
    child = Path("/proc", (tmp_path / "child").read_text().strip(), "stat")
    deadline = time.monotonic() + 10
    while child.exists() and child.read_text().rpartition(")")[2].split()[0] not in "ZX":
        assert time.monotonic() < deadline, "the hook's child lives on"


def test_much_output_does_not_block() -> None:
    with pytest.raises(HookFailed, match="exit status 1"):
        run_hooks("poststop", [shell("seq 1 100000; exit 1")], STATE)
