"""One clip in, one clip out: find the sector, fit it to the prior, separate, map the haze back."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from nuclear_diffusion.io import Clip, Fit, find_sector
from nuclear_diffusion.paper.algorithm1 import Algorithm1
from nuclear_diffusion.paper.nuclear_norm import NuclearNorm, slowly_varying
from nuclear_diffusion.paper.rpca import robust_pca
from nuclear_diffusion.paper.sample import sample
from nuclear_diffusion.paper.separation import Separation
from nuclear_diffusion.paper.zea import Zea, separate_as_zea
from nuclear_diffusion.priors.protocol import Prior, knows_haze
from nuclear_diffusion.restore.draws import Posterior, SplitGibbs, sample_posterior
from nuclear_diffusion.restore.estimate import estimate
from nuclear_diffusion.restore.methods import Settings
from nuclear_diffusion.restore.one_pass import mmse, posterior_mean
from nuclear_diffusion.restore.render import render
from nuclear_diffusion.types import InputError, Mask

PRIOR_SIZE = 256
"""Height and width in pixels of the frames that the shipped prior was trained on."""

MU = 10.0
"""Precision (eq. 8) of posterior draws, 1 / intensity^2."""

WINDOW, OVERLAP = 15, 2
"""Frames that posterior draws take together, and that neighbouring windows share."""

Progress = Callable[[int, int], None]
"""Called with (done, in all) as the work goes on."""


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
    """Mean of posterior draws of the signal, where the settings ask for draws."""

    draws_deviation: Float32[ndarray, "frames height width"] | None = None
    """Standard deviation of these draws, at least 0; 0 outside the sector."""


def dehaze_clip(
    clip: Clip,
    settings: Settings,
    prior: Prior | None = None,
    *,
    size: int = PRIOR_SIZE,
    progress: Progress | None = None,
) -> Dehazed:
    """Separate one clip and give the parts back at the clip's resolution.

    The sector is fitted without distortion to `size` x `size` pixels and separated there. What comes back to the clip's
    resolution is smooth, so that speckle finer than the prior's grid survives: the share of haze (`nuclear`), by which
    every pixel and channel is dimmed alike; of other methods the haze, which is subtracted.

    `prior` may be None where the method has none (rpca). Same settings, same machine: same bits. Raises `InputError`
    for a clip that cannot be separated.
    """
    check_separable(clip, settings)
    settings = settings.resolved()
    start = time.perf_counter()
    sector = find_sector(clip.frames, clip.region)
    fit = Fit.to_prior(sector, size)
    fitted = fit.forward(clip.frames)
    if settings.method == "nuclear":
        if prior is None:
            raise ValueError("`prior` must be given for method 'nuclear', got None.")
        found = estimate(fitted, prior, progress=progress)
        share, mean, background = (
            np.clip(fit.backward(np.asarray(part)), 0, 1) for part in (found.share, found.mean, found.background)
        )
        dehazed = Dehazed(clip.frames, background, None, sector, 0.0, share, mean)
        dehazed = rendered(clip, dehazed, settings.as_dict()["strength"])
        if settings.samples:
            drawn = posterior_of(fitted, settings, prior, found.background, progress=progress)
            dehazed = dehazed._replace(
                draws_mean=_subtract(clip.frames, fit.backward(fitted - np.asarray(drawn.mean))),
                draws_deviation=np.maximum(fit.backward(np.asarray(drawn.deviation)), 0),
            )
    else:
        parts = separate_frames(fitted, settings, prior, mask=fit.mask, progress=progress)
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


def separate_frames(
    frames: Float32[ndarray, "frames size size"],
    settings: Settings,
    prior: Prior | None,
    *,
    mask: Mask,
    progress: Progress | None = None,
) -> Separation:
    """Run the method that `settings` names on frames of the prior's size; `mask` is where they hold an image.

    Not for `nuclear`, which is `estimate` and `render`. Strengths go in as arrays: Python's numbers are compiled in,
    and each new one would compile the sampler again.
    """
    chosen = settings.resolved().as_dict()
    video = jnp.asarray(frames)
    if settings.method == "rpca":
        return robust_pca(video, chosen["lam"] / float(np.sqrt(max(mask.sum(), len(frames)))))
    if prior is None:
        raise ValueError(f"`prior` must be given for method {settings.method!r}, got None.")
    if settings.method == "mmse":
        return mmse(video, prior, chosen["sigma"])
    if settings.method == "aware":
        return posterior_mean(video, prior)
    key, window = jax.random.key(settings.seed), min(chosen["window"], len(frames))
    background = NuclearNorm(jnp.float32(chosen["gamma"]))
    if settings.method == "zea":
        return separate_as_zea(
            video,
            prior,
            key=key,
            background=background,
            sampler=Zea.last_tenth(chosen["steps"], project=chosen["project"] == "on"),
            window=chosen["window"],
            overlap=chosen["overlap"],
            progress=progress,
        )
    return sample(
        video,
        prior,
        Algorithm1.paper(steps=chosen["steps"], mu=jnp.float32(chosen["mu"])),
        key=key,
        background=background,
        window=window,
        overlap=min(chosen["overlap"], window - 1),
        progress=progress,
    )


def posterior_of(
    frames: Float32[ndarray, "frames size size"],
    settings: Settings,
    prior: Prior,
    background: ndarray | jax.Array,
    *,
    progress: Progress | None = None,
) -> Posterior:
    """Draws from p(X, L | Y), as many as `settings` ask for; the chain starts from the `background` found before."""
    window = min(WINDOW, len(frames))
    return sample_posterior(
        frames,
        prior,
        slowly_varying((window, *frames.shape[1:]), MU),
        key=jax.random.key(settings.seed),
        sampler=SplitGibbs(mu=MU, draws=settings.as_dict()["samples"], warm_up=0 if knows_haze(prior) else 1),
        start=np.asarray(background),
        window=window,
        overlap=min(OVERLAP, window - 1),
        progress=progress,
    )


def check_separable(clip: Clip, settings: Settings) -> None:
    """Raise `InputError` where the clip holds nothing by which the method could tell haze from tissue."""
    if settings.method not in ("mmse", "aware") and (clip.frames == clip.frames[0]).all():
        raise InputError(
            f"{clip.source} does not move, all its frames are identical: give a moving clip or use --method mmse."
        )


def _subtract(image: ndarray, haze: ndarray) -> ndarray:
    """`image - haze` within [0, 1]; outside the sector the haze is 0 and every bit of the image stays."""
    difference = image - haze
    return np.clip(difference, 0, 1, out=difference)
