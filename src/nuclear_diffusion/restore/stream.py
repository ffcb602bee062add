"""Dehaze a live source: frames go in as they come, and come out as soon as their window is full."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32
from numpy import ndarray

from nuclear_diffusion.checks import require_intensity
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.paper.separation import Separation
from nuclear_diffusion.paper.windows import CrossFade
from nuclear_diffusion.priors.protocol import Prior
from nuclear_diffusion.restore.background import Completion
from nuclear_diffusion.restore.estimate import OVERLAP, WINDOW, Estimate, estimate_window
from nuclear_diffusion.restore.frames import Judge
from nuclear_diffusion.restore.render import STRENGTH, limits, render
from nuclear_diffusion.types import Frame, Video

log = logging.getLogger(__name__)


def stream(
    frames: Iterable[Frame | Video | Float[ndarray, "*frames height width"]],
    prior: Prior,
    *,
    strength: float = STRENGTH,
    window: int = WINDOW,
    overlap: int = OVERLAP,
) -> Iterator[Separation]:
    """Separate frames as they come, as `separate` does a clip; for live sources and for clips of any length.

    Latency: a window is estimated when its last frame is there. A frame comes out at most `window` - 1 and at least
    `overlap` frames after it went in, plus the time of the estimate; `window` - `overlap` frames come out together. By
    default that is 8 to 59 frames, and `window=16, overlap=4` makes it 4 to 15. The first window also waits for
    compilation. Memory is that of two windows.

    The result is that of `separate` with the same windows, but for the last one: it takes the last `window` frames, of
    which only those that are not out yet are cross-faded. Black frames come back as they are, and frames that repeat
    the one before as it does; they fill no window.

    Args:
        frames: images (height, width) or blocks of them (frames, height, width), display intensity in [0, 1].
        prior: p(X); `load_prior("echo")` loads the shipped one.
        strength: in [0, 1]; see `render`.
        window: frames estimated together, at least 1.
        overlap: frames shared and cross-faded by neighbouring windows, at least 0 and below `window`.

    Yields:
        Consecutive frames, separated, every frame once; `trace` is that of their window.

    Raises:
        InputError: a setting is out of range, or frames differ in size, are not floats, or not finite.
    """
    if not 0 <= overlap < window:
        raise InputError(f"`overlap` must be at least 0 and below `window`, got {overlap} of {window}.")
    limits(strength)
    return _stream(frames, prior, strength, window, overlap)


def _stream(frames: Iterable[Any], prior: Prior, strength: float, window: int, overlap: int) -> Iterator[Separation]:
    judge, fade, completion = Judge(), CrossFade(), Completion()
    recent: deque[Float32[ndarray, "height width"]] = deque(maxlen=window)  # of the frames that take part
    count = estimated = 0  # frames that take part: so far, and in a window
    output = _Output(strength)

    def estimate_recent() -> None:
        y = jnp.asarray(np.stack(recent))
        fade.add(count - len(recent), jax.block_until_ready(estimate_window(y, prior, completion)))

    for frame in _single(frames):
        kind = judge(frame)
        if kind != "new":
            log.info("A frame is %s: it comes back %s.", kind, "as it is" if kind == "black" else "as the one before")
        output.put(frame, kind)
        if kind == "new":
            recent.append(frame)
            count += 1
        if kind == "new" and count == (window if estimated == 0 else estimated + window - overlap):
            estimate_recent()
            estimated = count
            yield output.take(fade.finish(count - overlap))
        elif output.is_free:
            yield output.take(None)
    if count > estimated:
        estimate_recent()
    if output.waits:
        yield output.take(fade.finish(count))


class _Output:
    """Frames on their way out, in order: those that take part wait for their estimate, the others for their turn."""

    def __init__(self, strength: float):
        self._strength = strength
        self._waiting: deque[tuple[Float32[ndarray, "height width"], str]] = deque()
        self._last: tuple[ndarray, ndarray] | None = None

    @property
    def waits(self) -> bool:
        """Whether any frame waits."""
        return bool(self._waiting)

    @property
    def is_free(self) -> bool:
        """Whether the next frame waits for no estimate."""
        return self.waits and self._waiting[0][1] != "new"

    def put(self, frame: Float32[ndarray, "height width"], kind: str) -> None:
        """Add a frame of a kind of `Judge`."""
        self._waiting.append((frame, kind))

    def take(self, found: Estimate | None) -> Separation:
        """The frames of an estimate, rendered, with those before and after them that wait for none."""
        estimates = iter(() if found is None else zip(found.share, found.background, strict=True))
        frames, shares, backgrounds = [], [], []
        while self._waiting:
            frame, kind = self._waiting[0]
            if kind == "new":
                estimate = next(estimates, None)
                if estimate is None:
                    break
                self._last = estimate
            self._waiting.popleft()
            share, background = self._last if kind != "black" and self._last else [np.zeros_like(frame)] * 2
            frames.append(frame)
            shares.append(np.asarray(share))
            backgrounds.append(np.asarray(background))
        signal = render(np.stack(frames), np.stack(shares), self._strength)
        trace = jnp.zeros(0) if found is None else jnp.asarray(found.trace)
        return Separation(jnp.asarray(signal), jnp.asarray(np.stack(backgrounds)), trace)


def _single(frames: Iterable[Any]) -> Iterator[Float32[ndarray, "height width"]]:
    """Single frames, checked."""
    shape = None
    for given in frames:
        part = np.asarray(given)
        if part.ndim not in (2, 3) or not np.issubdtype(part.dtype, np.floating):
            raise InputError(f"`frames` must be floats (height, width), got {part.dtype} of shape {part.shape}.")
        for frame in part if part.ndim == 3 else part[None]:
            shape = frame.shape if shape is None else shape
            if frame.shape != shape:
                raise InputError(f"`frames` must be of one size, got {frame.shape} after {shape}.")
            require_intensity("frames", frame)
            yield frame.astype(np.float32)
