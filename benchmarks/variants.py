"""Variants of the default's estimate that never shipped, for the table `ablation`.

All share one E[X | Y] and one rendering, but compute the haze fraction differently.
"""

from collections.abc import Callable, Sequence

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
UNSTEADY, WINDOWS = "without the last `steady`", "windows of 15 frames, 2 shared"
"""Names of rows that the code refers to."""


class Still(Completion):
    """A constant L: the start of `Completion`, and its result if no pattern is above the threshold."""

    def __call__(self, haze: Video, weights: Video) -> tuple[Video, Float[Array, " steps"]]:
        """The weighted average over time, without iterations."""
        still = (weights * haze).sum(0) / (weights.sum(0) + self.ridge * len(haze) + 1e-12)
        return jnp.broadcast_to(still, haze.shape), jnp.zeros(self.steps)


class Seen:
    """What the variants of p(L) share: frames, posterior mean, and what the network says about the haze."""

    def __init__(self, y: Video, mean: Video):
        self.y, self.mean = y, mean
        self.lit = jnp.any(y > 0, axis=0)
        self.h = haze_share(over_speckle(y), over_speckle(jnp.minimum(mean, y))) * self.lit

    def completed(self, completion: Completion) -> Video:
        """The haze fraction with another completion."""
        return estimate_from(self.y, self.mean, completion).share

    def q(self) -> Video:
        """The q of `estimate`, which `estimate_from` does not return."""
        inside = over_speckle(halve(jnp.broadcast_to(self.lit, self.y.shape).astype(self.y.dtype)))
        weights, haze, brightness = (
            over_speckle(halve(part)) for part in (self.h**2, self.h**2 * jnp.maximum(self.y - self.mean, 0), self.y)
        )
        low_rank, _ = Completion()(haze / jnp.maximum(weights, 1e-6), weights / jnp.maximum(inside, 1e-6))
        found = Completion().explained(low_rank, brightness / jnp.maximum(inside, 1e-6))
        return double(found, *self.y.shape[1:]) * self.lit


BACKGROUNDS: dict[str, Callable[[Seen], Video]] = {
    DEFAULT: lambda seen: seen.completed(Completion()),
    "no p(L): h of each frame": lambda seen: seen.h,
    STEADY: lambda seen: steady(seen.h) * seen.lit,
    STILL: lambda seen: seen.completed(Still()),
    UNSTEADY: lambda seen: jnp.sqrt(seen.h * seen.q()),
    "without h: q, made steady": lambda seen: steady(seen.q()) * seen.lit,
    "P linear, R = 0.01 dB": lambda seen: seen.completed(Completion(decibels=0.01)),
    "R = 40 dB": lambda seen: seen.completed(Completion(decibels=40.0)),
    "ridge 0": lambda seen: seen.completed(Completion(ridge=0.0)),
}
"""Rows about p(L). Another p(L): `"my L": lambda seen: seen.completed(Completion(background=MyL()))`."""


@eqx.filter_jit
def share_by_prior(y: Video, mean: Video, names: tuple[str, ...]) -> list[Video]:
    """The haze fraction of some of `BACKGROUNDS`, from the same posterior `mean`."""
    seen = Seen(y, mean)
    return [BACKGROUNDS[name](seen) for name in names]


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


def from_mean(y: Video, mean: Video) -> Video:
    """The default's haze fraction with another posterior mean."""
    return _estimate_from(y, mean, Completion()).share


def mirrored(y: Video, prior: HazeAware) -> Video:
    """The mean of two passes, one of them on the mirrored clip."""
    return from_mean(y, (mean_of(y, prior) + mean_of(y[:, :, ::-1], prior)[:, :, ::-1]) / 2)


def noisy(seed: int, shared: bool) -> Callable[[Video, HazeAware], Video]:
    """Noise in X_tau, the same for all frames if `shared`."""

    def share(y: Video, prior: HazeAware) -> Video:
        noise = jax.random.normal(jax.random.key(seed), y.shape)
        return from_mean(y, noisy_mean(y, prior, jnp.broadcast_to(noise[0], y.shape) if shared else noise))

    return share


OTHERS: dict[str, Callable[[Video, HazeAware], Video]] = {
    "exposure 1.25": lambda y, prior: estimate(1.25 * y, prior).share,
    "mean with a mirrored pass": mirrored,
    **{
        f"{name} noise in X_tau, seed {seed}": noisy(seed, name == "shared")
        for seed in range(2)
        for name in ("fresh", "shared")
    },
    WINDOWS: lambda y, prior: estimate(y, prior, window=15, overlap=2).share,
}
"""Rows about other ideas."""

TABLES: dict[str, tuple[str, ...]] = {
    "backgrounds": tuple(BACKGROUNDS),
    "others": tuple(name for name in OTHERS if name != WINDOWS),
    "long": (DEFAULT, STEADY, STILL, WINDOWS),
}
"""The rows of each table. On long clips, haze can vary."""


def shares_of(names: Sequence[str], y: Video, prior: HazeAware) -> dict[str, Video]:
    """The haze fraction of a clip on the prior's grid, by row.

    The default's q is recomputed here and checked against the package's haze fraction.
    """
    about = tuple(name for name in names if name in BACKGROUNDS)
    found = dict(zip(about, share_by_prior(y, mean_of(y, prior), about), strict=True)) if about else {}
    if DEFAULT in found and UNSTEADY in found:
        np.testing.assert_allclose(steady(found[UNSTEADY]), found[DEFAULT], atol=1e-3)
    return {name: found[name] if name in found else OTHERS[name](y, prior) for name in names}
