"""A workload in OCI's words: the bundle's config.json, and the command line that runs it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.backends.base import Limits, Workload

__all__ = ["NAME", "config_text", "run_line"]

NAME = "@instance@"
"""Stands in the text for the instance's name, so that the text is made once."""

_PERIOD_US = 100_000
"""The kernel's own default (Documentation/scheduler/sched-bwc.rst)."""


def config_text(work: Workload, layers: Sequence[Path], root: str, group: str) -> str:
    """The config.json: what `runtime.ContainerSpec` says of the same workload, with the limits and
    the root that it leaves to others. `group` is the cgroup's path from the mount points."""
    from runtime import ContainerSpec

    spec = ContainerSpec(
        name="instance",
        hostname=NAME,
        layers=tuple(layers),
        argv=work.argv,
        env=work.env,
        cwd=work.cwd,
        uid=work.uid,
        gid=work.gid,
        state_dir=Path("/"),
    )
    config: dict[str, Any] = spec.config()
    config["ociVersion"] = "1.0.2"  # what all of them know
    config["root"] = {"path": root, "readonly": False}
    config["linux"]["cgroupsPath"] = f"/{group}"
    config["linux"]["resources"] = _resources(work.limits)
    return json.dumps(config)


def _resources(limits: Limits) -> dict[str, Any]:
    return {
        "cpu": {"quota": round(limits.cpus * _PERIOD_US), "period": _PERIOD_US},
        "memory": {"limit": limits.memory, "swap": limits.memory},
        "pids": {"limit": limits.pids},
    }


def run_line(program: str, root: Path, folder: Path, name: str, *, log: Path) -> tuple[str, ...]:
    """``runc run`` in the foreground: it ends when the container has ended and is gone. `root` is
    for the state of all containers, `folder` the bundle. The event channel is its descriptor 3."""
    return (
        program,
        f"--root={root}",
        f"--log={log}",
        "--log-format=json",
        "run",
        "--preserve-fds=1",
        f"--bundle={folder}",
        name,
    )
