"""The store: run folders ``<results>/<host>/<experiment>/<run id>/``.

A run folder holds `host.json` (facts), `experiment.toml` (the suite as it was run, with its seed:
`lab bench` takes it again), `plan.json`, `records.jsonl` (one record a line, appended and flushed
as it is made) and, when the run is finished, `records.parquet`. docs/reference/record-format.md
tells all.

A crash of the lab loses nothing that was appended; a crash of the host may lose the last seconds,
for fsync(2) after each trial would disturb what the next one measures.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import tomllib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import tomli_w
from pydantic import ValidationError

from lab.errors import FormatTooNew, RunNotFound, StoreError
from lab.paths import results_dir
from lab.record import FORMAT, Record, TrialId

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DamagedRecord", "Results", "Run", "RunInfo", "RunWriter", "load"]

RECORDS = "records.jsonl"
PARQUET = "records.parquet"
REPORTS = "reports"
"""Not an experiment: where `lab report` writes."""


class DamagedRecord(UserWarning):
    """A record was left out because a crash cut it."""


@dataclass(frozen=True)
class RunInfo:
    """One line of `lab runs`."""

    run_id: str
    experiment: str
    host: str
    started: str
    planned: int
    done: int
    failed: int
    finished: bool
    path: Path


@dataclass
class Run:
    """One run folder, read."""

    path: Path
    warnings: list[str] = field(default_factory=list)

    @property
    def run_id(self) -> str:
        """The run's id; experiments of one suite share it."""
        return self.path.name

    @property
    def experiment(self) -> str:
        """Kind of the experiment."""
        return self.path.parent.name

    @property
    def host(self) -> str:
        """Name of the host it was measured on."""
        return self.path.parent.parent.name

    @property
    def finished(self) -> bool:
        """Whether it came to its end."""
        return (self.path / PARQUET).exists()

    @property
    def host_facts(self) -> dict[str, Any]:
        """`host.json`."""
        facts: dict[str, Any] = self._json("host.json")
        return facts

    @property
    def experiment_doc(self) -> dict[str, Any]:
        """`experiment.toml`."""
        try:
            return tomllib.loads((self.path / "experiment.toml").read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise StoreError(f"{self.path}/experiment.toml: cannot be read: {error}") from error

    @property
    def plan(self) -> list[TrialId]:
        """`plan.json`: every trial, in order."""
        document = self._json("plan.json")
        _check_format(document, self.path)
        return [TrialId.model_validate(trial) for trial in document["trials"]]

    def records(self) -> list[Record]:
        """All records in plan order; of a trial that was run again after an interruption, the last.

        Raises `StoreError` naming file and line for a record that cannot be read, unless it is the
        last and was cut by a crash: that one is left out and named in `warnings`."""
        by_index: dict[int, Record] = {}
        for record in self._lines():
            by_index[record.trial.index] = record
        return [by_index[index] for index in sorted(by_index)]

    def frame(self) -> pd.DataFrame:
        """Tidy table: one row a trial. Columns as `flatten` names them."""
        import pandas as pd

        return pd.DataFrame([flatten(record, self.host) for record in self.records()])

    def _lines(self) -> Iterator[Record]:
        self.warnings.clear()
        text = (self.path / RECORDS).read_bytes()
        *lines, rest = text.split(b"\n")
        if rest:
            self._warn(f"{self.path / RECORDS}: the last record was cut by a crash and left out")
        for number, line in enumerate(lines, 1):
            where = f"{self.path / RECORDS}, line {number}"
            try:
                document = json.loads(line)
            except ValueError as error:
                raise StoreError(f"{where}: not a JSON object: {error}") from error
            _check_format(document, self.path)
            try:
                yield Record.model_validate(document)
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                key = ".".join(map(str, first["loc"]))
                raise StoreError(f"{where}: {key}: {first['msg']}") from error

    def _warn(self, message: str) -> None:
        self.warnings.append(message)
        warnings.warn(message, DamagedRecord, stacklevel=4)

    def _json(self, name: str) -> Any:
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.path / name}: cannot be read: {error}") from error


def _check_format(document: Any, path: Path) -> None:
    made = document.get("format") if isinstance(document, dict) else None
    if not isinstance(made, int):
        raise StoreError(f"{path}: a document in it names no format version")
    if made > FORMAT:
        raise FormatTooNew(
            f"{path}: written in format {made}, and this lab reads up to {FORMAT}: use a newer lab"
        )


def flatten(record: Record, host: str) -> dict[str, Any]:
    """One record as one flat row: trial and workload keys, `factor.*`, `phase.*`, `metric.*`."""
    trial = record.trial
    row: dict[str, Any] = {
        "run": record.run,
        "host": host,
        "experiment": trial.experiment,
        "backend": trial.backend,
        "index": trial.index,
        "repeat": trial.repeat,
        "warmup": trial.warmup,
        "status": record.status,
        "cause": record.cause,
        "started_at": record.started_at,
        "t0_ns": record.t0_ns,
        "duration_s": record.duration_s,
        **trial.factors,
    }
    if record.workload is not None:
        work = record.workload.model_dump()
        row |= {key: work[key] for key in ("image", "image_digest", "cpus", "memory_bytes")}
    row |= {f"factor.{key}": value for key, value in record.factors.items()}
    row |= {f"phase.{key}": value for key, value in record.phases.items()}
    row |= {f"metric.{key}": value for key, value in record.metrics.items()}
    return row


