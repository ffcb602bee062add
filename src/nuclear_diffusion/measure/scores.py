"""All scores of a method's output on one clip, simulated or real."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8
from numpy import ndarray
from scipy.ndimage import gaussian_filter

from nuclear_diffusion.measure.datasets import Loaded, as_loaded
from nuclear_diffusion.metrics import bright_lost, cnr, flicker, gcnr, ks, motion_psnr, pixel_flicker, psnr, ssim
from nuclear_diffusion.metrics.visible import BRIGHT, KEPT, NEIGHBOURHOOD
from nuclear_diffusion.simulation import SimulatedClip
from nuclear_diffusion.types import Mask

WINDOW = 7  # frames per window for singular values over time: the paper's p
LEVELS = 256  # values of an 8-bit image

Signal = Float32[ndarray, "frames height width"] | UInt8[ndarray, "frames height width"]
"""A method's output, intensity in [0, 1] or 8-bit."""


class Score(NamedTuple):
    """A column of the tables."""

    title: str
    better: str  # higher or lower
    definition: str
    unit: str = ""
    digits: str = ".3f"  # format of a value


SCORES: dict[str, Score] = {
    "gcnr": Score(
        "gCNR",
        "higher",
        "1 - sum_k min(f_k, g_k) of the histograms f, g of septum and ventricle in the output: 256 bins from their "
        "joint minimum to maximum, each of sum 1. Biased upwards by bins and few pixels.",
    ),
    "cnr": Score(
        "CNR",
        "higher",
        "(mean of septum - mean of ventricle) / sqrt(sum of their variances, ddof 0) in the output, signed.",
    ),
    "ks_a": Score(
        "KS_A",
        "lower",
        "Two-sample Kolmogorov-Smirnov statistic of the septum's values, input against output: tissue changed.",
    ),
    "ks_b": Score(
        "KS_B",
        "higher",
        "Two-sample Kolmogorov-Smirnov statistic of the ventricle's values, input against output: haze changed.",
    ),
    "ks_truth": Score(
        "KS to truth",
        "lower",
        "Two-sample Kolmogorov-Smirnov statistic of the septum's values, truth against output. Unlike KS_A, it is 0 "
        "for the truth and rises with haze that is left on tissue.",
    ),
    "psnr": Score(
        "PSNR",
        "higher",
        "10 log10(1 / mean squared error) against the clean clip within the sector, peak 1.",
        "dB",
        ".2f",
    ),
    "ssim": Score(
        "SSIM", "higher", "Structural similarity to the clean clip, 7 x 7 windows, mean of its map in the sector."
    ),
    "flicker_a": Score(
        "Flicker, septum",
        "lower",
        "Root mean square over time of m_t-1 - 2 m_t + m_t+1, where m_t is the output's mean 8-bit value over the "
        "pixels that are septum in every mask of the clip; over all frames, one value per clip. It includes the "
        "tissue's own changes: compare with the input.",
        "grey levels",
        ".2f",
    ),
    "flicker_b": Score("Flicker, ventricle", "lower", "The same for the ventricle.", "grey levels", ".2f"),
    "flicker_still": Score(
        "Flicker, still pixels",
        "lower",
        "The same for single pixels that are bright and change little in the truth, root mean square over pixels.",
        "grey levels",
        ".2f",
    ),
    "bright_lost": Score(
        "Bright tissue lost",
        "lower",
        f"Among the sector's pixels whose {NEIGHBOURHOOD} x {NEIGHBOURHOOD} mean in the input (and in the clean clip, "
        f"if known) is above {BRIGHT:g}: the fraction whose mean in the output is below {KEPT:g} times the input's; "
        "over all frames, one value per clip. Without a clean clip, bright haze counts as tissue.",
    ),
    "clean_lost": Score(
        "Lost of a clean clip",
        "lower",
        "Bright tissue lost when the clean clip itself is the input, which should not change.",
    ),
    "seconds": Score(
        "Time",
        "lower",
        "Wall-clock time of the separation per frame. The first clip of each length and method in a process includes "
        "compilation and counts only if there is no other.",
        "s/frame",
        ".2g",
    ),
}
"""All scores, on the 8-bit output: one value per frame or clip; a patient's value is their mean."""
EVALUATED = tuple(score for score in SCORES if score not in ("ks_truth", "flicker_still", "clean_lost"))
"""The scores in the tables of `evaluate`."""
Scores = dict[str, dict[int, float] | float]
"""By name: values by frame number, or one value for the whole clip. NaN if undefined."""


