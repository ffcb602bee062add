"""Every kind of output, written block by block and read by an independent library."""

import asyncio
import errno
import os
import shutil
import subprocess
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import av
import h5py
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import tifffile
import zarr
from PIL import Image, ImageSequence
from pydicom.dataset import FileMetaDataset
from pydicom.examples import get_path
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)
from zarr.storage import LocalStore

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import KINDS, Clip, check_kind, open_writer, read_video
from nuclear_diffusion.io.levels import EIGHT_BITS, Levels

GREY, COLOR = (7, 20, 32), (7, 20, 32, 3)


def noise(shape: tuple[int, ...], high: int = 256, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, high, shape, dtype)


def clip_of(path: Path, values: np.ndarray, fps: float = 25.0, levels: Levels | None = None) -> Clip:
    white = np.float32(255 if levels is None else levels.white)
    grey = values if values.ndim == 3 else values[..., 1]
    color = values if values.ndim == 4 else None
    return Clip((grey / white).astype(np.float32), fps, color, None, path.stem, path, levels=levels)


def write(path: Path, kind: str, values: np.ndarray, **options) -> Path:
    """Write in blocks of 3 frames."""
    with open_writer(path, kind, values.shape, options.pop("fps", 25.0), **options) as writer:
        for start in range(0, len(values), 3):
            writer.append(values[start : start + 3])
    return path


def dataset(file: h5py.File, name: str) -> h5py.Dataset:
    found = file[name]
    assert isinstance(found, h5py.Dataset)
    return found


def zarr_array(path: Path) -> zarr.Array:
    array = zarr.open(path)
    assert isinstance(array, zarr.Array)
    return array


def nifti_image(path: Path) -> nibabel.Nifti1Image:
    image = nibabel.load(path)
    assert isinstance(image, nibabel.Nifti1Image)
    return image


def movie(path: Path, layout: str) -> np.ndarray:
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "ffv1"
        assert container.streams.video[0].average_rate == 25
        return np.stack([frame.to_ndarray(format=layout) for frame in container.decode(video=0)])


READERS = {
    "ffv1": lambda path, color: movie(path, "rgb24" if color else "gray"),
    "tiff": lambda path, _: tifffile.imread(path),
    "png": lambda path, _: np.stack([np.asarray(Image.open(file)) for file in sorted(path.iterdir())]),
    "mha": lambda path, _: sitk.GetArrayFromImage(sitk.ReadImage(str(path))),
    "nifti": lambda path, _: np.squeeze(np.moveaxis(np.asarray(nifti_image(path).dataobj), [0, 1, 3], [2, 1, 0]), 3),
    "npy": lambda path, _: np.load(path),
    "npz": lambda path, _: np.load(path)["frames"],
    "h5": lambda path, _: dataset(h5py.File(path), "frames")[()],
    "zarr": lambda path, _: zarr_array(path)[:],
    "dicom": lambda path, _: pydicom.dcmread(path).pixel_array,
}


@pytest.mark.parametrize("shape", [GREY, COLOR], ids=["grey", "color"])
@pytest.mark.parametrize("kind", READERS)
def test_eight_bits_are_exact(tmp_path, kind, shape):
    values = noise(shape)
    path = write(tmp_path / f"clip{KINDS[kind].suffix}", kind, values)
    if kind == "nifti" and len(shape) == 4:
        read = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[:, 0]
    else:
        read = READERS[kind](path, len(shape) == 4)
    np.testing.assert_array_equal(read, values)
    assert read.dtype == np.uint8
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_gif_shows_every_frame(tmp_path):
    values = noise(GREY)
    with Image.open(write(tmp_path / "clip.gif", "gif", values)) as image:
        frames = [np.asarray(frame.convert("L")) for frame in ImageSequence.Iterator(image)]
        assert image.info["duration"] == 40
    np.testing.assert_array_equal(frames, values)


def test_floats_and_sixteen_bits_keep_their_levels(tmp_path):
    """Intensities come back as the integers that the input held, with its own white."""
    stored = noise(GREY, 4096, np.uint16)
    intensity = stored / np.float32(4095)
    levels = Levels(np.dtype(np.uint16), 0, 4095)
    for kind in ("tiff", "mha", "npy", "npz", "h5", "zarr", "nifti"):
        path = write(tmp_path / f"{kind}{KINDS[kind].suffix}", kind, intensity, levels=levels)
        np.testing.assert_array_equal(READERS[kind](path, False), stored, err_msg=kind)
    signed = Levels(np.dtype(np.int16), -60, 0)
    path = write(tmp_path / "signed.mha", "mha", np.linspace(0, 1, 61, dtype=np.float32)[None, None], levels=signed)
    np.testing.assert_array_equal(READERS["mha"](path, False).ravel(), np.arange(-60, 1))


