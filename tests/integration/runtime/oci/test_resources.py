"""Limits: set by the config, changed by `update`, told by `events`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runtime.cgroups import Cgroup
from tests.integration.runtime.oci.bundles import Bundle, Runtime


def group(oci: Runtime, container: str = "one") -> Cgroup:
    record = json.loads((oci.root / container / "state.json").read_text())["cgroup"]
    return Cgroup.from_record(record)


def limits(oci: Runtime) -> dict[str, Any]:
    usage = group(oci).usage()
    return {
        "memory": usage.memory.limit if usage.memory else None,
        "pids": usage.pids.limit if usage.pids else None,
    }


def test_limits_of_the_config_and_of_update(oci: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    bundle.config["linux"]["resources"].update(
        memory={"limit": 64 << 20}, pids={"limit": 50}, cpu={"quota": 50000, "period": 100000}
    )
    oci.start("one", bundle.runs("sleep", "1000"))
    assert limits(oci) == {"memory": 64 << 20, "pids": 50}
    oci("update", "--memory", "32m", "--pids-limit", "20", "one")
    assert limits(oci) == {"memory": 32 << 20, "pids": 20}
    oci("update", "--resources", "-", "one", input='{"memory": {"limit": 50331648}}')
    assert limits(oci) == {"memory": 48 << 20, "pids": 20}
    (tmp_path / "r.json").write_text('{"pids": {"limit": 30}}')
    oci("update", "-r", str(tmp_path / "r.json"), "one")
    assert limits(oci) == {"memory": 48 << 20, "pids": 30}


def test_update_refuses(oci: Runtime, bundle: Bundle) -> None:
    oci.start("one", bundle.runs("sleep", "1000"))
    for line, words in (
        (["--memory", "lots", "one"], "'lots' is no size"),
        (["--l3-cache-schema", "x", "one"], "Intel RDT is not supported"),
        (["two"], "does not exist"),
    ):
        assert words in oci.fails("update", *line)
    said = oci.fails("update", "-r", "-", "one", input='{"memory": {"limit": "1g"}}')
    assert "standard input: $.memory.limit: must be a whole number" in said
    oci("kill", "one", "9")
    oci.becomes("one", "stopped")
    assert "it is stopped" in oci.fails("update", "--pids-limit", "5", "one")


def test_stats(oci: Runtime, bundle: Bundle) -> None:
    oci.start("one", bundle.runs("sleep", "1000"))
    event = json.loads(oci("events", "--stats", "one").stdout)
    assert (event["type"], event["id"]) == ("stats", "one")
    data = event["data"]
    assert data["pids"]["current"] == 1
    assert data["cpu"]["usage"]["total"] > 0
    assert data["memory"]["usage"]["usage"] > 0


def test_events_until_the_end(oci: Runtime, bundle: Bundle) -> None:
    bundle.config["linux"]["resources"]["memory"] = {"limit": 16 << 20, "swap": 16 << 20}
    bundle.shell("until [ -e /go ]; do sleep 0.05; done; tail /dev/zero; sleep 0.2")
    oci.start("one", bundle)
    line = oci.line("events", "--interval", "100ms", "one")
    with subprocess.Popen(line, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert first["type"] == "stats"
        oci("exec", "one", "touch", "/go")
        kinds = {json.loads(line)["type"] for line in process.stdout}
        assert process.wait(30) == 0
    assert "oom" in kinds
    oci("delete", "--force", "one")
    Path(bundle.config["root"]["path"], "go").unlink()


@pytest.mark.parametrize("interval", ["0s", "x", "5", "-1s"])
def test_intervals_are_durations(oci: Runtime, interval: str) -> None:
    assert "--interval" in oci.fails("events", f"--interval={interval}", "one")


def test_without_cgroups(oci: Runtime, bundle: Bundle) -> None:
    """What Podman's --cgroups=disabled asks for."""
    del bundle.config["linux"]["cgroupsPath"]
    bundle.runs("sleep", "1000")
    line = oci.line("--cgroup-manager", "disabled", "run", "--detach", "--bundle")
    with open("/dev/null", "r+b") as null:
        subprocess.run(
            [*line, str(bundle.path), "one"], check=True, stdin=null, stdout=null, stderr=null
        )
    pid = oci.state("one")["pid"]
    assert Path(f"/proc/{pid}/cgroup").read_text() == Path("/proc/self/cgroup").read_text()
    assert "it has no cgroup" in oci.fails("pause", "one")
    assert oci("ps", "--format", "json", "one").stdout.strip() == f"[{pid}]"


def test_cgroups_seen_from_inside(oci: Runtime, bundle: Bundle) -> None:
    script = (
        "grep -c /sys/fs/cgroup /proc/mounts; touch /sys/fs/cgroup/x 2>&1; "
        "cat /proc/self/cgroup | cut -d: -f3 | sort -u"
    )
    done = oci("run", "--bundle", str(bundle.shell(script).path), "one")
    count, refused, path = done.stdout.strip().split("\n")
    assert int(count) >= 1
    assert "Read-only file system" in refused
    assert path == "/"  # of a cgroup namespace of its own
