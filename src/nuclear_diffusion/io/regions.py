"""The regions of an ultrasound image that a DICOM file tags (PS3.3 C.8.5.5)."""

import numpy as np
import pydicom

from nuclear_diffusion.types import Regions

_TWO_DIMENSIONAL, _M_MODE, _SPECTRAL = 1, 2, 3  # RegionSpatialFormat
_TISSUE, _COLOR_FLOW = 1, 2  # RegionDataType


def pixel_size(dataset: pydicom.Dataset) -> tuple[float, float] | None:
    """Distance of rows and of columns in mm, by PixelSpacing or else a region in cm; None if the file does not say."""
    if (spacing := dataset.get("PixelSpacing")) is not None:
        return float(spacing[0]), float(spacing[1])
    for region in dataset.get("SequenceOfUltrasoundRegions") or ():
        centimetres = region.get("PhysicalUnitsXDirection") == 3 == region.get("PhysicalUnitsYDirection")
        down, across = (abs(float(region.get(f"PhysicalDelta{axis}") or 0)) for axis in "YX")
        if centimetres and down and across:
            return 10 * down, 10 * across
    return None


def dicom_regions(dataset: pydicom.Dataset, shape: tuple[int, ...]) -> Regions | None:
    """The 2-D tissue and colour-flow regions of a file with frames of `shape`, or None if it tags no region.

    A region inside an earlier one, such as a colour box, is part of it. M-mode and spectral regions belong to none. If
    no 2-D region is tagged, the rest of the frame is one. Rectangles that exceed the frame are ignored: the file was
    resized after acquisition.
    """
    height, width = shape
    images: list[tuple[bool, int, tuple[slice, slice]]] = []
    strips: list[tuple[slice, slice]] = []
    for region in dataset.get("SequenceOfUltrasoundRegions") or ():
        names = ("MinX0", "MinY0", "MaxX1", "MaxY1")
        corners = [region.get(f"RegionLocation{name}") for name in names]
        if any(corner is None for corner in corners):
            continue
        left, top, right, bottom = (int(corner) for corner in corners)
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            continue
        inside = slice(top, bottom + 1), slice(left, right + 1)
        kind, data = region.get("RegionSpatialFormat"), region.get("RegionDataType")
        if kind == _TWO_DIMENSIONAL and data in (_TISSUE, _COLOR_FLOW):
            images.append((data == _COLOR_FLOW, -(right - left) * (bottom - top), inside))
        elif kind in (_M_MODE, _SPECTRAL):
            strips.append(inside)
    if not images and not strips:
        return None
    regions = np.zeros((height, width), np.uint8)
    for _, _, inside in sorted(images, key=lambda image: image[:2]):
        free = regions[inside] == 0
        if free.mean() > 0.5:
            regions[inside] = np.where(free, regions.max() + 1, regions[inside])
    if not images:
        regions[:] = 1
    for inside in strips:
        regions[inside] = 0
    return regions
