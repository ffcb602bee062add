"""The result of separating a video."""

from typing import NamedTuple

from jaxtyping import Array, Float

from nuclear_diffusion.types import Video


class Separation(NamedTuple):
    """A separated video: Y ~ signal + background."""

    signal: Video
    """X, the foreground: (frames, height, width), display intensity."""
    background: Video
    """L, the low-rank part: same shape and unit."""
    trace: Float[Array, " steps"]
    """Convergence measure after each step; see each method's docstring."""
