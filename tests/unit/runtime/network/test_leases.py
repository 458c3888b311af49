"""Addresses and names: given once, given back, in turn, by two processes at once."""

from __future__ import annotations

import subprocess
import sys
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import AddressExhausted, AddressInUse, NameInUse, NetworkNotFound
from runtime.network.leases import Lease, Leases
from tests.unit.runtime.network.conftest import lease, make_config, make_leases


def small(root: Path, subnet: str = "10.9.0.0/29") -> Leases:
    config = make_config(subnet=IPv4Network(subnet), gateway=IPv4Network(subnet)[1])
    return make_leases(root, config)


def test_addresses_come_in_turn_and_a_released_one_rests(leases: Leases) -> None:
    first, second = leases.take(lease()), leases.take(lease())
    assert [str(each.address) for each in (first, second)] == ["10.9.0.2", "10.9.0.3"]
    leases.release(second.address)
    assert str(leases.take(lease()).address) == "10.9.0.4"


def test_the_subnet_is_used_to_its_last_address_and_no_further(tmp_path: Path) -> None:
    leases = small(tmp_path)
    taken = [str(leases.take(lease()).address) for _ in range(5)]
    assert taken == [f"10.9.0.{n}" for n in (2, 3, 4, 5, 6)]
    with pytest.raises(AddressExhausted, match=r"all 5 addresses of 10\.9\.0\.0/29"):
        leases.take(lease())
    leases.release(IPv4Address("10.9.0.4"))
    assert str(leases.take(lease()).address) == "10.9.0.4"


def test_a_gateway_in_the_middle_is_left_out(tmp_path: Path) -> None:
    config = make_config(subnet=IPv4Network("10.9.0.0/29"), gateway=IPv4Address("10.9.0.3"))
    leases = make_leases(tmp_path, config)
    assert [leases.take(lease()).address.packed[3] for _ in range(5)] == [1, 2, 4, 5, 6]


def test_one_free_address_is_found_behind_many_taken_ones(leases: Leases) -> None:
    for _ in range(253):
        leases.take(lease())
    leases.release(IPv4Address("10.9.0.200"))
    assert str(leases.take(lease()).address) == "10.9.0.200"


def test_an_address_that_is_wanted(leases: Leases) -> None:
    wanted = IPv4Address("10.9.0.77")
    leases.take(lease(name="first"), address=wanted)
    with pytest.raises(AddressInUse, match=r"10\.9\.0\.77 .* taken by first"):
        leases.take(lease(), address=wanted)


@pytest.mark.parametrize("address", ["10.9.0.0", "10.9.0.1", "10.9.0.255", "10.8.0.9"])
def test_an_address_that_is_none_for_endpoints(leases: Leases, address: str) -> None:
    with pytest.raises(AddressInUse, match="no address for an endpoint"):
        leases.take(lease(), address=IPv4Address(address))


def test_names_and_aliases(leases: Leases) -> None:
    one = leases.take(lease(name="a", aliases=("db", "x.y")))
    two = leases.take(lease(name="b", aliases=("db",)))
    assert leases.lookup("a") == (one.address,)
    assert leases.lookup("db") == (one.address, two.address)
    assert leases.lookup("x.y") == (one.address,)
    leases.release(one.address)
    assert leases.lookup("a") == leases.lookup("x.y") == ()
    assert leases.lookup("db") == (two.address,)


def test_a_name_is_given_once_and_nothing_is_left_of_the_second(leases: Leases) -> None:
    leases.take(lease(name="a"))
    with pytest.raises(NameInUse, match=r"endpoint 'a' at 10\.9\.0\.2"):
        leases.take(lease(name="a"))
    assert [each.name for each in leases.all()] == ["a"]


@pytest.mark.parametrize("name", ["", ".", "..", "../leases/10.9.0.2", "a\0b", "nobody"])
def test_names_that_are_not_there(leases: Leases, name: str) -> None:
    leases.take(lease(name="a"))
    assert leases.lookup(name) == ()


def test_a_lease_can_be_renamed(leases: Leases) -> None:
    ready = leases.take(lease())
    leases.rename(Lease(address=ready.address, link="x", owner=None, name="late"))
    assert leases.lookup("late") == (ready.address,)
    leases.release(ready.address)
    assert leases.lookup("late") == ()


def test_of_a_removed_network_nothing_can_be_had(tmp_path: Path, leases: Leases) -> None:
    (tmp_path / "networks" / "web" / "network.json").unlink()
    with pytest.raises(NetworkNotFound):
        leases.take(lease())
    leases.release(IPv4Address("10.9.0.2"))  # no error: it is as wanted


def test_a_record_comes_back_as_it_was(leases: Leases) -> None:
    made = leases.take(
        lease(
            owner="/o",
            name="a",
            aliases=("b",),
            namespace="4-7",
            published=(("0.0.0.0", 1, "tcp", 2),),
        )
    )
    assert leases.get(made.address) == made
    assert list(leases.all()) == [made]


def test_two_processes_never_get_one_address(tmp_path: Path) -> None:
    config = make_config(subnet=IPv4Network("10.9.0.0/23"))
    make_leases(tmp_path, config)
    program = (
        "import sys; from pathlib import Path\n"
        "from tests.unit.runtime.network.conftest import lease\n"
        "from runtime.network.config import NetworkConfig\n"
        "from runtime.network.leases import Leases\n"
        "directory = Path(sys.argv[1])\n"
        "config = NetworkConfig.from_json((directory / 'network.json').read_text())\n"
        "leases = Leases(directory, config)\n"
        "for _ in range(200): print(leases.take(lease()).address)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "networks" / "web")]
    here = Path(__file__).parents[4]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=here) for _ in range(2)
    ]
    given_out = [line for each in both for line in each.communicate()[0].split()]
    assert [each.returncode for each in both] == [0, 0]
    assert len(given_out) == len(set(given_out)) == 400


@given(st.lists(st.one_of(st.none(), st.integers(0, 13)), max_size=60))
def test_whatever_is_taken_and_released_no_address_is_held_twice(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int | None]
) -> None:
    """None takes; a number releases the one held at that place."""
    leases = small(tmp_path_factory.mktemp("store"), "10.9.0.0/28")
    held: list[IPv4Address] = []
    for step in steps:
        if step is None:
            if len(held) == 13:
                with pytest.raises(AddressExhausted):
                    leases.take(lease())
                continue
            address = leases.take(lease()).address
            assert address not in held
            held.append(address)
        elif step < len(held):
            leases.release(held.pop(step))
    assert [each.address for each in leases.all()] == sorted(held)
