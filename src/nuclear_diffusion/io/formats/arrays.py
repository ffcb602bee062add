"""NumPy arrays and archives; nothing is unpickled."""

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io.axes import of_array
from nuclear_diffusion.io.clip import Reading
from nuclear_diffusion.io.guard import check_size
from nuclear_diffusion.io.stored import Stored

NAMES = ("frames", "input", "video", "images", "data")  # the usual names of the clip among several arrays


def is_rate(name: str) -> bool:
    """Whether a value of this name is the frame rate."""
    return name.lower().replace("_", "").replace(" ", "") in ("fps", "framerate", "framespersecond")


def open_npy(path: Path, reading: Reading) -> Stored:
    """An array that is mapped, not loaded."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise _pickled(path, error) from error
    return of_array(path, "a NumPy array", array, named=reading.axes)


def archived(path: Path) -> bool:
    """Whether a ZIP file holds NumPy arrays, or is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return True


def open_npz(path: Path, reading: Reading) -> Stored:
    """The clip in an archive: the array named `frames`, or the only one with frames; `fps` is its rate."""
    try:
        with zipfile.ZipFile(path) as archive:
            shapes: dict[str, tuple[int, ...]] = {}
            for member in archive.infolist():
                if member.filename.endswith(".npy"):
                    with archive.open(member) as file:
                        name = member.filename[: -len(".npy")]
                        shapes[name], dtype = _header(file)
                        if dtype.hasobject:
                            raise ValueError("pickled")
                        check_size(path, shapes[name], dtype.itemsize, reading.max_bytes)
        if not shapes:
            raise InputError(f"{path} is an archive without NumPy arrays: unpack it, and give a clip.")
        name = pick(path, shapes, reading.dataset)
        with np.load(path, allow_pickle=False) as loaded:
            array = loaded[name]
            fps = next((scalar(loaded[key]) for key in shapes if is_rate(key) and math.prod(shapes[key]) == 1), None)
    except ValueError as error:
        raise _pickled(path, error) from error
    return of_array(path, "a NumPy archive", array, named=reading.axes, fps=fps)


def pick(path: Path, shapes: dict[str, tuple[int, ...]], wanted: str | None = None) -> str:
    """The array that is the clip. Raises `InputError` if there is none, or more than one could be."""
    listed = ", ".join(sorted(shapes)[:8]) or "(none)"
    if wanted is not None:
        if wanted not in shapes:
            raise InputError(f"{path} holds no array {wanted}, but {listed}: name one of them with --dataset.")
        return wanted
    for least in (3, 2):  # a clip, or else a single image
        found = [name for name, shape in shapes.items() if sum(side != 1 for side in shape) >= least]
        if named := [name for name in NAMES if name in found]:
            return named[0]
        if len(found) == 1:
            return found[0]
        if found:
            break
    raise InputError(f"{path} holds the arrays {listed}: name the clip with --dataset, or call it `frames`.")


def scalar(value: Any) -> float | None:
    """A number, or None for anything else."""
    try:
        array = np.asarray(value)
        return float(array.item()) if array.size == 1 and array.dtype.kind in "iuf" else None
    except (TypeError, ValueError, OverflowError):
        return None


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype]:
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _pickled(path: Path, error: ValueError) -> Exception:
    if not any(word in str(error).lower() for word in ("pickle", "object")):
        return error
    return InputError(
        f"{path} is no plain NumPy array, and pickled data is never loaded: save a numeric array instead."
    )
