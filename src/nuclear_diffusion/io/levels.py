"""How a file stores intensity."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped
from numpy import ndarray


class Levels(NamedTuple):
    """Intensity 0 is stored as `black` and intensity 1 as `white`, in numbers of type `dtype`."""

    dtype: np.dtype
    black: float
    white: float

    @classmethod
    def of(cls, dtype: np.dtype | type) -> "Levels":
        """The usual levels of a type: [0, 1] for floats, [0, highest value] for integers."""
        dtype = np.dtype(dtype)
        return cls(dtype, 0, 1 if dtype.kind in "fb" else float(np.iinfo(dtype).max))

    def store(self, frames: Shaped[ndarray, "*shape"]) -> Shaped[ndarray, "*shape"]:
        """Intensities, as floats in [0, 1] or uint8 in [0, 255], to stored values.

        Integers are rounded to the nearest level and clipped. Raises `ValueError` for NaN or infinite values then.
        """
        if frames.dtype == self.dtype and self == Levels.of(self.dtype):
            return frames
        if frames.dtype == np.uint8:
            frames = frames / np.float32(255)
        if self.dtype.kind == "f":
            return (self.black + (self.white - self.black) * frames).astype(self.dtype)
        if not np.isfinite(frames).all():
            raise ValueError("`frames` must be finite, got NaN or infinite values.")
        exact = np.float32 if self.dtype.itemsize <= 2 else np.float64
        scaled = exact(self.black) + exact(self.white - self.black) * np.clip(frames, 0, 1).astype(exact, copy=False)
        return np.rint(scaled).astype(self.dtype)


EIGHT_BITS = Levels.of(np.uint8)
