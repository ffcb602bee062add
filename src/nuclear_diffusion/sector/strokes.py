"""Find text, depth marks and other strokes that a scanner burns into the image."""

import numpy as np
from jaxtyping import Float32
from numpy import ndarray
from scipy import ndimage
from skimage.measure import label

from nuclear_diffusion.types import Mask, evenly

_FRAMES = 48
_FEWEST, _FEWEST_LOSSY = 4, 16  # frames; in fewer, tissue may stand still as well
_SHARP, _SHARPEST = 0.15, 0.3  # height above what is around: of every pixel of a stroke, and of some
_STILL = 1.5 / 255  # largest change of a burned-in pixel, from rounding
_COMPRESSED, _HIGH, _BRIGHT = 0.25, 0.35, 0.6  # in lossy files: change relative to height, height, and value
_WIDEST = 96  # strokes per side of the frame
_VISIBLE = 2.0  # pixels times height, of the smallest mark
_STANDS_OUT = 0.5  # mean brightness around a stroke, relative to its own; more around saturated haze


def find_strokes(frames: Float32[ndarray, "frames height width"]) -> Mask:
    """Find thin bright strokes that do not change over time.

    Speckle flickers and moves, so the darkest value of a pixel over time is dark in tissue, and that of a burned-in
    stroke is the stroke. Haze stands nearly still as well, so a stroke must not change at all; only bright ones may
    change a little, as in lossy files. Saturated haze does not change either, but what is around it is
    nearly as bright. Strokes are thinner than a hundredth of the frame, and include their edges.
    About 48 of the frames, in [0, 1], are looked at. No stroke is found in fewer than four, or if they hardly move.
    """
    chosen = np.asarray(frames)[evenly(len(frames), _FRAMES)]
    low, high = chosen.min(axis=0), chosen.max(axis=0)
    nothing = np.zeros(low.shape, bool)
    lit = high > _SHARP
    if len(chosen) < _FEWEST or (lit & (high - low <= _STILL)).sum() > 0.5 * lit.sum():
        return nothing
    width = 2 * -(-max(low.shape) // (2 * _WIDEST)) + 1
    above = low - ndimage.grey_opening(low, size=(width, width))
    change = high - low
    lossy = (change <= _COMPRESSED * above) & (above > _HIGH) & (low > _BRIGHT) & (len(chosen) >= _FEWEST_LOSSY)
    labels = np.asarray(label((above > _SHARP) & ((change <= _STILL) | lossy)))
    numbers = np.arange(labels.max() + 1)
    seen = np.asarray(ndimage.sum_labels(above, labels, numbers)) > _VISIBLE
    sharp = np.asarray(ndimage.maximum(above, labels, numbers)) > _SHARPEST
    around = np.where(labels == 0, ndimage.grey_dilation(labels, size=(3, 3)), 0)
    brightness = np.asarray(ndimage.mean(low, labels, numbers))
    alone = np.asarray(ndimage.mean(chosen.mean(axis=0), around, numbers)) < _STANDS_OUT * brightness
    return np.asarray(ndimage.binary_dilation((seen & sharp & alone)[labels] & (labels > 0), np.ones((3, 3))), bool)
