"""Sizes and times as people write them."""

import math

import pytest

from lab.units import format_numbers, parse_seconds, parse_size


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


@pytest.mark.parametrize(
    ("unit", "values", "texts", "name"),
    [
        ("s", (0.00193, 0.00188, 0.00201), ["1.93", "1.88", "2.01"], "ms"),
        ("s", (1.19, 1.15, 1.2149), ["1.19", "1.15", "1.21"], "s"),
        ("s", (4.2e-5,), ["42.0"], "µs"),
        ("s", (0.0, -1e-6), ["0.00", "-1.00"], "µs"),
        ("s", (-0.5, -0.6, math.nan), ["-500", "-600", "?"], "ms"),
        ("B", (1 << 20, 3 << 19), ["1.00", "1.50"], "MiB"),
        ("B", (-3.5 * 2**30,), ["-3.50"], "GiB"),
        ("B", (512, 511.6), ["512", "512"], "B"),
        ("×", (88.41, 80.2, 90.7), ["88.4", "80.2", "90.7"], "×"),
        ("", (0.000123,), ["0.000123"], ""),
        ("", (123456.7,), ["123457"], ""),
        ("s", (math.nan,), ["?"], "µs"),
    ],
)
def test_numbers_share_a_prefix_and_decimals(
    unit: str, values: tuple[float, ...], texts: list[str], name: str
) -> None:
    assert format_numbers(unit, values) == (texts, name)
