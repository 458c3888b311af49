"""Every step can fail: the error names it, and nothing is left. Also many threads at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import KernelRefused
from runtime.network import (
    NetworkNamespace,
    NetworkStore,
    bridge,
    forwarding,
    leases,
    netlink,
    nftables,
    ports,
    store,
    tap,
)
from tests.integration.runtime.network.conftest import links, sh

STEPS: tuple[tuple[Any, str], ...] = (
    (netlink.Netlink, "run"),
    (netlink.Netlink, "index"),
    (nftables, "apply"),
    (forwarding, "set_switch"),
    (store, "write"),
    (leases, "write"),
    (bridge.dns, "start"),
    (ports.PortReservation, "take"),
    (tap, "open_tap"),
)
"""What does the work: each call of any of them is made to fail in turn."""


class Fault:
    """Makes the call of that number fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._left = -1
        self.fired = False
        for owner, name in STEPS:
            monkeypatch.setattr(owner, name, self._wrapped(getattr(owner, name)))

    def _wrapped(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._left >= 0:
                self._left -= 1
                if self._left < 0:
                    self.fired = True
                    raise KernelRefused(f"do {real.__qualname__}", 5, "injected")
            return real(*args, **kwargs)

        return call

    def at(self, number: int) -> None:
        self._left, self.fired = number, False


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def in_turn(fault: Fault, work: Callable[[], object], untouched: Callable[[], object]) -> int:
    """Do it with the first call failing, the second, …, until none is left; how many there were."""
    before = untouched()
    for number in range(200):
        fault.at(number)
        try:
            work()
        except KernelRefused as error:
            assert fault.fired and "injected" in str(error)
        else:
            assert not fault.fired
            fault.at(-1)
            return number
        assert untouched() == before, f"after a failure of call {number}"
    raise AssertionError("it never came through")


def test_making_a_network(
    store: NetworkStore,
    root: Path,
    outside: NetworkNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fault = Fault(monkeypatch)
    store.owner()

    def untouched() -> object:
        directories = sorted((root / "networks").glob("*"))
        return directories, links(), sh("nft", "list", "tables"), descriptors()

    steps = in_turn(fault, lambda: store.create("web", subnet6="fd00:9::/64"), untouched)
    assert steps >= 8
    store.open("web").remove()
    assert untouched() == ([], {"lo", "up0"}, "", descriptors())


def test_connecting(store: NetworkStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = store.create("web", dns=False)
    fault = Fault(monkeypatch)
    os.makedirs(root / "members", exist_ok=True)  # noqa: PTH103

    def untouched() -> object:
        state = sorted(
            path for path in root.rglob("*") if path.name not in {"ports", "members", "lock"}
        )
        published = sh("nft", "list", "map", "inet", network.config.table, "published")
        return state, links(), published, descriptors()

    made: list[Any] = []
    steps = in_turn(
        fault,
        lambda: made.append(network.connect(name="a", aliases=["x"], ports=["8080:80"])),
        untouched,
    )
    assert steps >= 8
    made.pop().disconnect()
    network.prepare(1)
    steps = in_turn(fault, lambda: network.attach_tap("g", ports=["8081:80"]), untouched)
    assert steps >= 4
    with NetworkNamespace.create() as namespace:
        namespace.open_route()[0].close()  # the one that it was made with
        steps = in_turn(fault, lambda: made.append(network.connect(namespace, name="b")), untouched)
        assert steps >= 5
        made.pop().disconnect()


def test_many_threads(store: NetworkStore) -> None:
    network = store.create("web", dns=False)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(4):
                end = network.connect(name=f"t{number}-{turn}", ports=["80"])
                if turn % 2:
                    end.disconnect()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    held = network.leases()
    assert len(held) == 16
    assert len({lease.address for lease in held}) == 16
    assert len({lease.published for lease in held}) == 16
