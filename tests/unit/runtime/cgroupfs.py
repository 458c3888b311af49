"""Trees in a temporary directory that look like cgroup file systems: a new directory has the
control files that the kernel would put there, and one without children can be removed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from runtime import CgroupLayout

V2_CORE = {
    "cgroup.controllers": "",
    "cgroup.events": "populated 0\nfrozen 0\n",
    "cgroup.freeze": "0\n",
    "cgroup.kill": "",
    "cgroup.procs": "",
    "cgroup.subtree_control": "",
}
V2 = {
    "cpu": ("cpu.idle", "cpu.max", "cpu.max.burst", "cpu.weight"),
    "cpuset": ("cpuset.cpus", "cpuset.mems"),
    "hugetlb": ("hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"),
    "io": ("io.max", "io.weight"),
    "memory": ("memory.high", "memory.low", "memory.max", "memory.swap.max", "memory.current"),
    "pids": ("pids.max",),
    "rdma": ("rdma.max",),
}
V1 = {
    "blkio": ("blkio.bfq.weight", "blkio.throttle.read_bps_device"),
    "cpu": ("cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us", "cpu.idle"),
    "cpuset": ("cpuset.cpus", "cpuset.mems"),
    "devices": ("devices.allow", "devices.deny"),
    "freezer": ("freezer.state",),
    "memory": (
        *("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.soft_limit_in_bytes"),
        *("memory.swappiness", "memory.oom_control", "memory.usage_in_bytes"),
    ),
    "net_cls": ("net_cls.classid",),
    "pids": ("pids.max",),
}


class FakeKernel:
    """Makes and removes the files that come and go with a cgroup's directory."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.base = base
        self.without: set[str] = set()
        """Names of files that this kernel does not have."""
        self._mkdir, self._rmdir = os.mkdir, os.rmdir
        monkeypatch.setattr(os, "mkdir", self._make)
        monkeypatch.setattr(os, "rmdir", self._remove)

    def layout(self, v2: tuple[str, ...] | None, v1: tuple[str, ...] = ()) -> CgroupLayout:
        """Mount these controllers."""
        points: dict[str, Path] = {}
        for name in v1:
            points[name] = self.base / name
            points[name].mkdir()
        if v2 is None:
            return CgroupLayout(v1=points)
        (self.base / "unified").mkdir()
        (self.base / "unified/cgroup.controllers").write_text(" ".join(v2))
        return CgroupLayout(self.base / "unified", frozenset(v2), points)

    def _make(self, path: str | Path, mode: int = 0o777) -> None:
        self._mkdir(path, mode)
        place = Path(path)
        if self.base not in place.parents:
            return
        hierarchy = place.relative_to(self.base).parts[0]
        files: Mapping[str, str]
        if hierarchy == "unified":
            files = {**V2_CORE, **{name: "" for names in V2.values() for name in names}}
        else:
            files = dict.fromkeys((*V1[hierarchy], "cgroup.procs"), "")
        for name, text in files.items():
            if name not in self.without:
                (place / name).write_text(text)

    def _remove(self, path: str | Path) -> None:
        place = Path(path)
        if self.base in place.parents and place.exists():
            if any(each.is_dir() for each in place.iterdir()):
                self._rmdir(path)  # refuses
            for each in place.iterdir():
                each.unlink()
        self._rmdir(path)


def written(directory: str | Path) -> dict[str, str]:
    """The files that hold something other than what the kernel put there."""
    return {
        each.name: text
        for each in Path(directory).iterdir()
        if each.is_file() and (text := each.read_text()) != V2_CORE.get(each.name, "")
    }
