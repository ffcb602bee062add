"""How sure a mean over patients is: percentile bootstrap intervals."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import bootstrap

RESAMPLES = 9999


class Interval(NamedTuple):
    """A mean and its confidence interval."""

    mean: float
    low: float
    high: float
    patients: int
    """How many patients it rests on."""


def mean_interval(values: Sequence[float], *, level: float = 0.95, seed: int = 0) -> Interval:
    """Mean over patients with its percentile bootstrap interval (Efron 1979), `RESAMPLES` resamples.

    Patients, not frames, are resampled: the frames of one patient are not independent. Patients whose score is
    undefined (NaN, or infinite as the PSNR of a clip against itself) are left out. With fewer than two patients the
    interval is NaN.
    """
    known = np.asarray([value for value in values if np.isfinite(value)], float)
    if len(known) < 2:
        return Interval(float(known.mean()) if len(known) else np.nan, np.nan, np.nan, len(known))
    found = bootstrap(
        (known,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=level,
        method="percentile",
        random_state=np.random.default_rng(seed),  # pyright: ignore[reportCallIssue]  # `rng` from SciPy 1.15 on
    ).confidence_interval
    return Interval(float(known.mean()), float(found.low), float(found.high), len(known))


def paired_difference(
    first: Sequence[float], second: Sequence[float], *, level: float = 0.95, seed: int = 0
) -> Interval:
    """Mean over patients of `first - second`, the same patients in the same order, with its interval."""
    if len(first) != len(second):
        raise ValueError(f"`second` must have as many patients as `first`, {len(first)}, got {len(second)}.")
    with np.errstate(invalid="ignore"):  # inf - inf: undefined, left out
        differences = np.subtract(first, second)
    return mean_interval(list(differences), level=level, seed=seed)
