"""Fidelity to ground truth, and motion between frames."""

import numpy as np
from jaxtyping import ArrayLike, Float
from numpy import ndarray
from skimage.metrics import structural_similarity

from nuclear_diffusion.checks import FAR, require_intensity
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.metrics._images import Images, Region, regions, to_uint8


def psnr(
    truth: Float[ArrayLike, "*frames height width"],
    estimate: Float[ArrayLike, "*frames height width"],
    mask: Region | None = None,
) -> float:
    """Peak signal-to-noise ratio 10 log10(1 / mean squared error) in dB, peak 1, within `mask`; mean over frames.

    Infinite if a frame is exact.
    """
    x, y, rois = _pairs(truth, estimate, mask)
    return float(np.mean([_decibels(np.mean((a[roi] - b[roi]) ** 2)) for a, b, roi in zip(x, y, rois, strict=True)]))


def ssim(
    truth: Float[ArrayLike, "*frames height width"],
    estimate: Float[ArrayLike, "*frames height width"],
    mask: Region | None = None,
) -> float:
    """Structural similarity (Wang et al. 2004; scikit-image, 7 x 7 windows, range 1), in [-1, 1]; mean over frames.

    With `mask`, the mean of the SSIM map over it; windows at its border reach outside.
    """
    x, y, rois = _pairs(truth, estimate, mask)
    if min(x.shape[1:]) < 7:
        raise InputError(f"SSIM needs frames of at least 7 x 7 pixels, got {x.shape[1:]}.")
    scores = []
    for a, b, roi in zip(x, y, rois, strict=True):
        mean, values, *_ = structural_similarity(a, b, data_range=1.0, full=True)
        scores.append(mean if mask is None else values[roi].mean())
    return float(np.mean(scores))


def motion_psnr(video: Images) -> Float[ndarray, " frames_minus_1"]:
    """PSNR of each frame relative to the previous one, in dB on 8-bit values; infinite for identical frames."""
    frames = to_uint8(video, "video").astype(np.float64) / 255
    return np.array([_decibels(error) for error in np.mean(np.diff(frames, axis=0) ** 2, axis=(1, 2))])


def _decibels(error: float) -> float:
    return float(-10 * np.log10(error)) if error > 0 else np.inf


def _pairs(
    truth: ArrayLike, estimate: ArrayLike, mask: Region | None
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Both clips in float64 with a leading axis of frames, and the region of each frame."""
    x, y = (np.asarray(images, np.float64) for images in (truth, estimate))
    if x.shape != y.shape or x.ndim not in (2, 3):
        raise InputError(f"`truth` and `estimate` must be two images or clips of one shape, got {x.shape}, {y.shape}.")
    require_intensity("truth", x, FAR)
    require_intensity("estimate", y, FAR)
    x, y = (images.reshape(-1, *images.shape[-2:]) for images in (x, y))
    everything = np.ones(x.shape[1:], bool)
    return x, y, list(regions(everything if mask is None else mask, x.shape, "mask"))
