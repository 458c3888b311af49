"""What confines a container besides namespaces: user and group maps, system call filters.

- `runtime.security.maps` writes the maps of a user namespace, directly or by newuidmap(1).
- `runtime.security.seccomp` compiles `linux.seccomp` of an OCI configuration.
"""

from __future__ import annotations

__all__: list[str] = []
