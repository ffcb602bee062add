"""Algorithm 1 of the paper, line by line.

Stevens, Nolan, Robert, van Sloun 2026, "Nuclear Diffusion Models for Low-Rank Background Suppression in Videos",
arXiv 2509.20886. Differences from the published algorithm:

1. X_tau is divided by alpha_tau (variance-exploding form): x = X_tau / alpha_tau, sigma = sigma_tau / alpha_tau.
2. Intensities lie in [0, 1]; the paper's network works on [-1, 1], where every sigma is twice as large.
3. Choices that the paper leaves open are fields: the gradient's variable, line 8's noise, line 10's rule, step sizes.
4. It returns the last X_0|tau of line 7, not X_0, which still contains the noise at the end of the schedule.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PRNGKeyArray

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.paper.nuclear_norm import Background, NuclearNorm
from nuclear_diffusion.paper.separation import Separation
from nuclear_diffusion.priors.protocol import Prior
from nuclear_diffusion.progress import report
from nuclear_diffusion.types import Scalar, Video

PAPER_GAMMA = 1.0
"""gamma in the paper's experiments."""
PAPER_WINDOW = 7
"""p in the paper's experiments, frames."""
DataGradient = Callable[[Prior, Video, Scalar, Video], tuple[Video, Video]]
Renoise = Callable[[PRNGKeyArray, Video, Video, Scalar], Video]
BackgroundUpdate = Callable[[Background, Video, Video, float | Scalar], Video]


def cosine_sigmas(
    steps: int = 500, *, start: float = 0.1, max_signal_rate: float = 0.95, min_signal_rate: float = 0.02
) -> Float[Array, " steps_plus_1"]:
    """sigma_tau / alpha_tau of the paper's schedule, from tau' = start * T down to 0, in [0, 1] intensity.

    (alpha, sigma) = (cos, sin) of an angle that is linear in tau, from arccos(max_signal_rate) to
    arccos(min_signal_rate); halved to convert from [-1, 1]. The default is 500 of T = 5000: 0.236 to 0.164.
    """
    first, last = np.arccos(max_signal_rate), np.arccos(min_signal_rate)
    return jnp.tan(first + jnp.linspace(start, 0, steps + 1) * (last - first)) / 2


def wrt_estimate(prior: Prior, x: Video, sigma: Scalar, target: Video) -> tuple[Video, Video]:
    """X_0|tau and -d/dX_0|tau of 1/2 ||target - X_0|tau||^2, the residual; no backpropagation."""
    x0 = prior.denoise(x, sigma)
    return x0, target - x0


def wrt_state(prior: Prior, x: Video, sigma: Scalar, target: Video) -> tuple[Video, Video]:
    """X_0|tau and -d/dx of 1/2 ||target - X_0|tau(x)||^2, through the network (DPS, eqs. 5-6)."""
    x0, pull_back = jax.vjp(lambda x: prior.denoise(x, sigma), x)
    return x0, pull_back(target - x0)[0]


def fresh_noise(key: PRNGKeyArray, x0: Video, noise: Video, sigma: Scalar) -> Video:
    """Line 8 with new noise, x = x0 + sigma * noise; discards X_tau, and with it part of the prior's variance."""
    return x0 + sigma * jax.random.normal(key, x0.shape, x0.dtype)


def ddim(key: PRNGKeyArray, x0: Video, noise: Video, sigma: Scalar) -> Video:
    """Line 8 with the predicted noise (probability flow), which keeps the prior's variance."""
    return x0 + sigma * noise


def subgradient_step(background: Background, low_rank: Video, ascent: Video, step: float | Scalar) -> Video:
    """L + step (ascent - gamma U V^T): a step along the data term and the nuclear norm's subgradient."""
    return low_rank + step * (ascent - background.subgradient(low_rank))


def proximal_step(background: Background, low_rank: Video, ascent: Video, step: float | Scalar) -> Video:
    """Forward-backward: prox of step * gamma ||.||_* at L + step * ascent."""
    return background.prox(low_rank + step * ascent, step)


class State(NamedTuple):
    """The state of the loop."""

    x: Video  # X_tau / alpha_tau
    signal: Video  # X_0|tau after line 7
    background: Video  # L


