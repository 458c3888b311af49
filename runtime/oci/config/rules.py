"""What the parts of a config demand of each other.

A setting that would reach the host because the namespace for it is missing is refused here, as
runc refuses it (libcontainer/configs/validate).
"""

from __future__ import annotations

import os

from runtime.oci.config.check import Invalid, key_path

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from typing import Any

__all__ = ["together"]

_OF_IPC = (
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
)


def together(config: dict[str, Any]) -> None:
    """Rules over the whole config. Raises Invalid."""
    linux = config.setdefault("linux", {})
    namespaces = {one["type"]: one.get("path") for one in linux.get("namespaces", ())}
    for key in ("hostname", "domainname"):
        if config.get(key) and "uts" not in namespaces:
            raise Invalid("needs a uts namespace, or it would rename the host", f".{key}")
    for key in ("maskedPaths", "readonlyPaths"):
        if linux.get(key) and "mount" not in namespaces:
            raise Invalid("needs a mount namespace, or it would change the host's", f".{key}", _L)
    _user(linux, namespaces)
    if linux.get("timeOffsets") and namespaces.get("time", "") is not None:
        raise Invalid("needs a new time namespace", ".timeOffsets", _L)
    for name in linux.get("sysctl", ()):
        reason = _sysctl(name.replace("/", "."), namespaces)
        if reason:
            raise Invalid(reason, key_path(name), ".sysctl", _L)
    for index, mount in enumerate(config.get("mounts", ())):
        if "mount" not in namespaces:
            raise Invalid("need a mount namespace, or they would be the host's", ".mounts")
        asked = {"idmap", "ridmap"}.intersection(mount.get("options", ()))
        if asked and "uidMappings" not in mount and "user" not in namespaces:
            raise Invalid(
                f"{asked.pop()} needs uidMappings and gidMappings, here or of a user namespace",
                ".options",
                f"[{index}]",
                ".mounts",
            )


_L = ".linux"


def _user(linux: dict[str, Any], namespaces: dict[str, str | None]) -> None:
    for key in ("uidMappings", "gidMappings"):
        if linux.get(key) and "user" not in namespaces:
            raise Invalid("needs a user namespace", f".{key}", _L)
        if not linux.get(key) and namespaces.get("user", "") is None:
            raise Invalid("is required by a new user namespace", f".{key}", _L)


def _sysctl(name: str, namespaces: dict[str, str | None]) -> str:
    """Why this kernel parameter cannot be set, or nothing."""
    if name == "kernel.hostname":
        return "is set by $.hostname"
    if name in _OF_IPC or name.startswith("fs.mqueue."):
        kind = "ipc"
    elif name.startswith("net."):
        kind = "network"
    elif name == "kernel.domainname":
        kind = "uts"
    elif name.startswith("user."):
        kind = "user"
    else:
        return "belongs to no namespace: it would change the host"
    if kind not in namespaces or _is_ours(namespaces[kind], kind):
        return f"needs an own {kind} namespace, not the host's"
    return ""


def _is_ours(path: str | None, kind: str) -> bool:
    """Whether a namespace file is that of this process. One that is not there is met later."""
    if path is None:
        return False
    try:
        ours = os.stat(f"/proc/self/ns/{kind.replace('network', 'net')}")
        theirs = os.stat(path)
    except OSError:
        return False
    return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)
