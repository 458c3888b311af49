"""The diagnosis for people: a line a finding, and what to do below those that need it.

Status is told by symbol, word and colour, so that none of them is needed to read it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from lab.doctor.finding import Diagnosis, Finding, Status

__all__ = ["render"]

_STYLES: dict[Status, tuple[str, str, str]] = {
    "ok": ("✓", "+", "green"),
    "limited": ("!", "!", "yellow"),
    "missing": ("✗", "x", "red"),
}
"""Symbol, the same in ASCII, colour."""

_WIDE = 110
"""Columns from which what was tried has a column of its own."""


class _Rendered:
    def __init__(self, diagnosis: Diagnosis) -> None:
        self._diagnosis = diagnosis

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        findings = self._diagnosis.findings
        wide = options.max_width >= _WIDE
        # One width of names for all groups, so that their columns stand below each other.
        width = max((len(one.name) for one in findings), default=0)
        width = min(width, options.max_width // 3)
        for group, members in groupby(findings, key=lambda one: one.group):
            yield Text(group, style="bold")
            yield _table(members, width, wide=wide, ascii_only=options.ascii_only)
        yield Text()
        yield _verdict(self._diagnosis)


def render(diagnosis: Diagnosis) -> _Rendered:
    """Something for `rich.console.Console.print`."""
    return _Rendered(diagnosis)


def _table(findings: Iterable[Finding], width: int, *, wide: bool, ascii_only: bool) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True, min_width=9)
    table.add_column(min_width=width, max_width=width, overflow="fold")
    if wide:
        table.add_column(ratio=2, overflow="fold", style="dim")
    table.add_column(ratio=3, overflow="fold")
    table.expand = True
    for finding in findings:
        symbol, plain, colour = _STYLES[finding.status]
        status = Text(f"{plain if ascii_only else symbol} {finding.status}", style=colour)
        cells = [status, Text(finding.name)]
        if wide:
            cells.append(Text(finding.tried))
        table.add_row(*cells, _told(finding, wide=wide))
    return table


def _told(finding: Finding, *, wide: bool) -> Text:
    """What came back; and if that is not all well, what was tried and what to do."""
    text = Text(finding.found)
    if finding.status == "ok":
        return text
    if not wide:
        text.append(f"\ntried: {finding.tried}", style="dim")
    if finding.advice:
        text.append("\ndo: ", style="bold").append(finding.advice)
    return text


def _verdict(diagnosis: Diagnosis) -> Text:
    if diagnosis.can_bench:
        return Text("lab bench can run here.", style="bold green")
    names = ", ".join(finding.name for finding in diagnosis.blocking)
    return Text(f"lab bench cannot run here, because of: {names}.", style="bold red")
