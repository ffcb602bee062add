"""The interface of a prior p(X): a denoiser and its range of noise levels."""

from typing import Protocol, TypeGuard, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from nuclear_diffusion.types import Scalar, Video

Frames = Float[Array, "*batch height width"]
"""Frames with any number of leading axes."""
Sigma = float | Scalar | Float[Array, "..."]
"""Standard deviation of noise in display intensity, one for all frames or one for each."""


@runtime_checkable
class Prior(Protocol):
    """p(X) given by its minimum-mean-square-error denoiser, for independent frames in [0, 1]."""

    @property
    def sigma_min(self) -> float:
        """Smallest noise standard deviation that the denoiser supports, in display intensity."""
        ...

    @property
    def sigma_max(self) -> float:
        """Largest noise standard deviation that the denoiser supports, in display intensity."""
        ...

    def denoise(self, x: Frames, sigma: Sigma) -> Frames:
        """E[x0 | x] for x = x0 + sigma * noise, noise ~ N(0, I)."""
        ...


@runtime_checkable
class Given(Prior, Protocol):
    """p(X | Y): a prior conditioned on the hazy clip Y."""

    def mean(self) -> Video:
        """E[X | Y]."""
        ...


@runtime_checkable
class HazeAware(Prior, Protocol):
    """A prior that may also model p(X | Y)."""

    @property
    def haze_aware(self) -> bool:
        """Whether it was trained on pairs of hazy and clean clips."""
        ...

    def given(self, observed: Video) -> Given:
        """p(X | Y) for the hazy clip Y = `observed`."""
        ...


def knows_haze(prior: Prior) -> TypeGuard[HazeAware]:
    """Whether `prior` is haze-aware: trained on pairs of hazy and clean clips, so that it has a p(X | Y)."""
    return isinstance(prior, HazeAware) and prior.haze_aware


def per_frame(sigma: Sigma, x: Frames) -> Float[Array, "*batch 1 1"]:
    """`sigma`, a scalar or one value per frame, in a shape that broadcasts with the frames `x`."""
    return jnp.broadcast_to(jnp.asarray(sigma, x.dtype), x.shape[:-2])[..., None, None]