def test_the_source_decides_the_levels(tmp_path):
    stored = noise(GREY, 60000, np.uint16)
    sitk.WriteImage(sitk.GetImageFromArray(stored), str(tmp_path / "in.mha"))
    source = clip_of(tmp_path / "in.mha", stored, levels=Levels.of(np.uint16))
    path = write(tmp_path / "out.mha", "mha", source.frames, source=source)
    image = sitk.ReadImage(str(path))
    assert image.GetPixelIDTypeAsString() == "16-bit unsigned integer"
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), stored)


def test_rates(tmp_path):
    values = noise(GREY)
    assert np.load(write(tmp_path / "a.npz", "npz", values, fps=12.5))["fps"] == 12.5
    assert dataset(h5py.File(write(tmp_path / "a.h5", "h5", values, fps=12.5)), "frames").attrs["fps"] == 12.5
    assert zarr_array(write(tmp_path / "a.zarr", "zarr", values, fps=12.5)).attrs["fps"] == 12.5
    nifti = nifti_image(write(tmp_path / "a.nii.gz", "nifti", values, fps=12.5))
    assert nifti.shape == (32, 20, 1, 7)
    assert list(nifti.header.get_zooms())[3] == pytest.approx(0.08)
    assert nifti.header.get_xyzt_units() == ("mm", "sec")
    nifti = nifti_image(write(tmp_path / "c.nii.gz", "nifti", noise(COLOR), fps=12.5))
    assert nifti.shape == (32, 20, 1, 7, 3)
    assert nifti.header.get_zooms() == pytest.approx((1, 1, 1, 0.08, 1))
    assert sitk.ReadImage(str(write(tmp_path / "a.mha", "mha", values, fps=12.5))).GetSpacing() == (1, 1, 0.08)
    assert pydicom.dcmread(write(tmp_path / "a.dcm", "dicom", values, fps=12.5)).FrameTime == 80


def test_geometry_is_that_of_the_source(tmp_path):
    """CAMUS: NIfTI with axes (width, height, frames) and pixels in mm."""
    values = noise(GREY)
    image = nibabel.Nifti1Image(values.transpose(2, 1, 0), np.diag([0.3, 0.15, 1, 1]))
    nibabel.save(image, tmp_path / "in.nii.gz")
    source = clip_of(tmp_path / "in.nii.gz", values)
    written = nifti_image(write(tmp_path / "out.nii.gz", "nifti", source.frames, source=source))
    np.testing.assert_array_equal(np.asarray(written.dataobj), values.transpose(2, 1, 0))
    np.testing.assert_allclose(np.asarray(written.affine), np.asarray(image.affine), atol=1e-6)
    mha = sitk.ReadImage(str(write(tmp_path / "out.mha", "mha", source.frames, source=source)))
    np.testing.assert_allclose(mha.GetSpacing(), (0.3, 0.15, 1), rtol=1e-6)
    region = pydicom.dcmread(
        write(tmp_path / "out.dcm", "dicom", source.frames, source=source)
    ).SequenceOfUltrasoundRegions[0]
    assert (region.PhysicalUnitsXDirection, region.PhysicalUnitsYDirection) == (3, 3)
    assert (region.PhysicalDeltaX, region.PhysicalDeltaY) == pytest.approx((0.03, 0.015))


def test_zea_layout(tmp_path):
    """`data/image/values` of 8 bits, and times that rise from 0, as `zea.data.spec.Image` asks for."""
    for shape in (GREY, COLOR):
        values = noise(shape)
        path = write(tmp_path / f"{len(shape)}.hdf5", "zea", values, fps=20)
        assert read_video(path).fps == pytest.approx(20)
        with h5py.File(path) as file:
            grey = (
                values
                if len(shape) == 3
                else np.stack([np.asarray(Image.fromarray(frame).convert("L")) for frame in values])
            )
            np.testing.assert_allclose(dataset(file, "data/image/values")[()], grey, atol=1 if len(shape) == 4 else 0)
            assert dataset(file, "data/image/values").dtype == np.uint8
            np.testing.assert_allclose(dataset(file, "data/image/timestamps")[()], np.arange(7) / 20, rtol=1e-6)
            assert dataset(file, "data/image/start_time_offset")[()] == 0
            assert "zea_version" in file.attrs


