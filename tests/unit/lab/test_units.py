"""Sizes and times as people write them."""

import pytest

from lab.units import parse_seconds, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("64M", 64 << 20), ("1.5GiB", 3 << 29), ("10 kB", 10240), ("7", 7), (7, 7), ("2t", 2 << 40)],
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1M", "1MM", "1e3", None, True, 1.5])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="64M"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("2 s", 2), ("1.5min", 90), ("3", 3), (3, 3), (0.5, 0.5), ("10us", 1e-5)],
)
def test_times(text: object, seconds: float) -> None:
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "-1s", None, True, "1 fortnight"])
def test_what_is_no_time(text: object) -> None:
    with pytest.raises(ValueError, match="250ms"):
        parse_seconds(text)
