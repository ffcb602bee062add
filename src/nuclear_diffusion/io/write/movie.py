"""Write what people look at: movies, animated GIFs and folders of PNGs, all with 8 bits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from jaxtyping import Shaped
from numpy import ndarray
from PIL import Image

from nuclear_diffusion.io.levels import EIGHT_BITS
from nuclear_diffusion.io.write.target import Append, Target


def _rate(fps: float) -> Fraction:
    # Small denominators: 1000 / 33.333 ms means 30, and MPEG-4 allows 16 bits.
    return Fraction(fps).limit_denominator(1000) or Fraction(1, 1000)


@contextmanager
def _encoded(container: Any, stream: Any, picture: Callable[[ndarray], av.VideoFrame]) -> Iterator[Append]:
    """Encode the `picture` made of each frame, and at last what the encoder still holds."""

    def append(block: Shaped[ndarray, "frames height width *rgb"]) -> None:
        for frame in EIGHT_BITS.store(block):
            container.mux(stream.encode(picture(frame)))

    yield append
    container.mux(stream.encode(None))


@contextmanager
def write_movie(path: Path, target: Target) -> Iterator[Append]:
    """H.264, or MPEG-4 Part 2 without that encoder; odd sides are padded by one line."""
    height, width = target.shape[1:3]
    pad = [(0, height % 2), (0, width % 2)] + [(0, 0)] * target.colored  # 4:2:0 chroma needs even sides
    h264 = "libx264" in av.codecs_available
    # x264's macroblock tree gives other bits from run to run, and so does another number of threads
    options = {"crf": "14", "preset": "fast", "x264-params": "mbtree=0"} if h264 else {"qscale": "2", "qmin": "1"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264" if h264 else "mpeg4", rate=_rate(target.fps), options=options)
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        if not h264:
            stream.bit_rate = 8 * int(np.prod(target.shape[1:])) * max(1, round(target.fps))

        def picture(frame: ndarray) -> av.VideoFrame:
            even = np.pad(frame, pad, mode="edge")
            rgb = even if even.ndim == 3 else np.repeat(even[..., None], 3, axis=-1)
            return av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")

        with _encoded(container, stream, picture) as append:
            yield append


@contextmanager
def write_ffv1(path: Path, target: Target) -> Iterator[Append]:
    """FFV1 in Matroska, lossless in 8 bits; the archive format of film libraries."""
    with av.open(str(path), "w", format="matroska", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("ffv1", rate=_rate(target.fps), options={"level": "3", "slicecrc": "1"})
        stream.height, stream.width = target.shape[1:3]
        stream.pix_fmt = "bgr0" if target.colored else "gray"
        stream.codec_context.thread_count = 1

        def picture(frame: ndarray) -> av.VideoFrame:
            given = "rgb24" if target.colored else "gray"
            made = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=given)
            return made.reformat(format=stream.pix_fmt)

        with _encoded(container, stream, picture) as append:
            yield append


@contextmanager
def write_gif(path: Path, target: Target) -> Iterator[Append]:
    """GIF through FFmpeg, which keeps identical consecutive frames; Pillow does not."""
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    opaque = np.full((256, 1), 255, np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("gif", rate=_rate(target.fps))
        stream.height, stream.width = target.shape[1:3]
        stream.pix_fmt = "pal8"

        def picture(frame: ndarray) -> av.VideoFrame:
            index, palette = frame, grey
            if frame.ndim == 3:
                image = Image.fromarray(frame).quantize(256)
                index, used = np.asarray(image), np.asarray(image.getpalette(), np.uint8).reshape(-1, 3)
                palette = np.zeros((256, 3), np.uint8)
                palette[: len(used)] = used
            argb = np.concatenate([opaque, palette], axis=1)
            indexed: Any = (np.ascontiguousarray(index), argb)  # PyAV's stubs leave the palette out
            return av.VideoFrame.from_ndarray(indexed, format="pal8")

        with _encoded(container, stream, picture) as append:
            yield append


@contextmanager
def write_pngs(path: Path, target: Target) -> Iterator[Append]:
    """A folder of PNGs, `frame-01.png` and so on."""
    path.mkdir()
    digits = len(str(target.shape[0]))
    written = 0

    def append(block: Shaped[ndarray, "frames height width *rgb"]) -> None:
        nonlocal written
        for frame in EIGHT_BITS.store(block):
            written += 1
            Image.fromarray(frame).save(path / f"frame-{written:0{digits}d}.png")

    yield append
