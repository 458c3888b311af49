"""config.json: read, checked and made whole, or refused with the place and the reason.

    config.json: $.process.args: is empty

The checks follow config.md and config-linux.md of the OCI runtime specification 1.2; where the
specification leaves it to the runtime, they follow runc, whose callers these configs come from.
"""

from __future__ import annotations

from runtime.oci.config.load import load, load_process, load_resources, parse

__all__ = ["load", "load_process", "load_resources", "parse"]
