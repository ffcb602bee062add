"""Robust PCA: the model with a sparse p(X) (eqs. 1, 2, 10), solved to its optimum.

Both solvers work in float64, because their tolerances are below float32 rounding, and return float32. Neither can be
called inside `jit`. Changing `lam`, p(L)'s gamma, `mu` or `tol` does not recompile.
"""

import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from nuclear_diffusion.checks import require_positive
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.paper.laplace import Laplace
from nuclear_diffusion.paper.nuclear_norm import Background, NuclearNorm, singular_values
from nuclear_diffusion.paper.separation import Separation
from nuclear_diffusion.progress import report
from nuclear_diffusion.types import Scalar, Video

if hasattr(jax, "enable_x64"):
    _enable_x64 = jax.enable_x64
else:  # JAX before 0.8
    from jax.experimental import enable_x64 as _enable_x64  # pyright: ignore[reportAttributeAccessIssue]


def robust_pca(
    video: Float[ArrayLike, "frames height width"],
    lam: float | Scalar | None = None,
    background: Background | None = None,
    *,
    tol: float = 1e-7,
    max_iter: int = 1000,
) -> Separation:
    """Principal component pursuit: min f(L) + lam ||X||_1 subject to Y = L + X  (eq. 1, relaxed).

    Inexact augmented Lagrangian method of Lin, Chen, Ma 2010 (arXiv 1009.5055, Algorithm 5); stops at
    ||Y - L - X||_F / ||Y||_F < tol. `background` is p(L) ~ exp(-f(L)), by default `NuclearNorm(1.0)`: f = ||L||_*.
    Start and growth of the penalty suit that norm, and another f may be stopped short of its minimum, by about 1 % of
    the intensity: `robust_pca_lagrangian` with a large `mu` reaches it.
    `lam` defaults to 1 / sqrt(max(n, p)) (Candes et al. 2011), n pixels, p frames.
    The trace is the relative residual after each iteration. Raises `InputError` if a setting is not positive or the
    video is not finite; warns if it does not converge within `max_iter`.
    """
    if lam is None:
        frames, *sides = np.shape(video)
        lam = 1 / math.sqrt(max(frames, math.prod(sides)))
    return _solve_in_float64(_augmented_lagrangian, video, background, {"lam": lam}, tol, max_iter)


def robust_pca_lagrangian(
    video: Float[ArrayLike, "frames height width"],
    lam: float | Scalar,
    background: Background | None = None,
    *,
    mu: float | Scalar,
    tol: float = 1e-7,
    max_iter: int = 1000,
) -> Separation:
    """MAP estimate under eqs. 7-10: min f(L) + lam ||X||_1 + mu/2 ||Y - L - X||_F^2  (eq. 2).

    Alternates the two exact proxes, with Nesterov momentum that restarts when it points uphill (FISTA on L with X
    minimised out; O'Donoghue, Candes 2015). Stops when an iteration moves L by less than tol ||Y||_F; the trace is
    that change relative to ||Y||_F. `background` and errors as in `robust_pca`.
    """
    return _solve_in_float64(_alternating_proxes, video, background, {"lam": lam, "mu": mu}, tol, max_iter)


class _Iterate(NamedTuple):
    """State of either solver; `memory` is the multiplier or the extrapolated L."""

    signal: Video
    background: Video
    memory: Video
    weight: Scalar
    trace: Float[Array, " max_iter"]
    done: Array


@eqx.filter_jit
def _augmented_lagrangian(y: Video, p_l: Background, settings: tuple[Scalar], tol: Scalar, max_iter: int) -> _Iterate:
    (lam,) = settings
    spectral = singular_values(y)[0]
    mu_first = 1.25 / spectral
    norm = jnp.linalg.norm(y)

    def iterate(state: _Iterate) -> _Iterate:
        multiplier, mu = state.memory, state.weight
        x = Laplace(lam).prox(y - state.background + multiplier / mu, 1 / mu)
        background = p_l.prox(y - x + multiplier / mu, 1 / mu)
        residual = y - background - x
        trace = state.trace.at[state.done].set(jnp.linalg.norm(residual) / norm)
        mu_next = jnp.minimum(1.5 * mu, 1e7 * mu_first)
        return _Iterate(x, background, multiplier + mu * residual, mu_next, trace, state.done + 1)

    zero = jnp.zeros_like(y)
    multiplier = y / jnp.maximum(spectral, jnp.abs(y).max() / lam)
    trace = jnp.full(max_iter, jnp.inf, y.dtype)
    start = _Iterate(zero, zero, multiplier, mu_first, trace, jnp.array(0))
    return _iterate_until(iterate, start, tol)


