"""MetaImage, NRRD and NIfTI, the volumes of ITK: a header in text or a struct, then plain or zlib-packed place.

Nothing but the fields that are used here is believed. NumPy maps the values, so that a long clip stays on disk.
"""

import gzip
import math
import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io.axes import of_array
from nuclear_diffusion.io.clip import Reading
from nuclear_diffusion.io.guard import check_size
from nuclear_diffusion.io.stored import SECONDS, Stored, mean_rate, not_square

_META = {"CHAR": "i1", "UCHAR": "u1", "SHORT": "i2", "USHORT": "u2", "INT": "i4", "UINT": "u4", "LONG": "i4"}
_META |= {"ULONG": "u4", "LONG_LONG": "i8", "ULONG_LONG": "u8", "FLOAT": "f4", "DOUBLE": "f8"}
_NRRD = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
_NIFTI = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_NIFTI_COLORS = {128: 3, 2304: 4}
_TIMES = {8: 1.0, 16: 1e-3, 24: 1e-6}  # NIfTI's codes for units of time
_HEADER = 2**26  # bytes of a text header; the PLUS toolkit writes several lines a frame


class _Place(NamedTuple):
    """Where values are, and how they are packed."""

    files: Sequence[Path]  # one, or several with equal parts of the values
    start: int  # bytes before them
    packed: bool  # whether they are packed by zlib or gzip
    skip: int = 0  # bytes before them when unpacked


def begins_metaimage(start: bytes) -> bool:
    """Whether a file begins as the text header of a MetaImage."""
    return re.match(rb"\s*(ObjectType\s*=\s*Image|NDims\s*=|Comment\s*=.*\n)", start) is not None and b"=" in start


def begins_nifti(start: bytes) -> bool:
    """Whether a file, unpacked, begins as NIfTI 1 or 2."""
    return start[344:348] in (b"n+1\0", b"ni1\0") or start[4:8] in (b"n+2\0", b"ni2\0")


