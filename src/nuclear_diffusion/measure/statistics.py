"""What the tables say of each method's scores over patients, and whether two methods differ."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import wilcoxon

from nuclear_diffusion.measure.bootstrap import Interval, differences, mean_interval, median_interval, pooled_interval
from nuclear_diffusion.metrics.visible import BRIGHT, KEPT, NEIGHBOURHOOD


class Score(NamedTuple):
    """A column of the tables."""

    title: str
    unit: str
    better: str
    """higher, lower, or nothing where neither is."""
    definition: str


SCORES: dict[str, Score] = {
    "gcnr": Score(
        "gCNR",
        "",
        "higher",
        "1 - sum_k min(f_k, g_k) of the histograms f, g of septum and ventricle in the output: 256 bins from their "
        "joint minimum to maximum, each of sum 1. Biased upwards by bins and few pixels.",
    ),
    "cnr": Score(
        "CNR",
        "",
        "higher",
        "(mean of septum - mean of ventricle) / sqrt(sum of their variances, ddof 0) in the output, signed.",
    ),
    "ks_a": Score(
        "KS_A",
        "",
        "lower",
        "Two-sample Kolmogorov-Smirnov statistic of the septum's values, input against output: tissue changed.",
    ),
    "ks_b": Score(
        "KS_B",
        "",
        "higher",
        "Two-sample Kolmogorov-Smirnov statistic of the ventricle's values, input against output: haze changed.",
    ),
    "psnr": Score(
        "PSNR", "dB", "higher", "10 log10(1 / mean squared error) against the truth within the sector, peak 1."
    ),
    "ssim": Score(
        "SSIM", "", "higher", "Structural similarity to the truth, 7 x 7 windows, mean of its map in the sector."
    ),
    "flicker_a": Score(
        "Flicker, septum",
        "grey levels",
        "lower",
        "Root mean square over time of m_t-1 - 2 m_t + m_t+1, m_t the output's mean 8-bit value over the pixels that "
        "are septum in every mask of the clip; over all its frames, one value a clip. The tissue's own changes count "
        "too: compare with the input.",
    ),
    "flicker_b": Score("Flicker, ventricle", "grey levels", "lower", "The same of the ventricle."),
    "bright_lost": Score(
        "Bright tissue lost",
        "",
        "lower",
        f"Of the sector's pixels whose {NEIGHBOURHOOD} x {NEIGHBOURHOOD} mean in the input, and in the truth where it "
        f"is known, is above {BRIGHT:g}: the share whose mean in the output is below {KEPT:g} times the input's; over "
        "all frames, one value a clip. Without a truth bright haze counts as tissue.",
    ),
    "seconds": Score(
        "Time",
        "s/frame",
        "lower",
        "Wall-clock time of the separation over the clip's frames. The first clip of each length and method in a "
        "process, which also compiles, counts only where there is no other.",
    ),
}
"""Every score is on the 8-bit output, one value a frame or a clip; a patient's is the mean over these."""


@dataclass(frozen=True)
class Summary:
    """One score of one method. Intervals are 95 % percentile bootstrap intervals over patients."""

    method: str
    score: str
    patients: int
    frames: int
    """Values: frames, or clips where a score has one value a clip."""
    frame_mean: float
    """Mean over all of them, as the paper and the challenge print it."""
    frame_mean_low: float
    frame_mean_high: float
    mean: float
    """Mean over patients."""
    mean_low: float
    mean_high: float
    median: float
    median_low: float
    median_high: float
    lower_quartile: float
    upper_quartile: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self)


def summarise(method: str, score: str, frames: Sequence[Sequence[float]]) -> Summary:
    """Average one score over patients; `frames` holds each patient's values. Undefined values are left out."""
    frames = [[value for value in values if math.isfinite(value)] for values in frames]
    patients = [float(np.mean(values)) for values in frames if values]
    pooled, mean, median = pooled_interval(frames), mean_interval(patients), median_interval(patients)
    quartiles = np.quantile(patients, (0.25, 0.75)) if patients else (np.nan, np.nan)
    return Summary(
        method, score, len(patients), sum(map(len, frames)), *pooled[:3], *mean[:3], *median[:3], *map(float, quartiles)
    )


