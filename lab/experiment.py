"""The experiment file: what to measure, on which backends, how often.

A suite is a TOML file with one or more ``[[experiment]]`` tables; docs/reference/experiment-file.md
describes every key. Everything is checked before anything is created, and a mistake becomes one
`ExperimentError` that names the key and the choices.
"""

from __future__ import annotations

import difflib
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
from lab.units import parse_seconds, parse_size

__all__ = ["ExperimentSpec", "LimitsSpec", "Suite", "builtin_suites", "load_suite", "parse_suite"]

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

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
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
        raise ExperimentError(f"{source}: {_sentence(error)}") from error


def closest(wrong: str, choices: Iterable[str]) -> str:
    """``did you mean "x"? choices: a, b, x`` for a message."""
    choices = sorted(choices)
    near = difflib.get_close_matches(wrong, choices, n=1)
    hint = f'did you mean "{near[0]}"? ' if near else ""
    return f"{hint}choices: {', '.join(choices)}"


def _sentence(error: ValidationError) -> str:
    """The first mistake of a pydantic error as one sentence that names the key."""
    errors = _without_lost_branches(error.errors(include_url=False))
    # The unknown key, where there is one, is the cause.
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    key = _key(first["loc"])
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 and _distinct(errors) else ""
    if first["type"] == "extra_forbidden":
        return f"unknown key {key}; {closest(str(first['loc'][-1]), _keys_at(first['loc']))}{more}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        return f"key {key} is missing{more}"
    given = "" if isinstance(first["input"], Mapping | list) else f", got {first['input']!r}"
    return f"{key + ': ' if key else ''}{message[0].lower()}{message[1:]}{given}{more}"


def _without_lost_branches(errors: list[Any]) -> list[Any]:
    """A union reports an error for each branch: those that want another type than was given say
    nothing, if another branch took the type and found fault with the value."""
    faults = {
        tuple(e["loc"][:n]) for e in errors if not _wants_other(e) for n in range(len(e["loc"]))
    }
    return [e for e in errors if not (_wants_other(e) and e["loc"][:-1] in faults)]


def _wants_other(error: Any) -> bool:
    return error["type"].endswith("_type") and _is_branch(error["loc"][-1])


def _is_branch(part: int | str) -> bool:
    """Names of union branches are pydantic's, not the user's."""
    return isinstance(part, str) and (part in {"int", "constrained-int"} or "[" in part)


def _distinct(errors: list[Any]) -> bool:
    return len({_key(e["loc"]) for e in errors}) > 1


def _key(loc: tuple[int | str, ...]) -> str:
    parts = [f"[{p}]" if isinstance(p, int) else f".{p}" for p in loc if not _is_branch(p)]
    return "".join(parts).removeprefix(".")


def _keys_at(loc: tuple[int | str, ...]) -> Iterable[str]:
    if len(loc) <= 1:
        return Suite.model_fields
    if "limits" in loc:
        return LimitsSpec.model_fields
    return ExperimentSpec.model_fields
