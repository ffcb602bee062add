"""What is written: the clip's size, rate and levels, and the clip that it was made from."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Shaped
from numpy import ndarray

from nuclear_diffusion.io.clip import Clip
from nuclear_diffusion.io.levels import Levels
from nuclear_diffusion.io.recording import Recording

Append = Callable[[Shaped[ndarray, "frames height width *rgb"]], None]
"""Takes the next frames, floats in [0, 1] or uint8."""


@dataclass(frozen=True, eq=False)
class Target:
    """A clip to be written."""

    shape: tuple[int, ...]  # (frames, height, width), or (frames, height, width, 3) for RGB
    fps: float  # frames per second
    levels: Levels  # how formats for data store intensity; formats for viewing always store 8 bits
    source: Clip | Recording | None = None  # the input; its header is carried over where the format has one
    anonymize: bool = False  # remove what identifies the patient from that header
    description: str = ""  # how the clip was made, in a few words

    @property
    def colored(self) -> bool:
        """Whether frames are RGB."""
        return len(self.shape) == 4