@dataclass(frozen=True)
class Difference:
    """Method `first` less `second` in one score, patient by patient."""

    first: str
    second: str
    score: str
    patients: int
    mean: float
    mean_low: float
    mean_high: float
    p: float
    """Wilcoxon signed-rank test, two-sided; 1 where no patient differs."""
    p_holm: float
    """`p` after Holm's correction for all pairs of methods in this score."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self)


def compare_pairs(score: str, patients: Mapping[str, Sequence[float]]) -> list[Difference]:
    """Test every pair of methods; `patients` holds, by method, one value a patient in one order.

    Patients for whom either value is undefined are left out of that pair. A later method is compared with an earlier
    one: a positive mean says that the later one's values are higher.
    """
    found = []
    for second, first in combinations(patients, 2):
        values = differences(patients[first], patients[second])
        found.append((first, second, mean_interval(list(values)), signed_rank(values)))
    corrected = holm([p for *_, p in found])
    return [
        Difference(first, second, score, interval.patients, *_limits(interval), p, p_holm)
        for (first, second, interval, p), p_holm in zip(found, corrected, strict=True)
    ]


def signed_rank(values: Sequence[float] | np.ndarray) -> float:
    """The p value of the two-sided Wilcoxon signed-rank test that `values` are symmetric about 0 (Wilcoxon 1945).

    Zeros are left out, as in the original; p is 1 if nothing else is left, NaN without any values.
    """
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    if not len(known):
        return math.nan
    return float(wilcoxon(known).pvalue) if known.any() else 1.0  # pyright: ignore[reportAttributeAccessIssue]


def holm(p: Sequence[float]) -> list[float]:
    """The p values corrected by Holm's step-down procedure (Holm 1979): max_{j <= i} min(1, (m - j) p_(j)), j from 0.

    NaN counts for nothing and stays NaN.
    """
    values = np.asarray(p, float)
    order = np.argsort(values)[: np.isfinite(values).sum()]  # NaN is sorted last
    corrected = np.full(len(values), np.nan)
    steps = len(order) - np.arange(len(order))
    corrected[order] = np.maximum.accumulate(np.minimum(1, steps * values[order]))
    return [float(value) for value in corrected]


class ChallengeScore(NamedTuple):
    """What of the DehazingEcho2025 challenge's score can be computed without its private networks, in points."""

    g1_contrast: float
    """CNR and gCNR terms of g1, of 67 points; `fid_points` gives the other 33."""
    g2: float
    """Of 100 points."""


def challenge_score(gcnr: float, cnr: float, ks_a: float, ks_b: float) -> ChallengeScore:
    """Terms of the challenge's (5 g1 + 3 g2 + 2 g3) / 10, each clipped to [0, 1] before it is weighted.

        g1 = 33 (150 - FID)/90 + 33 (CNR - 1)/0.5 + 34 (gCNR - 0.5)/0.3
        g2 = 50 (0.3 - KS_A)/0.2 + 50 KS_B/0.5

    The values are means over frames. The FID term is `fid_points`; g3 needs a private segmenter and is missing.
    """
    clipped = np.clip([(cnr - 1) / 0.5, (gcnr - 0.5) / 0.3, (0.3 - ks_a) / 0.2, ks_b / 0.5], 0, 1)
    return ChallengeScore(float(33 * clipped[0] + 34 * clipped[1]), float(50 * clipped[2] + 50 * clipped[3]))


def fid_points(fid: float) -> float:
    """The FID term of the challenge's g1, of 33 points: 33 (150 - FID)/90, the fraction clipped to [0, 1]."""
    return float(33 * np.clip((150 - fid) / 90, 0, 1))


def _limits(interval: Interval) -> tuple[float, float, float]:
    return interval.mean, interval.low, interval.high
