"""Write DICOM: a derived instance of a DICOM input, or a new ultrasound clip of any other input."""

import copy
import datetime
import struct
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt
from numpy import ndarray
from pydicom.config import disable_value_validation
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.pixels.encoders.base import RLELosslessEncoder
from pydicom.sr.codedict import codes
from pydicom.tag import Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io.levels import Levels
from nuclear_diffusion.io.write.anonymize import anonymize, coded, mark_anonymized, replaced
from nuclear_diffusion.io.write.source import dicom_headers, input_file, pixel_spacing
from nuclear_diffusion.io.write.target import Append, Target

_RETIRED = {
    "1.2.840.10008.5.1.4.1.1.6": UltrasoundImageStorage,
    "1.2.840.10008.5.1.4.1.1.3": UltrasoundMultiFrameImageStorage,
}

_LOSSY = {
    f"1.2.840.10008.1.2.4.{last}": method
    for method, endings in (
        ("ISO_10918_1", (50, 51)),
        ("ISO_14495_1", (81,)),
        ("ISO_15444_1", (91,)),
        ("ISO_13818_2", (100, 101)),
        ("ISO_14496_10", range(102, 107)),
        ("ISO_23008_2", (107, 108)),
    )
    for last in endings
}
"""Lossy transfer syntaxes, and their values of LossyImageCompressionMethod."""

_NATIVE = {ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian}

# What describes the input's pixel values and does not hold for the output's.
_OF_THE_INPUTS_PIXELS = (
    "RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "WindowCenter", "WindowWidth",
    "WindowCenterWidthExplanation", "VOILUTFunction", "VOILUTSequence", "PresentationLUTShape", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "SmallestImagePixelValue", "LargestImagePixelValue", "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries", "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData", "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData", "SegmentedBluePaletteColorLookupTableData",
    "PaletteColorLookupTableUID", "PlanarConfiguration", "IconImageSequence", "DigitalSignaturesSequence",
    "MACParametersSequence", "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "DataSetTrailingPadding",
    "InstanceCreatorUID", "OriginalAttributesSequence", "EncryptedAttributesSequence",
)  # fmt: skip

_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber",
    "ReferringPhysicianName", "StudyID", "Manufacturer", "PatientOrientation", "Laterality",
)  # fmt: skip
"""Required attributes of a new instance that may be empty."""


@contextmanager
def write_dicom(path: Path, target: Target) -> Iterator[Append]:
    """A DICOM clip: native, or RLE Lossless if the input is compressed; readers need no other decoder.

    From DICOM, a derived instance with new UIDs in a new series of the same study. Patient, study, timing, regions and
    calibration are the input's; private elements, which may hold the original picture, are removed. From anything else,
    an Ultrasound Multi-frame Image without a patient.
    """
    with _carried_over():
        headers = dicom_headers(target)
        compressed = bool(headers) and _syntax(headers[0]) not in _NATIVE
        if target.anonymize:
            for header in headers:
                anonymize(header)
        dataset = _derived(headers, target) if headers else _new(target)
        levels = _describe_pixels(dataset, headers[0] if headers else None, target)
        _provenance(dataset, headers, target)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = RLELossless if compressed else ExplicitVRLittleEndian
    samples = dataset.SamplesPerPixel
    if int(np.prod(target.shape[:3])) * samples * levels.dtype.itemsize > 2**32 - 2:
        raise InputError("The clip is larger than the 4 GB that a DICOM file can hold: write another kind.")
    packed: list[bytes] = []
    with tempfile.TemporaryFile(dir=path.parent) as native:

        def append(block: Shaped[ndarray, "frames height width *rgb"]) -> None:
            for frame in levels.store(block):
                stored = frame if frame.ndim == 3 or samples == 1 else np.repeat(frame[..., None], 3, axis=-1)
                if compressed:
                    packed.append(_rle(stored, dataset))
                else:
                    native.write(np.ascontiguousarray(stored, stored.dtype.newbyteorder("<")).data)

        yield append
        if compressed:
            dataset.PixelData = encapsulate(packed)
            dataset["PixelData"].is_undefined_length = True
        else:
            native.write(b"\0" * (native.tell() % 2))
            native.seek(0)
            dataset.PixelData = native
        dataset["PixelData"].VR = "OB" if levels.dtype.itemsize == 1 or compressed else "OW"
        with _carried_over():
            dcmwrite(path, dataset, enforce_file_format=True)  # from big endian too, unlike `save_as`


