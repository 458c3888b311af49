"""A small real run of native, container and vm; its notebooks, figures and page, seen as a reader
sees them: images decoded, the page rendered by a browser.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("nbclient", reason="the notebooks extra is not installed")

from matplotlib.image import imread

import lab
from lab.figures import BACKENDS
from lab.record import Record
from lab.store import Results, Run
from tests.unit.lab.pages import Page, assert_self_contained, outputs
from tests.unit.lab.reference import plain, rows

pytestmark = [pytest.mark.root, pytest.mark.qemu]

ROOT = Path(__file__).parents[2]
BACKENDS_TRIED = ("native", "container", "vm")
SUITE = """
name = "small"
seed = 7
[[experiment]]
kind = "boot"
trials = 2
warmup = 1
[[experiment]]
kind = "density"
trials = 2
warmup = 0
levels = [1, 2]
settle = "50ms"
[[experiment]]
kind = "disk"
trials = 2
warmup = 0
levels = [1, 2]
write = "256k"
"""
NOTEBOOKS = {"boot_time": 2, "memory_density": 1, "disk_sharing": 1}
"""Notebook → how many figures it has."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """The run folders of `lab bench` of `SUITE`."""
    if os.geteuid() != 0:
        pytest.skip("needs root: cgroups, mounts and namespaces")
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed")
    folder = tmp_path_factory.mktemp("report")
    (folder / "small.toml").write_text(SUITE)
    command = [sys.executable, "-m", "lab", "bench", str(folder / "small.toml")]
    done = subprocess.run(
        [*command, "--results", str(folder / "results")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Results(folder / "results").find("latest")


@pytest.fixture(scope="module")
def records(run: list[Run]) -> list[Record]:
    return [record for one in run for record in one.records()]


@pytest.fixture(scope="module")
def folder(run: list[Run]) -> Path:
    return run[0].path.parent.parent / "reports" / run[0].run_id


def images(path: Path) -> list[tuple[np.ndarray, dict[str, Any]]]:
    """Each figure of an executed notebook, decoded, with its metadata."""
    found = [o for o in outputs(path) if "image/png" in o.get("data", {})]
    return [
        (
            imread(io.BytesIO(base64.b64decode("".join(o["data"]["image/png"]))), "png"),
            o["metadata"]["image/png"],
        )
        for o in found
    ]


def share_of(image: np.ndarray, colour: str) -> float:
    """Part of the pixels that are within 2 % of a colour."""
    wanted = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return float((np.abs(image[..., :3] - wanted).max(axis=-1) < 0.02).mean())


def test_every_trial_went_well_and_the_run_is_finished(
    run: list[Run], records: list[Record]
) -> None:
    assert [one.experiment for one in run] == ["boot", "density", "disk"]
    assert [one.state for one in run] == ["finished"] * 3
    assert [r.cause for r in records if r.status != "ok"] == []
    assert {r.trial.backend for r in records} == set(BACKENDS_TRIED)


def test_what_a_real_run_records_is_in_the_reference(records: list[Record]) -> None:
    """Names that backends and experiments choose: docs/reference/record-format.md has them all."""
    for heading, column in (("Factors", "factors"), ("Phases", "phases"), ("Metrics", "metrics")):
        told = rows(heading)
        for record in records:
            who = record.trial.experiment if column == "metrics" else record.trial.backend
            for name in getattr(record, column):
                assert name in told, f"{heading}: {name} of {who} is not told"
                assert told[name][0] == "all" or who in plain(told[name][0]).split(", "), name
    for record in records:
        assert record.phases["ready"] == max(record.phases.values())


def test_load_gives_the_same_records(run: list[Run], records: list[Record]) -> None:
    frame = lab.load("density", results=run[0].path.parents[2], backend=["vm"], n=2)
    sizes = [
        r.metrics["pss_bytes"]
        for r in records
        if (r.trial.experiment, r.trial.backend, r.trial.factors.get("n")) == ("density", "vm", 2)
    ]
    assert frame["metric.pss_bytes"].tolist() == sizes
    assert min(sizes) > 2**20


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_executed_without_error_and_its_figures_show_the_data(
    folder: Path, name: str
) -> None:
    path = folder / f"{name}.ipynb"
    assert {o["output_type"] for o in outputs(path)} == {"display_data"}, "no errors, no stderr"
    cells = json.loads(path.read_text())["cells"]
    assert all(c["execution_count"] for c in cells if c["cell_type"] == "code")
    found = images(path)
    assert len(found) == NOTEBOOKS[name]
    for image, meta in found:
        assert image.shape[1] == pytest.approx(7.2 * 200, abs=2), "as wide as a page, at 200 dpi"
        assert image.std() > 0.05, "blank"
        assert np.median(image[..., :3]) == 1, "dark on light"
        for axes in meta["axes"]:
            named = f"{axes['x']} {axes['y']}"
            assert re.search(r"\((ms|MiB|count)(, log scale)?\)", named), named
            assert axes["drawn"] >= 2, axes
        titles = [axes["title"] for axes in meta["axes"] if axes["title"]]
        if len(titles) == 3:
            assert titles == list(BACKENDS_TRIED)


def test_every_backend_has_its_colour_in_the_figure(folder: Path) -> None:
    (times, _), _ = images(folder / "boot_time.ipynb")
    ((disk, _),) = images(folder / "disk_sharing.ipynb")
    for backend in BACKENDS_TRIED:
        assert share_of(disk, BACKENDS[backend]) > 1e-4, backend
    assert share_of(times, "#000000") > 1e-3, "no words"


def test_the_page_holds_everything_and_loads_nothing(run: list[Run], folder: Path) -> None:
    text = (folder / "report.html").read_text()
    assert_self_contained(text)
    page = Page(text)
    assert len(page.all("img")) == sum(NOTEBOOKS.values())
    assert run[0].run_id in page.words
    assert re.search(r"vm \(microvm, (tcg|kvm)\)", page.words), "the accelerator"
    for record in run[0].records()[:1]:
        assert record.trial.backend in page.words


def test_a_browser_shows_the_page(folder: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no browser: chromium is not installed")
    picture = tmp_path / "page.png"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1000,5600"]
    # Nothing can come from outside: no name resolves.
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--force-color-profile=srgb"]
    done = subprocess.run(
        [*command, f"--screenshot={picture}", (folder / "report.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert picture.exists(), done.stderr[-2000:]
    seen = imread(picture)
    assert seen.shape[:2] == (5600, 1000)
    assert np.median(seen[..., :3]) == 1, "dark on light"
    for backend in BACKENDS_TRIED:
        # A line and a marker are some hundreds of the four million pixels.
        assert share_of(seen, BACKENDS[backend]) > 1e-5, f"no figure shows {backend}"
    # Words and figures from the top to the last section.
    inked = (seen[..., :3].min(axis=-1) < 0.5).reshape(14, -1).mean(axis=1)
    assert (inked[:10] > 1e-3).all(), inked
