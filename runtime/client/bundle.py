"""From options and an image to an OCI runtime configuration. Pure: nothing is touched.

The result is what Docker's daemon would write for the same command line (moby,
daemon/oci_linux.go): the defaults are `runtime.engine.defaults`, the default capabilities and the
default seccomp profile.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.capabilities import CAPABILITIES, DEFAULT
from runtime.client import values
from runtime.client.options import RunOptions
from runtime.engine import defaults
from runtime.errors import SpecError
from runtime.images.image import Image
from runtime.images.users import User

__all__ = ["Surroundings", "argv_of", "oci_config"]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_SUBORDINATE = 65536
"""Ids of a container with a user namespace of its own: as many as images use."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a configuration needs to know besides the options."""

    container_id: str
    rootfs: Path
    cgroup: str
    """`linux.cgroupsPath`."""
    user: User
    mounts: Sequence[Mapping[str, Any]] = ()
    """Volumes and /etc files, in OCI's shape."""
    network_namespace: str | None = None
    """Path of the namespace to join; None for a new one with nothing in it."""
    first_id: int = 1_000_000
    """First of the host's ids for `userns_mode="private"`."""
    init: str | None = None
    """Path, inside, of the init that `init=True` puts before the program."""


def argv_of(
    options: RunOptions, image: Image, command: str | Sequence[str] | None
) -> tuple[str, ...]:
    """What runs: as in Docker, an entrypoint that is given drops the image's command too.

    Raises SpecError if neither the caller nor the image says."""
    given = values.words("entrypoint", options.entrypoint)
    entrypoint = image.entrypoint if given is None else given
    arguments = values.words("command", command)
    if arguments is None:
        arguments = image.cmd if given is None else ()
    if not (argv := (*entrypoint, *arguments)):
        raise SpecError(f"image {image.name} names no command: say what to run")
    return argv


def oci_config(
    options: RunOptions, image: Image, argv: Sequence[str], around: Surroundings
) -> dict[str, Any]:
    """The configuration (OCI config.md). Raises SpecError that names the keyword."""
    namespaces = [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "cgroup")]
    if options.network_kind != "host":
        network: dict[str, str] = {"type": "network"}
        if around.network_namespace is not None:
            network["path"] = around.network_namespace
        namespaces.append(network)
    linux: dict[str, Any] = {
        "namespaces": namespaces,
        "cgroupsPath": around.cgroup,
        "resources": {**options.resources(), "devices": _device_rules(options)},
        "maskedPaths": [] if options.privileged else list(defaults.MASKED),
        "readonlyPaths": [] if options.privileged else list(defaults.READ_ONLY),
        "sysctl": dict(options.sysctls or {}),
        "devices": _devices(options),
    }
    if options.userns_mode == "private":
        namespaces.append({"type": "user"})
        ids = [{"containerID": 0, "hostID": around.first_id, "size": _SUBORDINATE}]
        linux |= {"uidMappings": ids, "gidMappings": ids}
    if (profile := _seccomp(options)) is not None:
        linux["seccomp"] = profile
    config: dict[str, Any] = {
        "ociVersion": "1.2.0",
        "process": _process(options, image, argv, around),
        "root": {"path": str(around.rootfs), "readonly": options.read_only},
        "hostname": options.hostname or around.container_id[:12],
        "mounts": [*_mounts(options), *map(dict, around.mounts)],
        "linux": {key: value for key, value in linux.items() if value not in ({}, None)},
        "annotations": dict(options.annotations or {}),
    }
    if options.domainname:
        config["domainname"] = options.domainname
    return config


def _process(
    options: RunOptions, image: Image, argv: Sequence[str], around: Surroundings
) -> dict[str, Any]:
    env = {
        "PATH": PATH,
        "HOSTNAME": options.hostname or around.container_id[:12],
        "HOME": around.user.home,
        **({"TERM": "xterm"} if options.tty else {}),
        **image.env,
        **values.environment(options.environment),
    }
    kept = sorted(_capabilities(options))
    user: dict[str, Any] = {"uid": around.user.uid, "gid": around.user.gid}
    if around.user.groups:
        user["additionalGids"] = list(around.user.groups)
    process: dict[str, Any] = {
        "terminal": options.tty,
        "user": user,
        "args": [*([around.init, "--"] if around.init else ()), *argv],
        "env": [f"{name}={value}" for name, value in env.items()],
        "cwd": options.working_dir or image.cwd,
        # As for any process of that user: one who is not root has none unless a file gives them.
        "capabilities": {
            "bounding": kept,
            "permitted": kept if around.user.uid == 0 else [],
            "effective": kept if around.user.uid == 0 else [],
        },
        "noNewPrivileges": "no-new-privileges" in _security(options),
        "rlimits": values.rlimits(options.ulimits),
    }
    if options.oom_score_adj is not None:
        process["oomScoreAdj"] = options.oom_score_adj
    return process


