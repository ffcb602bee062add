"""From a data set to a settings file: what the command `tune` does, and all that it writes."""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.measure.candidates import HAZY, Candidate
from nuclear_diffusion.measure.datasets import Dataset
from nuclear_diffusion.measure.evaluate import Bar
from nuclear_diffusion.measure.scores import EVALUATED
from nuclear_diffusion.measure.search import (
    Point,
    averages,
    choose,
    measure_first,
    pareto_front,
    search,
    search_space,
    split_patients,
)
from nuclear_diffusion.measure.statistics import (
    differences,
    patient_difference,
    patient_mean,
    summarise,
)
from nuclear_diffusion.measure.study import Study, run_study
from nuclear_diffusion.measure.style import COLUMN, grid, look_of, save, styled, title_of
from nuclear_diffusion.measure.tables import (
    Table,
    difference_table,
    heading,
    listed,
    mean_table,
    write_csv,
    write_json,
    write_text,
)
from nuclear_diffusion.priors.checkpoint import SHIPPED
from nuclear_diffusion.restore.methods import Method, as_dict

DEVELOPMENT, HELD_OUT = "development", "held-out"
"""The two sides of the split; their patients are named in text files called so."""

SHOWN = [score for score in EVALUATED if score != "seconds"]
"""The scores of the report: times of settings that ran once, hours apart, cannot be compared."""


class Tuned(NamedTuple):
    """What came of it."""

    settings: Method
    notes: tuple[str, ...]
    """What of the data was not used, one sentence each."""
    left_out: bool
    """Whether there was a clip that could not be taken."""


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
        write_text(folder / f"{name}.txt", "".join(f"{patient}\n" for patient in patients))

    results = folder / "results"
    with progress_bar("measuring the default") as progress:
        chosen_from = [case for case in cases if case.patient in split.development]
        first = measure_first(chosen_from, base, results, progress)
    with progress_bar(f"tuning, {trials} trials") as progress:
        points = search(first, base, results, trials=trials, seed=seed, progress=progress)
    limit = points[0].ks_a if max_ks is None else max_ks
    chosen = choose(points, limit)
    write_csv(folder / "trials.csv", trials_table(points, chosen))
    save(draw_trials(base.name, points, chosen, limit, averages(first, HAZY)[0]), folder / "pareto")
    if chosen is None:
        lowest = min(point.ks_a for point in points)
        raise InputError(
            f"no setting reaches a KS_A of at most {limit:g} on the patients tuned on, the lowest is {lowest:.3f}: "
            "raise --max-ks or --trials; the trials are kept."
        )

    candidates = list({one.name: one for one in (*first.candidates, chosen.candidate)}.values())
    held_out = [case for case in cases if case.patient in split.held_out]
    with progress_bar("measuring the choice") as progress:
        studies = {
            DEVELOPMENT: run_study(first.cases, candidates, results),
            HELD_OUT: run_study(held_out, candidates, results, progress=progress),
        }
    left_out = [*first.left_out(), *studies[HELD_OUT].left_out()]
    notes += left_out
    frames = {side: compared(study, points[0], chosen) for side, study in studies.items()}
    report = make_report(points, chosen, limit, max_ks, frames)
    report |= {"seed": seed, "share": share, "patients": sides, "notes": notes, "command": command}
    report["versions"] = studies[HELD_OUT].versions()
    write_json(folder / "report.json", report)
    write_text(folder / "report.md", as_markdown(report, points, chosen, frames))
    write_json(folder / "settings.json", portable(chosen.settings))
    return Tuned(chosen.settings, tuple(notes), bool(left_out))


def portable(settings: Method) -> dict[str, Any]:
    """What a settings file holds: the place of a prior does not depend on where the file is used."""
    values = as_dict(settings)
    if values.get("prior") is not None and values["prior"] not in SHIPPED:
        values["prior"] = str(Path(values["prior"]).resolve())
    return values


def compared(study: Study, default: Point, chosen: Point) -> pd.DataFrame:
    """The tidy table of the methods `hazy`, `default` and `chosen`."""
    names = {HAZY: HAZY, "default": default.candidate.name, "chosen": chosen.candidate.name}
    return pd.concat(study.frame[study.frame.method == name].assign(method=title) for title, name in names.items())


