"""Run folders: made whole or not at all, appended to, cut, resumed, listed and found."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import lab
from lab.errors import FormatTooNew, RunNotFound, StoreError, UsageError
from lab.frame import COLUMNS, flatten, to_frame
from lab.record import FORMAT, Record
from lab.store import Results, Run, RunWriter

from . import records as made

ROOT = Path(__file__).parents[3]
PLAN = [one.trial for one in made.boot()]


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "results")


def create(results: Results, host: str = "bench-1", run: str = made.RUN) -> RunWriter:
    return results.create(
        host,
        "boot",
        run,
        host_facts={"hostname": host},
        experiment_doc={"name": "test", "experiment": [{"kind": "boot"}]},
        plan=PLAN,
        seed=7,
    )


def children(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def add_line(run: Run, text: bytes) -> None:
    with (run.path / "records.jsonl").open("ab") as file:
        file.write(text)


# Making


def test_a_new_run_is_whole_but_for_its_records(results: Results) -> None:
    with create(results) as writer:
        run = writer.run
        assert run.path == results.root / "bench-1" / "boot" / made.RUN
        assert children(run.path) == [
            "experiment.toml",
            "host.json",
            "plan.json",
            "records.jsonl",
        ]
        assert (run.run_id, run.experiment, run.host) == (made.RUN, "boot", "bench-1")
        assert run.host_facts == {"format": FORMAT, "hostname": "bench-1"}
        assert run.experiment_doc["experiment"] == [{"kind": "boot"}]
        assert run.plan == PLAN
        assert json.loads((run.path / "plan.json").read_text())["seed"] == 7
        assert run.records() == []
        assert run.warnings == []
        assert run.state == "running"
    assert run.state == "interrupted"


def test_records_come_back_as_they_went_in_and_in_plan_order(results: Results) -> None:
    records = list(made.boot())
    with create(results) as writer:
        for one in reversed(records):
            writer.append(one)
            assert (writer.run.path / "records.jsonl").read_bytes().endswith(b"}\n"), "flushed"
        assert writer.run.records() == records
        assert writer.done() == {one.trial.index for one in records}
        writer.finish()
    assert writer.run.state == "finished"


def test_the_parquet_copy_is_the_frame(results: Results) -> None:
    run = made.write(results.root, made.density())
    copy = pd.read_parquet(run.path / "records.parquet")
    pd.testing.assert_frame_equal(copy, run.frame())
    assert copy.attrs == {"format": FORMAT}
    assert not list(run.path.glob("*.tmp"))


def test_a_run_cannot_be_made_twice_and_leaves_nothing(results: Results) -> None:
    create(results).__exit__()
    with pytest.raises(StoreError, match="exists already"):
        create(results)
    assert children(results.root / "bench-1" / "boot") == [made.RUN]


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file is in the way")
    with pytest.raises(StoreError, match="run folder cannot be made: Not a directory"):
        create(Results(tmp_path / "results"))


@pytest.mark.parametrize(
    ("host", "folder"),
    [
        ("bench-1.example.org", "bench-1.example.org"),
        ("../../etc", "_.._etc"),
        ("my host/ü", "my_host__"),
        (".hidden", "hidden"),
        ("x\ny", "x_y"),
    ],
)
def test_any_host_name_is_one_visible_folder(results: Results, host: str, folder: str) -> None:
    with create(results, host) as writer:
        assert writer.run.path.parents[1] == results.root / folder
        assert writer.run.host == host, "what the host called itself is kept"
    assert [run.path for run in results.all()] == [writer.run.path]


@pytest.mark.parametrize("host", ["", ".", ".."])
def test_a_name_that_leaves_nothing_is_refused(results: Results, host: str) -> None:
    with pytest.raises(StoreError, match="cannot name a folder"):
        create(results, host)
    assert not results.root.exists()


def test_no_experiment_takes_the_place_of_the_reports(results: Results) -> None:
    with pytest.raises(StoreError, match='"reports"'):
        results.create("h", "reports", "r", host_facts={}, experiment_doc={}, plan=PLAN, seed=1)


def test_what_a_crash_left_half_made_is_no_run_and_goes_with_the_next(results: Results) -> None:
    left = results.root / "bench-1" / "boot" / ".new-abc"
    left.mkdir(parents=True)
    (left / "plan.json").write_text("{}")
    assert results.all() == []
    create(results).__exit__()
    assert not left.exists()


def test_one_of_two_that_make_the_same_run_at_once_wins(results: Results) -> None:
    barrier = threading.Barrier(8)
    outcomes: list[object] = []

    def make(run: str) -> None:
        barrier.wait()
        try:
            outcomes.append(create(results, run=run))
        except StoreError as error:
            outcomes.append(error)

    names = ["same"] * 4 + [f"own-{i}" for i in range(4)]
    threads = [threading.Thread(target=make, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writers = [one for one in outcomes if isinstance(one, RunWriter)]
    for writer in writers:
        writer.__exit__()
    assert len(outcomes) == 8
    assert sorted(w.run.run_id for w in writers) == ["own-0", "own-1", "own-2", "own-3", "same"]
    assert children(results.root / "bench-1" / "boot") == sorted(set(names))
    assert all(run.plan == PLAN for run in results.all())


def test_two_never_write_one_run(results: Results) -> None:
    with create(results) as writer, pytest.raises(StoreError, match="another process"):
        results.open_for_resume(writer.run)
    with results.open_for_resume(writer.run):
        pass


def test_a_full_disk_is_one_sentence_and_leaves_no_half_line(
    results: Results, tmp_path: Path
) -> None:
    """With a limit on file size (setrlimit(2)) in the place of a full disk."""
    records = list(made.boot())
    with create(results) as writer:
        writer.append(records[0])
    size = (writer.run.path / "records.jsonl").stat().st_size
    (tmp_path / "record.json").write_text(records[1].model_dump_json())
    code = f"""
