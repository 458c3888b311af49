"""The store: run folders ``<results>/<host>/<experiment>/<run id>/``, made, listed and found.

What is in a run folder is `lab.run`'s. docs/reference/record-format.md tells all.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from lab.errors import RunNotFound, StoreError, UsageError
from lab.mistakes import closest
from lab.paths import results_dir
from lab.record import FORMAT, TrialId
from lab.run import PARQUET, RECORDS, Run, RunWriter

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PARQUET", "RECORDS", "REPORTS", "Results", "Run", "RunInfo", "RunWriter", "load"]

REPORTS = "reports"
"""Not an experiment: where `lab report` writes."""

_HALF_MADE = ".new-"


@dataclass(frozen=True)
class RunInfo:
    """One line of `lab runs`. `state` is ``finished``, ``running``, ``interrupted`` or, with the
    reason in `problem`, ``unreadable``."""

    run_id: str
    experiment: str
    host: str
    planned: int
    done: int
    failed: int
    state: str
    path: Path
    problem: str = ""


class Results:
    """A folder of results. Made when the first run is written."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def create(
        self,
        host: str,
        experiment: str,
        run_id: str,
        *,
        host_facts: dict[str, Any],
        experiment_doc: dict[str, Any],
        plan: Sequence[TrialId],
        seed: int,
    ) -> RunWriter:
        """A new run folder, complete but for its records: it appears under its name at once, or
        not at all. Raises `StoreError` if it exists or cannot be written."""
        final = self.root / _component(host) / _component(experiment) / _component(run_id)
        if final.parent.name == REPORTS:
            raise StoreError(f'no experiment can be called "{REPORTS}": reports are written there')
        files = {
            "host.json": _json({"format": FORMAT} | host_facts | {"format": FORMAT}),
            "experiment.toml": tomli_w.dumps(experiment_doc),
            "plan.json": _json(
                {
                    "format": FORMAT,
                    "seed": seed,
                    "trials": [trial.model_dump(mode="json") for trial in plan],
                }
            ),
            RECORDS: "",
        }
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            with _only_maker_in(final.parent), _half_made(final.parent) as made:
                for name, text in files.items():
                    (made / name).write_text(text, encoding="utf-8")
                made.rename(final)
        except OSError as error:
            why = "it exists already" if final.exists() else error.strerror
            raise StoreError(f"{final}: the run folder cannot be made: {why}") from error
        return RunWriter(Run(final))

    def open_for_resume(self, run: Run) -> RunWriter:
        """Go on writing to an interrupted run. A record cut by a crash is cut off for good.

        Raises `StoreError` for a run that is damaged otherwise, or is running."""
        with contextlib.ExitStack() as stack:
            writer = stack.enter_context(RunWriter(run))
            writer.reopen()
            stack.pop_all()
        return writer

    def all(self) -> list[Run]:
        """Every run folder, newest first (run ids begin with their time)."""
        found = [
            Run(path.parent)
            for path in self.root.glob("*/*/*/plan.json")
            if not path.parent.name.startswith(".")
        ]
        found.sort(key=lambda run: (run.path.parent.parent.name, run.experiment))
        return sorted(found, key=lambda run: run.run_id, reverse=True)

    def runs(self) -> list[RunInfo]:
        """What `lab runs` lists. A run that cannot be read is listed as such."""
        return [_info(run) for run in self.all()]

    def find(self, name: str) -> list[Run]:
        """The runs called that: a run id, a unique beginning of one, a run folder, or ``latest``.

        The experiments of a suite share a run id, hence a list: by host, and in the suite's order.
        Raises `RunNotFound`."""
        if name and (Path(name) / "plan.json").is_file():
            return [Run(Path(name).resolve())]
        every = self.all()
        ids = sorted({run.run_id for run in every})
        matching = ids[-1:] if name == "latest" else [i for i in ids if i == name]
        matching = matching or [i for i in ids if name and i.startswith(name)]
        if len(matching) != 1:
            raise RunNotFound(_not_found(name, self.root, ids, matching))
        runs = [run for run in every if run.run_id == matching[0]]
        order = [e.get("kind") for e in runs[0].experiment_doc.get("experiment", [])]
        return sorted(
            runs,
            key=lambda run: (
                run.path.parent.parent.name,
                order.index(run.experiment) if run.experiment in order else len(order),
            ),
        )

    def find_one(self, experiment: str, name: str) -> Run:
        """The one run folder of an experiment. Raises `RunNotFound` if there is none, or the run
        has one on each of several hosts: what hosts measured is not pooled."""
        found = self.find(name)
        chosen = [run for run in found if run.experiment == experiment]
        if not chosen:
            have = ", ".join(dict.fromkeys(run.experiment for run in found))
            raise RunNotFound(
                f'run {found[0].run_id} has no experiment "{experiment}"; it has: {have}'
            )
        if len(chosen) > 1:
            folders = ", ".join(str(run.path) for run in chosen)
            raise RunNotFound(
                f"run {found[0].run_id} was made on {len(chosen)} hosts; name one folder: {folders}"
            )
        return chosen[0]


