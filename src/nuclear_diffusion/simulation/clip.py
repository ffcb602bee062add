"""Simulated patients: a hazy and a clean clip of the same heartbeats, with regions of interest."""

import dataclasses
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter1d

from nuclear_diffusion.types import Progress

from .acoustics import Scanner
from .anatomy import VIEWS, make_anatomy
from .findings import FINDINGS, Findings
from .haze import FAMILIES, UNSEEN_FAMILIES, Haze
from .looks import unlike
from .motion import Motion
from .tissue import Tissue

SPLITS = {"train": 0, "development": 1_000_000, "test": 2_000_000}
"""First seed of each split of simulated patients; each split has a million."""


class SimulatedClip(NamedTuple):
    """A simulated acquisition with ground truth.

    Attributes:
        hazy, clean: display intensity in [0, 1] with and without clutter, float32 (frames, height, width).
        septum, ventricle: regions of interest, bool (frames, height, width).
        sector: mask of the image, bool (height, width).
        fps: frames per second.
        view: one of `VIEWS` or `UNSEEN_VIEWS`.
        seed: the patient's seed.
    """

    hazy: np.ndarray
    clean: np.ndarray
    septum: np.ndarray
    ventricle: np.ndarray
    sector: np.ndarray
    fps: float
    view: str
    seed: int


def patient_seed(split: str, index: int) -> int:
    """Seed of patient `index` (from 0) of `split` ("train", "development" or "test"); splits share no patient."""
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {', '.join(SPLITS)}, got {split!r}")
    if not 0 <= index < 1_000_000:
        raise ValueError(f"`index` must be in [0, 1000000), got {index}")
    return SPLITS[split] + index


def simulate(
    *,
    seed: int,
    frames: int = 60,
    size: int = 256,
    view: str | None = None,
    look: str | None = None,
    haze: float = 1.0,
    families: Collection[str] = FAMILIES,
    findings: Collection[str] = (),
    overlay: bool | None = None,
    times: np.ndarray | None = None,
    drift: tuple[float, float] = (0.0, 1.0),
    progress: Progress | None = None,
) -> SimulatedClip:
    """Simulate one patient: a beating heart, scanned with and without haze.

    Complex scatterers move with the tissue, followed by a depth-dependent point-spread function in beam space, complex
    clutter, envelope, log compression and scan conversion.

    Args:
        seed: the patient, which determines anatomy, motion, scanner and haze. See `patient_seed`.
        frames: length of the clip.
        size: side of the square frames, pixels.
        view: one of `VIEWS` or `UNSEEN_VIEWS`; None draws from `VIEWS` (four-chamber most often).
        look: one of `UNSEEN_LOOKS`, scanners excluded from training; None draws a scanner as in training.
        haze: factor on the clutter's amplitude; with 0 the hazy clip equals the clean one.
        families: kinds of clutter, from `FAMILIES` and `UNSEEN_FAMILIES`.
        findings: unusual features of the heart or the scan, from `FINDINGS`.
        overlay: whether to burn in ECG and text; None decides at random.
        times: times in seconds to render, instead of `frames` at the scanner's frame rate.
        drift: how far each part of the static clutter drifts up and down, in decibels, and the period in seconds.

    Returns:
        The clip and its ground truth, bit-identical for the same arguments.

    Raises:
        ValueError: a size or count below 1, or an unknown view, look, family or finding.
    """
    _require_valid(frames, size, haze, drift, families, findings)
    rng = np.random.default_rng(seed)
    drawn = str(rng.choice(VIEWS, p=(0.55, 0.15, 0.15, 0.15)))
    view = drawn if view is None else view
    anatomy = make_anatomy(view, rng)
    scanner = Scanner.draw(rng, size)
    if look is not None:
        scanner = unlike(scanner, look, np.random.default_rng((seed, 4)))
    motion = Motion.draw(view, rng)
    moments = np.arange(frames) / scanner.fps if times is None else np.asarray(times, float)
    found = Findings.draw(findings, seed, anatomy, scanner, motion, len(moments))  # with separate random streams
    anatomy, scanner = found.anatomy, found.scanner
    gain = found.gain * _gain_map(scanner, rng)
    tissue = Tissue.draw(anatomy, scanner, motion, found, gain, rng)
    outlines = [(o, motion.modes(anatomy, o)) for o in (anatomy.septum, anatomy.cavity)]

    first = tissue.at(float(moments[0]))
    reference = septum = _myocardium(first)
    if findings:
        wall = _polygon(scanner, motion.move(*outlines[0], float(moments[0]))) & scanner.sector
        level = float(np.median(scanner.scan_convert(np.abs(first))[wall])) if wall.any() else reference
        septum = max(level, 0.3 * reference)  # the wall may be in a rib's shadow
        scanner = found.exposed(scanner, septum / reference)
    clutter = Haze.draw(scanner, reference, np.random.default_rng((seed, 1)), haze, families)  # separate random stream
    clutter = dataclasses.replace(clutter, drift=drift)
    burn = _overlay(scanner, motion, rng) if (rng.random() < 0.3 if overlay is None else overlay) else None

    noise_level, noise_slope = scanner.noise
    noise_amplitude = reference * 10 ** ((noise_level + noise_slope * (scanner.grid[0] - 8)) / 20)
    hazy, clean, masks = [], [], []
    for k, time in enumerate(moments):
        signal = first if k == 0 else tissue.at(float(time))
        white = rng.standard_normal((2, scanner.ranges, scanner.beams), np.float32)
        signal = signal + noise_amplitude * (white[0] + 1j * white[1])
        hidden = signal
        if haze > 0:
            hidden = signal + clutter.at(float(time), signal) + haze * found.clutter(float(time), gain, septum)
        for out, field in ((clean, signal), (hazy, hidden)):
            image = scanner.scan_convert(scanner.compress(np.abs(field), reference))
            if burn is not None:
                image = np.where(burn > 0, burn, image)
            out.append(image)
        masks.append([_polygon(scanner, motion.move(o, m, float(time))) & scanner.sector for o, m in outlines])
        if progress is not None:
            progress(k + 1, len(moments))
    hazy, clean = (np.array(frames, np.float32)[found.held] for frames in (hazy, clean))
    walls, cavities = np.moveaxis(np.array(masks)[found.held], 1, 0)
    return SimulatedClip(hazy, clean, walls, cavities, scanner.sector, scanner.fps, view, seed)


