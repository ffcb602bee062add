"""Clips to one bank of 8-bit frames, and the bank to augmented batches."""

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image
from scipy.ndimage import binary_closing, binary_fill_holes, gaussian_filter

from nuclear_diffusion.model.diffusion_prior import over_time
from nuclear_diffusion.types import InputError

BRIGHT_SHARE = 0.5
"""Of the augmented samples with haze; bright still patches are rare in simulation, and easy to tell by time."""

DIM_SHARE = 0.4
"""Of the augmented samples whose near field is dimmed, so that bright tissue there is no rule."""

CROP_TRIES = 4
CROP_FILLED = 0.25


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
    """Augmented batches; that of step k depends on (seed, k) alone.

    `batch` crops of `crop` pixels (0: never crop), or `full_batch` whole frames. `clips` holds clean frames
    (kinds = 1) or clean and hazy ones (kinds = 2). A sample is a clean frame, and with it what a haze-aware network is
    shown: the hazy frame, and mean, standard deviation and minimum of the hazy clip over time, after the same
    augmentation.
    """

    clips: UInt8[np.ndarray, "clips moments kinds height width"]
    seed: int
    batch: int
    full_batch: int
    crop: int
    augment: bool

    def at(self, step: int, whole: bool) -> Float[np.ndarray, "batch planes height width"]:
        """Whole frames or crops, in [0, 1]."""
        rng = np.random.default_rng((self.seed, step))
        count, *_, height, width = self.clips.shape
        side = (min(self.crop, height), min(self.crop, width))
        whole = whole or self.crop == 0 or side == (height, width)
        chosen = rng.integers(count, size=self.full_batch if whole else self.batch)
        return np.stack([self._sample(np.asarray(self.clips[i]), whole, side, rng) for i in chosen])

    def watched(self, count: int) -> Float[np.ndarray, "count planes height width"]:
        """Whole frames of `count` clips, evenly chosen, as they are; of fewer if there are not as many."""
        chosen = np.linspace(0, len(self.clips) - 1, min(count, len(self.clips))).astype(int)
        planes = (_planes(np.asarray(self.clips[i]), n % self.clips.shape[1]) for n, i in enumerate(chosen))
        return np.stack([_shown(frames.astype(np.float32) / 255) for frames in planes])

    def _sample(self, clip: np.ndarray, whole: bool, side: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        planes = _planes(clip, int(rng.integers(len(clip))))
        if not whole:
            planes = _filled_crop(planes, side, rng)
        elif self.augment:
            planes = _shift_and_zoom(planes, rng)
        if not self.augment:
            return _shown(planes.astype(np.float32) / 255)
        if rng.random() < 0.5:
            planes = planes[..., ::-1]
        # Gain and display gamma as a table: 256 powers instead of one for each pixel. Black stays black.
        gain, gamma = np.exp(rng.uniform(-0.2, 0.2)), np.exp(rng.uniform(-0.2, 0.2))
        table = np.clip(gain * (np.arange(256) / 255) ** gamma, 0, 1).astype(np.float32)
        planes = table[planes]
        if rng.random() < DIM_SHARE:
            planes = _dim_near_field(planes, rng)
        if len(planes) > 1 and rng.random() < BRIGHT_SHARE:
            planes[1:] = _with_bright_clutter(planes[1:], rng)
        return _shown(planes, rng)


def _planes(clip: UInt8[np.ndarray, "moments kinds height width"], moment: int) -> UInt8[np.ndarray, "planes h w"]:
    """The clean frame of one moment; where there are hazy ones, that moment's and then all of them."""
    clean = clip[moment, :1]
    return np.concatenate([clean, clip[moment, 1:], clip[:, 1]]) if clip.shape[1] == 2 else clean


def _shown(
    planes: Float[np.ndarray, "planes h w"], rng: np.random.Generator | None = None
) -> Float[np.ndarray, "kinds h w"]:
    """Clean frame, hazy frame, and the hazy frames over time; half of the time over some of them only."""
    if len(planes) == 1:
        return planes
    clean, hazy, clip = planes[0], planes[1], planes[2:]
    if rng is not None and len(clip) > 3 and rng.random() < 0.5:
        clip = clip[rng.permutation(len(clip))[: rng.integers(3, len(clip))]]
    return np.stack([clean, hazy, *over_time(clip)])


def _dim_near_field(
    planes: Float[np.ndarray, "planes h w"], rng: np.random.Generator
) -> Float[np.ndarray, "planes h w"]:
    """Less gain at the probe, in all planes alike, as scanners are set: a shift on the logarithmic grey scale."""
    height, width = planes.shape[1:]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    range_ = np.hypot(rows, columns - width / 2) / height
    reach = rng.uniform(0.1, 0.3)
    shift = rng.uniform(0.1, 0.5) / (1 + np.exp((range_ - reach) / (0.25 * reach)))
    return np.where(planes > 0, np.maximum(planes - shift, 1 / 255), 0).astype(np.float32)


def _with_bright_clutter(
    hazy: Float[np.ndarray, "planes h w"], rng: np.random.Generator
) -> Float[np.ndarray, "planes h w"]:
    """The same one to three still patches laid over all hazy frames, up to saturation, often at the probe.

    A patch is a Gaussian in amplitude, so a paraboloid on the logarithmic grey scale, where amplitudes a and b add up
    to log(exp(beta a) + exp(beta b)) / beta with beta = R ln(10) / 20 for a scale of R decibels.
    """
    height, width = hazy.shape[1:]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    beta = rng.uniform(40, 80) * np.log(10) / 20
    total = np.zeros((height, width), np.float32)
    for _ in range(rng.integers(1, 4)):
        if rng.random() < 0.4:  # under the probe, along the beam
            row, column = height * rng.uniform(0, 0.1), width * (0.5 + rng.uniform(-0.1, 0.1))
            angle, axes = (
                rng.uniform(-0.2, 0.2),
                height * np.exp(rng.uniform(np.log((0.03, 0.07)), np.log((0.15, 0.3)))),
            )
        else:
            row, column = height * rng.uniform(0, 0.8), width * rng.uniform(0.1, 0.9)
            angle, axes = rng.uniform(0, np.pi), height * np.exp(rng.uniform(np.log(0.02), np.log(0.15), 2))
        y, x = rows - row, columns - column
        u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        texture = gaussian_filter(rng.standard_normal((height, width), np.float32), rng.uniform(1, 4))
        level = rng.uniform(0.4, 1.4) - 0.5 * ((u / axes[0]) ** 2 + (v / axes[1]) ** 2)
        total += np.exp(beta * (level + rng.uniform(0, 0.3) * texture / texture.std()))
    sum_of_amplitudes = np.log(np.exp(beta * hazy) + total) / beta
    lit = hazy.max(0) > 0
    picture = lit | binary_fill_holes(binary_closing(lit, iterations=2))  # black cavities inside it included
    return np.where(picture, np.clip(sum_of_amplitudes, 0, 1), hazy)


def _filled_crop(planes: np.ndarray, side: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A random crop; one that is mostly black (outside the sector) is drawn again a few times."""
    crop = planes
    for _ in range(CROP_TRIES):
        top = rng.integers(planes.shape[1] - side[0] + 1)
        left = rng.integers(planes.shape[2] - side[1] + 1)
        crop = planes[:, top : top + side[0], left : left + side[1]]
        if np.count_nonzero(crop[0]) > CROP_FILLED * crop[0].size:
            break
    return crop


def _shift_and_zoom(planes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Move frames by up to 1/16 of their side and, half of the time, scale them by up to 10 %; black comes in."""
    height, width = planes.shape[1:]
    dy, dx = np.rint(rng.uniform(-1, 1, 2) * np.array([height, width]) / 16)
    zooms = rng.random() < 0.5
    zoom = np.exp(rng.uniform(-0.1, 0.1)) if zooms else 1.0
    # Whole pixels without a zoom, so that at least half of the frames keep their speckle unsmoothed.
    method = Image.Resampling.BICUBIC if zooms else Image.Resampling.NEAREST
    y0, x0 = height / 2 * (1 - 1 / zoom) + dy, width / 2 * (1 - 1 / zoom) + dx
    place = (1 / zoom, 0, x0, 0, 1 / zoom, y0)
    return np.stack(
        [
            np.asarray(Image.fromarray(frame).transform((width, height), Image.Transform.AFFINE, place, method))
            for frame in planes
        ]
    )
