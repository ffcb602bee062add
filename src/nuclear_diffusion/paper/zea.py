"""The published implementation, zea 0.1.8's `dehaze_nuclear_diffusion`, reproduced step by step for comparison.

It works in [-1, 1] on the network's own X_tau = alpha X_0 + sigma eps. With k from 0 to K = n_steps - initial_step:

    t      = 1 - (initial_step + k) / n_steps;   the angle of (alpha, sigma) = (cos, sin) is linear in t
    X_0    = (X_tau - sigma eps) / alpha,   eps = the network's noise in X_tau
    a      = min(k / K, max_alpha)
    loss   = omega ||Y - (1 - a) X_0 - a L||_2 + gamma / p ||L||_*
    X_tau' = alpha' X_0 + sigma' eps - d loss / d X_tau
    L'     = L - d loss / d L

starting from X_tau = alpha Y + sigma noise and L = 0. Differences from the paper's Algorithm 1:

1. The misfit is the norm, not its square, and a single norm for all frames of a window: line 6's gradient does not
   shrink as the fit improves, and its length in X_0 is at most `omega` for any number of pixels.
2. Signal and background are blended, (1 - a) X + a L, where eq. 8 adds them; a rises from 0 to 1/2.
3. gamma is divided by the number of frames p. Optionally singular value i, from 0, has the weight 1 + factor i / p
   (zea's `rank_weight_factor`): `NuclearNorm` takes such `weights`.
4. Line 8 is DDIM: the predicted noise is added back, and no noise is drawn after the start.
5. Line 7's gradient goes through the network and is subtracted from the next X_tau, not from X_0|tau, with unit steps
   and no mu.
6. L starts at mid grey (0 in [-1, 1]), may be negative, and takes full subgradient steps without a step size.
7. The result is X_0 and L before the last step's update. With `project` (zea's default), pixels with X_0 > 0 (brighter
   than mid grey) are replaced by the input, and the haze is Y - X. Otherwise the haze is Y - L.

Differences from zea's code: all frames pass the network in one batch, the whole loop is compiled once, the subgradient
of the nuclear norm is computed on the p x p side, and the gradient of a misfit of exactly 0 is 0 (zea: NaN).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.paper.nuclear_norm import Background, NuclearNorm
from nuclear_diffusion.paper.sample import check_video
from nuclear_diffusion.paper.separation import Separation
from nuclear_diffusion.paper.windows import Once, Queue, alike, joined, over_windows
from nuclear_diffusion.priors.protocol import Prior
from nuclear_diffusion.priors.variance_preserving import VariancePreserving
from nuclear_diffusion.progress import report
from nuclear_diffusion.types import Progress, Scalar, Video, VideoLike

ZEA_GAMMA = 1.0
"""zea's default gamma."""
ZEA_WINDOW = 7
"""zea's default frames per window, without overlap."""
SIGNAL_RATES = (0.02, 0.95)
"""zea's default alpha at t = 1 and t = 0, for priors without their own schedule."""


class Level(NamedTuple):
    """Rates at the start and the end of a step."""

    alpha: Scalar
    sigma: Scalar
    alpha_next: Scalar
    sigma_next: Scalar


class State(NamedTuple):
    """State of the loop."""

    x: Video  # X_tau
    low_rank: Video  # L after this step
    signal: Video  # X_0|tau of this step
    background: Video  # L before this step


