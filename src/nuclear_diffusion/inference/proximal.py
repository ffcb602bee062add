"""The default sampler: one denoiser pass a step, closed-form data step, singular value thresholding.

Algorithm 1 with every gradient step replaced by the minimiser or mean it was walking towards:

    lines 3-7   X <- E[X_0 | X_tau, Y, L]             one denoiser pass; the Gaussian likelihood folds in exactly
    lines 9-10  L <- prox of gamma ||L||_* / mu at Y - X, then L >= 0
    line  8     X_tau-1 <- X + sigma' noise
    in the end  X <- (1 - h') Y, h' the share of haze h = 1 - X / Y, both means over a speckle, made low-rank in time;
                little is none, much is all (`without_haze`)

A prior that has learned haze sees the clip mirrored in every other pass, where haze is haze and a heart a heart.
X is the mean of the last two passes: errors that depend on the side cancel in part, and it costs no further pass.
It also sees the clip `exposure` times as bright: lines 3-10 are of that one, and the share is as good for Y itself.

Held at one high noise level (`end` = `start`, the default) X_tau tells nothing that Y does not, and this is
expectation-maximisation for max_L p(L | Y): X is averaged over its posterior, L is maximised. Let `end` fall below
`start` and it is a diffusion that walks down to a sample. Either way the last step ends in a posterior mean.
"""

from typing import NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from nuclear_diffusion.inference.progress import report
from nuclear_diffusion.inference.result import Separation
from nuclear_diffusion.model import Additive, Background, Mixture, NuclearNorm, Prior
from nuclear_diffusion.model._checks import concrete, require_nonnegative, require_positive
from nuclear_diffusion.model.prior import given, knows_haze
from nuclear_diffusion.types import InputError, Scalar, Video

BLIND_START = 0.3
"""First noise level for a prior that knows nothing of haze: enough to lose the haze, not the anatomy."""

SAMPLE_END = 0.01
"""Last noise level of a walk to a sample or a mode: hardly visible, and denoised in the last step."""

BACKGROUND_NOISE = 0.02
"""Noise level (display intensity, or share of haze) that the default threshold on singular values is matched to."""


SPECKLE = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
"""Weights of neighbouring pixels in a mean over a speckle: binomial, a standard deviation of one pixel."""


