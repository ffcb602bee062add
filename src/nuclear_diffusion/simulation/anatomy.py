"""The heart at rest: chambers, walls and echogenicity in the scan plane of each view.

Coordinates are in cm: x to the right, z into the body, the probe at the origin. Chambers are ellipses; walls, septa,
pericardium and surroundings are defined by the distance to them.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

VIEWS = ("a4c", "a2c", "plax", "psax")
"""Apical four-chamber, apical two-chamber, parasternal long axis, parasternal short axis."""
UNSEEN_VIEWS = ("a3c", "subcostal")  # apical long axis and subcostal four-chamber, views excluded from training

SPACING = 0.05  # cm, grid of the rest maps
EXTENT = ((-11.0, 11.0), (0.0, 19.0))  # cm, x and z covered by the rest maps


class Chamber(NamedTuple):
    """An ellipse: `centre` (cm), unit vector `axis`, half-axes `length` and `width` (cm), wall thickness (cm)."""

    name: str  # lv, rv, la, ra or ao
    centre: np.ndarray
    axis: np.ndarray
    length: float
    width: float
    wall: float

    @property
    def across(self) -> np.ndarray:
        """Unit vector perpendicular to `axis`."""
        return np.array([-self.axis[1], self.axis[0]])

    def radius(self, points: np.ndarray) -> np.ndarray:
        """Elliptic radius of `points` (..., 2): below 1 inside, 1 on the boundary."""
        offset = points - self.centre
        return np.hypot(offset @ self.axis / self.length, offset @ self.across / self.width)

    def boundary(self, angles: np.ndarray, outset: float | np.ndarray = 0.0, scale: float = 1.0) -> np.ndarray:
        """Points (len(angles), 2) on the ellipse scaled by `scale`, moved outwards by `outset` cm along the normal."""
        cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
        point = self.length * scale * cos * self.axis + self.width * scale * sin * self.across
        normal = cos / self.length * self.axis + sin / self.width * self.across
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        return self.centre + point + np.reshape(outset, (-1, 1)) * normal

    def angle_towards(self, point: np.ndarray) -> float:
        """Ellipse parameter of the boundary point facing `point`."""
        offset = point - self.centre
        return float(np.arctan2(offset @ self.across / self.width, offset @ self.axis / self.length))


class Leaflet(NamedTuple):
    """A valve leaflet: a curved line of `length` cm from `hinge` (cm) that turns between two directions (radians)."""

    hinge: np.ndarray
    length: float
    closed: float
    opened: float
    diastolic: bool  # open in diastole (mitral, tricuspid) or in systole (aortic)


@dataclass(frozen=True)
class Anatomy:
    """A heart at rest (end-diastole)."""

    view: str  # one of `VIEWS` or `UNSEEN_VIEWS`
    ventricle: Chamber  # the left ventricle, the reference of the motion model and the regions of interest
    chambers: tuple[Chamber, ...]  # all blood-filled chambers, the left ventricle first
    leaflets: tuple[Leaflet, ...]  # moving valve leaflets
    decibel: np.ndarray  # echogenicity on the rest grid (z, x), dB relative to myocardium
    # polygon (vertices, 2) in cm inside the septal wall; in the two-chamber view, which has no septum, inside the
    # wall on the left of the image
    septum: np.ndarray
    cavity: np.ndarray  # polygon (vertices, 2) in cm inside the left ventricle
    extent: float  # distance in cm from the left ventricle's centre beyond which nothing moves with the heart

    def echogenicity(self, points: np.ndarray) -> np.ndarray:
        """Scattering amplitude (linear, myocardium = 1) at `points` (n, 2), bilinear on the rest grid."""
        (x0, _), (z0, _) = EXTENT
        index = np.stack([(points[:, 1] - z0) / SPACING, (points[:, 0] - x0) / SPACING])
        return 10 ** (map_coordinates(self.decibel, index, order=1, mode="nearest") / 20)


def _unit(degrees: float) -> np.ndarray:
    """Unit vector at an angle of `degrees` from straight down, positive to the right."""
    a = np.deg2rad(degrees)
    return np.array([np.sin(a), np.cos(a)])


class _Sizes(NamedTuple):
    """The scale of one heart relative to the average, its walls in cm, and the generator of what varies."""

    scale: float
    septal: float
    wall: float
    thin: float
    rng: np.random.Generator

    def vary(self, value: float, by: float = 0.12) -> float:
        """A length of the average heart, in cm, varied by up to a fraction `by`."""
        return value * self.scale * self.rng.uniform(1 - by, 1 + by)


def _chambers(view: str, rng: np.random.Generator) -> tuple[list[Chamber], float]:
    """Chambers of a view, the left ventricle first, and the septal thickness in cm."""
    scale = rng.uniform(0.85, 1.15)
    sizes = _Sizes(scale, rng.uniform(0.8, 1.35) * scale, rng.uniform(0.75, 1.2) * scale, rng.uniform(0.2, 0.4), rng)
    if view in ("a4c", "a2c", "subcostal"):
        return _two_or_four_chambers(view, sizes), sizes.wall if view == "a2c" else sizes.septal
    of_view = {"a3c": _apical_long_axis, "plax": _parasternal_long_axis, "psax": _short_axis}[view]
    return of_view(sizes), sizes.septal


def _two_or_four_chambers(view: str, sizes: _Sizes) -> list[Chamber]:
    rng = sizes.rng
    down = _unit(rng.uniform(-16, 16))
    apex = np.array([rng.uniform(-0.8, 1.8 if view == "a4c" else 0.8), rng.uniform(1.8, 4.2)])
    if view == "subcostal":
        # four chambers from below: apex to the right, right heart towards the probe, at greater depth
        sizes = sizes._replace(scale=sizes.scale * 0.82)
        down = _unit(rng.uniform(-95, -62))
        apex = np.array([rng.uniform(4.2, 5.4), rng.uniform(8.0, 9.4)])
    left = np.array([-down[1], down[0]])
    length, width = sizes.vary(4.3), sizes.vary(2.25, 0.2)
    lv = Chamber("lv", apex + length * down, down, length, width, sizes.wall)
    atrium = sizes.vary(2.3, 0.2)
    centre = lv.centre + (length + 0.82 * atrium) * down + rng.uniform(-0.3, 0.3) * left
    la = Chamber("la", centre, down, atrium, sizes.vary(2.2, 0.15), sizes.thin)
    if view == "a2c":
        return [lv, la]
    rv_width = sizes.vary(1.75, 0.25)
    rv_axis = _unit(np.rad2deg(np.arctan2(*down)) + rng.uniform(2, 16))
    rv_length = sizes.vary(3.5)
    centre = lv.centre + (width + sizes.septal + 0.72 * rv_width) * left + sizes.vary(0.7, 0.6) * down
    rv = Chamber("rv", centre, rv_axis, rv_length, rv_width, rng.uniform(0.3, 0.55))
    ra_size = sizes.vary(2.1, 0.2)
    centre = la.centre + (la.width + 0.25 + sizes.vary(2.05, 0.05)) * left + rng.uniform(-0.4, 0.4) * down
    ra = Chamber("ra", centre, down, ra_size, sizes.vary(2.0, 0.15), sizes.thin)
    return [lv, rv, la, ra]


def _parasternal_long_axis(sizes: _Sizes) -> list[Chamber]:
    rng, vary = sizes.rng, sizes.vary
    axis = _unit(rng.uniform(70, 100))
    up = np.array([axis[1], -axis[0]])  # towards the probe
    centre = np.array([rng.uniform(-2.2, -0.6), rng.uniform(7.0, 8.6)])
    lv = Chamber("lv", centre, axis, vary(4.0), vary(2.3, 0.15), sizes.wall)
    base = lv.centre + 0.98 * lv.length * axis
    centre = base + 1.5 * sizes.scale * axis - 1.35 * sizes.scale * up
    la = Chamber("la", centre, axis, vary(2.1), vary(1.75), sizes.thin)
    centre = base + 1.3 * sizes.scale * axis + 0.95 * sizes.scale * up
    ao = Chamber("ao", centre, _unit(rng.uniform(85, 115)), vary(2.6), vary(1.25), 0.3)
    centre = lv.centre + (lv.width + sizes.septal + 0.7) * up + rng.uniform(0, 1.5) * axis
    rv = Chamber("rv", centre, axis, vary(3.2), vary(1.15, 0.25), 0.4)
    return [lv, la, ao, rv]


def _short_axis(sizes: _Sizes) -> list[Chamber]:
    rng, vary = sizes.rng, sizes.vary
    radius = vary(2.35, 0.15)
    centre, axis = np.array([rng.uniform(-0.5, 1.2), rng.uniform(6.5, 8.5)]), _unit(rng.uniform(-30, 30))
    lv = Chamber("lv", centre, axis, radius, radius * rng.uniform(0.88, 1.0), sizes.wall)
    towards = _unit(180 + rng.uniform(20, 75))
    rv = Chamber("rv", lv.centre + vary(3.0) * towards, _unit(rng.uniform(-70, -20)), vary(3.1), vary(2.1), 0.4)
    return [lv, rv]


def _apical_long_axis(sizes: _Sizes) -> list[Chamber]:
    """Left ventricle, left atrium below it, aorta to the right, and a slice of the right ventricle."""
    rng, vary = sizes.rng, sizes.vary
    down = _unit(rng.uniform(-14, 10))
    right = np.array([down[1], -down[0]])
    length, width = vary(4.2), vary(2.2, 0.15)
    apex = np.array([rng.uniform(-1.0, 0.6), rng.uniform(1.8, 3.8)])
    lv = Chamber("lv", apex + length * down, down, length, width, sizes.wall)
    atrium, root = vary(2.0), vary(2.4)
    centre = lv.centre + (length + 0.8 * atrium) * down - 0.35 * width * right
    la = Chamber("la", centre, down, atrium, vary(1.9, 0.15), sizes.thin)
    lean = np.arctan2(*down) + np.deg2rad(rng.uniform(12, 28))
    out = np.array([np.sin(lean), np.cos(lean)])
    base = lv.centre + 0.72 * length * down + 0.55 * width * right
    ao = Chamber("ao", base + 0.85 * root * out, out, root, vary(0.95), 0.3)
    slice_ = vary(0.95, 0.3)
    centre = lv.centre + (width + sizes.septal + 0.8 * slice_) * right + vary(0.3, 0.9) * down
    rv = Chamber("rv", centre, down, vary(3.0), slice_, 0.35)
    return [lv, la, ao, rv]


def _leaflets(view: str, chambers: list[Chamber], rng: np.random.Generator) -> tuple[Leaflet, ...]:
    """Valve leaflets between adjoining chambers."""

    def pair(inflow: Chamber, outflow: Chamber, diastolic: bool) -> list[Leaflet]:
        # `inflow` empties into `outflow`; one hinge on each side of the opening between the ellipses
        along = outflow.centre - inflow.centre
        distance = np.linalg.norm(along)
        along = along / distance
        side = np.array([-along[1], along[0]])
        plane = inflow.centre + along * (distance * inflow.length / (inflow.length + outflow.length))
        half = 0.62 * min(inflow.width, outflow.width)
        forward = np.arctan2(along[0], along[1])
        out = []
        for sign in (-1, 1):
            inward = np.arctan2(*(-sign * side))
            turn = (inward - forward + np.pi) % (2 * np.pi) - np.pi  # from the flow direction to the closed position
            length, closed = half * rng.uniform(0.9, 1.15), forward + turn * rng.uniform(0.8, 0.95)
            opened = forward + turn * rng.uniform(-0.05, 0.3)
            out.append(Leaflet(plane + sign * half * side, length, closed, opened, diastolic))
        return out

    if view in ("a4c", "subcostal"):
        lv, rv, la, ra = chambers
        return tuple(pair(la, lv, True) + pair(ra, rv, True))
    if view == "a2c":
        lv, la = chambers
        return tuple(pair(la, lv, True))
    if view in ("plax", "a3c"):
        lv, la, ao, _ = chambers
        return tuple(pair(la, lv, True) + pair(lv, ao, False))
    return ()


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, int], sigma: float | tuple[float, float]) -> np.ndarray:
    """Gaussian random field of unit variance, smoothed over `sigma` grid points."""
    field = gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return field / field.std()


def rest_grid() -> np.ndarray:
    """Positions (z, x, 2) in cm of the rest maps."""
    (x0, x1), (z0, z1) = EXTENT
    return np.stack(np.meshgrid(np.arange(x0, x1, SPACING), np.arange(z0, z1, SPACING)), axis=-1)


def _distance(mask: np.ndarray) -> np.ndarray:
    """Distance in cm of the points in a mask from the nearest one outside."""
    return np.asarray(distance_transform_edt(mask)) * SPACING


def _echogenicity(chambers: list[Chamber], septal: float, rng: np.random.Generator) -> np.ndarray:
    """Echogenicity map in dB relative to myocardium on the rest grid (z, x)."""
    points = rest_grid()
    x, z = np.moveaxis(points, -1, 0)
    shape = x.shape
    # a smooth warp, so that outlines are not perfect ellipses
    warp = np.stack([_smooth_noise(rng, shape, 24), _smooth_noise(rng, shape, 24)], -1) * rng.uniform(0.05, 0.2)
    warped = points + warp
    blood, muscle, from_lv = _blood_and_muscle(chambers, septal, warped)
    heart = blood | muscle
    outside, depth_in_muscle = _distance(~heart), _distance(heart)

    # papillary muscles and trabeculae: blobs on the inside of the left ventricle's wall
    lv = chambers[0]
    for _ in range(rng.integers(0, 4)):
        angle = lv.angle_towards(lv.centre * 2 - chambers[-1].centre) + rng.uniform(-1.5, 1.5)
        at = lv.boundary(np.array([angle]), scale=rng.uniform(0.78, 0.95))[0]
        blob = Chamber("lv", at, lv.axis, rng.uniform(0.3, 0.9), rng.uniform(0.2, 0.4), 0.0).radius(warped) < 1
        blood &= ~blob
        muscle |= blob
    decibel = _tissue_levels(blood, muscle, outside, rng)

    # specular surfaces are brightest when they face the probe
    def facing(distance: np.ndarray) -> np.ndarray:
        gz, gx = np.gradient(gaussian_filter(distance, 3))
        norm = np.hypot(gx, gz) * np.hypot(x, z) + 1e-6
        return np.abs(gx * x + gz * z) / norm

    surface = np.exp(-((outside / rng.uniform(0.1, 0.22)) ** 2)) * ~heart
    deep = 1 / (1 + np.exp(-(z - lv.centre[1]) / 1.5))
    pericardium = rng.uniform(8, 20) * (0.25 + 0.75 * facing(outside) ** 2) * (0.35 + 0.65 * deep)
    decibel += surface * np.clip(pericardium - np.minimum(decibel, 0), 0, None)
    behind = np.exp(-np.clip(outside, 0, None) / rng.uniform(0.5, 1.6)) * deep * ~heart
    decibel += behind * rng.uniform(2, 10)  # bright tissue behind the pericardium
    inner = np.exp(-((_distance(~blood) / 0.12) ** 2)) * muscle
    decibel += inner * rng.uniform(0, 9) * facing(from_lv) ** 2
    # muscle fibres along the beam scatter less: lateral walls drop out
    decibel += muscle * rng.uniform(-16, -2) * (1 - facing(depth_in_muscle) ** 0.5) * (depth_in_muscle > 0)

    # chest wall: layers in the first centimetres
    layers = _smooth_noise(rng, shape, (3, 60)) * rng.uniform(2, 6)
    chest = 1 / (1 + np.exp((z - rng.uniform(0.8, 2.2)) / 0.3)) * ~heart
    decibel += chest * (layers + rng.uniform(0, 10) - np.minimum(decibel, 0) * 0.5)
    return gaussian_filter(decibel, 0.8).astype(np.float32)


def _blood_and_muscle(
    chambers: list[Chamber], septal: float, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Masks (z, x) of the cavities and of their walls, and the distance in cm from the left ventricle's cavity."""
    inside = [chamber.radius(points) < 1 for chamber in chambers]
    from_lv = _distance(~inside[0])
    # the right heart ends where the septa begin
    left = [mask for mask, chamber in zip(inside, chambers, strict=True) if chamber.name in ("lv", "la", "ao")]
    from_left = _distance(~np.logical_or.reduce(left))
    for mask, chamber in zip(inside, chambers, strict=True):
        if chamber.name in ("rv", "ra"):
            mask &= (from_lv > septal) & (from_left > 0.3)
    blood = np.logical_or.reduce(inside)
    distances = [from_lv] + [_distance(~mask) for mask in inside[1:]]
    walls = [distance < chamber.wall for distance, chamber in zip(distances, chambers, strict=True)]
    return blood, np.logical_or.reduce(walls) & ~blood, from_lv


