"""Single images and animations, through Pillow."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from numpy import ndarray
from PIL import Image, ImageOps, ImageSequence

from nuclear_diffusion.io.clip import Reading
from nuclear_diffusion.io.guard import check_size, memory_limit
from nuclear_diffusion.io.stored import Stored, mean_rate

SUFFIXES = (".png", ".apng", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm", ".pnm", ".webp", ".jp2")
FRAME_SUFFIXES = (*SUFFIXES, ".tif", ".tiff")
_ORIENTATION = 0x0112
_BEGINNINGS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"P2", b"P3", b"P5", b"P6", b"\0\0\0\x0cjP  ")


def begins(start: bytes) -> bool:
    """Whether a file begins as a PNG, JPEG, BMP, PNM, WebP or JPEG 2000 image."""
    return start.startswith(_BEGINNINGS) or (start.startswith(b"RIFF") and start[8:12] == b"WEBP")


def open_image(path: Path, reading: Reading) -> Stored:
    """An image as one frame, or an animation."""
    with _open(path) as image:
        count = getattr(image, "n_frames", 1)
        width, height = image.size if count > 1 else _upright(image).size
        check_size(path, (height, width), 4, memory_limit(reading.max_bytes) // 8)
        mode = _mode(image)
        dtype = np.dtype({"I;16": np.uint16, "F": np.float32}.get(mode, np.uint8))
        fps, notes = _rate(image, count) if count > 1 else (None, ())

    def frames() -> Iterator[Shaped[ndarray, "height width *rgb"]]:
        with _open(path) as image:
            for frame in ImageSequence.Iterator(image) if count > 1 else [_upright(image)]:
                yield _values(frame)

    channels = 3 if mode == "RGB" else 1
    return Stored("an image", frames, count, (height, width), channels, dtype, fps, notes=notes)


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
