"""Expectation-maximisation, against priors whose marginal p(Y | L) is known in closed form."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.paper.em import EM
from nuclear_diffusion.paper.gaussian import Gaussian
from nuclear_diffusion.paper.nuclear_norm import NOISE, NuclearNorm, singular_values, slowly_varying
from nuclear_diffusion.progress import listening

NO_BACKGROUND = NuclearNorm(1e6)


def clip(frames: int = 5, side: int = 12, seed: int = 0) -> jax.Array:
    """A static bright background under a noisy signal, well inside (0, 1)."""
    rng = np.random.default_rng(seed)
    background = 0.2 + 0.2 * rng.random((side, side))
    signal = 0.2 + 0.03 * rng.standard_normal((frames, side, side))
    return jnp.asarray(background + signal, jnp.float32)


class TwoPeaks(eqx.Module):
    """p(x) = 3/4 at 0.1, 1/4 at 0.5, pixels independent."""

    sigma_min: float = 1e-3
    sigma_max: float = 10.0

    def denoise(self, x, sigma):
        odds = jnp.exp(((x - 0.1) ** 2 - (x - 0.5) ** 2) / (2 * sigma**2)) / 3
        return (0.1 + 0.5 * odds) / (1 + odds)

    def misfit(self, rest: jax.Array, mu: float) -> float:
        """-log p(Y | L) up to a constant, X integrated out; `rest` is Y - L."""
        r = np.asarray(rest, np.float64)
        low, high = (np.log(w) - mu / 2 * (r - at) ** 2 for w, at in ((0.75, 0.1), (0.25, 0.5)))
        return -np.logaddexp(low, high).sum()


@pytest.mark.parametrize("steps", [1, 3])
def test_without_a_background_the_signal_is_the_posterior_mean(steps):
    """E[X | Y] = (c m + mu Y) / (c + mu) for the prior N(m, 1/c)."""
    y = clip()
    found = EM(mu=30.0, steps=steps, background=NO_BACKGROUND)(y, Gaussian(10.0, 0.3))
    np.testing.assert_allclose(found.signal, (10.0 * 0.3 + 30.0 * y) / 40.0, atol=1e-5)
    np.testing.assert_array_equal(found.background, 0)


@pytest.mark.slow
@pytest.mark.parametrize("static_is_free", [False, True])
def test_the_fixed_point_is_the_most_probable_background(static_is_free):
    """Y - m - L ~ N(0, v) with v = 1/c + 1/mu: argmax p(L | Y) is the prox of step v at Y - m."""
    y, c, mu, m = clip(), 60.0, 20.0, 0.2
    nuclear = NuclearNorm(6.0, static_is_free=static_is_free)
    found = EM(mu=mu, steps=40, background=nuclear)(y, Gaussian(c, m))
    best = nuclear.prox(y - m, 1 / c + 1 / mu)
    assert best.min() > 0  # else L >= 0 would bind and the closed form would not hold
    np.testing.assert_allclose(found.background, best, atol=1e-4)
    np.testing.assert_allclose(found.signal, (c * m + mu * (y - best)) / (c + mu), atol=1e-4)


@pytest.mark.slow
def test_every_step_raises_the_background_s_probability_under_a_gaussian_prior():
    y, c, mu, m = clip(), 20.0, 60.0, 0.2
    nuclear, prior = NuclearNorm(6.0), Gaussian(c, m)

    def objective(steps: int) -> float:
        low_rank = EM(mu=mu, steps=steps, background=nuclear)(y, prior).background
        return float(nuclear(low_rank) + jnp.sum((y - m - low_rank) ** 2) / (2 * (1 / c + 1 / mu)))

    values = [objective(steps) for steps in (1, 2, 3, 5, 9)]
    assert all(later < earlier - 1e-3 for earlier, later in itertools.pairwise(values))


@pytest.mark.slow
def test_every_step_raises_it_under_a_prior_of_two_peaks_and_ends_where_none_is_higher():
    rng = np.random.default_rng(0)
    shape = (6, 10, 10)
    haze = 0.9 + 0.1 * np.sin(np.arange(6))[:, None, None] * rng.random(shape[1:])
    y = jnp.asarray(haze + rng.choice([0.1, 0.5], shape, p=[0.75, 0.25]) + 0.1 * rng.standard_normal(shape))
    mu, prior, nuclear = 40.0, TwoPeaks(), NuclearNorm(10.0)

    def objective(low_rank) -> float:
        return float(nuclear(low_rank)) + prior.misfit(y - low_rank, mu)

    values = [objective(EM(mu=mu, steps=k, background=nuclear)(y, prior).background) for k in (1, 2, 3, 5, 8, 200)]
    assert all(later < earlier for earlier, later in itertools.pairwise(values))
    best = EM(mu=mu, steps=200, background=nuclear)(y, prior).background
    assert best.min() > 0
    for size in (0.003, 0.03, 0.1):
        for _ in range(5):
            direction = rng.standard_normal((6, 1, 1)) * rng.standard_normal((1, 10, 10)) / 10
            assert objective(best + size * direction) > values[-1]


def test_haze_that_stands_still_is_found_whole():
    """X is known to lie around 0.3: by default all above it is haze; a plain norm leaves its threshold's worth."""
    y, prior = jnp.full((6, 24, 24), 0.5), Gaussian(60.0, 0.3)
    found = EM(mu=20.0, steps=40)(y, prior)
    np.testing.assert_allclose(found.background, 0.2, atol=1e-4)
    np.testing.assert_allclose(found.signal, 0.3, atol=1e-4)
    plain = EM(mu=20.0, steps=40, background=NuclearNorm(30.0))(y, prior)
    np.testing.assert_allclose(plain.background, 0.2 - 30 * (1 / 60 + 1 / 20) / y.size**0.5, atol=1e-4)


