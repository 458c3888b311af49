"""Writes the command `lab-oci`: a short script that starts fast.

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
from runtime.oci.pack import LAUNCHER

__all__ = ["install", "main", "script"]

_TEXT = """{first}
# Made by runtime/oci/install.py: what each line is for is told there and in pack.py beside it.
import gc
import sys
gc.disable()
sys.path[:0] = {folders!r}
PACK = {pack!r}
{launcher}
from runtime.oci.main import main
main()
"""

_PACKAGE = Path(__file__).resolve().parents[1]
_LIBRARIES = ("pyseccomp", "pyroute2")
_LONGEST = 255
"""Bytes of a script's first line that the kernel reads (BINPRM_BUF_SIZE)."""


def script(python: str, pack: Path) -> str:
    """The text of the command, run by this interpreter, with its modules in this pack."""
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
            folders.append(str(home.parents[bool(found.submodule_search_locations)]))
    return _TEXT.format(
        first=first, folders=list(dict.fromkeys(folders)), pack=str(pack), launcher=LAUNCHER.strip()
    )


def install(path: Path, python: str | None = None) -> None:
    """Write the command and make it executable; pack its modules for its interpreter.

    `python` is the interpreter, this one if not given. Raises ContainerError if it cannot run the
    command, OSError if a file cannot be written."""
    python = os.path.realpath(python or sys.executable)
    pack = _pack(python, path)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(script(python, pack))
    fresh = Path(file.name)
    try:
        fresh.chmod(0o755)
        done = subprocess.run(
            [str(fresh), "--version"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ContainerError(f"{python} cannot run this package:\n{done.stderr.strip()}")
        fresh.replace(path)
    except BaseException:
        fresh.unlink()
        raise


def _pack(python: str, path: Path) -> Path:
    """The pack for this interpreter: among the other compiled files, or, where nobody may write
    there, beside the command."""
    tag = f"lab-oci.{Path(python).name}.pack"
    for folder in (Path(__file__).with_name("__pycache__"), path.parent):
        if os.access(folder, os.W_OK):
            break
    # Without the columns of tracebacks the code is a third smaller, and so is the time to load it.
    command = [python, "-I", "-X", "no_debug_ranges", str(Path(__file__).with_name("pack.py"))]
    done = subprocess.run(
        [*command, str(folder / tag)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ContainerError(f"{python} cannot pack this package:\n{done.stderr.strip()}")
    return folder / tag


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
