"""Short simulated clips of many patients, for training."""

import multiprocessing
import os
import signal
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from itertools import repeat

import numpy as np
from jaxtyping import UInt8

from nuclear_diffusion.types import Progress, eight_bits

from .clip import patient_seed, simulate
from .findings import some_findings
from .haze import some_families, some_strength

MOST = 12.0  # decibels; haze far stronger than usual, because the worst clips are where a prior has most to do


def _patient(seed: int, frames: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng((seed, 3))
    # from a fraction of a beat to a few beats, so that the network learns from clips of any length
    times = np.arange(frames) / max(frames - 1, 1) * np.exp(rng.uniform(np.log(0.12), np.log(3)))
    strength, families, findings = some_strength(rng, MOST), some_families(rng), some_findings(rng)
    clip = simulate(seed=seed, size=size, times=times, haze=strength, families=families, findings=findings)
    return eight_bits(clip.hazy), eight_bits(clip.clean)


def _start_worker() -> None:
    """Ctrl-C is for the parent, which ends its workers; the GPU, if there is one, is for training."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


def rendered_patients(
    patients: int, frames_per_patient: int = 8, *, split: str = "train", size: int = 256, workers: int = 1
) -> Generator[UInt8[np.ndarray, "moments 2 size size"], None, None]:
    """Short clips of the first `patients` patients of `split`, clean and hazy, one after the other.

    The moments of each are evenly spaced over 0.12 to 3 s. The result does not depend on the number of `workers`,
    processes that end when the generator is closed.
    """
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start_worker)
    try:
        seeds = [patient_seed(split, k) for k in range(patients)]
        for hazy, clean in pool.map(_patient, seeds, repeat(frames_per_patient), repeat(size)):
            yield np.stack([clean, hazy], axis=1)
    finally:
        pool.shutdown(cancel_futures=True)


def frame_bank(
    patients: int,
    frames_per_patient: int = 8,
    *,
    split: str = "train",
    size: int = 256,
    workers: int = 1,
    progress: Progress | None = None,
) -> UInt8[np.ndarray, "patients moments 2 size size"]:
    """All that `rendered_patients` yields in one array; `progress` is called with (patients done, patients in all)."""
    bank = np.empty((patients, frames_per_patient, 2, size, size), np.uint8)
    with closing(rendered_patients(patients, frames_per_patient, split=split, size=size, workers=workers)) as clips:
        for k, clip in enumerate(clips):
            bank[k] = clip
            if progress is not None:
                progress(k + 1, patients)
    return bank
