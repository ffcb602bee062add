"""What a format's reader hands over: frames in stored values, decoded one by one."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped
from numpy import ndarray

from nuclear_diffusion.types import Mask, Regions


class Range(NamedTuple):
    """The stored values of black and white; black is above white in an inverted picture."""

    black: float
    white: float


@runtime_checkable
class Planes(Protocol):
    """A movie's frame, converted late: a grey movie is its luma plane, untouched by a conversion to RGB."""

    shape: tuple[int, int]
    """(height, width)."""

    nbytes: int
    """Size in memory."""

    def spread(self) -> float:
        """Largest difference between the channels of a pixel, in [0, 1]."""
        ...

    def luma(self) -> Shaped[ndarray, "height width"]:
        """Stored brightness, whose black and white are `Stored.range`."""
        ...

    def rgb(self) -> Shaped[ndarray, "height width 3"]:
        """8-bit RGB."""
        ...


Picture = ndarray | Planes

SECONDS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("µs", "μs", "us", "usec", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ns", "nanosecond"), 1e-9),
    **dict.fromkeys(("min", "minute"), 60.0),
}
"""Units of time as files name them."""


def mean_rate(times: Sequence[float] | ndarray) -> tuple[float | None, tuple[str, ...]]:
    """The mean rate of frames at these times (s), and a note if the time between them varies by more than rounding."""
    steps = np.diff(np.asarray(times, np.float64))
    if not len(steps) or not 0 < steps.sum() < math.inf:
        return None, ()
    mean, low, high = (float(f(steps)) for f in (np.mean, np.min, np.max))
    if high - low <= max(0.25 * mean, 2.5e-3):
        return 1 / mean, ()
    varies = f"The time between frames varies from {1000 * low:.3g} to {1000 * high:.3g} ms"
    return 1 / mean, (f"{varies}; they are shown at an even rate.",)


def not_square(down: float, across: float) -> tuple[str, ...]:
    """A note if pixels of this height and width are not square."""
    ratio = down / across if across > 0 else 0.0
    if not 0 < ratio < math.inf or abs(ratio - 1) <= 0.02:
        return ()
    return (f"Its pixels are {ratio:.3g} times as high as wide; frames are taken as they are stored.",)


def lacking(missing: int, count: int, fill: Any) -> tuple[str, ...]:
    """A note if some of the chunks of an array are not in its file."""
    if missing <= 0:
        return ()
    return (f"{missing} of its {count} chunks were never written or are lost; they are taken as {float(fill or 0):g}.",)


@dataclass(frozen=True, eq=False)
class Stored:
    """A clip as it is stored. None: only decoding tells, or the file does not say."""

    kind: str  # the format, in words that follow "read as"
    frames: Callable[[], Iterator[Picture]]  # called, decodes the clip from its start: (h, w) or (h, w, channels) each
    count: int | None = None  # number of frames
    shape: tuple[int, int] | None = None  # (height, width) of a frame
    channels: int | None = None  # values per pixel
    dtype: np.dtype | None = None  # of the stored values
    fps: float | None = None  # frames per second
    range: Range | None = None  # the values that the format shows as black and white
    full: Range | None = None  # the lowest and highest value that the pixels' bits can hold, if not the dtype's
    decibel: bool = False  # whether values below 0 are dB, with the range -60 to 0 (zea)
    region: Mask | Regions | None = None  # as in `Clip`
    files: tuple[Path, ...] | None = None  # as in `Clip`
    axes: str = "THW"  # the order of the stored axes
    notes: tuple[str, ...] = ()  # as in `Clip`
    found: Callable[[], tuple[str, ...]] = tuple  # called after a whole pass: notes on what decoding met

    def but(self, *notes: str, **changes: object) -> "Stored":
        """With more notes and other changes."""
        return replace(self, notes=(*self.notes, *notes), **changes)  # pyright: ignore[reportArgumentType]
