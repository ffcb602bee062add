"""MetaImage, NRRD and NIfTI through SimpleITK, which sees only headers that were checked first."""

import gzip
import math
import re
import struct
import tempfile
import zlib
from pathlib import Path

import SimpleITK as sitk
from numpy import ndarray

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io.axes import of_array
from nuclear_diffusion.io.clip import Reading
from nuclear_diffusion.io.guard import check_size, memory_limit
from nuclear_diffusion.io.stored import Stored

_META_BYTES = {"CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "LONG": 8, "ULONG": 8}
_META_BYTES |= {"LONG_LONG": 8, "ULONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}
_NRRD_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(
        ("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t", "float"), 4
    ),
    **dict.fromkeys(("longlong", "long long", "int64", "int64_t", "ulonglong", "uint64", "uint64_t", "double"), 8),
}


def begins_metaimage(start: bytes) -> bool:
    """Whether a file begins as the text header of a MetaImage."""
    return re.match(rb"\s*(ObjectType\s*=\s*Image|NDims\s*=|Comment\s*=.*\n)", start) is not None and b"=" in start


def begins_nifti(start: bytes) -> bool:
    """Whether a file, unpacked, begins as NIfTI 1 or 2."""
    return start[344:348] in (b"n+1\0", b"ni1\0") or start[4:8] in (b"n+2\0", b"ni2\0")


def open_metaimage(path: Path, reading: Reading) -> Stored:
    """A MetaImage in one file or two."""
    fields, offset = _meta_fields(path)
    dims = _integer(path, fields, "NDims")
    if not 2 <= dims <= 5:
        raise InputError(f"{path} declares {dims} dimensions: give 2 to 5.")
    sizes = [_to_int(path, word, "DimSize") for word in fields.get("dimsize", "").split()]
    kind = fields.get("elementtype", "").upper().removeprefix("MET_").removesuffix("_ARRAY")
    channels = _to_int(path, fields.get("elementnumberofchannels", "1"), "ElementNumberOfChannels")
    if len(sizes) != dims or min(sizes, default=0) < 1 or kind not in _META_BYTES or not 1 <= channels <= 4:
        raise InputError(f"{path} has a header that is damaged or of an unknown kind: export it again.")
    size = _META_BYTES[kind] * channels
    check_size(path, sizes, size, reading.max_bytes)
    expected = math.prod(sizes) * size
    where = fields.get("elementdatafile", "")
    data = _beside(path, where) if where.upper() != "LOCAL" else path
    start = offset if where.upper() == "LOCAL" else 0
    if fields.get("headersize", "0").strip() not in ("0", "-1", ""):
        start = max(0, _to_int(path, fields["headersize"], "HeaderSize"))
    if fields.get("compresseddata", "false").strip().lower() in ("true", "t", "1"):
        _check_deflated(data, start, expected)
    elif data.stat().st_size - start < expected:
        raise InputError(f"{path} is cut short: export it again.")
    return _read(path, "MetaImage", reading)


def open_nrrd(path: Path, reading: Reading) -> Stored:
    """An NRRD in one file or two."""
    with path.open("rb") as file:
        text = file.read(2**20)
    end = re.search(rb"\r?\n\r?\n", text)
    header = text[: end.start() if end else len(text)].decode("latin-1")
    lines = (line.partition(":") for line in header.splitlines()[1:] if not line.startswith("#"))
    fields = {name.strip().lower(): value.strip() for name, _, value in lines}
    dims = _integer(path, fields, "dimension")
    sizes = [_to_int(path, word, "sizes") for word in fields.get("sizes", "").split()]
    kind = fields.get("type", "").lower()
    if len(sizes) != dims or not 2 <= dims <= 5 or min(sizes) < 1 or kind not in _NRRD_BYTES:
        raise InputError(f"{path} has a header that is damaged or of an unknown kind: export it again.")
    expected = math.prod(sizes) * _NRRD_BYTES[kind]
    check_size(path, sizes, _NRRD_BYTES[kind], reading.max_bytes)
    where = fields.get("data file") or fields.get("datafile")
    if where is not None and re.match(r"LIST|.*%\d*d", where):
        raise InputError(f"{path} keeps its frames in several files: give a file that holds all of them.")
    data, start = (_beside(path, where), 0) if where else (path, end.end() if end else len(text))
    encoding = fields.get("encoding", "raw").lower()
    if encoding in ("gz", "gzip"):
        _check_deflated(data, start, expected)
    elif encoding == "raw":
        if data.stat().st_size - start < expected:
            raise InputError(f"{path} is cut short: export it again.")
    elif encoding not in ("ascii", "text", "txt", "hex", "bzip2", "bz2"):
        raise InputError(f"{path} is encoded as {encoding}: give raw or gzip.")
    return _read(path, "NRRD", reading)


def open_nifti(path: Path, reading: Reading) -> Stored:
    """A NIfTI clip; the frames are the last axis, and time steps give the rate."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    limit = memory_limit(reading.max_bytes)
    with gzip.open(path) if packed else path.open("rb") as file:
        header = file.read(544)
    sizes, bits, offset, step, units, pair, whole = _nifti_header(path, header)
    check_size(path, sizes, max(1, bits // 8), reading.max_bytes)
    expected = math.prod(sizes) * bits // 8
    if pair:
        data = path.with_suffix(".img")
        if not data.is_file() or data.stat().st_size < expected:
            raise InputError(f"{path} is cut short, or its .img file is missing: export it again.")
    elif packed:
        _check_gzip(path, offset + expected, limit)
    elif path.stat().st_size < offset + expected:
        raise InputError(f"{path} is cut short: export it again.")
    second = {8: 1.0, 16: 1e-3, 24: 1e-6}.get(units & 0x38)
    fps = 1 / (step * second) if second and step > 0 and len(sizes) > 3 else None
    return _read(path, "NIfTI", reading, fps, "NiftiImageIO", whole)


def _nifti_header(path: Path, header: bytes) -> tuple[list[int], int, int, float, int, bool, str | None]:
    """Sizes, bits a voxel, offset of the data, time step, units, whether the data are in another file, and the
    integer type of values that are stored without a scale.
    """
    if len(header) < 348:
        raise InputError(f"{path} is cut short: export it again.")
    if header[4:8] in (b"n+2\0", b"ni2\0"):
        raise InputError(f"{path} is NIfTI-2, which is not supported: save it as NIfTI-1.")
    order = "<" if struct.unpack("<i", header[:4])[0] in (348, 540) else ">"
    dims = struct.unpack(f"{order}8h", header[40:56])
    code, bits = struct.unpack(f"{order}2h", header[70:74])
    steps = struct.unpack(f"{order}8f", header[76:108])
    start, slope, intercept = struct.unpack(f"{order}3f", header[108:120])
    offset = int(start) if 0 <= start < 2**40 else -1
    known = {2: 8, 4: 16, 8: 32, 16: 32, 64: 64, 128: 24, 256: 8, 512: 16, 768: 32, 1024: 64, 1280: 64, 2304: 32}
    sizes = [int(side) for side in dims[1 : 1 + max(0, min(int(dims[0]), 7))]]
    if not 2 <= dims[0] <= 5 or min(sizes) < 1 or known.get(code) != bits or offset < 0:
        raise InputError(f"{path} has a header that is damaged or of an unknown kind: export it again.")
    plain = (slope in (0, 1) and intercept == 0) or math.isnan(slope)
    kinds = {2: "u1", 4: "i2", 8: "i4", 256: "i1", 512: "u2", 768: "u4"}
    pair = header[344:348] == b"ni1\0"
    return sizes, bits, offset, float(steps[4]), header[123], pair, kinds.get(code) if plain else None


def _read(
    path: Path, kind: str, reading: Reading, fps: float | None = None, reader: str = "", dtype: str | None = None
) -> Stored:
    """The array behind a header that was checked."""
    image = _load(path, reader)
    array: ndarray = sitk.GetArrayFromImage(image)
    if dtype is not None:  # ITK scales by 1 in floats
        array = array.astype(dtype, copy=False)
    return of_array(path, kind, array, named=reading.axes, fps=fps)


def _load(path: Path, reader: str) -> sitk.Image:
    """Read by a name that ITK understands: one in UTF-8, with the suffix of the format."""
    name = str(path)
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory() as folder:
            link = Path(folder) / ("clip" + ("".join(path.suffixes[-2:]) if path.name.endswith(".gz") else path.suffix))
            link.symlink_to(path.absolute())
            return sitk.ReadImage(str(link), imageIO=reader)
    return sitk.ReadImage(name, imageIO=reader)


def _meta_fields(path: Path) -> tuple[dict[str, str], int]:
    """The lines of a MetaImage's header in lower case, and where it ends."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for _ in range(200):
            line = file.readline(4096)
            name, equals, value = line.decode("latin-1").partition("=")
            if not equals:
                break
            fields[name.strip().lower()] = value.strip()
            if name.strip().lower() == "elementdatafile":
                return fields, file.tell()
    raise InputError(f"{path} cannot be read as MetaImage, its header has no ElementDataFile: export it again.")


def _beside(path: Path, name: str) -> Path:
    """The data file that a header names, which must lie in its folder."""
    if not name or name.upper().startswith("LIST") or "%" in name:
        raise InputError(f"{path} keeps its frames in several files: give a file that holds all of them.")
    data = path.parent / name
    if Path(name).name != name or name in (".", ".."):
        raise InputError(f"{path} names data outside its folder ({name}): put both files in one folder.")
    if not data.is_file():
        raise InputError(f"{path} needs its data file {data}, which is missing: put both files in one folder.")
    return data


def _check_deflated(path: Path, start: int, expected: int) -> None:
    """Raise `InputError` unless the zlib or gzip data unpack to the declared size; ITK would take what is there."""
    with path.open("rb") as file:
        file.seek(start)
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
        size = 0
        while size <= expected and not inflater.eof and (part := file.read(2**20)):
            while part and size <= expected:
                size += len(inflater.decompress(part, 2**22))
                part = inflater.unconsumed_tail
        if size != expected or not inflater.eof:
            raise InputError(f"{path} has compressed data that are damaged or cut short: export it again.")


def _check_gzip(path: Path, expected: int, limit: int) -> None:
    with gzip.open(path) as file:
        size = 0
        while part := file.read(2**22):
            size += len(part)
            if size > limit:
                raise InputError(f"{path} unpacks to more than {limit / 1e9:.1f} GB: cut it, or raise the limit.")
    if size < expected:
        raise InputError(f"{path} is cut short: export it again.")


def _integer(path: Path, fields: dict[str, str], name: str) -> int:
    return _to_int(path, fields.get(name.lower(), ""), name)


def _to_int(path: Path, word: str, name: str) -> int:
    if not re.fullmatch(r"-?\d{1,12}", word.strip()):
        raise InputError(f"{path} has no valid {name} in its header, it is damaged: export it again.")
    return int(word)
