"""One run folder: what was to be measured, and every record of it.

It holds `host.json` (facts), `experiment.toml` (the suite as it was run, with its seed: `lab bench`
takes it again), `plan.json`, `records.jsonl` (one record a line, appended and flushed as it is
made) and, when the run is finished, `records.parquet`. docs/reference/record-format.md tells all.

A crash of the lab loses nothing that was appended; a crash of the host may lose the last seconds,
for fsync(2) after each trial would disturb what the next one measures.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from lab.errors import FormatTooNew, StoreError
from lab.frame import to_frame
from lab.record import FORMAT, Record, TrialId

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PARQUET", "RECORDS", "Run", "RunWriter", "State"]

RECORDS = "records.jsonl"
PARQUET = "records.parquet"

State = Literal["finished", "running", "interrupted"]

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Run:
    """One run folder, to be read. Nothing is kept in memory: each call reads what is there now."""

    path: Path

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
        """Name of the host it was measured on, as the host says it (the folder's may differ)."""
        return str(self.host_facts.get("hostname", self.path.parent.parent.name))

    @property
    def state(self) -> State:
        """``running`` while a `RunWriter` has it open."""
        if self._is_open():
            return "running"
        return "finished" if (self.path / PARQUET).exists() else "interrupted"

    @property
    def host_facts(self) -> dict[str, Any]:
        """`host.json`."""
        return self._json("host.json")

    @property
    def experiment_doc(self) -> dict[str, Any]:
        """`experiment.toml`."""
        try:
            return tomllib.loads((self.path / "experiment.toml").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.path}/experiment.toml: cannot be read: {error}") from error

    @property
    def plan(self) -> list[TrialId]:
        """`plan.json`: every trial, in order."""
        path = self.path / "plan.json"
        document = self._json(path.name)
        _check_format(document, str(path))
        trials = document.get("trials")
        if not isinstance(trials, list):
            raise StoreError(f"{path}: has no list of trials")
        return [_valid(TrialId, one, f"{path}, trial {n}") for n, one in enumerate(trials)]

    @property
    def warnings(self) -> list[str]:
        """What `records` leaves out: the last line, if it does not end."""
        if self._bytes().endswith(b"\n") or not self._bytes():
            return []
        why = "it is being written now" if self.state == "running" else "a crash cut it"
        return [f"{self.path / RECORDS}: the last record was left out: {why}"]

    def records(self) -> list[Record]:
        """All records in plan order; of a trial that was run again after an interruption, the last.

        Raises `StoreError` naming file and line for a record that cannot be read, unless it is the
        last and was cut by a crash: `warnings` has that one."""
        by_index: dict[int, Record] = {}
        for where, document in self._documents():
            record = _valid(Record, document, where)
            by_index[record.trial.index] = record
        return [by_index[index] for index in sorted(by_index)]

    def statuses(self) -> list[str]:
        """The status of each trial that has a record: what a list of runs needs, read fast."""
        by_index: dict[int, str] = {}
        for where, document in self._documents():
            try:
                by_index[document["trial"]["index"]] = document["status"]
            except (KeyError, TypeError) as error:
                raise StoreError(f"{where}: names no trial or no status") from error
        return list(by_index.values())

    def frame(self) -> pd.DataFrame:
        """Tidy table: one row a trial. Columns as in `lab.frame`."""
        return to_frame(self.records(), self.host)

    def _documents(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each whole line, and where it stands."""
        for number, line in enumerate(self._bytes().split(b"\n")[:-1], 1):
            where = f"{self.path / RECORDS}, line {number}"
            try:
                document = json.loads(line)
            except ValueError as error:
                raise StoreError(f"{where}: not a JSON object: {error}") from error
            _check_format(document, where)
            yield where, document

    def _bytes(self) -> bytes:
        try:
            return (self.path / RECORDS).read_bytes()
        except OSError as error:
            raise StoreError(f"{self.path / RECORDS}: cannot be read: {error.strerror}") from error

    def _json(self, name: str) -> dict[str, Any]:
        try:
            document = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.path / name}: cannot be read: {error}") from error
        if not isinstance(document, dict):
            raise StoreError(f"{self.path / name}: not a JSON object")
        return document

    def _is_open(self) -> bool:
        with contextlib.suppress(OSError), (self.path / RECORDS).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False


def _valid(model: type[Model], document: Any, where: str) -> Model:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise StoreError(f"{where}: {key}: {first['msg']}") from error


def _check_format(document: Any, where: str) -> None:
    made = document.get("format") if isinstance(document, dict) else None
    if not isinstance(made, int):
        raise StoreError(f"{where}: names no format version")
    if made > FORMAT:
        raise FormatTooNew(
            f"{where}: written in format {made}, and this lab reads up to {FORMAT}: use a newer lab"
        )


class RunWriter:
    """Appends records to one run folder; one at a time may have it open.

    Raises `StoreError` if another process writes it now, or it cannot be opened."""

    def __init__(self, run: Run) -> None:
        self.run = run
        path = run.path / RECORDS
        try:
            # Unbuffered: what `append` was given is the kernel's when it returns.
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise StoreError(f"{path}: cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise StoreError(f"{path}: another process is writing this run now") from error
        except OSError:
            pass  # A file system without locks (some NFS): one writer is the user's care there.

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def done(self) -> set[int]:
        """Indices of trials that need not be run again: those recorded as ok."""
        return {r.trial.index for r in self.run.records() if r.status == "ok"}

    def append(self, record: Record) -> None:
        """One line, handed to the kernel before this returns. Raises `StoreError` (a full disk),
        and then no part of the line stays."""
        line = memoryview(record.model_dump_json().encode() + b"\n")
        end = os.fstat(self._file.fileno()).st_size
        with self._advised("a record"):
            try:
                while line:
                    line = line[self._file.write(line) :]
            except OSError:
                self._file.truncate(end)
                raise

    def finish(self) -> None:
        """Write the Parquet copy: the run is complete. Raises `StoreError`."""
        path = self.run.path / PARQUET
        temporary = path.with_suffix(".tmp")
        with self._advised(PARQUET):
            self.run.frame().to_parquet(temporary, index=False)
            temporary.rename(path)

    @contextlib.contextmanager
    def _advised(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"{self.run.path}: {what} cannot be written: {error.strerror or error}; what was "
                "measured before is kept. Mend that, then go on with: "
                f"lab bench --resume {self.run.run_id}"
            ) from error

    def reopen(self) -> None:
        """Make an interrupted run fit to go on: a record that a crash cut is cut off for good, and
        the run is not finished. Raises `StoreError` for one that is damaged otherwise."""
        self.run.records()
        text = (self.run.path / RECORDS).read_bytes()
        self._file.truncate(text.rfind(b"\n") + 1)
        (self.run.path / PARQUET).unlink(missing_ok=True)
