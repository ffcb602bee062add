"""One clip in, one clip out: find the sector, fit it to the prior, separate, map the haze back."""

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
    """A clip taken apart at its own resolution, intensities in [0, 1]."""

    signal: Float32[ndarray, "frames height width"]
    """The clip without its haze; equal to the clip outside the sector."""

    background: Float32[ndarray, "frames height width"]
    """L: the haze, also behind tissue; 0 outside the sector."""

    color: Float32[ndarray, "frames height width 3"] | None
    """`signal` in the clip's colours, where the clip has any."""

    sector: Mask
    """Where the image is; everything else was left alone."""

    seconds: float
    """Wall-clock time of the separation, compilation included."""

    share: Float32[ndarray, "frames height width"] | None = None
    """How much of each pixel is haze, in [0, 1], 0 outside the sector: what `rendered` needs. Of `nuclear` alone."""

    mean: Float32[ndarray, "frames height width"] | None = None
    """E[X | Y], as smooth as the prior's grid; 0 outside the sector. Of `nuclear` alone."""

    draws_mean: Float32[ndarray, "frames height width"] | None = None
    """Mean of posterior draws of the signal, where the method draws."""

    draws_deviation: Float32[ndarray, "frames height width"] | None = None
    """Standard deviation of these draws, at least 0; 0 outside the sector."""


def dehaze_clip(
    clip: Clip,
    method: Method,
    prior: Prior | None = None,
    *,
    size: int = PRIOR_SIZE,
    progress: Progress | None = None,
) -> Dehazed:
    """Separate one clip and give the parts back at the clip's resolution.

    The sector is fitted without distortion to `size` x `size` pixels and separated there. What comes back to the clip's
    resolution is smooth, so that speckle finer than the prior's grid survives: the share of haze (`Nuclear`), by which
    every pixel and channel is dimmed alike; of other methods the haze, which is subtracted.

    `prior` may be None where the method has none (`Rpca`). Same settings, same machine: same bits. Raises `InputError`
    for a clip that cannot be separated.
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
    """The same estimate at another `strength`, without a pass of the prior. Raises `InputError` as `render`."""
    if dehazed.share is None:
        raise InputError("only results of method nuclear hold a share of haze that can be rendered again.")
    color = None if clip.color is None else render(clip.color / np.float32(255), dehazed.share, strength)
    return dehazed._replace(signal=render(clip.frames, dehazed.share, strength), color=color)


def check_separable(clip: Clip, method: Method) -> None:
    """Raise `InputError` where the clip holds nothing by which the method could tell haze from tissue."""
    if method.moving and (clip.frames == clip.frames[0]).all():
        raise InputError(
            f"{clip.source} does not move, all its frames are identical: give a moving clip or use --method mmse."
        )


def _subtract(image: ndarray, haze: ndarray) -> ndarray:
    """`image - haze` within [0, 1]; outside the sector the haze is 0 and every bit of the image stays."""
    difference = image - haze
    return np.clip(difference, 0, 1, out=difference)
