"""Findings: features of real clips that the basic simulator lacks, so that networks do not mistake them for haze.

Muscle in the chambers, bright surroundings, calcium, leads and prostheses are tissue and appear in the clean clip, and
so do a weak far field, a dark or wide grey scale and repeated frames. Only near-field haze and the trailing echoes of
metal and calcium are limited to the hazy clip. Each finding has its own random stream.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from .acoustics import Scanner
from .anatomy import EXTENT, SPACING, Anatomy, Chamber, Leaflet, rest_grid
from .haze import speckle
from .motion import Motion

PROBABILITY = {
    "muscles": 0.5,
    "surroundings": 0.4,
    "calcium": 0.35,
    "lead": 0.25,
    "prosthetic valve": 0.2,
    "weak far field": 0.25,
    "low gain": 0.25,
    "wide range": 0.2,
    "near haze": 0.4,
    "still": 0.2,
    "stutter": 0.2,
}
"""Probability of each finding, for training patients with any findings."""
FINDINGS = tuple(PROBABILITY)
"""Kinds of findings.

- muscles: papillary muscles, trabeculae, a moderator band in the right ventricle;
- surroundings: tissue around and between the chambers as bright as their walls;
- calcium: small bright spots on valves, annulus and aortic root, some with a shadow or a comet tail;
- lead: a pacemaker lead through the right heart; none in views without a right ventricle;
- prosthetic valve: bright bars at an annulus, with a moving reverberation; none in views without valves;
- weak far field, low gain, wide range: walls near the noise level, a dark image, grey chambers;
- near haze: haze at least as bright as tissue over the first 3 to 6 cm;
- still, stutter: all frames identical, or some frames repeated.
"""
DENSITY = 1.5  # tissue scatterers per sample of the scanner's grid; see `tissue.SCATTERERS`


def some_findings(rng: np.random.Generator) -> list[str]:
    """Findings of a training patient; a quarter of the patients have none."""
    if rng.random() < 0.25:
        return []
    return [name for name, probability in PROBABILITY.items() if rng.random() < probability]


class Solid(NamedTuple):
    """Scatterers with a motion of their own: a leaflet, a spot of calcium, a lead or a prosthesis."""

    at: Callable[[float], np.ndarray]  # positions (n, 2) in cm at a time in seconds
    amplitude: np.ndarray  # complex (n,), relative to a scatterer in myocardium
    shadow: float = 0.0  # loss behind it, dB
    # trailing echoes, or None: their spacing in cm, the level of the first and the loss per echo in dB
    tail: tuple[float, float, float] | None = None

    def shade(self, scanner: Scanner, time: float) -> np.ndarray:
        """Remaining amplitude (ranges, beams) in its shadow, 1 elsewhere."""
        r, a = scanner.grid
        points = self.at(time)
        angles = np.arctan2(points[:, 0], points[:, 1])
        # wider by the beam width
        width = np.ptp(angles) / 2 + scanner.lateral
        behind = 1 / (1 + np.exp(-np.clip((r - np.hypot(*points.T).max() - 0.25) / 0.08, -50, 50)))
        across = np.exp(-(((a - angles.mean()) / width) ** 4))
        return (10 ** (-self.shadow / 20 * behind * across)).astype(np.float32)

    def echoes(self, time: float, reach: float) -> tuple[np.ndarray, np.ndarray]:
        """Positions and amplitudes of the trailing echoes up to a range of `reach` cm."""
        points = self.at(time)
        if self.tail is None:
            return points[:0], self.amplitude[:0]
        spacing, level, loss = self.tail
        r = np.hypot(*points.T)
        trips = np.arange(1, min(int((reach - r.min()) / spacing), int(40 / loss)) + 1)
        away = 1 + trips[:, None] * spacing / r
        weight = 10 ** ((level - loss * (trips - 1)) / 20)
        return (away[..., None] * points).reshape(-1, 2), (weight[:, None] * self.amplitude).ravel()


@dataclass(frozen=True)
class NearHaze:
    """Clutter in the first centimetres, at least as bright as tissue, that hides the apex."""

    fields: np.ndarray  # complex (components, ranges, beams), relative to the septum's envelope
    rates: np.ndarray  # modulation frequencies (components,) in Hz; 0 for static

    @classmethod
    def draw(cls, scanner: Scanner, rng: np.random.Generator) -> "NearHaze":
        """Draw one for `scanner`: 3 to 6 cm deep with a ragged lower edge; half are static, the others boil."""
        r, a = scanner.grid
        beams = np.arange(scanner.beams)

        def uneven(sigma: float) -> np.ndarray:
            noise = gaussian_filter1d(rng.standard_normal(scanner.beams), sigma)
            return noise / noise.std()

        # a wide patch, most often over the whole width of the near field
        centre, half = rng.uniform(-0.4, 0.4) * scanner.half_angle, rng.uniform(0.45, 1.6) * scanner.half_angle
        edge = rng.uniform(3.2, 5.8) - 1.2 * np.clip(((a[0] - centre) / half) ** 2, 0, 2.5)
        edge = np.clip(edge + rng.uniform(0.1, 0.4) * uneven(14) + rng.uniform(0.05, 0.25) * uneven(3), 0.5, 6.0)
        decibel = rng.uniform(1, 10) - rng.uniform(0, 1.2) * r
        patches = gaussian_filter(rng.standard_normal((scanner.ranges, beams.size)), (14, 9), mode="nearest")
        decibel = decibel + rng.uniform(0.5, 3) * patches / patches.std()
        bend = rng.uniform(0.1, 0.5)  # width of the edge, cm
        decibel = decibel - rng.uniform(8, 35) * bend * np.logaddexp(0, (r - edge) / bend)  # dB/cm below it
        count = 1 if rng.random() < 0.5 else 4
        fields = np.stack([speckle(scanner, rng) for _ in range(count)]) / np.sqrt(count)
        rates = np.zeros(1) if count == 1 else rng.choice([-1, 1], count) * rng.uniform(0.05, 0.6, count)
        return cls((10 ** (decibel / 20) * fields).astype(np.complex64), rates)

    def at(self, time: float) -> np.ndarray:
        """Complex clutter (ranges, beams) at `time` seconds."""
        return np.tensordot(np.exp(2j * np.pi * self.rates * time).astype(np.complex64), self.fields, axes=1)


@dataclass(frozen=True)
class Findings:
    """The findings of one clip, including the changed anatomy and scanner."""

    # anatomy, scanner: of the patient, with findings
    anatomy: Anatomy
    scanner: Scanner
    gain: np.ndarray | float  # factor on the tissue signal (ranges, beams)
    solids: tuple[Solid, ...]  # strong scatterers
    near: NearHaze | None  # near-field haze
    shade: float | None  # display intensity of the septum; None keeps the gain
    held: np.ndarray  # index (frames,) of the rendered frame that each frame shows

    @classmethod
    def draw(
        cls, names: Collection[str], seed: int, anatomy: Anatomy, scanner: Scanner, motion: Motion, frames: int
    ) -> "Findings":
        """Draw the findings `names` of `FINDINGS`; omitting one does not change the others."""
        rngs = {name: np.random.default_rng((seed, 5, k)) for k, name in enumerate(FINDINGS) if name in names}
        gain, solids = 1.0, []
        if "muscles" in rngs:
            anatomy = replace(anatomy, decibel=_muscles(anatomy, rngs["muscles"]))
        if "surroundings" in rngs:
            anatomy = replace(anatomy, decibel=_surroundings(anatomy, rngs["surroundings"]))
        for name, build in (("calcium", _calcium), ("lead", _lead), ("prosthetic valve", _prosthesis)):
            if name in rngs:
                solids += build(anatomy, scanner, motion, rngs[name])
        near = NearHaze.draw(scanner, rngs["near haze"]) if "near haze" in rngs else None
        if "weak far field" in rngs:
            gain, scanner = _weak_far_field(scanner, rngs["weak far field"])
        if "wide range" in rngs:
            scanner = _wide_range(scanner, rngs["wide range"])
        shade = rngs["low gain"].uniform(0.15, 0.3) if "low gain" in rngs else None
        held = np.arange(frames)
        if "stutter" in rngs:
            repeats = rngs["stutter"].uniform(0.2, 0.5)
            held[1:][rngs["stutter"].random(frames - 1) < repeats] = 0
        held = held * 0 if "still" in rngs else np.maximum.accumulate(held)
        return cls(anatomy, scanner, gain, tuple(solids), near, shade, held)

    def shadows(self, time: float) -> np.ndarray | float:
        """Factor on the tissue signal at `time` seconds, low in the shadow of calcium and metal."""
        shade = 1.0
        for solid in self.solids:
            if solid.shadow > 0:
                shade = shade * solid.shade(self.scanner, time)
        return shade

    def clutter(self, time: float, gain: np.ndarray, septum: float) -> np.ndarray | float:
        """Complex clutter (ranges, beams) at `time` seconds, given the tissue's `gain` and the septum's envelope."""
        clutter = 0.0
        if self.near is not None:
            clutter = clutter + septum * self.near.at(time)
        trailing = [solid.echoes(time, self.scanner.depth) for solid in self.solids if solid.tail is not None]
        if trailing:
            where, what = (np.concatenate(part) for part in zip(*trailing, strict=True))
            clutter = clutter + gain * self.scanner.blur(self.scanner.receive(where, what), lateral=1.5)
        return clutter

    def exposed(self, scanner: Scanner, septum: float) -> Scanner:
        """`scanner` with the gain that displays the septum at `shade`; its envelope is `septum` times the reference."""
        if self.shade is None:
            return scanner
        shade = scanner.reject + (1 - scanner.reject) * self.shade ** (1 / scanner.gamma)
        return replace(scanner, gain=(shade - 1) * scanner.dynamic_range - 20 * np.log10(septum))


# muscle and surroundings: changes of the echogenicity map


class _Ridge(NamedTuple):
    """A tapered rod in a `chamber`, from `start` to `end` (cm), with a radius in cm at each end."""

    chamber: Chamber
    start: np.ndarray
    end: np.ndarray
    radii: tuple[float, float]


def _muscles(anatomy: Anatomy, rng: np.random.Generator) -> np.ndarray:
    """Echogenicity with papillary muscles, trabeculae and, in the right ventricle, a moderator band.

    They are as bright as myocardium, attached to the wall and move with it; their outlines are irregular.
    """
    lv = anatomy.ventricle
    right = [chamber for chamber in anatomy.chambers if chamber.name == "rv"]
    ridges = []
    for k in range(rng.integers(1, 3)):
        thick = rng.uniform(0.3, 0.6)  # radius: 0.6 to 1.2 cm across
        if anatomy.view == "psax":
            # in cross-section: one or two round muscles in the lower half
            below = lv.angle_towards(lv.centre + np.array([(-1) ** k * rng.uniform(0.5, 1.2), 1.0]))
            root, tip = lv.boundary(np.array([below, below]), np.array([0.4, -rng.uniform(0.4, 0.9)]))
            ridges.append(_Ridge(lv, root, tip, (thick, 0.85 * thick)))
            continue
        # rods from the middle of a wall towards the valve, the first on the free wall
        side = _free_wall(anatomy) * (-1) ** k
        root = lv.boundary(np.array([side + np.sign(side) * rng.uniform(0.0, 0.7)]), 0.4)[0]
        inwards = -np.sign((root - lv.centre) @ lv.across) * lv.across
        lean = np.deg2rad(rng.uniform(15, 45))
        course = np.cos(lean) * lv.axis + np.sin(lean) * inwards
        ridges.append(_Ridge(lv, root, root + rng.uniform(1.0, 2.4) * course, (thick, rng.uniform(0.5, 0.9) * thick)))
    # short trabeculae in the apical half
    for chamber in [*right, lv] if anatomy.view != "psax" else right:
        for angle in np.pi + rng.uniform(-1.4, 1.4, rng.integers(2, 7)):
            root, tip = chamber.boundary(
                angle + np.array([0.0, rng.uniform(-0.5, 0.5)]), np.array([0.3, -rng.uniform(0.1, 0.6)])
            )
            thick = rng.uniform(0.15, 0.4)
            ridges.append(_Ridge(chamber, root, tip, (thick, rng.uniform(0.4, 1.0) * thick)))
    for chamber in right:
        if rng.random() < 0.7:  # the moderator band
            level = np.pi / 2 + rng.uniform(0.2, 0.9)
            ends = chamber.boundary(np.array([level + rng.uniform(-0.3, 0.3), -level]), 0.2)
            thick = rng.uniform(0.15, 0.3)
            ridges.append(_Ridge(chamber, ends[0], ends[1], (thick, thick)))
    decibel = anatomy.decibel.copy()
    level = rng.uniform(-4, 3)
    texture = gaussian_filter(rng.standard_normal(decibel.shape).astype(np.float32), (2, 4))
    texture *= rng.uniform(1.5, 3.5) / texture.std()
    wander = gaussian_filter(rng.standard_normal((*decibel.shape, 2)).astype(np.float32), (5, 5, 0))
    wander *= 0.15 / wander.std()  # cm, so that no ridge is a perfect rod
    for ridge in ridges:
        _lay(decibel, ridge, lv, level + texture, wander)
    return decibel


def _free_wall(anatomy: Anatomy) -> float:
    """Ellipse parameter of the left ventricle's outline in the middle of the wall opposite the septum."""
    lv = anatomy.ventricle
    return -np.pi / 2 * np.sign(lv.angle_towards(anatomy.septum.mean(0)))


