"""MATLAB files before 7.3, through SciPy; 7.3 is HDF5."""

import struct
import zlib
from contextlib import suppress
from pathlib import Path

import scipy.io

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io.axes import of_array
from nuclear_diffusion.io.clip import Reading
from nuclear_diffusion.io.formats.arrays import is_rate, pick, scalar
from nuclear_diffusion.io.guard import check_size, head
from nuclear_diffusion.io.stored import Stored

_BYTES = {"double": 8, "single": 4, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4}
_BYTES |= {"int64": 8, "uint64": 8, "logical": 1}
_COMPRESSED, _NUMBERS = 15, {1, 2, 3, 4, 5, 6, 7, 9, 12, 13}  # types of data elements
_COMPLEX = 0x800  # among the flags of an array
_HEAD = 4096  # bytes, more than what comes before an array's numbers


def begins(start: bytes) -> bool:
    """Whether a file begins as MATLAB 5 to 7.2."""
    return start.startswith(b"MATLAB 5.0 MAT-file")


def open_matlab(path: Path, reading: Reading) -> Stored:
    """The clip in a MATLAB file: (height, width, frames) unless named otherwise."""
    if not begins(head(path)):
        raise InputError(f"{path} is no file of MATLAB 5 or newer, such as Octave's text: save it with -v7.")
    held = [(name, shape, kind) for name, shape, kind in scipy.io.whosmat(path) if kind in _BYTES]
    shapes = {name: tuple(int(side) for side in shape) for name, shape, _ in held}
    if not shapes:
        raise InputError(f"{path} holds no numeric array: save the clip as one.")
    for name, _, kind in held:
        check_size(path, shapes[name], _BYTES[kind], reading.max_bytes)
    name = pick(path, shapes, reading.dataset)
    rates = [other for other in shapes if is_rate(other) and shapes[other] == (1, 1)]
    known = _readable(path)
    if not all(known.get(wanted) for wanted in (name, *rates)):
        raise InputError(f"{path} holds complex numbers, or is damaged: save the clip again, as real numbers.")
    loaded = scipy.io.loadmat(path, variable_names=[name, *rates])
    fps = next((scalar(loaded[rate]) for rate in rates), None)
    logical = (name, "logical") in [(one, kind) for one, _, kind in held]
    array = loaded[name].astype(bool) if logical else loaded[name]
    return of_array(path, "MATLAB", array, named=reading.axes, usual="HWT", fps=fps)


def _readable(path: Path) -> dict[str, bool]:
    """By name: whether an array is real with numbers of a known type; on others SciPy crashes in a damaged file."""
    found: dict[str, bool] = {}
    with path.open("rb") as file:
        order = "<" if file.read(128)[126:] == b"IM" else ">"
        while len(tag := file.read(8)) == 8:
            kind, size = struct.unpack(f"{order}2I", tag)
            end = file.tell() + size
            data = file.read(min(size, _HEAD))
            data = zlib.decompressobj().decompress(data, _HEAD)[8:] if kind == _COMPRESSED else data
            with suppress(struct.error):
                _, flags, at = _element(data, 0, order)
                _, _, at = _element(data, at, order)  # the shape
                _, name, at = _element(data, at, order)
                numbers, _, _ = _element(data, at, order)
                good = numbers in _NUMBERS and not struct.unpack(f"{order}I", flags[:4])[0] & _COMPLEX
                found[name.decode("latin-1")] = good and found.get(name.decode("latin-1"), True)
            file.seek(end)
    return found


def _element(data: bytes, at: int, order: str) -> tuple[int, bytes, int]:
    """Type and bytes of the data element at `at`, and where the next one is."""
    kind, size = struct.unpack_from(f"{order}2I", data, at)
    if kind >> 16:  # a small element: size and type, then at most four bytes
        return kind & 0xFFFF, data[at + 4 : at + 4 + (kind >> 16)], at + 8
    return kind, data[at + 8 : at + 8 + size], at + 8 + size + -size % 8