def over_speckle(video: Video) -> Video:
    """Weighted mean of each pixel's 5 x 5 neighbours; what is outside the frame counts as 0."""
    height, width = video.shape[1:]
    around = jnp.pad(video, [(0, 0)] + 2 * [(len(SPECKLE) // 2,) * 2])
    rows = jnp.stack([weight * around[:, k : k + height] for k, weight in enumerate(SPECKLE)]).sum(0)
    return jnp.stack([weight * rows[:, :, k : k + width] for k, weight in enumerate(SPECKLE)]).sum(0)


def haze_share(y: Video, signal: Video) -> Video:
    """How much of a pixel is haze: h = 1 - X/Y in [0, 1]; 0 where Y is black or X is above Y, for haze only adds."""
    return jnp.clip(1 - signal / jnp.maximum(y, jnp.finfo(y.dtype).tiny), 0, 1) * (y > 0)


def without_haze(y: Video, share: Video, spare: float | Scalar, clear: float | Scalar) -> Video:
    """(1 - h') Y: the input's own speckle, less its haze. h' is 0 below a share of `spare`, 1 above `clear`:

        h' = (h - spare) / (clear - spare), within [0, 1]

    On a logarithmic grey scale the stronger of two echoes hides the other. Where it is not sure which one that is,
    E[X | Y] lies between the two: it dims tissue that is none the less there, and leaves some haze where nothing is.
    """
    return y * (1 - jnp.clip((share - spare) / (clear - spare), 0, 1))


def in_mirror(x: Video, turned: Bool[Array, ""]) -> Video:
    """M x, left and right exchanged, where `turned`; x where not."""
    return jnp.where(turned, x[..., ::-1], x)


class DataStep(Protocol):
    """How the likelihood N(target; X, I/mu) enters: an estimate of E[X_0 | x_sigma, target]."""

    def __call__(self, prior: Prior, x: Video, target: Video, sigma: Scalar, mu: Scalar) -> Video:
        """`x` is X_0 + sigma * noise, `target` is Y - L; at `mu` = 0 the target says nothing."""
        ...


class ExactPosterior(eqx.Module):
    """Two Gaussian observations of X_0 with identity operator merge into one; no approximation.

    P = 1/sigma^2 + mu,   z = (x/sigma^2 + mu (Y - L)) / P,   E[X_0 | x, Y, L] = D(z, P^(-1/2))
    """

    def __call__(self, prior: Prior, x: Video, target: Video, sigma: Scalar, mu: Scalar) -> Video:
        """One denoiser pass at the merged noise level."""
        precision = 1 / sigma**2 + mu
        merged = (x / sigma**2 + mu * target) / precision
        return prior.denoise(merged, precision**-0.5)


class ProximalPoint(eqx.Module):
    """Half-quadratic splitting (DiffPIR, Zhu et al. 2023, eq. 12): denoise, then a proximal step on the data.

    x0 = D(x, sigma),   argmin_X  mu/2 ||Y - L - X||^2 + 1/(2 r^2) ||X - x0||^2   with r = `trust` * sigma
    """

    trust: float | Scalar = 1.0

    def __check_init__(self):
        require_positive("trust", self.trust)

    def __call__(self, prior: Prior, x: Video, target: Video, sigma: Scalar, mu: Scalar) -> Video:
        """One denoiser pass at sigma, then a weighted mean."""
        x0 = prior.denoise(x, sigma)
        weight = 1 / (self.trust * sigma) ** 2
        return (weight * x0 + mu * target) / (weight + mu)


class State(NamedTuple):
    """What the next step needs."""

    x: Video
    """X_tau."""

    background: Video
    """L."""


class Proximal(eqx.Module):
    """Nuclear Diffusion by posterior means and proximal steps.

    - `mu`: precision of what neither signal nor low-rank background explains (eq. 8), 1 / intensity^2.
    - `start`: first noise level in display intensity. None: `sigma_max` for a prior that has learned haze, whose
      first pass is then E[X | Y]; `BLIND_START` for one that has not, a SeqDiff start from Y.
    - `end`: last noise level; None: `start`.
    - `fresh`: share of the noise variance drawn anew in a step; 0 is DDIM (deterministic), 1 ancestral.
    - `noise`: share of the noise that X_tau carries: 1 walks to a sample, 0 to a mode (see `mode`).
    - `steps`: denoiser passes a frame. The first one has no background to subtract, and so no data term.
    - `data`: the data step.
    - `mixture`: how X and L make up Y.
    - `detail`: which signal is reported in the end: at 0 the posterior mean, smooth where speckle cannot be foretold;
      at 1 Y less its share of haze, with Y's own speckle; in between a mean of both. The share of haze is that of the
      posterior mean where the prior has learned haze, that of L where it has not, in both cases of means over a
      speckle; of how it varies in time, the prox of the default p(L), see `background_for`, keeps few patterns.
    - `spare`, `clear`: shares of haze that are taken for none and for all, see `without_haze`. L stays as p(L) has
      it, so that the reported parts need not add up to Y.
    - `mirror`: whether a prior that has learned haze makes every other pass in the mirror, the last one not, and the
      estimate of X is the mean of the last two.
    - `exposure`: how many times as bright a prior that has learned haze sees the clip. It leaves haze that is unlike
      that of its training; of a brighter clip it takes more for haze (docs/decisions/0025). `mu`, noise levels, p(L)
      and `mixture` are of the brighter clip; all that is returned is as bright as `y`.
    - `nonnegative`: whether L >= 0 is imposed after the prox; without it L may also darken.
    """

    mu: float | Scalar = 10.0
    start: float | None = None
    end: float | None = None
    fresh: float | Scalar = 0.0
    noise: float | Scalar = 1.0
    data: DataStep = ExactPosterior()
    mixture: Mixture = Additive()
    detail: float | Scalar = 1.0
    spare: float | Scalar = 0.2
    clear: float | Scalar = 0.85
    exposure: float | Scalar = 1.25
    steps: int = eqx.field(static=True, default=2)
    mirror: bool = eqx.field(static=True, default=True)
    nonnegative: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        require_positive("mu", self.mu)
        require_positive("steps", self.steps)
        require_positive("exposure", self.exposure)
        for name in ("start", "end"):
            if getattr(self, name) is not None:
                require_positive(name, getattr(self, name))
        require_nonnegative("fresh", self.fresh)
        require_nonnegative("noise", self.noise)
        require_nonnegative("detail", self.detail)
        require_nonnegative("spare", self.spare)
        if (detail := concrete(self.detail)) is not None and (detail > 1).any():
            raise InputError(f"`detail` must be at most 1, got {self.detail}.")
        spare, clear = concrete(self.spare), concrete(self.clear)
        if spare is not None and clear is not None and not (spare < clear).all():
            raise InputError(f"`clear` must be above {self.spare} (`spare`), got {self.clear}.")
        if self.start is not None and self.end is not None and self.end > self.start:
            raise InputError(f"`end` must be at most `start`, {self.start}, got {self.end}.")

    @classmethod
    def sample(cls, *, mu: float | Scalar = 10.0, steps: int = 24) -> "Proximal":
        """A walk down to one draw of X from its posterior given Y and the L found on the way."""
        return cls(mu=mu, end=SAMPLE_END, fresh=1.0, detail=0.0, mirror=False, exposure=1.0, steps=steps)

    @classmethod
    def mode(cls, *, mu: float | Scalar = 10.0, steps: int = 24) -> "Proximal":
        """A walk to a mode of X's posterior: annealed mean shift.

        Without noise in X_tau a step is x <- E[X_0 | x, Y, L], which is uphill on the density of X_tau given Y and L
        (Tweedie), a density that is smoothed less and less.
        """
        return cls(mu=mu, end=SAMPLE_END, noise=0.0, detail=0.0, mirror=False, exposure=1.0, steps=steps)

    def background_for(self, shape: tuple[int, int, int]) -> NuclearNorm:
        """p(L) for a window of `shape` = (p, height, width): a static part, and variation just above white noise.

        What stands still costs nothing. A threshold on it too takes a little of the static haze away at every step,
        which the next estimate of X takes for tissue, and so on: the longer it iterates, the hazier the result
        (docs/decisions/0006). Of what varies, the threshold gamma / mu takes what noise of `BACKGROUND_NOISE` has.

        The largest singular value of n x p white noise of standard deviation s is about s (sqrt(n) + sqrt(p)).
        """
        frames, height, width = shape
        gamma = self.mu * BACKGROUND_NOISE * ((height * width) ** 0.5 + frames**0.5)
        return NuclearNorm(gamma, static_is_free=True)

    def levels(self, prior: Prior) -> Float[Array, " steps"]:
        """Noise levels, geometric from `start` to `end`, inside the prior's range."""
        start = (prior.sigma_max if knows_haze(prior) else BLIND_START) if self.start is None else self.start
        end = start if self.end is None else self.end
        return jnp.clip(jnp.geomspace(start, end, self.steps), prior.sigma_min, prior.sigma_max)

    def step(
        self,
        key: PRNGKeyArray,
        y: Video,
        state: State,
        level: tuple[Scalar, Scalar, Scalar, Bool[Array, ""]],
        prior: Prior,
        background: Background,
    ) -> tuple[State, Video]:
        """One `level` (sigma, next sigma, mu, turned): X given L, L given X, X_tau at the next. Also returns X."""
        sigma, sigma_next, mu, turned = level
        # lines 3-7; where Y is black in every frame there is neither tissue nor haze, where it is above 1 there may be
        target = self.mixture.signal(y, state.background)
        seen, x_tau, y_less_l = (in_mirror(video, turned) for video in (y, state.x, target))
        x0 = in_mirror(self.data(given(prior, seen), x_tau, y_less_l, sigma, mu), turned)
        x0 = jnp.clip(x0, 0, jnp.maximum(1, y)) * jnp.any(y > 0, axis=0)
        # lines 9-10: prox, then projection (not the prox of their sum, which has no closed form)
        low_rank = background.prox(self.mixture.background(y, x0), 1 / self.mu)
        low_rank = jnp.maximum(low_rank, 0) if self.nonnegative else low_rank
        # line 8, with the noise that the denoiser saw and `fresh` noise
        noise = (state.x - x0) / sigma
        drawn = jax.random.normal(key, y.shape, y.dtype)
        x = x0 + self.noise * sigma_next * (jnp.sqrt(1 - self.fresh) * noise + jnp.sqrt(self.fresh) * drawn)
        return State(x, low_rank), x0

    @eqx.filter_jit
    def __call__(
        self, y: Video, prior: Prior, background: Background, *, key: PRNGKeyArray, start: Video | None = None
    ) -> Separation:
        """Separate one window `y` (frames, height, width) in [0, 1].

        X_tau starts at `start` (SeqDiff; None: `y`) plus noise. `trace`: root mean square of Y - X - L after each step.
        """
        sigmas = self.levels(prior)
        first, *_ = keys = jax.random.split(key, self.steps + 1)
        exposure = self.exposure if knows_haze(prior) else 1.0
        bright = exposure * y
        x = bright if start is None else exposure * start
        x += self.noise * sigmas[0] * jax.random.normal(first, y.shape, y.dtype)
        mirror = self.mirror and knows_haze(prior) and self.steps > 1

        def body(state: tuple[State, Video, Video], inputs) -> tuple[tuple[State, Video, Video], Scalar]:
            k, key, *level = inputs
            report(k)
            before, last, _ = state
            after, x0 = self.step(key, bright, before, tuple(level), prior, background)
            return (after, x0, last), jnp.sqrt(jnp.mean((bright - x0 - after.background) ** 2)) / exposure

        precisions = jnp.full(self.steps, self.mu, y.dtype).at[0].set(0)
        turned = mirror & (jnp.arange(self.steps)[::-1] % 2 == 1)
        inputs = (jnp.arange(self.steps), keys[1:], sigmas, jnp.append(sigmas[1:], 0), precisions, turned)
        (state, x0, before), trace = jax.lax.scan(body, (State(x, jnp.zeros_like(y)), bright, bright), inputs)
        x0 = (x0 + before) / 2 if mirror else x0
        signal = x0 if knows_haze(prior) else self.mixture.signal(bright, state.background)
        frames, height, width = y.shape
        steady = self.background_for((frames, height, width))
        # of means over a speckle: of single pixels the dark ones between speckles would seem to be haze
        share = haze_share(over_speckle(bright), over_speckle(jnp.clip(signal, 0, bright)))
        share = steady.prox(share, 1 / self.mu)
        kept = without_haze(y, share, self.spare, self.clear)
        signal = (1 - self.detail) * jnp.minimum(x0 / exposure, 1) + self.detail * kept
        return Separation(signal, state.background / exposure, trace)