def _lay(decibel: np.ndarray, ridge: _Ridge, lv: Chamber, level: np.ndarray, wander: np.ndarray) -> None:
    """Raise `decibel` to at least `level` in `ridge`, with an edge 0.5 mm wide."""
    (x0, _), (z0, _) = EXTENT
    reach = max(ridge.radii) + 0.4
    corners = np.array([ridge.start, ridge.end])
    low = np.floor((corners.min(0) - reach - [x0, z0]) / SPACING).astype(int).clip(0)
    high = np.ceil((corners.max(0) + reach - [x0, z0]) / SPACING).astype(int)
    window = np.s_[low[1] : high[1], low[0] : high[0]]
    part = decibel[window]
    if part.size == 0:
        return
    x = x0 + SPACING * (low[0] + np.arange(part.shape[1]))
    z = z0 + SPACING * (low[1] + np.arange(part.shape[0]))
    points = np.stack(np.meshgrid(x, z), -1) + wander[window]
    course = ridge.end - ridge.start
    along = np.clip((points - ridge.start) @ course / (course @ course), 0, 1)
    distance = np.linalg.norm(points - ridge.start - along[..., None] * course, axis=-1)
    inside = np.clip((ridge.radii[0] + along * (ridge.radii[1] - ridge.radii[0]) - distance) / 0.05, 0, 1)
    inside = inside * (ridge.chamber.radius(points) < 1 + ridge.chamber.wall / ridge.chamber.width)
    if ridge.chamber is not lv:  # the right ventricle's ellipse extends below the septum
        inside = inside * (lv.radius(points) > 1.15)
    part += inside * np.clip(level[window] - part, 0, None)


