"""Namespaces, mounts and rights beyond the defaults, as they are seen from inside."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime import Cgroup, Container, ContainerSpec, Image, Namespace, Spawner, StepFailed
from runtime.capabilities import DEFAULT
from runtime.engine.plan import container_plan
from tests.integration.runtime.conftest import Run

pytestmark = pytest.mark.root

MakeSpec = Callable[..., ContainerSpec]
SHIFT = 200000
MAPS = {"uid_map": ((0, SHIFT, 65536),), "gid_map": ((0, SHIFT, 65536),)}
WITH_USER = {"namespaces": Namespace.CONTAINER | Namespace.USER, **MAPS}


def namespace(pid: int | str, kind: str) -> int:
    return Path(f"/proc/{pid}/ns/{kind}").stat().st_ino


def test_root_inside_is_not_root_outside(
    spawner: Spawner, group: Cgroup, make_spec: MakeSpec
) -> None:
    read, write = os.pipe()
    script = (
        "id -u >&3; cat /proc/self/uid_map >&3; touch /root/new;"
        "stat -c '%u %n' /root/new /bin >&3;"
        "hostname changed && hostname >&3; cat /proc/sys/kernel/hostname >&3; echo x >/dev/null;"
        "ls -l /dev/null | cut -c1-10 >&3; mknod /tmp/sda b 8 0 2>/dev/null || echo none >&3;"
        "exec sleep 1000 3>&-"
    )
    caps = DEFAULT | {"CAP_SYS_ADMIN"}
    spec = make_spec("/bin/sh", "-c", script, fds={3: write}, capabilities=caps, **WITH_USER)
    with Container.launch(spec, spawner, parent=group) as container:
        os.close(write)
        with os.fdopen(read) as lines:
            out = lines.read().splitlines()
        assert out[0] == "0"
        assert out[1].split() == ["0", str(SHIFT), "65536"]
        assert out[2:4] == ["0 /root/new", "0 /bin"]
        assert out[4:] == ["changed", "changed", "crw-rw-rw-", "none"]
        status = Path(f"/proc/{container.pid}/status").read_text()
        assert f"Uid:\t{SHIFT}\t{SHIFT}" in status
        # On disk it is as if the container were not in a user namespace: the mount maps owners.
        assert (container.upper_dir / "root/new").stat().st_uid == 0
        ours, theirs = (namespace(pid, "user") for pid in ("self", container.pid))
        assert ours != theirs
    assert not spec.state_dir.exists()


def test_a_user_namespaces_container_runs_where_no_other_user_may_look(
    run: Run, folder: Path
) -> None:
    """The state directory, and what is mounted, may lie in a directory that is closed to all."""
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "volume").mkdir(mode=0o755)
    (folder / "volume/file").write_text("there\n")
    mount = {
        "destination": "/data",
        "type": "bind",
        "source": str(folder / "volume"),
        "options": ["bind", "idmap"],
    }
    result = run(
        "cat /data/file; stat -c %u /data/file; touch /data/new", mounts=(mount,), **WITH_USER
    )
    assert result.out.split() == ["there", "0"]
    assert result.status == 0
    assert (folder / "volume/new").stat().st_uid == 0


def test_a_bind_without_idmap_shows_the_owners_as_nobody(run: Run, folder: Path) -> None:
    mount = {"destination": "/d", "type": "bind", "source": str(folder), "options": ["bind"]}
    result = run("stat -c %u /d; touch /d/new", mounts=(mount,), **WITH_USER)
    assert result.out.splitlines()[0] == "65534"
    assert result.status != 0


def test_time_is_ahead(run: Run) -> None:
    spaces = Namespace.CONTAINER | Namespace.TIME
    ahead = 1_000_000_000
    result = run(
        "cut -d. -f1 /proc/uptime; cat /proc/self/timens_offsets",
        namespaces=spaces,
        time_offsets={"boottime": ahead, "monotonic": 5.5},
    )
    lines = result.out.splitlines()
    assert int(lines[0]) > ahead
    assert [line.split() for line in lines[1:]] == [
        ["monotonic", "5", "500000000"],
        ["boottime", str(ahead), "0"],
    ]


def test_a_network_namespace_joined_by_path(
    spawner: Spawner, group: Cgroup, make_spec: MakeSpec
) -> None:
    """As the network's makers hand one over: bound to a path, and joined by the child itself."""
    holder = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    path = f"/proc/{holder.pid}/ns/net"
    spec = make_spec("/bin/sleep", "1000")
    config = spec.config()
    for entry in config["linux"]["namespaces"]:
        if entry["type"] == "network":
            entry["path"] = path
    spec.state_dir.mkdir()
    for each in (spec.upper_dir, spec.work_dir, spec.rootfs):
        each.mkdir()
    overlay = ([str(layer) for layer in spec.layers], str(spec.upper_dir), str(spec.work_dir))
    plan = container_plan(config, str(spec.rootfs), overlay=overlay)
    try:
        with spawner.start(plan, {}) as process:
            process.started()
            assert namespace(process.pid, "net") == Path(path).stat().st_ino
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


