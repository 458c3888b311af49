"""The root file system of a container as steps, and why in this order.

After the OCI runtime specification, config-linux.md: "Default Filesystems", "Devices", "Default
Devices", "Masked Paths", "Readonly Paths", "Rootfs Mount Propagation".
"""

from __future__ import annotations

from runtime.engine.constants import (
    MOUNT_ATTR_RDONLY,
    MS_BIND,
    MS_PRIVATE,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
)
from runtime.engine.mounts import PROPAGATION, mount_steps
from runtime.engine.namespaces import MAPS, outside_of
from runtime.errors import SpecError

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from runtime.engine.hooks import Hooks
    from runtime.engine.namespaces import Map
    from runtime.engine.steps import Step

    Overlay = tuple[Sequence[str], str | None, str | None]

__all__ = ["DEVICES", "confine_steps", "overlay_step", "root_steps"]

_CHARACTER = 0o020000
_KINDS = {"c": _CHARACTER, "u": _CHARACTER, "b": 0o060000, "p": 0o010000}

DEVICES = {
    "/dev/null": (1, 3),
    "/dev/zero": (1, 5),
    "/dev/full": (1, 7),
    "/dev/random": (1, 8),
    "/dev/urandom": (1, 9),
    "/dev/tty": (5, 0),
}
"""Path → major, minor (Documentation/admin-guide/devices.txt): OCI's default devices."""

_LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
)
_PTMX = ("/dev/ptmx", "pts/ptmx")

_PAGE = 4096
"""mount(2) copies at most one page of options, the terminating zero included."""


def root_steps(
    config: dict[str, Any],
    rootfs: str,
    *,
    overlay: Overlay | None,
    maps: tuple[Map, Map] | str | None,
    by_stage: bool,
    rootless: bool,
    no_pivot: bool,
    hooks: Hooks,
) -> tuple[list[Step], list[Step]]:
    """From the host's mounts, copied into a new namespace, to the container's own root: steps of
    the stage (only with `by_stage`) and of the child. `maps` are those of the container's user
    namespace, or its path if it is joined.

    The pivot comes as early as it can: whatever a hostile image has at /proc or /dev, a link to
    the host's is from then on a link within the container. It is put off, and until then the root
    is changed back and forth, for hooks that are to see both the mounts and the host; and in a
    user namespace, which may mount proc and sysfs only while it sees others that hide nothing
    (user_namespaces(7), fs/namespace.c, mount_too_revealing)."""
    linux = config.get("linux") or {}
    before, inside = _inside_steps(config, maps)
    stage: list[Step] = []
    if by_stage:
        stage, before = before, []
    mount: Step | None = None
    if overlay is not None and isinstance(maps, tuple) and by_stage:
        # The layers as they are, with owners mapped: no copy of an image for each map.
        lowers, upper, work = _checked(overlay)
        stage.append(("hold_userns", "owners", *maps))
        root = tuple(outside_of(0, lines, where) for lines, where in zip(maps, MAPS, strict=True))
        stage.append(("take_overlay", tuple(reversed(lowers)), upper, work, "owners", *root))
        mount = ("stack_root", rootfs if hooks.before_pivot else "/")
    elif overlay is not None:
        mount = overlay_step(rootfs, overlay, userxattr=rootless)
    steps = [*_enter_steps(linux, rootfs, mount), *before]
    shared = "shared" in (linux.get("rootfsPropagation") or "")
    if mount is None or mount[0] != "stack_root":
        steps.append(("chdir", rootfs))
    pivot: Step = ("move_root",) if no_pivot else ("pivot", shared)
    if not hooks.before_pivot and maps is None:
        return stage, [*steps, pivot, *inside]
    steps += [("enter_root",), *inside, ("leave_root",)]
    if hooks.by_parent:
        steps.append(("meet", "createRuntime"))
    return stage, [*steps, *hooks.steps("createContainer"), pivot]


def _checked(overlay: Overlay) -> Overlay:
    lowers, upper, work = overlay
    for path in (*lowers, upper or "", work or ""):
        if ":" in path or "," in path or "\\" in path:
            raise SpecError(
                f"overlayfs cannot take the path {path!r}: ':', ',' and '\\' separate its "
                "options; use another directory"
            )
    if not lowers or (upper is None) != (work is None):
        raise SpecError("an overlay needs a lower layer, and upper and work both or neither")
    return overlay


def overlay_step(target: str, overlay: Overlay, *, userxattr: bool = False) -> Step:
    """An overlay of read-only layers, lowest first, with a writable one on top where there is an
    upper and a work directory (Documentation/filesystems/overlayfs.rst).

    Volatile: nothing of a container's upper layer has to survive a crash of the host, and without
    it every unmount would wait for a sync of the disk below. One mount(2) if the options fit in a
    page, else the new mount API."""
    lowers, upper, work = _checked(overlay)
    top_first = tuple(reversed(lowers))  # "lowerdir=top:…:bottom"
    options: tuple[tuple[str, str | None], ...] = ()
    if upper and work:
        options = (("upperdir", upper), ("workdir", work), ("volatile", None))
    if userxattr:
        options += (("userxattr", None),)  # "trusted." attributes need rights in the first userns
    words = [f"lowerdir={':'.join(top_first)}"]
    words += [key if value is None else f"{key}={value}" for key, value in options]
    data = ",".join(words)
    if len(data.encode()) < _PAGE:
        return ("mount", "overlay", target, "overlay", 0, data)
    return ("mount_overlay", target, top_first, options)