def _surroundings(anatomy: Anatomy, rng: np.random.Generator) -> np.ndarray:
    """Echogenicity with liver, mediastinum and lung edge as bright as the walls, without a gap around the heart."""
    points = rest_grid()
    chambers = np.logical_or.reduce([c.radius(points) < 1.1 for c in anatomy.chambers])
    blood = gaussian_filter((chambers & (anatomy.decibel < -26)).astype(np.float32), 1.0)
    shape = anatomy.decibel.shape

    def texture(sigma: tuple[float, float], spread: float) -> np.ndarray:
        noise = gaussian_filter(rng.standard_normal(shape).astype(np.float32), sigma)
        return spread * noise / noise.std()

    fill = rng.uniform(-5, 3) + texture((20, 30), rng.uniform(1, 6)) + texture((3, 8), rng.uniform(1, 3))
    return anatomy.decibel + (1 - np.clip(2 * blood, 0, 1)) * np.clip(fill - anatomy.decibel, 0, None)


# calcium and metal: scatterers


def _lone(scanner: Scanner, points: np.ndarray) -> np.ndarray:
    """Amplitudes at `points` (n, 2) for which a single scatterer peaks at myocardium's root mean square envelope."""
    step_r, step_a = scanner.steps
    area = scanner.axial / step_r * np.minimum(scanner.beam_width(np.hypot(*points.T)), 0.12) / step_a
    return np.sqrt(np.pi * DENSITY * area)


