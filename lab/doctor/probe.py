"""A probe: one thing to try on the host, and how its end becomes a finding."""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lab.doctor.child import Crashed, OutOfTime, call
from lab.doctor.finding import Finding, Status

__all__ = [
    "Failed",
    "Host",
    "Outcome",
    "Probe",
    "carry_out",
    "in_words",
    "limited",
    "missing",
    "ok",
    "probe",
]

_PATIENCE_S = 10.0
_ERROR_LINES = 300
"""Characters of a foreign error that are fit for a line."""


class Failed(Exception):
    """It was done, and what came back is not what should have."""


class Outcome(NamedTuple):
    """What a probe came to. No advice: the probe's own, unless all is well."""

    status: Status
    found: str
    advice: str = ""


def ok(found: str) -> Outcome:
    """It works."""
    return Outcome("ok", found)


def limited(found: str, advice: str = "") -> Outcome:
    """It works with a loss."""
    return Outcome("limited", found, advice)


def missing(found: str, advice: str = "") -> Outcome:
    """It does not work."""
    return Outcome("missing", found, advice)


@dataclass(frozen=True, slots=True)
class Host:
    """Where probes work."""

    cache: Path
    results: Path
    run: str
    """What they make carries this name, so that `lab gc` finds it if the doctor is killed."""
    scratch: Path | None
    """A directory in the cache for the length of the examination; None: `refused` says why."""
    refused: OSError | None = None
    fresh: bool = False
    """Ask again where an earlier verdict is cached."""

    def room(self, name: str) -> Path:
        """A new directory in the cache's file system. OSError: the cache cannot be written."""
        if self.scratch is None:
            raise self.refused or OSError(errno.ENOENT, "no scratch directory", str(self.cache))
        room = self.scratch / name
        room.mkdir()
        return room


@dataclass(frozen=True, slots=True)
class Probe:
    """`run` is called in a child (`lab.doctor.child`) and may do to its process what it likes."""

    name: str
    group: str
    tried: str
    run: Callable[[Host], Outcome]
    advice: str = ""
    needed_for: frozenset[str] = frozenset()
    after: tuple[str, ...] = ()
    """Names of probes without which trying this one makes no sense."""
    seconds: float = _PATIENCE_S
    tidy: Callable[[Host], None] | None = None
    """Removes, in the doctor's own process, what a killed child has left. Idempotent."""

    def finding(self, outcome: Outcome) -> Finding:
        """This probe with that end."""
        status, found, advice = outcome
        return Finding(
            name=self.name,
            group=self.group,
            status=status,
            tried=self.tried,
            found=found,
            advice="" if status == "ok" else advice or self.advice,
            needed_for=self.needed_for,
        )


def probe(
    name: str,
    *,
    group: str,
    tried: str,
    advice: str = "",
    needed_for: Iterable[str] = (),
    after: tuple[str, ...] = (),
    seconds: float = _PATIENCE_S,
    tidy: Callable[[Host], None] | None = None,
) -> Callable[[Callable[[Host], Outcome]], Probe]:
    """Make the function below a `Probe`."""

    def made(run: Callable[[Host], Outcome]) -> Probe:
        return Probe(name, group, tried, run, advice, frozenset(needed_for), after, seconds, tidy)

    return made


def carry_out(probe: Probe, host: Host, so_far: Mapping[str, Finding]) -> Finding:
    """Try it. Whatever goes wrong is the result."""
    absent = [name for name in probe.after if so_far[name].status == "missing"]
    if absent:
        return probe.finding(
            missing(f"not tried: needs {' and '.join(absent)}", f"see {absent[0]}")
        )
    left = ""
    try:
        outcome = _attempt(probe, host)
    finally:  # also after Ctrl-C
        left = _tidy(probe, host)
    if left:
        outcome = limited(f"{outcome.found}; left behind: {left}", "sudo lab gc")
    return probe.finding(outcome)


def _attempt(probe: Probe, host: Host) -> Outcome:
    try:
        return Outcome(*call(functools.partial(probe.run, host), probe.seconds))
    except OutOfTime as error:
        return missing(f"{error}; it was killed")
    except (OSError, Crashed) as error:
        return missing(in_words(error))


def _tidy(probe: Probe, host: Host) -> str:
    """Why something is left, or an empty text."""
    try:
        if probe.tidy is not None:
            probe.tidy(host)
    except Exception as error:  # a failure of ours or of the kernel: to be told, not to stop at
        return in_words(error)
    return ""


def in_words(error: Exception) -> str:
    """``unshare: Operation not permitted (EPERM)``; of another error its own first lines."""
    if isinstance(error, OSError) and error.errno is not None:
        about = f"{error.filename}: " if error.filename else ""
        return f"{about}{error.strerror} ({errno.errorcode.get(error.errno, error.errno)})"
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _ERROR_LINES else f"{text[:_ERROR_LINES]}…"
