"""TIFF through tifffile, with the metadata of ImageJ and OME."""

import math
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from jaxtyping import Shaped
from numpy import ndarray

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io.axes import of_array
from nuclear_diffusion.io.clip import Reading
from nuclear_diffusion.io.formats.arrays import scalar
from nuclear_diffusion.io.guard import check_size, memory_limit
from nuclear_diffusion.io.stored import SECONDS, Range, Stored, mean_rate, not_square

_MAX_PAGES = 2_000_000
_COLORS = {tifffile.PHOTOMETRIC[name] for name in ("MINISWHITE", "MINISBLACK", "RGB", "PALETTE")}
_JPEG = (6, 7)  # compressions by JPEG, old and new
_LYING = 4  # orientations above this one exchange rows and columns


def begins(start: bytes) -> bool:
    """Whether a file begins as TIFF or BigTIFF, of either byte order; DICOM may, too, in its preamble."""
    return start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+") and start[128:132] != b"DICM"


def open_tiff(path: Path, reading: Reading) -> Stored:
    """A stack: one page a frame, or one array."""
    _check_pages(path)
    with _opened(path) as tiff:
        series = _series(path, tiff)
        page: Any = tiff.pages[0]
        shape, order = tuple(int(side) for side in series.shape), series.axes
        dtype = np.dtype(series.dtype)
        fps, scale, notes = _metadata(tiff, dtype, page)
        notes += not_square(*page.resolution)
        letters = _letters(path, order, shape, reading.axes)
        side = dict(zip(letters, shape, strict=True))
        height, width = side["H"], side["W"]
        count, channels = side.get("T", 1), side.get("C", 1)
        paged = len(series.pages) == count and tuple(page.shape) == tuple(
            size for size, letter in zip(shape, letters, strict=True) if letter in "HWC"
        )
        check_size(path, (height, width, channels), dtype.itemsize, memory_limit(reading.max_bytes) // 8)
        if not paged:
            check_size(path, shape, dtype.itemsize, reading.max_bytes)
        colors, scale = _shown(page, dtype, scale)
        channels = channels if colors is None else 3
        compression = page.compression.name if page.compression != 1 else ""
        turned = page.tags.valueof("Orientation", 1) or 1
        if page.photometric not in _COLORS and not (compression == "JPEG" and page.photometric.name == "YCBCR"):
            raise InputError(f"{path} has colours of type {page.photometric.name}: save it in grey or RGB.")
        try:
            if paged:
                page.asarray()
        except (ValueError, ImportError) as error:
            if "imagecodecs" in str(error):
                raise InputError(f"{path} is compressed by {compression}: pip install imagecodecs.") from error
            raise

    left_out: tuple[str, ...] = ()

    def frames() -> Iterator[Shaped[ndarray, "height width *rgb"]]:
        nonlocal left_out
        with _opened(path) as tiff:
            series = _series(path, tiff)
            left_out = _left_out(path, series.pages, tiff.filehandle.size)
            if paged:
                inner = "".join(letter for letter in letters if letter in "HWC")
                turn = [inner.index(letter) for letter in ("HWC" if "C" in inner else "HW")]
                for stored in series.pages:
                    yield _upright(_colored(stored.asarray().transpose(turn), colors), turned)
                return
            named = letters.replace("1", "")
            for frame in of_array(path, "TIFF", np.asarray(series.asarray()), named=named).frames():
                yield _upright(_colored(np.asarray(frame), colors), turned)

    kind = f"a TIFF stack ({compression})" if compression else "a TIFF stack"
    size = (width, height) if turned > _LYING else (height, width)
    dtype = dtype if colors is None else np.dtype(colors.dtype)
    return Stored(
        kind, frames, count, size, channels, dtype, fps, scale, axes=letters, notes=tuple(notes), found=lambda: left_out
    )


def _shown(page: Any, dtype: np.dtype, scale: Range | None) -> tuple[ndarray | None, Range | None]:
    """The colours of a palette, and the values of black and white, which are swapped where white is 0."""
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None:
        return page.colormap, Range(0, 255 if page.colormap.max() <= 255 else 65535)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        low, high = scale or Range(0, float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0)
        return None, Range(high, low)
    return None, scale


def _left_out(path: Path, pages: Sequence[Any], size: int) -> tuple[str, ...]:
    """A note on strips and tiles that are empty, which tifffile fills.

    Raises `InputError` if a page is missing, or a JPEG ends after the file of this size, which decoders fill, too.
    """
    lost = count = 0
    for page in pages:
        if page is None:
            raise InputError(f"{path} lacks frames that its metadata names: export it again.")
        parts = list(zip(page.dataoffsets, page.databytecounts, strict=False)) or [(0, 0)]
        empty = sum(not (start and length) for start, length in parts)
        if empty and len(parts) == 1 and page.compression == 1:
            raise InputError(f"{path} lacks the pixels of a frame: export it again.")
        if page.compression in _JPEG and any(start + length > size for start, length in parts):
            raise InputError(f"{path} is cut short: export it again.")
        lost, count = lost + empty, count + len(parts)
    return (f"{lost} of its {count} strips or tiles are empty; they are taken as {pages[0].nodata}.",) if lost else ()


def _colored(frame: ndarray, colors: ndarray | None) -> ndarray:
    return frame if colors is None else np.moveaxis(colors[:, frame], 0, -1)


def _upright(frame: ndarray, turned: int) -> ndarray:
    """As the tag Orientation says; 1 is upright."""
    frame = frame.swapaxes(0, 1) if turned > _LYING else frame
    down, right = turned in (3, 4, 7, 8), turned in (2, 3, 6, 7)
    frame = frame[::-1] if down else frame
    return frame[:, ::-1] if right else frame


def _opened(path: Path) -> tifffile.TiffFile:
    """The file; frames that tifffile has written one after the other are no series each."""
    tiff = tifffile.TiffFile(path)
    if not tiff.is_shaped or len(tiff.series) == 1:
        return tiff
    tiff.close()
    return tifffile.TiffFile(path, is_shaped=False)


def _series(path: Path, tiff: tifffile.TiffFile) -> Any:
    """The stack; a file with pages of several sizes is none."""
    series = [one for one in tiff.series if one.size > 0]
    if not series:
        raise InputError(f"{path} holds no frames: give a clip.")
    largest = max(series, key=lambda one: one.size)
    alike = [one for one in series if len(one.shape) >= 2 and one.shape != largest.shape]
    if alike and not (tiff.is_ome or tiff.is_imagej):
        raise InputError(f"{path} mixes frames of different sizes: crop them to one size.")
    return largest


def _letters(path: Path, order: str, shape: tuple[int, ...], named: str | None) -> str:
    """Tifffile's axes as T, H, W, C, and 1 for those of length 1."""
    if named is not None and len(named) == len(shape):
        return named
    letters = ["1"] * len(order)
    frames = []
    for index, (letter, side) in enumerate(zip(order, shape, strict=True)):
        if letter in "YX":
            letters[index] = "H" if letter == "Y" else "W"
        elif letter == "S" or (letter == "C" and side in (3, 4)):
            letters[index] = "C" if side > 1 else "1"
        elif side > 1:
            frames.append(index)
    if letters.count("C") > 1:
        raise InputError(f"{path} has several channel axes ({order}, {shape}): give one.")
    if len(frames) > 1:
        raise InputError(f"{path} has axes {order} of lengths {shape}: give a stack with one axis of frames.")
    if frames:
        letters[frames[0]] = "T"
    elif "1" in letters:
        letters[letters.index("1")] = "T"
    if named is not None and sorted(named) == sorted(letter for letter in letters if letter != "1"):
        places = iter(named)
        return "".join(letter if letter == "1" else next(places) for letter in letters)
    return "".join(letters)


def _metadata(tiff: tifffile.TiffFile, dtype: np.dtype, page: Any) -> tuple[float | None, Range | None, list[str]]:
    """Frame rate and display range, as ImageJ, OME or our own writer states them."""
    fps: float | None = None
    scale: Range | None = None
    notes: list[str] = []
    if tiff.is_imagej:
        about: dict[str, Any] = tiff.imagej_metadata or {}
        step = (scalar(about.get("finterval")) or 0) * SECONDS.get(str(about.get("tunit")), 1.0)
        fps = scalar(about.get("fps")) or (1 / step if step else None)
        low, high = scalar(about.get("min")), scalar(about.get("max"))
        if (
            high is not None
            and high > (low or 0)
            and page.samplesperpixel == 1
            and not (dtype == np.uint8 and high == 255)
        ):
            scale = Range(low or 0.0, high)
            notes.append(f"ImageJ's display range, {low or 0:g} to {high:g}, is black and white.")
    elif tiff.is_ome:
        text = tiff.ome_metadata or ""
        if match := re.search(r'\bTimeIncrement="([0-9.eE+-]+)"', text):
            step = float(match[1]) * _ome_second(text, "TimeIncrement")
            fps = 1 / step if step > 0 else None
        else:
            fps, uneven = mean_rate(_ome_times(text))
            notes += uneven
        bits = re.search(r'\bSignificantBits="(\d{1,2})"', text)
        if bits and dtype.kind == "u" and 8 < int(bits[1]) < 8 * dtype.itemsize:
            scale = Range(0, 2 ** int(bits[1]) - 1)
    else:
        shaped: dict[str, Any] = (tiff.shaped_metadata or ({},))[0]
        value = shaped.get("fps") if isinstance(shaped, dict) else None
        try:
            fps = float(value) if isinstance(value, (int, float, str)) else None
        except ValueError:
            fps = None
    return fps, scale, notes


def _ome_times(text: str) -> list[float]:
    """When the frames were taken, in seconds, in their order: DeltaT of the first plane of each."""
    times: dict[int, float] = {}
    for plane in re.findall(r"<(?:\w+:)?Plane\b[^>]*>", text):
        index, since = (re.search(rf'\b{name}="([^"]*)"', plane) for name in ("TheT", "DeltaT"))
        if index and since:
            times.setdefault(int(index[1]), float(since[1]) * _ome_second(plane, "DeltaT"))
    return [times[index] for index in sorted(times)]


def _ome_second(text: str, name: str) -> float:
    """The unit of an attribute of time in seconds; OME's default is the second."""
    unit = re.search(rf'\b{name}Unit="([^"]+)"', text)
    return SECONDS.get(unit[1], math.nan) if unit else 1.0


def _check_pages(path: Path) -> None:
    """Raise `InputError` if the chain of pages has a loop, which tifffile would follow for ever, or is cut."""
    with path.open("rb") as file:
        start = file.read(16)
        order = "<" if start[:2] == b"II" else ">"
        big = start[2:4] in (b"+\0", b"\0+")
        count, entry, pointer = ("Q", 20, "Q") if big else ("H", 12, "L")
        offset = struct.unpack(order + pointer, start[8:16] if big else start[4:8])[0]
        seen: set[int] = set()
        while offset:
            if offset in seen or len(seen) > _MAX_PAGES:
                raise InputError(f"{path} has a page that follows itself, it is damaged: export it again.")
            seen.add(offset)
            file.seek(offset)
            number = file.read(struct.calcsize(order + count))
            if len(number) < struct.calcsize(order + count) and begins(start):
                raise InputError(f"{path} is cut short, as its pages end early: export it again.")
            file.seek(struct.unpack(order + count, number)[0] * entry, 1)
            following = file.read(struct.calcsize(order + pointer))
            if len(following) < struct.calcsize(order + pointer):
                return
            offset = struct.unpack(order + pointer, following)[0]
