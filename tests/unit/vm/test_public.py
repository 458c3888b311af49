import subprocess
import sys
from pathlib import Path

import pytest

import vm
from vm import errors


def test_every_public_name_is_there() -> None:
    for name in vm.__all__:
        assert getattr(vm, name) is not None
    assert len(set(vm.__all__)) == len(vm.__all__)


def test_every_error_is_public_and_in_the_tree() -> None:
    tree = (errors.__doc__ or "").split("A message says")[0]
    for name in errors.__all__:
        assert name in vm.__all__
        assert name in tree
        assert issubclass(getattr(errors, name), errors.VmError)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="nosuch"):
        vm.nosuch  # noqa: B018


def test_import_brings_nothing_along() -> None:
    code = "import sys, vm; print(*sorted(n for n in sys.modules if n.startswith(('vm.', 'qemu'))))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""


def test_the_machine_does_not_bring_the_monitor() -> None:
    code = "import sys, vm.machine; print('qemu' in sys.modules, 'asyncio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"]


def test_imports_neither_lab_nor_runtime() -> None:
    for path in Path(vm.__file__).parent.rglob("*.py"):
        for line in path.read_text().splitlines():
            assert not line.strip().startswith(
                ("import lab", "from lab", "import runtime", "from runtime")
            ), f"{path}: {line}"
