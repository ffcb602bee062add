"""A clip in memory, and how to read one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped, UInt8
from numpy import ndarray

from nuclear_diffusion.errors import InputError, require
from nuclear_diffusion.io.levels import Levels
from nuclear_diffusion.types import Mask, Regions


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip as display intensity.

    Attributes:
        frames: (t, h, w), in [0, 1], black = 0; for colour input the Rec. 601 luma.
        fps: frames per second; 30 if the file does not say.
        color: (t, h, w, 3) RGB if the input is in colour, else None.
        region: pixels that may belong to an ultrasound image: a mask, or the number of the region that the DICOM tags
            give each pixel (0: none); None for all.
        name: file or folder name without suffix.
        source: the path as given.
        files: the file of each frame, if each has its own, else None.
        levels: how the input stores intensity, if known.
        notes: what was assumed or left out while reading, in sentences.
    """

    frames: Float32[ndarray, "frames height width"]
    fps: float
    color: UInt8[ndarray, "frames height width 3"] | None
    region: Mask | Regions | None
    name: str
    source: Path
    files: tuple[Path, ...] | None = None
    levels: Levels | None = None
    notes: tuple[str, ...] = ()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> ndarray:
        return np.array(self.frames, dtype=dtype, copy=copy)

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(frames, height, width)."""
        return self.frames.shape  # pyright: ignore[reportReturnType]

    @property
    def pixels(self) -> Shaped[ndarray, "frames height width *rgb"]:
        """The colours of a colour clip, else the frames."""
        return self.frames if self.color is None else self.color


@dataclass(frozen=True)
class Reading:
    """What a file does not say, or says wrongly.

    Attributes:
        axes: the order of an array's axes, such as "HWT" or "THWC" (frames, height, width, channels); axes of length 1
            are not named.
        white: the stored value of intensity 1; 0 is black.
        db: the stored values of black and white, such as (-60, 0) dB.
        fps: frames per second.
        dataset: the array to take from a file with several.
        max_bytes: refuse a clip that needs more memory; default: half of this machine's memory.
    """

    axes: str | None = None
    white: float | None = None
    db: tuple[float, float] | None = None
    fps: float | None = None
    dataset: str | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.axes is not None:
            letters = self.axes.upper()
            if sorted(letters.replace("C", "", 1)) != ["H", "T", "W"] and sorted(letters) != ["H", "W"]:
                raise InputError(
                    f"--axes must order the letters T, H, W and for colour C, such as HWT, got {self.axes}."
                )
            object.__setattr__(self, "axes", letters)
        require(self.white is None or self.db is None, "--white and --db exclude each other: remove one.")
        if self.white is not None:
            require(1e-30 < self.white < np.inf, f"--white must be a positive number, got {self.white}.")
        if self.db is not None:
            low, high = self.db
            require(
                bool(np.isfinite([low, high]).all()) and low != high,
                f"--db must be the values of black and white, such as -60 0, got {low:g} {high:g}.",
            )
            require(low < high, f"--db {low:g} {high:g} has black above white: type --db {high:g} {low:g}.")
        if self.fps is not None:
            require(usable_rate(self.fps), f"--fps must be between 0.01 and 100000, got {self.fps:g}.")


def usable_rate(fps: float) -> bool:
    """Whether a movie can be written and shown at this rate."""
    return bool(0.01 <= fps <= 1e5)
