"""Haze laid over clean clips of any origin, so that a prior trained on a user's own frames learns haze too."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.ndimage import gaussian_filter

from .acoustics import Scanner
from .haze import Haze, some_families, some_strength


def lay_haze(
    frames: Float[ndarray, "frames size size"],
    sector: Bool[ndarray, "size size"],
    *,
    seed: int,
    fps: float = 30.0,
) -> Float[ndarray, "frames size size"]:
    """Clean display frames as they would look through simulated clutter.

    The grey scale is taken back to amplitudes with a random dynamic range, the clutter of a random scanner is added
    as a complex number of random phase, and the sum is compressed again:

        y = 1 + 20 log10 |10^(R (x - 1) / 20) + h| / R

    Static up to the slow modulation of `Haze`; which kinds of clutter and how strong varies as in the simulator's own
    training clips. Side lobes, which need the tissue's own phase, are left out.

    Args:
        frames: clean frames in [0, 1], the sector's tip at the top and in the middle.
        sector: where the image is; outside nothing changes.
        seed: same seed, same haze.
        fps: frames a second.

    Returns:
        Hazy frames in [0, 1], float32.
    """
    frames = np.asarray(frames, np.float32)
    if frames.ndim != 3 or frames.shape[1] != frames.shape[2] or sector.shape != frames.shape[1:]:
        raise ValueError(f"`frames` must be (frames, size, size) like `sector`, got {frames.shape}, {sector.shape}")
    rng = np.random.default_rng((seed, 2))
    # an opening wider than any sector: the sector itself cuts the clutter out
    scanner = dataclasses.replace(Scanner.draw(rng, frames.shape[1]), half_angle=np.deg2rad(60), near=0.0)
    decibel = scanner.dynamic_range
    lit = frames[:, sector]
    level = np.percentile(lit[lit > 0], 75) if np.any(lit > 0) else 0.5
    reference = 10 ** (decibel * (float(level) - 1) / 20)
    families = [family for family in some_families(rng) if family != "side lobes"]
    haze = Haze.draw(scanner, reference, rng, some_strength(rng), families)
    nothing = np.zeros((scanner.ranges, scanner.beams), np.complex64)
    # black may lie anywhere below the scale's end
    amplitude = np.where(frames > 0, 10 ** (decibel * (frames - 1) / 20), 0.0)
    smoothing = rng.uniform(0.3, 0.9)
    out = np.empty_like(frames)
    for k, clean in enumerate(amplitude):
        field = haze.at(k / fps, nothing)
        clutter = scanner.scan_convert(np.real(field)) + 1j * scanner.scan_convert(np.imag(field))
        total = np.abs(clean + clutter)
        hazy = np.clip(1 + 20 * np.log10(np.maximum(total, 1e-12)) / decibel, 0, 1)
        change = gaussian_filter(hazy - frames[k], smoothing)  # the vendor's filter, on the haze alone
        out[k] = np.where(sector, np.clip(frames[k] + change, 0, 1), frames[k])
    return out
