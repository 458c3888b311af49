"""Plans without root: what is done, by whom, in which order, in which words."""

from __future__ import annotations

import inspect
import marshal
from pathlib import Path
from typing import Any

import pytest

from runtime import Cgroup, CgroupLayout, Container, ContainerSpec, Namespace, Request, SpecError
from runtime.engine import child, describe, plan, process, rootfs, steps
from runtime.engine.plan import container_plan, exec_plan


def spec(**changes: object) -> ContainerSpec:
    values: dict[str, object] = {
        "name": "box",
        "layers": (Path("/l/low"), Path("/l/top")),
        "argv": ("sh",),
        "state_dir": Path("/state/box"),
    }
    return ContainerSpec(**{**values, **changes})  # type: ignore[arg-type]


def group() -> Cgroup:
    layout = CgroupLayout(v1={"cpu": Path("/cg/cpu"), "pids": Path("/cg/pids")})
    return Cgroup.adopt(layout, "lab/box")


def words(**changes: object) -> list[str]:
    made = Container.plan(spec(**changes), group())
    return [describe.describe(step) for step in made.steps]


def config(**changes: Any) -> dict[str, Any]:
    """A small OCI configuration; a key of `linux` or `process` is changed by its own name."""
    base: dict[str, Any] = {
        "process": {"args": ["sh"], "cwd": "/"},
        "root": {"path": "rootfs"},
        "mounts": [],
        "linux": {"namespaces": [{"type": kind} for kind in ("mount", "pid", "uts", "ipc")]},
    }
    for key, value in changes.items():
        inner = key in ("namespaces", "devices", "sysctl", "timeOffsets", "rootfsPropagation")
        inner = inner or key.endswith(("Mappings", "Paths"))
        (base["linux"] if inner else base)[key] = value
    return base


def lines(made: plan.Plan) -> list[str]:
    return list(describe.listing(made))


def place(listed: list[str], start: str) -> int:
    found = [number for number, text in enumerate(listed) if text.startswith(start)]
    assert found, f"no {start!r} in {listed}"
    return found[0]


def test_the_order_that_safety_rests_on() -> None:
    listed = words(uid=7)
    order = [
        "start a session",
        "join cgroup /cg/cpu/lab/box",
        "join cgroup /cg/pids/lab/box",
        "unshare cgroup namespace",
        "set hostname box",
        "make mount / and all below private",
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
        "reduce the bounding set to 14",
        "become user 7, group 0",
        "forbid new privileges",
        "change directory to /",
        "set umask 022",
        "ask for signal 9 at the parent's death",
        "pass on 0 descriptors",
        "load a seccomp filter",
        "execute sh",
    ]
    places = [place(listed, text) for text in order[:-6]]
    places += range(len(listed) - 6, len(listed))
    assert places == sorted(places)
    assert all(listed[at].startswith(text) for at, text in zip(places, order, strict=True))


def test_root_keeps_capabilities_and_a_user_without_permitted_ones_none() -> None:
    assert "reduce to 14 capabilities" in words()
    assert "reduce to 0 capabilities" in words(capabilities=frozenset())


def test_namespaces_decide_what_is_mounted_and_set() -> None:
    listed = words(namespaces=Namespace.PID | Namespace.MOUNT)
    assert not [
        text for text in listed if "mqueue" in text or "hostname" in text or "unshare" in text
    ]


def test_every_step_has_words_for_its_own_arguments() -> None:
    child.prepare([("fail",)])
    known = steps.STEPS
    assert set(describe._WORDS) == set(known)
    for name, function in known.items():
        try:
            asked = inspect.signature(function).parameters
        except ValueError:
            continue  # a builtin of `os`
        words = inspect.signature(describe._WORDS[name]).parameters
        if not any(parameter.kind == parameter.VAR_POSITIONAL for parameter in words.values()):
            needed = [each for each in asked.values() if each.default is each.empty]
            assert len(needed) <= len(words) <= len(asked), name


def test_every_step_is_known_and_serialisable() -> None:
    known = steps.STEPS
    made = Container.plan(spec(loopback=True))
    for step in made.steps:
        assert step[0] in known
        assert marshal.loads(marshal.dumps(step)) == step
    assert child.STEPS is steps.STEPS


