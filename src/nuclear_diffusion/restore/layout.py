"""What a clip shows where: its ultrasound images, and what a scanner draws on top of them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32
from numpy import ndarray

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import Clip
from nuclear_diffusion.restore.color import Shades, drawn_in_color, tissue_shades
from nuclear_diffusion.sector import Fit, find_sectors, find_strokes, nearest, split_sectors
from nuclear_diffusion.types import Mask


@dataclass(frozen=True, eq=False)
class Layout:
    """The layout of a clip; it holds for all its frames."""

    fits: list[Fit]  # the fit of each ultrasound image to the prior's grid
    sector: Mask  # (h, w), the pixels of all images
    strokes: Mask  # (h, w), burned-in text and marks
    shades: Shades | None  # the colours of tissue; None for a grey clip

    @classmethod
    def find(cls, clip: Clip, size: int, sector: Mask | None = None) -> "Layout":
        """The layout of a clip, or of about 48 frames picked from it; `sector` (h, w) if it is known.

        Raises `InputError` for a clip without an ultrasound image, or a sector that is empty or of another size.
        """
        if sector is not None and sector.shape != clip.shape[1:]:
            (height, width), (_, rows, columns) = sector.shape, clip.shape
            raise InputError(
                f"The sector is for frames of {height} x {width} pixels, and {clip.source} has {rows} x {columns}: "
                "give one of the clip's size."
            )
        sectors = find_sectors(clip.frames, clip.region) if sector is None else split_sectors(sector)
        whole = np.logical_or.reduce(sectors)
        strokes = find_strokes(clip.frames) & whole
        shades = None if clip.color is None else tissue_shades(clip.color, whole)
        return cls([Fit.to_prior(one, size, hidden=strokes) for one in sectors], whole, strokes, shades)

    def overlay(self, clip: Clip) -> Bool[ndarray, "frames height width"]:
        """Pixels of a clip with this layout that stay as they are: strokes, coloured traces, Doppler colour."""
        if clip.color is None or self.shades is None:
            return np.broadcast_to(self.strokes, clip.shape)
        return (drawn_in_color(clip.color, self.shades) & self.sector) | self.strokes

    def beneath(
        self, frames: Float32[ndarray, "frames height width"], overlay: Bool[ndarray, "frames height width"]
    ) -> Float32[ndarray, "frames height width"]:
        """Frames for the prior: what is drawn in colour is replaced by the nearest pixels; fits replace strokes."""
        if not (overlay & ~self.strokes).any():
            return frames
        filled = np.array(frames)
        for frame, drawn in zip(filled, overlay, strict=True):
            if drawn.any() and not drawn[self.sector].all():
                frame[drawn] = frame[tuple(nearest(self.sector & ~drawn))][drawn]
        return filled
