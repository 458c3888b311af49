"""What an operation is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from runtime import steps

__all__ = ["Mark", "Operation"]


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that is done between clone and exec."""

    advice: ClassVar[str] = ""
    """What to do if it fails for the reason that is most likely."""

    def describe(self) -> str:
        """What it does, in words that fit after "could not"."""
        raise NotImplementedError

    def step(self) -> steps.Step:
        """The same as plain data: a name of `steps.STEPS` and its arguments."""
        raise NotImplementedError

    def execute(self) -> None:
        """Do it here and now. Raises OSError with the path."""
        steps.run(self.step())


@dataclass(frozen=True, slots=True)
class Mark(Operation):
    """Takes the time: the phase of this name is reached. Only the spawn helper has a use for it."""

    name: str

    def describe(self) -> str:
        """See `Operation`."""
        return f"note the time of {self.name!r}"

    def step(self) -> steps.Step:
        """See `Operation`."""
        return ("mark", self.name)

    def execute(self) -> None:
        """Nothing: the one who executes here can look at the clock."""
