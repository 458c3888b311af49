"""The hooks that the child executes itself (OCI config.md, "POSIX-platform Hooks"): those of the
container's namespaces. Those of the runtime's, the caller runs, while the child waits.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from runtime.engine.steps import Step

__all__ = ["Hooks"]


class Hooks:
    """`hooks` of a configuration, with the OCI state that each kind gets: its text before and
    after the process id."""

    def __init__(self, config: dict[str, Any], states: Mapping[str, tuple[str, str]]) -> None:
        self._hooks: dict[str, Any] = config.get("hooks") or {}
        self._states = states

    @property
    def by_parent(self) -> bool:
        """Whether the caller has some to run before the pivot."""
        return bool(self._hooks.get("prestart") or self._hooks.get("createRuntime"))

    @property
    def before_pivot(self) -> bool:
        """Whether anybody has some to run before the pivot."""
        return self.by_parent or bool(self._hooks.get("createContainer"))

    def steps(self, kind: str) -> list[Step]:
        """The child's steps for one kind, in order."""
        return [
            (
                "hook",
                kind,
                hook["path"],
                tuple(hook.get("args") or (hook["path"],)),
                tuple(hook.get("env") or ()),
                hook.get("timeout") or 0,
                *self._states.get(kind, ("", "")),
            )
            for hook in self._hooks.get(kind) or ()
        ]
