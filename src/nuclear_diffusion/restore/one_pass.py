"""Baselines that take one pass of the network."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.paper.sample import check_video
from nuclear_diffusion.paper.separation import Separation
from nuclear_diffusion.priors.protocol import HazeAware, Prior, knows_haze
from nuclear_diffusion.types import Video, VideoLike


def mmse(video: VideoLike, prior: Prior, sigma: float) -> Separation:
    """Baseline: one pass of the unconditional denoiser, X = D(Y, sigma).

    No noise is added; `sigma` (display intensity) is the noise level that the denoiser assumes in Y. The background is
    what was removed, max(Y - X, 0). Raises `InputError` as `separate`, or if `sigma` is not positive.
    """
    y = check_video(video, least=1)
    if not (np.isfinite(sigma) and sigma > 0):
        raise InputError(f"`sigma` must be a positive number, got {sigma}.")
    return _separation(y, _denoise(prior, y, jnp.float32(sigma)))


def posterior_mean(video: VideoLike, prior: Prior) -> Separation:
    """Baseline: the posterior mean E[X | Y] of a haze-aware prior, in one pass; background as in `mmse`.

    Raises `InputError` as `separate`, or if the prior is not haze-aware.
    """
    y = check_video(video, least=1)
    if not knows_haze(prior):
        raise InputError("The prior is not haze-aware and has no E[X | Y]: use method mmse or a haze-aware prior.")
    return _separation(y, _mean_given(prior, y))


def _separation(y: Video, found: Video) -> Separation:
    signal = jnp.clip(found, 0, 1)
    return Separation(signal, jnp.maximum(y - signal, 0), jnp.sqrt(jnp.mean((y - signal) ** 2))[None])


@eqx.filter_jit
def _mean_given(prior: HazeAware, y: Video) -> Video:
    return prior.given(y).mean()


@eqx.filter_jit
def _denoise(prior: Prior, y: Video, sigma: Float[Array, ""]) -> Video:
    return prior.denoise(y, sigma)
