"""Scanners excluded from training: settings that `Scanner.draw` never draws, and additional filters."""

import dataclasses

import numpy as np

from .acoustics import Scanner

UNSEEN_LOOKS = ("speckle reduction", "edge enhancement", "low frequency")
"""Image styles excluded from training.

- speckle reduction: a strong median filter, an S-shaped grey map, a very wide sector, a high frame rate;
- edge enhancement: a fine point-spread function, unsharp masking, a small dynamic range, a narrow sector;
- low frequency: a coarse point-spread function, a large dynamic range, a low frame rate.

Of these, only the large dynamic range occurs in training, with the finding "wide range".
"""


def unlike(scanner: Scanner, look: str, rng: np.random.Generator) -> Scanner:
    """The drawn `scanner` with the settings of `look`, one of `UNSEEN_LOOKS`."""
    if look == "speckle reduction":
        changed = dataclasses.replace(
            scanner,
            half_angle=np.deg2rad(rng.uniform(54, 60)),
            despeckle=(int(rng.choice([11, 15])), int(rng.choice([5, 7]))),
            smoothing=(rng.uniform(1.0, 1.6), rng.uniform(1.0, 1.6)),
            curve=rng.uniform(5, 8),
            gamma=1.0,
            fps=rng.uniform(70, 90),
        )
    elif look == "edge enhancement":
        changed = dataclasses.replace(
            scanner,
            half_angle=np.deg2rad(rng.uniform(24, 29)),
            # finer samples for a finer beam
            ranges=640,
            beams=192,
            wavelength=rng.uniform(0.025, 0.035),
            axial=rng.uniform(0.016, 0.022),
            lateral=np.deg2rad(rng.uniform(0.22, 0.36)),
            dynamic_range=rng.uniform(34, 40),
            gain=rng.uniform(-24, -18),
            sharpen=rng.uniform(0.8, 1.6),
            smoothing=(0.3, 0.3),
        )
    elif look == "low frequency":
        changed = dataclasses.replace(
            scanner,
            wavelength=rng.uniform(0.11, 0.15),
            axial=rng.uniform(0.085, 0.12),
            lateral=np.deg2rad(rng.uniform(1.6, 2.2)),
            dynamic_range=rng.uniform(80, 95),
            gain=rng.uniform(-45, -38),
            fps=rng.uniform(10, 16),
        )
    else:
        raise ValueError(f"`look` must be one of {', '.join(UNSEEN_LOOKS)}, got {look!r}")
    # as `Scanner.draw`: cavities near black, and the sector fills the image
    reject = max(0.0, 1 + (changed.gain - 36) / changed.dynamic_range) * rng.uniform(0.5, 1.0)
    height = changed.depth / (changed.size * 0.96 - changed.top)
    width = 2 * changed.depth * np.sin(changed.half_angle) / (changed.size * 0.97)
    return dataclasses.replace(changed, reject=reject, scale=max(height, width))
