"""The scores of one separated clip against its truth."""

import math

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from nuclear_diffusion.metrics import gcnr, ks, psnr, ssim
from nuclear_diffusion.simulation import SimulatedClip


def score(simulated: SimulatedClip, signal: Float32[ndarray, "frames height width"]) -> dict[str, float]:
    """Score `signal`, a method's answer to `simulated.hazy`; each the mean over frames.

    - `gcnr`: contrast of septum and ventricle, [0, 1], higher is better.
    - `ks_a`, `ks_b`: change of the values in the septum (tissue, lower is better) and in the ventricle (haze, higher).
    - `psnr` [dB], `ssim`: fidelity to the clean clip within the sector, higher is better; `psnr` is infinite for the
      clean clip itself.

    Frames without a septum or a ventricle in view do not count for the first three; with none left they are NaN.
    """
    seen = simulated.septum.any(axis=(1, 2)) & simulated.ventricle.any(axis=(1, 2))
    scores = dict.fromkeys(("gcnr", "ks_a", "ks_b"), math.nan)
    if seen.any():
        septum, ventricle = simulated.septum[seen], simulated.ventricle[seen]
        before, after = simulated.hazy[seen], np.asarray(signal)[seen]
        scores = {
            "gcnr": gcnr(after, septum, ventricle),
            "ks_a": ks(before, after, septum),
            "ks_b": ks(before, after, ventricle),
        }
    fidelity = {"psnr": psnr, "ssim": ssim}
    return scores | {name: f(simulated.clean, signal, simulated.sector) for name, f in fidelity.items()}
