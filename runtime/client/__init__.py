"""Containers as docker-py has them, without a daemon.

    from runtime import Client

    client = Client()
    print(client.containers.run("debian", ["uname", "-r"], mem_limit="64m", remove=True))

`runtime.client.client` has the client, `runtime.client.monitor` the process that stays with each
container; docs/howto/python-api.md shows what can be done.
"""

from __future__ import annotations

from runtime.client.client import Client
from runtime.client.container import Container, ExecResult

__all__ = ["Client", "Container", "ExecResult"]
