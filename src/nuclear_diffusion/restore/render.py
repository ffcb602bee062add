"""From the share of haze to a picture. One estimate has many renderings, and each is a multiplication.

    X = (1 - h') Y,    h' = (h - spare) / (clear - spare), within [0, 1]

On a logarithmic grey scale the stronger of two echoes hides the other. Where it is not sure which one that is, the
share lies between 0 and 1: it would dim tissue that is there, and leave haze where nothing is. So a small share is
taken for none and a large one for all; `strength` says where the two limits lie.
"""

import numpy as np
from jaxtyping import ArrayLike, Float, Float32
from numpy import ndarray

from nuclear_diffusion.errors import InputError

STRENGTH = 0.5
"""The default, chosen on development patients (docs/decisions/0027-one-pass.md)."""

WIDTH = 0.4
"""Shares between those taken for none and those taken for all: narrower clears more at hard edges."""


def limits(strength: float) -> tuple[float, float]:
    """`spare`, below which a share of haze is taken for none, and `clear`, above which it is taken for all.

        spare = (1 - strength)^2,    clear = spare + `WIDTH`

    Raises `InputError` where `strength` is outside [0, 1].
    """
    if not 0 <= strength <= 1:
        raise InputError(f"`strength` must be between 0 and 1, got {strength}.")
    spare = (1 - strength) ** 2
    return spare, spare + WIDTH


def render(
    video: Float[ArrayLike, "frames height width *rgb"],
    share: Float[ArrayLike, "frames height width"],
    strength: float = STRENGTH,
) -> Float32[ndarray, "frames height width *rgb"]:
    """`video` less its haze.

    Args:
        video: (frames, height, width), display intensity, or with a last axis of colours, which keep their hue.
        share: of haze, in [0, 1], as in `Estimate`.
        strength: in [0, 1]: 0 keeps the input, 1 takes all that may be haze.

    Returns:
        float32 of the shape of `video`. Where the share is 0 every bit stays.

    Raises:
        InputError: `strength` is outside [0, 1], or the shapes do not fit.
    """
    image, h = np.asarray(video, np.float32), np.asarray(share, np.float32)
    if image.shape[:3] != h.shape or image.ndim not in (3, 4):
        raise InputError(f"`share` must have the shape of `video`, {image.shape[:3]}, got {h.shape}.")
    spare, clear = limits(strength)
    kept = 1 - np.clip((h - np.float32(spare)) / np.float32(clear - spare), 0, 1)
    return image * (kept if image.ndim == 3 else kept[..., None])
