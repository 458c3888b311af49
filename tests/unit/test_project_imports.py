"""The import rule of docs/architecture.md, read from the syntax tree of every module."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("lab", "runtime", "vm")

# Modules of the lab that may import the two rooms below it.
MAY_USE_ROOMS = ("lab/backends/", "lab/doctor.py", "lab/doctor/", "lab/gc.py")

# Besides the standard library.
ALLOWED = {
    "runtime": {"dnslib", "pathspec", "pyroute2", "zstandard"},
    "vm": {"libvirt", "paramiko", "qemu"},
}

# No module is without __all__, but these, which are only ever run.
NO_ALL = ("lab/__main__.py", "runtime/spawn/helper.py")


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and top-level package of each absolute import, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.lineno, (node.module or "").partition(".")[0]


@pytest.mark.parametrize("package", ["runtime", "vm"])
def test_a_room_imports_nothing_but_its_own(package: str) -> None:
    allowed = {package, *ALLOWED[package], *sys.stdlib_module_names}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules(package)
        for line, name in imported(path)
        if name not in allowed
    ]
    assert not wrong


def test_only_backends_doctor_and_gc_use_the_rooms() -> None:
    wrong = [
        f"{where}:{line} imports {name}"
        for path in modules("lab")
        if not (where := path.relative_to(ROOT).as_posix()).startswith(MAY_USE_ROOMS)
        for line, name in imported(path)
        if name in {"runtime", "vm"}
    ]
    assert not wrong


def test_relative_imports_do_not_hide_anything() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for package in PACKAGES
        for path in modules(package)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not wrong


def defined(tree: ast.Module) -> set[str]:
    """Public classes and functions that a module defines itself."""
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
    }


def stated(tree: ast.Module) -> set[str] | None:
    """`__all__` as it is written, or None if it is computed or not there."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
        ):
            try:
                return set(ast.literal_eval(node.value))
            except ValueError:
                return None
    return None


@pytest.mark.parametrize("package", PACKAGES)
def test_all_names_exist(package: str) -> None:
    module = importlib.import_module(package)
    missing = [name for name in module.__all__ if not hasattr(module, name)]
    assert not missing
    assert len(set(module.__all__)) == len(module.__all__)


@pytest.mark.parametrize("package", PACKAGES)
def test_all_of_a_package_is_complete(package: str) -> None:
    """What the package's __init__ brings in by name, and defines, is public."""
    tree = ast.parse((ROOT / package / "__init__.py").read_text())
    module = importlib.import_module(package)
    brought = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(package)
        for alias in node.names
    }
    public = {name for name in brought | defined(tree) if not name.startswith("_")}
    assert public <= set(module.__all__)


def test_every_module_says_what_is_public() -> None:
    wrong = []
    for package in PACKAGES:
        for path in modules(package):
            where = path.relative_to(ROOT).as_posix()
            if where in NO_ALL:
                continue
            tree = ast.parse(path.read_text())
            if "__all__" not in path.read_text():
                wrong.append(f"{where}: no __all__")
            names = stated(tree)
            if names is None or path.name == "__init__.py":
                continue
            known = {
                target.id
                for node in ast.walk(tree)
                if isinstance(node, ast.Name) and isinstance((target := node).ctx, ast.Store)
            } | {
                alias.asname or alias.name
                for node in ast.walk(tree)
                if isinstance(node, ast.Import | ast.ImportFrom)
                for alias in node.names
            }
            if lost := names - known - defined(tree):
                wrong.append(f"{where}: __all__ names {sorted(lost)}, which are not there")
    assert not wrong


@pytest.mark.parametrize(
    ("package", "heavy"),
    [
        ("runtime", ["pandas", "numpy", "scipy", "qemu", "libvirt", "pydantic", "lab", "vm"]),
        ("runtime.network", ["pyroute2", "dnslib", "asyncio", "lab", "vm"]),
        ("vm", ["pandas", "numpy", "scipy", "libvirt", "pydantic", "lab", "runtime"]),
        ("lab.cli.app", ["pandas", "numpy", "scipy", "matplotlib", "qemu", "libvirt"]),
    ],
)
def test_import_is_light(package: str, heavy: list[str]) -> None:
    code = f"import sys, {package}; print(*(n for n in {heavy!r} if n in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == []
