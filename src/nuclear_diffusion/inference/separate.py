"""One call from a clip to its signal and its background."""

from collections.abc import Callable
from typing import Protocol, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpy import ndarray

from nuclear_diffusion.inference.estimate import Completion, Estimate, estimate_window
from nuclear_diffusion.inference.progress import listening
from nuclear_diffusion.inference.render import STRENGTH, render
from nuclear_diffusion.inference.result import Separation
from nuclear_diffusion.inference.windows import Windows
from nuclear_diffusion.model import Prior
from nuclear_diffusion.model.prior import HazeAware, knows_haze
from nuclear_diffusion.types import InputError, Video

P = TypeVar("P")
"""The kind of p(L) that a sampler takes."""

WINDOW, OVERLAP = 60, 8
"""Frames that the default estimate takes together, a heartbeat or two, and that neighbouring windows share."""


class Sampler(Protocol[P]):
    """One window in, its separation out; `Algorithm1` is a sampler."""

    @property
    def steps(self) -> int:
        """Denoiser passes a window."""
        ...

    def background_for(self, shape: tuple[int, int, int]) -> P:
        """The p(L) it is meant for, for a window of `shape` = (frames, height, width)."""
        ...

    def __call__(
        self, y: Video, prior: Prior, background: P, *, key: PRNGKeyArray, start: Video | None = None
    ) -> Separation:
        """Separate the window `y` (frames, height, width); X starts from `start` (SeqDiff), or from `y`."""
        ...


def estimate(
    video: Video | Float[ndarray, "frames height width"],
    prior: Prior,
    *,
    completion: Completion | None = None,
    window: int = WINDOW,
    overlap: int = OVERLAP,
    progress: Callable[[int, int], None] | None = None,
) -> Estimate:
    """What is tissue and what is haze in a clip Y; see `nuclear_diffusion.inference.estimate`. No chance is in it.

    Args:
        video: (frames, height, width), display intensity in [0, 1].
        prior: p(X); `load_prior("echo")` is the shipped one.
        completion: p(L) where the prior has learned haze; `Completion()` by default.
        window: frames taken together, at least 2; the whole clip where it is shorter.
        overlap: frames shared by neighbouring windows, in which they are cross-faded; less than `window`.
        progress: called with (windows done, windows in all).

    Raises:
        InputError: the video is not (frames, height, width), has a frame only, or is not finite.
    """
    y = check_video(video)
    windows = Windows(len(y), window, min(overlap, window - 1))
    completion = Completion() if completion is None else completion
    parts: list[Estimate] = []
    for part in windows.split(y):
        if progress is not None:
            progress(len(parts), len(windows))
        parts.append(jax.block_until_ready(estimate_window(part, prior, completion)))
    if progress is not None:
        progress(len(windows), len(windows))
    return Estimate(
        windows.merge([part.mean for part in parts]),
        windows.merge([part.share for part in parts]),
        windows.merge([part.background for part in parts]),
        jnp.mean(jnp.stack([part.trace for part in parts]), axis=0),
    )


def separate(
    video: Video | Float[ndarray, "frames height width"],
    prior: Prior,
    *,
    strength: float = STRENGTH,
    progress: Callable[[int, int], None] | None = None,
) -> Separation:
    """Separate a clip Y into tissue X and haze L: `estimate`, and `render` at a `strength` in [0, 1].

    X is Y less its share of haze, with Y's own speckle, and L is what haze there is, also behind tissue, so that they
    need not add up to Y. Errors as in `estimate` and `render`.
    """
    found = estimate(video, prior, progress=progress)
    return Separation(jnp.asarray(render(video, found.share, strength)), found.background, found.trace)


