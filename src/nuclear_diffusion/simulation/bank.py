"""Short simulated clips of many patients, for training."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed

import numpy as np

from .clip import patient_seed, simulate
from .findings import some_findings
from .haze import some_families, some_strength


def _patient(seed: int, frames: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng((seed, 3))
    # from a fraction of a beat to a few beats, so that the network learns from clips of any length
    times = np.arange(frames) / max(frames - 1, 1) * np.exp(rng.uniform(np.log(0.12), np.log(3)))
    strength, families, findings = some_strength(rng), some_families(rng), some_findings(rng)
    clip = simulate(seed=seed, size=size, times=times, haze=strength, families=families, findings=findings)
    return _to_uint8(clip.hazy), _to_uint8(clip.clean)


def _to_uint8(frames: np.ndarray) -> np.ndarray:
    return np.round(frames * 255).astype(np.uint8)


def frame_bank(
    patients: int,
    frames_per_patient: int = 8,
    *,
    split: str = "train",
    size: int = 256,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Hazy and clean short clips of the first `patients` patients of `split`, evenly spaced in time.

    Args:
        patients: number of patients.
        frames_per_patient: frames per patient, over 0.12 to 3 s.
        split: "train", "development" or "test".
        size: side of the square frames.
        workers: number of processes, which does not affect the result.
        progress: called with (patients done, total).

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
