"""Posterior draws against quadrature, importance sampling and Gaussian posteriors known in closed form."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.paper.gaussian import Gaussian
from nuclear_diffusion.paper.nuclear_norm import NuclearNorm
from nuclear_diffusion.priors.flow import draw_from
from nuclear_diffusion.restore.draws import SplitGibbs, draw_signal, sample_posterior, step_background

GAMMA, MU = 3.0, 4.0


@eqx.filter_jit
def chain(key, target, count: int, stride: float = 0.7, gamma: float = GAMMA, mu: float = MU):
    def step(low_rank, key):
        low_rank, accepted = step_background(key, NuclearNorm(gamma), low_rank, target, mu, stride)
        return low_rank, (low_rank, accepted)

    return jax.lax.scan(step, target, jax.random.split(key, count))[1]


def on_a_grid(centre) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """exp(-gamma ||L||_*) N(L; centre, I/mu) of one frame of two pixels, of sum 1, and where: its norm is a length."""
    axis = np.linspace(-4, 4, 801)
    x, y = np.meshgrid(axis, axis)
    weight = np.exp(-GAMMA * np.hypot(x, y) - MU / 2 * ((x - centre[0]) ** 2 + (y - centre[1]) ** 2))
    return weight / weight.sum(), x, y


@pytest.mark.slow
def test_one_frame_of_two_pixels_agrees_with_quadrature():
    """One frame: the nuclear norm is the length of the pixel vector, and two pixels can be integrated on a grid."""
    centre = np.array([0.8, 0.3])
    weight, x, y = on_a_grid(centre)
    mean = np.array([(weight * x).sum(), (weight * y).sum()])

    found, accepted = chain(jax.random.key(0), jnp.asarray(centre, jnp.float32)[None, None], 100_000)
    found = np.asarray(found)[:, 0, 0]
    assert 0.3 < float(accepted.mean()) < 0.95
    np.testing.assert_allclose(found.mean(0), mean, atol=0.012)
    assert np.hypot(*found.T).mean() == pytest.approx((weight * np.hypot(x, y)).sum(), abs=0.01)
    assert found[:, 0].var() == pytest.approx((weight * x**2).sum() - mean[0] ** 2, rel=0.05)


@pytest.mark.slow
def test_two_frames_of_two_pixels_agree_with_importance_sampling():
    rng = np.random.default_rng(0)
    centre = np.array([[0.9, 0.1], [0.2, 0.5]])
    drawn = centre + rng.standard_normal((1_000_000, 2, 2)) / np.sqrt(MU)
    # (s1 + s2)^2 = ||A||_F^2 + 2 |det A|
    norm = np.sqrt((drawn**2).sum((1, 2)) + 2 * np.abs(np.linalg.det(drawn)))
    weight = np.exp(-GAMMA * norm)
    weight /= weight.sum()

    found, _ = chain(jax.random.key(1), jnp.asarray(centre[:, None], jnp.float32), 100_000)
    found = np.asarray(found)[:, :, 0]
    values = np.linalg.svd(found, compute_uv=False).sum(-1)
    np.testing.assert_allclose(found.mean(0), (weight[:, None, None] * drawn).sum(0), atol=0.012)
    assert values.mean() == pytest.approx((weight * norm).sum(), abs=0.012)
    assert values.var() == pytest.approx((weight * norm**2).sum() - (weight * norm).sum() ** 2, rel=0.05)


@pytest.mark.slow
def test_without_a_nuclear_norm_every_step_is_accepted():
    """Nothing is left to correct: the proposal keeps the Gaussian as it is, for any number of pixels."""
    target = jnp.full((3, 20, 20), 0.2)
    found, accepted = chain(jax.random.key(2), target, 400, 1.0, 0.0, 25.0)
    assert bool(accepted.all())
    assert float(found[100:].std(axis=0).mean()) == pytest.approx(0.2, rel=0.02)
    assert float(found[100:].mean()) == pytest.approx(0.2, abs=2e-3)


@pytest.mark.slow
def test_the_acceptance_does_not_fall_with_the_number_of_pixels():
    def rate(side: int) -> float:
        target = jnp.full((4, side, side), 0.2)
        gamma = 25.0 * 0.01 * (side + 2.0)  # matched to the same noise at both sizes
        sampler = SplitGibbs(mu=25.0, draws=2, moves=40)
        start = target + 0.2 * jax.random.normal(jax.random.key(0), target.shape)
        return float(sampler.draw_background(jax.random.key(1), NuclearNorm(gamma), start, target)[1])

    assert rate(96) > 0.5 * rate(12) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(("levels", "low"), [(24, 0.09), (200, 0.015)])
def test_a_draw_of_the_signal_has_the_posterior_s_mean_and_spread(levels, low):
    """Prior N(m, 1/c), observation of precision mu: N((c m + mu y) / (c + mu), 1 / (c + mu))."""
    c, m, mu, y = 60.0, 0.3, 40.0, 0.7
    target = jnp.full((2, 100, 100), y)
    drawn = draw_signal(jax.random.key(0), Gaussian(c, m), target, mu, levels, 1e-3)
    assert float(drawn.mean()) == pytest.approx((c * m + mu * y) / (c + mu), abs=3e-3)
    assert 1 - low - 0.015 < float(drawn.std()) * (c + mu) ** 0.5 < 1.015


class Learned(eqx.Module):
    """A prior that has learned haze: given y, X ~ N(y / 2, 1 / c)."""

    c: float
    seen: jax.Array | None = None
    haze_aware: bool = eqx.field(static=True, default=True)
    sigma_min: float = eqx.field(static=True, default=0.001)
    sigma_max: float = eqx.field(static=True, default=80.0)

    def denoise(self, x, sigma):
        return Gaussian(self.c, 0.0 if self.seen is None else self.seen / 2).denoise(x, sigma)

    def given(self, observed):
        return Learned(self.c, observed)


@pytest.mark.slow
@pytest.mark.parametrize(("levels", "error"), [(24, 0.04), (100, 0.01)])
@pytest.mark.parametrize("deviation", [0.03, 0.3])
def test_draws_from_a_prior_have_its_mean_and_spread(levels, error, deviation):
    learned = Learned(deviation**-2).given(jnp.full((2, 200, 200), 0.8))
    drawn = draw_from(jax.random.key(0), learned, jnp.zeros((2, 200, 200)), levels)
    assert float(drawn.mean()) == pytest.approx(0.4, abs=0.01 * deviation + 1e-3)
    assert float(drawn.std()) == pytest.approx(deviation, rel=error + 0.01)


@pytest.mark.slow
def test_where_haze_was_learned_eq_8_does_not_count_the_clip_a_second_time():
    """Whatever mu, X | Y is what the prior has learned, in draws that know nothing of each other."""
    y = jnp.full((1, 5, 8), 0.8)  # without a nuclear norm its pixels know nothing of each other
    for mu in (3.0, 300.0):
        sampler = SplitGibbs(mu=mu, draws=100, warm_up=0, levels=40, moves=1)
        draws = np.asarray(sampler(y, Learned(25.0), NuclearNorm(0.0), key=jax.random.key(1)).draws)
        assert draws.mean() == pytest.approx(0.4, abs=0.015)
        assert draws.std() == pytest.approx(0.2, rel=0.05)
        assert abs(np.corrcoef(draws[1:].ravel(), draws[:-1].ravel())[0, 1]) < 0.06


@pytest.mark.slow
def test_where_haze_was_learned_the_background_is_drawn_given_signal_and_clip():
    """X is known to be y / 2, so L has the law of the grid around y / 2."""
    centre = np.array([0.8, 0.3])
    weight, *at = on_a_grid(centre)
    sampler = SplitGibbs(mu=MU, draws=100, warm_up=0, levels=4, moves=30, stride=0.7)
    y = jnp.asarray(2 * centre, jnp.float32)[None, None]

    def background(key):
        return sampler(y, Learned(1e8), NuclearNorm(GAMMA), key=key).background[0, 0]

    found = jax.vmap(background)(jax.random.split(jax.random.key(2), 40)).mean(0)
    np.testing.assert_allclose(found, [(weight * each).sum() for each in at], atol=0.03)


@pytest.mark.slow
def test_ninety_percent_intervals_hold_ninety_percent_of_what_the_model_makes():
    """Simulation-based calibration: X, L and Y are drawn from the model itself, many times, and sampled back.

    One frame of two pixels has a nuclear norm whose law can be drawn: a length ~ Gamma(2, gamma), any direction.
    """
    c, m, mu, gamma, clips = 30.0, 0.4, 50.0, 6.0, 400
    rng = np.random.default_rng(3)
    angle = rng.uniform(0, 2 * np.pi, clips)
    low_rank = rng.gamma(2, 1 / gamma, clips)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    truth = m + rng.standard_normal((clips, 2)) / np.sqrt(c)
    y = truth + low_rank + rng.standard_normal((clips, 2)) / np.sqrt(mu)
    sampler = SplitGibbs(mu=mu, draws=300, warm_up=30, levels=60, moves=5, stride=0.7)

    def sample(key, y):
        return sampler(y[None, None], Gaussian(c, m), NuclearNorm(gamma), key=key).draws[:, 0, 0]

    draws = np.asarray(jax.vmap(sample)(jax.random.split(jax.random.key(4), clips), jnp.asarray(y, jnp.float32)))
    low, high = np.percentile(draws, (5, 95), axis=1)
    assert 0.85 <= np.mean((low <= truth) & (truth <= high)) <= 0.95
    # and the ranks of the truth among the draws are uniform
    ranks = (draws[:, ::10] < truth[:, None]).mean(axis=1).ravel()
    assert stats.kstest(ranks, "uniform").statistic < 0.08


@pytest.mark.slow
def test_windows_and_moments():
    rng = np.random.default_rng(0)
    y = rng.random((9, 8, 8)).astype(np.float32)
    told = []
    settings = {"key": jax.random.key(0), "sampler": SplitGibbs(mu=30.0, draws=3, levels=4, moves=2)}
    found = sample_posterior(
        y, Gaussian(20.0, 0.4), NuclearNorm(5.0), window=6, overlap=2,
        progress=lambda done, total: told.append((done, total)), **settings,
    )  # fmt: skip
    assert found.draws.shape == (3, 9, 8, 8)
    assert found.accepted.shape == (4,)
    np.testing.assert_allclose(found.mean, found.draws.mean(0), atol=1e-5)
    # where one window alone speaks its spread is that of its draws; cross-faded frames have the mean of both windows'
    np.testing.assert_allclose(found.deviation[:3], found.draws[:, :3].std(axis=0, ddof=1), atol=1e-4)
    assert list(dict.fromkeys(told)) == [(done, 40) for done in range(41) if done % 5 < 4]  # the last pass is not told
    again = sample_posterior(y, Gaussian(20.0, 0.4), NuclearNorm(5.0), window=6, overlap=2, **settings)
    np.testing.assert_array_equal(found.draws, again.draws)


@pytest.mark.parametrize("setting", [{"mu": 0.0}, {"draws": 0}, {"levels": 0}, {"moves": 0}, {"stride": -1.0}])
def test_impossible_settings_are_refused(setting):
    with pytest.raises(InputError, match=next(iter(setting))):
        SplitGibbs(**setting)
    with pytest.raises(ValueError, match="warm_up"):
        SplitGibbs(warm_up=-1)
