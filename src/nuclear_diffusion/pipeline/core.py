"""One clip in, one clip out: find the sector, fit it to the prior, separate, map the haze back."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from nuclear_diffusion.inference import (
    Algorithm1,
    Posterior,
    Proximal,
    Separation,
    SplitGibbs,
    Zea,
    mmse,
    robust_pca,
    sample_posterior,
    separate,
    separate_as_zea,
)
from nuclear_diffusion.inference.separate import Sampler
from nuclear_diffusion.model import NuclearNorm, Prior
from nuclear_diffusion.model.prior import knows_haze
from nuclear_diffusion.pipeline.settings import Settings
from nuclear_diffusion.types import InputError, Mask
from nuclear_diffusion.video import Clip, Fit, find_sector

PRIOR_SIZE = 256
"""Height and width in pixels of the frames that the shipped prior was trained on."""

WALK = 12
"""Steps of a walk to a sample or a mode for each step of the mean, which is there sooner."""

Progress = Callable[[int, int], None]
"""Called with (done, in all) as the work goes on."""


class Dehazed(NamedTuple):
    """A clip taken apart at its own resolution, intensities in [0, 1]."""

    signal: Float32[ndarray, "frames height width"]
    """The clip without its haze; equal to the clip outside the sector."""

    background: Float32[ndarray, "frames height width"]
    """The low-rank part L; 0 outside the sector."""

    color: Float32[ndarray, "frames height width 3"] | None
    """`signal` in the clip's colours, where the clip has any."""

    sector: Mask
    """Where the image is; everything else was left alone."""

    seconds: float
    """Wall-clock time of the separation, compilation included."""

    mean: Float32[ndarray, "frames height width"] | None = None
    """Mean of posterior draws of the signal, where the settings ask for draws; `signal` is the estimate they name."""

    deviation: Float32[ndarray, "frames height width"] | None = None
    """Standard deviation of these draws; 0 outside the sector."""


def dehaze_clip(
    clip: Clip,
    settings: Settings,
    prior: Prior | None = None,
    *,
    size: int = PRIOR_SIZE,
    progress: Progress | None = None,
) -> Dehazed:
    """Separate one clip and give the parts back at the clip's resolution.

    The sector is fitted without distortion to `size` x `size` pixels and separated there. What is subtracted from
    the clip is the *haze* mapped back to its resolution, so that speckle finer than the prior's grid survives:

        signal = clip(input - backward(haze), 0, 1) in the sector, input elsewhere

    In a colour clip the same haze is subtracted from every channel. `prior` may be None where the method has none
    (rpca). Same settings, same machine: same bits. Raises `InputError` for a clip that cannot be separated.
    """
    check_separable(clip, settings)
    start = time.perf_counter()
    sector = find_sector(clip.frames, clip.region)
    fit = Fit.to_prior(sector, size)
    fitted = fit.forward(clip.frames)
    parts = separate_frames(fitted, settings, prior, mask=fit.mask, progress=progress)
    mean = deviation = None
    if settings.resolved().samples:
        posterior = posterior_of(fitted, settings, prior, parts, progress=progress)
        mean = _subtract(clip.frames, fit.backward(fitted - np.asarray(posterior.mean)))
        deviation = fit.backward(np.asarray(posterior.deviation))
    haze = fit.backward(removed_haze(fitted, parts))
    background = fit.backward(np.asarray(parts.background))
    color = None
    if clip.color is not None:
        color = _subtract(clip.color / np.float32(255), haze[..., None])
    return Dehazed(
        signal=_subtract(clip.frames, haze),
        background=np.clip(background, 0, 1, out=background),
        color=color,
        sector=sector,
        seconds=time.perf_counter() - start,
        mean=mean,
        deviation=deviation,
    )


def removed_haze(
    fitted: Float32[ndarray, "frames size size"], parts: Separation
) -> Float32[ndarray, "frames size size"]:
    """What is to be subtracted from the input, on the prior's grid: the input less the separated signal."""
    return fitted - np.asarray(parts.signal)


