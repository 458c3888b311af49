"""Estimates and intervals, against published numbers, exact ones, and simulated truth."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from lab.statistics import FEWEST, Interval, median_interval, ratio_of_medians, slope

# NIST Statistical Reference Datasets, linear regression, "Norris": (y, x) of an ozone monitor's
# calibration, with certified estimates and standard deviations.
NORRIS = [
    *[(0.1, 0.2), (338.8, 337.4), (118.1, 118.2), (888.0, 884.6), (9.2, 10.1), (228.1, 226.5)],
    *[(668.5, 666.3), (998.5, 996.3), (449.1, 448.6), (778.9, 777.0), (559.2, 558.2), (0.3, 0.4)],
    *[(0.1, 0.6), (778.1, 775.5), (668.8, 666.9), (339.3, 338.0), (448.9, 447.5), (10.8, 11.6)],
    *[(557.7, 556.0), (228.3, 228.1), (998.0, 995.8), (888.8, 887.6), (119.6, 120.2), (0.3, 0.3)],
    *[(0.6, 0.3), (557.6, 556.8), (339.3, 339.1), (888.0, 887.2), (998.5, 999.0), (778.9, 779.0)],
    *[(10.2, 11.1), (117.6, 118.3), (228.9, 229.2), (668.4, 669.1), (449.2, 448.9), (0.2, 0.5)],
]
SLOPE, SLOPE_DEVIATION, INTERCEPT = 1.00211681802045, 0.429796848199937e-03, -0.262323073774029
T_34 = 2.0322445  # 0.975 quantile of Student's t with 34 degrees of freedom, from printed tables


def test_slope_of_nists_norris_data() -> None:
    y, x = zip(*NORRIS, strict=True)
    fit = slope(x, y)
    assert fit.slope.estimate == pytest.approx(SLOPE, rel=1e-12)
    assert fit.intercept == pytest.approx(INTERCEPT, rel=1e-10)
    assert fit.slope.low == pytest.approx(SLOPE - T_34 * SLOPE_DEVIATION, rel=1e-9)
    assert fit.slope.high == pytest.approx(SLOPE + T_34 * SLOPE_DEVIATION, rel=1e-9)
    assert (fit.slope.n, fit.slope.confidence) == (36, 0.95)


def test_slope_by_hand() -> None:
    """x 1..5, y 2 4 5 4 5: Sxx 10, Sxy 6, residual sum of squares 2.4, s² 0.8, t(3) 3.182446."""
    fit = slope([1, 2, 3, 4, 5], [2, 4, 5, 4, 5])
    assert fit.slope.estimate == pytest.approx(0.6)
    assert fit.intercept == pytest.approx(2.2)
    assert fit.slope.high - fit.slope.estimate == pytest.approx(3.182446 * math.sqrt(0.8 / 10))


def test_slope_at_another_confidence_is_another_width() -> None:
    y, x = zip(*NORRIS, strict=True)
    assert slope(x, y, confidence=0.99).slope.low < slope(x, y).slope.low


def test_two_points_make_a_slope_without_an_interval() -> None:
    fit = slope([1, 3], [10, 20])
    assert (fit.slope.estimate, fit.intercept) == (5, 5)
    assert not fit.slope.has_bounds
    assert fit.slope.method == "only two points"


def test_points_on_a_line_have_the_line_as_their_interval() -> None:
    fit = slope([1, 2, 4, 4], [3, 5, 9, 9])
    assert (fit.slope.low, fit.slope.estimate, fit.slope.high) == pytest.approx((2, 2, 2))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: slope([4, 4, 4], [1, 2, 3]), "two different x"),
        (lambda: slope([], []), "no values"),
        (lambda: slope([1, 2, 3], [1, math.nan, 3]), "not finite"),
        (lambda: median_interval([]), "no values"),
        (lambda: median_interval([1.0, math.inf]), "not finite"),
        (lambda: ratio_of_medians([1.0], []), "no values"),
        (lambda: ratio_of_medians([1.0], [math.nan]), "not finite"),
        (lambda: ratio_of_medians([1.0], [0.0]), "not above 0"),
        (lambda: ratio_of_medians([1.0], [-1.0]), "not above 0"),
    ],
)
def test_what_has_no_estimate_is_refused(call: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


def test_median_of_even_and_odd() -> None:
    assert median_interval([3, 1, 2]).estimate == 2
    assert median_interval([4, 1, 2, 3]).estimate == 2.5


def test_too_few_values_have_no_interval_and_say_so() -> None:
    for interval in (
        median_interval(range(FEWEST - 1)),
        ratio_of_medians(range(1, 30), range(1, FEWEST)),
        ratio_of_medians(range(1, FEWEST), range(1, 30)),
    ):
        assert not interval.has_bounds
        assert math.isnan(interval.high)
        assert (interval.method, interval.n) == (f"fewer than {FEWEST} trials", FEWEST - 1)
    assert median_interval(range(FEWEST)).has_bounds


def test_equal_values_have_themselves_as_their_interval() -> None:
    assert median_interval([2.5] * 8) == Interval(2.5, 2.5, 2.5, 0.95, "all values equal", 8)
    ratio = ratio_of_medians([5.0] * 8, [2.0] * 9)
    assert (ratio.low, ratio.estimate, ratio.high, ratio.n) == (2.5, 2.5, 2.5, 8)


@pytest.mark.parametrize("n", [5, 7, 11, 21, 41])
def test_bounds_are_the_order_statistics_that_the_bootstrap_must_find(n: int) -> None:
    """For odd n the bootstrap's distribution of a median is known: it is at most the k-th smallest
    value if at least (n+1)/2 of n draws are among the k smallest, each with probability k/n. BCa
    corrects the percentiles a little, and a simulation of it wavers: one rank either way."""
    interval = median_interval([float(value) for value in range(1, n + 1)])
    at_most = [float(binom.sf((n + 1) // 2 - 1, n, k / n)) for k in range(n + 1)]
    low = next(k for k in range(1, n + 1) if at_most[k] >= 0.025)
    high = next(k for k in range(1, n + 1) if at_most[k] >= 0.975)
    assert interval.low in {low - 1, low, low + 1}
    assert interval.high in {high - 1, high, high + 1}
    assert interval.method in {"BCa bootstrap", "percentile bootstrap"}


samples = st.lists(st.floats(1e-3, 1e3), min_size=FEWEST, max_size=25)


@settings(max_examples=25, deadline=None)
@given(samples)
def test_an_interval_holds_its_median_and_stays_within_the_data(values: list[float]) -> None:
    interval = median_interval(values)
    slack = 1 + 1e-12  # scipy interpolates between equal values
    assert min(values) <= interval.low * slack
    assert interval.low <= interval.estimate * slack
    assert interval.estimate <= interval.high * slack
    assert interval.high <= max(values) * slack


@settings(max_examples=10, deadline=None)
@given(samples, samples)
def test_a_ratio_follows_its_units(values: list[float], base: list[float]) -> None:
    once, scaled = ratio_of_medians(values, base), ratio_of_medians([8 * v for v in values], base)
    for name in ("estimate", "low", "high"):
        assert getattr(scaled, name) == pytest.approx(8 * getattr(once, name))


def test_the_same_data_give_the_same_interval() -> None:
    values = np.random.default_rng(1).lognormal(0, 1, 20)
    assert median_interval(values) == median_interval(values)
    other = median_interval(values, rng=np.random.default_rng(99))
    assert other.estimate == median_interval(values).estimate


def test_a_base_that_can_be_0_has_a_ratio_without_bounds() -> None:
    ratio = ratio_of_medians([1, 2, 3, 4, 5], [0, 0, 1, 2, 3])
    assert (ratio.estimate, ratio.has_bounds) == (3, False)
    assert "did not converge" in ratio.method


def test_ties_that_break_bca_still_have_an_interval() -> None:
    interval = median_interval([1, 1, 1, 1, 1, 2])
    assert (interval.low, interval.method) == (1, "percentile bootstrap")


# Simulated runs, of which the truth is known: boot times are skewed, so log-normal.

RUNS = 300


def covered(intervals: list[Interval], truth: float) -> float:
    return sum(i.low <= truth <= i.high for i in intervals) / len(intervals)


@pytest.mark.parametrize("n", [12, 30])
def test_95_per_cent_intervals_of_a_median_hold_it_about_95_times_of_100(n: int) -> None:
    rng = np.random.default_rng(n)
    intervals = [median_interval(rng.lognormal(0, 0.5, n)) for _ in range(RUNS)]
    assert 0.90 <= covered(intervals, 1.0) <= 0.98


def test_95_per_cent_intervals_of_a_ratio_hold_it_about_95_times_of_100() -> None:
    rng = np.random.default_rng(2)
    intervals = [
        ratio_of_medians(3 * rng.lognormal(0, 0.5, 12), rng.lognormal(0, 0.3, 30))
        for _ in range(RUNS)
    ]
    assert 0.90 <= covered(intervals, 3.0) <= 0.98


def test_95_per_cent_intervals_of_a_slope_hold_it_about_95_times_of_100() -> None:
    rng = np.random.default_rng(3)
    n = np.repeat([1.0, 8.0, 16.0, 32.0], 3)
    intervals = [slope(n, 40 + 2.5 * n + rng.normal(0, 5, n.size)).slope for _ in range(RUNS)]
    assert 0.92 <= covered(intervals, 2.5) <= 0.98
