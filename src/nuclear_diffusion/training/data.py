"""Pack clips into one bank of 8-bit frames."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.types import eight_bits


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
    out[top : top + rows, left : left + columns] = eight_bits(frame)
    return out
