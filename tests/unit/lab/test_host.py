"""Facts of a host that is a tree of sample files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lab import host, paths

FILES = {
    "etc/os-release": 'ID=ubuntu\nPRETTY_NAME="Ubuntu 24.04.1 LTS"\n',
    "proc/cmdline": "root=/dev/vda quiet -- --token secret\n",
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: AMD EPYC 7B13\nflags\t\t: fpu hypervisor sse\n"
    "\nprocessor\t: 1\nmodel name\t: other\n",
    "proc/loadavg": "1.25 0.50 0.25 2/110 18839\n",
    "proc/meminfo": "MemTotal:       24684096 kB\nMemFree: 1 kB\nSwapTotal:             0 kB\n",
    "proc/pressure/cpu": "some avg10=22.95 avg60=1.00 avg300=1.00 total=21\nfull avg10=9.00\n",
    "proc/self/mountinfo": (
        "27 1 254:0 / / rw - ext4 /dev/vda rw\n"
        "28 27 0:50 / /srv/my\\040cache rw - xfs /dev/vdb rw\n"
        "29 27 0:51 / /srv/my\\040cache rw - btrfs /dev/vdc rw\n"
        "30 27 0:21 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    ),
    "proc/stat": "cpu  1 2 3 4 5 6 7 250 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n",
    "proc/sys/kernel/random/boot_id": "97a597d4\n",
    "sys/class/dmi/id/sys_vendor": "QEMU\n",
    "sys/class/dmi/id/product_name": "Standard PC\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
    "sys/devices/system/cpu/smt/active": "1\n",
    "sys/devices/system/cpu/vulnerabilities/meltdown": "Not affected\n",
    "sys/devices/system/cpu/vulnerabilities/mds": "Vulnerable: no microcode\n",
    "sys/kernel/mm/ksm/run": "0\n",
    "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
}


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_facts_of_a_sample(sample: Path) -> None:
    facts = host.facts(sample)
    expected = {
        "os": "Ubuntu 24.04.1 LTS",
        "kernel_command_line": "root=/dev/vda quiet",
        "cpu_model": "AMD EPYC 7B13",
        "smt": "1",
        "governor": "performance",
        "mitigations": "vulnerable: mds",
        "virtualized": True,
        "hypervisor": "QEMU Standard PC",
        "memory_bytes": 24684096 * 1024,
        "swap_bytes": 0,
        "transparent_hugepages": "madvise",
        "ksm_run": "0",
        "cgroup_layout": "v1",
        "cgroup_controllers": "v1 has memory",
        "boot_id": "97a597d4",
    }
    assert {key: facts[key] for key in expected} == expected
    assert facts["noise_before"] == {
        "load_1min": 1.25,
        "steal_s": 250 / os.sysconf("SC_CLK_TCK"),
        "pressure_cpu_avg10": 22.95,
        "pressure_memory_avg10": None,
        "pressure_io_avg10": None,
    }


def test_what_is_not_there_is_null(tmp_path: Path) -> None:
    facts = host.facts(tmp_path)
    for key in ("os", "cpu_model", "smt", "governor", "memory_bytes", "hypervisor", "ksm_run"):
        assert facts[key] is None
    assert (facts["cgroup_layout"], facts["cache_file_system"]) == (None, None)
    assert facts["mitigations"] == "unknown"
    assert set(facts["noise_before"].values()) == {None}


def test_facts_are_json_and_documented() -> None:
    facts = json.loads(json.dumps(host.facts()))
    text = (Path(__file__).parents[3] / "docs/reference/doctor.md").read_text()
    assert [key for key in (*facts, *facts["noise_before"]) if f"| `{key}` |" not in text] == []
    assert set(host.noise()) == set(facts["noise_before"])


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/srv/my cache/x/y", "btrfs"), ("/srv/my cached", "ext4"), ("/", "ext4")],
)
def test_file_system_of_a_path(sample: Path, path: str, kind: str) -> None:
    mountinfo = (sample / "proc/self/mountinfo").read_text()
    assert host._file_system(mountinfo, Path(path)) == kind


def test_a_path_that_is_not_yet_is_on_its_parents_file_system(tmp_path: Path) -> None:
    assert host.file_system_of(tmp_path / "a/b") == host.file_system_of(tmp_path) is not None


def test_paths_follow_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LAB_CACHE_DIR", str(tmp_path))
    assert (paths.cache_dir(), paths.state_dir()) == (tmp_path, tmp_path / "runs")
    monkeypatch.delenv("LAB_CACHE_DIR")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert paths.cache_dir() == Path("/var/cache/isolation-lab")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert paths.cache_dir() == Path("/xdg/isolation-lab")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert paths.cache_dir() == Path("/home/me/.cache/isolation-lab")
    monkeypatch.setenv("LAB_RESULTS", "/results")
    assert paths.results_dir() == Path("/results")
