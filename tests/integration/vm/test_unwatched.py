import select

import pytest

from tests.integration.vm.conftest import LIMIT_S, Boot

pytestmark = [pytest.mark.root, pytest.mark.qemu]


def test_a_guest_boots_while_nobody_looks(boot: Boot) -> None:
    """The events socket alone is watched; nothing is taken from any other channel meanwhile."""
    machine = boot("sh", "-c", "printf r >&3")
    assert select.select([machine._channels["events"].source], [], [], LIMIT_S)[0]
    assert machine.read_events() == b"r"
