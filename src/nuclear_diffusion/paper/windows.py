"""Split a clip into overlapping windows of p frames, and merge them."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy import ndarray

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.types import Video, VideoLike

Part = Float[Array | ndarray, "size height width"]
"""A window of a clip, or the result for it."""


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

    def __len__(self) -> int:
        return len(self.starts)

    def split(self, video: VideoLike) -> Float[Array, "windows size height width"]:
        """The windows of `video`; raises ValueError unless it has `frames` frames."""
        if video.shape[0] != self.frames:
            raise ValueError(f"`video` must have {self.frames} frames, got {video.shape[0]}.")
        return jnp.stack([video[start : start + self.size] for start in self.starts])

    @cached_property
    def weights(self) -> Float[ndarray, "windows size"]:
        """Cross-fading weights, summing to 1 at each frame: a triangle over each window, normalised."""
        ramp = np.arange(1, self.size + 1)
        triangle = np.minimum(ramp, ramp[::-1]).astype(np.float32)
        total = np.zeros(self.frames, np.float32)
        for start in self.starts:
            total[start : start + self.size] += triangle
        return np.stack([triangle / total[start : start + self.size] for start in self.starts])

    def merge(self, parts: Sequence[Part] | Float[Array | ndarray, "windows size height width"]) -> Video:
        """Merge the results for all windows into one clip, cross-faded where they overlap; the inverse of `split`."""
        if len(parts) != len(self):
            raise ValueError(f"`parts` must hold {len(self)} windows, got {len(parts)}.")
        merged = jnp.zeros((self.frames, *parts[0].shape[1:]), parts[0].dtype)
        for start, part, weight in zip(self.starts, parts, self.weights, strict=True):
            merged = merged.at[start : start + self.size].add(weight[:, None, None] * part)
        return merged

    def shared(self, index: int) -> int:
        """Number of frames window `index` shares with its predecessor; 0 for the first."""
        return 0 if index == 0 else max(0, self.starts[index - 1] + self.size - self.starts[index])

    def warm_start(self, index: int, previous: Video, fallback: Video) -> Video:
        """Warm start of window `index` (SeqDiff, arXiv 2409.05399): `previous` in shared frames, else `fallback`."""
        shared = self.shared(index)
        return jnp.concatenate([previous[self.size - shared :], fallback[shared:]])