@contextlib.contextmanager
def _only_maker_in(parent: Path) -> Iterator[None]:
    """Run folders are made one after the other, so a half-made one that is found by the next maker
    is one that a crash left: it is removed."""
    folder = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # A file system without locks: what is left stays.
            fcntl.flock(folder, fcntl.LOCK_EX)
            for left in parent.glob(f"{_HALF_MADE}*"):
                shutil.rmtree(left)
        yield
    finally:
        os.close(folder)


@contextlib.contextmanager
def _half_made(parent: Path) -> Iterator[Path]:
    """A folder under a hidden name, gone at the end unless it was renamed."""
    made = Path(tempfile.mkdtemp(prefix=_HALF_MADE, dir=parent))
    try:
        made.chmod(0o755)
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _not_found(name: str, root: Path, ids: list[str], matching: list[str]) -> str:
    if not ids:
        return f'no run "{name}": there are no runs in {root}; make one with: lab bench'
    if len(matching) > 1:
        return f'"{name}" is the beginning of {len(matching)} runs: {", ".join(matching[-5:])}'
    return f'no run "{name}" in {root}; the newest are: {", ".join(reversed(ids[-5:]))}'


def _info(run: Run) -> RunInfo:
    host, planned, statuses, problem = run.path.parent.parent.name, 0, list[str](), ""
    try:
        host, planned, statuses = run.host, len(run.plan), run.statuses()
    except StoreError as error:
        problem = str(error)
    failed = statuses.count("failed")
    return RunInfo(
        run_id=run.run_id,
        experiment=run.experiment,
        host=host,
        planned=planned,
        done=len(statuses) - failed,
        failed=failed,
        state="unreadable" if problem else run.state,
        path=run.path,
        problem=problem,
    )


def _component(name: str) -> str:
    """A name that is one path component and not hidden."""
    cleaned = re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".")
    if not cleaned:
        raise StoreError(f"{name!r} cannot name a folder")
    return cleaned


def _json(document: Any) -> str:
    return json.dumps(document, indent=1) + "\n"


def load(
    experiment: str,
    run: str = "latest",
    *,
    results: str | Path | None = None,
    **where: object,
) -> pd.DataFrame:
    """The trials of one experiment of a run as a tidy DataFrame, one row a trial.

    Any column can select, by a value or by a list of them, and a factor, phase or metric without
    its prefix too::

        lab.load("density", backend=["container", "vm"], n=[1, 8], warmup=False, status="ok")
        lab.load("boot", "20261124T", accelerator="kvm")

    Raises `RunNotFound`, and `UsageError` for a column that is not there; warns of a record that a
    crash cut."""
    chosen = Results(Path(results) if results else results_dir()).find_one(experiment, run)
    for warning in chosen.warnings:
        warnings.warn(warning, stacklevel=2)
    frame = chosen.frame()
    for name, wanted in where.items():
        column = _column(frame, name)
        values = wanted if isinstance(wanted, list | tuple | set | range) else [wanted]
        frame = frame[frame[column].isin(list(values))]
    return frame


def _column(frame: pd.DataFrame, name: str) -> str:
    known = list(frame.columns)
    for candidate in (name, *(f"{kind}.{name}" for kind in ("factor", "phase", "metric", "level"))):
        if candidate in known:
            return candidate
    raise UsageError(f'there is no column "{name}"; {closest(name, known)}')
