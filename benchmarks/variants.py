"""Variants of the default's estimate that never shipped, for the table `ablation`.

All share one E[X | Y] and one rendering, but compute the haze fraction differently.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nuclear_diffusion.priors.protocol import HazeAware
from nuclear_diffusion.restore.background import Completion
from nuclear_diffusion.restore.estimate import double, estimate, estimate_from, halve, haze_share, over_speckle, steady
from nuclear_diffusion.types import Video

DEFAULT, STEADY, STILL = "default", "no completion: h, made steady", "L does not vary"
UNSTEADY = "without the last `steady`"
"""Names of rows that the code refers to."""


class Still(Completion):
    """A constant L: the start of `Completion`, and its result if no pattern is above the threshold."""

    def __call__(self, haze: Video, weights: Video) -> tuple[Video, Float[Array, " steps"]]:
        """The weighted average over time, without iterations."""
        still = (weights * haze).sum(0) / (weights.sum(0) + self.ridge * len(haze) + 1e-12)
        return jnp.broadcast_to(still, haze.shape), jnp.zeros(self.steps)


@eqx.filter_jit
def share_by_prior(y: Video, mean: Video) -> list[tuple[str, Video]]:
    """The haze fraction with each p(L), from the same posterior `mean`."""
    lit = jnp.any(y > 0, axis=0)
    seen = haze_share(over_speckle(y), over_speckle(jnp.minimum(mean, y))) * lit
    inside = over_speckle(halve(jnp.broadcast_to(lit, y.shape).astype(y.dtype)))

    def completed(completion: Completion) -> Video:
        return estimate_from(y, mean, completion).share

    def explained(completion: Completion) -> Video:
        # the q of `estimate`, which `estimate_from` does not return
        weights, haze, brightness = (
            over_speckle(halve(part)) for part in (seen**2, seen**2 * jnp.maximum(y - mean, 0), y)
        )
        low_rank, _ = completion(haze / jnp.maximum(weights, 1e-6), weights / jnp.maximum(inside, 1e-6))
        found = completion.explained(low_rank, brightness / jnp.maximum(inside, 1e-6))
        return double(found, *y.shape[1:]) * lit

    q = explained(Completion())
    shares = {
        DEFAULT: completed(Completion()),
        "no p(L): h of each frame": seen,
        STEADY: steady(seen) * lit,
        STILL: completed(Still()),
        UNSTEADY: jnp.sqrt(seen * q),
        "without h: q, made steady": steady(q) * lit,
        "P linear, R = 0.01 dB": completed(Completion(decibels=0.01)),
        "R = 40 dB": completed(Completion(decibels=40.0)),
        "ridge 0": completed(Completion(ridge=0.0)),
    }
    return list(shares.items())  # a list, because JAX would sort a dictionary


_estimate_from = eqx.filter_jit(estimate_from)


@eqx.filter_jit
def mean_of(y: Video, prior: HazeAware) -> Video:
    """E[X | Y], within [0, 1] and the sector."""
    return jnp.clip(prior.given(y).mean(), 0, 1) * jnp.any(y > 0, axis=0)


@eqx.filter_jit
def noisy_mean(y: Video, prior: HazeAware, noise: Video) -> Video:
    """E[X | X_tau, Y], where X_tau is Y plus noise at the highest level."""
    seen = prior.given(y)
    found = seen.denoise(y + seen.sigma_max * noise, seen.sigma_max)
    return jnp.clip(found, 0, 1) * jnp.any(y > 0, axis=0)


def backgrounds(y: Video, prior: HazeAware) -> dict[str, Video]:
    """Variants of p(L). The default's q is recomputed here and checked against the package's haze fraction."""
    shares = dict(share_by_prior(y, mean_of(y, prior)))
    np.testing.assert_allclose(steady(shares[UNSTEADY]), shares[DEFAULT], atol=1e-3)
    return shares


def others(y: Video, prior: HazeAware) -> dict[str, Video]:
    """Other variants; the default is in `backgrounds`."""

    def share(mean: Video) -> Video:
        return _estimate_from(y, mean, Completion()).share

    mirrored = mean_of(y[:, :, ::-1], prior)[:, :, ::-1]
    found = {
        "exposure 1.25": estimate(1.25 * y, prior).share,
        "mean with a mirrored pass": share((mean_of(y, prior) + mirrored) / 2),
    }
    for seed in range(2):
        noise = jax.random.normal(jax.random.key(seed), y.shape)
        for name, drawn in {"fresh": noise, "shared": jnp.broadcast_to(noise[0], y.shape)}.items():
            found[f"{name} noise in X_tau, seed {seed}"] = share(noisy_mean(y, prior, drawn))
    return found


def long(y: Video, prior: HazeAware) -> dict[str, Video]:
    """A few variants on long clips, in which haze can vary."""
    shares = backgrounds(y, prior)
    return {name: shares[name] for name in (DEFAULT, STEADY, STILL)} | {
        "windows of 15 frames, 2 shared": estimate(y, prior, window=15, overlap=2).share
    }


SharesOf = Callable[[Video, HazeAware], dict[str, Video]]
"""The haze fraction of a clip on the prior's grid, by variant."""

TABLES: dict[str, SharesOf] = {"backgrounds": backgrounds, "others": others, "long": long}
"""The variants of each table."""
