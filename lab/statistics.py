"""Statistics: pure functions from numbers to estimates with intervals.

Times are skewed, so the centre is the median, and its interval the bias-corrected and accelerated
bootstrap (BCa): B. Efron, "Better Bootstrap Confidence Intervals", J. Am. Stat. Assoc. 82 (1987)
171-185, as scipy.stats.bootstrap computes it. Every function that draws takes its generator: the
same data give the same interval.

Too few values carry no interval: below `FEWEST`, bounds are nan and the method says so, for a
made-up interval is worse than none.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

__all__ = ["FEWEST", "Interval", "Slope", "median_interval", "ratio_of_medians", "slope"]

FEWEST = 5
"""Fewest values that a bootstrap interval of a median is given for."""

TOO_FEW = f"fewer than {FEWEST} trials"

RESAMPLES = 4999


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate, and the bounds that contain the true value in `confidence` of such samples."""

    estimate: float
    low: float
    high: float
    confidence: float
    method: str
    n: int

    @property
    def has_bounds(self) -> bool:
        """Whether the sample could carry an interval."""
        return not math.isnan(self.low)


@dataclass(frozen=True, slots=True)
class Slope:
    """A line y = intercept + slope · x with the slope's interval."""

    slope: Interval
    intercept: float


def _generator(rng: np.random.Generator | None) -> np.random.Generator:
    return rng if rng is not None else np.random.default_rng(20_040_229)


def _sample(values: Sequence[float]) -> Any:
    sample = np.asarray(values, dtype=float)
    if sample.size == 0:
        raise ValueError("an estimate from no values")
    if not np.isfinite(sample).all():
        raise ValueError("an estimate from values of which one is not finite")
    return sample


def median_interval(
    values: Sequence[float],
    *,
    confidence: float = 0.95,
    rng: np.random.Generator | None = None,
) -> Interval:
    """The median with its BCa bootstrap interval. Raises ValueError for no values, or one that is
    not finite."""
    sample = _sample(values)
    centre = float(np.median(sample))
    if sample.size < FEWEST:
        return Interval(centre, math.nan, math.nan, confidence, TOO_FEW, sample.size)
    if np.ptp(sample) == 0:
        return Interval(centre, centre, centre, confidence, "all values equal", sample.size)
    low, high, method = _bootstrap((sample,), _median, confidence, _generator(rng))
    return Interval(centre, low, high, confidence, method, sample.size)


def _median(sample: Any, axis: int = -1) -> Any:
    return np.median(sample, axis=axis)


def _median_ratio(a: Any, b: Any, axis: int = -1) -> Any:
    return np.median(a, axis=axis) / np.median(b, axis=axis)


def ratio_of_medians(
    values: Sequence[float],
    base: Sequence[float],
    *,
    confidence: float = 0.95,
    rng: np.random.Generator | None = None,
) -> Interval:
    """median(values) / median(base), both resampled independently. `n` is the smaller sample's.

    Raises ValueError for no values, one that is not finite, or a base whose median is not above
    0."""
    a, b = _sample(values), _sample(base)
    if np.median(b) <= 0:
        raise ValueError("ratio to a base that is not above 0")
    n = min(a.size, b.size)
    ratio = float(np.median(a) / np.median(b))
    if n < FEWEST:
        return Interval(ratio, math.nan, math.nan, confidence, TOO_FEW, n)
    if np.ptp(a) == 0 and np.ptp(b) == 0:
        return Interval(ratio, ratio, ratio, confidence, "all values equal", n)
    low, high, method = _bootstrap((a, b), _median_ratio, confidence, _generator(rng))
    return Interval(ratio, low, high, confidence, method, n)


def _bootstrap(
    samples: tuple[Any, ...], statistic: Any, confidence: float, rng: np.random.Generator
) -> tuple[float, float, str]:
    """BCa; percentile where BCa has no answer (the jackknife of a median can be degenerate); no
    bounds where that has none either (a base that resamples to a median of 0)."""
    for method in ("BCa", "percentile"):
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", stats.DegenerateDataWarning)
            result = stats.bootstrap(
                samples,
                statistic,
                n_resamples=RESAMPLES,
                batch=500,
                vectorized=True,
                paired=False,
                confidence_level=confidence,
                method=method,
                rng=rng,
            ).confidence_interval
        if math.isfinite(result.low) and math.isfinite(result.high):
            return float(result.low), float(result.high), f"{method} bootstrap"
    return math.nan, math.nan, "the bootstrap did not converge"


def slope(
    x: Sequence[float],
    y: Sequence[float],
    *,
    confidence: float = 0.95,
) -> Slope:
    """The cost of one more: slope of y over x by ordinary least squares, with its t interval.

    Least squares and not a rank method: the few levels of a density run tie most pairs of x. Raises
    ValueError for fewer than two different x, or a value that is not finite. With no more points
    than parameters, no interval. Source: any text on linear regression, e.g. Draper & Smith,
    Applied Regression Analysis, 3rd ed., section 1.4."""
    xs, ys = _sample(x), _sample(y)
    if np.unique(xs).size < 2:
        raise ValueError("a slope needs at least two different x")
    fit = stats.linregress(xs, ys)
    estimate, intercept = float(fit.slope), float(fit.intercept)
    if xs.size <= 2:
        bounds = (math.nan, math.nan)
    else:
        reach = float(stats.t.ppf((1 + confidence) / 2, xs.size - 2)) * float(fit.stderr)
        bounds = (estimate - reach, estimate + reach)
    method = "least squares, t interval" if xs.size > 2 else "only two points"
    return Slope(Interval(estimate, *bounds, confidence, method, int(xs.size)), intercept)