class RunWriter:
    """Appends records to one run folder."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._file: IO[bytes] = (run.path / RECORDS).open("ab")

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def done(self) -> set[int]:
        """Indices of trials that need not be run again: those recorded as ok."""
        return {r.trial.index for r in self.run.records() if r.status == "ok"}

    def append(self, record: Record) -> None:
        """One line, in one write(2), handed to the kernel before this returns."""
        self._file.write(record.model_dump_json().encode() + b"\n")
        self._file.flush()

    def finish(self) -> None:
        """Write the Parquet copy: the run is complete."""
        path = self.run.path / PARQUET
        temporary = path.with_suffix(".tmp")
        self.run.frame().to_parquet(temporary, index=False)
        temporary.rename(path)


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
        final = self.root / _safe(host) / _safe(experiment) / _safe(run_id)
        trials = [trial.model_dump(mode="json") for trial in plan]
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(prefix=".new-", dir=final.parent))
            made.chmod(0o755)
            _write_json(made / "host.json", {"format": FORMAT, **host_facts})
            (made / "experiment.toml").write_text(tomli_w.dumps(experiment_doc), encoding="utf-8")
            _write_json(made / "plan.json", {"format": FORMAT, "seed": seed, "trials": trials})
            (made / RECORDS).touch()
            made.rename(final)
        except OSError as error:
            raise StoreError(f"{final}: the run folder cannot be made: {error.strerror}") from error
        return RunWriter(Run(final))

    def open_for_resume(self, run: Run) -> RunWriter:
        """Go on writing to an interrupted run. A record cut by a crash is cut off for good."""
        path = run.path / RECORDS
        text = path.read_bytes()
        if not text.endswith(b"\n"):
            os.truncate(path, text.rfind(b"\n") + 1)
        (run.path / PARQUET).unlink(missing_ok=True)
        return RunWriter(run)

    def all(self) -> list[Run]:
        """Every run folder, newest first (run ids begin with their time)."""
        found = [
            Run(path.parent)
            for path in self.root.glob("*/*/*/plan.json")
            if not path.parent.name.startswith(".")
        ]
        return sorted(found, key=lambda run: (run.run_id, run.experiment), reverse=True)

    def runs(self) -> list[RunInfo]:
        """What `lab runs` lists."""
        return [_info(run) for run in self.all()]

    def find(self, name: str) -> list[Run]:
        """The runs called that: a run id, a unique beginning of one, a run folder, or ``latest``.

        The experiments of a suite share a run id, hence a list, in the suite's order. Raises
        `RunNotFound`."""
        if (Path(name) / "plan.json").is_file():
            return [Run(Path(name).resolve())]
        every = self.all()
        ids = sorted({run.run_id for run in every})
        matching = ids[-1:] if name == "latest" else [i for i in ids if i == name]
        matching = matching or [i for i in ids if i.startswith(name)]
        if len(matching) != 1 or not name:
            raise RunNotFound(_not_found(name, self.root, ids, matching))
        runs = [run for run in every if run.run_id == matching[0]]
        order = [e.get("kind") for e in runs[0].experiment_doc.get("experiment", [])]
        return sorted(
            runs, key=lambda r: order.index(r.experiment) if r.experiment in order else 99
        )

    def clean(self) -> list[Path]:
        """Remove folders that a crash left half-made; those are named with a leading dot."""
        left = [p for p in self.root.glob("*/*/.new-*") if p.is_dir()]
        for path in left:
            shutil.rmtree(path)
        return left


def _not_found(name: str, root: Path, ids: list[str], matching: list[str]) -> str:
    if not ids:
        return f'no run "{name}": there are no runs in {root}; make one with: lab bench'
    if len(matching) > 1:
        return f'"{name}" is the beginning of {len(matching)} runs: {", ".join(matching[-5:])}'
    return f'no run "{name}" in {root}; the newest are: {", ".join(reversed(ids[-5:]))}'


def _info(run: Run) -> RunInfo:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamagedRecord)
        records = run.records()
    return RunInfo(
        run_id=run.run_id,
        experiment=run.experiment,
        host=run.host,
        started=records[0].started_at[:19] if records else "",
        planned=len(run.plan),
        done=sum(r.status != "failed" for r in records),
        failed=sum(r.status == "failed" for r in records),
        finished=run.finished,
        path=run.path,
    )


def _safe(part: str) -> str:
    """A name that is one path component and not hidden."""
    cleaned = re.sub(r"[^A-Za-z0-9._-]", "_", part).lstrip(".")
    if not cleaned:
        raise StoreError(f"{part!r} cannot name a folder")
    return cleaned


def _write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def load(
    experiment: str,
    run: str = "latest",
    *,
    backend: str | Sequence[str] | None = None,
    results: str | Path | None = None,
) -> pd.DataFrame:
    """The trials of one experiment of a run as a tidy DataFrame, one row a trial.

    `backend` keeps only those named. Raises `RunNotFound`."""
    found = Results(Path(results) if results else results_dir()).find(run)
    chosen = [r for r in found if r.experiment == experiment]
    if not chosen:
        have = ", ".join(r.experiment for r in found)
        raise RunNotFound(f'run {found[0].run_id} has no experiment "{experiment}"; it has: {have}')
    frame = chosen[0].frame()
    if backend is None:
        return frame
    names = [backend] if isinstance(backend, str) else list(backend)
    return frame[frame["backend"].isin(names)]