@pytest.mark.parametrize("user", [False, True])
def test_exec_is_in_all_its_namespaces_and_its_cgroup_with_its_rights(
    spawner: Spawner, group: Cgroup, make_spec: MakeSpec, user: bool
) -> None:
    spec = make_spec("/bin/sleep", "1000", **(WITH_USER if user else {}))
    with Container.launch(spec, spawner, parent=group) as container:
        container.process.started()
        kinds = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
        first = {kind: namespace(container.pid, kind) for kind in kinds}
        process, _ = container.exec(("sleep", "1000"))
        with process:
            process.started()
            second = {kind: namespace(process.pid, kind) for kind in kinds}
            assert first == second
            assert set(container.processes()) == {container.pid, process.pid}
            ours, theirs = (
                dict(
                    line.split(":\t", 1)
                    for line in Path(f"/proc/{pid}/status").read_text().splitlines()
                )
                for pid in (container.pid, process.pid)
            )
            for key in ("CapBnd", "CapEff", "CapPrm", "CapInh", "Seccomp", "NoNewPrivs", "Uid"):
                assert ours[key] == theirs[key], key
            assert theirs["Seccomp"] == "2"
        read, write = os.pipe()
        process, _ = container.exec(
            ("sh", "-c", "echo $$ $PPID; pwd; id -u; echo $A; exit 9"),
            env={"PATH": "/bin", "A": "b"},
            cwd="/tmp",
            uid=7,
            fds={1: write},
        )
        os.close(write)
        with process, os.fdopen(read) as lines:
            assert process.wait(30) == 9
            number, parent, *rest = lines.read().split()
        assert int(number) > 1
        assert (parent, rest) == ("0", ["/tmp", "7", "b"])


def test_exec_in_one_that_has_ended_is_an_error(
    spawner: Spawner, group: Cgroup, make_spec: MakeSpec
) -> None:
    with Container.launch(make_spec("/bin/true"), spawner, parent=group) as container:
        container.wait(30)
        process, _ = container.exec(("true",))
        with process, pytest.raises(StepFailed, match=r"join the .* namespaces of process"):
            process.started()


def test_the_default_filter_is_in_force_and_none_is_none(run: Run) -> None:
    assert "Seccomp:\t2" in run("grep Seccomp: /proc/self/status").out
    caps = DEFAULT | {"CAP_SYS_ADMIN"}
    # keyctl is in no capability's gift; busybox has unshare and mount to try.
    assert run("unshare -u true").status != 0
    assert run("unshare -u true", capabilities=caps).status == 0
    assert "Seccomp:\t0" in run("grep Seccomp: /proc/self/status", seccomp=None).out


