"""One pass of the network: the baselines of the estimate."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy import ndarray

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.paper.sample import check_video
from nuclear_diffusion.paper.separation import Separation
from nuclear_diffusion.priors.protocol import HazeAware, Prior, knows_haze
from nuclear_diffusion.types import Video


def mmse(video: Video | Float[ndarray, "frames height width"], prior: Prior, sigma: float) -> Separation:
    """One blind pass of the denoiser, D(Y, sigma): a baseline.

    No noise is added; `sigma` in display intensity says how much of Y to take for noise. The background is what
    was removed, max(Y - X, 0), whatever its rank.

    Raises:
        InputError: as `separate`, or `sigma` is not positive.
    """
    y = check_video(video)
    if not (np.isfinite(sigma) and sigma > 0):
        raise InputError(f"`sigma` must be a positive number, got {sigma}.")
    signal = jnp.clip(_denoise(prior, y, jnp.float32(sigma)), 0, 1)
    return Separation(signal, jnp.maximum(y - signal, 0), jnp.sqrt(jnp.mean((y - signal) ** 2))[None])


def posterior_mean(video: Video | Float[ndarray, "frames height width"], prior: Prior) -> Separation:
    """One pass of a prior that has learned haze, E[X | Y] itself: the baseline of `separate`.

    The background is what was removed, max(Y - X, 0). Raises `InputError` as `separate`, or where the prior knows
    nothing of haze.
    """
    y = check_video(video)
    if not knows_haze(prior):
        raise InputError("The prior knows nothing of haze, so it has no E[X | Y]: use method mmse, or another prior.")
    signal = jnp.clip(_mean_given(prior, y), 0, 1)
    return Separation(signal, jnp.maximum(y - signal, 0), jnp.sqrt(jnp.mean((y - signal) ** 2))[None])


@eqx.filter_jit
def _mean_given(prior: HazeAware, y: Video) -> Video:
    return prior.given(y).mean()


@eqx.filter_jit
def _denoise(prior: Prior, y: Video, sigma: Float[Array, ""]) -> Video:
    return prior.denoise(y, sigma)
