"""Everything that is measured of one method's answer to one clip."""

import json
import math
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8
from numpy import ndarray

from nuclear_diffusion.measure.datasets import Loaded
from nuclear_diffusion.measure.scores import flicker_throughout
from nuclear_diffusion.metrics import bright_lost, cnr, gcnr, ks, motion_psnr, psnr, ssim
from nuclear_diffusion.types import Mask

WINDOW = 7
"""Frames of the windows whose singular values are followed over time: the paper's p."""

LEVELS = 256
"""Values of an 8-bit image."""


@dataclass(frozen=True)
class Measured:
    """The numbers of one method on one clip.

    Attributes:
        case, patient, method: whose numbers.
        key: SHA-256 of the frames, the settings, the weights and the code behind the output.
        frames: how many the clip has.
        seconds: wall-clock time of the separation; NaN for the input.
        compiled: whether that time holds compilation.
        numbers: the annotated frames.
        pixels: (septum, ventricle) of each annotated frame.
        scores: per annotated frame `gcnr`, `cnr`, `ks_a`, `ks_b`, `motion_psnr` (of the input); with truth per frame
            `psnr` and `ssim`; one value each `flicker_a`, `flicker_b`, `bright_lost`. NaN where there is no such value.
        histograms: counts of the 256 values in `septum` and `ventricle` (annotated frames) and `sector` (all frames).
        spectra: singular values of `signal` and `background` within the sector: one row for the whole clip, then one
            for each window of `WINDOW` frames.
    """

    case: str
    patient: str
    method: str
    key: str
    frames: int
    seconds: float
    compiled: bool
    numbers: list[int]
    pixels: list[list[int]]
    scores: dict[str, list[float]]
    histograms: dict[str, list[int]]
    spectra: dict[str, list[list[float]]]

    def as_json(self) -> str:
        """One line of strict JSON; reading it gives back the same bits."""
        return json.dumps(_encode(asdict(self)), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Measured":
        """Undo `as_json`."""
        return cls(**_decode(json.loads(text)))


def measure(
    loaded: Loaded, signal: UInt8[ndarray, "frames height width"], sector: Mask
) -> tuple[dict[str, list[float]], dict[str, list[int]]]:
    """Scores and histograms of `signal`, a method's 8-bit answer to the clip; see `Measured`.

    The input is compared as the 8-bit values it was read from, the truth over `sector`. Flicker is that of all frames,
    in the pixels that every mask has.
    """
    frames = loaded.clip.frames
    place = {number: index for index, number in enumerate(loaded.numbers)}
    scores: dict[str, list[float]] = {name: [] for name in ("gcnr", "cnr", "ks_a", "ks_b", "motion_psnr")}
    counts = {name: np.zeros(LEVELS, int) for name in ("septum", "ventricle")}
    for number, (septum, ventricle) in loaded.annotations.items():
        before, after = frames[place[number]], signal[place[number]]
        both = septum.any() and ventricle.any()
        scores["gcnr"].append(gcnr(after, septum, ventricle) if both else math.nan)
        scores["cnr"].append(cnr(after, septum, ventricle) if both else math.nan)
        scores["ks_a"].append(ks(before, after, septum) if septum.any() else math.nan)
        scores["ks_b"].append(ks(before, after, ventricle) if ventricle.any() else math.nan)
        scores["motion_psnr"].append(motion_level(frames, place, number))
        counts["septum"] += histogram(after[septum])
        counts["ventricle"] += histogram(after[ventricle])
    counts["sector"] = histogram(signal[:, sector])
    marked = loaded.annotations.values()
    scores["flicker_a"] = [flicker_throughout(signal, [each.septum for each in marked])]
    scores["flicker_b"] = [flicker_throughout(signal, [each.ventricle for each in marked])]
    scores["bright_lost"] = [bright_lost(frames, signal, sector, loaded.truth)]
    if loaded.truth is not None:
        pairs = list(zip(loaded.truth, signal / np.float32(LEVELS - 1), strict=True))
        scores["psnr"] = [psnr(truth, estimate, sector) for truth, estimate in pairs]
        scores["ssim"] = [ssim(truth, estimate, sector) for truth, estimate in pairs]
    return scores, {name: values.tolist() for name, values in counts.items()}


def motion_level(frames: Float32[ndarray, "frames height width"], place: dict[int, int], number: int) -> float:
    """PSNR(y_t, y_t-1) of frame `number` in dB: infinite if they are equal, NaN if number - 1 is missing.

    `place` says where in `frames` each number is.
    """
    if number - 1 not in place:
        return math.nan
    return float(motion_psnr(np.stack([frames[place[number - 1]], frames[place[number]]]))[0])


def histogram(values: UInt8[ndarray, "..."]) -> Int[ndarray, " levels"]:
    """How often each of the 256 values occurs."""
    return np.bincount(values.ravel(), minlength=LEVELS)


def spectra(video: Float[ndarray, "frames height width"], sector: Bool[ndarray, "height width"]) -> list[list[float]]:
    """Singular values of the clip within the sector, largest first, then those of each window of `WINDOW` frames.

    All from one Gram matrix in float64, whose diagonal blocks are the windows' Gram matrices: accurate to 1e-8 of the
    largest value.
    """
    matrix = np.asarray(video, np.float64)[:, sector]
    gram = matrix @ matrix.T
    windows = [slice(start, start + WINDOW) for start in range(len(gram) - WINDOW + 1)]
    values = [np.linalg.eigvalsh(gram[window, window])[::-1] for window in (slice(None), *windows)]
    return [np.sqrt(np.maximum(each, 0)).tolist() for each in values]


def eight_bits(frames: Float[ndarray, "frames height width"]) -> UInt8[ndarray, "frames height width"]:
    """Intensity in [0, 1] as it would be saved: rounded to the nearest of 256 values."""
    return np.rint(np.clip(frames, 0, 1) * (LEVELS - 1)).astype(np.uint8)


def _encode(value):
    """NaN and infinities, which JSON lacks, as the words that `float` understands."""
    if isinstance(value, dict):
        return {name: _encode(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_encode(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _decode(value):
    if isinstance(value, dict):
        return {name: each if name in _TEXTS else _decode(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_decode(each) for each in value]
    return float(value) if value in ("nan", "inf", "-inf") else value


_TEXTS = ("case", "patient", "method", "key")
