"""What the doctor says: one finding a probe, and all of them as a diagnosis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["BENCH", "FORMAT", "Diagnosis", "Finding", "Status"]

Status = Literal["ok", "limited", "missing"]

FORMAT = 1
"""Of `Diagnosis.to_json`. 1: first. A key that is added does not raise it; one that goes, or
changes its meaning, does. docs/reference/doctor.md documents the keys."""

BENCH = frozenset({"native", "container", "vm"})
"""The backends of a bare `lab bench`."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One ability of the host."""

    name: str
    """Unique and stable, for programs too."""
    group: str
    status: Status
    """ok: works; limited: works with a loss that `found` names; missing: does not work."""
    tried: str
    """What was done to find out."""
    found: str
    """What came back."""
    advice: str
    """What to do about it; empty if ok."""
    needed_for: frozenset[str]
    """Backends (``container``) and features (``rootless``) that cannot do without."""

    @property
    def blocks(self) -> bool:
        """Whether a bare `lab bench` cannot run because of this."""
        return self.status == "missing" and bool(self.needed_for & BENCH)

    def to_json(self) -> dict[str, Any]:
        """All fields, JSON-ready."""
        return {
            "name": self.name,
            "group": self.group,
            "status": self.status,
            "tried": self.tried,
            "found": self.found,
            "advice": self.advice,
            "needed_for": sorted(self.needed_for),
            "blocks": self.blocks,
        }


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings, in the order of the probes."""

    findings: tuple[Finding, ...]

    @property
    def blocking(self) -> tuple[Finding, ...]:
        """What stops a bare `lab bench`: its three backends, run as root."""
        return tuple(finding for finding in self.findings if finding.blocks)

    @property
    def can_bench(self) -> bool:
        """Whether a bare `lab bench` can run."""
        return not self.blocking

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; see `FORMAT`."""
        return {
            "format": FORMAT,
            "can_bench": self.can_bench,
            "blocking": [finding.name for finding in self.blocking],
            "findings": [finding.to_json() for finding in self.findings],
        }