def _tissue_levels(blood: np.ndarray, muscle: np.ndarray, outside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Levels in dB of surroundings, muscle and blood, each with its own texture; `outside`: cm from the heart."""
    shape = blood.shape
    decibel = np.full(shape, rng.uniform(-30, -5))  # surroundings of the heart
    decibel += rng.uniform(2, 5) * _smooth_noise(rng, shape, (6, 14)) + rng.uniform(0, 3) * _smooth_noise(
        rng, shape, (2, 12)
    )
    decibel -= np.clip(outside - rng.uniform(0.3, 2.5), 0, None) * rng.uniform(0, 4)  # lung returns no echo
    muscle_level = (
        rng.uniform(2, 6) * _smooth_noise(rng, shape, 11)
        + rng.uniform(1, 4) * _smooth_noise(rng, shape, (2, 6))
        + rng.uniform(0, 3) * _smooth_noise(rng, shape, 3)
    )
    muscle_level -= rng.uniform(0, 16) * np.clip(_smooth_noise(rng, shape, 14) - 0.7, 0, None)  # thin, drop-out
    decibel[muscle] = muscle_level[muscle]
    decibel[blood] = rng.uniform(-52, -30)
    return decibel


def _add_liver(decibel: np.ndarray, chambers: list[Chamber], rng: np.random.Generator) -> np.ndarray:
    """`decibel` with liver between probe and heart: even and mid-grey, with dark veins and a bright diaphragm."""
    points, lv = rest_grid(), chambers[0]
    heart = np.logical_or.reduce([c.radius(points) < 1 + c.wall / c.width for c in chambers])
    outside = _distance(~heart)
    beside = (points - lv.centre) @ lv.across > rng.uniform(-0.5, 0.5) * lv.width
    liver = ~heart & beside & (points[..., 1] > rng.uniform(0.5, 1.2))
    level = rng.uniform(-13, -6) + rng.uniform(0.8, 1.6) * _smooth_noise(rng, decibel.shape, 8)
    for _ in range(rng.integers(2, 5)):
        centre, axis = np.array([rng.uniform(-4, 4), rng.uniform(1.5, 5)]), _unit(rng.uniform(-80, -20))
        radius = Chamber("", centre, axis, rng.uniform(0.6, 2.2), rng.uniform(0.12, 0.35), 0.0).radius(points)
        level = np.where(radius < 1, rng.uniform(-34, -24), level)
        level = level + rng.uniform(3, 8) * np.exp(-(((radius - 1.25) / 0.2) ** 2))
    level = level + rng.uniform(14, 22) * np.exp(-(((outside - 0.15) / 0.1) ** 2))  # the diaphragm
    return np.where(liver, level, decibel)


def make_anatomy(view: str, rng: np.random.Generator) -> Anatomy:
    """Draw a heart for `view` (one of `VIEWS` or `UNSEEN_VIEWS`)."""
    if view not in VIEWS + UNSEEN_VIEWS:
        raise ValueError(f"`view` must be one of {', '.join(VIEWS + UNSEEN_VIEWS)}, got {view!r}")
    chambers, septal = _chambers(view, rng)
    lv = chambers[0]
    right = next((c.centre for c in chambers if c.name == "rv"), lv.centre + np.array([-9.0, 0.0]))
    middle = lv.angle_towards(right)
    if view in ("a4c", "a2c", "a3c", "subcostal"):
        middle = np.pi / 2 * np.sign(middle)
    arc = middle + np.linspace(-0.45, 0.45, 24)
    septum = np.concatenate([lv.boundary(arc, 0.2 * septal), lv.boundary(arc[::-1], 0.8 * septal)])
    cavity = lv.boundary(np.linspace(0, 2 * np.pi, 48, endpoint=False), scale=0.62)
    leaflets, decibel = _leaflets(view, chambers, rng), _echogenicity(chambers, septal, rng)
    if view == "subcostal":
        decibel = gaussian_filter(_add_liver(decibel, chambers, rng), 0.8).astype(np.float32)
    extent = float(lv.length * rng.uniform(2.2, 3.0))
    return Anatomy(view, lv, tuple(chambers), leaflets, decibel, septum, cavity, extent)
