"""p(L): what a background must offer, and the low-rank background (eq. 9)."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nuclear_diffusion.checks import concrete, require_nonnegative
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.types import Scalar, Video

NOISE = 0.02
"""Standard deviation of the white noise that `slowly_varying` suppresses; display intensity or haze fraction."""


@runtime_checkable
class Background(Protocol):
    """p(L) ~ exp(-f(L)). Solvers use what they need: `EM`, robust PCA and `Completion` only the prox.

    An Equinox module is passed through `jit` as an argument: a new gamma does not recompile.
    """

    def __call__(self, background: Video) -> Scalar:
        """f(L) = -log p(L) up to a constant."""
        ...

    def prox(self, v: Video, step: float | Scalar = 1.0) -> Video:
        """argmin_L  step * f(L) + 1/2 ||L - v||_F^2."""
        ...

    def subgradient(self, background: Video) -> Video:
        """A subgradient of f at L."""
        ...


def singular_values(video: Video) -> Float[Array, " rank"]:
    """Singular values of the frames x pixels matrix, largest first."""
    values, _ = _small_side(_tall(video))
    return values


class NuclearNorm(eqx.Module):
    """p(L) ~ exp(-gamma ||L||_*)  (eq. 9), ||L||_* = sum_i s_i over the singular values of the n x p matrix.

    With `weights` the penalty is gamma sum_i w_i s_i, s descending: `weights=(0.0, 1.0)` does not penalise the
    strongest (static) pattern. Weights must not decrease, or the closed-form prox would not be the global minimum
    (Chen, Dong, Chan 2013, Biometrika 100(4)); the last one applies to all further singular values.
    `gamma` is at least 0, in 1 / intensity; it depends on the clip's size, because s grows with sqrt(n p).

    With `static_is_free` the penalty applies to L minus its mean over time: the static part is free, and the varying
    part is low-rank. The prox stays exact, because the two parts are orthogonal.
    """

    gamma: float | Scalar = 1.0
    weights: Sequence[float] | Float[Array, " rank"] | None = None
    static_is_free: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        require_nonnegative("gamma", self.gamma)
        if self.weights is None:
            return
        weights = concrete(self.weights)
        if weights is None:
            return
        if weights.ndim != 1 or weights.size == 0:
            raise ValueError(f"`weights` must be a sequence of at least one number, got {self.weights}.")
        require_nonnegative("weights", weights)
        if (np.diff(weights) < 0).any():
            raise InputError(f"`weights` must not decrease along the singular values, got {self.weights}.")

    def __call__(self, background: Video) -> Scalar:
        """-log p(L) up to a constant: gamma ||L||_*. Differentiate with `subgradient`, not by autodiff."""
        values = singular_values(self._penalised(background))
        return (self._penalties(values) * values).sum()

    def prox(self, v: Video, step: float | Scalar = 1.0) -> Video:
        """argmin_L  step * gamma ||L||_* + 1/2 ||L - v||_F^2: soft thresholding of the singular values.

        Cai, Candes, Shen 2010, Theorem 2.1. Exact to float32 rounding at any threshold.
        """
        part = self._penalised(v)
        return v - part + _filter_spectrum(part, lambda s: jnp.maximum(1 - step * self._penalties(s) / _divisor(s), 0))

    def subgradient(self, background: Video) -> Video:
        """Gamma U V^T on the range of L = U S V^T, 0 off it: the subgradient of least norm.

        Singular values within float32 rounding of 0 count as 0, so that identical frames are harmless.
        """
        part = self._penalised(background)
        # relative to the whole L: subtracting the mean leaves rounding errors of its size
        smallest = jnp.finfo(background.dtype).eps * max(background.shape[0], 8) * jnp.linalg.norm(background)
        return _filter_spectrum(part, lambda s: jnp.where(s > smallest, self._penalties(s) / _divisor(s), 0))

    def _penalised(self, background: Video) -> Video:
        return background - background.mean(axis=0) if self.static_is_free else background

    def _penalties(self, values: Float[Array, " rank"]) -> Float[Array, " rank"]:
        """Gamma w_i for each singular value."""
        if self.weights is None:
            return jnp.full_like(values, 1) * self.gamma
        weights = jnp.asarray(self.weights, values.dtype)
        return self.gamma * weights[jnp.minimum(jnp.arange(values.size), weights.size - 1)]


def slowly_varying(shape: tuple[int, ...], precision: float | Scalar = 1.0) -> NuclearNorm:
    """p(L) for a clip of `shape`: a free static part plus low-rank variation above `NOISE`.

    The largest singular value of n x p white noise of standard deviation s is about s (sqrt(n) + sqrt(p)); the prox
    thresholds at gamma / precision.
    """
    frames, *sides = shape
    return NuclearNorm(precision * NOISE * (np.prod(sides) ** 0.5 + frames**0.5), static_is_free=True)


def _divisor(values: Float[Array, " rank"]) -> Float[Array, " rank"]:
    """Singular values with 0 replaced by 1 for division: the pattern they scale is 0 anyway."""
    return jnp.where(values > 0, values, 1)


def _tall(video: Video) -> Float[Array, "long short"]:
    """The clip as a matrix, longer side first: pixels x frames, except for a very long clip."""
    matrix = video.reshape(video.shape[0], -1)
    return matrix if _has_more_frames_than_pixels(video) else matrix.T


def _has_more_frames_than_pixels(video: Video) -> bool:
    return video.shape[0] ** 2 > video.size


@jax.jit  # one program where a clip's singular values are asked for alone
def _small_side(tall: Float[Array, "long short"]) -> tuple[Float[Array, " short"], Float[Array, "short short"]]:
    """Singular values (descending) and right singular vectors of a tall matrix, to a few eps of the largest.

    The Gram matrix alone loses singular values below sqrt(eps) of the largest. But its eigenvectors rotate the
    matrix to nearly orthogonal columns; scaled to unit length, these give a second Gram matrix close to I, which
    loses nothing. Its square root, scaled back, has the singular values of the original. Only matrix products touch
    the long side; a Householder QR takes 10 to 100 times as long.
    """
    _, turn = jnp.linalg.eigh(_gram(tall))
    turned = _matmul(tall, turn)
    lengths = jnp.linalg.norm(turned, axis=0)
    # Not Cholesky: columns that are only rounding errors may be parallel.
    squares, axes = jnp.linalg.eigh(_gram(turned / _divisor(lengths)))
    root = jnp.sqrt(jnp.maximum(squares, 0))[:, None] * axes.T * lengths
    # QR iteration: on busy CPU cores, divide and conquer waits for its threads at every column.
    _, values, vectors = jax.lax.linalg.svd(root, algorithm=jax.lax.linalg.SvdAlgorithm.QR)
    return values, _matmul(turn, vectors.T)


def _gram(tall: Float[Array, "long short"]) -> Float[Array, "short short"]:
    return _matmul(tall.T, tall)


def _matmul(a: Float[Array, "m k"], b: Float[Array, "k n"]) -> Float[Array, "m n"]:
    """Matrix product in full float32; accelerators use fewer bits by default."""
    return jnp.matmul(a, b, precision="highest")


def _filter_spectrum(video: Video, factor: Callable[[Array], Array]) -> Video:
    """U diag(factor(s) s) V^T, computed from the short side's singular vectors V alone."""
    tall = _tall(video)
    values, vectors = _small_side(tall)
    filtered = _matmul(tall, _matmul(vectors * factor(values), vectors.T))
    return (filtered if _has_more_frames_than_pixels(video) else filtered.T).reshape(video.shape)
