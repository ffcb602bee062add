"""The ultrasound sector within a frame, without text, colour bars and traces."""

import numpy as np
from jaxtyping import Bool, Float32
from numpy import ndarray
from scipy import ndimage
from skimage.morphology import convex_hull_image

from nuclear_diffusion.types import Mask

# All at a working size of at most 320 pixels a side, where burned-in strokes are one or two pixels wide.
_WORKING_SIDE = 320
_FRAMES = 48
_STROKE = np.ones((1, 3, 3))  # what a stroke cannot hold
_CHANGE = 4 / 255  # above the flicker of lossy coding over black
_VISIBLE = 8 / 255  # above black


def find_sector(frames: Float32[ndarray, "frames height width"], region: Mask | None = None) -> Mask:
    """Find the pixels of the ultrasound image.

    Each frame is opened by a 3 x 3 square, which removes strokes: text, traces, rulers. Of what remains, pixels that
    change over time are tissue, as are steady bright pixels in one piece with them (a saturated near field); steady
    pieces apart, as colour bars and logos, are not. The convex hull takes in cavities and drop-outs.

    Args:
        frames: (t, h, w), in [0, 1].
        region: pixels that may belong to it, for example `Clip.region`; None: all.

    Returns:
        (h, w), True on the sector; everything (of the region) where the picture fills it or no sector stands out.
    """
    frames = np.asarray(frames)
    allowed = np.ones(frames.shape[1:], bool) if region is None else np.asarray(region, bool)
    small, factor = _shrink(frames)
    part = _cover(allowed, factor, small.shape[1:])
    body = _body(ndimage.grey_opening(small, size=_STROKE.shape), part)
    if body is None:
        return allowed
    hull = convex_hull_image(body)
    if factor > 1:
        grown = hull.repeat(factor, axis=0).repeat(factor, axis=1)[: frames.shape[1], : frames.shape[2]]
        hull = convex_hull_image(
            np.pad(grown, [(0, n - m) for n, m in zip(allowed.shape, grown.shape, strict=True)])
        )
    return hull & allowed


def _shrink(
    frames: Float32[ndarray, "frames height width"],
) -> tuple[Float32[ndarray, "some h w"], int]:
    """Block means of some of the frames, spread over the clip, and the block's side."""
    picked = np.unique(np.linspace(0, len(frames) - 1, _FRAMES).round().astype(int))
    factor = -(-max(frames.shape[1:]) // _WORKING_SIDE)
    height, width = (n // factor * factor for n in frames.shape[1:])
    blocks = frames[picked, :height, :width].reshape(-1, height // factor, factor, width // factor, factor)
    return blocks.mean(axis=(2, 4), dtype=np.float32), factor


def _cover(mask: Mask, factor: int, shape: tuple[int, ...]) -> Mask:
    height, width = shape
    cut = mask[: height * factor, : width * factor]
    return cut.reshape(height, factor, width, factor).any(axis=(1, 3))


def _body(opened: Float32[ndarray, "frames h w"], part: Mask) -> Bool[ndarray, "h w"] | None:
    """The sector's visible tissue, or None where nothing stands out from the rest."""
    low, high = opened.min(axis=0), opened.max(axis=0)
    visible = (high > _VISIBLE) & part
    if visible.sum() > 0.9 * part.sum():
        return None
    changing = _pieces(ndimage.binary_opening((high - low > _CHANGE) & part))
    if changing.sum() < 0.01 * part.sum():
        body = _largest(ndimage.binary_opening(visible))  # a still clip
    else:
        reach = max(2, round(0.1 * np.sqrt(changing.sum())))
        near = ndimage.binary_dilation(changing, iterations=reach)
        body = ndimage.binary_propagation(changing, mask=changing | (ndimage.binary_opening(visible) & near))
    return body if body.sum() >= 0.01 * part.sum() else None


def _pieces(mask: Bool[ndarray, "h w"]) -> Bool[ndarray, "h w"]:
    """The largest connected piece and those of at least a twentieth of its size."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return (sizes >= sizes.max() / 20)[labels] & mask


def _largest(mask: Bool[ndarray, "h w"]) -> Bool[ndarray, "h w"]:
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    return labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
