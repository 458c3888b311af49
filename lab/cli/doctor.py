"""`lab doctor`."""

from __future__ import annotations

import json

import typer
from rich.console import Console

from lab.doctor import examine
from lab.doctor.render import render
from lab.paths import cache_dir

__all__ = ["run_doctor"]


def run_doctor(*, as_json: bool, fresh: bool) -> None:
    """Examine the host and say what came out; exit 1 if `lab bench` cannot run."""
    diagnosis = examine(cache_dir(), fresh=fresh)
    if as_json:
        print(json.dumps(diagnosis.to_json(), indent=2))
    else:
        Console(highlight=False).print(render(diagnosis))
    raise typer.Exit(0 if diagnosis.can_bench else 1)