class Zea(eqx.Module):
    """The sampler of zea 0.1.8; use it with `ZEA_GAMMA`, `ZEA_WINDOW` and a prior of haze-free frames.

    - `omega`: weight of the misfit's norm.
    - `max_alpha`: largest weight of the background in the blend.
    - `n_steps`, `initial_step`: steps of the full schedule, and how many of them starting from Y skips.
    - `project`: replace pixels brighter than mid grey by the input (zea's `hard_project`).

    Raises InputError unless 0 <= initial_step < n_steps.
    """

    omega: float | Scalar = 1.0
    max_alpha: float | Scalar = 0.5
    n_steps: int = eqx.field(static=True, default=5000)
    initial_step: int = eqx.field(static=True, default=4500)
    project: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        if not 0 <= self.initial_step < self.n_steps:
            raise InputError(
                f"`initial_step` must be at least 0 and below `n_steps`, got {self.initial_step} of {self.n_steps}."
            )

    @classmethod
    def last_tenth(cls, steps: int = 500, *, project: bool = True) -> "Zea":
        """`steps` steps over the last tenth of the schedule; zea's default is 500."""
        return cls(n_steps=10 * steps, initial_step=9 * steps, project=project)

    def background_for(self, shape: tuple[int, int, int]) -> NuclearNorm:
        """p(L) of zea's examples, for any window `shape`."""
        return NuclearNorm(ZEA_GAMMA)

    @property
    def steps(self) -> int:
        """Denoiser passes per window."""
        return self.n_steps - self.initial_step

    def __call__(
        self, y: Video, prior: Prior, background: Background, *, key: PRNGKeyArray, start: Video | None = None
    ) -> Separation:
        """Separate one window of p frames, in [0, 1]; `start` is the warm start (default: Y, as in zea).

        Neither part is clipped. The trace is the root mean square of the blend's misfit at each step, in intensity.
        """
        return self.finish(y, self.sample(y, prior, background, key=key, start=start))

    @eqx.filter_jit
    def sample(
        self,
        y: Video,
        prior: Prior,
        background: Background,
        *,
        key: PRNGKeyArray,
        start: Video | None = None,
        noise: Video | None = None,
    ) -> Separation:
        """X_0 and L of the last step in [-1, 1], for a window `y` in [0, 1].

        X_tau starts at `start` (default: Y) plus standard normal `noise` (default: drawn from `key`).
        """
        noise = jax.random.normal(key, y.shape, y.dtype) if noise is None else noise
        target, first = 2 * y - 1, 2 * (y if start is None else start) - 1
        levels = self.schedule(prior)
        blank = jnp.zeros_like(y)
        state = State(levels.alpha[0] * first + levels.sigma[0] * noise, blank, blank, blank)

        def loop(state: State, inputs: tuple[Int[Array, ""], Level]) -> tuple[State, Scalar]:
            count, level = inputs
            report(count, self.steps)
            return self.step(target, prior, background, state, level, count / self.steps)

        end, misfit = jax.lax.scan(loop, state, (jnp.arange(self.steps), levels))
        return Separation(end.signal, end.background, misfit)

    def finish(self, y: Video, sampled: Separation) -> Separation:
        """The result zea returns for `sampled` (X_0 and L in [-1, 1]): tissue and haze in display intensity."""
        estimate = (sampled.signal + 1) / 2
        if self.project:
            signal = jnp.where(sampled.signal > 0, y, estimate)
            return Separation(signal, y - signal, sampled.trace)
        return Separation(estimate, y - (sampled.background + 1) / 2, sampled.trace)

    def schedule(self, prior: Prior) -> Level:
        """The rates before and after each step, each of shape (steps,)."""
        rates = SIGNAL_RATES
        if isinstance(prior, VariancePreserving):
            rates = (prior.min_signal_rate, prior.max_signal_rate)
        # as zea rounds to float32: in 1 - skipped, with skipped near 1, rounding costs t its last digits
        length = 1 / self.n_steps
        skipped = np.array([k * length for k in range(self.initial_step, self.n_steps)], np.float32)
        t = np.float32(1) - skipped
        with jax.ensure_compile_time_eval():
            start, end = jnp.arccos(jnp.float32(rates[1])), jnp.arccos(jnp.float32(rates[0]))

            def rates_at(t: np.ndarray) -> tuple[Array, Array]:
                angle = start + t * (end - start)
                return jnp.cos(angle), jnp.sin(angle)

            return Level(*rates_at(t), *rates_at(t - np.float32(length)))

    def step(
        self, target: Video, prior: Prior, background: Background, state: State, level: Level, progress: Scalar
    ) -> tuple[State, Scalar]:
        """One step; `target` is Y in [-1, 1], `progress` k / K. Also returns the misfit in display intensity."""
        blend = jnp.clip(progress, 0, self.max_alpha)
        signal, pull_back, noise = jax.vjp(lambda x: estimate(prior, x, level), state.x, has_aux=True)
        residual = target - ((1 - blend) * signal + blend * state.low_rank)
        norm = jnp.sqrt(jnp.sum(residual**2))
        ascent = self.omega * residual / jnp.where(norm > 0, norm, 1)
        (gradient,) = pull_back(-(1 - blend) * ascent)
        x = level.alpha_next * signal + level.sigma_next * noise - gradient
        low_rank = state.low_rank - (nuclear_gradient(background, state.low_rank) - blend * ascent)
        return State(x, low_rank, signal, state.low_rank), norm / (2 * residual.size**0.5)