def test_a_profile_of_its_own(run: Run) -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
            {"names": ["sync"], "action": "SCMP_ACT_KILL_PROCESS"},
        ],
    }
    result = run("mkdir /x", seccomp=profile)
    assert "No space left on device" in result.out
    result = run(("sync",), seccomp=profile)
    assert result.status == 128 + signal.SIGSYS


def test_without_no_new_privs_the_filter_is_loaded_before_the_rights_go(run: Run) -> None:
    result = run("grep -E 'Seccomp:|NoNewPrivs' /proc/self/status", no_new_privs=False)
    assert result.out.split() == ["NoNewPrivs:", "0", "Seccomp:", "2"]


def test_other_devices_of_the_host_cannot_be_opened_though_nodes_can_be_made(run: Run) -> None:
    result = run("mknod /d c 10 229 && cat </d")  # /dev/fuse, which everybody may open
    assert result.status != 0
    assert "can't open /d: Operation not permitted" in result.out
    device = {"path": "/dev/d", "type": "c", "major": 10, "minor": 229, "fileMode": 0o600}
    result = run("exec 3</dev/d && ls -l /dev/d", devices=(device,))
    assert result.status == 0, result.out
    assert result.out.startswith("crw-------")


def test_mount_options_are_as_asked_for(run: Run, folder: Path) -> None:
    source = folder / "source"
    (source / "below").mkdir(parents=True)
    (source / "file").write_text("content")

    def bind(target: str, *options: str) -> dict[str, object]:
        return {"destination": target, "type": "bind", "source": str(source), "options": options}

    mounts = (
        bind("/ro", "rbind", "ro", "nosuid", "nodev", "noexec", "noatime"),
        bind("/rw", "bind", "rprivate"),
        bind("/rslave", "rbind", "rslave"),
        {
            "destination": "/file",
            "type": "bind",
            "source": str(source / "file"),
            "options": ["bind", "ro"],
        },
        {
            "destination": "/etc",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["tmpcopyup", "size=1m", "nosuid"],
        },
    )
    result = run(
        "cat /file /ro/file; touch /ro/x; touch /file; touch /rw/new && echo written;"
        "wc -l /etc/passwd; cat /proc/self/mountinfo",
        mounts=mounts,
    )
    lines = result.out.splitlines()
    points = {line.split()[4]: line for line in lines if " - " in line}
    assert lines[0].startswith("contentcontent")
    assert "/ro/x: Read-only file system" in result.out
    assert "/file: Read-only file system" in result.out
    assert "written" in lines
    assert (source / "new").exists()
    assert "2 /etc/passwd" in lines
    assert {"ro", "nosuid", "nodev", "noexec", "noatime"} <= set(
        points["/ro"].split()[5].split(",")
    )
    assert points["/rw"].split()[5].startswith("rw")
    assert " - tmpfs " in points["/etc"]
    assert not any("shared:" in line or "master:" in line for line in points.values())


def test_a_link_in_the_image_leads_nowhere_but_into_the_image(
    run: Run, folder: Path, make_spec: MakeSpec
) -> None:
    victim = folder / "victim"
    victim.mkdir()
    layer = folder / "hostile"
    layer.mkdir()
    (layer / "to-host").symlink_to(victim)
    (layer / "up").symlink_to("../../../../../../../" + str(victim))
    (layer / "proc-root").symlink_to("/proc/1/root/tmp")
    volume = folder / "volume"
    volume.mkdir()
    (volume / "inside").touch()
    layers = (*make_spec("x").layers, layer)

    def mount(target: str) -> tuple[dict[str, object], ...]:
        return (
            {"destination": target, "type": "bind", "source": str(volume), "options": ["bind"]},
        )

    for target in ("/to-host/a", "/up/b"):
        result = run(f"ls {victim}{target[-2:]} {target}", layers=layers, mounts=mount(target))
        assert result.status == 0, result.out
        assert result.out.split().count("inside") == 2
        assert not list(victim.iterdir())
    with pytest.raises(StepFailed, match="attach a mount on /proc-root/c"):
        run("true", layers=layers, mounts=mount("/proc-root/c"))
    with pytest.raises(StepFailed, match=r"attach a mount on /proc/uptime2|EPERM|ENOENT"):
        run("true", mounts=mount("/proc/uptime2"))


