"""Types that all share, the 8-bit form of a clip, and some of its frames.

Public arrays are float32 of shape (frames, height, width): display intensity in [0, 1], black = 0.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer, UInt8
from numpy import ndarray

Scalar = Float[Array, ""]
"""A float with no axes."""

Frame = Float[Array, "height width"]
"""One image, display intensity in [0, 1]."""

Video = Float[Array, "frames height width"]
"""A clip, display intensity in [0, 1]; the paper's n x p matrix (pixels x frames) is the transpose of its frames."""

VideoLike = Float[Array | ndarray, "frames height width"]
"""A clip as JAX or NumPy array, where a function takes both."""

Mask = Bool[ndarray, "height width"]
"""A region of interest."""

Regions = Integer[ndarray, "height width"]
"""The number of the image region that a pixel belongs to, from 1; 0 for none."""

Progress = Callable[[int, int], None]
"""Called with (done, total)."""

Bar = Callable[[str], AbstractContextManager[Callable[..., None]]]
"""Makes a progress bar with a title; yields a `Progress` that also takes a short text."""


def eight_bits(frames: Float[ndarray, "*shape"]) -> UInt8[ndarray, "*shape"]:
    """Intensity in [0, 1] rounded to 8 bits, as it would be saved."""
    return np.rint(np.clip(frames, 0, 1) * 255).astype(np.uint8)


def evenly(count: int, most: int) -> Int[ndarray, " chosen"]:
    """At most `most` of the numbers below `count`, evenly spaced, ascending."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)
