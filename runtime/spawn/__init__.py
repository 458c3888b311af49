"""Starting processes from a small helper, so that no launch forks the big process.

`Spawner` is the helper's handle, `Request` says what to start, `Process` is what runs.
"""

from __future__ import annotations

from runtime.spawn.process import Process
from runtime.spawn.request import Request
from runtime.spawn.spawner import Spawner

__all__ = ["Process", "Request", "Spawner"]
