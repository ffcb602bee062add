"""Write videos to files atomically."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import tifffile
from jaxtyping import Shaped, UInt8
from numpy import ndarray
from PIL import Image

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.files import atomic

MOVIE_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi")


def write_video(path: str | Path, frames: Shaped[ndarray, "frames height width *rgb"], fps: float = 30.0) -> None:
    """Write a grey or RGB clip in the format given by the suffix of `path`.

    `.npz`, `.npy` and `.tif`/`.tiff` keep the values exactly (and, except `.npy`, the frame rate). `.mp4`, `.mov`,
    `.mkv`, `.avi` (H.264, or MPEG-4 Part 2 without that encoder; odd sides are padded by one line), `.gif` and a folder
    of PNGs (no suffix) keep 8 bits.

    Args:
        path: output; missing parents are created, an existing file is replaced.
        frames: (t, h, w) or (t, h, w, 3); float in [0, 1] or uint8.
        fps: frames per second.

    Raises:
        InputError: `path` cannot be written, or its suffix is unknown.
    """
    path, frames = Path(path), np.asarray(frames)
    if frames.ndim not in (3, 4) or (frames.ndim == 4 and frames.shape[-1] != 3) or frames.size == 0:
        raise ValueError(f"`frames` must be (t, h, w) or (t, h, w, 3), not empty, got shape {frames.shape}.")
    if not (np.isfinite(fps) and fps > 0):
        raise ValueError(f"`fps` must be positive, got {fps}.")
    if frames.dtype != np.uint8 and not np.issubdtype(frames.dtype, np.floating):
        raise ValueError(f"`frames` must be uint8 or float in [0, 1], got {frames.dtype}.")
    suffix = path.suffix.lower()
    if suffix not in (*MOVIE_SUFFIXES, ".gif", ".npz", ".npy", ".tif", ".tiff", ""):
        raise InputError(f"{path} names no known video format: use .mp4, .gif, .npz, .npy, .tif or a folder.")
    with atomic(path) as temporary:
        if suffix in MOVIE_SUFFIXES:
            _write_movie(temporary, _bytes(frames), fps)
        elif suffix == ".gif":
            _write_gif(temporary, _bytes(frames), fps)
        elif suffix == ".npz":
            np.savez_compressed(temporary, frames=frames, fps=np.float64(fps))
        elif suffix == ".npy":
            np.save(temporary, frames)
        elif suffix:
            color = "rgb" if frames.ndim == 4 else "minisblack"
            tifffile.imwrite(temporary, frames, photometric=color, metadata={"fps": fps})
        else:
            _write_folder(temporary, _bytes(frames))


def _bytes(frames: Shaped[ndarray, "*shape"]) -> UInt8[ndarray, "*shape"]:
    """Intensity in [0, 1] to 8 bits, rounded to the nearest level."""
    if frames.dtype == np.uint8:
        return frames
    if not np.isfinite(frames).all():
        raise ValueError("`frames` must be finite, got NaN or infinite values.")
    return np.rint(np.clip(frames, 0, 1) * np.float32(255)).astype(np.uint8)


def _rate(fps: float) -> Fraction:
    # Small denominators: 1000 / 33.333 ms means 30, and MPEG-4 allows 16 bits.
    return Fraction(fps).limit_denominator(1000) or Fraction(1, 1000)


Put = Callable[[Shaped[ndarray, "frames height width *rgb"]], None]
"""Takes the next frames, grey or RGB, floats in [0, 1] or uint8."""


@contextmanager
def open_movie(path: str | Path, fps: float) -> Iterator[Put]:
    """Write a movie a few frames at a time: yields a function that takes the next frames.

    `path` appears when the block ends without an error. Formats and errors as in `write_video`.
    """
    with atomic(path) as temporary, _encoding(temporary, fps) as put:
        yield lambda frames: put(_bytes(np.asarray(frames)))


def _write_movie(path: Path, frames: UInt8[ndarray, "frames height width *rgb"], fps: float) -> None:
    with _encoding(path, fps) as put:
        put(frames)


@contextmanager
def _encoding(path: Path, fps: float) -> Iterator[Callable[[UInt8[ndarray, "frames height width *rgb"]], None]]:
    h264 = "libx264" in av.codecs_available
    # x264's macroblock tree gives other bits from run to run, and so does another number of threads
    options = {"crf": "14", "preset": "fast", "x264-params": "mbtree=0"} if h264 else {"qscale": "2", "qmin": "1"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264" if h264 else "mpeg4", rate=_rate(fps), options=options)

        def put(frames: UInt8[ndarray, "frames height width *rgb"]) -> None:
            pad = [(0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2)] + [(0, 0)] * (frames.ndim - 3)
            frames = np.pad(frames, pad, mode="edge")  # 4:2:0 chroma needs even sides
            if not stream.codec_context.is_open:
                stream.height, stream.width = frames.shape[1:3]
                stream.pix_fmt = "yuv420p"
                stream.codec_context.thread_count = 1
                if not h264:
                    stream.bit_rate = 8 * frames[0].size * max(1, round(fps))
            for frame in frames:
                rgb = frame if frame.ndim == 3 else np.repeat(frame[..., None], 3, axis=-1)
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
                container.mux(stream.encode(picture))

        yield put
        container.mux(stream.encode(None))


def _write_gif(path: Path, frames: UInt8[ndarray, "frames height width *rgb"], fps: float) -> None:
    """Write a GIF with FFmpeg, which keeps identical consecutive frames; Pillow does not."""
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    opaque = np.full((256, 1), 255, np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("gif", rate=_rate(fps))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "pal8"
        for frame in frames:
            index, palette = frame, grey
            if frame.ndim == 3:
                image = Image.fromarray(frame).quantize(256)
                index, used = np.asarray(image), np.asarray(image.getpalette(), np.uint8).reshape(-1, 3)
                palette = np.zeros((256, 3), np.uint8)
                palette[: len(used)] = used
            argb = np.concatenate([opaque, palette], axis=1)
            indexed: Any = (np.ascontiguousarray(index), argb)  # PyAV's stubs leave the palette out
            picture = av.VideoFrame.from_ndarray(indexed, format="pal8")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def _write_folder(path: Path, frames: UInt8[ndarray, "frames height width *rgb"]) -> None:
    path.mkdir()
    digits = len(str(len(frames)))
    for number, frame in enumerate(frames, start=1):
        Image.fromarray(frame).save(path / f"frame-{number:0{digits}d}.png")
