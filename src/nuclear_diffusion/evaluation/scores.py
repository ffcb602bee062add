"""The scores of one separated clip against its truth."""

import math

import numpy as np
from jaxtyping import Float32
from numpy import ndarray
from scipy.ndimage import gaussian_filter

from nuclear_diffusion.metrics import gcnr, ks, psnr, ssim
from nuclear_diffusion.simulation import SimulatedClip

GREY_LEVEL = 1 / 255
"""The smallest step of a display, intensity in [0, 1]."""


def score(simulated: SimulatedClip, signal: Float32[ndarray, "frames height width"]) -> dict[str, float]:
    """Score `signal`, a method's answer to `simulated.hazy`; each the mean over frames.

    - `gcnr`: contrast of septum and ventricle, [0, 1], higher is better.
    - `ks_a`, `ks_b`: change of the values in the septum (tissue, lower is better) and in the ventricle (haze, higher).
    - `ks_truth`: how far the values in the septum are from the clean clip's, lower is better. Haze changes tissue too:
      a small `ks_a` may mean haze that is left, and the clean clip's own is not 0.
    - `psnr` [dB], `ssim`: fidelity to the clean clip within the sector, higher is better; `psnr` is infinite for the
      clean clip itself.
    - `flicker`: see `flicker`; at most 1 is as steady as the truth.

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
    return scores | {"flicker": flicker(simulated, signal)}


def flicker(simulated: SimulatedClip, signal: Float32[ndarray, "frames height width"]) -> float:
    """Energy of the frame differences of `signal` in still tissue, relative to the clean clip's, or to a grey level's.

    Still tissue is, of the brighter half of the sector, the half that changes least in the clean clip: what moves there
    was brought in by the method, or by haze. A clean clip that changes by less than a grey level of 255 counts as
    changing by that: nobody sees less. NaN for a single frame.
    """
    clean, sector = simulated.clean, simulated.sector
    if len(clean) < 2:
        return math.nan
    level, change = clean.mean(0), _change(clean)
    bright = sector & (level >= np.median(level[sector]))
    # neighbours decide too: pixels picked for the little noise they happen to have would make any other look worse
    calm = gaussian_filter(change, 2.0)
    still = bright & (calm <= np.median(calm[bright]))
    return float(_change(np.asarray(signal))[still].mean() / max(change[still].mean(), GREY_LEVEL**2))


def _change(frames: Float32[ndarray, "frames height width"]) -> Float32[ndarray, "height width"]:
    return np.mean(np.diff(frames, axis=0) ** 2, axis=0)
