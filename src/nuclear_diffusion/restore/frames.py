"""Which frames of a clip take part: those that hold an image, each once."""

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32
from numpy import ndarray

from nuclear_diffusion.io import Clip
from nuclear_diffusion.io.recording import Recording
from nuclear_diffusion.types import evenly

VISIBLE = 8 / 255  # intensity above black, and above its flicker in lossy clips
FILLED = 0.05  # A frame with fewer visible pixels than this fraction of the fullest frame's holds no image
LOOKED_AT = 8, 48  # frames, evenly picked, in which the sector is searched: fewest and most, by their size
BLOCK_BYTES = 2**25  # largest block of frames that is decoded at once
HELD_BYTES = 2**28  # largest clip that is held in memory, so that it is decoded once


class Survey(NamedTuple):
    """What has to be known of a whole clip before its first window is separated."""

    sha256: str  # hash of the frames; see `fingerprint`
    looks: Clip  # about 48 frames, evenly picked, in which the layout is searched
    # frames to separate; the others are black, or repeat the frame before and come back as it does
    takes_part: Bool[ndarray, " frames"]
    black: Bool[ndarray, " frames"]  # frames without an image, which come back as they were

    @property
    def notes(self) -> list[str]:
        """What a reader of the result should know, in sentences."""
        notes, black, repeated = [], int(self.black.sum()), int((~self.takes_part & ~self.black).sum())
        if black:
            notes.append(f"Frames without an image, which are as they were: {black}.")
        if repeated:
            notes.append(f"Frames that repeat the one before and count once: {repeated}.")
        if self.takes_part.sum() == 1:
            notes.append("A single image: it was dehazed without motion to tell haze from tissue by.")
        return notes


def survey(recording: Recording) -> Survey:
    """Look at all frames once, a few at a time: hash, black and repeated frames, and some to look for the sector in."""
    count = len(recording)
    shape = (*recording.shape, 3) if recording.colored else recording.shape
    digest = hashlib.sha256(str(shape).encode())
    most = np.clip(HELD_BYTES // (4 * recording.shape[1] * recording.shape[2]), *LOOKED_AT)
    picked = set(evenly(count, int(most)).tolist())
    visible, repeated = np.zeros(count, int), np.zeros(count, bool)
    looked_at: list[tuple[int, Clip]] = []
    before: Float32[ndarray, "height width"] | None = None
    for start, block in blocks_of(recording):
        digest.update(np.ascontiguousarray(block.pixels).data)
        for number, frame in enumerate(block.frames, start):
            visible[number] = np.count_nonzero(frame > VISIBLE)
            repeated[number] = before is not None and np.array_equal(frame, before)
            before = frame
            if number in picked:
                one = slice(number - start, number - start + 1)
                color = None if block.color is None else block.color[one].copy()
                look = dataclasses.replace(block, frames=block.frames[one].copy(), color=color, files=None)
                looked_at.append((number, look))
    black = visible < FILLED * visible.max()
    looks = [look for number, look in looked_at if not black[number]] or [look for _, look in looked_at]
    color = np.concatenate([look.color for look in looks if look.color is not None]) if recording.colored else None
    clip = dataclasses.replace(looks[0], frames=np.concatenate([look.frames for look in looks]), color=color)
    return Survey(digest.hexdigest(), clip, ~black & ~repeated, black)


def fingerprint(clip: Clip) -> str:
    """SHA-256 of the clip's frames, to recognise a result of the same clip."""
    digest = hashlib.sha256(str(clip.pixels.shape).encode())
    digest.update(np.ascontiguousarray(clip.pixels).data)
    return digest.hexdigest()


def blocks_of(recording: Recording, longest: int = 64) -> Iterator[tuple[int, Clip]]:
    """Consecutive blocks of at most `longest` frames and `BLOCK_BYTES`, each after the number of its first frame."""
    _, height, width = recording.shape
    start = 0
    for block in recording.blocks(int(np.clip(BLOCK_BYTES // (4 * height * width), 1, longest))):
        yield start, block
        start += len(block)


def held(recording: Recording) -> Recording:
    """The recording, in memory if it is short."""
    size = int(np.prod(recording.shape, dtype=np.int64)) * (7 if recording.colored else 4)
    return Recording.of(recording.read()) if size <= HELD_BYTES else recording


class Judge:
    """Tells of the frames of a live source, one after another, which hold a new image."""

    def __init__(self):
        self._fullest = 0
        self._before: Float[ndarray, "height width"] | None = None

    def __call__(self, frame: Float[ndarray, "height width"]) -> str:
        """`"new"`, `"repeated"` or `"black"`."""
        visible = np.count_nonzero(frame > VISIBLE)
        self._fullest = max(self._fullest, visible)
        if visible < FILLED * self._fullest or not visible:
            return "black"
        same = self._before is not None and np.array_equal(frame, self._before)
        self._before = frame
        return "repeated" if same else "new"
