"""The experiment file: what to measure, on which backends, how often.

A suite is a TOML file with one or more ``[[experiment]]`` tables; docs/reference/experiment-file.md
describes every key. Everything is checked before anything is created, and a mistake becomes one
`ExperimentError` that names the key and the choices.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from lab.backends.base import Limits
from lab.errors import ExperimentError
from lab.mistakes import sentence
from lab.units import parse_seconds, parse_size

__all__ = ["ExperimentSpec", "LimitsSpec", "Suite", "builtin_suites", "load_suite", "parse_suite"]


def _name(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", value):
        raise ValueError("must be at most 64 letters, digits, - and _")
    return value


Name = Annotated[str, BeforeValidator(_name)]
Size = Annotated[int, BeforeValidator(parse_size)]
Seconds = Annotated[float, BeforeValidator(parse_seconds)]
Count = Annotated[int, Field(ge=1)]
MAX_COUNT = 100_000

_SHARED_KEYS = ("backends", "image", "trials", "warmup", "seed")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LimitsSpec(_Strict):
    """``limits``: what one instance may take, on every backend."""

    cpus: float = Field(1.0, gt=0, le=1024)
    memory: Size = Field(128 * 2**20, ge=16 * 2**20)
    pids: int = Field(512, ge=8)

    def as_limits(self) -> Limits:
        """The same numbers in the form that backends take."""
        return Limits(cpus=self.cpus, memory=self.memory, pids=self.pids)


class ExperimentSpec(_Strict):
    """One ``[[experiment]]`` table."""

    kind: str
    backends: Annotated[tuple[str, ...], PlainSerializer(list), Field(min_length=1)] = (
        "native",
        "container",
        "vm",
    )
    image: str = "busybox"
    trials: (
        Annotated[int, Field(ge=1, le=MAX_COUNT)]
        | dict[str, Annotated[int, Field(ge=1, le=MAX_COUNT)]]
    ) = 10
    warmup: Annotated[int, Field(ge=0, le=1000)] = 1
    levels: list[Count] | dict[str, Annotated[list[Count], Field(min_length=1)]] = Field(
        default_factory=lambda: [1, 2, 4], min_length=1
    )
    write: Size = Field(2**20, ge=1)
    settle: Seconds = Field(0.3, ge=0, le=600)
    timeout: Seconds = Field(120.0, gt=0, le=3600)
    limits: LimitsSpec = LimitsSpec()
    options: dict[str, dict[str, str]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _backends_once(self) -> ExperimentSpec:
        if len(set(self.backends)) != len(self.backends):
            raise ValueError(f"backends: each may stand once, got {', '.join(self.backends)}")
        return self

    def trials_of(self, backend: str) -> int:
        """How often each cell of this backend is repeated."""
        if isinstance(self.trials, int):
            return self.trials
        return self.trials.get(backend, 10)

    def levels_of(self, backend: str) -> tuple[int, ...]:
        """Numbers of instances alive at once, for the experiments that vary it."""
        levels = self.levels if isinstance(self.levels, list) else self.levels.get(backend, [1])
        return tuple(sorted(set(levels)))


class Suite(_Strict):
    """A whole experiment file."""

    name: Name
    description: str = ""
    seed: int | None = Field(None, ge=0, lt=2**63)
    experiment: tuple[ExperimentSpec, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _kinds_once(self) -> Suite:
        kinds = [e.kind for e in self.experiment]
        if len(set(kinds)) != len(kinds):
            raise ValueError(
                "experiment: each kind may stand once in a file (a run has one folder per kind)"
            )
        return self

    def as_document(self) -> dict[str, Any]:
        """The plain values of an experiment file that says the same."""
        return self.model_dump(mode="json", exclude_none=True)


def builtin_suites() -> dict[str, Path]:
    """Name → file of the suites that come with the lab."""
    folder = Path(str(resources.files("lab") / "suites"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_suite(path: Path) -> Suite:
    """Read and check an experiment file. Raises `ExperimentError`."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExperimentError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{path}: not valid TOML: {error}") from error
    document.setdefault("name", path.stem)
    return parse_suite(document, source=str(path))


def parse_suite(document: Mapping[str, Any], *, source: str) -> Suite:
    """Check a parsed experiment file; `source` begins the error's sentence."""
    try:
        return Suite.model_validate(document)
    except ValidationError as error:
        raise ExperimentError(f"{source}: {sentence(error, _keys_at)}") from error


def _keys_at(loc: tuple[int | str, ...]) -> Iterable[str]:
    if len(loc) <= 1:
        return Suite.model_fields
    if "limits" in loc:
        return LimitsSpec.model_fields
    return ExperimentSpec.model_fields
