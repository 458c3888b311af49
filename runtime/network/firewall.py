"""Other people's firewalls: saying that they are in the way, and passing Docker's if asked to.

In netfilter the strictest word counts: our table's "accept" ends only our table, and a packet that
any other base chain of the hook drops is gone. Rules of others are never changed, except for one
place that is meant for that: Docker's chain DOCKER-USER, and only with `docker_user=True`.
"""

from __future__ import annotations

import subprocess

from runtime.errors import KernelRefused, NetworkError
from runtime.network import nftables
from runtime.network.config import NetworkConfig

__all__ = ["admit", "dismiss", "obstacles"]


def obstacles() -> tuple[str, ...]:
    """Each chain of others that drops by default what containers send or get, in words.

    Also those of iptables-nft; not those of iptables-legacy, which nft does not see."""
    found = []
    for chain in nftables.chains():
        if chain.get("policy") != "drop" or chain["table"].startswith("lab_"):
            continue
        where = f"{chain['family']} {chain['table']} {chain['name']}"
        if chain.get("hook") == "forward":
            found.append(
                f"chain {where} drops what no rule of its own accepts: published ports and the way "
                "out will not work. If it is Docker's, make networks with docker_user=True; if it "
                "is a firewall's, accept the bridges lab-* there"
            )
        elif chain.get("hook") == "input":
            found.append(
                f"chain {where} drops what no rule of its own accepts: containers may not reach "
                "the host, nor the name server at their gateway. Accept UDP and TCP port 53 from "
                "the bridges lab-* there"
            )
    return tuple(found)


def admit(config: NetworkConfig) -> None:
    """Insert rules into DOCKER-USER that accept what our own table lets through.

    Raises NetworkError if there is no such chain."""
    for rule in _rules(config):
        done = _iptables("-I", "DOCKER-USER", *rule)
        if done.returncode:
            raise KernelRefused(
                f"insert a rule for {config.bridge} into the chain DOCKER-USER",
                0,
                f"{' '.join(done.stderr.split())}; docker_user=True needs a running Docker Engine",
            )


def dismiss(config: NetworkConfig) -> None:
    """Undo `admit`. No error if Docker or the rules are gone."""
    for rule in _rules(config):
        _iptables("-D", "DOCKER-USER", *rule)


def _rules(config: NetworkConfig) -> tuple[tuple[str, ...], ...]:
    comment = ("-m", "comment", "--comment", config.table)
    return (
        ("-i", config.bridge, *comment, "-j", "ACCEPT"),
        # Our own chain has already dropped, or will drop, what has no business there.
        ("-o", config.bridge, *comment, "-j", "ACCEPT"),
    )


def _iptables(*arguments: str) -> subprocess.CompletedProcess[str]:
    # The program, and not nft: Docker's chains can be iptables-legacy's, too.
    command = ["iptables", "--wait", *arguments]
    try:
        return subprocess.run(command, text=True, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise NetworkError(
            "docker_user=True needs the program iptables, which Docker uses too: install it, or "
            "make the network without"
        ) from error
