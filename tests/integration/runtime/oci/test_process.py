"""What runs in a container, and what it is given: exec, terminals, descriptors, rights."""

from __future__ import annotations

import array
import json
import os
import re
import socket
import subprocess
from pathlib import Path

from tests.integration.runtime.oci.bundles import Bundle, Runtime, eventually
from tests.integration.runtime.oci.terminal import Terminal

PROMPT = "lab> "
SHIELD = "/memfd:shield (deleted)"


def test_exec(oci: Runtime, bundle: Bundle) -> None:
    oci.start("one", bundle.runs("sleep", "1000"))
    assert oci("exec", "one", "echo", "-n", "in").stdout == "in"
    assert oci("exec", "one", "sh", "-c", "exit 5", check=False).returncode == 5
    assert oci("exec", "one", "cat", input="typed").stdout == "typed"
    line = ["--cwd", "/tmp", "--env", "A=1", "--env=B=2", "--user", "1000:1001", "-g", "7"]
    done = oci("exec", *line, "one", "sh", "-c", "pwd; echo $A$B; id -u; id -g; id -G")
    assert done.stdout.split("\n")[:5] == ["/tmp", "12", "1000", "1001", "1001 7"]
    look = "readlink /proc/1/ns/pid; readlink /proc/self/ns/pid"
    init, ours = oci("exec", "one", "sh", "-c", look).stdout.split()
    assert init == ours
    done = oci("exec", "one", "sh", "-c", "kill -9 $$", check=False)
    assert done.returncode == 128 + 9


def test_exec_failures_are_255(oci: Runtime, bundle: Bundle) -> None:
    oci.start("one", bundle.runs("sleep", "1000"))
    for line, words in (
        (["one", "nosuch"], "could not execute nosuch"),
        (["one"], "give a command"),
        (["--user", "root", "one", "id"], "'root' is no number"),
        (["--cwd", "tmp", "one", "id"], "'tmp' is not absolute"),
        (["--env", "A", "one", "id"], "'A' is not NAME=value"),
        (["--process", "/nowhere", "one"], "/nowhere: cannot be read"),
        (["two", "id"], "does not exist"),
    ):
        done = oci("exec", *line, check=False)
        assert done.returncode == 255, line
        assert words in done.stderr
    oci("kill", "one", "9")
    oci.becomes("one", "stopped")
    assert "it is stopped" in oci("exec", "one", "id", check=False).stderr


def test_exec_of_a_process_file(oci: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    oci.start("one", bundle.runs("sleep", "1000"))
    process = {
        "args": [
            "sh",
            "-c",
            "id -u; pwd; echo $X; ulimit -n; grep -E 'Cap(Eff|Bnd)' /proc/self/status",
        ],
        "cwd": "/tmp",
        "env": ["PATH=/bin", "X=y"],
        "user": {"uid": 0, "gid": 0},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 78}],
        "capabilities": {
            "bounding": ["CAP_KILL"],
            "effective": ["CAP_KILL"],
            "permitted": ["CAP_KILL"],
        },
    }
    path = tmp_path / "process.json"
    path.write_text(json.dumps(process))
    done = oci("exec", "--process", str(path), "one")
    uid, cwd, x, files, *caps = done.stdout.split("\n")
    assert (uid, cwd, x, files) == ("0", "/tmp", "y", "77")
    assert [line.split()[1] for line in caps if line] == ["0000000000000020"] * 2
    process["args"] = []
    path.write_text(json.dumps(process))
    assert f"{path}: $.args: is empty" in oci("exec", "-p", str(path), "one", check=False).stderr


