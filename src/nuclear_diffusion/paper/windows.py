"""Cut a clip into overlapping windows of p frames, and merge their results as they come."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy import ndarray

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.progress import listening
from nuclear_diffusion.types import Progress, Video

R = TypeVar("R", bound=tuple[Any, ...])
"""A named tuple of arrays; those with three or more axes have frames along the first."""
Once = Callable[[int, Callable[[], R]], R]
"""Called with the number of a window and a function that computes its result: the result, perhaps from a store."""


@dataclasses.dataclass(frozen=True)
class Windows:
    """Windows of `length` frames that cover `frames` frames and share `overlap` frames with their neighbours.

    The last window is shifted back to end with the clip, so it may share more. A clip shorter than `length` is
    one window. Raises `InputError` unless frames >= 1 and 0 <= overlap < length.
    """

    frames: int
    length: int
    overlap: int = 0

    def __post_init__(self):
        if self.frames < 1:
            raise InputError(f"`frames` must be at least 1, got {self.frames}.")
        if not 0 <= self.overlap < self.length:
            raise InputError(f"`overlap` must be at least 0 and below `length`, got {self.overlap} of {self.length}.")

    @property
    def size(self) -> int:
        """Frames per window: `length`, or all of a shorter clip."""
        return min(self.length, self.frames)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First frame of each window, ascending."""
        last = self.frames - self.size
        return (*range(0, last, self.length - self.overlap), last)

    @property
    def spans(self) -> list[range]:
        """The frames of each window."""
        return [range(start, start + self.size) for start in self.starts]

    def __len__(self) -> int:
        return len(self.starts)

    def shared(self, index: int) -> int:
        """Number of frames window `index` shares with its predecessor; 0 for the first."""
        return 0 if index == 0 else max(0, self.starts[index - 1] + self.size - self.starts[index])

    def warm_start(self, index: int, previous: Video, fallback: Video) -> Video:
        """Warm start of window `index` (SeqDiff, arXiv 2409.05399): `previous` in shared frames, else `fallback`."""
        shared = self.shared(index)
        return jnp.concatenate([previous[self.size - shared :], fallback[shared:]])


def triangle(size: int) -> Float[ndarray, " size"]:
    """1, 2, ..., 2, 1: the weights of a window's frames where windows overlap, not normalised."""
    ramp = np.arange(1, size + 1)
    return np.minimum(ramp, ramp[::-1]).astype(np.float32)


def alike(size: int) -> Float[ndarray, " size"]:
    """The same weight for all frames of a window."""
    return np.ones(size, np.float32)


class CrossFade:
    """Merges the results of windows as they come, and holds only those that later windows overlap."""

    def __init__(self, ramp: Callable[[int], Float[ndarray, " size"]] = triangle):
        self._ramp = ramp
        self._held: list[tuple[range, Any]] = []
        self._done = 0

    def add(self, start: int, part: tuple[Any, ...]) -> None:
        """Add the result of the window that begins at frame `start`: a named tuple of arrays.

        Those with three or more axes have frames along the first.
        """
        arrays = rebuilt(part, (np.asarray(array) for array in part))
        length = next(len(array) for array in arrays if array.ndim >= 3)
        self._held.append((range(start, start + length), arrays))

    def finish(self, until: int) -> Any:
        """The frames before `until` that are not out yet, for which all windows were added.

        A named tuple as given to `add`. Arrays without frames are those of the last window.
        """
        first, self._done = self._done, until
        total, shares = np.zeros(until - first, np.float32), []
        for span, _ in self._held:
            here = slice(max(span.start, first) - first, min(span.stop, until) - first)
            there = slice(here.start + first - span.start, here.stop + first - span.start)
            weight = self._ramp(len(span))[there]
            total[here] += weight
            shares.append((here, there, weight))
        _, last = self._held[-1]
        faded = [np.zeros((until - first, *each.shape[1:]), each.dtype) if each.ndim >= 3 else each for each in last]
        for (here, there, weight), (_, held) in zip(shares, self._held, strict=True):
            for target, array in zip(faded, held, strict=True):
                if array.ndim >= 3:
                    target[here] += (weight / total[here]).reshape(-1, *[1] * (array.ndim - 1)) * array[there]
        self._held = [each for each in self._held if each[0].stop > until]
        return rebuilt(last, faded)


