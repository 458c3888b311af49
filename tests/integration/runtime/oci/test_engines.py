"""What people do with Docker Engine and with Podman, done with both on this runtime.

Each test runs with either engine. `LAB_TEST_OCI_RUNTIME=runc` holds runc against the same list.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.runtime.oci.engines import Engine
from tests.integration.runtime.oci.terminal import Terminal

PROMPT = "lab> "


@pytest.fixture(autouse=True)
def _nothing_left(engine: Engine) -> Iterator[None]:
    """After each test no cgroup of a container is left."""
    yield
    assert_nothing_left(engine)


def test_output_and_exit_code(engine: Engine) -> None:
    done = engine.run("--", "sh", "-c", "echo out; echo err >&2; exit 42", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 42)


def test_standard_input(engine: Engine) -> None:
    done = engine(*engine.run_line("--rm", "--interactive", "--", "cat"), input="a\nb\n")
    assert done.stdout == "a\nb\n"


def test_no_such_program(engine: Engine) -> None:
    done = engine.run("--", "nosuchprogram", check=False)
    assert done.returncode == 127, done.stderr
    assert "nosuchprogram" in done.stderr


def test_not_executable(engine: Engine) -> None:
    done = engine.run("--", "/bin/notexecutable", check=False)
    assert done.returncode == 126, done.stderr


def test_killed_by_a_signal(engine: Engine) -> None:
    # The shell is PID 1, to which only a signal from outside is deadly.
    with engine.running("--", "sleep", "1000") as container:
        engine("kill", "--signal", "KILL", container)
        assert engine("wait", container).stdout.strip() == "137"


def test_detached_with_logs(engine: Engine) -> None:
    with engine.running("--", "sh", "-c", "echo one; echo two >&2") as container:
        assert engine("wait", container).stdout.strip() == "0"
        logs = engine("logs", container)
        assert (logs.stdout, logs.stderr) == ("one\n", "two\n")


def test_create_then_start(engine: Engine) -> None:
    line = engine.run_line("--", "echo", "late")
    container = engine("create", *line[1:]).stdout.strip()
    try:
        assert engine.inspect(container)["State"]["Status"] == "created"
        assert engine("start", "--attach", container).stdout == "late\n"
        assert engine("start", "--attach", container).stdout == "late\n"  # and again
    finally:
        engine("rm", "--force", container)


def test_interactive_terminal(engine: Engine) -> None:
    options = ("--rm", "--interactive", "--tty", "--env", f"PS1={PROMPT}")
    line = engine.run_line(*options, "--", "sh")
    with Terminal([*engine.command, *line], rows=33, columns=101) as terminal:
        terminal.until(PROMPT)
        terminal.type("tty; stat -c %t:%T /dev/console; echo e''nd\n")
        said = terminal.until("end\r\n")
        assert "/dev/pts/0" in said
        assert "88:0" in said  # the console is a pseudoterminal: major 136
        # The engine sets the size when the container runs, and may be late by a moment.
        terminal.type("until [ \"$(stty size)\" = '33 101' ]; do :; done; echo s''ize\n")
        terminal.until("size\r\n")
        terminal.resize(44, 55)
        terminal.type("until [ \"$(stty size)\" = '44 55' ]; do :; done; echo r''esized\n")
        terminal.until("resized\r\n")
        terminal.type("sh -c 'echo a\"\"sleep; exec sleep 1000'\n")
        terminal.until("asleep\r\n")
        terminal.type("\x03")  # Ctrl-C goes to the foreground job, through a controlling terminal
        terminal.until(PROMPT)
        terminal.type("exit 7\n")
        assert terminal.wait() == 7


def test_exec(engine: Engine) -> None:
    with engine.running("--", "sleep", "1000") as container:
        done = engine("exec", container, "sh", "-c", "echo in; exit 3", check=False)
        assert (done.stdout, done.returncode) == ("in\n", 3)
        line = ("--user", "1000:1000", "--env", "A=b c", "--workdir", "/tmp")
        done = engine("exec", *line, container, "sh", "-c", 'id -u; id -g; echo "$A"; pwd')
        assert done.stdout == "1000\n1000\nb c\n/tmp\n"
        done = engine("exec", "--interactive", container, "cat", input="through")
        assert done.stdout == "through"
        done = engine("exec", container, "ps", "-o", "pid,args")
        assert re.search(r"^ +1 sleep 1000$", done.stdout, re.MULTILINE)
        # Docker 20.10 says 126 for both.
        assert engine("exec", container, "nosuchprogram", check=False).returncode in (126, 127)
        assert engine("exec", container, "/bin/notexecutable", check=False).returncode == 126


def test_exec_on_a_terminal(engine: Engine) -> None:
    with engine.running("--", "sleep", "1000") as container:
        line = ["exec", "--interactive", "--tty", "--env", f"PS1={PROMPT}", container, "sh"]
        with Terminal([*engine.command, *line]) as terminal:
            terminal.until(PROMPT)
            terminal.type("tty; echo e''nd\n")
            assert "/dev/pts/" in terminal.until("end\r\n")
            terminal.type("exit 9\n")
            assert terminal.wait() == 9


def test_stop_asks_first(engine: Engine) -> None:
    script = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.1; done"
    with engine.running("--", "sh", "-c", script) as container:
        assert_log(engine, container, "ready")
        engine("stop", "--time", "30", container)
        assert engine.inspect(container)["State"]["ExitCode"] == 5
        assert engine("logs", container).stdout == "ready\nbye\n"


def test_stop_of_the_deaf(engine: Engine) -> None:
    with engine.running("--", "sleep", "1000") as container:  # PID 1 without a handler
        engine("stop", "--time", "1", container)
        assert engine.inspect(container)["State"]["ExitCode"] == 137


def test_signals_by_name_and_number(engine: Engine) -> None:
    script = (
        "trap 'echo usr1' USR1; trap 'echo usr2; exit' USR2; echo ready; "
        "while :; do sleep 0.1; done"
    )
    with engine.running("--", "sh", "-c", script) as container:
        assert_log(engine, container, "ready")
        engine("kill", "--signal", "SIGUSR1", container)
        assert_log(engine, container, "usr1")
        engine("kill", "--signal", "12", container)
        assert engine("wait", container).stdout.strip() == "0"


def test_pause(engine: Engine) -> None:
    with engine.running("--", "sh", "-c", "while :; do echo x; sleep 0.1; done") as container:
        assert_log(engine, container, "x")
        engine("pause", container)
        assert engine.inspect(container)["State"]["Status"] == "paused"
        before = engine("logs", container).stdout
        assert engine("logs", container).stdout == before
        engine("unpause", container)
        assert engine.inspect(container)["State"]["Status"] == "running"
        with subprocess.Popen(
            [*engine.command, "logs", "--follow", "--tail", "1", container], stdout=subprocess.PIPE
        ) as follower:
            assert follower.stdout is not None
            assert [follower.stdout.readline() for _ in range(3)] == [b"x\n"] * 3
            follower.kill()


def test_update(engine: Engine) -> None:
    options = ("--memory", "64m", "--memory-swap", "64m", "--cpus", "0.5")
    with engine.running(*options, "--", "sleep", "1000") as container:
        assert limits(engine, container) == (64 << 20, 0.5)
        if engine.name == "podman":  # 4.3 knows no memory in its update
            engine("update", "--cpus", "0.25", container)
            assert limits(engine, container) == (64 << 20, 0.25)
        else:
            engine("update", "--memory", "48m", "--memory-swap", "48m", container)
            engine("update", "--cpus", "0.25", container)
            assert limits(engine, container) == (48 << 20, 0.25)


def test_stats_and_top(engine: Engine) -> None:
    with engine.running("--memory", "64m", "--", "sleep", "1000") as container:
        line = ("stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", container)
        used = engine(*line).stdout
        if engine.name == "docker":
            assert re.match(r"[0-9.]+[KM]iB / 64MiB 1$", used.strip()), used
        else:
            assert re.match(r"[0-9.]+[kM]B / 67.11MB 1$", used.strip()), used
        assert "sleep 1000" in engine("top", container).stdout


def test_memory_limit_kills(engine: Engine) -> None:
    with engine.running(
        "--memory", "32m", "--memory-swap", "32m", "--", "tail", "/dev/zero"
    ) as one:
        assert engine("wait", one).stdout.strip() == "137"
        if engine.name == "docker":  # Podman 4.3 looks for conmon's note in the wrong directory
            assert engine.inspect(one)["State"]["OOMKilled"] is True


def test_pids_limit(engine: Engine) -> None:
    script = "for i in $(seq 20); do sleep 1000 & done"
    done = engine.run("--pids-limit", "8", "--", "sh", "-c", script, check=False)
    assert done.returncode != 0
    assert "can't fork" in done.stderr


def test_cpu_limit_is_set(engine: Engine) -> None:
    with engine.running("--cpus", "0.5", "--cpuset-cpus", "0", "--", "sleep", "1000") as container:
        assert limits(engine, container)[1] == 0.5
        assert engine("exec", container, "nproc").stdout.strip() == "1"


def test_user_environment_directory_and_name(engine: Engine) -> None:
    options = ("--user", "1000:1000", "--env", "A=1", "--workdir", "/tmp", "--hostname", "box")
    script = 'id -u; id -g; echo "$A"; pwd; hostname'
    done = engine.run(*options, "--", "sh", "-c", script)
    assert done.stdout == "1000\n1000\n1\n/tmp\nbox\n"


def test_workdir_is_made(engine: Engine) -> None:
    done = engine.run("--workdir", "/new/place", "--", "pwd", check=False)
    if engine.name == "docker":
        assert done.stdout == "/new/place\n"
    else:
        assert "/new/place" in done.stderr  # Podman looks itself


def test_volumes(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("hello")
    options = ("--volume", f"{tmp_path}:/v", "--volume", f"{tmp_path}:/ro:ro")
    script = "cat /v/in; echo made > /v/out; echo no > /ro/out2 || echo refused"
    done = engine.run(*options, "--", "sh", "-c", script)
    assert done.stdout == "hellorefused\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_a_file_as_a_volume(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one file")
    line = ("--volume", f"{tmp_path}/file:/etc/some/where:ro", "--", "cat", "/etc/some/where")
    assert engine.run(*line).stdout == "one file"


def test_named_volume_outlives_the_container(engine: Engine) -> None:
    engine("volume", "create", "keep")
    try:
        engine.run("--volume", "keep:/v", "--", "sh", "-c", "echo kept > /v/file")
        assert engine.run("--volume", "keep:/v", "--", "cat", "/v/file").stdout == "kept\n"
    finally:
        engine("volume", "rm", "keep")


def test_tmpfs(engine: Engine) -> None:
    done = engine.run("--tmpfs", "/t:size=1m,noexec", "--", "grep", " /t ", "/proc/mounts")
    options = done.stdout.split()[3]
    assert done.stdout.split()[2] == "tmpfs"
    assert {"size=1024k", "noexec", "nosuid"} <= set(options.split(","))


def test_read_only_root(engine: Engine) -> None:
    script = "echo x > /file || echo refused; echo y > /t/file && cat /t/file"
    done = engine.run("--read-only", "--tmpfs", "/t", "--", "sh", "-c", script)
    assert done.stdout == "refused\ny\n"


def test_capabilities(engine: Engine) -> None:
    assert capabilities(engine, "--cap-drop", "ALL") == 0
    assert capabilities(engine, "--cap-drop", "ALL", "--cap-add", "NET_RAW") == 1 << 13
    default = capabilities(engine)
    assert default & 1 << 0  # CAP_CHOWN
    assert not default & 1 << 21  # CAP_SYS_ADMIN
    done = engine.run("--cap-drop", "CHOWN", "--", "chown", "1:1", "/tmp", check=False)
    assert done.returncode != 0


def test_seccomp_and_no_new_privileges(engine: Engine) -> None:
    script = "grep -E 'Seccomp:|NoNewPrivs' /proc/self/status"
    done = engine.run("--security-opt", "no-new-privileges", "--", "sh", "-c", script)
    assert done.stdout.split() == ["NoNewPrivs:", "1", "Seccomp:", "2"]
    done = engine.run("--security-opt", "seccomp=unconfined", "--", "sh", "-c", script)
    assert done.stdout.split() == ["NoNewPrivs:", "0", "Seccomp:", "0"]


def test_paths_of_the_host_are_hidden(engine: Engine) -> None:
    script = (
        "cat /proc/keys | wc -c; ls /sys/firmware | wc -l; "
        "echo x > /proc/sys/kernel/hostname; echo status $?"
    )
    done = engine.run("--", "sh", "-c", script)
    assert done.stdout.split() == ["0", "0", "status", "1"]
    assert "Read-only file system" in done.stderr


def test_devices(engine: Engine) -> None:
    script = "echo x > /dev/null && head -c 3 /dev/zero | wc -c && ls -l /dev/fd /dev/ptmx | wc -l"
    assert engine.run("--", "sh", "-c", script).stdout.split() == ["3", "2"]
    # mknod is a right of the default set; to use what was made is the device cgroup's to forbid.
    script = "busybox mknod /d b 7 0 && cat /d"
    done = engine.run("--", "sh", "-c", script, check=False)
    assert "Operation not permitted" in done.stderr
    line = ("--device", "/dev/full:/dev/mine", "--", "sh", "-c", "echo x > /dev/mine")
    done = engine.run(*line, check=False)
    assert "No space left" in done.stderr


def test_privileged(engine: Engine) -> None:
    script = "mount -t tmpfs none /tmp && grep -c ' /tmp tmpfs' /proc/mounts; ls /dev/loop-control"
    done = engine.run("--privileged", "--", "sh", "-c", script)
    assert done.stdout.split() == ["1", "/dev/loop-control"]


def test_rlimits(engine: Engine) -> None:
    done = engine.run("--ulimit", "nofile=512:768", "--", "sh", "-c", "ulimit -Sn; ulimit -Hn")
    assert done.stdout.split() == ["512", "768"]


def test_sysctl_and_shm_size(engine: Engine) -> None:
    options = ("--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.msgmax=4096")
    script = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax; df -k /dev/shm | tail -1"
    done = engine.run(*options, "--shm-size", "2m", "--", "sh", "-c", script)
    assert done.stdout.split()[:4] == ["1", "4096", "shm", "2048"]


def test_shared_namespaces(engine: Engine) -> None:
    with engine.running("--hostname", "one", "--", "sleep", "1000") as container:
        done = engine.run("--pid", f"container:{container}", "--", "ps", "-o", "pid,args")
        assert re.search(r"^ +1 sleep 1000$", done.stdout, re.MULTILINE)
        line = engine.run_line("--rm", "--", "cat", "/proc/net/dev")
        at = line.index("--network")
        line[at + 1] = f"container:{container}"
        assert "lo:" in engine(*line).stdout


def test_namespaces_of_the_host(engine: Engine) -> None:
    line = engine.run_line("--rm", "--pid", "host", "--ipc", "host", "--", "ls", "-1", "/proc/1/ns")
    done = engine(*line, check=False)
    assert done.returncode in (0, 1)  # PID 1 is the host's; whether it may be looked at is not ours
    script = "ls -l /proc/self/ns/pid /proc/self/ns/ipc /proc/self/ns/net"
    line = engine.run_line("--rm", "--pid", "host", "--ipc", "host", "--", "sh", "-c", script)
    line[line.index("--network") + 1] = "host"
    found = re.findall(r"(?:pid|ipc|net):\[\d+\]", engine(*line).stdout)
    assert found == [str(Path("/proc/self/ns", kind).readlink()) for kind in ("ipc", "net", "pid")]


def test_killing_all_of_the_hosts_pid_namespace_container(engine: Engine) -> None:
    script = "sleep 1000 & echo ready; wait"
    with engine.running("--pid", "host", "--", "sh", "-c", script) as container:
        assert_log(engine, container, "ready")
        engine("kill", container)
        engine("wait", container)
    assert_nothing_left(engine)


def test_remove_of_a_running_container_leaves_nothing(engine: Engine) -> None:
    container = engine(*engine.run_line("--detach", "--", "sh", "-c", "sleep 1000 & wait"))
    engine("rm", "--force", container.stdout.strip())
    assert_nothing_left(engine)


def test_many_at_once(engine: Engine) -> None:
    line = [*engine.command, *engine.run_line("--rm", "--", "sh", "-c", "echo $$")]
    started = [subprocess.Popen(line, stdout=subprocess.PIPE) for _ in range(8)]
    assert [process.communicate(timeout=120)[0] for process in started] == [b"1\n"] * 8
    assert [process.returncode for process in started] == [0] * 8


def test_a_mount_that_cannot_be(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = engine.run("--volume", f"{tmp_path}/file:/etc", "--", "true", check=False)
    assert done.returncode in (125, 126, 127)
    assert "/etc" in done.stderr
    assert_nothing_left(engine)


def assert_log(engine: Engine, container: str, text: str) -> None:
    """Wait until a container has said this: `logs --follow` gives each line when it comes."""
    line = [*engine.command, "logs", "--follow", container]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        found = any(each.strip() == text for each in follower.stdout)
        follower.kill()
    assert found, f"{text!r} is not in the log"


def assert_nothing_left(engine: Engine) -> None:
    """An engine removes a container's remains when it hears of its end, and tells nobody."""
    deadline = time.monotonic() + 30
    while left := engine.cgroups():
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def limits(engine: Engine, container: str) -> tuple[int, float]:
    """Bytes of memory and CPUs that the kernel allows a container."""
    pid = engine.inspect(container)["State"]["Pid"]
    where = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        where.update(dict.fromkeys(names.split(","), path))
    if "memory" in where:
        memory = Path(f"/sys/fs/cgroup/memory{where['memory']}/memory.limit_in_bytes").read_text()
        cpu = Path(f"/sys/fs/cgroup/cpu{where['cpu']}")
        quota = (cpu / "cpu.cfs_quota_us").read_text()
        period = (cpu / "cpu.cfs_period_us").read_text()
    else:
        root = Path(f"/sys/fs/cgroup{where['']}")
        memory = (root / "memory.max").read_text()
        quota, period = (root / "cpu.max").read_text().split()
    return int(memory), int(quota) / int(period)


def capabilities(engine: Engine, *options: str) -> int:
    done = engine.run(*options, "--", "grep", "CapEff", "/proc/self/status")
    return int(done.stdout.split()[1], 16)
