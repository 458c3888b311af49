"""Device rules as the kernel enforces them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runtime import Cgroup, CgroupLayout
from runtime.cgroups import bpf
from runtime.cgroups.devices import ALLOWED, DEFAULT
from tests.integration.runtime.cgroup_helpers import run

pytestmark = pytest.mark.root

NOTHING: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
NULL = {"allow": True, "type": "c", "major": 1, "minor": 3}

TRY = """
import os, stat
def attempt(what, *arguments):
    try:
        made = what(*arguments)
        if isinstance(made, int):
            os.close(made)
        return "yes"
    except PermissionError:
        return "no"
path = "/dev/isolation-lab-test-%d" % os.getpid()
print(
    attempt(os.open, "/dev/null", os.O_RDONLY),
    attempt(os.open, "/dev/null", os.O_WRONLY),
    attempt(os.open, "/dev/null", os.O_RDWR),
    attempt(os.open, "/dev/zero", os.O_RDONLY),
    attempt(os.mknod, path, stat.S_IFCHR | 0o600, os.makedev(1, 3)),
)
if os.path.exists(path):
    os.unlink(path)
"""


@pytest.fixture(params=["v2", "v1"])
def child(group: Cgroup, layout: CgroupLayout, request: pytest.FixtureRequest) -> Any:
    """A cgroup whose devices one of the two mechanisms restricts."""
    if request.param == "v2":
        if layout.v2 is None:
            pytest.skip("no unified hierarchy: no eBPF programs on cgroups")
        made = group.child("x")
    else:
        if "devices" not in layout.v1:
            pytest.skip("no v1 devices hierarchy")
        alone = CgroupLayout(v1={"devices": layout.v1["devices"]})
        made = Cgroup.create(alone, f"{group.path}-devices", controllers=["devices"])
    yield made
    made.remove()


def answers(child: Cgroup, rules: Any) -> str:
    assert child.set_devices(rules)
    status, out = run(child, TRY)
    assert status == 0, out
    return out.strip()


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (NOTHING, "no no no no no"),
        (DEFAULT, "yes yes yes yes yes"),
        ([*NOTHING, *ALLOWED], "yes yes yes yes yes"),
        ([{"allow": True, "access": "rwm"}], "yes yes yes yes yes"),
        ([*NOTHING, {**NULL, "access": "r"}], "yes no no no no"),
        ([*NOTHING, {**NULL, "access": "r"}, {**NULL, "access": "w"}], "yes yes yes no no"),
        (
            [*NOTHING, {**NULL, "access": "rwm"}, {**NULL, "allow": False, "access": "w"}],
            "yes no no no yes",
        ),
        (
            [*NOTHING, {"allow": True, "type": "c", "major": 1, "access": "rw"}],
            "yes yes yes yes no",
        ),
        ([*NOTHING, {"allow": True, "type": "b", "access": "rwm"}], "no no no no no"),
        (
            [{"allow": True, "access": "rwm"}, {**NULL, "allow": False, "access": "w"}],
            "yes no no yes yes",
        ),
    ],
    ids=str,
)
def test_access_is_what_the_rules_say(child: Cgroup, rules: Any, expected: str) -> None:
    assert answers(child, rules) == expected


def test_rules_can_be_changed(child: Cgroup) -> None:
    assert answers(child, NOTHING) == "no no no no no"
    assert answers(child, DEFAULT) == "yes yes yes yes yes"
    assert answers(child, [*NOTHING, {**NULL, "access": "r"}]) == "yes no no no no"
    if child.into is not None:
        assert len(bpf.attached_filters(child.into)) == 1


def test_they_come_with_the_resources_and_hold_below(group: Cgroup) -> None:
    outer = group.child("outer", resources={"devices": NOTHING})
    inner = outer.child("inner")
    assert run(inner, TRY)[1].strip() == "no no no no no"
    assert outer.unenforced == ()
    outer.remove()


def test_an_exception_to_an_exception(group: Cgroup, layout: CgroupLayout) -> None:
    """What v1 cannot do: all of major 1, but not writing to null."""
    if layout.v2 is None:
        pytest.skip("no unified hierarchy: no eBPF programs on cgroups")
    child = group.child("x")
    rules = [
        *NOTHING,
        {"allow": True, "type": "c", "major": 1, "access": "rwm"},
        {**NULL, "allow": False, "access": "w"},
    ]
    assert answers(child, rules) == "yes no no yes yes"
    child.remove()


def test_another_program_stays_beside_ours(group: Cgroup, layout: CgroupLayout) -> None:
    """systemd has its own on a unit: both must agree, and ours replaces only ours."""
    if layout.v2 is None:
        pytest.skip("no unified hierarchy: no eBPF programs on cgroups")
    child = group.child("x")
    assert child.into is not None
    name, bpf._NAME = bpf._NAME, b"somebody_else"
    bpf._loaded.clear()
    try:
        child.set_devices(NOTHING)
    finally:
        bpf._NAME = name
        bpf._loaded.clear()
    assert answers(child, DEFAULT) == "no no no no no"
    assert answers(child, DEFAULT) == "no no no no no"
    assert len(bpf.attached_filters(child.into)) == 2
    child.remove()


def test_no_descriptor_is_lost(group: Cgroup) -> None:
    child = group.child("x", resources={"devices": DEFAULT})
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(20):
        child.set_devices([{**NULL, "minor": number, "access": "r"}])
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 8  # the last programs are kept
    child.remove()


def test_a_wrong_program_comes_back_with_the_verifiers_words(
    group: Cgroup, layout: CgroupLayout
) -> None:
    if layout.v2 is None:
        pytest.skip("no unified hierarchy: no eBPF programs on cgroups")
    child = group.child("x")
    endless = bytes.fromhex("0500feff00000000")
    with pytest.raises(OSError, match="verifier: "):
        bpf.attach_device_filter(str(child.into), endless)
    child.remove()
