"""Building an image from a Dockerfile: each step a layer, if it changes files; cached by content.

The subset: FROM (AS), RUN, COPY (--from, --chown, --chmod), ADD (of local files; archives are
unpacked), ENV, ARG, WORKDIR, USER, CMD, ENTRYPOINT, LABEL, EXPOSE, VOLUME, STOPSIGNAL, SHELL.
Everything else is refused by file and line before anything runs.

A step is known by the digest of its own words, of the files that it copies, and of the step before
it. If the cache has that digest, and the layer is still in the store, it is not done again.

What runs a command is not known here: a `Runner` is handed in (runtime/build_runner.py has one).
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.errors import (
    BuildError,
    BuildStepFailed,
    ContainerError,
    ImageError,
    SpecError,
    StoreFull,
)
from runtime.images.commit import extend, now, pack_layer
from runtime.images.compression import ChunkReader
from runtime.images.copying import Copy, Placed, archive, checksum, directory, plan, select
from runtime.images.dockerfile import Instruction, expand, parse, raw_words, words
from runtime.images.ignore import ignored
from runtime.images.image import canonical, digest, platform
from runtime.images.merged import MergedView
from runtime.images.output import Output
from runtime.images.pins import Pin
from runtime.images.runner import Network, Runner, RunStep
from runtime.images.shelf import LayerSource
from runtime.images.sources import flag_changes, unpacked
from runtime.images.stage import SETTINGS, Stage, empty
from runtime.images.users import find_user

if TYPE_CHECKING:
    from runtime.images.store import ImageStore

__all__ = ["Build"]


class Build:
    """One build. `run` makes the configuration of the image."""

    def __init__(
        self,
        store: ImageStore,
        pin: Pin,
        runner: Runner,
        context: Path,
        args: Mapping[str, str],
        network: Network,
        use_cache: bool,
        output: int | None = None,
    ) -> None:
        self._store = store
        self._pin = pin
        self._runner = runner
        self._context = context
        self._given = args
        self._network = network
        self._use_cache = use_cache
        self._output = output
        self._stages: list[tuple[str | None, list[Instruction]]] = []
        self._done: dict[int, Stage] = {}
        self._globals: dict[str, str] = {}
        self._ignored: Callable[[str], bool] = lambda path: False

    def run(self, dockerfile: Path, target: str | None) -> bytes:
        """The configuration of the stage `target` (the last if None), its layers stored and
        pinned. Raises DockerfileError, BuildStepFailed or BuildError, each with file and line."""
        if not self._context.is_dir():
            raise SpecError(f"build context {self._context} is no directory")
        steps = parse(dockerfile)
        self._ignored = ignored(self._context, dockerfile)
        self._divide(steps)
        number = len(self._stages) - 1
        if target is not None:
            found = self._stage_number(target, len(self._stages))
            if found is None:
                raise SpecError(f"{dockerfile} has no stage {target!r}")
            number = found
        return canonical(self._build(number).config)

    def _divide(self, steps: Sequence[Instruction]) -> None:
        """Into stages; what cannot be built is found now, before the first command runs."""
        declared = set()
        for step in steps:
            if step.keyword == "ARG":
                declared |= {word.partition("=")[0] for word in raw_words(step)}
            if step.keyword == "FROM":
                match = re.fullmatch(r"(\S+)(?:\s+AS\s+([a-z0-9][a-z0-9_.-]*))?", step.rest, re.I)
                if match is None:
                    raise step.fail("must be like FROM image, or FROM image AS name")
                self._stages.append((match[2].lower() if match[2] else None, [step]))
            elif step.keyword not in {"ARG", "ADD", "COPY", "RUN", *SETTINGS}:
                raise step.fail("this instruction is not supported")
            elif self._stages:
                self._stages[-1][1].append(step)
            elif step.keyword == "ARG":
                self._globals |= self._arguments(step, self._globals.get)
            else:
                raise step.fail("comes before the first FROM")
            _check_flags(step)
        if not self._stages:
            raise steps[-1].fail("there is no FROM")
        if unknown := sorted(set(self._given) - declared):
            raise SpecError(f"build arguments that no ARG declares: {', '.join(unknown)}")

    def _stage_number(self, name: str, before: int) -> int | None:
        for number, (known, _) in enumerate(self._stages[:before]):
            if name.lower() == known or name == str(number):
                return number
        return None

    def _build(self, number: int) -> Stage:
        """Do the steps of a stage, and first those of the stages that it stands on."""
        if number not in self._done:
            first, *steps = self._stages[number][1]
            stage = self._begin(first, number)
            for step in steps:
                try:
                    stage = self._step(stage, step, number)
                except (BuildError, StoreFull):
                    raise
                except SpecError as error:
                    raise step.fail(str(error)) from error
                except ContainerError as error:
                    raise BuildError(step.file, step.line, f"{step.keyword}: {error}") from error
            self._done[number] = stage
        return self._done[number]

    def _begin(self, step: Instruction, number: int) -> Stage:
        name = expand(step, step.rest.split()[0], self._globals.get)
        below = self._stage_number(name, number)
        if below is not None:
            return replace(self._build(below), args={}, own_cmd=False)
        salt = os.environ.get("SOURCE_DATE_EPOCH", "")
        if name == "scratch":
            return empty(digest(f"scratch {salt}".encode()))
        for flag, value in step.flags:
            host = f"linux/{platform(os.uname().machine)}"
            if flag == "platform" and expand(step, value, self._globals.get) != host:
                raise step.fail(f"--platform={value}: this host builds for {host} only")
        try:
            image = self._store.ensure(name)
            there = all(self._store.shelf.hold(layer, self._pin) for layer in image.diff_ids)
        except ImageError as error:
            raise BuildError(step.file, step.line, f"FROM {name}: {error}") from error
        if not there:
            raise BuildError(step.file, step.line, f"FROM {name}: it was removed just now")
        if image.execution.get("OnBuild"):
            raise step.fail(f"{name} has ONBUILD triggers, which are not supported")
        return Stage(dict(image.config), digest(f"{image.digest} {salt}".encode()))

    def _step(self, stage: Stage, step: Instruction, number: int) -> Stage:
        if step.keyword == "ARG":
            return replace(
                stage, args={**stage.args, **self._arguments(step, stage.lookup, self._globals)}
            )
        if step.keyword == "RUN":
            return self._run(stage, step)
        if step.keyword in ("ADD", "COPY"):
            return self._copy(stage, step, number)
        changed = SETTINGS[step.keyword](stage, step)
        if step.keyword != "WORKDIR":
            return self._finish(stage, changed, step.text, changed.execution, None)
        placed = directory(self._view(stage), changed.cwd)
        make = (lambda: self._layer(placed)) if placed else None
        return self._finish(stage, changed, step.text, changed.cwd, make)

    def _arguments(
        self,
        step: Instruction,
        lookup: Callable[[str], str | None],
        inherited: Mapping[str, str] | None = None,
    ) -> dict[str, str]:
        """ARG: what the user gave, else the default, else, in a stage, the value before FROM."""
        found = {}
        for word in raw_words(step):
            name, equals, default = word.partition("=")
            if name in self._given:
                found[name] = self._given[name]
            elif equals:
                found[name] = expand(step, default, lookup)
            elif inherited and name in inherited:
                found[name] = inherited[name]
        return found

    def _run(self, stage: Stage, step: Instruction) -> Stage:
        argv = step.json or (*stage.shell, step.rest)
        env = {**stage.args, **stage.env}
        key = [argv, sorted(env.items()), self._network, stage.execution.get("User"), stage.cwd]
        words = f"RUN {' '.join(argv)}"
        return self._finish(stage, stage, words, key, lambda: self._execute(stage, step, argv, env))

    def _execute(
        self, stage: Stage, step: Instruction, argv: Sequence[str], env: Mapping[str, str]
    ) -> str | None:
        user = find_user(self._view(stage), stage.execution.get("User") or "")
        with self._store.files.temporary() as folder, Output(self._output) as output:
            upper = folder / "upper"
            status = self._runner(
                RunStep(
                    name=f"build-{os.getpid()}-{step.line}",
                    layers=self._paths(stage),
                    upper=upper,
                    argv=tuple(argv),
                    env={"HOME": user.home, **env},
                    cwd=stage.cwd,
                    uid=user.uid,
                    gid=user.gid,
                    groups=user.groups,
                    network=self._network,
                    output=output.fd,
                )
            )
            output.finish()
            if status:
                raise BuildStepFailed(step.file, step.line, step.text, status, output.tail)
            return pack_layer(self._store.shelf, self._pin, upper, self._store.form)

    def _copy(self, stage: Stage, step: Instruction, number: int) -> Stage:
        arguments = words(step, stage.lookup)
        if step.json is not None:
            arguments = [expand(step, each, stage.lookup) for each in step.json]
        if len(arguments) < 2:
            raise step.fail("needs a source and a destination")
        *patterns, target = arguments
        flags = {name: expand(step, value, stage.lookup) for name, value in step.flags}
        image = self._view(stage)
        origin = self._origin(step, flags.get("from"), number)
        copy = replace(origin, **flag_changes(step, flags, image))
        with self._store.files.temporary() as folder:
            copies = []
            for pattern in patterns:
                if re.match(r"(https?|ftp|git|ssh)://|git@", pattern):
                    raise step.fail(f"{pattern}: only files of the context; fetch it before")
                paths = select(copy, pattern)
                if not paths:
                    raise step.fail(
                        f"{pattern} is not in {flags.get('from') or self._context}, or left out by "
                        ".dockerignore"
                    )
                copies.append(replace(copy, paths=tuple(paths)))
            if sum(len(each.paths) for each in copies) > 1 and not target.endswith("/"):
                raise step.fail(f"several sources need a directory: {target}/")
            if step.keyword == "ADD":
                form, limits = self._store.form, self._store.shelf.limits
                copies = unpacked(copies, folder, form, limits)
            place = posixpath.join(stage.cwd, target)
            placed = plan(image, copies, place)
            key = [step.keyword, place, checksum(placed)]
            return self._finish(stage, stage, step.text, key, lambda: self._layer(placed))

    def _origin(self, step: Instruction, name: str | None, number: int) -> Copy:
        form = self._store.form
        if name is None:
            view = MergedView([self._context.resolve()], form)
            return Copy(view, (), owner=(0, 0), attributes=False, ignored=self._ignored)
        below = self._stage_number(name, number)
        if below is not None:
            return Copy(self._view(self._build(below)), ())
        image = self._store.ensure(name)
        if not all(self._store.shelf.hold(layer, self._pin) for layer in image.diff_ids):
            raise step.fail(f"{name} was removed just now")
        return Copy(self._store.view(image), ())

    def _layer(self, placed: dict[str, Placed]) -> str:
        stream = ChunkReader(archive(placed))
        source = LayerSource(lambda: nullcontext(stream), "(what is copied)")
        return self._store.shelf.add(source, self._pin)

    def _finish(
        self,
        before: Stage,
        after: Stage,
        words: str,
        content: Any,
        make: Callable[[], str | None] | None,
    ) -> Stage:
        """The stage after a step: as the cache has it, or by doing it now."""
        key = digest(canonical([before.key, words, content]))
        path = self._store.root / "cache" / key.removeprefix("sha256:")
        record = self._recall(path) if self._use_cache else None
        if record is None:
            layer = make() if make is not None else None
            layers = [*before.layers, layer] if layer else before.layers
            record = {"layer": layer, "layers": layers, "created": now()}
            with self._store.files.temporary() as folder:
                self._store.files.write(path, canonical(record), folder)
        config = extend(after.config, record["layer"], words, record["created"])
        return replace(after, config=config, key=key)

    def _recall(self, path: Path) -> dict[str, Any] | None:
        try:
            record: dict[str, Any] = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        layer = record["layer"]
        if layer is not None and not self._store.shelf.hold(layer, self._pin):
            return None
        return record

    def _paths(self, stage: Stage) -> tuple[Path, ...]:
        return tuple(self._store.files.layer(layer) for layer in stage.layers)

    def _view(self, stage: Stage) -> MergedView:
        return MergedView(self._paths(stage), self._store.form)


_FLAGS = {
    "FROM": {"platform"},
    "ADD": {"chown", "chmod"},
    "COPY": {"from", "chown", "chmod", "link"},
}


def _check_flags(step: Instruction) -> None:
    for name, _ in step.flags:
        if name not in _FLAGS.get(step.keyword, set()):
            raise step.fail(f"--{name} is not supported")
