"""From records to tables: the right numbers, nothing pooled or left out in silence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from lab.record import Record
from lab.series import backends_of, phase_marks, slope_of, used
from lab.summary import document, summarize, summarize_run
from lab.table import Estimate, Table, Who

from . import records as made

MAKERS: dict[str, Callable[..., Iterable[Record]]] = {
    "boot": made.boot,
    "density": made.density,
    "disk": made.disk,
}


def notes(tables: list[Table]) -> str:
    return "\n".join(note for table in tables for note in table.notes)


def cell(table: Table, backend: str, key: str) -> Estimate:
    place = list(table.headings).index(key)
    for row in table.cells:
        if (row[0].backend if isinstance(row[0], Who) else row[0]) == backend:
            found = row[place]
            assert isinstance(found, Estimate)
            return found
    raise AssertionError(f"no row {backend}")


# What the numbers are


def test_boot_is_the_median_of_what_counts_and_its_ratios() -> None:
    records = list(made.boot(12))
    table, phases = summarize(records)
    assert table.columns == ("backend", "n", "time", "/ native", "/ container")
    assert [row[:2] for row in table.rows] == [
        ("native", "11"),
        ("container", "11"),
        ("vm (microvm, tcg)", "11"),
    ]
    times = sorted(r.metrics["boot_s"] for r in used(records, "vm"))
    assert cell(table, "vm", "boot_s").interval.estimate == times[5]
    assert re.fullmatch(r"1\.\d\d s \[1\.\d\d, 1\.\d\d\]", table.rows[2][2])
    ratio = cell(table, "vm", "over_container").interval
    assert ratio.low < 400 < ratio.high
    assert table.rows[0][3:] == ("-", "-")
    assert "3 trials for warm-up, recorded and not used" in table.notes
    assert phases.rows[0][1].startswith("clone 5")


def test_references_have_a_column_of_their_own() -> None:
    names = ["native", "container", "floor-container", "vm", "floor-vm"]
    table = summarize(list(made.boot(9, reversed(names))))[0]
    assert [row[0].split()[0] for row in table.rows] == names, "in a fixed order"
    assert table.columns[3:] == ("/ native", "/ container", "/ reference")
    assert [row[5] != "-" for row in table.rows] == [False, True, False, True, False]
    assert "reference: the same start made by hand, floor-…" in table.notes


def test_a_lone_backend_has_no_ratios() -> None:
    table = summarize(list(made.boot(9, ["vm"])))[0]
    assert table.columns == ("backend", "n", "time")


def test_a_backend_from_elsewhere_stands_last_and_is_compared_with_native() -> None:
    table = summarize(list(made.boot(9, ["zeta", "native", "alpha"])))[0]
    assert [row[0] for row in table.rows] == ["native", "alpha", "zeta"]
    assert cell(table, "zeta", "over_native").interval.estimate == pytest.approx(10, rel=0.2)


def test_density_is_the_slope_by_three_measures() -> None:
    (table,) = summarize(list(made.density()))
    for backend, each in made.EACH.items():
        for key, factor in (("pss_bytes", 1.0), ("cgroup_bytes", 1.1), ("host_bytes", 1.5)):
            interval = cell(table, backend, key).interval
            assert interval.low <= each * factor * made.MIB <= interval.high or (
                interval.estimate == pytest.approx(each * factor * made.MIB, rel=0.02)
            )
    assert "N: native, container, vm 1, 2, 4" in table.notes


def test_density_says_by_how_much_and_why_the_measures_differ() -> None:
    """In the records the cgroup is a tenth, the host a half above PSS: vm 6 and 30 MiB each."""
    text = notes(summarize(list(made.density())))
    host = re.search(r"^host more than PSS: (.*): PSS leaves out kernel memory", text, re.M)
    assert host is not None
    assert re.search(r"vm 30\.0 MiB \[(29\.9|30\.0), 30\.[01]\]", host[1])
    assert "native" in host[1]
    assert re.search(r"^cgroup more than PSS: .*vm 6\.0\d MiB", text, re.M)
    assert re.search(r"^host more than cgroup: .*charged to no instance", text, re.M)
    assert "less" not in text
    assert "PSS more than" not in text


def test_a_difference_within_chance_is_no_difference() -> None:
    """MemAvailable is PSS and noise, of which the line happens to rise by 0.9 MiB each."""
    noise = iter([0, 3, -2, -1, 4, 1, 2, -3, 5])
    records = [
        one.model_copy(update={"metrics": {
            **one.metrics, "host_bytes": one.metrics["pss_bytes"] + next(noise) * made.MIB}})
        for one in made.density(backends=["vm"])
    ]  # fmt: skip
    fitted = slope_of(records, "host_bytes", minus="pss_bytes")
    assert fitted is not None
    assert fitted.slope.low < 0
    assert fitted.slope.estimate > 4096
    text = notes(summarize(records))
    assert "cgroup more than PSS: vm" in text
    assert "host more than" not in text


def test_measures_that_agree_are_not_said_to_differ() -> None:
    records = [
        one.model_copy(update={"metrics": {**one.metrics, "host_bytes": one.metrics["pss_bytes"]}})
        for one in made.density()
    ]
    text = notes(summarize(records))
    assert "host more than PSS" not in text
    assert "PSS more than host" not in text
    assert "cgroup more than host: " in text
    assert "page cache, which the host goes on counting as available" in text


def test_a_cost_below_the_noise_is_called_so() -> None:
    noise = iter([3.0, -3.0, 1.0, -2.0, 4.0, -4.0, 0.5, -1.0, 2.0])
    records = [
        made.record(i, "density", "native", cell={"n": n}, metrics={
            "pss_bytes": n * 4096.0, "host_bytes": next(noise) * made.MIB})
        for i, n in enumerate([1, 2, 4] * 3)
    ]  # fmt: skip
    (table,) = summarize(records)
    assert "native: by host the cost is below the noise" in notes([table])
    assert "by PSS" not in notes([table])
    assert table.rows[0][3] == "-", "nothing was measured by cgroup"


def test_noise_explains_nothing() -> None:
    """Memory that came free elsewhere while instances ran is not what PSS counts and the host does
    not: no measure can be above another by more than itself."""
    records = [
        one.model_copy(update={"metrics": {
            **one.metrics, "host_bytes": -10 * one.metrics["pss_bytes"]}})
        for one in made.density(backends=["container"])
    ]  # fmt: skip
    (table,) = summarize(records)
    assert "container: by host the cost is below the noise" in notes([table])
    assert "more than host" not in notes([table])
    assert "cgroup more than PSS" in notes([table])


def test_disk_is_the_slope_before_and_after_and_blocks_per_byte() -> None:
    (table,) = summarize(list(made.disk()))
    assert table.rows[1][2:5] == ("2.00 MiB", "512 KiB [512, 512]", "1.50 MiB [1.50, 1.50]")
    assert cell(table, "vm", "amplification").interval.estimate == pytest.approx(1)
    assert "written to: after each wrote 1.00 MiB" in notes([table])


def test_disk_without_what_was_written_has_no_amplification() -> None:
    bare = [
        one.model_copy(update={"metrics": {"before_bytes": one.metrics["before_bytes"]}})
        for one in made.disk()
    ]
    (table,) = summarize(bare)
    assert table.rows[0][2:] == ("-", "256 KiB [256, 256]", "-", "-")


def test_phases_add_up_to_the_median_whatever_each_record_has() -> None:
    records = [
        made.record(0, "boot", "x", phases={"a": 0.001, "ready": 0.004}),
        made.record(1, "boot", "x", phases={"ready": 0.006, "b": 0.005, "a": 0.003}),
        made.record(2, "boot", "x", phases={"a": 0.002, "ready": 0.005}),
    ]
    assert phase_marks(records) == [("a", 0.002), ("ready", 0.005), ("b", 0.005)]
    assert phase_marks([]) == []


def test_an_experiment_from_elsewhere_has_a_row_for_each_cell() -> None:
    records = [
        made.record(i, "net", "vm", cell={"mode": mode, "n": n}, metrics={
            "rtt_s": n * 1e-5, "sent_bytes": 1024.0, "loss": 0.000123})
        for i, (mode, n) in enumerate([(m, n) for m in ("nat", "bridge") for n in (1, 2)] * 6)
    ]  # fmt: skip
    (table,) = summarize(records)
    assert table.columns == ("backend", "mode", "n", "n", "loss", "rtt_s", "sent_bytes")
    assert len(table.rows) == 4, "levels are never pooled"
    assert table.rows[1][1:] == (
        *("nat", "2", "6", "0.000123 [0.000123, 0.000123]"),
        *("20.0 µs [20.0, 20.0]", "1.00 KiB [1.00, 1.00]"),
    )


# What they leave out, mix, or lack


@pytest.mark.parametrize("kind", MAKERS)
def test_no_records(kind: str) -> None:
    (table,) = summarize([], planned=12)
    assert (table.title, table.rows) == ("no records yet", [])
    assert table.notes == ["0 of 12 planned trials are recorded"]


@pytest.mark.parametrize("kind", MAKERS)
def test_all_failed(kind: str) -> None:
    records = [
        made.failed(i, kind, "vm", f"{kind}-vm-{i}-0: QEMU: no such machine") for i in range(4)
    ]
    (table,) = summarize(records)
    assert table.title == f"{kind}: no trial was measured"
    assert table.notes == ["vm: 4 trials failed: QEMU: no such machine"]


@pytest.mark.parametrize("kind", MAKERS)
def test_warm_ups_only(kind: str) -> None:
    records = [made.record(0, kind, "vm", warmup=True, cell={"n": 1}, metrics={"boot_s": 1.0})]
    (table,) = summarize(records)
    assert table.rows == []
    assert table.notes == ["1 trial for warm-up, recorded and not used"]


@pytest.mark.parametrize("kind", MAKERS)
def test_one_backend_and_one_trial(kind: str) -> None:
    one = next(r for r in MAKERS[kind]() if not r.trial.warmup)
    tables = summarize([one])
    assert len(tables[0].rows) == 1
    words = "fewer than 5 trials" if kind == "boot" else "a slope needs two levels of N"
    assert f"native: {words}" in notes(tables).replace("no interval: ", "")


@pytest.mark.parametrize("kind", ["density", "disk"])
def test_two_points_have_a_slope_and_the_reason_for_no_interval(kind: str) -> None:
    tables = summarize(list(MAKERS[kind](1, (1, 2), ["vm"])))
    assert "vm: no interval: only two points" in notes(tables)


def test_skipped_and_failed_are_told_once_each() -> None:
    records = [
        *made.boot(8, ["native"]),
        *(made.failed(100 + i, "boot", "vm", f"boot-vm-{100 + i}-0: slow") for i in range(2)),
        made.record(
            200, "boot", "x", status="skipped", cause="x: no root", workload=None, t0_ns=None
        ),
    ]
    assert summarize(records)[0].notes == [
        "1 trial for warm-up, recorded and not used",
        "vm: 2 trials failed: slow",
        "x: 1 trial left out: no root",
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [("accelerator", "kvm"), ("kernel", "6.99"), ("machine", "q35")],
)
def test_records_of_different_conditions_in_one_row_are_told(key: str, value: str) -> None:
    records = list(made.boot(8))
    changed = {**made.FACTS["vm"], key: value}
    records[-1] = records[-1].model_copy(update={"factors": changed})
    tables = summarize(records)
    was = made.FACTS["vm"][key]
    expected = f"vm: one row holds records of different {key}: {was} (6 trials), {value} (1 trials)"
    assert expected.replace("(1 trials)", "(1 trial)") in tables[0].notes
    if key != "kernel":
        assert f"{was} and {value}" in tables[0].rows[-1][0]


def test_records_of_different_images_in_one_row_are_told() -> None:
    records = list(made.boot(8))
    other = made.WORK.model_copy(update={"image_digest": "sha256:other"})
    records[-1] = records[-1].model_copy(update={"workload": other})
    assert "vm: one row holds records of different image_digest" in notes(summarize(records))


def test_backends_that_did_not_get_the_same_work_are_told() -> None:
    small = made.WORK.model_copy(update={"memory_bytes": 64 << 20})
    records = [
        one.model_copy(update={"workload": small}) if one.trial.backend == "vm" else one
        for one in made.boot(8)
    ]
    expected = (
        f"not the same work: memory_bytes differs: native, container {128 << 20}; vm {64 << 20}"
    )
    assert expected in summarize(records)[0].notes
    assert "not the same" not in notes(summarize(list(made.boot(8))))


def test_warm_ups_of_other_conditions_are_not_in_the_row() -> None:
    records = list(made.boot(8))
    records[2] = records[2].model_copy(update={"factors": {"accelerator": "kvm"}})
    assert records[2].trial.warmup
    assert "different" not in notes(summarize(records))


def test_a_run_in_the_middle_tells_how_far_it_is(tmp_path: Path) -> None:
    run = made.write(tmp_path, made.boot(8), missing=5)
    with (run.path / "records.jsonl").open("a") as file:
        file.write('{"format":1')
    told = summarize_run(run)[0].notes
    assert "19 of 24 planned trials are recorded" in told
    assert "a crash cut it" in told[-1]


# How they are shown


def test_the_document_is_json_with_numbers_in_base_units(tmp_path: Path) -> None:
    runs = [made.write(tmp_path, maker()) for maker in MAKERS.values()]
    read = json.loads(json.dumps(document(runs), allow_nan=False))
    assert (read["format"], read["run"]) == (1, made.RUN)
    assert [e["experiment"] for e in read["experiments"]] == list(MAKERS)
    boot, density, _ = read["experiments"]
    assert (boot["host"], boot["state"]) == ("bench-1", "finished")
    row = boot["tables"][0]["rows"][2]
    assert row["backend"] == {"name": "vm", "on": ["microvm", "tcg"]}
    assert row["boot_s"]["estimate"] == pytest.approx(1.2, rel=0.1)
    assert row["boot_s"]["unit"] == "s"
    assert row["boot_s"]["low"] < row["boot_s"]["estimate"] < row["boot_s"]["high"]
    assert set(boot["tables"][1]["rows"][0]["phases"]) == {"clone", "ready"}
    assert density["tables"][0]["rows"][0]["pss_bytes"]["unit"] == "B"
    for table in boot["tables"]:
        assert all(list(row) == list(table["columns"]) for row in table["rows"])


def test_bounds_that_are_not_there_are_null(tmp_path: Path) -> None:
    run = made.write(tmp_path, made.boot(3))
    row = document([run])["experiments"][0]["tables"][0]["rows"][0]
    assert (row["boot_s"]["low"], row["boot_s"]["high"]) == (None, None)


def test_markdown_shows_words_and_never_obeys_them() -> None:
    cause = "died | with `*status*` <b>_1_</b> $x$ ~~y~~\nline two"
    text = summarize([*made.boot(8), made.failed(99, "boot", "vm", cause)])[0].markdown()
    lines = text.splitlines()
    assert lines[0].startswith("**boot: ")
    assert lines[2:4] == [
        "| backend | n | time | / native | / container |",
        "| --- | --- | --- | --- | --- |",
    ]
    mistune = pytest.importorskip("mistune")
    html = mistune.create_markdown(escape=True, plugins=["table", "strikethrough"])(text)
    assert "<table>" in html
    assert "died | with `*status*` &lt;b&gt;_1_&lt;/b&gt; $x$ ~~y~~ line two" in html
    assert "<li>vm: 1 trial failed" in html


def test_a_table_of_nothing_is_its_title_and_notes() -> None:
    assert summarize([])[0].markdown() == "**no records yet**\n"


def test_slopes_of_records_without_n_or_metric_are_none() -> None:
    assert (
        slope_of([made.record(0, "density", "vm", metrics={"pss_bytes": 1.0})], "pss_bytes") is None
    )
    assert slope_of(list(made.density()), "no_such_metric") is None
    assert backends_of([]) == []