def estimate(prior: Prior, x: Video, level: Level) -> tuple[Video, Video]:
    """X_0|tau and the noise in X_tau, both in [-1, 1]; a prior in [0, 1] denoises (X_tau / alpha + 1) / 2."""
    if isinstance(prior, VariancePreserving):
        noise = prior.predict_noise(x, level.sigma**2)
        return (x - level.sigma * noise) / level.alpha, noise
    signal = 2 * prior.denoise((x / level.alpha + 1) / 2, level.sigma / level.alpha / 2) - 1
    return signal, (x - level.alpha * signal) / level.sigma


def nuclear_gradient(background: Background, low_rank: Video) -> Video:
    """The gradient of gamma / p ||L||_*; at L = 0 as in zea, where LAPACK's singular vectors are the identity's."""
    frames = low_rank.shape[0]
    falling = jnp.diag(jnp.arange(frames, 0, -1, dtype=low_rank.dtype))
    matrix = low_rank.reshape(frames, -1)
    identity = jnp.zeros_like(matrix).at[:, :frames].set(falling[:, : matrix.shape[1]])
    start = jnp.where(jnp.any(matrix != 0), matrix, identity).reshape(low_rank.shape)
    return background.subgradient(start) / frames


def zea_windows(frames: int, size: int, overlap: int = 0) -> list[range]:
    """Windows of `size` frames; the last may be shorter, and is merged with its predecessor if below `size` / 2."""
    stride = size - overlap
    last = -(-max(frames - size, 0) // stride) * stride
    windows = [range(start, min(start + size, frames)) for start in range(0, last + 1, stride)]
    if len(windows) > 1 and 2 * len(windows[-1]) < size:
        windows[-2:] = [range(windows[-2].start, frames)]
    return windows


def separate_as_zea(
    video: VideoLike,
    prior: Prior,
    *,
    key: PRNGKeyArray,
    background: Background | None = None,
    sampler: Zea | None = None,
    window: int = ZEA_WINDOW,
    overlap: int = 0,
    noise: Sequence[Float[Array, "_ height width"]] | None = None,
    progress: Progress | None = None,
) -> Separation:
    """Separate a clip as zea does: `sample` with the sampler `Zea`, but with zea's windows.

    The last window may be shorter or longer, all windows start from Y, and frames in several windows are averaged
    before the projection.

    Args:
        video: (frames, height, width), display intensity in [0, 1].
        prior: p(X).
        key: random key of the initial noise.
        background: p(L); default: `NuclearNorm(ZEA_GAMMA)`.
        sampler: default: `Zea()`.
        window: frames separated together, at least 1.
        overlap: frames shared by neighbouring windows, at least 0 and below `window`.
        noise: initial noise of each window (`zea_windows`), instead of drawing it from `key`.

    Raises:
        InputError: as `sample`, or `overlap` is out of range.
    """
    if not 0 <= overlap < window:
        raise InputError(f"`overlap` must be at least 0 and below `window`, got {overlap} of {window}.")
    y = check_video(video)
    return joined(
        zea_parts(
            [np.asarray(y)],
            zea_windows(len(y), window, overlap),
            prior,
            key=key,
            background=background,
            sampler=sampler,
            noise=noise,
            progress=progress,
        )
    )


def zea_parts(
    blocks: Iterable[Float[np.ndarray, "_ height width"]],
    windows: Sequence[range],
    prior: Prior,
    *,
    key: PRNGKeyArray,
    background: Background | None = None,
    sampler: Zea | None = None,
    noise: Sequence[Float[Array, "_ height width"]] | None = None,
    progress: Progress | None = None,
    once: Once[Separation] | None = None,
) -> Iterator[Separation]:
    """`separate_as_zea` of a clip given as consecutive blocks of frames, in parts as its windows are finished."""
    sampler = Zea() if sampler is None else sampler
    background = NuclearNorm(ZEA_GAMMA) if background is None else background
    waiting = Queue()

    def solve(index: int, y: np.ndarray) -> Separation:
        first = None if noise is None else noise[index]
        return sampler.sample(jnp.asarray(y), prior, background, key=jax.random.fold_in(key, index), noise=first)

    seen = waiting.passing(blocks)
    for part in over_windows(seen, windows, solve, ramp=alike, once=once, progress=progress, steps=sampler.steps):
        (y,) = waiting.take(len(part.signal))
        yield sampler.finish(jnp.asarray(y), part)
