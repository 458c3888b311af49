"""Samplers against files and processes whose size is known."""

import mmap
import os
import subprocess
from pathlib import Path

import pytest

from lab.samplers import allocated, mem_available, proportional_set_size


def test_holes_and_second_names_are_not_counted(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    (tmp_path / "data").write_bytes(b"x" * 65536)
    with (tmp_path / "data").open("rb") as file:
        os.fsync(file.fileno())
    empty = allocated([tmp_path / "sparse"])
    once = allocated([tmp_path / "data"])
    (tmp_path / "name2").hardlink_to(tmp_path / "data")
    (tmp_path / "link").symlink_to("/usr")
    assert empty == 0
    assert once >= 65536
    assert allocated([tmp_path / "data", tmp_path / "name2"]) == once
    whole = allocated([tmp_path])
    assert once <= whole < once + 65536, "the directory itself, and nothing behind the link"


def test_a_missing_path_is_an_error_and_not_zero(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        allocated([tmp_path / "none"])


def test_touched_memory_shows_in_pss() -> None:
    before = proportional_set_size(os.getpid())
    with mmap.mmap(-1, 64 << 20) as memory:
        for offset in range(0, len(memory), 4096):
            memory[offset] = 1
        assert proportional_set_size(os.getpid()) - before >= 60 << 20


def test_a_vanished_process_is_an_error_and_not_zero() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    with pytest.raises((ProcessLookupError, FileNotFoundError)):
        proportional_set_size(child.pid)


def test_available_memory_is_part_of_all_memory() -> None:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < mem_available() <= total
