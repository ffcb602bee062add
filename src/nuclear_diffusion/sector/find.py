"""Find the ultrasound images in a frame, without strips of Doppler and ECG, text, colour bars and traces."""

from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from numpy import ndarray
from PIL import Image
from scipy import ndimage
from scipy.spatial import ConvexHull
from skimage.draw import polygon2mask
from skimage.measure import label
from skimage.transform import downscale_local_mean

from nuclear_diffusion.errors import require, unreadable
from nuclear_diffusion.text import require_file
from nuclear_diffusion.types import Mask, Regions, evenly

# All for a working size of at most 320 pixels per side, where burned-in strokes are one or two pixels wide.
_WORKING_SIDE = 320
_FRAMES = 48
_CHANGE = 4 / 255  # above the flicker of lossy compression on black
_VISIBLE = 8 / 255  # above black
_BRIGHT = 0.25  # peak of text and traces
_FLANK = 0.15  # shortest straight flank, relative to the hull's height
_STEEP, _FLAT = 0.1, 2.0  # smallest and largest slope of a flank, columns per row
_PIE = 0.8  # largest area of a sector in a layout, relative to its bounding box; strips have more
_TIGHT = 0.8  # smallest area of an inverted hull, relative to its sector
_ADDED = 0.5  # largest area that the completion may add, relative to the hull's


def find_sectors(frames: Float32[ndarray, "frames height width"], region: Mask | Regions | None = None) -> list[Mask]:
    """Find the pixels of each ultrasound image: one, or several such as the two planes of a biplane clip.

    Empty rows or columns cut the frame into images. Strips of Doppler, M-mode or ECG are left out. For each image:

    1. Each frame is opened by a 3 x 3 square, which removes strokes: text, traces, rulers.
    2. The remaining pixels that change over time are tissue, and so are static pieces connected to them (a
       saturated near field); separate static pieces, such as colour bars and logos, are not.
    3. Their convex hull includes cavities and drop-outs.
    4. If the hull's flanks are those of a sector, with its apex at the top or at the bottom, it is completed to that
       sector, whose far corners are often too dark to see; strokes there are left out.

    Args:
        frames: (t, h, w), in [0, 1]; about 48 of a clip are looked at.
        region: pixels that may belong to an image, for example `Clip.region`: a mask, or an integer from 1 on for the
            pixels of each region, which are searched separately; default: one region, the whole frame.

    Returns:
        Disjoint masks (h, w); a whole region if the image fills it or none is found there.

    Raises:
        InputError: the region is empty.
    """
    frames = np.asarray(frames)
    if frames.ndim != 3 or 0 in frames.shape:
        raise ValueError(f"`frames` must be (frames, height, width), not empty, got shape {frames.shape}.")
    shape = frames.shape[1:]
    regions = np.ones(shape, np.uint8) if region is None else np.asarray(region).astype(np.uint8)
    if regions.shape != shape:
        raise ValueError(f"`region` must have the frames' shape {shape}, got {regions.shape}.")
    require(bool(regions.any()), "The clip has no region with a two-dimensional image: give another clip or a sector.")
    factor = -(-max(shape) // _WORKING_SIDE)
    small = downscale_local_mean(frames[evenly(len(frames), _FRAMES)], (1, factor, factor))
    opened = ndimage.grey_opening(small, size=(1, 3, 3))
    found = []
    for number in np.unique(regions[regions > 0]):
        allowed = regions == number
        part = downscale_local_mean(allowed.astype(np.float32), (factor, factor)) > 0.5
        for window in _images(opened, part):
            mask = _image(small, opened, part & window, shape, factor)
            found.append(allowed if mask is None else mask & allowed)
            allowed = allowed & ~found[-1]
    return found


def find_sector(frames: Float32[ndarray, "frames height width"], region: Mask | Regions | None = None) -> Mask:
    """The pixels of all ultrasound images in a frame, (h, w); arguments and errors as in `find_sectors`."""
    return np.logical_or.reduce(find_sectors(frames, region))


def split_sectors(mask: Mask) -> list[Mask]:
    """The images in a mask: its connected pieces. Pieces below a twentieth of the largest join the nearest image.

    Raises `InputError` if the mask is empty.
    """
    mask = np.asarray(mask, bool)
    require(bool(mask.any()), "The sector is empty: mark the pixels of the image in white.")
    kept = np.asarray(label(mask)) * _pieces(mask, 0.05)
    owner = np.where(mask, kept[tuple(nearest(kept > 0))], 0)
    return [owner == number for number in np.unique(owner[owner > 0])]


def nearest(mask: Mask) -> Int[ndarray, "axis height width"]:
    """For each pixel, row and column of the nearest pixel in the mask."""
    return ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)  # pyright: ignore