def _require_valid(
    frames: int,
    size: int,
    haze: float,
    drift: tuple[float, float],
    families: Collection[str],
    findings: Collection[str],
) -> None:
    if frames < 1:
        raise ValueError(f"`frames` must be at least 1, got {frames}")
    if size < 16:
        raise ValueError(f"`size` must be at least 16 pixels, got {size}")
    if not haze >= 0:
        raise ValueError(f"`haze` must be at least 0, got {haze}")
    if not (drift[0] >= 0 and drift[1] > 0):
        raise ValueError(f"`drift` must be decibels of at least 0 and a positive period, got {drift}")
    known = (*FAMILIES, *UNSEEN_FAMILIES)
    if unknown := set(families) - set(known):
        raise ValueError(f"`families` must be among {', '.join(known)}, got {', '.join(sorted(unknown))}")
    if unknown := set(findings) - set(FINDINGS):
        raise ValueError(f"`findings` must be among {', '.join(FINDINGS)}, got {', '.join(sorted(unknown))}")


def _myocardium(signal: np.ndarray) -> float:
    """Envelope level taken as that of myocardium: the 75th percentile, excluding the near field."""
    return float(np.percentile(np.abs(signal)[len(signal) // 8 :], 75)) + 1e-12


def _gain_map(scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """Amplitude gain over beam space: imperfect time-gain compensation, weak flanks, rib shadows and drop-out."""
    r, a = scanner.grid
    ripple = gaussian_filter1d(rng.standard_normal(scanner.ranges), 45, mode="nearest")
    decibel = rng.uniform(0, 4) * (ripple / ripple.std())[:, None] - rng.uniform(-0.3, 1.6) * np.clip(r - 6, 0, None)
    decibel = decibel - rng.uniform(0, 26) * np.abs(a / scanner.half_angle) ** rng.uniform(2, 5)
    for _ in range(rng.integers(0, 3)):
        centre, width = rng.uniform(-1, 1) * scanner.half_angle, rng.uniform(0.03, 0.2)
        start = rng.uniform(0.5, 8)
        shade = np.exp(-(((a - centre) / width) ** 2)) / (1 + np.exp(-(r - start) / 0.5))
        decibel = decibel - rng.uniform(3, 28) * shade
    return (10 ** (decibel / 20)).astype(np.float32)


def _polygon(scanner: Scanner, points: np.ndarray) -> np.ndarray:
    """Mask (size, size) of the polygon with vertices `points` (n, 2) in cm."""
    image = Image.new("1", (scanner.size, scanner.size))
    ImageDraw.Draw(image).polygon([(float(x), float(y)) for x, y in scanner.to_image(points)], fill=1)
    return np.asarray(image, bool)


def _overlay(scanner: Scanner, motion: Motion, rng: np.random.Generator) -> np.ndarray:
    """Burned-in ECG trace, heart rate and probe mark, 0 elsewhere."""
    size = scanner.size
    image = Image.new("L", (size, size))
    draw = ImageDraw.Draw(image)
    shade = int(rng.uniform(120, 255))
    x = np.arange(size)
    beat = (motion.phase + x / size * rng.uniform(1.5, 4)) % 1
    wave = np.exp(-(((beat - 0.03) / 0.012) ** 2)) - 0.25 * np.exp(-(((beat - 0.07) / 0.015) ** 2))
    wave += 0.22 * np.exp(-(((beat - 0.35) / 0.05) ** 2)) + 0.12 * np.exp(-(((beat - 0.87) / 0.03) ** 2))
    base, height = size * rng.uniform(0.92, 0.98), size * rng.uniform(0.04, 0.09)
    draw.line([(int(i), float(base - height * w)) for i, w in zip(x, wave, strict=True)], fill=shade)
    rate = f"{motion.rate:.0f} bpm"
    draw.text((max(0, min(size * 0.78, size - 2 - draw.textlength(rate))), size * 0.03), rate, fill=shade)
    draw.ellipse((size * 0.56, size * 0.01, size * 0.58, size * 0.03), fill=shade)
    return np.asarray(image, np.float32) / 255
