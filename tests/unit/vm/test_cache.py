from pathlib import Path

import pytest

from vm.cache import make_once


def test_is_made_once(tmp_path: Path) -> None:
    calls = []

    def make(target: Path) -> None:
        calls.append(target)
        (target / "x").write_text("1")

    assert make_once(tmp_path / "a", make) == tmp_path / "a"
    make_once(tmp_path / "a", make)
    assert len(calls) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def make(target: Path) -> None:
        (target / "x").write_text("1")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        make_once(tmp_path / "a", make)
    assert list(tmp_path.iterdir()) == []


def test_the_first_to_finish_wins(tmp_path: Path) -> None:
    def make(target: Path) -> None:
        (target / "x").write_text("second")
        make_once(tmp_path / "a", lambda other: (other / "x").write_text("first") and None)

    make_once(tmp_path / "a", make)
    assert (tmp_path / "a/x").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_leftovers_of_the_killed_are_swept(tmp_path: Path) -> None:
    (tmp_path / ".tmp-dead").mkdir()
    (tmp_path / ".tmp-dead/x").write_text("1")
    make_once(tmp_path / "a", lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
