"""Whether a prior dehazes better than the one that training started from: what `train` measures and reports.

Two kinds of hazy clips are scored by `front.gain`: simulated patients whose grey levels are mapped to those of the
training clips, and your own hazy clips. Every second patient of each kind chooses the weights; the verdict at the end
is on the others, which did not (a single patient serves for both). Clips without masks are scored for flicker only and
choose nothing.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped, UInt8
from numpy import ndarray

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io.find import find_clips, patient_of
from nuclear_diffusion.measure.bootstrap import Interval
from nuclear_diffusion.measure.datasets import find_dataset
from nuclear_diffusion.measure.front import DEFAULT, LEVELS, NAMES, Front, Regions, at_equal_change, front_of, gain
from nuclear_diffusion.priors.protocol import Prior
from nuclear_diffusion.reporting import plural
from nuclear_diffusion.restore.clip import PRIOR_SIZE
from nuclear_diffusion.sector import Fit, find_sector
from nuclear_diffusion.simulation import SimulatedClip, patient_seed, simulate
from nuclear_diffusion.training.clips import fitted_clip
from nuclear_diffusion.types import Progress

FIRST = 600_000  # index of the first simulated patient in the development split; no table uses these patients
HAZE = 4.0  # factor on the haze of simulated patients, because little is left to gain at the haze of the tables
FRAMES = 8  # frames of each simulated patient


class Kind(NamedTuple):
    """Clips of one kind, and their scores with the prior that training starts from."""

    name: str
    clips: Sequence[Regions]
    start: Front


class Judge:
    """Measures a prior's gain over the one that training starts from, on several kinds of hazy clips."""

    def __init__(self, kinds: Mapping[str, Sequence[Regions]], start: Prior):
        def scored(first: int) -> list[Kind]:
            chosen = {name: _every_second(clips, first) or clips for name, clips in kinds.items()}
            return [Kind(name, clips, front_of(clips, start)) for name, clips in chosen.items()]

        self._chosen_by, self._told = scored(0), scored(1)

    @property
    def columns(self) -> list[str]:
        """The names of the scores."""
        return ["gain", *(f"{kind.name}_{name}" for kind in self._chosen_by for name in NAMES)]

    def __call__(self, prior: Prior) -> dict[str, float]:
        """`gain`, the mean over the kinds, which chooses the weights, and the scores of each kind.

        gCNR is the mean at equal change of tissue (`LEVELS`); the other scores are at the default strength.
        """
        found = [(kind, front_of(kind.clips, prior)) for kind in self._chosen_by]
        gains = [gain(front, kind.start).mean for kind, front in found if _masked(kind.start)]
        scores = {"gain": float(np.mean(gains))}
        for kind, front in found:
            scores |= {f"{kind.name}_{name}": value for name, value in _summary(front).items()}
        return scores

    def verdict(self, prior: Prior, name: str = "the start") -> list[str]:
        """One sentence per kind: better than `name`, worse, or not clearly different, and by how much."""
        sentences = []
        for kind in self._told:
            front = front_of(kind.clips, prior)
            gained = gain(front, kind.start) if _masked(kind.start) else None
            sentences.append(_sentence(kind, _summary(front), _summary(kind.start), gained, name))
        return sentences


def _every_second(clips: Sequence[Regions], first: int) -> list[Regions]:
    """The clips of every second patient."""
    patients = list(dict.fromkeys(clip.patient for clip in clips))[first::2]
    return [clip for clip in clips if clip.patient in patients]


def _masked(front: Front) -> bool:
    """Whether any clip has masks of septum and ventricle."""
    return bool(np.isfinite(front["gcnr"]).any())


def _summary(front: Front) -> dict[str, float]:
    known = {name: values[np.isfinite(values[:, DEFAULT]), DEFAULT] for name, values in front.items()}
    default = {name: float(values.mean()) if len(values) else np.nan for name, values in known.items()}
    return default | {"gcnr": float(np.mean(at_equal_change(front))) if _masked(front) else np.nan}


