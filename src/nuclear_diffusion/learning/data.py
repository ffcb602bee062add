"""Clips to one bank of 8-bit frames, and the bank to augmented batches."""

import dataclasses
import functools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8
from PIL import Image
from scipy.ndimage import binary_closing, binary_fill_holes, gaussian_filter, map_coordinates

from nuclear_diffusion.model.diffusion_prior import over_time
from nuclear_diffusion.types import InputError

BRIGHT_SHARE = 0.5
"""Of the augmented samples with haze; bright still patches are rare in simulation, and easy to tell by time."""

FLOOR_SHARE = 0.3
"""Of the augmented samples with haze that get speckle all over, clean and hazy alike, new in each frame: not haze."""

BARE_SHARE = 0.3
"""Of the augmented samples with haze that lose it, so that what is laid over them is all the haze, if any is."""

TEXTURE_SHARE = 0.45
"""Of the augmented samples with haze over which a texture of any grain is laid, still or moving."""

GHOST_SHARE = 0.45
"""Of the augmented samples with haze over which displaced copies of themselves are laid."""

SMOOTH_SHARE = 0.35
"""Of the augmented samples with haze that are smoothed, clean and hazy alike, as coarser scanners show them."""

TONE_SHARE = 0.35
"""Of the augmented samples with haze whose grey map is bent to an S or the reverse, clean and hazy alike."""

UNEVEN_SHARE = 0.35
"""Of the augmented samples with haze that are made brighter here and darker there, clean and hazy alike."""

BEND = 0.07
"""At most so much of the side are hearts bent out of shape, root mean square."""

MESH = 8
"""Quadrilaterals a side in which they are."""

BRIEF_SHARE = 0.15
"""Of the augmented samples that are cut to a few successive moments, down to a still: time tells little of them."""

