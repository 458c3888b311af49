"""All probes, in the order in which they are tried and told. `needed_for` decides what blocks."""

from __future__ import annotations

from lab.doctor.probe import Probe
from lab.doctor.probes import (
    cgroups,
    devices,
    machines,
    namespaces,
    resources,
    storage,
    tools,
)

__all__ = ["PROBES"]

PROBES: tuple[Probe, ...] = (
    *resources.PROBES,
    *namespaces.PROBES,
    *cgroups.PROBES,
    *storage.PROBES,
    *tools.PROBES,
    *machines.PROBES,
    *devices.PROBES,
)
