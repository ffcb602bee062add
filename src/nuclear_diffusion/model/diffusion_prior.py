"""p(X) = p_theta(X), frame by frame, through a trained denoiser (eqs. 12-13)."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nuclear_diffusion.model._checks import require_positive
from nuclear_diffusion.model.prior import per_frame
from nuclear_diffusion.types import Frame, InputError, Scalar


class DiffusionPrior(eqx.Module):
    """p_theta(X) = prod_t p_theta(x_t) through its denoiser (eqs. 4, 12, 13).

    The network F sees inputs of unit variance whatever the noise, and predicts a target of unit variance
    (Karras et al. 2022, Table 1, column "Ours"). With d = `scale`, m = `mean`:

        D(x; sigma) = m + c_skip (x - m) + c_out F(c_in (x - m); c_noise)
        c_skip  = d^2 / (sigma^2 + d^2)             c_in    = 1 / sqrt(sigma^2 + d^2)
        c_out   = sigma d / sqrt(sigma^2 + d^2)     c_noise = ln(sigma) / 4

    The score of eq. 12 follows: grad log p(x; sigma) = (D(x; sigma) - x) / sigma^2.

    - `network`: one frame (height, width) and the scalar c_noise -> one frame.
    - `mean`, `scale`: mean and standard deviation of clean intensities in [0, 1] (sigma_data of the source).
    - `sigma_min`, `sigma_max`: the range of noise seen in training; `denoise` clips to it.
    - `stride`: the network's total downsampling; other frame sizes get a black border that is cut off again.
    """

    network: Callable[[Frame, Scalar], Frame]
    mean: float | Scalar
    scale: float | Scalar
    sigma_min: float = eqx.field(static=True)
    sigma_max: float = eqx.field(static=True)
    stride: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        require_positive("scale", self.scale)
        require_positive("sigma_min", self.sigma_min)
        if not self.sigma_min < self.sigma_max:
            raise InputError(f"`sigma_max` must be above `sigma_min`, got {self.sigma_max}.")
        if self.stride < 1:
            raise ValueError(f"`stride` must be at least 1, got {self.stride}.")

    def denoise(
        self, x: Float[Array, "*batch height width"], sigma: float | Float[Array, "..."]
    ) -> Float[Array, "*batch height width"]:
        """E[x0 | x] where x = x0 + sigma * noise: Tweedie's estimate (eq. 4), one network pass a frame.

        `x`: frames in [0, 1] plus noise, any number of leading axes. `sigma`: standard deviation of the noise
        in the same unit, one for all or one for each frame.
        """
        *batch, height, width = x.shape
        sigma = per_frame(jnp.clip(jnp.asarray(sigma, x.dtype), self.sigma_min, self.sigma_max), x)
        frames = jax.vmap(self._denoise_frame)(x.reshape(-1, height, width), sigma.reshape(-1))
        return frames.reshape(*batch, height, width)

    def _denoise_frame(self, x: Frame, sigma: Scalar) -> Frame:
        height, width = x.shape
        border = ((0, -height % self.stride), (0, -width % self.stride))
        centred = jnp.pad(x, border) - self.mean
        total = jnp.sqrt(sigma**2 + self.scale**2)
        c_skip, c_out, c_in = (self.scale / total) ** 2, sigma * self.scale / total, 1 / total
        x0 = self.mean + c_skip * centred + c_out * self.network(c_in * centred, jnp.log(sigma) / 4)
        return x0[:height, :width]
