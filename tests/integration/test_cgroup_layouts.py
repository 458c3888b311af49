"""The tests of cgroups on hosts that this one is not: with v2 alone, with v1 alone, with systemd.

Each is a guest of our own driver, with Debian's kernel; the tests go in through its standard input.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from vm import (
    BaseDisk,
    Job,
    Machine,
    MachineConfig,
    build_base,
    build_initramfs,
    ensure_kernel,
    host_tsc_khz,
    transport_of,
)

pytestmark = [pytest.mark.root, pytest.mark.qemu, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]
LIMIT_S = 900.0
"""Far above what a guest takes here under TCG, a minute: reached only when something hangs."""

PACKAGES = "python3,python3-pytest,systemd,systemd-sysv,dbus,util-linux,busybox-static,runc"
ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}

PYTEST = """python3 -m pytest -q -rs --tb=short --noconftest -p no:cacheprovider \
-p tests.integration.runtime.cgroup_helpers -c guest.ini --rootdir=/lab"""
INI = "[pytest]\nmarkers =\n  root: needs root\nfilterwarnings = error\n"

V2 = f"""
mount -t cgroup2 none /sys/fs/cgroup
echo 4 > /proc/sys/vm/nr_hugepages
{PYTEST} tests/integration/runtime/test_cgroups*.py || exit
test -z "$(find /sys/fs/cgroup -name 'isolation-lab*')"
"""

V1 = f"""
mount -t tmpfs none /sys/fs/cgroup
for name in cpu,cpuacct memory pids freezer blkio devices cpuset hugetlb net_cls; do
    mkdir /sys/fs/cgroup/$name
    mount -t cgroup -o $name none /sys/fs/cgroup/$name || exit
done
{PYTEST} tests/integration/runtime/test_cgroups*.py || exit
test -z "$(find /sys/fs/cgroup -name 'isolation-lab*')"
"""

UNIT = f"""
[Unit]
Wants=dbus.service
After=dbus.service
[Service]
Type=oneshot
WorkingDirectory=/lab
Environment=HOME=/root LC_ALL=C.UTF-8
StandardOutput=file:/lab/out
StandardError=inherit
ExecStart={PYTEST.replace("python3", "/usr/bin/python3", 1)} \
tests/integration/runtime/test_cgroups_systemd.py
ExecStopPost=/bin/sh -c 'echo "$EXIT_STATUS" > /lab/status; systemctl --no-block exit'
"""

SYSTEMD = f"""
mount -t cgroup2 none /sys/fs/cgroup
cat > /etc/systemd/system/lab.service <<'.'
{UNIT}
.
cat > /lab/start <<'.'
mount -t tmpfs none /run && mkdir /run/lock && exec env -i container=lab \
    /lib/systemd/systemd --unit=lab.service --log-target=console --show-status=no
.
# It is PID 1 of a PID namespace, as in a container, because the guest's own is ours.
unshare --pid --fork --kill-child --mount --mount-proc sh /lab/start > /lab/log 2>&1
cat /lab/out || cat /lab/log
exit "$(cat /lab/status)"
"""


@pytest.fixture(scope="session")
def cache() -> Path:
    path = Path(os.environ.get("LAB_CACHE_DIR", "/var/cache/isolation-lab"))
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(scope="session")
def debian(cache: Path) -> BaseDisk:
    """A disk with Debian and pytest, made once."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    for program in ("qemu-system-x86_64", "qemu-img", "mke2fs", "cc", "mmdebstrap"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not here")
    os_release = Path("/etc/os-release").read_text()
    if "ID=debian" not in os_release.split():
        pytest.skip("the guest is made from the host's package sources, which are not Debian's")
    suite = os_release.partition("VERSION_CODENAME=")[2].split()[0]
    digest = f"cgroup-tests-{suite}-{hashlib.sha256(PACKAGES.encode()).hexdigest()[:8]}"
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        tree = Path(folder, "tree")
        tree.mkdir()
        if not list((cache / "disks").glob(f"{digest}-*")):
            _bootstrap(suite, tree)
        return build_base(tree, digest, cache)


def _bootstrap(suite: str, tree: Path) -> None:
    apt = Path("/etc/apt")
    sources = [
        str(path)
        for path in (
            apt / "sources.list",
            *sorted((apt / "sources.list.d").glob("*.list")),
            *sorted((apt / "sources.list.d").glob("debian*.sources")),
        )
        if path.is_file() and path.stat().st_size
    ]
    command = ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={PACKAGES}"]
    command += ['--aptopt=APT::Sandbox::User "root"']
    command += [f"--aptopt={path}" for path in sorted((apt / "apt.conf.d").glob("*proxy*"))]
    done = subprocess.run(
        [*command, suite, str(tree), *sources], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"Debian cannot be fetched here: {done.stderr.strip()[-500:]}")


def _project() -> bytes:
    """What the guest needs of this tree, as an archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for folder in ("runtime", "tests/integration/runtime"):
            for path in sorted((ROOT / folder).rglob("*.py")):
                archive.add(path, path.relative_to(ROOT))
        for name in ("tests", "tests/integration"):
            archive.add(ROOT / name / "__init__.py", f"{name}/__init__.py")
        ini = tarfile.TarInfo("guest.ini")
        ini.size = len(INI)
        archive.addfile(ini, io.BytesIO(INI.encode()))
    return out.getvalue()


@pytest.mark.parametrize(
    ("script", "needed"), [(V2, 60), (V1, 50), (SYSTEMD, 5)], ids=["v2", "v1", "systemd"]
)
def test_the_tests_of_cgroups_pass(
    script: str, needed: int, debian: BaseDisk, cache: Path, tmp_path: Path
) -> None:
    kernel = ensure_kernel(cache)
    shell = f"mkdir /lab && cd /lab && tar x || exit\n{script}"
    config = MachineConfig(
        name="cgroups",
        kernel=kernel.image,
        initramfs=build_initramfs(kernel, transport_of("microvm"), cache),
        state_dir=tmp_path / "machine",
        disk=debian,
        job=Job(argv=("/bin/sh", "-c", shell), env=ENV),
        vcpus=2,
        memory=768 * 2**20,
        stdin=True,
        tsc_khz=host_tsc_khz(),
        append=("psi=1",),
    )
    with Machine.launch(config) as machine:
        machine.write_stdin(_project())
        machine.close_stdin()
        ended = machine.wait(LIMIT_S)
        out = b"".join(machine.output()).decode(errors="replace")
    assert ended is not None, f"not ended within {LIMIT_S} s:\n{out[-4000:]}"
    assert ended.status == 0, out[-8000:]
    passed = int(out.rpartition(" passed")[0].split()[-1])
    assert passed >= needed, out[-4000:]
