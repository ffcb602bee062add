"""Shared input checks of the metrics: images as uint8, and regions that are not empty."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import ArrayLike, Bool, Float, UInt8
from numpy import ndarray

from nuclear_diffusion.checks import FAR, require_intensity
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.types import eight_bits

Images = Float[ArrayLike, "*frames height width"] | UInt8[ArrayLike, "*frames height width"]
"""An image or a clip, in [0, 1] or uint8."""
Region = Bool[ArrayLike, "height width"] | Bool[ArrayLike, "*frames height width"]
"""A region of interest, one for all frames or one for each."""


def to_uint8(images: Images, name: str) -> UInt8[ndarray, "frames height width"]:
    """Values 0-255 with a leading axis of frames; floats in [0, 1] are rounded to the nearest level."""
    values = np.asarray(images)
    if values.ndim not in (2, 3):
        raise ValueError(
            f"`{name}` must have the shape (height, width) or (frames, height, width), got {values.shape}."
        )
    if values.dtype != np.uint8:
        if not np.issubdtype(values.dtype, np.floating):
            raise ValueError(f"`{name}` must be uint8, or float in [0, 1], got {values.dtype}.")
        require_intensity(name, values, FAR)
        values = eight_bits(values)
    return values.reshape(-1, *values.shape[-2:])


def regions(mask: Region, shape: tuple[int, ...], name: str) -> Iterator[Bool[ndarray, "height width"]]:
    """The region in each frame of a clip of this shape. Raises `InputError` if it is empty in any frame."""
    selected = np.asarray(mask)
    if selected.dtype != bool:
        raise ValueError(f"`{name}` must be boolean, got {selected.dtype}.")
    if selected.shape not in (shape, shape[1:]):
        raise InputError(f"`{name}` must have the shape of the images, {shape[1:]}, got {selected.shape}.")
    for region in np.broadcast_to(selected, shape):
        if not region.any():
            raise InputError(f"`{name}` selects no pixel in a frame: draw the region there, or leave the frame out.")
        yield region
