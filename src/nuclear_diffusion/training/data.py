"""Pack clips into one bank of 8-bit frames."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8


class Bank(NamedTuple):
    """Frames for training and, from other patients, for validation; 0-255.

    Clean frames (frames, height, width), or short clips (clips, moments, 2, height, width) of clean and hazy frames.
    """

    train: UInt8[np.ndarray, "frames *moments_and_kinds height width"]
    val: UInt8[np.ndarray, "more_frames *moments_and_kinds height width"]


def pack_clips(
    clips: Iterable[tuple[str, UInt8[np.ndarray, "frames *moments_and_kinds height width"]]], *, val_every: int = 10
) -> Bank:
    """One bank of at least one clip; every `val_every`-th patient is held out for validation.

    `clips`: pairs of a patient's name and frames, or short clips of clean and hazy frames, as in `Bank`. All of a
    patient's clips are on one side of the split. With two or more patients, at least one is for validation.
    """
    packed: dict[str, list[np.ndarray]] = {}
    for patient, clip in clips:
        packed.setdefault(patient, []).append(clip)
    patients = list(packed)
    held_out = set(patients[val_every - 1 :: val_every]) or set(patients[1:][-1:])
    empty = packed[patients[0]][0][:0]
    train = [clip for patient in patients if patient not in held_out for clip in packed[patient]]
    val = [clip for patient in patients if patient in held_out for clip in packed[patient]]
    return Bank(np.concatenate(train), np.concatenate(val) if val else empty)
