"""The regions that pydicom writes into a file's tags."""

import numpy as np
import pydicom

from nuclear_diffusion.io.regions import dicom_regions

SHAPE = (80, 120)


def tag(left: int, top: int, right: int, bottom: int, *, space: int = 1, data: int = 1) -> pydicom.Dataset:
    """A region of PS3.3 C.8.5.5; spaces: 2-D, M-mode, spectral, waveform; data: tissue, colour flow, PW Doppler."""
    item = pydicom.Dataset()
    item.RegionSpatialFormat, item.RegionDataType = space, data
    item.RegionLocationMinX0, item.RegionLocationMinY0 = left, top
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = right, bottom
    return item


def regions(*tags: pydicom.Dataset) -> np.ndarray | None:
    dataset = pydicom.Dataset()
    dataset.SequenceOfUltrasoundRegions = list(tags)
    return dicom_regions(dataset, SHAPE)


def rectangles(*numbered: tuple[int, tuple[slice, slice]]) -> np.ndarray:
    image = np.zeros(SHAPE, int)
    for number, where in numbered:
        image[where] = number
    return image


def test_both_planes_of_a_biplane_clip():
    found = regions(tag(0, 5, 49, 70), tag(60, 5, 119, 70))
    np.testing.assert_array_equal(found, rectangles((2, np.s_[5:71, 0:50]), (1, np.s_[5:71, 60:120])))


def test_tissue_beside_colour_flow_as_in_a_compared_view():
    found = regions(tag(60, 5, 119, 70, data=2), tag(0, 5, 49, 70))
    np.testing.assert_array_equal(found, rectangles((1, np.s_[5:71, 0:50]), (2, np.s_[5:71, 60:120])))


def test_a_colour_box_belongs_to_its_tissue():
    found = regions(tag(30, 20, 60, 50, data=2), tag(10, 5, 90, 70))
    np.testing.assert_array_equal(found, rectangles((1, np.s_[5:71, 10:91])))


def test_doppler_and_m_mode_belong_to_no_region():
    """Also where their rectangles overlap the tissue's."""
    found = regions(tag(0, 0, 119, 60), tag(0, 50, 119, 79, space=3, data=3))
    np.testing.assert_array_equal(found, rectangles((1, np.s_[:50, :])))
    np.testing.assert_array_equal(regions(tag(0, 40, 119, 79, space=2)), rectangles((1, np.s_[:40, :])))


def test_an_ecg_in_the_image_cuts_nothing_out():
    found = regions(tag(0, 0, 119, 79), tag(0, 70, 119, 79, space=4, data=10))
    np.testing.assert_array_equal(found, np.ones(SHAPE))


def test_nothing_tagged():
    assert dicom_regions(pydicom.Dataset(), SHAPE) is None
    assert regions(tag(0, 0, 200, 79)) is None  # resized after acquisition
    assert regions(tag(50, 0, 40, 79)) is None
    incomplete = tag(0, 0, 50, 50)
    del incomplete.RegionLocationMaxX1
    assert regions(incomplete) is None
