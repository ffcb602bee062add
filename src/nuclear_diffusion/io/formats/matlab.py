"""MATLAB files before 7.3, through SciPy; 7.3 is HDF5."""

from pathlib import Path

import scipy.io

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io.axes import of_array
from nuclear_diffusion.io.clip import Reading
from nuclear_diffusion.io.formats.arrays import is_rate, pick, scalar
from nuclear_diffusion.io.guard import check_size
from nuclear_diffusion.io.stored import Stored

_BYTES = {"double": 8, "single": 4, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4}
_BYTES |= {"int64": 8, "uint64": 8, "logical": 1}


def begins(start: bytes) -> bool:
    """Whether a file begins as MATLAB 5 to 7.2."""
    return start.startswith(b"MATLAB 5.0 MAT-file")


def open_matlab(path: Path, reading: Reading) -> Stored:
    """The clip in a MATLAB file: (height, width, frames) unless named otherwise."""
    held = [(name, shape, kind) for name, shape, kind in scipy.io.whosmat(path) if kind in _BYTES]
    shapes = {name: tuple(int(side) for side in shape) for name, shape, _ in held}
    if not shapes:
        raise InputError(f"{path} holds no numeric array: save the clip as one.")
    for name, _, kind in held:
        check_size(path, shapes[name], _BYTES[kind], reading.max_bytes)
    name = pick(path, shapes, reading.dataset)
    rates = [other for other in shapes if is_rate(other) and shapes[other] == (1, 1)]
    loaded = scipy.io.loadmat(path, variable_names=[name, *rates])
    fps = next((scalar(loaded[rate]) for rate in rates), None)
    logical = (name, "logical") in [(one, kind) for one, _, kind in held]
    array = loaded[name].astype(bool) if logical else loaded[name]
    return of_array(path, "MATLAB", array, named=reading.axes, usual="HWT", fps=fps)
