"""Render an estimate: remove the haze fraction h of each pixel, with an adjustable strength.

    X = (1 - h') Y,    h' = (h - spare) / (clear - spare), clipped to [0, 1]

On a logarithmic grey scale the stronger of two echoes hides the weaker. Where the estimate cannot tell which one is
stronger, h lies between 0 and 1 and would dim real tissue and leave some haze. So a small h is treated as 0 and a large
h as 1; `strength` sets the two thresholds.
"""

import numpy as np
from jaxtyping import ArrayLike, Float, Float32
from numpy import ndarray

from nuclear_diffusion.errors import InputError

STRENGTH = 0.5
"""The default, chosen on development patients (docs/decisions/0004-one-strength.md)."""
WIDTH = 0.4
"""Distance between the thresholds `spare` and `clear`: a smaller one removes more haze at sharp edges."""


def limits(strength: float) -> tuple[float, float]:
    """Thresholds of the haze fraction: below `spare` a pixel is kept, above `clear` it is removed.

        spare = (1 - strength)^2,    clear = spare + `WIDTH`

    Raises `InputError` if `strength` is outside [0, 1].
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
    """`video` without its haze.

    Args:
        video: display intensity (frames, height, width), optionally with a last axis of colours, whose hue is kept.
        share: haze fraction in [0, 1], as in `Estimate`.
        strength: 0 keeps the input, 1 removes everything that may be haze.

    Returns:
        float32 of the shape of `video`; pixels with a haze fraction of 0 are unchanged.

    Raises:
        InputError: `strength` is outside [0, 1], or the shapes do not match.
    """
    image, h = np.asarray(video, np.float32), np.asarray(share, np.float32)
    if image.shape[:3] != h.shape or image.ndim not in (3, 4):
        raise InputError(f"`share` must have the shape of `video`, {image.shape[:3]}, got {h.shape}.")
    spare, clear = limits(strength)
    kept = 1 - np.clip((h - np.float32(spare)) / np.float32(clear - spare), 0, 1)
    return image * (kept if image.ndim == 3 else kept[..., None])
