"""The tables of a study: every number with its definition, what it rests on, and what made it."""

import csv
import json
import math
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from nuclear_diffusion.files import atomic
from nuclear_diffusion.measure.fid import Distances
from nuclear_diffusion.measure.measures import Measured
from nuclear_diffusion.measure.statistics import (
    SCORES,
    ChallengeScore,
    Difference,
    Summary,
    challenge_score,
    compare_pairs,
    fid_points,
    summarise,
)
from nuclear_diffusion.measure.study import HAZY, Study
from nuclear_diffusion.measure.style import title_of
from nuclear_diffusion.restore.folder import versions

MISSING = (
    "Missing: FID (33 points of g1), which needs Inception weights, and g3 (Dice, ASD), which needs the challenge's "
    "private segmenter. g1 is given without its FID term, out of 67."
)
INTERVALS = (
    "95 % percentile bootstrap intervals over patients, 9999 resamples; whole patients are resampled for means over "
    "frames."
)
TESTS = (
    "Paired over patients: two-sided Wilcoxon signed-rank test, with Holm's correction for all pairs of methods in one "
    "score."
)


class Results(NamedTuple):
    """What the tables hold."""

    summaries: tuple[Summary, ...]
    differences: tuple[Difference, ...]
    challenge: dict[str, ChallengeScore]
    fid: Distances | None = None
    """Where there are Inception weights."""

    def summary(self, method: str, score: str) -> Summary:
        """One cell of the table."""
        return next(s for s in self.summaries if (s.method, s.score) == (method, score))

    @property
    def scores(self) -> tuple[str, ...]:
        """The scores that some method has, in the order of `SCORES`."""
        present = {s.score for s in self.summaries if s.patients}
        return tuple(score for score in SCORES if score in present)


def by_patient(study: Study, method: str, score: str) -> dict[str, list[float]]:
    """Patient -> values of all frames (of time, flicker and loss: of all clips), in the order of the data set."""
    found = study.of(method)
    if score == "seconds":
        warm = any(not each.compiled and math.isfinite(each.seconds) for each in found)
        found = [each for each in found if not (warm and each.compiled)]
    patients: dict[str, list[float]] = {case.patient: [] for case in study.cases}
    for each in found:
        patients[each.patient] += _values(each, score)
    return patients


def _values(measured: Measured, score: str) -> list[float]:
    return [measured.seconds / measured.frames] if score == "seconds" else measured.scores.get(score, [])


def patient_means(study: Study, method: str, score: str) -> list[float]:
    """One value a patient, NaN where the patient has none."""
    finite = [[v for v in values if math.isfinite(v)] for values in by_patient(study, method, score).values()]
    return [sum(values) / len(values) if values else math.nan for values in finite]


def tabulate(study: Study, fid: Distances | None = None) -> Results:
    """Averages of every method of the tables, the tests between them, and the challenge's terms, with FID if known."""
    names = [method.name for method in study.main]
    summaries = tuple(
        summarise(name, score, list(by_patient(study, name, score).values())) for name in names for score in SCORES
    )
    differences: list[Difference] = []
    for score in SCORES:
        # The input against itself has KS 0 and loses nothing by definition, and takes no time: no test.
        chosen = [n for n in names if n != HAZY or score not in ("ks_a", "ks_b", "bright_lost", "seconds")]
        values = {name: patient_means(study, name, score) for name in chosen}
        if any(math.isfinite(value) for each in values.values() for value in each):
            differences += compare_pairs(score, values)
    means = {(s.method, s.score): s.frame_mean for s in summaries}
    challenge = {n: challenge_score(*(means[n, score] for score in ("gcnr", "cnr", "ks_a", "ks_b"))) for n in names}
    return Results(summaries, tuple(differences), challenge, fid)


