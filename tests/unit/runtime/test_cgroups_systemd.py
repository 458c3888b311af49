"""Names and properties of systemd units; and what is said where there is no systemd."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime import Cgroup, CgroupLayout, SpecError, SystemdError
from runtime.cgroups import systemd
from runtime.cgroups.limits import resources
from runtime.cgroups.sdbus import Bus
from runtime.cgroups.systemd import SystemdCgroup, expand_slice, unit_of
from runtime.cgroups.unit import annotation_properties, unit_properties

INFINITY = 2**64 - 1
PURE = CgroupLayout("/sys/fs/cgroup", frozenset({"cpu", "memory", "pids"}))


@pytest.mark.parametrize(
    ("path", "user", "parent", "unit"),
    [
        ("system.slice:docker:12", False, "system.slice", "docker-12.scope"),
        (":docker:12", False, "system.slice", "docker-12.scope"),
        (":libpod:12", True, "user.slice", "libpod-12.scope"),
        ("a-b.slice::12", False, "a-b.slice", "12.scope"),
        ("-.slice:x:12", False, "-.slice", "x-12.scope"),
        (None, False, "system.slice", "runtime-c1.scope"),
    ],
)
def test_names(path: str | None, user: bool, parent: str, unit: str) -> None:
    assert unit_of(path, "c1", user) == (parent, unit)


@pytest.mark.parametrize(
    "path",
    [
        *("/docker/12", "a:b", "a.slice:b:c:d", "a:b:", "a:b:c", "--a.slice:b:c"),
        *("a.slice:b/../c:d", "s.slice:x:y.slice"),
    ],
)
def test_a_path_for_cgroupfs_is_none_for_systemd(path: str) -> None:
    with pytest.raises(SpecError, match="cgroupsPath"):
        unit_of(path, "c1")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("system.slice", "system.slice"),
        ("test-a-b.slice", "test.slice/test-a.slice/test-a-b.slice"),
        ("-.slice", ""),
    ],
)
def test_slices_are_nested_by_their_dashes(name: str, path: str) -> None:
    assert expand_slice(name) == path


def test_properties() -> None:
    given = resources(
        cpus=1.255,
        cpuset="0,9",
        memory=2**20,
        swap=2**19,
        memory_low=5,
        pids=7,
        io_weight=10,
        cpu_weight=50,
        memory_high=9,
    )
    assert dict(unit_properties(given)) == {
        "CPUQuotaPeriodUSec": ("t", 100_000),
        "CPUQuotaPerSecUSec": ("t", 1_260_000),  # whole percents
        "CPUWeight": ("t", 50),
        "AllowedCPUs": ("ay", [1, 2]),
        "MemoryMax": ("t", 2**20),
        "MemorySwapMax": ("t", 2**19),
        "MemoryLow": ("t", 5),
        "MemoryHigh": ("t", 9),
        "TasksMax": ("t", 7),
        "IOWeight": ("t", 1),
    }
    assert unit_properties({}) == []


@pytest.mark.parametrize(
    ("given", "properties"),
    [
        ({"cpu": {"shares": 1024}}, {"CPUWeight": ("t", 100)}),
        ({"cpu": {"shares": 1024, "idle": 1}}, {"CPUWeight": ("t", 0)}),
        (
            {"memory": {"limit": -1}, "pids": {"limit": -1}},
            {
                "MemoryMax": ("t", INFINITY),
                "MemorySwapMax": ("t", INFINITY),
                "TasksMax": ("t", INFINITY),
            },
        ),
        ({"pids": {"limit": 0}}, {"TasksMax": ("t", 1)}),
        (
            {"unified": {"cpu.max": "max 5000", "memory.max": "max", "hugetlb.2MB.max": "1"}},
            {
                "CPUQuotaPeriodUSec": ("t", 5000),
                "CPUQuotaPerSecUSec": ("t", INFINITY),
                "MemoryMax": ("t", INFINITY),
            },
        ),
    ],
)
def test_properties_at_the_edges(given: dict[str, Any], properties: dict[str, Any]) -> None:
    assert dict(unit_properties(given)) == properties


def test_annotations() -> None:
    given = {
        "org.systemd.property.TimeoutStopSec": "uint64 5",
        "org.systemd.property.CollectMode": "'inactive-or-failed'",
        "org.systemd.property.After": "['a.service', 'b.service']",
        "org.systemd.property.SendSIGHUP": "true",
        "other": "x",
    }
    assert annotation_properties(given) == [
        ("TimeoutStopUSec", ("t", 5_000_000)),
        ("CollectMode", ("s", "inactive-or-failed")),
        ("After", ("as", ["a.service", "b.service"])),
        ("SendSIGHUP", ("b", True)),
    ]
    with pytest.raises(SpecError, match="GVariant"):
        annotation_properties({"org.systemd.property.X": "<nonsense>"})


def test_without_systemd_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd.os.path, "isdir", lambda path: path != "/run/systemd/system")
    with pytest.raises(SystemdError, match="leave --systemd-cgroup out"):
        SystemdCgroup.start(PURE, "system.slice:x:c1", "c1")


def test_with_v1_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd.os.path, "isdir", lambda path: True)
    layout = CgroupLayout("/sys/fs/cgroup/unified", frozenset(), {"cpu": "/sys/fs/cgroup/cpu"})
    with pytest.raises(SystemdError, match="unified hierarchy alone"):
        SystemdCgroup.start(layout, "system.slice:x:c1", "c1")


def test_a_record_knows_that_it_is_a_scope() -> None:
    group = SystemdCgroup(
        PURE, "system.slice/x-c1.scope", ("/sys/fs/cgroup/system.slice/x-c1.scope",)
    )
    group.unit = "x-c1.scope"
    again = Cgroup.from_record(group.record())
    assert isinstance(again, SystemdCgroup)
    assert again.unit == "x-c1.scope"


@pytest.fixture
def bus_daemon(tmp_path: Path) -> Iterator[str]:
    """A real bus, with nobody on it."""
    daemon = shutil.which("dbus-daemon")
    if daemon is None:
        pytest.skip("dbus-daemon is not here (package dbus-daemon)")
    process = subprocess.Popen(
        [
            daemon,
            "--session",
            "--nofork",
            "--print-address=1",
            f"--address=unix:path={tmp_path}/bus",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        yield process.stdout.readline().strip()
        process.terminate()
        process.wait()


def test_a_bus_without_a_manager_is_an_error_with_its_name(
    bus_daemon: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message is built, sent and answered: its signature is right, or libsystemd refuses it."""
    monkeypatch.setitem(os.environ, "DBUS_SESSION_BUS_ADDRESS", bus_daemon)
    properties = [
        ("Description", ("s", "x")),
        ("PIDs", ("au", [1, 2])),
        ("AllowedCPUs", ("ay", [3])),
        ("MemoryMax", ("t", INFINITY)),
        ("Delegate", ("b", True)),
        ("After", ("as", ["a", "b"])),
    ]
    auxiliary: list[object] = []
    with Bus(user=True) as bus, pytest.raises(SystemdError) as caught:
        bus.call(
            "StartTransientUnit",
            ("s", "x.scope"),
            ("s", "replace"),
            ("a(sv)", properties),
            ("a(sa(sv))", auxiliary),
        )
    # Not known, or known and not to be started: whoever answers is the bus.
    assert caught.value.name.startswith("org.freedesktop.DBus.Error.S")


def test_no_bus_is_an_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
    with pytest.raises(SystemdError, match="no user bus"):
        Bus(user=True)
