"""Percentile bootstrap intervals of averages over patients.

Patients, not frames, are resampled, because frames of one patient are not independent.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import bootstrap

RESAMPLES = 9999

Values = Sequence[float] | np.ndarray


class Interval(NamedTuple):
    """An average and its confidence interval."""

    mean: float
    low: float
    high: float
    patients: int
    """Number of patients."""


def mean_interval(values: Values, *, level: float = 0.95, seed: int = 0) -> Interval:
    """Mean over patients with its percentile bootstrap interval (Efron 1979), `RESAMPLES` resamples.

    Undefined scores (NaN, or infinite, such as the PSNR of a clip against itself) are left out. With fewer than two
    patients the interval is NaN.
    """
    return _interval([_known(values)], np.mean, level, seed)


def median_interval(values: Values, *, level: float = 0.95, seed: int = 0) -> Interval:
    """Median over patients (in the field `mean`) with its interval, as `mean_interval`."""
    return _interval([_known(values)], np.median, level, seed)


def pooled_interval(frames: Sequence[Values], *, level: float = 0.95, seed: int = 0) -> Interval:
    """Mean over all frames, given by patient, with its interval over patients.

    Whole patients are resampled (cluster bootstrap): sum of sums over sum of counts. Undefined values are left out.
    """
    known = [values for values in map(_known, frames) if len(values)]
    sums, counts = (np.array([f(values) for values in known], float) for f in (np.sum, len))
    return _interval([sums, counts], lambda s, n, axis=-1: s.sum(axis) / n.sum(axis), level, seed)


def paired_difference(first: Values, second: Values, *, level: float = 0.95, seed: int = 0) -> Interval:
    """Mean over patients of `first - second`, the same patients in the same order, with its interval."""
    if len(first) != len(second):
        raise ValueError(f"`second` must have as many patients as `first`, {len(first)}, got {len(second)}.")
    with np.errstate(invalid="ignore"):  # inf - inf: undefined
        values = np.subtract(first, second, dtype=float)
    return mean_interval(values, level=level, seed=seed)


def _known(values: Values) -> np.ndarray:
    array = np.asarray(values, float)
    return array[np.isfinite(array)]


def _interval(samples: list[np.ndarray], average: Callable[..., np.ndarray], level: float, seed: int) -> Interval:
    count = len(samples[0])
    if count == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    value = float(average(*samples, axis=-1))
    if count < 2:
        return Interval(value, np.nan, np.nan, count)
    found = bootstrap(
        samples,
        average,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=level,
        method="percentile",
        random_state=np.random.default_rng(seed),  # pyright: ignore[reportCallIssue]  # `rng` from SciPy 1.15 on
    ).confidence_interval
    return Interval(value, float(found.low), float(found.high), count)
