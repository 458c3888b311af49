"""The life of a container as runtime.md has it: each operation, and what it must refuse."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.integration.runtime.oci.bundles import Bundle, Runtime, eventually


def test_the_whole_way(oci: Runtime, bundle: Bundle) -> None:
    bundle.config["annotations"] = {"org.example.a": "b"}
    bundle.shell("echo started; exec sleep 1000")
    oci.create("one", bundle)
    state = oci.state("one")
    assert state["ociVersion"].startswith("1.")
    assert (state["id"], state["status"], state["bundle"]) == ("one", "created", str(bundle.path))
    assert state["annotations"] == {"org.example.a": "b"}
    assert Path("/proc", str(state["pid"])).is_dir()
    assert bundle.output() == ""
    oci("start", "one")
    assert oci.state("one") == {**state, "status": "running"}
    eventually(lambda: bundle.output() == "started\n", "the program's output")
    oci("kill", "one", "KILL")
    oci.becomes("one", "stopped")
    assert oci.state("one")["pid"] == 0
    oci("delete", "one")
    assert "does not exist" in oci.fails("state", "one")


def test_changes_of_the_config_come_too_late(oci: Runtime, bundle: Bundle) -> None:
    bundle.shell("echo old; exec sleep 1000")
    oci.create("one", bundle)
    bundle.shell("echo new")
    oci("start", "one")
    eventually(lambda: bundle.output() == "old\n", "the old program's output")
    bundle.config["process"]["env"].append("LATE=1")
    bundle.write()
    assert "LATE" not in oci("exec", "one", "env").stdout


def test_start_is_for_the_created(oci: Runtime, bundle: Bundle) -> None:
    oci.start("one", bundle.runs("sleep", "1000"))
    assert "it is running, not created" in oci.fails("start", "one")
    assert oci.status("one") == "running"
    oci("kill", "one", "9")
    oci.becomes("one", "stopped")
    assert "it is stopped, not created" in oci.fails("start", "one")
    assert "does not exist" in oci.fails("start", "two")


def test_delete_is_for_the_stopped(oci: Runtime, bundle: Bundle) -> None:
    oci.start("one", bundle.runs("sleep", "1000"))
    assert "not stopped" in oci.fails("delete", "one")
    assert oci.status("one") == "running"
    oci("delete", "--force", "one")
    assert "does not exist" in oci.fails("delete", "one")
    oci("delete", "--force", "one")  # gone already is as good


def test_delete_of_the_created(oci: Runtime, bundle: Bundle) -> None:
    oci.create("one", bundle.runs("sleep", "1000"))
    oci("delete", "one")
    oci.create("one", bundle)  # the id is free again


@pytest.mark.parametrize("container", ["", ".", "..", "a/b", "a b", "ä", "x" * 256])
def test_ids_are_names(oci: Runtime, bundle: Bundle, container: str) -> None:
    for verb in ("create", "state", "delete"):
        assert "invalid container id" in oci.fails(verb, container, cwd=bundle.path)
    assert list(oci.root.iterdir()) == []


def test_an_id_is_taken_once(oci: Runtime, bundle: Bundle) -> None:
    oci.create("one", bundle.runs("sleep", "1000"))
    pid = oci.state("one")["pid"]
    said = oci.fails("create", "--bundle", str(bundle.path), "one")
    assert "already exists" in said
    assert oci.state("one")["pid"] == pid


def test_one_of_many_at_once_wins(oci: Runtime, bundle: Bundle) -> None:
    bundle.runs("sleep", "1000")
    line = oci.line("create", "--bundle", str(bundle.path), "one")
    out = subprocess.DEVNULL
    racers = [subprocess.Popen(line, stdin=out, stdout=out, stderr=out) for _ in range(8)]
    assert sorted(racer.wait(60) for racer in racers) == [0] + [1] * 7
    assert oci.status("one") == "created"


def test_usage(oci: Runtime) -> None:
    assert "0 arguments given" in oci.fails("start")
    assert "2 arguments given" in oci.fails("state", "a", "b")
    assert "unknown option --nope" in oci.fails("create", "--nope", "x")
    assert "no command 'crate'" in oci.fails("crate", "x")
    assert "--log-format 'xml'" in oci.fails("--log-format", "xml", "list")
    assert "create a container" in oci("create", "--help").stdout
    assert "--systemd-cgroup" in oci("--help").stdout


def test_kill(oci: Runtime, bundle: Bundle) -> None:
    bundle.shell("trap 'echo got it' USR1; echo ready; while :; do sleep 0.1; done")
    oci.start("one", bundle)
    eventually(lambda: "ready" in bundle.output(), "ready")
    for name in ("SIGUSR1", "usr1", "10"):
        before = bundle.output().count("got it")
        oci("kill", "one", name)
        eventually(lambda before=before: bundle.output().count("got it") > before, name)
    assert "unknown signal 'NOPE'" in oci.fails("kill", "one", "NOPE")
    assert "unknown signal '65'" in oci.fails("kill", "one", "65")
    assert oci.status("one") == "running"
    oci("kill", "--all", "one", "KILL")
    oci.becomes("one", "stopped")
    assert "container not running" in oci.fails("kill", "one", "KILL")  # containerd reads this
    oci("kill", "--all", "one", "KILL")


def test_kill_of_the_created(oci: Runtime, bundle: Bundle) -> None:
    oci.create("one", bundle.runs("sleep", "1000"))
    oci("kill", "one", "KILL")
    oci.becomes("one", "stopped")
    assert "it is stopped" in oci.fails("start", "one")


def test_pause(oci: Runtime, bundle: Bundle) -> None:
    oci.start("one", bundle.shell("while :; do echo x; sleep 0.05; done"))
    oci("pause", "one")
    assert oci.status("one") == "paused"
    before = bundle.output()
    assert "it is paused" in oci.fails("exec", "one", "true")
    assert "it is paused" in oci.fails("pause", "one")
    assert bundle.output() == before
    oci("resume", "one")
    assert oci.status("one") == "running"
    eventually(lambda: len(bundle.output()) > len(before), "it goes on")
    assert "it is running" in oci.fails("resume", "one")
    oci("pause", "one")
    oci("kill", "one", "KILL")  # and is not kept from dying
    oci.becomes("one", "stopped")


def test_delete_of_the_paused(oci: Runtime, bundle: Bundle) -> None:
    oci.start("one", bundle.runs("sleep", "1000"))
    oci("pause", "one")
    assert "it is paused, not stopped" in oci.fails("delete", "one")
    oci("delete", "--force", "one")


def test_run(oci: Runtime, bundle: Bundle) -> None:
    done = oci("run", "--bundle", str(bundle.shell("echo hi; exit 7").path), "one", check=False)
    assert (done.stdout, done.returncode) == ("hi\n", 7)
    assert list(oci.root.iterdir()) == []
    done = oci("run", "one", check=False, cwd=bundle.shell("kill -9 $$ & wait; exit 3").path)
    assert done.returncode == 3  # PID 1 is deaf to its own namespace
    done = oci("run", "one", check=False, cwd=bundle.shell("cat").path, input="typed")
    assert done.stdout == "typed"


def test_run_passes_signals_on(oci: Runtime, bundle: Bundle) -> None:
    bundle.shell("trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done")
    line = oci.line("run", "--bundle", str(bundle.path), "one")
    with subprocess.Popen(line, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 9
    assert list(oci.root.iterdir()) == []


def test_killed_from_outside_is_128_and_the_signal(oci: Runtime, bundle: Bundle) -> None:
    line = oci.line("run", "--bundle", str(bundle.shell("echo ready; exec sleep 1000").path), "one")
    with subprocess.Popen(line, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        oci("kill", "one", "KILL")
        assert process.wait(30) == 128 + signal.SIGKILL


def test_run_detached_and_kept(oci: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    bundle.runs("sleep", "1000")
    pid_file = tmp_path / "pid"
    with open(os.devnull, "r+b") as null:
        line = oci.line("run", "--detach", "--pid-file", "pid", "one")
        subprocess.run(line, cwd=tmp_path, check=True, stdin=null, stdout=null, stderr=null)
    assert oci.status("one") == "running"
    assert int(pid_file.read_text()) == oci.state("one")["pid"]
    oci("delete", "--force", "one")
    oci("run", "--keep", "two", cwd=bundle.runs("true").path)
    assert oci.status("two") == "stopped"


def test_a_list(oci: Runtime, bundle: Bundle) -> None:
    assert json.loads(oci("list", "--format", "json").stdout) == []
    oci.create("two", bundle.runs("sleep", "1000"))
    bundle.config["linux"]["cgroupsPath"] += "-more"
    oci.start("one", bundle.write())
    found = json.loads(oci("list", "--format=json").stdout)
    assert [(each["id"], each["status"]) for each in found] == [
        ("one", "running"),
        ("two", "created"),
    ]
    assert oci("list", "--quiet").stdout == "one\ntwo\n"
    heading, first, _ = oci("list").stdout.splitlines()
    assert heading.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert first.split()[::2] == ["one", "running", found[0]["created"]]


def test_a_create_that_was_killed_is_cleaned_up_by_force(oci: Runtime, bundle: Bundle) -> None:
    note = bundle.path / "hook"
    script = f"echo $$ > {note}.new; mv {note}.new {note}; exec sleep 1000"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script]}
    bundle.config["hooks"] = {"createRuntime": [hook]}
    bundle.runs("true")
    line = oci.line("create", "--bundle", str(bundle.path), "one")
    with subprocess.Popen(line, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        eventually(note.exists, "the hook runs")
        assert oci.status("one") == "creating"
        pid = oci.state("one")["pid"]
        process.kill()
    # The process in its set-up ends with who made it; the hook was the caller's to end.
    eventually(lambda: not Path("/proc", str(pid)).exists() or is_zombie(pid), "no process")
    assert oci.status("one") == "stopped"
    oci("delete", "--force", "one")
    os.kill(int(note.read_text()), signal.SIGKILL)


def is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
