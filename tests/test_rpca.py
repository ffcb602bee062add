"""Robust PCA: exact recovery, optimality conditions, and a NumPy solver written from the papers."""

import jax.numpy as jnp
import numpy as np
import pytest

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.paper.nuclear_norm import NuclearNorm
from nuclear_diffusion.paper.rpca import robust_pca, robust_pca_lagrangian


def low_rank_plus_sparse(frames=40, side=16, rank=2, density=0.05, seed=0):
    rng = np.random.default_rng(seed)
    background = np.einsum("pr,rhw->phw", rng.normal(size=(frames, rank)), rng.normal(size=(rank, side, side)))
    support = rng.random(background.shape) < density
    return background, np.where(support, rng.choice([-1.0, 1.0], background.shape) * rng.uniform(2, 5), 0)


def shrink(v, threshold):
    return np.sign(v) * np.maximum(np.abs(v) - threshold, 0)


def shrink_spectrum(v, threshold):
    left, values, right = np.linalg.svd(v, full_matrices=False)
    return (left * shrink(values, threshold)) @ right


def inexact_alm(d, lam, tol=1e-7):
    """Lin, Chen, Ma 2010, Algorithm 5, with a float64 SVD of the whole matrix."""
    spectral = np.linalg.norm(d, 2)
    multiplier = d / max(spectral, np.abs(d).max() / lam)
    mu = mu_first = 1.25 / spectral
    low, iterations = np.zeros_like(d), 0
    while True:
        sparse = shrink(d - low + multiplier / mu, lam / mu)
        low = shrink_spectrum(d - sparse + multiplier / mu, 1 / mu)
        residual = d - low - sparse
        multiplier = multiplier + mu * residual
        mu = min(1.5 * mu, 1e7 * mu_first)
        iterations += 1
        if np.linalg.norm(residual) < tol * np.linalg.norm(d):
            return low, sparse, iterations


def test_principal_component_pursuit_recovers_both_parts():
    """Candes et al. 2011, Theorem 1.1: low-rank and sparse parts are recovered exactly with lam = 1/sqrt(max(n, p))."""
    background, signal = low_rank_plus_sparse(frames=64, side=12)
    found = robust_pca(background + signal)
    assert np.linalg.norm(found.background - background) < 1e-5 * np.linalg.norm(background)
    assert np.linalg.norm(found.signal - signal) < 1e-5 * np.linalg.norm(signal)


