"""Augmented batches, drawn from a bank of frames by threads or processes while the network trains."""

import collections
import dataclasses
import mmap
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, Shaped, UInt8

from nuclear_diffusion.priors.diffusion_prior import over_time
from nuclear_diffusion.training.augmentation import augmented, moved

BARE_SHARE = 0.3  # fraction of the augmented hazy samples that lose their own haze and keep only added haze, if any
BRIEF_SHARE = 0.15  # fraction of the augmented samples cut to 1 to `BRIEF` successive moments, which show little motion

BRIEF = 4

REUSED = 3
"""On a GPU, how often a batch may be used again, with new noise, until the next is ready (Choi et al. 2019, arXiv
1907.05550)."""
FREE_CORES, MOST_WORKERS = 3, 32  # on a GPU, cores left to the training process, and most processes that make batches


def beside_gpu() -> bool:
    """Whether training runs on a GPU, so that the CPU cores are free; NUCLEAR_DIFFUSION_BESIDE_GPU=1 simulates it."""
    return jax.default_backend() != "cpu" or os.environ.get("NUCLEAR_DIFFUSION_BESIDE_GPU") == "1"


@dataclasses.dataclass(frozen=True)
class Batches:
    """Augmented batches of `batch` frames; the batch of step k depends only on (seed, k).

    `clips` holds clean frames (kinds = 1) or clean and hazy frames (kinds = 2). A sample is a clean frame and, for a
    conditional denoiser, its inputs: the hazy frame, the frames before and after it, and mean, standard deviation and
    minimum of the hazy clip over time, with the same augmentation. Missing neighbours are replaced by the frame itself.
    """

    clips: UInt8[np.ndarray, "clips moments kinds height width"]
    seed: int
    batch: int
    augment: bool

    @property
    def file(self) -> Path | None:
        """The .npy file of the memory map `clips`; None for frames in memory, or for a part of a file."""
        clips = self.clips
        if not (isinstance(clips, np.memmap) and isinstance(clips.base, mmap.mmap)):
            return None
        return Path(str(clips.filename))

    def at(
        self, step: int, halved: bool = False, ready: int | None = None
    ) -> Float[np.ndarray, "batch planes height width"]:
        """Samples in [0, 1] from the first `ready` clips (None: all); `halved`: four times as many at half the size."""
        rng = np.random.default_rng((self.seed, step))
        among = len(self.clips) if ready is None else ready
        chosen = rng.integers(among, size=self.batch * (4 if halved else 1))
        return np.stack([self._sample(np.asarray(self.clips[i]), halved, rng) for i in chosen])

    def watched(self, count: int) -> Float[np.ndarray, "count planes height width"]:
        """Frames of at most `count` clips, evenly spaced, without augmentation."""
        chosen = np.linspace(0, len(self.clips) - 1, min(count, len(self.clips))).astype(int)
        over = np.arange(self.clips.shape[1])
        shown = (_moments(n % len(over), over, len(over)) for n in range(len(chosen)))
        planes = (_planes(np.asarray(self.clips[i]), moments) for i, moments in zip(chosen, shown, strict=True))
        return np.stack([_shown(frames.astype(np.float32) / 255) for frames in planes])

    def _sample(self, clip: np.ndarray, halved: bool, rng: np.random.Generator) -> np.ndarray:
        brief = self.augment and rng.random() < BRIEF_SHARE
        if brief:
            length = min(int(rng.integers(1, BRIEF + 1)), len(clip))
            first = rng.integers(len(clip) - length + 1)
            clip = clip[first : first + length]
        moment, over = int(rng.integers(len(clip))), np.arange(len(clip))
        if self.augment and not brief and len(over) > 3 and rng.random() < 0.5:
            over = rng.permutation(over)[: rng.integers(3, len(over))]  # few moments, far apart
        moments = _moments(moment, over, len(clip))
        planes = _planes(clip, moments, hazy=not self.augment or rng.random() > BARE_SHARE)
        if halved:
            planes = _halved(planes)
        if not self.augment:
            return _shown(planes.astype(np.float32) / 255)
        return _shown(augmented(moved(planes, rng), moments, len(clip), rng))


