"""Clips to one bank of 8-bit frames, and the bank to augmented batches."""

import dataclasses
import mmap
import multiprocessing
import signal
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.priors.diffusion_prior import over_time
from nuclear_diffusion.training.augmentation import augmented, moved

BARE_SHARE = 0.3
"""Of the augmented samples with haze that lose it, so that what is laid over them is all the haze, if any is."""

BRIEF_SHARE = 0.15
"""Of the augmented samples that are cut to a few successive moments, down to a still: time tells little of them."""

BRIEF = 4
"""At most so many moments."""


class Bank(NamedTuple):
    """Frames for training and, of other patients, for validation; 0-255.

    Clean frames (frames, height, width), or short clips (clips, moments, 2, height, width) of clean and hazy ones.
    """

    train: UInt8[np.ndarray, "frames *moments_and_kinds height width"]
    val: UInt8[np.ndarray, "more_frames *moments_and_kinds height width"]


def pack_clips(
    clips: Iterable[tuple[str, Shaped[np.ndarray, "frames *moments_and_kinds height width"]]],
    *,
    size: int = 256,
    val_every: int = 10,
) -> Bank:
    """Fit clips to size x size without distortion; every `val_every`-th patient is kept for validation.

    `clips`: pairs of a patient's (or clip's) name and frames in [0, 1], or 0-255 if uint8; or one frame
    (height, width), or short clips of clean and hazy frames (clips, moments, 2, height, width), alike for all; clips
    under one name stay on one side of the split. Of two patients or more at least one is for validation.

    Raises InputError if there is no clip, or values are not finite or outside [0, 1].
    """
    packed: dict[str, list[np.ndarray]] = {}
    for patient, clip in clips:
        clip = np.asarray(clip)
        clip = clip[None] if clip.ndim == 2 else clip
        if clip.ndim not in (3, 5) or clip.size == 0:
            raise InputError(f"Clip {patient!r} must have shape (frames, height, width), got {clip.shape}.")
        if clip.dtype != np.uint8 and (not np.isfinite(clip).all() or clip.min() < 0 or clip.max() > 1):
            raise InputError(f"Clip {patient!r} must hold finite intensities in [0, 1]: scale it first.")
        fitting = clip.dtype == np.uint8 and clip.shape[-2:] == (size, size)
        packed.setdefault(patient, []).append(clip if fitting else _letterboxed(clip, size))
    if not packed:
        raise InputError("There is nothing to train on: no clip and no image was given.")
    patients = list(packed)
    held_out = set(patients[val_every - 1 :: val_every]) or set(patients[1:][-1:])
    empty = packed[patients[0]][0][:0]
    train = [clip for patient in patients if patient not in held_out for clip in packed[patient]]
    val = [clip for patient in patients if patient in held_out for clip in packed[patient]]
    return Bank(np.concatenate(train), np.concatenate(val) if val else empty)


def _letterboxed(
    clip: Shaped[np.ndarray, "frames *moments_and_kinds height width"], size: int
) -> UInt8[np.ndarray, "frames *moments_and_kinds size size"]:
    clip = clip / np.float32(255) if clip.dtype == np.uint8 else clip
    flat = clip.reshape(-1, *clip.shape[-2:])
    return np.stack([letterbox(frame, size) for frame in flat]).reshape(*clip.shape[:-2], size, size)


def letterbox(frame: Float[np.ndarray, "height width"], size: int) -> UInt8[np.ndarray, "size size"]:
    """Scale a frame in [0, 1] by one factor to fit size x size, centred on black, as 0-255."""
    height, width = frame.shape
    ratio = size / max(height, width)
    rows, columns = max(1, round(height * ratio)), max(1, round(width * ratio))
    if (rows, columns) != frame.shape:
        image = Image.fromarray(np.ascontiguousarray(frame, np.float32))
        frame = np.asarray(image.resize((columns, rows), Image.Resampling.BICUBIC))
    out = np.zeros((size, size), np.uint8)
    top, left = (size - rows) // 2, (size - columns) // 2
    out[top : top + rows, left : left + columns] = np.rint(255 * np.clip(frame, 0, 1))
    return out


