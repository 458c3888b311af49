"""The runtime as an OCI runtime: a command line for Docker, Podman, containerd and people.

`main` is the command; `verbs/` has a module for each of its verbs, `config/` the schema of
config.json, `state` what is kept of a container between two verbs, `install` the launcher.
"""

from __future__ import annotations

__all__: list[str] = []
