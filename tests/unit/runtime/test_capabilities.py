"""Masks and names."""

from __future__ import annotations

import pytest

from runtime import SpecError
from runtime.capabilities import CAPABILITIES, DEFAULT, bits, mask, names


def test_numbers_are_the_kernels() -> None:
    numbers = {"CAP_CHOWN": 0, "CAP_SYS_ADMIN": 21, "CAP_AUDIT_READ": 37, "CAP_BPF": 39}
    assert {name: CAPABILITIES.index(name) for name in numbers} == numbers
    assert len(CAPABILITIES) == len(set(CAPABILITIES)) == 41


def test_the_default_set_is_dockers() -> None:
    assert mask(DEFAULT) == 0xA80425FB
    assert names(0xA80425FB) == DEFAULT


def test_bits() -> None:
    assert bits(0) == ()
    assert bits(0b1010_0000_0001) == (0, 9, 11)
    assert names(1 << 60) == {"CAP_60"}


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(SpecError, match="CAP_NONSENSE"):
        mask(["CAP_NONSENSE"])
