"""Dehaze one clip: find its images, fit them to the prior's grid, separate, and map the haze back."""

import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import Clip
from nuclear_diffusion.io.recording import Recording
from nuclear_diffusion.memory import return_freed, return_large
from nuclear_diffusion.paper.windows import Once, Queue
from nuclear_diffusion.priors.protocol import Prior
from nuclear_diffusion.restore.color import recolored
from nuclear_diffusion.restore.frames import Survey, blocks_of, survey
from nuclear_diffusion.restore.layout import Layout
from nuclear_diffusion.restore.methods import Job, Method, Part, keep_nothing
from nuclear_diffusion.restore.render import STRENGTH, render
from nuclear_diffusion.sector import Fit
from nuclear_diffusion.types import Mask, Progress

PRIOR_SIZE = 256  # height and width in pixels of the frames that the shipped prior was trained on
PIECE = 16  # most frames that are mapped back at once
TIDY = 4 * PIECE  # frames after which freed memory is returned

log = logging.getLogger(__name__)

Kept = Callable[[str, type, int], Once[Any] | None]
"""Where finished windows are kept; see `methods.Job`."""


class Dehazed(NamedTuple):
    """A separated clip at its own resolution, with intensities in [0, 1]."""

    signal: Float32[ndarray, "frames height width"]
    """The clip without haze; equal to the clip outside the sector."""

    background: Float32[ndarray, "frames height width"]
    """L, the haze; 0 outside the sector."""

    color: Float32[ndarray, "frames height width 3"] | None
    """`signal` in RGB, for a colour clip."""

    sector: Mask
    """Pixels of the ultrasound image; all others are unchanged."""

    seconds: float
    """Wall-clock time of the separation, including compilation."""

    share: Float32[ndarray, "frames height width"] | None = None
    """Haze fraction in [0, 1], 0 outside the sector, as `rendered` needs it; only from `Nuclear`."""

    mean: Float32[ndarray, "frames height width"] | None = None
    """Posterior mean E[X | Y], smooth like the prior's grid, 0 outside the sector; only from `Nuclear`."""

    draws_mean: Float32[ndarray, "frames height width"] | None = None
    """Mean of the signal's posterior samples, if any were drawn."""

    draws_deviation: Float32[ndarray, "frames height width"] | None = None
    """Standard deviation of these samples; 0 outside the sector."""

    @property
    def pixels(self) -> Float32[ndarray, "frames height width *rgb"]:
        """The signal in colour for a colour clip."""
        return self.signal if self.color is None else self.color


class Piece(NamedTuple):
    """Consecutive frames of a clip and what was found in them."""

    clip: Clip
    dehazed: Dehazed


def dehaze_clip(
    clip: Clip,
    method: Method,
    prior: Prior | None = None,
    *,
    size: int = PRIOR_SIZE,
    sector: Mask | None = None,
    progress: Progress | None = None,
) -> Dehazed:
    """Separate one clip and return the parts at the clip's resolution.

    Each image, such as the planes of a biplane clip, is scaled without distortion to `size` x `size` pixels and
    separated there. Only smooth fields are scaled back, so that speckle finer than the prior's grid is kept: the haze
    fraction (`Nuclear`), which dims a pixel, or the haze (other methods), which is subtracted. Text, traces and Doppler
    colour are hidden from the prior and stay as they are; colours keep their hue. Black frames come back as they were,
    and frames that repeat the one before as it does; neither takes part in the separation.

    `prior` may be None for a method without one (`Rpca`). `sector` (h, w) is the sector if it is known. Results are
    bit-identical for the same settings on the same machine. Raises `InputError` for a clip that cannot be separated.
    """
    if not isinstance(clip, Clip):
        got = type(clip).__name__
        raise InputError(f"`clip` must come from `nd.read_video(path)`, got {got}: for an array use `nd.estimate`.")
    start = time.perf_counter()
    recording = Recording.of(clip)
    pieces = dehaze_recording(recording, survey(recording), method, prior, size=size, sector=sector, progress=progress)
    return joined(pieces)._replace(seconds=time.perf_counter() - start)


def joined(pieces: Iterable[Piece]) -> Dehazed:
    """The whole result of consecutive pieces."""
    parts = [piece.dehazed for piece in pieces]

    def whole(name: str) -> ndarray | None:
        arrays = [getattr(part, name) for part in parts]
        return None if arrays[0] is None else np.concatenate(arrays)

    arrays: dict[str, Any] = {name: whole(name) for name in Dehazed._fields if name not in ("sector", "seconds")}
    return parts[-1]._replace(**arrays)


