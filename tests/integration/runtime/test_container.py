"""Containers as they really are: seen from inside, from the host, and after their end."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime import (
    Cgroup,
    CgroupLayout,
    Container,
    ContainerError,
    ContainerSpec,
    ExecFailed,
    Limits,
    Namespace,
    Spawner,
    StepFailed,
)
from tests.integration.runtime.conftest import Run

pytestmark = pytest.mark.root

MakeSpec = Callable[..., ContainerSpec]
KINDS = ("pid", "mnt", "uts", "ipc", "cgroup", "net")


def test_every_namespace_is_its_own(run: Run) -> None:
    result = run("".join(f"readlink /proc/self/ns/{kind};" for kind in KINDS))
    inside = result.out.split()
    assert len(inside) == len(KINDS)
    for kind, link in zip(KINDS, inside, strict=True):
        assert link != str(Path(f"/proc/self/ns/{kind}").readlink())


def test_namespaces_left_out_are_the_hosts(run: Run) -> None:
    result = run(
        "readlink /proc/self/ns/net; readlink /proc/self/ns/uts",
        namespaces=Namespace.CONTAINER & ~(Namespace.NET | Namespace.UTS),
    )
    ours = [str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in ("net", "uts")]
    assert result.out.split() == ours


def test_the_workload_is_pid_1_of_its_own_session(run: Run) -> None:
    assert run("echo $$; cut -d' ' -f6 /proc/1/stat").out.split() == ["1", "1"]


def test_hostname_is_the_name_or_as_given(run: Run) -> None:
    assert run("hostname", name="webserver").out == "webserver\n"
    assert run("hostname", hostname="other").out == "other\n"


def test_root_is_the_overlay_and_the_old_root_is_gone(run: Run) -> None:
    mounts = run("cat /proc/self/mountinfo").out.splitlines()
    points = {line.split()[4]: line for line in mounts}
    assert " - overlay overlay " in points["/"]
    assert set(points) >= {"/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/proc/sys"}
    host = Path("/proc/self/mountinfo").read_text().splitlines()
    devices = {line.split()[2] for line in host if line.split()[4] in ("/", "/tmp")}
    assert not devices & {line.split()[2] for line in mounts}


def test_dev_has_the_default_devices_and_they_work(run: Run) -> None:
    result = run(
        "echo x > /dev/null && head -c 3 /dev/zero | wc -c && head -c 5 /dev/urandom | wc -c;"
        "ls /dev | tr '\\n' ' '; ls -ld /dev/null /dev/shm | cut -c1-10; readlink /dev/ptmx"
    )
    names = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    assert result.out.split() == [
        *("3", "5"),
        *names.split(),
        "crw-rw-rw-",
        "drwxrwxrwt",
        "pts/ptmx",
    ]


def test_proc_and_sys_cannot_change_the_host(run: Run) -> None:
    for path in ("/proc/sys/kernel/hostname", "/proc/sys/vm/drop_caches", "/sys/kernel/profiling"):
        result = run(f"echo h > {path}")
        assert result.status != 0
        assert "Read-only file system" in result.out
    hidden = run(
        "cat /proc/keys /proc/kcore /proc/timer_list 2>&- | wc -c; ls /sys/firmware | wc -l"
    ).out.split()
    assert hidden == ["0", "0"]


def mounts_of_ours(folder: Path) -> list[str]:
    """The host's mounts where a container of ours could leave one; others may come and go."""
    places = ("/proc", "/sys", "/dev", "/tmp", str(folder))
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4] for line in lines]
    return [
        line
        for line, point in zip(lines, points, strict=True)
        if point == "/" or any(f"{point}/".startswith(f"{place}/") for place in places)
    ]


def test_the_hosts_mounts_are_as_before(run: Run, folder: Path) -> None:
    before = mounts_of_ours(folder)
    run("mount -t tmpfs x /tmp 2>/dev/null; true")
    assert mounts_of_ours(folder) == before


def test_a_running_container_does_not_show_in_the_hosts_mounts(
    spawner: Spawner, group: Cgroup, make_spec: MakeSpec, folder: Path
) -> None:
    before = mounts_of_ours(folder)
    spec = make_spec("/bin/sleep", "1000")
    with Container.launch(spec, spawner, parent=group) as container:
        container.process.started()
        assert mounts_of_ours(folder) == before
        assert container.processes() == (container.pid,)


def test_writes_land_in_the_upper_layer_only(
    spawner: Spawner, group: Cgroup, make_spec: MakeSpec
) -> None:
    spec = make_spec("/bin/sh", "-c", "echo hi > /root/new; rm /etc/hosts; echo done")
    before = sorted(path for path in spec.layers[0].rglob("*"))
    with Container.launch(spec, spawner, parent=group) as container:
        assert container.wait(30) == 0
        assert (container.upper_dir / "root/new").read_text() == "hi\n"
        assert (container.upper_dir / "etc/hosts").stat().st_rdev == 0  # a whiteout
        assert sorted(path for path in spec.layers[0].rglob("*")) == before


