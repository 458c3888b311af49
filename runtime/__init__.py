"""A small container runtime: images, namespaces, cgroups, and the life of a container.

    with Spawner() as spawner:
        image = ImageStore(Path("/var/cache/isolation-lab/images")).ensure("busybox")
        spec = ContainerSpec(name="hello", layers=image.layers, argv=("uname", "-n"), …)
        with Container.launch(spec, spawner, layout=CgroupLayout.detect()) as container:
            container.wait()

Names are loaded when they are first used (PEP 562), so that `import runtime` costs next to
nothing and the spawn helper, which imports two modules of this package, stays small.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from runtime.cgroups import Cgroup, CgroupLayout
    from runtime.container import Container
    from runtime.errors import (
        CgroupError,
        CompileFailed,
        ContainerError,
        ControllerMissing,
        ExecFailed,
        FloorError,
        ImageError,
        ImageNotFound,
        LayerRefused,
        RecipeFailed,
        SpawnerDied,
        SpawnError,
        SpecError,
        StartTimeout,
        StepFailed,
        StillAlive,
        SystemdError,
    )
    from runtime.images import Image, ImageStore, Recipe
    from runtime.namespaces import Namespace
    from runtime.spawn import Process, Request, Spawner
    from runtime.spec import ContainerSpec, Limits

__all__ = [
    "Cgroup",
    "CgroupError",
    "CgroupLayout",
    "CompileFailed",
    "Container",
    "ContainerError",
    "ContainerSpec",
    "ControllerMissing",
    "ExecFailed",
    "FloorError",
    "Image",
    "ImageError",
    "ImageNotFound",
    "ImageStore",
    "LayerRefused",
    "Limits",
    "Namespace",
    "Process",
    "Recipe",
    "RecipeFailed",
    "Request",
    "SpawnError",
    "Spawner",
    "SpawnerDied",
    "SpecError",
    "StartTimeout",
    "StepFailed",
    "StillAlive",
    "SystemdError",
]

_HOME = {
    "runtime.cgroups": ("Cgroup", "CgroupLayout"),
    "runtime.container": ("Container",),
    "runtime.images": ("Image", "ImageStore", "Recipe"),
    "runtime.namespaces": ("Namespace",),
    "runtime.spawn": ("Process", "Request", "Spawner"),
    "runtime.spec": ("ContainerSpec", "Limits"),
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    homes = (module for module, names in _HOME.items() if name in names)
    return getattr(importlib.import_module(next(homes, "runtime.errors")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
