"""Haze: clutter that is added to the complex signal before the envelope.

Each family is a complex field in beam space that is static up to slow complex modulation, except side lobes, which
move with the tissue that causes them. Levels are in dB relative to median myocardium.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from .acoustics import Scanner
from .unseen import UNSEEN_FAMILIES, Source, amplitude, draw_unseen, uneven_cloud

FAMILIES = ("near field", "diffuse", "reverberation", "flank", "side lobes")
"""Kinds of clutter used in training; `UNSEEN_FAMILIES` are excluded from it."""
__all__ = ["FAMILIES", "UNSEEN_FAMILIES", "Haze", "some_families", "some_strength"]


def some_strength(rng: np.random.Generator, most: float = 3.0) -> float:
    """Strength of the clutter in a training clip, relative to that in evaluation clips: -6 to `most` decibels."""
    return 10 ** (rng.uniform(-6, most) / 20)


def some_families(rng: np.random.Generator) -> list[str]:
    """Kinds of clutter in a training clip.

    Evaluation clips are hazy everywhere. In training any family may be missing, and a third of the clips have only
    bright patches on a clear image, so that the network learns to leave clear regions unchanged.
    """
    if rng.random() < 1 / 3:
        return ["near field", "flank"]
    return [family for family in FAMILIES if rng.random() < 0.75]


@dataclass(frozen=True)
class Haze:
    """The clutter of one clip."""

    fields: np.ndarray  # static complex fields (components, ranges, beams)
    rates: np.ndarray  # modulation frequencies (components,) in Hz
    depths: np.ndarray  # modulation depths (components,) in [0, 1]
    phases: np.ndarray  # modulation phases (components,) in radians
    side_lobe: tuple[float, float]  # level of the laterally smeared tissue signal (linear), and its width in beams
    carrier: np.ndarray  # phase of that signal (ranges, beams), complex, of unit modulus
    unseen: tuple[Source, ...] = ()  # clutter of `UNSEEN_FAMILIES`, in units of `scale`
    scale: tuple[float, float] = (1.0, 1.0)  # envelope of median myocardium, and the factor on the unseen clutter
    # how far each component's level drifts up and down, in decibels, and the period in seconds
    drift: tuple[float, float] = (0.0, 1.0)

    @classmethod
    def draw(
        cls,
        scanner: Scanner,
        reference: float,
        rng: np.random.Generator,
        strength: float = 1.0,
        families: Collection[str] = FAMILIES,
    ) -> "Haze":
        """Draw clutter of the given `families`, seen or unseen, for tissue with a median envelope of `reference`.

        `strength` scales all amplitudes; 0 is a clean acquisition. Omitting a family does not change the others.
        """
        # one cloud is always over the chambers
        envelopes = [
            ("near field", _near_field(scanner, rng)),
            ("diffuse", _diffuse(scanner, rng, (-4, 7), 0.35)),
            *(("diffuse", _diffuse(scanner, rng, (-17, 0), 0.6)) for _ in range(rng.integers(0, 3))),
        ]
        if rng.random() < 0.5:
            envelopes.append(("reverberation", _reverberation(scanner, rng)))
        if rng.random() < 0.5:
            envelopes.append(("flank", _flank(scanner, rng)))
        fields, speckles = [], []
        for family, envelope in envelopes:
            level = strength * reference * (family in families)
            # two realisations per family, modulated separately: slowly varying clutter of rank above one
            for share in (1.0, rng.uniform(0.1, 0.7)):
                speckles.append(speckle(scanner, rng))
                fields.append(share * level * envelope * speckles[-1])
        count = len(fields)
        rates, depths = rng.uniform(0.05, 1.2, count), rng.uniform(0.0, 0.35, count)
        phases = rng.uniform(0, 2 * np.pi, count)
        side_lobes = strength * ("side lobes" in families)
        side_lobe = (side_lobes * 10 ** (rng.uniform(-38, -20) / 20), rng.uniform(8, 25))
        restless = rng.random() < 0.25  # some haze boils
        unseen = draw_unseen(families, scanner, rng)  # last, so that the families used in training stay the same
        return cls(
            fields=np.stack(fields).astype(np.complex64),
            rates=rates * (2.5 if restless else 1),
            depths=np.sqrt(depths) if restless else depths,
            phases=phases,
            side_lobe=side_lobe,
            carrier=np.exp(1j * np.angle(speckles[0])).astype(np.complex64),
            unseen=unseen,
            scale=(reference, strength),
        )

    def at(self, time: float, tissue: np.ndarray) -> np.ndarray:
        """Complex clutter (ranges, beams) at `time` seconds, given the complex tissue signal at that time."""
        angle = 2 * np.pi * self.rates * time + self.phases
        weight = (1 - self.depths + self.depths * np.exp(1j * angle)).astype(np.complex64)
        decibels, period = self.drift
        if decibels > 0:  # components take turns, so that the pattern changes too
            weight *= 10 ** (decibels / 20 * np.sin(2 * np.pi * time / period + self.phases))
        clutter = np.tensordot(weight, self.fields, axes=1)
        level, width = self.side_lobe
        if level > 0:
            # side lobes: neighbours' energy without their phase
            smeared = np.sqrt(gaussian_filter(np.abs(tissue) ** 2, (1.5, width)))
            clutter = clutter + level * smeared * self.carrier
        reference, strength = self.scale
        for source in self.unseen:
            clutter = clutter + strength * reference * source(time, tissue / reference)
        return clutter


def speckle(scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """Fully developed speckle with a median envelope of 1, usually coarser than the tissue's."""
    white = rng.standard_normal((scanner.ranges, scanner.beams, 2)).astype(np.float32) @ np.array([1, 1j], np.complex64)
    field = scanner.blur(white, lateral=rng.uniform(0.9, 4.0), axial=rng.uniform(0.9, 2.8))
    return field / np.median(np.abs(field))


