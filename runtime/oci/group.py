"""The cgroup of a container, found again from its record."""

from __future__ import annotations

from runtime.errors import StateError

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from runtime.cgroups import Cgroup
    from runtime.oci.state import Container

__all__ = ["group_of", "needed_group"]


def group_of(container: Container) -> Cgroup | None:
    """Its cgroup, or None if it has none (`--cgroup-manager disabled`, or an ordinary user who may
    make none)."""
    record = container.record["cgroup"]
    if record is None:
        return None
    from runtime.cgroups import Cgroup

    return Cgroup.from_record(record)


def needed_group(container: Container, what: str) -> Cgroup:
    """Its cgroup, for what cannot be done without. Raises StateError."""
    group = group_of(container)
    if group is None:
        raise StateError(f"cannot {what} container {container.id!r}: it has no cgroup")
    return group
