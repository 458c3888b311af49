"""cgroups v1, v2 and the hybrid of both behind one interface (cgroups(7))."""

from __future__ import annotations

from runtime.cgroups.group import Cgroup
from runtime.cgroups.layout import CgroupLayout

__all__ = ["Cgroup", "CgroupLayout"]
