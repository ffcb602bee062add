"""Frames to train a prior on: clean ones read from files, or clean and hazy ones rendered by the simulator."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from nuclear_diffusion.files import atomic
from nuclear_diffusion.learning import Bank, pack_clips
from nuclear_diffusion.pipeline.core import PRIOR_SIZE, Progress
from nuclear_diffusion.simulation import frame_bank
from nuclear_diffusion.types import InputError
from nuclear_diffusion.video import Fit, find_sector, read_video


def read_frames(folder: Path, *, size: int = PRIOR_SIZE, progress: Progress | None = None) -> Bank:
    """Every frame of every clip in `folder`, its sector fitted to `size` x `size` pixels, black around it.

    Some clips are set aside for validation, see `pack_clips`. Images that lie in the folder itself and differ in their
    last number only are one clip. Raises `InputError` for a folder without clips and for a clip that cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give a folder of clips or images, or the word 'simulator'.")
    sources = find_clips(folder)
    if not sources:
        raise InputError(f"{folder} holds no clips: give a folder of clips or images.")
    return pack_clips(_fitted(sources, size, progress), size=size)


def _fitted(
    sources: list[Path], size: int, progress: Progress | None
) -> Iterator[tuple[str, Float32[ndarray, "frames size size"]]]:
    for done, source in enumerate(sources, start=1):
        clip = read_video(source)
        yield source.name, Fit.to_prior(find_sector(clip.frames, clip.region), size).forward(clip.frames)
        if progress is not None:
            progress(done, len(sources))


def find_clips(folder: Path) -> list[Path]:
    """The clips of a folder: files, subfolders, and for numbered images one `read_video` pattern a series."""
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    patterns = {path: re.sub(r"\d+(?=\.[^.]+$)", "*", path.name) for path in entries if path.is_file()}
    count = Counter(patterns.values())
    series = {path: name for path, name in patterns.items() if _is_image(path) and count[name] > 1}
    singles = [path for path in entries if path not in series]
    return sorted({folder / name for name in series.values()} | set(singles))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in {".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".webp"}


def render_frames(
    patients: int,
    frames_per_patient: int,
    cache: Path,
    *,
    size: int = PRIOR_SIZE,
    progress: Progress | None = None,
) -> Bank:
    """Frames of the first `patients` simulated patients of the train split, rendered on all cores.

    Pairs of a clean and a hazy frame, (frames, 2, size, size), so that the prior also learns what haze does. Every
    twentieth patient (at least one) is set aside for validation. The frames are kept in the folder `cache`, so that a
    run that goes on later does not render them again.
    """
    if patients < 2:
        raise InputError(f"--patients must be at least 2, one of them for validation, got {patients}.")
    path = cache / f"simulator-{patients}x{frames_per_patient}-{size}.npy"
    if not path.exists():
        hazy, clean = frame_bank(
            patients, frames_per_patient, size=size, workers=os.cpu_count() or 1, progress=progress
        )
        with atomic(path) as temporary:
            np.save(temporary, np.stack([clean, hazy], axis=2).reshape(-1, 2, size, size))
    frames = np.load(path, mmap_mode="r")
    held_out = max(1, patients // 20) * frames_per_patient
    return Bank(frames[:-held_out], frames[-held_out:])
