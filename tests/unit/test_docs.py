"""The documents: every relative link leads somewhere, and what stands in two is the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "results/README.md", "ansible/**/*.md")
    for path in ROOT.glob(pattern)
)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    broken = [
        target
        for target in LINK.findall(path.read_text())
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert not broken


def flow(path: Path) -> list[tuple[str, Path]]:
    """The words of the way of one trial, each with the file that it leads to."""
    text = path.read_text().partition("<!-- flow")[2].partition("\n\n")[0]
    return [
        (word, (path.parent / target).resolve())
        for word, target in re.findall(r"\[([^]]+)\]\(([^)]+)\)", text)
    ]


def test_the_way_of_one_trial_is_the_same_in_both_places() -> None:
    ours = flow(ROOT / "README.md")
    assert [word for word, _ in ours] == [
        "experiment",
        "plan",
        "backend.prepare",
        "backend.launch",
        "ready event",
        "workload",
        "sampler",
        "stop",
        "record",
        "store",
        "statistics",
        "notebook",
        "report",
    ]
    assert ours == flow(ROOT / "docs" / "architecture.md")
