"""`lab runs` and `lab show`: for people and for programs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lab.cli.runs import list_runs, show_run
from lab.errors import RunNotFound

from . import records as made


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip()]


def test_runs_of_hosts_and_experiments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made.write(tmp_path, made.boot(6))
    made.write(tmp_path, made.disk(), missing=3)
    made.write(tmp_path, made.boot(6), host="bench-2", run="20250101T000000-quick-aaaa")
    list_runs(tmp_path)
    out = capsys.readouterr()
    assert lines(out.out) == [
        ["run", "experiment", "host", "trials", "failed", "state"],
        [made.RUN, "boot", "bench-1", "18/18", "0", "finished"],
        [made.RUN, "disk", "bench-1", "15/18", "0", "interrupted"],
        ["20250101T000000-quick-aaaa", "boot", "bench-2", "18/18", "0", "finished"],
    ]
    assert out.err == ""


def test_a_run_that_cannot_be_read_hides_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made.write(tmp_path, made.boot(6))
    broken = made.write(tmp_path, made.disk())
    (broken.path / "plan.json").write_text("{")
    list_runs(tmp_path)
    out = capsys.readouterr()
    assert [line[-1] for line in lines(out.out)] == ["state", "finished", "unreadable"]
    assert re.match(r"lab: warning: .*plan\.json: cannot be read", out.err)


def test_no_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    list_runs(tmp_path)
    assert "make one with: lab bench" in capsys.readouterr().out
    with pytest.raises(RunNotFound):
        show_run("latest", tmp_path)


def test_show_prints_tables_notes_and_where_the_records_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [made.write(tmp_path, maker()) for maker in (made.boot, made.density, made.disk)]
    show_run("latest", tmp_path)
    out = capsys.readouterr().out
    assert re.search(r"vm \(microvm, tcg\) +11 +1\.\d\d s \[1\.\d\d, 1\.\d\d\]", out)
    assert "host more than PSS: " in out
    for run in runs:
        assert f"records: {run.path} (finished)" in out
    assert "--resume" not in out


def test_show_of_an_interrupted_run_tells_what_is_there_and_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = made.write(tmp_path, made.boot(8), missing=4)
    with (run.path / "records.jsonl").open("a") as file:
        file.write('{"format":1,')
    show_run("latest", tmp_path)
    out = capsys.readouterr()
    assert "20 of 24 planned trials are recorded" in out.out
    assert "the last record was left out: a crash cut it" in out.out
    assert f"go on with: lab bench --resume {made.RUN}" in out.out
    assert out.err == ""


def test_words_of_a_failure_are_not_markup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made.write(tmp_path, [made.failed(0, "boot", "vm", "no [bold]room[/bold] in [/tmp]")])
    show_run("latest", tmp_path)
    assert "no [bold]room[/bold] in [/tmp]" in capsys.readouterr().out


def test_show_of_several_hosts_keeps_them_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made.write(tmp_path, made.boot(6))
    made.write(tmp_path, made.boot(6), host="bench-2")
    show_run("latest", tmp_path)
    out = capsys.readouterr().out
    assert out.index("on bench-1") < out.index("on bench-2")
    assert out.count("boot: t0 to") == 2


def test_show_for_programs_is_json_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made.write(tmp_path, made.boot(6))
    show_run("latest", tmp_path, as_json=True)
    out = capsys.readouterr()
    assert json.loads(out.out)["experiments"][0]["tables"][0]["rows"][0]["trials"] == 5
    assert out.err == ""
