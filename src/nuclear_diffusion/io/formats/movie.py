"""Movies in any container that PyAV opens: upright, with square pixels, grey ones from their luma plane."""

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.filter import Graph
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from jaxtyping import Shaped, UInt8
from numpy import ndarray
from PIL import Image

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io.clip import Reading
from nuclear_diffusion.io.guard import _quiet, check_size, memory_limit
from nuclear_diffusion.io.stored import Range, Stored, mean_rate

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".wmv", ".asf", ".mpg", ".mpeg", ".vob", ".ts")
SUFFIXES += (".m2ts", ".mts", ".flv", ".3gp", ".3g2", ".ogv", ".ogg", ".mxf", ".nut", ".ivf", ".y4m", ".h264", ".hevc")
SUFFIXES += (".264", ".265", ".m1v", ".m2v", ".mjpeg", ".dv")

# No demuxer of texts that name other files, such as ffconcat, HLS or DASH.
DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,asf,mpeg,mpegvideo,mpegts,flv,live_flv,ogg,mxf,nut,ivf,"
DEMUXERS += "yuv4mpegpipe,h264,hevc,m4v,mjpeg,dv,wtv,rm,obu,av1,h261,h263,vc1,swf,apng,3dostr"

_SLACK = 0.02  # rates that differ by less are the same, rounded to a container's clock


def begins(start: bytes) -> bool:
    """Whether a file begins as one of the usual containers."""
    if start.startswith(b"RIFF"):
        return start[8:12] == b"AVI "
    return (
        start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
        or start.startswith((b"\x1a\x45\xdf\xa3", b"GIF87a", b"GIF89a", b"FLV", b"\x30\x26\xb2\x75", b"OggS", b"DKIF"))
        or start.startswith((b"\0\0\1\xba", b"\0\0\1\xb3", b"YUV4MPEG2"))
    )


def probes(path: Path) -> bool:
    """Whether PyAV finds a video in a file that nothing else recognises."""
    try:
        with _quiet(), path.open("rb") as file, _container(file) as container:
            return bool(container.streams.video)
    except (av.error.FFmpegError, OSError, ValueError):
        return False


def open_movie(path: Path, reading: Reading, data: bytes | None = None) -> Stored:
    """The first video stream of a file, or of `data`, a part of it."""
    return _Movie(path, data, reading).stored()


def _container(file: io.BufferedIOBase) -> Any:
    return av.open(file, "r", options={"format_whitelist": DEMUXERS})


def _films(container: Any) -> list[Any]:
    """The video streams that are no cover picture."""
    return [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]


def _stream(container: Any) -> Any:
    """The first video stream that is no cover picture."""
    stream = (_films(container) or container.streams.video)[0]
    if stream.codec_context.name == "gif":
        stream.codec_context.options = {"trans_color": "0"}  # what is transparent is black, not white
    return stream