import resource, signal
from pathlib import Path
from lab.errors import StoreError
from lab.record import Record
from lab.store import Run, RunWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({size + 100}, {size + 100}))
record = Record.model_validate_json(Path({str(tmp_path / "record.json")!r}).read_text())
with RunWriter(Run(Path({str(writer.run.path)!r}))) as writer:
    try:
        writer.append(record)
    except StoreError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert "a record cannot be written: File too large" in done.stdout
    assert f"lab bench --resume {made.RUN}" in done.stdout
    assert writer.run.records() == records[:1]
    assert writer.run.warnings == []


def test_the_record_of_a_failure_can_always_be_written(results: Results) -> None:
    odd = made.failed(0, "boot", "vm", "no such file: /tmp/\udcff", argv=["/tmp/\udcff"])
    with create(results) as writer:
        writer.append(odd)
    assert writer.run.records() == [odd]
    assert odd.cause == "no such file: /tmp/\\udcff"


@pytest.mark.parametrize("where", ["metrics", "phases", "factors"])
def test_nan_is_no_measurement(where: str) -> None:
    with pytest.raises(ValueError, match="finite"):
        made.record(0, "boot", "vm", **{where: {"x": float("nan")}})


# Reading what is damaged


def test_a_record_cut_by_a_crash_is_left_out_and_named(results: Results) -> None:
    records = list(made.boot())
    run = made.write(results.root, records, missing=1)
    add_line(run, records[-1].model_dump_json().encode()[:100])
    assert run.records() == records[:-1]
    assert len(run.warnings) == 1
    assert str(run.path / "records.jsonl") in run.warnings[0]
    with pytest.warns(UserWarning, match="a crash cut it"):
        assert len(lab.load("boot", results=results.root)) == len(records) - 1


def test_resuming_cuts_it_off_and_goes_on(results: Results) -> None:
    records = list(made.boot())
    run = made.write(results.root, records, missing=2)
    add_line(run, b'{"format":1,"run"')
    with results.open_for_resume(run) as writer:
        assert writer.done() == {one.trial.index for one in records[:-2]}
        for one in records[-2:]:
            writer.append(one)
        writer.finish()
    assert run.records() == records
    assert (run.warnings, run.state) == ([], "finished")


def test_a_file_that_is_one_cut_record_becomes_empty(results: Results) -> None:
    run = made.write(results.root, made.boot(), missing=36)
    add_line(run, b'{"format"')
    with results.open_for_resume(run) as writer:
        assert writer.done() == set()
    assert (run.path / "records.jsonl").read_bytes() == b""


def test_a_trial_that_failed_is_run_again_and_its_last_record_counts(results: Results) -> None:
    good = list(made.boot())
    bad = made.failed(good[3].trial.index, "boot", "native", "no room")
    run = made.write(results.root, [*good[:3], bad, *good[4:]])
    with results.open_for_resume(run) as writer:
        assert run.state == "running"
        assert writer.done() == {r.trial.index for r in good} - {3}
        writer.append(good[3])
    assert run.records() == good
    assert run.statuses().count("failed") == 0
    assert run.state == "interrupted", "until it is finished again"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{nonsense}", "not a JSON object"),
        (b"[]", "names no format version"),
        (b'{"format": 1, "run": "x"}', "trial: Field required"),
    ],
)
def test_a_damaged_line_in_the_middle_is_refused_with_file_and_line(
    results: Results, line: bytes, words: str
) -> None:
    records = list(made.boot())
    run = made.write(results.root, records)
    path = run.path / "records.jsonl"
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*lines[:4], line, *lines[5:]]))
    with pytest.raises(StoreError, match=r"records\.jsonl, line 5: ") as caught:
        run.records()
    assert words in str(caught.value)
    parquet = (run.path / "records.parquet").read_bytes()
    with pytest.raises(StoreError, match="line 5"):
        results.open_for_resume(run)
    assert (run.path / "records.parquet").read_bytes() == parquet, "refused before it is touched"


