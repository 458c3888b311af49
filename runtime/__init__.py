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

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from runtime.cgroups import Cgroup, CgroupLayout
    from runtime.container import Container
    from runtime.errors import (
        CgroupError,
        CompileFailed,
        ConfigError,
        ContainerError,
        ControllerMissing,
        ExecFailed,
        FloorError,
        HookFailed,
        ImageError,
        ImageNotFound,
        LayerRefused,
        NoSuchContainer,
        NotRunning,
        RecipeFailed,
        SpawnerDied,
        SpawnError,
        SpecError,
        StartTimeout,
        StateError,
        StepFailed,
        StillAlive,
        SystemdError,
        UsageError,
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
    "ConfigError",
    "Container",
    "ContainerError",
    "ContainerSpec",
    "ControllerMissing",
    "ExecFailed",
    "FloorError",
    "HookFailed",
    "Image",
    "ImageError",
    "ImageNotFound",
    "ImageStore",
    "LayerRefused",
    "Limits",
    "Namespace",
    "NoSuchContainer",
    "NotRunning",
    "Process",
    "Recipe",
    "RecipeFailed",
    "Request",
    "SpawnError",
    "Spawner",
    "SpawnerDied",
    "SpecError",
    "StartTimeout",
    "StateError",
    "StepFailed",
    "StillAlive",
    "SystemdError",
    "UsageError",
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
    import importlib  # and with it warnings: nothing for a process that lives for milliseconds

    homes = (module for module, names in _HOME.items() if name in names)
    return getattr(importlib.import_module(next(homes, "runtime.errors")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
