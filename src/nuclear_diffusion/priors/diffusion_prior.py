"""p(X) = p_theta(X), frame by frame, given by a trained denoiser (eqs. 12-13)."""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from nuclear_diffusion.checks import require_positive
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.priors.protocol import Frames, Sigma, per_frame
from nuclear_diffusion.types import Frame, Scalar, Video

SEEN = 6
"""Inputs of a haze-aware network from the hazy clip: the frame, an earlier and a later one, and the mean, standard
deviation and minimum over time."""
MOMENTS = 8  # evenly spaced frames used for these statistics; the earlier and the later frame are one spacing away
CHUNK = 16  # frames that pass the network at once: enough to keep a processor busy, few enough to bound memory

AnyFrames = Shaped[Array, "..."] | Shaped[np.ndarray, "..."]


def over_time(clip: AnyFrames) -> tuple[AnyFrames, AnyFrames, AnyFrames]:
    """Mean, standard deviation and minimum (height, width) over the frames of a clip (frames, height, width)."""
    return clip.mean(0), clip.std(0), clip.min(0)


class DiffusionPrior(eqx.Module):
    """p_theta(X) = prod_t p_theta(x_t), given by its denoiser (eqs. 4, 12, 13).

    At every noise level the network F has inputs and targets of unit variance (Karras et al. 2022, Table 1, column
    "Ours"). With d = `scale`, m = `mean`:

        D(x; sigma) = m + c_skip (x - m) + c_out F(c_in (x - m); c_noise)
        c_skip  = d^2 / (sigma^2 + d^2)             c_in    = 1 / sqrt(sigma^2 + d^2)
        c_out   = sigma d / sqrt(sigma^2 + d^2)     c_noise = ln(sigma) / 4

    The score of eq. 13 follows: grad log p(x; sigma) = (D(x; sigma) - x) / sigma^2.

    - `network`: one frame (height, width) and the scalar c_noise -> one frame. A haze-aware network has a third
      argument, the hazy clip's inputs (`SEEN`, height, width) in units of `scale`, 0 without a clip.
    - `mean`, `scale`: mean and standard deviation of clean intensities in [0, 1] (sigma_data of the source).
    - `sigma_min`, `sigma_max`: range of noise levels in training; `denoise` clips to it.
    - `stride`: the network's total downsampling; other frame sizes are padded with black, then cropped.
    - `haze_aware`: whether the network was trained on pairs of hazy and clean clips; see `given`.
    """

    network: Callable[..., Frame]
    mean: float | Scalar
    scale: float | Scalar
    sigma_min: float = eqx.field(static=True)
    sigma_max: float = eqx.field(static=True)
    stride: int = eqx.field(static=True, default=1)
    haze_aware: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        require_positive("scale", self.scale)
        require_positive("sigma_min", self.sigma_min)
        if not self.sigma_min < self.sigma_max:
            raise InputError(f"`sigma_max` must be above `sigma_min`, got {self.sigma_max}.")
        if self.stride < 1:
            raise ValueError(f"`stride` must be at least 1, got {self.stride}.")

    def denoise(self, x: Frames, sigma: Sigma) -> Frames:
        """E[x0 | x] for x = x0 + sigma * noise: Tweedie's estimate (eq. 4), one network pass per frame.

        `x`: frames in [0, 1] plus noise, any number of leading axes. `sigma`: standard deviation of the noise in the
        same unit, one for all frames or one for each.
        """
        return self._denoise(x, sigma, None)

    def given(self, observed: Video) -> "Posterior":
        """p(X | Y) for the hazy clip Y = `observed`, learned from pairs of hazy and clean clips.

        The conditional denoiser takes each hazy frame, an earlier and a later one, and statistics over time
        (`over_time`), because haze stays, tissue moves, and noise changes in every frame. The frames to denoise must
        match `observed` in shape. Raises ValueError if the prior is not haze-aware.
        """
        if not self.haze_aware:
            raise ValueError("This prior is not haze-aware and has no p(X | Y): use a haze-aware prior.")
        last = len(observed) - 1
        moments = np.linspace(0, last, min(MOMENTS, len(observed))).round().astype(int)
        shared = (jnp.broadcast_to(part, observed.shape) for part in over_time(observed[moments]))
        apart = max(1, round(last / (MOMENTS - 1)))
        before, after = (observed[np.clip(np.arange(len(observed)) + way, 0, last)] for way in (-apart, apart))
        return Posterior(self, jnp.stack([observed, before, after, *shared], axis=1))

    def _denoise(self, x: Frames, sigma: Sigma, seen: Float[Array, "*batch seen height width"] | None) -> Frames:
        *batch, height, width = x.shape
        sigma = per_frame(jnp.clip(jnp.asarray(sigma, x.dtype), self.sigma_min, self.sigma_max), x)
        flat = (x.reshape(-1, height, width), sigma.reshape(-1))
        if self.haze_aware:
            # a constant mean intensity encodes "no clip", as no echo looks like it
            seen = jnp.full((*batch, SEEN, height, width), self.mean, x.dtype) if seen is None else seen
            flat = (*flat, seen.reshape(-1, SEEN, height, width))
        if math.prod(batch) <= CHUNK:
            frames = jax.vmap(self._denoise_frame)(*flat)
        else:
            frames = jax.lax.map(lambda one: self._denoise_frame(*one), flat, batch_size=CHUNK)
        return frames.reshape(*batch, height, width)

    def _denoise_frame(self, x: Frame, sigma: Scalar, seen: Float[Array, "seen height width"] | None = None) -> Frame:
        height, width = x.shape
        border = ((0, -height % self.stride), (0, -width % self.stride))
        centred = jnp.pad(x, border) - self.mean
        total = jnp.sqrt(sigma**2 + self.scale**2)
        c_skip, c_out, c_in = (self.scale / total) ** 2, sigma * self.scale / total, 1 / total
        inputs = (c_in * centred, jnp.log(sigma) / 4)
        if seen is not None:
            inputs = (*inputs, jnp.pad((seen - self.mean) / self.scale, ((0, 0), *border)))
        x0 = self.mean + c_skip * centred + c_out * self.network(*inputs)
        return x0[:height, :width]


class Posterior(eqx.Module):
    """p(X | Y) as a conditional denoiser: a haze-aware `prior` with inputs `seen`; see `DiffusionPrior.given`."""

    prior: DiffusionPrior
    seen: Float[Array, "*batch seen height width"]

    @property
    def sigma_min(self) -> float:
        """The prior's."""
        return self.prior.sigma_min

    @property
    def sigma_max(self) -> float:
        """The prior's."""
        return self.prior.sigma_max

    def mean(self) -> Frames:
        """The posterior mean E[x0 | y]: the limit of `denoise` for infinite sigma, where x carries no information.

        D = m + d F(0; ln(sigma_max) / 4, y), a case included in training.
        """
        shape = (*self.seen.shape[:-3], *self.seen.shape[-2:])
        return self.denoise(jnp.full(shape, self.prior.mean, self.seen.dtype), self.sigma_max)

    def denoise(self, x: Frames, sigma: Sigma) -> Frames:
        """E[x0 | x, y]."""
        return self.prior._denoise(x, sigma, self.seen)
