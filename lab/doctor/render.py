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

__all__ = ["Rendered", "render"]

_STYLES: dict[Status, tuple[str, str, str]] = {
    "ok": ("✓", "+", "green"),
    "limited": ("!", "!", "yellow"),
    "missing": ("✗", "x", "red"),
}
"""Symbol, the same in ASCII, colour."""

_STATUS_WIDTH = 9
_LEAST_TRIED = 16
"""Columns below which a cut text tells nothing."""


class Rendered:
    """What `render` returns."""

    def __init__(self, diagnosis: Diagnosis) -> None:
        self._diagnosis = diagnosis

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        findings = self._diagnosis.findings
        # One width of names for all groups, so that their columns stand below each other.
        names = max((len(one.name) for one in findings), default=0)
        names = min(names, options.max_width // 3)
        for group, members in groupby(findings, key=lambda one: one.group):
            yield Text(group, style="bold")
            yield _table(members, names, options)
        yield Text()
        yield _verdict(self._diagnosis)


def render(diagnosis: Diagnosis) -> Rendered:
    """Something for `rich.console.Console.print`."""
    return Rendered(diagnosis)


def _table(findings: Iterable[Finding], names: int, options: ConsoleOptions) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True, width=_STATUS_WIDTH)
    table.add_column(width=names, overflow="fold")
    table.add_column(overflow="fold")
    room = options.max_width - _STATUS_WIDTH - names - 3
    for finding in findings:
        symbol, plain, colour = _STYLES[finding.status]
        status = Text(f"{plain if options.ascii_only else symbol} {finding.status}", style=colour)
        told = _well(finding, room) if finding.status == "ok" else _ill(finding)
        table.add_row(status, Text(finding.name), told)
    return table


def _well(finding: Finding, room: int) -> Text:
    """What came back, and what was tried as far as it has a place on the same line."""
    text = Text(finding.found)
    left = room - text.cell_len - 3
    if left >= min(_LEAST_TRIED, len(finding.tried)):
        tried = Text(f" | {finding.tried}", style="dim")
        tried.truncate(left + 3, overflow="crop")
        text.append_text(tried)
    return text


def _ill(finding: Finding) -> Text:
    """What came back, what was tried, what to do."""
    text = Text(finding.found)
    text.append(f"\ntried: {finding.tried}", style="dim")
    if finding.advice:
        text.append("\ndo: ", style="bold").append(finding.advice)
    return text


def _verdict(diagnosis: Diagnosis) -> Text:
    if diagnosis.can_bench:
        return Text("lab bench can run here.", style="bold green")
    names = ", ".join(finding.name for finding in diagnosis.blocking)
    first = diagnosis.blocking[0]
    return Text.assemble(
        (f"lab bench cannot run here, because of: {names}.", "bold red"),
        f"\nBegin with {first.name}: {first.advice}",
    )
