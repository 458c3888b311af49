"""What other programs are told: their command lines and configuration, from pure functions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.backends import find_backend
from lab.backends.base import Limits, Workload
from lab.backends.context import Context, Shared
from lab.backends.peers.bundle import NAME, config_text, run_line
from lab.backends.peers.bwrap import bwrap_line
from lab.backends.peers.daemon import daemon_line
from lab.backends.peers.docker import docker_line
from lab.backends.peers.program import missing_program

WORK = Workload(
    argv=("/bin/echo", "two words", "--flag"),
    env={"PATH": "/bin", "LINES": "a\nb"},
    cwd="/var/tmp",
    uid=12,
    gid=34,
    limits=Limits(cpus=0.5, memory=96 << 20, pids=64),
)
LAYERS = (Path("/layers/a"),)


def config(work: Workload = WORK) -> dict[str, object]:
    text = config_text(work, LAYERS, "/state/rootfs", f"lab-run/{NAME}")
    made: dict[str, object] = json.loads(text.replace(NAME, "one"))
    return made


def test_a_bundle_says_all_of_the_workload() -> None:
    made = config()
    assert made["root"] == {"path": "/state/rootfs", "readonly": False}
    assert made["hostname"] == "one"
    process = made["process"]
    assert isinstance(process, dict)
    assert process["args"] == ["/bin/echo", "two words", "--flag"]
    assert process["env"] == ["PATH=/bin", "LINES=a\nb"]
    assert (process["cwd"], process["user"]["uid"], process["user"]["gid"]) == ("/var/tmp", 12, 34)
    assert process["noNewPrivileges"] is True


def test_a_bundle_has_the_limits_the_namespaces_and_the_filter_of_our_own_containers() -> None:
    linux = config()["linux"]
    assert isinstance(linux, dict)
    assert linux["cgroupsPath"] == "/lab-run/one"
    assert linux["resources"]["cpu"] == {"quota": 50_000, "period": 100_000}
    assert linux["resources"]["memory"] == {"limit": 96 << 20, "swap": 96 << 20}
    assert linux["resources"]["pids"] == {"limit": 64}
    kinds = {one["type"] for one in linux["namespaces"]}
    assert kinds == {"pid", "mount", "uts", "ipc", "network", "cgroup"}
    assert linux["seccomp"]["syscalls"]
    assert "/proc/kcore" in linux["maskedPaths"]


def test_a_runtime_is_called_as_an_engine_calls_it() -> None:
    line = run_line("/bin/runc", Path("/r"), Path("/b"), "one", log=Path("/b/log"))
    assert line[0] == "/bin/runc"
    assert line[-1] == "one"
    verb = line.index("run")
    assert {"--root=/r", "--log=/b/log", "--log-format=json"} == set(line[1:verb])
    assert {"--preserve-fds=1", "--bundle=/b"} == set(line[verb + 1 : -1])


def test_bwrap_is_told_what_it_can_be_told() -> None:
    line = bwrap_line("bwrap", WORK, "/root", "one", ["CAP_KILL", "CAP_CHOWN"])
    text = " ".join(line)
    assert line[-4:] == ("--", *WORK.argv)
    for words in (
        "--bind /root / ",
        "--hostname one ",
        "--cap-drop ALL --cap-add CAP_KILL --cap-add CAP_CHOWN ",
        "--chdir /var/tmp ",
        "--clearenv --setenv PATH /bin --setenv LINES a\nb ",
    ):
        assert words in text
    for namespace in ("ipc", "pid", "net", "uts", "cgroup"):
        assert f"--unshare-{namespace}" in line


def test_docker_run_has_the_limits_and_the_runtime() -> None:
    line = docker_line(WORK, "image", runtime="lab", name="a" * 70, group="lab-run/one")
    text = " ".join(line)
    assert line[-4:] == ("image", *WORK.argv)
    for words in (
        "run --rm ",
        "--runtime lab ",
        "--network none ",
        "--cgroup-parent /lab-run/one ",
        f"--memory {96 << 20} --memory-swap {96 << 20} ",
        "--cpus 0.5 ",
        "--pids-limit 64 ",
        "--user 12:34 ",
        "--workdir /var/tmp ",
        "--env PATH=/bin ",
    ):
        assert words in text
    assert "--interactive" not in line
    assert len(line[line.index("--hostname") + 1]) == 63, "more than sethostname(2) takes"


def test_dockerd_keeps_to_its_folder() -> None:
    line = daemon_line(Path("/state/d"), {"lab": "/state/lab-oci"})
    assert line[-2:] == ("--add-runtime", "lab=/state/lab-oci")
    given = dict(zip(line[1::2], line[2::2], strict=False))
    assert given["--host"] == "unix:///state/d/socket"
    assert given["--data-root"] == "/state/d/data"
    assert given["--config-file"] == "/state/d/config", "not the host's daemon.json"
    assert given["--bridge"] == "none"


def test_a_program_that_is_missing_names_its_package() -> None:
    can = missing_program("no-such-program", "its-package")
    assert not can.available
    assert can.missing["available"] == (
        "no-such-program is not installed: apt-get install its-package"
    )


@pytest.mark.parametrize("name", ["crun", "runc", "lab-oci", "bwrap", "docker", "docker-lab"])
def test_to_ask_what_a_peer_can_do_makes_nothing(name: str, tmp_path: Path) -> None:
    backend = find_backend(name)(Context(Shared("run", tmp_path, tmp_path), {}))
    can = backend.capabilities()
    assert can.available or can.missing["available"]
    assert ("event_channel" in can.missing) == (name.startswith("docker") and can.available)
    assert list(tmp_path.iterdir()) == []