def test_a_newer_format_is_refused(results: Results) -> None:
    run = made.write(results.root, made.boot(), missing=1)
    add_line(run, json.dumps({"format": FORMAT + 1, "news": 1}).encode() + b"\n")
    with pytest.raises(FormatTooNew, match=f"line 36: written in format {FORMAT + 1}.*newer lab"):
        run.records()


def test_a_plan_of_a_newer_format_is_refused(results: Results) -> None:
    run = made.write(results.root, made.boot())
    (run.path / "plan.json").write_text(json.dumps({"format": FORMAT + 1}))
    with pytest.raises(FormatTooNew, match=r"plan\.json"):
        _ = run.plan


@pytest.mark.parametrize(
    ("name", "text", "read", "words"),
    [
        ("plan.json", '{"format": 1}', "plan", "no list of trials"),
        ("plan.json", '{"format": 1, "trials": [{}]}', "plan", "trial 0: index: Field required"),
        ("host.json", "[]", "host_facts", "not a JSON object"),
        ("host.json", "{", "host_facts", "cannot be read"),
        ("experiment.toml", "= 1", "experiment_doc", "cannot be read"),
        ("experiment.toml", b"\xff", "experiment_doc", "cannot be read"),
        ("records.jsonl", None, "warnings", "cannot be read: No such file"),
    ],
)
def test_every_damaged_file_is_named(
    results: Results, name: str, text: str | bytes | None, read: str, words: str
) -> None:
    run = made.write(results.root, made.boot())
    path = run.path / name
    if text is None:
        path.unlink()
    else:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(StoreError) as caught:
        getattr(run, read)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


# Listing and finding


@pytest.fixture
def rack(results: Results) -> Iterator[Results]:
    """Two hosts, three runs; the newest interrupted, with two experiments."""
    old, new, newest = "20250101T000000-quick-aaaa", "20260101T000000-quick-bbbb", made.RUN
    made.write(results.root, made.boot(), run=old)
    made.write(results.root, made.boot(), host="bench-2", run=new)
    made.write(results.root, made.disk(), run=newest, missing=1)
    made.write(results.root, made.density(), run=newest)
    made.write(results.root, made.boot(), run=newest)
    (results.root / "bench-1" / "reports" / newest).mkdir(parents=True)
    return results


def names(runs: list[Run]) -> list[tuple[str, str, str]]:
    return [(run.run_id, run.host, run.experiment) for run in runs]


def test_runs_are_listed_newest_first(rack: Results) -> None:
    listed = rack.runs()
    assert [(i.run_id[:8], i.host, i.experiment, i.state) for i in listed] == [
        ("20261124", "bench-1", "boot", "finished"),
        ("20261124", "bench-1", "density", "finished"),
        ("20261124", "bench-1", "disk", "interrupted"),
        ("20260101", "bench-2", "boot", "finished"),
        ("20250101", "bench-1", "boot", "finished"),
    ]
    assert [(i.done, i.planned, i.failed) for i in listed[2:4]] == [(17, 18, 0), (36, 36, 0)]


def test_a_run_that_cannot_be_read_is_listed_with_the_reason(rack: Results) -> None:
    (run,) = rack.find("2025")
    (run.path / "host.json").write_text("{")
    info = rack.runs()[-1]
    assert info.state == "unreadable"
    assert "host.json" in info.problem
    assert len(rack.runs()) == 5


@pytest.mark.parametrize("name", [made.RUN, "20261124", "latest"])
def test_a_run_is_found_by_id_by_beginning_and_as_the_latest(rack: Results, name: str) -> None:
    assert names(rack.find(name)) == [
        (made.RUN, "bench-1", kind) for kind in ("boot", "density", "disk")
    ], "in the suite's order"