def sample(
    video: Video | Float[ndarray, "frames height width"],
    prior: Prior,
    sampler: Sampler[P],
    *,
    key: PRNGKeyArray,
    background: P | None = None,
    window: int = 15,
    overlap: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Separation:
    """Separate a clip Y with a sampler such as `Algorithm1.paper()`, Y ~ X + L.

    The clip is taken in windows of `window` frames that share `overlap` frames and are cross-faded; a window
    starts from what its predecessor found in the frames they share (SeqDiff, arXiv 2409.05399).

    Args:
        video: (frames, height, width), display intensity in [0, 1].
        prior: p(X).
        sampler: what is run on each window.
        key: random key; same key, same build, same machine: same bits.
        background: p(L); by default the sampler's own, scaled to the window.
        window: frames separated together, at least 2; the whole clip where it is shorter.
        overlap: frames shared by neighbouring windows, at least 0 and below `window`.
        progress: called with (denoiser steps done, steps in all).

    Returns:
        Signal, background, and the sampler's trace averaged over windows.

    Raises:
        InputError: the video is not (frames, height, width), has a frame only, or is not finite.
    """
    y = check_video(video)
    windows = Windows(len(y), window, min(overlap, window - 1))
    if background is None:
        background = sampler.background_for((windows.size, y.shape[1], y.shape[2]))
    total = sampler.steps * len(windows)
    parts: list[Separation] = []
    for index, part in enumerate(windows.split(y)):
        start = part if index == 0 else windows.warm_start(index, parts[-1].signal, part)

        def tell(step: int, before: int = index * sampler.steps) -> None:
            if progress is not None:
                progress(before + step, total)

        with listening(tell if progress is not None else None):
            result = sampler(part, prior, background, key=jax.random.fold_in(key, index), start=start)
            parts.append(jax.block_until_ready(result))
    if progress is not None:
        progress(total, total)
    return Separation(
        windows.merge([part.signal for part in parts]),
        windows.merge([part.background for part in parts]),
        jnp.mean(jnp.stack([part.trace for part in parts]), axis=0),
    )


def mmse(video: Video | Float[ndarray, "frames height width"], prior: Prior, sigma: float) -> Separation:
    """One blind pass of the denoiser, D(Y, sigma): a baseline.

    No noise is added; `sigma` in display intensity says how much of Y to take for noise. The background is what
    was removed, max(Y - X, 0), whatever its rank.

    Raises:
        InputError: as `separate`, or `sigma` is not positive.
    """
    y = check_video(video)
    if not (np.isfinite(sigma) and sigma > 0):
        raise InputError(f"`sigma` must be a positive number, got {sigma}.")
    signal = jnp.clip(_denoise(prior, y, jnp.float32(sigma)), 0, 1)
    return Separation(signal, jnp.maximum(y - signal, 0), jnp.sqrt(jnp.mean((y - signal) ** 2))[None])


def posterior_mean(video: Video | Float[ndarray, "frames height width"], prior: Prior) -> Separation:
    """One pass of a prior that has learned haze, E[X | Y] itself: the baseline of `separate`.

    The background is what was removed, max(Y - X, 0). Raises `InputError` as `separate`, or where the prior knows
    nothing of haze.
    """
    y = check_video(video)
    if not knows_haze(prior):
        raise InputError("The prior knows nothing of haze, so it has no E[X | Y]: use method mmse, or another prior.")
    signal = jnp.clip(_mean_given(prior, y), 0, 1)
    return Separation(signal, jnp.maximum(y - signal, 0), jnp.sqrt(jnp.mean((y - signal) ** 2))[None])


@eqx.filter_jit
def _mean_given(prior: HazeAware, y: Video) -> Video:
    return prior.given(y).mean()


@eqx.filter_jit
def _denoise(prior: Prior, y: Video, sigma: Float[Array, ""]) -> Video:
    return prior.denoise(y, sigma)


def check_video(video: Video | Float[ndarray, "frames height width"]) -> Float[Array, "frames height width"]:
    """`video` as float32, or `InputError` where it cannot be separated."""
    given = np.asarray(video)
    if not np.issubdtype(given.dtype, np.floating):
        raise InputError(f"`video` must be floats in [0, 1], got {given.dtype}: divide bytes by 255.")
    y = jnp.asarray(given, jnp.float32)
    if y.ndim != 3 or 0 in y.shape:
        raise InputError(f"`video` must be (frames, height, width), got shape {y.shape}.")
    if len(y) < 2:
        raise InputError("`video` must have at least 2 frames: a background is what they share.")
    if not bool(jnp.isfinite(y).all()):
        raise InputError("`video` must be finite, got NaN or infinite values: repair or drop those frames.")
    return y
