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
    from runtime.build_runner import ContainerRunner
    from runtime.cgroups import Cgroup, CgroupLayout
    from runtime.container import Container
    from runtime.errors import (
        ArchiveRefused,
        BuildError,
        BuildStepFailed,
        CgroupError,
        CompileFailed,
        ContainerError,
        ControllerMissing,
        DigestMismatch,
        DockerfileError,
        ExecFailed,
        FloorError,
        ImageError,
        ImageInUse,
        ImageNotFound,
        ImageNotInRegistry,
        LayerDamaged,
        LayerRefused,
        RecipeFailed,
        RegistryDenied,
        RegistryError,
        SpawnerDied,
        SpawnError,
        SpecError,
        StartTimeout,
        StepFailed,
        StillAlive,
        StoreFull,
        SystemdError,
    )
    from runtime.images import (
        Change,
        Hidden,
        HistoryEntry,
        IdMap,
        IdRange,
        Image,
        ImageStore,
        LayerSize,
        OverlayForm,
        Pin,
        Pruned,
        Recipe,
        Runner,
        RunStep,
        UnpackLimits,
    )
    from runtime.namespaces import Namespace
    from runtime.spawn import Process, Request, Spawner
    from runtime.spec import ContainerSpec, Limits

__all__ = [
    "ArchiveRefused",
    "BuildError",
    "BuildStepFailed",
    "Cgroup",
    "CgroupError",
    "CgroupLayout",
    "Change",
    "CompileFailed",
    "Container",
    "ContainerError",
    "ContainerRunner",
    "ContainerSpec",
    "ControllerMissing",
    "DigestMismatch",
    "DockerfileError",
    "ExecFailed",
    "FloorError",
    "Hidden",
    "HistoryEntry",
    "IdMap",
    "IdRange",
    "Image",
    "ImageError",
    "ImageInUse",
    "ImageNotFound",
    "ImageNotInRegistry",
    "ImageStore",
    "LayerDamaged",
    "LayerRefused",
    "LayerSize",
    "Limits",
    "Namespace",
    "OverlayForm",
    "Pin",
    "Process",
    "Pruned",
    "Recipe",
    "RecipeFailed",
    "RegistryDenied",
    "RegistryError",
    "Request",
    "RunStep",
    "Runner",
    "SpawnError",
    "Spawner",
    "SpawnerDied",
    "SpecError",
    "StartTimeout",
    "StepFailed",
    "StillAlive",
    "StoreFull",
    "SystemdError",
    "UnpackLimits",
]

_HOME = {
    "runtime.build_runner": ("ContainerRunner",),
    "runtime.cgroups": ("Cgroup", "CgroupLayout"),
    "runtime.container": ("Container",),
    "runtime.images": (
        "Change",
        "Hidden",
        "HistoryEntry",
        "IdMap",
        "IdRange",
        "Image",
        "ImageStore",
        "LayerSize",
        "OverlayForm",
        "Pin",
        "Pruned",
        "Recipe",
        "Runner",
        "RunStep",
        "UnpackLimits",
    ),
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
