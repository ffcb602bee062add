"""The header of the input that a clip was made from."""

from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.errors import InvalidDicomError

from nuclear_diffusion.io.regions import pixel_size
from nuclear_diffusion.io.write.target import Target

_ITK_SUFFIXES = (".mha", ".mhd", ".nii", ".nii.gz", ".nrrd", ".nhdr")
_LONGEST = 500  # bytes of a line of a header that is shown to ITK
_SINGULAR = 1e-6  # the determinant of directions is 1 or -1
_NO_PREAMBLE = ("", ".dcm", ".dicom", ".ima")


def input_file(target: Target) -> Path | None:
    """The input's file, or the first of its files."""
    if target.source is None:
        return None
    first = target.source.files[0] if target.source.files else target.source.source
    return first if first.is_file() else None


def is_dicom(file: Path) -> bool:
    """Whether a file says that it is DICOM."""
    with file.open("rb") as opened:
        return opened.read(132)[128:] == b"DICM"


def dicom_headers(target: Target) -> list[pydicom.Dataset]:
    """The data sets of the input's files without their pixels, or none if the input is not DICOM."""
    first = input_file(target)
    if first is None or target.source is None:
        return []
    force = first.suffix.lower() in _NO_PREAMBLE
    try:
        header = pydicom.dcmread(first, stop_before_pixels=True, force=force)
        if "Rows" not in header or "SOPClassUID" not in header:
            return []
        others = (target.source.files or ())[1:]
        return [header, *(pydicom.dcmread(file, stop_before_pixels=True, force=force) for file in others)]
    except (InvalidDicomError, OSError, EOFError, ValueError, KeyError, AttributeError, NotImplementedError):
        return []


def itk_header(target: Target) -> sitk.ImageFileReader | None:
    """Size, spacing, origin and direction of an input that SimpleITK reads, if they make sense, else None."""
    first = input_file(target)
    if first is None or not first.name.lower().endswith(_ITK_SUFFIXES) or _is_odd(first):
        return None
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(first))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None
    spacing = np.array(reader.GetSpacing())
    direction = np.array(reader.GetDirection()).reshape(len(spacing), -1)
    numbers = np.concatenate([spacing, reader.GetOrigin(), direction.ravel()])
    sound = np.isfinite(numbers).all() and spacing.min() > 0 and abs(np.linalg.det(direction)) > _SINGULAR
    return reader if sound else None


def _is_odd(file: Path) -> bool:
    """Whether a header of text has a line on which ITK may crash: teem, its reader of NRRD, copies it unchecked."""
    with file.open("rb") as opened:
        if file.name.lower().endswith((".nii", ".nii.gz")):
            return False
        while line := opened.readline(_LONGEST + 1):
            if len(line) > _LONGEST:
                return True
            if not line.strip() or line.startswith(b"ElementDataFile"):
                return False
    return False


def pixel_spacing(target: Target) -> tuple[float, float] | None:
    """Distance of rows and of columns in mm, or None if the input does not say."""
    if (reader := itk_header(target)) is not None and reader.GetSpacing()[:2] != (1, 1):
        across, down = reader.GetSpacing()[:2]
        return down, across
    for header in dicom_headers(target)[:1]:
        return pixel_size(header)
    return None