@contextmanager
def _carried_over() -> Iterator[None]:
    """Carry over values that break DICOM's rules as they are; a header that pydicom cannot write is an `InputError`."""
    try:
        with disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, OverflowError, struct.error) as error:
        raise InputError(f"The DICOM header cannot be carried over ({error}): write another kind.") from error


def _syntax(header: Dataset) -> str:
    """The transfer syntax; without a file header, the default one."""
    return str(getattr(header, "file_meta", {}).get("TransferSyntaxUID", ImplicitVRLittleEndian))


def _rle(frame: UInt[ndarray, "height width *rgb"], dataset: Dataset) -> bytes:
    return RLELosslessEncoder.encode(
        frame,
        rows=dataset.Rows,
        columns=dataset.Columns,
        samples_per_pixel=dataset.SamplesPerPixel,
        bits_allocated=dataset.BitsAllocated,
        bits_stored=dataset.BitsStored,
        photometric_interpretation=dataset.PhotometricInterpretation,
        pixel_representation=0,
        number_of_frames=1,
        planar_configuration=0,
    )


def _derived(headers: list[Dataset], target: Target) -> Dataset:
    """The input's header without what holds only for its own pixels."""
    dataset = copy.deepcopy(headers[0])
    dataset.remove_private_tags()
    for keyword in _OF_THE_INPUTS_PIXELS:
        if keyword in dataset:
            del dataset[keyword]
    for group in range(0x6000, 0x6020, 2):
        if (group, 0x0010) in dataset and (group, 0x3000) not in dataset:  # in bits of the pixels that are gone
            del dataset[group << 16 : (group + 1) << 16]
    if (method := _LOSSY.get(_syntax(headers[0]))) is not None:
        dataset.LossyImageCompression = "01"
        if "LossyImageCompressionMethod" not in dataset:
            dataset.LossyImageCompressionMethod = method
        if "LossyImageCompressionRatio" not in dataset and (file := input_file(target)) is not None:
            size = int(np.prod(target.shape[:3])) * int(headers[0].get("SamplesPerPixel") or 1)
            dataset.LossyImageCompressionRatio = f"{max(1, size / file.stat().st_size):.3g}"
    dataset.SOPClassUID = _RETIRED.get(dataset.SOPClassUID, dataset.SOPClassUID)
    if target.shape[0] > 1 and dataset.SOPClassUID == UltrasoundImageStorage:
        dataset.SOPClassUID = UltrasoundMultiFrameImageStorage
    kind = list(dataset.get("ImageType") or ())
    dataset.ImageType = ["DERIVED", kind[1] if len(kind) > 1 else "PRIMARY", *kind[2:]]
    dataset.SeriesInstanceUID = replaced(str(dataset.get("SeriesInstanceUID", "")))
    described = f"{dataset.get('SeriesDescription') or ''} dehazed".strip()
    dataset.SeriesDescription = described if len(described) <= 64 else "dehazed"
    _timing(dataset, target, len(headers))
    return dataset


def _timing(dataset: Dataset, target: Target, files: int) -> None:
    """Keep the input's frame times if they fit the number of frames, else state the rate."""
    frames = target.shape[0]
    timed = frames > 1 or dataset.SOPClassUID == UltrasoundMultiFrameImageStorage
    pointer = dataset.get("FrameIncrementPointer")
    fits = {
        "FrameTime": "FrameTime" in dataset,
        "FrameTimeVector": len(dataset.get("FrameTimeVector") or ()) == frames,
    }
    pointed = [keyword_for_tag(tag) for tag in np.atleast_1d(pointer)] if pointer is not None else []
    if not (pointed and files == 1 and all(fits.get(name, name in dataset) for name in pointed)):
        if fits["FrameTimeVector"]:
            dataset.FrameIncrementPointer = Tag("FrameTimeVector")
        elif timed:
            dataset.FrameTime = _decimal(1000 / target.fps)
            dataset.FrameIncrementPointer = Tag("FrameTime")
    if "FrameTimeVector" in dataset and not fits["FrameTimeVector"]:
        del dataset.FrameTimeVector
    if timed or "NumberOfFrames" in dataset:
        dataset.NumberOfFrames = frames


