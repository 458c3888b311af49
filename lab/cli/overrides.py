"""Options of `lab bench` that stand for keys of the experiment file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from lab.backends import find_backend, known_backends
from lab.errors import ExperimentError

__all__ = ["Overrides"]


@dataclass(frozen=True)
class Overrides:
    """Those that were given; None for the others."""

    trials: int | None = None
    backends: str | None = None
    seed: int | None = None
    image: str | None = None
    machine: str | None = None
    accel: str | None = None

    @classmethod
    def options(cls) -> Iterator[str]:
        """``--trials``, …"""
        return (f"--{one.name}" for one in fields(cls))

    def apply(self, document: dict[str, Any]) -> dict[str, Any]:
        """The document with these values in the place of its own. Raises `ExperimentError`."""
        changed = dict(document)
        if self.seed is not None:
            changed["seed"] = self.seed
        changed["experiment"] = [self._one(dict(e)) for e in document["experiment"]]
        return changed

    def _one(self, experiment: dict[str, Any]) -> dict[str, Any]:
        if self.trials is not None:
            experiment["trials"] = self.trials
        if self.backends is not None:
            experiment["backends"] = self._names(self.backends)
        if self.image is not None:
            experiment["image"] = self.image
        for key in ("machine", "accel"):
            if (value := getattr(self, key)) is not None:
                _set_option(experiment, key, value)
        return experiment

    @staticmethod
    def _names(given: str) -> list[str]:
        names = [name.strip() for name in given.split(",")]
        if "" in names:
            raise ExperimentError(
                f'--backends: a name is missing in "{given}"; choices: '
                f"{', '.join(known_backends())}"
            )
        for name in names:
            if names.count(name) > 1:
                raise ExperimentError(f'--backends: "{name}" stands twice in "{given}"')
        return names


def _set_option(experiment: dict[str, Any], key: str, value: str) -> None:
    """Of every backend that has it: a virtual machine and its reference stay alike."""
    options = {name: dict(given) for name, given in experiment.get("options", {}).items()}
    having = [name for name in experiment["backends"] if key in find_backend(name).options]
    if not having:
        raise ExperimentError(
            f"--{key}: none of the backends {', '.join(experiment['backends'])} has such an option"
        )
    for name in having:
        options[name] = {**options.get(name, {}), key: value}
    experiment["options"] = options