def rebuilt(like: R, arrays: Iterable[Any]) -> R:
    """A tuple of the type of `like` with other arrays."""
    make: Any = getattr(like, "_make", tuple)
    return make(arrays)


class Queue:
    """Frames that wait: blocks of any length go in, as tuples of arrays with frames along the first axis."""

    def __init__(self):
        self._blocks: list[tuple[ndarray, ...]] = []

    def __len__(self) -> int:
        return sum(len(block[0]) for block in self._blocks)

    def put(self, *arrays: ndarray) -> None:
        """Add a block."""
        self._blocks.append(arrays)

    def passing(self, blocks: Iterable[ndarray]) -> Iterator[ndarray]:
        """The blocks, each put here when it passes."""
        for block in blocks:
            self.put(block)
            yield block

    def look(self, count: int) -> tuple[ndarray, ...]:
        """The first `count` frames, which stay."""
        taken, blocks = 0, []
        for block in self._blocks:
            if taken >= count and blocks:
                break
            blocks.append(tuple(array[: count - taken] for array in block))
            taken += len(blocks[-1][0])
        if len(blocks) == 1:
            return blocks[0]
        return tuple(np.concatenate(arrays) for arrays in zip(*blocks, strict=True))

    def drop(self, count: int) -> None:
        """Remove the first `count` frames."""
        while count > 0 and self._blocks:
            block = self._blocks.pop(0)
            if len(block[0]) > count:  # copied, so that the rest of the block is freed
                self._blocks.insert(0, tuple(array[count:].copy() for array in block))
            count -= len(block[0])

    def take(self, count: int) -> tuple[ndarray, ...]:
        """Remove the first `count` frames and return them."""
        taken = self.look(count)
        self.drop(count)
        return taken


def cut(blocks: Iterable[ndarray], spans: Sequence[range]) -> Iterator[ndarray]:
    """The frames of each span, from consecutive blocks of a clip; holds one span and one block.

    Raises `InputError` if the clip ends before the last span does.
    """
    waiting, source, first = Queue(), iter(blocks), 0
    for span in spans:
        waiting.drop(span.start - first)
        first = span.start
        while len(waiting) < len(span):
            block = next(source, None)
            if block is None:
                raise InputError(
                    f"The clip ends after {first + len(waiting)} of {spans[-1].stop} frames, it is cut short: "
                    "export it again."
                )
            waiting.put(np.asarray(block))
        yield waiting.look(len(span))[0]


def over_windows(
    blocks: Iterable[ndarray],
    spans: Sequence[range],
    solve: Callable[[int, ndarray], R],
    *,
    ramp: Callable[[int], Float[ndarray, " size"]] = triangle,
    once: Once[R] | None = None,
    progress: Progress | None = None,
    steps: int = 1,
) -> Iterator[R]:
    """Solve a clip window by window; yields the frames that each window finishes, cross-faded, in order.

    `blocks` are the clip's consecutive frames, in blocks of any length. `solve` gets the number and the frames of each
    window. Memory is that of a few windows, whatever the length of the clip. `progress` counts `steps` in each window,
    also while it is solved if that has a `report`; what it raises ends the window.
    """
    if progress is not None:
        progress(0, steps * len(spans))
    fade = CrossFade(ramp)
    ends = [*(span.start for span in spans[1:]), spans[-1].stop]
    for index, (span, part, until) in enumerate(zip(spans, cut(blocks, spans), ends, strict=True)):

        def compute(index: int = index, part: ndarray = part) -> R:
            with listening(progress, index, len(spans), steps):
                return jax.block_until_ready(solve(index, part))

        fade.add(span.start, compute() if once is None else once(index, compute))
        if progress is not None:
            progress(steps * (index + 1), steps * len(spans))
        yield fade.finish(until)


def joined(parts: Iterable[R]) -> R:
    """The whole result: frames one after another, and the mean of what has no frames."""
    parts = list(parts)
    fields = zip(*parts, strict=True)
    arrays = [np.concatenate(field) if np.ndim(field[0]) >= 3 else np.mean(field, axis=0) for field in fields]
    return rebuilt(parts[0], (jnp.asarray(array) for array in arrays))
