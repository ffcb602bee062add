"""The scatterers of a heart, which move with it, and their echo."""

import dataclasses

import numpy as np

from .acoustics import Scanner
from .anatomy import Anatomy
from .findings import Findings, Solid, with_leaflet
from .motion import Modes, Motion

SCATTERERS = 110_000
LEAFLET_SCATTERERS = 500


@dataclasses.dataclass(frozen=True)
class Tissue:
    """Muscle, blood, leaflets and solid findings of one patient, as one scanner receives them."""

    scanner: Scanner
    motion: Motion
    found: Findings
    gain: np.ndarray  # amplitude gain of the scanner (ranges, beams)
    points: np.ndarray  # scatterers at rest (scatterers, 2), cm, uniform over beam space
    amplitude: np.ndarray  # their complex amplitudes
    modes: Modes
    solids: tuple[Solid, ...]  # what moves otherwise: the leaflets and the solid findings

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
        leaflets = []
        for leaflet in anatomy.leaflets:
            along = rng.random(LEAFLET_SCATTERERS)
            spread = rng.normal(0, 0.05, (LEAFLET_SCATTERERS, 2))
            echo = 10 ** (rng.uniform(-4, 8) / 20) * np.exp(2j * np.pi * rng.random(LEAFLET_SCATTERERS))
            leaflets.append(Solid(with_leaflet(motion, anatomy, leaflet, along, spread), echo))
        modes = motion.modes(anatomy, points)
        return cls(scanner, motion, found, gain, points, amplitude, modes, (*leaflets, *found.solids))

    def at(self, time: float) -> np.ndarray:
        """The complex echo at a time in seconds (ranges, beams)."""
        where = [self.motion.move(self.points, self.modes, time), *(solid.at(time) for solid in self.solids)]
        what = [self.amplitude, *(solid.amplitude for solid in self.solids)]
        field = self.scanner.blur(self.scanner.receive(np.concatenate(where), np.concatenate(what)))
        return self.found.shadows(time) * self.gain * field
