"""The command line as a user meets it, on the fake backend: no root, no network."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest
import typer

from lab.backends.base import Prepared
from lab.backends.fake import FakeBackend, FakeInstance
from lab.cli import main
from lab.cli.app import app
from lab.errors import BackendError, StoreError
from lab.experiment import builtin_suites
from lab.experiments import known_experiments
from lab.record import Record
from lab.store import RunWriter

ROOT = Path(__file__).parents[3]

SMALL = """\
name = "small"
seed = 3

[[experiment]]
kind = "boot"
backends = ["fake"]
trials = 5

[[experiment]]
kind = "density"
backends = ["fake"]
trials = 2
levels = [1, 2, 4]
settle = 0
"""


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


class Lab:
    """`lab` in an empty folder, with a cache and results that are not there yet."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.cache = folder / "cache"
        self.results = folder / "results"
        self._capsys = capsys

    def __call__(self, *words: str, **env: str) -> Done:
        surroundings = {
            "LAB_CACHE_DIR": str(self.cache),
            "LAB_RESULTS": str(self.results),
            "COLUMNS": "100",
            **env,
        }
        status = 0
        with pytest.MonkeyPatch.context() as patch:
            for name, value in surroundings.items():
                patch.setenv(name, value)
            patch.chdir(self.folder)
            patch.setattr(sys, "argv", ["lab", *words])
            try:
                main()
            except SystemExit as end:
                status = int(end.code or 0)
        return Done(status, *self._capsys.readouterr())

    def run_folder(self, experiment: str = "boot") -> Path:
        (folder,) = self.results.glob(f"*/{experiment}/*")
        return folder

    def records(self, experiment: str = "boot") -> list[dict[str, object]]:
        lines = (self.run_folder(experiment) / "records.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture
def lab(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Lab:
    return Lab(tmp_path, capsys)


# --- what is asked without measuring ------------------------------------------------------------

COMMANDS = ("bench", "doctor", "runs", "show", "report", "gc")


def test_help_names_every_command_and_where_to_begin(lab: Lab) -> None:
    done = lab("--help")
    assert done.returncode == 0
    for words in (*COMMANDS, "lab doctor", "--install-completion", "--version"):
        assert words in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example(lab: Lab, command: str) -> None:
    done = lab(command, "--help")
    assert done.returncode == 0
    assert f"Example: lab {command}" in done.stdout


def test_help_names_every_suite_and_experiment(lab: Lab) -> None:
    text = lab("bench", "--help").stdout
    assert [name for name in (*builtin_suites(), *known_experiments()) if name not in text] == []


def test_version(lab: Lab) -> None:
    from lab import __version__

    done = lab("--version")
    assert (done.returncode, done.stdout) == (0, f"{__version__}\n")


@pytest.mark.parametrize("words", [("--help",), ("bench", "--help"), ("--version",)])
def test_help_imports_nothing_heavy(words: tuple[str, ...]) -> None:
    heavy = ["pandas", "numpy", "scipy", "pyarrow", "matplotlib", "rich", "runtime", "vm"]
    code = (
        "import sys, atexit\n"
        f"atexit.register(lambda: print('HEAVY', *(n for n in {heavy!r} if n in sys.modules)))\n"
        f"sys.argv = ['lab', *{words!r}]\n"
        "from lab.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "HEAVY"


def test_a_command_alone_shows_the_help_and_is_no_success(lab: Lab) -> None:
    done = lab()
    assert done.returncode == 2
    assert "bench" in done.stdout + done.stderr


# --- what is refused ----------------------------------------------------------------------------

FILES = {
    "misspelt.toml": '[[experiment]]\nkind = "boot"\ntrails = 3\n',
    "broken.toml": "[[experiment]\n",
    "negative.toml": '[[experiment]]\nkind = "boot"\ntrials = -1\n',
    "backend.toml": '[[experiment]]\nkind = "boot"\nbackends = ["contaner"]\n',
    "image.toml": '[[experiment]]\nkind = "boot"\nimage = "busybix"\n',
    "kind.toml": '[[experiment]]\nkind = "bot"\n',
    "twice.toml": '[[experiment]]\nkind = "boot"\nbackends = ["vm", "vm"]\n',
    "none.toml": '[[experiment]]\nkind = "boot"\nbackends = []\n',
    "text.toml": '[[experiment]]\nkind = "boot"\nbackends = "vm"\n',
    "option.toml": '[[experiment]]\nkind = "boot"\noptions.vm = { machine = "pc98" }\n',
    "empty.toml": "",
    "two.toml": '[[experiment]]\nkind = "boot"\n[[experiment]]\nkind = "disk"\nimage = "x"\n',
}

MISTAKES = [
    (("bench", "misspelt.toml"), ["experiment[0].trails", 'mean "trials"', "backends", "settle"]),
    (("bench", "broken.toml"), ["broken.toml", "not valid TOML", "line 1"]),
    (("bench", "negative.toml"), ["experiment[0].trials", "at least 1", "-1"]),
    (("bench", "backend.toml"), ["backends", "contaner", 'mean "container"', "native"]),
    (("bench", "image.toml"), ["image", "busybix", 'mean "busybox"', "debian"]),
    (("bench", "kind.toml"), ["kind", "bot", 'mean "boot"', "density"]),
    (("bench", "twice.toml"), ["backends", "once"]),
    (("bench", "none.toml"), ["experiment[0].backends", "must not be empty"]),
    (("bench", "text.toml"), ["experiment[0].backends", "must be a list"]),
    (("bench", "option.toml"), ["options.vm.machine", "pc98", "microvm, q35"]),
    (("bench", "empty.toml"), ["experiment", "missing"]),
    (("bench", "two.toml"), ["disk", "image", '"x"', "busybox"]),
    (("bench", "missing.toml"), ["missing.toml", "No such file"]),
    (("bench", "./"), ["Is a directory"]),
    (("bench", ""), ['""', "quick", "boot"]),
    (("bench", "quik"), ["quik", 'mean "quick"', "density"]),
    (("bench", "--backends", "vmm"), ["backends", "vmm", 'mean "vm"', "native"]),
    (("bench", "--backends", ""), ["--backends", "missing", "native"]),
    (("bench", "--backends", "vm,,native"), ["--backends", "missing", "vm,,native"]),
    (("bench", "--backends", "vm,vm"), ["--backends", '"vm"', "twice"]),
    (("bench", "--trials", "-1"), ["--trials", "1"]),
    (("bench", "--trials", "0"), ["--trials", "1"]),
    (("bench", "--trials", "many"), ["--trials", "integer"]),
    (("bench", "--trials", "1000000"), ["trials", "at most 100000", "1000000"]),
    (("bench", "--seed", "-1"), ["--seed", "0"]),
    (("bench", "--image", "nope"), ["image", "nope", "busybox"]),
    (("bench", "boot", "--machine", "foo"), ["machine", "foo", "microvm, q35"]),
    (("bench", "boot", "--accel", "hvf"), ["accel", "hvf", "auto, kvm, tcg"]),
    (("bench", "boot", "--backends", "native", "--accel", "tcg"), ["--accel", "native"]),
    (("bench", "--resume", "nosuch"), ["nosuch", "no runs", "lab bench"]),
    (("bench", "boot", "--resume", "x"), ["--resume", "--trials", "--backends"]),
    (("bench", "--resume", "x", "--trials", "3"), ["--resume", "--trials"]),
    (("bench", "--nosuch"), ["--nosuch"]),
    (("bench", "boot", "disk"), ["disk"]),
    (("nosuch",), ["nosuch"]),
    (("show", "nosuch"), ["nosuch", "no runs"]),
    (("report", "nosuch"), ["nosuch", "no runs"]),
]


@pytest.mark.parametrize(("words", "told"), MISTAKES, ids=[" ".join(w) for w, _ in MISTAKES])
def test_a_mistake_is_told_with_status_2_and_nothing_is_made(
    lab: Lab, words: tuple[str, ...], told: list[str]
) -> None:
    for name, text in FILES.items():
        (lab.folder / name).write_text(text)
    before = sorted(lab.folder.iterdir())
    done = lab(*words)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    for word in told:
        assert word in done.stderr, done.stderr
    if not done.stderr.startswith("Usage"):  # as the parser's own do
        assert done.stderr.startswith("lab: ")
        assert done.stderr.count("\n") == 1
    assert sorted(lab.folder.iterdir()) == before


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"LAB_RESULTS": "/proc/self/status/results"}, ["results folder", "--results"]),
        ({"LAB_CACHE_DIR": "/proc/self/status/cache"}, ["cache", "LAB_CACHE_DIR"]),
    ],
)
def test_a_folder_that_cannot_be_is_told_before_anything_is_made(
    lab: Lab, env: dict[str, str], words: list[str]
) -> None:
    done = lab("bench", "boot", "--backends", "fake", **env)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in words)
    assert list(lab.folder.iterdir()) == []


