"""A small container runtime: images, namespaces, cgroups, and the life of a container.

Names are loaded when they are first used (PEP 562), so that `import runtime` costs next to
nothing and the spawn helper, which imports two modules of this package, stays small.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from runtime.cgroups import Cgroup, CgroupLayout
    from runtime.errors import ContainerError
    from runtime.namespaces import Namespace
    from runtime.spawn import Process, Request, Spawner

_HOME = {
    "Cgroup": "runtime.cgroups",
    "CgroupLayout": "runtime.cgroups",
    "ContainerError": "runtime.errors",
    "Namespace": "runtime.namespaces",
    "Process": "runtime.spawn",
    "Request": "runtime.spawn",
    "Spawner": "runtime.spawn",
}

__all__ = ["Cgroup", "CgroupLayout", "ContainerError", "Namespace", "Process", "Request", "Spawner"]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
