"""What a start imports: the command line pays for each module with every verb."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

TOO_DEAR = {
    "argparse",
    "asyncio",
    "collections",
    "contextlib",
    "dataclasses",
    "enum",
    "functools",
    "importlib.util",
    "inspect",
    "json",
    "pathlib",
    "re",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "subprocess",
    "tempfile",
    "threading",
    "typing",
}
"""Each costs a fresh interpreter between one and eighteen milliseconds, or brings one that does."""


@pytest.mark.parametrize(
    "program",
    [
        "import runtime.engine.report, runtime.engine.plan, runtime.capabilities",
        "import runtime.engine.rare, runtime.security.maps",
        "from runtime.engine.plan import container_plan; container_plan({'process': {'args': ['x']}"
        ", 'linux': {'namespaces': [{'type': 'mount'}]}}, '/r')",
    ],
)
def test_a_start_imports_nothing_dear(program: str) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {program}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert not loaded & TOO_DEAR
    assert not {name for name in loaded if name.startswith(("runtime.spawn", "runtime.images"))}


def test_a_plan_needs_no_ctypes() -> None:
    """A configuration can be checked, and a plan printed, where no system call could be made."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import runtime.engine.plan;"
        "print('ctypes' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
