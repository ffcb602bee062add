"""Motion of the heart: a few fixed displacement modes, each driven by a function of time.

A material point with rest position x0 is at x(t) = x0 + sum_m q_m(t) D_m(x0). The modes are the inward motion of the
left ventricle's wall, the descent of the base towards the apex, and the translation of the heart with beat and breath.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .anatomy import Anatomy, Leaflet


def _rise(x: np.ndarray, start: float, stop: float) -> np.ndarray:
    """0 before `start`, 1 after `stop`, with a raised cosine between."""
    return 0.5 - 0.5 * np.cos(np.pi * np.clip((x - start) / (stop - start), 0, 1))


def contraction(phase: np.ndarray) -> np.ndarray:
    """Contraction in [0, 1] at `phase` in [0, 1) from the R wave: systole, rapid filling, diastasis, atrial kick."""
    return _rise(phase, 0.02, 0.35) - 0.75 * _rise(phase, 0.42, 0.58) - 0.25 * _rise(phase, 0.85, 0.99)


def opening(phase: np.ndarray, diastolic: bool) -> np.ndarray:
    """Opening of a valve in [0, 1] at `phase` of the cardiac cycle."""
    if diastolic:
        early = _rise(phase, 0.42, 0.48) * (1 - 0.7 * _rise(phase, 0.56, 0.68))
        return np.clip(early + 0.6 * _rise(phase, 0.84, 0.88) * (1 - _rise(phase, 0.95, 1.0)), 0, 1) * (
            1 - _rise(phase, 0.96, 1.0)
        )
    return _rise(phase, 0.04, 0.09) * (1 - _rise(phase, 0.36, 0.41))


class Modes(NamedTuple):
    """Displacements (n, 2) in cm of n material points for unit amplitude."""

    inward: np.ndarray
    base: np.ndarray
    heart: np.ndarray  # (n, 1): 1 in the heart, 0 far from it


@dataclass(frozen=True)
class Motion:
    """The cardiac cycle of one patient."""

    rate: float  # heart rate, beats per minute
    phase: float  # phase of the first frame
    shortening: float  # fractional inward motion of the left ventricle's inner wall at end-systole
    descent: float  # travel of the base towards the apex, cm
    swing: tuple[float, float]  # translation of the whole heart over the cycle (x, z), cm
    breathing: tuple[float, float, float]  # amplitude (x, z) in cm of the slow drift, and its period in seconds

    @classmethod
    def draw(cls, view: str, rng: np.random.Generator) -> "Motion":
        """Draw a heart function between healthy and poor."""
        return cls(
            rate=rng.uniform(48, 115),
            phase=rng.uniform(0, 1),
            shortening=rng.uniform(0.12, 0.38),
            descent=0.0 if view == "psax" else rng.uniform(0.4, 1.5),
            swing=(rng.uniform(-0.25, 0.25), rng.uniform(-0.3, 0.3)),
            breathing=(rng.uniform(0, 0.25), rng.uniform(0, 0.3), rng.uniform(2.5, 5)),
        )

    def modes(self, anatomy: Anatomy, points: np.ndarray) -> Modes:
        """Displacement modes at the rest positions `points` (n, 2)."""
        lv = anatomy.ventricle
        offset = points - lv.centre
        along, across = offset @ lv.axis, offset @ lv.across
        radius = lv.radius(points)
        # the inner wall moves most and the outer wall little, because muscle thickens
        reach = np.exp(-((np.clip(radius - 1, 0, None) / 0.42) ** 2))[:, None]
        round_view = anatomy.view == "psax"
        inward = -reach * (offset if round_view else across[:, None] * lv.across)
        # zero at the apex, full at the base, fading over the atria
        position = (along + lv.length) / (2 * lv.length)
        base = -(_rise(position, 0.0, 1.0) * (1 - _rise(position, 1.1, 1.9)))[:, None] * lv.axis
        distance = np.linalg.norm(offset, axis=1)
        heart = (1 - _rise(distance, 0.55 * anatomy.extent, anatomy.extent))[:, None]
        # the chest wall below the probe does not move
        heart = heart * _rise(points[:, 1], 0.5, 2.5)[:, None]
        return Modes(inward * heart, base * heart, heart)

    def cycle(self, time: float) -> float:
        """Phase in [0, 1) at `time` seconds."""
        return float((self.phase + time * self.rate / 60) % 1)

    def move(self, points: np.ndarray, modes: Modes, time: float) -> np.ndarray:
        """Positions (n, 2) in cm at `time` seconds of material points with rest positions `points`."""
        squeeze = float(contraction(np.array([self.cycle(time)]))[0])
        breath = np.sin(2 * np.pi * time / self.breathing[2])
        shift = squeeze * np.array(self.swing) + breath * np.array(self.breathing[:2])
        return points + squeeze * (self.shortening * modes.inward + self.descent * modes.base) + modes.heart * shift

    def leaflet(self, valve: Leaflet, hinge: np.ndarray, along: np.ndarray, time: float) -> np.ndarray:
        """Positions (n, 2) at `time` of points at fractions `along` in [0, 1] of a leaflet hinged at `hinge`."""
        open_ = float(opening(np.array([self.cycle(time)]), valve.diastolic)[0])
        angle = valve.closed + open_ * (valve.opened - valve.closed)
        bend = angle + 0.5 * (along - 0.5) * (1 - 0.5 * open_)  # leaflets are curved, most when closed
        return hinge + valve.length * along[:, None] * np.stack([np.sin(bend), np.cos(bend)], axis=1)
