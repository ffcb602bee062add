"""The scores of one separated clip against its truth."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from numpy import ndarray
from scipy.ndimage import gaussian_filter

from nuclear_diffusion.metrics import bright_lost, flicker, gcnr, ks, pixel_flicker, psnr, ssim
from nuclear_diffusion.simulation import SimulatedClip
from nuclear_diffusion.types import Mask


def score(simulated: SimulatedClip, signal: Float32[ndarray, "frames height width"]) -> dict[str, float]:
    """Score `signal`, a method's answer to `simulated.hazy`; each the mean over frames, but for the last four.

    - `gcnr`: contrast of septum and ventricle, [0, 1], higher is better.
    - `ks_a`, `ks_b`: change of the values in the septum (tissue, lower is better) and in the ventricle (haze, higher).
    - `ks_truth`: how far the values in the septum are from the clean clip's, lower is better. Haze changes tissue too:
      a small `ks_a` may mean haze that is left, and the clean clip's own is not 0.
    - `psnr` [dB], `ssim`: fidelity to the clean clip within the sector, higher is better; `psnr` is infinite for the
      clean clip itself.
    - `flicker_a`, `flicker_b`: flicker of the mean of septum and ventricle, `flicker_throughout`; `flicker_still`: of
      each pixel of still tissue, `pixel_flicker`. Grey levels of 255, lower is better; the heart moves too, so that the
      clean clip's own are what to come to.
    - `bright_lost`: share of the sector's tissue, bright in the hazy and in the clean clip, that is lost, lower is
      better. Haze brightens tissue: the clean clip's own is not 0.

    Frames without a septum or a ventricle in view do not count for the first four; with none left they are NaN.
    """
    seen = simulated.septum.any(axis=(1, 2)) & simulated.ventricle.any(axis=(1, 2))
    scores = dict.fromkeys(("gcnr", "ks_a", "ks_b", "ks_truth"), math.nan)
    if seen.any():
        septum, ventricle = simulated.septum[seen], simulated.ventricle[seen]
        before, after = simulated.hazy[seen], np.asarray(signal)[seen]
        scores = {
            "gcnr": gcnr(after, septum, ventricle),
            "ks_a": ks(before, after, septum),
            "ks_b": ks(before, after, ventricle),
            "ks_truth": ks(simulated.clean[seen], after, septum),
        }
    fidelity = {"psnr": psnr, "ssim": ssim}
    scores |= {name: f(simulated.clean, signal, simulated.sector) for name, f in fidelity.items()}
    return scores | {
        "flicker_a": flicker_throughout(signal, simulated.septum),
        "flicker_b": flicker_throughout(signal, simulated.ventricle),
        "flicker_still": pixel_flicker(signal, still_tissue(simulated)),
        "bright_lost": bright_lost(simulated.hazy, signal, simulated.sector, simulated.clean),
    }


def flicker_throughout(
    video: Float32[ndarray, "frames height width"] | UInt8[ndarray, "frames height width"],
    masks: Sequence[Mask] | Bool[ndarray, "masks height width"],
) -> float:
    """Flicker of a clip's mean over the pixels that every one of `masks` has; NaN where there are none, or no masks."""
    region = np.all(masks, axis=0) if len(masks) else np.False_
    return flicker(video, region) if region.any() else math.nan


def still_tissue(simulated: SimulatedClip) -> Mask:
    """Of the brighter half of the sector, the half that changes least in the clean clip.

    What moves there was brought in by the method, or by haze. Of a single frame, the whole brighter half.
    """
    clean, sector = simulated.clean, simulated.sector
    level, change = clean.mean(0), np.zeros(sector.shape)
    if len(clean) > 1:
        change = np.mean(np.diff(clean, axis=0) ** 2, axis=0)
    bright = sector & (level >= np.median(level[sector]))
    # neighbours decide too: pixels picked for the little noise they happen to have would make any other look worse
    calm = gaussian_filter(change, 2.0)
    return bright & (calm <= np.median(calm[bright]))
