"""Run a sampler such as Algorithm 1 on a clip, window by window, each with a warm start from the last (SeqDiff)."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray
from numpy import ndarray

from nuclear_diffusion.checks import require_intensity
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.paper.nuclear_norm import Background
from nuclear_diffusion.paper.separation import Separation
from nuclear_diffusion.paper.windows import Once, Windows, joined, over_windows
from nuclear_diffusion.priors.protocol import Prior
from nuclear_diffusion.types import Progress, Video, VideoLike


@runtime_checkable
class Sampler(Protocol):
    """Separates one window, as `Algorithm1` does."""

    @property
    def steps(self) -> int:
        """Denoiser passes per window."""
        ...

    def background_for(self, shape: tuple[int, int, int]) -> Background:
        """The default p(L) for a window of `shape` = (frames, height, width)."""
        ...

    def __call__(
        self, y: Video, prior: Prior, background: Background, *, key: PRNGKeyArray, start: Video | None = None
    ) -> Separation:
        """Separate the window `y` (frames, height, width); X starts at `start` (warm start) or at `y`."""
        ...


def sample(
    video: VideoLike,
    prior: Prior,
    sampler: Sampler,
    *,
    key: PRNGKeyArray,
    background: Background | None = None,
    window: int = 15,
    overlap: int = 2,
    progress: Progress | None = None,
) -> Separation:
    """Separate a clip Y with a sampler such as `Algorithm1.paper()`, Y ~ X + L.

    The clip is split into windows that overlap and are cross-faded. Each window starts from its predecessor's result
    in the frames they share (warm start; SeqDiff, arXiv 2409.05399).

    Args:
        video: (frames, height, width), display intensity in [0, 1].
        prior: p(X).
        sampler: separates each window.
        key: random key; results are reproducible bit for bit with the same key, build and machine.
        background: p(L); default: the sampler's own for this window.
        window: frames separated together, at least 2; at most the whole clip is used.
        overlap: frames shared by neighbouring windows, at least 0; at most `window` - 1 is used.

    Returns:
        Signal, background, and the sampler's trace averaged over windows.

    Raises:
        InputError: `video` is not finite floats (frames, height, width) or has one frame; or `overlap` is negative.
    """
    y = check_video(video)
    windows = Windows(len(y), window, min(overlap, window - 1))
    return joined(
        sample_parts([np.asarray(y)], windows, prior, sampler, key=key, background=background, progress=progress)
    )


def sample_parts(
    blocks: Iterable[Float[ndarray, "_ height width"]],
    windows: Windows,
    prior: Prior,
    sampler: Sampler,
    *,
    key: PRNGKeyArray,
    background: Background | None = None,
    progress: Progress | None = None,
    once: Once[Separation] | None = None,
) -> Iterator[Separation]:
    """`sample` of a clip given as consecutive blocks of frames, in parts as its windows are finished."""
    previous: list[Video] = []

    def solve(index: int, y: ndarray) -> Separation:
        part = jnp.asarray(y)
        start = windows.warm_start(index, previous[-1], part) if previous else part
        frames, height, width = part.shape
        p_l = sampler.background_for((frames, height, width)) if background is None else background
        return sampler(part, prior, p_l, key=jax.random.fold_in(key, index), start=start)

    def remembered(index: int, compute: Callable[[], Separation]) -> Separation:
        found = compute() if once is None else once(index, compute)
        previous[:] = [jnp.asarray(found.signal)]
        return found

    yield from over_windows(blocks, windows.spans, solve, once=remembered, progress=progress, steps=sampler.steps)


def check_video(video: VideoLike, *, least: int = 2) -> Video:
    """`video` as float32; raises `InputError` if it cannot be separated or has fewer than `least` frames."""
    given = np.asarray(video)
    if not np.issubdtype(given.dtype, np.floating):
        raise InputError(f"`video` must be floats in [0, 1], got {given.dtype}: divide bytes by 255.")
    y = jnp.asarray(given, jnp.float32)
    if y.ndim != 3 or 0 in y.shape:
        raise InputError(f"`video` must be (frames, height, width), got shape {y.shape}.")
    if len(y) < least:
        raise InputError("`video` must have at least 2 frames, got 1: give a clip, not an image.")
    require_intensity("video", given)
    return y
