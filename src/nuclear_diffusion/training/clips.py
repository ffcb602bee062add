"""Training frames, clean and hazy: read from files, with simulated haze added, or from the simulator."""

import dataclasses
import hashlib
import json
import math
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int, UInt8
from numpy import ndarray

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.files import atomic, followed
from nuclear_diffusion.io import read_video
from nuclear_diffusion.io.find import Frames, Source, find_clips, patient_of
from nuclear_diffusion.memory import require_memory
from nuclear_diffusion.priors.checkpoint import prior_hash
from nuclear_diffusion.priors.diffusion_prior import MOMENTS, DiffusionPrior
from nuclear_diffusion.restore.clip import PRIOR_SIZE
from nuclear_diffusion.restore.estimate import estimate
from nuclear_diffusion.restore.render import render
from nuclear_diffusion.sector import Fit, find_sector
from nuclear_diffusion.simulation import frame_bank, lay_haze
from nuclear_diffusion.simulation.bank import rendered_patients
from nuclear_diffusion.text import read_json, require_file
from nuclear_diffusion.training.data import Bank, pack_clips
from nuclear_diffusion.types import Mask, Progress, eight_bits, evenly

FEW_CLIPS = 4  # fewest clips per reading process; with fewer, starting the process does not pay
LAYERS = 2  # pairs per short clip: haze is added to the dehazed clip, and to the clip itself

CLEANING = 0.7
"""Strength of the teacher's dehazing: above the default, because haze left in the target is learned as tissue."""
LIMIT_GB = 2.0  # limit on the frames cached for a run, in gigabytes
VALIDATION_PATIENTS = 48  # most simulated patients of the development split for validation
AHEAD = 64  # most simulated patients rendered before training starts, if the others are rendered during training


