"""Augmentation of training samples: more hearts, scanners and haze than the clips contain.

All draws come from one generator, so that a batch depends only on its seed.
"""

import functools
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8
from numpy.random import Generator
from PIL import Image
from scipy.ndimage import binary_closing, binary_fill_holes, gaussian_filter, map_coordinates

Planes = Float[np.ndarray, "planes h w"]
Plane = Float[np.ndarray, "h w"]
Times = Float[np.ndarray, " planes"]
"""Of planes, as a fraction of the clip, in [0, 1)."""
# Fractions of the hazy samples whose clean and hazy frames are changed, by kind of change.
FLOOR_SHARE = 0.3  # noise floor, new at each moment: it is not haze
SMOOTH_SHARE = 0.35  # smoothing, as by a coarser scanner
TONE_SHARE = 0.35  # S-shaped grey map or its reverse
UNEVEN_SHARE = 0.35  # uneven gain
ISLAND_SHARE = 0.3  # small moving pieces of tissue
# Fraction of the hazy samples without added haze, so that a clear picture is kept as it is; then, of the others, the
# fractions with haze of each kind.
UNSPOILED_SHARE = 0.15
BRIGHT_SHARE = 0.5  # bright still patches, which are rare in simulation
TEXTURE_SHARE = 0.45  # texture of any grain, still or moving
GHOST_SHARE = 0.45  # displaced copies of the frame itself
# Fraction of all samples whose near field is dimmed, so that bright tissue there is not the rule.
DIM_SHARE = 0.4

BEND = 0.07  # largest root mean square displacement when hearts are bent, as a fraction of the side
MESH = 8  # quadrilaterals per side of the mesh that bends them


def augmented(
    planes: UInt8[np.ndarray, "planes h w"], moments: Shaped[np.ndarray, " shown"], length: int, rng: Generator
) -> Planes:
    """Change the grey levels of all planes, and add haze to the hazy ones; in [0, 1].

    `planes`, 0-255: the clean frame of the first of `moments`, then, for pairs, the hazy frames of all. `length`: of
    the clip.
    """
    if rng.random() < 0.5:
        planes = planes[..., ::-1]
    # Gain and display gamma from a table: 256 powers instead of one per pixel. Black stays black.
    gain, gamma = np.exp(rng.uniform(-0.2, 0.2)), np.exp(rng.uniform(-0.3, 0.3))
    grey = np.arange(256) / 255
    if len(planes) > 1 and rng.random() < TONE_SHARE:
        grey = grey + rng.uniform(-0.8, 0.8) * np.sin(2 * np.pi * grey) / (2 * np.pi)
    table = np.clip(gain * grey**gamma, 0, 1).astype(np.float32)
    planes = table[planes]
    if rng.random() < DIM_SHARE:
        planes = _dim_near_field(planes, rng)
    if len(planes) == 1:
        return planes  # without pairs, p(X) is that of the given frames
    if rng.random() < SMOOTH_SHARE:
        planes = gaussian_filter(planes, (0, *np.exp(rng.uniform(np.log(0.4), np.log(3.0), 2))), truncate=2.5)
    if rng.random() < UNEVEN_SHARE:
        planes = _with_uneven_gain(planes, rng)
    if rng.random() < FLOOR_SHARE:
        planes = _with_noise_floor(planes, np.array([moments[0], *moments]), rng)
    if rng.random() < ISLAND_SHARE:
        planes = _with_islands(planes, np.array([moments[0], *moments]) / length, rng)
    if rng.random() < UNSPOILED_SHARE:
        return planes
    for share, spoiled in (
        (GHOST_SHARE, lambda hazy: _with_ghost(hazy, moments / length, rng)),
        (TEXTURE_SHARE, lambda hazy: _with_texture(hazy, moments / length, rng)),
        (BRIGHT_SHARE, lambda hazy: _with_bright_clutter(hazy, rng)),
    ):
        if rng.random() < share:
            planes[1:] = spoiled(planes[1:])
    return planes


def moved(planes: Shaped[np.ndarray, "planes h w"], rng: Generator) -> Shaped[np.ndarray, "planes h w"]:
    """Shift frames by up to 1/16 of their side and, half of the time, transform them; the border is black.

    Pairs are stretched by up to 25 % each way, turned by up to 20 degrees, and bent. Clean frames alone are only
    scaled, by up to 10 %, to keep their p(X).
    """
    height, width = planes.shape[1:]
    move = np.rint(rng.uniform(-1, 1, 2) * np.array([height, width]) / 16)
    # Whole pixels half of the time, so that these frames keep their speckle.
    method, back, bend = Image.Resampling.NEAREST, np.eye(2), 0.0
    if rng.random() < 0.5:
        method = Image.Resampling.BICUBIC
        if len(planes) == 1:
            back = np.eye(2) / np.exp(rng.uniform(-0.1, 0.1))
        else:
            back = _turned_and_stretched(20, (-0.22, 0.22), rng)
            bend = rng.uniform(0, BEND) if rng.random() < 0.5 else 0.0
    middle = np.array([width, height]) / 2
    corner = middle - back @ middle + move[::-1]
    if bend:
        how, place = Image.Transform.MESH, _bent((height, width), back, corner, bend, rng)
    else:
        how, place = Image.Transform.AFFINE, (*back[0], corner[0], *back[1], corner[1])
    moved = (Image.fromarray(frame).transform((width, height), how, place, method) for frame in planes)
    return np.stack([np.asarray(frame) for frame in moved])