def test_two_containers_of_one_image_see_their_own_writes(
    spawner: Spawner, group: Cgroup, make_spec: MakeSpec
) -> None:
    read, write = os.pipe()
    specs = [
        make_spec(
            "/bin/sh", "-c", f"echo {word} > /mark; cat /mark >&3; sleep 1000", fds={3: write}
        )
        for word in ("one", "two")
    ]
    with (
        Container.launch(specs[0], spawner, parent=group),
        Container.launch(specs[1], spawner, parent=group),
        os.fdopen(read) as lines,
    ):
        os.close(write)
        assert sorted((lines.readline(), lines.readline())) == ["one\n", "two\n"]


def test_environment_directory_and_user_are_exactly_as_given(run: Run) -> None:
    env = {"PATH": "/bin:/usr/bin", "A": "b = c", "EMPTY": ""}
    result = run(("cat", "/proc/self/environ"), env=env)
    assert dict(entry.split("=", 1) for entry in result.out.split("\0") if entry) == env
    result = run(
        "pwd; id -u; id -g; id -G; umask", cwd="/var/tmp", uid=1234, gid=567, groups=(8, 9)
    )
    lines = result.out.splitlines()
    assert lines[:-1] == ["/var/tmp", "1234", "567", "567 8 9"]
    assert int(lines[-1], 8) == 0o022


def test_descriptors_are_those_given_and_no_others(run: Run) -> None:
    read, write = os.pipe()
    with os.fdopen(read) as lines:
        result = run("echo event >&3; ls /proc/self/fd | tr '\\n' ' '", fds={3: write})
        os.close(write)
        assert lines.read() == "event\n"
    assert result.out.split() == ["0", "1", "2", "3", "4"]  # 4 is the ls's own directory


def test_rights_are_dockers_and_cannot_grow(run: Run) -> None:
    status = dict(line.split(":\t") for line in run("cat /proc/self/status").out.splitlines())
    for kind in ("CapPrm", "CapEff", "CapBnd"):
        assert int(status[kind], 16) == 0xA80425FB
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    user = run("cat /proc/self/status", uid=1000)
    status = dict(line.split(":\t") for line in user.out.splitlines())
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0


def test_signals_are_at_their_defaults(run: Run) -> None:
    result = run(("cat", "/proc/self/status"))  # a shell would have changed some
    status = dict(line.split(":\t") for line in result.out.splitlines())
    assert int(status["SigIgn"], 16) == int(status["SigBlk"], 16) == 0


@pytest.mark.parametrize(("script", "status"), [("exit 7", 7), ("true", 0)])
def test_exit_status(run: Run, script: str, status: int) -> None:
    result = run(script)
    assert result.status == status
    usage = result.container.process.rusage
    assert usage is not None
    assert usage.ru_maxrss > 0


def test_a_signal_is_128_plus_its_number(
    spawner: Spawner, group: Cgroup, make_spec: MakeSpec
) -> None:
    with Container.launch(make_spec("/bin/sleep", "1000"), spawner, parent=group) as container:
        container.process.started()
        with pytest.raises(subprocess.TimeoutExpired):
            container.wait(0.01)
        container.kill(signal.SIGKILL)
        assert container.wait(30) == 128 + signal.SIGKILL


def test_phases_are_in_order(run: Run) -> None:
    phases = run("true").container.phases
    assert list(phases) == ["cgroup", "clone", "mounts", "exec"]
    assert list(phases.values()) == sorted(phases.values())


def test_a_missing_program_is_a_typed_error_and_leaves_nothing(
    spawner: Spawner, group: Cgroup, make_spec: MakeSpec
) -> None:
    spec = make_spec("no-such-program")
    with Container.launch(spec, spawner, parent=group) as container:
        with pytest.raises(ExecFailed, match=r"no-such-program.*ENOENT"):
            container.process.started()
        with pytest.raises(ExecFailed):
            container.wait(1)
    assert not spec.state_dir.exists()


def test_a_missing_directory_names_the_step(
    spawner: Spawner, group: Cgroup, make_spec: MakeSpec
) -> None:
    spec = make_spec("/bin/true", cwd="/nowhere")
    with (
        Container.launch(spec, spawner, parent=group) as container,
        pytest.raises(StepFailed, match=r"change directory to /nowhere.*ENOENT"),
    ):
        container.process.started()


def test_a_missing_layer_names_the_overlay(
    spawner: Spawner, group: Cgroup, make_spec: MakeSpec, folder: Path
) -> None:
    spec = make_spec("/bin/true", layers=(folder / "not-there",))
    with (
        Container.launch(spec, spawner, parent=group) as container,
        pytest.raises(StepFailed, match=r"mount overlay of 1 layer.*state directory"),
    ):
        container.process.started()


