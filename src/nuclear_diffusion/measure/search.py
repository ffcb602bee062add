"""A search for a method's strengths: on some patients of a data set, measured on the others once it is over.

Optuna looks for settings with high gCNR and low KS_A at the same time. The store keeps every trial and the numbers of
every clip, so that nothing is done twice.
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
from nuclear_diffusion.restore.clip import Progress
from nuclear_diffusion.restore.methods import Method

DIRECTIONS = {"gcnr": StudyDirection.MAXIMIZE, "ks_a": StudyDirection.MINIMIZE}
"""The objectives: means over patients of each patient's mean over frames."""

SPACE = {
    "strength": (1 / 10, 2.0),
    "mu": (1 / 8, 8.0),
    "gamma": (1 / 8, 8.0),
    "sigma": (1 / 8, 8.0),
    "lam": (1 / 4, 8.0),
}
"""Where each strength is searched, on a log scale, in multiples of its default."""

DIGITS = 4
"""Significant digits of a setting: what is measured is what the settings file says."""


class Split(NamedTuple):
    """Who is searched on, and who is kept for the end."""

    development: tuple[str, ...]
    held_out: tuple[str, ...]


class Point(NamedTuple):
    """One setting and what it reaches on the development patients."""

    name: str
    """`default`, or the number of the trial."""
    candidate: Candidate
    gcnr: float
    ks_a: float

    @property
    def settings(self) -> Method:
        """The setting."""
        return _settings(self.candidate)


def split_patients(patients: Iterable[str], share: float, seed: int) -> Split:
    """Draw `share` of the patients, rounded, and at least one on each side; in the order of their names.

    Whole patients are drawn: the frames, and the clips, of one patient are alike. The order in which patients are
    given does not matter. Raises `InputError` for fewer than two.
    """
    names = sorted(set(patients))
    if len(names) < 2:
        raise InputError(
            f"masks of at least two patients are needed, one to tune on and one to hold out, got {len(names)}."
        )
    count = min(max(round(share * len(names)), 1), len(names) - 1)
    drawn = set(np.random.default_rng(seed).permutation(names)[:count].tolist())
    return Split(tuple(n for n in names if n in drawn), tuple(n for n in names if n not in drawn))


def search_space(base: Candidate) -> dict[str, FloatDistribution]:
    """What is searched: each number of the method that makes it act more or less, see `SPACE`.

    Raises `InputError` for a method that has none.
    """
    if not centre(base):
        raise InputError(f"method {base.name} has no strength to search: choose another --method.")
    return {
        name: FloatDistribution(*(_rounded(factor * value) for factor in SPACE[name]), log=True)
        for name, value in centre(base).items()
    }


def centre(base: Candidate) -> dict[str, float]:
    """The first trial: the method's defaults."""
    settings = _settings(base)
    return {name: getattr(settings, name) for name in settings.__struct_fields__ if name in SPACE}


def _settings(candidate: Candidate) -> Method:
    assert candidate.settings is not None  # the input is not tuned
    return candidate.settings


def variation(base: Candidate, values: dict[str, float]) -> Candidate:
    """`base` with some settings changed, rounded to `DIGITS`; its name says which, its answers are not kept."""
    rounded = {name: _rounded(value) for name, value in values.items()}
    settings = structs.replace(_settings(base), **rounded)
    changed = replace(base, settings=settings, varied=base.name)
    return replace(changed, name=f"{base.name}-{changed.configuration_hash}")


def measure_first(cases: Sequence[Case], base: Candidate, folder: Path, progress: Progress | None = None) -> Study:
    """The input and the default on the development patients; leaves out the clips that the method cannot take.

    Raises `InputError` as `run_study`, and where no frame has both regions.
    """
    study = run_study(cases, [Candidate(HAZY, None, size=base.size), variation(base, {})], folder, progress=progress)
    if not np.isfinite(averages(study, HAZY)).all():
        raise InputError("no frame of the patients to tune on has septum and ventricle in its mask: draw both.")
    return study


def averages(study: Study, method: str) -> list[float]:
    """The objectives of one method."""
    return [patient_mean(study.frame, method, score).mean for score in DIRECTIONS]


def search(
    first: Study,
    base: Candidate,
    folder: Path,
    *,
    trials: int,
    seed: int,
    progress: Progress | None = None,
) -> list[Point]:
    """The default and `trials` other settings on the clips of `first`, which `measure_first` gave.

    The first trial is the default (`centre`), then nine are drawn at random and the others by Optuna's multi-objective
    tree-structured Parzen estimator (Ozaki et al. 2020). Each draws from random numbers of its own, and finished trials
    are read from the store: a search that was stopped is played again from its first trial, and goes on as it would
    have done.

    Raises:
        InputError: a clip cannot be read any more.
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
            if measured.failures:  # the default could take it: something happened to the clip or to the prior
                raise InputError(f"{measured.failures[0].case} failed in a trial: {measured.failures[0].reason}")
            return averages(measured, found.name)

        values = store.once("trial", [found.configuration, about], measure)
        tell(len(first.cases), 0)
        study.tell(trial, values)
        points.append(Point(str(number), found, *values))
    return points


def _numbers(first: Study) -> Any:
    """All that was measured before the search, which stands for frames and masks."""
    found = (structs.replace(each, seconds=0.0, compiled=False, versions={}) for each in first.measured.values())
    return [to_builtins(each, str_keys=True) for each in found]


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """The points that no other one beats in one objective without losing in the other, by rising KS_A."""
    study = optuna.create_study(directions=list(DIRECTIONS.values()))
    study.add_trials([optuna.trial.create_trial(values=[point.gcnr, point.ks_a]) for point in points])
    return sorted((points[trial.number] for trial in study.best_trials), key=lambda point: point.ks_a)


def choose(points: Sequence[Point], limit: float) -> Point | None:
    """The highest gCNR whose KS_A is at most `limit`, of equal ones the lowest KS_A; None where none is."""
    allowed = [point for point in points if point.ks_a <= limit]
    return max(allowed, key=lambda point: (point.gcnr, -point.ks_a), default=None)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