@eqx.filter_jit
def _alternating_proxes(
    y: Video, p_l: Background, settings: tuple[Scalar, Scalar], tol: Scalar, max_iter: int
) -> _Iterate:
    lam, mu = settings
    sparse = Laplace(lam)
    norm = jnp.linalg.norm(y)

    def iterate(state: _Iterate) -> _Iterate:
        ahead, momentum = state.memory, state.weight
        x = sparse.prox(y - ahead, 1 / mu)
        background = p_l.prox(y - x, 1 / mu)
        moved = background - state.background
        uphill = jnp.vdot(ahead - background, moved) > 0
        momentum = jnp.where(uphill, 1.0, momentum)
        momentum_next = (1 + jnp.sqrt(1 + 4 * momentum**2)) / 2
        ahead_next = background + (momentum - 1) / momentum_next * moved
        trace = state.trace.at[state.done].set(jnp.linalg.norm(background - ahead) / norm)
        # X is the exact minimiser for the returned L
        x = sparse.prox(y - background, 1 / mu)
        return _Iterate(x, background, ahead_next, momentum_next, trace, state.done + 1)

    zero = jnp.zeros_like(y)
    trace = jnp.full(max_iter, jnp.inf, y.dtype)
    start = _Iterate(zero, zero, zero, jnp.ones((), y.dtype), trace, jnp.array(0))
    return _iterate_until(iterate, start, tol)


def _iterate_until(iterate: Callable[[_Iterate], _Iterate], start: _Iterate, tol: Scalar) -> _Iterate:
    def is_open(state: _Iterate) -> Array:
        return (state.done < state.trace.size) & ((state.done == 0) | (state.trace[state.done - 1] >= tol))

    def told(state: _Iterate) -> _Iterate:
        last = state.trace[state.done - 1]  # infinite before the first step; falls geometrically
        report(jnp.clip(100 * jnp.log(last) / jnp.log(tol), 0, 99).astype(int), 100)
        return iterate(state)

    return jax.lax.while_loop(is_open, told, start)


def _solve_in_float64(
    method: Callable[..., _Iterate],
    video: Float[ArrayLike, "frames height width"],
    background: Background | None,
    settings: dict[str, float | Scalar],
    tol: float,
    max_iter: int,
) -> Separation:
    for name, value in (settings | {"tol": tol, "max_iter": max_iter}).items():
        require_positive(name, value)
    y = np.asarray(video, np.float64)
    if y.ndim != 3 or y.size == 0:
        raise ValueError(f"`video` must have the shape (frames, height, width), got {y.shape}.")
    if not np.isfinite(y).all():
        raise InputError("The video contains NaN or infinite values: replace them first.")
    if not y.any():  # a black clip has norm 0, so no relative residual; its solution is 0
        black = jnp.zeros(y.shape, jnp.float32)
        return Separation(black, black, jnp.zeros(0))
    with _enable_x64(True):
        given = (NuclearNorm(1.0) if background is None else background, tuple(settings.values()), tol)
        in_float64 = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64) if eqx.is_inexact_array_like(x) else x, given)
        found = jax.device_get(method(jnp.asarray(y), *in_float64, max_iter))
    trace = found.trace[: found.done]
    if not trace[-1] < tol:
        reached = f"{trace[-1]:.1e}, above the tolerance of {tol:.1e}"
        warnings.warn(f"Robust PCA stopped after {max_iter} iterations at {reached}.", stacklevel=3)
    return Separation(*(jnp.asarray(part, jnp.float32) for part in (found.signal, found.background, trace)))