def test_overlay_options_are_top_layer_first() -> None:
    step = rootfs.overlay_step("/m", (("/a", "/b"), "/u", "/w"))
    assert step[-1] == "lowerdir=/b:/a,upperdir=/u,workdir=/w,volatile"


def test_an_overlay_too_long_for_a_page_goes_by_the_new_api() -> None:
    layers = tuple(f"/layers/{number:064}" for number in range(100))
    step = rootfs.overlay_step("/m", (layers, "/u", "/w"))
    assert step[0] == "mount_overlay"
    assert step[2] == tuple(reversed(layers))
    assert describe.describe(step) == "mount overlay of 100 layers on /m"
    assert "state directory" in describe.advice(step)


@pytest.mark.parametrize("path", ["/a:b", "/a,b", "/a\\b"])
def test_an_overlay_path_with_a_separator_is_refused(path: str) -> None:
    with pytest.raises(SpecError, match="overlayfs cannot take"):
        rootfs.overlay_step("/m", ((path,), None, None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../x"}, "name: '../x'"),
        ({"name": ""}, "name: ''"),
        ({"layers": ()}, "layers: at least one"),
        ({"state_dir": Path("here")}, "state_dir: here is not absolute"),
        ({"namespaces": Namespace.MOUNT}, "needs PID"),
        (
            {"namespaces": Namespace.PID | Namespace.MOUNT, "loopback": True},
            "loopback: needs a NET",
        ),
        ({"argv": ()}, "argv is empty"),
        ({"env": {"A=B": "x"}}, "env: 'A=B'"),
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
    ],
)
def test_a_request_that_cannot_be_says_which_key(changes: dict[str, object], message: str) -> None:
    values: dict[str, object] = {"argv": ("true",), **changes}
    with pytest.raises(SpecError, match=message):
        Request(**values)  # type: ignore[arg-type]


