"""The reader of config.json against configs that nobody would write: it takes them or refuses
them, with a path that leads to something that is there, and it does nothing else."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import ConfigError
from runtime.oci.config import parse
from runtime.oci.verbs.spec import example

BOUND = settings(max_examples=300, deadline=None)

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([-1, 0, 1, 2**31, 2**32, 2**63, 2**64, -(2**63) - 1])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["", "/", "..", "/a/../b", "\0", "\ud800", "SCMP_ACT_ALLOW", "bind", "a=b"])
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def rich() -> dict[str, Any]:
    """A good config that has something of everything."""
    config = example()
    ids = [{"containerID": 0, "hostID": 1000, "size": 10}]
    config["process"]["scheduler"] = {"policy": "SCHED_BATCH", "nice": 1}
    config["process"]["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 1}
    config["process"]["user"] |= {"umask": 18, "additionalGids": [1]}
    config["hooks"] = {"prestart": [{"path": "/bin/true", "args": ["true"], "env": ["A=1"]}]}
    config["mounts"].append({"destination": "/v", "source": "/tmp", "options": ["rbind", "ro"]})
    config["annotations"] = {"a": "b"}
    config["linux"] |= {
        "uidMappings": ids,
        "gidMappings": ids,
        "sysctl": {"net.ipv4.ip_forward": "1"},
        "timeOffsets": {"boottime": {"secs": 1}},
        "cgroupsPath": "/x",
        "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}],
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [
                {
                    "names": ["read"],
                    "action": "SCMP_ACT_ALLOW",
                    "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}],
                }
            ],
        },
    }
    config["linux"]["namespaces"] += [{"type": "user"}, {"type": "time"}]
    config["linux"]["resources"] |= {
        "memory": {"limit": 1 << 20, "swap": -1},
        "cpu": {"quota": 1000, "cpus": "0-1"},
        "blockIO": {"throttleReadBpsDevice": [{"major": 1, "minor": 1, "rate": 1}]},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
        "unified": {"memory.high": "max"},
    }
    return config


RICH = rich()


def places(value: Any, way: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [way]
    if isinstance(value, dict):
        for key, inner in value.items():
            found += places(inner, (*way, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += places(inner, (*way, index))
    return found


def leads_somewhere(path: str, config: Any) -> bool:
    """Whether all of a JSON path but its last step, which may be what is missing, is there."""
    steps = re.findall(r'\.(\w+)|\[(\d+)\]|\["((?:[^"\\]|\\.)*)"\]', path)
    for number, (name, index, quoted) in enumerate(steps):
        key: Any = int(index) if index else name or re.sub(r"\\(.)", r"\1", quoted)
        try:
            config = config[key]
        except (KeyError, IndexError):
            return number == len(steps) - 1
    return True


def test_the_rich_config_is_good() -> None:
    parse(json.dumps(RICH).encode())


@BOUND
@given(st.sampled_from(places(RICH)), values)
def test_any_value_at_any_place(place: tuple[str | int, ...], value: Any) -> None:
    config: Any = copy.deepcopy(RICH)
    if place:
        here = config
        for step in place[:-1]:
            here = here[step]
        here[place[-1]] = value
    else:
        config = value
    try:
        parse(json.dumps(config).encode())
    except ConfigError as error:
        assert error.path.startswith("$")
        assert error.reason
        assert leads_somewhere(error.path, config), error.path


@BOUND
@given(st.sampled_from(places(RICH)[1:]))
def test_any_member_taken_out(place: tuple[str | int, ...]) -> None:
    config: Any = copy.deepcopy(RICH)
    here = config
    for step in place[:-1]:
        here = here[step]
    del here[place[-1]]
    try:
        parse(json.dumps(config).encode())
    except ConfigError as error:
        assert error.path.startswith("$")


@BOUND
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    try:
        parse(data)
    except ConfigError as error:
        assert str(error).startswith("config.json: ")


@BOUND
@given(st.integers(min_value=0, max_value=len(json.dumps(RICH))), st.binary(max_size=4))
def test_any_bytes_in_a_good_config(where: int, data: bytes) -> None:
    good = json.dumps(RICH).encode()
    try:
        parse(good[:where] + data + good[where + len(data) :])
    except ConfigError as error:
        assert str(error).startswith("config.json: ")
