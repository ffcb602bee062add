"""Run candidates on clips. Every output is stored at once, and reused until something that it depends on changes."""

import functools
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pandas as pd
from jaxtyping import UInt8, UInt16
from numpy import ndarray

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.measure.candidates import HAZY, Candidate, with_settings
from nuclear_diffusion.measure.datasets import Case, Loaded
from nuclear_diffusion.measure.scores import Scores, histograms, measure, motion_levels, spectra
from nuclear_diffusion.measure.statistics import COLUMNS, pick
from nuclear_diffusion.measure.store import Store, each, reused
from nuclear_diffusion.priors.protocol import Prior
from nuclear_diffusion.restore.clip import Dehazed, dehaze_clip, rendered
from nuclear_diffusion.restore.folder import versions
from nuclear_diffusion.restore.frames import fingerprint
from nuclear_diffusion.restore.methods import Method, Nuclear
from nuclear_diffusion.restore.run import prior_of
from nuclear_diffusion.sector import find_sector
from nuclear_diffusion.types import Mask, Progress, eight_bits
from nuclear_diffusion.view.film import share_bits

Spectra = dict[str, list[list[float]]]
"""Singular values of `signal` and `background`: of the clip, then of each window, see `spectra`."""


class Measured(msgspec.Struct, frozen=True):
    """The scores of one candidate on one clip."""

    scores: Scores  # with the masks' sizes in pixels and the motion levels
    seconds: float  # per frame; NaN for the input
    compiled: bool  # whether that time includes compilation
    histograms: dict[str, list[int]]  # see `scores.histograms`
    spectra: Spectra  # empty for variations
    versions: dict[str, str]  # of the packages that affect outputs and scores


class Failure(NamedTuple):
    """A clip on which a candidate failed."""

    case: str
    method: str
    reason: str


@dataclass(frozen=True)
class Study:
    """The results of all candidates on all clips."""

    cases: tuple[Case, ...]  # clips on which no candidate failed, in the order of the data set
    candidates: tuple[Candidate, ...]  # those of the tables first, then their variations
    measured: dict[tuple[str, str], Measured]  # by name of candidate and case
    failures: tuple[Failure, ...]  # clips left out
    folder: Path  # where the outputs are stored
    reused: tuple[str, ...] = ()  # see `store.reused`

    @property
    def main(self) -> tuple[Candidate, ...]:
        """The candidates of the tables."""
        return tuple(one for one in self.candidates if one.varied is None)

    @property
    def answering(self) -> list[str]:
        """The names of `main` without the input."""
        return [one.name for one in self.main if one.name != HAZY]

    @property
    def focus(self) -> str:
        """The method that patients are chosen by: Nuclear Diffusion if present, else the last method."""
        return "nuclear" if "nuclear" in self.answering else [HAZY, *self.answering][-1]

    @property
    def patients(self) -> list[str]:
        """In the order of the data set."""
        return list(dict.fromkeys(case.patient for case in self.cases))

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """All scores as a tidy table: see `statistics.COLUMNS`."""
        rows = [
            (case.name, case.patient, one.name, number, score, value)
            for one in self.candidates
            for case in self.cases
            for score, values in self._scores(one.name, case.name).items()
            for number, value in (values.items() if isinstance(values, dict) else [(pd.NA, values)])
        ]
        return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)

    @property
    def main_frame(self) -> pd.DataFrame:
        """`frame` of the candidates of the tables."""
        return pick(self.frame, self.frame.method.isin([one.name for one in self.main]))

    def of(self, method: str) -> list[Measured]:
        """The scores of one candidate, clip by clip."""
        return [self.measured[method, case.name] for case in self.cases]

    def output(self, method: str, case: Case) -> "Output":
        """What one of the `main` candidates made of a clip."""
        one = next(one for one in self.main if one.name == method)
        return _output(case, one, Store(self.folder))

    def left_out(self) -> list[str]:
        """One sentence per clip that was left out, with the first reason."""
        reasons = {failure.case: failure.reason for failure in reversed(self.failures)}
        return [f"{case} is left out: {reasons[case]}" for case in dict.fromkeys(f.case for f in self.failures)]

    def versions(self) -> dict[str, str]:
        """The package versions behind the outputs; stored outputs may have others."""
        every = [found.versions for found in self.measured.values()]
        names = dict.fromkeys(name for each in every for name in each)
        return {name: " and ".join(sorted({each[name] for each in every if name in each})) for name in names}

    def _scores(self, method: str, case: str) -> Scores:
        """With the time, unless it includes compilation and another clip's does not."""
        found = self.measured[method, case]
        if found.compiled and not all(other.compiled for other in self.of(method)):
            return found.scores
        return {**found.scores, "seconds": found.seconds}


