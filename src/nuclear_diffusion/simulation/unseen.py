"""Clutter excluded from training, to measure performance on haze unlike that in training.

The families of `haze` are static speckle with smooth envelopes, or tissue smeared beyond recognition. Each family here
differs in one property: moving copies of the tissue's structure, specular combs, another speckle size, or moving
patterns. Amplitudes are relative to median myocardium.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from .acoustics import Scanner

Source = Callable[[float, np.ndarray], np.ndarray]
"""Complex clutter (ranges, beams) at a time in seconds, given the complex tissue signal at that time."""


@dataclass(frozen=True)
class MovingReverberation:
    """Reverberation: copies of the tissue at greater depth that move with it."""

    # (factor, delay in samples, complex level) of each copy, which maps sample i to `factor` i + `delay`. Factor 2 is
    # a second trip to the probe, 1 a trip between layers of the chest wall.
    paths: tuple[tuple[float, float, complex], ...]
    spread: float  # standard deviation of the lateral blur by scattering at each reflection, beams

    @classmethod
    def draw(cls, scanner: Scanner, rng: np.random.Generator) -> "MovingReverberation":
        """Draw one for `scanner`."""
        if rng.random() < 0.4:
            paths = [(2.0, 0.0, amplitude(-8, -1, rng))]
        else:
            delay = round(rng.uniform(1.5, 3.5) / scanner.depth * scanner.ranges)
            first, loss = rng.uniform(-12, -5), rng.uniform(2, 6)
            paths = [(1.0, float(m * delay), 10 ** ((first - loss * (m - 1)) / 20)) for m in (1, 2, 3)]
        turned = [(factor, delay, level * np.exp(2j * np.pi * rng.random())) for factor, delay, level in paths]
        return cls(tuple(turned), rng.uniform(0.5, 2.5))

    def __call__(self, time: float, tissue: np.ndarray) -> np.ndarray:
        """See `Source`."""
        spread = gaussian_filter1d(tissue, self.spread, axis=1)
        samples = np.arange(len(tissue))
        copies = [level * _at_rows(spread, (samples - delay) / factor) for factor, delay, level in self.paths]
        return np.sum(copies, axis=0)


@dataclass(frozen=True)
class GratingLobes:
    """Ghost copies of the tissue at a fixed angle, where a coarse array is sensitive too."""

    ghosts: tuple[tuple[int, complex], ...]  # (displacement in beams, complex level) of each ghost
    smear: float  # standard deviation of the axial blur, samples, because the pulse is longer in the lobe

    @classmethod
    def draw(cls, scanner: Scanner, rng: np.random.Generator) -> "GratingLobes":
        """Draw one for `scanner`."""
        beams = rng.uniform(0.3, 0.6) / scanner.steps[1]
        strong, weak = rng.uniform(-3, 4), rng.uniform(4, 12)
        side = rng.choice([-1, 1])
        ghosts = [
            (round(sign * beams), 10 ** (decibel / 20) * np.exp(2j * np.pi * rng.random()))
            for sign, decibel in ((side, strong), (-side, strong - weak))
        ]
        return cls(tuple(ghosts), rng.uniform(0.3, 1.5))

    def __call__(self, time: float, tissue: np.ndarray) -> np.ndarray:
        """See `Source`."""
        smeared = gaussian_filter1d(tissue, self.smear, axis=0)
        out = np.zeros_like(smeared)
        for beams, level in self.ghosts:
            if beams > 0:
                out[:, beams:] += level * smeared[:, :-beams]
            else:
                out[:, :beams] += level * smeared[:, -beams:]
        return out


@dataclass(frozen=True)
class RibClutter:
    """Ring-down of superficial ribs: narrow, static combs of specular echoes without speckle."""

    field: np.ndarray  # complex (ranges, beams)

    @classmethod
    def draw(cls, scanner: Scanner, rng: np.random.Generator) -> "RibClutter":
        """Draw one for `scanner`."""
        r, a = scanner.grid
        field = np.zeros((scanner.ranges, scanner.beams), np.complex128)
        places = rng.permutation(np.linspace(-0.85, 0.85, 8))[: rng.integers(3, 6)]
        for place in places:
            centre = (place + rng.uniform(-0.08, 0.08)) * scanner.half_angle
            width, bow = rng.uniform(0.03, 0.075), rng.uniform(-1.5, 1.5)
            depth, thick = rng.uniform(0.5, 1.0), rng.uniform(0.1, 0.2)
            level, fall, reach = rng.uniform(14, 24), rng.uniform(0.3, 1.2), rng.uniform(9, 16)
            offset = a - centre
            teeth = sum(
                10 ** (-fall * m / 20)
                * np.exp(-0.5 * ((r - m * depth * (1 + bow * offset**2)) / thick) ** 2 + 2j * np.pi * rng.random())
                for m in range(1, int(reach / depth) + 1)
            )
            # the bone rings between two trips
            ring = 10 ** ((-rng.uniform(8, 16) - fall * r / depth) / 20) / (1 + np.exp((r - reach) / 0.5))
            # steeper than a Gaussian, whose flanks would be visible in dB
            beam = np.exp(-0.5 * (offset / width) ** 4)
            field += 10 ** (level / 20) * (teeth + ring) * beam
        return cls(field.astype(np.complex64))

    def __call__(self, time: float, tissue: np.ndarray) -> np.ndarray:
        """See `Source`."""
        return self.field


@dataclass(frozen=True)
class FineGrain:
    """A cloud with speckle finer across and much longer along the beam than the scanner's."""

    texture: np.ndarray  # complex (ranges, beams), with a median envelope of 1
    cloud: np.ndarray  # envelope (ranges, beams)
    drift: float  # lateral motion of the texture, beams per second

    @classmethod
    def draw(cls, scanner: Scanner, rng: np.random.Generator) -> "FineGrain":
        """Draw one for `scanner`."""
        texture = _speckle(scanner, rng, lateral=rng.uniform(0.1, 0.3), axial=rng.uniform(5, 10))
        return cls(texture, _cloud(scanner, rng, (2, 7)), rng.choice([-1, 1]) * rng.uniform(4, 12))

    def __call__(self, time: float, tissue: np.ndarray) -> np.ndarray:
        """See `Source`."""
        turn = np.exp(-2j * np.pi * np.fft.fftfreq(self.texture.shape[1]) * self.drift * time)
        return self.cloud * np.fft.ifft(np.fft.fft(self.texture, axis=1) * turn, axis=1)


