"""p(X) given by a network that predicts the noise in X_tau (eqs. 3-4), as the paper's and zea's do."""

import math
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.priors.diffusion_prior import CHUNK
from nuclear_diffusion.priors.protocol import Frames, Sigma, per_frame


class VariancePreserving(eqx.Module):
    """p_theta(X) = prod_t p_theta(x_t), variance-preserving, trained on frames in [-1, 1].

        X_tau = alpha X_0 + sigma eps,   alpha^2 + sigma^2 = 1,   X_0|tau = (X_tau - sigma eps_theta(X_tau)) / alpha

    - `network`: frames (batch, height, width) of X_tau and sigma^2 (batch, 1, 1) -> the predicted noise.
    - `min_signal_rate`, `max_signal_rate`: range of alpha in training; `denoise` clips to it.
    - `stride`: the network's total downsampling; other frame sizes are padded with black, then cropped.
    """

    network: Callable[
        [Float[Array, "batch height width"], Float[Array, "batch 1 1"]], Float[Array, "batch height width"]
    ]
    min_signal_rate: float = eqx.field(static=True)
    max_signal_rate: float = eqx.field(static=True)
    stride: int = eqx.field(static=True, default=1)

    mean: ClassVar[float] = 0.5
    """Display intensity of the network's 0."""
    scale: ClassVar[float] = 0.5
    """Display intensity per unit of the network."""

    def __check_init__(self):
        if not 0 < self.min_signal_rate < self.max_signal_rate < 1:
            raise InputError(
                "Signal rates must satisfy 0 < min_signal_rate < max_signal_rate < 1, got "
                f"{self.min_signal_rate} and {self.max_signal_rate}."
            )
        if self.stride < 1:
            raise ValueError(f"`stride` must be at least 1, got {self.stride}.")

    @property
    def sigma_min(self) -> float:
        """Smallest sigma / alpha in training, in display intensity."""
        return self.scale * math.tan(math.acos(self.max_signal_rate))

    @property
    def sigma_max(self) -> float:
        """Largest sigma / alpha in training, in display intensity."""
        return self.scale * math.tan(math.acos(self.min_signal_rate))

    def denoise(self, x: Frames, sigma: Sigma) -> Frames:
        """E[x0 | x] for x = x0 + sigma * noise, x0 in [0, 1]; with r = sigma / scale, alpha = (1 + r^2)^(-1/2)."""
        ratio = per_frame(jnp.clip(jnp.asarray(sigma, x.dtype), self.sigma_min, self.sigma_max), x) / self.scale
        centred = (x - self.mean) / self.scale
        noise = self.predict_noise(centred / jnp.sqrt(1 + ratio**2), (ratio**2 / (1 + ratio**2))[..., 0, 0])
        return self.mean + self.scale * (centred - ratio * noise)

    def predict_noise(self, x: Frames, variance: Sigma) -> Frames:
        """eps_theta(X_tau) in the network's unit; `variance` is sigma^2, one for all frames or one for each."""
        *batch, height, width = x.shape
        flat, levels = x.reshape(-1, height, width), per_frame(variance, x).reshape(-1, 1, 1)
        if math.prod(batch) <= CHUNK:
            return self._predict(flat, levels).reshape(x.shape)
        single = (flat[:, None], levels[:, None])
        noise = jax.lax.map(lambda one: self._predict(*one), single, batch_size=CHUNK)
        return noise.reshape(x.shape)

    def _predict(
        self, x: Float[Array, "batch height width"], variance: Float[Array, "batch 1 1"]
    ) -> Float[Array, "batch height width"]:
        height, width = x.shape[1:]
        below, beside = -height % self.stride, -width % self.stride
        if below or beside:
            black = jnp.sqrt(1 - variance)  # alpha: black, -1 in X_0, is -alpha in X_tau
            x = jnp.pad(x + black, ((0, 0), (0, below), (0, beside))) - black
        return self.network(x, variance)[:, :height, :width]
