"""The peers run the same workloads as our own backends, and leave as little: the assertions of
test_backends.py, for what each of them promises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.backends.base import Backend, Limits, Workload
from lab.backends.context import Shared, cgroup_folders, cgroup_of
from lab.errors import BackendError
from lab.experiment import ExperimentSpec
from lab.experiments.start import RunWhole, Start
from lab.interrupt import Interrupts
from lab.record import Record, TrialId
from lab.trial import run_trial
from tests.integration.lab import test_backends as same
from tests.integration.lab.conftest import PATIENCE_S
from tests.integration.lab.test_backends import Launch, launch  # noqa: F401 - a fixture

pytestmark = pytest.mark.root

OCI = ("crun", "runc", "lab-oci")
DIRECT = (*OCI, "bwrap")
"""Those that hand the event channel on."""
DOCKER = ("docker", "docker-lab")
ALL = (*DIRECT, *DOCKER)


def by(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("backend", names, indirect=True)


test_identity_and_surroundings = by(*OCI)(
    same.test_identity_and_surroundings_are_those_of_the_workload
)
test_arguments_arrive_as_they_are = by(*ALL)(same.test_arguments_arrive_as_they_are)
test_devices_and_proc_are_there = by(*ALL)(same.test_devices_and_proc_are_there)
test_exit_status_output_and_errors = by(*ALL)(same.test_exit_status_output_and_errors)
test_input_arrives = by(*DIRECT)(same.test_input_arrives_and_is_empty_where_none_was_asked_for)
test_ready_is_one_byte = by(*DIRECT)(same.test_ready_is_one_byte_and_later_bytes_follow_it)
test_a_program_that_is_not_there = by(*ALL)(same.test_a_program_that_is_not_there_is_named)
test_one_that_ends_before_ready = by(*DIRECT)(same.test_one_that_ends_before_ready_is_seen_at_once)
test_megabytes_of_output = by(*DIRECT)(same.test_megabytes_of_output_before_ready_hold_nothing_up)
test_killed_by_a_signal = by(*DIRECT)(same.test_killed_by_a_signal_is_128_and_its_number)
test_more_memory_than_the_limit = by(*ALL)(same.test_more_memory_than_the_limit_is_not_to_be_had)
test_a_launch_that_fails = by(*ALL)(same.test_a_launch_that_fails_leaves_nothing)
test_stopped_before_it_was_ready = by(*ALL)(same.test_stopped_before_it_was_ready)
test_what_is_shared_is_never_written = by(*ALL)(same.test_what_is_shared_is_never_written_to)
test_the_record_says_what_it_really_was = by(*DIRECT)(same.test_the_record_says_what_it_really_was)


@by(*ALL)
def test_the_workloads_environment_arrives(launch: Launch) -> None:  # noqa: F811
    """Some add to it (HOME, PWD, HOSTNAME), which is what their users get."""
    env = {"PATH": "/bin:/usr/bin", "WORDS": "two words", "LINES": "a\nb", "NAME": "Grüße"}
    running = launch("/usr/bin/env", "-0", env=env)
    assert running.end().status == 0
    given = dict(one.split("=", 1) for one in running.out.split("\0") if one)
    assert env.items() <= given.items()
    assert given.keys() - env.keys() <= {"HOME", "PWD", "HOSTNAME", "container"}


@by(*ALL)
def test_it_is_a_container_under_the_same_limits(launch: Launch) -> None:  # noqa: F811
    script = (
        "cat /proc/sys/kernel/hostname; ls /sys/class/net /proc/1/root/var >/dev/null;"
        "grep -c : /proc/net/dev; grep -E '^(CapPrm|NoNewPrivs|Seccomp):' /proc/self/status;"
        "ls /proc | grep -c '^[0-9]'"
    )
    running = launch(script, limits=Limits(cpus=0.5, memory=96 << 20, pids=64))
    assert running.end().status == 0
    host, devices, capabilities, privileges, filters, processes = running.out.splitlines()
    assert host.endswith("probe")
    assert devices == "1", "the host's network"
    assert int(capabilities.split()[1], 16) == 0xA80425FB, "not Docker's default capabilities"
    assert privileges.split()[1] == "1"
    assert filters.split()[1] == "2", "no seccomp filter"
    assert int(processes) < 6, "the host's processes"


@by(*ALL)
def test_its_cgroup_has_the_limits(launch: Launch, shared: Shared) -> None:  # noqa: F811
    limits = Limits(cpus=0.5, memory=96 << 20, pids=64)
    running = launch("read -r _", stdin=True, limits=limits)
    found: set[str] = set()
    while not {"0.5", "100663296", "64"} <= found:  # it may still be starting: no event tells
        assert running.instance.wait(0.02) is None
        for top in cgroup_folders(f"{shared.cgroup.path}/probe"):
            for folder, _, _ in os.walk(top):
                found |= _limits(Path(folder))
    running.instance.write_stdin(b"\n")
    assert running.end().status == 0


def _limits(folder: Path) -> set[str]:
    found = set()
    for name in ("memory.limit_in_bytes", "memory.max", "pids.max"):
        if (folder / name).exists():
            found.add((folder / name).read_text().strip())
    if (folder / "cpu.cfs_quota_us").exists():
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        found.add(f"{quota / int((folder / 'cpu.cfs_period_us').read_text()):g}")
    if (folder / "cpu.max").exists():
        quota_, period = (folder / "cpu.max").read_text().split()
        found.add(quota_ if quota_ == "max" else f"{int(quota_) / int(period):g}")
    return found


@by(*DIRECT)
def test_pids_and_memory_are_counted_and_then_gone(
    launch: Launch,  # noqa: F811
    shared: Shared,
) -> None:
    running = launch("echo x >/var/tmp/x && printf r >&3; exec sleep 999", writes_root=True).ready()
    instance = running.instance
    pids = instance.pids()
    assert pids and all(Path(f"/proc/{pid}").exists() for pid in pids)
    assert (instance.cgroup_memory() or 0) > 0
    (folder,) = instance.disk_paths()
    assert (folder / "upper/var/tmp/x").read_text() == "x\n"
    assert cgroup_folders(f"{shared.cgroup.path}/{instance.name}")
    instance.stop()
    instance.stop()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert not cgroup_folders(f"{shared.cgroup.path}/{instance.name}")
    assert not folder.exists()
    assert str(shared.state) not in Path("/proc/self/mountinfo").read_text()


@by(*ALL)
def test_nothing_is_left_when_the_backend_closes(backend: Backend, shared: Shared) -> None:
    prepared = backend.prepare(Workload(argv=("/bin/sleep", "999"), env=same.ENV))
    backend.launch(prepared, "left").stop()
    backend.close()
    left = [path.name for path in shared.state.iterdir() if path.is_dir()]
    assert left == []
    assert str(shared.state) not in Path("/proc/self/mountinfo").read_text()
    backend.close()


def trial(experiment: Start | RunWhole, backend: Backend) -> Record:
    spec = ExperimentSpec.model_validate({"kind": experiment.kind, "backends": [backend.name]})
    prepared = backend.prepare(experiment.workload(spec))
    it = TrialId(index=0, experiment=experiment.kind, backend=backend.name, repeat=0, warmup=False)
    with Interrupts() as interrupts:
        return run_trial("run", it, spec, experiment, backend, prepared, interrupts)


@by("floor-container", "container", *ALL)
def test_a_whole_run_is_measured_to_the_end_of_everything(backend: Backend, shared: Shared) -> None:
    record = trial(RunWhole(), backend)
    assert (record.status, record.cause) == ("ok", None)
    assert record.metrics["run_s"] >= max(record.phases.values())
    assert not cgroup_folders(f"{shared.cgroup.path}/run-{backend.name}-0-0")


@by("floor-container", "container", *DIRECT)
def test_a_start_is_measured_to_the_first_instruction(backend: Backend) -> None:
    record = trial(Start(), backend)
    assert (record.status, record.cause) == ("ok", None)
    assert record.metrics["ready_s"] == pytest.approx(record.phases["ready"], abs=1e-8)
    assert list(record.phases)[-1] == "ready"
    assert record.metrics["stop_s"] > 0


@by("container", "crun", "docker")
def test_a_run_that_fails_is_a_failed_record(backend: Backend) -> None:
    class Fails(RunWhole):
        def workload(self, spec: ExperimentSpec) -> Workload:
            return Workload(argv=("/bin/sh", "-c", "echo last words >&2; exit 3"), env=same.ENV)

    record = trial(Fails(), backend)
    assert record.status == "failed"
    assert record.cause is not None
    assert "ended with status 3" in record.cause and "last words" in record.cause


@by("bwrap")
def test_bwrap_refuses_another_user(backend: Backend) -> None:
    with pytest.raises(BackendError, match="uid 0"):
        backend.prepare(Workload(argv=("/bin/true",), uid=1))


KILLED = """
import os, signal, sys
from pathlib import Path
from lab.backends import find_backend
from lab.backends.base import Workload
from lab.backends.context import Context, Shared
from lab.ownership import own_run
cache = Path(sys.argv[1])
with own_run(cache, sys.argv[3]) as state, Shared(sys.argv[3], cache, state) as shared:
    backend = find_backend(sys.argv[2])(Context(shared, {}))
    prepared = backend.prepare(Workload(argv=("/bin/sleep", "999"), env={"PATH": "/bin"}))
    instance = backend.launch(prepared, "orphan")
    from lab.backends.context import cgroup_folders
    path = f"{shared.cgroup.path}/orphan"
    while not any(p.read_text() for top in cgroup_folders(path) for p in top.rglob("cgroup.procs")):
        instance.wait(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("name", ["runc", "docker"])
def test_what_a_killed_lab_leaves_is_found_and_removed(
    name: str, cache: Path, tmp_path: Path
) -> None:
    from lab.backends import find_backend
    from lab.backends.context import Context
    from lab.gc import collect_run

    run = f"test-killed-{os.getpid()}"
    can = find_backend(name)(Context(Shared(run, cache, tmp_path), {})).capabilities()
    if not can.available:
        pytest.skip(can.missing["available"])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(cache), name, run],
        check=False,
        timeout=2 * PATIENCE_S,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == -9, done.stderr
    assert cgroup_folders(cgroup_of(run))
    for _ in collect_run(cache, run):
        pass
    assert not cgroup_folders(cgroup_of(run))
    assert not (cache / "runs" / run).exists()
    assert run not in Path("/proc/self/mountinfo").read_text()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert run.encode() not in process.read_bytes(), process
        except (FileNotFoundError, ProcessLookupError):
            continue