def test_principal_component_pursuit_follows_the_published_iteration():
    background, signal = low_rank_plus_sparse(frames=12, side=8)
    y, lam = background + signal, 0.2
    low, sparse, iterations = inexact_alm(y.reshape(12, -1), lam)
    found = robust_pca(y, lam)
    assert len(found.trace) == iterations
    np.testing.assert_allclose(found.background.reshape(12, -1), low, atol=1e-5)
    np.testing.assert_allclose(found.signal.reshape(12, -1), sparse, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_principal_component_pursuit_reaches_its_tolerance_on_any_clip(seed):
    """Uniform noise is neither low-rank nor sparse; the constraint Y = L + X must hold all the same."""
    y = np.random.default_rng(seed).random((9, 20, 20)).astype(np.float32)
    found = robust_pca(y)
    assert float(found.trace[-1]) < 1e-7
    assert np.linalg.norm(found.signal + found.background - y) < 2e-7 * np.linalg.norm(y)
    assert found.signal.dtype == found.background.dtype == np.float32


@pytest.mark.parametrize(("lam", "gamma", "mu"), [(0.1, 1.0, 1.0), (0.3, 2.0, 5.0), (0.05, 0.5, 0.5)])
def test_lagrangian_form_meets_the_kkt_conditions(lam, gamma, mu):
    """R = mu (Y - L - X) must be in lam d||X||_1 and in gamma d||L||_*, both at once."""
    background, signal = low_rank_plus_sparse(frames=15, side=10)
    y = background + signal + 0.05 * np.random.default_rng(5).normal(size=signal.shape)
    found = robust_pca_lagrangian(y, lam, NuclearNorm(gamma), mu=mu)
    x, low = (np.asarray(part, np.float64).reshape(15, -1) for part in (found.signal, found.background))
    r = mu * (y.reshape(15, -1) - low - x)
    assert 0 < (x != 0).mean() < 1
    assert np.abs(r).max() <= lam + 1e-4
    np.testing.assert_allclose(r[x != 0], lam * np.sign(x[x != 0]), atol=1e-4)
    assert np.linalg.norm(r, 2) <= gamma + 1e-3
    left, values, right = np.linalg.svd(low, full_matrices=False)
    rank = (values > 1e-4).sum()
    assert 0 < rank < 15
    aligned = left[:, :rank].T @ r @ right[:rank].T
    np.testing.assert_allclose(aligned, gamma * np.eye(rank), atol=1e-3)


def test_lagrangian_form_has_the_cost_of_plain_alternation():
    background, signal = low_rank_plus_sparse(frames=10, side=8)
    y, lam, mu = (background + signal).reshape(10, -1), 0.15, 2.0
    x = low = np.zeros_like(y)
    for _ in range(3000):
        x = shrink(y - low, lam / mu)
        low = shrink_spectrum(y - x, 1 / mu)
    found = robust_pca_lagrangian(y.reshape(10, 8, 8), lam, mu=mu)

    def cost(x, low):
        nuclear = np.linalg.svd(low, compute_uv=False).sum()
        return nuclear + lam * np.abs(x).sum() + mu / 2 * ((y - low - x) ** 2).sum()

    parts = (np.asarray(part, np.float64).reshape(10, -1) for part in (found.signal, found.background))
    assert cost(*parts) == pytest.approx(cost(x, low), rel=1e-6)


def test_scalar_case_by_hand():
    """One pixel, one frame: |l| + lam |x| + mu/2 (y - l - x)^2 with lam < 1 puts all in x = y - lam/mu."""
    found = robust_pca_lagrangian(np.full((1, 1, 1), 2.0), 0.5, mu=4.0)
    assert float(found.signal.item()) == pytest.approx(2 - 0.5 / 4, abs=1e-6)
    assert float(found.background.item()) == 0


def test_black_and_identical_frames():
    black = robust_pca(np.zeros((5, 4, 4)))
    assert not black.signal.any()
    assert not black.background.any()
    frame = np.random.default_rng(0).uniform(0.2, 0.8, (1, 8, 8))
    still = robust_pca(np.repeat(frame, 20, axis=0))
    np.testing.assert_allclose(still.background, np.repeat(frame, 20, axis=0), atol=1e-6)


def test_float64_stays_inside():
    robust_pca(np.random.default_rng(0).random((3, 4, 4)))
    assert jnp.asarray(1.0).dtype == jnp.float32


def test_new_settings_do_not_recompile():
    traced = []

    class Traced(NuclearNorm):
        def prox(self, v, step=1.0):
            traced.append(step)
            return super().prox(v, step)

    y = np.random.default_rng(0).random((4, 5, 5))
    robust_pca(y, 0.3, Traced(1.0))
    once = len(traced)
    assert once > 0
    robust_pca(y, jnp.asarray(0.2), Traced(0.9))
    robust_pca(y, 0.25, Traced(jnp.asarray(0.8)), tol=1e-5)
    assert len(traced) == once


@pytest.mark.parametrize("settings", [{"lam": 0.0}, {"lam": -1.0}, {"tol": 0.0}, {"max_iter": 0}, {"lam": np.nan}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        robust_pca(np.ones((2, 3, 3)), **settings)


def test_clips_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="NaN"):
        robust_pca(np.full((2, 3, 3), np.nan))


def test_too_few_iterations_are_said():
    with pytest.warns(UserWarning, match="stopped after 2 iterations"):
        robust_pca(np.random.default_rng(0).random((4, 5, 5)), max_iter=2)
