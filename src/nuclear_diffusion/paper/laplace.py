"""The sparse p(X) of robust PCA (eq. 10)."""

import equinox as eqx
import jax.numpy as jnp

from nuclear_diffusion.checks import require_nonnegative
from nuclear_diffusion.types import Scalar, Video


class Laplace(eqx.Module):
    """p(X) ~ exp(-lam ||X||_1)  (eq. 10). `lam`: 1 / intensity, at least 0."""

    lam: float | Scalar

    def __check_init__(self):
        require_nonnegative("lam", self.lam)

    def __call__(self, signal: Video) -> Scalar:
        """-log p(X) up to a constant: lam ||X||_1."""
        return self.lam * jnp.abs(signal).sum()

    def prox(self, v: Video, step: float | Scalar = 1.0) -> Video:
        """argmin_X  step * lam ||X||_1 + 1/2 ||X - v||_F^2: soft thresholding at step * lam."""
        return jnp.sign(v) * jnp.maximum(jnp.abs(v) - step * self.lam, 0)
