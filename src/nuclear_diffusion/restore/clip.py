"""Dehaze one clip: find its images, fit them to the prior's grid, separate, and map the haze back."""

import functools
import time
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import Clip, Fit
from nuclear_diffusion.priors.protocol import Prior
from nuclear_diffusion.restore.color import recolored
from nuclear_diffusion.restore.layout import Layout
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
    sector: Mask | None = None,
    progress: Progress | None = None,
) -> Dehazed:
    """Separate one clip and return the parts at the clip's resolution.

    Each image, such as the planes of a biplane clip, is scaled without distortion to `size` x `size` pixels and
    separated there. Only smooth fields are scaled back, so that speckle finer than the prior's grid is kept: the haze
    fraction (`Nuclear`), which dims a pixel, or the haze (other methods), which is subtracted. Text, traces and Doppler
    colour are hidden from the prior and stay as they are; colours keep their hue.

    `prior` may be None for a method without one (`Rpca`). `sector` (h, w) is the sector if it is known. Results are
    bit-identical for the same settings on the same machine. Raises `InputError` for a clip that cannot be separated.
    """
    check_separable(clip, method)
    start = time.perf_counter()
    layout = Layout.find(clip, size, sector)
    overlay = layout.overlay(clip)
    frames = layout.beneath(clip.frames, overlay)
    parts = [_separate(frames, fit, method, prior, progress) for fit in layout.fits]

    def whole(name: str) -> Float32[ndarray, "frames height width"] | None:
        """The images' fields in one frame, 0 elsewhere."""
        fields = [field for part in parts if (field := getattr(part, name)) is not None]
        return functools.reduce(np.add, fields) if fields else None

    found = _Fields(*map(whole, _Fields._fields))
    background = np.zeros_like(clip.frames) if found.background is None else found.background
    dehazed = Dehazed(clip.frames, background, None, layout.sector, 0.0, found.share, found.mean)
    if isinstance(method, Nuclear) and found.share is not None:
        found.share[overlay] = 0
        dehazed = rendered(clip, dehazed, method.strength)
    elif found.haze is not None:
        found.haze[overlay] = 0
        dehazed = _with_signal(clip, dehazed, _subtract(clip.frames, found.haze))
    if found.draws_haze is not None:
        found.draws_haze[overlay] = 0
        mean = _subtract(clip.frames, found.draws_haze)
        dehazed = dehazed._replace(draws_mean=mean, draws_deviation=found.draws_deviation)
    return dehazed._replace(seconds=time.perf_counter() - start)


class _Fields(NamedTuple):
    """Fields of a separation at the clip's resolution, 0 outside the sector; None where a method has none."""

    background: Float32[ndarray, "frames height width"] | None = None
    share: Float32[ndarray, "frames height width"] | None = None
    mean: Float32[ndarray, "frames height width"] | None = None
    haze: Float32[ndarray, "frames height width"] | None = None
    draws_haze: Float32[ndarray, "frames height width"] | None = None
    draws_deviation: Float32[ndarray, "frames height width"] | None = None


def _separate(
    frames: Float32[ndarray, "frames height width"],
    fit: Fit,
    method: Method,
    prior: Prior | None,
    progress: Progress | None,
) -> _Fields:
    """Separate one image of a clip."""
    fitted = fit.forward(frames)
    if not isinstance(method, Nuclear):
        parts = method.separate(fitted, prior, mask=fit.mask, progress=progress)
        background = np.clip(fit.backward(np.asarray(parts.background)), 0, 1)
        return _Fields(background, haze=fit.backward(fitted - np.asarray(parts.signal)))
    found = method.estimate(fitted, prior, progress)
    fields = _Fields(
        *(np.clip(fit.backward(np.asarray(part)), 0, 1) for part in (found.background, found.share, found.mean))
    )
    if not method.samples:
        return fields
    drawn = method.draw(fitted, prior, found.background, progress)
    return fields._replace(
        draws_haze=fit.backward(fitted - np.asarray(drawn.mean)),
        draws_deviation=np.maximum(fit.backward(np.asarray(drawn.deviation)), 0),
    )


def rendered(clip: Clip, dehazed: Dehazed, strength: float) -> Dehazed:
    """Render the same estimate at another `strength`. Raises `InputError` without a haze fraction, or as `render`."""
    if dehazed.share is None:
        raise InputError("The result holds no haze fraction to render: give a result of method nuclear.")
    return _with_signal(clip, dehazed, render(clip.frames, dehazed.share, strength))


def _with_signal(clip: Clip, dehazed: Dehazed, signal: Float32[ndarray, "frames height width"]) -> Dehazed:
    color = None if clip.color is None else recolored(clip.color, clip.frames, signal)
    return dehazed._replace(signal=signal, color=color)


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
