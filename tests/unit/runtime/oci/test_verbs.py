"""The small languages of the verbs' arguments, and what is printed for other programs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lab import __version__
from runtime.errors import UsageError
from runtime.oci import main
from runtime.oci.paths import absolute, exists, real_directory
from runtime.oci.verbs.events import seconds
from runtime.oci.verbs.features import features, version_text
from runtime.oci.verbs.kill import signal_number
from runtime.oci.verbs.spec import example
from runtime.oci.verbs.update import size


@pytest.mark.parametrize(
    ("name", "number"),
    [("15", 15), ("TERM", 15), ("SIGTERM", 15), ("term", 15), ("SIGRTMIN+3", 37), ("RTMAX", 64)],
)
def test_signals(name: str, number: int) -> None:
    assert signal_number(name) == number


@pytest.mark.parametrize("name", ["", "0", "65", "-9", "SIGNOPE", "SIG_DFL", "_DFL", "RTMAX+1"])
def test_no_signals(name: str) -> None:
    with pytest.raises(UsageError, match="unknown signal"):
        signal_number(name)


@pytest.mark.parametrize(
    ("text", "number"),
    [("-1", -1), ("0", 0), ("4096", 4096), ("64k", 1 << 16), ("1.5m", 3 << 19), ("2GiB", 1 << 31)],
)
def test_sizes(text: str, number: int) -> None:
    assert size("memory", text) == number


@pytest.mark.parametrize("text", ["", "m", "-2", "1x", "1e400g", "nan", "1mm"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="is no size"):
        size("memory", text)


@pytest.mark.parametrize(
    ("text", "number"), [("5s", 5), ("1m30s", 90), ("500ms", 0.5), ("1.5h", 5400), ("2us", 2e-6)]
)
def test_durations(text: str, number: float) -> None:
    assert seconds(text) == pytest.approx(number)


@pytest.mark.parametrize("text", ["5", "s", "5x", "-1s", "0s", "1.2.3s", "5 s"])
def test_no_durations(text: str) -> None:
    with pytest.raises(UsageError, match="--interval"):
        seconds(text)


def test_version_as_docker_and_go_runc_read_it() -> None:
    first, second, *_ = version_text().splitlines()
    assert first == f"lab-oci version {__version__}"
    assert second.startswith("spec: 1.")


def test_features_are_as_the_specification_has_them() -> None:
    """features.md: known members only, the versions, and each list without duplicates."""
    document = json.loads(json.dumps(features()))
    assert set(document) == {
        "ociVersionMin",
        "ociVersionMax",
        "hooks",
        "mountOptions",
        "linux",
        "annotations",
    }
    assert document["hooks"][0] == "prestart"
    assert len(document["hooks"]) == 6
    assert {"ro", "rbind", "rro", "idmap", "remount", "rslave"} <= set(document["mountOptions"])
    linux = document["linux"]
    assert set(linux["namespaces"]) == {
        namespace["type"] for namespace in example()["linux"]["namespaces"]
    } | {"user", "time"}
    assert "CAP_SYS_ADMIN" in linux["capabilities"]
    assert "SCMP_ACT_ERRNO" in linux["seccomp"]["actions"]
    for found in (document["mountOptions"], linux["capabilities"], linux["seccomp"]["archs"]):
        assert len(found) == len(set(found))


def test_every_verb_is_there_and_says_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--help"]) == 0
    said = capsys.readouterr().out
    for verb in main.VERBS:
        assert f"\n  {verb} " in said
        assert main.run([verb, "--help"]) == 0
        assert f"lab-oci {verb}" in capsys.readouterr().out


def test_errors_are_one_line_and_a_status(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = ["--root", str(tmp_path)]
    for line, status in (
        (["state", "x"], 1),
        (["exec", "x", "y"], 255),
        (["nope"], 1),
        (["-x"], 1),
    ):
        assert main.run([*root, *line]) == status
        (said,) = capfd.readouterr().err.splitlines()
        assert "level=error" in said


def test_a_defect_is_told_too(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("runtime.oci.verbs.state.pretty", lambda state: 1 / 0)
    directory = tmp_path / "x"
    directory.mkdir()
    text = '{"pid": 0, "started": 0, "creating": false, "bundle": "/", "annotations": {}}'
    (directory / "state.json").write_text(text.replace("}}", '}, "rootfs": "/", "created": ""}'))
    assert main.run(["--root", str(tmp_path), "state", "x"]) == 1
    assert "internal error in state: ZeroDivisionError" in capfd.readouterr().err
    with pytest.raises(ZeroDivisionError):
        main.run(["--debug", "--root", str(tmp_path), "state", "x"])


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (
        ".",
        "a",
        "./a",
        "a/",
        "../a",
        "a//b",
        "a/./b",
        "/",
        "/a/",
        "/a/../b",
        "//a",
        ".x",
    ):
        assert absolute(path) == os.path.abspath(path).replace("//", "/"), path  # noqa: PTH100 - what it stands for
    (tmp_path / "link").symlink_to("nowhere")
    assert exists("link")
    assert not exists("nowhere")
    (tmp_path / "here").symlink_to(tmp_path)
    assert real_directory("here") == str(tmp_path)
    with pytest.raises(OSError, match=r"Not a directory|No such file"):
        real_directory("link")
