"""Percentile bootstrap intervals of averages over patients.

Patients, not frames, are resampled, because frames of one patient are not independent.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import bootstrap

RESAMPLES = 9999

Values = Sequence[float] | np.ndarray


class Interval(NamedTuple):
    """An average over a number of patients and its 95 % confidence interval."""

    mean: float
    low: float
    high: float
    patients: int


def mean_interval(values: Values) -> Interval:
    """Mean over patients with its percentile bootstrap interval (Efron 1979), `RESAMPLES` resamples.

    Undefined scores (NaN, or infinite, such as the PSNR of a clip against itself) are left out. With fewer than two
    patients the interval is NaN.
    """
    return bootstrapped([_known(values)], np.mean)


def median_interval(values: Values) -> Interval:
    """Median over patients (in the field `mean`) with its interval, as `mean_interval`."""
    return bootstrapped([_known(values)], np.median)


def pooled_interval(frames: Sequence[Values]) -> Interval:
    """Mean over all frames, given by patient, with its interval over patients.

    Whole patients are resampled (cluster bootstrap): sum of sums over sum of counts. Undefined values are left out.
    """
    known = [values for values in map(_known, frames) if len(values)]
    sums, counts = (np.array([f(values) for values in known], float) for f in (np.sum, len))
    return bootstrapped([sums, counts], lambda s, n, axis=-1: s.sum(axis) / n.sum(axis))


def _known(values: Values) -> np.ndarray:
    array = np.asarray(values, float)
    return array[np.isfinite(array)]


def bootstrapped(
    samples: list[np.ndarray], average: Callable[..., Any], resamples: int = RESAMPLES, *, vectorized: bool = True
) -> Interval:
    """An average of `samples` (patients,) with its interval; `vectorized`: it takes an `axis`, as `np.mean`."""
    count = len(samples[0])
    if count == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    value = float(average(*samples, axis=-1) if vectorized else average(*samples))
    if count < 2:
        return Interval(value, np.nan, np.nan, count)
    found = bootstrap(
        samples, average, paired=True, vectorized=vectorized, n_resamples=resamples, method="percentile",
        random_state=np.random.default_rng(0),  # pyright: ignore[reportCallIssue]  # `rng` from SciPy 1.15 on
    ).confidence_interval  # fmt: skip
    return Interval(value, float(found.low), float(found.high), count)
