"""A clip of any length, decoded block by block."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io.clip import Clip, Reading, usable_rate
from nuclear_diffusion.io.formats import Frames, name_of, open_stored
from nuclear_diffusion.io.guard import check_size, door, guarded, memory_limit
from nuclear_diffusion.io.levels import EIGHT_BITS, Levels
from nuclear_diffusion.io.stored import Picture, Stored
from nuclear_diffusion.io.values import COLOR_SPREAD, Survey, brightness, choose_range, color, survey
from nuclear_diffusion.types import Mask, Regions

DEFAULT_FPS = 30.0
USUAL = (1.0, 2000.0)  # rates outside, in frames per second, may be times in a wrong unit

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Recording:
    """A clip that is decoded as it is needed, from the start, as often as it is needed."""

    shape: tuple[int, int, int]  # (frames, height, width)
    fps: float  # frames per second; 30 if the file does not say
    colored: bool  # whether the input is in colour
    region: Mask | Regions | None  # as in `Clip`
    name: str  # as in `Clip`
    source: Path  # the path as given
    # called with a length: consecutive clips of so many frames, the last one shorter; each call decodes anew
    blocks: Callable[[int], Iterator[Clip]]
    # files, levels, notes: as in `Clip`
    files: tuple[Path, ...] | None = None
    levels: Levels | None = None
    notes: tuple[str, ...] = ()
    kind: str = "an array"  # the format in words
    axes: str = "THW"  # the order of the stored axes
    range: tuple[float, float] = (0.0, 1.0)  # the stored values of black and white
    max_bytes: int | None = None  # the largest clip to hold in memory
    fps_assumed: bool = False  # whether neither the file nor the reader says the rate

    def __len__(self) -> int:
        return self.shape[0]

    def read(self) -> Clip:
        """The whole clip in memory. Raises `InputError` if it is damaged or does not fit."""
        check_size(self.source, (*self.shape, 3 if self.colored else 1), 4, self.max_bytes)
        (clip,) = self.blocks(len(self))
        return clip

    @classmethod
    def of(cls, clip: Clip) -> "Recording":
        """A recording of a clip that is in memory."""

        def decode(length: int) -> Iterator[Clip]:
            for start in range(0, len(clip), length):
                part = slice(start, start + length)
                color = None if clip.color is None else clip.color[part]
                yield replace(clip, frames=clip.frames[part], color=color, files=clip.files and clip.files[part])

        return cls(
            clip.shape,
            clip.fps,
            clip.color is not None,
            clip.region,
            clip.name,
            clip.source,
            decode,
            clip.files,
            clip.levels,
            clip.notes,
        )


def open_clip(path: str | Path | Frames, reading: Reading | None = None) -> Recording:
    """Open a clip in any supported format without holding all of it; formats and errors as in `read_video`.

    A first pass over the file finds what its header does not say (number of frames, range of values, colour); damage
    further on is found when it is decoded. There is nothing to close: a file is open while frames are decoded, or, if
    it is mapped into memory or a ZIP file, as long as the recording is kept.
    """
    reading = reading or Reading()
    name, source, stored = _open(path, reading)

    def again() -> Iterator[Picture]:
        return guarded(source, stored.kind, stored.frames)

    with door(source, stored.kind):
        found = survey(source, stored, reading, again(), whole=False)
    return _recording(name, source, stored, reading, found, again)


def read_clip(path: str | Path | Frames, reading: Reading | None = None) -> Clip:
    """Read a clip at once, decoding it only once; the same values as `open_clip(path).read()`."""
    reading = reading or Reading()
    name, source, stored = _open(path, reading)
    held = _hold(source, guarded(source, stored.kind, stored.frames), reading.max_bytes)
    with door(source, stored.kind):
        found = survey(source, stored, reading, held, whole=True)
    return _recording(name, source, stored, reading, found, lambda: iter(held)).read()


def _open(path: str | Path | Frames, reading: Reading) -> tuple[str, Path, Stored]:
    path = path if isinstance(path, Frames) else Path(path)
    source = path.folder if isinstance(path, Frames) else path
    stored = open_stored(path, reading)
    if stored.shape is not None:
        size = (stored.dtype or np.dtype(np.uint8)).itemsize * (stored.channels or 1)
        check_size(source, stored.shape, size, memory_limit(reading.max_bytes) // 8)
    if stored.count == 0:
        raise InputError(f"{source} holds no frames: give a clip.")
    return name_of(path), source, stored


def _hold(source: Path, pictures: Iterable[Picture], max_bytes: int | None) -> Sequence[Picture]:
    held, size, limit = [], 0, memory_limit(max_bytes)
    for picture in pictures:
        held.append(picture)
        size += picture.nbytes
        if size > limit:
            raise InputError(f"{source} needs more than {limit / 1e9:.1f} GB: cut it, or raise the limit.")
    return held


def _recording(
    name: str, source: Path, stored: Stored, reading: Reading, found: Survey, pictures: Callable[[], Iterator[Picture]]
) -> Recording:
    scale, notes = choose_range(source, stored, reading, found)
    said, rate = _rate(stored.fps, reading.fps, found.count)
    fps = said or DEFAULT_FPS
    notes = (*stored.notes, *stored.found(), *rate, *notes)
    size = f"{found.count} frames of {found.shape[0]} x {found.shape[1]}"
    log.info("%s: %s, %s, %g frames/s, black %g, white %g", source, stored.kind, size, fps, *scale)
    for note in notes:
        log.warning("%s: %s", source, note)
    spread = found.spread / (1 if found.dtype is None else abs(scale.white - scale.black))
    colored = spread > COLOR_SPREAD
    count, shape = found.count, found.shape
    levels = EIGHT_BITS if found.dtype is None or found.dtype.kind == "b" else Levels(found.dtype, *scale)

    def decode(length: int) -> Iterator[Clip]:
        frames = iter(pictures())
        for start in range(0, count, length):
            size = min(length, count - start)
            values = np.empty((size, *shape), np.float32)
            rgb = np.empty((size, *shape, 3), np.uint8) if colored else None
            with door(source, stored.kind):  # some pictures are decoded only now
                for index in range(size):
                    picture = next(frames, None)
                    if picture is None:
                        raise InputError(f"{source} is cut short: {start + index} of {count} frames; export it again.")
                    if picture.shape[:2] != shape:
                        raise InputError(f"{source} mixes frames of different sizes: crop them to one size.")
                    if rgb is None:
                        values[index] = brightness(picture, scale)
                    else:
                        values[index], rgb[index] = color(picture, scale)
            files = stored.files and stored.files[start : start + size]
            yield Clip(values, fps, rgb, stored.region, name, source, files, levels, notes)

    return Recording(
        (count, *shape),
        fps,
        colored,
        stored.region,
        name,
        source,
        decode,
        stored.files,
        levels,
        notes,
        stored.kind,
        stored.axes,
        scale,
        reading.max_bytes,
        said is None,
    )


def _rate(stored: float | None, typed: float | None, count: int) -> tuple[float | None, list[str]]:
    if typed is not None:
        return float(typed), []
    if stored is None or stored == 0:
        return None, []
    if not usable_rate(stored):
        return None, [f"The stored frame rate, {stored:g}, cannot be used; 30 frames per second are assumed."]
    if count > 1 and not USUAL[0] <= stored <= USUAL[1]:
        return float(stored), [f"The stored frame rate, {stored:g}, is unusual; --fps sets another."]
    return float(stored), []
