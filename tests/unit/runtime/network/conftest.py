"""A network's configuration, and its directory, with nothing in the kernel."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from runtime.network.config import NetworkConfig
from runtime.network.leases import Lease, Leases


def make_config(**changes: Any) -> NetworkConfig:
    values: dict[str, Any] = {
        "name": "web",
        "id": "0a1b2c",
        "owner": None,
        "subnet": IPv4Network("10.9.0.0/24"),
        "gateway": IPv4Address("10.9.0.1"),
    }
    return NetworkConfig(**{**values, **changes})


def make_leases(root: Path, config: NetworkConfig) -> Leases:
    directory = root / "networks" / config.name
    directory.mkdir(parents=True)
    leases = Leases(directory, config)
    leases.prepare()
    (directory / "network.json").write_text(config.to_json())
    return leases


def lease(**changes: Any) -> Callable[[IPv4Address], Lease]:
    return lambda address: Lease(**{"address": address, "link": "x", "owner": None, **changes})


@pytest.fixture
def leases(tmp_path: Path) -> Leases:
    return make_leases(tmp_path, make_config())
