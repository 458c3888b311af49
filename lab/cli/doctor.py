"""`lab doctor`."""

from __future__ import annotations

import json

import typer
from rich.console import Console

from lab.doctor import Diagnosis, examine
from lab.doctor.render import render
from lab.paths import cache_dir

__all__ = ["run_doctor"]


def run_doctor(*, as_json: bool, fresh: bool) -> None:
    """Examine the host and say what came out; exit 1 if `lab bench` cannot run."""
    diagnosis = _examine(fresh)
    if as_json:
        print(json.dumps(diagnosis.to_json(), indent=2))
    else:
        Console(highlight=False).print(render(diagnosis))
    raise typer.Exit(0 if diagnosis.can_bench else 1)


def _examine(fresh: bool) -> Diagnosis:
    """On a terminal, with a line that says what is being tried. No thread draws it: probes fork."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        return examine(cache_dir(), fresh=fresh)

    def show(name: str, done: int, total: int) -> None:
        console.file.write(f"\r\x1b[K{done}/{total} trying {name} …")
        console.file.flush()

    try:
        return examine(cache_dir(), fresh=fresh, progress=show)
    finally:
        console.file.write("\r\x1b[K")
        console.file.flush()
