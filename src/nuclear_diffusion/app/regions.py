"""Septum and ventricle drawn in the browser: masks, the library's scores, and files that `evaluate` reads."""

import io
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from msgspec import Struct
from numpy import ndarray
from PIL import Image
from skimage.draw import polygon2mask

from nuclear_diffusion.errors import require
from nuclear_diffusion.io import Clip
from nuclear_diffusion.measure.datasets import Annotation, Loaded
from nuclear_diffusion.measure.scores import SCORES, measure
from nuclear_diffusion.metrics.visible import mean_levels
from nuclear_diffusion.simulation.dataset import SEPTUM, VENTRICLE
from nuclear_diffusion.types import Mask, eight_bits

Polygon = list[tuple[float, float]]
"""Vertices (column, row); the centre of the first pixel is (0.5, 0.5)."""


class Regions(Struct, forbid_unknown_fields=True):
    """A polygon per frame, or None where a region is not drawn."""

    septum: list[Polygon | None] = []
    ventricle: list[Polygon | None] = []

    def annotations(self, shape: tuple[int, int, int]) -> dict[int, Annotation]:
        """Masks by frame number, from 1, of a clip of `shape` (frames, height, width).

        Pixels in both regions count for neither. Raises `InputError` for more polygons than frames.
        """
        frames, *size = shape
        count = max(len(self.septum), len(self.ventricle))
        require(count <= frames, f"The regions have {count} frames, the clip {frames}: draw them again.")
        found = {}
        for index in range(count):
            a, b = (inside(_at(polygons, index), (size[0], size[1])) for polygons in (self.septum, self.ventricle))
            both = a & b
            if a.any() or b.any():
                found[index + 1] = Annotation(a & ~both, b & ~both)
        return found


def scores(
    clip: Clip, regions: Regions, signal: Float32[ndarray, "frames height width"] | None, sector: Mask
) -> dict[str, Any]:
    """The library's scores of a result, or of the clip itself if `signal` is None: over frames and their means."""
    annotations, shown = regions.annotations(clip.shape), eight_bits(clip.frames if signal is None else signal)
    found = measure(Loaded(clip, tuple(range(1, len(clip) + 1)), annotations, None), shown, sector)
    over_time = {name: dict(values) for name, values in found.items() if isinstance(values, Mapping)}
    over_time["flicker_a"] = jumps(shown, [each.septum for each in annotations.values()])
    over_time["flicker_b"] = jumps(shown, [each.ventricle for each in annotations.values()])
    means = {}
    for name, values in found.items():
        all_of = list(values.values()) if isinstance(values, Mapping) else [values]
        finite = [value for value in all_of if math.isfinite(value)]
        means[name] = float(np.mean(finite)) if finite else None
    return {
        "titles": {name: SCORES[name].title for name in found},
        "better": {name: SCORES[name].better for name in found},
        "frames": {name: {k: _finite(v) for k, v in values.items()} for name, values in over_time.items()},
        "means": means,
    }


def jumps(signal: UInt8[ndarray, "frames height width"], masks: Sequence[Mask]) -> dict[int, float]:
    """Jump of a region's mean at each frame but the first and the last; its root mean square is the flicker."""
    throughout = np.all(masks, axis=0) if masks else np.False_
    if not throughout.any():
        return {}
    return dict(enumerate(np.abs(np.diff(mean_levels(signal, throughout), n=2)).tolist(), 2))


def masks_zip(clip: Clip, regions: Regions) -> bytes:
    """PNG and LabelMe masks of every annotated frame, in the layout that `evaluate` reads."""
    height, width = clip.shape[1:]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for number, (septum, ventricle) in regions.annotations(clip.shape).items():
            name = f"{clip.name}-frame-{number}"
            image = io.BytesIO()
            Image.fromarray(np.uint8(SEPTUM) * septum + np.uint8(VENTRICLE) * ventricle).save(image, "PNG")
            file.writestr(f"noisy_roi/{name}.png", image.getvalue())
            shapes = [
                {"label": label, "shape_type": "polygon", "points": polygon, "group_id": None, "flags": {}}
                for label, polygons in (("septum", regions.septum), ("ventricle", regions.ventricle))
                if (polygon := _at(polygons, number - 1)) is not None
            ]
            labelme = {"version": "5.0.0", "flags": {}, "shapes": shapes, "imagePath": f"{name}.png"}
            labelme |= {"imageData": None, "imageHeight": height, "imageWidth": width}
            file.writestr(f"labelme/{name}.json", json.dumps(labelme, indent=1))
    return packed.getvalue()


def _at(polygons: list[Polygon | None], index: int) -> Polygon | None:
    return polygons[index] if index < len(polygons) else None


def inside(polygon: Polygon | None, shape: tuple[int, ...]) -> Mask:
    """Pixels (h, w) whose centre lies in the polygon, as `evaluate` reads LabelMe; none for less than three corners."""
    if polygon is None or len(polygon) < 3:
        return np.zeros(shape, bool)
    return polygon2mask(shape, np.asarray(polygon, float)[:, ::-1] - 0.5)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
