"""A phased-array scanner in beam space, from moving scatterers to an image.

scatterers -> complex baseband on the (range, angle) grid -> point-spread function -> + clutter -> envelope
-> log compression -> scan conversion. Clutter is added to the linear signal before the envelope, as in a real scanner.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import fft
from scipy.ndimage import gaussian_filter, map_coordinates, median_filter


@dataclass(frozen=True)
class Scanner:
    """Geometry and signal chain of one acquisition."""

    depth: float  # maximum range, cm
    near: float  # range at which the image begins, cm
    half_angle: float  # half the opening angle of the sector, radians
    # ranges, beams: samples of the beam-space grid
    ranges: int
    beams: int
    wavelength: float  # cm
    axial: float  # standard deviation of the pulse, cm
    lateral: float  # standard deviation of the beam at its focus, radians
    focus: float  # focal depth, cm; beams are wider away from it
    dynamic_range: float  # decibels between black and white
    gain: float  # level of median myocardium relative to white, dB
    reject: float  # fraction of the grey scale that is displayed as black
    gamma: float  # exponent of the grey map
    # standard deviation (range, beam samples) of the vendor's filter on the compressed image
    smoothing: tuple[float, float]
    # level of the receiver's noise at 8 cm relative to myocardium, dB, and its rise with depth, dB/cm
    noise: tuple[float, float]
    size: int  # side of the square image, pixels
    top: float  # row of the probe's face
    scale: float  # centimetres per pixel
    fps: float  # frames per second
    # window (range, beam samples) of a median filter on the compressed image; this and the next two are used only by
    # unseen looks
    despeckle: tuple[int, int] = (1, 1)
    sharpen: float = 0.0  # weight of unsharp masking
    curve: float = 0.0  # steepness of an S-shaped grey map before `gamma`; 0 for none

    @classmethod
    def draw(cls, rng: np.random.Generator, size: int = 256) -> "Scanner":
        """Draw a scanner and its settings."""
        depth = rng.uniform(12.5, 18)
        dynamic_range, gain = rng.uniform(44, 72), rng.uniform(-34, -11)
        # some scanners show noise (grey cavities that are not haze), others bright structures on black
        noisy, sparse = rng.choice([(True, False), (False, True), (False, False)], p=(0.4, 0.25, 0.35))
        half_angle = np.deg2rad(rng.uniform(33, 50))
        top = rng.uniform(0.0, 0.04) * size
        height = depth / (size * rng.uniform(0.9, 1.0) - top)
        width = 2 * depth * np.sin(half_angle) / (size * rng.uniform(0.94, 1.0))
        return cls(
            depth=depth,
            near=rng.uniform(0.15, 0.9),
            half_angle=half_angle,
            ranges=384,
            beams=160,
            wavelength=rng.uniform(0.045, 0.085),
            axial=rng.uniform(0.028, 0.06),
            lateral=np.deg2rad(rng.uniform(0.5, 1.1)),
            focus=rng.uniform(6, 11),
            dynamic_range=dynamic_range,
            gain=gain,
            # operators darken the cavities: 36 dB below myocardium is near black
            reject=(
                max(0.0, 1 + (gain - rng.uniform(6, 22)) / dynamic_range)
                if sparse
                else max(0.0, 1 + (gain - 36) / dynamic_range) * rng.uniform(0.0 if noisy else 0.5, 1.1)
            ),
            gamma=rng.uniform(0.9, 2.0) if sparse else rng.uniform(0.85, 1.5),
            smoothing=(rng.uniform(0.2, 1.1), rng.uniform(0.2, 1.2)),
            noise=(rng.uniform(-32, -12) if noisy else rng.uniform(-56, -36), rng.uniform(0.0, 1.0)),
            size=size,
            top=top,
            scale=max(height, width),
            fps=rng.uniform(22, 60),
        )

    @cached_property
    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Ranges (ranges, 1) in cm and angles (1, beams) in radians, extending slightly beyond the sector."""
        r = np.linspace(0, self.depth * 1.02, self.ranges)[:, None]
        a = np.linspace(-1.08, 1.08, self.beams)[None, :] * self.half_angle
        return r, a

    @property
    def steps(self) -> tuple[float, float]:
        """Distance of the grid's samples, in cm and in radians."""
        r, a = self.grid
        return r[1, 0] - r[0, 0], a[0, 1] - a[0, 0]

    @cached_property
    def _pixels(self) -> tuple[np.ndarray, np.ndarray]:
        rows, columns = np.mgrid[: self.size, : self.size]
        x = (columns - (self.size - 1) / 2) * self.scale
        z = (rows - self.top) * self.scale + self.near * np.cos(self.half_angle)
        r, a = np.hypot(x, z), np.arctan2(x, z)
        inside = (r >= self.near) & (r <= self.depth) & (np.abs(a) <= self.half_angle) & (z > 0)
        return np.stack(self._samples(r, a)), inside

    def _samples(self, r: np.ndarray, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fractional indices on the grid of ranges in cm and angles in radians."""
        ranges, angles = self.grid
        i = r / ranges[-1, 0] * (self.ranges - 1)
        j = (a - angles[0, 0]) / (angles[0, -1] - angles[0, 0]) * (self.beams - 1)
        return i, j

    @property
    def sector(self) -> np.ndarray:
        """Mask (size, size) of the sector."""
        return self._pixels[1]

    def to_image(self, points: np.ndarray) -> np.ndarray:
        """Column and row (n, 2) of positions (n, 2) in cm."""
        column = points[:, 0] / self.scale + (self.size - 1) / 2
        row = (points[:, 1] - self.near * np.cos(self.half_angle)) / self.scale + self.top
        return np.stack([column, row], axis=1)

    def receive(self, points: np.ndarray, amplitude: np.ndarray) -> np.ndarray:
        """Complex64 baseband (ranges, beams) of scatterers at `points` (n, 2) in cm, before the point-spread function.

        Each scatterer is distributed to its four neighbouring samples, with the phase of its two-way path.
        """
        r = np.hypot(points[:, 0], points[:, 1])
        i, j = self._samples(r, np.arctan2(points[:, 0], points[:, 1]))
        keep = (i >= 0) & (i < self.ranges - 1) & (j >= 0) & (j < self.beams - 1)
        i, j, r = i[keep], j[keep], r[keep]
        value = amplitude[keep] * np.exp(-4j * np.pi / self.wavelength * r)
        i0, j0 = i.astype(np.int64), j.astype(np.int64)
        fi, fj = i - i0, j - j0
        flat = i0 * self.beams + j0
        real, imag = np.zeros((2, self.ranges * self.beams))
        for di, wi in ((0, 1 - fi), (1, fi)):
            for dj, wj in ((0, 1 - fj), (1, fj)):
                weight, site = wi * wj, flat + di * self.beams + dj
                real += np.bincount(site, weight * np.real(value), real.size)
                imag += np.bincount(site, weight * np.imag(value), imag.size)
        return (real + 1j * imag).reshape(self.ranges, self.beams).astype(np.complex64)

    def beam_width(self, r: np.ndarray) -> np.ndarray:
        """Standard deviation of the beam in radians at ranges in cm, widest near the probe."""
        return self.lateral * np.sqrt(1 + ((self.focus / np.maximum(r, 0.8) - 1) * 1.1) ** 2)

    def blur(self, field: np.ndarray, lateral: float = 1.0, axial: float = 1.0) -> np.ndarray:
        """Apply the point-spread function: a Gaussian pulse in range, a Gaussian beam that widens away from the focus.

        `lateral` and `axial` widen it, for clutter on other paths.
        """
        step_r, step_a = self.steps
        width = np.minimum(self.beam_width(self.grid[0][:, 0]) * lateral, 0.12 * lateral) / step_a
        k_a = 2 * np.pi * np.fft.fftfreq(self.beams)
        k_r = 2 * np.pi * np.fft.fftfreq(self.ranges)
        beam = np.exp(-0.5 * (width[:, None] * k_a[None]) ** 2).astype(np.float32)
        beams = np.asarray(fft.ifft(np.asarray(fft.fft(field, axis=1)) * beam, axis=1))
        pulse = np.exp(-0.5 * (self.axial * axial / step_r * k_r) ** 2).astype(np.float32)
        out = np.asarray(fft.ifft(np.asarray(fft.fft(beams, axis=0)) * pulse[:, None], axis=0))
        # equal energy of white scatterers at all depths
        return out * np.sqrt(width)[:, None].astype(np.float32)

    def compress(self, envelope: np.ndarray, reference: float) -> np.ndarray:
        """Display intensity in [0, 1] (ranges, beams): log compression, vendor filter, reject and grey map.

        `reference` is the envelope of median myocardium, displayed at `gain` dB relative to white.
        """
        decibel = 20 * np.log10(np.maximum(envelope, 1e-12) / reference)
        shade = np.clip(1 + (decibel + self.gain) / self.dynamic_range, 0, 1)
        if self.despeckle != (1, 1):
            shade = median_filter(shade, self.despeckle, mode="nearest")
        shade = gaussian_filter(shade, self.smoothing, mode="nearest")
        if self.sharpen > 0:
            shade = shade + self.sharpen * (shade - gaussian_filter(shade, (4.0, 2.0), mode="nearest"))
        shade = np.clip((shade - self.reject) / (1 - self.reject), 0, 1)
        if self.curve > 0:
            low, high = _logistic(self.curve * np.array([-0.5, 0.5]))
            shade = (_logistic(self.curve * (shade - 0.5)) - low) / (high - low)
        return (shade**self.gamma).astype(np.float32)

    def scan_convert(self, shade: np.ndarray) -> np.ndarray:
        """The image (size, size) of the beam-space intensity `shade`, black outside the sector."""
        index, inside = self._pixels
        image = np.zeros(inside.shape, np.float32)
        image[inside] = map_coordinates(shade, index[:, inside], order=1, prefilter=False)
        return image


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
