"""The package's face: complete, lazy, apart from lab and vm."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import runtime
from runtime import errors

ROOT = Path(runtime.__file__).parent

CTYPES = ("bpf.py", "libseccomp.py", "lightctypes.py", "sdbus.py")
"""bpf(2), libseccomp, system calls that `os` lacks, and libsystemd."""
# Parts of the runtime that stand on a library; all others on the standard one alone.
USERS = {
    "dnslib": ("network",),
    "pathspec": ("images",),
    "pyroute2": ("network",),
    "zstandard": ("images",),
}


def test_all_names_resolve_and_are_sorted() -> None:
    for name in runtime.__all__:
        assert getattr(runtime, name).__name__ == name
    assert sorted(runtime.__all__, key=str.lower) == sorted(set(runtime.__all__), key=str.lower)
    assert set(runtime.__all__) <= set(dir(runtime))


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text())
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("runtime")
        for alias in node.names
    }
    assert imported == set(runtime.__all__)


def test_every_error_is_public_and_in_the_tree() -> None:
    assert set(errors.__all__) <= set(runtime.__all__)
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), errors.ContainerError)
        assert name in (errors.__doc__ or "")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = runtime.nonsense  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: path.stem)
def test_imports_stay_within_what_a_part_stands_on(path: Path) -> None:
    import sys

    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            top = name.split(".")[0]
            assert (
                top == "runtime"
                or top in sys.stdlib_module_names
                or path.relative_to(ROOT).parts[0] in USERS.get(top, ())
            ), f"{path}: {name}"
            assert top != "ctypes" or path.name in CTYPES, "ctypes has its places"
