"""Samples from a diffusion prior by its probability flow."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from nuclear_diffusion.priors.protocol import Prior
from nuclear_diffusion.types import Scalar, Video

Told = Callable[[Int[Array, ""]], None]
"""Called with the number of each level of a sampler, traced."""
ROOT = 7  # noise levels are evenly spaced in their seventh roots (Karras et al. 2022, eq. 5)


def draw_from(
    key: PRNGKeyArray, prior: Prior, start: Video, levels: int = 24, end: float = 0.005, told: Told = lambda _: None
) -> Video:
    """One sample of `prior`, a p(X) or a p(X | Y), in `levels` + 1 denoiser passes per frame; black may be below 0.

    Integrates the probability flow dx / d sigma = (x - D(x)) / sigma (Karras et al. 2022, eq. 1) down to `end`, from
    `start` plus noise of level `sigma_max`, which hides `start`, with the second-order multistep rule in ln sigma of
    DPM-Solver++ (2M; Lu et al. 2022, algorithm 2): with h = ln(s / s'), and h0 that of the previous step,

        x' = (s'/s) x + (1 - s'/s) (x0 + h / (2 h0) (x0 - previous x0)),   x0 = D(x; s)

    Only the initial noise is random. For Gaussian priors the mean is exact, and the spread within 4 % at 24 levels.
    """
    lowest = max(end, prior.sigma_min)
    ladder = jnp.linspace(prior.sigma_max ** (1 / ROOT), lowest ** (1 / ROOT), levels + 1) ** ROOT
    lengths = jnp.log(ladder[:-1] / ladder[1:])
    before = jnp.append(jnp.inf, lengths[:-1])  # makes the first step first-order
    x = start + prior.sigma_max * jax.random.normal(key, start.shape, start.dtype)

    def down(state: tuple[Video, Video], inputs: tuple[Int[Array, ""], Scalar, Scalar, Scalar, Scalar]):
        x, x0_before = state
        level, now, following, length, length_before = inputs
        told(level)
        x0 = prior.denoise(x, now)
        ahead = x0 + length / (2 * length_before) * (x0 - x0_before)
        return (following / now * x + (1 - following / now) * ahead, x0), None

    inputs = (jnp.arange(levels), ladder[:-1], ladder[1:], lengths, before)
    (x, _), _ = jax.lax.scan(down, (x, jnp.zeros_like(x)), inputs)
    return prior.denoise(x, ladder[-1])
