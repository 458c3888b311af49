"""Limits in Python's words and in OCI's, and which files they come to in v1 and v2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from runtime import SpecError
from runtime.cgroups import v1, v2
from runtime.cgroups.limits import merge, resources
from runtime.cgroups.settings import (
    cpu_list,
    cpu_shares,
    cpu_weight,
    io_weight,
    needed,
    swap_alone,
)

MIB = 2**20


def files(
    version: Any, controller: str, given: Mapping[str, Any], live: Mapping[str, str] | None = None
) -> list[tuple[str, str]]:
    """First choices, in order; what has no file is `-`."""
    reader = live.__getitem__ if live is not None else None
    return [
        setting.choices[0] if setting.choices else ("-", setting.limit)
        for setting in version.translate(controller, given, reader)
    ]


def test_the_words_of_python() -> None:
    given = resources(
        cpus=1.5,
        cpu_weight=200,
        cpu_idle=False,
        cpuset="0-1",
        cpuset_mems="0",
        memory=64 * MIB,
        memory_low=16 * MIB,
        memory_high=48 * MIB,
        swap=8 * MIB,
        pids=100,
        io_weight=500,
        io_max={"8:0": {"rbps": 10**6, "wiops": 100}},
        hugetlb={"2MB": 4 * MIB},
    )
    assert given == {
        "cpu": {"quota": 150_000, "period": 100_000, "idle": 0, "cpus": "0-1", "mems": "0"},
        "memory": {"limit": 64 * MIB, "swap": 72 * MIB, "reservation": 16 * MIB},
        "pids": {"limit": 100},
        "blockIO": {
            "weight": 500,
            "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 10**6}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 100}],
        },
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}],
        "unified": {"cpu.weight": "200", "memory.high": str(48 * MIB)},
    }
    assert resources() == {}


def test_a_device_by_its_path() -> None:
    given = resources(io_max={"/dev/null": {"rbps": 1}})
    assert given["blockIO"]["throttleReadBpsDevice"] == [{"major": 1, "minor": 3, "rate": 1}]


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"cpus": 0.001}, "cpus"),
        ({"memory": 0}, "memory"),
        ({"pids": -1}, "pids"),
        ({"swap": 5}, "swap"),
        ({"memory": 10, "swap": -2}, "swap"),
        ({"cpu_weight": 0}, "cpu_weight"),
        ({"io_weight": 5}, "io_weight"),
        ({"io_max": {"sda": {"rbps": 1}}}, "MAJOR:MINOR"),
        ({"io_max": {"/no/such": {"rbps": 1}}}, "/no/such"),
        ({"io_max": {"8:0": {"bps": 1}}}, "'bps' is none of"),
    ],
)
def test_impossible_limits_are_refused(limits: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        resources(**limits)


def test_merging_is_by_field() -> None:
    first = {"memory": {"limit": 1, "swap": 2}, "pids": {"limit": 3}, "devices": [1]}
    second = {"memory": {"limit": 9}, "devices": [2], "cpu": {}}
    assert merge(first, second) == {
        "memory": {"limit": 9, "swap": 2},
        "pids": {"limit": 3},
        "devices": [2],
        "cpu": {},
    }
    assert first["memory"] == {"limit": 1, "swap": 2}


@pytest.mark.parametrize(
    ("shares", "weight"),
    # The pairs that the curve was made for, and their neighbours; the same values as in
    # opencontainers/cgroups, TestConvertCPUSharesToCgroupV2Value.
    [(1, 1), (2, 1), (3, 2), (1024, 100), (262_143, 10_000), (262_144, 10_000), (10**6, 10_000)],
)
def test_weight_of_shares(shares: int, weight: int) -> None:
    assert cpu_weight(shares) == weight


def test_shares_of_weight_are_the_way_back() -> None:
    assert [cpu_shares(weight) for weight in (1, 100, 10_000)] == [2, 1024, 262_144]
    for weight in range(1, 10_001, 97):
        assert abs(cpu_weight(cpu_shares(weight)) - weight) <= max(1, weight // 100)


def test_io_weights_are_linear() -> None:
    assert [io_weight(weight) for weight in (10, 100, 1000)] == [1, 910, 10_000]


@pytest.mark.parametrize(
    ("memory", "swap", "alone"),
    [
        (None, None, None),
        (100, None, None),
        (100, 0, None),
        (-1, None, -1),
        (-1, 0, -1),
        (100, -1, -1),
        (None, -1, -1),
        (-1, 50, 50),
        (100, 100, 0),
        (100, 300, 200),
    ],
)
def test_swap_alone(memory: int | None, swap: int | None, alone: int | None) -> None:
    assert swap_alone(memory, swap) == alone


@pytest.mark.parametrize(("memory", "swap"), [(None, 5), (0, 5), (100, 50)])
def test_swap_that_cannot_be_told(memory: int | None, swap: int) -> None:
    with pytest.raises(SpecError, match=r"memory\.swap"):
        swap_alone(memory, swap)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({}, ()),
        ({"cpu": {}, "memory": {}, "network": {}, "blockIO": None}, ()),
        ({"cpu": {"cpus": "0"}}, ("cpuset",)),
        ({"cpu": {"shares": 2, "mems": "0"}}, ("cpu", "cpuset")),
        ({"network": {"classID": 1, "priorities": [1]}}, ("net_cls", "net_prio")),
        ({"unified": {"memory.high": "1", "cgroup.max.depth": "3"}}, ("memory",)),
        ({"unified": {"misc.max": "x"}}, ("misc",)),
        ({"memory": {"limit": 1}, "unified": {"memory.high": "1"}}, ("memory",)),
        ({"devices": [{"allow": False, "access": "rwm"}]}, ()),
    ],
)
def test_needed(given: dict[str, Any], names: tuple[str, ...]) -> None:
    assert needed(given) == names


CPU = {"cpu": {"shares": 1024, "quota": 50_000, "period": 20_000, "burst": 10_000, "idle": 0}}


def test_cpu() -> None:
    assert files(v2, "cpu", CPU) == [
        ("cpu.idle", "0"),
        ("cpu.weight", "100"),
        ("cpu.max", "50000 20000"),
        ("cpu.max.burst", "10000"),
    ]
    assert files(v1, "cpu", CPU) == [
        ("cpu.idle", "0"),
        ("cpu.shares", "1024"),
        ("cpu.cfs_period_us", "20000"),
        ("cpu.cfs_quota_us", "50000"),
        ("cpu.cfs_burst_us", "10000"),
    ]


def test_who_is_idle_takes_no_weight() -> None:
    given = {"cpu": {"idle": 1, "shares": 1024}}
    assert files(v2, "cpu", given) == files(v1, "cpu", given) == [("cpu.idle", "1")]


@pytest.mark.parametrize(
    ("cpu", "live", "text"),
    [
        ({"quota": 5000}, None, "5000 100000"),
        ({"quota": -1}, None, "max 100000"),
        ({"period": 5000}, None, "max 5000"),
        ({"quota": 5000}, {"cpu.max": "7 9\n"}, "5000"),
        ({"quota": -1}, {"cpu.max": "7 9\n"}, "max"),
        ({"period": 5000}, {"cpu.max": "7 9\n"}, "7 5000"),
    ],
)
def test_half_a_bandwidth(cpu: dict[str, int], live: dict[str, str] | None, text: str) -> None:
    assert files(v2, "cpu", {"cpu": cpu}, live) == [("cpu.max", text)]


def test_realtime_is_v1s_alone() -> None:
    given = {"cpu": {"realtimePeriod": 1_000_000, "realtimeRuntime": 950_000}}
    assert files(v2, "cpu", given) == [("-", "cpu.realtimePeriod"), ("-", "cpu.realtimeRuntime")]
    assert files(v1, "cpu", given) == [
        ("cpu.rt_period_us", "1000000"),
        ("cpu.rt_runtime_us", "950000"),
    ]


MEMORY = {
    "memory": {
        "limit": 100,
        "swap": 150,
        "reservation": 50,
        "kernel": 10,
        "kernelTCP": 20,
        "swappiness": 0,
        "disableOOMKiller": True,
    }
}


def test_memory() -> None:
    assert files(v2, "memory", MEMORY) == [
        ("memory.max", "100"),
        ("memory.swap.max", "50"),
        ("memory.low", "50"),
        ("-", "memory.kernel"),
        ("-", "memory.kernelTCP"),
        ("-", "memory.swappiness"),
        ("-", "memory.disableOOMKiller"),
    ]
    assert files(v1, "memory", MEMORY) == [
        ("memory.limit_in_bytes", "100"),
        ("memory.memsw.limit_in_bytes", "150"),
        ("memory.soft_limit_in_bytes", "50"),
        ("-", "memory.kernel"),
        ("memory.kmem.tcp.limit_in_bytes", "20"),
        ("memory.swappiness", "0"),
        ("memory.oom_control", "1"),
    ]


def test_no_limit_on_memory_is_none_on_swap() -> None:
    given = {"memory": {"limit": -1}}
    assert files(v2, "memory", given) == [("memory.max", "max"), ("memory.swap.max", "max")]
    assert files(v1, "memory", given) == [
        ("memory.limit_in_bytes", "-1"),
        ("memory.memsw.limit_in_bytes", "-1"),
    ]


@pytest.mark.parametrize(("now", "text"), [("100\n", "50"), ("max\n", "150")])
def test_swap_of_a_live_cgroup_goes_by_the_limit_it_has(now: str, text: str) -> None:
    given = {"memory": {"swap": 150}}
    live = {"memory.max": now, "memory.swap.max": "7\n"}
    assert files(v2, "memory", given, live) == [("memory.swap.max", text)]
    with pytest.raises(SpecError):
        files(v2, "memory", given)


@pytest.mark.parametrize(
    ("memory", "swap", "alone"),
    [("100", "50", ["90"]), ("40", "30", ["10"]), ("40", "10", []), ("max", "10", [])],
)
def test_memory_of_a_live_cgroup_leaves_the_sum_as_it_is(
    memory: str, swap: str, alone: list[str]
) -> None:
    """As v1 does, where the sum is a limit of its own."""
    live = {"memory.max": memory, "memory.swap.max": swap}
    found = files(v2, "memory", {"memory": {"limit": 60}}, live)
    assert found == [("memory.max", "60"), *(("memory.swap.max", text) for text in alone)]


def test_what_docker_says_of_an_unlimited_container_is_nothing() -> None:
    given: dict[str, Any] = {
        "cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": ""},
        "memory": {"limit": 0, "swap": 0, "disableOOMKiller": False, "swappiness": None},
        "blockIO": {"weight": 0, "weightDevice": [], "throttleReadBpsDevice": None},
        "pids": {"limit": None},
    }
    for version in (v1, v2):
        for controller in ("cpu", "cpuset", "memory", "io", "pids"):
            assert files(version, controller, given) == []


@pytest.mark.parametrize(("limit", "text"), [(5, "5"), (-1, "max"), (0, "1")])
def test_pids(limit: int, text: str) -> None:
    given = {"pids": {"limit": limit}}
    assert files(v2, "pids", given) == files(v1, "pids", given) == [("pids.max", text)]


BLOCK_IO = {
    "blockIO": {
        "weight": 100,
        "weightDevice": [{"major": 8, "minor": 0, "weight": 10}],
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
        "throttleWriteBpsDevice": [{"major": 8, "minor": 16, "rate": 0}],
        "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 7}],
    }
}


def test_block_io() -> None:
    choices = [setting.choices for setting in v2.translate("io", BLOCK_IO, None)]
    assert choices == [
        (("io.bfq.weight", "100"), ("io.weight", "910")),
        (("io.bfq.weight", "8:0 10"), ("io.weight", "8:0 1")),
        (("io.max", "8:0 rbps=600 riops=7"),),
        (("io.max", "8:16 wbps=max"),),
    ]
    choices = [setting.choices for setting in v1.translate("io", BLOCK_IO, None)]
    assert choices == [
        (("blkio.weight", "100"), ("blkio.bfq.weight", "100")),
        (("blkio.weight_device", "8:0 10"), ("blkio.bfq.weight_device", "8:0 10")),
        (("blkio.throttle.read_bps_device", "8:0 600"),),
        (("blkio.throttle.write_bps_device", "8:16 0"),),
        (("blkio.throttle.read_iops_device", "8:0 7"),),
    ]


def test_the_rest() -> None:
    given = {
        "cpu": {"cpus": "0-1", "mems": "0"},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4096}],
        "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 0}},
        "network": {"classID": 7, "priorities": [{"name": "eth0", "priority": 5}]},
    }
    assert files(v2, "cpuset", given) == [("cpuset.cpus", "0-1"), ("cpuset.mems", "0")]
    assert files(v2, "hugetlb", given) == [
        ("hugetlb.2MB.max", "4096"),
        ("hugetlb.2MB.rsvd.max", "4096"),
    ]
    assert files(v1, "hugetlb", given)[0] == ("hugetlb.2MB.limit_in_bytes", "4096")
    line = [("rdma.max", "mlx5_1 hca_handle=3 hca_object=0")]
    assert files(v2, "rdma", given) == files(v1, "rdma", given) == line
    assert files(v1, "net_cls", given) == [("net_cls.classid", "7")]
    assert files(v1, "net_prio", given) == [("net_prio.ifpriomap", "eth0 5")]


def test_unified_is_written_as_it_is_after_the_rest() -> None:
    given = {
        "pids": {"limit": 5},
        "unified": {"pids.max": "7", "io.max": "8:0 rbps=1\n8:16 wiops=2", "misc.max": "x 1"},
    }
    assert files(v2, "pids", given) == [("pids.max", "5"), ("pids.max", "7")]
    assert files(v2, "io", given) == [("io.max", "8:0 rbps=1"), ("io.max", "8:16 wiops=2")]
    assert files(v2, "misc", given) == [("misc.max", "x 1")]
    assert files(v1, "io", given) == [("-", "io.max")] * 2


def test_of_unified_v1_knows_the_weight() -> None:
    given = resources(cpu_weight=100)
    assert files(v1, "cpu", given) == [("cpu.shares", "1024")]
    assert files(v2, "cpu", given) == [("cpu.weight", "100")]


@pytest.mark.parametrize("name", ["../memory.max", "memory.max/x", "nodot"])
def test_unified_names_files_of_the_cgroup_only(name: str) -> None:
    with pytest.raises(SpecError, match="unified"):
        files(v2, name.partition(".")[0], {"unified": {name: "1"}})


def test_lists_of_numbers() -> None:
    assert cpu_list("0-3,7\n") == (0, 1, 2, 3, 7)
    assert cpu_list("\n") == cpu_list(None) == ()
