"""`features`: what of the specification this runtime supports, on whatever host (features.md)."""

from __future__ import annotations

import json
import sys

from runtime.capabilities import CAPABILITIES
from runtime.engine.mounts import MOUNT_OPTIONS
from runtime.engine.namespaces import NAMESPACES
from runtime.oci.config.root import HOOKS
from runtime.oci.config.seccomp import ARCHITECTURES
from runtime.oci.options import Option, Parsed
from runtime.oci.state import VERSION
from runtime.security.seccomp import ACTIONS, FLAGS, OPERATORS

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from typing import Any

    from runtime.oci.main import Context

__all__ = ["ARGUMENTS", "OPTIONS", "USAGE", "features", "main", "version_text"]

OPTIONS: tuple[Option, ...] = ()
USAGE = ""
ARGUMENTS = (0, 0)

_OUR_VERSION = "0.1.0"


def main(context: Context, options: Parsed) -> int:
    """Print the document."""
    print(json.dumps(features(), indent=2))
    return 0


def features() -> dict[str, Any]:
    """The features structure."""
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": VERSION,
        "hooks": list(HOOKS),
        "mountOptions": sorted(MOUNT_OPTIONS),
        "linux": {
            "namespaces": sorted(NAMESPACES),
            "capabilities": list(CAPABILITIES),
            "cgroup": {
                "v1": True,
                "v2": True,
                "systemd": True,
                "systemdUser": True,
                "rdma": True,
            },
            "seccomp": {
                "enabled": True,
                "actions": sorted(ACTIONS),
                "operators": sorted(OPERATORS),
                "archs": sorted(ARCHITECTURES),
                "knownFlags": sorted(FLAGS),
                "supportedFlags": sorted(FLAGS),
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": True}},
        },
        "annotations": {"org.isolation-lab.version": _OUR_VERSION},
    }


def version_text() -> str:
    """As runc and crun print it: Docker and go-runc read the first line and `spec:`."""
    python = ".".join(map(str, sys.version_info[:3]))
    return f"lab-oci version {_OUR_VERSION}\nspec: {VERSION}\npython: {python}"