def trials_table(points: list[Point], chosen: Point | None) -> pd.DataFrame:
    """One row a setting, the default first: its strengths, its scores, whether it is on the front and the choice."""
    front = {point.name for point in pareto_front(points)}
    return pd.DataFrame(
        {
            "trial": point.name,
            **{name: f"{getattr(point.settings, name):g}" for name in search_space(point.candidate)},
            "gcnr": point.gcnr,
            "ks_a": point.ks_a,
            "pareto": int(point.name in front),
            "chosen": int(chosen is not None and point.name == chosen.name),
            "configuration": point.candidate.configuration_hash,
        }
        for point in points
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
    points: list[Point], chosen: Point, limit: float, max_ks: float | None, frames: dict[str, pd.DataFrame]
) -> dict[str, Any]:
    """The choice and its numbers as JSON values; `frames` holds what was `compared` on each side of the split."""
    return {
        "method": chosen.settings.name,
        "rule": "the highest gCNR, mean over the patients tuned on, among the settings whose mean KS_A is at most "
        + (f"that of the default, {limit:.4g}" if max_ks is None else f"{limit:g}"),
        "limit": limit,
        "trials": len(points) - 1,
        "chosen_trial": chosen.name,
        "chosen": as_dict(chosen.settings),
        "default": as_dict(points[0].settings),
        "space": {name: f"{low:g} to {high:g}, log scale" for name, (low, high) in limits(points[0]).items()},
        "scores": {
            side: {
                method: {score: patient_mean(frame, method, score)._asdict() for score in SHOWN}
                for method in (HAZY, "default", "chosen")
            }
            for side, frame in frames.items()
        },
        "gain": {
            side: {score: patient_difference(frame, "chosen", "default", score)._asdict() for score in SHOWN}
            for side, frame in frames.items()
        },
        "intervals": "mean over patients, 95 % percentile bootstrap intervals over patients, 9999 resamples",
        "prior_sha256": chosen.candidate.prior_sha256,
        "notice": "Research use only, not a medical device.",
    }


def limits(default: Point) -> dict[str, tuple[float, float]]:
    """The ends of the ranges that were searched."""
    return {name: (found.low, found.high) for name, found in search_space(default.candidate).items()}


def as_markdown(report: dict[str, Any], points: list[Point], chosen: Point, frames: dict[str, pd.DataFrame]) -> str:
    """The report for reading."""
    strengths = [
        [name, f"{report['default'][name]:g}", f"{report['chosen'][name]:g}", searched]
        for name, searched in report["space"].items()
    ]
    kept = chosen.settings == points[0].settings
    which = "the default, as no trial did better" if kept else f"trial {chosen.name}"
    parts = [
        f"# Tuning of {title_of(report['method'])}",
        f"{report['trials']} trials on {len(report['patients'][DEVELOPMENT])} patients; "
        f"{len(report['patients'][HELD_OUT])} others were held out, and measured after the choice.",
        f"Chosen ({which}): {report['rule']}.",
        Table(["setting", "default", "chosen", "searched"], strengths).markdown(),
        "![All trials](pareto.png)",
        "## Held-out patients",
        score_table(frames[HELD_OUT]).markdown(),
        "## Patients tuned on",
        "The choice was made on them: these numbers flatter it.",
        score_table(frames[DEVELOPMENT]).markdown(),
        report["intervals"].capitalize()
        + "; the last row is taken patient by patient, * where the interval excludes 0.",
        "## Use",
        "    nuclear-diffusion dehaze CLIP -o DIR --settings settings.json\n"
        f"    nuclear-diffusion evaluate DATA -o DIR --methods {report['method']} --settings settings.json "
        "--patients held-out.txt",
        *(f"- {note}" for note in report["notes"]),
        f"Made by `{report['command']}` with {listed(report['versions'])}, prior `{report['prior_sha256'] or 'none'}`.",
        report["notice"],
    ]
    return "\n\n".join(parts) + "\n"


def score_table(frame: pd.DataFrame) -> Table:
    """Input, default and choice, and what the choice gains, in the scores that the data has."""
    scores = [score for score in SHOWN if patient_mean(frame, "default", score).patients]
    means = mean_table(summarise(frame, scores))
    change = difference_table(differences(frame, scores, [("chosen", "default")]), wide=True)
    return Table(means.headings, [[title.capitalize(), *cells] for title, *cells in (*means.rows, *change.rows)])
