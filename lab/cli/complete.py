"""What the shell offers on Tab. Silent on any trouble, for there is nobody to tell."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["backends", "images", "option_values", "runs", "whats"]


def whats() -> Iterator[str]:
    """Suites and experiments; the shell itself adds files."""
    from lab.experiment import builtin_suites
    from lab.experiments import known_experiments

    yield from builtin_suites()
    yield from known_experiments()


def backends(incomplete: str) -> Iterator[str]:
    """Names after what is there already: ``container,v`` becomes ``container,vm``."""
    from lab.backends import known_backends

    before, comma, _ = incomplete.rpartition(",")
    taken = before.split(",")
    yield from (f"{before}{comma}{name}" for name in known_backends() if name not in taken)


def images() -> Iterator[str]:
    """Stored ones and those that can be made."""
    from lab.backends.images import known_images

    yield from known_images()


def option_values(key: str) -> Iterator[str]:
    """The choices of a backend's option, such as machine."""
    from lab.backends import find_backend

    yield from find_backend("vm").options[key]


def runs() -> Iterator[str]:
    """Ids of runs in the results folder, and ``latest``."""
    from lab.paths import results_dir

    ids = {path.parent.name for path in results_dir().glob("*/*/*/plan.json")}
    yield from (*sorted(ids, reverse=True), "latest")
