"""The output of `evaluate`: tables with everything behind them, and a page with tables, figures and clips."""

import base64
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int
from matplotlib.figure import Figure
from numpy import ndarray

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.files import write
from nuclear_diffusion.io import read_frames, write_video
from nuclear_diffusion.measure import figures
from nuclear_diffusion.measure.candidates import CLEAN, HAZY
from nuclear_diffusion.measure.challenge import challenge_note, challenge_points, challenge_table
from nuclear_diffusion.measure.datasets import Dataset
from nuclear_diffusion.measure.fid import Distances
from nuclear_diffusion.measure.films import films_of
from nuclear_diffusion.measure.scores import EVALUATED, LEVELS, SCORES, histogram
from nuclear_diffusion.measure.statistics import INTERVALS, TESTS, differences, pick, records, summarise
from nuclear_diffusion.measure.study import Study
from nuclear_diffusion.measure.style import as_bytes, look_of, on_screen, save, title_of
from nuclear_diffusion.measure.tables import (
    Table,
    difference_table,
    listed,
    mean_table,
    patient_table,
    render,
    write_csv,
    write_json,
)
from nuclear_diffusion.reporting import plural
from nuclear_diffusion.restore.pictures import side_by_side
from nuclear_diffusion.sector import find_sector
from nuclear_diffusion.types import eight_bits, evenly
from nuclear_diffusion.view.film import source

CLEAN_FRAMES = 12  # frames of each clean clip whose intensities are counted


class Results(NamedTuple):
    """A study and its tables."""

    study: Study
    summary: pd.DataFrame  # `statistics.summarise` of the scores that the data has
    differences: pd.DataFrame  # `statistics.differences`
    points: pd.DataFrame  # `challenge_points`
    fid: Distances | None  # None without Inception weights

    @classmethod
    def of(cls, study: Study, fid: Distances | None = None) -> "Results":
        """Averages of the main candidates, tests between them, and the challenge's terms."""
        summary = summarise(study.main_frame, EVALUATED)
        points = challenge_points(summary, fid)
        known = summary.score.isin(summary.score[summary.patients > 0])
        return cls(study, pick(summary, known), differences(study.main_frame, EVALUATED), points, fid)


def write_tables(results: Results, folder: Path) -> None:
    """Write `numbers`, `scores`, `differences` and `challenge` (.csv), and `tables.json`.

    `numbers.csv` holds every score, including variations, so that every average can be reproduced.
    """
    study = results.study
    hashes = {one.name: one.configuration_hash for one in study.candidates}
    versions = study.versions()

    def described(table: pd.DataFrame, *methods: str) -> pd.DataFrame:
        """The table with definition, configuration and versions in each row; `methods`: columns with method names."""
        configuration = table[list(methods)].replace(hashes).agg(" ".join, axis=1) if len(table) else ""
        definition = [SCORES[score].definition for score in table.score]
        return table.assign(definition=definition, configuration=configuration, versions=listed(versions))

    summary, found = results.summary, results.differences
    write_csv(folder / "numbers.csv", study.frame)
    write_csv(folder / "scores.csv", described(summary, "method"))
    write_csv(folder / "differences.csv", described(found, "first", "second"))
    points = results.points.reset_index()
    extra = {"fid": points.get("fid", "missing"), "g3": "missing", "note": challenge_note(results.fid)}
    extra |= {"configuration": points.method.map(hashes), "versions": listed(versions)}
    write_csv(folder / "challenge.csv", points.assign(**extra))
    value = {
        "scores": records(summary.assign(configuration=summary.method.map(hashes))),
        "differences": records(found),
        "challenge": results.points.to_dict("index"),
        **({} if results.fid is None else {"fid": results.fid._asdict()}),
        "definitions": {name: SCORES[name]._asdict() for name in EVALUATED},
        "notes": {"intervals": INTERVALS, "tests": TESTS, "challenge": challenge_note(results.fid)},
        "patients": len(study.patients),
        "clips": [case.name for case in study.cases],
        "left_out": [failure._asdict() for failure in study.failures],
        "configurations": {one.name: {"hash": hashes[one.name], **one.configuration} for one in study.candidates},
        "versions": versions,
        "notice": "Research use only, not a medical device.",
    }
    write_json(folder / "tables.json", value)


