"""The default estimate of the haze fraction of each pixel: one denoiser pass and one low-rank completion.

    X = E[X | Y]                                   posterior mean of the tissue, by the conditional denoiser
    h = 1 - X / Y                                  haze fraction according to the denoiser
    L = argmin 1/2 ||h (Y - X - L)||^2 + ridge/2 ||L||^2 + gamma ||L - its mean over time||_*
    q = P(L) / P(Y),  P(y) = 10^(R y / 10) - 1     fraction of the echo's power explained by haze L; R in decibels
    share = prox of gamma ||.||_* at (h q)^(1/2)   haze fraction: geometric mean of both, varying slowly

Haze is nearly static while the heart moves through it. Where h is high, the haze itself is visible; where h is low, it
is hidden behind tissue. So L is a low-rank matrix with missing entries, completed by nuclear norm minimisation
(soft-impute; Mazumder, Hastie, Tibshirani 2010) with weights h^2 and a free static part. Where L explains a pixel's
brightness, the pixel is haze; an echo brighter than the haze around it is dimmed less. On clips of a few frames no
variation of L exceeds the threshold, and L is a single image (benchmarks/results/ablation.md).

`render` turns the estimate into a clip. With a prior that is not haze-aware, `EM` estimates X and L instead.
"""

from collections.abc import Iterable, Iterator
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
from nuclear_diffusion.paper.windows import Once, Windows, joined, over_windows
from nuclear_diffusion.priors.protocol import Prior, knows_haze
from nuclear_diffusion.restore.background import Completion
from nuclear_diffusion.restore.render import STRENGTH, render
from nuclear_diffusion.types import Progress, Video, VideoLike

WINDOW, OVERLAP = 60, 8  # frames estimated together (one or two heartbeats), and frames shared by neighbouring windows

SPECKLE = np.array([1, 4, 6, 4, 1]) / 16
"""Binomial weights for averaging over a speckle, with a standard deviation of one pixel."""


class Estimate(NamedTuple):
    """Tissue, haze fraction and haze of a clip; `render` turns it into a clip without haze."""

    mean: Video
    """X: posterior mean, smooth where speckle is unpredictable; (frames, height, width), display intensity."""
    share: Video
    """Haze fraction of each pixel, in [0, 1]; 0 where the clip is black."""
    background: Video
    """L: the haze, including haze hidden behind tissue; same shape and unit as `mean`."""
    trace: Float[Array, " steps"]
    """Change of L in each step, relative to its norm (haze-aware prior), or the trace of `EM`."""


def estimate(
    video: VideoLike,
    prior: Prior,
    *,
    completion: Completion | None = None,
    window: int = WINDOW,
    overlap: int = OVERLAP,
    progress: Progress | None = None,
) -> Estimate:
    """Estimate tissue and haze of a clip Y, deterministically; see `nuclear_diffusion.restore.estimate`.

    Args:
        video: (frames, height, width), display intensity in [0, 1].
        prior: p(X); `load_prior("echo")` loads the shipped one.
        completion: p(L) for a haze-aware prior; default: `Completion()`.
        window: frames estimated together, at least 1; at most the whole clip is used. One image is a clip of one frame.
        overlap: frames shared and cross-faded by neighbouring windows, at least 0; at most `window` - 1 is used.

    Raises:
        InputError: `video` is not finite floats (frames, height, width), or `overlap` is negative.
    """
    y = check_video(video, least=1)
    windows = Windows(len(y), window, min(overlap, window - 1))
    return joined(estimate_parts([np.asarray(y)], windows, prior, completion=completion, progress=progress))


def estimate_parts(
    blocks: Iterable[Float[ndarray, "_ height width"]],
    windows: Windows,
    prior: Prior,
    *,
    completion: Completion | None = None,
    progress: Progress | None = None,
    once: Once[Estimate] | None = None,
) -> Iterator[Estimate]:
    """The estimate of a clip given as consecutive blocks of frames, in parts as its windows are finished."""
    completion = Completion() if completion is None else completion

    def solve(index: int, y: ndarray) -> Estimate:
        return estimate_window(jnp.asarray(y), prior, completion)

    yield from over_windows(blocks, windows.spans, solve, once=once, progress=progress, steps=windows.size)


