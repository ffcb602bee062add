"""What a viewer sees at once: flicker, and bright tissue that is gone."""

import math

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from numpy import ndarray
from scipy.ndimage import correlate1d

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.metrics._images import Images, Region, regions, to_uint8

BRIGHT = 0.4
"""Tissue whose mean over a neighbourhood is above this intensity, in [0, 1], is bright."""

KEPT = 0.75
"""It is lost where less than this share of that mean is left."""

NEIGHBOURHOOD = 5
"""Side of the square of pixels that is averaged: about a speckle, whose single pixels may well change."""


def flicker(video: Images, region: Region) -> float:
    """Flicker of a region's mean m_t: sqrt(mean_t (m_t-1 - 2 m_t + m_t+1)^2) in grey levels of 255, in [0, 510].

    0 is steady or changes evenly. White noise of standard deviation s in m_t gives sqrt(6) s, and +-a in turn 4 a. Of a
    region (frames, height, width) only the pixels count that carry the label in every frame, so that a moving border
    is no flicker. NaN for fewer than three frames. Raises `InputError` where no pixel is left.
    """
    return _swing(_levels(video, region).mean(axis=1))


def pixel_flicker(video: Images, region: Region) -> float:
    """Flicker of a region's pixels y_ti: sqrt(mean_ti (y_t-1,i - 2 y_ti + y_t+1,i)^2) in grey levels of 255.

    In [0, 510], for tissue that stands still: what moves counts too. The rest as `flicker`.
    """
    return _swing(_levels(video, region))


def bright_lost(before: Images, after: Images, region: Region | None = None, truth: Images | None = None) -> float:
    """Share of bright tissue that is lost, over all frames together, in [0, 1], lower is better.

    Of the pixels in `region` (everywhere if None) whose 5 x 5 mean is above `BRIGHT` in `before`, and in `truth` where
    it is given, as haze is bright too: the share whose 5 x 5 mean in `after` is below `KEPT` times that in `before`.
    The squares reach out of the region, and beyond the border of the image repeat its outermost pixels.
    NaN where no pixel is bright: with nothing to lose, nothing is known. Raises `InputError` where the shapes differ or
    the region is empty.
    """
    bright, lost = bright_and_lost(before, after, truth)
    if region is not None:
        bright &= np.stack(list(regions(region, bright.shape, "region")))
    return float(np.mean(lost[bright])) if bright.any() else math.nan


def bright_and_lost(
    before: Images, after: Images, truth: Images | None = None
) -> tuple[Bool[ndarray, "frames height width"], Bool[ndarray, "frames height width"]]:
    """Which pixels are bright, and which are bright and lost; see `bright_lost`."""
    first, second = to_uint8(before, "before"), to_uint8(after, "after")
    third = first if truth is None else to_uint8(truth, "truth")
    for name, images in (("after", second), ("truth", third)):
        if images.shape != first.shape:
            raise InputError(f"`{name}` must have the shape of `before`, {first.shape}, got {images.shape}.")
    old, new = _sums(first), _sums(second)
    bright = np.minimum(old, _sums(third)) > BRIGHT * 255 * NEIGHBOURHOOD**2
    return bright, bright & (new < KEPT * old)


def _levels(video: Images, region: Region) -> Float[ndarray, "frames pixels"]:
    """The grey levels of the pixels that are in the region in every frame."""
    frames = to_uint8(video, "video")
    throughout = np.all(list(regions(region, frames.shape, "region")), axis=0)
    if not throughout.any():
        raise InputError("`region` selects no pixel in every frame; draw regions that overlap, or take fewer frames.")
    return frames[:, throughout].astype(np.float64)


def _swing(levels: Float[ndarray, "frames *pixels"]) -> float:
    """Root mean square second difference in time."""
    return float(np.sqrt(np.mean(np.diff(levels, n=2, axis=0) ** 2))) if len(levels) > 2 else math.nan


def _sums(frames: UInt8[ndarray, "frames height width"]) -> Int[ndarray, "frames height width"]:
    """Sums over the neighbourhood of each pixel; integers, so that nothing hangs on rounding."""
    sums = frames.astype(np.int64)
    for axis in (1, 2):
        sums = correlate1d(sums, np.ones(NEIGHBOURHOOD), axis, mode="nearest")
    return sums