def _enter_steps(linux: dict[str, Any], rootfs: str, overlay: Step | None) -> list[Step]:
    """Cut loose from the host's mounts, and mount what will be the root."""
    name = linux.get("rootfsPropagation") or "rprivate"
    try:
        wanted = PROPAGATION[name]
    except (KeyError, TypeError):
        raise SpecError(
            f"linux.rootfsPropagation: no such value {name!r}; there are {', '.join(PROPAGATION)}"
        ) from None
    steps: list[Step] = []
    if wanted & MS_SHARED:
        # What is mounted inside shall show outside; only the place of the pivot must not be shared.
        steps.append(("private_parent", rootfs))
    else:
        # All of the host's mounts at once, not only the root's: they come down with the old root.
        kind = MS_SLAVE if wanted & MS_SLAVE else MS_PRIVATE
        steps.append(("mount", None, "/", None, MS_REC | kind, None))
    if overlay is not None:
        steps.append(overlay)
    else:
        # pivot_root(2): the new root must be a mount point, and nobody else's.
        steps.append(("mount", rootfs, rootfs, None, MS_BIND | MS_REC, None))
        if wanted & MS_SHARED:
            steps.append(("mount", None, rootfs, None, MS_PRIVATE, None))
    return steps


def _inside_steps(
    config: dict[str, Any], maps: tuple[Map, Map] | str | None
) -> tuple[list[Step], list[Step]]:
    """File systems, devices and links: what has to be taken from the host, and what is done below
    the new root."""
    linux = config.get("linux") or {}
    mounts = config.get("mounts") or []
    before, after = mount_steps(mounts, label=linux.get("mountLabel") or "", maps=maps)
    own_dev = any(
        mount.get("destination", "").rstrip("/") == "/dev" and mount.get("type") == "tmpfs"
        for mount in mounts
    )
    steps: list[Step] = [("umask", 0), *after]  # modes are meant as they stand
    devices = list(linux.get("devices") or ())
    if own_dev:  # an image's own /dev, or the host's, is left as it is
        # Of the host's devices, as a privileged container gets them all, this one would reach the
        # host's terminals.
        devices = [device for device in devices if device.get("path") != _PTMX[0]]
        named = {device.get("path") for device in devices}
        devices += [
            {"path": path, "type": "c", "major": major, "minor": minor, "fileMode": 0o666}
            for path, (major, minor) in DEVICES.items()
            if path not in named
        ]
    for number, device in enumerate(devices):
        more, made = _device(number, device, own_dev, maps is not None)
        before += more
        steps += made
    if own_dev:
        steps += [("symlink", target, path) for path, target in _LINKS]
        if any(mount.get("destination") == "/dev/pts" for mount in mounts):
            steps.append(("symlink", _PTMX[1], _PTMX[0]))
    return before, steps


def _device(
    number: int, device: dict[str, Any], own_dev: bool, bind: bool
) -> tuple[list[Step], list[Step]]:
    path, kind = device.get("path", ""), device.get("type", "")
    if kind not in _KINDS or not path.startswith("/"):
        raise SpecError(
            f"linux.devices[{number}]: needs an absolute path and a type of c, u, b or p, "
            f"not {path!r} and {kind!r}"
        )
    numbers = (device.get("major", 0), device.get("minor", 0))
    if bind and kind != "p":
        # A user namespace may make no devices (mknod(2)): show the host's own.
        name = f"device {path}"
        return [("take", name, path, 0)], [("attach", name, path)]
    mode = _KINDS[kind] | (0o666 if device.get("fileMode") is None else device["fileMode"])
    owner = (device.get("uid") or 0, device.get("gid") or 0)
    if own_dev and path.startswith("/dev/") and "/" not in path[5:]:
        return [], [("mknod", path, mode, *numbers, *owner)]
    return [], [("device_at", path, mode, *numbers, *owner)]


def confine_steps(config: dict[str, Any]) -> list[Step]:
    """What may not be seen or written any more, after all that has to be."""
    linux = config.get("linux") or {}
    steps: list[Step] = []
    for path in linux.get("maskedPaths") or ():
        steps.append(("mask", _absolute(path, "linux.maskedPaths")))
    for path in linux.get("readonlyPaths") or ():
        steps.append(("read_only", _absolute(path, "linux.readonlyPaths")))
    readonly = MOUNT_ATTR_RDONLY if (config.get("root") or {}).get("readonly") else 0
    name = linux.get("rootfsPropagation") or "private"
    # The new root was private for the pivot's sake; now it gets what the configuration says.
    propagation = 0 if name in ("private", "rprivate") else PROPAGATION[name]
    if readonly or propagation:
        recursive = bool(propagation & MS_REC)
        steps.append(("root_attributes", readonly, propagation & ~MS_REC, recursive))
    return steps


def _absolute(path: str, where: str) -> str:
    if not path.startswith("/"):
        raise SpecError(f"{where}: {path!r} is not absolute")
    return path