@pytest.fixture
def ordinary_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the backends see of one."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


@pytest.mark.usefixtures("ordinary_user")
def test_where_nothing_can_run_nothing_is_begun(lab: Lab) -> None:
    done = lab("bench", "boot", "--backends", "native,container")
    assert done.returncode == 1
    assert done.stderr.startswith("lab: nothing can be measured here: native, container: ")
    assert "run with sudo" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(lab.folder.iterdir()) == []


@pytest.mark.usefixtures("ordinary_user")
def test_where_some_can_the_others_are_left_out_with_the_reason(lab: Lab) -> None:
    words = ("bench", "boot", "--backends", "native,fake", "--trials", "2")
    done = lab(*words, "--no-report", "--alongside")
    assert done.returncode == 0, done.stderr
    assert "left out: native: needs root" in done.stdout
    found: dict[object, set[object]] = {}
    for record in lab.records():
        trial = record["trial"]
        assert isinstance(trial, dict)
        found.setdefault(trial["backend"], set()).add(record["status"])
        if record["status"] == "skipped":
            assert str(record["cause"]).startswith("native: needs root")
    assert found == {"fake": {"ok"}, "native": {"skipped"}}


# --- measuring ----------------------------------------------------------------------------------


def test_a_dry_run_prints_the_plan_and_makes_nothing(lab: Lab) -> None:
    done = lab("bench", "boot", "--trials", "3", "--backends", "fake,native", "--dry-run")
    assert done.returncode == 0
    assert "8 trials; nothing was run" in done.stdout
    assert "order: " in done.stdout
    assert list(lab.folder.iterdir()) == []
    again = [lab("bench", "--dry-run", "--seed", "7").stdout for _ in range(2)]
    assert again[0] == again[1]


