"""Figures: axes named with units, every backend shown, nothing where nothing was measured."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the notebooks extra is not installed")
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.transforms import Bbox

from lab import figures
from lab.record import Record

from . import records as made

Draw = Callable[[list[Record]], Figure]
DRAW: dict[str, tuple[Draw, Callable[..., Iterable[Record]]]] = {
    "boot_times": (figures.boot_times, made.boot),
    "boot_phases": (figures.boot_phases, made.boot),
    "memory_over_n": (figures.memory_over_n, made.density),
    "disk_over_n": (figures.disk_over_n, made.disk),
}
UNIT = re.compile(r"\((ms|MiB|count)(, log scale)?\)")

each_figure = pytest.mark.parametrize("name", DRAW)


def drawn(name: str, records: Iterable[Record] | None = None) -> Figure:
    draw, make = DRAW[name]
    return draw(list(make() if records is None else records))


def shown(figure: Figure) -> list[str]:
    """All words of a figure."""
    return [t.get_text() for t in figure.findobj() if hasattr(t, "get_text") and t.get_visible()]


def pixels(figure: Figure) -> np.ndarray:
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=80)
    image.seek(0)
    return imread(image)


@each_figure
def test_axes_are_named_with_units(name: str) -> None:
    for axes in drawn(name).axes:
        assert UNIT.search(axes.get_xlabel())
        assert UNIT.search(axes.get_ylabel()) or axes.get_ylabel() in {"backend", "median"}


@each_figure
def test_it_is_as_wide_as_a_page_and_not_blank(name: str) -> None:
    figure = drawn(name)
    assert figure.get_figwidth() == pytest.approx(7.2)
    assert pixels(figure).std() > 0.05


@each_figure
def test_nothing_is_cut_off_and_no_text_lies_on_another(name: str) -> None:
    """Ticks, labels, titles and legends of all axes, in pixels."""
    figure = drawn(name, DRAW[name][1](backends=["native", "container", "vm"]))
    page = figure.bbox
    boxes: list[tuple[str, Bbox]] = []
    for axes in figure.axes:
        parts = [axes.xaxis.label, axes.yaxis.label, axes.get_legend(), *axes.texts]
        parts += [axes.title, axes._left_title]  # type: ignore[attr-defined]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = axis.get_view_interval()
            parts += [t.label1 for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
        for part in filter(None, parts):
            words = part.get_text() if hasattr(part, "get_text") else "legend"
            box = part.get_window_extent()
            if words and box.width and part.get_visible():
                boxes.append((words, box))
    for words, box in boxes:
        assert box.x0 >= page.x0 - 1 and box.x1 <= page.x1 + 1, f"{words} is cut off"
        assert box.y0 >= page.y0 - 1 and box.y1 <= page.y1 + 1, f"{words} is cut off"
    for i, (words, box) in enumerate(boxes):
        for other, beside in boxes[i + 1 :]:
            overlap = Bbox.intersection(box, beside)
            assert overlap is None or min(overlap.width, overlap.height) < 2, (words, other)


@each_figure
@pytest.mark.parametrize(
    "records",
    [
        [],
        [made.failed(0, "x", "vm", "broken")],
        [made.record(0, "x", "vm", warmup=True, metrics={"boot_s": 1.0}, cell={"n": 1})],
        [made.record(0, "x", "vm", cell={"n": 1})],
    ],
    ids=["no records", "all failed", "warm-ups only", "no metric"],
)
def test_nothing_measured_is_said(name: str, records: list[Record]) -> None:
    figure = drawn(name, records)
    assert "no trial was measured" in shown(figure)
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in figure.axes)
    assert pixels(figure).std() > 0


@each_figure
def test_one_backend_alone(name: str) -> None:
    figure = drawn(name, DRAW[name][1](backends=["vm"]))
    assert len(figure.axes) == (2 if name == "disk_over_n" else 1)
    assert any("vm" in words for words in shown(figure))


@each_figure
def test_backends_from_elsewhere_can_be_told_apart(name: str) -> None:
    names = ["native", "alpha", "beta", "gamma", "delta"]
    figure = drawn(name, DRAW[name][1](backends=names))
    assert all(any(one in words for words in shown(figure)) for one in names)
    if name in {"boot_times", "disk_over_n"}:
        looks = {
            (to_hex(line.get_color()), line.get_marker())
            for line in figure.axes[0].lines
            if line.get_marker() in figures.MARKERS and line.get_markerfacecolor() != "white"
        }
        assert len(looks) == len(names)
        assert len({colour for colour, _ in looks}) == len(names)
    pixels(figure)


def test_a_backend_has_one_colour_whoever_is_beside_it() -> None:
    assert figures.colour_of("vm") == figures.colour_of("vm", ["alpha", "vm"])
    assert figures.colour_of("alpha", ["alpha", "vm"]) not in figures.BACKENDS.values()


def test_boot_times_shows_every_boot_and_the_median_in_words() -> None:
    figure = drawn("boot_times")
    clouds = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 11]
    assert len(clouds) == 3
    assert min(clouds[2].get_xdata()) > 1000, "milliseconds"
    assert any(re.fullmatch(r"1\.\d\d s \[1\.\d\d, 1\.\d\d\]", words) for words in shown(figure))
    ticks = [tick.label1.get_text() for tick in figure.axes[0].xaxis.get_major_ticks()]
    assert {"1", "10", "100", "1000"} <= set(ticks), "plain numbers"


def test_times_that_are_close_have_more_numbers_on_their_axis() -> None:
    figure = drawn("boot_times", made.boot(9, ["container"]))
    labels = [t.get_text() for t in figure.axes[0].get_xticklabels() if t.get_text()]
    assert {"2", "5"} & set(labels)


def test_phases_of_one_name_have_one_colour_and_of_one_bar_different_ones() -> None:
    steps = {
        "native": ("cgroup", "clone", "exec", "ready"),
        "container": ("cgroup", "clone", "mounts", "exec", "ready"),
        "vm": ("process", "kernel", "init", "ready"),
    }
    records = [
        made.record(i, "boot", name, metrics={"boot_s": 1.0},
                    phases={step: (k + 1) / 10 for k, step in enumerate(steps[name])})
        for i, name in enumerate(steps)
    ]  # fmt: skip
    figure = drawn("boot_phases", records)
    colours: dict[str, set[str]] = {}
    for axes, names in zip(figure.axes, steps.values(), strict=True):
        bars = [to_hex(bar.get_facecolor()) for bar in axes.patches]
        assert len(set(bars)) == len(bars) == len(names)
        widths = [bar.get_width() for bar in axes.patches]
        assert widths == pytest.approx([100] * len(names))
        for step, colour in zip(names, bars, strict=True):
            colours.setdefault(step, set()).add(colour)
    assert all(len(found) == 1 for found in colours.values())


def test_a_backend_without_phases_says_so() -> None:
    records = [made.record(0, "boot", "floor-vm", metrics={"boot_s": 1.0})]
    figure = drawn("boot_phases", records)
    assert len(figure.axes) == 1
    assert "no phases were recorded" in shown(figure)


def test_points_decide_the_limits_and_not_a_wide_band() -> None:
    noise = [5, -5, 4, -4, 3, -3]
    records = [
        made.record(i, "density", "vm", cell={"n": 1 + i % 2}, metrics={
            "pss_bytes": 10.0 * made.MIB, "host_bytes": n * made.MIB})
        for i, n in enumerate(noise)
    ]  # fmt: skip
    (axes,) = drawn("memory_over_n", records).axes
    low, high = axes.get_ylim()
    assert -7 < low < -5
    assert 10 < high < 12


def test_one_level_of_n_shows_points_and_says_that_there_is_no_slope() -> None:
    figure = drawn("memory_over_n", made.density(levels=(4,), backends=["vm"]))
    assert "PSS: one level of N" in shown(figure)


def test_five_backends_make_two_rows_of_panels() -> None:
    names = ["native", "container", "vm", "alpha", "beta"]
    figure = drawn("memory_over_n", made.density(backends=names))
    assert [axes.get_title("left") for axes in figure.axes] == names
    assert len({round(axes.get_position().y0, 3) for axes in figure.axes}) == 2


@pytest.mark.parametrize("kind", ["pdf", "svg"])
def test_it_can_be_printed(kind: str) -> None:
    out = io.BytesIO()
    drawn("boot_times").savefig(out, format=kind)
    assert out.getvalue().startswith(b"%PDF" if kind == "pdf" else b"<?xml")
