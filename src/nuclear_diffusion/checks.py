"""Checks of numerical settings, and of intensities."""

import math

import numpy as np
from jax.core import Tracer

from nuclear_diffusion.errors import InputError, require

SLACK = 0.5  # resampling leaves [0, 1] by less, other scales by more
FAR = 15.0  # a sampler's estimate leaves [0, 1] by less, scales of 8 bits and more do by more


def concrete(value: object) -> np.ndarray | None:
    """`value` as a NumPy array, or None while JAX traces it and it cannot be checked."""
    return None if isinstance(value, Tracer) else np.asarray(value)


def require_nonnegative(name: str, value: object) -> None:
    """Raise `InputError` if a setting is negative or not finite."""
    known = concrete(value)
    if known is not None and not (np.isfinite(known).all() and (known >= 0).all()):
        raise InputError(f"`{name}` must be finite and at least 0, got {value}.")


def require_positive(name: str, value: object) -> None:
    """Raise `InputError` if a setting is zero, negative or not finite."""
    known = concrete(value)
    if known is not None and not (np.isfinite(known).all() and (known > 0).all()):
        raise InputError(f"`{name}` must be finite and above 0, got {value}.")


def require_intensity(name: str, values: np.ndarray, slack: float = SLACK) -> None:
    """Raise `InputError` unless floats are finite and in [0, 1], up to `slack`."""
    low, high = (float(value) for value in (values.min(initial=0), values.max(initial=0)))  # which propagate NaN
    require(math.isfinite(low + high), f"`{name}` must be finite, got NaN or infinite values: replace them first.")
    if low < -slack or high > 1 + slack:
        advice = "divide by 255" if low >= 0 and high <= 255 else "scale black to 0 and white to 1"
        reached = high if high > 1 + slack else low
        raise InputError(f"`{name}` must be in [0, 1], but reaches {reached:g}: {advice}.")