def write_tables(study: Study, results: Results, folder: Path) -> None:
    """Write `scores`, `differences` and `challenge` (.csv), `tables` (.md, .json), and every frame's `frames.csv`."""
    hashes = {method.name: method.configuration_hash for method in study.main}
    made_with = "; ".join(f"{name} {number}" for name, number in all_versions().items())
    _write_csv(
        folder / "scores.csv",
        [
            {
                **s.as_dict(),
                "unit": SCORES[s.score].unit,
                "better": SCORES[s.score].better,
                "definition": SCORES[s.score].definition,
                "intervals": INTERVALS,
                "configuration": hashes[s.method],
                "versions": made_with,
            }
            for s in results.summaries
        ],
    )
    _write_csv(
        folder / "differences.csv",
        [
            {
                **d.as_dict(),
                "unit": SCORES[d.score].unit,
                "definition": SCORES[d.score].definition,
                "test": TESTS,
                "configurations": f"{hashes[d.first]} {hashes[d.second]}",
                "versions": made_with,
            }
            for d in results.differences
        ],
    )
    _write_csv(
        folder / "challenge.csv",
        [
            {"method": name, "frames": sum(len(each.numbers) for each in study.of(name)),
             "patients": len({each.patient for each in study.of(name) if each.numbers}), **points,
             "fid": points.get("fid", "missing"), "g3": "missing", "note": challenge_note(results),
             "configuration": hashes[name], "versions": made_with}
            for name, points in challenge_points(results).items()
        ],
    )  # fmt: skip
    _write_csv(folder / "frames.csv", frame_rows(study))
    with atomic(folder / "tables.json") as temporary:
        temporary.write_text(json.dumps(as_json(study, results), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    with atomic(folder / "tables.md") as temporary:
        temporary.write_text(as_markdown(study, results), encoding="utf-8")


def frame_rows(study: Study) -> list[dict[str, Any]]:
    """One row a method (variations too) and annotated frame, so that every average can be made again."""
    rows = []
    for method in study.methods:
        for each in study.of(method.name):
            fixed = {"method": method.name, "configuration": method.configuration_hash}
            for index, number in enumerate(each.numbers):
                septum, ventricle = each.pixels[index]
                where = {"patient": each.patient, "clip": each.case, "frame": number}
                annotated = ("gcnr", "cnr", "ks_a", "ks_b", "motion_psnr")
                scores = {score: each.scores[score][index] for score in annotated}
                rows.append({**fixed, **where, "septum_pixels": septum, "ventricle_pixels": ventricle, **scores})
    return rows


def as_json(study: Study, results: Results) -> dict[str, Any]:
    """Everything in the tables as strict JSON values; null where undefined."""
    hashes = {method.name: method.configuration_hash for method in study.main}
    return {
        "scores": [{**_strict(s.as_dict()), "configuration": hashes[s.method]} for s in results.summaries],
        "differences": [
            {**_strict(d.as_dict()), "configurations": [hashes[d.first], hashes[d.second]]} for d in results.differences
        ],
        "challenge": {name: _strict(points) for name, points in challenge_points(results).items()},
        **({} if results.fid is None else {"fid": results.fid._asdict()}),
        "definitions": {name: score._asdict() for name, score in SCORES.items()},
        "notes": {"intervals": INTERVALS, "tests": TESTS, "challenge": challenge_note(results)},
        "patients": len({case.patient for case in study.cases}),
        "clips": [case.name for case in study.cases],
        "left_out": [failure._asdict() for failure in study.failures],
        "configurations": {
            method.name: {"hash": method.configuration_hash, **method.configuration} for method in study.methods
        },
        "versions": all_versions(),
        "notice": "Research use only, not a medical device.",
    }


def as_markdown(study: Study, results: Results) -> str:
    """The tables for reading."""
    parts = [
        "# Evaluation",
        f"{len({case.patient for case in study.cases})} patients, {len(study.cases)} clips, "
        f"{sum(len(each.numbers) for each in study.of(HAZY))} annotated frames.",
        "## Mean over frames",
        markdown(*score_table(results)),
        "As the paper and the challenge print it. " + INTERVALS,
        "## Over patients",
        markdown(*patient_table(results)),
        "Mean [interval]; median [interval]; quartiles; n patients.",
        "## Differences",
        markdown(*difference_table(results)),
        TESTS,
        "## Challenge",
        markdown(*challenge_table(results)),
        challenge_note(results),
        "## Definitions",
        "\n".join(f"- {score.title}: {score.definition}" for score in SCORES.values()),
        "## Configurations",
        "\n".join(
            f"- {title_of(method.name)} `{method.configuration_hash}`: "
            f"`{json.dumps(method.configuration['settings'])}`, prior `{method.prior_sha256 or 'none'}`"
            for method in study.main
        ),
        "Made with " + ", ".join(f"{name} {number}" for name, number in all_versions().items()) + ".",
        "Research use only, not a medical device.",
    ]
    return "\n\n".join(parts) + "\n"


Cells = tuple[list[str], list[list[str]]]
"""Headings and rows."""


def score_table(results: Results) -> Cells:
    """Means over frames with intervals, one row a method."""
    rows = []
    for method in results.challenge:
        cells = [results.summary(method, score) for score in results.scores]
        shown = [interval(c.frame_mean, c.frame_mean_low, c.frame_mean_high, c.score) for c in cells]
        first = next((c for c in cells if c.frames), None)
        rows.append([title_of(method), *shown, str(first.frames if first else 0)])
    return ["", *map(heading, results.scores), "frames"], rows


def patient_table(results: Results) -> Cells:
    """Mean, median and quartiles over patients, one row a method and score."""
    rows = [
        [
            heading(s.score),
            title_of(s.method),
            interval(s.mean, s.mean_low, s.mean_high, s.score),
            interval(s.median, s.median_low, s.median_high, s.score),
            f"{number(s.lower_quartile, s.score)} to {number(s.upper_quartile, s.score)}",
            str(s.patients),
        ]
        for score in results.scores
        for method in results.challenge
        if (s := results.summary(method, score)).patients
    ]
    return ["score", "method", "mean", "median", "quartiles", "patients"], rows


def difference_table(results: Results) -> Cells:
    """Paired differences, one row a pair and score."""
    rows = [
        [
            heading(d.score),
            f"{title_of(d.first)} − {title_of(d.second)}",
            interval(d.mean, d.mean_low, d.mean_high, d.score),
            p_value(d.p),
            p_value(d.p_holm),
            str(d.patients),
        ]
        for d in results.differences
        if d.patients
    ]
    return ["score", "difference", "mean", "p", "p (Holm)", "patients"], rows


def challenge_points(results: Results) -> dict[str, dict[str, float]]:
    """What is known of the challenge's terms, by method and name; with FID the numbers of frames stand beside it."""
    terms = {name: points._asdict() for name, points in results.challenge.items()}
    if (fid := results.fid) is None:
        return terms
    counts = {"fid_frames": fid.frames, "fid_clean_frames": fid.clean_frames}
    return {
        name: {"g1": points["g1_contrast"] + fid_points(fid.values[name]), **points, "fid": fid.values[name], **counts}
        for name, points in terms.items()
    }


def challenge_table(results: Results) -> Cells:
    """The challenge's terms, one row a method."""
    columns = {"g1_contrast": "g1 without FID (of 67)", "g2": "g2 (of 100)", "fid": "FID", "g3": "g3"}
    if (fid := results.fid) is not None:
        sizes = f"FID ↓ (n = {fid.frames}, clean n = {fid.clean_frames})"
        columns = {"g1": "g1 (of 100)", "g2": "g2 (of 100)", "fid": sizes, "g3": "g3"}
    rows = [
        [title_of(method), *(number(points[name], "points") if name in points else "missing" for name in columns)]
        for method, points in challenge_points(results).items()
    ]
    return ["", *columns.values()], rows


def challenge_note(results: Results) -> str:
    """What is missing of the challenge's score, and what FID rests on."""
    if (fid := results.fid) is None:
        return MISSING
    return (
        "Missing: g3 (Dice, ASD), which needs the challenge's private segmenter. FID = |m1 - m2|^2 + tr(S1 + S2 - "
        f"2 (S1 S2)^(1/2)) of means and covariances of {fid.features} features: {fid.frames} frames of each method "
        f"against {fid.clean_frames} clean ones. The fewer frames, the higher it is: compare it at equal n only. "
        f"Network SHA-256 {fid.network_sha256}, onnxruntime {version('onnxruntime')}."
    )


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def heading(score: str) -> str:
    """A score's name, unit and an arrow to better."""
    arrow = {"higher": " ↑", "lower": " ↓"}[SCORES[score].better]
    unit = f" [{SCORES[score].unit}]" if SCORES[score].unit else ""
    return SCORES[score].title + unit + arrow


def number(value: float, score: str) -> str:
    """A value with the digits that its score deserves; a dash where undefined."""
    if not math.isfinite(value):
        return "–"
    if score == "seconds":
        return f"{value:.2g}"
    return f"{value:.{ {'psnr': 2, 'flicker_a': 2, 'flicker_b': 2, 'points': 1}.get(score, 3) }f}"


def interval(value: float, low: float, high: float, score: str) -> str:
    """A value and its interval, where it has one."""
    if not math.isfinite(low):
        return number(value, score)
    return f"{number(value, score)} [{number(low, score)}, {number(high, score)}]"


def p_value(p: float) -> str:
    """Three decimals, or an upper bound."""
    return "–" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def all_versions() -> dict[str, str]:
    """The versions that decide answers and numbers."""
    return versions() | {name: version(name) for name in ("scipy", "scikit-image")}


def _strict(values: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Undefined values are empty cells; identical frames have the motion level `inf`."""
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]) if rows else [])
        table.writeheader()
        for row in rows:
            table.writerow({k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()})