def test_a_run_from_a_file_to_its_tables(lab: Lab) -> None:
    (lab.folder / "small.toml").write_text(SMALL)
    done = lab("bench", "small.toml", "--no-report")
    assert done.returncode == 0, done.stderr
    folder = lab.run_folder()
    assert folder.name.split("-")[1] == "small"
    assert {path.name for path in folder.iterdir()} == {
        "experiment.toml",
        "host.json",
        "plan.json",
        "records.jsonl",
        "records.parquet",
    }
    assert [record["status"] for record in lab.records()] == ["ok"] * 6
    assert len(lab.records("density")) == 9
    run = folder.name
    assert f"run {run}: 15 trials, seed 3" in done.stdout
    assert "boot: 6 of 6 trials done" in done.stdout
    assert str(folder) in done.stdout
    assert list(lab.cache.glob("runs/*")) == []

    listed = lab("runs")
    assert listed.returncode == 0
    assert run in listed.stdout and "finished" in listed.stdout
    shown = lab("show", "latest")
    assert shown.returncode == 0
    assert "boot:" in shown.stdout and "density:" in shown.stdout
    for words in (("show", run[:-2]), ("show", str(folder))):
        assert lab(*words).returncode == 0
    once_more = lab("bench", "--resume", run, "--no-report")
    assert once_more.returncode == 0
    assert "6 of them done before" in once_more.stdout
    assert len(lab.records()) == 6


