"""`lab runs`, `lab show`, `lab report`: look at what was measured."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lab.paths import results_dir
from lab.store import Results

if TYPE_CHECKING:
    from lab.store import Run

__all__ = ["list_runs", "print_tables", "show_run", "write_report"]


def list_runs(root: Path | None) -> None:
    """One line a run folder."""
    console = Console(highlight=False, markup=False)
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


def show_run(name: str, root: Path | None, *, as_json: bool = False) -> None:
    """The tables of a run, and where its files are; or all of it for programs."""
    found = Results(root or results_dir()).find(name)
    if as_json:
        from lab.summary import document

        print(json.dumps(document(found), indent=1))
        return
    console = Console(highlight=False, markup=False)
    print_tables(console, found)
    for run in found:
        console.print(f"records: {run.path} ({run.state})", soft_wrap=True)
    if any(run.state == "interrupted" for run in found):
        console.print(f"go on with: lab bench --resume {found[0].run_id}", soft_wrap=True)


def print_tables(console: Console, runs: Sequence[Run]) -> None:
    """The summary of each experiment, with its notes."""
    from lab.summary import summarize_run

    several = len({run.host for run in runs}) > 1
    for run in runs:
        if several:
            console.print(f"\non {run.host}", style="bold underline")
        for summary in summarize_run(run):
            console.print(f"\n{summary.title}", style="bold")
            if summary.rows:
                table = Table(box=box.SIMPLE_HEAD)
                for column in summary.columns:
                    table.add_column(column)
                for row in summary.rows:
                    table.add_row(*(Text(cell) for cell in row))
                console.print(table)
            for note in summary.notes:
                console.print(Padding(Text(note), (0, 0, 0, 2)), style="dim")


def write_report(name: str, output: Path | None, root: Path | None) -> None:
    """Execute the notebooks, write the page, say where it is."""
    from lab.report import report

    with Console(stderr=True).status("executing the notebooks"):
        page = report(name, root or results_dir(), output)
    print(page)