def run_study(
    cases: Sequence[Case],
    candidates: Sequence[Candidate],
    folder: Path,
    *,
    workers: int = 1,
    progress: Progress | None = None,
) -> Study:
    """Run every candidate on every clip, in `workers` processes, and score the outputs.

    Outputs and scores are stored in `folder` (`Store`), so that a rerun computes only what is missing. The scores,
    except the seconds, do not depend on `workers`. A clip that cannot be read, or on which a method fails, is left out
    and listed in `failures`.

    Raises `InputError` if no clip is left, and as `store.each`.
    """
    _read.cache_clear()
    _separated.cache_clear()
    tasks = [_Task(case, candidate, Store(folder)) for case in cases for candidate in candidates]
    found: dict[int, Measured | Failure] = {}
    stored = 0
    if progress is not None:
        progress(0, len(tasks))
    for index, (result, known) in each(_attempt, tasks, workers):
        found[index] = result
        stored += known
        if progress is not None:
            progress(len(found), len(tasks))
    results = [found[index] for index in range(len(tasks))]
    failures = tuple(result for result in results if isinstance(result, Failure))
    left = tuple(case for case in cases if case.name not in {failure.case for failure in failures})
    if not left:
        raise InputError(f"no clip could be evaluated; the first failed with: {failures[0].reason}")
    measured = {
        (task.candidate.name, task.case.name): result
        for task, result in zip(tasks, results, strict=True)
        if isinstance(result, Measured)
    }
    return Study(left, tuple(candidates), measured, failures, folder, reused(stored, len(tasks), folder))


class _Task(NamedTuple):
    case: Case
    candidate: Candidate
    store: Store


def _attempt(task: _Task) -> tuple[Measured | Failure, bool]:
    try:
        return _measured(task)
    except InputError as error:
        return Failure(task.case.name, task.candidate.name, str(error)), False


def _measured(task: _Task) -> tuple[Measured, bool]:
    """The scores of one task, from disk if stored, and whether they were."""
    case, candidate, store = task
    loaded, frames_sha256, marks_sha256 = _read(case)
    about = {"frames": frames_sha256, "marks": marks_sha256, **candidate.configuration}

    def compute() -> dict:
        output = _output(case, candidate, store)
        sizes = {
            f"{name}_pixels": {n: float(getattr(regions, name).sum()) for n, regions in loaded.annotations.items()}
            for name in ("septum", "ventricle")
        }
        scores = measure(loaded, output.signal, output.sector)
        counts = histograms(loaded, output.signal, output.sector)
        return msgspec.to_builtins(
            Measured(
                scores={**scores, **sizes, "motion_psnr": motion_levels(loaded)},
                seconds=output.seconds / len(loaded.clip),
                compiled=output.compiled,
                histograms={name: values.tolist() for name, values in counts.items()},
                spectra=output.spectra,
                versions=output.versions,
            )
        )

    name = f"{case.name}/{candidate.name}"
    known = store.has(name, about)
    return msgspec.convert(store.once(name, about, compute), Measured, str_keys=True), known


