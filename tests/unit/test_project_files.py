"""The files around the code: no registry's address, a whole lock, true metadata, a whole wheel."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from lab import __version__

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()

# Hosts of package registries and of distributions' mirrors. In parts, so that this file names none.
HOSTS = [
    r"\.".join(parts)
    for parts in (
        ("pypi", "org"),
        ("files", "pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("deb", "debian", "org"),
        ("security", "debian", "org"),
        ("snapshot", "debian", "org"),
        ("archive", "ubuntu", "com"),
        ("security", "ubuntu", "com"),
        ("crates", "io"),
        ("pkg", "dev"),
    )
]
REGISTRY = re.compile(r"\b(" + "|".join(HOSTS) + r")\b")


def tracked() -> list[Path]:
    """Files of the checkout. git refuses a tree of another user unless told that it is safe."""
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"not a git checkout: {done.stderr.strip()}")
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_file_names_a_registry() -> None:
    wrong = []
    for path in tracked():
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if REGISTRY.search(line):
                wrong.append(f"{path.relative_to(ROOT)}:{number}")
    assert not wrong


def test_the_lock_is_names_versions_and_hashes() -> None:
    assert "://" not in LOCK
    assert not re.search(r"^\s*--(?!hash=)", LOCK, re.MULTILINE)
    for entry in re.split(r"\n(?=\S)", LOCK):
        if not entry.startswith("#"):
            assert re.match(r"[a-z0-9.-]+(\[[a-z,]+\])?==\S+", entry), entry
            assert "--hash=sha256:" in entry, entry


def test_the_lock_holds_all_that_is_asked_for() -> None:
    locked = {normal(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", LOCK, re.MULTILINE)}
    extras = PROJECT["optional-dependencies"]
    asked = [
        *PROJECT["dependencies"],
        *(d for e in ("notebooks", "ssh", "ansible", "dev") for d in extras[e]),
    ]
    names = {normal(re.split(r"[\[<>=~! ;]", one)[0]) for one in asked} - {"isolation-lab"}
    assert names - locked == set()
    assert "setuptools" in locked  # the build backend: the scripts build without isolation


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_one_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    assert PROJECT["version"] == __version__
    assert re.search(rf'^version: "?{re.escape(__version__)}"?$', citation, re.MULTILINE)
    assert f"[{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_ci_and_scripts_are_executable() -> None:
    for name in ("scripts/bench", "scripts/test", "scripts/check", "scripts/lock", ".ci/run"):
        assert (ROOT / name).stat().st_mode & 0o111, name


def test_the_wheel_holds_all_data(tmp_path: Path) -> None:
    """Built from a copy of the tracked files, as a release is; nothing is fetched."""
    tree = tmp_path / "tree"
    files = tracked()
    for path in files:
        target = tree / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--wheel-dir", str(tmp_path), str(tree)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    for path in files:
        where = path.relative_to(ROOT)
        if where.parts[0] in {"lab", "runtime", "vm"} and not where.name.endswith((".txt", ".md")):
            assert where.as_posix() in inside
        if where.parts[0] == "notebooks" and where.suffix == ".ipynb":
            assert f"lab/_notebooks/{where.name}" in inside
    assert not [name for name in inside if name.startswith(("tests/", "scripts/", "results/"))]
