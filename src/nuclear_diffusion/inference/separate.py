"""One call from a clip to its signal and its background."""

from collections.abc import Callable
from typing import Protocol, TypeVar, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpy import ndarray

from nuclear_diffusion.inference.progress import listening
from nuclear_diffusion.inference.proximal import Proximal
from nuclear_diffusion.inference.result import Separation
from nuclear_diffusion.inference.windows import Windows
from nuclear_diffusion.model import Prior
from nuclear_diffusion.types import InputError, Video

P = TypeVar("P")
"""The kind of p(L) that a sampler takes."""


class Sampler(Protocol[P]):
    """One window in, its separation out; `Proximal` and `Algorithm1` are samplers."""

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


def separate(
    video: Video | Float[ndarray, "frames height width"],
    prior: Prior,
    *,
    key: PRNGKeyArray,
    background: P | None = None,
    sampler: Sampler[P] | None = None,
    window: int = 15,
    overlap: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Separation:
    """Separate a clip Y into a signal X under a diffusion prior and a low-rank background L, Y ~ X + L.

    The clip is taken in windows of `window` frames that share `overlap` frames and are cross-faded; a window
    starts from what its predecessor found in the frames they share (SeqDiff, arXiv 2409.05399).

    Args:
        video: (frames, height, width), display intensity in [0, 1].
        prior: p(X); `load_prior("echo")` is the shipped one.
        key: random key; same key, same build, same machine: same bits.
        background: p(L); by default the sampler's own, scaled to the window.
        sampler: `Proximal()` by default; `Algorithm1.paper()` is the paper's.
        window: frames separated together, at least 2; the whole clip where it is shorter.
        overlap: frames shared by neighbouring windows, at least 0 and below `window`.
        progress: called with (denoiser steps done, steps in all).

    Returns:
        Signal, background, and the sampler's trace averaged over windows.

    Raises:
        InputError: the video is not (frames, height, width), has a frame only, or is not finite.
    """
    y = check_video(video)
    sampler = cast(Sampler[P], Proximal()) if sampler is None else sampler
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
    """One pass of the denoiser, D(Y, sigma): the baseline that every sampler must beat.

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


@eqx.filter_jit
def _denoise(prior: Prior, y: Video, sigma: Float[Array, ""]) -> Video:
    return prior.denoise(y, sigma)


def check_video(video: Video | Float[ndarray, "frames height width"]) -> Float[Array, "frames height width"]:
    """`video` as float32, or `InputError` where it cannot be separated."""
    y = jnp.asarray(np.asarray(video), jnp.float32)
    if y.ndim != 3 or 0 in y.shape:
        raise InputError(f"`video` must be (frames, height, width), got shape {y.shape}.")
    if len(y) < 2:
        raise InputError("`video` must have at least 2 frames: a background is what they share.")
    if not bool(jnp.isfinite(y).all()):
        raise InputError("`video` must be finite, got NaN or infinite values: repair or drop those frames.")
    return y