def batch_of_file(
    file: Path, seed: int, batch: int, augment: bool, step: int, halved: bool, ready: int | None
) -> Float[np.ndarray, "batch planes height width"]:
    """`Batches.at` in a process that reads the clips from their file.

    In float16 (rounded by at most a sixteenth of a grey level), because transfer limits the training process.
    """
    return Batches(np.load(file, mmap_mode="r"), seed, batch, augment).at(step, halved, ready).astype(np.float16)


def batch_workers(count: int) -> ProcessPoolExecutor:
    """Processes for `batch_of_file` that do not use the GPU and ignore Ctrl-C."""
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), initializer=_start_worker)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    jax.config.update("jax_platforms", "cpu")


def _moments(moment: int, over: Shaped[np.ndarray, " some"], count: int) -> Shaped[np.ndarray, " planes"]:
    """`moment`, the ones before and after it (clipped to `count`), and the frames that temporal statistics are over."""
    return np.array([moment, max(moment - 1, 0), min(moment + 1, count - 1), *over])


def _planes(
    clip: UInt8[np.ndarray, "moments kinds height width"], moments: Shaped[np.ndarray, " some"], *, hazy: bool = True
) -> UInt8[np.ndarray, "planes h w"]:
    """The clean frame of the first of `moments` and, for pairs, the hazy (or else clean) frames of all."""
    clean = clip[moments[0], :1]
    return clean if clip.shape[1] == 1 else np.concatenate([clean, clip[moments, int(hazy)]])


def _shown(planes: Float[np.ndarray, "planes h w"]) -> Float[np.ndarray, "kinds h w"]:
    """Clean frame, hazy frame, the ones before and after, and the temporal statistics of the hazy frames."""
    return planes if len(planes) == 1 else np.stack([*planes[:4], *over_time(planes[4:])])


def _halved(planes: UInt8[np.ndarray, "planes height width"]) -> UInt8[np.ndarray, "planes h w"]:
    """Mean of each 2 x 2 patch, rounded; an odd last line is dropped."""
    height, width = (side // 2 for side in planes.shape[1:])
    patches = planes[:, : 2 * height, : 2 * width].reshape(-1, height, 2, width, 2)
    return ((patches.sum((2, 4), dtype=np.uint16) + 2) // 4).astype(np.uint8)


@contextmanager
def prefetched(
    batches: Batches, first: int, halved: Callable[[int], bool], ready: Callable[[], int] | None
) -> Iterator[Iterator[Float[np.ndarray, "b k h w"]]]:
    """Batches from step `first` on, made in advance by the workers of `_makers`; arguments of `Batches.at` by step."""
    pool, at, workers, reused = _makers(batches)
    waiting: collections.deque[Future] = collections.deque()

    def generate() -> Iterator[np.ndarray]:
        step = first
        while True:
            while len(waiting) < workers + 2:
                waiting.append(pool.submit(at, step, halved(step), None if ready is None else ready()))
                step += 1
            batch = waiting.popleft().result()
            yield batch
            for _ in range(reused):
                if waiting[0].done():
                    break
                yield batch

    try:
        yield generate()
    finally:
        pool.shutdown(cancel_futures=True)


def _makers(batches: Batches) -> tuple[Executor, Callable[..., np.ndarray], int, int]:
    """A pool, its function of (step, halved, ready), the number of workers, and how often a batch is used again.

    One thread on a CPU, processes on a GPU, because threads would block each other there. Frames in memory need
    threads, because processes cannot share them.
    """
    if not beside_gpu():
        return ThreadPoolExecutor(1), batches.at, 1, 0
    cores = os.cpu_count() or 1
    if batches.file is None:
        workers = min(8, cores)
        return ThreadPoolExecutor(workers), batches.at, workers, REUSED
    workers = min(max(1, cores - FREE_CORES), MOST_WORKERS)
    at = partial(batch_of_file, batches.file.absolute(), batches.seed, batches.batch, batches.augment)
    return batch_workers(workers), at, workers, REUSED