class Algorithm1(eqx.Module):
    """Algorithm 1: reverse diffusion on X and gradient steps on L, both minimising the data term of eq. 8.

    Each step multiplies the residual Y - L - X by 1 - mu (signal_step + background_step), because X and L both move
    along line 6's gradient. Settings with mu (signal_step + background_step) >= 2 diverge and raise `InputError`;
    so would the paper's algorithm read with unit steps and mu = 2 (a factor of -3).

    - `mu`: precision of the noise (eq. 8), 1 / intensity^2.
    - `signal_step`, `background_step`: step sizes s_x of line 7 and s_l of line 10, intensity^2 like 1 / mu.
    - `sigmas`: decreasing noise levels, one step from each to the next. Default: the paper's 500 of 5000.
    - `data_gradient`: `wrt_estimate` (closed form) or `wrt_state` (DPS).
    - `renoise`: `fresh_noise` or `ddim`.
    - `background_update`: `subgradient_step` or `proximal_step`.
    - `allow_divergence`: accept settings that diverge, for demonstration.
    """

    mu: float | Scalar
    signal_step: float | Scalar
    background_step: float | Scalar
    sigmas: Float[Array, " steps_plus_1"] = eqx.field(default_factory=cosine_sigmas)
    data_gradient: DataGradient = eqx.field(static=True, default=wrt_estimate)
    renoise: Renoise = eqx.field(static=True, default=fresh_noise)
    background_update: BackgroundUpdate = eqx.field(static=True, default=subgradient_step)
    allow_divergence: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        settings = (self.mu, self.signal_step, self.background_step)
        if self.allow_divergence or any(isinstance(value, Tracer) for value in settings):
            return
        mu, signal_step, background_step = (np.asarray(value) for value in settings)
        if not (np.all(mu > 0) and np.all(signal_step >= 0) and np.all(background_step >= 0)):
            raise InputError(f"`mu` must be above 0 and both steps at least 0, got {settings}.")
        factor = mu * (signal_step + background_step)
        if not np.all(factor < 2):
            raise InputError(
                f"`signal_step` + `background_step` must be below 2 / mu, got mu * sum = {np.max(factor):.3g}: "
                f"the residual would be multiplied by {1 - np.max(factor):.3g} per step and diverge."
            )

    @classmethod
    def paper(cls, *, steps: int = 500, mu: float | Scalar = 2.0, relaxation: float | Scalar = 1.9) -> "Algorithm1":
        """The paper's settings, for use with `PAPER_GAMMA` and `PAPER_WINDOW`, with equal steps s_x = s_l.

        The paper does not give the step sizes. `relaxation` is mu (s_x + s_l), which must be below 2 to converge; the
        default is 5 % below: each step multiplies the residual by -0.9. With 1.0, one step removes the residual, and
        line 8's fresh noise leaves the least misfit. Fewer `steps` cover the same range of noise.
        """
        return cls(mu, relaxation / mu / 2, relaxation / mu / 2, sigmas=cosine_sigmas(steps))

    @property
    def steps(self) -> int:
        """Denoiser passes per window."""
        return self.sigmas.size - 1

    def background_for(self, shape: tuple[int, int, int]) -> NuclearNorm:
        """p(L) of the paper's experiments, for any window `shape`."""
        return NuclearNorm(PAPER_GAMMA)

    @eqx.filter_jit
    def __call__(
        self, y: Video, prior: Prior, background: Background, *, key: PRNGKeyArray, start: Video | None = None
    ) -> Separation:
        """Separate one window of p frames.

        Line 1: x starts at `start` plus noise (SeqDiff warm start; the paper's start, Y, is the default), L at 0.
        The trace is the root mean square of Y - L - X_0|tau at line 6 of each step, in intensity.
        """
        key, start_key = jax.random.split(key)
        m = y if start is None else start
        first = State(fresh_noise(start_key, m, m, self.sigmas[0]), m, jnp.zeros_like(y))

        def line_2(state: State, inputs: tuple[Int[Array, ""], PRNGKeyArray, Scalar, Scalar]) -> tuple[State, Scalar]:
            count, key, sigma, sigma_next = inputs
            report(count, self.steps)
            return self.step(y, prior, background, state, sigma, sigma_next, key=key)

        inputs = (jnp.arange(self.steps), jax.random.split(key, self.steps), self.sigmas[:-1], self.sigmas[1:])
        end, misfit = jax.lax.scan(line_2, first, inputs)
        return Separation(end.signal, end.background, misfit)

    def step(
        self,
        y: Video,
        prior: Prior,
        background: Background,
        state: State,
        sigma: Scalar,
        sigma_next: Scalar,
        *,
        key: PRNGKeyArray,
    ) -> tuple[State, Scalar]:
        """Lines 3-10, from `sigma` to `sigma_next`; also returns line 6's misfit."""
        # lines 3-6: Tweedie's estimate (eq. 4) and the negative gradient of 1/2 ||Y - L - X_0|tau||^2
        x0, descent = self.data_gradient(prior, state.x, sigma, y - state.background)
        residual = y - state.background - x0
        noise = (state.x - x0) / sigma
        # line 7: X along the data term
        signal = x0 + self.signal_step * self.mu * descent
        # line 8: noise to the next level
        x = self.renoise(key, signal, noise, sigma_next)
        # lines 9-10: L along the data term and the nuclear norm
        low_rank = self.background_update(background, state.background, self.mu * residual, self.background_step)
        return State(x, signal, low_rank), jnp.sqrt(jnp.mean(residual**2))
