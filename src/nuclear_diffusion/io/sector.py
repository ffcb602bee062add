"""Find the ultrasound sector in a frame, without text, colour bars and traces."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32
from numpy import ndarray
from scipy import ndimage
from scipy.spatial import ConvexHull
from skimage.draw import polygon2mask
from skimage.measure import label
from skimage.transform import downscale_local_mean

from nuclear_diffusion.types import Mask

# All for a working size of at most 320 pixels per side, where burned-in strokes are one or two pixels wide.
_WORKING_SIDE = 320
_FRAMES = 48
_CHANGE = 4 / 255  # above the flicker of lossy compression on black
_VISIBLE = 8 / 255  # above black
_BRIGHT = 0.25  # peak of text and traces
_FLANK = 0.15  # shortest straight flank, relative to the hull's height
_STEEP, _FLAT = 0.1, 2.0  # smallest and largest slope of a flank, columns per row
_ADDED = 0.5  # largest area that the completion may add, relative to the hull's


def find_sector(frames: Float32[ndarray, "frames height width"], region: Mask | None = None) -> Mask:
    """Find the pixels of the ultrasound image.

    1. Each frame is opened by a 3 x 3 square, which removes strokes: text, traces, rulers.
    2. The remaining pixels that change over time are tissue, and so are static pieces connected to them (a
       saturated near field); separate static pieces, such as colour bars and logos, are not.
    3. Their convex hull includes cavities and drop-outs.
    4. If the hull's upper flanks are those of a sector, it is completed to that sector, whose lower corners are
       often too dark to see; strokes there are left out.

    Args:
        frames: (t, h, w), in [0, 1].
        region: pixels that may belong to the sector, for example `Clip.region`; default: all.

    Returns:
        (h, w), True in the sector; the whole region if the image fills it or no sector is found.
    """
    frames = np.asarray(frames)
    if frames.ndim != 3 or 0 in frames.shape:
        raise ValueError(f"`frames` must be (frames, height, width), not empty, got shape {frames.shape}.")
    shape = frames.shape[1:]
    allowed = np.ones(shape, bool) if region is None else np.asarray(region, bool)
    if allowed.shape != shape:
        raise ValueError(f"`region` must have the frames' shape {shape}, got {allowed.shape}.")
    factor = -(-max(shape) // _WORKING_SIDE)
    picked = np.unique(np.linspace(0, len(frames) - 1, _FRAMES).round().astype(int))
    small = downscale_local_mean(frames[picked], (1, factor, factor))
    part = downscale_local_mean(allowed.astype(np.float32), (factor, factor)) > 0.5
    body = _body(ndimage.grey_opening(small, size=(1, 3, 3)), part)
    if body is None:
        return allowed
    hull = factor * _hull(body)
    mask = polygon2mask(shape, hull - 0.5)
    if (sector := _sector(hull)) is not None:
        strokes = _strokes(small).repeat(factor, axis=0).repeat(factor, axis=1)[: shape[0], : shape[1]]
        mask = _completion(mask, sector.draw(shape), strokes, factor)
    return mask & allowed


def _body(opened: Float[ndarray, "frames height width"], part: Mask) -> Mask | None:
    """The sector's visible tissue, or None if it cannot be told from the rest."""
    low, high = opened.min(axis=0), opened.max(axis=0)
    visible = (high > _VISIBLE) & part
    if visible.sum() > 0.9 * part.sum():
        return None
    visible = np.asarray(ndimage.binary_opening(visible), bool)
    # Further pieces of at least a twentieth of the largest are tissue behind a drop-out, not remnants of traces.
    changing = _pieces(ndimage.binary_opening((high - low > _CHANGE) & part), 0.05)
    if changing.sum() < 0.01 * part.sum():
        body = _pieces(visible, 1)  # a static clip
    else:
        body = changing | _attached(visible & ~changing, changing)
    return body if body.sum() >= 0.01 * part.sum() else None


def _attached(steady: Mask, changing: Mask) -> Mask:
    """Static pieces that touch changing pixels: a near field, or static tissue around a valve.

    Bars and logos are excluded: they enlarge the convex hull by far more than their own area.
    """
    labels = np.asarray(label(steady))
    touching = np.unique(labels[np.asarray(ndimage.binary_dilation(changing), bool)])
    hull = _hull(changing)
    area = ConvexHull(hull).volume  # SciPy's name for the area in 2-D
    attached = np.zeros_like(steady)
    for number in touching[touching > 0]:
        piece = labels == number
        joint = ConvexHull(np.concatenate([hull, _hull(piece)])).volume
        if joint - area <= 2 * piece.sum():
            attached |= piece
    return attached


def _pieces(mask: Mask, share: float) -> Mask:
    """Connected pieces with at least `share` times the area of the largest one."""
    labels = np.asarray(label(mask))
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    keep = (sizes > 0) & (sizes >= share * sizes.max())
    return keep[labels]