def _new(target: Target) -> Dataset:
    """An Ultrasound Multi-frame Image with what its definition requires, and the calibration if it is known."""
    dataset = Dataset()
    dataset.SOPClassUID = UltrasoundMultiFrameImageStorage
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.Modality = "US"
    for keyword in _EMPTY:
        setattr(dataset, keyword, "")
    dataset.StudyInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.SeriesNumber = dataset.InstanceNumber = 1
    dataset.SeriesDescription = "dehazed"
    dataset.NumberOfFrames = target.shape[0]
    dataset.FrameTime = _decimal(1000 / target.fps)
    dataset.FrameIncrementPointer = Tag("FrameTime")
    dataset.CineRate = dataset.RecommendedDisplayFrameRate = max(1, round(target.fps))
    dataset.BurnedInAnnotation = "YES"  # what a picture shows is not known
    if target.anonymize:
        mark_anonymized(dataset)
    if (spacing := pixel_spacing(target)) is not None:
        region = Dataset()
        region.RegionSpatialFormat = region.RegionDataType = 1  # 2-D tissue
        region.RegionFlags = 0
        region.RegionLocationMinX0 = region.RegionLocationMinY0 = 0
        region.RegionLocationMaxX1, region.RegionLocationMaxY1 = target.shape[2] - 1, target.shape[1] - 1
        region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3  # cm
        region.PhysicalDeltaY, region.PhysicalDeltaX = (distance / 10 for distance in spacing)
        dataset.SequenceOfUltrasoundRegions = [region]
    return dataset


def _describe_pixels(dataset: Dataset, header: Dataset | None, target: Target) -> Levels:
    """Set the image pixel module: RGB or grey as the input, 8 bits or the input's depth; return the levels."""
    rgb = target.colored or (header is not None and header.get("SamplesPerPixel") == 3)
    bits = 8
    if header is not None and str(header.get("PhotometricInterpretation")).startswith("MONOCHROME") and not rgb:
        bits = min(max(8, int(header.get("BitsStored") or 8)), 16)
    dataset.Rows, dataset.Columns = target.shape[1:3]
    dataset.SamplesPerPixel = 3 if rgb else 1
    dataset.PhotometricInterpretation = "RGB" if rgb else "MONOCHROME2"
    if rgb:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = 8 if bits == 8 else 16
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits - 1, 0
    if bits > 8:  # else viewers stretch each clip by its own range
        dataset.WindowCenter, dataset.WindowWidth = 2 ** (bits - 1), 2**bits
    if "LossyImageCompression" not in dataset:
        dataset.LossyImageCompression = "00"
    return Levels(np.dtype(np.uint8 if bits == 8 else np.uint16), 0, 2**bits - 1)


def _provenance(dataset: Dataset, headers: list[Dataset], target: Target) -> None:
    """New identity, when and by what it was made, and from which instances."""
    from nuclear_diffusion.version import __version__

    now = datetime.datetime.now()
    dataset.SOPInstanceUID = generate_uid()
    dataset.ContentDate = dataset.InstanceCreationDate = dataset.SeriesDate = now.strftime("%Y%m%d")
    dataset.ContentTime = dataset.InstanceCreationTime = dataset.SeriesTime = now.strftime("%H%M%S")
    made = f" ({target.description})" if target.description else ""
    text = f"Haze removed by nuclear-diffusion {__version__}{made}. Research use only, not for diagnostic use."
    before = str(dataset.get("DerivationDescription") or "")
    dataset.DerivationDescription = f"{before} {text}".strip()[-1024:] if before else text
    purpose = codes.cid7202.SourceImageForImageProcessingOperation
    references = []
    for header in headers:
        reference = Dataset()
        reference.ReferencedSOPClassUID = header.SOPClassUID
        reference.ReferencedSOPInstanceUID = header.SOPInstanceUID
        reference.PurposeOfReferenceCodeSequence = [coded(purpose)]
        references.append(reference)
    if references:
        dataset.SourceImageSequence = references
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = [coded(codes.DCM.ProcessingEquipment)]
    equipment.Manufacturer = "The nuclear-diffusion authors"
    equipment.ManufacturerModelName = "nuclear-diffusion"
    equipment.SoftwareVersions = __version__
    equipment.ContributionDateTime = now.strftime("%Y%m%d%H%M%S")
    equipment.ContributionDescription = "Removal of haze; research use only, not for diagnostic use"
    dataset.ContributingEquipmentSequence = [*(dataset.get("ContributingEquipmentSequence") or ()), equipment]


def _decimal(number: float) -> str:
    return f"{number:.10g}"  # a decimal string has at most 16 characters
