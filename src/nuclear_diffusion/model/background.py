"""Candidates for p(L) beside the plain nuclear norm, all through their proximal map."""

from typing import Protocol

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from nuclear_diffusion.model._checks import require_nonnegative, require_positive
from nuclear_diffusion.model.nuclear_norm import NuclearNorm, singular_values
from nuclear_diffusion.model.prior import Prior
from nuclear_diffusion.types import Scalar, Video


class Background(Protocol):
    """What the default sampler asks of p(L)."""

    def prox(self, v: Video, step: float | Scalar = 1.0) -> Video:
        """argmin_L  -step log p(L) + 1/2 ||L - v||_F^2."""
        ...


def fitted_gamma(background: Video) -> Scalar:
    """The gamma under which `background` is most probable: n p / ||L||_*.

    ||.||_* is a norm on R^(n p), so p(L) = gamma^(n p) exp(-gamma ||L||_*) / const, which is greatest there.
    """
    return background.size / jnp.maximum(singular_values(background).sum(), jnp.finfo(background.dtype).tiny)


class FittedNuclearNorm(eqx.Module):
    """p(L | gamma) with gamma estimated from the clip, together with L: nobody has to tune it for a scanner.

    Alternates the prox and `fitted_gamma`, from the gamma of `v` itself, which only grows: the threshold
    gamma noise^2 rises until the singular values left balance it. It ends at 0 where nothing stands out of the noise.

    - `noise`: standard deviation of what neither part explains, display intensity; stands in for `step`, as the
      precision of a sampler that also holds what X does not know is no noise level.
    - `rounds`: alternations.
    """

    noise: float | Scalar = 0.03
    rounds: int = eqx.field(static=True, default=8)

    def __check_init__(self):
        require_positive("noise", self.noise)
        require_positive("rounds", self.rounds)

    def prox(self, v: Video, step: float | Scalar = 1.0) -> Video:
        """The prox of the nuclear norm at the gamma found."""
        return NuclearNorm(self.gamma(v)).prox(v, self.noise**2)

    def gamma(self, v: Video) -> Scalar:
        """The gamma that L and `v` agree on."""
        values = singular_values(v)

        def fit(_: int, left: Float[Array, " rank"]) -> Float[Array, " rank"]:
            gamma = v.size / jnp.maximum(left.sum(), 1e-12)
            return jnp.maximum(values - gamma * self.noise**2, 0)

        left = lax.fori_loop(0, self.rounds, fit, values)
        return v.size / jnp.maximum(left.sum(), 1e-12)


class LearnedBackground(eqx.Module):
    """p(L) as a product of what haze looks like in a frame, learned, and how it behaves over time: the nuclear norm.

    The step after the paper: two learned priors, one for each part (Stevens et al. 2023, arXiv 2302.05290, whose
    structured noise has a diffusion prior of its own). As the product's prox has no closed form, the two are taken one
    after the other (plug-and-play splitting): a denoiser pass, which is the posterior mean under Gaussian noise, then
    singular value thresholding.

    - `prior`: a denoiser of haze frames, 0 where there is none.
    - `noise`: level the denoiser is told, display intensity.
    - `over_time`: p(L) over time.
    """

    prior: Prior
    over_time: NuclearNorm
    noise: float | Scalar = 0.1

    def __check_init__(self):
        require_positive("noise", self.noise)

    def prox(self, v: Video, step: float | Scalar = 1.0) -> Video:
        """One pass of the haze's denoiser, then the prox of `over_time`."""
        return self.over_time.prox(self.prior.denoise(v, self.noise), step)


class SmoothBackground(eqx.Module):
    """A background of few patterns that are smooth at the scale of a point-spread function.

    - `over_time`: p(L) over time.
    - `width`: standard deviation of the smoothing, pixels; 0 for none.
    """

    over_time: NuclearNorm
    width: float | Scalar = 1.5

    def __check_init__(self):
        require_nonnegative("width", self.width)

    def prox(self, v: Video, step: float | Scalar = 1.0) -> Video:
        """Gaussian smoothing of every frame, which commutes with it, after the prox of `over_time`.

        Minimises step p(L) + 1/2 ||L - v||^2 over smooth L in the limit of an ideal low-pass, a projection.
        """
        low_rank = self.over_time.prox(v, step)
        height, width = v.shape[1:]
        rows, columns = (jnp.fft.fftfreq(2 * height), jnp.fft.rfftfreq(2 * width))
        damping = jnp.exp(-2 * (jnp.pi * self.width) ** 2 * (rows[:, None] ** 2 + columns**2))
        # mirrored at the border, so that nothing wraps round
        mirrored = jnp.pad(low_rank, ((0, 0), (0, height), (0, width)), mode="symmetric")
        return jnp.fft.irfft2(jnp.fft.rfft2(mirrored) * damping, s=(2 * height, 2 * width))[:, :height, :width]
