"""Writes the command `lab-oci`: a script of four lines that starts fast.

    python -m runtime.oci.install /usr/local/bin/lab-oci

A console script as pip makes it would first import `site` and whatever the environment hooks into
it, which takes longer than a container. So the script names the interpreter itself (not the link
in a virtual environment, whose configuration would be searched for), gives it -I and -S, and says
where this package lies. It is written anew when either of the two moves.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from runtime.errors import ContainerError

__all__ = ["install", "main", "script"]

_PACKAGE = Path(__file__).resolve().parents[1]
_LIBRARIES = ("pyseccomp", "pyroute2")
_LONGEST = 255
"""Bytes of a script's first line that the kernel reads (BINPRM_BUF_SIZE)."""


def script(python: str) -> str:
    """The text of the command, run by this interpreter."""
    first = f"#!{python} -IS"
    if len(first.encode()) > _LONGEST or " " in python:
        raise ContainerError(
            f"the interpreter {python!r} cannot stand in a script's first line: its path is too "
            "long or has a space; name another one by --python"
        )
    folders = [str(_PACKAGE.parent)]
    for name in _LIBRARIES:
        found = importlib.util.find_spec(name)
        if found is not None and found.origin is not None:
            home = Path(found.origin).resolve()
            folders.append(
                str(home.parents[1] if found.submodule_search_locations else home.parent)
            )
    return "\n".join(
        [
            first,
            "import sys",
            f"sys.path[:0] = {list(dict.fromkeys(folders))!r}",
            "from runtime.oci.main import main",
            "main()",
            "",
        ]
    )


def install(path: Path, python: str | None = None) -> None:
    """Write the command and make it executable; compile the package for its interpreter.

    `python` is the interpreter, this one if not given. Raises ContainerError if it cannot run the
    command, OSError if the file cannot be written."""
    python = os.path.realpath(python or sys.executable)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(script(python))
    fresh = Path(file.name)
    try:
        fresh.chmod(0o755)
        # So that not the first container has to, or each of them where nobody may write there.
        subprocess.run([python, "-m", "compileall", "-qq", str(_PACKAGE)], check=False)
        done = subprocess.run(
            [str(fresh), "--version"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ContainerError(f"{python} cannot run this package:\n{done.stderr.strip()}")
        fresh.replace(path)
    except BaseException:
        fresh.unlink()
        raise


def main(line: Sequence[str] | None = None) -> int:
    """The command line of this module."""
    parser = argparse.ArgumentParser(
        prog="python -m runtime.oci.install",
        description="Write the command lab-oci, to be registered with Docker or Podman.",
    )
    parser.add_argument("path", type=Path, help="where, for example /usr/local/bin/lab-oci")
    parser.add_argument("--python", help="the interpreter to run it (default: this one)")
    options = parser.parse_args(line)
    try:
        install(options.path.absolute(), options.python)
    except (ContainerError, OSError) as error:
        print(f"install: {error}", file=sys.stderr)
        return 1
    print(f"wrote {options.path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
