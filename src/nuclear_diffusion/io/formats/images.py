"""Single images and animations, through Pillow."""

import re
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
from jaxtyping import Shaped
from numpy import ndarray
from PIL import Image, ImageOps, ImageSequence

from nuclear_diffusion.io.clip import Reading
from nuclear_diffusion.io.guard import check_size, head, memory_limit
from nuclear_diffusion.io.stored import Stored, mean_rate

SUFFIXES = (".png", ".apng", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm", ".pnm", ".webp", ".jp2")
FRAME_SUFFIXES = (*SUFFIXES, ".tif", ".tiff")
_ORIENTATION = 0x0112
_BEGINNINGS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\0\0\0\x0cjP  ")
_SHORT = re.compile(rb"BM....\0\0\0\0|P[2356]\s+[\d#]", re.DOTALL)  # BMP and PNM, unlike text that begins so


def begins(start: bytes) -> bool:
    """Whether a file begins as a PNG, JPEG, BMP, PNM, WebP or JPEG 2000 image."""
    if start.startswith(_BEGINNINGS) or _SHORT.match(start):
        return True
    return start.startswith(b"RIFF") and start[8:12] == b"WEBP"


def open_image(path: Path, reading: Reading) -> Stored:
    """An image as one frame, or an animation."""
    with _open(path) as image:
        count = getattr(image, "n_frames", 1)
        width, height = image.size if count > 1 else _upright(image).size
        check_size(path, (height, width), 4, memory_limit(reading.max_bytes) // 8)
        mode = _mode(image)
        deep = _is_deep(head(path, 26)) and image.getexif().get(_ORIENTATION, 1) == 1
        dtype = np.dtype(np.uint16 if deep else {"I;16": np.uint16, "F": np.float32}.get(mode, np.uint8))
        fps, notes = _rate(image, count) if count > 1 else (None, ())

    def frames() -> Iterator[Shaped[ndarray, "height width *rgb"]]:
        if deep:
            yield _deep(path.read_bytes())
            return
        with _open(path) as image:
            for frame in ImageSequence.Iterator(image) if count > 1 else [_upright(image)]:
                yield _values(frame)

    channels = 3 if mode == "RGB" else 1
    return Stored("an image", frames, count, (height, width), channels, dtype, fps, notes=notes)


def _is_deep(start: bytes) -> bool:
    """Whether an image is a PNG of 16 bits with colours or opacity, of which Pillow keeps 8 bits."""
    return start.startswith(_BEGINNINGS[0]) and start[24:25] == b"\x10" and start[25:26] in (b"\2", b"\4", b"\6")


def _deep(code: bytes) -> Shaped[ndarray, "height width *rgb"]:
    """Such a PNG, on black."""
    values = np.asarray(imagecodecs.png_decode(code))
    if values.shape[-1] in (2, 4):
        values = np.rint(values[..., :-1] * (values[..., -1:] / np.float32(65535))).astype(np.uint16)
    return values[..., 0] if values.shape[-1] == 1 else values


def _rate(image: Image.Image, count: int) -> tuple[float | None, tuple[str, ...]]:
    """The mean rate of an animation, and a note if its pauses differ."""
    pauses = []
    for number in range(count):
        image.seek(number)
        image.load()
        pauses.append(float(image.info.get("duration", 0)))
    return mean_rate([sum(pauses[:number]) / 1000 for number in range(count)])


def _upright(image: Image.Image) -> Image.Image:
    """As the camera's orientation tag says."""
    return ImageOps.exif_transpose(image) if image.getexif().get(_ORIENTATION, 1) != 1 else image


def _open(path: Path) -> Image.Image:
    return Image.open(path.open("rb") if "\0" in str(path) else path)


def _mode(image: Image.Image) -> str:
    """The mode in which an image is taken: L, RGB, 16-bit or float."""
    if image.mode.startswith("I"):
        return "I;16"  # 16 bits, which some versions of Pillow read as 32
    if image.mode in ("L", "F"):
        return image.mode
    return "L" if image.mode in ("1", "LA", "La") else "RGB"


def _values(image: Image.Image) -> Shaped[ndarray, "height width *rgb"]:
    mode = _mode(image)
    if mode == "I;16":
        return np.asarray(image).astype(np.uint16)
    if image.has_transparency_data:  # on black
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA"))
    return np.asarray(image if image.mode == mode else image.convert(mode))
