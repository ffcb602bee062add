"""Algorithm 1 against NumPy written from the paper's lines, and against Gaussian priors solved by hand."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.paper.algorithm1 import (
    PAPER_GAMMA,
    PAPER_WINDOW,
    Algorithm1,
    State,
    cosine_sigmas,
    ddim,
    fresh_noise,
    proximal_step,
    subgradient_step,
    wrt_estimate,
    wrt_state,
)
from nuclear_diffusion.paper.gaussian import Gaussian
from nuclear_diffusion.paper.nuclear_norm import NuclearNorm

SHAPE = (4, 6, 5)


def random_state(seed=0):
    rng = np.random.default_rng(seed)
    y, x, signal, background = rng.random((4, *SHAPE)).astype(np.float32)
    return y, State(jnp.asarray(x), jnp.asarray(signal), jnp.asarray(background))


def paper_step(y, x, low, alpha, sigma, alpha_next, sigma_next, noise, *, mu, gamma, s_x, s_l, choices):
    """Lines 3-10 in the paper's variables: X_tau = alpha_tau X_0 + sigma_tau eps, columns are frames.

    The toy network predicts eps for p(X) = N(0.4, 1/5): it knows the posterior mean in closed form.
    """
    data_gradient, renoise, update = choices
    y, x, low, noise = (v.reshape(len(v), -1).T.astype(np.float64) for v in (y, x, low, noise))
    slope = 1 / (1 + 5 * (sigma / alpha) ** 2)  # of the posterior mean in X_tau / alpha
    x_tau = alpha * x
    epsilon = (x_tau - alpha * (slope * x_tau / alpha + (1 - slope) * 0.4)) / sigma  # line 3
    x0 = (x_tau - sigma * epsilon) / alpha  # lines 4-5, eq. 4
    gradient = -mu * (y - low - x0)  # line 6
    move = gradient if data_gradient is wrt_estimate else slope * gradient  # chain rule through x0(x)
    x0_moved = x0 - s_x * move  # line 7
    x_next = alpha_next * x0_moved + sigma_next * (noise if renoise is fresh_noise else epsilon)  # line 8
    if update is subgradient_step:  # lines 9-10
        left, _, right = np.linalg.svd(low, full_matrices=False)
        low_next = low - s_l * (gradient + gamma * left @ right)
    else:
        left, values, right = np.linalg.svd(low - s_l * gradient, full_matrices=False)
        low_next = (left * np.maximum(values - s_l * gamma, 0)) @ right
    return (v.T.reshape(SHAPE) for v in (x_next / alpha_next, x0_moved, low_next))


@pytest.mark.slow
@pytest.mark.parametrize("data_gradient", [wrt_estimate, wrt_state])
@pytest.mark.parametrize("renoise", [fresh_noise, ddim])
@pytest.mark.parametrize("update", [subgradient_step, proximal_step])
def test_one_step_is_the_papers_lines(data_gradient, renoise, update):
    y, state = random_state()
    angle, angle_next = 0.44, 0.43
    alpha, sigma, alpha_next, sigma_next = np.cos(angle), np.sin(angle), np.cos(angle_next), np.sin(angle_next)
    key = jax.random.key(7)
    settings = {"mu": 2.0, "s_x": 0.3, "s_l": 0.15}
    sampler = Algorithm1(2.0, 0.3, 0.15, data_gradient=data_gradient, renoise=renoise, background_update=update)
    found, misfit = sampler.step(
        jnp.asarray(y),
        Gaussian(5.0, 0.4),
        NuclearNorm(0.7),
        state,
        jnp.asarray(sigma / alpha, jnp.float32),
        jnp.asarray(sigma_next / alpha_next, jnp.float32),
        key=key,
    )
    noise = np.asarray(jax.random.normal(key, SHAPE))
    x, low = np.asarray(state.x), np.asarray(state.background)
    choices = (data_gradient, renoise, update)
    expected = paper_step(
        y, x, low, alpha, sigma, alpha_next, sigma_next, noise, gamma=0.7, choices=choices, **settings
    )
    for part, value in zip(found, expected, strict=True):
        np.testing.assert_allclose(part, value, atol=5e-6)
    slope = 1 / (1 + 5 * (sigma / alpha) ** 2)
    residual = y - low - (slope * x + (1 - slope) * 0.4)
    assert float(misfit) == pytest.approx(np.sqrt((residual**2).mean()), rel=1e-5)


@pytest.mark.parametrize(("signal_step", "background_step"), [(0.1, 0.1), (0.25, 0.25), (0.2, 0.6), (0.9, 0.05)])
def test_residual_is_multiplied_by_one_minus_mu_times_both_steps(signal_step, background_step):
    """With a prior that says nothing, D(x) = x, DDIM and gamma = 0, line 7 and line 10 are all that happens."""
    steps = (jnp.float32(signal_step), jnp.float32(background_step))  # as arrays: one program for all cases
    sampler = Algorithm1(2.0, *steps, sigmas=jnp.full(4, 0.2), renoise=ddim)
    y = jax.random.uniform(jax.random.key(0), SHAPE)
    trace = sampler(y, Gaussian(1e-9), NuclearNorm(0.0), key=jax.random.key(1)).trace
    factor = abs(1 - 2.0 * (signal_step + background_step))
    np.testing.assert_allclose(trace[1:], factor * trace[:-1], rtol=1e-3, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("renoise", [fresh_noise, ddim])
def test_the_print_with_unit_steps_diverges(renoise):
    """mu = 2, gamma = 1, unit steps: the misfit triples every step, and the paper's 500 steps overflow."""
    y = jax.random.uniform(jax.random.key(0), (PAPER_WINDOW, 6, 5))
    literal = Algorithm1(2.0, 1.0, 1.0, renoise=renoise, allow_divergence=True)
    trace = literal(y, Gaussian(1e-9), NuclearNorm(PAPER_GAMMA), key=jax.random.key(1)).trace
    np.testing.assert_allclose(trace[11:40] / trace[10:39], 3, rtol=0.02)
    assert len(trace) == 500
    assert not jnp.isfinite(trace[-1])


