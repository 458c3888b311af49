"""The name server of a network: container names inside, the host's resolvers for the rest."""

from __future__ import annotations

from runtime.network.dns.launch import running, start, stop

__all__ = ["running", "start", "stop"]
