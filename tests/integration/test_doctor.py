"""The doctor on this very host: it finds what is there and leaves nothing.

A cache of its own is given to all but the KVM verdict: other runs use the host's.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lab.backends.context import cgroup_of
from lab.doctor import Diagnosis, Finding, examine
from lab.doctor import probes as all_probes
from lab.ownership import abandoned
from lab.paths import cache_dir
from runtime.cgroups import Cgroup, CgroupLayout

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: namespaces, mounts and cgroups")


@pytest.fixture(scope="module")
def diagnosis() -> Diagnosis:
    return examine(cache_dir())


def named(diagnosis: Diagnosis, name: str) -> Finding:
    (found,) = (one for one in diagnosis.findings if one.name == name)
    return found


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


def cgroups() -> set[str]:
    """Those of this process's doctors, and their directories; others make theirs meanwhile."""
    prefix = cgroup_of(f"doctor-{os.getpid()}")
    layout = CgroupLayout.detect()
    roots = {path for path in (layout.v2, *layout.v1.values()) if path is not None}
    return {str(path) for root in roots for path in Path(root).glob(f"{prefix}*")}


def children() -> list[str]:
    """Processes below this one, in ps's words."""
    listing = subprocess.run(
        ["ps", "-e", "-o", "pid=,ppid=,comm="], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    rows = [line.split(None, 2) for line in listing]
    return [name for _, parent, name in rows if parent == str(os.getpid()) and name != "ps"]


def files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Path]:
    """On a disk, as the real one: on some hosts /tmp is a tmpfs."""
    path = Path("/var/tmp", f"isolation-lab-test-doctor-{os.getpid()}")
    path.mkdir()
    yield path
    shutil.rmtree(path)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the probes that fill the cache."""
    slow = {"guest kernel", "guest boot", "KVM"}
    kept = tuple(one for one in all_probes.PROBES if one.name not in slow)
    monkeypatch.setattr(all_probes, "PROBES", kept)


def test_this_host_is_found_as_it_is(diagnosis: Diagnosis) -> None:
    assert named(diagnosis, "root").status == "ok"
    layout = named(diagnosis, "cgroup layout")
    assert layout.found.startswith(CgroupLayout.detect().kind)
    for name, path in (("vhost-net", "/dev/vhost-net"), ("FUSE", "/dev/fuse")):
        if not Path(path).exists():
            assert named(diagnosis, name).status == "missing"
    for tool, name in (("mke2fs", "mke2fs"), ("qemu-img", "qemu-img")):
        there = shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin") is not None
        assert (named(diagnosis, name).status == "ok") == there
    for finding in diagnosis.findings:
        assert finding.tried and finding.found
        assert bool(finding.advice) == (finding.status != "ok"), finding.name


def test_a_crawling_kvm_is_limited_and_tcg_is_chosen(diagnosis: Diagnosis) -> None:
    if not Path("/dev/kvm").exists():
        pytest.skip("/dev/kvm is not here")
    boot, kvm = named(diagnosis, "guest boot"), named(diagnosis, "KVM")
    if boot.status == "missing":
        pytest.skip(f"no guest boots here: {boot.found}")
    if kvm.status == "ok":
        pytest.skip(f"KVM is the faster one here: {kvm.found}")
    assert kvm.status == "limited"
    assert "TCG is chosen" in kvm.found
    assert not kvm.blocks


@pytest.mark.usefixtures("quick")
def test_nothing_is_left_behind(cache: Path) -> None:
    before = mounts(), cgroups(), children(), set(Path("/tmp").iterdir())
    told: list[str] = []
    diagnosis = examine(cache, progress=lambda name, done, total: told.append(name))
    assert told == [finding.name for finding in diagnosis.findings]
    assert (mounts(), cgroups(), children()) == before[:3]
    assert files(cache) == {"runs"}
    left = set(Path("/tmp").iterdir()) - before[3]
    assert not [path for path in left if path.name.startswith(("lab", "doctor"))]


@pytest.mark.usefixtures("quick")
def test_nothing_is_left_when_every_probe_is_killed(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its first system call, or a few later: deadlines of a hundredth of a second and less."""
    before = mounts(), cgroups(), children()
    for seconds in (0.0, 0.001, 0.002, 0.005):
        hasty = tuple(replace(one, seconds=seconds) for one in all_probes.PROBES)
        with monkeypatch.context() as patch:
            patch.setattr(all_probes, "PROBES", hasty)
            diagnosis = examine(cache)
        assert not [one for one in diagnosis.findings if "left behind" in one.found]
        assert (mounts(), cgroups(), children()) == before
        assert files(cache) == {"runs"}


KILLED = """
import sys, time
from pathlib import Path
from lab.backends.context import cgroup_of
from lab.doctor import examine, probes
from lab.doctor.probe import Probe, ok
from runtime.cgroups import Cgroup, CgroupLayout

def hang(host):
    Cgroup.create(CgroupLayout.detect(), cgroup_of(host.run))
    (host.room("hang") / "file").write_text("left")
    ready.write_text(host.run)
    time.sleep(60)

cache, ready = map(Path, sys.argv[1:])
probes.PROBES = (Probe("hang", "group", "hanging", hang, seconds=60),)
examine(cache)
"""


def test_a_killed_doctor_leaves_only_what_gc_can_name(cache: Path, tmp_path: Path) -> None:
    """gc itself is not called: with a cache of our own it would take other runs for dead."""
    ready = tmp_path / "ready"
    command = [sys.executable, "-c", KILLED, str(cache), str(ready)]
    before = mounts()
    with subprocess.Popen(command, cwd=ROOT) as doctor:
        deadline = time.monotonic() + 30
        while not (ready.exists() and ready.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert abandoned(cache) == []
        doctor.send_signal(signal.SIGKILL)
    run = ready.read_text()
    group = Cgroup.adopt(CgroupLayout.detect(), cgroup_of(run))
    try:
        # The probe dies by a signal of its parent's end, and has the lock until then.
        deadline = time.monotonic() + 30
        while abandoned(cache) != [run]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert mounts() == before
        assert files(cache / "runs" / run) == {"owner.lock", "hang", "hang/file"}
        assert group.processes() == ()
        assert all(Path(directory).is_dir() for directory in group.directories)
    finally:
        group.remove()


def test_the_command_says_the_same_to_programs(diagnosis: Diagnosis) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lab", "doctor", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    document = json.loads(done.stdout)
    assert [one["name"] for one in document["findings"]] == [one.name for one in diagnosis.findings]
    assert done.returncode == (0 if document["can_bench"] else 1)
    assert "Traceback" not in done.stderr
