"""From a data set to a settings file: what the command `tune` does, and all that it writes."""

import csv
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.files import atomic
from nuclear_diffusion.measure.bootstrap import Interval, mean_interval, paired_difference
from nuclear_diffusion.measure.datasets import Dataset
from nuclear_diffusion.measure.evaluate import Bar, failures
from nuclear_diffusion.measure.results import all_versions, heading, interval, markdown, patient_means
from nuclear_diffusion.measure.statistics import SCORES
from nuclear_diffusion.measure.study import HAZY, Method, Study, run_study
from nuclear_diffusion.measure.style import COLUMN, grid, look_of, save, styled, title_of
from nuclear_diffusion.measure.tuning import (
    Point,
    averages,
    choose,
    measure_first,
    pareto_front,
    search,
    search_space,
    split_patients,
)
from nuclear_diffusion.priors.checkpoint import SHIPPED
from nuclear_diffusion.restore import methods as kinds
from nuclear_diffusion.restore.methods import as_dict

DEVELOPMENT, HELD_OUT = "development", "held-out"
"""The two sides of the split; their patients are named in text files called so."""

SHOWN = [score for score in SCORES if score != "seconds"]
"""The scores of the report: times of settings that ran once, hours apart, cannot be compared."""


class Tuned(NamedTuple):
    """What came of it."""

    settings: kinds.Method
    notes: tuple[str, ...]
    """What of the data was not used, one sentence each."""
    left_out: bool
    """Whether there was a clip that could not be taken."""


def tune(
    dataset: Dataset,
    base: Method,
    folder: Path,
    *,
    trials: int,
    share: float,
    seed: int,
    max_ks: float | None,
    command: str,
    progress_bar: Bar,
) -> Tuned:
    """Search the strengths of `base` and write everything into `folder`.

    Args:
        dataset: clips without masks are left out.
        base: the method with its defaults.
        folder: where to write; a search that was stopped there goes on.
        trials: settings to measure.
        share: of the patients to search on, in (0, 1); the others are measured at the end.
        seed: of the split and the search.
        max_ks: highest KS_A to choose from; None: the default's.
        command: what makes this report again.
        progress_bar: makes a bar.

    Raises:
        InputError: as `run_study` and `search`; there are no two patients with masks; no setting is within `max_ks`.
    """
    cases = [case for case in dataset.cases if case.masks]
    notes = [*dataset.notes, *(f"{case.name}: no masks, not used." for case in dataset.cases if not case.masks)]
    split = split_patients((case.patient for case in cases), share, seed)
    sides = {DEVELOPMENT: split.development, HELD_OUT: split.held_out}
    for name, patients in sides.items():
        with atomic(folder / f"{name}.txt") as temporary:
            temporary.write_text("".join(f"{patient}\n" for patient in patients), encoding="utf-8")

    results = folder / "results"
    with progress_bar("measuring the default") as progress:
        chosen_from = [case for case in cases if case.patient in split.development]
        first = measure_first(chosen_from, base, results, progress)
    with progress_bar(f"tuning, {trials} trials") as progress:
        points = search(first, base, folder, trials=trials, seed=seed, progress=progress)
    limit = points[0].ks_a if max_ks is None else max_ks
    chosen = choose(points, limit)
    write_trials(folder / "trials.csv", points, chosen, search_space(base))
    save(draw_trials(base.name, points, chosen, limit, averages(first, HAZY)[0]), folder / "pareto")
    if chosen is None:
        lowest = min(point.ks_a for point in points)
        raise InputError(
            f"no setting reaches a KS_A of at most {limit:g} on the patients tuned on, the lowest is {lowest:.3f}: "
            "raise --max-ks or --trials; the trials are kept."
        )

    methods = list({method.name: method for method in (*first.methods, chosen.method)}.values())
    with progress_bar("measuring the choice") as progress:
        studies = {
            DEVELOPMENT: run_study(first.cases, methods, results),
            HELD_OUT: run_study(
                [case for case in cases if case.patient in split.held_out], methods, results, progress=progress
            ),
        }
    left_out = [*failures(first), *failures(studies[HELD_OUT])]
    notes += left_out
    report = make_report(points, chosen, limit, max_ks, search_space(base), studies)
    report |= {"seed": seed, "share": share, "patients": sides, "notes": notes, "command": command}
    with atomic(folder / "report.json") as temporary:
        temporary.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    with atomic(folder / "report.md") as temporary:
        temporary.write_text(as_markdown(report, points, chosen, studies), encoding="utf-8")
    with atomic(folder / "settings.json") as temporary:
        temporary.write_text(json.dumps(portable(chosen.settings), indent=2) + "\n", encoding="utf-8")
    return Tuned(chosen.settings, tuple(notes), bool(left_out))


