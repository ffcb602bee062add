"""The default sampler: one denoiser pass a step, closed-form data step, singular value thresholding.

Algorithm 1 with every gradient step replaced by the exact minimiser it was walking towards:

    lines 3-7   x0 <- E[X_0 | X_tau, Y, L]       one denoiser pass, the Gaussian likelihood folded in exactly
    line  8     X_tau-1 <- x0 + sigma' (eps, some of it fresh)
    lines 9-10  L <- prox of gamma ||L||_* / mu at Y - x0, then L >= 0

and the last step ends in the posterior mean x0, not in a noisy X.
"""

from typing import NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from nuclear_diffusion.inference.progress import report
from nuclear_diffusion.inference.result import Separation
from nuclear_diffusion.model._checks import require_positive
from nuclear_diffusion.model.nuclear_norm import NuclearNorm
from nuclear_diffusion.model.prior import Prior
from nuclear_diffusion.types import Scalar, Video


class DataStep(Protocol):
    """How the likelihood N(target; X, I/mu) enters: returns an estimate of E[X_0 | x_sigma, target]."""

    def __call__(self, prior: Prior, x: Video, target: Video, sigma: Scalar, mu: float | Scalar) -> Video:
        """`x` is X_0 + sigma * noise, `target` is Y - L."""
        ...


class ExactPosterior(eqx.Module):
    """Both observations of X_0 are Gaussian with identity operator, so they merge into one (exact).

    P = 1/sigma^2 + mu,   z = (x/sigma^2 + mu (Y - L)) / P,   E[X_0 | x, Y, L] = D(z, P^(-1/2))
    """

    def __call__(self, prior: Prior, x: Video, target: Video, sigma: Scalar, mu: float | Scalar) -> Video:
        """One denoiser pass at the merged noise level."""
        precision = 1 / sigma**2 + mu
        merged = (x / sigma**2 + mu * target) / precision
        return prior.denoise(merged, precision**-0.5)


class ProximalPoint(eqx.Module):
    """Half-quadratic splitting (DiffPIR, Zhu et al. 2023, eq. 12): denoise, then a proximal data step.

    x0 = D(x, sigma),   argmin_X  mu/2 ||Y - L - X||^2 + 1/(2 r^2) ||X - x0||^2   with r = `trust` * sigma
    """

    trust: float | Scalar = 1.0

    def __call__(self, prior: Prior, x: Video, target: Video, sigma: Scalar, mu: float | Scalar) -> Video:
        """One denoiser pass at sigma, then a weighted mean."""
        x0 = prior.denoise(x, sigma)
        weight = 1 / (self.trust * sigma) ** 2
        return (weight * x0 + mu * target) / (weight + mu)


class State(NamedTuple):
    """What the next step needs."""

    x: Video  # X_tau
    background: Video  # L


class Proximal(eqx.Module):
    """Nuclear Diffusion by proximal and posterior-mean steps.

    - `steps`: denoiser passes.
    - `mu`: precision of what neither signal nor low-rank background explains, 1 / intensity^2 (eq. 8).
    - `start`, `end`: first and last noise level, standard deviation in display intensity (SeqDiff start from Y).
    - `fresh`: share of the noise variance that is drawn anew in a step; 0 is DDIM (deterministic), 1 ancestral.
    - `data`: the data step.
    """

    mu: float | Scalar = 100.0
    start: float | Scalar = 0.3
    end: float | Scalar = 0.03
    fresh: float | Scalar = 0.0
    steps: int = eqx.field(static=True, default=12)
    data: DataStep = ExactPosterior()

    def __check_init__(self):
        require_positive("mu", self.mu)
        require_positive("start", self.start)
        require_positive("end", self.end)
        require_positive("steps", self.steps)

    def levels(self, prior: Prior) -> Float[Array, " steps"]:
        """Noise levels, geometric from `start` to `end`, inside the prior's range."""
        start, end = jnp.asarray(self.start, jnp.float32), jnp.asarray(self.end, jnp.float32)
        ratio = jnp.linspace(0, 1, self.steps)
        return jnp.clip(start * (end / start) ** ratio, prior.sigma_min, prior.sigma_max)

    def step(
        self,
        key: PRNGKeyArray,
        y: Video,
        state: State,
        sigma: Scalar,
        sigma_next: Scalar,
        prior: Prior,
        background: NuclearNorm,
    ) -> tuple[State, Video]:
        """One level down: X_0 given X_tau and L, L given X_0, X at the next level. Also returns X_0."""
        target = y - state.background
        x0 = jnp.maximum(self.data(prior, state.x, target, sigma, self.mu), 0)  # lines 3-7
        low_rank = jnp.maximum(background.prox(y - x0, 1 / self.mu), 0)  # lines 9-10
        noise = (state.x - x0) / sigma  # line 8, DDIM's estimate of the noise
        drawn = jax.random.normal(key, y.shape, y.dtype)
        x = x0 + sigma_next * (jnp.sqrt(1 - self.fresh) * noise + jnp.sqrt(self.fresh) * drawn)
        return State(x, low_rank), x0

    def __call__(self, y: Video, prior: Prior, background: NuclearNorm, *, key: PRNGKeyArray) -> Separation:
        """Separate one window `y` (frames, height, width) in [0, 1].

        `trace` is the root mean square of Y - X - L after each step.
        """
        levels = self.levels(prior)
        first, *_ = keys = jax.random.split(key, self.steps + 1)
        x = y + levels[0] * jax.random.normal(first, y.shape, y.dtype)

        def body(state: State, inputs):
            k, key, sigma, sigma_next = inputs
            report(k)
            state, x0 = self.step(key, y, state, sigma, sigma_next, prior, background)
            return state, jnp.sqrt(jnp.mean((y - x0 - state.background) ** 2))

        k = jnp.arange(self.steps)
        state, trace = jax.lax.scan(body, State(x, jnp.zeros_like(y)), (k, keys[1:], levels, jnp.append(levels[1:], 0)))
        return Separation(jnp.clip(state.x, 0, 1), state.background, trace)