def _amplitude(scanner: Scanner, points: np.ndarray, level: np.ndarray | float, rng: np.random.Generator) -> np.ndarray:
    """Complex amplitudes at `points` (n, 2) whose power, summed per resolution cell, is `level` dB above myocardium."""
    r = np.hypot(*points.T)
    apart = np.stack([r / scanner.axial, np.arctan2(points[:, 0], points[:, 1]) / scanner.lateral], 1) / 2
    neighbours = np.exp(-0.5 * ((apart[:, None] - apart[None]) ** 2).sum(-1)).sum(1)
    turn = np.exp(2j * np.pi * rng.random(len(points)))
    return _lone(scanner, points) * 10 ** (np.asarray(level) / 20) / np.sqrt(neighbours) * turn


def _with_heart(motion: Motion, anatomy: Anatomy, points: np.ndarray) -> Callable[[float], np.ndarray]:
    """Positions over time of `points` (n, 2) that move with the heart."""
    modes = motion.modes(anatomy, points)
    return lambda time: motion.move(points, modes, time)


def with_leaflet(
    motion: Motion, anatomy: Anatomy, valve: Leaflet, along: np.ndarray, beside: np.ndarray
) -> Callable[[float], np.ndarray]:
    """Positions over time of points at fractions `along` (n,) of a leaflet, displaced by `beside` (n, 2) cm."""
    modes = motion.modes(anatomy, valve.hinge[None])

    def at(time: float) -> np.ndarray:
        return motion.leaflet(valve, motion.move(valve.hinge[None], modes, time), along, time) + beside

    return at