def _turned_and_stretched(degrees: float, logarithms: tuple[float, float], rng: Generator) -> Float[np.ndarray, "2 2"]:
    """The inverse of a random rotation by up to `degrees` and a stretch along x and y."""
    angle, stretch = np.deg2rad(rng.uniform(-degrees, degrees)), np.exp(rng.uniform(*logarithms, 2))
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / stretch[:, None]


def _bent(
    shape: tuple[int, int], back: Float[np.ndarray, "2 2"], corner: Float[np.ndarray, " 2"], bend: float, rng: Generator
) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    """Pillow's mesh for x -> `back` x + `corner` plus a smooth displacement of about `bend` of the side."""
    rows, columns = (np.rint(np.linspace(0, side, MESH + 1)).astype(int) for side in shape)
    knots = np.stack(np.meshgrid(columns, rows), axis=-1)
    noise = gaussian_filter(rng.standard_normal(knots.shape), (1.5, 1.5, 0))
    source = knots @ back.T + corner + bend * shape[0] * noise / noise.std()
    to, whence = knots.tolist(), source.tolist()
    return [
        ((*to[i][j], *to[i + 1][j + 1]), (*whence[i][j], *whence[i + 1][j], *whence[i + 1][j + 1], *whence[i][j + 1]))
        for i in range(MESH)
        for j in range(MESH)
    ]


def _dim_near_field(planes: Planes, rng: Generator) -> Planes:
    """Lower gain near the probe in all planes: a shift on the logarithmic grey scale."""
    height, width = planes.shape[1:]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    range_ = np.hypot(rows, columns - width / 2) / height
    reach = rng.uniform(0.1, 0.3)
    shift = rng.uniform(0.1, 0.5) / (1 + np.exp((range_ - reach) / (0.25 * reach)))
    return _brightened(planes, -shift)


def _with_uneven_gain(planes: Planes, rng: Generator) -> Planes:
    """Shadows and poor contact: the same smooth shifts on the logarithmic grey scale in all planes."""
    height, width = planes.shape[1:]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    shift = np.zeros((height, width), np.float32)
    for _ in range(rng.integers(1, 4)):
        row, column = rng.uniform(0, 1, 2) * (height, width)
        tall, wide = np.exp(rng.uniform(np.log(0.08), np.log(0.5), 2)) * height
        squared = ((rows - row) / tall) ** 2 + ((columns - column) / wide) ** 2
        shift += rng.uniform(-0.35, 0.15) * np.exp(-0.5 * squared)
    return _brightened(planes, shift)


def _brightened(planes: Planes, shift: Plane) -> Planes:
    """Add `shift` on the logarithmic grey scale, within the display's range; black stays black."""
    return np.where(planes > 0, np.clip(planes + shift, 1 / 255, 1), 0).astype(np.float32)


def _with_noise_floor(planes: Planes, moments: Shaped[np.ndarray, " planes"], rng: Generator) -> Planes:
    """Add speckle all over the picture, the same in planes of the same moment; amplitudes add."""
    texture, beta = _speckle(planes.shape[1:], rng)
    level = rng.uniform(0.0, 0.5)
    place = rng.integers(planes.shape[1], size=(moments.max() + 1, 2))  # a far shift acts as a new draw
    return _laid_over(planes, (level + np.roll(texture, tuple(place[k]), (0, 1)) for k in moments), beta)


def _with_islands(planes: Planes, times: Times, rng: Generator) -> Planes:
    """Add two to six small moving pieces of bright tissue, the same in planes of the same time; amplitudes add.

    Unlike haze, their speckle moves with them and their edges are sharp.
    """
    height, width = planes.shape[1:]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    texture, beta = _speckle((height, width), rng)
    piece = np.full((height, width), -1, np.float32)
    for _ in range(rng.integers(2, 7)):
        (row, column), angle = rng.uniform(0.15, 0.85, 2) * (height, width), rng.uniform(0, np.pi)
        axes = height * np.exp(rng.uniform(np.log(0.012), np.log(0.06), 2))
        y, x = rows - row, columns - column
        u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        distance = np.hypot(u / axes[0], v / axes[1])
        edge = np.minimum(0, (1 - distance) * axes.min()) * rng.uniform(0.1, 0.5)  # grey per pixel
        piece = np.maximum(piece, rng.uniform(0.3, 0.8) + edge)
    piece = np.where(piece > -0.5, piece + texture, -1)
    reach, phase, pace = rng.uniform(-16, 16, 2), rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 1.5)
    shifts = np.rint(np.multiply.outer(np.sin(2 * np.pi * pace * times + phase), reach)).astype(int)
    return _laid_over(planes, (np.roll(piece, tuple(shift), (0, 1)) for shift in shifts), beta)