def test_a_run_is_found_by_its_folder(rack: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = rack.root / "bench-1" / "disk" / made.RUN
    assert names(rack.find(str(folder))) == [(made.RUN, "bench-1", "disk")]
    monkeypatch.chdir(folder)
    assert rack.find(".")[0].run_id == made.RUN
    with pytest.raises(RunNotFound):
        rack.find("")


def test_an_id_wins_over_those_that_it_begins(results: Results) -> None:
    made.write(results.root, made.boot(), run="a")
    made.write(results.root, made.boot(), run="ab")
    assert [run.run_id for run in results.find("a")] == ["a"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("202", '"202" is the beginning of 3 runs: .*20261124'),
        ("1999", 'no run "1999" in .*; the newest are: 20261124'),
        ("", "is the beginning|no run"),
    ],
)
def test_what_is_not_one_run_is_refused(rack: Results, name: str, words: str) -> None:
    with pytest.raises(RunNotFound, match=words):
        rack.find(name)


def test_no_runs_at_all(results: Results) -> None:
    assert results.runs() == []
    for name in ("latest", "x", ""):
        with pytest.raises(RunNotFound, match="make one with: lab bench"):
            results.find(name)
    assert not results.root.exists(), "looking makes nothing"


def test_one_experiment_of_a_run(rack: Results) -> None:
    assert rack.find_one("disk", "latest").experiment == "disk"
    with pytest.raises(RunNotFound, match='no experiment "disc"; it has: boot, density, disk'):
        rack.find_one("disc", "latest")


def test_what_several_hosts_measured_is_not_pooled(rack: Results) -> None:
    made.write(rack.root, made.boot(), host="bench-2", run=made.RUN)
    assert [run.host for run in rack.find("latest")] == [*["bench-1"] * 3, "bench-2"]
    with pytest.raises(RunNotFound, match=r"made on 2 hosts; name one folder: .*bench-1.*bench-2"):
        rack.find_one("boot", "latest")


# The table


def test_load_gives_one_row_a_trial(rack: Results) -> None:
    frame = lab.load("density", results=rack.root)
    assert len(frame) == 27
    assert tuple(frame.columns[: len(COLUMNS)]) == COLUMNS
    assert set(frame["host"]) == {"bench-1"}
    assert frame["n"].dtype == "int64"
    assert str(frame["started_at"].dtype) == "datetime64[us, UTC]"
    assert frame.loc[0, "metric.pss_bytes"] == pytest.approx(0.25 * made.MIB, rel=0.2)


def test_load_selects_by_any_column(rack: Results) -> None:
    def count(experiment: str, **where: object) -> int:
        return len(lab.load(experiment, results=rack.root, **where))  # type: ignore[arg-type]

    assert count("density", backend="vm") == 9
    assert count("density", backend=["container", "vm"], n=[1, 4]) == 12
    assert count("density", accelerator="tcg", n=range(1, 3)) == 6
    assert count("density", accelerator="kvm") == 0
    assert count("boot", warmup=False, status="ok") == 33
    with pytest.raises(UsageError, match='no column "bakend"; did you mean "backend"'):
        count("boot", bakend="vm")


def test_a_run_without_records_is_an_empty_table(results: Results) -> None:
    made.write(results.root, made.boot(), missing=36)
    frame = lab.load("boot", results=results.root, backend="vm")
    assert len(frame) == 0
    assert tuple(frame.columns) == COLUMNS


def test_numbers_keep_their_last_digit_where_others_have_none(tmp_path: Path) -> None:
    far = 2**53 + 1  # 105 days of uptime in ns: a float would lose the 1
    skipped = made.record(1, "boot", "vm", t0_ns=None, workload=None, status="skipped", factors={})
    frame = to_frame([made.record(0, "boot", "vm", t0_ns=far), skipped], "h")
    frame.to_parquet(tmp_path / "x.parquet")
    frame = pd.read_parquet(tmp_path / "x.parquet")
    assert frame.loc[0, "t0_ns"] == far
    assert frame.loc[0, "factor.vcpus"] == 1
    assert frame.loc[1, ["t0_ns", "memory_bytes", "factor.vcpus"]].isna().all()


def test_a_factor_that_is_number_and_word_is_words(tmp_path: Path) -> None:
    records = [made.record(i, "boot", "x", factors={"v": v}) for i, v in enumerate([1, "auto"])]
    frame = to_frame(records, "h")
    frame.to_parquet(tmp_path / "x.parquet")
    assert list(frame["factor.v"]) == ["1", "auto"]


def test_a_level_never_hides_a_column() -> None:
    row = flatten(made.record(0, "boot", "vm", cell={"host": "x", "n": 2}), "bench-1")
    assert (row["host"], row["level.host"], row["n"]) == ("bench-1", "x", 2)


def test_the_line_is_read_by_any_json_reader() -> None:
    line = made.record(0, "boot", "vm").model_dump_json()
    assert "\n" not in line
    assert Record.model_validate(json.loads(line)) == made.record(0, "boot", "vm")