def measure(loaded: Loaded, signal: Signal, sector: Mask) -> Scores:
    """Every score of `signal`, a method's output on the clip; `SCORES` defines them.

    Per annotated frame: `gcnr`, `cnr`, `ks_a`, `ks_b`; per clip: `flicker_a`, `flicker_b`, `bright_lost`. With a truth
    also `ks_truth` per annotated frame, `psnr` and `ssim` (within `sector`) per frame, `flicker_still` per clip.
    """
    frames, truth = loaded.clip.frames, loaded.truth
    place = {number: index for index, number in enumerate(loaded.numbers)}
    scores: dict[str, dict[int, float]] = {name: {} for name in ("gcnr", "cnr", "ks_a", "ks_b")}
    if truth is not None:
        scores["ks_truth"] = {}
    for number, (septum, ventricle) in loaded.annotations.items():
        before, after = frames[place[number]], signal[place[number]]
        a, b = septum.any(), ventricle.any()
        scores["gcnr"][number] = gcnr(after, septum, ventricle) if a and b else math.nan
        scores["cnr"][number] = cnr(after, septum, ventricle) if a and b else math.nan
        scores["ks_a"][number] = ks(before, after, septum) if a else math.nan
        scores["ks_b"][number] = ks(before, after, ventricle) if b else math.nan
        if truth is not None:
            scores["ks_truth"][number] = ks(truth[place[number]], after, septum) if a else math.nan
    if truth is not None:
        estimate = signal / np.float32(LEVELS - 1) if signal.dtype == np.uint8 else signal
        for name, likeness in (("psnr", psnr), ("ssim", ssim)):
            values = [likeness(*pair, sector) for pair in zip(truth, estimate, strict=True)]
            scores[name] = dict(zip(loaded.numbers, values, strict=True))
    of_clip = {
        "flicker_a": flicker_throughout(signal, [each.septum for each in loaded.annotations.values()]),
        "flicker_b": flicker_throughout(signal, [each.ventricle for each in loaded.annotations.values()]),
        "bright_lost": bright_lost(frames, signal, sector, truth),
    }
    if truth is not None:
        of_clip["flicker_still"] = pixel_flicker(signal, still_tissue(truth, sector))
    return scores | of_clip


def score(simulated: SimulatedClip, signal: Float32[ndarray, "frames height width"]) -> dict[str, float]:
    """One value per score of `signal`, a method's output on `simulated.hazy`: the mean over frames.

    gCNR, CNR and KS are over frames with septum and ventricle in view; NaN if there are none. `psnr` is infinite for
    the clean clip itself.
    """
    found = measure(as_loaded(simulated), signal, simulated.sector)
    contrast = found["gcnr"]
    assert isinstance(contrast, dict)
    seen = {number for number, value in contrast.items() if math.isfinite(value)}
    return {name: _mean(values, seen if name in ANNOTATED else None) for name, values in found.items()}


ANNOTATED = ("gcnr", "cnr", "ks_a", "ks_b", "ks_truth")  # scores that need both regions


def _mean(values: Mapping[int, float] | float, only: set[int] | None) -> float:
    if not isinstance(values, Mapping):
        return values
    chosen = [value for number, value in values.items() if only is None or number in only]
    return float(np.mean(chosen)) if chosen else math.nan


def flicker_throughout(signal: Signal, masks: Sequence[Mask] | Bool[ndarray, "masks height width"]) -> float:
    """Flicker of a clip's mean over the pixels in all `masks`; NaN if there are none."""
    region = np.all(masks, axis=0) if len(masks) else np.False_
    return flicker(signal, region) if region.any() else math.nan


def still_tissue(clean: Float32[ndarray, "frames height width"], sector: Mask) -> Mask:
    """The half of the brighter half of the sector that changes least in the clean clip.

    Changes there come from haze or from the method. For a single frame: the whole brighter half.
    """
    level, change = clean.mean(0), np.zeros(sector.shape)
    if len(clean) > 1:
        change = np.mean(np.diff(clean, axis=0) ** 2, axis=0)
    bright = sector & (level >= np.median(level[sector]))
    # smoothed, because pixels selected for their low noise would make every other clip look worse
    calm = gaussian_filter(change, 2.0)
    return bright & (calm <= np.median(calm[bright]))


def motion_levels(loaded: Loaded) -> dict[int, float]:
    """PSNR(y_t, y_t-1) in dB of each annotated frame: infinite if they are equal, NaN if number - 1 is missing."""
    place = {number: index for index, number in enumerate(loaded.numbers)}

    def level(number: int) -> float:
        if number - 1 not in place:
            return math.nan
        return float(motion_psnr(loaded.clip.frames[[place[number - 1], place[number]]])[0])

    return {number: level(number) for number in loaded.annotations}


def histograms(
    loaded: Loaded, signal: UInt8[ndarray, "frames height width"], sector: Mask
) -> dict[str, Int[ndarray, " levels"]]:
    """Counts of the 256 values in `septum` and `ventricle` (annotated frames) and in the `sector` (all frames)."""
    place = {number: index for index, number in enumerate(loaded.numbers)}
    counts = {name: np.zeros(LEVELS, int) for name in ("septum", "ventricle")}
    for number, annotation in loaded.annotations.items():
        for name, region in annotation._asdict().items():
            counts[name] += histogram(signal[place[number]][region])
    return counts | {"sector": histogram(signal[:, sector])}


def histogram(values: UInt8[ndarray, "..."]) -> Int[ndarray, " levels"]:
    """Counts of the 256 values."""
    return np.bincount(values.ravel(), minlength=LEVELS)


def spectra(video: Float[ndarray, "frames height width"], sector: Bool[ndarray, "height width"]) -> list[list[float]]:
    """Singular values of the clip within the sector, largest first, then those of each window of `WINDOW` frames.

    All from one float64 Gram matrix, whose diagonal blocks are those of the windows; accurate to 1e-8 of the largest.
    """
    matrix = np.asarray(video, np.float64)[:, sector]
    gram = matrix @ matrix.T
    windows = [slice(start, start + WINDOW) for start in range(len(gram) - WINDOW + 1)]
    values = [np.linalg.eigvalsh(gram[window, window])[::-1] for window in (slice(None), *windows)]
    return [np.sqrt(np.maximum(each, 0)).tolist() for each in values]
