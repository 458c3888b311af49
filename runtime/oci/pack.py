"""All modules of the command in one file, so that sixty need not be looked for and opened.

A verb's life is ten milliseconds, and without this it would spend five of them on finding,
opening and reading its modules. `build` writes their code, without docstrings, behind each other
into a file; the command's script (runtime/oci/install.py) loads `_finder` from its head, which
then gives the import system what it asks for. A module whose source has changed since, by size or
time as with a .pyc, is imported from its source: the pack can be out of date, and never wrong.

    4 bytes      importlib's MAGIC_NUMBER of the interpreter that may use it
    marshal      (code of _FINDER, {module: (offset, length, source, package, time, size)})
    …            from _HEAD bytes on: each module's code, marshalled
"""

from __future__ import annotations

import importlib.util
import marshal
import sys
from pathlib import Path
from types import CodeType

__all__ = ["LAUNCHER", "build"]

_HEAD = 1 << 15
"""Bytes for the head."""

_ROOMS = ("cgroups", "engine", "oci", "security")
_RARE = frozenset(
    f"runtime.{name}"
    for name in [
        "cgroups.limits",
        "cgroups.sdbus",
        "cgroups.stats",
        "cgroups.systemd",
        "cgroups.unit",
        "cgroups.usage",
        "cgroups.usage_v1",
        "cgroups.usage_v2",
        "cgroups.watch",
        "engine.describe",
        "oci.install",
        "oci.pack",
        "oci.verbs.events",
        "oci.verbs.features",
        "oci.verbs.list",
        "oci.verbs.spec",
        "security.libseccomp",
    ]
)
"""What few command lines need, and all would have to read."""

_LIBRARIES = ("__future__", "ctypes", "ctypes._endian", "struct", "types")
"""What these bring from the standard library, besides what is built in or frozen."""

_FINDER = '''
from _frozen_importlib import ModuleSpec
from marshal import loads
from posix import stat
import sys

class Pack:
    """A finder and loader (PEP 451)."""
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in index:
            _, _, source, package, time, size = index[name]
            try:
                now = stat(source)
            except FileNotFoundError:
                return None
            if now.st_size == size and now.st_mtime_ns == time:
                spec = ModuleSpec(name, Pack, origin=source, is_package=package)
                spec.has_location = True
                if package:
                    spec.submodule_search_locations = [source.rpartition("/")[0]]
                return spec
        return None

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        offset, length, *_ = index[module.__name__]
        exec(loads(data[offset : offset + length]), module.__dict__)

sys.meta_path.insert(0, Pack)
'''

LAUNCHER = f"""
from _frozen_importlib_external import MAGIC_NUMBER
from marshal import loads
from posix import O_CLOEXEC, O_RDONLY, close, fstat, open, read
try:
    fd = open(PACK, O_RDONLY | O_CLOEXEC)
    data = read(fd, fstat(fd).st_size)
    close(fd)
    if data[:4] == MAGIC_NUMBER:
        code, index = loads(data[4:{_HEAD}])
        exec(code, {{"data": memoryview(data), "index": index}})
except FileNotFoundError:
    pass
"""
"""The lines of the script that use a pack, if PACK names one."""


def build(path: Path) -> None:
    """Write a pack of this package's modules for this interpreter."""
    index: dict[str, tuple[int, int, str, bool, int, int]] = {}
    blobs: list[bytes] = []
    offset = _HEAD
    for name, source in _modules():
        blob = marshal.dumps(_code(source))
        found = source.stat()
        package = source.name == "__init__.py"
        index[name] = (
            offset,
            len(blob),
            str(source),
            package,
            found.st_mtime_ns,
            found.st_size,
        )
        blobs.append(blob)
        offset += len(blob)
    finder = compile(_FINDER, "<pack>", "exec", dont_inherit=True, optimize=2)
    head = importlib.util.MAGIC_NUMBER + marshal.dumps((finder, index))
    assert len(head) <= _HEAD, "the head of a pack has outgrown its place"
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_bytes(head.ljust(_HEAD, b"\0") + b"".join(blobs))
    fresh.replace(path)


def _modules() -> list[tuple[str, Path]]:
    """Name and source of each module that goes in."""
    package = Path(__file__).resolve().parents[1]
    sources = [*package.glob("*.py")]
    for room in _ROOMS:
        sources += (package / room).rglob("*.py")
    found = []
    for source in sorted(sources):
        parts = source.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name not in _RARE:
            found.append((name, source))
    for name in _LIBRARIES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
            found.append((name, Path(spec.origin)))
    return found


def _code(source: Path) -> CodeType:
    """Its code as `python -OO` has it: a docstring is only read where it is written."""
    text = source.read_bytes()
    code: CodeType = compile(text, str(source), "exec", dont_inherit=True, optimize=2)
    return code


if __name__ == "__main__":
    build(Path(sys.argv[1]))