def open_metaimage(path: Path, reading: Reading) -> Stored:
    """A MetaImage in one file, two or several; the PLUS toolkit's time stamps give the rate."""
    fields, listed, end = _meta_fields(path)
    dims = _integer(path, fields, "NDims")
    if not 2 <= dims <= 5:
        raise InputError(f"{path} declares {dims} dimensions: give 2 to 5.")
    sizes = [_to_int(path, word, "DimSize") for word in fields.get("dimsize", "").split()]
    kind = fields.get("elementtype", "").upper().removeprefix("MET_").removesuffix("_ARRAY")
    channels = _to_int(path, fields.get("elementnumberofchannels", "1"), "ElementNumberOfChannels")
    if len(sizes) != dims or min(sizes, default=0) < 1 or kind not in _META or not 1 <= channels <= 4:
        raise InputError(f"{path} has a header that is damaged or of an unknown kind: export it again.")
    if not _yes(fields.get("binarydata", "True")):
        raise InputError(f"{path} holds its values as text: save it in binary.")
    big = _yes(fields.get("binarydatabyteordermsb", fields.get("elementbyteordermsb", "False")))
    dtype = np.dtype((">" if big else "<") + _META[kind])
    shape = (*reversed(sizes), *((channels,) if channels > 1 else ()))
    where = fields["elementdatafile"]
    local = where.upper() == "LOCAL"
    files = [path] if local else _beside(path, where, listed)
    start = end if local else 0
    header = fields.get("headersize", "0").strip() or "0"
    packed = _yes(fields.get("compresseddata", "False"))
    if header == "-1" and not packed:  # the values are the end of the file
        start = max(0, files[0].stat().st_size - math.prod(shape) * dtype.itemsize // len(files))
    elif header != "0":
        start = max(0, _to_int(path, header, "HeaderSize"))
    array = _values(path, _Place(files, start, packed), dtype, shape, reading)
    _check_flat(path, sizes)
    steps = _numbers(fields.get("elementspacing") or fields.get("elementsize") or "")
    fps, notes = _plus_rate(fields)
    notes += _sides(steps, reading) + _turned(fields)
    return of_array(path, "MetaImage", array, named=reading.axes, fps=fps, notes=notes)


def open_nrrd(path: Path, reading: Reading) -> Stored:
    """An NRRD in one file, two or several."""
    with path.open("rb") as file:
        text = file.read(_HEADER)
    end = re.search(rb"\r?\n\r?\n", text)
    header = text[: end.start() if end else len(text)].decode("latin-1")
    lines = header.splitlines()
    pairs = (line.partition(":") for line in lines[1:] if not line.startswith("#"))
    fields = {name.strip().lower(): value.removeprefix("=").strip() for name, colon, value in pairs if colon}
    dims = _integer(path, fields, "dimension")
    sizes = [_to_int(path, word, "sizes") for word in fields.get("sizes", "").split()]
    kind = fields.get("type", "").lower()
    axes = [len(re.findall(r"\([^)]*\)|none", fields[name])) for name in ("space directions",) if name in fields]
    axes += [len(fields[name].split()) for name in ("spacings", "kinds", "axis mins", "axis maxs") if name in fields]
    if len(sizes) != dims or not 2 <= dims <= 5 or min(sizes) < 1 or kind not in _NRRD or any(n != dims for n in axes):
        raise InputError(f"{path} has a header that is damaged or of an unknown kind: export it again.")
    encoding = fields.get("encoding", "raw").lower()
    if encoding not in ("raw", "gz", "gzip"):
        raise InputError(f"{path} is encoded as {encoding}: give raw or gzip.")
    dtype = np.dtype((">" if fields.get("endian", "little").lower() == "big" else "<") + _NRRD[kind])
    shape = tuple(reversed(sizes))
    where = fields.get("data file") or fields.get("datafile")
    at = next((number for number, line in enumerate(lines) if re.match(r"data ?file:\s*LIST", line)), len(lines))
    files = _beside(path, where, lines[at + 1 :]) if where else [path]
    start = 0 if where else (end.end() if end else len(text))
    for _ in range(min(_integer(path, fields, "line skip", "lineskip"), 1000)):
        with files[0].open("rb") as file:
            file.seek(start)
            start += len(file.readline(2**16))
    skip, packed = _integer(path, fields, "byte skip", "byteskip"), encoding != "raw"
    if skip < 0 and not packed:
        start, skip = max(0, files[0].stat().st_size - math.prod(shape) * dtype.itemsize // len(files)), 0
    place = _Place(files, start if packed else start + skip, packed, max(0, skip) if packed else 0)
    array = _values(path, place, dtype, shape, reading)
    kinds = fields.get("kinds", "").lower().split()[::-1]  # the slowest axis first, as in `shape`
    if kinds:
        array = _moved(array, kinds)
    spaces = re.findall(r"\(([^)]*)\)", fields.get("space directions", ""))
    steps = [math.hypot(*_numbers(axis)) for axis in spaces] or _numbers(fields.get("spacings", ""))
    fps, notes = _plus_rate(fields)
    fps = fps or _time_step(fields)
    notes += _sides(steps, reading) + _turned(fields)
    return of_array(path, "NRRD", array, named=reading.axes, fps=fps, notes=notes)


def _moved(array: ndarray, kinds: list[str]) -> ndarray:
    """With an axis of colours last, and one of time or of a list of frames (3D Slicer) first."""
    frames = [index for index, kind in enumerate(kinds) if kind in ("list", "time")][:1]
    colors = [index for index, kind in enumerate(kinds) if kind.endswith("-color")][:1]
    others = [index for index in range(array.ndim) if index not in (*frames, *colors)]
    return array.transpose(*frames, *others, *colors)


def open_nifti(path: Path, reading: Reading) -> Stored:
    """A NIfTI clip; the frames are the last axis, and time steps give the rate."""
    named = path.with_suffix(".hdr") if path.suffix.lower() == ".img" else path
    with named.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(named) if packed else named.open("rb") as file:
        about = _nifti_header(path, file.read(544))
    if about.pair and not (path.with_suffix(".img")).is_file():
        raise InputError(f"{path} needs its .img file, which is missing: put both files in one folder.")
    data = path.with_suffix(".img") if about.pair else path
    start, skip = (0, about.offset) if packed else (about.offset, 0)
    array = _values(path, _Place([data], start, packed, skip), about.dtype, about.shape, reading)
    if len(about.shape) == 5 and about.shape[0] in (3, 4):
        array = np.moveaxis(array, 0, -1)  # channels are the fifth axis
    if about.scale is not None:
        array = array * np.float32(about.scale[0]) + np.float32(about.scale[1])
    return of_array(path, "NIfTI", array, named=reading.axes, fps=about.fps).but(*_sides(about.steps, reading))


class _Nifti(NamedTuple):
    """What a header of NIfTI says; `scale` is slope and intercept, if there are any; `steps` is the spacing."""

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    fps: float | None
    pair: bool
    scale: tuple[float, float] | None
    steps: Sequence[float]


def _nifti_header(path: Path, header: bytes) -> _Nifti:
    """The header of NIfTI 1 or 2, of either byte order."""
    if len(header) < 348:
        raise InputError(f"{path} is cut short: export it again.")
    order = "<" if struct.unpack("<i", header[:4])[0] in (348, 540) else ">"
    if header[4:8] in (b"n+2\0", b"ni2\0") and len(header) >= 540:
        pair = header[4:8] == b"ni2\0"
        code, bits = struct.unpack(f"{order}2h", header[12:16])
        dims = struct.unpack(f"{order}8q", header[16:80])
        steps = struct.unpack(f"{order}8d", header[104:168])
        start, slope, intercept = struct.unpack(f"{order}q2d", header[168:192])
        units = struct.unpack(f"{order}i", header[500:504])[0]
    else:
        pair = header[344:348] != b"n+1\0"  # Analyze 7.5 has no mark
        dims = struct.unpack(f"{order}8h", header[40:56])
        code, bits = struct.unpack(f"{order}2h", header[70:74])
        steps = struct.unpack(f"{order}8f", header[76:108])
        start, slope, intercept = struct.unpack(f"{order}3f", header[108:120])
        units = header[123]
    sizes = [int(side) for side in dims[1 : 1 + max(0, min(int(dims[0]), 7))]]
    channels = _NIFTI_COLORS.get(code, 1)
    dtype = np.dtype(order + ("u1" if channels > 1 else _NIFTI.get(code, "V1")))
    if not 2 <= dims[0] <= 7 or min(sizes) < 1 or dtype.kind == "V" or bits != 8 * channels * dtype.itemsize:
        raise InputError(f"{path} has a header that is damaged or of an unknown kind: export it again.")
    if not 0 <= start < 2**40 or not (math.isnan(slope) or math.isfinite(slope + intercept)):
        raise InputError(f"{path} has a header that is damaged or of an unknown kind: export it again.")
    _check_flat(path, sizes)
    shape = (*reversed(sizes), *((channels,) if channels > 1 else ()))
    second = _TIMES.get(units & 0x38)
    fps = 1 / (steps[4] * second) if second and steps[4] > 0 and len(sizes) > 3 else None
    plain = slope == 0 or math.isnan(slope) or (slope, intercept) == (1, 0)
    return _Nifti(shape, dtype, int(start), fps, pair, None if plain else (slope, intercept), steps[1:])


# ---------------------------------------------------------------------------------------------- values


def _values(path: Path, place: _Place, dtype: np.dtype, shape: Sequence[int], reading: Reading) -> ndarray:
    """The array, mapped if it lies plain in one file. Raises `InputError` if there is less than the header declares."""
    check_size(path, shape, dtype.itemsize, reading.max_bytes)
    size, count = math.prod(shape) * dtype.itemsize, len(place.files)
    if size % count:
        raise InputError(f"{path} has {count} files for {shape[0]} frames, it is damaged: export it again.")
    if place.packed:
        parts = [_unpacked(path, file, place, size // count) for file in place.files]
    else:
        if any(file.stat().st_size - place.start < size // count for file in place.files):
            raise InputError(f"{path} is cut short: export it again.")
        if count == 1:
            return np.memmap(place.files[0], dtype, "r", place.start, tuple(shape))
        parts = [np.fromfile(file, np.uint8, size // count, offset=place.start) for file in place.files]
    whole = parts[0] if count == 1 else np.concatenate(parts)
    return whole.view(dtype).reshape(shape)


def _unpacked(path: Path, part: Path, place: _Place, size: int) -> ndarray:
    """The bytes of packed values, whose check sum is read as well."""
    with part.open("rb") as file:
        file.seek(place.start)
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(place.start)
        if packed:
            with gzip.open(file) as stream:
                stream.seek(place.skip)
                data, whole = stream.read(size), True
                stream.read(1)
        else:
            inflater = zlib.decompressobj()
            data = inflater.decompress(file.read(), place.skip + size + 1)[place.skip :]
            whole = inflater.eof
    if len(data) != size or not whole:
        raise InputError(f"{path} has compressed data that are damaged or cut short: export it again.")
    return np.frombuffer(data, np.uint8)


def _check_flat(path: Path, sizes: Sequence[int]) -> None:
    """Raise `InputError` for volumes over time: the third axis is no colour."""
    if len(sizes) == 4 and min(sizes[2:]) > 1 and sizes[3] > 4:
        raise InputError(f"{path} holds {sizes[3]} volumes of {sizes[2]} slices: save one slice over time.")


def _beside(path: Path, where: str, listed: Sequence[str]) -> list[Path]:
    """The data files that a header names, which must lie in its folder: one, a list, or a numbered series."""
    pattern = re.fullmatch(r"([^%\s]*%0?\d{0,2}d[^%\s]*)\s+(-?\d{1,9})\s+(-?\d{1,9})\s+(-?\d{1,9})(\s+\d)?", where)
    if where.upper().startswith("LIST"):
        names = [line.strip() for line in listed if line.strip()]
    elif pattern:
        first, last, step = (int(pattern[k]) for k in (2, 3, 4))
        if step == 0 or abs(last - first) > 10**6:
            raise InputError(f"{path} has a header that is damaged: export it again.")
        names = [pattern[1] % number for number in range(first, last + (1 if step > 0 else -1), step)]
    else:
        names = [where]
    files = [path.parent / name for name in names]
    for name, data in zip(names, files, strict=True):
        if Path(name).name != name or name in (".", ".."):
            raise InputError(f"{path} names data outside its folder ({name}): put both files in one folder.")
        if not data.is_file():
            raise InputError(f"{path} needs its data file {data}, which is missing: put both files in one folder.")
    if not files:
        raise InputError(f"{path} names no data file, its header is damaged: export it again.")
    return files


# ---------------------------------------------------------------------------------------------- headers


def _meta_fields(path: Path) -> tuple[dict[str, str], list[str], int]:
    """The lines of a MetaImage's header with names in lower case, the lines after it if it ends in a list of files,
    and where it ends.
    """
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        while file.tell() < _HEADER:
            line = file.readline(4096)
            name, equals, value = line.decode("latin-1").partition("=")
            if not equals:
                break
            fields[name.strip().lower()] = value.strip()
            if name.strip().lower() == "elementdatafile":
                end = file.tell()
                several = value.strip().upper().startswith("LIST")
                return fields, file.read(_HEADER).decode("latin-1").splitlines() if several else [], end
    raise InputError(f"{path} cannot be read as MetaImage, its header has no ElementDataFile: export it again.")


def _plus_rate(fields: dict[str, str]) -> tuple[float | None, tuple[str, ...]]:
    """The mean rate of the time stamps, in seconds, that the PLUS toolkit writes for each frame, and a note on it."""
    stamps = [value for name, value in fields.items() if re.fullmatch(r"seq_frame\d+_timestamp", name)]
    return mean_rate(_numbers(" ".join(stamps)))


def _turned(fields: dict[str, str]) -> tuple[str, ...]:
    """A note if PLUS says that the rows do not lead away (F, far) from the probe."""
    turn = fields.get("ultrasoundimageorientation", "").upper()
    if turn[1:2] in ("", "F", "X"):  # X: unknown
        return ()
    return (f"Its header says that the probe is not at the top (UltrasoundImageOrientation {turn}): turn it upright.",)


def _time_step(fields: dict[str, str]) -> float | None:
    """The rate that the spacing of NRRD's axis of kind `time` gives, if its unit is one of time."""
    units = re.findall(r'"([^"]*)"', fields.get("units", ""))
    columns = zip(fields.get("kinds", "").lower().split(), fields.get("spacings", "").split(), units, strict=False)
    for kind, word, unit in columns:
        step = sum(_numbers(word)) * SECONDS.get(unit.lower(), 0.0)
        if kind == "time" and 0 < step < math.inf:
            return 1 / step
    return None


def _numbers(words: str) -> list[float]:
    """Numbers between blanks or commas; none if one is no number."""
    try:
        return [float(word) for word in re.split(r"[\s,]+", words.strip()) if word]
    except ValueError:
        return []


def _sides(steps: Sequence[float], reading: Reading) -> tuple[str, ...]:
    """A note if columns and rows, the first axes, are not equally far apart; none if the axes are typed."""
    return not_square(abs(steps[1]), abs(steps[0])) if len(steps) > 1 and reading.axes is None else ()


def _yes(word: str) -> bool:
    return word.strip().lower() in ("true", "t", "1")


def _integer(path: Path, fields: dict[str, str], name: str, *others: str) -> int:
    """A field that must be there, or 0 for one with other spellings."""
    word = next((fields[key] for key in (name.lower(), *others) if key in fields), "0" if others else "")
    return _to_int(path, word, name)


def _to_int(path: Path, word: str, name: str) -> int:
    if not re.fullmatch(r"-?\d{1,12}", word.strip()):
        raise InputError(f"{path} has no valid {name} in its header, it is damaged: export it again.")
    return int(word)
