"""Containers of an ordinary user, really run as one: no right but what newuidmap(1) gives.

The user is the kernel's overflow user, 65534, whom no file belongs to; /etc/subuid and /etc/subgid
are replaced for these processes alone, in a mount namespace of theirs.
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime import Image

pytestmark = pytest.mark.root

USER = 65534
FIRST = 300000
TREE = Path(__file__).parents[3]

PREAMBLE = f"""
import json, os, sys, tempfile
sys.path.insert(0, {str(TREE)!r})
from pathlib import Path
from runtime import CgroupLayout, Container, ContainerSpec, Limits, Namespace, Spawner
from runtime.errors import *
assert os.geteuid() == {USER}, os.geteuid()
home = Path(sys.argv[1])
os.environ["LAB_CACHE_DIR"] = str(home / "cache")
os.environ["PATH"] = "/usr/bin:/bin"
SPACES = Namespace.CONTAINER | Namespace.USER

def run(spawner, script, name="box", **changes):
    with tempfile.TemporaryFile(dir=home) as out:
        fds = {{1: out.fileno(), 2: out.fileno()}}
        spec = ContainerSpec(name=name, layers=(home / "layer",), argv=("/bin/sh", "-c", script),
            state_dir=home / name, env={{"PATH": "/bin:/sbin"}}, fds=fds,
            **{{"namespaces": SPACES, **changes}})
        with Container.launch(spec, spawner, layout=CgroupLayout.detect()) as container:
            status = container.process.started().wait(30)
            uppers = {{str(path.relative_to(spec.upper_dir)): path.lstat().st_uid
                for path in sorted(spec.upper_dir.rglob("*"))}}
        assert not spec.state_dir.exists()
        out.seek(0)
        return {{"status": status, "out": out.read().decode(), "upper": uppers,
            "unenforced": container.unenforced}}

with Spawner() as spawner:
"""


@functools.cache
def interpreter() -> str:
    """A Python that the user may execute: this one can lie in root's own home directory."""
    try_it = "import subprocess, sys; assert sys.version_info >= (3, 11);"
    try_it += "subprocess.run([sys.executable, '-c', ''], check=True)"
    for path in (sys.executable, "/usr/bin/python3"):
        command = ["setpriv", "--reuid", str(USER), "--clear-groups", path, "-c", try_it]
        if subprocess.run(command, check=False, capture_output=True).returncode == 0:
            return path
    pytest.skip(f"user {USER} may execute neither {sys.executable} nor a Python 3.11 in /usr/bin")


@pytest.fixture
def home(folder: Path, busybox: Image) -> Iterator[Path]:
    """A directory of the user's own, with a layer of his own."""
    folder.chmod(0o755)
    home = folder / "home"
    shutil.copytree(busybox.layers[0], home / "layer", symlinks=True)
    subprocess.run(["chown", "-R", f"{USER}:{USER}", home], check=True)
    yield home
    assert sorted(path.name for path in home.iterdir()) == ["cache", "layer"]


Script = Callable[..., Any]


@pytest.fixture
def script(home: Path, folder: Path) -> Script:
    """Run Python as the user, `result` at its end is what comes back."""

    def script(body: str, *, subordinate: bool = True) -> Any:
        ids = folder / "ids"
        ids.write_text(f"{USER}:{FIRST}:65536\n" if subordinate else "")
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        program = f"{PREAMBLE}{lines}\nprint(json.dumps(result))\n"
        inner = (
            f"mount --bind {ids} /etc/subuid && mount --bind {ids} /etc/subgid && "
            'exec setpriv --reuid "$0" --regid "$0" --clear-groups "$@"'
        )
        command = ["unshare", "--mount", "sh", "-c", inner, str(USER)]
        done = subprocess.run(
            [*command, interpreter(), "-c", program, str(home)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return script


def test_he_is_root_inside_and_himself_outside(script: Script) -> None:
    result = script(
        """result = run(spawner, '''
id -u; cat /proc/self/uid_map; touch /root/new; touch /root/others; chown 5:5 /root/others
rm /etc/hosts; hostname; ip link | grep -c ' lo:'; echo x > /dev/null
readlink /proc/self/ns/user; grep -E 'CapEff|Seccomp:' /proc/self/status
''')
result["mine"] = os.readlink("/proc/self/ns/user")"""
    )
    lines = result["out"].splitlines()
    assert result["status"] == 0, lines
    assert lines[0] == "0"
    assert [line.split() for line in lines[1:3]] == [
        ["0", str(USER), "1"],
        ["1", str(FIRST), "65536"],
    ]
    assert lines[3:5] == ["box", "1"]
    assert lines[5] != result["mine"]
    assert lines[6].split()[1].endswith("a80425fb")
    assert lines[7].split()[1] == "2"
    assert result["upper"]["root/new"] == USER
    assert result["upper"]["root/others"] == FIRST + 4  # 1 is the first of the subordinate ones


def test_without_subordinate_ids_only_he_himself_is_mapped(script: Script) -> None:
    result = script(
        "result = run(spawner, 'cat /proc/self/uid_map /proc/self/setgroups; id -G')",
        subordinate=False,
    )
    lines = result["out"].splitlines()
    assert result["status"] == 0, lines
    assert lines[0].split() == ["0", str(USER), "1"]
    assert lines[1] == "deny"


def test_limits_that_he_cannot_set_are_told(script: Script) -> None:
    result = script("result = run(spawner, 'true', limits=Limits(memory=2**26, pids=9))")
    assert result["status"] == 0
    assert result["unenforced"] == ["memory", "pids"]


def test_he_may_exec_and_kill(script: Script) -> None:
    result = script(
        """spec = ContainerSpec(name="box", layers=(home / "layer",), argv=("/bin/sleep", "1000"),
    state_dir=home / "box", env={"PATH": "/bin"}, namespaces=SPACES)
with Container.launch(spec, spawner) as container:
    container.process.started()
    read, write = os.pipe()
    process, _ = container.exec(("sh", "-c", "id -u; echo $$; exit 4"), fds={1: write})
    os.close(write)
    with process:
        result = [process.wait(30), os.read(read, 100).decode().split()]
    container.kill(9)
    result.append(container.wait(30))"""
    )
    assert result[0] == 4
    assert result[1][0] == "0"
    assert int(result[1][1]) > 1
    assert result[2] == 137


def test_volumes_and_devices(script: Script) -> None:
    result = script(
        """(home / "volume").mkdir()
mount = {"destination": "/data", "type": "bind", "source": str(home / "volume"),
    "options": ["rbind", "ro"]}
result = run(spawner, "touch /data/x; head -c 2 /dev/zero | wc -c", mounts=(mount,))
(home / "volume").rmdir()"""
    )
    assert "Read-only file system" in result["out"]
    assert result["out"].split()[-1] == "2"


def test_what_he_may_not_have_is_said(script: Script) -> None:
    result = script(
        """result = []
try:
    run(spawner, "true", namespaces=Namespace.CONTAINER)
except SpecError as error:
    result.append(str(error))
try:
    run(spawner, "true", uid_map=((0, 0, 1),), gid_map=((0, 0, 1),))
except StepFailed as error:
    result.append(str(error))"""
    )
    assert "an ordinary user needs USER" in result[0]
    assert "could not write the user and group maps" in result[1]
    assert "newuidmap" in result[1]
