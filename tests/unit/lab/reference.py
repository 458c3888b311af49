"""Read docs/reference/record-format.md. For tests only."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
DOC = (ROOT / "docs/reference/record-format.md").read_text()

Rows = dict[str, list[str]]


def section(heading: str) -> str:
    found = re.search(rf"^(#+) {re.escape(heading)}$(.*?)(?=^#+ |\Z)", DOC, re.M | re.S)
    assert found is not None, heading
    return found[2]


def rows(heading: str) -> Rows:
    """First column, a key in backticks → the other cells."""
    found: Rows = {}
    for line in section(heading).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and (key := re.fullmatch(r"`(.+)`", cells[0])):
            assert key[1] not in found, f"{key[1]} stands twice"
            found[key[1]] = cells[1:]
    return found


def plain(text: str) -> str:
    return re.sub(r"[`*]|\[(.*?)\]\(.*?\)", r"\1", text)
