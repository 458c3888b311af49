"""What can be refused is refused before anything is made: backends that cannot run here, a run that
cannot be gone on with, folders that cannot be written.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.backends import find_backend
from lab.backends.context import Context, Shared
from lab.errors import ExperimentError, HostError, LabError, StoreError
from lab.ownership import runs_dir

if TYPE_CHECKING:
    from lab.backends.base import Backend
    from lab.bench import PlannedExperiment
    from lab.experiments import Experiment
    from lab.plan import Plan
    from lab.store import Results, Run

__all__ = ["LeftOut", "changed_since", "check_folders", "check_resumable", "grouped", "left_out"]

LeftOut = Mapping[tuple[str, str], str]
"""Experiment and backend → why it cannot run here."""


def left_out(planned: Sequence[PlannedExperiment], cache: Path) -> LeftOut:
    """Who cannot take part on this host, and why. Raises `HostError` if nobody can."""
    shared = Shared("", cache, runs_dir(cache))
    reasons: dict[tuple[str, str], str] = {}
    for item in planned:
        for name in item.spec.backends:
            backend = find_backend(name)(Context(shared, item.spec.options.get(name, {})))
            if reason := _reason(backend, item.experiment):
                reasons[item.spec.kind, name] = reason
    if len(reasons) == sum(len(item.spec.backends) for item in planned):
        raise HostError(f"nothing can be measured here: {grouped(reasons)}")
    return reasons


def _reason(backend: Backend, experiment: Experiment) -> str:
    can = backend.capabilities()
    if not can.available:
        return can.missing["available"]
    for need in sorted(experiment.needs & can.missing.keys()):
        return f"lacks {need}: {can.missing[need]}"
    return ""


def grouped(reasons: LeftOut) -> str:
    """``native, container: needs root; vm: …``: each reason once."""
    names: dict[str, dict[str, None]] = defaultdict(dict)
    for (_, backend), reason in reasons.items():
        names[reason][backend] = None
    return "; ".join(f"{', '.join(who)}: {reason}" for reason, who in names.items())


def check_folders(results: Path, cache: Path) -> None:
    """Raises `StoreError` or `HostError` if what is to be made there could not be."""
    _check_folder(results, StoreError, "results folder", "choose another one with --results")
    _check_folder(cache, HostError, "cache", "choose another one with LAB_CACHE_DIR")


def _check_folder(folder: Path, error: type[LabError], what: str, advice: str) -> None:
    found = folder
    while not os.path.lexists(found):
        found = found.parent
    if not found.is_dir():
        raise error(f"{what} {folder}: {found} is not a directory; {advice}")
    if not os.access(found, os.W_OK | os.X_OK):
        raise error(f"{what} {folder}: {found} cannot be written; {advice}")


def check_resumable(
    results: Results, run: str, planned: Sequence[PlannedExperiment], facts: Mapping[str, Any]
) -> dict[str, Run]:
    """The folders of a run that was begun, by experiment. Raises `ExperimentError` if it cannot be
    gone on with here."""
    begun = {one.experiment: one for one in results.find(run)}
    for item in planned:
        if item.spec.kind in begun:
            _check_same(begun[item.spec.kind], item.plan, facts)
    return begun


def _check_same(run: Run, plan: Plan, facts: Mapping[str, Any]) -> None:
    if run.host != facts["hostname"]:
        raise ExperimentError(
            f"--resume: run {run.run_id} was made on {run.host} and this host is "
            f"{facts['hostname']}: records of two hosts are not pooled in one run"
        )
    if run.plan != list(plan.trials):
        raise ExperimentError(
            f"--resume: {run.path}: its plan is not the one that this version of the lab makes "
            "from the same experiment and seed: begin a new run"
        )


_SYSTEM = ("kernel", "cpu_model", "cpus", "memory_bytes", "cgroup_layout", "qemu", "lab_commit")


def changed_since(run: Run, facts: Mapping[str, Any]) -> list[str]:
    """What is not as it was when the run began, in words: its records are of both."""
    before = run.host_facts
    return [
        f"{key} was {before.get(key)} when run {run.run_id} began and is {facts.get(key)} now"
        for key in _SYSTEM
        if before.get(key) != facts.get(key)
    ]
