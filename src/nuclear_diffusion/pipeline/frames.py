"""Frames to train a prior on, clean and hazy: read from files with haze laid over them, or from the simulator."""

import hashlib
import json
import multiprocessing
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from numpy import ndarray

from nuclear_diffusion.files import atomic
from nuclear_diffusion.learning import Bank, pack_clips
from nuclear_diffusion.model.diffusion_prior import MOMENTS
from nuclear_diffusion.pipeline.core import PRIOR_SIZE, Progress
from nuclear_diffusion.simulation import frame_bank, lay_haze
from nuclear_diffusion.types import InputError
from nuclear_diffusion.video import Fit, find_sector, read_video

FEW_CLIPS = 4
"""Clips for each process that reads them, at least; fewer are not worth its start."""

LAYERS = 2
"""How often each clip of one's own is shown, each time under other haze."""

_PATIENT = re.compile(r"patient[-_ ]?\d+", re.IGNORECASE)

VALIDATION_PATIENTS = 48
"""Simulated patients of the development split that training is watched on, at most."""


def patient_of(clip: str) -> str:
    """Whose clip it is, by its name: clips named `patient-3-...` are all of patient-3, any other is somebody's only."""
    match = _PATIENT.match(clip)
    return match.group() if match else clip


def read_frames(
    folder: Path,
    *,
    size: int = PRIOR_SIZE,
    haze: bool = True,
    seed: int = 0,
    cache: Path | None = None,
    progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
) -> Bank:
    """Every frame of every clip in `folder`, its sector fitted to `size` x `size` pixels, black around it.

    With `haze`, short clips (clips, moments, 2, size, size), see `short_clips`: each frame clean, and with simulated
    haze laid over it (`lay_haze`), so that the prior also learns what haze does; `LAYERS` times, with other haze.
    Some patients (`patient_of`) are set aside for validation, see `pack_clips`. Images that lie in the folder itself
    and differ in their last number only are one clip. What cannot be read is left out, and `note` is told so in one
    sentence. The result is kept in the folder `cache` until a file, its date or a setting changes, so that a run that
    goes on later does not read it again. Raises `InputError` for a folder in which nothing can be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give a folder of clips or images, or the word 'simulator'.")
    sources = [source for source in find_clips(folder) if cache is None or source.resolve() != cache.resolve()]
    if not sources:
        raise InputError(f"{folder} holds no clips: give a folder of clips or images.")
    if cache is None:
        bank, left_out = _read(sources, size, haze, seed, progress)
    else:
        kept = cache / f"frames-{_digest(folder, cache, size, haze, seed)}"
        if not kept.is_dir():
            _keep(*_read(sources, size, haze, seed, progress), kept)
        bank = Bank(np.load(kept / "train.npy", mmap_mode="r"), np.load(kept / "val.npy"))
        left_out = json.loads((kept / "left-out.json").read_text(encoding="utf-8"))
    for sentence in left_out:
        if note is not None:
            note(f"left out: {sentence}")
    return bank


def _read(sources: list[Path], size: int, haze: bool, seed: int, progress: Progress | None) -> tuple[Bank, list[str]]:
    """The bank, and a sentence on each clip that is not in it."""
    left_out: list[str] = []
    clips = list(_fitted(sources, size, haze, seed, progress, left_out))
    if not clips:
        raise InputError(left_out[0])
    return pack_clips(clips, size=size), left_out


def _keep(bank: Bank, left_out: list[str], folder: Path) -> None:
    with atomic(folder) as temporary:
        temporary.mkdir()
        for part, frames in bank._asdict().items():
            np.save(temporary / f"{part}.npy", frames)
        (temporary / "left-out.json").write_text(json.dumps(left_out), encoding="utf-8")


def _digest(folder: Path, cache: Path, size: int, haze: bool, seed: int) -> str:
    """What a bank depends on: names, sizes and dates of the files (but the run's own), settings, and our version."""
    from nuclear_diffusion import __version__

    files = sorted(path for path in folder.resolve().rglob("*") if path.is_file())
    others = [path for path in files if cache.resolve() not in path.parents]
    told = [(str(path.relative_to(folder.resolve())), path.stat().st_size, path.stat().st_mtime_ns) for path in others]
    settings = (__version__, size, (seed, LAYERS, MOMENTS) if haze else None)
    return hashlib.sha256(repr((settings, told)).encode()).hexdigest()[:16]


def _fitted(
    sources: list[Path], size: int, haze: bool, seed: int, progress: Progress | None, left_out: list[str]
) -> Iterator[tuple[str, UInt8[ndarray, "frames *moments_and_kinds size size"]]]:
    jobs = [(source, size, (seed, number) if haze else None) for number, source in enumerate(sources, start=1)]
    workers = min(os.cpu_count() or 1, len(sources) // FEW_CLIPS)
    with ExitStack() as stack:
        if workers > 1:
            pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
            stack.callback(pool.shutdown, cancel_futures=True)
            results = pool.map(_fit, jobs)
        else:
            results = map(_fit, jobs)
        for done, (source, frames) in enumerate(zip(sources, results, strict=True), start=1):
            if isinstance(frames, str):
                left_out.append(frames)
            else:
                yield patient_of(source.name), frames
            if progress is not None:
                progress(done, len(sources))


def _fit(job: tuple[Path, int, tuple[int, int] | None]) -> UInt8[ndarray, "frames *moments_and_kinds size size"] | str:
    """One clip on the prior's grid, 0-255; given the seeds of its haze, as short clips, clean and hazy.

    A sentence instead, where it cannot be read.
    """
    source, size, seeds = job
    try:
        clip = read_video(source)
    except InputError as error:
        return str(error)
    fit = Fit.to_prior(find_sector(clip.frames, clip.region), size)
    frames = fit.forward(clip.frames)
    if seeds is not None:
        chosen = np.tile(short_clips(len(frames)), (LAYERS, 1))
        step = max(1, len(frames) / MOMENTS)
        hazy = [
            lay_haze(frames[indices], fit.mask, seed=int(one), fps=clip.fps / step)
            for indices, one in zip(chosen, np.random.SeedSequence(seeds).generate_state(len(chosen)), strict=True)
        ]
        frames = np.stack([frames[chosen], np.stack(hazy)], axis=2)
    return np.rint(255 * np.clip(frames, 0, 1)).astype(np.uint8)


def short_clips(frames: int) -> Int[ndarray, "clips moments"]:
    """Frame numbers of clips of `MOMENTS` evenly spaced frames, each as long as the clip allows; none is in two.

    A clip of fewer frames is walked to and fro until there are enough.
    """
    if frames < MOMENTS:
        there_and_back = [*range(frames), *range(frames - 2, 0, -1)]
        return np.resize(there_and_back, (1, MOMENTS))
    return np.arange(frames // MOMENTS)[:, None] + (frames * np.arange(MOMENTS)) // MOMENTS


def find_clips(folder: Path) -> list[Path]:
    """The clips of a folder: files, subfolders, and for numbered images one `read_video` pattern a series."""
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    patterns = {path: re.sub(r"\d+(?=\.[^.]+$)", "*", path.name) for path in entries if path.is_file()}
    series = {path: name for path, name in patterns.items() if _is_image(path) and "*" in name}
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

    Short clips of clean and hazy frames, (patients, moments, 2, size, size), so that the prior also learns what haze
    does. Validation is on patients of the development split. The frames are kept in the folder `cache`, so that a run
    that goes on later does not render them again.
    """
    watched = max(1, min(patients // 20, VALIDATION_PATIENTS))
    total = patients + watched

    def bank(split: str, count: int, before: int) -> UInt8[ndarray, "patients moments 2 size size"]:
        def tell(done: int, _: int) -> None:
            if progress is not None:
                progress(before + done, total)

        path = cache / f"{split}-{count}x{frames_per_patient}-{size}.npy"
        if not path.exists():
            hazy, clean = frame_bank(
                count,
                frames_per_patient,
                split=split,
                size=size,
                workers=os.cpu_count() or 1,
                progress=tell,
            )
            with atomic(path) as temporary:
                np.save(temporary, np.stack([clean, hazy], axis=2))
        return np.load(path, mmap_mode="r")

    return Bank(bank("train", patients, 0), bank("development", watched, patients))
