"""Locks that tell the living from the dead: real files, real processes, no root."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.errors import HostError, RunBusy
from lab.ownership import OWNER, RUN_ID, abandoned, claimed, held, new_run_id, own_run, runs_dir
from lab.turns import turn

ROOT = Path(__file__).parents[3]

OTHER = "20261124T120000-other-abcd"

OWN = """
import sys
from pathlib import Path
from lab.ownership import own_run
with own_run(Path(sys.argv[1]), "20261124T120000-other-abcd") as state:
    (state / "left").mkdir()
    print("owned", flush=True)
    sys.stdin.read()
"""

MEASURE = """
import sys
from pathlib import Path
from lab.turns import turn
with turn("other", print, [Path(sys.argv[1])]):
    print("measuring", flush=True)
    sys.stdin.read()
"""


@contextmanager
def process(code: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """One that has said that it has the lock."""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline()
        yield other


def test_a_run_is_owned_and_then_gone(tmp_path: Path) -> None:
    with own_run(tmp_path, "mine") as state:
        assert state == tmp_path / "runs" / "mine"
        assert json.loads((state / OWNER).read_text()) == {"pid": os.getpid()}
        assert held(state / OWNER)
        assert abandoned(tmp_path) == []
        (state / "some" / "tree").mkdir(parents=True)
    assert list(runs_dir(tmp_path).iterdir()) == []


def test_a_run_of_a_living_process_is_refused_by_its_name(tmp_path: Path) -> None:
    with process(OWN, tmp_path) as other:
        with pytest.raises(RunBusy, match=f"run {OTHER} belongs to process {other.pid}"):
            own_run(tmp_path, OTHER).__enter__()
        assert abandoned(tmp_path) == []
        with claimed(runs_dir(tmp_path) / OTHER / OWNER) as mine:
            assert not mine
        assert (runs_dir(tmp_path) / OTHER / "left").is_dir()


def test_a_run_of_a_killed_process_is_abandoned(tmp_path: Path) -> None:
    with process(OWN, tmp_path) as other:
        other.kill()
        other.wait()
        assert abandoned(tmp_path) == [OTHER]
        with claimed(runs_dir(tmp_path) / OTHER / OWNER) as mine:
            assert mine
            assert abandoned(tmp_path) == [], "claimed by us, so not free"


def test_what_is_not_there_is_nobodys(tmp_path: Path) -> None:
    assert abandoned(tmp_path) == []
    assert not held(tmp_path / "none")
    runs_dir(tmp_path).mkdir()
    (runs_dir(tmp_path) / "a file").touch()
    (runs_dir(tmp_path) / "not a run").mkdir()
    (runs_dir(tmp_path) / OTHER).mkdir()
    assert abandoned(tmp_path) == [OTHER]


@pytest.mark.parametrize("suite", ["quick", "a-b_c", "9"])
def test_a_new_run_has_a_name_that_is_known_for_one(suite: str) -> None:
    run = new_run_id(suite)
    assert RUN_ID.fullmatch(run)
    assert run.split("-", 1)[1].startswith(suite)


@pytest.mark.parametrize(
    "name", ["docker-44f_vv3u", "20261124T120000", "test", "doctor-", "../x", "2026-quick-abcd"]
)
def test_other_names_are_not(name: str) -> None:
    assert not RUN_ID.fullmatch(name)


def test_a_measurement_waits_for_the_other_and_says_for_whom(tmp_path: Path) -> None:
    told: list[str] = []
    begun = threading.Event()

    def second() -> None:
        with turn("mine", told.append, [tmp_path / "missing", tmp_path]):
            begun.set()

    with process(MEASURE, tmp_path) as other:
        waiter = threading.Thread(target=second)
        waiter.start()
        while not told:
            waiter.join(0.01)
        assert told == [f"run other (process {other.pid})"]
        assert not begun.is_set()
        other.kill()  # the kernel gives the lock back
        waiter.join(60)
    assert begun.is_set()


def test_alone_nobody_is_waited_for(tmp_path: Path) -> None:
    told: list[str] = []
    for _ in range(2):
        with turn("mine", told.append, [tmp_path]):
            pass
    assert told == []


def test_a_link_in_the_place_of_the_lock_is_refused(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "isolation-lab.lock").symlink_to(precious)
    with pytest.raises(HostError, match="--alongside"):
        turn("mine", print, [tmp_path]).__enter__()
    assert precious.read_text() == "precious"
