"""The scatterers of a heart, which move with it, and their echo."""

import dataclasses
from typing import NamedTuple

import numpy as np

from .acoustics import Scanner
from .anatomy import Anatomy, Leaflet
from .findings import Findings
from .motion import Modes, Motion

SCATTERERS = 110_000
LEAFLET_SCATTERERS = 500


class _Valve(NamedTuple):
    """The scatterers of a leaflet: positions along it, in [0, 1], and around it in cm."""

    leaflet: Leaflet
    along: np.ndarray
    spread: np.ndarray
    amplitude: np.ndarray
    modes: Modes


@dataclasses.dataclass(frozen=True)
class Tissue:
    """Muscle, blood, leaflets and solid findings of one patient, as one scanner receives them.

    Attributes:
        points: scatterers at rest (scatterers, 2), cm, uniform over beam space.
        amplitude: their complex amplitudes.
        gain: amplitude gain of the scanner (ranges, beams).
    """

    scanner: Scanner
    motion: Motion
    found: Findings
    gain: np.ndarray
    points: np.ndarray
    amplitude: np.ndarray
    modes: Modes
    valves: tuple[_Valve, ...]

    @classmethod
    def draw(
        cls,
        anatomy: Anatomy,
        scanner: Scanner,
        motion: Motion,
        found: Findings,
        gain: np.ndarray,
        rng: np.random.Generator,
    ) -> "Tissue":
        """Draw the scatterers of a heart at rest."""
        r = rng.uniform(0, scanner.depth * 1.1, SCATTERERS)
        a = rng.uniform(-1.2, 1.2, SCATTERERS) * scanner.half_angle
        points = np.stack([r * np.sin(a), r * np.cos(a)], axis=1)
        amplitude = anatomy.echogenicity(points) * np.exp(2j * np.pi * rng.random(SCATTERERS))
        strong = rng.random(SCATTERERS) < 0.002
        amplitude = amplitude * np.where(strong, rng.uniform(1, 5, SCATTERERS), 1.0)
        valves = []
        for leaflet in anatomy.leaflets:
            along = rng.random(LEAFLET_SCATTERERS)
            spread = rng.normal(0, 0.05, (LEAFLET_SCATTERERS, 2))
            echo = 10 ** (rng.uniform(-4, 8) / 20) * np.exp(2j * np.pi * rng.random(LEAFLET_SCATTERERS))
            valves.append(_Valve(leaflet, along, spread, echo, motion.modes(anatomy, leaflet.hinge[None])))
        modes = motion.modes(anatomy, points)
        return cls(scanner, motion, found, gain, points, amplitude, modes, tuple(valves))

    def at(self, time: float) -> np.ndarray:
        """The complex echo at a time in seconds (ranges, beams)."""
        where, what = [self.motion.move(self.points, self.modes, time)], [self.amplitude]
        for valve in self.valves:
            hinge = self.motion.move(valve.leaflet.hinge[None], valve.modes, time)
            where.append(self.motion.leaflet(valve.leaflet, hinge, valve.along, time) + valve.spread)
            what.append(valve.amplitude)
        for solid in self.found.solids:
            where.append(solid.at(time))
            what.append(solid.amplitude)
        field = self.scanner.blur(self.scanner.receive(np.concatenate(where), np.concatenate(what)))
        return self.found.shadows(time) * self.gain * field
