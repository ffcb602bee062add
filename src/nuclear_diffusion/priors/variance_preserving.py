"""p(X) through a network that predicts the noise of X_tau (eqs. 3-4), as the paper's and zea's do."""

import math
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.priors.diffusion_prior import CHUNK
from nuclear_diffusion.priors.protocol import per_frame


class VariancePreserving(eqx.Module):
    """p_theta(X) = prod_t p_theta(x_t), trained on frames in [-1, 1] that lose signal as they gain noise.

        X_tau = alpha X_0 + sigma eps,   alpha^2 + sigma^2 = 1,   X_0|tau = (X_tau - sigma eps_theta(X_tau)) / alpha

    - `network`: frames (batch, height, width) of X_tau and sigma^2 (batch, 1, 1) -> the noise predicted in each.
    - `min_signal_rate`, `max_signal_rate`: the range of alpha seen in training; `denoise` stays in it.
    - `stride`: the network's total downsampling; other frame sizes get a black border that is cut off again.
    """

    network: Callable[
        [Float[Array, "batch height width"], Float[Array, "batch 1 1"]], Float[Array, "batch height width"]
    ]
    min_signal_rate: float = eqx.field(static=True)
    max_signal_rate: float = eqx.field(static=True)
    stride: int = eqx.field(static=True, default=1)

    mean: ClassVar[float] = 0.5
    """Display intensity that is 0 in the network's unit."""

    scale: ClassVar[float] = 0.5
    """Display intensity of 1 in the network's unit."""

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
        """Smallest sigma / alpha seen in training, in display intensity."""
        return self.scale * math.tan(math.acos(self.max_signal_rate))

    @property
    def sigma_max(self) -> float:
        """Largest sigma / alpha seen in training, in display intensity."""
        return self.scale * math.tan(math.acos(self.min_signal_rate))

    def denoise(
        self, x: Float[Array, "*batch height width"], sigma: float | Float[Array, "..."]
    ) -> Float[Array, "*batch height width"]:
        """E[x0 | x] where x = x0 + sigma * noise, in [0, 1]: with r = sigma / scale, alpha = (1 + r^2)^(-1/2)."""
        ratio = per_frame(jnp.clip(jnp.asarray(sigma, x.dtype), self.sigma_min, self.sigma_max), x) / self.scale
        centred = (x - self.mean) / self.scale
        noise = self.predict_noise(centred / jnp.sqrt(1 + ratio**2), (ratio**2 / (1 + ratio**2))[..., 0, 0])
        return self.mean + self.scale * (centred - ratio * noise)

    def predict_noise(
        self, x: Float[Array, "*batch height width"], variance: float | Float[Array, "..."]
    ) -> Float[Array, "*batch height width"]:
        """eps_theta(X_tau) in the network's own unit; `variance` is sigma^2, one for all frames or one for each."""
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
            black = jnp.sqrt(1 - variance)  # alpha; black itself is -1
            x = jnp.pad(x + black, ((0, 0), (0, below), (0, beside))) - black
        return self.network(x, variance)[:, :height, :width]
