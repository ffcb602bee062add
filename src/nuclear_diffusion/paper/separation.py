"""What every way of separating a video returns."""

from typing import NamedTuple

from jaxtyping import Array, Float

from nuclear_diffusion.types import Video


class Separation(NamedTuple):
    """A video taken apart: Y ~ signal + background."""

    signal: Video
    """X, the foreground: (frames, height, width), display intensity."""

    background: Video
    """L, the low-rank part: same shape and unit."""

    trace: Float[Array, " steps"]
    """How far from convergence after each step; the method's docstring names the measure."""