def separate_frames(
    frames: Float32[ndarray, "frames size size"],
    settings: Settings,
    prior: Prior | None,
    *,
    mask: Mask,
    progress: Progress | None = None,
) -> Separation:
    """Run the method that `settings` names on frames of the prior's size; `mask` is where they hold an image.

    Its strengths go in as arrays: Python's numbers are compiled in, and each new one would compile the sampler again.
    """
    chosen = settings.resolved().as_dict()
    video = jnp.asarray(frames)
    if settings.method == "rpca":
        return robust_pca(video, chosen["lam"] / float(np.sqrt(mask.sum() * len(frames))))
    if prior is None:
        raise ValueError(f"`prior` must be given for method {settings.method!r}, got None.")
    if settings.method == "mmse":
        return mmse(video, prior, chosen["sigma"])
    if settings.method == "zea":
        return separate_as_zea(
            video,
            prior,
            key=jax.random.key(settings.seed),
            background=NuclearNorm(jnp.float32(chosen["gamma"])),
            sampler=Zea.last_tenth(chosen["steps"], project=chosen["project"] == "on"),
            window=chosen["window"],
            overlap=chosen["overlap"],
            progress=progress,
        )
    window = min(chosen["window"], len(frames))
    return separate(
        video,
        prior,
        key=jax.random.key(settings.seed),
        background=_background(chosen),
        sampler=_sampler(chosen),
        window=window,
        overlap=min(chosen["overlap"], window - 1),
        progress=progress,
    )


def _background(chosen: dict[str, Any]) -> NuclearNorm | None:
    """p(L) of the methods `nuclear` and `paper`; None: the sampler's own."""
    if chosen["gamma"] is None:
        return None
    return NuclearNorm(jnp.float32(chosen["gamma"]), static_is_free=chosen["method"] == "nuclear")


def _sampler(chosen: dict[str, Any]) -> Sampler:
    """The sampler of the methods `nuclear` and `paper`."""
    steps, mu = chosen["steps"], jnp.float32(chosen["mu"])
    if chosen["method"] == "paper":
        return Algorithm1.paper(steps=steps, mu=mu)
    if chosen["estimate"] == "mean":
        ending = {name: jnp.float32(chosen[name]) for name in ("detail", "spare", "clear", "exposure")}
        return Proximal(steps=steps, mu=mu, **ending)
    walk = Proximal.sample if chosen["estimate"] == "sample" else Proximal.mode
    return walk(steps=WALK * steps, mu=mu)


def posterior_of(
    frames: Float32[ndarray, "frames size size"],
    settings: Settings,
    prior: Prior | None,
    parts: Separation,
    *,
    progress: Progress | None = None,
) -> Posterior:
    """Draws from p(X, L | Y), as many as `settings` ask for; the chain starts from the background found before."""
    chosen = settings.resolved().as_dict()
    if prior is None:
        raise ValueError(f"`prior` must be given for method {settings.method!r}, got None.")
    window = min(chosen["window"], len(frames))
    gamma = chosen["gamma"] or Proximal(mu=chosen["mu"]).background_for((window, *frames.shape[1:])).gamma
    return sample_posterior(
        frames,
        prior,
        NuclearNorm(gamma, static_is_free=True),
        key=jax.random.fold_in(jax.random.key(settings.seed), 1),
        sampler=SplitGibbs(mu=chosen["mu"], draws=chosen["samples"], warm_up=0 if knows_haze(prior) else 1),
        start=parts.background,
        window=window,
        overlap=min(chosen["overlap"], window - 1),
        progress=progress,
    )


def check_separable(clip: Clip, settings: Settings) -> None:
    """Raise `InputError` where the clip holds nothing by which the method could tell haze from tissue."""
    if settings.method != "mmse" and (clip.frames == clip.frames[0]).all():
        raise InputError(
            f"{clip.source} does not move, all its frames are identical: give a moving clip or use --method mmse."
        )


def _subtract(image: ndarray, haze: ndarray) -> ndarray:
    """`image - haze` within [0, 1]; outside the sector the haze is 0 and every bit of the image stays."""
    difference = image - haze
    return np.clip(difference, 0, 1, out=difference)