@dataclasses.dataclass(frozen=True)
class Batches:
    """Augmented batches of `batch` frames; that of step k depends on (seed, k) alone.

    `clips` holds clean frames (kinds = 1) or clean and hazy ones (kinds = 2). A sample is a clean frame, and with it
    what a haze-aware network is shown: the hazy frame, those of the moments before and after, and mean, standard
    deviation and minimum of the hazy clip over time, after the same augmentation. The first and the last moment are
    their own neighbours.
    """

    clips: UInt8[np.ndarray, "clips moments kinds height width"]
    seed: int
    batch: int
    augment: bool

    @property
    def file(self) -> Path | None:
        """The .npy file that `clips` is the memory map of; None for frames in memory, or a part of a file."""
        clips = self.clips
        if not (isinstance(clips, np.memmap) and isinstance(clips.base, mmap.mmap)):
            return None
        return Path(str(clips.filename))

    def at(
        self, step: int, halved: bool = False, ready: int | None = None
    ) -> Float[np.ndarray, "batch planes height width"]:
        """Frames in [0, 1], or four times as many at half their size, of the first `ready` clips (None: of all)."""
        rng = np.random.default_rng((self.seed, step))
        among = len(self.clips) if ready is None else ready
        chosen = rng.integers(among, size=self.batch * (4 if halved else 1))
        return np.stack([self._sample(np.asarray(self.clips[i]), halved, rng) for i in chosen])

    def watched(self, count: int) -> Float[np.ndarray, "count planes height width"]:
        """Whole frames of `count` clips, evenly chosen, as they are; of fewer if there are not as many."""
        chosen = np.linspace(0, len(self.clips) - 1, min(count, len(self.clips))).astype(int)
        over = np.arange(self.clips.shape[1])
        shown = (_moments(n % len(over), over, len(over)) for n in range(len(chosen)))
        planes = (_planes(np.asarray(self.clips[i]), moments) for i, moments in zip(chosen, shown, strict=True))
        return np.stack([_shown(frames.astype(np.float32) / 255) for frames in planes])

    def _sample(self, clip: np.ndarray, halved: bool, rng: np.random.Generator) -> np.ndarray:
        brief = self.augment and rng.random() < BRIEF_SHARE
        if brief:
            length = min(int(rng.integers(1, BRIEF + 1)), len(clip))
            first = rng.integers(len(clip) - length + 1)
            clip = clip[first : first + length]
        moment, over = int(rng.integers(len(clip))), np.arange(len(clip))
        if self.augment and not brief and len(over) > 3 and rng.random() < 0.5:
            over = rng.permutation(over)[: rng.integers(3, len(over))]  # few moments, far apart
        moments = _moments(moment, over, len(clip))
        planes = _planes(clip, moments, hazy=not self.augment or rng.random() > BARE_SHARE)
        if halved:
            planes = _halved(planes)
        if not self.augment:
            return _shown(planes.astype(np.float32) / 255)
        return _shown(augmented(moved(planes, rng), moments, len(clip), rng))


def batch_of_file(
    file: Path, seed: int, batch: int, augment: bool, step: int, halved: bool, ready: int | None
) -> Float[np.ndarray, "batch planes height width"]:
    """`Batches.at`, for a process that has not got the clips but the file that they are in.

    In half precision, to a sixteenth of a grey level: the process that trains spends its time on taking batches over.
    """
    return Batches(np.load(file, mmap_mode="r"), seed, batch, augment).at(step, halved, ready).astype(np.float16)


def batch_workers(count: int) -> ProcessPoolExecutor:
    """Processes for `batch_of_file`, which leave the GPU alone, and Ctrl-C to their parent."""
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), initializer=_start_worker)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    jax.config.update("jax_platforms", "cpu")


def _moments(moment: int, over: Shaped[np.ndarray, " some"], count: int) -> Shaped[np.ndarray, " planes"]:
    """`moment` of `count`, the ones before and after it (at an end itself), and those that time is told from."""
    return np.array([moment, max(moment - 1, 0), min(moment + 1, count - 1), *over])


def _planes(
    clip: UInt8[np.ndarray, "moments kinds height width"], moments: Shaped[np.ndarray, " some"], *, hazy: bool = True
) -> UInt8[np.ndarray, "planes h w"]:
    """The clean frame of the first of `moments`; where there are hazy ones, then those of all of them.

    Clean ones in their place where not `hazy`.
    """
    clean = clip[moments[0], :1]
    return clean if clip.shape[1] == 1 else np.concatenate([clean, clip[moments, int(hazy)]])


def _shown(planes: Float[np.ndarray, "planes h w"]) -> Float[np.ndarray, "kinds h w"]:
    """Clean frame, hazy frame, the ones before and after, and the hazy frames over time."""
    return planes if len(planes) == 1 else np.stack([*planes[:4], *over_time(planes[4:])])


def _halved(planes: UInt8[np.ndarray, "planes height width"]) -> UInt8[np.ndarray, "planes h w"]:
    """Mean of each 2 x 2 patch, rounded; an odd last line is left out."""
    height, width = (side // 2 for side in planes.shape[1:])
    patches = planes[:, : 2 * height, : 2 * width].reshape(-1, height, 2, width, 2)
    return ((patches.sum((2, 4), dtype=np.uint16) + 2) // 4).astype(np.uint8)
