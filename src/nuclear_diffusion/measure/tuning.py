"""A search for a method's strengths: on some patients of a data set, measured on the others once it is over.

Optuna looks for settings with high gCNR and low KS_A at the same time. Nothing is done twice: its journal keeps the
trials, and `run_study` the numbers of every clip.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
from msgspec import structs
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import StudyDirection
from optuna.trial import TrialState

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.measure.bootstrap import mean_interval
from nuclear_diffusion.measure.datasets import Case
from nuclear_diffusion.measure.results import patient_means
from nuclear_diffusion.measure.study import HAZY, Method, Study, digest, run_study
from nuclear_diffusion.restore import methods as kinds
from nuclear_diffusion.restore.clip import Progress

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
    method: Method
    gcnr: float
    ks_a: float

    @property
    def settings(self) -> kinds.Method:
        """The setting."""
        assert self.method.settings is not None
        return self.method.settings


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


def search_space(base: Method) -> dict[str, BaseDistribution]:
    """What is searched: each number of the method that makes it act more or less, see `SPACE`.

    Raises `InputError` for a method that has none.
    """
    if not centre(base):
        raise InputError(f"method {base.name} has no strength to search: choose another --method.")
    return {
        name: FloatDistribution(*(_rounded(factor * value) for factor in SPACE[name]), log=True)
        for name, value in centre(base).items()
    }


def centre(base: Method) -> dict[str, float]:
    """The first trial: the method's defaults."""
    settings = base.settings
    assert settings is not None
    return {name: getattr(settings, name) for name in settings.__struct_fields__ if name in SPACE}


def variation(base: Method, values: dict[str, float]) -> Method:
    """`base` with some settings changed, rounded to `DIGITS`; its name says which, its answers are not kept."""
    assert base.settings is not None
    rounded = {name: value if isinstance(value, int) else _rounded(value) for name, value in values.items()}
    settings = structs.replace(base.settings, **rounded)
    changed = replace(base, settings=settings, varied=base.name)
    return replace(changed, name=f"{base.name}-{changed.configuration_hash}")


def measure_first(cases: Sequence[Case], base: Method, folder: Path, progress: Progress | None = None) -> Study:
    """The input and the default on the development patients; leaves out the clips that the method cannot take.

    Raises `InputError` as `run_study`, and where no frame has both regions.
    """
    study = run_study(cases, [Method(HAZY, None, size=base.size), variation(base, {})], folder, progress=progress)
    if not np.isfinite(averages(study, HAZY)).all():
        raise InputError("no frame of the patients to tune on has septum and ventricle in its mask: draw both.")
    return study


def averages(study: Study, method: str) -> tuple[float, ...]:
    """The objectives of one method."""
    return tuple(mean_interval(patient_means(study, method, score)).mean for score in DIRECTIONS)


def search(
    first: Study,
    base: Method,
    folder: Path,
    *,
    trials: int,
    seed: int,
    progress: Progress | None = None,
) -> list[Point]:
    """The default and `trials` other settings on the clips of `first`, which `measure_first` gave.

    The first trial is the default (`centre`), then nine are drawn at random and the others by Optuna's multi-objective
    tree-structured Parzen estimator (Ozaki et al. 2020). A search in the journal in `folder` goes on as long as clips,
    masks, method, code, space and seed are the same; to have been stopped in between does not change it.

    Raises:
        InputError: the journal is damaged, or a clip cannot be read any more.
    """
    space = search_space(base)
    study = _open(folder / "search.log", _identity(first, base, space, seed))
    if not study.trials:
        study.enqueue_trial(centre(base))
    while (done := len(_finished(study))) < trials:
        number, values = _next(study, space, seed)

        def tell(clips: int, _: int, done: int = done) -> None:
            if progress is not None:
                progress(done * len(first.cases) + clips, trials * len(first.cases))

        found = variation(base, values)
        measured = run_study(first.cases, [found], folder / "results", progress=tell)
        if measured.failures:  # the default could take it: something happened to the clip or to the prior
            raise InputError(f"{measured.failures[0].case} failed in trial {number}: {measured.failures[0].reason}")
        study.tell(number, averages(measured, found.name))
    default = first.methods[1]
    points = [Point("default", default, *averages(first, default.name))]
    points += [Point(str(t.number), variation(base, t.params), *t.values) for t in _finished(study)[:trials]]
    return points


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """The points that no other one beats in one objective without losing in the other, by rising KS_A."""
    study = optuna.create_study(directions=list(DIRECTIONS.values()))
    study.add_trials([optuna.trial.create_trial(values=[point.gcnr, point.ks_a]) for point in points])
    return sorted((points[trial.number] for trial in study.best_trials), key=lambda point: point.ks_a)


def choose(points: Sequence[Point], limit: float) -> Point | None:
    """The highest gCNR whose KS_A is at most `limit`, of equal ones the lowest KS_A; None where none is."""
    allowed = [point for point in points if point.ks_a <= limit]
    return max(allowed, key=lambda point: (point.gcnr, -point.ks_a), default=None)


def _open(path: Path, name: str) -> optuna.Study:
    """The search called `name` in a journal, new or to be gone on with."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():  # a line that was cut off by a full disk would spoil the next one
        content = path.read_bytes()
        if not content.endswith(b"\n"):
            path.write_bytes(content[: content.rfind(b"\n") + 1])
    backend = JournalFileBackend(str(path), JournalFileOpenLock(str(path)))
    try:
        return optuna.create_study(
            storage=JournalStorage(backend), study_name=name, directions=list(DIRECTIONS.values()), load_if_exists=True
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged: remove it; the numbers of finished clips stay.") from error


def _identity(first: Study, base: Method, space: dict[str, BaseDistribution], seed: int) -> str:
    """A name that changes with anything that decides the search; the scores stand for frames and masks."""
    measured = [replace(found, seconds=0.0, compiled=False).as_json() for found in first.measured.values()]
    ranges = {name: repr(distribution) for name, distribution in space.items()}
    return digest([base.configuration, ranges, seed, sorted(measured)])[:16]


def _finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])


def _next(study: optuna.Study, space: dict[str, BaseDistribution], seed: int) -> tuple[int, dict[str, Any]]:
    """Number and values of the trial to run: the one that was under way when the search was stopped, or a new one.

    Each trial has random numbers of its own, so that a search that goes on draws what it would have drawn.
    """
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        if trial.params.keys() == space.keys():
            return trial.number, trial.params
        study.tell(trial.number, state=TrialState.FAIL)  # stopped while it was drawn
    number = len(study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.FAIL]))
    state = np.random.SeedSequence([seed, number]).generate_state(1)
    study.sampler = optuna.samplers.TPESampler(seed=int(state[0]))
    trial = study.ask(space)
    return trial.number, trial.params


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
