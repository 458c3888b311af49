"""Usage from texts as v1's and v2's kernels write them, and in the JSON of other tools."""

from __future__ import annotations

import json
import os
from pathlib import Path

from runtime import Cgroup, CgroupLayout
from runtime.cgroups import usage_v1, usage_v2
from runtime.cgroups.stats import engine_document, runc_document, system_cpu_ns
from runtime.cgroups.usage import (
    CpuUsage,
    HugetlbUsage,
    IoUsage,
    PidsUsage,
    Stall,
    measure,
    parse_pressure,
)

PSI = """\
some avg10=1.50 avg60=0.25 avg300=0.01 total=5109
full avg10=0.00 avg60=0.00 avg300=0.00 total=5035
"""

V2 = {
    "cpu.stat": "usage_usec 5000\nuser_usec 3000\nsystem_usec 2000\ncore_sched.force_idle_usec 0\n"
    "nr_periods 10\nnr_throttled 4\nthrottled_usec 700\nnr_bursts 1\nburst_usec 20\n",
    "memory.current": "1000000\n",
    "memory.peak": "2000000\n",
    "memory.max": "4000000\n",
    "memory.swap.current": "300\n",
    "memory.swap.max": "max\n",
    "memory.stat": "anon 500000\nfile 400000\nkernel 90000\nslab 30000\ninactive_file 100000\n",
    "memory.events": "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n",
    "pids.current": "3\n",
    "pids.max": "max\n",
    "pids.peak": "9\n",
    "pids.events": "max 5\n",
    "io.stat": "8:0 rbytes=90 wbytes=10 rios=3 wios=1 dbytes=5 dios=2\n7:0 \n",
    "hugetlb.2MB.max": "max\n",
    "hugetlb.2MB.current": "2097152\n",
    "hugetlb.2MB.rsvd.current": "4194304\n",
    "hugetlb.2MB.events": "max 6\n",
    "cpuset.cpus.effective": "0-1\n",
    "cpuset.mems.effective": "0\n",
    "cpu.pressure": PSI,
    "memory.pressure": PSI,
    "cgroup.procs": "",
}

V1 = {
    "cpu": {
        "cpu.stat": "nr_periods 10\nnr_throttled 4\nthrottled_time 700\n",
        "cpuacct.usage": "5000000\n",
        "cpuacct.stat": "user 3\nsystem 2\n",
        "cpuacct.usage_percpu": "4000000 1000000 \n",
    },
    "memory": {
        "memory.usage_in_bytes": "1000000\n",
        "memory.max_usage_in_bytes": "2000000\n",
        "memory.limit_in_bytes": "4000000\n",
        "memory.failcnt": "7\n",
        "memory.memsw.usage_in_bytes": "1000300\n",
        "memory.memsw.max_usage_in_bytes": "2000000\n",
        "memory.memsw.limit_in_bytes": "9223372036854771712\n",
        "memory.memsw.failcnt": "0\n",
        "memory.kmem.usage_in_bytes": "90000\n",
        "memory.kmem.max_usage_in_bytes": "95000\n",
        "memory.kmem.limit_in_bytes": "9223372036854771712\n",
        "memory.kmem.failcnt": "0\n",
        "memory.stat": "cache 1\ntotal_rss 500000\ntotal_cache 400000\n"
        "total_inactive_file 100000\n",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
    },
    "pids": {"pids.current": "3\n", "pids.max": "max\n", "pids.peak": "9\n"},
    "blkio": {
        "blkio.throttle.io_service_bytes_recursive": "8:0 Read 90\n8:0 Write 10\n8:0 Sync 100\n"
        "8:0 Async 0\n8:0 Discard 5\n8:0 Total 105\nTotal 105\n",
        "blkio.throttle.io_serviced_recursive": "8:0 Read 3\n8:0 Write 1\n8:0 Discard 2\n"
        "8:0 Total 6\nTotal 6\n",
    },
    "hugetlb": {
        "hugetlb.2MB.usage_in_bytes": "2097152\n",
        "hugetlb.2MB.max_usage_in_bytes": "6291456\n",
        "hugetlb.2MB.failcnt": "6\n",
    },
}


