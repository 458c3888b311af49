"""One workload, three backends, the same assertions: what "the same work" means."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from lab.backends.base import READY, Backend, Exit, Instance, Limits, Prepared, Workload
from lab.backends.context import Shared
from lab.errors import BackendError
from lab.experiment import ExperimentSpec
from lab.experiments import find_experiment
from lab.interrupt import Interrupts
from lab.record import Record, TrialId
from lab.trial import run_trial
from tests.integration.lab.bench_process import PATIENCE_S
from tests.integration.lab.conftest import REAL

pytestmark = [
    pytest.mark.root,
    pytest.mark.qemu,
    pytest.mark.parametrize("backend", REAL, indirect=True),
]

ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


@dataclass
class Running:
    instance: Instance
    prepared: Prepared
    events: bytes = b""
    ended: bool = False

    def take(self, enough: Callable[[Running], bool]) -> Running:
        """Read events until it is enough, or no more can come."""
        deadline = time.monotonic() + PATIENCE_S
        poller = select.poll()
        poller.register(self.instance, select.POLLIN)
        while True:
            data = self.instance.read_events()
            self.ended = data is None
            self.events += data or b""
            if self.ended or enough(self):
                return self
            assert poller.poll(max(0.0, deadline - time.monotonic()) * 1000), "nothing came"

    def ready(self) -> Running:
        self.take(lambda running: READY in running.events)
        assert READY in self.events, self.instance.output()
        return self

    def end(self) -> Exit:
        end = self.instance.wait(PATIENCE_S)
        assert end is not None, "still running"
        return end

    @property
    def out(self) -> str:
        return self.instance.output()[0].decode()


Launch = Callable[..., Running]


@pytest.fixture
def launch(backend: Backend) -> Iterator[Launch]:
    """Start a workload, given as an argument vector or as one line of shell."""
    with ExitStack() as stack:

        def start(*argv: str, name: str = "probe", **changes: object) -> Running:
            words = argv if len(argv) > 1 or argv[0].startswith("/") else ("/bin/sh", "-c", *argv)
            work = replace(Workload(argv=words, env=ENV), **changes)  # type: ignore[arg-type]
            prepared = backend.prepare(work)
            instance = backend.launch(prepared, name)
            stack.callback(instance.stop)
            return Running(instance, prepared)

        yield start


def descriptors() -> list[Path]:
    return sorted(Path("/proc/self/fd").iterdir())


def test_identity_and_surroundings_are_those_of_the_workload(launch: Launch) -> None:
    running = launch(
        "id -u; id -g; id -G; pwd; umask; ls /proc/self/fd; ulimit -c; stat -c %F /dev/null",
        uid=1234,
        gid=5678,
        cwd="/var/tmp",
    )
    assert running.end().status == 0
    user, group, groups, cwd, umask, *fds, core, null = running.out.splitlines()
    assert (user, group, groups, cwd, umask) == ("1234", "5678", "5678", "/var/tmp", "0022")
    # 0, 1, 2, the event channel, and the directory that ls reads.
    assert fds == ["0", "1", "2", "3", "4"]
    assert (core, null) == ("0", "character special file")


def test_the_environment_is_the_workloads_and_nothing_else(launch: Launch) -> None:
    env = {"PATH": "/bin", "WORDS": "two words", "LINES": "a\nb", "EMPTY": "", "NAME": "Grüße"}
    running = launch("/usr/bin/env", "-0", env=env)
    assert running.end().status == 0
    given = dict(one.split("=", 1) for one in running.out.split("\0") if one)
    assert given == env


def test_arguments_arrive_as_they_are(launch: Launch) -> None:
    words = ("two words", "", "a\nb", "$(id)", "Grüße", "'\"")
    running = launch("/usr/bin/printf", "%s|", *words)
    assert running.end().status == 0
    assert running.out == "".join(f"{word}|" for word in words)


def test_devices_and_proc_are_there(launch: Launch) -> None:
    running = launch(
        "dd if=/dev/urandom bs=16 count=1 2>/dev/null | wc -c;"
        "echo x >/dev/null; test -d /sys/class && test -w /dev/shm && echo $$ $(cat /proc/$$/comm)"
    )
    assert running.end().status == 0
    count, pid, name = running.out.split()
    assert (count, name) == ("16", "sh")
    assert int(pid) > 0


def test_exit_status_output_and_errors(launch: Launch) -> None:
    running = launch("echo out; echo err >&2; exit 7")
    end = running.end()
    assert end.status == 7
    assert running.instance.output() == (b"out\n", b"err\n")
    assert end.max_rss_bytes is not None and end.max_rss_bytes > 2**16
    assert end.user_s is not None and end.system_s is not None


def test_input_arrives_and_is_empty_where_none_was_asked_for(launch: Launch) -> None:
    running = launch("printf r >&3; read -r line; echo got $line", stdin=True, name="asks").ready()
    running.instance.write_stdin(b"a line\n")
    assert running.end().status == 0
    assert running.out == "got a line\n"
    silent = launch("cat; echo end", name="silent")
    assert silent.end().status == 0
    assert silent.out == "end\n"
    with pytest.raises(BackendError):
        silent.instance.write_stdin(b"x")


def test_ready_is_one_byte_and_later_bytes_follow_it(launch: Launch) -> None:
    running = launch("printf r >&3; read -r _; printf w >&3; exit 0", stdin=True).ready()
    assert running.events == b"r"
    assert running.instance.wait(0) is None
    running.instance.write_stdin(b"go\n")
    running.take(lambda r: b"w" in r.events)
    assert running.events == b"rw"
    assert running.end().status == 0


def test_a_program_that_is_not_there_is_named(launch: Launch) -> None:
    with pytest.raises(BackendError, match=r"/no/such/program.*(?i:no such file)") as caught:
        launch("/no/such/program", "x").take(lambda _: False).end()
    assert "\n" not in str(caught.value)


def test_one_that_ends_before_ready_is_seen_at_once(launch: Launch) -> None:
    running = launch("/bin/true", "x").take(lambda _: False)
    assert running.ended
    assert running.events == b""
    assert running.end().status == 0


def test_megabytes_of_output_before_ready_hold_nothing_up(launch: Launch) -> None:
    script = "yes 0123456 | head -c 3000000; echo; echo last; printf r >&3; exec sleep 999"
    running = launch(script).ready()
    deadline = time.monotonic() + PATIENCE_S
    while not running.out.endswith("last\n") and time.monotonic() < deadline:
        running.instance.wait(0.01)
    out = running.instance.output()[0]
    assert len(out) == 65536
    assert out.endswith(b"0123456\n\nlast\n")


def test_who_only_waits_for_the_end_takes_output_too(launch: Launch) -> None:
    running = launch("printf r >&3; yes 0123456 | head -c 3000000; printf w >&3; exit 3")
    assert running.end().status == 3
    assert len(running.instance.output()[0]) == 65536
    assert running.take(lambda r: b"w" in r.events).events == b"rw", "events were lost meanwhile"


def test_killed_by_a_signal_is_128_and_its_number(launch: Launch) -> None:
    # A hard limit of CPU time: the one signal that a container's PID 1 cannot ignore.
    running = launch("ulimit -t 1; printf r >&3; while :; do :; done").ready()
    assert running.end().status == 128 + 9


def test_more_memory_than_the_limit_is_not_to_be_had(launch: Launch) -> None:
    limits = Limits(memory=96 * 2**20)
    running = launch("/usr/bin/tail", "/dev/zero", limits=limits)
    assert running.end().status == 128 + 9


def test_more_tasks_than_the_limit_are_not_to_be_had(launch: Launch) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do sleep 99 & done; echo not here"
    running = launch(script, limits=Limits(pids=8))
    assert running.end().status == 2
    assert running.instance.output()[0] == b""
    assert b"can't fork" in running.instance.output()[1]


def test_pids_memory_and_files_are_counted_and_then_gone(
    launch: Launch, shared: Shared, backend: Backend
) -> None:
    running = launch("echo x >/var/tmp/x && printf r >&3; exec sleep 999", writes_root=True).ready()
    instance = running.instance
    pids = instance.pids()
    assert pids and all(Path(f"/proc/{pid}").exists() for pid in pids)
    assert (instance.cgroup_memory() or 0) > 0
    paths = instance.disk_paths()
    assert paths and all(path.is_relative_to(shared.state) for path in paths)
    groups = [Path(d) / instance.name for d in shared.cgroup.directories]
    assert all(group.is_dir() for group in groups)
    instance.stop()
    instance.stop()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert not [group for group in groups if group.exists()]
    assert [path.name for path in shared.state.iterdir()] == ["owner.lock"]
    shown = Path("/proc/self/mountinfo").read_text()
    assert str(shared.state) not in shown
    assert str(shared.cache) not in shown


def test_stopped_before_it_was_ready(launch: Launch, backend: Backend, shared: Shared) -> None:
    prepared = launch("exec sleep 999", stdin=True, name="first").prepared
    before = descriptors()
    instance = backend.launch(prepared, "second")
    instance.stop()
    assert descriptors() == before
    assert not [path for path in shared.state.iterdir() if path.name == "second"]


def test_a_launch_that_fails_leaves_nothing(
    launch: Launch, backend: Backend, shared: Shared
) -> None:
    running = launch("exec sleep 999", name="twice")
    before = descriptors()
    with pytest.raises(BackendError, match="twice"):
        backend.launch(running.prepared, "twice")
    assert descriptors() == before
    assert running.instance.wait(0) is None, "the first of that name was hurt"


def test_what_is_shared_is_never_written_to(launch: Launch, backend: Backend) -> None:
    tree = launch("/bin/true", "x").prepared.shared_paths[0]
    kinds = ("dev", "proc", "sys", "var/tmp")
    if tree.is_dir():
        assert not [path for name in kinds for path in (tree / name).iterdir()]
    else:
        assert tree.stat().st_mode & 0o222 == 0


def boot(backend: Backend, shared: Shared, **limits: object) -> Record:
    spec = ExperimentSpec.model_validate(
        {"kind": "boot", "backends": [backend.name], "limits": limits}
    )
    experiment = find_experiment("boot")
    prepared = backend.prepare(experiment.workload(spec))
    trial = TrialId(index=0, experiment="boot", backend=backend.name, repeat=0, warmup=False)
    with Interrupts() as interrupts:
        return run_trial("run", trial, spec, experiment, backend, prepared, interrupts)


def test_the_record_says_what_it_really_was(backend: Backend, shared: Shared) -> None:
    record = boot(backend, shared, cpus=0.5, memory="96M", pids=99)
    assert (record.status, record.cause) == ("ok", None)
    work = record.workload
    assert work is not None
    whole = backend.name == "vm"
    assert (work.cpus, work.memory_bytes, work.pids) == (1 if whole else 0.5, 96 * 2**20, 99)
    assert work.image_digest == shared.images.ensure("busybox").digest
    assert (work.uid, work.gid, work.cwd) == (0, 0, "/")
    assert work.env == {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    assert record.factors["kind"] in {"process", "container", "vm"}
    assert record.factors["kernel"]
    if whole:
        assert record.factors["accelerator"] in {"kvm", "tcg"}
    times = list(record.phases.values())
    assert times == sorted(times)
    assert list(record.phases)[-1] == "ready"
    assert record.metrics["boot_s"] == pytest.approx(record.phases["ready"], abs=1e-8)


def test_a_workload_that_fails_is_a_record_with_its_last_words(
    backend: Backend, shared: Shared
) -> None:
    spec = ExperimentSpec.model_validate({"kind": "boot", "backends": [backend.name]})
    work = Workload(argv=("/bin/sh", "-c", "echo last words >&2; exit 3"), env=ENV)
    prepared = backend.prepare(work)
    trial = TrialId(index=0, experiment="boot", backend=backend.name, repeat=0, warmup=False)
    with Interrupts() as interrupts:
        record = run_trial(
            "run", trial, spec, find_experiment("boot"), backend, prepared, interrupts
        )
    assert record.status == "failed"
    assert record.cause is not None
    for words in ("ended before it sent 'r'", "status 3", "last words"):
        assert words in record.cause
    assert record.log_tail == "last words\n"
    assert record.argv
