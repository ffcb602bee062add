"""Banks of single frames of many patients, for training."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed

import numpy as np

from .clip import patient_seed, simulate


def _patient(seed: int, frames: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    # moments a third of a second or more apart: other phases of the cycle
    times = np.arange(frames) * 0.37
    clip = simulate(seed=seed, size=size, times=times)
    return _to_uint8(clip.hazy), _to_uint8(clip.clean)


def _to_uint8(frames: np.ndarray) -> np.ndarray:
    return np.round(frames * 255).astype(np.uint8)


def frame_bank(
    patients: int,
    frames_per_patient: int = 2,
    *,
    split: str = "train",
    size: int = 256,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Frames of the first `patients` patients of `split`, hazy and clean.

    Args:
        patients: number of patients.
        frames_per_patient: moments of the cardiac cycle rendered for each.
        split: "train", "development" or "test".
        size: side of the square frames.
        workers: processes; the result does not depend on it.
        progress: called with (patients done, patients in all).

    Returns:
        Two uint8 arrays (patients, frames_per_patient, size, size).
    """
    shape = (patients, frames_per_patient, size, size)
    hazy, clean = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        jobs = {pool.submit(_patient, patient_seed(split, k), frames_per_patient, size): k for k in range(patients)}
        try:
            for done, job in enumerate(as_completed(jobs), 1):
                hazy[jobs[job]], clean[jobs[job]] = job.result()
                if progress is not None:
                    progress(done, patients)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return hazy, clean
