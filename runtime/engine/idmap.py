"""Steps for mounts whose owners are mapped (mount_setattr(2), "ID-mapped mounts").

What is owned by user 0 on disk is owned by user 100000 of the host in such a mount, who is user 0
of a container with that map: many containers with different maps share one image as it is.

Loaded before the clone, like `runtime.engine.rare`, when a plan has one of them.
"""

from __future__ import annotations

import os

from runtime import syscalls
from runtime.capabilities import permitted
from runtime.engine.constants import (
    CLONE_NEWUSER,
    MOUNT_ATTR_IDMAP,
    MOUNT_ATTR_NODEV,
    OPEN_TREE_CLONE,
)
from runtime.engine.steps import held

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runtime.engine.namespaces import Map

__all__ = ["STEPS"]

_SIGCHLD = 17


def hold_userns(name: str, uids: Map, gids: Map) -> None:
    """Hold a user namespace with these maps: it needs a process to be made, and none to last."""
    from runtime.security.maps import write_maps

    read, write = os.pipe2(os.O_CLOEXEC)
    pid = syscalls.clone3(CLONE_NEWUSER, -1, _SIGCHLD)
    if pid == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    try:
        os.close(read)
        write_maps(pid, uids, gids, False)
        held[name] = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(write)
        os.waitpid(pid, 0)


def hold_userns_at(name: str, path: str) -> None:
    """Hold a user namespace that is there."""
    held[name] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def idmap(name: str, userns: str, recursive: bool) -> None:
    """Map the owners of a held mount."""
    fd = held[userns]
    syscalls.mount_setattr(
        held[name], MOUNT_ATTR_IDMAP, userns_fd=fd, recursive=recursive, about=name
    )


def take_overlay(
    lowers: Sequence[str],
    upper: str | None,
    work: str | None,
    userns: str,
    uid: int,
    gid: int,
) -> None:
    """Hold an overlay as the root to come, top layer first, each layer with mapped owners
    (Documentation/filesystems/overlayfs.rst; Linux 5.19). It is made as `uid` and `gid`, the
    container's root: overlayfs writes to the upper layer as its maker, and the host's root has no
    place in that map.

    Devices in the image open nothing: a container in a user namespace has none of its own but
    those that it is shown."""
    trees: list[int] = []

    def mapped(path: str) -> str:
        tree = syscalls.open_tree(path, OPEN_TREE_CLONE)
        trees.append(tree)
        syscalls.mount_setattr(tree, MOUNT_ATTR_IDMAP, userns_fd=held[userns], about=path)
        return f"/proc/self/fd/{tree}"

    context = syscalls.fsopen("overlay")
    try:
        for lower in lowers:
            syscalls.fsconfig_string(context, "lowerdir+", mapped(lower))
        if upper and work:
            # Both on one mount, as overlayfs wants it: that of the directory above them.
            above = os.path.dirname(upper)
            below = mapped(above)
            syscalls.fsconfig_string(context, "upperdir", f"{below}/{os.path.basename(upper)}")
            syscalls.fsconfig_string(context, "workdir", f"{below}/{os.path.relpath(work, above)}")
            syscalls.fsconfig_flag(context, "volatile")
        mask = permitted()
        syscalls.setfsids(uid, gid)
        syscalls.capset(mask, mask, 0)  # setfsuid has taken those over files (capabilities(7))
        syscalls.fsconfig_create(context)
        held["root"] = syscalls.fsmount(context)
    except OSError as error:
        raise OSError(error.errno, error.strerror, error.filename or "overlay") from None
    finally:
        syscalls.setfsids(0, 0)
        os.close(context)
        for tree in trees:
            os.close(tree)
    syscalls.mount_setattr(held["root"], MOUNT_ATTR_NODEV, about="overlay")


def stack_root(place: str) -> None:
    """Put the held root at its place, and go there. That is on top of the old root, unless hooks
    shall find it: then no directory on the way needs to be open to the container's users."""
    root = held.pop("root")
    syscalls.move_mount(root, place)
    os.chdir(root)
    os.close(root)


STEPS: dict[str, Callable[..., object]] = {
    "hold_userns": hold_userns,
    "hold_userns_at": hold_userns_at,
    "idmap": idmap,
    "stack_root": stack_root,
    "take_overlay": take_overlay,
}
