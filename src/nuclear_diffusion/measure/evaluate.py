"""The command `evaluate`: from a data set to tables, figures and the report."""

from collections.abc import Sequence
from pathlib import Path

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.files import alone_in
from nuclear_diffusion.measure.candidates import Candidate
from nuclear_diffusion.measure.datasets import Dataset
from nuclear_diffusion.measure.fid import clean_moments, measure_fid, open_network
from nuclear_diffusion.measure.report import Results, write_report, write_tables
from nuclear_diffusion.measure.study import Study, run_study
from nuclear_diffusion.types import Bar


@alone_in("folder")
def evaluate(
    dataset: Dataset,
    candidates: Sequence[Candidate],
    folder: Path,
    *,
    workers: int = 1,
    command: str,
    progress_bar: Bar,
    inception: Path | None = None,
) -> Study:
    """Run `candidates` on a data set, write everything into `folder` and return the study.

    `inception` is the ONNX file of the network for FID. Raises `InputError` as `run_study`, and before the methods run
    if the network or the clean frames are unusable.
    """
    network = clean_features = fid = None
    if inception is not None:
        if not dataset.clean:
            raise InputError(
                "FID compares with clean frames, which the data set lacks: name their folder with --clean, or remove "
                "--inception."
            )
        network = open_network(inception)
        with progress_bar("clean features") as progress:
            clean_features = clean_moments(network, dataset.clean, progress)
    with progress_bar("evaluating") as progress:
        study = run_study(dataset.cases, candidates, folder / "results", workers=workers, progress=progress)
    if network is not None and clean_features is not None:
        with progress_bar("FID") as progress:
            fid = measure_fid(study, network, clean_features, progress)
    with progress_bar("tables and figures") as progress:
        progress(0, 2)
        results = Results.of(study, fid)
        write_tables(results, folder)
        progress(1, 2)
        write_report(results, folder, command=command, dataset=dataset)
        progress(2, 2)
    return study