def test_a_working_directory_of_the_hosts_is_refused(run: Run) -> None:
    """A descriptor of the host's that leaks would be a way out (CVE-2024-21626)."""
    fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(StepFailed, match="change directory to /proc/self/fd/7"):
            run("pwd; ls ..", cwd="/proc/self/fd/7", fds={7: fd})
    finally:
        os.close(fd)


def test_the_root_can_be_read_only(run: Run) -> None:
    result = run("touch /x; touch /tmp/y; touch /dev/shm/z && echo shm", readonly=True)
    assert result.out.count("Read-only file system") == 2
    assert "shm" in result.out.splitlines()


def test_streams_belong_to_the_user_that_opens_them_anew(run: Run) -> None:
    result = run("id -u > /dev/stderr; echo out > /dev/stdout", uid=77)
    assert result.status == 0, result.out
    assert "out" in result.out


def test_the_helpers_program_cannot_be_written_to_through_proc(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CVE-2019-5736, as it is done: hold what /proc/PID/exe shows, and write once it has ended."""
    python = Path(sys.executable).resolve()
    (folder / "bin").mkdir()
    copy = folder / "bin/python"  # that no other process executes: else it is busy
    copy.write_bytes(python.read_bytes())
    copy.chmod(0o755)
    (folder / "pyvenv.cfg").write_text(f"home = {python.parent}\n")
    monkeypatch.setattr(sys, "executable", str(copy))
    with Spawner() as spawner:
        held = os.open(f"/proc/{spawner.pid}/exe", os.O_RDONLY)
        assert os.fstat(held).st_ino == copy.stat().st_ino
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
            os.open(f"/proc/self/fd/{held}", os.O_WRONLY)
    finally:
        os.close(held)
    os.close(os.open(copy, os.O_WRONLY))  # it is the way to it that is closed


def test_a_program_that_is_a_link_to_itself_finds_no_python_of_the_hosts(
    make_spec: MakeSpec, folder: Path, busybox: Image
) -> None:
    """The command line's way: through the shield."""
    rootfs = folder / "rootfs"
    subprocess.run(["cp", "-a", busybox.layers[0], rootfs], check=True)
    (rootfs / "evil").write_text("#!/proc/self/exe\n")
    (rootfs / "evil").chmod(0o755)
    program = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
from runtime.engine.plan import container_plan
from runtime.engine.report import begin
from runtime.security.shield import shield_fd
from runtime.errors import ExecFailed
def run(*args, **options):
    config = {{
        "process": {{"args": args, "env": ["PATH=/bin"]}},
        "mounts": [{{"destination": "/proc", "type": "proc", "source": "proc"}}],
        "linux": {{"namespaces": [{{"type": kind}} for kind in ("mount", "pid")]}},
    }}
    launch = begin(container_plan(config, {str(rootfs)!r}, close_from=3, **options))
    try:
        launch.until(None)
    except ExecFailed as error:
        return str(error)
    if args == ("/evil",):  # for ever itself
        seen = {{os.readlink(f"/proc/{{launch.pid}}/exe") for _ in range(1000)}}
        os.kill(launch.pid, 9)
        os.waitpid(launch.pid, 0)
        return seen
    return os.waitstatus_to_exitcode(os.waitpid(launch.pid, 0)[1])
fd = shield_fd()
assert fd >= 0
assert run("sh", "-c", "exit 4", shield=fd) == 4
print(run("/no", shield=fd))
print(run("/bin", shield=fd))
print(run("/evil", shield=fd))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    missing, directory, evil = done.stdout.splitlines()
    assert "could not execute /no: No such file or directory" in missing
    assert "could not execute /bin: Permission denied" in directory
    assert evil == "{'/memfd:shield (deleted)'}"
