"""Nuclear Diffusion with a prior that is not haze-aware: expectation-maximisation under eqs. 7-9 and 12.

Algorithm 1 with each gradient step replaced by the minimiser or mean that it approaches:

    lines 3-7    X <- E[X | Y, L] = D(Y - L, mu^(-1/2))          one denoiser pass: eq. 8 is Gaussian noise on X
    lines 9-10   L <- argmin gamma ||L||_* + mu/2 ||Y - X - L||^2, then L >= 0 because haze adds brightness

Each step raises or keeps p(L | Y), the posterior of L with X integrated out, except for the projection to L >= 0.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from nuclear_diffusion.checks import require_positive
from nuclear_diffusion.paper.nuclear_norm import Background, slowly_varying
from nuclear_diffusion.paper.separation import Separation
from nuclear_diffusion.priors.protocol import Prior
from nuclear_diffusion.progress import report
from nuclear_diffusion.types import Scalar, Video


class EM(eqx.Module):
    """The most probable L given Y, and the posterior mean of X given Y and L.

    - `mu`: precision of the residual (eq. 8), 1 / intensity^2; above 0.
    - `steps`: denoiser passes, at least 1.
    - `background`: p(L); None: `slowly_varying`.
    """

    mu: float | Scalar = 10.0
    steps: int = eqx.field(static=True, default=4)
    background: Background | None = None

    def __check_init__(self):
        require_positive("mu", self.mu)
        require_positive("steps", self.steps)

    @eqx.filter_jit
    def __call__(self, y: Video, prior: Prior) -> Separation:
        """Separate `y` (frames, height, width) in [0, 1]. `trace`: root mean square of Y - X - L after each step."""
        p_l = slowly_varying(y.shape, self.mu) if self.background is None else self.background

        def step(state: tuple[Video, Video], count: Int[Array, ""]) -> tuple[tuple[Video, Video], Scalar]:
            report(count, self.steps)
            low_rank, _ = state
            x = prior.denoise(y - low_rank, self.mu**-0.5)
            low_rank = jnp.maximum(p_l.prox(y - x, 1 / self.mu), 0)
            return (low_rank, x), jnp.sqrt(jnp.mean((y - x - low_rank) ** 2))

        (low_rank, x), trace = jax.lax.scan(step, (jnp.zeros_like(y), y), jnp.arange(self.steps))
        return Separation(x, low_rank, trace)
