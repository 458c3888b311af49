"""The root file system that the peers share, mounted before anything is timed."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from lab.backends.base import Workload
from lab.backends.stage import Holder

if TYPE_CHECKING:
    from lab.backends.context import Shared
    from runtime.engine.steps import Step

__all__ = ["RootStage", "RootStages", "own_root"]


class RootStage(Holder):
    """An overlay over an image's layers, in a mount namespace that a holder keeps; the programs
    that start containers enter it. With `hide_v2` they do not see the v2 hierarchy."""

    def __init__(
        self, shared: Shared, layers: Sequence[Path], name: str, *, hide_v2: bool = False
    ) -> None:
        from runtime.cgroups import CgroupLayout
        from runtime.engine.constants import CLONE_NEWNS, MS_PRIVATE, MS_REC

        self._folder = shared.state / name
        steps: tuple[Step, ...] = (
            ("unshare", CLONE_NEWNS),
            ("mount", None, "/", None, MS_REC | MS_PRIVATE, None),
            _overlay(self._folder, layers),
        )
        if hide_v2:
            steps += (("mount", "none", str(CgroupLayout.detect().v2), "tmpfs", 0, None),)
        super().__init__(shared, name, steps)

    def __enter__(self) -> Self:
        _make(self._folder)
        return super().__enter__()

    def __exit__(self, *reason: object) -> None:
        try:
            super().__exit__(None, None, None)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def root(self) -> str:
        """The overlay, as it is called inside."""
        return str(self._folder / "rootfs")

    @property
    def enter(self) -> tuple[Step, ...]:
        """Into the namespace (setns(2))."""
        from runtime.engine.constants import CLONE_NEWNS

        return (("join", f"/proc/{self.process.pid}/ns/mnt", CLONE_NEWNS),)

    @staticmethod
    def kind_of_root(work: Workload) -> str:
        """In a record's words."""
        return "own overlay, after t0" if work.writes_root else "shared overlay, before t0"


class RootStages:
    """The stages of one backend, one for each image that it has prepared."""

    def __init__(self, shared: Shared, name: str, *, hide_v2: bool = False) -> None:
        self._shared = shared
        self._name = name
        self._hide_v2 = hide_v2
        self._stack = contextlib.ExitStack()
        self._stages: dict[tuple[Path, ...], RootStage] = {}

    def of(self, layers: tuple[Path, ...]) -> RootStage:
        """The one of these layers."""
        if layers not in self._stages:
            name = f"{self._name}-stage-{len(self._stages)}"
            stage = RootStage(self._shared, layers, name, hide_v2=self._hide_v2)
            self._stages[layers] = self._stack.enter_context(stage)
        return self._stages[layers]

    def close(self) -> None:
        """End them all."""
        self._stack.close()
        self._stages.clear()


def own_root(folder: Path, layers: Sequence[Path]) -> tuple[Step, ...]:
    """An overlay that one instance has alone, in a mount namespace that goes with it."""
    from runtime.engine.constants import CLONE_NEWNS

    _make(folder)
    return (("unshare", CLONE_NEWNS), _overlay(folder, layers))


def _make(folder: Path) -> None:
    for path in (folder, folder / "upper", folder / "work", folder / "rootfs"):
        path.mkdir(mode=0o755, exist_ok=True)


def _overlay(folder: Path, layers: Sequence[Path]) -> Step:
    from runtime.engine.rootfs import overlay_step

    return overlay_step(
        str(folder / "rootfs"),
        ([str(layer) for layer in layers], str(folder / "upper"), str(folder / "work")),
    )
