"""Every step fails once: the error names the step, and nothing is left."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime import Cgroup, Container, ContainerError, ContainerSpec, Namespace, Spawner, StepFailed
from runtime.engine.describe import describe
from runtime.engine.plan import Plan
from tests.integration.runtime.test_container import mounts_of_ours

pytestmark = pytest.mark.root

MakeSpec = Callable[..., ContainerSpec]
CLONE_FS = 0x200


class World:
    """What a failed start could leave behind, counted."""

    def __init__(self, spawner: Spawner, group: Cgroup, folder: Path) -> None:
        self._spawner, self._group, self._folder = spawner, group, folder

    def now(self) -> dict[str, object]:
        own, helper = (
            len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in ("self", self._spawner.pid)
        )
        tasks = (f"/proc/{pid}/task/{pid}/children" for pid in (os.getpid(), self._spawner.pid))
        return {
            "files": sorted(str(path) for path in self._folder.rglob("*")),
            "descriptors": (own, helper),
            "children": [Path(path).read_text() for path in tasks],
            "mounts": mounts_of_ours(self._folder),
            "cgroups": [
                sorted(path.name for path in Path(directory).iterdir() if path.is_dir())
                for directory in self._group.directories
            ],
        }


def rich(make_spec: MakeSpec, folder: Path, **changes: Any) -> ContainerSpec:
    """A container with a bit of everything."""
    volume = folder / "volume"
    volume.mkdir(exist_ok=True)
    mounts = (
        {"destination": "/data", "type": "bind", "source": str(volume), "options": ["rbind", "ro"]},
        {"destination": "/a/b", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]},
        {"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]},
    )
    values: dict[str, Any] = {
        "name": "faulty",
        "mounts": mounts,
        "init": True,
        "terminal": (24, 80),
        "loopback": True,
        "readonly": True,
        "rlimits": {7: (100, 200)},
        "uid": 5,
        "groups": (6,),
        "cwd": "/tmp",
    }
    return make_spec("/bin/sleep", "1000", **{**values, **changes})


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "userns": {
        "namespaces": Namespace.CONTAINER | Namespace.USER,
        "uid_map": ((0, 200000, 65536),),
        "gid_map": ((0, 200000, 65536),),
    },
    "time": {
        "namespaces": Namespace.CONTAINER | Namespace.TIME,
        "time_offsets": {"boottime": 5},
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_step_in_turn(
    spawner: Spawner, group: Cgroup, make_spec: MakeSpec, folder: Path, kind: str
) -> None:
    spec = rich(make_spec, folder, **KINDS[kind])
    plan = Container.plan(spec)
    world = World(spawner, group, folder)
    with Container.launch(spec, spawner, parent=group) as container:
        container.process.started()  # all of it works; what is compiled once is compiled now
    before = world.now()
    places = [("outside", number) for number in range(len(plan.outside))]
    places += [("inside", number) for number in range(len(plan.steps))]
    assert len(places) > 60
    for where, number in places:
        broken = plan.failing(number, errno.EIO, where)
        step = (plan.outside if where == "outside" else plan.steps)[number]
        with (
            Container.launch(spec, spawner, parent=group, plan=broken) as container,
            pytest.raises(StepFailed) as caught,
        ):
            container.process.started()
        assert caught.value.step == describe(step)
        assert caught.value.errno == errno.EIO
        assert world.now() == before, describe(step)


def test_the_clone_and_the_maps(
    spawner: Spawner, group: Cgroup, make_spec: MakeSpec, folder: Path
) -> None:
    spec = rich(make_spec, folder, **KINDS["userns"])
    world = World(spawner, group, folder)
    before = world.now()

    def launch(plan: Plan) -> str:
        with (
            Container.launch(spec, spawner, parent=group, plan=plan) as container,
            pytest.raises(StepFailed) as caught,
        ):
            container.process.started()
        assert world.now() == before
        return str(caught.value)

    plan = Container.plan(spec)
    plan.clone |= CLONE_FS  # no mount namespace with that (clone(2), EINVAL)
    assert "could not clone a child" in launch(plan)
    plan = Container.plan(spec)
    plan.maps = (((0, 200000, 0),), *plan.maps[1:])  # type: ignore[index]
    assert "could not write the user and group maps" in launch(plan)
    plan = Container.plan(spec)
    plan.into = "/sys/fs/cgroup/no/such"
    assert "could not clone a child on '/sys/fs/cgroup/no/such'" in launch(plan)


def test_what_comes_before_the_clone(
    spawner: Spawner, group: Cgroup, make_spec: MakeSpec, folder: Path
) -> None:
    world = World(spawner, group, folder)
    spec = rich(make_spec, folder)
    (folder / "volume").rmdir()
    before = world.now()
    with pytest.raises(ContainerError, match="cannot make state directory"):
        Container.launch(
            rich(make_spec, folder, state_dir=folder / "no" / "where"), spawner, parent=group
        )
    (folder / "volume").rmdir()
    assert world.now() == before
    taken = group.child(spec.name)
    with pytest.raises(ContainerError, match="another instance"):
        Container.launch(spec, spawner, parent=group)
    taken.remove()
    assert world.now() == before


IN_PROCESS = """
import os, sys
sys.path.insert(0, {tree!r})
from runtime.engine.plan import container_plan, exec_plan
from runtime.engine.report import begin
from runtime.engine.describe import describe
from runtime.errors import StepFailed

