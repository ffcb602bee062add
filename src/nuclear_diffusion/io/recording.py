"""A clip of any length, decoded block by block."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nuclear_diffusion.io.levels import Levels
from nuclear_diffusion.io.read import Clip, read_video
from nuclear_diffusion.io.regions import Regions
from nuclear_diffusion.types import Mask


@dataclass(frozen=True, eq=False)
class Recording:
    """A clip that is decoded as it is needed, from the start, as often as it is needed.

    Attributes:
        shape: (frames, height, width).
        fps: frames per second; 30 if the file does not say.
        colored: whether the input is in colour.
        region: as in `Clip`.
        name: as in `Clip`.
        source: the path as given.
        files: as in `Clip`.
        levels: as in `Clip`.
        decode: called with a length, decodes the clip in consecutive blocks of at most this many frames.
    """

    shape: tuple[int, int, int]
    fps: float
    colored: bool
    region: Mask | Regions | None
    name: str
    source: Path
    decode: Callable[[int], Iterator[Clip]]
    files: tuple[Path, ...] | None = None
    levels: Levels | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def blocks(self, length: int) -> Iterator[Clip]:
        """Consecutive clips of `length` frames, the last one shorter; decoding starts anew with each call."""
        return self.decode(length)

    def read(self) -> Clip:
        """The whole clip in memory."""
        parts = list(self.blocks(len(self)))
        if len(parts) == 1:
            return parts[0]
        frames = np.concatenate([part.frames for part in parts])
        color = np.concatenate([part.color for part in parts if part.color is not None]) if self.colored else None
        return Clip(frames, self.fps, color, self.region, self.name, self.source, self.files, self.levels)

    @classmethod
    def of(cls, clip: Clip) -> "Recording":
        """A recording of a clip that is in memory."""

        def decode(length: int) -> Iterator[Clip]:
            for start in range(0, len(clip), length):
                part = slice(start, start + length)
                color = None if clip.color is None else clip.color[part]
                yield dataclasses.replace(
                    clip, frames=clip.frames[part], color=color, files=clip.files and clip.files[part]
                )

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
        )


def open_clip(path: str | Path) -> Recording:
    """Open a clip in any supported format without holding all of it; formats and errors as in `read_video`."""
    return Recording.of(read_video(path))
