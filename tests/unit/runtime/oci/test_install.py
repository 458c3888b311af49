"""The command as it is installed: a script that runs, whatever has happened to its pack."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runtime.errors import ContainerError
from runtime.oci.install import install, main, script
from runtime.oci.pack import build

LOADED = (
    "import sys; src = open({path!r}).read().rpartition('main()')[0]; exec(src);"
    "from runtime.oci.main import run; run({line!r}); print(*sys.modules)"
)


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bin") / "lab-oci"
    install(path)
    return path


def modules(command: Path, *line: str) -> set[str]:
    """What a command line loads."""
    code = LOADED.format(path=str(command), line=list(line))
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_it_runs_from_anywhere(command: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [command, "--version"], cwd=tmp_path, env={}, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("lab-oci version ")
    assert command.stat().st_mode & 0o777 == 0o755


def test_the_frequent_verbs_load_little(command: Path, tmp_path: Path) -> None:
    """Each of these costs a container between one and eighteen milliseconds, or brings one that
    does; `os` and `ctypes` among them."""
    dear = {"argparse", "collections", "contextlib", "ctypes", "dataclasses", "enum", "functools"}
    dear |= {"importlib", "inspect", "json", "os", "pathlib", "re", "signal", "socket", "typing"}
    dear |= {"subprocess", "threading", "traceback", "warnings"}
    for line in (["state", "x"], ["kill", "x"], ["delete", "--force", "x"], ["start", "x"]):
        loaded = modules(command, "--root", str(tmp_path), *line)
        assert not loaded & dear, line
        assert not any(name.startswith("runtime.engine") for name in loaded), line


def test_a_pack_that_is_gone_is_missed_by_nobody(command: Path, tmp_path: Path) -> None:
    text = command.read_text()
    (line,) = (line for line in text.splitlines() if line.startswith("PACK = "))
    copy = tmp_path / "lab-oci"
    copy.write_text(text.replace(line, f"PACK = {str(tmp_path / 'none')!r}"))
    copy.chmod(0o755)
    subprocess.run([copy, "--version"], check=True, capture_output=True)
    (tmp_path / "none").write_bytes(b"\0\0\0\0 of another interpreter")
    subprocess.run([copy, "--version"], check=True, capture_output=True)


def test_a_module_that_has_changed_is_read_anew(tmp_path: Path) -> None:
    """As with a .pyc: by time and size of the source."""
    for source in Path(__file__).parents[4].joinpath("runtime").rglob("*.py"):
        copy = tmp_path / "tree" / source.relative_to(Path(__file__).parents[4])
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(source.read_bytes())
    subprocess.run(
        [sys.executable, "-m", "runtime.oci.install", str(tmp_path / "lab-oci")],
        cwd=tmp_path / "tree",
        check=True,
        capture_output=True,
    )
    features = tmp_path / "tree/runtime/oci/state.py"
    features.write_text(features.read_text().replace('VERSION = "1.2.0"', 'VERSION = "1.2.1"'))
    done = subprocess.run(
        [tmp_path / "lab-oci", "--version"], capture_output=True, text=True, check=True
    )
    assert "spec: 1.2.1" in done.stdout


def test_a_pack_holds_no_docstrings(tmp_path: Path) -> None:
    build(tmp_path / "pack")
    data = (tmp_path / "pack").read_bytes()
    assert b"runtime.oci.main" in data
    assert b"One command line; its exit status" not in data


def test_interpreters_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ContainerError, match="first line"):
        script("/opt/my python", tmp_path / "pack")
    assert main([str(tmp_path / "lab-oci"), "--python", "/bin/false"]) == 1
    assert "cannot pack this package" in capsys.readouterr().err
    assert main([str(tmp_path / "no" / "such" / "lab-oci")]) == 1
    assert not (tmp_path / "lab-oci").exists()