def portable(settings: kinds.Method) -> dict[str, Any]:
    """What a settings file holds: the place of a prior does not depend on where the file is used."""
    values = as_dict(settings)
    if values.get("prior") is not None and values["prior"] not in SHIPPED:
        values["prior"] = str(Path(values["prior"]).resolve())
    return values


def write_trials(path: Path, points: list[Point], chosen: Point | None, space: dict[str, BaseDistribution]) -> None:
    """One row a setting, the default first: its strengths, its scores, whether it is on the front and the choice."""
    front = {point.name for point in pareto_front(points)}
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["trial", *space, "gcnr", "ks_a", "pareto", "chosen", "configuration"])
        for point in points:
            marks = [int(point.name in front), int(chosen is not None and point.name == chosen.name)]
            values = [_shown(getattr(point.settings, name)) for name in space]
            table.writerow(
                [point.name, *values, point.gcnr, point.ks_a, *marks, point.method.configuration_hash],
            )


def draw_trials(method: str, points: list[Point], chosen: Point | None, limit: float, hazy: float) -> Figure:
    """Contrast against KS_A of every trial, and the Pareto front; `hazy` is the input's gCNR, whose KS_A is 0."""
    look, before = look_of(method), look_of(HAZY)
    front = pareto_front(points)
    with styled():
        figure = Figure(figsize=(1.45 * COLUMN, 3.3))
        axes = figure.subplots()
        axes.axhline(hazy, color=before.color, linewidth=0.6, linestyle=":")
        axes.axvline(limit, color="#7F7F7F", linewidth=0.8, linestyle="--", label=f"limit, KS_A = {limit:.3g}")
        axes.plot([0], [hazy], marker=before.marker, color=before.color, linestyle="none", label=before.title)
        axes.plot(
            [point.ks_a for point in points[1:]], [point.gcnr for point in points[1:]], color="#9A9A9A", marker=".",
            linestyle="none", label=f"{len(points) - 1} trials of {look.title}",
        )  # fmt: skip
        axes.plot(
            [point.ks_a for point in front], [point.gcnr for point in front], color=look.color, marker=look.marker,
            markersize=3.5, linewidth=1, drawstyle="steps-post", label="Pareto front",
        )  # fmt: skip
        marked = {"Default": (points[0], "s", 6.0), "Chosen": (chosen, "*", 10.0)}
        for title, (point, marker, size) in marked.items():
            if point is not None:
                axes.plot(
                    [point.ks_a], [point.gcnr], marker=marker, markersize=size, color="white", linestyle="none",
                    markeredgecolor="black", markeredgewidth=0.9, label=title, zorder=3,
                )  # fmt: skip
        grid(axes, "both")
        axes.set(xlabel=heading("ks_a") + ": tissue changed", ylabel=heading("gcnr") + ": contrast")
        axes.margins(0.08)
        axes.set_title("↖ better", loc="left", fontsize=7, color="#555555")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def make_report(
    points: list[Point],
    chosen: Point,
    limit: float,
    max_ks: float | None,
    space: dict[str, BaseDistribution],
    studies: dict[str, Study],
) -> dict[str, Any]:
    """The choice and its numbers as strict JSON values; null where undefined."""
    shown = {"hazy": HAZY, "default": points[0].method.name, "chosen": chosen.method.name}
    return {
        "method": chosen.settings.name,
        "rule": "the highest gCNR, mean over the patients tuned on, among the settings whose mean KS_A is at most "
        + (f"that of the default, {limit:.4g}" if max_ks is None else f"{limit:g}"),
        "limit": limit,
        "trials": len(points) - 1,
        "chosen_trial": chosen.name,
        "chosen": as_dict(chosen.settings),
        "default": as_dict(points[0].settings),
        "space": {name: _searched(distribution) for name, distribution in space.items()},
        "scores": {
            side: {title: {s: _strict(found(study, name, s)) for s in SHOWN} for title, name in shown.items()}
            for side, study in studies.items()
        },
        "gain": {
            side: {s: _strict(gain(study, shown["chosen"], shown["default"], s)) for s in SHOWN}
            for side, study in studies.items()
        },
        "intervals": "mean over patients, 95 % percentile bootstrap intervals over patients, 9999 resamples",
        "prior_sha256": chosen.method.prior_sha256,
        "versions": all_versions(),
        "notice": "Research use only, not a medical device.",
    }


