"""`lab runs`, `lab show`, `lab report`: look at what was measured."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from lab.paths import results_dir
from lab.store import Results

if TYPE_CHECKING:
    from lab.store import Run

__all__ = ["list_runs", "print_tables", "show_run", "write_report"]


def list_runs(root: Path | None) -> None:
    """One line a run folder."""
    console = Console(highlight=False)
    results = Results(root or results_dir())
    found = results.runs()
    if not found:
        console.print(f"no runs in {results.root}; make one with: lab bench")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("run", "experiment", "host", "trials", "failed", "state"):
        table.add_column(name, overflow="fold")
    for info in found:
        table.add_row(
            info.run_id,
            info.experiment,
            info.host,
            f"{info.done}/{info.planned}",
            str(info.failed),
            info.state,
        )
    console.print(table)
    for info in found:
        if info.problem:
            print(f"lab: warning: {info.problem}", file=sys.stderr)


def show_run(name: str, root: Path | None) -> None:
    """The tables of a run, and where its files are."""
    console = Console(highlight=False)
    found = Results(root or results_dir()).find(name)
    print_tables(console, found)
    for run in found:
        console.print(f"records: {run.path}", soft_wrap=True)


def print_tables(console: Console, runs: Sequence[Run]) -> None:
    """The summary of each experiment, with its notes and warnings."""
    from lab.summary import summarize

    for run in runs:
        for summary in summarize(run.records()):
            table = Table(
                title=summary.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD
            )
            for column in summary.columns:
                table.add_column(column)
            for row in summary.rows:
                table.add_row(*row)
            console.print()
            console.print(table)
            for note in summary.notes:
                console.print(f"  {note}", style="dim")
        for warning in run.warnings:
            print(f"lab: warning: {warning}", file=sys.stderr)


def write_report(name: str, output: Path | None, root: Path | None) -> None:
    """Execute the notebooks, write the page, say where it is."""
    from lab.report import report

    print(report(name, root or results_dir(), output))
