"""The schema of config.json: what is refused, where, and why; and what is not."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import ConfigError
from runtime.oci.config import load, load_process, load_resources, parse
from runtime.oci.verbs.spec import example


def refusal(config: object) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(json.dumps(config).encode())
    return str(caught.value)


def changed(path: str, value: Any) -> dict[str, Any]:
    """The example with one value changed, or taken out by `...`: "linux.namespaces.0.type"."""
    config = copy.deepcopy(example())
    *way, last = [int(step) if step.isdecimal() else step for step in path.split(".")]
    here: Any = config
    for step in way:
        here = here[step] if isinstance(here, list) else here.setdefault(step, {})
    if value is ...:
        del here[last]
    else:
        here[last] = value
    return config


def test_the_examples_are_good() -> None:
    for rootless in (False, True):
        config = parse(json.dumps(example(rootless=rootless)).encode())
        assert config["process"]["args"] == ["sh"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("process", ..., "$.process: is required"),
        ("process", None, "$.process: is required"),
        ("process", [], "$.process: must be an object, not an array"),
        ("process.args", [], "$.process.args: is empty: the first element is the program"),
        ("process.args", ["sh", 1], "$.process.args[1]: must be a string, not a number"),
        ("process.args", ["a\0b"], "$.process.args[0]: has a zero byte"),
        ("process.args", ["\ud800"], "$.process.args[0]: has half of a surrogate pair"),
        ("process.cwd", "tmp", "$.process.cwd: must be an absolute path, not 'tmp'"),
        ("process.env", ["A"], "$.process.env[0]: 'A' is not of the form NAME=value"),
        ("process.env", ["=A"], "$.process.env[0]: '=A' is not of the form NAME=value"),
        ("process.terminal", 1, "$.process.terminal: must be true or false, not a number"),
        ("process.user.uid", -1, "$.process.user.uid: must be between 0 and 4294967294, not -1"),
        ("process.user.uid", 1.0, "$.process.user.uid: must be a whole number, not a number with"),
        ("process.user.uid", True, "$.process.user.uid: must be a whole number, not a boolean"),
        ("process.user.additionalGids", ["5"], "$.process.user.additionalGids[0]: must be a whole"),
        ("process.oomScoreAdj", 1001, "$.process.oomScoreAdj: must be between -1000 and 1000"),
        ("process.rlimits.0.type", "NOFILE", "$.process.rlimits[0].type: 'NOFILE' is none of"),
        ("process.rlimits.0.soft", 2000, "$.process.rlimits[0].soft: is more than the hard limit"),
        ("process.rlimits.0.hard", ..., "$.process.rlimits[0].hard: is required"),
        ("process.scheduler", {"policy": "X"}, "$.process.scheduler.policy: 'X' is none of"),
        ("process.scheduler", {"policy": "SCHED_OTHER", "priority": 1}, "SCHED_FIFO and SCHED_RR"),
        ("process.ioPriority", {"class": "IOPRIO_CLASS_RT"}, "ioPriority.priority: is required"),
        ("root", ..., "$.root: is required"),
        ("root.path", "", "$.root.path: is an empty string"),
        ("ociVersion", "1.0", "$.ociVersion: '1.0' is no version"),
        ("ociVersion", "2.0.0", "$.ociVersion: '2.0.0' is not supported"),
        ("hostname", "x" * 65, "$.hostname: has more than 64 bytes"),
        ("mounts.0.destination", ..., "$.mounts[0].destination: is required"),
        ("mounts.0.type", ..., "$.mounts[0].type: is required by a mount that is no bind mount"),
        ("mounts.0", {"destination": "/x", "options": ["bind"]}, "$.mounts[0].source: is required"),
        ("mounts.0.options", ["idmap"], "$.mounts[0].options: idmap needs uidMappings"),
        ("mounts.0.uidMappings", [], "$.mounts[0].gidMappings: is required where there is"),
        ("hooks.prestart", [{"path": "sh"}], "$.hooks.prestart[0].path: must be an absolute path"),
        ("hooks.poststop", [{"path": "/a", "timeout": 0}], "$.hooks.poststop[0].timeout: must be"),
        ("annotations", {"a": 1}, "$.annotations.a: must be a string, not a number"),
        ("annotations", {"": "x"}, '$.annotations[""]: has an empty key'),
        ("linux.namespaces.0.type", "pids", "$.linux.namespaces[0].type: 'pids' is none of"),
        ("linux.namespaces.0.path", "x", "$.linux.namespaces[0].path: must be an absolute path"),
        ("linux.namespaces.0", {"type": "uts"}, "$.linux.namespaces[3]: uts is there twice"),
        ("linux.uidMappings", [{"containerID": 0, "hostID": 0, "size": 1}], "needs a user namesp"),
        ("linux.maskedPaths", ["proc"], "$.linux.maskedPaths[0]: must be an absolute path"),
        ("linux.rootfsPropagation", "x", "$.linux.rootfsPropagation: 'x' is none of"),
        ("linux.cgroupsPath", "/a/../b", "$.linux.cgroupsPath: '/a/../b' would lead out"),
        ("linux.sysctl", {"kernel.panic": "1"}, '$.linux.sysctl["kernel.panic"]: belongs to no'),
        ("linux.timeOffsets", {"real": {}}, "$.linux.timeOffsets.real: 'real' is none of"),
        ("linux.timeOffsets", {"boottime": {}}, "$.linux.timeOffsets: needs a new time namespace"),
        ("linux.devices", [{"path": "/dev/x", "type": "c"}], "$.linux.devices[0].major: is requi"),
        ("linux.intelRdt", {"closID": "a"}, "$.linux.intelRdt: Intel RDT is not supported"),
        ("linux.resources.memory", {"limit": "1g"}, "$.linux.resources.memory.limit: must be"),
        (
            "linux.resources.memory",
            {"limit": -2},
            "$.linux.resources.memory.limit: must",
        ),
        ("linux.resources.cpu", {"cpus": "a"}, "$.linux.resources.cpu.cpus: 'a' is no list"),
        ("linux.resources.cpu", {"quota": 1, "burst": 2}, "$.linux.resources.cpu.burst: is more"),
        (
            "linux.resources.devices.0.access",
            "rx",
            "resources.devices[0].access: 'rx' is",
        ),
        ("linux.resources.devices.0.allow", ..., "$.linux.resources.devices[0].allow: is required"),
        ("linux.resources.unified", {"../x.y": "1"}, '.unified["../x.y"]: is no name of'),
        (
            "linux.resources.hugepageLimits",
            [{"pageSize": "2M", "limit": 1}],
            "pageSize: '2M'",
        ),
        ("linux.seccomp", {}, "$.linux.seccomp.defaultAction: is required"),
        ("linux.seccomp", {"defaultAction": "ALLOW"}, "$.linux.seccomp.defaultAction: 'ALLOW' is"),
        (
            "linux.seccomp",
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": [], "action": "SCMP_ACT_ERRNO"}],
            },
            "$.linux.seccomp.syscalls[0].names: is empty",
        ),
        (
            "linux.seccomp",
            {"defaultAction": "SCMP_ACT_NOTIFY"},
            "$.linux.seccomp.defaultAction: SCMP_ACT_NOTIFY is not supported",
        ),
    ],
)
def test_refused_with_the_path_and_the_reason(path: str, value: object, message: str) -> None:
    said = refusal(changed(path, value))
    assert said.startswith("config.json: $")
    assert message in said


@pytest.mark.parametrize(
    ("kind", "path", "value", "message"),
    [
        ("uts", "x", 0, "$.hostname: needs a uts namespace"),
        ("mount", "hostname", ..., "$.linux.maskedPaths: needs a mount namespace"),
        ("network", "linux.sysctl", {"net.ipv4.ip_forward": "1"}, "needs an own network namespace"),
        ("ipc", "linux.sysctl", {"fs.mqueue.msg_max": "1"}, "needs an own ipc namespace"),
    ],
)
def test_what_would_reach_the_host_needs_a_namespace(
    kind: str, path: str, value: object, message: str
) -> None:
    config = changed(path, value)
    namespaces = config["linux"]["namespaces"]
    config["linux"]["namespaces"] = [one for one in namespaces if one["type"] != kind]
    assert message in refusal(config)


def test_null_counts_as_not_there() -> None:
    config = example()
    config["annotations"] = None
    config["process"]["rlimits"] = None
    config["linux"]["sysctl"] = None
    read = parse(json.dumps(config).encode())
    assert "annotations" not in read
    assert "rlimits" not in read["process"]


def test_unknown_members_are_left_alone() -> None:
    config = {**example(), "org.example.x": {"y": None}}
    assert parse(json.dumps(config).encode())["org.example.x"] == {"y": None}


def test_a_relative_destination_begins_at_the_root() -> None:
    config = changed("mounts.0.destination", "proc")
    assert parse(json.dumps(config).encode())["mounts"][0]["destination"] == "/proc"


def test_no_user_is_root() -> None:
    config = changed("process.user", ...)
    assert parse(json.dumps(config).encode())["process"]["user"] == {"uid": 0, "gid": 0}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "config.json: is no JSON: line 1 column 1"),
        (b'{"a": }', "config.json: is no JSON: line 1 column 7: Expecting value"),
        (b"\xff{}", "config.json: is no UTF-8 at byte 0"),
        (b"[]", "config.json: $: must be an object, not an array"),
        (b"[" * 10_000, "config.json: is no JSON: nested too deeply"),
    ],
)
def test_no_json(data: bytes, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(data)
    assert str(caught.value).startswith(message)


def test_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config.json: cannot be read: No such file"):
        load(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(example()))
    with pytest.raises(ConfigError, match=r"config.json: \$.root.path: no directory"):
        load(str(tmp_path))
    (tmp_path / "rootfs").mkdir()
    assert load(str(tmp_path)) == {
        **example(),
        "root": {"path": f"{tmp_path}/rootfs", "readonly": True},
    }


def test_parts(tmp_path: Path) -> None:
    path = tmp_path / "part.json"
    path.write_text('{"cwd": "/", "args": []}')
    with pytest.raises(ConfigError, match=r"part.json: \$.args: is empty"):
        load_process(str(path))
    path.write_text('{"memory": {"swap": "x"}}')
    with pytest.raises(ConfigError, match=r"part.json: \$.memory.swap: must be a whole number"):
        load_resources(str(path))