def _with_ghost(hazy: Planes, times: Times, rng: Generator) -> Planes:
    """Add one to three displaced copies of each frame, possibly turned, stretched, mirrored or smeared; amplitudes add.

    They are mostly weaker, in all or a part of the picture, still or moving.
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


def _displaced(planes: Planes, travel: Float[np.ndarray, "planes 2"], rng: Generator) -> Iterable[Plane]:
    """Shift each plane and, half of the time, change its shape; -1 outside the shifted plane."""
    height, width = planes.shape[1:]
    back = np.eye(2)
    if rng.random() < 0.5:
        back = _turned_and_stretched(50, (-0.4, 0.6), rng)
        back[:, 0] *= rng.choice([-1, 1])
    middle, offset = np.array([width, height]) / 2, rng.uniform(-0.3, 0.3, 2) * (width, height)
    for plane, moved in zip(planes, travel, strict=True):
        x0, y0 = middle - back @ (middle + offset + moved[::-1])
        place = (back[0, 0], back[0, 1], x0, back[1, 0], back[1, 1], y0)
        image = Image.fromarray(np.ascontiguousarray(plane, np.float32))
        method = Image.Resampling.BILINEAR
        yield np.asarray(image.transform((width, height), Image.Transform.AFFINE, place, method, fillcolor=-1))


def _with_texture(hazy: Planes, times: Times, rng: Generator) -> Planes:
    """Add speckle of any grain, still or moving, in a part of the picture that may move too; amplitudes add."""
    texture, beta = _speckle(hazy.shape[1:], rng)
    level = rng.uniform(0.1, 0.75) - rng.uniform(0.05, 0.25) * _place(hazy.shape[1:], rng)
    reach = rng.random() * rng.uniform(-30, 30, 2)  # large steps look like new grain
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
    """Range and angle of each pixel, in pixels: a quarter turn is as wide as the picture."""
    height, width = shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    side = columns - width / 2
    range_, angle = np.hypot(rows, side), np.arctan2(side, rows + 1)
    return np.clip([range_, width * (0.5 + angle / (np.pi / 2))], 0, [[[height - 1]], [[width - 1]]])


def _laid_over(planes: Planes, clutter: Iterable[Plane], beta: float) -> Planes:
    """Add clutter to each plane inside the picture: greys a and b give log(exp(beta a) + exp(beta b)) / beta.

    This adds amplitudes on a logarithmic grey scale of R decibels, with beta = R ln(10) / 20.
    """
    lit = _lit(planes)
    # exponents stay below 15, so float32 does not overflow; it takes a tenth of the time
    scale = np.float32(beta)
    out = [
        np.log(np.exp(scale * plane) + np.exp(scale * np.asarray(one, np.float32))) / scale
        for plane, one in zip(planes, clutter, strict=True)
    ]
    return np.where(lit, np.clip(out, 0, 1), planes).astype(np.float32)


def _speckle(shape: tuple[int, int], rng: Generator) -> tuple[Plane, float]:
    """Speckle of any grain around grey 0, and beta of `_laid_over`."""
    beta = rng.uniform(40, 80) * np.log(10) / 20
    grain = np.exp(rng.uniform(np.log(0.6), np.log(6), 2))
    noise = rng.standard_normal((2, *shape), np.float32)
    real, imaginary = gaussian_filter(noise, (0, *grain), mode="wrap", truncate=2.5)
    speckle = np.hypot(real, imaginary)
    return np.log(np.maximum(speckle / np.median(speckle), 1e-3)) / beta, beta


def _place(shape: tuple[int, int], rng: Generator) -> Plane:
    """Squared distance from a random cloud, wedge, band or comb: 0 in its middle, 1 at its edge."""
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
    if rng.random() < 0.5:  # equally spaced bands or wedges
        period = np.exp(rng.uniform(np.log(0.05), np.log(0.3)))
        distance, reach = (distance + period / 2) % period - period / 2, period * rng.uniform(0.1, 0.3)
    return (distance / reach) ** 2


def _travel(times: Times, rng: Generator) -> Times:
    """Oscillation in [-1, 1], or no motion."""
    if rng.random() < 0.4:
        return np.zeros(len(times))
    return np.sin(2 * np.pi * rng.uniform(0.2, 1.5) * times + rng.uniform(0, 2 * np.pi))


def _with_bright_clutter(hazy: Planes, rng: Generator) -> Planes:
    """Add the same one to three still patches to all hazy frames, up to saturation, often at the probe.

    Half of the time grey values add (eq. 8: Y = L + X) and each patch is a Gaussian. Otherwise amplitudes add, and
    each patch is a Gaussian in amplitude, hence a paraboloid in grey.
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


def _lit(planes: Planes) -> Bool[np.ndarray, "h w"]:
    """The picture, including black cavities inside it."""
    return binary_fill_holes(binary_closing(planes.max(0) > 0, iterations=2)) | (planes.max(0) > 0)