# ------------------------------------------------------------------------------------------------- DICOM


def errors(path: Path) -> list[str]:
    """The errors that dciodvfy finds in a DICOM file."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy of dicom3tools is not installed")
    told = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False).stderr
    assert "Image" in told  # the name of the object that it recognised
    return [line for line in told.splitlines() if line.startswith("Error")]


def ultrasound(frames: np.ndarray, bits: int = 8) -> pydicom.Dataset:
    """A native multi-frame clip with everything that a derived clip must carry over or drop."""
    new = pydicom.Dataset()
    new.file_meta = FileMetaDataset()
    new.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    new.SOPClassUID = UltrasoundMultiFrameImageStorage
    new.SOPInstanceUID, new.StudyInstanceUID, new.SeriesInstanceUID = (generate_uid() for _ in range(3))
    new.PatientName, new.PatientID, new.PatientBirthDate, new.PatientSex = "Secret^Sally", "ID-SECRET", "19610203", "F"
    new.StudyDate, new.StudyTime, new.StudyID, new.AccessionNumber = "20200102", "101112", "S1", "ACC-SECRET"
    new.ReferringPhysicianName, new.Manufacturer, new.Modality = "Secret^Doctor", "Maker", "US"
    new.InstitutionName, new.StudyDescription = "Secret Hospital", "Secret study"
    new.SeriesDescription, new.SeriesNumber, new.InstanceNumber = "A4C", 3, 4
    new.PatientOrientation = new.Laterality = ""
    new.ImageType = ["ORIGINAL", "PRIMARY", "TTE", "0001"]
    new.ContentDate, new.ContentTime = "20200102", "101113"
    new.Rows, new.Columns, new.NumberOfFrames = frames.shape[1], frames.shape[2], len(frames)
    new.SamplesPerPixel, new.PhotometricInterpretation, new.PixelRepresentation = 1, "MONOCHROME2", 0
    new.BitsAllocated, new.BitsStored, new.HighBit = (8, 8, 7) if bits == 8 else (16, bits, bits - 1)
    new.FrameTime, new.CineRate, new.FrameIncrementPointer = "20", 50, 0x00181063
    new.WindowCenter, new.WindowWidth, new.RescaleSlope, new.RescaleIntercept = 100, 200, 2, 1
    region = pydicom.Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0 = region.RegionLocationMinY0 = 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = frames.shape[2] - 1, frames.shape[1] - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX, region.PhysicalDeltaY = 0.03, 0.02
    new.SequenceOfUltrasoundRegions = [region]
    equipment = pydicom.Dataset()
    purpose = pydicom.Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = "109101", "DCM", "Acquisition Equipment"
    equipment.PurposeOfReferenceCodeSequence = [purpose]
    equipment.Manufacturer, equipment.InstitutionName = "Maker", "Secret Clinic"
    equipment.OperatorsName = "Secret^Operator"
    new.ContributingEquipmentSequence = [equipment]
    block = new.private_block(0x7FE1, "RAW OF MAKER", create=True)
    block.add_new(1, "OB", b"raw picture with haze")
    new.PixelData = frames.tobytes()
    return new


def test_a_derived_clip_keeps_the_study_and_says_what_it_is(tmp_path):
    frames = noise(GREY)
    original = ultrasound(frames)
    original.save_as(tmp_path / "in.dcm", enforce_file_format=True)
    source = clip_of(tmp_path / "in.dcm", frames, fps=50)
    dehazed = frames // 2
    made = "Nuclear Diffusion"
    path = write(tmp_path / "out.dcm", "dicom", dehazed / np.float32(255), fps=50, source=source, description=made)
    derived = pydicom.dcmread(path)
    np.testing.assert_array_equal(derived.pixel_array, dehazed)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), dehazed)
    same = [
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyInstanceUID",
        "StudyDate",
        "AccessionNumber",
        "InstitutionName",
        "FrameTime",
        "CineRate",
        "FrameIncrementPointer",
        "SequenceOfUltrasoundRegions",
        "InstanceNumber",
        "SOPClassUID",
        "Manufacturer",
    ]
    assert {name: derived[name].value for name in same} == {name: original[name].value for name in same}
    assert derived.SOPInstanceUID != original.SOPInstanceUID
    assert derived.SeriesInstanceUID != original.SeriesInstanceUID
    assert derived.file_meta.MediaStorageSOPInstanceUID == derived.SOPInstanceUID
    assert list(derived.ImageType) == ["DERIVED", "PRIMARY", "TTE", "0001"]
    assert "not for diagnostic use" in derived.DerivationDescription
    assert made in derived.DerivationDescription
    (reference,) = derived.SourceImageSequence
    assert reference.ReferencedSOPInstanceUID == original.SOPInstanceUID
    first, last = derived.ContributingEquipmentSequence
    assert first.InstitutionName == "Secret Clinic"
    assert last.ManufacturerModelName == "nuclear-diffusion"
    assert derived.LossyImageCompression == "00"
    assert not any(element.tag.is_private for element in derived)
    assert not {"RescaleSlope", "WindowCenter"} & set(derived.dir())
    assert errors(path) == []


def test_overlays_stay_but_not_those_in_the_pixels(tmp_path):
    original = ultrasound(noise(GREY))
    for group in (0x6000, 0x6002):
        original.add_new((group, 0x0010), "US", 20)
        original.add_new((group, 0x0011), "US", 32)
        original.add_new((group, 0x0102), "US", 0)
    original.add_new((0x6002, 0x3000), "OW", bytes(80))
    original.save_as(tmp_path / "in.dcm", enforce_file_format=True)
    source = clip_of(tmp_path / "in.dcm", noise(GREY))
    derived = pydicom.dcmread(write(tmp_path / "out.dcm", "dicom", noise(GREY), source=source))
    assert {element.tag.group for element in derived if element.tag.group >= 0x6000} == {0x6002, 0x7FE0}


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_headers_of_every_native_syntax_are_carried_over(tmp_path, syntax):
    original = ultrasound(noise(GREY))
    del original[0x7FE10010:0x7FE20000]
    original.file_meta.TransferSyntaxUID = syntax
    little = syntax != ExplicitVRBigEndian
    original.save_as(tmp_path / "in.dcm", enforce_file_format=True, little_endian=little)
    source = clip_of(tmp_path / "in.dcm", noise(GREY))
    derived = pydicom.dcmread(write(tmp_path / "out.dcm", "dicom", noise(GREY), source=source))
    assert derived.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert derived.SequenceOfUltrasoundRegions == original.SequenceOfUltrasoundRegions
    assert (derived.Rows, derived.PatientName) == (20, "Secret^Sally")
    np.testing.assert_array_equal(derived.pixel_array, noise(GREY))


def test_values_that_break_the_rules_are_carried_over(tmp_path):
    original = ultrasound(noise(GREY))
    with warnings.catch_warnings():  # of pydicom, about these values
        warnings.simplefilter("ignore")
        original.PatientID, original.StudyDate = "X" * 80, "2020-01-02"
        original.save_as(tmp_path / "in.dcm", enforce_file_format=True)
    source = clip_of(tmp_path / "in.dcm", noise(GREY))
    path = write(tmp_path / "out.dcm", "dicom", noise(GREY), source=source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        derived = pydicom.dcmread(path)
        assert (derived.PatientID, derived.StudyDate) == ("X" * 80, "2020-01-02")


def derived(path: Path, anonymous: bool) -> tuple[str, str]:
    """The UIDs of study and series of a clip derived from the one at `path`."""
    source = clip_of(path, noise(GREY))
    out = write(path.with_name(f"{path.stem}-out.dcm"), "dicom", noise(GREY), source=source, anonymize=anonymous)
    written = pydicom.dcmread(out)
    return str(written.StudyInstanceUID), str(written.SeriesInstanceUID)


@pytest.mark.parametrize("anonymous", [False, True])
def test_clips_of_one_series_stay_together_also_of_several_processes(tmp_path, anonymous):
    original = ultrasound(noise(GREY))
    for name in ("a", "b"):
        original.SOPInstanceUID = generate_uid()
        original.save_as(tmp_path / f"{name}.dcm", enforce_file_format=True)
    study, series = derived(tmp_path / "a.dcm", anonymous)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert pool.submit(derived, tmp_path / "b.dcm", anonymous).result() == (study, series)
    assert series != original.SeriesInstanceUID
    assert (study == original.StudyInstanceUID) is not anonymous


@pytest.mark.parametrize("bits", [12, 16])
def test_deep_grey_stays_deep(tmp_path, bits):
    frames = noise(GREY, 2**bits, np.uint16)
    original = ultrasound(frames, bits)
    original.save_as(tmp_path / "in.dcm", enforce_file_format=True)
    source = clip_of(tmp_path / "in.dcm", frames, levels=Levels(np.dtype(np.uint16), 0, 2**bits - 1))
    path = write(tmp_path / "out.dcm", "dicom", source.frames, source=source)
    derived = pydicom.dcmread(path)
    assert (derived.BitsStored, derived.WindowCenter, derived.WindowWidth) == (bits, 2 ** (bits - 1), 2**bits)
    np.testing.assert_array_equal(derived.pixel_array, frames)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), frames)


def test_a_compressed_color_clip_is_written_without_loss(tmp_path):
    """pydicom's own example, JPEG in YBR: RLE Lossless in RGB; that it was lossy once stays said."""
    original = pydicom.dcmread(get_path("ybr_color"))
    values = noise((3, original.Rows, original.Columns, 3))
    source = clip_of(Path(get_path("ybr_color")), values, fps=30)
    path = write(tmp_path / "out.dcm", "dicom", values, fps=30, source=source)
    derived = pydicom.dcmread(path)
    assert derived.file_meta.TransferSyntaxUID.name == "RLE Lossless"
    assert (derived.PhotometricInterpretation, derived.NumberOfFrames) == ("RGB", 3)
    assert derived.LossyImageCompression == "01"
    assert derived.LossyImageCompressionMethod == "ISO_10918_1"
    assert derived.FrameTime == original.FrameTime
    np.testing.assert_array_equal(derived.pixel_array, values)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), values)
    assert errors(path) == []