def test_the_experiment_file_of_a_run_gives_the_same_plan_again(lab: Lab) -> None:
    assert (
        lab("bench", "boot", "--backends", "fake", "--trials", "3", "--no-report").returncode == 0
    )
    folder = lab.run_folder()
    again = lab("bench", str(folder / "experiment.toml"), "--dry-run")
    assert again.returncode == 0
    assert f"seed {json.loads((folder / 'plan.json').read_text())['seed']}" in again.stdout


def test_resume_runs_exactly_what_is_missing(lab: Lab) -> None:
    (lab.folder / "small.toml").write_text(SMALL)
    assert lab("bench", "small.toml", "--no-report").returncode == 0
    folder = lab.run_folder()
    path = folder / "records.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    # Three were made, and a fourth was cut by a crash.
    path.write_bytes(b"".join(lines[:3]) + lines[3][:40])
    (folder / "records.parquet").unlink()
    assert "interrupted" in lab("runs").stdout
    done = lab("bench", "--resume", folder.name, "--no-report")
    assert done.returncode == 0, done.stderr
    after = path.read_bytes().splitlines(keepends=True)
    assert after[:3] == lines[:3]
    assert [json.loads(line)["trial"]["index"] for line in after] == [0, 1, 2, 3, 4, 5]
    assert (folder / "records.parquet").exists()


def test_a_run_of_another_host_or_plan_is_not_gone_on_with(lab: Lab) -> None:
    words = ("bench", "boot", "--backends", "fake", "--trials", "3", "--no-report")
    assert lab(*words).returncode == 0
    folder = lab.run_folder()
    plan = folder / "plan.json"
    document = json.loads(plan.read_text())
    plan.write_text(json.dumps({**document, "trials": document["trials"][1:]}))
    done = lab("bench", "--resume", folder.name)
    assert done.returncode == 2
    assert "plan" in done.stderr and done.stderr.count("\n") == 1
    plan.write_text(json.dumps(document))
    host = folder / "host.json"
    host.write_text(json.dumps({**json.loads(host.read_text()), "hostname": "elsewhere"}))
    before = (folder / "records.jsonl").read_bytes()
    done = lab("bench", "--resume", folder.name)
    assert done.returncode == 2
    assert "elsewhere" in done.stderr
    assert (folder / "records.jsonl").read_bytes() == before