def dehaze_recording(
    recording: Recording,
    seen: Survey,
    method: Method,
    prior: Prior | None = None,
    *,
    size: int = PRIOR_SIZE,
    sector: Mask | None = None,
    progress: Progress | None = None,
    kept: Kept = keep_nothing,
) -> Iterator[Piece]:
    """`dehaze_clip` of a clip of any length, a few frames at a time, in order, as windows are finished.

    Memory is that of a few windows, whatever the length. The clip is decoded twice: for the prior's grid, and when the
    haze is mapped back. `seen`: the recording's `survey`. `kept`: see `methods.Job`.
    """
    check_separable(recording, seen, method)
    return_large()
    for note in seen.notes:
        log.warning("%s: %s", recording.source, note)
    clock, spent = time.perf_counter(), 0.0
    layout = Layout.find(seen.looks, size, sector)

    def fitted(fit: Fit) -> Iterator[ndarray]:
        for start, block in blocks_of(recording):
            new = seen.takes_part[start : start + len(block)]
            if new.any():
                yield fit.forward(layout.beneath(block.frames, layout.overlay(block))[new])

    done = [0] * len(layout.fits)

    def job_of(image: int, fit: Fit) -> Job:
        def tell(count: int, total: int) -> None:
            done[image] = count
            if progress is not None:
                progress(sum(done), total * len(done))

        def named(stage: str, kind: type, windows: int) -> Once[Any] | None:
            return kept(f"{image}-{stage}", kind, windows)

        told = None if progress is None else tell
        return Job(fitted(fit), int(seen.takes_part.sum()), prior, fit.mask, told, named)

    images = [_AllFrames(method.parts(job_of(*each)), seen) for each in enumerate(layout.fits)]
    for start, clip in blocks_of(recording, PIECE):
        parts = [image.take(range(start, start + len(clip))) for image in images]
        dehazed = _mapped_back(clip, parts, layout, method)
        spent += time.perf_counter() - clock
        yield Piece(clip, dehazed._replace(seconds=spent))
        clock = time.perf_counter()
        if start % TIDY == 0:
            return_freed()


class _AllFrames:
    """The parts of an image for all frames: of black frames 0, of repeated frames that of the frame before."""

    def __init__(self, parts: Iterator[Part], seen: Survey):
        self._parts, self._seen = parts, seen
        self._waiting = Queue()
        first = next(parts)
        self._names = [name for name, array in first._asdict().items() if array is not None]
        self._before = [np.zeros_like(getattr(first, name)[:1]) for name in self._names]
        self._put(first)

    def _put(self, part: Part) -> None:
        self._waiting.put(*(getattr(part, name) for name in self._names))

    def take(self, frames: range) -> Part:
        """The next frames, which are `frames` of the clip."""
        takes_part, black = (flags[frames.start : frames.stop] for flags in (self._seen.takes_part, self._seen.black))
        new, known = int(takes_part.sum()), self._before
        while len(self._waiting) < new:
            self._put(next(self._parts))
        if new:
            taken = self._waiting.take(new)
            known = [np.concatenate(arrays) for arrays in zip(self._before, taken, strict=True)]
        arrays = [array[np.cumsum(takes_part)] for array in known]
        for array in arrays:
            array[black] = 0
        self._before = [array[-1:] for array in known]
        return Part(**dict(zip(self._names, arrays, strict=True)))


def _mapped_back(clip: Clip, parts: list[Part], layout: Layout, method: Method) -> Dehazed:
    """Some frames at the clip's own resolution, from the parts of each image."""

    def whole(name: str) -> ndarray | None:
        """The images' fields in one frame, 0 elsewhere."""
        found = zip(layout.fits, (getattr(part, name) for part in parts), strict=True)
        fields = [fit.backward(field) for fit, field in found if field is not None]
        if name in ("background", "share", "mean"):
            fields = [np.clip(field, 0, 1) for field in fields]
        return functools.reduce(np.add, fields) if fields else None

    overlay = layout.overlay(clip)
    background, haze, share, mean, draws_haze, deviation = map(whole, Part._fields)
    assert background is not None
    dehazed = Dehazed(clip.frames, background, None, layout.sector, 0.0, share, mean)
    if share is not None:
        share[overlay] = 0
        dehazed = rendered(clip, dehazed, getattr(method, "strength", STRENGTH))
    elif haze is not None:
        haze[overlay] = 0
        dehazed = _with_signal(clip, dehazed, _subtract(clip.frames, haze))
    if draws_haze is not None and deviation is not None:
        draws_haze[overlay] = 0
        mean = _subtract(clip.frames, draws_haze)
        dehazed = dehazed._replace(draws_mean=mean, draws_deviation=np.maximum(deviation, 0))
    return dehazed


def rendered(clip: Clip, dehazed: Dehazed, strength: float) -> Dehazed:
    """Render the same estimate at another `strength`. Raises `InputError` without a haze fraction, or as `render`."""
    if dehazed.share is None:
        raise InputError("The result holds no haze fraction to render: give a result of method nuclear.")
    return _with_signal(clip, dehazed, render(clip.frames, dehazed.share, strength))


def _with_signal(clip: Clip, dehazed: Dehazed, signal: Float32[ndarray, "frames height width"]) -> Dehazed:
    color = None if clip.color is None else recolored(clip.color, clip.frames, signal)
    return dehazed._replace(signal=signal, color=color)


def check_separable(recording: Recording, seen: Survey, method: Method) -> None:
    """Raise `InputError` for a static clip if the method distinguishes haze from tissue by motion."""
    if method.moving and seen.takes_part.sum() < 2:
        raise InputError(
            f"{recording.source} does not move (one frame, or identical frames), and method {method.name} needs "
            "motion: give a moving clip, or use --method nuclear."
        )


def _subtract(image: ndarray, haze: ndarray) -> ndarray:
    """`image - haze`, clipped to [0, 1]; outside the sector the haze is 0 and the image unchanged."""
    difference = image - haze
    return np.clip(difference, 0, 1, out=difference)