def test_haze_only_adds_brightness():
    found = EM(mu=30.0, steps=4)(clip(), Gaussian(100.0, 3.0))
    assert found.background.min() >= 0
    assert found.signal.max() > 1  # the prior pulls towards 3; it is for `estimate` to clip


def test_the_trace_is_what_neither_part_explains():
    y, prior, nuclear = clip(), Gaussian(10.0, 0.2), NuclearNorm(2.0)
    trace = EM(mu=30.0, steps=3, background=nuclear)(y, prior).trace
    for steps in (1, 2, 3):
        found = EM(mu=30.0, steps=steps, background=nuclear)(y, prior)
        misfit = jnp.sqrt(jnp.mean((y - found.signal - found.background) ** 2))
        assert float(trace[steps - 1]) == pytest.approx(float(misfit), rel=1e-5)


def test_every_step_is_told():
    told: list[int] = []
    with listening(lambda done, _: told.append(done), 0, 1, 3):
        jax.block_until_ready(EM(steps=3)(clip(), Gaussian(10.0, 0.2)).signal)
    assert sorted(told) == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(10, 64, 64), (60, 20, 30)])
def test_slow_variation_is_told_from_white_noise(shape):
    """Of noise of `NOISE` hardly more passes than its mean over time, and of haze that stands still all."""
    noise = NOISE * jax.random.normal(jax.random.key(0), shape)
    nuclear = slowly_varying(shape)
    rest = nuclear.prox(noise) - noise.mean(axis=0)
    assert float(singular_values(rest)[0]) < 0.1 * float(singular_values(noise)[0])
    louder = nuclear.prox(2 * noise) - 2 * noise.mean(axis=0)
    assert float(singular_values(louder)[0]) > 0.3 * float(singular_values(2 * noise)[0])
    still = jnp.broadcast_to(jax.random.uniform(jax.random.key(1), shape[1:]), shape)
    np.testing.assert_allclose(nuclear.prox(still), still, atol=1e-4)


@pytest.mark.parametrize("precision", [0.3, 10.0])
def test_the_noise_that_is_kept_out_does_not_depend_on_the_precision(precision):
    v = clip()
    expected = slowly_varying(v.shape).prox(v, 1.0)
    np.testing.assert_allclose(slowly_varying(v.shape, precision).prox(v, 1 / precision), expected, atol=1e-5)
    assert jnp.abs(expected - v).max() > 0.01


@pytest.mark.parametrize("setting", [{"mu": 0.0}, {"mu": float("nan")}, {"mu": -3.0}, {"steps": 0}])
def test_impossible_settings_are_refused(setting):
    with pytest.raises(InputError, match=next(iter(setting))):
        EM(**setting)