def test_grey_frames_of_a_color_clip_stay_rgb(tmp_path):
    original = pydicom.dcmread(get_path("ybr_color"))
    values = noise((2, original.Rows, original.Columns))
    source = clip_of(Path(get_path("ybr_color")), values)
    derived = pydicom.dcmread(write(tmp_path / "out.dcm", "dicom", values, source=source))
    assert derived.PhotometricInterpretation == "RGB"
    np.testing.assert_array_equal(derived.pixel_array, np.repeat(values[..., None], 3, axis=-1))


@pytest.mark.parametrize("shape", [GREY, COLOR])
def test_a_new_clip_is_valid(tmp_path, shape):
    path = write(tmp_path / "out.dcm", "dicom", noise(shape))
    assert pydicom.dcmread(path).SOPClassUID == UltrasoundMultiFrameImageStorage
    assert errors(path) == []


def test_frames_that_are_a_file_each_become_one_clip_or_a_file_each(tmp_path):
    frames = noise(GREY)
    files = []
    for number, frame in enumerate(frames, start=1):
        single = ultrasound(frame[None])
        single.SOPClassUID, single.InstanceNumber = UltrasoundImageStorage, number
        for name in ("FrameTime", "FrameIncrementPointer", "NumberOfFrames", "CineRate"):
            del single[name]
        files.append(tmp_path / f"{number}.dcm")
        single.save_as(files[-1], enforce_file_format=True)
    source = replace(clip_of(tmp_path, frames), files=tuple(files))
    whole = pydicom.dcmread(write(tmp_path / "whole.dcm", "dicom", frames, source=source))
    assert whole.SOPClassUID == UltrasoundMultiFrameImageStorage
    assert (whole.NumberOfFrames, whole.FrameTime) == (7, 40)
    assert [reference.ReferencedSOPInstanceUID for reference in whole.SourceImageSequence] == [
        pydicom.dcmread(file).SOPInstanceUID for file in files
    ]
    assert errors(tmp_path / "whole.dcm") == []
    one = replace(source, source=files[2], files=(files[2],))
    single = pydicom.dcmread(write(tmp_path / "single.dcm", "dicom", frames[2:3], source=one))
    assert single.SOPClassUID == UltrasoundImageStorage
    assert "NumberOfFrames" not in single
    np.testing.assert_array_equal(single.pixel_array, frames[2])
    assert errors(tmp_path / "single.dcm") == []


