"""Stored values to display intensity: which value is black and which is white, and what is in colour."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Shaped, UInt8
from numpy import ndarray

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io.clip import Reading
from nuclear_diffusion.io.stored import Picture, Range, Stored

MIN_SIDE = 16
# Lossy compression tints grey pixels by a few levels; larger differences between channels are real colour.
COLOR_SPREAD = 12 / 255
OVERSHOOT = 0.25  # resampling overshoots by less than this share of the range; it is clipped
ZEA_DB = Range(-60.0, 0.0)  # zea's default dynamic range
MOST_CLIPPED = 0.05  # share of a frame's pixels brighter than white; above it a note says so
BRIGHT = 0.25  # share of the range that a clip of 8 bits, or with a display range, reaches; below it a note says so


@dataclass
class Survey:
    """What a pass over the frames has found."""

    typed: Range | None = None  # the user's black and white
    told: Range | None = None  # these, or the file's
    count: int = 0
    shape: tuple[int, int] = (0, 0)
    dtype: np.dtype | None = None
    low: float = np.inf
    high: float = -np.inf
    spread: float = 0.0  # largest difference between the channels of a pixel, in stored values
    varied: bool = False  # within the typed range, if there is one
    clipped: float = 0.0  # share of the first frame's pixels brighter than the white that is told

    def bright(self) -> bool:
        """Whether a frame of 8 bits, or of a display range, reached so much of it that none need be looked at."""
        black, white = self.told or (0.0, 255.0)
        fixed = self.dtype is not None and (self.told is not None or self.dtype == np.uint8)
        return not fixed or black >= white or self.high >= black + BRIGHT * (white - black)

    def add(self, path: Path, picture: Picture, ranged: bool, enough: float, *, decibel: bool = False) -> None:
        """Take a frame into account. Raises `InputError` if it does not fit the others.

        In dB the logarithm of 0 is black.
        """
        if self.count and picture.shape[:2] != self.shape:
            listed = ", ".join(f"{height} x {width}" for height, width in sorted({self.shape, picture.shape[:2]}))
            raise InputError(f"{path} mixes frames of different sizes ({listed}): crop them to one size.")
        if not self.count:
            height, width = self.shape = picture.shape[:2]  # pyright: ignore[reportAttributeAccessIssue]
            if min(height, width) < MIN_SIDE:
                raise InputError(f"{path} has frames of {height} x {width} pixels: give at least {MIN_SIDE} per side.")
        self.count += 1
        if isinstance(picture, ndarray):
            stored = _colors(picture)
            if self.dtype not in (None, stored.dtype.newbyteorder("=")):
                raise InputError(f"{path} mixes images of different bit depths: convert them to one.")
            self.dtype = stored.dtype.newbyteorder("=")
            if stored.dtype.kind not in "biuf":
                raise InputError(f"{path} holds {stored.dtype} values: give integers or floats.")
            grey = stored
            if stored.ndim == 3 and self.spread <= enough:
                self.spread = max(self.spread, float(np.max(stored.max(-1).astype(np.float64) - stored.min(-1))))
        else:
            grey = picture.luma()
            self.spread = max(self.spread, picture.spread()) if self.spread <= enough else self.spread
        if ranged or not (self.varied and self.bright()):
            low, high = float(grey.min()), float(grey.max())
            if decibel and low == -np.inf < high:
                low = float(grey[np.isfinite(grey) | np.isnan(grey)].min())
            if np.isnan(low + high) or np.isinf(low) or np.isinf(high):  # min and max propagate NaN
                raise InputError(f"{path} holds NaN or infinite values: replace them first.")
            self.low, self.high = min(self.low, low), max(self.high, high)
            within = np.clip([self.low, self.high], *(self.typed or (-np.inf, np.inf)))
            self.varied = bool(within[0] != within[1])
        if self.count == 1 and self.told is not None and self.told.black < self.told.white:
            self.clipped = float(np.mean(grey > self.told.white))


def survey(path: Path, stored: Stored, reading: Reading, pictures: Iterable[Picture], whole: bool) -> Survey:
    """Look at the frames: all of them if `whole`, else as many as it takes to know count, colour and range.

    Raises `InputError` for frames that are no clip: none, of different sizes, NaN, or one value throughout.
    """
    typed = Range(*reading.db) if reading.db else Range(0.0, reading.white) if reading.white else None
    told = typed or stored.range
    found = Survey(typed, told)
    for picture in pictures:
        span, ranged = 1.0, False
        if isinstance(picture, ndarray):
            eight = picture.dtype == np.uint8 or picture.dtype.kind == "b"
            span = abs(told[1] - told[0]) if told else 255 if eight else np.inf
            ranged = not eight and (told is None or picture.dtype.kind == "f")
        decibel = stored.decibel or reading.db is not None
        found.add(path, picture, ranged, enough=COLOR_SPREAD * span, decibel=decibel)
        whole = whole or stored.count is None or ranged
        decided = stored.channels == 1 or found.spread > COLOR_SPREAD * span
        if not whole and found.varied and found.bright() and decided:
            break
    if not found.count:
        raise InputError(f"{path} holds no frames: give a clip.")
    if not found.varied and typed and found.low != found.high:
        said = (
            f"{path} has values from {found.low:g} to {found.high:g}, none between {typed.black:g} and {typed.white:g}"
        )
        raise InputError(f"{said}: correct or remove {'--db' if reading.db else '--white'}.")
    if not found.varied:
        raise InputError(f"{path} is constant, with the same value in all pixels: give a clip with an image.")
    if not whole and stored.count is not None:
        found.count = stored.count
    return found


def choose_range(path: Path, stored: Stored, reading: Reading, found: Survey) -> tuple[Range, list[str]]:
    """The stored values of black and white, and what the user should know about them.

    The user's word comes first, then the format's; otherwise the type and the values decide, and a type that the values
    do not fill is named. Raises `InputError` for values that fit no scale.
    """
    low, high = found.low, found.high
    if found.typed is not None:
        return found.typed, _clipped(found, "--white" if reading.db is None else "--db")
    if stored.range is not None:
        return stored.range, _unsuited(found, stored.range)
    dtype = found.dtype
    if dtype is None or dtype == np.uint8:
        return Range(0, 255), _unsuited(found, Range(0, 255))
    if dtype.kind == "b":
        return Range(0, 1), []
    if stored.full is not None:
        return _of_bits(stored.full, low, high)
    said = f"values from {low:g} to {high:g}"
    if stored.decibel and low < 0 and high <= OVERSHOOT * 60:
        note = "" if low >= ZEA_DB.black else f" of {low:g} to {high:g} dB"
        return ZEA_DB, [f"The range -60 to 0 dB{note} is shown; --db LOW HIGH shows another."]
    if low < 0 and high <= 0:
        raise InputError(
            f"{path} has {said}, which look like dB: type the values of black and white, as in --db -60 0."
        )
    if dtype.kind in "iu":
        if low < 0:
            raise InputError(f"{path} has {said}: type the values of black and white, as in --db {low:g} {high:g}.")
        if dtype == np.uint16 or 255 < high <= 65535:
            return Range(0, 65535), _dark(high, 65535)
        if high <= 255:
            return Range(0, 255), []
        raise InputError(f"{path} has {said}: type the value of white, as in --white {_next_white(high)}.")
    for white in (1.0, 255.0):
        if low >= -OVERSHOOT * white and white * (1 / 16 if white > 1 else 0) < high <= white * (1 + OVERSHOOT):
            clipped = low < -1e-5 * white or high > white * (1 + 1e-5)
            notes = [f"The {said} were clipped to [0, {white:g}]."] if clipped else []
            return Range(0, white), notes + ([] if clipped else _dark(high, white))
    if low < 0:
        raise InputError(
            f"{path} has {said}, neither [0, 1] nor [0, 255]: type the values of black and white, as in "
            f"--db {low:g} {high:g}."
        )
    raise InputError(
        f"{path} has {said}, neither [0, 1] nor [0, 255]: type the value of white, as in --white {_next_white(high)}."
    )


def _of_bits(full: Range, low: float, high: float) -> tuple[Range, list[str]]:
    """The range for values that fill the bits `full`, or the used part of it."""
    if full.black == 0:  # unsigned
        return full, _dark(high, full.white)
    if low >= 0:
        white = 255.0 if high <= 255 else full.white
        note = f"Signed values reach {high:g} of {full.white:g}: {white:g} is taken for white; --white names another."
        return Range(0, white), [note] if high < full.white / 2 else []
    span = full.white + 1
    while span > 1 and low >= -span / 2 and high < span / 2:
        span /= 2
    if span == full.white + 1:
        return full, []
    note = f"Signed values from {low:g} to {high:g}: black is {-span:g} and white {span - 1:g}; --db names others."
    return Range(-span, span - 1), [note]


def _clipped(found: Survey, flag: str) -> list[str]:
    """A note if the typed range does not suit the first frame, or is not used."""
    if found.dtype is None and found.spread > COLOR_SPREAD:
        return [f"{flag} does not apply to a colour movie and is ignored."]
    if found.clipped <= MOST_CLIPPED:
        return []
    return [f"Of the first frame's pixels, {100 * found.clipped:.0f} % are brighter than white by {flag}."]


def _unsuited(found: Survey, scale: Range) -> list[str]:
    """A note if the file's display range leaves a clip dark or clips much of it."""
    if found.dtype is None:
        return []
    if found.clipped > MOST_CLIPPED:
        share = f"{100 * found.clipped:.0f} %"
        return [f"Of the first frame's pixels, {share} are brighter than white by the file; --white names another."]
    return [] if found.bright() else _dark(found.high, scale.white)


