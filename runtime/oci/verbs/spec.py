"""`spec`: a config.json to start from."""

from __future__ import annotations

import copy
import json
import os

from runtime.capabilities import DEFAULT
from runtime.engine.defaults import MASKED, MOUNTS, READ_ONLY
from runtime.errors import ContainerError
from runtime.oci.options import FLAG, TEXT, Option, Parsed
from runtime.oci.state import VERSION

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from typing import Any

    from runtime.oci.main import Context

__all__ = ["ARGUMENTS", "OPTIONS", "USAGE", "example", "main"]

OPTIONS: tuple[Option, ...] = (
    ("bundle", "b", TEXT, "directory to write it to (default: the current one)"),
    ("rootless", "", FLAG, "for an ordinary user: with a user namespace"),
)
USAGE = ""
ARGUMENTS = (0, 0)

_STRICT = ["nosuid", "noexec", "nodev"]
_CGROUP = {
    "destination": "/sys/fs/cgroup",
    "type": "cgroup",
    "source": "cgroup",
    "options": [*_STRICT, "relatime", "ro"],
}


def main(context: Context, options: Parsed) -> int:
    """Write config.json, unless there is one."""
    path = os.path.join(options["bundle"] or ".", "config.json")
    try:
        with open(path, "x", encoding="utf-8") as file:
            json.dump(example(rootless=options["rootless"]), file, indent="\t")
            file.write("\n")
    except FileExistsError:
        raise ContainerError(f"{path} exists: remove it first") from None
    return 0


def example(*, rootless: bool = False) -> dict[str, Any]:
    """A config that runs a shell with the rights that Docker gives."""
    config: dict[str, Any] = {
        "ociVersion": VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
            ],
            "cwd": "/",
            "capabilities": {
                kind: sorted(DEFAULT) for kind in ("bounding", "effective", "permitted")
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "lab",
        "mounts": [*(copy.deepcopy(mount) for mount in MOUNTS), copy.deepcopy(_CGROUP)],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [
                {"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")
            ],
            "maskedPaths": list(MASKED),
            "readonlyPaths": list(READ_ONLY),
        },
    }
    return _for_user(config) if rootless else config


def _for_user(config: dict[str, Any]) -> dict[str, Any]:
    """What an ordinary user may have: the user is root inside, there is no network namespace to
    configure, /sys is the host's, and terminals belong to the one group that there is."""
    linux = config["linux"]
    ids = {"containerID": 0, "size": 1}
    linux["uidMappings"] = [{**ids, "hostID": os.geteuid()}]
    linux["gidMappings"] = [{**ids, "hostID": os.getegid()}]
    linux["namespaces"] = [one for one in linux["namespaces"] if one["type"] != "network"]
    linux["namespaces"].append({"type": "user"})
    del linux["resources"]
    for mount in config["mounts"]:
        if mount["destination"] == "/dev/pts":
            mount["options"].remove("gid=5")
        if mount["destination"] == "/sys":
            mount.update(type="none", source="/sys", options=["rbind", *_STRICT, "ro"])
    config["mounts"] = [one for one in config["mounts"] if one["type"] != "cgroup"]
    return config
