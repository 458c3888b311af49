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

import ast
import importlib.util
import marshal
import os
import posix
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

_LIBRARIES = ("__future__", "struct")
"""What these bring from the standard library, besides what is built in or frozen."""

_FINDER = '''
from _frozen_importlib import ModuleSpec
from marshal import loads
from posix import pread, stat
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
        exec(loads(pread(fd, length, offset)), module.__dict__)

sys.meta_path.insert(0, Pack)
'''

LAUNCHER = f"""
from _frozen_importlib_external import MAGIC_NUMBER
from marshal import loads
from posix import O_CLOEXEC, O_RDONLY, close, dup2, fstat, open, read
try:
    fd, low = 64, open(PACK, O_RDONLY | O_CLOEXEC)
    try:
        while fstat(fd):  # a number that is free, and none of those that a caller passes on
            fd += 1
    except OSError:
        dup2(low, fd, inheritable=False)
    close(low)
    head = read(fd, {_HEAD})
    if head[:4] == MAGIC_NUMBER:
        code, index = loads(head[4:])
        exec(code, {{"fd": fd, "index": index}})
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
    tree = ast.parse(source.read_bytes(), str(source))
    if source.is_relative_to(Path(__file__).parents[1]):
        tree = ast.fix_missing_locations(_WithoutOs().visit(tree))
    code: CodeType = compile(tree, str(source), "exec", dont_inherit=True, optimize=2)
    return code


class _WithoutOs(ast.NodeTransformer):
    """Takes from `posix` what `os` only passes on, the very same object, and imports `os`, which
    is a millisecond's worth of conveniences, where and when something else of it is used."""

    def visit_Import(self, node: ast.Import) -> ast.AST:
        if [name.name for name in node.names] == ["os"]:
            node.names = [ast.alias("posix")]
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and node.value.id == "os":
            same = getattr(posix, node.attr, None) is getattr(os, node.attr)
            node.value = ast.parse("posix" if same else "__import__('os')", mode="eval").body
        return node


if __name__ == "__main__":
    build(Path(sys.argv[1]))