def write_report(results: Results, folder: Path, *, command: str, dataset: Dataset) -> None:
    """Write `tables.md`, the figures (`figures/*.pdf`, `.png`), clips (`clips/*.mp4`) and `report.html`.

    `command` reproduces the report. `dataset` provides notes and the intensities of clean clips.
    """
    study = results.study
    clean, unread = clean_intensities(dataset.clean)
    chosen = figures.choose_patients(study)
    annotated = len(pick(study.frame, method=HAZY, score="septum_pixels"))
    with on_screen():
        looks = {title_of(one.name): look_of(one.name) for one in study.main}
    context = {
        "title": "Nuclear Diffusion: evaluation",
        "summary": f"{plural(len(study.patients), 'patient')}, {plural(len(study.cases), 'clip')}, "
        f"{plural(annotated, 'annotated frame')}",
        "methods": len(study.main),
        "notes": [*study.left_out(), *dataset.notes, *unread],
        "score_table": mean_table(results.summary, over="frames"),
        "patient_table": patient_table(results.summary),
        "difference_table": difference_table(results.differences),
        "challenge_table": challenge_table(results.points, results.fid),
        "configuration_table": configuration_table(study),
        "intervals": INTERVALS,
        "tests": TESTS,
        "challenge_note": challenge_note(results.fid),
        "focus": title_of(study.focus),
        "definitions": [SCORES[name] for name in EVALUATED],
        "versions": study.versions(),
        "command": command,
        "films": films_of(study, chosen),
        "figures": draw(study, chosen, clean, folder / "figures"),
        "looks": looks,
        "source": source,
    }
    for one in chosen:
        write_clip(study, one, folder / "clips" / f"{one.rule.replace(' ', '-')}.mp4")
    for name in ("tables.md", "report.html"):
        write(folder / name, render(name, context))


def draw(study: Study, chosen: Sequence[figures.Chosen], clean: ndarray | None, folder: Path) -> dict[str, Any]:
    """Write the figures for print; return each one's image for the dark page and its width in points, by name."""
    makers: dict[str, Callable[[], Figure | None]] = {
        "comparison": partial(figures.draw_comparison, study, chosen),
        "boxes": partial(figures.draw_boxes, study),
        "tradeoff": partial(figures.draw_tradeoff, study),
        "motion": partial(figures.draw_motion, study),
        "intensities": partial(figures.draw_intensities, study, clean),
        "singular_values": partial(figures.draw_singular_values, study, chosen[0].case),
    }
    shown = {}
    for name, make in makers.items():
        if (figure := make()) is None:
            continue
        save(figure, folder / name)
        with on_screen():
            if (figure := make()) is not None:
                text = base64.b64encode(as_bytes(figure, "svg")).decode("ascii")
                width = f"{figure.get_figwidth() * 72 / 7:.1f}"  # the figures' letters are 7 to 8 points
                shown[name] = {"source": f"data:image/svg+xml;base64,{text}", "width": width}
    return shown


def write_clip(study: Study, chosen: figures.Chosen, path: Path) -> None:
    """Write all outputs of a clip side by side in one movie."""
    loaded = chosen.case.read()
    outputs = {title_of(one.name): study.output(one.name, chosen.case) for one in study.main}
    panels = {title: output.signal / np.float32(LEVELS - 1) for title, output in outputs.items()}
    if loaded.truth is not None:
        panels[title_of(CLEAN)] = loaded.truth
    write_video(path, side_by_side(panels), loaded.clip.fps)


def configuration_table(study: Study) -> Table:
    """Settings, weights and hash of every method."""
    rows = []
    for one in study.main:
        settings = one.configuration["settings"] or {}
        shown = {name: value for name, value in settings.items() if name not in ("method", "prior")}
        weights = (one.prior_sha256 or "none")[:16]
        rows.append([title_of(one.name), json.dumps(shown), weights, one.configuration_hash])
    return Table(["method", "settings", "weights (SHA-256)", "configuration"], rows)


def clean_intensities(clips: Sequence[Sequence[Path]]) -> tuple[Int[ndarray, " levels"] | None, list[str]]:
    """Histogram of the sectors of clean clips, from up to `CLEAN_FRAMES` frames of each; None if no clip is readable.

    Also one sentence per unreadable clip; these are only left out, because the histogram is only for comparison.
    """
    total, notes = np.zeros(LEVELS, int), []
    for files in clips:
        try:
            frames = read_frames([files[index] for index in evenly(len(files), CLEAN_FRAMES)]).frames
        except InputError as error:
            notes.append(f"clean clip left out: {error}")
            continue
        total += histogram(eight_bits(frames[:, find_sector(frames)]))
    return total if total.any() else None, notes
