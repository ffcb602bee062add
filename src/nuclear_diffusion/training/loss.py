"""Denoising score matching for the prior: EDM's noise, weights and preconditioning (Karras et al. 2022).

    L(theta) = E_{x0, sigma, n}  lambda(sigma) || D_theta(x0 + sigma n; sigma) - x0 ||^2          (eq. 2, 8)
    lambda(sigma) = (sigma^2 + d^2) / (sigma d)^2 = 1 / c_out^2,   d = the data's standard deviation

Differences from the source:
1. ln sigma is a mixture of EDM's normal and a uniform over the whole range, so that every noise level is trained.
2. The noise levels of a batch are stratified, which lowers the variance of the loss.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from nuclear_diffusion.priors.diffusion_prior import DiffusionPrior, Posterior
from nuclear_diffusion.training.config import TrainConfig
from nuclear_diffusion.types import Scalar

Frames = Float[Array, "batch height width"]

HIGH_SHARE = 0.7  # fraction of the frames with a hazy version that get a noise level of 0.3 or more
BLANK_SHARE = 0.75  # fraction of these whose noisy frame is hidden, see `Posterior.mean`


def sample_sigma(key: PRNGKeyArray, count: int, config: TrainConfig) -> Float[Array, " count"]:
    """Stratified noise levels: log-uniform with probability `tail`, else ln sigma ~ N(p_mean, p_std^2)."""
    u = (jnp.arange(count) + jax.random.uniform(key, (count,))) / count
    low, high = math.log(config.sigma_min), math.log(config.sigma_max)
    uniform = low + (high - low) * u / max(config.tail, 1e-6)
    within = jnp.clip((u - config.tail) / max(1 - config.tail, 1e-6), 1e-6, 1 - 1e-6)
    normal = config.p_mean + config.p_std * jax.scipy.special.ndtri(within)
    return jnp.exp(jnp.clip(jnp.where(u < config.tail, uniform, normal), low, high))


def score_matching_loss(
    prior: DiffusionPrior,
    frames: Frames,
    sigma: Float[Array, " batch"],
    key: PRNGKeyArray,
    seen: Float[Array, "batch seen height width"] | None = None,
) -> Scalar:
    """Mean over frames and pixels of lambda(sigma) (D(x0 + sigma n; sigma) - x0)^2; about 1 where F = 0.

    With the hazy inputs `seen`, D is E[x0 | x, y] instead of E[x0 | x]. At an infinite sigma x is replaced by its mean,
    and D is the posterior mean E[x0 | y].
    """
    blank = jnp.isinf(sigma)[:, None, None]
    sigma = jnp.minimum(sigma, prior.sigma_max)
    noisy = frames + sigma[:, None, None] * jax.random.normal(key, frames.shape)
    noisy = jnp.where(blank, prior.mean, noisy)
    weight = (sigma**2 + prior.scale**2) / (sigma * prior.scale) ** 2
    denoiser = prior if seen is None else Posterior(prior, seen)
    return jnp.mean(weight[:, None, None] * (denoiser.denoise(noisy, sigma) - frames) ** 2)


def show_haze(
    key: PRNGKeyArray,
    hazy: Float[Array, "batch seen height width"],
    sigma: Float[Array, " batch"],
    nothing: float | Scalar,
    config: TrainConfig,
) -> tuple[Float[Array, "batch seen height width"], Float[Array, " batch"]]:
    """The hazy inputs for a fraction `shown` of the batch, `nothing` (the mean) for the rest, and the noise levels.

    `HIGH_SHARE` of the frames with hazy inputs get a high noise level, so that the network must use these inputs;
    `BLANK_SHARE` of them get an infinite one.
    """
    shown, high, level, blank = jax.random.uniform(key, (4, len(hazy)))
    low_end, high_end = math.log(min(0.3, config.sigma_max)), math.log(config.sigma_max)
    seen = jnp.where((shown < config.shown)[:, None, None, None], hazy, nothing)
    raised = jnp.where(blank < BLANK_SHARE, jnp.inf, jnp.exp(low_end + (high_end - low_end) * level))
    return seen, jnp.where((shown < config.shown) & (high < HIGH_SHARE), raised, sigma)
