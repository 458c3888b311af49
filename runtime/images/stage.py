"""The state of a build between two steps, and the steps that change the configuration only."""

from __future__ import annotations

import os
import posixpath
import re
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from runtime.images.dockerfile import Instruction, expand, raw_words, words
from runtime.images.image import platform

__all__ = ["SETTINGS", "Stage", "empty", "pairs"]

_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?")
_NAME = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class Stage:
    """An image in the making."""

    config: Mapping[str, Any]
    """Its configuration so far."""
    key: str
    """Digest of all that went into it: what the cache knows it by."""
    args: Mapping[str, str] = field(default_factory=dict)
    """Arguments that are declared and have a value."""
    own_cmd: bool = False
    """Whether this Dockerfile has set Cmd: ENTRYPOINT forgets that of the base."""

    @property
    def execution(self) -> dict[str, Any]:
        """The configuration's "config"."""
        found: dict[str, Any] = self.config.get("config") or {}
        return found

    @property
    def layers(self) -> list[str]:
        """Diff ids, lowest first."""
        found: list[str] = self.config["rootfs"]["diff_ids"]
        return found

    @property
    def env(self) -> dict[str, str]:
        """Its environment."""
        entries = (entry.partition("=") for entry in self.execution.get("Env") or ())
        return {name: value for name, _, value in entries}

    @property
    def cwd(self) -> str:
        """Its working directory."""
        return self.execution.get("WorkingDir") or "/"

    @property
    def shell(self) -> list[str]:
        """What runs commands in shell form."""
        return self.execution.get("Shell") or ["/bin/sh", "-c"]

    def lookup(self, name: str) -> str | None:
        """The value of a variable: the environment counts before the arguments."""
        return self.env.get(name, self.args.get(name))

    def setting(self, **changes: Any) -> Stage:
        """With other fields of "config"; None takes one away."""
        fields = {**self.execution, **changes}.items()
        execution = {key: value for key, value in fields if value is not None}
        return replace(self, config={**self.config, "config": execution})


def empty(base: str) -> Stage:
    """FROM scratch."""
    config = {
        "architecture": platform(os.uname().machine),
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": []},
        "history": [],
    }
    return Stage(config, base)


def pairs(step: Instruction, lookup: Callable[[str], str | None]) -> dict[str, str]:
    """``name=value …``, or the old ``name value``, as ENV and LABEL have them."""
    raw = raw_words(step)
    if "=" not in raw[0]:
        value = step.rest[len(raw[0]) :].strip()
        if not value:
            raise step.fail(f"{raw[0]} has no value")
        return {expand(step, raw[0], lookup): expand(step, value, lookup)}
    found = {}
    for word in raw:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise step.fail(f"{word!r} is not name=value")
        found[expand(step, name, lookup)] = expand(step, value, lookup)
    return found


def _env(stage: Stage, step: Instruction) -> Stage:
    env = {**stage.env, **pairs(step, stage.lookup)}
    return stage.setting(Env=[f"{name}={value}" for name, value in env.items()])


def _label(stage: Stage, step: Instruction) -> Stage:
    labels = {**(stage.execution.get("Labels") or {}), **pairs(step, stage.lookup)}
    return stage.setting(Labels=labels)


def _user(stage: Stage, step: Instruction) -> Stage:
    return stage.setting(User=expand(step, step.rest, stage.lookup))


def _command(stage: Stage, step: Instruction) -> list[str]:
    return list(step.json) if step.json is not None else [*stage.shell, step.rest]


def _cmd(stage: Stage, step: Instruction) -> Stage:
    return replace(stage.setting(Cmd=_command(stage, step)), own_cmd=True)


def _entrypoint(stage: Stage, step: Instruction) -> Stage:
    changed = stage.setting(Entrypoint=_command(stage, step))
    return changed if stage.own_cmd else changed.setting(Cmd=None)


def _shell(stage: Stage, step: Instruction) -> Stage:
    if not step.json:
        raise step.fail('must be a JSON list, such as ["/bin/bash", "-c"]')
    return stage.setting(Shell=list(step.json))


def _expose(stage: Stage, step: Instruction) -> Stage:
    ports = dict(stage.execution.get("ExposedPorts") or {})
    for word in words(step, stage.lookup):
        match = _PORT.fullmatch(word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if match is None or not 0 < first <= last < 65536:
            raise step.fail(f"{word!r} is no port, such as 80, 80/tcp or 8000-8010/udp")
        ports.update({f"{port}/{match[3] or 'tcp'}": {} for port in range(first, last + 1)})
    return stage.setting(ExposedPorts=ports)


def _volume(stage: Stage, step: Instruction) -> Stage:
    volumes = dict(stage.execution.get("Volumes") or {})
    for path in step.json or words(step, stage.lookup):
        volumes[expand(step, path, stage.lookup)] = {}
    return stage.setting(Volumes=volumes)


def _stopsignal(stage: Stage, step: Instruction) -> Stage:
    text = expand(step, step.rest, stage.lookup)
    known = {each.name for each in signal.Signals}
    if not (text.isdecimal() and 0 < int(text) < 65) and text not in known:
        raise step.fail(f"{text!r} is no signal, such as SIGTERM or 15")
    return stage.setting(StopSignal=text)


def _workdir(stage: Stage, step: Instruction) -> Stage:
    path = posixpath.join(stage.cwd, expand(step, step.rest, stage.lookup))
    return stage.setting(WorkingDir=posixpath.normpath(path))


SETTINGS: Mapping[str, Callable[[Stage, Instruction], Stage]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "SHELL": _shell,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
"""Instruction → the stage after it. Each raises DockerfileError."""
