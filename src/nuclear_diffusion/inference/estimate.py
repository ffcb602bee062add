"""The default estimate: how much of every pixel is haze. One denoiser pass, one low-rank completion.

    X = E[X | Y]                                   what the network takes for tissue (`Posterior.mean`): Y counts once
    h = 1 - X / Y                                  the share of haze that it sees
    L = argmin 1/2 ||h (Y - X - L)||^2 + ridge/2 ||L||^2 + gamma ||L - its mean over time||_*
    q = P(L) / P(Y),  P(y) = 10^(R y / 10) - 1     the share of the echo that a haze L would make; R in decibels
    share = prox of gamma ||.||_* at (h q)^(1/2)   both opinions count alike, and the share varies slowly

Haze stands nearly still while the heart moves through it. Where h is high the haze itself is seen, where h is low it is
hidden behind tissue: L is a low-rank matrix with missing entries, completed by nuclear norm minimisation (soft-impute,
Mazumder, Hastie, Tibshirani 2010) with h^2 for weights and what stands still for free. Where L explains the brightness
of a pixel the pixel is haze; of an echo that is brighter than the haze seen around it less is taken. On clips of a few
frames nothing of L varies above the threshold, and L is one picture (docs/benchmarks/ablation.md).

What is shown of the estimate is `render`'s. A prior that knows nothing of haze has no E[X | Y]: `EM` finds X and L.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nuclear_diffusion.inference.em import EM, slowly_varying
from nuclear_diffusion.model import Prior
from nuclear_diffusion.model._checks import require_nonnegative, require_positive
from nuclear_diffusion.model.prior import knows_haze
from nuclear_diffusion.types import Scalar, Video

SPECKLE = np.array([1, 4, 6, 4, 1]) / 16
"""Weights of neighbouring pixels in a mean over a speckle: binomial, a standard deviation of one pixel."""


class Estimate(NamedTuple):
    """What is known of a clip; `render` makes a picture of it."""

    mean: Video
    """X: the posterior mean, smooth where speckle cannot be foretold; (frames, height, width), display intensity."""

    share: Video
    """How much of each pixel is haze, in [0, 1]; 0 where the clip is black."""

    background: Video
    """L: the haze, also where tissue hides it; same shape and unit as `mean`."""

    trace: Float[Array, " steps"]
    """How much L changed in each step, relative to its norm (haze-aware prior); `EM`'s otherwise."""


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


@eqx.filter_jit
def estimate_window(y: Video, prior: Prior, completion: Completion) -> Estimate:
    """The estimate of one window `y` (frames, height, width) in [0, 1]."""
    lit = jnp.any(y > 0, axis=0)  # what is black throughout lies outside the sector: neither tissue nor haze
    if knows_haze(prior):
        mean = jnp.clip(prior.given(y).mean(), 0, 1) * lit
        return estimate_from(y, mean, completion)
    found = EM()(y, prior)
    share = haze_share(over_speckle(y), over_speckle(jnp.maximum(y - found.background, 0)))
    return Estimate(jnp.clip(found.signal, 0, 1) * lit, steady(share) * lit, found.background * lit, found.trace)


def estimate_from(y: Video, mean: Video, completion: Completion) -> Estimate:
    """The estimate of a window `y` whose posterior `mean` is known."""
    lit = jnp.any(y > 0, axis=0)
    seen = haze_share(over_speckle(y), over_speckle(jnp.minimum(mean, y))) * lit
    # haze is smooth over two pixels: half the resolution will do, and takes a quarter of the time
    fine = (seen**2, seen**2 * jnp.maximum(y - mean, 0), y, jnp.broadcast_to(lit, y.shape).astype(y.dtype))
    weights, haze, brightness, inside = (over_speckle(halve(part)) for part in fine)
    low_rank, trace = completion(haze / jnp.maximum(weights, 1e-6), weights / jnp.maximum(inside, 1e-6))
    explained = completion.explained(low_rank, brightness / jnp.maximum(inside, 1e-6))
    background, explained = (double(part, *y.shape[1:]) * lit for part in (low_rank, explained))
    return Estimate(mean, steady(jnp.sqrt(seen * explained)) * lit, background, trace)


def haze_share(y: Video, signal: Video) -> Video:
    """How much of a pixel is haze: h = 1 - X/Y in [0, 1]; 0 where Y is black or X is above Y, for haze only adds."""
    return jnp.clip(1 - signal / jnp.maximum(y, jnp.finfo(y.dtype).tiny), 0, 1) * (y > 0)


def steady(share: Video) -> Video:
    """A share of haze of which few patterns vary in time, in [0, 1]: the prox of `slowly_varying`."""
    return jnp.clip(slowly_varying(share.shape).prox(share), 0, 1)


def over_speckle(video: Video) -> Video:
    """Weighted mean of each pixel's 5 x 5 neighbours; what is outside the frame counts as 0."""
    height, width = video.shape[1:]
    around = jnp.pad(video, [(0, 0)] + 2 * [(len(SPECKLE) // 2,) * 2])
    rows = jnp.stack([weight * around[:, k : k + height] for k, weight in enumerate(SPECKLE)]).sum(0)
    return jnp.stack([weight * rows[:, :, k : k + width] for k, weight in enumerate(SPECKLE)]).sum(0)


def halve(video: Video) -> Video:
    """Mean of each 2 x 2 patch; an odd side is first filled up with its last line."""
    frames, height, width = video.shape
    even = jnp.pad(video, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    return even.reshape(frames, -(-height // 2), 2, -(-width // 2), 2).mean((2, 4))


def double(video: Video, height: int, width: int) -> Video:
    """Back to the `height` and `width` from which `halve` came, bilinear."""
    frames, rows, columns = video.shape
    return jax.image.resize(video, (frames, 2 * rows, 2 * columns), "bilinear")[:, :height, :width]
