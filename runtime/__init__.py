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
    from runtime.build_runner import ContainerRunner
    from runtime.cgroups import Cgroup, CgroupLayout
    from runtime.container import Container
    from runtime.errors import (
        AddressExhausted,
        AddressInUse,
        ArchiveRefused,
        BuildError,
        BuildStepFailed,
        CgroupError,
        CompileFailed,
        ConfigError,
        ContainerError,
        ControllerMissing,
        DigestMismatch,
        DockerfileError,
        ExecFailed,
        FloorError,
        HookFailed,
        ImageError,
        ImageInUse,
        ImageNotFound,
        ImageNotInRegistry,
        KernelRefused,
        LayerDamaged,
        LayerRefused,
        NameInUse,
        NetworkError,
        NetworkExists,
        NetworkInUse,
        NetworkNotFound,
        NoSuchContainer,
        NotRunning,
        PortInUse,
        RecipeFailed,
        RegistryDenied,
        RegistryError,
        SpawnerDied,
        SpawnError,
        SpecError,
        StartTimeout,
        StateError,
        StepFailed,
        StillAlive,
        StoreFull,
        SubnetInUse,
        SystemdError,
        UsageError,
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
    from runtime.network import (
        Attachment,
        Endpoint,
        Network,
        NetworkNamespace,
        NetworkStore,
        Port,
    )
    from runtime.spawn import Process, Request, Spawner
    from runtime.spec import ContainerSpec, Limits

__all__ = [
    "AddressExhausted",
    "AddressInUse",
    "ArchiveRefused",
    "Attachment",
    "BuildError",
    "BuildStepFailed",
    "Cgroup",
    "CgroupError",
    "CgroupLayout",
    "Change",
    "CompileFailed",
    "ConfigError",
    "Container",
    "ContainerError",
    "ContainerRunner",
    "ContainerSpec",
    "ControllerMissing",
    "DigestMismatch",
    "DockerfileError",
    "Endpoint",
    "ExecFailed",
    "FloorError",
    "Hidden",
    "HistoryEntry",
    "HookFailed",
    "IdMap",
    "IdRange",
    "Image",
    "ImageError",
    "ImageInUse",
    "ImageNotFound",
    "ImageNotInRegistry",
    "ImageStore",
    "KernelRefused",
    "LayerDamaged",
    "LayerRefused",
    "LayerSize",
    "Limits",
    "NameInUse",
    "Namespace",
    "Network",
    "NetworkError",
    "NetworkExists",
    "NetworkInUse",
    "NetworkNamespace",
    "NetworkNotFound",
    "NetworkStore",
    "NoSuchContainer",
    "NotRunning",
    "OverlayForm",
    "Pin",
    "Port",
    "PortInUse",
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
    "StateError",
    "StepFailed",
    "StillAlive",
    "StoreFull",
    "SubnetInUse",
    "SystemdError",
    "UnpackLimits",
    "UsageError",
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
    "runtime.network": (
        "Attachment",
        "Endpoint",
        "Network",
        "NetworkNamespace",
        "NetworkStore",
        "Port",
    ),
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
