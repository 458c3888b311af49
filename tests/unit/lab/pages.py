"""Look at pages and executed notebooks. For tests only."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any


class Page(HTMLParser):
    """What a page holds: its tags, and its words without styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._hidden = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._hidden = tag in {"style", "script"}

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def assert_self_contained(text: str) -> None:
    """Nothing that a browser would load stands outside the page."""
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "embed", "video"} & {t for t, _ in page.tags}
    for _, attributes in page.tags:
        for name in ("src", "srcset", "data", "background", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith("data:image/"), value[:80]
    assert not re.search(r"url\(|@import", text)


def outputs(path: Path) -> list[dict[str, Any]]:
    cells = json.loads(path.read_text())["cells"]
    return [output for cell in cells for output in cell.get("outputs", [])]
