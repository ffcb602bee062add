"""Checks of numerical settings."""

import numpy as np
from jax.core import Tracer

from nuclear_diffusion.errors import InputError


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
