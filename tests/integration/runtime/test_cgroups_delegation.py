"""cgroups where the root is not ours: as an ordinary user, and in a cgroup namespace."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from runtime import Cgroup, CgroupLayout
from tests.integration.runtime.cgroup_helpers import MIB, needs, run

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[3]

PREAMBLE = f"""
import os
os.environ.clear()
sys.path.insert(0, {str(ROOT)!r})
# Before the rights are dropped: another user may not be able to read all this.
from runtime.cgroups import Cgroup, CgroupLayout, v1, v2
from runtime.errors import CgroupError
def limited(group):
    pid = os.fork()
    if pid == 0:
        for directory in (group.into, *group.join):
            with open(directory + "/cgroup.procs", "w") as file:
                file.write("0")
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""

AS_A_USER = (
    PREAMBLE
    + """
os.setgroups([]); os.setgid(12345); os.setuid(12345)
layout = CgroupLayout.detect()
print(layout.home)
group = Cgroup.create(layout, "run/x", pids=5, strict=False)
print(group.path)
print(*group.unenforced or ["-"])
print(limited(group))
again = CgroupLayout.detect()  # from the supervisor's leaf, if that is where we are now
print(again.home)
group.freeze(); group.freeze(False); group.kill(); group.remove()
print(os.path.exists(layout.v2 + "/" + layout.home + "/run"))
print(open("/proc/self/cgroup").read().split("0::")[1].strip().rpartition("/")[2])
"""
)


def test_an_ordinary_user_works_in_what_was_delegated(group: Cgroup, layout: CgroupLayout) -> None:
    """As in `systemd-run --user --scope -p Delegate=yes`: the caller itself is in the way of the
    controllers, and moves aside."""
    if layout.v2 is None:
        pytest.skip("v1 cannot be delegated")
    handed = layout.where("pids") == layout.v2
    home = group.child("home", memory=256 * MIB)
    home.delegate(12345, 12345)
    status, out = run(home, AS_A_USER)
    assert status == 0, out
    where, path, unenforced, ended, again, left, own = out.splitlines()
    assert where == again == home.path
    assert path == f"{home.path}/run/x"
    assert unenforced == ("-" if handed else "pids")
    assert ended == "7"
    assert left == "False"
    assert own == ("supervisor" if handed else "home")
    home.remove()


def test_an_ordinary_user_without_a_cgroup_is_told_how_to_get_one(
    group: Cgroup, layout: CgroupLayout
) -> None:
    code = (
        PREAMBLE
        + """
os.setgroups([]); os.setgid(12345); os.setuid(12345)
try:
    Cgroup.create(CgroupLayout.detect(), "run/x", strict=False)
except CgroupError as error:
    print(error)
"""
    )
    if layout.v2 is None:
        pytest.skip("without v2 an ordinary user has no cgroup at all")
    status, out = run(group, code)
    assert status == 0, out
    assert "systemd-run --user --scope -p Delegate=yes" in out


IN_A_NAMESPACE = (
    PREAMBLE
    + """
layout = CgroupLayout.detect()
group = Cgroup.create(layout, "x", pids=5, memory=1 << 26)
print(group.path, *group.unenforced)
print(limited(group))
group.remove()
print(open("/proc/self/cgroup").read().strip())
"""
)

ENTER = """\
umount /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$0" -I -S -c "$1"
"""
"""For a shell in new namespaces; its arguments are Python and a program."""


def test_root_of_a_cgroup_namespace_makes_way_too(group: Cgroup, layout: CgroupLayout) -> None:
    """As in a privileged container: what looks like the root is not, and has our processes."""
    needs(layout, "pids", "memory")
    if layout.kind != "v2":
        pytest.skip("needs cgroup v2 alone")
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not here (package util-linux)")
    outer = group.child("outer")
    command = (
        "import subprocess\n"
        f"script = {ENTER!r}\n"
        "unshare = ['unshare', '--cgroup', '--mount', 'sh', '-c', script]\n"
        f"code = 'import sys\\n' + {IN_A_NAMESPACE!r}\n"
        "sys.exit(subprocess.run([*unshare, sys.executable, code]).returncode)\n"
    )
    status, out = run(outer, command)
    assert status == 0, out
    assert out.splitlines() == ["x", "7", "0::/supervisor"]
    outer.kill()
    outer.remove()
