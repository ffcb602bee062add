"""What a sampler asks of p(X): a denoiser and the range of noise it is good for."""

from typing import Protocol, TypeGuard, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from nuclear_diffusion.types import Scalar, Video


@runtime_checkable
class Prior(Protocol):
    """p(X) through its minimum-mean-square-error denoiser.

    Anything with these three members is a prior; frames are independent and in [0, 1].
    """

    @property
    def sigma_min(self) -> float:
        """Smallest noise standard deviation the denoiser is good for, in display intensity."""
        ...

    @property
    def sigma_max(self) -> float:
        """Largest noise standard deviation the denoiser is good for, in display intensity."""
        ...

    def denoise(
        self, x: Float[Array, "*batch height width"], sigma: float | Float[Array, "..."]
    ) -> Float[Array, "*batch height width"]:
        """E[x0 | x] where x = x0 + sigma * noise, noise ~ N(0, I)."""
        ...


class Given(Prior, Protocol):
    """p(X | Y): a prior that has seen the hazy clip Y."""

    def mean(self) -> Video:
        """E[X | Y]."""
        ...


@runtime_checkable
class HazeAware(Prior, Protocol):
    """A prior that may have learned what haze makes of a clean frame."""

    @property
    def haze_aware(self) -> bool:
        """Whether it has."""
        ...

    def given(self, observed: Video) -> Given:
        """p(X | Y) after seeing the hazy clip `observed`."""
        ...


def knows_haze(prior: Prior) -> TypeGuard[HazeAware]:
    """Whether `prior` has learned what haze makes of a clean frame, so that its p(X | Y) is more than p(X)."""
    return isinstance(prior, HazeAware) and prior.haze_aware


def per_frame(
    sigma: float | Scalar | Float[Array, "..."], x: Float[Array, "*batch height width"]
) -> Float[Array, "*batch 1 1"]:
    """`sigma`, a scalar or one value a frame, in a shape that multiplies the frames `x`."""
    return jnp.broadcast_to(jnp.asarray(sigma, x.dtype), x.shape[:-2])[..., None, None]
