"""DICOM through pydicom and its decoders, frame by frame; video in DICOM through PyAV."""

import io
import struct
import zlib
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from jaxtyping import Shaped
from numpy import ndarray
from pydicom import uid, valuerep
from pydicom.datadict import keyword_for_tag
from pydicom.encaps import generate_fragments, parse_basic_offsets, parse_fragments
from pydicom.filereader import read_file_meta_info
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut, convert_color_space

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.files import followed
from nuclear_diffusion.io.clip import Reading
from nuclear_diffusion.io.formats import jpeg, movie
from nuclear_diffusion.io.guard import check_size, head, memory_limit
from nuclear_diffusion.io.regions import dicom_regions, pixel_size
from nuclear_diffusion.io.stored import Picture, Range, Stored, not_square

_UNDEFINED = 0xFFFFFFFF
_PIXEL_DATA = {
    (0x7FE0, 0x0010): "PixelData",
    (0x7FE0, 0x0008): "FloatPixelData",
    (0x7FE0, 0x0009): "DoubleFloatPixelData",
}
_ITEM = b"\xfe\xff\x00\xe0"  # begins each fragment of compressed pixel data
_SOI = (b"\xff\xd8", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP")
_TIMES = ("AcquisitionDateTime", "AcquisitionTime")
_GREY = 8 / 255  # channels of a grey pixel differ by less


class InSeries(NamedTuple):
    """A file's series, its place there, whether it holds one frame, and when that was taken."""

    series: tuple[str, ...]
    number: int
    single: bool
    taken: datetime | None


class _Pixels(NamedTuple):
    """Where the pixel data are, and how they are to be understood."""

    dataset: pydicom.Dataset
    syntax: uid.UID
    data: bytes | None  # inflated; None: in the file
    start: int
    length: int
    options: dict[str, Any]
    notes: list[str]


def begins(start: bytes) -> bool:
    """Whether a file begins as DICOM, with or without preamble."""
    if start[128:132] == b"DICM":
        return True
    if len(start) < 16:
        return False
    group, element = struct.unpack("<HH", start[:4])
    if group not in (2, 8) or element > 0x70:
        return False
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return explicit or struct.unpack("<L", start[4:8])[0] < 2**16


def series_of(path: Path) -> InSeries | None:
    """The series of a DICOM file with pixels; None for any other file."""
    try:
        with path.open("rb") as file:
            if not begins(file.read(256)):
                return None
        tags = ["SeriesInstanceUID", "PatientID", "InstanceNumber", "NumberOfFrames", "Rows", "Columns", *_TIMES]
        with path.open("rb") as file:
            dataset = pydicom.dcmread(file, force=True, stop_before_pixels=True, specific_tags=tags)
        if "Rows" not in dataset:
            return None
        series = tuple(str(dataset.get(tag, "")) for tag in ("PatientID", "SeriesInstanceUID", "Rows", "Columns"))
        single = int(dataset.get("NumberOfFrames") or 1) == 1
        return InSeries(series, int(dataset.get("InstanceNumber") or 0), single, _taken(dataset))
    except Exception:  # what is no DICOM belongs to no series
        return None


def _taken(dataset: pydicom.Dataset) -> datetime | None:
    """When a file's frame was taken; None if that is not said."""
    time = dataset.get("AcquisitionTime")
    when = valuerep.DT(str(dataset.get("AcquisitionDateTime") or (f"20000101{time}" if time else "")))
    return None if when is None else when.replace(tzinfo=None)


def open_dicom(path: Path, reading: Reading) -> Stored:
    """A DICOM file: modality rescale, then the display window, else the bits stored."""
    pixels = _find(path, reading)
    dataset = _flat(pixels.dataset)
    notes = ["The frames are slices of volumes."] if dataset.get("SOPClassUID") == uid.EnhancedUSVolumeStorage else []
    kind, size = f"DICOM ({pixels.syntax.name})", (int(dataset.Rows), int(dataset.Columns))
    region, fps = dicom_regions(dataset, size), dicom_rate(dataset)
    if _is_video(pixels.syntax):
        stored = movie.open_movie(path, reading, _video(path, pixels))
        return stored.but(kind=kind, fps=fps or stored.fps, count=None, region=region)
    notes += [*pixels.notes, *_not_square(dataset)]
    count = _count(path, pixels, notes)
    pixels.options["number_of_frames"] = count
    photometric = _photometric(path, pixels, notes)
    samples = int(pixels.options.get("samples_per_pixel", 1))
    bits = int(dataset.get("BitsStored") or dataset.BitsAllocated)
    signed = bool(int(dataset.get("PixelRepresentation") or 0))
    channels, scale, full = samples, None, Range(0, 2**bits - 1)
    dtype = np.dtype("u1" if dataset.BitsAllocated <= 8 else "u2" if dataset.BitsAllocated <= 16 else "u4")
    unused = int(dataset.get("HighBit") or bits - 1) + 1 - bits  # bits below the stored ones
    if 0 < unused <= dataset.BitsAllocated - bits:
        pixels.options["bits_stored"] = int(dataset.BitsAllocated)
    else:
        unused = 0
    palette = photometric == "PALETTE COLOR"
    lookup = False
    if palette:
        channels, scale, dtype = 3, _palette_range(dataset), None
    elif samples == 1:
        lookup, scale, full = _display(dataset, bits, signed, photometric == "MONOCHROME1")
        dtype = None if lookup or signed else dtype
    if scale is None and (bits < 8 or (samples == 3 and bits == 8)):
        scale = Range(0, full.white)
    if (keyword := pixels.options["pixel_keyword"]) != "PixelData":
        dtype, full = np.dtype(np.float32 if keyword == "FloatPixelData" else np.float64), None

    def frames() -> Iterator[Picture]:
        for frame, _ in _decode(path, pixels, raw=photometric not in ("YBR_FULL", "YBR_FULL_422"), count=count):
            if unused:
                frame = frame >> unused
            if palette:
                yield apply_color_lut(frame, dataset)
            elif lookup:
                yield np.asarray(apply_voi_lut(apply_modality_lut(frame, dataset), dataset))
            elif photometric == "YBR_RAW":
                yield convert_color_space(frame, "YBR_FULL", "RGB")
            else:
                yield frame

    axes = "THWC" if channels == 3 else "THW"
    about = {"range": scale, "full": full, "region": region, "axes": axes, "notes": tuple(notes)}
    return Stored(kind, frames, count, size, channels, dtype, fps, **about)


# ------------------------------------------------------------------------------------------ pixel data


def _find(path: Path, reading: Reading) -> _Pixels:
    """Read the tags, and where the pixel data begin."""
    notes: list[str] = []
    with path.open("rb") as file:
        dataset = pydicom.dcmread(file, force=True, stop_before_pixels=True)
        start = file.tell()
        if "DirectoryRecordSequence" in dataset:
            files = indexed(path)
            if not files:
                raise InputError(f"{path} is a DICOMDIR, an index of files that are not here: give a clip.")
            many = f"{len(files)} files that are here: give one, such as {files[0]}"
            raise InputError(f"{path} is a DICOMDIR, an index of {many}.")
        meta = getattr(dataset, "file_meta", None) or pydicom.Dataset()
        syntax = uid.UID(str(meta.get("TransferSyntaxUID") or _guessed_syntax(dataset)))
        if not syntax.is_transfer_syntax or syntax.is_private:
            raise InputError(f"{path} has the transfer syntax {syntax}, which is not known: export it uncompressed.")
        data: bytes | None = None
        if syntax == uid.DeflatedExplicitVRLittleEndian:
            data = _inflated(path, memory_limit(reading.max_bytes))
            stream: io.BufferedIOBase = io.BytesIO(data)
            dataset = pydicom.dcmread(stream, force=True, stop_before_pixels=True)
            start, syntax, file_size = stream.tell(), uid.ExplicitVRLittleEndian, len(data)
        else:
            stream, file_size = file, path.stat().st_size
        stream.seek(start)
        prefix = stream.read(12)
        order = "<" if syntax.is_little_endian else ">"
        tag = struct.unpack(f"{order}HH", prefix[:4]) if len(prefix) == 12 else None
        if "Rows" not in dataset or "Columns" not in dataset or tag not in _PIXEL_DATA:
            if not begins(head(path)):
                raise InputError(f"{path} is named as DICOM but does not begin as DICOM: give the clip as exported.")
            raise InputError(f"{path} is a DICOM file without pixel data, or cut short: export the clip again.")
        if syntax.is_implicit_VR:
            start, length = start + 8, struct.unpack(f"{order}L", prefix[4:8])[0]
        else:
            start, length = start + 12, struct.unpack(f"{order}L", prefix[8:12])[0]
        if length != _UNDEFINED and start + length > file_size:
            raise InputError(f"{path} is cut short, as its pixel data end early: export it again.")
        if length == _UNDEFINED and not syntax.is_encapsulated:
            raise InputError(f"{path} has compressed pixel data and does not say by which method: export it again.")
        if syntax.is_encapsulated and length != _UNDEFINED and not _is_video(syntax):
            stream.seek(start)
            if stream.read(4) != _ITEM:
                notes.append(f"The tags say {syntax.name}, but the pixels are not compressed.")
                syntax = uid.ExplicitVRLittleEndian
    options = {
        "transfer_syntax_uid": syntax,
        "rows": int(dataset.Rows),
        "columns": int(dataset.Columns),
        "samples_per_pixel": int(dataset.get("SamplesPerPixel") or 1),
        "photometric_interpretation": str(dataset.get("PhotometricInterpretation") or "MONOCHROME2"),
        "planar_configuration": int(dataset.get("PlanarConfiguration") or 0),
        "bits_allocated": int(dataset.BitsAllocated),
        "bits_stored": int(dataset.get("BitsStored") or dataset.BitsAllocated),
        "pixel_representation": int(dataset.get("PixelRepresentation") or 0),
        "pixel_keyword": _PIXEL_DATA[tag],
        "pixel_vr": prefix[4:6].decode("ascii", "replace") if not syntax.is_implicit_VR else "OW",
    }
    size = options["samples_per_pixel"] * -(-options["bits_allocated"] // 8)
    check_size(path, (options["rows"], options["columns"]), size, memory_limit(reading.max_bytes) // 8)
    if "ExtendedOffsetTable" in dataset:
        options["extended_offsets"] = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
    return _Pixels(dataset, syntax, data, start, length, options, notes)


def _guessed_syntax(dataset: pydicom.Dataset) -> str:
    """The transfer syntax of a file without meta information, as pydicom found it to be encoded."""
    implicit, little = dataset.original_encoding
    if implicit:
        return uid.ImplicitVRLittleEndian
    return uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian


def _inflated(path: Path, limit: int) -> bytes:
    """The deflated part of a file."""
    with path.open("rb") as file:
        file.seek(132 + 12 + int(read_file_meta_info(path).FileMetaInformationGroupLength))
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        data = inflater.decompress(file.read(), limit)
        if inflater.unconsumed_tail:
            raise InputError(f"{path} inflates to more than {limit / 1e9:.1f} GB: export it uncompressed.")
        return data


def _open(path: Path, pixels: _Pixels) -> io.BufferedIOBase:
    """The file, at the start of the pixel data's value."""
    file: io.BufferedIOBase = path.open("rb") if pixels.data is None else io.BytesIO(pixels.data)
    file.seek(pixels.start)
    return file


def _plugin(pixels: _Pixels) -> str:
    """Who decodes; not GDCM, pydicom's first choice, which ends the process on damaged codes."""
    syntax = pixels.syntax
    if syntax == uid.JPEGBaseline8Bit or (syntax == uid.JPEGExtended12Bit and pixels.options["bits_stored"] <= 8):
        return "pillow"
    if syntax in uid.JPEGLSTransferSyntaxes:
        return "pyjpegls"
    if syntax in uid.JPEG2000TransferSyntaxes:
        return "pylibjpeg"
    return jpeg.PLUGIN if jpeg.is_available(syntax) else ""


def _decode(
    path: Path, pixels: _Pixels, *, raw: bool, count: int
) -> Iterator[tuple[Shaped[ndarray, "height width *rgb"], dict[str, Any]]]:
    """The frames, and what their codes say of them."""
    try:
        decoder, plugin = jpeg.decoder_of(pixels.syntax), _plugin(pixels)
        with _open(path, pixels) as stream:
            file: Any = stream
            items = decoder.iter_array(file, raw=raw, validate=True, decoding_plugin=plugin, **pixels.options)
            yield from islice(items, count)
    except (NotImplementedError, RuntimeError) as error:
        raise InputError(
            f"{path} has pixel data that cannot be decoded (transfer syntax {pixels.syntax.name}), it is damaged or "
            "its compression is not supported: export it uncompressed or as JPEG."
        ) from error


def _count(path: Path, pixels: _Pixels, notes: list[str]) -> int:
    """The number of frames, from the bytes; what the tag says instead is noted."""
    stated = pixels.dataset.get("NumberOfFrames")
    expected = int(stated) if stated is not None and str(stated).strip() else None
    if pixels.syntax.is_encapsulated:
        with _open(path, pixels) as file:
            offsets = parse_basic_offsets(file)
            begin = file.tell()
            fragments, _ = parse_fragments(file)
            file.seek(begin)
            firsts = sum(fragment[:16].startswith(_SOI) for fragment in generate_fragments(file))
        if offsets:
            held = len(offsets)
        elif pixels.syntax == uid.RLELossless:
            held = fragments
        else:
            held = firsts or fragments
        if expected == 1 and not offsets and not firsts:
            held = 1  # one frame in several fragments
    else:
        each = pixels.options
        bits = each["rows"] * each["columns"] * each["samples_per_pixel"] * each["bits_allocated"]
        if bits and each["photometric_interpretation"] == "YBR_FULL_422" and each["bits_allocated"] == 8:
            half = bits * 2 // 3
            stated_size = half * (expected or 1) // 8
            if not (stated_size <= pixels.length <= stated_size + 1) and (
                expected is None or pixels.length * 8 >= bits * expected
            ):
                each["photometric_interpretation"] = "YBR_FULL"
                notes.append("The tag says YBR_FULL_422, but three bytes per pixel are stored.")
            else:
                bits = half
        held = pixels.length * 8 // bits if bits else 0
    if held == 0:
        raise InputError(f"{path} holds no whole frame, it is damaged or cut short: export it again.")
    if expected is None or expected == held:
        return held
    if held < expected:
        raise InputError(f"{path} is cut short: {held} of {expected} frames; export it again.")
    notes.append(f"The tag NumberOfFrames says {expected}, but {held} frames are stored.")
    return held


def _photometric(path: Path, pixels: _Pixels, notes: list[str]) -> str:
    """The colour space of the bytes: a tag that says RGB for YBR, or the reverse, makes grey tissue green or pink."""
    stated, samples = pixels.options["photometric_interpretation"], pixels.options["samples_per_pixel"]
    if samples == 1:
        return stated
    if samples != 3:
        raise InputError(f"{path} has {samples} values for each pixel ({stated}), not 1 or 3: export it as RGB.")
    if stated.startswith("YBR_PARTIAL") and pixels.syntax.is_encapsulated:  # JPEG fills the range, whatever is said
        stated = pixels.options["photometric_interpretation"] = "YBR_FULL_422"
    if stated not in ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"):
        raise InputError(f"{path} has colours of type {stated}, which are not supported: export it as RGB.")
    if pixels.options["bits_allocated"] != 8 or not stated.startswith(("RGB", "YBR_FULL")):
        return stated
    frame, coded = next(_decode(path, pixels, raw=True, count=1))
    frame = frame.reshape(-1, 3).astype(np.int16)
    lit = frame[frame.max(axis=1) > 24]
    if not len(lit):
        return stated
    as_rgb = (np.ptp(lit, axis=1) <= 255 * _GREY).mean()
    as_ybr = (np.abs(lit[:, 1:] - 128).max(axis=1) <= 255 * _GREY).mean()
    found = stated
    if stated == "RGB" and as_ybr > 0.7 > 2 * as_rgb:
        found = "YBR_FULL"
    elif stated != "RGB" and as_rgb > 0.7 > 2 * as_ybr:
        found = "RGB"
    elif stated == "RGB" and as_rgb <= 0.7 and str(coded["photometric_interpretation"]).startswith("YBR"):
        found = "YBR_FULL"  # as its JFIF marker says
    if found != stated:
        notes.append(f"The tag says {stated}, but the pixels are {found}.")
        pixels.options["photometric_interpretation"] = found
    return found


# ---------------------------------------------------------------------------------------------- values


def _display(dataset: pydicom.Dataset, bits: int, signed: bool, inverted: bool) -> tuple[bool, Range | None, Range]:
    """How grey is shown: whether by tables, else the stored values of black and white, and those of the bits."""
    full = Range(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else Range(0, 2**bits - 1)
    if (
        dataset.get("ModalityLUTSequence")
        or dataset.get("VOILUTSequence")
        or (str(dataset.get("VOILUTFunction") or "LINEAR").upper() == "SIGMOID" and "WindowCenter" in dataset)
    ):
        white = 2**bits - 1
        if tables := dataset.get("VOILUTSequence"):
            white = 2 ** int(tables[0].LUTDescriptor[2]) - 1
        scale = Range(0.0, float(white))
        return True, _flipped(scale, inverted), full
    slope, intercept = (_number(dataset.get(name), default) for name, default in _RESCALE)
    slope = slope or 1.0
    if "WindowCenter" in dataset and "WindowWidth" in dataset:
        center, width = (_number(dataset.get(name), None) for name in ("WindowCenter", "WindowWidth"))
        exact = str(dataset.get("VOILUTFunction") or "").upper() == "LINEAR_EXACT"
        if center is not None and width is not None and width >= 1 + (not exact) * 1e-9:
            half, middle = (width / 2, center) if exact else ((width - 1) / 2, center - 0.5)
            scale = Range((middle - half - intercept) / slope, (middle + half - intercept) / slope)
            return False, _flipped(scale, inverted), full
    if inverted or slope < 0:
        return False, _flipped(full, inverted != (slope < 0)), full
    return False, None, full


_RESCALE = (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))


def _flat(dataset: pydicom.Dataset) -> pydicom.Dataset:
    """With the window and rescale of an enhanced file, which are of all frames or else the first one's."""
    flat = pydicom.Dataset()
    for name in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for group in (dataset.get(name) or ())[:1]:
            for macro in ("FrameVOILUTSequence", "PixelValueTransformationSequence"):
                for item in (group.get(macro) or ())[:1]:
                    flat.update(item)
    for element in flat:
        if element.tag not in dataset:
            dataset.add(element)
    return dataset


def _flipped(scale: Range, inverted: bool) -> Range:
    return Range(scale.white, scale.black) if inverted else scale


def _number(value: Any, default: float | None) -> Any:
    """The first of the values of a tag as a finite number."""
    try:
        number = float(value[0] if hasattr(value, "__getitem__") and not isinstance(value, str) else value)
    except (TypeError, ValueError, IndexError):
        return default
    return number if np.isfinite(number) else default


def _palette_range(dataset: pydicom.Dataset) -> Range:
    """The white of a palette: 8-bit entries may be stored under a 16-bit descriptor."""
    entries = int(dataset.RedPaletteColorLookupTableDescriptor[0]) or 2**16
    if "RedPaletteColorLookupTableData" not in dataset:  # in segments
        return Range(0, 2 ** int(dataset.RedPaletteColorLookupTableDescriptor[2]) - 1)
    tables = [getattr(dataset, f"{name}PaletteColorLookupTableData") for name in ("Red", "Green", "Blue")]
    if all(len(table) < 2 * entries for table in tables):
        return Range(0, 255)
    order = "<" if dataset.original_encoding[1] else ">"
    top = max(int(np.frombuffer(table[: 2 * entries], f"{order}u2").max()) for table in tables)
    return Range(0, 255 if top <= 255 else 65535)


# ---------------------------------------------------------------------------------------------- others


def _is_video(syntax: uid.UID) -> bool:
    last = str(syntax).rpartition(".")[2]
    return str(syntax).startswith("1.2.840.10008.1.2.4.10") and last.isdigit() and 100 <= int(last) <= 108


def _video(path: Path, pixels: _Pixels) -> bytes:
    """The video stream, which may be cut into fragments."""
    with _open(path, pixels) as file:
        if pixels.length != _UNDEFINED:
            return file.read(pixels.length)
        parse_basic_offsets(file)
        return b"".join(generate_fragments(file))


def indexed(path: Path) -> list[Path] | None:
    """The files that a DICOMDIR names and that are in its folder; None for any other file."""
    try:
        if not (path.is_file() and begins(head(path))):
            return None
        dataset = pydicom.dcmread(path, force=True, specific_tags=["DirectoryRecordSequence"])
        if "DirectoryRecordSequence" not in dataset:
            return None
        names = [record.get("ReferencedFileID") for record in dataset.DirectoryRecordSequence]
        parts = [[name] if isinstance(name, str) else list(name) for name in names if name]
    except Exception:  # what is damaged is said by whoever opens it
        return None
    home = followed(path.parent)
    files = [path.parent.joinpath(*map(str, one)) for one in parts]
    return [file for file in dict.fromkeys(files) if file.is_file() and followed(file).is_relative_to(home)]


def _not_square(dataset: pydicom.Dataset) -> tuple[str, ...]:
    """A note if the pixels are not square. They stay as they are: regions and calibration count in them."""
    try:
        size = dataset.get("PixelAspectRatio") or pixel_size(dataset)
        return () if size is None else not_square(float(size[0]), float(size[1]))
    except (TypeError, ValueError, IndexError):
        return ()


def dicom_rate(dataset: pydicom.Dataset) -> float | None:
    """Frames per second: from the tag that FrameIncrementPointer names, else frame times (ms), else display rates."""
    pointer = dataset.get("FrameIncrementPointer")
    tags = pointer if isinstance(pointer, MultiValue) else [] if pointer is None else [pointer]
    names = [keyword_for_tag(tag) for tag in tags]
    for name in (*names, "FrameTime", "FrameTimeVector", "CineRate", "RecommendedDisplayFrameRate"):
        value = dataset.get(name) if name else None
        if value is None:
            continue
        if name == "FrameTimeVector":
            steps = [float(step) for step in ([value] if isinstance(value, (float, int)) else value)][1:]  # first is 0
            if sum(steps) > 0:
                return 1000 * len(steps) / sum(steps)
        elif number := _number(value, None):
            return 1000 / number if name == "FrameTime" else number if name.endswith("Rate") else None
    return None