def test_frame_times_follow_the_pointer(tmp_path):
    frames = noise(GREY)
    original = ultrasound(frames)
    original.FrameTime, original.FrameTimeVector = "1", ["0", *["20"] * 6]
    original.FrameIncrementPointer = 0x00181065
    original.save_as(tmp_path / "in.dcm", enforce_file_format=True)
    source = clip_of(tmp_path / "in.dcm", frames, fps=50)
    kept = pydicom.dcmread(write(tmp_path / "out.dcm", "dicom", frames, fps=50, source=source))
    assert list(kept.FrameTimeVector) == [0, *[20] * 6]
    assert kept.FrameIncrementPointer == 0x00181065
    shorter = pydicom.dcmread(write(tmp_path / "cut.dcm", "dicom", frames[:4], fps=50, source=source))
    assert "FrameTimeVector" not in shorter
    assert (shorter.FrameTime, shorter.FrameIncrementPointer) == (20, 0x00181063)


def test_anonymous_headers_hold_no_patient(tmp_path):
    """PS3.15, Basic Profile: names, identifiers, dates and UIDs of the input are gone, in sequences too."""
    frames = noise(GREY) // 2
    original = ultrasound(frames)
    original.save_as(tmp_path / "in.dcm", enforce_file_format=True)
    source = clip_of(tmp_path / "in.dcm", frames)
    path = write(tmp_path / "out.dcm", "dicom", frames, source=source, anonymize=True)
    header = path.read_bytes()[: -frames.size].lower()
    for word in (b"secret", b"19610203", b"20200102", b"haze,"):
        assert word not in header
    for name in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        assert original[name].value.encode() not in header
    derived = pydicom.dcmread(path)
    assert derived.PatientIdentityRemoved == "YES"
    assert derived.BurnedInAnnotation == "YES"  # text in the picture is not cleaned
    assert derived.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
    assert derived.SequenceOfUltrasoundRegions[0].PhysicalDeltaX == 0.03
    np.testing.assert_array_equal(derived.pixel_array, frames)
    assert errors(path) == []