def _calcium(anatomy: Anatomy, scanner: Scanner, motion: Motion, rng: np.random.Generator) -> list[Solid]:
    """Spots of 1 to 5 mm, 18 to 32 dB above myocardium (healthy leaflets: 12 dB); the first on a hinge, if any."""
    aorta = [c for c in anatomy.chambers if c.name == "ao"]
    solids = []
    for k in range(rng.integers(3, 8)):
        beside = rng.normal(0, rng.choice([0.04, 0.07, 0.14]), (8, 2))
        valve = anatomy.leaflets[rng.integers(len(anatomy.leaflets))] if anatomy.leaflets else None
        kind = rng.random()
        if valve is not None and k > 0 and kind < 0.35:
            at = with_leaflet(motion, anatomy, valve, np.full(8, rng.uniform(0.2, 1.0)), beside)
        else:
            if valve is None:
                place = anatomy.ventricle.boundary(rng.uniform(0, 2 * np.pi, 1), rng.uniform(0, 0.5))[0]
            elif aorta and k > 0 and kind < 0.6:
                place = aorta[0].boundary(np.pi + rng.uniform(-1.8, 1.8, 1), 0.1)[0]
            else:
                place = valve.hinge + rng.normal(0, 0.0 if k == 0 else 0.25, 2)
            at = _with_heart(motion, anatomy, place + beside)
        behind = rng.random()
        solids.append(
            Solid(
                at,
                _amplitude(scanner, at(0.0), rng.uniform(18, 32), rng),
                shadow=rng.uniform(6, 20) if behind < 0.35 else 0.0,
                tail=(rng.uniform(0.12, 0.3), rng.uniform(-10, -4), rng.uniform(1.5, 4)) if behind > 0.7 else None,
            )
        )
    return solids


def _lead(anatomy: Anatomy, scanner: Scanner, motion: Motion, rng: np.random.Generator) -> list[Solid]:
    """A thin bright line from the right atrium to the right ventricle's apex, or the part of it in the scan plane."""
    right: dict[str, Chamber] = {c.name: c for c in anatomy.chambers}
    if "rv" not in right:
        return []
    rv = right["rv"]
    if "ra" in right:
        ra = right["ra"]
        valve = np.mean([leaflet.hinge for leaflet in anatomy.leaflets[2:4]], 0)
        knots = np.stack(
            [
                ra.centre + 0.95 * ra.length * ra.axis + rng.uniform(-0.5, 0.5) * ra.width * ra.across,
                ra.centre + rng.uniform(-0.5, 0.5) * ra.width * ra.across,
                valve + rng.uniform(-0.4, 0.4) * ra.across,
                rv.centre + rng.uniform(-0.35, 0.35) * rv.width * rv.across,
                rv.centre - 0.85 * rv.length * rv.axis,
            ]
        )
        seen = rng.uniform(0.0, 0.4), rng.uniform(0.65, 1.0)
    else:
        # a short oblique section
        course = np.array([rng.uniform(-1, 1), rng.uniform(-0.4, 0.4)]) * rng.uniform(0.5, 1.2)
        middle = rv.centre + rng.uniform(-0.4, 0.4) * rv.length * rv.axis
        knots, seen = middle + np.linspace(-0.5, 0.5, 4)[:, None] * course, (0.0, 1.0)
    curve = CubicSpline(np.linspace(0, 1, len(knots)), knots)
    length = np.linalg.norm(np.diff(curve(np.linspace(*seen, 50)), axis=0), axis=1).sum()
    along = np.sort(rng.uniform(*seen, max(20, int(50 * length))))
    points = curve(along) + rng.normal(0, 0.025, (len(along), 2))
    beads = gaussian_filter1d(rng.standard_normal(len(along)), 8)
    level = rng.uniform(8, 18) + rng.uniform(1, 4) * beads / beads.std()
    at = _with_heart(motion, anatomy, points)
    # slack, so it also bends with the heartbeat
    bow = rng.uniform(0.1, 0.35) * np.sin(np.pi * along)[:, None] * rv.across
    start = rng.uniform(0, 1)
    tail = (rng.uniform(0.25, 0.5), rng.uniform(-14, -7), rng.uniform(3, 6)) if rng.random() < 0.4 else None
    return [
        Solid(
            lambda time: at(time) + np.sin(2 * np.pi * (motion.cycle(time) + start)) * bow,
            _amplitude(scanner, points, level, rng),
            tail=tail,
        )
    ]