class _Movie:
    """A movie that is decoded anew with each pass, and what the passes meet."""

    def __init__(self, path: Path, data: bytes | None, reading: Reading) -> None:
        self.path, self.data, self.reading = path, data, reading
        self.notes: tuple[str, ...] = ()
        self.hidden = 0  # frames that are there only to decode others, before the cut of an edit list

    def open(self) -> io.BufferedIOBase:
        return self.path.open("rb") if self.data is None else io.BytesIO(self.data)

    def stored(self) -> Stored:
        with self.open() as file, _container(file) as container:
            if not container.streams.video:
                raise InputError(f"{self.path} has no video stream: give a clip.")
            stream = _stream(container)
            about = stream.codec_context
            check_size(self.path, (about.height, about.width), 4, memory_limit(self.reading.max_bytes) // 8)
            rate = stream.average_rate or stream.guessed_rate
            kind = f"a movie ({container.format.name.split(',')[0]}, {about.name})"
            first = next(iter(self._decoded(container, stream)), None)
            if first is None or first[0] is None:
                raise InputError(f"{self.path} holds no frames: give a clip.")
            scale, notes = _range_of(first[0]), _seen(first[0], _aspect(stream))
            if (count := len(_films(container))) > 1:
                notes.append(f"The movie has {count} video streams; the first is taken.")
        fps = float(rate) if rate else None
        return Stored(kind, self.frames, fps=fps, range=scale, notes=tuple(notes), found=lambda: self.notes)

    def frames(self) -> Iterator["_Picture"]:
        count, times = 0, []
        converter = VideoReformatter()  # one for all frames: each has threads of its own
        self.notes = ()
        with self.open() as file, _container(file) as container:
            if container.format.name == "gif" and not self._ends(b"\x3b"):
                self.notes += ("The file is cut short; the frames that are there are taken.",)
            stream = _stream(container)
            stream.thread_type = "SLICE"  # a thread for each frame waits for ever for one before it that is damaged
            stated = int(stream.frames)
            if not stated and container.duration and stream.average_rate and self.data is None:
                stated = round(container.duration / av.time_base * float(stream.average_rate))
            aspect = _aspect(stream)
            for frame, end in _deinterlaced(self._decoded(container, stream), stream):
                if frame is not None:
                    count += 1
                    times.append(frame.time)
                    yield _Picture(frame, aspect, converter)
                elif end:
                    self.notes += (end,)
        if None not in times:
            self.notes += mean_rate(times)[1]
        stated -= self.hidden
        if count and not self.notes and count < stated - max(1, _SLACK * stated):
            self.notes += (f"The movie is cut short: {count} of {stated} frames are there; they are taken.",)

    def _ends(self, last: bytes) -> bool:
        """Whether the file ends as it should; zeros may follow."""
        with self.open() as file:
            file.seek(max(0, file.seek(0, io.SEEK_END) - 4096))
            return file.read().rstrip(b"\0").endswith(last)

    def _decoded(self, container: Any, stream: Any) -> Iterator[tuple[VideoFrame | None, str]]:
        """Frames up to the first that is damaged, and at last a note if there was one."""
        count = self.hidden = 0
        try:
            for packet in container.demux(stream):
                if packet.is_corrupt:
                    break
                self.hidden += packet.is_discard
                for frame in packet.decode():
                    if not frame.is_corrupt:
                        count += 1
                        yield frame, ""
            else:
                return
            for frame in stream.codec_context.decode(None):
                count += 1
                yield frame, ""
        except (av.error.FFmpegError, EOFError):
            if not count:
                raise
        yield None, f"The movie is cut short or damaged after frame {count}; what is before it is taken."


def _deinterlaced(
    decoded: Iterator[tuple[VideoFrame | None, str]], stream: Any
) -> Iterator[tuple[VideoFrame | None, str]]:
    """Frames of one moment each: one field of an interlaced frame, the other lines interpolated by yadif."""
    graph: Graph | None = None
    for frame, end in decoded:
        if frame is None:
            yield None, end
        elif graph is None and not frame.interlaced_frame:
            yield frame, ""
        else:
            graph = graph or _yadif(stream)
            graph.push(frame)
            yield from _pulled(graph)
    if graph is not None:
        graph.push(None)
        yield from _pulled(graph)


def _yadif(stream: Any) -> Graph:
    graph = Graph()
    source, filtered = graph.add_buffer(template=stream), graph.add("yadif", "deint=interlaced")
    graph.link_nodes(source, filtered, graph.add("buffersink")).configure()
    return graph


def _pulled(graph: Graph) -> Iterator[tuple[VideoFrame, str]]:
    while True:
        try:
            frame: Any = graph.pull()
        except (BlockingIOError, EOFError):  # it waits for the next frame, or has given all
            return
        yield frame, ""


class _Picture:
    """A movie's frame, converted late."""

    def __init__(self, frame: VideoFrame, aspect: float, converter: VideoReformatter) -> None:
        self.frame, self.aspect, self.converter = frame, aspect, converter
        self.turn = _turn_of(frame)
        height, width = self.size = _square(frame.height, frame.width, aspect)
        self.shape = (width, height) if self.turn[0] else (height, width)
        self.nbytes = sum(plane.buffer_size for plane in frame.planes)

    def spread(self) -> float:
        """Largest difference between the channels of a pixel, in [0, 1]."""
        name = self.frame.format.name
        if name.startswith("gray") or (len(self.frame.format.components) == 1 and not name.startswith("pal")):
            return 0.0
        if not _is_yuv(self.frame):
            rgb = self.rgb()
            return float((rgb.max(-1) - rgb.min(-1)).max()) / 255
        span = 255 if _full(self.frame) else 224
        blue, red = ((_plane(self.frame, k).astype(np.float32) / _unit(self.frame) - 128) / span for k in (1, 2))
        parts = (1.402 * red, -0.344 * blue - 0.714 * red, 1.772 * blue)
        return float((np.maximum.reduce(parts) - np.minimum.reduce(parts)).max())

    def luma(self) -> Shaped[ndarray, "height width"]:
        """Stored brightness: the first plane, or of RGB the green."""
        if _is_yuv(self.frame) or self.frame.format.name.startswith("gray"):
            return self._upright(_plane(self.frame, 0))
        rgb = self.rgb().astype(np.float32)
        return rgb[..., 1] + 0.299 * (rgb[..., 0] - rgb[..., 1]) + 0.114 * (rgb[..., 2] - rgb[..., 1])

    def rgb(self) -> UInt8[ndarray, "height width 3"]:
        """8-bit RGB."""
        return self._upright(self.converter.reformat(self.frame, format="rgb24").to_ndarray())

    def _upright(self, image: ndarray) -> ndarray:
        if image.shape[:2] != self.size:
            image = _resized(image, self.size)
        transposed, down, right = self.turn
        image = image.swapaxes(0, 1) if transposed else image
        image = image[::-1] if down else image
        return np.ascontiguousarray(image[:, ::-1] if right else image)


def _seen(frame: VideoFrame, aspect: float) -> list[str]:
    notes = []
    if abs(aspect - 1) > 1e-3:
        height, width = _square(frame.height, frame.width, aspect)
        notes.append(f"Its pixels are not square; frames are scaled to {height} x {width}.")
    if any(_turn_of(frame)):
        notes.append("The movie is stored turned; it is shown upright.")
    if frame.interlaced_frame:
        notes.append("The movie is interlaced: of each frame, every other line is interpolated.")
    return notes


def _plane(frame: VideoFrame, index: int) -> Shaped[ndarray, "height width"]:
    """A plane of the frame, without the padding of its lines."""
    plane = frame.planes[index]
    deep = frame.format.components[0].bits > 8
    dtype = np.dtype(np.uint8) if not deep else np.dtype(">u2" if frame.format.name.endswith("be") else "<u2")
    data: Any = memoryview(plane)  # pyright: ignore[reportArgumentType]
    lines = np.frombuffer(data, dtype).reshape(-1, plane.line_size // dtype.itemsize)
    return lines[: plane.height, : plane.width]


def _is_yuv(frame: VideoFrame) -> bool:
    return frame.format.name.startswith(("yuv4", "yuvj4", "yuva4"))


def _full(frame: VideoFrame) -> bool:
    return (frame.format.name.startswith(("yuvj", "gray")) and frame.color_range != 1) or frame.color_range == 2


def _unit(frame: VideoFrame) -> int:
    return 2 ** (frame.format.components[0].bits - 8)


def _range_of(frame: VideoFrame) -> Range:
    """Stored values of black and white in the luma plane."""
    if not (_is_yuv(frame) or frame.format.name.startswith("gray")):
        return Range(0, 255)
    bits = frame.format.components[0].bits
    return Range(0, 2**bits - 1) if _full(frame) else Range(16 * _unit(frame), 235 * _unit(frame))


def _aspect(stream: Any) -> float:
    """Width over height of a pixel."""
    ratio = float(stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or 1)
    return ratio if 1 / 8 <= ratio <= 8 else 1.0


def _square(height: int, width: int, aspect: float) -> tuple[int, int]:
    if abs(aspect - 1) <= 1e-3:
        return height, width
    return (height, round(width * aspect)) if aspect > 1 else (round(height / aspect), width)


def _resized(image: ndarray, size: tuple[int, int]) -> ndarray:
    """Bilinear, which does not overshoot."""
    height, width = size
    how = Image.Resampling.BILINEAR
    if image.dtype == np.uint8:
        return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((width, height), how))
    scaled = Image.fromarray(image.astype(np.float32)).resize((width, height), how)
    return np.asarray(scaled).round().astype(image.dtype) if image.dtype.kind == "u" else np.asarray(scaled)


def _turn_of(frame: VideoFrame) -> tuple[bool, bool, bool]:
    """The display matrix, as (transposed, then upside down, then left to right)."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return False, False, False
    a, b, _, c, d = struct.unpack("=9i", bytes(data)[:36])[:5]
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, d < 0, a < 0
    return True, b < 0, c < 0
