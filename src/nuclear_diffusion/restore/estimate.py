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

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy import ndarray

from nuclear_diffusion.paper.em import EM
from nuclear_diffusion.paper.nuclear_norm import slowly_varying
from nuclear_diffusion.paper.sample import check_video
from nuclear_diffusion.paper.separation import Separation
from nuclear_diffusion.paper.windows import Windows
from nuclear_diffusion.priors.protocol import Prior, knows_haze
from nuclear_diffusion.restore.background import Completion
from nuclear_diffusion.restore.render import STRENGTH, render
from nuclear_diffusion.types import Video

WINDOW, OVERLAP = 60, 8
"""Frames that are taken together, a heartbeat or two, and that neighbouring windows share."""

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


def estimate(
    video: Video | Float[ndarray, "frames height width"],
    prior: Prior,
    *,
    completion: Completion | None = None,
    window: int = WINDOW,
    overlap: int = OVERLAP,
    progress: Callable[[int, int], None] | None = None,
) -> Estimate:
    """What is tissue and what is haze in a clip Y; see `nuclear_diffusion.restore.estimate`. No chance is in it.

    Args:
        video: (frames, height, width), display intensity in [0, 1].
        prior: p(X); `load_prior("echo")` is the shipped one.
        completion: p(L) where the prior has learned haze; `Completion()` by default.
        window: frames taken together, at least 2; the whole clip where it is shorter.
        overlap: frames shared by neighbouring windows, in which they are cross-faded; less than `window`.
        progress: called with (windows done, windows in all).

    Raises:
        InputError: the video is not (frames, height, width), has a frame only, or is not finite.
    """
    y = check_video(video)
    windows = Windows(len(y), window, min(overlap, window - 1))
    completion = Completion() if completion is None else completion
    parts: list[Estimate] = []
    for part in windows.split(y):
        if progress is not None:
            progress(len(parts), len(windows))
        parts.append(jax.block_until_ready(estimate_window(part, prior, completion)))
    if progress is not None:
        progress(len(windows), len(windows))
    return Estimate(
        windows.merge([part.mean for part in parts]),
        windows.merge([part.share for part in parts]),
        windows.merge([part.background for part in parts]),
        jnp.mean(jnp.stack([part.trace for part in parts]), axis=0),
    )


def separate(
    video: Video | Float[ndarray, "frames height width"],
    prior: Prior,
    *,
    strength: float = STRENGTH,
    progress: Callable[[int, int], None] | None = None,
) -> Separation:
    """Separate a clip Y into tissue X and haze L: `estimate`, and `render` at a `strength` in [0, 1].

    X is Y less its share of haze, with Y's own speckle, and L is what haze there is, also behind tissue, so that they
    need not add up to Y. Errors as in `estimate` and `render`.
    """
    found = estimate(video, prior, progress=progress)
    return Separation(jnp.asarray(render(video, found.share, strength)), found.background, found.trace)


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