def _sentence(kind: Kind, new: dict[str, float], old: dict[str, float], gained: Interval | None, name: str) -> str:
    count = plural(len(kind.clips), f"{kind.name} clip")
    flickers = f"flicker at the default strength {new['flicker']:.2f}, before {old['flicker']:.2f}."
    if gained is None:
        return f"{count} without masks: {flickers}"
    sure = "not clearly different from"
    if gained.low > 0:
        sure = "better than"
    elif gained.high < 0:
        sure = "worse than"
    levels = f"{LEVELS[0]:g} to {LEVELS[-1]:g}"
    return (
        f"{count}: {sure} {name}. gCNR {new['gcnr']:.3f}, before {old['gcnr']:.3f}, "
        f"at equal change of tissue (KS_A {levels}): {gained.mean:+.3f} [{gained.low:+.3f}, {gained.high:+.3f}]; "
        f"{flickers}"
    )


def simulated_like(
    clean: UInt8[ndarray, "..."],
    count: int,
    *,
    size: int = PRIOR_SIZE,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[Regions]:
    """`count` hazy patients of the development split with the grey levels of `clean`.

    One monotone grey map takes the quantiles of the simulated clean clips to those of `clean`; it is applied to hazy
    and clean frames, and keeps black and white. The haze is of the training kinds, `HAZE` times as strong as in the
    tables.
    """
    patients = []
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        for patient in pool.map(_patient, range(count), [size] * count):
            patients.append(patient)
            if progress is not None:
                progress(len(patients), count)
    levels = np.linspace(0, 1, 101)[1:-1]
    theirs = np.quantile(np.concatenate([each.clean[each.clean > 0] for each in patients]), levels)
    ours = np.quantile(clean[clean > 0] / np.float32(255), levels)
    theirs, kept = np.unique(theirs, return_index=True)
    x, y = np.concatenate([[0], theirs, [1]]), np.concatenate([[0], ours[kept], [1]])

    def mapped(frames: Shaped[ndarray, "frames size size"]) -> Shaped[ndarray, "frames size size"]:
        return np.interp(frames, x, y).astype(np.float32)

    return [
        Regions(mapped(each.hazy), each.septum, each.ventricle, each.sector, mapped(each.clean), str(each.seed))
        for each in patients
    ]


def _patient(index: int, size: int) -> SimulatedClip:
    return simulate(seed=patient_seed("development", FIRST + index), frames=FRAMES, size=size, view="a4c", haze=HAZE)


def own_hazy(folder: Path, masks: Path | None = None, size: int = PRIOR_SIZE) -> list[Regions]:
    """Your own hazy clips on the prior's grid: those with masks or, if there are no masks, all readable clips.

    `masks` as in `find_dataset`; default: LabelMe files in `folder`. Raises `InputError` if there is no clip, or masks
    are given but no frame has both regions.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give a folder of hazy clips to --hazy.")
    if masks is None and not any(folder.rglob("*.json")):
        return _unmarked(folder, size)
    marked = []
    for case in find_dataset(folder, noisy=folder, masks=masks).cases:
        loaded = case.read()
        fit = Fit.to_prior(find_sector(loaded.clip.frames, loaded.clip.region), size)
        septum, ventricle = np.zeros((2, *loaded.clip.shape), bool)
        for index, number in enumerate(loaded.numbers):
            known = loaded.annotations.get(number)
            if known is not None and known.septum.any() and known.ventricle.any():
                septum[index], ventricle[index] = known
        septum, ventricle = (fit.forward(mask.astype(np.float32)) >= 0.5 for mask in (septum, ventricle))
        if np.any(septum.any(axis=(1, 2)) & ventricle.any(axis=(1, 2))):
            frames = fit.forward(loaded.clip.frames)
            marked.append(Regions(frames, septum, ventricle, fit.mask, patient=case.patient))
    if not marked:
        raise InputError(f"{masks or folder} has no frame with both septum and ventricle: draw both in some frames.")
    return marked


def _unmarked(folder: Path, size: int) -> list[Regions]:
    clips, last = [], f"{folder} holds no clips"
    for source in find_clips(folder):
        fitted = fitted_clip(source, size)
        if isinstance(fitted, str):
            last = fitted.rstrip(".")
            continue
        nowhere = np.zeros(fitted.frames.shape, bool)
        clips.append(Regions(fitted.frames, nowhere, nowhere, fitted.sector, patient=patient_of(source.name)))
    if not clips:
        raise InputError(f"{last}: give a folder of hazy clips to --hazy.")
    return clips
