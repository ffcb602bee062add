"""Map the sector of a clip of any size to the square frame of a prior, and back."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from numpy import ndarray
from PIL import Image

from nuclear_diffusion.sector.find import apex_below, nearest
from nuclear_diffusion.types import Mask

_MARGIN = 0.02  # of the sector's longer side, on each side
_WHOLE = 0.95  # a sector that spans this fraction of a frame of the prior's size is not moved


@dataclass(frozen=True, eq=False)
class Fit:
    """A square window on the clip, scaled isotropically to the prior's frame.

    The window is centred horizontally on the sector's bounding box and aligned with its top; it may extend beyond the
    clip's frame. Resampling is bicubic, with anti-aliasing when shrinking. Pixels outside the mask are first replaced
    by the nearest value inside, so that neither black nor burned-in text bleeds over the edge. Priors are trained with
    the apex at the top, so a sector with its apex at the bottom is turned over.
    """

    mask: Bool[ndarray, "size size"]  # (size, size), the sector in the prior's frame
    source: Mask  # (h, w), the sector in the clip's frame
    # top, left, side: the window, in pixels of the clip; `top` and `left` may be negative
    top: int
    left: int
    side: int
    inverted: bool  # whether the clip shows the apex at the bottom; the window is in the frame turned over then
    _outward: Int[ndarray, "axis height width"] = field(repr=False)
    _inward: Int[ndarray, "axis size size"] = field(repr=False)

    @classmethod
    def to_prior(cls, mask: Mask, size: int = 256, hidden: Mask | None = None) -> "Fit":
        """Fit the sector `mask` (h, w) to frames of `size` x `size` pixels.

        If the clip already has that size and the sector spans nearly all of it, the fit is the identity. Pixels in
        `hidden` (h, w), such as burned-in text, are replaced by the nearest others of the sector before resampling.
        """
        mask = np.asarray(mask, bool)
        if mask.ndim != 2 or not mask.any():
            raise ValueError(f"`mask` must be (height, width) and not empty, got shape {mask.shape}.")
        if size < 1:
            raise ValueError(f"`size` must be positive, got {size}.")
        inverted = apex_below(mask)
        upright = mask[::-1] if inverted else mask
        rows, columns = (np.flatnonzero(upright.any(axis=axis)) for axis in (1, 0))
        height, width = rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]
        top, left, side = 0, 0, size
        if mask.shape != (size, size) or max(height, width) < _WHOLE * size:
            margin = round(_MARGIN * max(height, width))
            side = int(max(height, width)) + 2 * margin
            top = int(rows[0]) - margin
            left = int(columns[0] + columns[-1] + 1 - side) // 2
        fitted = _resize(_window(upright.astype(np.float32), top, left, side), size) >= 0.5
        if not fitted.any():
            raise ValueError(f"`size` must be large enough to keep a pixel of the mask, got {size}.")
        visible = mask if hidden is None or (mask <= hidden).all() else mask & ~hidden
        return cls(fitted, mask, top, left, side, inverted, nearest(visible), nearest(fitted))

    @property
    def size(self) -> int:
        """Side of the prior's frame in pixels."""
        return len(self.mask)

    def forward(self, frames: Float[ndarray, "frames height width"]) -> Float32[ndarray, "frames size size"]:
        """Map a clip (t, h, w) in [0, 1] to the prior's frame (t, size, size) in [0, 1], 0 outside the mask."""
        frames = np.asarray(frames, np.float32)
        if frames.shape[1:] != self.source.shape:
            raise ValueError(f"`frames` must be (t, {self.source.shape}), got shape {frames.shape}.")
        fitted = np.zeros((len(frames), self.size, self.size), np.float32)
        for index, frame in enumerate(frames):
            filled = self._turned(frame[tuple(self._outward)])
            scaled = _resize(_window(filled, self.top, self.left, self.side), self.size)
            fitted[index, self.mask] = np.clip(scaled, 0, 1)[self.mask]
        return fitted

    def backward(self, field: Float[ndarray, "frames size size"]) -> Float32[ndarray, "frames height width"]:
        """Map a field (t, size, size) of any range to the clip's frame (t, h, w), 0 outside the mask."""
        field = np.asarray(field, np.float32)
        if field.shape[1:] != self.mask.shape:
            raise ValueError(f"`field` must be (t, {self.size}, {self.size}), got shape {field.shape}.")
        frames = np.zeros((len(field), *self.source.shape), np.float32)
        for index, part in enumerate(field):
            scaled = _resize(part[tuple(self._inward)], self.side)
            whole = _window(scaled, -self.top, -self.left, *self.source.shape)
            frames[index, self.source] = self._turned(whole)[self.source]
        return frames

    def _turned(self, image: Float32[ndarray, "h w"]) -> Float32[ndarray, "h w"]:
        return image[::-1] if self.inverted else image


def _window(
    image: Float32[ndarray, "h w"], top: int, left: int, height: int, width: int | None = None
) -> Float32[ndarray, "height width"]:
    """A crop that may extend beyond the image, where the edge is repeated."""
    width = height if width is None else width
    rows = np.clip(np.arange(top, top + height), 0, image.shape[0] - 1)
    columns = np.clip(np.arange(left, left + width), 0, image.shape[1] - 1)
    return image[rows[:, None], columns]


def _resize(image: Float32[ndarray, "n n"], size: int) -> Float32[ndarray, "size size"]:
    if len(image) == size:
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