@dataclass(frozen=True)
class Breathing:
    """Layers that always move along the beam with the breath, as lung and diaphragm do."""

    pattern: np.ndarray  # complex (ranges, beams) at rest
    amplitude: float  # amplitude of the motion, samples
    period: float  # seconds
    phase: float  # radians; with 0 it passes the rest position at full speed at time 0
    turn: float  # change of the echo's phase, radians per sample of motion

    @classmethod
    def draw(cls, scanner: Scanner, rng: np.random.Generator) -> "Breathing":
        """Draw one for `scanner`."""
        r, a = scanner.grid
        step, _ = scanner.steps
        layers = np.cos(2 * np.pi * (r + rng.uniform(-3, 3) * a) / rng.uniform(1.2, 2.8) + rng.uniform(0, 2 * np.pi))
        pattern = _speckle(scanner, rng, lateral=rng.uniform(1, 2), axial=rng.uniform(1, 1.6))
        pattern = pattern * _cloud(scanner, rng, (-1, 6)) * 10 ** (rng.uniform(5, 11) * layers / 20)
        return cls(
            pattern,
            rng.uniform(0.6, 1.3) / step,
            rng.uniform(2, 4),
            rng.uniform(-0.7, 0.3) + np.pi * rng.integers(2),
            -4 * np.pi * step / scanner.wavelength,
        )

    def travel(self, time: float) -> float:
        """Displacement away from the probe at `time` seconds, samples."""
        return float(self.amplitude * np.sin(2 * np.pi * time / self.period + self.phase))

    def __call__(self, time: float, tissue: np.ndarray) -> np.ndarray:
        """See `Source`."""
        travel = self.travel(time)
        moved = _at_rows(self.pattern, np.arange(len(self.pattern)) - travel)
        return moved * np.exp(1j * self.turn * travel)


SOURCES = {
    "moving reverberation": MovingReverberation.draw,
    "grating lobes": GratingLobes.draw,
    "rib clutter": RibClutter.draw,
    "fine grain": FineGrain.draw,
    "breathing": Breathing.draw,
}

UNSEEN_FAMILIES = tuple(SOURCES)
"""Kinds of clutter excluded from training."""


def draw_unseen(families: Collection[str], scanner: Scanner, rng: np.random.Generator) -> tuple[Source, ...]:
    """Draw the unseen ones of `families`; omitting one does not change the others, and `rng` is unused without any."""
    if not set(families) & set(UNSEEN_FAMILIES):
        return ()
    seeds = rng.integers(2**63, size=len(SOURCES))
    drawn = zip(SOURCES.items(), seeds, strict=True)
    return tuple(draw(scanner, np.random.default_rng(seed)) for (name, draw), seed in drawn if name in families)


def amplitude(low: float, high: float, rng: np.random.Generator) -> float:
    """A factor between `low` and `high` dB."""
    return 10 ** (rng.uniform(low, high) / 20)


def _at_rows(field: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`field` at fractional `rows`, by linear interpolation, 0 beyond its ends."""
    last = len(field) - 1
    low = np.clip(np.floor(rows).astype(int), 0, last - 1)
    part = (rows - low)[:, None].astype(np.float32)
    inside = ((rows >= 0) & (rows <= last))[:, None]
    return np.where(inside, (1 - part) * field[low] + part * field[low + 1], 0)


def _speckle(scanner: Scanner, rng: np.random.Generator, lateral: float, axial: float) -> np.ndarray:
    """Fully developed speckle with a median envelope of 1; its size is relative to the scanner's."""
    white = rng.standard_normal((scanner.ranges, scanner.beams, 2)).astype(np.float32) @ np.array([1, 1j], np.complex64)
    field = scanner.blur(white, lateral=lateral, axial=axial)
    return field / np.median(np.abs(field))


def _cloud(scanner: Scanner, rng: np.random.Generator, level: tuple[float, float]) -> np.ndarray:
    """A broad, uneven envelope over the chambers, with `level` in dB."""
    centre = scanner.depth * rng.uniform(0.3, 0.55), rng.uniform(-0.4, 0.4) * scanner.half_angle
    extent = rng.uniform(2.5, 6), rng.uniform(0.4, 1.0) * scanner.half_angle
    return uneven_cloud(scanner, centre, extent, level, rng)


def uneven_cloud(
    scanner: Scanner,
    centre: tuple[float, float],
    extent: tuple[float, float],
    level: tuple[float, float],
    rng: np.random.Generator,
) -> np.ndarray:
    """An uneven Gaussian envelope (ranges, beams), with `centre` and `extent` in cm and radians and `level` in dB."""
    r, a = scanner.grid
    cloud = np.exp(-0.5 * ((r - centre[0]) / extent[0]) ** 2 - 0.5 * ((a - centre[1]) / extent[1]) ** 2)
    uneven = gaussian_filter(rng.standard_normal((scanner.ranges, scanner.beams)), (25, 14), mode="nearest")
    return amplitude(*level, rng) * cloud * 10 ** (rng.uniform(0, 5) * uneven / uneven.std() / 20)