def _capabilities(options: RunOptions) -> set[str]:
    """Docker's rules: drop first, then add; ALL is all."""
    kept = set(CAPABILITIES if options.privileged else DEFAULT)
    for name in map(_capability, options.cap_drop or ()):
        kept = set() if name == "ALL" else kept - {name}
    for name in map(_capability, options.cap_add or ()):
        kept = set(CAPABILITIES) if name == "ALL" else kept | {name}
    return kept


def _capability(name: str) -> str:
    upper = name.upper()
    full = upper if upper == "ALL" or upper.startswith("CAP_") else f"CAP_{upper}"
    if full != "ALL" and full not in CAPABILITIES:
        raise SpecError(f"cap_add, cap_drop: no capability {name!r}; see capabilities(7)")
    return full


def _security(options: RunOptions) -> dict[str, str]:
    found = {}
    for entry in options.security_opt or ():
        name, _, value = entry.replace(":", "=", 1).partition("=")
        if name not in {"no-new-privileges", "seccomp"}:
            raise SpecError(
                f"security_opt: {entry!r} is neither no-new-privileges nor seccomp=…; labels of "
                "AppArmor and SELinux are not supported"
            )
        if value != "false":
            found[name] = value
    return found


def _seccomp(options: RunOptions) -> dict[str, Any] | None:
    wanted = _security(options).get("seccomp")
    if wanted == "unconfined" or (options.privileged and wanted is None):
        return None
    if wanted:
        try:
            profile: dict[str, Any] = json.loads(Path(wanted).read_text())
        except (OSError, ValueError) as error:
            raise SpecError(f"security_opt: seccomp profile {wanted}: {error}") from error
        return profile
    from runtime.security.seccomp import default_profile

    return default_profile(frozenset(_capabilities(options)))


def _mounts(options: RunOptions) -> list[dict[str, Any]]:
    mounts = copy.deepcopy(list(defaults.MOUNTS))
    for mount in mounts:
        if mount["destination"] == "/dev/shm" and options.shm_size is not None:
            kept = [one for one in mount["options"] if not one.startswith("size=")]
            mount["options"] = [*kept, f"size={values.size('shm_size', options.shm_size)}"]
        if options.privileged and mount["destination"].startswith("/sys"):
            mount["options"] = [one for one in mount["options"] if one != "ro"]
    return [*mounts, *values.tmpfs_mounts(options.tmpfs)]


def _devices(options: RunOptions) -> list[dict[str, Any]]:
    import os
    import stat

    found = []
    for entry in options.devices or ():
        source, inside, _ = _device(entry)
        try:
            status = Path(source).stat()
        except OSError as error:
            raise SpecError(f"devices: {source}: {error.strerror}") from error
        kinds = {stat.S_IFCHR: "c", stat.S_IFBLK: "b"}
        if (kind := kinds.get(stat.S_IFMT(status.st_mode))) is None:
            raise SpecError(f"devices: {source} is no device")
        found.append(
            {
                "path": inside,
                "type": kind,
                "major": os.major(status.st_rdev),
                "minor": os.minor(status.st_rdev),
                "fileMode": stat.S_IMODE(status.st_mode),
                "uid": status.st_uid,
                "gid": status.st_gid,
            }
        )
    return found


def _device(entry: str) -> tuple[str, str, str]:
    parts = entry.split(":")
    source = parts[0]
    inside = parts[1] if len(parts) > 1 and parts[1] else source
    access = parts[2] if len(parts) > 2 else "rwm"
    if len(parts) > 3 or not set(access) <= set("rwm"):
        raise SpecError(f"devices: {entry!r} is not /dev/host[:/dev/inside[:rwm]]")
    return source, inside, access


def _device_rules(options: RunOptions) -> list[dict[str, Any]]:
    """`linux.resources.devices`: nothing but the default devices, which the runtime allows."""
    if options.privileged:
        return [{"allow": True, "access": "rwm"}]
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    for device, entry in zip(_devices(options), options.devices or (), strict=True):
        rules.append(
            {
                "allow": True,
                "type": device["type"],
                "major": device["major"],
                "minor": device["minor"],
                "access": _device(entry)[2],
            }
        )
    return rules