def read_frames(
    folder: Path,
    *,
    size: int = PRIOR_SIZE,
    teacher: DiffusionPrior | None = None,
    seed: int = 0,
    cache: Path | None = None,
    limit_gb: float = LIMIT_GB,
    progress: Progress | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> Bank:
    """The clips in `folder`, their sectors fitted to `size` x `size` pixels on black.

    Without a `teacher`: the frames, for an unconditional prior. With one: pairs of clean and hazy frames for a
    haze-aware prior, as short clips (clips, moments, 2, size, size), see `short_clips` and `LAYERS`. Clean clips of
    real people contain some haze, and a prior trained to keep it dehazes worse. So the clean frames are first dehazed
    by `teacher`, a haze-aware prior, at strength `CLEANING`.

    Some patients (`patient_of`) are held out for validation (`pack_clips`). Images directly in the folder that differ
    only in their last number form one clip. Unreadable clips are skipped and reported through `note`. Long clips are
    thinned evenly, so that all frames fit into `limit_gb` gigabytes. The result is cached in the folder `cache` until
    a file, its date or a setting changes. Raises `InputError` if nothing can be read, or there are too many clips.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give a folder of clips or images, or the word 'simulator'.")
    run = None if cache is None else followed(cache).parent
    if run is not None and followed(folder).is_relative_to(run):
        raise InputError(f"{folder} is inside the folder of the run, {run}: choose another output folder.")
    sources = [source for source in find_clips(folder) if isinstance(source, Frames) or followed(source) != run]
    if not sources:
        raise InputError(f"{folder} holds no clips: give a folder of clips or images.")
    if cache is None:
        bank, left_out = _read(sources, size, teacher, seed, limit_gb, progress)
    else:
        kept = cache / f"frames-{_digest(folder, cache, size, teacher, seed, limit_gb)}"
        cached = _cached(kept, size)
        if cached is None:
            shutil.rmtree(kept, ignore_errors=True)
            bank, left_out = _read(sources, size, teacher, seed, limit_gb, progress)
            note(f"Caching {(bank.train.nbytes + bank.val.nbytes) / 1e9:.2f} GB of frames in {cache}.")
            _keep(bank, left_out, kept)
            cached = Bank(np.load(kept / "train.npy", mmap_mode="r"), bank.val), left_out
        bank, left_out = cached
    for sentence in left_out:
        note(f"Skipped: {sentence}")
    return bank


def _read(
    sources: Sequence[Source],
    size: int,
    teacher: DiffusionPrior | None,
    seed: int,
    limit_gb: float,
    progress: Progress | None,
) -> tuple[Bank, list[str]]:
    """The bank, and one sentence for each skipped clip."""
    unit = size**2 if teacher is None else LAYERS * MOMENTS * 2 * size**2
    each = int(limit_gb * 1e9 / len(sources) / unit)
    if each < 1:
        raise InputError(
            f"{len(sources)} clips need at least {len(sources) * unit / 1e9:.1f} GB of frames, more than "
            f"{limit_gb:g} GB: raise --cache-gb or give fewer clips."
        )
    left_out: list[str] = []
    clips = list(_fitted(sources, size, teacher, seed, each, progress, left_out))
    if not clips:
        raise InputError(left_out[0])
    return pack_clips(clips), left_out


def _cached(folder: Path, size: int) -> tuple[Bank, list[str]] | None:
    """What `_keep` wrote; None if it is missing or damaged."""
    train, val = (_frames_in(folder / f"{part}.npy") for part in Bank._fields)
    try:
        left_out = read_json(folder / "left-out.json", list[str], "a list of skipped clips")
    except InputError:
        return None
    if train is None or val is None or len(train) == 0 or train.shape[1:] != val.shape[1:]:
        return None
    return (Bank(train, np.array(val)), left_out) if train.shape[-2:] == (size, size) else None


def _frames_in(path: Path) -> UInt8[ndarray, "..."] | None:
    """A memory map of the frames in an NPY file; None if it is missing or damaged."""
    try:
        require_file(path, "a cache of frames")
        frames = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception:  # NumPy raises anything on a damaged header
        return None
    return frames if frames.dtype == np.uint8 and frames.ndim in (3, 5) else None


def _keep(bank: Bank, left_out: list[str], folder: Path) -> None:
    with atomic(folder) as temporary:
        temporary.mkdir()
        for part, frames in bank._asdict().items():
            np.save(temporary / f"{part}.npy", frames)
        (temporary / "left-out.json").write_text(json.dumps(left_out), encoding="utf-8")


def _digest(folder: Path, cache: Path, size: int, teacher: DiffusionPrior | None, seed: int, limit_gb: float) -> str:
    """Hash of what a bank depends on: names, sizes and dates of the files outside the run, settings, our version."""
    from nuclear_diffusion.version import __version__

    files = sorted(path for path in followed(folder).rglob("*") if path.is_file())
    others = [path for path in files if followed(cache).parent not in path.parents]
    told = [(str(path.relative_to(followed(folder))), path.stat().st_size, path.stat().st_mtime_ns) for path in others]
    pairs = None if teacher is None else (seed, LAYERS, MOMENTS, CLEANING, prior_hash(teacher))
    return hashlib.sha256(repr((__version__, size, limit_gb, pairs, told)).encode()).hexdigest()[:16]


class Fitted(NamedTuple):
    """A clip on the prior's grid."""

    frames: Float32[ndarray, "frames size size"]
    sector: Mask
    fps: float


def _fitted(
    sources: Sequence[Source],
    size: int,
    teacher: DiffusionPrior | None,
    seed: int,
    each: int,
    progress: Progress | None,
    left_out: list[str],
) -> Iterator[tuple[str, UInt8[ndarray, "frames *moments_and_kinds size size"]]]:
    """At most `each` frames, or short clips, of each readable clip; the others are reported in `left_out`."""
    workers = min(os.cpu_count() or 1, len(sources) // FEW_CLIPS)
    with ExitStack() as stack:
        apply = map
        if workers > 1:
            pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
            stack.callback(pool.shutdown, cancel_futures=True)
            apply = pool.map
        # in groups, because all fitted clips together would fill the memory
        groups = (sources[k : k + 2 * FEW_CLIPS] for k in range(0, len(sources), 2 * FEW_CLIPS))
        results = (fitted for group in groups for fitted in apply(fitted_clip, group, [size] * len(group)))
        for done, (source, fitted) in enumerate(zip(sources, results, strict=True), start=1):
            if isinstance(fitted, str):
                left_out.append(fitted)
            elif teacher is None:
                yield patient_of(source.name), eight_bits(fitted.frames[evenly(len(fitted.frames), each)])
            else:
                indices = short_clips(len(fitted.frames))
                chosen = fitted.frames[indices[evenly(len(indices), each)]]
                shares = (np.asarray(estimate(clip, teacher).share) for clip in chosen)
                cleaned = np.stack([render(*pair, CLEANING) for pair in zip(chosen, shares, strict=True)])
                # half of the inputs contain what the teacher removed, because it may have removed tissue or left haze
                seeds = np.random.SeedSequence((seed, done)).generate_state(LAYERS * len(chosen))
                laid = apply(
                    _hazy,
                    [*cleaned, *chosen],
                    [fitted.sector] * len(seeds),
                    map(int, seeds),
                    [fitted.fps / max(1, len(fitted.frames) / MOMENTS)] * len(seeds),
                )
                pairs = zip([*cleaned, *cleaned], laid, strict=True)
                yield patient_of(source.name), np.stack([np.stack([eight_bits(c), h], axis=1) for c, h in pairs])
            if progress is not None:
                progress(done, len(sources))


def fitted_clip(source: Source, size: int) -> Fitted | str:
    """One clip on the prior's grid, or the error if it is unreadable."""
    try:
        clip = read_video(source)
    except InputError as error:
        return str(error)
    fit = Fit.to_prior(find_sector(clip.frames, clip.region), size)
    return Fitted(fit.forward(clip.frames), fit.mask, clip.fps)


def _hazy(
    frames: Float32[ndarray, "moments size size"], sector: Mask, seed: int, fps: float
) -> UInt8[ndarray, "moments size size"]:
    return eight_bits(lay_haze(frames, sector, seed=seed, fps=fps))


def short_clips(frames: int) -> Int[ndarray, "clips moments"]:
    """Frame numbers of disjoint clips of `MOMENTS` frames, spaced as widely as the clip allows.

    Shorter clips are played forwards and backwards until there are enough frames.
    """
    if frames < MOMENTS:
        there_and_back = [*range(frames), *range(frames - 2, 0, -1)]
        return np.resize(there_and_back, (1, MOMENTS))
    return np.arange(frames // MOMENTS)[:, None] + (frames * np.arange(MOMENTS)) // MOMENTS


def render_frames(
    patients: int,
    frames_per_patient: int,
    cache: Path,
    *,
    size: int = PRIOR_SIZE,
    limit_gb: float = LIMIT_GB,
    progress: Progress | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> Bank:
    """Frames of the first `patients` simulated patients of the train split, rendered on all cores.

    Pairs of clean and hazy frames as short clips (patients, moments, 2, size, size). Validation is on patients of the
    development split. The frames are cached in the folder `cache`. Raises `InputError` if they need more than
    `limit_gb` gigabytes.
    """
    train, watched = _room(patients, frames_per_patient, cache, size, limit_gb, note)
    total = train.count + watched.count
    return Bank(train.rendered(progress, 0, total), watched.rendered(progress, train.count, total))


@contextmanager
def render_ahead(
    patients: int,
    frames_per_patient: int,
    cache: Path,
    *,
    size: int = PRIOR_SIZE,
    limit_gb: float = LIMIT_GB,
    progress: Progress | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> Iterator[tuple[Bank, Callable[[], int]]]:
    """As `render_frames`, but most patients are rendered while the caller trains on the first ones.

    Yields the bank and a function that returns how many training patients have been rendered, from the first on, and
    raises errors of the rendering. The validation patients and min(`AHEAD`, a quarter) of the training patients are
    ready from the start. Rendering stops at the end of the block, and only a complete file is kept in `cache`.
    """
    train, watched = _room(patients, frames_per_patient, cache, size, limit_gb, note)
    first = min(AHEAD, max(1, patients // 4))
    total = watched.count + first
    val = watched.rendered(progress, 0, total)
    cached = _frames_in(train.path)
    if cached is not None and cached.shape == (patients, frames_per_patient, 2, size, size):
        yield Bank(cached, val), lambda: patients
        return
    part = train.path.with_name(f".{train.path.name}")  # until it is complete
    clips = np.lib.format.open_memmap(part, "w+", np.uint8, (patients, frames_per_patient, 2, size, size))
    done, stop = 0, threading.Event()

    def fill() -> None:
        nonlocal done
        with closing(
            rendered_patients(patients, frames_per_patient, size=size, workers=os.cpu_count() or 1)
        ) as rendered:
            for clip in rendered:
                if stop.is_set():
                    return
                clips[done] = clip
                done += 1

    def ready() -> int:
        if filling.done():
            filling.result()
        return done

    try:
        with part.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, part.stat().st_size)  # a full disk raises now, not a crash later
        with ThreadPoolExecutor(1) as thread:
            filling = thread.submit(fill)
            try:
                while (there := ready()) < first:
                    if progress is not None:
                        progress(watched.count + there, total)
                    time.sleep(0.1)
                if progress is not None:
                    progress(total, total)
                if first < patients:
                    note(f"{first} of {patients} patients are ready; the others are rendered during training.")
                yield Bank(clips, val), ready
            finally:
                stop.set()
    finally:
        if done == patients:
            clips.flush()
            os.replace(part, train.path)
        else:
            part.unlink(missing_ok=True)


@dataclasses.dataclass(frozen=True)
class _Patients:
    """Simulated patients of one split, and the file for their frames."""

    split: str
    count: int
    moments: int
    size: int
    path: Path

    def rendered(
        self, progress: Progress | None, before: int, total: int
    ) -> UInt8[ndarray, "patients moments 2 size size"]:
        """Render if necessary; a memory map. `progress` receives the patients done plus `before`, and `total`."""
        shape = (self.count, self.moments, 2, self.size, self.size)
        cached = _frames_in(self.path)
        if cached is None or cached.shape != shape:
            require_memory(math.prod(shape), f"{self.count} patients of {self.size} x {self.size} pixels", "give fewer")
            tell = progress and (lambda done, _: progress(before + done, total))
            frames = frame_bank(
                self.count, self.moments, split=self.split, size=self.size, workers=os.cpu_count() or 1, progress=tell
            )
            with atomic(self.path) as temporary:
                np.save(temporary, frames)
            cached = np.load(self.path, mmap_mode="r")
        return cached


def _room(
    patients: int, moments: int, cache: Path, size: int, limit_gb: float, note: Callable[[str], None]
) -> tuple[_Patients, _Patients]:
    """Patients for training and for validation; raises `InputError` if their frames exceed `limit_gb`."""
    watched = max(1, min(patients // 20, VALIDATION_PATIENTS))
    needed = (patients + watched) * moments * 2 * size**2 / 1e9
    if needed > limit_gb:
        raise InputError(
            f"{patients} patients need {needed:.2f} GB of frames, more than {limit_gb:g} GB: raise --cache-gb or lower "
            "--patients."
        )
    note(f"Caching {needed:.2f} GB of frames in {cache}.")
    train, val = (
        _Patients(split, count, moments, size, cache / f"{split}-{count}x{moments}-{size}.npy")
        for split, count in (("train", patients), ("development", watched))
    )
    return train, val
