"""The command `tune`: from a data set to a settings file and a report."""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.files import alone_in, followed, write
from nuclear_diffusion.measure.candidates import HAZY, Candidate
from nuclear_diffusion.measure.datasets import Dataset
from nuclear_diffusion.measure.figures import draw_trials
from nuclear_diffusion.measure.scores import EVALUATED
from nuclear_diffusion.measure.search import (
    Point,
    averages,
    centre,
    choose,
    measure_first,
    pareto_front,
    search,
    search_space,
    split_patients,
)
from nuclear_diffusion.measure.statistics import INTERVALS, differences, pick, records, summarise
from nuclear_diffusion.measure.study import Study, run_study
from nuclear_diffusion.measure.style import save, title_of
from nuclear_diffusion.measure.tables import Table, difference_table, mean_table, render, write_csv, write_json
from nuclear_diffusion.priors.checkpoint import SHIPPED
from nuclear_diffusion.restore.methods import Method, as_dict
from nuclear_diffusion.types import Bar

DEVELOPMENT, HELD_OUT = "development", "held-out"
"""The two sides of the split, and the names of the text files that list their patients."""
SHOWN = [score for score in EVALUATED if score != "seconds"]
"""The scores in the report. Times are left out, because runs hours apart cannot be compared."""


class Tuned(NamedTuple):
    """The result of `tune`."""

    settings: Method
    notes: tuple[str, ...]  # one sentence for each part of the data that was not used
    left_out: bool  # whether a clip failed


@alone_in("folder")
def tune(
    dataset: Dataset,
    base: Candidate,
    folder: Path,
    *,
    trials: int,
    share: float,
    seed: int,
    max_ks: float | None,
    command: str,
    progress_bar: Bar,
) -> Tuned:
    """Search the strengths of `base`, a method with its defaults, and write everything into `folder`.

    An interrupted search in `folder` resumes. Clips without masks are left out. `share` is the fraction of the patients
    to tune on, in (0, 1), and `max_ks` the highest KS_A allowed (None: the default's). `command` reproduces the report.
    Raises `InputError` as `run_study` and `search`, if fewer than two patients have masks, and if no setting is within
    `max_ks`.
    """
    cases = [case for case in dataset.cases if case.masks]
    notes = [*dataset.notes, *(f"{case.name}: no masks, not used." for case in dataset.cases if not case.masks)]
    sides = dict(zip((DEVELOPMENT, HELD_OUT), split_patients((c.patient for c in cases), share, seed), strict=True))
    for name, patients in sides.items():
        write(folder / f"{name}.txt", "".join(f"{patient}\n" for patient in patients))

    results = folder / "results"
    with progress_bar("measuring the default") as progress:
        chosen_from = [case for case in cases if case.patient in sides[DEVELOPMENT]]
        first = measure_first(chosen_from, base, results, progress)
    with progress_bar(f"tuning, {trials} trials") as progress:
        points = search(first, base, results, trials=trials, seed=seed, progress=progress)
    limit = points[0].ks_a if max_ks is None else max_ks
    chosen = _choice(points, limit, base, averages(first, HAZY)[0], folder)

    candidates = list({one.name: one for one in (*first.candidates, chosen.candidate)}.values())
    held_out = [case for case in cases if case.patient in sides[HELD_OUT]]
    with progress_bar("measuring the choice") as progress:
        studies = {
            DEVELOPMENT: run_study(first.cases, candidates, results),
            HELD_OUT: run_study(held_out, candidates, results, progress=progress),
        }
    left_out = [*first.left_out(), *studies[HELD_OUT].left_out()]
    notes += left_out
    frames = {side: compared(study, points[0], chosen) for side, study in studies.items()}
    means = {side: summarise(frame, SHOWN) for side, frame in frames.items()}
    gains = {side: differences(frame, SHOWN, [("chosen", "default")]) for side, frame in frames.items()}
    report = {
        "method": chosen.settings.name,
        "rule": "the highest gCNR, mean over the patients tuned on, among the settings whose mean KS_A is at most "
        + (f"that of the default, {limit:.4g}" if max_ks is None else f"{limit:g}"),
        "limit": limit,
        "trials": trials,
        "chosen_trial": chosen.name,
        "chosen": as_dict(chosen.settings),
        "default": as_dict(points[0].settings),
        "space": {name: f"{one.low:g} to {one.high:g}, log scale" for name, one in search_space(base).items()},
        "scores": {side: records(table) for side, table in means.items()},
        "gain": {side: records(table) for side, table in gains.items()},
        "intervals": INTERVALS,
        "prior_sha256": base.prior_sha256,
        "versions": studies[HELD_OUT].versions(),
        "notice": "Research use only, not a medical device.",
        "seed": seed,
        "share": share,
        "patients": sides,
        "notes": notes,
        "command": command,
    }
    write_json(folder / "report.json", report)
    tables = {side: score_table(means[side], gains[side]) for side in studies}
    kept = chosen.settings == points[0].settings
    which = "the default, as no trial did better" if kept else f"trial {chosen.name}"
    page = render("tuning.md", {**report, "title": title_of(base.name), "tables": tables, "which": which})
    write(folder / "report.md", page)
    write_json(folder / "settings.json", portable(chosen.settings))
    return Tuned(chosen.settings, tuple(notes), bool(left_out))


