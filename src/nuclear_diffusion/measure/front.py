"""Contrast against change of tissue of a prior, over all strengths.

One estimate of a clip gives a rendering for each strength (`render`). Averaged over clips, these form a curve of gCNR,
the contrast of septum and ventricle, against KS_A, the change of the values in the septum. A prior is better than
another if it has more contrast at equal change, whatever its result at the default strength.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from numpy import ndarray

from nuclear_diffusion.measure.bootstrap import Interval, bootstrapped
from nuclear_diffusion.measure.scores import flicker_throughout
from nuclear_diffusion.metrics import bright_lost, gcnr, ks
from nuclear_diffusion.priors.protocol import Prior
from nuclear_diffusion.restore.estimate import estimate
from nuclear_diffusion.restore.render import STRENGTH, render
from nuclear_diffusion.types import Mask

STRENGTHS = tuple(k / 10 for k in range(11))  # strengths at which a clip is rendered
LEVELS = (0.02, 0.04, 0.06, 0.08, 0.1)  # changes of tissue, KS_A, at which contrast is compared

RESAMPLES = 999

DEFAULT = STRENGTHS.index(STRENGTH)

NAMES = ("gcnr", "ks_a", "ks_truth", "flicker", "bright_lost")


class Regions(NamedTuple):
    """A hazy clip on the prior's grid, with masks of septum and ventricle, if known."""

    frames: Float32[ndarray, "frames size size"]
    septum: Bool[ndarray, "frames size size"]  # empty in frames without annotation, as `ventricle`
    ventricle: Bool[ndarray, "frames size size"]
    sector: Mask
    truth: Float32[ndarray, "frames size size"] | None = None  # the clip without haze, if known
    patient: str = ""  # the patient's name


Front = dict[str, Float[ndarray, "clips strengths"]]
"""By name (`NAMES`): gCNR and KS_A of each clip at each of `STRENGTHS`; at the default strength only, KS to truth in
the septum, flicker of the ventricle (without masks, of the sector) and bright tissue lost. NaN if unknown."""


def front_of(clips: Sequence[Regions], prior: Prior) -> Front:
    """One estimate of each clip, rendered at all `STRENGTHS`."""
    rows = [_rendered(clip, np.asarray(estimate(clip.frames, prior).share)) for clip in clips]
    return {name: np.array([[each[name] for each in row] for row in rows]) for name in NAMES}


def _rendered(clip: Regions, share: Float32[ndarray, "frames size size"]) -> list[dict[str, float]]:
    seen = clip.septum.any(axis=(1, 2)) & clip.ventricle.any(axis=(1, 2))
    septum, ventricle, before = clip.septum[seen], clip.ventricle[seen], clip.frames[seen]
    scores = []
    for strength in STRENGTHS:
        picture = render(clip.frames, share, strength)
        after, found = picture[seen], dict.fromkeys(NAMES, np.nan)
        if seen.any():
            found["gcnr"], found["ks_a"] = gcnr(after, septum, ventricle), ks(before, after, septum)
        if strength == STRENGTH:
            found["flicker"] = flicker_throughout(picture, ventricle if seen.any() else [clip.sector])
            if clip.truth is not None:
                found["bright_lost"] = bright_lost(clip.frames, picture, clip.sector, clip.truth)
                if seen.any():
                    found["ks_truth"] = ks(clip.truth[seen], after, septum)
        scores.append(found)
    return scores


def at_equal_change(
    front: Front, chosen: Sequence[int] | Int[ndarray, " chosen"] | None = None, levels: Sequence[float] = LEVELS
) -> Float[ndarray, " levels"]:
    """The highest gCNR at a KS_A of at most each of `levels`, for means over clips (those `chosen`).

    Linear between strengths. Strength 0 is the hazy clip itself, so every level is reached.
    """
    rows = slice(None) if chosen is None else np.asarray(chosen, int)
    contrast, change = (np.nanmean(front[name][rows], axis=0) for name in ("gcnr", "ks_a"))
    return np.array([_highest(contrast, change, level) for level in levels])


def _highest(contrast: Float[ndarray, " strengths"], change: Float[ndarray, " strengths"], level: float) -> float:
    """The highest contrast on the line through the strengths where the change is at most `level`."""
    before, after = change[:-1] - level, change[1:] - level
    crossing = np.flatnonzero(before * after < 0)
    way = before[crossing] / (before[crossing] - after[crossing])
    there = contrast[crossing] + way * (contrast[crossing + 1] - contrast[crossing])
    return float(np.max(np.concatenate([contrast[change <= level], there])))


def gain(new: Front, old: Front, levels: Sequence[float] = LEVELS) -> Interval:
    """Gain in gCNR of `new` over `old` at equal change, mean over `levels`, with a percentile bootstrap over clips.

    Both fronts are of the same clips in the same order. The interval is NaN with fewer than two clips.
    """
    count = len(new["gcnr"])
    if len(old["gcnr"]) != count:
        raise ValueError(f"`old` must have as many clips as `new`, {count}, got {len(old['gcnr'])}.")

    def mean_gain(chosen: Sequence[int] | Int[ndarray, " chosen"]) -> float:
        return float(np.mean(at_equal_change(new, chosen, levels) - at_equal_change(old, chosen, levels)))

    return bootstrapped([np.arange(count)], mean_gain, RESAMPLES, vectorized=False)