def read_sector(path: Path) -> Mask:
    """Read a sector (h, w) from a grey image: True where it is brighter than half its brightest value.

    Raises `InputError` if the file is not an image, or black.
    """
    require_file(path, "a picture of a sector")
    try:
        with Image.open(path) as image:
            picture = np.asarray(image if image.mode.startswith("I") else image.convert("L"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        sentence = f"{path} cannot be read as an image: give a PNG that is white in the sector."
        raise unreadable(path, error, sentence) from error
    require(picture.max() > 0, f"{path} is black: give an image that is white in the sector.")
    return picture > picture.max() / 2


def apex_below(mask: Mask) -> bool:
    """Whether a sector (h, w) is upside down, with its apex at the bottom."""
    return _oriented(_hull(mask), len(mask))[1]


def _image(
    small: Float[ndarray, "frames h w"],
    opened: Float[ndarray, "frames h w"],
    part: Bool[ndarray, "h w"],
    shape: tuple[int, ...],
    factor: int,
) -> Mask | None:
    """The sector (h, w) of the one image in `part`, or None if it cannot be told from the rest."""
    body = _body(opened, part)
    if body is None:
        return None
    hull = factor * _hull(body)
    mask = polygon2mask(shape, hull - 0.5)
    sector, below = _oriented(hull, shape[0])
    if sector is not None:
        strokes = _strokes(small).repeat(factor, axis=0).repeat(factor, axis=1)[: shape[0], : shape[1]]
        drawn = sector.draw(shape)
        mask = _completion(mask, drawn[::-1] if below else drawn, strokes, factor)
    return mask


# ---------------------------------------------------------------------------------------------- layout


_Box = Int[ndarray, "axis end"]
"""First row and the one after the last, then columns."""


class _Block(NamedTuple):
    """A part of the layout: a rectangle of the frame, and the hull of what is visible in it."""

    window: _Box
    hull: Float[ndarray, "vertices 2"]
    sector: "_Sector | None"
    below: bool  # whether the apex is, and the sector that of the hull turned over
    moves: bool

    @property
    def area(self) -> float:
        return float(ConvexHull(self.hull).volume)

    @property
    def box(self) -> Float[ndarray, "axis end"]:
        """As `_Box`, of the hull."""
        return np.stack([self.hull.min(axis=0), self.hull.max(axis=0)], axis=1)


def _images(opened: Float[ndarray, "frames height width"], part: Mask) -> list[Mask]:
    """The parts (h, w) of the frame that hold one image each."""
    low, high = opened.min(axis=0), opened.max(axis=0)
    visible = np.asarray(ndimage.binary_opening((high > _VISIBLE) & part), bool)
    if not visible.any() or visible.sum() > 0.9 * part.sum():
        return [part]
    pieces = np.asarray(label(_pieces(visible, 0.05)))
    boxes = np.array([[(axis.start, axis.stop) for axis in box] for box in ndimage.find_objects(pieces)])
    windows = _cut(boxes, np.array([(0, side) for side in part.shape]))
    if len(windows) == 1:
        return [part]
    changing = np.asarray(ndimage.binary_opening((high - low > _CHANGE) & part), bool)

    def block(window: _Box) -> _Block:
        inside = (pieces > 0) & _filled(window, part.shape)
        hull = _hull(inside)
        sector, below = _oriented(hull, len(part))
        boxed = ConvexHull(hull).volume / np.prod(np.ptp(hull, axis=0))
        moves = (changing & inside).sum() > 0.05 * inside.sum()
        return _Block(window, hull, sector if boxed < _PIE else None, below, bool(moves))

    blocks = [block(window) for window in windows]
    while pair := next((pair for pair in permutations(blocks, 2) if _one_image(*pair)), None):
        first, second = (one.window for one in pair)
        joint = np.stack([np.minimum(first, second)[:, 0], np.maximum(first, second)[:, 1]], axis=1)
        blocks = [other for other in blocks if other is not pair[0] and other is not pair[1]] + [block(joint)]
    return [part & _filled(one.window, part.shape) for one in _chosen(blocks)]


def _filled(window: _Box, shape: tuple[int, ...]) -> Mask:
    mask = np.zeros(shape, bool)
    mask[slice(*window[0]), slice(*window[1])] = True
    return mask


def _cut(boxes: Int[ndarray, "pieces axis end"], window: _Box) -> list[_Box]:
    """Cut a window along rows or columns without pieces, until there are none (the XY-cut of document analysis)."""
    for axis in (0, 1):
        order = boxes[np.argsort(boxes[:, axis, 0])]
        reach = np.maximum.accumulate(order[:, axis, 1])
        gaps = np.flatnonzero(order[1:, axis, 0] > reach[:-1])
        if len(gaps):
            k = gaps[0]
            first, second = window.copy(), window.copy()
            first[axis, 1] = second[axis, 0] = (reach[k] + order[k + 1, axis, 0]) // 2
            return _cut(order[: k + 1], first) + _cut(order[k + 1 :], second)
    return [window]


def _one_image(first: _Block, second: _Block) -> bool:
    """Whether `second`, below or to the right of `first`, continues the same image."""
    joint = np.concatenate([first.hull, second.hull])
    if first.box[0, 1] <= second.box[0, 0]:  # above each other
        if first.sector is None:
            return bool(np.abs(first.box[1] - second.box[1]).max() < 0.03 * np.ptp(first.box[1]))
        own = second.sector is not None and (second.below or second.sector.row > first.box[0, 1])
        return not own and not first.below and first.sector.continues(second.hull)
    if first.box[1, 1] <= second.box[1, 0] and first.sector is None and second.sector is None:
        whole = joint[ConvexHull(joint).vertices]
        sector = _sector(whole)
        return sector is not None and first.area + second.area > 0.7 * ConvexHull(whole).volume
    return False


def _chosen(blocks: list[_Block]) -> list[_Block]:
    """Blocks that are images, without strips of Doppler, M-mode or ECG, bars and logos."""
    blocks = sorted(blocks, key=lambda block: (block.box[0, 0], block.box[1, 0]))
    sectors = [block for block in blocks if block.sector is not None]
    if sectors:
        moving = [block for block in sectors if block.moves] or sectors
        return [block for block in moving if block.area > 0.1 * max(other.area for other in moving)]
    # Images of linear probes: strips are below them, other images of the same size beside them.
    large = [block for block in blocks if block.area > 0.25 * max(other.area for other in blocks)]
    size = np.ptp(large[0].box, axis=1)
    return [
        block
        for block in large
        if abs(block.box[0, 0] - large[0].box[0, 0]) < 0.1 * size[0]
        and (np.abs(np.ptp(block.box, axis=1) - size) < 0.1 * size).all()
    ]


# ---------------------------------------------------------------------------------------------- one image


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
    pixels = np.argwhere(mask & ~np.asarray(ndimage.binary_erosion(mask), bool))  # the rim has all corners of the hull
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

    @property
    def area(self) -> float:
        opening = np.arctan(self.aspect * self.right) - np.arctan(self.aspect * self.left)
        return float(opening * (self.outer**2 - self.inner**2) / (2 * self.aspect))

    def continues(self, hull: Float[ndarray, "vertices 2"]) -> bool:
        """Whether a piece below lies between the flanks and ends in an arc, not in a straight line as strips do."""
        down, across = hull[:, 0] - self.row, hull[:, 1] - self.column
        slack = 0.05 * np.ptp(hull[:, 1])
        between = (across > self.left * down - slack) & (across < self.right * down + slack)
        radius = np.hypot(down, self.aspect * across)
        return bool(between.all() and radius.max() < 1.04 * down.max())


def _oriented(hull: Float[ndarray, "vertices 2"], height: int) -> tuple[_Sector | None, bool]:
    """The sector of a hull, and whether its apex is at the bottom; it is that of the flipped hull then."""
    upright = _sector(hull)
    flipped = hull * [-1, 1] + [height, 0]
    inverted = _sector(flipped)
    if inverted is None:
        return upright, False
    area = ConvexHull(hull).volume
    boxed = area / np.prod(np.ptp(hull, axis=0))
    tight = area / inverted.area
    below = boxed < _PIE and tight > _TIGHT and (upright is None or tight > area / upright.area + 0.1)
    return (inverted, True) if below else (upright, False)


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