def separate(
    video: VideoLike, prior: Prior, *, strength: float = STRENGTH, progress: Progress | None = None
) -> Separation:
    """Separate a clip Y into tissue X and haze L: `estimate`, then `render` at a `strength` in [0, 1].

    X is Y with its haze fraction removed, and keeps Y's speckle. L includes haze hidden behind tissue, so that X and L
    need not add up to Y. Errors as in `estimate` and `render`.
    """
    found = estimate(video, prior, progress=progress)
    return Separation(jnp.asarray(render(video, found.share, strength)), found.background, found.trace)


@eqx.filter_jit
def estimate_window(y: Video, prior: Prior, completion: Completion) -> Estimate:
    """The estimate of one window `y` (frames, height, width) in [0, 1]."""
    lit = jnp.any(y > 0, axis=0)  # pixels black in all frames are outside the sector
    if knows_haze(prior):
        mean = jnp.clip(prior.given(y).mean(), 0, 1) * lit
        return estimate_from(y, mean, completion)
    found = EM()(y, prior)
    share = haze_share(over_speckle(y), over_speckle(jnp.maximum(y - found.background, 0)))
    return Estimate(jnp.clip(found.signal, 0, 1) * lit, steady(share) * lit, found.background * lit, found.trace)


def estimate_from(y: Video, mean: Video, completion: Completion) -> Estimate:
    """The estimate of a window `y` from its posterior `mean`."""
    lit = jnp.any(y > 0, axis=0)
    seen = haze_share(over_speckle(y), over_speckle(jnp.minimum(mean, y))) * lit
    # haze is smooth over two pixels: half the resolution suffices and takes a quarter of the time
    fine = (seen**2, seen**2 * jnp.maximum(y - mean, 0), y, jnp.broadcast_to(lit, y.shape).astype(y.dtype))
    weights, haze, brightness, inside = (over_speckle(halve(part)) for part in fine)
    low_rank, trace = completion(haze / jnp.maximum(weights, 1e-6), weights / jnp.maximum(inside, 1e-6))
    explained = completion.explained(low_rank, brightness / jnp.maximum(inside, 1e-6))
    background, explained = (double(part, *y.shape[1:]) * lit for part in (low_rank, explained))
    return Estimate(mean, steady(jnp.sqrt(seen * explained)) * lit, background, trace)


def haze_share(y: Video, signal: Video) -> Video:
    """Haze fraction h = 1 - X/Y in [0, 1]; 0 where Y is black or X > Y, because haze only adds brightness."""
    return jnp.clip(1 - signal / jnp.maximum(y, jnp.finfo(y.dtype).tiny), 0, 1) * (y > 0)


def steady(share: Video) -> Video:
    """A haze fraction in [0, 1] with low-rank variation over time: the prox of `slowly_varying`."""
    return jnp.clip(slowly_varying(share.shape).prox(share), 0, 1)


def over_speckle(video: Video) -> Video:
    """Weighted mean of each pixel's 5 x 5 neighbours; pixels outside the frame count as 0."""
    height, width = video.shape[1:]
    around = jnp.pad(video, [(0, 0)] + 2 * [(len(SPECKLE) // 2,) * 2])
    rows = jnp.stack([weight * around[:, k : k + height] for k, weight in enumerate(SPECKLE)]).sum(0)
    return jnp.stack([weight * rows[:, :, k : k + width] for k, weight in enumerate(SPECKLE)]).sum(0)


def halve(video: Video) -> Float[Array, "frames rows columns"]:
    """Mean of each 2 x 2 patch; at an odd side the last line is repeated first."""
    frames, height, width = video.shape
    even = jnp.pad(video, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    return even.reshape(frames, -(-height // 2), 2, -(-width // 2), 2).mean((2, 4))


def double(video: Float[Array, "frames rows columns"], height: int, width: int) -> Video:
    """Bilinear upsampling to `height` and `width`, those before `halve`."""
    frames, rows, columns = video.shape
    return jax.image.resize(video, (frames, 2 * rows, 2 * columns), "bilinear")[:, :height, :width]
