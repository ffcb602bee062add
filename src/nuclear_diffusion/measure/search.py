"""Search for a method's strengths on some patients of a data set; the others are held out.

Optuna searches for high gCNR and low KS_A. The store keeps every trial and every clip's scores, so that nothing is
computed twice.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
from msgspec import structs, to_builtins
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.measure.candidates import HAZY, Candidate
from nuclear_diffusion.measure.datasets import Case
from nuclear_diffusion.measure.statistics import patient_mean
from nuclear_diffusion.measure.store import Store
from nuclear_diffusion.measure.study import Study, run_study
from nuclear_diffusion.restore.methods import Method
from nuclear_diffusion.types import Progress

DIRECTIONS = {"gcnr": StudyDirection.MAXIMIZE, "ks_a": StudyDirection.MINIMIZE}
"""The objectives: means over patients of each patient's mean over frames."""
DIGITS = 4  # significant digits of a setting, in the search and in the settings file


class Point(NamedTuple):
    """One setting and its scores on the development patients."""

    name: str  # `default`, or the number of the trial
    candidate: Candidate
    gcnr: float
    ks_a: float

    @property
    def settings(self) -> Method:
        """The setting."""
        return _settings(self.candidate)


def split_patients(patients: Iterable[str], share: float, seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The patients to tune on, a fraction `share` of all, and the held-out ones: at least one each, sorted by name.

    Raises `InputError` for fewer than two.
    """
    names = sorted(set(patients))
    if len(names) < 2:
        raise InputError(
            f"masks of at least two patients are needed, one to tune on and one to hold out, got {len(names)}."
        )
    count = min(max(round(share * len(names)), 1), len(names) - 1)
    drawn = set(np.random.default_rng(seed).permutation(names)[:count].tolist())
    return tuple(n for n in names if n in drawn), tuple(n for n in names if n not in drawn)


def search_space(base: Candidate) -> dict[str, FloatDistribution]:
    """The range of each of the method's `strengths`, on a log scale. Raises `InputError` if it has none."""
    if not centre(base):
        raise InputError(f"method {base.name} has no strength to search: choose another --method.")
    return {
        name: FloatDistribution(*(_rounded(factor * value) for factor in factors), log=True)
        for (name, value), factors in zip(centre(base).items(), _settings(base).strengths.values(), strict=True)
    }


def centre(base: Candidate) -> dict[str, float]:
    """The first trial: the method's defaults."""
    settings = _settings(base)
    return {name: getattr(settings, name) for name in settings.strengths}


def _settings(candidate: Candidate) -> Method:
    assert candidate.settings is not None  # the input is not tuned
    return candidate.settings


def variation(base: Candidate, values: dict[str, float]) -> Candidate:
    """`base` with some settings changed and rounded to `DIGITS`; its outputs are not kept."""
    rounded = {name: _rounded(value) for name, value in values.items()}
    settings = structs.replace(_settings(base), **rounded)
    changed = replace(base, settings=settings, varied=base.name)
    return replace(changed, name=f"{base.name}-{changed.configuration_hash}")


def measure_first(cases: Sequence[Case], base: Candidate, folder: Path, progress: Progress | None = None) -> Study:
    """Evaluate the input and the default on the development patients, without clips that fail.

    Raises `InputError` as `run_study`, and if no frame has both regions.
    """
    study = run_study(cases, [Candidate(HAZY, None, size=base.size), variation(base, {})], folder, progress=progress)
    if not np.isfinite(averages(study, HAZY)).all():
        raise InputError("no frame of the patients to tune on has septum and ventricle in its mask: draw both.")
    return study


def averages(study: Study, method: str) -> list[float]:
    """The objectives of one method."""
    return [patient_mean(study.frame, method, score).mean for score in DIRECTIONS]


def search(
    first: Study, base: Candidate, folder: Path, *, trials: int, seed: int, progress: Progress | None = None
) -> list[Point]:
    """The default and `trials` other settings on the clips of `first`, the result of `measure_first`.

    The first trial is the default (`centre`), nine are random, and the others come from Optuna's multi-objective
    tree-structured Parzen estimator (Ozaki et al. 2020). Each trial has its own random numbers, and finished trials
    are read from the store, so an interrupted search resumes exactly.

    Raises `InputError` if a clip fails that worked before.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space, store, about = search_space(base), Store(folder), _numbers(first)
    study = optuna.create_study(directions=list(DIRECTIONS.values()))
    study.enqueue_trial(centre(base))
    default = first.candidates[1]
    points = [Point("default", default, *averages(first, default.name))]
    for number in range(trials):
        (state,) = np.random.SeedSequence([seed, number]).generate_state(1)
        study.sampler = optuna.samplers.TPESampler(seed=int(state))
        trial = study.ask(dict(space))
        found = variation(base, trial.params)

        def tell(clips: int, _: int, done: int = number) -> None:
            if progress is not None:
                progress(done * len(first.cases) + clips, trials * len(first.cases))

        def measure(found: Candidate = found, tell: Progress = tell) -> list[float]:
            measured = run_study(first.cases, [found], folder, progress=tell)
            if measured.failures:  # the default worked: the clip or the prior changed
                raise InputError(f"{measured.failures[0].case} failed in a trial: {measured.failures[0].reason}")
            return averages(measured, found.name)

        values = store.once("trial", [found.configuration, about], measure)
        tell(len(first.cases), 0)
        study.tell(trial, values)
        points.append(Point(str(number), found, *values))
    return points


def _numbers(first: Study) -> Any:
    """All scores before the search, as an identity of frames and masks."""
    found = (structs.replace(each, seconds=0.0, compiled=False, versions={}) for each in first.measured.values())
    return [to_builtins(each, str_keys=True) for each in found]


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """The Pareto-optimal points, by rising KS_A."""
    study = optuna.create_study(directions=list(DIRECTIONS.values()))
    study.add_trials([optuna.trial.create_trial(values=[point.gcnr, point.ks_a]) for point in points])
    return sorted((points[trial.number] for trial in study.best_trials), key=lambda point: point.ks_a)


def choose(points: Sequence[Point], limit: float) -> Point | None:
    """The point with the highest gCNR among those with a KS_A of at most `limit`; None if there are none."""
    allowed = [point for point in points if point.ks_a <= limit]
    return max(allowed, key=lambda point: (point.gcnr, -point.ks_a), default=None)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
