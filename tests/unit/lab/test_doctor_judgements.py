"""What probes conclude, for hosts that are not at hand: from texts, without root."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.doctor.probes.cgroups import judge_layout, judge_pressure
from lab.doctor.probes.machines import judge_kvm, judge_qemu
from lab.doctor.probes.resources import judge_cpus, judge_ksm, judge_memory
from lab.doctor.probes.storage import judge_room
from lab.doctor.rights import explain
from runtime.cgroups import CgroupLayout
from vm.accelerator import Attempt, decide

V2 = "24 22 0:21 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
UNIFIED = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
V1 = "".join(
    f"3{n} 31 0:3{n} / /sys/fs/cgroup/{name} rw,relatime - cgroup cgroup rw,{name}\n"
    for n, name in enumerate(["cpu", "memory", "pids", "freezer"])
)


@pytest.mark.parametrize(
    ("mountinfo", "controllers", "status", "words"),
    [
        (V2, "cpuset cpu io memory pids", "ok", "v2: v2 has cpu cpuset io memory pids"),
        (V1, "", "limited", "v1: v1 has cpu freezer memory pids"),
        (V1 + UNIFIED, "hugetlb", "limited", "hybrid: v1 has cpu freezer memory pids, v2 has hu"),
        (V2, "cpu pids", "missing", "nothing limits memory"),
        ("", "", "missing", "nothing limits cpu, memory, pids"),
    ],
)
def test_layouts(mountinfo: str, controllers: str, status: str, words: str) -> None:
    outcome = judge_layout(CgroupLayout.parse(mountinfo, controllers))
    assert outcome.status == status
    assert words in outcome.found
    assert bool(outcome.advice) == (status != "ok")


@pytest.mark.parametrize(
    ("sysctls", "advice"),
    [
        ({"user/max_user_namespaces": "0"}, "user.max_user_namespaces=10000"),
        ({"kernel/unprivileged_userns_clone": "0"}, "kernel.unprivileged_userns_clone=1"),
        (
            {
                "user/max_user_namespaces": "31000",
                "kernel/unprivileged_userns_clone": "1",
                "kernel/apparmor_restrict_unprivileged_userns": "1",
            },
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ({"user/max_user_namespaces": "31000"}, "CONFIG_USER_NS"),
        ({}, "CONFIG_USER_NS"),
    ],
)
def test_why_there_are_no_user_namespaces(sysctls: dict[str, str | None], advice: str) -> None:
    assert advice in explain(sysctls)


TCG = Attempt("tcg", "max", 1.5, "init after 1.50 s")
FAST = Attempt("kvm", "host", 0.25, "init after 0.25 s")
CRAWLS = Attempt("kvm", "host", None, "no init within 3.2 s")
CLOSED = Attempt("kvm", "host", None, "cannot open /dev/kvm: No such file or directory")


def test_kvm_is_well_only_if_it_is_faster() -> None:
    good = judge_kvm(decide([TCG, FAST]), device=True)
    assert good.status == "ok"
    assert "6.0 times faster" in good.found


def test_a_kvm_that_crawls_is_limited_and_tcg_is_chosen() -> None:
    slow = judge_kvm(decide([TCG, CRAWLS]), device=True)
    assert slow.status == "limited"
    assert "TCG is chosen (1.50 s)" in slow.found
    assert "no init within 3.2 s" in slow.found


def test_without_the_device_kvm_is_missing() -> None:
    none = judge_kvm(decide([TCG, CLOSED]), device=False)
    assert none.status == "missing"
    assert "kvm_intel" in none.advice


def talk(*machines: dict[str, str]) -> str:
    version = {"qemu": {"major": 9, "minor": 2, "micro": 1}, "package": "Debian 1:9.2.1"}
    greeting = {"QMP": {"version": version, "capabilities": []}}
    answers = [greeting, {"return": {}}, {"return": list(machines)}, {"event": "SHUTDOWN"}]
    return "\r\n".join(map(json.dumps, answers)) + "\r\n"


def test_qemu_has_both_machines() -> None:
    q35 = {"name": "pc-q35-9.2", "alias": "q35"}
    whole = judge_qemu(talk({"name": "microvm"}, q35))
    assert (whole.status, whole.found[:20]) == ("ok", "9.2.1 Debian 1:9.2.1")
    half = judge_qemu(talk({"name": "microvm"}))
    assert half.status == "limited"
    assert "without machine q35" in half.found


GIB = 2**30


def test_thresholds() -> None:
    place = Path("/cache")
    assert judge_room(place, 8 * GIB, GIB, 4 * GIB).status == "ok"
    assert judge_room(place, 2 * GIB, GIB, 4 * GIB).status == "limited"
    assert judge_room(place, GIB // 2, GIB, 4 * GIB) == (
        "missing",
        "512 MiB free at /cache, 1.00 GiB are needed",
        "",
    )
    assert [judge_memory(n * GIB // 2, 8 * GIB).status for n in (1, 3, 8)] == [
        "missing",
        "limited",
        "ok",
    ]
    assert [judge_cpus(n, 8).status for n in (1, 2)] == ["limited", "ok"]


def test_ksm_that_runs_is_told() -> None:
    assert [judge_ksm(run, "12\n").status for run in ("0", "1", "2")] == ["ok", "limited", "ok"]
    assert "12 pages" in judge_ksm("1", "12\n").found


def test_pressure() -> None:
    text = "some avg10=1.53 avg60=0.00 avg300=0.00 total=12\nfull avg10=0.00 total=0\n"
    assert judge_pressure({"cpu": text, "io": ""}, True).found == (
        "host and each cgroup; now cpu 1.53 %, io ? %"
    )
