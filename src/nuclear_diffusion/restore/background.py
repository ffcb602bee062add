"""p(L) of haze that is seen in part: nuclear norm minimisation with missing entries."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nuclear_diffusion.checks import require_nonnegative, require_positive
from nuclear_diffusion.paper.nuclear_norm import slowly_varying
from nuclear_diffusion.types import Scalar, Video


class Completion(eqx.Module):
    """p(L) for haze that is seen in part.

    - `decibels`: R, how fast an echo that is brighter than the haze ceases to be haze; near 0, P is the grey level. The
      scanner's own 40 to 80 dB from black to white would ask for haze to be known more exactly than it is.
    - `ridge`: weight of "no haze" where none was ever seen, at least 0.
    - `steps`: of the completion.
    """

    decibels: float | Scalar = 10.0
    ridge: float | Scalar = 0.02
    steps: int = eqx.field(static=True, default=10)

    def __check_init__(self):
        require_positive("decibels", self.decibels)
        require_nonnegative("ridge", self.ridge)
        require_positive("steps", self.steps)

    def __call__(self, haze: Video, weights: Video) -> tuple[Video, Float[Array, " steps"]]:
        """L >= 0 of all `haze` (frames, height, width), from entries seen with `weights` in [0, 1]; and its changes.

        Proximal gradient steps of length 1, from the static L that minimises the first two terms.
        """
        p_l = slowly_varying(haze.shape)

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
