"""What only Docker Engine has, or has in a way of its own."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.runtime.oci.engines import Engine


@pytest.fixture
def network(docker: Engine) -> Iterator[str]:
    """A bridge of the engine's, of which our hooks must move an end into the container."""
    name = "labocitest0"
    if Path(f"/sys/class/net/{name}").exists():
        pytest.skip(f"there is an interface {name} already")
    option = f"com.docker.network.bridge.name={name}"
    docker("network", "create", "--opt", option, "--subnet", "10.213.77.0/29", name)
    yield name
    docker("network", "rm", name)


def test_networks_come_by_hooks(docker: Engine, network: str) -> None:
    """dockerd's prestart hook gives the container's network namespace to libnetwork."""
    line = docker.run_line("--rm", "--", "sh", "-c", "cat /proc/net/route /proc/net/dev")
    line[line.index("--network") + 1] = network
    said = docker(*line).stdout
    assert "eth0" in said
    line = docker.run_line("--detach", "--name", "one", "--", "sleep", "1000")
    line[line.index("--network") + 1] = network
    docker(*line)
    try:
        address = docker.inspect("one")["NetworkSettings"]["Networks"][network]["IPAddress"]
        assert address in docker("exec", "one", "ip", "addr").stdout
        line = docker.run_line("--rm", "--", "sh", "-c", f"cat /etc/hosts; ping -c 1 {address}")
        line[line.index("--network") + 1] = network
        assert "1 packets received" in docker(*line).stdout
    finally:
        docker("rm", "--force", "one")


def test_health(docker: Engine) -> None:
    options = ("--health-cmd", "test -e /tmp/well", "--health-interval", "200ms")
    line = [*docker.command, "events", "--filter", "event=health_status", "--format", "{{.Status}}"]
    with (
        docker.running(*options, "--health-retries", "1", "--", "sleep", "1000") as container,
        subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as events,
    ):
        assert events.stdout is not None
        docker("exec", container, "touch", "/tmp/well")
        assert any("health_status: healthy" in line for line in events.stdout)
        docker("exec", container, "rm", "/tmp/well")
        assert any("health_status: unhealthy" in line for line in events.stdout)
        events.kill()


def test_restart_and_copy(docker: Engine, tmp_path: Path) -> None:
    with docker.running("--", "sh", "-c", "echo up; sleep 1000") as container:
        docker("restart", "--time", "0", container)
        assert docker.inspect(container)["State"]["Running"] is True
        assert docker("logs", container).stdout == "up\nup\n"
        (tmp_path / "file").write_text("copied")
        docker("cp", str(tmp_path / "file"), f"{container}:/tmp/file")
        assert docker("exec", container, "cat", "/tmp/file").stdout == "copied"
        assert docker("diff", container).stdout.split("\n")[0]


def test_events_of_a_life(docker: Engine) -> None:
    container = docker(*docker.run_line("--detach", "--", "sh", "-c", "exit 3")).stdout.strip()
    docker("wait", container)
    docker("rm", container)
    line = ("--since", "5m", "--until", str(int(time.time()) + 1), "--format", "{{json .}}")
    events = [json.loads(line) for line in docker("events", *line).stdout.splitlines()]
    ours = [event for event in events if event.get("id") == container]
    assert [event["status"] for event in ours] == ["create", "start", "die", "destroy"]
    assert ours[2]["Actor"]["Attributes"]["exitCode"] == "3"


def test_inspect_knows_the_runtime(docker: Engine) -> None:
    with docker.running("--", "sleep", "1000") as container:
        found = docker.inspect(container)
        assert found["HostConfig"]["Runtime"] == "lab"
        pid = found["State"]["Pid"]
        assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x001000\x00"


def test_stats_through_containerd(docker: Engine) -> None:
    """containerd reads the hierarchies itself, by the paths of the process."""
    with docker.running("--memory", "40m", "--", "sh", "-c", "while :; do :; done") as container:
        line = ("stats", "--no-stream", "--format", "{{json .}}", container)
        found = json.loads(docker(*line).stdout)
        assert found["MemUsage"].endswith("/ 40MiB")
        assert float(found["CPUPerc"].rstrip("%")) > 5
        assert re.match(r"\d", found["BlockIO"])
        assert found["PIDs"] == "1"
