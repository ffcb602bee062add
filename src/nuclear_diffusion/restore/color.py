"""Colour: tissue keeps its hue, and what a scanner draws in colour stays as it is.

A clip in colour shows tissue in shades of grey or of one tint (sepia, say). Doppler colour, ECG traces and marks have
other colours.
"""

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from numpy import ndarray
from skimage.filters import apply_hysteresis_threshold

from nuclear_diffusion.types import Mask

Shades = Float32[ndarray, "256 3"]
"""RGB in [0, 255] of the tissue at each luma."""

_OFF, _CLEARLY_OFF = 16, 40  # distance from the shades of tissue, of 255; compression reaches 12
_TINTED = 8  # difference between the channels of tissue in a tinted clip, of 255
_DARK = 16  # luma of 255, below which hue is noise
_PIXELS = 200_000  # looked at
_STEP = 8  # luma of 255 per entry of the table of tints


def tissue_shades(color: UInt8[ndarray, "frames height width 3"], sector: Mask) -> Shades:
    """The shades that a clip shows tissue in: the median colour at each luma if most pixels have it, otherwise grey.

    Args:
        color: some frames of the clip, RGB.
        sector: (h, w), the pixels of the image.
    """
    luma = np.arange(256, dtype=np.float32)
    grey = np.repeat(luma[:, None], 3, axis=1)
    pixels = color[:, sector].reshape(-1, 3)[:: max(1, color[:, sector].size // 3 // _PIXELS)].astype(np.float32)
    pixels = pixels[_luma(pixels) > _DARK]
    if not len(pixels) or (np.ptp(pixels, axis=1) > _TINTED).mean() < 0.5:
        return grey
    bins = (_luma(pixels) // _STEP).astype(int)
    levels = np.unique(bins)
    tint = pixels - _luma(pixels)[:, None]
    medians = np.stack([np.median(tint[bins == level], axis=0) for level in levels])
    # nothing below the first level, where black is black
    centres = np.concatenate([[0], _STEP * (levels + 0.5)])
    tints = [np.interp(luma, centres, [0, *channel]) for channel in medians.T]
    shades = grey + np.stack(tints, axis=1).astype(np.float32)
    return shades if (_off(pixels, shades) < _OFF).mean() > 0.8 else grey


def drawn_in_color(
    color: UInt8[ndarray, "frames height width 3"], shades: Shades
) -> Bool[ndarray, "frames height width"]:
    """Where a clip (t, h, w, 3) has a colour that tissue does not have: Doppler colour, coloured traces, marks."""
    found = np.zeros(color.shape[:3], bool)
    for where, frame in zip(found, color, strict=True):
        off = _off(frame.astype(np.float32), shades)
        if off.max() > _CLEARLY_OFF:
            where[:] = apply_hysteresis_threshold(off, _OFF, _CLEARLY_OFF)
    return found


def recolored(
    color: UInt8[ndarray, "frames height width 3"],
    luma: Float32[ndarray, "frames height width"],
    signal: Float32[ndarray, "frames height width"],
) -> Float32[ndarray, "frames height width 3"]:
    """A clip's colours at the brightness of `signal`, in [0, 1]: RGB times signal / luma, so that hue stays.

    Pixels whose signal is their luma are unchanged. A pixel is made brighter only until a channel is full.
    """
    rgb = color / np.float32(255)
    gain = np.divide(signal, luma, out=np.ones_like(signal), where=luma > 0)
    full = rgb.max(axis=-1)
    gain = np.minimum(gain, np.divide(1, full, out=np.ones_like(full), where=full > 0))
    return rgb * gain[..., None]


def _off(pixels: Float32[ndarray, "*pixels 3"], shades: Shades) -> Float32[ndarray, "*pixels"]:
    """Distance of colours from the shade of their luma."""
    return np.abs(pixels - shades[np.rint(_luma(pixels)).astype(int)]).max(axis=-1)


def _luma(pixels: Float32[ndarray, "*pixels 3"]) -> Float32[ndarray, "*pixels"]:
    """Rec. 601 luma."""
    return pixels @ np.array([0.299, 0.587, 0.114], np.float32)
