"""The report of synthetic runs and of a run of the fake backend: executed for real, by a kernel."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w

from lab.errors import RunNotFound, StoreError
from lab.record import FORMAT
from lab.report import ReportError, report
from lab.store import Results

from . import records as made
from .pages import Page, assert_self_contained, outputs

for library in ("nbformat", "nbclient", "ipykernel", "matplotlib", "mistune", "jinja2"):
    pytest.importorskip(library, reason="the notebooks extra is not installed")

ROOT = Path(__file__).parents[3]
KINDS = ("boot", "density", "disk")


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """A small run of all experiments on the fake backend."""
    root = tmp_path_factory.mktemp("fake")
    experiments = [
        {"kind": kind, "backends": ["fake"], "trials": 2, "levels": [1, 2], "settle": 0}
        for kind in KINDS
    ]
    suite = root / "small.toml"
    suite.write_text(tomli_w.dumps({"experiment": experiments}))
    command = [sys.executable, "-m", "lab", "bench", str(suite), "--no-report"]
    done = subprocess.run(
        [*command, "--results", str(root / "results")],
        cwd=ROOT,
        env={**os.environ, "LAB_CACHE_DIR": str(root / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Results(root / "results")


@pytest.fixture(scope="module")
def page(fake: Results) -> Path:
    return report("latest", fake.root)


def test_a_fake_run_becomes_a_page_and_executed_notebooks(fake: Results, page: Path) -> None:
    run = fake.find("latest")[0]
    assert page == fake.root / run.path.parts[-3] / "reports" / run.run_id / "report.html"
    assert sorted(path.name for path in page.parent.iterdir()) == [
        *("boot_time.ipynb", "disk_sharing.ipynb", "memory_density.ipynb", "report.html")
    ]
    for path in page.parent.glob("*.ipynb"):
        kinds = [output["output_type"] for output in outputs(path)]
        assert set(kinds) == {"display_data"}, "no errors, and nothing on stderr"


def test_figures_carry_their_axes_in_words_and_as_vectors(page: Path) -> None:
    found = [o for path in page.parent.glob("*.ipynb") for o in outputs(path)]
    images = [o for o in found if "image/png" in o["data"]]
    assert len(images) == 4
    for image in images:
        assert image["data"]["image/svg+xml"][0].startswith("<?xml")
        meta = image["metadata"]["image/png"]
        assert meta["width"] == 691
        assert all(axes["x"] and axes["y"] and axes["drawn"] for axes in meta["axes"])
        assert all(f"{axes['y']} against {axes['x']}" in meta["alt"] for axes in meta["axes"])


def test_the_page_loads_nothing(page: Path) -> None:
    assert_self_contained(page.read_text())


def test_what_is_not_self_contained_is_noticed() -> None:
    for bad in ('<img src="http://x/y.png">', "<script>1</script>", "<p style='a:url(x)'>"):
        with pytest.raises(AssertionError):
            assert_self_contained(bad)


def test_the_page_tells_host_run_and_results(fake: Results, page: Path) -> None:
    told = Page(page.read_text())
    run = fake.find("latest")[0]
    for words in (
        run.run_id,
        f"records of format {FORMAT}",
        str(run.path),
        run.host,
        run.host_facts["kernel"],
        "noise_before.load_1min",
        f"lab bench {run.path / 'experiment.toml'}",
        "boot: t0 to the workload's first instruction",
        "Memory density",
        "blocks allocated for one more instance",
        "show(figures.disk_over_n(records))",
    ):
        assert words in told.words, words
    assert "Not finished" not in told.words
    images = told.all("img")
    assert len(images) == 4
    assert all((image["alt"] or "").count(" against ") for image in images)
    assert len(told.all("h1")) == 1
    assert len(told.all("h2")) == 3
    assert len(told.all("table")) == 4


def test_a_notebook_opens_any_run_by_itself(fake: Results) -> None:
    from lab.report.notebook import open_run

    assert open_run("boot", results=str(fake.root)).experiment == "boot"
    with pytest.raises(RunNotFound):
        open_run("boot", "1999", str(fake.root))


def test_an_interrupted_run_of_two_hosts_with_an_unknown_experiment(tmp_path: Path) -> None:
    """One page: for each host its facts and its runs; tables where there is no notebook."""
    made.write(tmp_path, made.boot(6), host="bench-2", missing=2, facts={"cpu_model": "Beta"})
    made.write(tmp_path, made.boot(6), facts={"cpu_model": "Alpha", "memory_bytes": 2**33})
    net = [made.record(i, "net", "vm", metrics={"rtt_s": 1e-5 * i}) for i in range(6)]
    made.write(tmp_path, net)
    page = report("latest", tmp_path, tmp_path / "out" / "page.html")
    assert page == tmp_path / "out" / "page.html"
    told = Page(page.read_text())
    assert_self_contained(page.read_text())
    assert "Not finished: boot." in told.words
    assert re.search(r"bench-1: Alpha, 8\.00 GiB of memory\.\s", told.words)
    assert re.search(r"bench-2: Beta\.\s", told.words)
    assert "net (median, 95 % interval)" in told.words
    assert "16 of 18 planned trials are recorded" in told.words
    assert len(told.all("img")) == 4
    for host in ("bench-1", "bench-2"):
        assert (tmp_path / host / "reports" / made.RUN / "boot_time.ipynb").exists()


def test_a_run_in_which_nothing_went_well_still_has_a_report(tmp_path: Path) -> None:
    for kind in KINDS:
        made.write(tmp_path, [made.failed(i, kind, "vm", "no <b>QEMU</b>") for i in range(2)])
    told = Page(report("latest", tmp_path).read_text())
    for kind in KINDS:
        assert f"{kind}: no trial was measured" in told.words
    assert told.words.count("vm: 2 trials failed: no <b>QEMU</b>") == 3
    assert not told.all("b")


def test_a_notebook_that_fails_says_where_and_why(tmp_path: Path) -> None:
    run = made.write(tmp_path, made.boot(6))
    (run.path / "records.jsonl").write_text("{}\n")
    with pytest.raises(ReportError, match="names no format version") as caught:
        report("latest", tmp_path)
    folder = tmp_path / "bench-1" / "reports" / made.RUN
    assert str(folder) in str(caught.value)
    assert "error" in [o["output_type"] for o in outputs(folder / "boot_time.ipynb")]
    assert not (folder / "report.html").exists()


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    made.write(tmp_path, made.boot(6))
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file: cannot be written: "):
        report("latest", tmp_path, tmp_path / "file" / "page.html")


def test_no_run_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RunNotFound):
        report("latest", tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_the_kernel_is_this_python_with_this_lab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel of the user's own that is called python3, and a folder called lab, stand in its
    way."""
    spec = tmp_path / "home" / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text('{"argv": ["/bin/false"], "display_name": "x"}')
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "__init__.py").write_text("raise SystemExit('the wrong lab')")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    made.write(tmp_path / "results", made.boot(6))
    assert report("latest", tmp_path / "results").exists()