def test_a_run_of_which_nothing_went_well_ends_with_1_and_says_why(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(*_: object) -> NoReturn:
        raise BackendError("no network: the kernel cannot be fetched\nsecond line\nthird")

    monkeypatch.setattr(FakeBackend, "prepare", prepare)
    done = lab("bench", "boot", "--backends", "fake", "--trials", "5")
    assert done.returncode == 1
    assert "boot: not one trial went well" in done.stderr
    assert "report" not in done.stdout
    cause = "fake could not be prepared: no network: the kernel cannot be fetched"
    assert {record["cause"] for record in lab.records()} == {cause}
    assert {record["status"] for record in lab.records()} == {"failed"}
    assert {record["log_tail"] for record in lab.records()} == {"second line\nthird"}
    assert done.stdout.count(f"boot: {cause}") == 1, "the same was told again and again"


def test_one_failed_trial_does_not_fail_the_run(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    launch = FakeBackend.launch

    def sometimes(self: FakeBackend, prepared: Prepared, name: str) -> FakeInstance:
        if name.startswith("boot-fake-2-"):
            raise BackendError("it would not start", argv=("fake", "x"), log_tail="log")
        return launch(self, prepared, name)

    monkeypatch.setattr(FakeBackend, "launch", sometimes)
    done = lab("bench", "boot", "--backends", "fake", "--trials", "4", "--no-report")
    assert done.returncode == 0
    assert "boot: trial 2 failed: it would not start" in done.stdout
    assert "1 failed" in done.stdout
    failed = [record for record in lab.records() if record["status"] == "failed"]
    assert [(r["cause"], r["argv"], r["log_tail"]) for r in failed] == [
        ("it would not start", ["fake", "x"], "log")
    ]
    monkeypatch.undo()
    done = lab("bench", "--resume", lab.run_folder().name, "--no-report")
    assert done.returncode == 0
    assert "4 of them done before" in done.stdout
    assert "1 failed" not in done.stdout


def test_a_record_that_cannot_be_written_ends_the_run_and_keeps_the_others(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = RunWriter.append

    def full(self: RunWriter, record: Record) -> None:
        if record.trial.index == 3:
            raise StoreError("No space left on device; go on with: …")
        append(self, record)

    monkeypatch.setattr(RunWriter, "append", full)
    done = lab("bench", "boot", "--backends", "fake", "--trials", "6", "--no-report")
    assert done.returncode == 1
    assert done.stderr == "lab: No space left on device; go on with: …\n"
    assert len(lab.records()) == 3
    assert list(lab.cache.glob("runs/*")) == []
    monkeypatch.undo()
    run = lab.run_folder().name
    assert lab("bench", "--resume", run, "--no-report").returncode == 0
    assert len(lab.records()) == 7


def test_gc_where_there_is_nothing(lab: Lab) -> None:
    done = lab("gc", "--dry-run")
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert list(lab.folder.iterdir()) == []


# --- completion ---------------------------------------------------------------------------------


def completed(lab: Lab, line: str) -> list[str]:
    """What a shell's completion script asks, and gets."""
    done = subprocess.run(
        [sys.executable, "-m", "lab"],
        cwd=lab.folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "LAB_RESULTS": str(lab.results),
            "LAB_CACHE_DIR": str(lab.cache),
            "_LAB_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split()) - (not line.endswith(" "))),
        },
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("lab ben", ["bench"]),
        ("lab bench qu", ["quick"]),
        ("lab bench --backends native,v", ["native,vm"]),
        ("lab bench --machine ", ["microvm", "q35"]),
        ("lab bench --image b", ["busybox"]),
        ("lab show la", ["latest"]),
    ],
)
def test_tab_completes_commands_and_values(lab: Lab, line: str, found: list[str]) -> None:
    assert completed(lab, line) == found


def test_tab_completes_runs(lab: Lab) -> None:
    words = ("bench", "boot", "--backends", "fake", "--trials", "1", "--no-report")
    assert lab(*words).returncode == 0
    run = lab.run_folder().name
    assert completed(lab, f"lab bench --resume {run[:8]}") == [run]


# --- the reference ------------------------------------------------------------------------------


def documented() -> dict[str, set[str]]:
    """Command → options, as docs/reference/cli.md has them in its tables."""
    found: dict[str, set[str]] = {}
    section = ""
    for line in (ROOT / "docs/reference/cli.md").read_text().splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ").strip("`").removeprefix("lab ")
        elif line.startswith("| `-"):
            cell = line.split("|")[1]
            found.setdefault(section, set()).update(re.findall(r"`(-[^ `]+)", cell))
        elif line.startswith("| `lab "):
            found.setdefault(line.split("`")[1].split()[1], set())
    return found


def test_the_reference_has_every_command_and_option() -> None:
    command = typer.main.get_command(app)
    assert isinstance(command, typer.core.TyperGroup)
    there = {
        name: {
            spelling
            for option in one.params
            if option.param_type_name == "option"
            for spelling in (*option.opts, *option.secondary_opts)
        }
        - {"--help", "-h"}
        for name, one in command.commands.items()
    }
    assert documented() == there


def test_a_cache_on_an_overlay_is_refused_before_anything_is_measured(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.cli.bench.file_system_of", lambda path: "overlay")
    done = lab("bench", "boot", "--backends", "native,container", "--trials", "1")
    assert done.returncode == 1
    assert str(lab.cache) in done.stderr and "LAB_CACHE_DIR" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not lab.cache.exists() and not lab.results.exists()
    fake = lab("bench", "boot", "--backends", "fake", "--trials", "1", "--no-report")
    assert fake.returncode == 0