@pytest.mark.parametrize(
    "settings", [(2.0, 1.0, 1.0), (2.0, 0.5, 0.5), (2.0, 1.0, 0.0), (jnp.asarray(4.0), 0.3, 0.3), (2.0, np.nan, 0.1)]
)
def test_settings_that_must_diverge_are_refused(settings):
    with pytest.raises(InputError, match=r"must be (below|above)"):
        Algorithm1(*settings)


def test_refusal_says_by_how_much():
    with pytest.raises(InputError, match="multiplied by -3 per step and diverge"):
        Algorithm1(2.0, 1.0, 1.0)


@pytest.mark.parametrize("confidence", np.linspace(0, 1, 6))
def test_no_prior_breaks_the_bound_on_the_steps(confidence):
    """X <- c (X + a r), L <- L + b r, r = -L - X contracts for every slope c of the denoiser when a + b < 2."""
    for a, b in [(1.9, 0.05), (0.05, 1.9), (0.95, 0.95), (0.5, 0.5), (1.0, 0.1)]:
        c = min(confidence, 1 - 1e-6)
        step = np.array([[c * (1 - a), -c * a], [-b, 1 - b]])
        assert np.abs(np.linalg.eigvals(step)).max() < 1


def test_papers_schedule():
    """tau' = T/10 of the angle schedule: sigma/alpha from 0.472 to 0.329 in [-1, 1], half of it in [0, 1]."""
    sigmas = cosine_sigmas()
    assert sigmas.shape == (501,)
    assert float(sigmas[0]) == pytest.approx(0.472 / 2, abs=3e-4)
    assert float(sigmas[-1]) == pytest.approx(np.sqrt(1 / 0.95**2 - 1) / 2, rel=1e-5)
    np.testing.assert_allclose(np.diff(np.arctan(2 * np.asarray(sigmas, np.float64)), 2), 0, atol=1e-6)
    full = cosine_sigmas(50, start=1.0)
    assert float(full[0]) == pytest.approx(np.sqrt(1 / 0.02**2 - 1) / 2, rel=1e-3)


def test_papers_settings_run_and_stay_finite():
    sampler = Algorithm1.paper()
    assert (PAPER_GAMMA, PAPER_WINDOW, sampler.mu, sampler.steps) == (1.0, 7, 2.0, 500)
    assert 1.8 < sampler.mu * (sampler.signal_step + sampler.background_step) < 2
    y = jax.random.uniform(jax.random.key(0), (PAPER_WINDOW, 8, 8))
    found = sampler(y, Gaussian(25.0, 0.3), NuclearNorm(PAPER_GAMMA), key=jax.random.key(1))
    assert found.trace.shape == (500,)
    assert float(found.trace.max()) < 1
    assert found.signal.shape == found.background.shape == y.shape