BRIEF = 4
"""At most so many moments."""

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
    shown: the hazy frame, those of the moments before and after, and mean, standard deviation and minimum of the hazy
    clip over time, after the same augmentation. The first and the last moment are their own neighbours.
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
        over = np.arange(self.clips.shape[1])
        shown = (_moments(n % len(over), over, len(over)) for n in range(len(chosen)))
        planes = (_planes(np.asarray(self.clips[i]), moments) for i, moments in zip(chosen, shown, strict=True))
        return np.stack([_shown(frames.astype(np.float32) / 255) for frames in planes])

    def _sample(self, clip: np.ndarray, whole: bool, side: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
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
        if not whole:
            planes = _filled_crop(planes, side, rng)
        elif self.augment:
            planes = _moved(planes, rng)
        if not self.augment:
            return _shown(planes.astype(np.float32) / 255)
        if rng.random() < 0.5:
            planes = planes[..., ::-1]
        # Gain and display gamma as a table: 256 powers instead of one for each pixel. Black stays black.
        gain, gamma = np.exp(rng.uniform(-0.2, 0.2)), np.exp(rng.uniform(-0.3, 0.3))
        grey = np.arange(256) / 255
        if len(planes) > 1 and rng.random() < TONE_SHARE:
            grey = grey + rng.uniform(-0.8, 0.8) * np.sin(2 * np.pi * grey) / (2 * np.pi)
        table = np.clip(gain * grey**gamma, 0, 1).astype(np.float32)
        planes = table[planes]
        if rng.random() < DIM_SHARE:
            planes = _dim_near_field(planes, rng)
        if len(planes) == 1:
            return planes  # p(X) alone is that of the frames as they are given
        if rng.random() < SMOOTH_SHARE:
            planes = gaussian_filter(planes, (0, *np.exp(rng.uniform(np.log(0.4), np.log(3.0), 2))), truncate=2.5)
        if rng.random() < UNEVEN_SHARE:
            planes = _with_uneven_gain(planes, rng)
        if rng.random() < FLOOR_SHARE:
            planes = _with_noise_floor(planes, np.array([moment, *moments]), rng)
        for share, spoiled in (
            (GHOST_SHARE, lambda hazy: _with_ghost(hazy, moments / len(clip), rng)),
            (TEXTURE_SHARE, lambda hazy: _with_texture(hazy, moments / len(clip), rng)),
            (BRIGHT_SHARE, lambda hazy: _with_bright_clutter(hazy, rng)),
        ):
            if rng.random() < share:
                planes[1:] = spoiled(planes[1:])
        return _shown(planes)


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


def _dim_near_field(
    planes: Float[np.ndarray, "planes h w"], rng: np.random.Generator
) -> Float[np.ndarray, "planes h w"]:
    """Less gain at the probe, in all planes alike, as scanners are set: a shift on the logarithmic grey scale."""
    height, width = planes.shape[1:]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    range_ = np.hypot(rows, columns - width / 2) / height
    reach = rng.uniform(0.1, 0.3)
    shift = rng.uniform(0.1, 0.5) / (1 + np.exp((range_ - reach) / (0.25 * reach)))
    return _brightened(planes, -shift)


def _with_uneven_gain(
    planes: Float[np.ndarray, "planes h w"], rng: np.random.Generator
) -> Float[np.ndarray, "planes h w"]:
    """Shadows and poor contact: smooth shifts on the logarithmic grey scale, in all planes alike."""
    height, width = planes.shape[1:]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    shift = np.zeros((height, width), np.float32)
    for _ in range(rng.integers(1, 4)):
        row, column = rng.uniform(0, 1, 2) * (height, width)
        tall, wide = np.exp(rng.uniform(np.log(0.08), np.log(0.5), 2)) * height
        squared = ((rows - row) / tall) ** 2 + ((columns - column) / wide) ** 2
        shift += rng.uniform(-0.35, 0.15) * np.exp(-0.5 * squared)
    return _brightened(planes, shift)


def _brightened(
    planes: Float[np.ndarray, "planes h w"], shift: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, "planes h w"]:
    """Another gain on the logarithmic grey scale, within the display's range; what is black stays black."""
    return np.where(planes > 0, np.clip(planes + shift, 1 / 255, 1), 0).astype(np.float32)


def _with_noise_floor(
    planes: Float[np.ndarray, "planes h w"], moments: Shaped[np.ndarray, " planes"], rng: np.random.Generator
) -> Float[np.ndarray, "planes h w"]:
    """Grey speckle all over the picture, the same in planes of the same moment; amplitudes add."""
    texture, beta = _speckle(planes.shape[1:], rng)
    level = rng.uniform(0.0, 0.5)
    place = rng.integers(planes.shape[1], size=(moments.max() + 1, 2))  # far apart: as good as another draw
    return _laid_over(planes, (level + np.roll(texture, tuple(place[k]), (0, 1)) for k in moments), beta)


def _with_ghost(
    hazy: Float[np.ndarray, "planes h w"], times: Float[np.ndarray, " planes"], rng: np.random.Generator
) -> Float[np.ndarray, "planes h w"]:
    """One to three copies of each frame in other places, turned, stretched, mirrored or smeared; amplitudes add.

    Mostly weaker, all over or in a part of the picture, still or travelling.
    """
    height, width = hazy.shape[1:]
    beta = rng.uniform(40, 80) * np.log(10) / 20
    travel = np.multiply.outer(_travel(times, rng), rng.uniform(-15, 15, 2))
    smear = rng.uniform(0, 3, 2) * (rng.random() < 0.5)
    fades = rng.uniform(-0.1, 0.35) + rng.uniform(0, 0.5) * (rng.random() < 0.7) * _place((height, width), rng)
    for _ in range(1 + (rng.random() < 0.3) + (rng.random() < 0.3)):
        placed = _displaced(hazy, travel, rng)
        hazy = _laid_over(hazy, (gaussian_filter(ghost, smear) - fades for ghost in placed), beta)
        fades = fades + rng.uniform(0, 0.2)
    return hazy


def _displaced(
    planes: Float[np.ndarray, "planes h w"], travel: Float[np.ndarray, "planes 2"], rng: np.random.Generator
) -> Iterable[Float[np.ndarray, "h w"]]:
    """Each plane somewhere else, half of the time of another shape too; nothing where it does not reach."""
    height, width = planes.shape[1:]
    back = np.eye(2)
    if rng.random() < 0.5:
        angle, stretch = np.deg2rad(rng.uniform(-50, 50)), np.exp(rng.uniform(-0.4, 0.6, 2))
        back = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / stretch[:, None]
        back[:, 0] *= rng.choice([-1, 1])
    middle, offset = np.array([width, height]) / 2, rng.uniform(-0.3, 0.3, 2) * (width, height)
    for plane, moved in zip(planes, travel, strict=True):
        x0, y0 = middle - back @ (middle + offset + moved[::-1])
        place = (back[0, 0], back[0, 1], x0, back[1, 0], back[1, 1], y0)
        image = Image.fromarray(np.ascontiguousarray(plane, np.float32))
        method = Image.Resampling.BILINEAR
        yield np.asarray(image.transform((width, height), Image.Transform.AFFINE, place, method, fillcolor=-1))


def _with_texture(
    hazy: Float[np.ndarray, "planes h w"], times: Float[np.ndarray, " planes"], rng: np.random.Generator
) -> Float[np.ndarray, "planes h w"]:
    """A speckle texture of any grain in a part of the picture, still or travelling; the part may travel with it.

    Amplitudes add. `times` of the planes: of the whole clip's length, in [0, 1).
    """
    texture, beta = _speckle(hazy.shape[1:], rng)
    level = rng.uniform(0.1, 0.75) - rng.uniform(0.05, 0.25) * _place(hazy.shape[1:], rng)
    reach = rng.random() * rng.uniform(-30, 30, 2)  # small steps are told from new grain, large ones are not
    shifts = np.rint(np.multiply.outer(_travel(times, rng), reach)).astype(int)
    if rng.random() < 0.5:  # along the beams
        beams = _beams(hazy.shape[1:])
        moved = (map_coordinates(np.roll(texture, tuple(shift), (0, 1)), beams, order=1) for shift in shifts)
        return _laid_over(hazy, (level + one for one in moved), beta)
    if rng.random() < 0.5:
        return _laid_over(hazy, (level + np.roll(texture, tuple(shift), (0, 1)) for shift in shifts), beta)
    return _laid_over(hazy, (np.roll(level + texture, tuple(shift), (0, 1)) for shift in shifts), beta)


@functools.cache
def _beams(shape: tuple[int, int]) -> Float[np.ndarray, "2 h w"]:
    """Where a pixel lies in beam space, range and angle, in pixels: a quarter turn is as wide as the picture."""
    height, width = shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    side = columns - width / 2
    range_, angle = np.hypot(rows, side), np.arctan2(side, rows + 1)
    return np.clip([range_, width * (0.5 + angle / (np.pi / 2))], 0, [[[height - 1]], [[width - 1]]])


def _laid_over(
    planes: Float[np.ndarray, "planes h w"], clutter: Iterable[Float[np.ndarray, "h w"]], beta: float
) -> Float[np.ndarray, "planes h w"]:
    """Clutter on each plane where there is a picture: grey a and b to log(exp(beta a) + exp(beta b)) / beta.

    Amplitudes add so on a logarithmic grey scale of R decibels with beta = R ln(10) / 20.
    """
    lit = _lit(planes)
    out = [np.logaddexp(beta * plane, beta * one) / beta for plane, one in zip(planes, clutter, strict=True)]
    return np.where(lit, np.clip(out, 0, 1), planes).astype(np.float32)


def _speckle(shape: tuple[int, int], rng: np.random.Generator) -> tuple[Float[np.ndarray, "h w"], float]:
    """Speckle of any grain around grey 0, and `_laid_over`'s beta."""
    beta = rng.uniform(40, 80) * np.log(10) / 20
    grain = np.exp(rng.uniform(np.log(0.6), np.log(6), 2))
    noise = rng.standard_normal((2, *shape), np.float32)
    real, imaginary = gaussian_filter(noise, (0, *grain), mode="wrap", truncate=2.5)
    speckle = np.hypot(real, imaginary)
    return np.log(np.maximum(speckle / np.median(speckle), 1e-3)) / beta, beta


def _place(shape: tuple[int, int], rng: np.random.Generator) -> Float[np.ndarray, "h w"]:
    """How far from a random cloud, wedge, band or comb: 0 in its middle, 1 at its edge; the distance's square."""
    height, width = shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    if rng.random() < 0.35:
        (row, column), (tall, wide) = rng.uniform(0.1, 0.9, 2), rng.uniform(0.15, 1.0, 2)
        return ((rows / height - row) / tall) ** 2 + ((columns / width - column) / wide) ** 2
    if rng.random() < 0.5:
        along, (low, high) = np.hypot(rows, columns - width / 2) / height, (0.1, 0.9)
    else:
        along, (low, high) = np.arctan2(columns - width / 2, rows + 1), (-0.7, 0.7)
    distance, reach = along - rng.uniform(low, high), rng.uniform(0.03, 0.3)
    if rng.random() < 0.5:  # many bands, or wedges, at equal distances
        period = np.exp(rng.uniform(np.log(0.05), np.log(0.3)))
        distance, reach = (distance + period / 2) % period - period / 2, period * rng.uniform(0.1, 0.3)
    return (distance / reach) ** 2


def _travel(times: Float[np.ndarray, " planes"], rng: np.random.Generator) -> Float[np.ndarray, " planes"]:
    """To and fro in [-1, 1], or no motion at all."""
    if rng.random() < 0.4:
        return np.zeros(len(times))
    return np.sin(2 * np.pi * rng.uniform(0.2, 1.5) * times + rng.uniform(0, 2 * np.pi))


def _with_bright_clutter(
    hazy: Float[np.ndarray, "planes h w"], rng: np.random.Generator
) -> Float[np.ndarray, "planes h w"]:
    """The same one to three still patches laid over all hazy frames, up to saturation, often at the probe.

    Half of the time grey values add (eq. 8: Y = L + X), each patch a Gaussian; or else amplitudes add, each patch a
    Gaussian in amplitude and so a paraboloid in grey.
    """
    height, width = hazy.shape[1:]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    beta = rng.uniform(40, 80) * np.log(10) / 20
    greys_add = rng.random() < 0.5
    patches = []
    for _ in range(rng.integers(1, 4)):
        if rng.random() < 0.4:  # under the probe, along the beam
            row, column = height * rng.uniform(0, 0.1), width * (0.5 + rng.uniform(-0.1, 0.1))
            angle, axes = (
                rng.uniform(-0.2, 0.2),
                height * np.exp(rng.uniform(np.log((0.03, 0.07)), np.log((0.15, 0.3)))),
            )
        else:
            row, column = height * rng.uniform(0, 0.8), width * rng.uniform(0.1, 0.9)
            if rng.random() < 0.5:  # on a flank
                range_, side = height * rng.uniform(0.15, 0.7), rng.choice([-1, 1]) * rng.uniform(0.3, 0.8)
                row, column = range_ * np.cos(side), width / 2 + range_ * np.sin(side)
            angle, axes = rng.uniform(0, np.pi), height * np.exp(rng.uniform(np.log(0.02), np.log(0.15), 2))
        y, x = rows - row, columns - column
        u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        squared = (u / axes[0]) ** 2 + (v / axes[1]) ** 2
        texture = gaussian_filter(rng.standard_normal((height, width), np.float32), rng.uniform(1, 4))
        uneven = max(0.0, rng.uniform(-0.15, 0.3)) * texture / texture.std()
        if greys_add:
            patches.append(rng.uniform(0.2, 1.0) * np.exp(-0.5 * squared) * np.clip(1 + uneven, 0, None))
        else:
            patches.append(rng.uniform(0.5, 1.6) - 0.5 * squared + uneven)
    if greys_add:
        return np.where(_lit(hazy), np.clip(hazy + sum(patches), 0, 1), hazy).astype(np.float32)
    clutter = np.logaddexp.reduce(beta * np.stack(patches)) / beta
    return _laid_over(hazy, [clutter] * len(hazy), beta)


def _lit(planes: Float[np.ndarray, "planes h w"]) -> Bool[np.ndarray, "h w"]:
    """Where there is a picture, black cavities inside it included."""
    return binary_fill_holes(binary_closing(planes.max(0) > 0, iterations=2)) | (planes.max(0) > 0)


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


def _moved(planes: Shaped[np.ndarray, "planes h w"], rng: np.random.Generator) -> Shaped[np.ndarray, "planes h w"]:
    """Move frames by up to 1/16 of their side and, half of the time, stretch and turn them; black comes in.

    With their hazy ones by up to 25 % each way and 20 degrees, and bent: hearts of other shapes, seen from elsewhere.
    Clean frames alone are scaled by up to 10 % and stay upright: what is learned from them is p(X) of such frames.
    """
    height, width = planes.shape[1:]
    move = np.rint(rng.uniform(-1, 1, 2) * np.array([height, width]) / 16)
    # Whole pixels half of the time, so that at least half of the frames keep their speckle unsmoothed.
    method, back, bend = Image.Resampling.NEAREST, np.eye(2), 0.0
    if rng.random() < 0.5:
        method = Image.Resampling.BICUBIC
        if len(planes) == 1:
            back = np.eye(2) / np.exp(rng.uniform(-0.1, 0.1))
        else:
            angle, stretch = np.deg2rad(rng.uniform(-20, 20)), np.exp(rng.uniform(-0.22, 0.22, 2))
            back = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / stretch[:, None]
            bend = rng.uniform(0, BEND) if rng.random() < 0.5 else 0.0
    middle = np.array([width, height]) / 2
    corner = middle - back @ middle + move[::-1]
    if bend:
        how, place = Image.Transform.MESH, _bent((height, width), back, corner, bend, rng)
    else:
        how, place = Image.Transform.AFFINE, (*back[0], corner[0], *back[1], corner[1])
    moved = (Image.fromarray(frame).transform((width, height), how, place, method) for frame in planes)
    return np.stack([np.asarray(frame) for frame in moved])


def _bent(
    shape: tuple[int, int],
    back: Float[np.ndarray, "2 2"],
    corner: Float[np.ndarray, " 2"],
    bend: float,
    rng: np.random.Generator,
) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    """Pillow's mesh of quadrilaterals: x to `back` x + `corner`, displaced smoothly by about `bend` of the side."""
    rows, columns = (np.rint(np.linspace(0, side, MESH + 1)).astype(int) for side in shape)
    knots = np.stack(np.meshgrid(columns, rows), axis=-1)
    noise = gaussian_filter(rng.standard_normal(knots.shape), (1.5, 1.5, 0))
    source = knots @ back.T + corner + bend * shape[0] * noise / noise.std()
    return [
        (
            (*knots[i, j], *knots[i + 1, j + 1]),
            (*source[i, j], *source[i + 1, j], *source[i + 1, j + 1], *source[i, j + 1]),
        )
        for i in range(MESH)
        for j in range(MESH)
    ]
