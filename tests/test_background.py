"""Another p(L): a ridge, whose answers are known in closed form, in every solver that takes a background."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nuclear_diffusion.paper.algorithm1 import Algorithm1, cosine_sigmas, proximal_step, subgradient_step
from nuclear_diffusion.paper.em import EM
from nuclear_diffusion.paper.gaussian import Gaussian
from nuclear_diffusion.paper.nuclear_norm import Background
from nuclear_diffusion.paper.rpca import robust_pca, robust_pca_lagrangian
from nuclear_diffusion.restore.background import Completion
from nuclear_diffusion.restore.draws import SplitGibbs
from nuclear_diffusion.restore.estimate import estimate_from
from nuclear_diffusion.types import Scalar

RHO = 3.0


@dataclasses.dataclass(frozen=True)
class Ridge:
    """f(L) = rho/2 ||L||^2, as a plain object, which `jit` takes for a constant; `Gaussian` is the same as a pytree."""

    rho: float

    def __call__(self, background):
        return self.rho / 2 * (background**2).sum()

    def prox(self, v, step: float | Scalar = 1.0):
        return v / (1 + step * self.rho)

    def subgradient(self, background):
        return self.rho * background


@pytest.fixture(params=[Ridge, Gaussian])
def ridge(request) -> Background:
    return request.param(RHO)


def clip(seed: int = 0, frames: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.1, 1, (frames, 8, 8)).astype(np.float32)


def test_robust_pca_thresholds_each_pixel(ridge):
    """Min lam |x| + rho/2 (y - x)^2 is soft thresholding at lam / rho; the growing penalty stops within 1 % of it."""
    y, lam = clip(), 1.5
    found = robust_pca(y, lam, ridge)
    expected = np.maximum(y - lam / RHO, 0)
    assert 0.2 < (expected > 0).mean() < 0.8
    np.testing.assert_allclose(found.signal, expected, atol=0.01)
    np.testing.assert_allclose(found.background, y - expected, atol=0.01)


def test_its_map_estimate_thresholds_further_in(ridge):
    """With L minimised out, min lam |x| + k/2 (y - x)^2 with 1/k = 1/rho + 1/mu."""
    y, lam, mu = clip(), 0.8, 6.0
    found = robust_pca_lagrangian(y, lam, ridge, mu=mu)
    signal = np.maximum(y - lam * (1 / RHO + 1 / mu), 0)
    assert 0.2 < (signal > 0).mean() < 0.8
    np.testing.assert_allclose(found.signal, signal, atol=1e-5)
    np.testing.assert_allclose(found.background, mu / (mu + RHO) * (y - signal), atol=1e-5)


def test_em_finds_the_mode_of_a_sum_of_three_gaussians(ridge):
    """Y = X + L + noise of variances 1/c, 1/rho and 1/mu: each takes its share of Y - m."""
    y, c, mu, m = clip(), 20.0, 40.0, 0.05
    found = EM(mu=mu, steps=60, background=ridge)(jnp.asarray(y), Gaussian(c, m))
    whole = (y - m) / (1 / c + 1 / RHO + 1 / mu)
    np.testing.assert_allclose(found.background, whole / RHO, atol=1e-4)
    np.testing.assert_allclose(found.signal, m + whole / c, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("update", [subgradient_step, proximal_step])
def test_algorithm_1_finds_the_mode_where_the_signal_is_known(ridge, update):
    """Min rho/2 ||L||^2 + mu/2 ||Y - X - L||^2."""
    signal, rest, mu = clip(1), clip(2), 4.0
    sampler = Algorithm1(mu, 0.0, 0.1, sigmas=cosine_sigmas(60), background_update=update)
    known = Gaussian(1e8, jnp.asarray(signal))
    found = sampler(jnp.asarray(signal + rest), known, ridge, key=jax.random.key(0))
    np.testing.assert_allclose(found.background, mu / (mu + RHO) * rest, atol=1e-3)


def test_completion_weighs_each_pixel(ridge):
    """Min w/2 (d - l)^2 + (ridge + rho)/2 l^2."""
    haze, weights = clip(3), clip(4)
    found, _ = Completion(ridge=0.1, steps=60, background=ridge)(jnp.asarray(haze), jnp.asarray(weights))
    np.testing.assert_allclose(found, weights * haze / (weights + 0.1 + RHO), atol=1e-5)


@pytest.mark.slow
def test_the_default_estimate_takes_the_background_of_its_completion():
    y, completion = jnp.full((4, 16, 16), 0.5), Completion(ridge=0.0, steps=60, background=Ridge(RHO))
    found = eqx.filter_jit(estimate_from)(y, jnp.zeros_like(y), completion)
    np.testing.assert_allclose(found.background[:, 6:-6, 6:-6], 0.5 / (1 + RHO), atol=1e-4)


@pytest.mark.slow
def test_gibbs_draws_have_the_posterior_s_mean_and_spread(ridge):
    """L given Y - X = t is N(mu t / (mu + rho), 1 / (mu + rho))."""
    mu, target = 5.0, jnp.asarray(clip(5, frames=40))
    sampler = SplitGibbs(mu=mu, moves=200, stride=0.02)
    low_rank, accepted = jax.jit(lambda key: sampler.draw_background(key, ridge, target, target))(jax.random.key(0))
    left = np.asarray(low_rank) - mu / (mu + RHO) * np.asarray(target)
    assert accepted > 0.5
    assert abs(left.mean()) < 4 / np.sqrt((mu + RHO) * left.size)
    assert left.std() == pytest.approx((mu + RHO) ** -0.5, rel=0.1)