def test_exec_detached(oci: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    oci.start("one", bundle.runs("sleep", "1000"))
    with open(os.devnull, "r+b") as null:
        line = oci.line("exec", "--detach", "--pid-file", "pid", "one", "sleep", "999")
        subprocess.run(line, cwd=tmp_path, check=True, stdin=null, stdout=null, stderr=null)
    pid = int((tmp_path / "pid").read_text())
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\0999\0"
    assert pid in json.loads(oci("ps", "--format", "json", "one").stdout)


def test_exec_adds_a_capability(oci: Runtime, bundle: Bundle) -> None:
    oci.start("one", bundle.runs("sleep", "1000"))
    look = ["grep", "CapEff", "/proc/self/status"]
    before = int(oci("exec", "one", *look).stdout.split()[1], 16)
    done = oci("exec", "--cap", "CAP_SYS_ADMIN", "one", *look)
    assert int(done.stdout.split()[1], 16) == before | 1 << 21


def test_exec_in_the_created(oci: Runtime, bundle: Bundle) -> None:
    oci.create("one", bundle.shell("echo main; sleep 1000"))
    assert oci("exec", "one", "hostname").stdout == "lab\n"
    assert bundle.output() == ""


def test_a_terminal_of_ones_own(oci: Runtime, bundle: Bundle) -> None:
    bundle.config["process"].update(terminal=True, args=["sh"])
    bundle.config["process"]["env"].append(f"PS1={PROMPT}")
    line = oci.line("run", "--bundle", str(bundle.write().path), "one")
    with Terminal(line, rows=31, columns=97) as terminal:
        terminal.until(PROMPT)
        terminal.type("tty; stty size; ls -l /dev/console; echo e''nd\n")
        said = terminal.until("end\r\n")
        assert "/dev/pts/0" in said
        assert "31 97" in said
        terminal.resize(40, 50)
        terminal.type("until [ \"$(stty size)\" = '40 50' ]; do :; done; echo r''esized\n")
        terminal.until("resized\r\n")
        terminal.type("exit 6\n")
        assert terminal.wait() == 6
    assert list(oci.root.iterdir()) == []


def test_exec_on_a_terminal_of_ones_own(oci: Runtime, bundle: Bundle) -> None:
    oci.start("one", bundle.runs("sleep", "1000"))
    line = oci.line("exec", "--tty", "--env", f"PS1={PROMPT}", "one", "sh")
    with Terminal(line) as terminal:
        terminal.until(PROMPT)
        terminal.type("tty; echo e''nd\n")
        assert "/dev/pts/" in terminal.until("end\r\n")
        terminal.type("exit\n")
        assert terminal.wait() == 0


def test_console_socket(oci: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    bundle.config["process"].update(terminal=True, consoleSize={"height": 20, "width": 30})
    bundle.shell("stty size; echo to the terminal")
    said = oci.fails("create", "--bundle", str(bundle.path), "one")
    assert "needs --console-socket" in said
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "console"))
        listener.listen()
        oci.create("one", bundle, "--console-socket", str(tmp_path / "console"))
        connection, _ = listener.accept()
        with connection:
            _, ancillary, _, _ = connection.recvmsg(64, socket.CMSG_LEN(4))
    master = array.array("i", ancillary[0][2])[0]
    with open(master, "r+b", buffering=0) as terminal:
        oci("start", "one")
        said = b""
        while b"terminal\r\n" not in said:
            said += terminal.read(1024)
        assert said == b"20 30\r\nto the terminal\r\n"
    assert bundle.output() == ""


def test_a_console_socket_is_for_terminals(oci: Runtime, bundle: Bundle) -> None:
    oci.start("one", bundle.runs("sleep", "1000"))
    said = oci.fails("exec", "--console-socket", "/nowhere", "one", "true")
    assert "--console-socket: the process has no terminal" in said
    said = oci.fails("exec", "--tty", "--console-socket", "/nowhere", "one", "true")
    assert "--console-socket /nowhere: no such file or directory" in said.lower()


def test_descriptors_are_passed_on_when_asked(oci: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    bundle.shell("{ cat <&3; } 2>/dev/null || echo none; echo $LISTEN_FDS:$LISTEN_PID")
    (tmp_path / "third").write_text("through\n")

    def run(*options: str, redirect: str = f"3<{tmp_path}/third", **env: str) -> str:
        line = oci.line("run", "--bundle", str(bundle.path), *options, "one")
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {redirect}', "sh", *line],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **env},
        )
        return done.stdout

    assert run() == "none\n:\n"
    assert run("--preserve-fds", "1") == "through\n:\n"
    assert run(LISTEN_FDS="1") == "through\n1:1\n"
    assert "descriptor 3 is not open, 1 are to be" in run("--preserve-fds", "1", redirect="3<&-")


def test_user_and_rights(oci: Runtime, bundle: Bundle) -> None:
    bundle.config["process"].update(
        user={"uid": 1000, "gid": 1001, "additionalGids": [5, 6], "umask": 0o077},
        oomScoreAdj=500,
        rlimits=[{"type": "RLIMIT_CORE", "soft": 1, "hard": 2}],
    )
    script = (
        "id -u; id -g; id -G; umask; cat /proc/self/oom_score_adj; "
        "grep -E 'NoNewPrivs|CapEff|CapBnd' /proc/self/status; grep core /proc/self/limits"
    )
    lines = oci("run", "--bundle", str(bundle.shell(script).path), "one").stdout.splitlines()
    assert lines[:5] == ["1000", "1001", "1001 5 6", "0077", "500"]
    status = dict(line.split() for line in lines[5:8])
    assert status["NoNewPrivs:"] == "1"
    assert int(status["CapEff:"], 16) == 0  # root's rights went with the user
    assert int(status["CapBnd:"], 16) & 1 == 1
    assert lines[8].split()[4:6] == ["1", "2"]


