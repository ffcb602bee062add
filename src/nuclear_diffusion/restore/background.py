"""A p(L) for partly visible haze: a low-rank video with missing entries."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nuclear_diffusion.checks import require_nonnegative, require_positive
from nuclear_diffusion.paper.nuclear_norm import Background, slowly_varying
from nuclear_diffusion.types import Scalar, Video


class Completion(eqx.Module):
    """L for partly visible haze: argmin_L  1/2 sum w (haze - L)^2 + ridge/2 ||L||^2 - log p(L), then L >= 0.

    - `decibels`: R, how fast the haze fraction falls for echoes brighter than the haze; near 0, P is the grey level.
      The scanner's own 40 to 80 dB from black to white would need a more exact estimate of the haze.
    - `ridge`: weight of "no haze" where none is ever visible, at least 0.
    - `steps`: steps of the completion.
    - `background`: p(L); None: `slowly_varying`.
    """

    decibels: float | Scalar = 10.0
    ridge: float | Scalar = 0.02
    steps: int = eqx.field(static=True, default=10)
    background: Background | None = None

    def __check_init__(self):
        require_positive("decibels", self.decibels)
        require_nonnegative("ridge", self.ridge)
        require_positive("steps", self.steps)

    def __call__(self, haze: Video, weights: Video) -> tuple[Video, Float[Array, " steps"]]:
        """L >= 0, completed from `haze` (frames, height, width) with `weights` in [0, 1], and its change in each step.

        Proximal gradient steps of size 1, starting from the static L that minimises the first two terms.
        """
        p_l = slowly_varying(haze.shape) if self.background is None else self.background

        def step(low_rank: Video, _: None) -> tuple[Video, Scalar]:
            downhill = low_rank + weights * (haze - low_rank) - self.ridge * low_rank
            moved = p_l.prox(downhill, 1.0)
            change = jnp.linalg.norm(moved - low_rank) / jnp.maximum(jnp.linalg.norm(low_rank), 1e-12)
            return moved, change

        still = (weights * haze).sum(0) / (weights.sum(0) + self.ridge * len(haze) + 1e-12)
        low_rank, trace = jax.lax.scan(step, jnp.broadcast_to(still, haze.shape), None, length=self.steps)
        return jnp.maximum(low_rank, 0), trace

    def explained(self, haze: Video, y: Video) -> Video:
        """P(L) / P(Y) in [0, 1], 0 where Y is black."""

        def power(intensity: Video) -> Video:
            return jnp.expm1(self.decibels * np.log(10) / 10 * intensity)

        return jnp.clip(power(haze) / jnp.maximum(power(y), 1e-6), 0, 1) * (y > 0)
