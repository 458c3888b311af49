"""The OCI runtime under the client: a command line, the lab's own or any other.

The client is to the runtime what Docker's daemon is to runc: it calls `create`, `start`, `kill`,
`delete`, `exec`, `pause`, `resume`, `update`, `ps`, and knows no more of containers than these
(OCI runtime.md, "Operations"; the command line is runc's).
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.client.errors import RuntimeFailed

__all__ = ["OciRuntime", "own_command"]


def own_command() -> tuple[str, ...]:
    """The lab's own runtime, run by this interpreter without what `site` would import."""
    folders = [str(Path(__file__).resolve().parents[2])]
    for name in ("pyseccomp",):
        if (found := importlib.util.find_spec(name)) is not None and found.origin is not None:
            home = Path(found.origin).resolve()
            inside = found.submodule_search_locations is not None
            folders.append(str(home.parents[1] if inside else home.parent))
    code = (
        f"import sys; sys.path[:0] = {list(dict.fromkeys(folders))!r}; "
        "from runtime.oci.main import main; main()"
    )
    return (os.path.realpath(sys.executable), "-IS", "-c", code)


@dataclass(frozen=True, slots=True)
class OciRuntime:
    """`command` is its argument vector, `root` the directory of its state."""

    command: tuple[str, ...]
    root: Path

    def argv(self, *words: str, log: Path | None = None) -> list[str]:
        """A whole command line."""
        logging = ["--log", str(log), "--log-format", "json"] if log is not None else []
        return [*self.command, "--root", str(self.root), *logging, *words]

    def call(self, *words: str, input: str | None = None) -> str:
        """Run a verb to its end; its standard output. Raises RuntimeFailed with its words."""
        done = subprocess.run(
            self.argv(*words), input=input, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeFailed(words[0], done.returncode, last_words(done.stderr))
        return done.stdout

    def state(self, container_id: str) -> dict[str, Any] | None:
        """The OCI state (runtime.md, "State"); None if it does not know the container."""
        try:
            found: dict[str, Any] = json.loads(self.call("state", container_id))
        except RuntimeFailed:
            return None
        return found

    def processes(self, container_id: str) -> list[int]:
        """Ids, outside, of a container's processes."""
        found: list[int] = json.loads(self.call("ps", "--format", "json", container_id))
        return found


def last_words(text: str) -> str:
    """The message of the last line that has one, be it a log line or bare."""
    lines: Sequence[str] = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return "it said nothing"
    last = lines[-1]
    _, found, message = last.partition("msg=")
    if not found:
        return last
    try:
        return str(json.loads(message)) if message.startswith('"') else message
    except ValueError:
        return message