def _choice(points: list[Point], limit: float, base: Candidate, hazy: float, folder: Path) -> Point:
    """The best point within the limit of KS_A, after writing all of them; `hazy`: the input's gCNR."""
    chosen = choose(points, limit)
    table = trials_table(points, chosen)
    write_csv(folder / "trials.csv", table)
    save(draw_trials(base.name, table, limit, hazy), folder / "pareto")
    if chosen is None:
        lowest = min(point.ks_a for point in points)
        raise InputError(
            f"no setting reaches a KS_A of at most {limit:g} on the patients tuned on, the lowest is {lowest:.3f}: "
            "raise --max-ks or --trials; finished trials are kept."
        )
    return chosen


def portable(settings: Method) -> dict[str, Any]:
    """The content of a settings file, with an absolute path to the prior."""
    values = as_dict(settings)
    if values.get("prior") is not None and values["prior"] not in SHIPPED:
        values["prior"] = str(followed(Path(values["prior"])))
    return values


def compared(study: Study, default: Point, chosen: Point) -> pd.DataFrame:
    """The tidy table of the methods `hazy`, `default` and `chosen`."""
    names = {HAZY: HAZY, "default": default.candidate.name, "chosen": chosen.candidate.name}
    return pd.concat(pick(study.frame, method=name).assign(method=title) for title, name in names.items())


def trials_table(points: list[Point], chosen: Point | None) -> pd.DataFrame:
    """One row per setting, the default first: strengths, scores, whether it is on the Pareto front, and chosen."""
    front = {point.name for point in pareto_front(points)}
    return pd.DataFrame(
        {
            "trial": point.name,
            **{name: f"{value:g}" for name, value in centre(point.candidate).items()},
            "gcnr": point.gcnr,
            "ks_a": point.ks_a,
            "pareto": int(point.name in front),
            "chosen": int(chosen is not None and point.name == chosen.name),
            "configuration": point.candidate.configuration_hash,
        }
        for point in points
    )


def score_table(means: pd.DataFrame, gains: pd.DataFrame) -> Table:
    """Scores of input, default and choice, and the gain of the choice over the default."""
    known = means[means.method.eq("default") & means.patients.gt(0)].score
    shown = mean_table(pick(means, means.score.isin(known)))
    gained = difference_table(pick(gains, gains.score.isin(known)), wide=True)
    return Table(shown.headings, [[title.capitalize(), *cells] for title, *cells in (*shown.rows, *gained.rows)])
