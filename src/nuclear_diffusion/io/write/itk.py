"""Write MetaImage and NIfTI through SimpleITK, with the input's geometry."""

import gzip
import shutil
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.files import atomic
from nuclear_diffusion.io.write.array import filler
from nuclear_diffusion.io.write.source import itk_header, pixel_spacing
from nuclear_diffusion.io.write.target import Append, Target


def write_mha(path: Path, target: Target) -> AbstractContextManager[Append]:
    """MetaImage: the input's axes and geometry, or (width, height, frames) with the time between frames in seconds."""
    down, across = pixel_spacing(target) or (1.0, 1.0)
    return _image(path, target, target.shape[:3], (across, down, 1 / target.fps))


@contextmanager
def write_nifti(path: Path, target: Target) -> Iterator[Append]:
    """NIfTI, compressed: the input's axes and geometry, or (width, height, 1, frames) in mm and seconds."""
    frames, height, width = target.shape[:3]
    if frames >= 2**15:
        raise InputError(f"NIfTI holds at most 32767 frames, not {frames}: use --write mha.")
    down, across = pixel_spacing(target) or (1.0, 1.0)
    with _image(path, target, (frames, 1, height, width), (across, down, 1, 1 / target.fps)) as append:
        yield append
    if target.colored:
        _space_colors(path)


def _space_colors(path: Path) -> None:
    """Write 1 as the spacing of the fifth axis, the colours: ITK writes 0, which the standard does not allow."""
    with (
        atomic(path) as mended,
        gzip.open(path) as old,
        mended.open("wb") as file,
        gzip.GzipFile("", "wb", 6, file, mtime=0) as new,
    ):
        header = bytearray(old.read(348))
        struct.pack_into("<f", header, 96, 1.0)
        new.write(header)
        shutil.copyfileobj(old, new)


@contextmanager
def _image(path: Path, target: Target, shape: tuple[int, ...], spacing: tuple[float, ...]) -> Iterator[Append]:
    """Collect the clip in its stored type, then write it whole: SimpleITK cannot append."""
    levels = target.levels
    if levels.dtype == np.float16:  # which ITK does not have
        levels = levels._replace(dtype=np.dtype(np.float32))
    stored = np.empty(target.shape, levels.dtype)
    yield filler(stored, levels.store)
    reader = itk_header(target)
    if reader is not None and _squeezed(reader.GetSize()[::-1]) != _squeezed(target.shape[:3]):
        reader = None
    shape = shape if reader is None else reader.GetSize()[::-1]
    image = sitk.GetImageFromArray(stored.reshape(*shape, *target.shape[3:]), isVector=target.colored)
    image.SetSpacing(spacing if reader is None else reader.GetSpacing())
    if reader is not None:
        image.SetOrigin(reader.GetOrigin())
        image.SetDirection(reader.GetDirection())
    try:
        sitk.WriteImage(image, str(path))
    except RuntimeError as error:
        raise OSError(f"{path} cannot be written: {error}") from error


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(side for side in shape if side != 1)
