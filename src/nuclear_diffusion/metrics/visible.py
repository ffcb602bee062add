"""Visible artefacts: flicker, and lost bright tissue."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from numpy import ndarray
from scipy.ndimage import correlate1d

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.metrics._images import Images, Region, regions, to_uint8

BRIGHT = 0.4  # A pixel is bright if the mean over its neighbourhood is above this intensity, in [0, 1]
KEPT = 0.75  # A bright pixel is lost if less than this fraction of the mean is left
NEIGHBOURHOOD = 5  # side of the neighbourhood in pixels: about a speckle, as single pixels within it may change


def flicker(video: Images, region: Region) -> float:
    """Flicker of a region's mean m_t: sqrt(mean_t (m_t-1 - 2 m_t + m_t+1)^2) in grey levels of 255, in [0, 510].

    A steady or linear m_t gives 0, white noise of standard deviation s gives sqrt(6) s, and alternating +-a gives 4 a.
    Only pixels that are in the region in every frame count, so that a moving border is not flicker. NaN for fewer than
    three frames. Raises `InputError` if no pixel is left.
    """
    return swing(mean_levels(video, region))


def pixel_flicker(video: Images, region: Region) -> float:
    """Flicker of a region's pixels y_ti: sqrt(mean_ti (y_t-1,i - 2 y_ti + y_t+1,i)^2) in grey levels of 255.

    In [0, 510]. Motion counts as flicker, so use it for static tissue. Otherwise as `flicker`.
    """
    return swing(_levels(video, region))


def bright_lost(before: Images, after: Images, region: Region | None = None, truth: Images | None = None) -> float:
    """Fraction of bright tissue that is lost, over all frames together, in [0, 1], lower is better.

    A pixel in `region` (default: everywhere) is bright if its 5 x 5 mean is above `BRIGHT` in `before`, and also in
    `truth` if given, because haze is bright too. It is lost if its 5 x 5 mean in `after` is below `KEPT` times that in
    `before`. Neighbourhoods reach out of the region; edge pixels are repeated beyond the image. NaN if no pixel is
    bright. Raises `InputError` if the shapes differ or the region is empty.
    """
    tissue = bright_tissue(before, after, truth)
    return _mean_over(tissue.bright, tissue.lost, region)


def bright_changed(before: Images, after: Images, region: Region | None = None, truth: Images | None = None) -> float:
    """Mean relative change of bright tissue, over all frames together, at least 0, lower is better.

    The mean of |n - m| / m over the bright pixels, m and n being a pixel's 5 x 5 means in `before` and `after`. Pixels,
    NaN and errors are those of `bright_lost`.
    """
    tissue = bright_tissue(before, after, truth)
    return _mean_over(tissue.bright, tissue.change, region)


class BrightTissue(NamedTuple):
    """Bright pixels and what became of them; see `bright_lost` and `bright_changed`."""

    bright: Bool[ndarray, "frames height width"]
    lost: Bool[ndarray, "frames height width"]  # the bright pixels that are lost
    change: Float[ndarray, "frames height width"]  # relative change of every pixel's neighbourhood


def bright_tissue(before: Images, after: Images, truth: Images | None = None) -> BrightTissue:
    """Find the bright pixels of a clip, and what became of them."""
    first, second = to_uint8(before, "before"), to_uint8(after, "after")
    third = first if truth is None else to_uint8(truth, "truth")
    for name, images in (("after", second), ("truth", third)):
        if images.shape != first.shape:
            raise InputError(f"`{name}` must have the shape of `before`, {first.shape}, got {images.shape}.")
    old, new = _sums(first), _sums(second)
    bright = np.minimum(old, _sums(third)) > BRIGHT * 255 * NEIGHBOURHOOD**2
    return BrightTissue(bright, bright & (new < KEPT * old), np.abs(new - old) / np.maximum(old, 1))


def _mean_over(bright: Bool[ndarray, "frames height width"], values: ndarray, region: Region | None) -> float:
    """Mean over the bright pixels in a region; NaN if there are none."""
    if region is not None:
        bright = bright & np.stack(list(regions(region, bright.shape, "region")))
    return float(np.mean(values[bright])) if bright.any() else math.nan


def mean_levels(video: Images, region: Region) -> Float[ndarray, " frames"]:
    """Mean grey level of a region in each frame, in [0, 255]; see `flicker`."""
    return _levels(video, region).mean(axis=1)


def swing(levels: Float[ndarray, "frames *pixels"]) -> float:
    """Root mean square second difference over time; NaN for fewer than three frames."""
    return float(np.sqrt(np.mean(np.diff(levels, n=2, axis=0) ** 2))) if len(levels) > 2 else math.nan


def _levels(video: Images, region: Region) -> Float[ndarray, "frames pixels"]:
    """Grey levels of the pixels that are in the region in every frame."""
    frames = to_uint8(video, "video")
    throughout = np.all(list(regions(region, frames.shape, "region")), axis=0)
    if not throughout.any():
        raise InputError("`region` selects no pixel in every frame: draw regions that overlap, or use fewer frames.")
    return frames[:, throughout].astype(np.float64)


def _sums(frames: UInt8[ndarray, "frames height width"]) -> Int[ndarray, "frames height width"]:
    """Sum over each pixel's neighbourhood, in integers to avoid rounding."""
    sums = frames.astype(np.int64)
    for axis in (1, 2):
        sums = correlate1d(sums, np.ones(NEIGHBOURHOOD), axis, mode="nearest")
    return sums