def _hull(mask: Mask) -> Float[ndarray, "vertices 2"]:
    """Convex hull (row, column) of the pixels' corners; the first pixel covers [0, 1] x [0, 1]."""
    pixels = np.argwhere(mask)
    corners = np.concatenate([pixels + offset for offset in np.ndindex(2, 2)])
    return corners[ConvexHull(corners).vertices].astype(float)


class _Sector(NamedTuple):
    """A ring sector that opens downwards, with apex (row, column) and flanks of slopes `left` and `right`.

    Slopes are in columns per row; one column is as wide as `aspect` rows are high.
    """

    row: float
    column: float
    left: float
    right: float
    inner: float
    outer: float
    aspect: float

    def draw(self, shape: tuple[int, ...]) -> Mask:
        """(h, w), True where a pixel's centre is in the sector."""
        down = np.arange(shape[0])[:, None] + 0.5 - self.row
        across = np.arange(shape[1]) + 0.5 - self.column
        radius = np.hypot(down, self.aspect * across)
        between = (across >= self.left * down) & (across <= self.right * down)
        return between & (radius >= self.inner) & (radius <= self.outer)


def _sector(hull: Float[ndarray, "vertices 2"]) -> _Sector | None:
    """The sector whose flanks are the uppermost long sides of the hull, or None without such flanks.

    Pixels may not be square, so its arc may be elliptic: of the sectors that contain the hull and touch its lower
    end, this is the smallest.
    """
    ends = np.stack([hull, np.roll(hull, -1, axis=0)], axis=1)  # (side, end, row and column)
    ends = np.take_along_axis(ends, np.argsort(ends[..., 0], axis=1)[..., None], axis=1)  # upper end first
    down, across = (ends[:, 1] - ends[:, 0]).T
    slope = across / np.maximum(down, 1e-9)
    long = np.hypot(down, across) >= _FLANK * np.ptp(hull[:, 0])
    on_right = ends[..., 1].mean(axis=1) > hull[:, 1].mean()
    flanks = []
    for side in (~on_right & (slope < -_STEEP) & (slope > -_FLAT), on_right & (slope > _STEEP) & (slope < _FLAT)):
        found = np.flatnonzero(side & long)
        if not len(found):
            return None
        flanks.append(found[np.argmin(ends[found, 0, 0])])
    left, right = flanks
    column = ends[:, 0, 1] - slope * ends[:, 0, 0]  # where each side's line crosses row 0
    row = (column[left] - column[right]) / (slope[right] - slope[left])
    down, across = hull[:, 0] - row, hull[:, 1] - (column[left] + slope[left] * row)
    aspect = np.geomspace(2 / 3, 3 / 2, 41)  # the middle one is 1
    radii = np.hypot(down, aspect[:, None] * across)
    outer = radii.max(axis=1)
    opening = np.arctan(aspect * slope[right]) - np.arctan(aspect * slope[left])
    area = opening * outer**2 / aspect
    below = (across > slope[left] * down / 5) & (across < slope[right] * down / 5)
    touches = radii.max(axis=1, where=below, initial=0) >= 0.995 * outer
    best = np.argmin(np.where(touches, area, np.inf)) if touches.any() else len(aspect) // 2
    apex = column[left] + slope[left] * row
    return _Sector(row, apex, slope[left], slope[right], radii[best].min(), outer[best], aspect[best])


def _strokes(frames: Float[ndarray, "frames height width"]) -> Mask:
    """Text, traces and rulers: thin, bright and long pieces, or static pixels.

    Dim speckle is thin in single frames too, but fills an area over time.
    """
    low, high = frames.min(axis=0), frames.max(axis=0)
    visible = high > _VISIBLE
    filled = np.asarray(ndimage.binary_opening(ndimage.binary_closing(visible), np.ones((3, 3))), bool)
    thin = visible & ~filled
    labels = np.asarray(label(thin))
    long = np.bincount(labels.ravel()) >= 6
    bright = np.asarray(ndimage.maximum(high, labels, np.arange(len(long)))) > _BRIGHT
    return (thin & (long & bright)[labels]) | ((low > 2 * _VISIBLE) & (high - low < _CHANGE))


def _completion(mask: Mask, sector: Mask, strokes: Mask, factor: int) -> Mask:
    """The hull plus the rest of the sector without strokes; only the hull if that adds too much or mostly strokes."""
    added = sector & ~mask
    halo = np.asarray(ndimage.binary_dilation(mask, iterations=3 * factor), bool)  # of lossy compression
    strokes = np.asarray(ndimage.binary_dilation(strokes & ~halo, iterations=2 * factor), bool)
    if added.sum() > _ADDED * mask.sum() or (added & strokes).sum() > 0.1 * added.sum():
        return mask
    whole = ndimage.binary_opening(mask | (added & ~strokes), iterations=2 * factor)  # no slivers
    return mask | np.asarray(whole, bool)
