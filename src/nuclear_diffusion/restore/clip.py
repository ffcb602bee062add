"""Dehaze one clip: find the sector, fit it to the prior's grid, separate, and map the haze back."""

import time
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import Clip, Fit, find_sector
from nuclear_diffusion.priors.protocol import Prior
from nuclear_diffusion.restore.methods import Method, Nuclear, Progress
from nuclear_diffusion.restore.render import render
from nuclear_diffusion.types import Mask

PRIOR_SIZE = 256
"""Height and width in pixels of the frames that the shipped prior was trained on."""


class Dehazed(NamedTuple):
    """A separated clip at its own resolution, with intensities in [0, 1]."""

    signal: Float32[ndarray, "frames height width"]
    """The clip without haze; equal to the clip outside the sector."""

    background: Float32[ndarray, "frames height width"]
    """L, the haze; 0 outside the sector."""

    color: Float32[ndarray, "frames height width 3"] | None
    """`signal` in RGB, for a colour clip."""

    sector: Mask
    """Pixels of the ultrasound image; all others are unchanged."""

    seconds: float
    """Wall-clock time of the separation, including compilation."""

    share: Float32[ndarray, "frames height width"] | None = None
    """Haze fraction in [0, 1], 0 outside the sector, as `rendered` needs it; only from `Nuclear`."""

    mean: Float32[ndarray, "frames height width"] | None = None
    """Posterior mean E[X | Y], smooth like the prior's grid, 0 outside the sector; only from `Nuclear`."""

    draws_mean: Float32[ndarray, "frames height width"] | None = None
    """Mean of the signal's posterior samples, if any were drawn."""

    draws_deviation: Float32[ndarray, "frames height width"] | None = None
    """Standard deviation of these samples; 0 outside the sector."""


def dehaze_clip(
    clip: Clip,
    method: Method,
    prior: Prior | None = None,
    *,
    size: int = PRIOR_SIZE,
    progress: Progress | None = None,
) -> Dehazed:
    """Separate one clip and return the parts at the clip's resolution.

    The sector is scaled without distortion to `size` x `size` pixels and separated there. Only smooth fields are scaled
    back, so that speckle finer than the prior's grid is kept: the haze fraction (`Nuclear`), which dims all channels of
    a pixel alike, or the haze (other methods), which is subtracted.

    `prior` may be None for a method without one (`Rpca`). Results are bit-identical for the same settings on the same
    machine. Raises `InputError` for a clip that cannot be separated.
    """
    check_separable(clip, method)
    start = time.perf_counter()
    sector = find_sector(clip.frames, clip.region)
    fit = Fit.to_prior(sector, size)
    fitted = fit.forward(clip.frames)
    if isinstance(method, Nuclear):
        found = method.estimate(fitted, prior, progress)
        share, mean, background = (
            np.clip(fit.backward(np.asarray(part)), 0, 1) for part in (found.share, found.mean, found.background)
        )
        dehazed = rendered(clip, Dehazed(clip.frames, background, None, sector, 0.0, share, mean), method.strength)
        if method.samples:
            drawn = method.draw(fitted, prior, found.background, progress)
            dehazed = dehazed._replace(
                draws_mean=_subtract(clip.frames, fit.backward(fitted - np.asarray(drawn.mean))),
                draws_deviation=np.maximum(fit.backward(np.asarray(drawn.deviation)), 0),
            )
    else:
        parts = method.separate(fitted, prior, mask=fit.mask, progress=progress)
        haze = fit.backward(fitted - np.asarray(parts.signal))
        color = None if clip.color is None else _subtract(clip.color / np.float32(255), haze[..., None])
        background = np.clip(fit.backward(np.asarray(parts.background)), 0, 1)
        dehazed = Dehazed(_subtract(clip.frames, haze), background, color, sector, 0.0)
    return dehazed._replace(seconds=time.perf_counter() - start)


def rendered(clip: Clip, dehazed: Dehazed, strength: float) -> Dehazed:
    """Render the same estimate at another `strength`. Raises `InputError` without a haze fraction, or as `render`."""
    if dehazed.share is None:
        raise InputError("The result holds no haze fraction to render: give a result of method nuclear.")
    color = None if clip.color is None else render(clip.color / np.float32(255), dehazed.share, strength)
    return dehazed._replace(signal=render(clip.frames, dehazed.share, strength), color=color)


def check_separable(clip: Clip, method: Method) -> None:
    """Raise `InputError` for a static clip if the method distinguishes haze from tissue by motion."""
    if method.moving and (clip.frames == clip.frames[0]).all():
        raise InputError(
            f"{clip.source} does not move (one frame, or identical frames): give a moving clip, or use --method mmse, "
            "which needs at least 2 frames."
        )


def _subtract(image: ndarray, haze: ndarray) -> ndarray:
    """`image - haze`, clipped to [0, 1]; outside the sector the haze is 0 and the image unchanged."""
    difference = image - haze
    return np.clip(difference, 0, 1, out=difference)