def test_a_link_at_proc_is_refused(
    spawner: Spawner, group: Cgroup, make_spec: MakeSpec, folder: Path
) -> None:
    layer = folder / "hostile"
    layer.mkdir()
    (layer / "proc").symlink_to("/etc")
    base = make_spec("/bin/true")
    spec = make_spec("/bin/true", layers=(*base.layers, layer))
    with (
        Container.launch(spec, spawner, parent=group) as container,
        pytest.raises(StepFailed, match=r"make directory /proc.*ENOTDIR"),
    ):
        container.process.started()


def test_a_name_in_use_is_an_error_and_the_first_goes_on(
    spawner: Spawner, group: Cgroup, make_spec: MakeSpec
) -> None:
    with Container.launch(make_spec("/bin/sleep", "9", name="one"), spawner, parent=group) as one:
        one.process.started()
        with pytest.raises(ContainerError, match="one"):
            Container.launch(make_spec("/bin/sleep", "9", name="one"), spawner, parent=group)
        assert one.process.poll() is None


def test_more_layers_than_a_page_of_options_holds(
    spawner: Spawner, group: Cgroup, make_spec: MakeSpec, folder: Path
) -> None:
    extra = []
    for number in range(120):
        layer = folder / f"layer-with-a-name-of-some-length-{number:03}"
        layer.mkdir()
        (layer / f"file{number}").touch()
        extra.append(layer)
    base = make_spec("/bin/true")
    script = '[ "$(ls / | grep -c ^file)" = 120 ]'
    spec = make_spec("/bin/sh", "-c", script, layers=(*base.layers, *extra))
    with Container.launch(spec, spawner, parent=group) as container:
        assert container.wait(30) == 0


def test_too_much_memory_is_killed(run: Run) -> None:
    # tail keeps its last line in memory, and /dev/zero never ends one.
    result = run("tail /dev/zero", limits=Limits(memory=32 * 2**20))
    assert result.status == 128 + signal.SIGKILL


def test_too_many_processes_are_refused(run: Run) -> None:
    result = run("for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; true", limits=Limits(pids=4))
    assert "can't fork" in result.out


def test_the_kernel_keeps_the_cpu_quota(
    spawner: Spawner, group: Cgroup, make_spec: MakeSpec, layout: CgroupLayout
) -> None:
    spec = make_spec("/bin/sleep", "1000", limits=Limits(cpus=0.25))
    with Container.launch(spec, spawner, parent=group) as container:
        container.process.started()
        assert container.cgroup is not None
        ((path, text),) = container.cgroup.limit_files(cpus=0.25)
        assert Path(path).read_text().strip() == text
        assert str(container.pid) in Path(path).with_name("cgroup.procs").read_text().split()


def test_loopback_is_up_when_asked_for(run: Run) -> None:
    assert "UP" not in run("ip link show lo").out.split("mtu")[0]
    assert "UP" in run("ip link show lo", loopback=True).out.split("mtu")[0]


def test_stop_kills_everything_and_leaves_nothing(
    spawner: Spawner, group: Cgroup, make_spec: MakeSpec
) -> None:
    read, write = os.pipe()
    spec = make_spec(
        "/bin/sh",
        "-c",
        "trap '' TERM; sleep 1000 & sleep 1000 & echo r >&3; wait",
        fds={3: write},
        limits=Limits(1.0, 2**27, 64),
    )
    container = Container.launch(spec, spawner, parent=group)
    os.close(write)
    assert os.read(read, 1) == b"r"
    os.close(read)
    pids = container.processes()
    assert len(pids) == 3
    assert container.cgroup is not None
    directories = container.cgroup.directories
    container.stop()
    container.stop()
    for path in (spec.state_dir, *map(Path, directories), *(Path(f"/proc/{pid}") for pid in pids)):
        assert not path.exists()


def test_the_parents_death_is_the_containers(
    group: Cgroup, make_spec: MakeSpec, folder: Path
) -> None:
    program = f"""
import sys, os
from pathlib import Path
from runtime import *
with Spawner() as spawner:
    spec = ContainerSpec(name="orphan", layers=(Path({str(make_spec("x").layers[0])!r}),),
        argv=("/bin/sleep", "1000"), state_dir=Path({str(folder / "orphan")!r}))
    container = Container.launch(spec, spawner)
    container.process.started()
    print(container.pid, spawner.pid, flush=True)
    sys.stdin.read()
"""
    lab = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert lab.stdout is not None and lab.stdin is not None
    watched = [os.pidfd_open(int(pid)) for pid in lab.stdout.readline().split()]
    assert len(watched) == 2
    lab.kill()
    lab.wait()
    lab.stdin.close()
    lab.stdout.close()
    for pidfd in watched:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        assert poller.poll(30_000), "outlived its parent"
        os.close(pidfd)
