"""From a data set to tables, figures and the page: what the command `evaluate` does."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import find_sector, read_frames
from nuclear_diffusion.measure.datasets import Dataset
from nuclear_diffusion.measure.fid import clean_moments, measure_fid, open_network
from nuclear_diffusion.measure.measures import LEVELS, eight_bits, histogram
from nuclear_diffusion.measure.report import first_failures, write_report
from nuclear_diffusion.measure.results import tabulate, write_tables
from nuclear_diffusion.measure.study import Method, Study, run_study
from nuclear_diffusion.restore.clip import Progress

CLEAN_FRAMES = 12
"""Frames of each clean clip whose intensities are counted."""

Bar = Callable[[str], AbstractContextManager[Progress]]
"""Makes a progress bar with a title."""


def evaluate(
    dataset: Dataset,
    methods: Sequence[Method],
    folder: Path,
    *,
    workers: int = 1,
    command: str,
    progress_bar: Bar,
    inception: Path | None = None,
) -> Study:
    """Run `methods` on a data set and write everything into `folder`; returns the numbers.

    `inception` is the ONNX file of a network, by which FID is computed. Raises `InputError` as `run_study`, and before
    the methods run where the network, or the clean frames to compare with, cannot be used.
    """
    network = clean_features = None
    if inception is not None:
        if not dataset.clean:
            raise InputError(
                "FID compares with clean frames, which the data set lacks: name their folder with --clean, or leave "
                "out --inception."
            )
        network = open_network(inception)
        with progress_bar("clean features") as progress:
            clean_features = clean_moments(network, dataset.clean, progress)
    with progress_bar("evaluating") as progress:
        study = run_study(dataset.cases, methods, folder / "results", workers=workers, progress=progress)
    distances = None
    if network is not None and clean_features is not None:
        with progress_bar("FID") as progress:
            distances = measure_fid(study, network, clean_features, progress)
    with progress_bar("tables and figures") as progress:
        progress(0, 3)
        found = tabulate(study, distances)
        write_tables(study, found, folder)
        progress(1, 3)
        clean, unread = clean_intensities(dataset.clean)
        progress(2, 3)
        write_report(study, found, folder, command=command, notes=(*dataset.notes, *unread), clean=clean)
        progress(3, 3)
    return study


def failures(study: Study) -> list[str]:
    """One sentence a clip that was left out."""
    return [f"{failure.case} is left out: {failure.reason}" for failure in first_failures(study)]


def clean_intensities(clips: Sequence[Sequence[Path]]) -> tuple[Int[ndarray, " levels"] | None, list[str]]:
    """Histogram of the sectors of clean clips, from up to `CLEAN_FRAMES` frames of each; None where no clip is left.

    Also a sentence for each clip that is left out, as it cannot be read: these intensities are drawn beside the results
    only, and no reason to lose them.
    """
    total, notes = np.zeros(LEVELS, int), []
    for files in clips:
        picked = np.unique(np.linspace(0, len(files) - 1, CLEAN_FRAMES).round().astype(int))
        try:
            frames = read_frames([files[index] for index in picked]).frames
        except InputError as error:
            notes.append(f"clean clip left out: {error}")
            continue
        total += histogram(eight_bits(frames[:, find_sector(frames)]))
    return total if total.any() else None, notes
