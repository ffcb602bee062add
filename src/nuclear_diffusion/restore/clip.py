"""Dehaze one clip: find the sector, fit it to the prior's grid, separate, and map the haze back."""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import Clip, Fit
from nuclear_diffusion.io.recording import Recording
from nuclear_diffusion.paper.windows import Once, Queue
from nuclear_diffusion.priors.protocol import Prior
from nuclear_diffusion.restore.frames import Survey, blocks_of, survey
from nuclear_diffusion.restore.methods import Job, Method, Part, Progress, keep_nothing
from nuclear_diffusion.restore.render import STRENGTH, render
from nuclear_diffusion.types import Mask

PRIOR_SIZE = 256
"""Height and width in pixels of the frames that the shipped prior was trained on."""

PIECE = 16
"""Most frames that are mapped back at once."""

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
    progress: Progress | None = None,
) -> Dehazed:
    """Separate one clip and return the parts at the clip's resolution.

    The sector is scaled without distortion to `size` x `size` pixels and separated there. Only smooth fields are scaled
    back, so that speckle finer than the prior's grid is kept: the haze fraction (`Nuclear`), which dims all channels of
    a pixel alike, or the haze (other methods), which is subtracted. Black frames come back as they were, and frames
    that repeat the one before as it does; neither takes part in the separation.

    `prior` may be None for a method without one (`Rpca`). Results are bit-identical for the same settings on the same
    machine. Raises `InputError` for a clip that cannot be separated.
    """
    start = time.perf_counter()
    recording = Recording.of(clip)
    pieces = dehaze_recording(recording, survey(recording), method, prior, size=size, progress=progress)
    parts = [piece.dehazed for piece in pieces]
    seconds = time.perf_counter() - start

    def whole(name: str) -> ndarray | None:
        arrays = [getattr(part, name) for part in parts]
        return None if arrays[0] is None else np.concatenate(arrays)

    joined = {name: whole(name) for name in Dehazed._fields if name not in ("sector", "seconds")}
    return parts[0]._replace(seconds=seconds, **joined)


def dehaze_recording(
    recording: Recording,
    seen: Survey,
    method: Method,
    prior: Prior | None = None,
    *,
    size: int = PRIOR_SIZE,
    progress: Progress | None = None,
    kept: Kept = keep_nothing,
) -> Iterator[Piece]:
    """`dehaze_clip` of a clip of any length, a few frames at a time, in order, as windows are finished.

    Memory is that of a few windows, whatever the length. The clip is decoded twice: for the prior's grid, and when the
    haze is mapped back. `seen`: the recording's `survey`. `kept`: see `methods.Job`.
    """
    check_separable(recording, seen, method)
    clock = time.perf_counter()
    fit = Fit.to_prior(seen.sector, size)
    fitted = (
        fit.forward(block.frames[some])
        for start, block in blocks_of(recording)
        if (some := seen.takes_part[start : start + len(block)]).any()
    )
    job = Job(fitted, int(seen.takes_part.sum()), prior, fit.mask, progress, kept)
    parts = _for_all_frames(method.parts(job), recording, seen)
    spent = 0.0
    for clip, part in parts:
        dehazed = _mapped_back(clip, part, fit, method)
        spent += time.perf_counter() - clock
        yield Piece(clip, dehazed._replace(seconds=spent))
        clock = time.perf_counter()


def _for_all_frames(parts: Iterator[Part], recording: Recording, seen: Survey) -> Iterator[tuple[Clip, Part]]:
    """The recording in blocks, each with its part: of black frames 0, of repeated frames that of the frame before."""
    waiting, first = Queue(), next(parts)
    names = [name for name, array in first._asdict().items() if array is not None]
    before = [np.zeros_like(getattr(first, name)[:1]) for name in names]
    parts = itertools.chain([first], parts)
    for start, clip in blocks_of(recording, PIECE):
        takes_part, black = (flags[start : start + len(clip)] for flags in (seen.takes_part, seen.black))
        new = int(takes_part.sum())
        while len(waiting) < new:
            part = next(parts)
            waiting.put(*(getattr(part, name) for name in names))
        known = [np.concatenate(arrays) for arrays in zip(before, waiting.take(new), strict=True)] if new else before
        arrays = [array[np.cumsum(takes_part)] for array in known]
        for array in arrays:
            array[black] = 0
        before = [array[-1:] for array in known]
        yield clip, Part(**dict(zip(names, arrays, strict=True)))
    for _ in parts:  # its last words to `progress`
        pass


def _mapped_back(clip: Clip, part: Part, fit: Fit, method: Method) -> Dehazed:
    """Some frames at the clip's own resolution."""
    background = np.clip(fit.backward(part.background), 0, 1)
    if part.share is None or part.mean is None:
        assert part.haze is not None
        haze = fit.backward(part.haze)
        color = None if clip.color is None else _subtract(clip.color / np.float32(255), haze[..., None])
        return Dehazed(_subtract(clip.frames, haze), background, color, fit.source, 0.0)
    share, mean = (np.clip(fit.backward(array), 0, 1) for array in (part.share, part.mean))
    estimated = Dehazed(clip.frames, background, None, fit.source, 0.0, share, mean)
    dehazed = rendered(clip, estimated, getattr(method, "strength", STRENGTH))
    if part.draws_haze is None or part.draws_deviation is None:
        return dehazed
    return dehazed._replace(
        draws_mean=_subtract(clip.frames, fit.backward(part.draws_haze)),
        draws_deviation=np.maximum(fit.backward(part.draws_deviation), 0),
    )


def rendered(clip: Clip, dehazed: Dehazed, strength: float) -> Dehazed:
    """Render the same estimate at another `strength`. Raises `InputError` without a haze fraction, or as `render`."""
    if dehazed.share is None:
        raise InputError("The result holds no haze fraction to render: give a result of method nuclear.")
    color = None if clip.color is None else render(clip.color / np.float32(255), dehazed.share, strength)
    return dehazed._replace(signal=render(clip.frames, dehazed.share, strength), color=color)


def check_separable(recording: Recording, seen: Survey, method: Method) -> None:
    """Raise `InputError` for a static clip if the method distinguishes haze from tissue by motion."""
    if method.moving and seen.takes_part.sum() < 2:
        raise InputError(
            f"{recording.source} does not move (one frame, or identical frames) and --method {method.name} needs "
            "motion: give a moving clip, or use --method nuclear."
        )


def _subtract(image: ndarray, haze: ndarray) -> ndarray:
    """`image - haze`, clipped to [0, 1]; outside the sector the haze is 0 and the image unchanged."""
    difference = image - haze
    return np.clip(difference, 0, 1, out=difference)