def found(study: Study, method: str, score: str) -> Interval:
    """One score of one method, over patients."""
    return mean_interval(patient_means(study, method, score))


def gain(study: Study, method: str, other: str, score: str) -> Interval:
    """One score of `method` less that of `other`, patient by patient."""
    return paired_difference(patient_means(study, method, score), patient_means(study, other, score))


def as_markdown(report: dict[str, Any], points: list[Point], chosen: Point, studies: dict[str, Study]) -> str:
    """The report for reading."""
    strengths = [
        [name, _shown(report["default"][name]), _shown(report["chosen"][name]), searched]
        for name, searched in report["space"].items()
    ]
    kept = chosen.settings == points[0].settings
    which = "the default, as no trial did better" if kept else f"trial {chosen.name}"
    parts = [
        f"# Tuning of {title_of(report['method'])}",
        f"{report['trials']} trials on {len(report['patients'][DEVELOPMENT])} patients; "
        f"{len(report['patients'][HELD_OUT])} others were held out, and measured after the choice.",
        f"Chosen ({which}): {report['rule']}.",
        markdown(["setting", "default", "chosen", "searched"], strengths),
        "![All trials](pareto.png)",
        "## Held-out patients",
        score_table(studies[HELD_OUT], points[0].method.name, chosen.method.name),
        "## Patients tuned on",
        "The choice was made on them: these numbers flatter it.",
        score_table(studies[DEVELOPMENT], points[0].method.name, chosen.method.name),
        report["intervals"].capitalize() + "; the last row is taken patient by patient.",
        "## Use",
        "    nuclear-diffusion dehaze CLIP -o DIR --settings settings.json\n"
        f"    nuclear-diffusion evaluate DATA -o DIR --methods {report['method']} --settings settings.json "
        "--patients held-out.txt",
        *(f"- {note}" for note in report["notes"]),
        f"Made by `{report['command']}` with "
        + ", ".join(f"{name} {number}" for name, number in report["versions"].items())
        + f", prior `{report['prior_sha256'] or 'none'}`.",
        report["notice"],
    ]
    return "\n\n".join(parts) + "\n"


def score_table(study: Study, default: str, chosen: str) -> str:
    """Input, default and choice, and what the choice gains, in the scores that the data has."""
    scores = [s for s in SHOWN if found(study, default, s).patients]
    names = {title_of(HAZY): HAZY, "Default": default, "Chosen": chosen}
    rows = [[title, *(_cell(found(study, name, s), s) for s in scores)] for title, name in names.items()]
    rows.append(["Chosen − default", *(_cell(gain(study, chosen, default, s), s) for s in scores)])
    return markdown(["", *map(heading, scores)], rows)


def _cell(value: Interval, score: str) -> str:
    return interval(value.mean, value.low, value.high, score)


def _strict(value: Interval) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in value._asdict().items()}


def _searched(distribution: BaseDistribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(map(str, distribution.choices))
    assert isinstance(distribution, FloatDistribution)
    return f"{distribution.low:g} to {distribution.high:g}, log scale"


def _shown(value: float | None) -> str:
    return "from the clip" if value is None else f"{value:g}"
