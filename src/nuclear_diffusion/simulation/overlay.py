"""Add simulated haze to clean clips of any origin, to train a haze-aware prior on a user's own clips."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.ndimage import gaussian_filter

from .acoustics import Scanner
from .haze import Haze, some_families, some_strength


def lay_haze(
    frames: Float[ndarray, "frames size size"], sector: Bool[ndarray, "size size"], *, seed: int, fps: float = 30.0
) -> Float[ndarray, "frames size size"]:
    """Add simulated clutter to clean display frames.

    Grey levels are converted to amplitudes with a random dynamic range R, complex clutter h of a random scanner is
    added, and the sum is compressed again:

        y = 1 + 20 log10 |10^(R (x - 1) / 20) + h| / R

    The clutter is static up to the slow modulation of `Haze`, with kinds and strengths as in simulated training clips,
    but without side lobes, which would need the tissue's phase. `frames` are in [0, 1], with the sector's apex at the
    top centre; pixels outside `sector` are unchanged. Returns float32 in [0, 1], the same for the same `seed`.
    """
    frames = np.asarray(frames, np.float32)
    if frames.ndim != 3 or frames.shape[1] != frames.shape[2] or sector.shape != frames.shape[1:]:
        raise ValueError(f"`frames` must be (frames, size, size) like `sector`, got {frames.shape}, {sector.shape}")
    rng = np.random.default_rng((seed, 2))
    # wider than any sector; `sector` crops the clutter
    scanner = dataclasses.replace(Scanner.draw(rng, frames.shape[1]), half_angle=np.deg2rad(60), near=0.0)
    decibel = scanner.dynamic_range
    lit = frames[:, sector]
    level = np.percentile(lit[lit > 0], 75) if np.any(lit > 0) else 0.5
    reference = 10 ** (decibel * (float(level) - 1) / 20)
    families = [family for family in some_families(rng) if family != "side lobes"]
    haze = Haze.draw(scanner, reference, rng, some_strength(rng), families)
    nothing = np.zeros((scanner.ranges, scanner.beams), np.complex64)
    # black may be anywhere below the dynamic range
    amplitude = np.where(frames > 0, 10 ** (decibel * (frames - 1) / 20), 0.0)
    smoothing = rng.uniform(0.3, 0.9)
    out = np.empty_like(frames)
    for k, clean in enumerate(amplitude):
        field = haze.at(k / fps, nothing)
        clutter = scanner.scan_convert(np.real(field)) + 1j * scanner.scan_convert(np.imag(field))
        total = np.abs(clean + clutter)
        hazy = np.clip(1 + 20 * np.log10(np.maximum(total, 1e-12)) / decibel, 0, 1)
        change = gaussian_filter(hazy - frames[k], smoothing)  # the vendor's filter, applied to the haze alone
        out[k] = np.where(sector, np.clip(frames[k] + change, 0, 1), frames[k])
    return out
