"""The host's cgroup hierarchies in words, for the doctor and for the facts of a run."""

from __future__ import annotations

from runtime.cgroups import CgroupLayout

__all__ = ["cgroup_facts", "describe"]


def cgroup_facts(mountinfo: str) -> tuple[str | None, str | None]:
    """``v2``, ``v1``, ``hybrid`` or ``none``, and which controllers are where, in words. Two nulls
    if a hierarchy is mounted and cannot be read."""
    try:
        layout = CgroupLayout.parse(mountinfo)
    except OSError:
        return None, None
    return layout.kind, describe(layout)


def describe(layout: CgroupLayout) -> str:
    """Which controllers are in v1 and which in v2. Short: v1 has a mount point for each of a dozen,
    and `CgroupLayout.describe` names them all."""
    parts = []
    if layout.v1:
        parts.append(f"v1 has {' '.join(sorted(layout.v1))}")
    if layout.v2 is not None:
        parts.append(f"v2 has {' '.join(sorted(layout.v2_controllers)) or 'none'}")
    return ", ".join(parts) or "nothing is mounted"