def _near_field(scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """Reverberation below the probe: strong at the skin, decaying with range."""
    r, a = scanner.grid
    decay = rng.uniform(8, 30) / rng.uniform(2.5, 6)  # dB per cm
    tilt = 1 + rng.uniform(-0.8, 0.8) * a / scanner.half_angle
    ripple = 1 + rng.uniform(0, 0.6) * np.cos(2 * np.pi * r / rng.uniform(0.4, 1.2))
    cap = rng.random() < 0.5
    level = amplitude(12, 30, rng) if cap else amplitude(-4, 14, rng)
    cone = np.exp(-0.5 * (a / (rng.uniform(0.3, 0.9) * scanner.half_angle)) ** 2) if cap else 1.0
    return level * 10 ** (-decay * r / 20) * np.clip(tilt, 0.1, None) * ripple * cone


def _diffuse(scanner: Scanner, rng: np.random.Generator, level: tuple[float, float], spread: float) -> np.ndarray:
    """Multipath haze: a broad cloud over the chambers."""
    down = scanner.depth * (0.4 + spread * rng.uniform(-0.5, 0.5))
    centre = down, rng.uniform(-spread, spread) * scanner.half_angle
    extent = rng.uniform(1.5, 5.5), rng.uniform(0.25, 1.0) * scanner.half_angle
    return uneven_cloud(scanner, centre, extent, level, rng)


def _reverberation(scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """Arcs at multiples of the depth of a strong reflector."""
    r, a = scanner.grid
    first, width, fall = rng.uniform(1.5, 4.5), rng.uniform(0.1, 0.4), rng.uniform(3, 8)
    window = np.exp(-0.5 * ((a - rng.uniform(-0.6, 0.6) * scanner.half_angle) / rng.uniform(0.15, 0.6)) ** 2)
    arcs = sum(10 ** (-fall * m / 20) * np.exp(-0.5 * ((r - m * first) / width) ** 2) for m in range(1, 5))
    return amplitude(-12, 3, rng) * arcs * window


def _flank(scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """A bright patch near one flank, as caused by ribs and lung edges."""
    r, a = scanner.grid
    angle = rng.choice([-1, 1]) * rng.uniform(0.35, 0.95) * scanner.half_angle
    blob = ((r - rng.uniform(2, 8)) / rng.uniform(0.4, 1.5)) ** 2 + ((a - angle) / rng.uniform(0.05, 0.18)) ** 2
    return amplitude(0, 30, rng) * np.exp(-0.5 * blob)
