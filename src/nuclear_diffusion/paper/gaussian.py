"""A Gaussian p(X) or p(L), whose posteriors are known exactly: for testing samplers, and as a ridge term."""

import math

import equinox as eqx
import jax.numpy as jnp

from nuclear_diffusion.checks import require_positive
from nuclear_diffusion.priors.protocol import Frames, Sigma, per_frame
from nuclear_diffusion.types import Frame, Scalar, Video


class Gaussian(eqx.Module):
    """p(X) = N(X; mean, 1 / precision), pixels independent; also a p(L), for a background that is not low-rank.

    `precision` (above 0, 1 / intensity^2) and `mean` (intensity) are scalars, or one value per pixel or voxel.
    """

    precision: float | Scalar | Frame | Video
    mean: float | Scalar | Frame | Video = 0.0

    def __check_init__(self):
        require_positive("precision", self.precision)

    @property
    def sigma_min(self) -> float:
        """0: the closed form holds at any noise level."""
        return 0.0

    @property
    def sigma_max(self) -> float:
        """Infinity: the closed form holds at any noise level."""
        return math.inf

    def __call__(self, signal: Video) -> Scalar:
        """-log p(X) up to a constant: precision/2 ||X - mean||^2."""
        return (self.precision * (signal - self.mean) ** 2).sum() / 2

    def prox(self, v: Frames, step: Sigma = 1.0) -> Frames:
        """argmin_X  step * precision/2 ||X - mean||^2 + 1/2 ||X - v||^2."""
        return (v + step * self.precision * self.mean) / (1 + step * self.precision)

    def subgradient(self, background: Video) -> Video:
        """The gradient, precision (X - mean)."""
        return self.precision * (background - self.mean)

    def denoise(self, x: Frames, sigma: Sigma) -> Frames:
        """E[x0 | x] for x = x0 + sigma * noise: mean = mode = `prox` with step sigma^2."""
        return self.prox(x, per_frame(sigma, jnp.asarray(x)) ** 2)