def _dark(high: float, white: float) -> list[str]:
    if high >= white / 2:
        return []
    return [
        f"The values reach {high:g} of {white:g}, so the clip is dark: type --white {_next_white(high)} to scale it."
    ]


def _next_white(high: float) -> str:
    """The next value of n bits, such as 4095, in reach."""
    return f"{2 ** max(int(np.ceil(high)), 1).bit_length() - 1:d}" if high > 1 else f"{high:g}"


def brightness(picture: Picture, scale: Range) -> Float32[ndarray, "height width"]:
    """A frame as intensity in [0, 1]; colours as their Rec. 601 luma."""
    values = picture.luma() if not isinstance(picture, ndarray) else _colors(picture)
    if values.ndim == 2:
        return np.clip(_scaled(values, scale), 0, 1)
    return _luma(np.clip(_scaled(values, scale), 0, 1))


def color(picture: Picture, scale: Range) -> tuple[Float32[ndarray, "height width"], UInt8[ndarray, "height width 3"]]:
    """A frame of a colour clip as luma in [0, 1] and as 8-bit RGB."""
    if not isinstance(picture, ndarray):
        rgb = picture.rgb()
        return _luma(rgb.astype(np.float32) / np.float32(255)), rgb
    values = _colors(picture)
    if values.ndim == 2:
        values = np.repeat(values[..., None], 3, axis=-1)
    scaled = np.clip(_scaled(values, scale), 0, 1)
    eight = values if values.dtype == np.uint8 and scale == (0, 255) else np.rint(scaled * 255).astype(np.uint8)
    return _luma(scaled), eight


def _luma(rgb: Float32[ndarray, "height width 3"]) -> Float32[ndarray, "height width"]:
    red, green, blue = np.moveaxis(rgb, -1, 0)
    return np.clip(green + 0.299 * (red - green) + 0.114 * (blue - green), 0, 1)  # exact for grey


def _scaled(values: Shaped[ndarray, "..."], scale: Range) -> Float32[ndarray, "..."]:
    black, white = (np.float32(value) for value in scale)
    scaled = values.astype(np.float32)
    if black:
        scaled -= black
    scaled /= white - black
    return scaled


def _colors(picture: ndarray) -> ndarray:
    """Without opacity, and without an axis for a single channel."""
    if picture.ndim == 3:
        return picture[..., 0] if picture.shape[-1] < 3 else picture[..., :3]
    return picture