kinds = ("mount", "pid", "uts", "ipc", "network", "cgroup")
config = {{
    "process": {{"args": ["/bin/sh", "-c", "exit 3"], "cwd": "/new", "user": {{"uid": 5}}}},
    "hostname": "x",
    "mounts": [
        {{"destination": "/proc", "type": "proc", "source": "proc"}},
        {{"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}},
        {{"destination": "/v", "type": "bind", "source": "/etc", "options": ["rbind", "ro"]}},
    ],
    "hooks": {{
        "createRuntime": [{{"path": "/bin/true"}}],
        "createContainer": [{{"path": "/bin/true"}}],
        "startContainer": [{{"path": "/bin/true"}}],
    }},
    "linux": {{
        "namespaces": [{{"type": kind}} for kind in kinds],
        "maskedPaths": ["/proc/kcore"],
        "sysctl": {{"net.ipv4.ip_forward": "1"}},
    }},
}}

def run(plan):
    launch = begin(plan, (0, 1, 2))
    try:
        for meeting in ("createRuntime", "start"):
            launch.until(meeting)
            launch.go()
        launch.until(None)
        return os.waitstatus_to_exitcode(os.waitpid(launch.pid, 0)[1])
    finally:
        launch.close()

plan = container_plan(config, {rootfs!r}, fds=(0, 1, 2), wait_for_start=True, make_cwd=True,
    close_from=3)
assert run(plan) == 3
before = os.listdir("/proc/self/fd")
for number in range(len(plan.steps)):
    try:
        run(plan.failing(number))
    except StepFailed as error:
        assert error.step == describe(plan.steps[number]), error
    else:
        raise AssertionError(number)
    try:
        raise AssertionError(os.waitpid(-1, 0))
    except ChildProcessError:
        pass
    assert os.listdir("/proc/self/fd") == before, number
print(len(plan.steps))
"""


def test_each_step_of_a_start_by_the_caller_itself(
    make_spec: MakeSpec, folder: Path, busybox: Any
) -> None:
    """As the command line starts containers: no helper, hooks, and two meetings on the way."""
    rootfs = folder / "rootfs"
    subprocess.run(["cp", "-a", busybox.layers[0], rootfs], check=True)
    tree = Path(__file__).parents[3]
    before = mounts_of_ours(folder)
    program = IN_PROCESS.format(tree=str(tree), rootfs=str(rootfs))
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 40
    assert mounts_of_ours(folder) == before