def write(directory: Path, files: dict[str, str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text)


def v2_group(tmp_path: Path) -> Cgroup:
    write(tmp_path / "x", V2)
    controllers = frozenset({"cpu", "cpuset", "hugetlb", "io", "memory", "pids"})
    return Cgroup.adopt(CgroupLayout(tmp_path, controllers), "x")


def v1_group(tmp_path: Path) -> Cgroup:
    points = {name: tmp_path / name for name in V1} | {"cpuacct": tmp_path / "cpu"}
    for name, files in V1.items():
        write(tmp_path / name / "x", files)
    return Cgroup.adopt(CgroupLayout(v1=points), "x")


def test_v2(tmp_path: Path) -> None:
    usage = measure(v2_group(tmp_path))
    assert usage.cpu == CpuUsage(5_000_000, 3_000_000, 2_000_000, 10, 4, 700_000, 1, 20_000)
    memory = usage.memory
    assert memory is not None
    assert (memory.current, memory.peak, memory.limit) == (1_000_000, 2_000_000, 4_000_000)
    assert (memory.swap, memory.swap_limit) == (300, None)
    assert (memory.anon, memory.file, memory.kernel, memory.slab) == (500000, 400000, 90000, 30000)
    assert (memory.failures, memory.oom_kills) == (7, 1)
    assert memory.working_set == 900_000
    assert usage.pids == PidsUsage(3, None, 9, 5)
    assert usage.io == (IoUsage(8, 0, 90, 10, 3, 1, 5, 2),)
    assert usage.hugetlb == {"2MB": HugetlbUsage(4_194_304, None, 6)}
    assert (usage.cpus, usage.mems) == ((0, 1), (0,))
    assert set(usage.pressure) == {"cpu", "memory"}


def test_v1(tmp_path: Path) -> None:
    usage = measure(v1_group(tmp_path))
    tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    assert usage.cpu == CpuUsage(
        5_000_000, 3 * tick, 2 * tick, 10, 4, 700, per_cpu_ns=(4_000_000, 1_000_000)
    )
    memory = usage.memory
    assert memory is not None
    assert (memory.current, memory.peak, memory.limit) == (1_000_000, 2_000_000, 4_000_000)
    assert (memory.swap, memory.swap_limit) == (300, None)
    assert (memory.anon, memory.file, memory.kernel, memory.slab) == (500000, 400000, 90000, None)
    assert (memory.failures, memory.oom_kills) == (7, 1)
    assert memory.working_set == 900_000
    assert usage.pids == PidsUsage(3, None, 9, None)
    assert usage.io == (IoUsage(8, 0, 90, 10, 3, 1, 5, 2),)
    assert usage.hugetlb == {"2MB": HugetlbUsage(2_097_152, 6_291_456, 6)}
    assert usage.pressure == {}


def test_the_hybrid_takes_cpu_time_from_v2_and_throttling_from_v1(tmp_path: Path) -> None:
    times = {"cpu.stat": "usage_usec 9\nuser_usec 5\nsystem_usec 4\n", "cpu.pressure": PSI}
    write(tmp_path / "unified/x", times)
    write(tmp_path / "cpu/x", {"cpu.stat": V1["cpu"]["cpu.stat"]})
    layout = CgroupLayout(tmp_path / "unified", frozenset(), {"cpu": tmp_path / "cpu"})
    usage = measure(Cgroup.adopt(layout, "x"))
    assert usage.cpu == CpuUsage(9000, 5000, 4000, 10, 4, 700)
    assert usage.memory is usage.pids is None
    assert usage.io == ()
    assert set(usage.pressure) == {"cpu"}


def test_without_a_limit_or_accounting() -> None:
    files = {"memory.current": "5\n", "memory.max": "max\n", "memory.stat": "anon 1\n"}
    memory = usage_v2.memory(files.get)
    assert memory is not None
    assert memory.limit is memory.swap is memory.swap_limit is memory.peak is memory.kernel is None
    assert usage_v2.memory({}.get) is usage_v1.memory({}.get) is usage_v2.pids({}.get) is None
    assert usage_v2.cpu_times({}.get) is usage_v1.cpu_times({}.get) is None
    assert usage_v2.io({}.get) == usage_v1.io({}.get) == ()


def test_v1_swap_alone_is_the_difference() -> None:
    files = V1["memory"] | {"memory.memsw.limit_in_bytes": "4500000\n"}
    memory = usage_v1.memory(files.get)
    assert memory is not None
    assert memory.swap_limit == 500_000


def test_bfq_counts_where_the_throttling_layer_does_not() -> None:
    files = {"blkio.bfq.io_service_bytes_recursive": "8:0 Read 4096\nTotal 4096\n"}
    assert usage_v1.io(files.get) == (IoUsage(8, 0, 4096, 0, 0, 0),)


def test_pressure() -> None:
    assert parse_pressure(PSI).some == Stall(1.5, 0.25, 0.01, 5109)
    assert parse_pressure(PSI.splitlines()[0]).full is None
    assert parse_pressure(PSI.splitlines()[1]).some is None


def test_the_document_of_runc(tmp_path: Path) -> None:
    document = runc_document(measure(v2_group(tmp_path)))
    psi = {"avg10": 1.5, "avg60": 0.25, "avg300": 0.01, "total": 5109}
    assert document["cpu"]["usage"] == {"total": 5_000_000, "kernel": 2_000_000, "user": 3_000_000}
    assert document["cpu"]["throttling"] == {
        "periods": 10,
        "throttledPeriods": 4,
        "throttledTime": 700_000,
    }
    assert document["cpu"]["psi"]["some"] == psi
    assert document["cpuset"]["cpus"] == [0, 1]
    memory = document["memory"]
    assert memory["usage"] == {"limit": 4000000, "usage": 1000000, "max": 2000000, "failcnt": 7}
    assert memory["swap"] == {"limit": 2**64 - 1, "usage": 1_000_300, "failcnt": 0}
    assert memory["kernel"] == {"limit": 0, "failcnt": 0}
    assert memory["cache"] == memory["raw"]["file"] == 400_000
    assert document["pids"] == {"current": 3}
    assert document["blkio"]["ioServiceBytesRecursive"] == [
        {"major": 8, "minor": 0, "op": "Read", "value": 90},
        {"major": 8, "minor": 0, "op": "Write", "value": 10},
    ]
    assert document["hugetlb"] == {"2MB": {"usage": 4_194_304, "failcnt": 6}}
    assert json.loads(json.dumps(document)) == document


def test_the_document_of_runc_on_v1(tmp_path: Path) -> None:
    document = runc_document(measure(v1_group(tmp_path)))
    assert document["cpu"]["usage"]["percpu"] == [4_000_000, 1_000_000]
    assert document["memory"]["swap"] == {
        "limit": 2**64 - 1,
        "usage": 1_000_300,
        "max": 2_000_000,
        "failcnt": 0,
    }
    assert document["memory"]["kernel"]["usage"] == 90_000
    assert "psi" not in document["cpu"]


def test_the_document_of_docker_engine(tmp_path: Path) -> None:
    document = engine_document(measure(v2_group(tmp_path)), system_ns=10**9, online_cpus=2)
    assert document["cpu_stats"] == {
        "cpu_usage": {
            "total_usage": 5_000_000,
            "usage_in_kernelmode": 2_000_000,
            "usage_in_usermode": 3_000_000,
        },
        "system_cpu_usage": 10**9,
        "online_cpus": 2,
        "throttling_data": {"periods": 10, "throttled_periods": 4, "throttled_time": 700_000},
    }
    assert document["memory_stats"]["usage"] == 1_000_000
    assert document["memory_stats"]["limit"] == 4_000_000
    assert document["pids_stats"] == {"current": 3}
    assert len(document["blkio_stats"]["io_serviced_recursive"]) == 2


def test_an_unlimited_container_has_the_hosts_memory(tmp_path: Path) -> None:
    group = v2_group(tmp_path)
    Path(str(group.into), "memory.max").write_text("max\n")
    limit = engine_document(measure(group), 1, 1)["memory_stats"]["limit"]
    kib = Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0]
    assert limit == int(kib) * 1024


def test_the_hosts_cpu_time_grows() -> None:
    first = system_cpu_ns()
    assert 0 < first <= system_cpu_ns()