@pytest.mark.slow
def test_ddim_keeps_the_priors_variance_and_fresh_noise_loses_half():
    """No data term, D(x) = c x. DDIM: V <- (c + r (1 - c))^2 V with r the ratio of the noise levels, nearly v at last.

    Fresh noise: V <- c^2 V + sigma^2, which tends to v / 2.
    """
    v, sigmas = 0.04, np.geomspace(4, 0.01, 100)
    y = jnp.zeros((2, 128, 128))  # few frames: their singular values cost little
    spread = {}
    for renoise in (ddim, fresh_noise):
        sampler = Algorithm1(1.0, 0.0, 0.0, sigmas=jnp.asarray(sigmas, jnp.float32), renoise=renoise)
        key = jax.random.key(2, impl="rbg")  # quicker than the default
        spread[renoise] = float(sampler(y, Gaussian(1 / v), NuclearNorm(), key=key).signal.var())
    variance, estimate = dict.fromkeys(spread, sigmas[0] ** 2), {}
    for sigma, sigma_next in pairwise(sigmas):
        c = v / (v + sigma**2)
        estimate = {renoise: c**2 * variance[renoise] for renoise in spread}
        variance[ddim] *= (c + sigma_next / sigma * (1 - c)) ** 2
        variance[fresh_noise] = estimate[fresh_noise] + sigma_next**2
    assert spread == pytest.approx(estimate, rel=0.02)
    assert spread[ddim] == pytest.approx(v, rel=0.06)
    assert 0.45 * v < spread[fresh_noise] < 0.6 * v


def test_mean_approaches_the_gaussian_posterior_mean():
    """At constant sigma, L = 0 and s_x = sigma^2 / (1 + (precision + mu) sigma^2): the mean over the chain's noise."""
    precision, mean, mu, sigma = 20.0, 0.3, 30.0, 0.2
    step = sigma**2 / (1 + (precision + mu) * sigma**2)
    y = jnp.full((2, 128, 128), 0.8)
    sampler = Algorithm1(mu, step, 0.0, sigmas=jnp.full(60, sigma))
    found = sampler(y, Gaussian(precision, mean), NuclearNorm(), key=jax.random.key(3))
    posterior = (precision * mean + mu * 0.8) / (precision + mu)
    assert float(found.signal.mean()) == pytest.approx(posterior, abs=2e-3)
    assert abs(0.8 - posterior) > 0.1  # neither the data
    assert abs(mean - posterior) > 0.1  # nor the prior alone would pass


@pytest.mark.slow
@pytest.mark.parametrize("update", [subgradient_step, proximal_step])
def test_background_converges_to_its_map_estimate_where_the_signal_is_known(update):
    """With X pinned by its prior, lines 9-10 minimise gamma ||L||_* + mu/2 ||Y - X - L||^2: the prox at Y - X."""
    rng = np.random.default_rng(4)
    signal = rng.random((5, 8, 8)).astype(np.float32)
    y = signal + rng.random((5, 8, 8)).astype(np.float32)
    gamma, mu = 0.8, 4.0
    sampler = Algorithm1(mu, 0.0, 0.1, sigmas=cosine_sigmas(80), background_update=update)
    found = sampler(jnp.asarray(y), Gaussian(1e8, jnp.asarray(signal)), NuclearNorm(gamma), key=jax.random.key(0))
    left, values, right = np.linalg.svd((y - signal).reshape(5, -1), full_matrices=False)
    assert values[-1] > gamma / mu  # full rank, where the subgradient is a gradient
    expected = (left * (values - gamma / mu)) @ right
    np.testing.assert_allclose(found.background.reshape(5, -1), expected, atol=1e-3)


def test_starts_from_the_noisy_clip_and_no_background():
    """Where the prior knows nothing, line 6 of the first step sees Y - 0 - (Y + sigma noise)."""
    y = jnp.full((2, 128, 128), 0.5)
    sampler = Algorithm1(2.0, 0.2, 0.2, sigmas=jnp.asarray([0.17, 0.1]))
    assert float(sampler(y, Gaussian(1e-9), NuclearNorm(), key=jax.random.key(0)).trace[0]) == pytest.approx(
        0.17, rel=0.02
    )


def test_same_key_gives_the_same_bits_and_another_key_does_not():
    y = jax.random.uniform(jax.random.key(0), SHAPE)
    sampler = Algorithm1(2.0, 0.2, 0.2, sigmas=cosine_sigmas(5))
    runs = [sampler(y, Gaussian(5.0, 0.4), NuclearNorm(), key=jax.random.key(seed)).signal for seed in (1, 1, 2)]
    assert (runs[0] == runs[1]).all()
    assert not jnp.allclose(runs[0], runs[2])
