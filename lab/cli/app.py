"""The commands and their options. What they do is in the modules beside this one; the reference is
docs/reference/cli.md, and a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(
    help="Run the same work in a container and in a virtual machine, and measure what each costs.",
    epilog="\b\nExamples:\n"
    "  lab doctor                 what this host can do\n"
    "  lab bench                  a few minutes; tables, records, notebooks and a report\n"
    "  lab bench boot --trials 30 --backends container,vm --seed 7\n"
    "  lab --install-completion   so that Tab completes",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its imports would take longer than all the rest of `lab --help`
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _completed(complete: str, *arguments: str) -> Callable[[str], list[str]]:
    """A function of `lab.cli.complete`, imported when the shell asks."""

    def answer(incomplete: str) -> list[str]:
        from lab.cli import complete as functions

        given = (incomplete,) if complete == "backends" else arguments
        found = getattr(functions, complete)(*given)
        return [word for word in found if word.startswith(incomplete)]

    return answer


ResultsOption = Annotated[
    Path | None,
    typer.Option("--results", help="Folder of results. Default: $LAB_RESULTS, else ./results."),
]
RunArgument = Annotated[
    str,
    typer.Argument(
        help="Run id, a unique beginning of one, a run folder, or latest.",
        metavar="RUN",
        autocompletion=_completed("runs"),
    ),
]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from lab import __version__

        print(__version__)
        raise typer.Exit


@app.command(
    short_help="Measure, and print the comparison.",
    epilog="Example: lab bench boot --trials 30 --backends container,vm --seed 7",
)
def bench(
    what: Annotated[
        str | None,
        typer.Argument(
            help="A suite (quick, figures, start, scale), an experiment (boot, density, disk, "
            "start, run, scale) or a TOML file. Default: quick.",
            metavar="WHAT",
            autocompletion=_completed("whats"),
        ),
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Repeats of each cell.")] = None,
    backends: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated names, such as container,vm.",
            autocompletion=_completed("backends"),
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the order of trials.")] = None,
    image: Annotated[
        str | None,
        typer.Option(help="Image name, such as busybox.", autocompletion=_completed("images")),
    ] = None,
    machine: Annotated[
        str | None,
        typer.Option(
            help="QEMU machine: microvm or q35.",
            autocompletion=_completed("option_values", "machine"),
        ),
    ] = None,
    accel: Annotated[
        str | None,
        typer.Option(
            help="Accelerator: auto, kvm or tcg.",
            autocompletion=_completed("option_values", "accel"),
        ),
    ] = None,
    results: ResultsOption = None,
    resume: Annotated[
        str | None,
        typer.Option(
            help="Go on with this interrupted run.",
            metavar="RUN",
            autocompletion=_completed("runs"),
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and do nothing.")
    ] = False,
    report: Annotated[bool, typer.Option(help="Write the notebooks and the HTML report.")] = True,
    alongside: Annotated[
        bool,
        typer.Option(
            "--alongside", help="Do not wait for another run that measures on this host now."
        ),
    ] = False,
) -> None:
    """Measure: run a suite of experiments on all backends and print the comparison."""
    from lab.cli.bench import run_bench
    from lab.cli.overrides import Overrides

    run_bench(
        what,
        Overrides(trials, backends, seed, image, machine, accel),
        results,
        resume=resume,
        dry_run=dry_run,
        report=report,
        alongside=alongside,
    )


@app.command(
    short_help="Try what this host can do.",
    epilog="Example: lab doctor --json | jq .can_bench",
)
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Ask again, ignore cached verdicts.")
    ] = False,
) -> None:
    """Try what this host can do. Exit status 0 if `lab bench` can run."""
    from lab.cli.doctor import run_doctor

    run_doctor(as_json=as_json, fresh=fresh)


@app.command(
    short_help="List what was measured.",
    epilog="Example: lab runs --results /srv/results",
)
def runs(results: ResultsOption = None) -> None:
    """List the runs in the results folder, newest first."""
    from lab.cli.runs import list_runs

    list_runs(results)


@app.command(
    short_help="Print the tables of a run.",
    epilog="Example: lab show latest --json | jq '.experiments[0].tables[0].rows'",
)
def show(
    run: RunArgument = "latest",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    results: ResultsOption = None,
) -> None:
    """Print the tables of a run."""
    from lab.cli.runs import show_run

    show_run(run, results, as_json=as_json)


@app.command(
    short_help="Write a run's notebooks and its HTML page.",
    epilog="Example: lab report latest --output report.html",
)
def report(
    run: RunArgument = "latest",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write the HTML page.")
    ] = None,
    results: ResultsOption = None,
) -> None:
    """Execute the notebooks of a run and write one self-contained HTML page."""
    from lab.cli.runs import write_report

    write_report(run, output, results)


@app.command(
    short_help="Remove what killed runs left.",
    epilog="Example: lab gc --dry-run",
)
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Remove what killed runs left: processes, mounts, cgroups, sockets, overlays."""
    from lab.cli.gc import run_gc

    run_gc(dry_run=dry_run)