def test_a_user_may_open_its_streams_again(oci: Runtime, bundle: Bundle) -> None:
    bundle.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    bundle.shell("echo out > /dev/stdout; echo err > /dev/stderr")
    done = oci("run", "--bundle", str(bundle.path), "one")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_capabilities_that_cannot_be_are_warned_of(oci: Runtime, bundle: Bundle) -> None:
    sets = bundle.config["process"]["capabilities"]
    sets["bounding"] = ["CAP_CHOWN", "CAP_NONE_SUCH"]
    done = oci("run", "--bundle", str(bundle.runs("true").path), "one")
    assert "level=warning" in done.stderr
    assert "CAP_NONE_SUCH" in done.stderr


def test_namespaces_can_be_joined_by_path(oci: Runtime, bundle: Bundle) -> None:
    oci.start("one", bundle.runs("sleep", "1000"))
    pid = oci.state("one")["pid"]
    for namespace in bundle.config["linux"]["namespaces"]:
        if namespace["type"] in ("network", "ipc", "uts", "pid"):
            name = {"network": "net"}.get(namespace["type"], namespace["type"])
            namespace["path"] = f"/proc/{pid}/ns/{name}"
    del bundle.config["hostname"]
    bundle.config["linux"]["cgroupsPath"] += "-two"
    bundle.shell("for kind in net ipc uts pid; do readlink /proc/self/ns/$kind; done")
    done = oci("run", "--bundle", str(bundle.path), "two")
    assert done.stdout.split() == [
        str(Path(f"/proc/{pid}/ns", kind).readlink()) for kind in ("net", "ipc", "uts", "pid")
    ]


def test_a_user_namespace(oci: Runtime, bundle: Bundle, rootfs: Path) -> None:
    linux = bundle.config["linux"]
    linux["namespaces"].append({"type": "user"})
    ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    linux["uidMappings"] = linux["gidMappings"] = ids
    bundle.shell("id -u; cat /proc/self/uid_map; echo x > /proc/sys/kernel/hostname; echo $?")
    done = oci("run", "--bundle", str(bundle.path), "one")
    uid, uid_map, status = done.stdout.strip().split("\n")
    assert (uid, uid_map.split(), status) == ("0", ["0", "100000", "65536"], "1")


def test_ps(oci: Runtime, bundle: Bundle) -> None:
    oci.start("one", bundle.shell("sleep 998 & sleep 999 & wait"))
    eventually(lambda: len(json.loads(oci("ps", "-f", "json", "one").stdout)) == 3, "three")
    table = oci("ps", "one").stdout
    assert re.search(r"^UID +PID", table)
    assert "sleep 998" in table
    assert "sleep 998" in oci("ps", "one", "-eo", "pid,args").stdout
    assert "no column PID" in oci.fails("ps", "one", "-eo", "args")
    oci("kill", "one", "9")
    oci.becomes("one", "stopped")
    assert "container not running" in oci.fails("ps", "one")


def test_the_hosts_python_is_out_of_reach(oci: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    """CVE-2019-5736: a program that is #!/proc/self/exe executes what executed it, for ever, and
    that is nothing of the host's."""
    evil = tmp_path / "evil"
    evil.write_text("#!/proc/self/exe\n")
    evil.chmod(0o755)
    mount = {"destination": "/evil", "source": str(evil), "options": ["bind"]}
    bundle.config["mounts"].append(mount)
    oci.start("one", bundle.runs("/evil"))
    pid = oci.state("one")["pid"]
    assert {str(Path(f"/proc/{pid}/exe").readlink()) for _ in range(1000)} == {SHIELD}


def test_mount_options(oci: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "file").write_text("x")
    bundle.config["mounts"] += [
        {"destination": "/t", "type": "tmpfs", "source": "named", "options": ["noexec", "size=1m"]},
        {"destination": "/t", "options": ["remount", "ro", "nosuid"]},
        {"destination": "/v", "source": "v", "options": ["rbind", "ro", "nodev", "noatime"]},
        {"destination": "w", "source": str(tmp_path / "v" / "file"), "options": ["bind", "rw"]},
    ]
    script = (
        "grep -E ' /(t|v|w) ' /proc/mounts; echo y > /t/x; echo y > /v/x; echo y > /w; cat /v/file"
    )
    done = oci("run", "--bundle", str(bundle.shell(script).path), "one")
    *mounts, last = done.stdout.splitlines()
    found = {line.split()[1]: (line.split()[0], set(line.split()[3].split(","))) for line in mounts}
    source, options = found["/t"]
    assert source == "named"
    assert {"ro", "nosuid", "size=1024k"} <= options
    assert "noexec" not in options  # a remount sets them all anew (mount(2))
    assert {"ro", "nodev", "noatime"} <= found["/v"][1]
    assert "rw" in found["/w"][1]
    assert done.stderr.count("Read-only file system") == 2
    assert last == "y"