# ------------------------------------------------------------------------------------------------- blocks


@pytest.mark.parametrize("kind", ["npz", "dicom", "mp4", "zarr", "mha"])
def test_a_clip_that_is_not_complete_leaves_nothing(tmp_path, kind):
    frames, path = noise(GREY), tmp_path / f"clip{KINDS[kind].suffix}"
    with (
        pytest.raises(ValueError, match="must be given 7 frames, got 3"),
        open_writer(path, kind, GREY, 25.0) as writer,
    ):
        writer.append(frames[:3])

    def interrupted() -> None:
        with open_writer(path, kind, GREY, 25.0) as writer:
            writer.append(frames)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_zarr_leaves_nothing_when_the_disk_is_full(tmp_path, monkeypatch):
    """Of chunks that are written at once, some are late."""
    put = LocalStore.set

    async def late(self, key, value):
        if key == "c/0/0/0":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if key.startswith("c/"):
            await asyncio.sleep(0.2)
        await put(self, key, value)

    monkeypatch.setattr(LocalStore, "set", late)
    with (
        pytest.raises(InputError, match="no space left"),
        open_writer(tmp_path / "c.zarr", "zarr", GREY, 25.0) as writer,
    ):
        writer.append(noise(GREY))
    time.sleep(0.6)
    assert list(tmp_path.iterdir()) == []


def test_blocks_must_fit(tmp_path):
    for block in (noise((1, 20, 31)), noise(COLOR), noise((8, 20, 32)), noise(GREY).astype(int)):
        with (
            pytest.raises(ValueError, match="`block` must"),
            open_writer(tmp_path / "clip.npz", "npz", GREY, 25.0) as writer,
        ):
            writer.append(block)


def test_kinds_are_checked():
    with pytest.raises(InputError, match="--write does not know mp3: choose from dicom, mp4"):
        check_kind("mp3")
    for kind in KINDS:
        check_kind(kind)


def test_levels():
    values = np.arange(256, dtype=np.uint8)
    assert EIGHT_BITS.store(values) is values
    np.testing.assert_array_equal(EIGHT_BITS.store(values / np.float32(255)), values)
    deep = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(Levels.of(np.uint16).store(deep / np.float32(65535)), deep)
    inverted = Levels(np.dtype(np.uint8), 255, 0)
    np.testing.assert_array_equal(inverted.store(values / np.float32(255)), values[::-1])


def test_what_is_written_is_read_by_us(tmp_path):
    values = noise(GREY)
    for kind in ("dicom", "tiff", "ffv1", "npz", "mha"):
        clip = read_video(write(tmp_path / f"{kind}{KINDS[kind].suffix}", kind, values))
        np.testing.assert_array_equal(np.rint(clip.frames * 255), values, err_msg=kind)