def test_where_a_program_is_looked_for() -> None:
    assert process.candidates("/bin/x", {}) == ("/bin/x",)
    assert process.candidates("x", {"PATH": "/a::/b"}) == ("/a/x", "./x", "/b/x")
    default = tuple(f"{each}/x" for each in process.DEFAULT_PATH.split(":"))
    assert process.candidates("x", {}) == default


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"process": {"cwd": "/"}}, r"process\.args: empty"),
        ({"process": {"args": ["x"], "env": ["A"]}}, r"process\.env: 'A'"),
        ({"process": {"args": ["x"], "cwd": "tmp"}}, r"process\.cwd: 'tmp' is not absolute"),
        ({"namespaces": [{"type": "pid"}]}, "needs a mount namespace"),
        ({"namespaces": [{"type": "x"}]}, r"namespaces\[0\]\.type: 'x' is none of user"),
        ({"namespaces": [{"type": "mount"}] * 2}, r"namespaces\[1\]\.type: a second 'mount'"),
        ({"namespaces": [{"type": "mount", "path": "x"}]}, r"namespaces\[0\]\.path: 'x'"),
        ({"mounts": [{"type": "bind", "destination": "/x"}]}, r"mounts\[0\]\.source"),
        ({"mounts": [{"type": "tmpfs"}]}, r"mounts\[0\]\.destination: missing"),
        ({"mounts": [{"type": "tmpfs", "destination": "/.."}]}, "is the root itself"),
        ({"sysctl": {"vm.swappiness": "1"}}, "would change the host"),
        ({"sysctl": {"net.ipv4.ip_forward": "1"}}, "needs a network namespace"),
        ({"maskedPaths": ["x"]}, r"linux\.maskedPaths: 'x' is not absolute"),
        ({"rootfsPropagation": "odd"}, r"linux\.rootfsPropagation: no such value 'odd'"),
        ({"devices": [{"path": "/dev/x", "type": "z"}]}, r"linux\.devices\[0\]"),
        ({"timeOffsets": {"boottime": {"secs": 1}}}, "need a new time namespace"),
        (
            {"hostname": "x", "namespaces": [{"type": "mount"}]},
            "hostname: needs a uts namespace",
        ),
        (
            {"namespaces": [{"type": "mount"}, {"type": "user"}]},
            r"linux\.uidMappings: a new user namespace needs one",
        ),
    ],
)
def test_a_configuration_that_cannot_be_says_where(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        container_plan(config(**changes), "/bundle/rootfs")


def test_a_plain_directory_is_bound_on_itself_before_the_pivot() -> None:
    listed = lines(container_plan(config(), "/bundle/rootfs"))
    assert place(listed, "child: bind /bundle/rootfs on /bundle/rootfs") < place(
        listed, "child: pivot"
    )
    assert listed[0] == "parent: clone with new pid, ipc, uts, mount namespaces"


def test_sources_are_taken_before_the_pivot_and_attached_after_it() -> None:
    mounts = [
        {"destination": "/data", "source": "/srv", "type": "bind", "options": ["rbind", "ro"]}
    ]
    listed = lines(container_plan(config(mounts=mounts), "/r"))
    order = ["child: take /srv", "child: make mount 0 /data ro", "child: pivot", "child: attach"]
    places = [place(listed, text) for text in order]
    assert places == sorted(places)


def test_with_hooks_the_mounts_come_first_and_the_pivot_after_the_hooks() -> None:
    hooks = {
        "createRuntime": [{"path": "/h/r"}],
        "createContainer": [{"path": "/h/c"}],
        "startContainer": [{"path": "/h/s"}],
    }
    proc = [{"destination": "/proc", "type": "proc", "source": "proc"}]
    listed = lines(container_plan(config(hooks=hooks, mounts=proc), "/r", wait_for_start=True))
    order = [
        "child: bind /r on /r",
        "child: enter the new root",
        "child: mount proc on /proc",
        "child: leave",
        "child: wait for the parent at 'createRuntime'",
        "child: run the createContainer hook /h/c",
        "child: pivot",
        "child: wait for the parent at 'start'",
        "child: run the startContainer hook /h/s",
        "child: execute",
    ]
    places = [place(listed, text) for text in order]
    assert places == sorted(places)


def test_a_joined_network_needs_no_stage_and_a_joined_pid_namespace_does() -> None:
    both = [{"type": "mount"}, {"type": "network", "path": "/n"}]
    made = container_plan(config(namespaces=both), "/r")
    assert not made.outside
    assert lines(made)[1] == "child: join network namespace /n"
    both.append({"type": "pid", "path": "/p"})
    listed = lines(container_plan(config(namespaces=both), "/r", cgroup=group()))
    assert listed[:5] == [
        "stage: join cgroup /cg/cpu/lab/box",
        "stage: join cgroup /cg/pids/lab/box",
        "stage: join pid namespace /p",
        "stage: join network namespace /n",
        "parent: clone with new mount namespaces",
    ]


def test_an_exec_joins_the_cgroup_and_then_all_namespaces_at_once() -> None:
    listed = lines(exec_plan(config(), {"args": ["sh"], "cwd": "/tmp"}, 42, cgroup=group()))
    assert listed[:4] == [
        "stage: join cgroup /cg/cpu/lab/box",
        "stage: join cgroup /cg/pids/lab/box",
        "stage: join the pid, ipc, uts, mount namespaces of process 42",
        "parent: clone with new no namespaces",
    ]
    assert listed[-1] == "child: execute sh"


LINE = [{"containerID": 0, "hostID": 100000, "size": 65536}]
USER = [{"type": "mount"}, {"type": "user"}]


def test_a_user_namespace_is_mapped_from_outside_and_joins_its_cgroup_from_there() -> None:
    asked = config(namespaces=USER, uidMappings=LINE, gidMappings=LINE)
    made = container_plan(asked, "/r", cgroup=group(), rootless=True)
    assert lines(made)[:4] == [
        "parent: clone with new user, mount namespaces",
        "parent: join cgroup /cg/cpu/lab/box",
        "parent: join cgroup /cg/pids/lab/box",
        "parent: write the user and group maps",
    ]
    made = container_plan(asked, "/r", cgroup=group())
    listed = lines(made)
    assert listed[:4] == [
        "stage: join cgroup /cg/cpu/lab/box",
        "stage: join cgroup /cg/pids/lab/box",
        "parent: clone with new user, mount namespaces",
        "parent: write the user and group maps",
    ]
    assert place(listed, "child: wait for the parent's part") < place(
        listed, "child: become user 0, group 0"
    )
    assert made.maps == (((0, 100000, 65536),), ((0, 100000, 65536),), False)


def test_what_a_user_namespace_may_not_see_a_stage_takes_and_maps_the_owners() -> None:
    bind = {"destination": "/d", "source": "/srv", "type": "bind", "options": ["bind", "idmap"]}
    asked = config(namespaces=USER, uidMappings=LINE, gidMappings=LINE, mounts=[bind])
    listed = lines(container_plan(asked, "/r", overlay=(["/low"], "/s/upper", "/s/work")))
    assert [each for each in listed if each.startswith("stage")] == [
        "stage: take /srv",
        "stage: make mount 0 /d and all below private",
        "stage: make a user namespace for user namespace 0 mounts",
        "stage: map the owners of mount 0 /d",
        "stage: make a user namespace for owners mounts",
        "stage: mount overlay of 1 layer on the new root for root as user 100000",
    ]
    order = ["child: put the new root on /", "child: attach a mount on /d", "child: pivot"]
    places = [place(listed, text) for text in order]
    assert places == sorted(places)
    with pytest.raises(SpecError, match=r"mounts\[0\]: idmap needs uidMappings"):
        container_plan(config(mounts=[bind]), "/r")


def test_devices_are_the_hosts_in_a_user_namespace() -> None:
    dev = [{"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}]
    asked = config(namespaces=USER, uidMappings=LINE, gidMappings=LINE, mounts=dev)
    listed = lines(container_plan(asked, "/r", rootless=True))
    assert "child: take /dev/null" in listed
    assert not [each for each in listed if "make device" in each]


def test_time_offsets_are_written_before_anybody_is_in() -> None:
    namespaces = [{"type": "mount"}, {"type": "time"}]
    offsets = {"monotonic": {"secs": 5}, "boottime": {"secs": 7, "nanosecs": 9}}
    listed = lines(container_plan(config(namespaces=namespaces, timeOffsets=offsets), "/r"))
    assert listed[:4] == [
        "stage: unshare time namespace",
        "stage: write 'boottime 7 9' to /proc/self/timens_offsets",
        "stage: write 'monotonic 5 0' to /proc/self/timens_offsets",
        "parent: clone with new mount namespaces",
    ]


def test_a_capability_that_cannot_be_is_a_warning() -> None:
    asked = {"args": ["x"], "capabilities": {"bounding": ["CAP_CHOWN", "CAP_NO", "CAP_KILL"]}}
    made = container_plan(config(process=asked), "/r", available=1)
    assert made.warnings == [
        "process.capabilities.bounding: no capability 'CAP_NO', left out",
        "process.capabilities.bounding: CAP_KILL is not this process's to give, left out",
    ]
    assert ("drop_bounding", 1) in made.steps


def test_a_user_with_permitted_capabilities_keeps_them_through_the_change() -> None:
    some = ["CAP_NET_RAW"]
    sets = dict.fromkeys(("bounding", "permitted", "inheritable", "ambient"), some)
    asked = {"args": ["x"], "user": {"uid": 5}, "capabilities": sets}
    listed = lines(container_plan(config(process=asked), "/r"))
    order = [
        "child: keep capabilities",
        "child: become user 5",
        "child: reduce to 1 capability",
        "child: clear the ambient",
        "child: make 1 capabilities ambient",
    ]
    places = [place(listed, text) for text in order]
    assert places == sorted(places)


def test_the_filter_comes_before_the_rights_go_or_at_the_very_end() -> None:
    for no_new_privs in (False, True):
        asked = {"args": ["x"], "noNewPrivileges": no_new_privs}
        made = container_plan(config(process=asked), "/r", filter_=(b"\0" * 16, 0))
        names = [step[0] for step in made.steps]
        if no_new_privs:
            assert names[-2:] == ["seccomp", "execute"]
        else:
            assert names.index("seccomp") < names.index("drop_bounding")


def test_a_plan_can_be_made_to_fail_anywhere_and_the_words_stay() -> None:
    made = container_plan(config(), "/r")
    broken = made.failing(3)
    assert broken.steps[3] == ("fail", 5, made.steps[3])
    assert lines(broken) == lines(made)
    assert made.steps[3][0] != "fail"