class Output(NamedTuple):
    """What a candidate made of a clip; the last four as in `Measured`, the seconds for all frames."""

    signal: UInt8[ndarray, "frames height width"]
    # haze fraction of 0 to 1 as 0 to 65535, in steps of 16, which changes no grey level of the signal by more than 1;
    # None for methods without one
    share: UInt16[ndarray, "frames height width"] | None
    sector: Mask
    seconds: float
    compiled: bool
    spectra: Spectra
    versions: dict[str, str]


@functools.lru_cache(maxsize=1)
def _separated(case: Case, method: Method, prior_sha256: str | None, size: int) -> Dehazed:
    """Separate a clip; the last result is cached."""
    prior = None if method.prior_name is None else _prior(method.prior_name, prior_sha256)
    return dehaze_clip(_read(case)[0].clip, method, prior, size=size)


def _output(case: Case, candidate: Candidate, store: Store) -> Output:
    """The candidate's output, from disk if stored. Outputs of variations are not stored."""
    loaded, frames_sha256, _ = _read(case)
    clip, settings = loaded.clip, candidate.settings
    if settings is None:
        sector = find_sector(clip.frames, clip.region)
        parts = {"signal": spectra(clip.frames, sector)}
        return Output(eight_bits(clip.frames), None, sector, math.nan, False, parts, versions("scipy", "scikit-image"))
    name, about = f"{case.name}/{candidate.name}", {"frames": frames_sha256, **candidate.configuration}
    if (stored := store.arrays(name, about)) is not None:
        return Output(stored["signal"], stored.get("share"), stored["sector"], **json.loads(str(stored["about"])))
    usual = with_settings(settings, strength=Nuclear().strength)
    dehazed = _separated(case, usual, candidate.prior_sha256, candidate.size)  # one for all strengths
    if isinstance(settings, Nuclear) and settings != usual:
        dehazed = rendered(clip, dehazed, settings.strength)
    kept = candidate.varied is None
    parts = {"signal": dehazed.signal, "background": dehazed.background} if kept else {}
    # the last bits would take half of the space
    share = None if dehazed.share is None else share_bits(dehazed.share) & 0xFFF0
    output = Output(
        eight_bits(dehazed.signal),
        share,
        dehazed.sector,
        dehazed.seconds,
        _first_of_its_kind(candidate.name, len(clip)),
        {part: spectra(video, dehazed.sector) for part, video in parts.items()},
        versions("scipy", "scikit-image"),
    )
    if kept:
        arrays = {"signal": output.signal, "share": output.share, "sector": output.sector}
        rest = {name: value for name, value in output._asdict().items() if name not in arrays}
        arrays = {name: array for name, array in arrays.items() if array is not None}
        store.keep_arrays(name, about, {**arrays, "about": json.dumps(rest)})
    return output


@functools.lru_cache(maxsize=1)
def _read(case: Case) -> tuple[Loaded, str, str]:
    """A case, the hash of its frames, and the hash of its numbers, masks and truth."""
    loaded = case.read()
    marks = hashlib.sha256(repr(loaded.numbers).encode())
    for number, regions in loaded.annotations.items():
        marks.update(str(number).encode())
        for region in regions:
            marks.update(np.packbits(region).data)
    marks.update(b"" if loaded.truth is None else np.ascontiguousarray(loaded.truth).data)
    region = loaded.clip.region
    frames = fingerprint(loaded.clip) + ("" if region is None else hashlib.sha256(np.packbits(region).data).hexdigest())
    return loaded, frames, marks.hexdigest()


@functools.lru_cache(maxsize=4)
def _prior(path: str, sha256: str | None) -> Prior | None:
    """The prior with that hash; each process loads it once."""
    loaded = prior_of(Nuclear(prior=path))
    if loaded.sha256 != sha256:
        raise InputError(f"{path} changed while the study ran: run it again.")
    return loaded.prior


_kinds: set[tuple[str, int]] = set()


def _first_of_its_kind(method: str, frames: int) -> bool:
    """Whether `method` compiled, because this process had not run it on a clip of that length before."""
    first = (method, frames) not in _kinds
    _kinds.add((method, frames))
    return first
