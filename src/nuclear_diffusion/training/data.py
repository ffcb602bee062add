"""Pack clips into one bank of 8-bit frames, and draw augmented batches from it."""

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
"""Fraction of the augmented hazy samples that lose their own haze and keep only added haze, if any."""

BRIEF_SHARE = 0.15
"""Fraction of the augmented samples cut to 1 to `BRIEF` successive moments, which show little motion."""

BRIEF = 4


class Bank(NamedTuple):
    """Frames for training and, from other patients, for validation; 0-255.

    Clean frames (frames, height, width), or short clips (clips, moments, 2, height, width) of clean and hazy frames.
    """

    train: UInt8[np.ndarray, "frames *moments_and_kinds height width"]
    val: UInt8[np.ndarray, "more_frames *moments_and_kinds height width"]


def pack_clips(
    clips: Iterable[tuple[str, Shaped[np.ndarray, "*frames_moments_and_kinds height width"]]],
    *,
    size: int = 256,
    val_every: int = 10,
) -> Bank:
    """Fit clips to size x size without distortion; every `val_every`-th patient is held out for validation.

    `clips`: pairs of a patient's name and one frame (height, width), frames (frames, height, width), or short clips of
    clean and hazy frames (clips, moments, 2, height, width), in [0, 1], or 0-255 if uint8. All of a patient's clips
    are on one side of the split. With two or more patients, at least one is for validation.

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
        raise InputError("There is nothing to train on: give at least one clip or image.")
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
    """Augmented batches of `batch` frames; the batch of step k depends only on (seed, k).

    `clips` holds clean frames (kinds = 1) or clean and hazy frames (kinds = 2). A sample is a clean frame and, for a
    conditional denoiser, its inputs: the hazy frame, the frames before and after it, and mean, standard deviation and
    minimum of the hazy clip over time, with the same augmentation. Missing neighbours are replaced by the frame itself.
    """

    clips: UInt8[np.ndarray, "clips moments kinds height width"]
    seed: int
    batch: int
    augment: bool

    @property
    def file(self) -> Path | None:
        """The .npy file of the memory map `clips`; None for frames in memory, or for a part of a file."""
        clips = self.clips
        if not (isinstance(clips, np.memmap) and isinstance(clips.base, mmap.mmap)):
            return None
        return Path(str(clips.filename))

    def at(
        self, step: int, halved: bool = False, ready: int | None = None
    ) -> Float[np.ndarray, "batch planes height width"]:
        """Samples in [0, 1] from the first `ready` clips (None: all); `halved`: four times as many at half the size."""
        rng = np.random.default_rng((self.seed, step))
        among = len(self.clips) if ready is None else ready
        chosen = rng.integers(among, size=self.batch * (4 if halved else 1))
        return np.stack([self._sample(np.asarray(self.clips[i]), halved, rng) for i in chosen])

    def watched(self, count: int) -> Float[np.ndarray, "count planes height width"]:
        """Frames of at most `count` clips, evenly spaced, without augmentation."""
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
    """`Batches.at` in a process that reads the clips from their file.

    In float16 (rounded by at most a sixteenth of a grey level), because transfer limits the training process.
    """
    return Batches(np.load(file, mmap_mode="r"), seed, batch, augment).at(step, halved, ready).astype(np.float16)


def batch_workers(count: int) -> ProcessPoolExecutor:
    """Processes for `batch_of_file` that do not use the GPU and ignore Ctrl-C."""
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), initializer=_start_worker)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    jax.config.update("jax_platforms", "cpu")


def _moments(moment: int, over: Shaped[np.ndarray, " some"], count: int) -> Shaped[np.ndarray, " planes"]:
    """`moment`, the ones before and after it (clipped to `count`), and the frames that temporal statistics are over."""
    return np.array([moment, max(moment - 1, 0), min(moment + 1, count - 1), *over])


def _planes(
    clip: UInt8[np.ndarray, "moments kinds height width"], moments: Shaped[np.ndarray, " some"], *, hazy: bool = True
) -> UInt8[np.ndarray, "planes h w"]:
    """The clean frame of the first of `moments` and, for pairs, the hazy (or else clean) frames of all."""
    clean = clip[moments[0], :1]
    return clean if clip.shape[1] == 1 else np.concatenate([clean, clip[moments, int(hazy)]])


def _shown(planes: Float[np.ndarray, "planes h w"]) -> Float[np.ndarray, "kinds h w"]:
    """Clean frame, hazy frame, the ones before and after, and the temporal statistics of the hazy frames."""
    return planes if len(planes) == 1 else np.stack([*planes[:4], *over_time(planes[4:])])


def _halved(planes: UInt8[np.ndarray, "planes height width"]) -> UInt8[np.ndarray, "planes h w"]:
    """Mean of each 2 x 2 patch, rounded; an odd last line is dropped."""
    height, width = (side // 2 for side in planes.shape[1:])
    patches = planes[:, : 2 * height, : 2 * width].reshape(-1, height, 2, width, 2)
    return ((patches.sum((2, 4), dtype=np.uint16) + 2) // 4).astype(np.uint8)