def _prosthesis(anatomy: Anatomy, scanner: Scanner, motion: Motion, rng: np.random.Generator) -> list[Solid]:
    """A prosthetic valve: a ring, with discs that move like leaflets or the posts of a bioprosthesis."""
    valves = anatomy.leaflets
    first = 2 * int(len(valves) > 2 and rng.random() < 0.4)
    if not valves:
        return []
    pair = valves[first : first + 2]
    ring = pair[1].hinge - pair[0].hinge
    ring = ring / np.linalg.norm(ring)
    discs = rng.random() < 0.5
    height, tilt = rng.uniform(0.8, 1.4), rng.uniform(-0.15, 0.15)
    size = rng.uniform(0.35, 0.6)
    parts: list[Callable[[float], np.ndarray]] = []
    for valve in pair:
        spread = rng.normal(0, 0.03, (24, 2))
        parts.append(_with_heart(motion, anatomy, valve.hinge + size * rng.uniform(-0.5, 0.5, (24, 1)) * ring + spread))
        along, beside = rng.uniform(0.05, 0.85, 40), rng.normal(0, 0.03, (40, 2))
        if discs:
            parts.append(with_leaflet(motion, anatomy, valve, along, beside))
        else:
            forward = np.array([np.sin(valve.opened), np.cos(valve.opened)]) + tilt * ring
            parts.append(_with_heart(motion, anatomy, valve.hinge + height * along[:, None] * forward + beside))

    def at(time: float) -> np.ndarray:
        return np.concatenate([part(time) for part in parts])

    return [
        Solid(
            at,
            _amplitude(scanner, at(0.0), rng.uniform(14, 26), rng),
            shadow=rng.uniform(6, 22) if rng.random() < 0.6 else 0.0,
            tail=(rng.uniform(0.35, 0.9), rng.uniform(-12, -4), rng.uniform(1.5, 4)),
        )
    ]


# the scan


def _weak_far_field(scanner: Scanner, rng: np.random.Generator) -> tuple[np.ndarray, Scanner]:
    """A gain that falls by 10 to 25 dB over the far half, and a scanner with noise just below the basal walls."""
    r, _ = scanner.grid
    loss, start = rng.uniform(10, 25), rng.uniform(4, 7)
    fade = np.clip((r - start) / (0.72 * scanner.depth - start), 0, 1.15)
    _, slope = scanner.noise
    level = -loss - rng.uniform(3, 12) - slope * (0.72 * scanner.depth - 8)
    return (10 ** (-loss * fade / 20)).astype(np.float32), replace(scanner, noise=(level, slope))


def _wide_range(scanner: Scanner, rng: np.random.Generator) -> Scanner:
    """A grey scale of 80 to 100 dB with little rejection, in which blood is grey."""
    return replace(
        scanner,
        dynamic_range=rng.uniform(80, 100),
        gain=rng.uniform(-40, -22),
        reject=rng.uniform(0.0, 0.08),
        gamma=rng.uniform(0.8, 1.2),
    )
