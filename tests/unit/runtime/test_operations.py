"""Plans without root: what is done, in which order, in which words."""

from __future__ import annotations

import marshal
from pathlib import Path

import pytest

from runtime import (
    Cgroup,
    CgroupLayout,
    Container,
    ContainerSpec,
    Namespace,
    Request,
    SpecError,
    rootfs,
    steps,
)
from runtime.operations import MountOverlay
from runtime.spawn import request as requests


def spec(**changes: object) -> ContainerSpec:
    values: dict[str, object] = {
        "name": "box",
        "layers": (Path("/l/low"), Path("/l/top")),
        "argv": ("sh",),
        "state_dir": Path("/state/box"),
    }
    return ContainerSpec(**{**values, **changes})  # type: ignore[arg-type]


def words(**changes: object) -> list[str]:
    layout = CgroupLayout(v1={"cpu": Path("/cg/cpu"), "pids": Path("/cg/pids")})
    cgroup = Cgroup.adopt(layout, "lab/box")
    return [each.describe() for each in Container.request(spec(**changes), cgroup).plan()]


def place(plan: list[str], start: str) -> int:
    return next(number for number, text in enumerate(plan) if text.startswith(start))


def test_the_order_that_safety_rests_on() -> None:
    plan = words(uid=7)
    order = [
        "start a session",
        "join cgroup /cg/cpu/lab/box",
        "join cgroup /cg/pids/lab/box",
        "unshare cgroup namespace",
        "make mount propagation private",
        "mount overlay of 2 layers on /state/box/rootfs",
        "change directory to /state/box/rootfs",
        "pivot into the new root",
        "mount proc on /proc (nosuid,nodev,noexec)",
        "mount sysfs on /sys (ro,nosuid,nodev,noexec)",
        "mount tmpfs on /dev",
        "make device /dev/null (1:3)",
        "mask /proc/kcore",
        "make /proc/sys read-only",
        "note the time of 'mounts'",
        "set hostname box",
        "reduce the bounding set to 14",
        "become user 7, group 0",
        "forbid new privileges",
        "change directory to /",
        "set umask 022",
        "ask for signal 9 at the parent's death",
    ]
    places = [place(plan, text) for text in order[:-3]]
    places += [len(plan) - 3, len(plan) - 2, len(plan) - 1]
    assert places == sorted(places)
    assert [plan[at].startswith(text) for at, text in zip(places, order, strict=True)] == [
        True
    ] * 22


def test_root_keeps_capabilities_and_a_user_none() -> None:
    assert "reduce to 14 capabilities" in words()
    assert "reduce to 14 capabilities" not in words(uid=7)


def test_namespaces_decide_what_is_mounted_and_set() -> None:
    plan = words(namespaces=Namespace.PID | Namespace.MOUNT)
    assert not [
        text for text in plan if "mqueue" in text or "hostname" in text or "unshare" in text
    ]


def test_every_step_is_known_and_serialisable() -> None:
    special = {"mark", "die_with_parent"}  # the helper's own
    for operation in Container.request(spec(loopback=True)).plan():
        step = operation.step()
        assert step[0] in steps.STEPS or step[0] in special
        assert marshal.loads(marshal.dumps(step)) == step


def test_overlay_options_are_top_layer_first() -> None:
    step = MountOverlay(("/a", "/b"), "/m", "/u", "/w").step()
    assert step[-1] == "lowerdir=/b:/a,upperdir=/u,workdir=/w,volatile"


def test_an_overlay_too_long_for_a_page_goes_by_the_new_api() -> None:
    layers = tuple(f"/layers/{number:064}" for number in range(100))
    step = MountOverlay(layers, "/m", "/u", "/w").step()
    assert step[0] == "mount_overlay"
    assert step[2] == tuple(reversed(layers))


@pytest.mark.parametrize("path", ["/a:b", "/a,b", "/a\\b"])
def test_an_overlay_path_with_a_separator_is_refused(path: str) -> None:
    with pytest.raises(SpecError, match="overlayfs cannot take"):
        MountOverlay((path,), "/m")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../x"}, "name: '../x'"),
        ({"name": ""}, "name: ''"),
        ({"layers": ()}, "layers: at least one"),
        ({"state_dir": Path("here")}, "state_dir: here is not absolute"),
        ({"namespaces": Namespace.CONTAINER | Namespace.USER}, "not supported"),
        ({"namespaces": Namespace.MOUNT}, "needs PID"),
        (
            {"namespaces": Namespace.PID | Namespace.MOUNT, "loopback": True},
            "loopback: needs a NET",
        ),
    ],
)
def test_a_spec_that_cannot_be_says_which_key(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        spec(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"argv": ()}, "argv is empty"),
        ({"argv": ("a\0b",)}, "zero byte"),
        ({"env": {"A=B": "x"}}, "env: 'A=B'"),
        ({"cwd": "tmp"}, "cwd: 'tmp'"),
        ({"fds": {65536: 0}}, "fds:"),
        ({"uid": -1}, "negative"),
        ({"hostname": "x"}, "rename the host"),
    ],
)
def test_a_request_that_cannot_be_says_which_key(changes: dict[str, object], message: str) -> None:
    values: dict[str, object] = {"argv": ("true",), **changes}
    with pytest.raises(SpecError, match=message):
        Request(**values)  # type: ignore[arg-type]


def test_where_a_program_is_looked_for() -> None:
    assert Request(argv=("/bin/x",)).candidates() == ("/bin/x",)
    assert Request(argv=("x",), env={"PATH": "/a::/b"}).candidates() == ("/a/x", "./x", "/b/x")
    default = tuple(f"{each}/x" for each in requests.DEFAULT_PATH.split(":"))
    assert Request(argv=("x",)).candidates() == default


def test_a_plain_process_gets_no_new_root_and_keeps_its_rights() -> None:
    plan = [each.describe() for each in Request(argv=("x",), pdeathsig=0).plan()]
    assert plan == [
        "start a session",
        "become user 0, group 0",
        "change directory to /",
        "set umask 022",
    ]


def test_the_c_floor_hides_and_makes_the_same_paths() -> None:
    source = (Path(rootfs.__file__).parent / "floor/floor.c").read_text()
    for path in (*rootfs.MASKED, *rootfs.READ_ONLY, *rootfs.DEVICES):
        assert f'"{path}"' in source
