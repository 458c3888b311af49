"""Running nft(8): one transaction at a time, in its own language, on its standard input.

The program and not netlink: pyroute2's nftables knows a few expressions only, and nft's language
is what documents, `nft list` and this project's tests have in common. A run takes 2 ms.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

from runtime.errors import KernelRefused, NetworkError

__all__ = ["apply", "chains"]


def apply(transaction: str, what: str) -> None:
    """Apply all of it or nothing. Raises KernelRefused with nft's words, NetworkError if there is
    no nft."""
    done = _nft(["nft", "-f", "-"], transaction)
    if done.returncode:
        raise KernelRefused(f"{what} with nft", 0, " ".join(done.stderr.split()))


def chains() -> list[dict[str, Any]]:
    """All chains of this network namespace, as libnftables-json(5) has them."""
    done = _nft(["nft", "-j", "list", "chains"], "")
    if done.returncode:
        raise KernelRefused("list the chains with nft", 0, " ".join(done.stderr.split()))
    return [entry["chain"] for entry in json.loads(done.stdout)["nftables"] if "chain" in entry]


def _nft(command: list[str], text: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, input=text, text=True, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise NetworkError(
            "no program nft on PATH: install the package nftables (and have /usr/sbin on PATH)"
        ) from error
