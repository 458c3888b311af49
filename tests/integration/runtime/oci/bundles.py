"""The command under test, with a state directory of its own, and bundles for it."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from runtime.oci.verbs.spec import example

__all__ = ["Bundle", "Runtime", "eventually"]

_CALL = 60.0


class Runtime:
    """`lab-oci --root …`."""

    def __init__(self, command: str, root: Path) -> None:
        self.command = command
        self.root = root

    def line(self, *line: str) -> list[str]:
        return [self.command, "--root", str(self.root), *line]

    def __call__(
        self, *line: str, check: bool = True, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.line(*line),
            check=False,
            capture_output=True,
            text=True,
            timeout=_CALL,
            **{"stdin": subprocess.DEVNULL, **more} if "input" not in more else more,
        )
        if check:
            assert done.returncode == 0, f"{line}: {done.returncode}: {done.stderr}"
        return done

    def create(self, container: str, bundle: Bundle, *options: str, **more: Any) -> None:
        """Create, with streams that do not keep the caller waiting for the container's end."""
        with (bundle.path / "out").open("ab") as out:
            done = subprocess.run(
                self.line("create", "--bundle", str(bundle.path), *options, container),
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                timeout=_CALL,
                **more,
            )
        assert done.returncode == 0, bundle.output()

    def start(self, container: str, bundle: Bundle, *options: str) -> None:
        self.create(container, bundle, *options)
        self("start", container)

    def fails(self, *line: str, **more: Any) -> str:
        """What it says when it fails, as it has to."""
        done = self(*line, check=False, **more)
        assert done.returncode not in (0, None), f"{line} should have failed"
        return done.stderr

    def state(self, container: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("state", container).stdout)
        return found

    def status(self, container: str) -> str:
        return str(self.state(container)["status"])

    def becomes(self, container: str, status: str) -> None:
        eventually(lambda: self.status(container) == status, f"{container} {status}")


class Bundle:
    """A directory with a config.json."""

    def __init__(self, path: Path, rootfs: Path) -> None:
        self.path = path
        self.config: dict[str, Any] = copy.deepcopy(example())
        self.config["root"] = {"path": str(rootfs)}
        self.config["process"].update(terminal=False, rlimits=[])
        self.config["linux"]["cgroupsPath"] = f"/lab-oci-test-{os.getpid()}/{path.name}"

    def write(self) -> Bundle:
        (self.path / "config.json").write_text(json.dumps(self.config))
        return self

    def shell(self, script: str) -> Bundle:
        self.config["process"]["args"] = ["/bin/sh", "-c", script]
        return self.write()

    def runs(self, *args: str) -> Bundle:
        self.config["process"]["args"] = list(args)
        return self.write()

    def output(self) -> str:
        """What containers of `Runtime.create` have said."""
        return (self.path / "out").read_text()


def eventually(what: Any, words: str, timeout: float = 30) -> None:
    """Wait for what only looking again can tell."""
    deadline = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < deadline, f"not within {timeout} s: {words}"
        time.sleep(0.02)
