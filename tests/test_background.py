"""Other candidates for p(L), and the sum of powers, against closed forms."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from nuclear_diffusion.inference import Proximal
from nuclear_diffusion.model import (
    Additive,
    FittedNuclearNorm,
    Gaussian,
    LearnedBackground,
    NuclearNorm,
    PowerSum,
    SmoothBackground,
    fitted_gamma,
    singular_values,
)
from nuclear_diffusion.types import InputError


def noise(shape: tuple[int, int, int], seed: int = 0) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def test_the_fitted_gamma_maximises_the_likelihood():
    """log p(L | gamma) = n p log gamma - gamma ||L||_* + const, on a grid of gammas."""
    low_rank = noise((3, 6, 5))
    gammas = np.geomspace(0.1, 100, 20001)
    likelihood = low_rank.size * np.log(gammas) - gammas * float(singular_values(low_rank).sum())
    assert float(fitted_gamma(low_rank)) == pytest.approx(gammas[likelihood.argmax()], rel=1e-3)


def test_gamma_and_background_agree_with_each_other():
    flat = 0.3 * jnp.ones((8, 40, 40)) + 0.03 * noise((8, 40, 40))
    fitted = FittedNuclearNorm(noise=0.03, rounds=60)
    found = fitted.prox(flat)
    assert float(fitted_gamma(found)) == pytest.approx(float(fitted.gamma(flat)), rel=1e-3)
    np.testing.assert_allclose(found, NuclearNorm(fitted_gamma(found)).prox(flat, 0.03**2), atol=1e-5)
    kept = np.maximum(singular_values(flat) - fitted.gamma(flat) * 0.03**2, 0)
    np.testing.assert_allclose(singular_values(found), kept, atol=1e-3)
    assert kept[0] > 0


def test_nothing_is_left_where_nothing_stands_out_of_the_noise():
    found = FittedNuclearNorm(noise=0.03, rounds=60).prox(0.03 * noise((8, 40, 40)))
    np.testing.assert_allclose(found, 0, atol=1e-6)


def test_the_fit_follows_the_unit_of_intensity():
    flat = 0.3 * jnp.ones((8, 20, 20)) + 0.03 * noise((8, 20, 20))
    once, twice = FittedNuclearNorm(0.03).prox(flat), FittedNuclearNorm(0.06).prox(2 * flat)
    np.testing.assert_allclose(twice, 2 * once, atol=1e-5)


def test_smoothing_is_scipy_s():
    v = noise((3, 24, 30))
    found = SmoothBackground(NuclearNorm(0.0), width=2.0).prox(v)
    expected = np.stack([gaussian_filter(np.asarray(frame), 2.0, mode="reflect", truncate=8) for frame in v])
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_smoothing_keeps_the_rank_and_a_flat_background():
    flat = jnp.full((4, 16, 16), 0.25)
    np.testing.assert_allclose(SmoothBackground(NuclearNorm(0.0), 3.0).prox(flat), flat, atol=1e-5)
    found = SmoothBackground(NuclearNorm(4.0), 1.0).prox(flat + 0.02 * noise((4, 16, 16)))
    assert float(singular_values(found)[1]) < 1e-4 * float(singular_values(found)[0])


def test_a_learned_background_is_denoised_and_then_of_low_rank():
    v, haze = noise((4, 6, 6)), Gaussian(50.0, 0.1)
    found = LearnedBackground(haze, NuclearNorm(0.7), noise=0.2).prox(v, 0.5)
    expected = NuclearNorm(0.7).prox((50.0 * 0.1 + v / 0.04) / (50.0 + 25.0), 0.5)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_powers_add():
    """By hand in decibels: black is 0, y is the level of both echoes' power."""
    decibels, x, l = 50.0, 0.6, 0.4
    power = [10 ** (decibels * value / 10) for value in (x, l)]
    y = 10 * np.log10(sum(power) - 1) / decibels
    mixture = PowerSum(decibels)
    frame = jnp.ones((1, 1, 1))
    assert float(mixture.signal(y * frame, l * frame)[0, 0, 0]) == pytest.approx(x, abs=1e-5)
    assert float(mixture.background(y * frame, x * frame)[0, 0, 0]) == pytest.approx(l, abs=1e-5)


def test_a_power_sum_is_never_negative_and_leaves_the_clip_without_background():
    y = jnp.linspace(0, 1, 12).reshape(1, 3, 4)
    mixture = PowerSum(60.0)
    np.testing.assert_allclose(mixture.signal(y, jnp.zeros_like(y)), y, atol=1e-5)
    np.testing.assert_array_equal(mixture.signal(y, y), 0)
    np.testing.assert_array_equal(mixture.signal(y, y + 0.2), 0)
    # echoes of equal power lie 3 dB above each
    assert float(mixture.signal(y, y - 3 / 60)[0, 2, 3]) == pytest.approx(1 - 10 * np.log10(2) / 60, abs=2e-3)


class Known(eqx.Module):
    """A prior that knows the signal."""

    truth: jax.Array
    sigma_min: float = 0.01
    sigma_max: float = 10.0

    def denoise(self, x, sigma):
        return jnp.broadcast_to(self.truth, x.shape)


def test_the_sampler_separates_under_either_mixture():
    """A moving bright square of known shape over static haze: L is the haze, in the unit of the mixture."""
    truth = jnp.zeros((5, 12, 12)).at[jnp.arange(5), 3:6, jnp.arange(5) + 2].set(0.7)
    haze = jnp.full((5, 12, 12), 0.3)
    additive = truth + haze
    power = 10 ** (60 * truth / 10) + 10 ** (60 * haze / 10) - 1
    for y, mixture in ((additive, Additive()), (10 * jnp.log10(power) / 60, PowerSum(60.0))):
        found = Proximal(steps=3, mixture=mixture, detail=0.0)(
            y, Known(truth), NuclearNorm(1e-3), key=jax.random.key(0)
        )
        np.testing.assert_allclose(found.signal, truth, atol=1e-5)
        np.testing.assert_allclose(found.background, haze, atol=5e-3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FittedNuclearNorm(noise=0.0),
        lambda: LearnedBackground(Gaussian(1.0), NuclearNorm(1.0), noise=-1.0),
        lambda: SmoothBackground(NuclearNorm(1.0), width=-1.0),
        lambda: PowerSum(0.0),
    ],
)
def test_impossible_settings_are_refused(make):
    with pytest.raises(InputError, match=r"noise|width|decibels"):
        make()
