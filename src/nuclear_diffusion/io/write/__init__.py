"""Write clips, whole or block by block, in the formats that the field uses."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Shaped
from numpy import ndarray

from nuclear_diffusion.checks import FAR, require_intensity
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.files import atomic
from nuclear_diffusion.io.clip import Clip
from nuclear_diffusion.io.levels import EIGHT_BITS, Levels
from nuclear_diffusion.io.recording import Recording
from nuclear_diffusion.io.write.array import write_h5, write_npy, write_npz, write_tiff, write_zarr, write_zea
from nuclear_diffusion.io.write.dicom import write_dicom
from nuclear_diffusion.io.write.itk import write_mha, write_nifti
from nuclear_diffusion.io.write.movie import write_ffv1, write_gif, write_movie, write_pngs
from nuclear_diffusion.io.write.target import Append, Target


class Kind(NamedTuple):
    """A format to write."""

    suffix: str
    write: Callable[[Path, Target], AbstractContextManager[Append]]
    # a package that only this format needs; the extra that installs it has the format's name
    package: str | None = None


KINDS = {
    "dicom": Kind(".dcm", write_dicom),
    "mp4": Kind(".mp4", write_movie),
    "gif": Kind(".gif", write_gif),
    "ffv1": Kind(".mkv", write_ffv1),
    "png": Kind("", write_pngs),
    "tiff": Kind(".tif", write_tiff),
    "mha": Kind(".mha", write_mha),
    "nifti": Kind(".nii.gz", write_nifti),
    "npy": Kind(".npy", write_npy),
    "npz": Kind(".npz", write_npz),
    "h5": Kind(".h5", write_h5),
    "zea": Kind(".hdf5", write_zea),
    "zarr": Kind(".zarr", write_zarr, "zarr"),
}
"""The formats by name."""

_BY_SUFFIX = {kind.suffix: name for name, kind in KINDS.items()} | {
    ".mov": "mp4",
    ".mkv": "mp4",
    ".avi": "mp4",
    ".tiff": "tiff",
}


def check_kind(name: str, *, anonymize: bool = False) -> None:
    """Raise `InputError` if `name` is no kind of `KINDS`, or needs a package that is not installed."""
    if name not in KINDS:
        raise InputError(f"--write does not know {name or 'an empty name'}: choose from {', '.join(KINDS)}.")
    needed = [(KINDS[name].package, name)] + [("dicomanonymizer", "anonymize")] * anonymize
    for package, extra in needed:
        if package and find_spec(package) is None:
            raise InputError(f"{extra} needs a package: run pip install 'nuclear-diffusion[{extra}]'.")


class Writer:
    """Takes a clip block by block."""

    def __init__(self, append: Append, shape: tuple[int, ...]) -> None:
        self._append, self._shape = append, shape
        self.written = 0
        """Frames so far."""

    def append(self, block: Shaped[ndarray, "frames height width *rgb"]) -> None:
        """Write the next frames: float in [0, 1], or uint8."""
        block = np.asarray(block)
        if block.shape[1:] != self._shape[1:] or self.written + len(block) > self._shape[0]:
            raise ValueError(
                f"`block` must fit a clip of {self._shape}, got {block.shape} after {self.written} frames."
            )
        if block.dtype != np.uint8 and not np.issubdtype(block.dtype, np.floating):
            raise ValueError(f"`block` must be uint8 or float in [0, 1], got {block.dtype}.")
        self._append(block)
        self.written += len(block)


@contextmanager
def open_writer(
    path: str | Path,
    kind: str,
    shape: tuple[int, ...],
    fps: float,
    *,
    source: Clip | Recording | None = None,
    levels: Levels | None = None,
    anonymize: bool = False,
    description: str = "",
) -> Iterator[Writer]:
    """Write a clip block by block; the file appears when the block ends without an error.

    Memory is that of a block, but for `mha` and `nifti`, which hold the clip in its stored type, and for DICOM that is
    compressed, which holds it compressed.

    Args:
        path: output; missing parents are created, an existing file is replaced.
        kind: a name in `KINDS`.
        shape: (frames, height, width) or (frames, height, width, 3).
        fps: frames per second.
        source: the input that the clip was made from: formats with a header carry the input's over.
        levels: how `tiff`, `mha`, `nifti`, `npy`, `npz`, `h5` and `zarr` store intensity; default: as the source
            does, or 8 bits. The others store 8 bits, DICOM up to 16.
        anonymize: remove what identifies the patient from a DICOM header.
        description: how the clip was made, in a few words, for DICOM.

    Raises:
        InputError: `path` cannot be written, or the format cannot hold the clip.
        ValueError: the blocks do not add up to `shape`.
    """
    path = Path(path)
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[-1] != 3) or 0 in shape:
        raise ValueError(f"`shape` must be (t, h, w) or (t, h, w, 3), not empty, got {shape}.")
    if not (np.isfinite(fps) and fps > 0):
        raise ValueError(f"`fps` must be positive, got {fps}.")
    if levels is None:
        # Colour is kept in 8 bits from the reader on.
        known = None if len(shape) == 4 or source is None else source.levels
        levels = EIGHT_BITS if known is None or known.dtype.kind == "b" else known
    levels = levels._replace(dtype=levels.dtype.newbyteorder("="))
    target = Target(tuple(shape), fps, levels, source, anonymize, description)
    with atomic(path) as temporary, KINDS[kind].write(temporary, target) as append:
        writer = Writer(append, target.shape)
        yield writer
        if writer.written != shape[0]:
            raise ValueError(f"`append` must be given {shape[0]} frames, got {writer.written}.")


def write_video(
    path: str | Path, frames: Shaped[ndarray | Array, "frames height width *rgb"], fps: float = 30.0
) -> None:
    """Write a grey or RGB clip in the format given by the suffix of `path`.

    `.npz`, `.npy`, `.h5`, `.zarr` and `.tif`/`.tiff` keep the values exactly (and, except `.npy`, the frame rate).
    `.mha` and `.nii.gz` keep them and the rate as the distance of frames. `.mp4`, `.mov`, `.mkv`, `.avi` (H.264, or
    MPEG-4 Part 2 without that encoder; odd sides are padded by one line), `.gif`, `.dcm`, `.hdf5` (zea) and a folder of
    PNGs (no suffix) keep 8 bits.

    Args:
        path: output; missing parents are created, an existing file is replaced.
        frames: (t, h, w) or (t, h, w, 3); float in [0, 1] or uint8.
        fps: frames per second.

    Raises:
        InputError: `path` cannot be written, its suffix is unknown, or `frames` are not in [0, 1].
    """
    path, frames = Path(path), np.asarray(frames)
    if frames.ndim not in (3, 4) or (frames.ndim == 4 and frames.shape[-1] != 3) or frames.size == 0:
        raise ValueError(f"`frames` must be (t, h, w) or (t, h, w, 3), not empty, got shape {frames.shape}.")
    if frames.dtype != np.uint8 and not np.issubdtype(frames.dtype, np.floating):
        raise ValueError(f"`frames` must be uint8 or float in [0, 1], got {frames.dtype}.")
    if frames.dtype != np.uint8:
        require_intensity("frames", frames, FAR)
    suffix = ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()
    if suffix not in _BY_SUFFIX:
        raise InputError(
            f"{path} names no known video format: use .mp4, .gif, .npz, .npy, .tif, .h5, .mha, .dcm or a folder."
        )
    with open_writer(path, _BY_SUFFIX[suffix], frames.shape, fps, levels=Levels.of(frames.dtype)) as writer:
        writer.append(frames)
