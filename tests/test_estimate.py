"""The default estimate: Y counts once, the haze is a matrix completed, and the share follows from both."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.paper.em import EM
from nuclear_diffusion.paper.gaussian import Gaussian
from nuclear_diffusion.paper.nuclear_norm import NOISE, slowly_varying
from nuclear_diffusion.priors.diffusion_prior import DiffusionPrior, Posterior
from nuclear_diffusion.restore.background import Completion
from nuclear_diffusion.restore.estimate import (
    SPECKLE,
    double,
    estimate,
    halve,
    haze_share,
    over_speckle,
    separate,
    steady,
)
from nuclear_diffusion.restore.one_pass import mmse, posterior_mean
from nuclear_diffusion.restore.render import render
from nuclear_diffusion.training.loss import score_matching_loss


def passed(value):
    """A float as NumPy's, which is passed to a compiled program, not compiled in."""
    return np.float64(value) if isinstance(value, float) else value


class Told(eqx.Module):
    """A prior that has learned haze: E[X | Y] is known, `keeps` times Y plus `adds`; a draw would be 0 or twice that.

    x0 | y is 0 or 2 E[x0 | y], with equal odds, and `denoise` is its true posterior mean: each pass that is shown a
    bright x believes in the bright one.
    """

    keeps: jax.Array | float = eqx.field(default=1.0, converter=passed)
    adds: jax.Array | float = eqx.field(default=0.0, converter=passed)
    observed: jax.Array | None = None
    sigma_min: float = 0.01
    sigma_max: float = 7.0
    haze_aware: bool = eqx.field(static=True, default=True)

    def given(self, observed):
        return Told(self.keeps, self.adds, observed)

    def mean(self):
        assert self.observed is not None
        return self.keeps * self.observed + self.adds

    def denoise(self, x, sigma):
        mean = self.mean()
        return 2 * mean * jax.nn.sigmoid(2 * mean * (x - mean) / sigma**2)


def scene(shape=(6, 16, 16), seed: int = 1) -> jax.Array:
    """Speckle that stands still, in [0.2, 1]."""
    return jnp.broadcast_to(jax.random.uniform(jax.random.key(seed), shape[1:], minval=0.2), shape)


# counted once


@pytest.mark.slow
@pytest.mark.parametrize(("window", "overlap"), [(60, 8), (7, 3), (4, 1), (2, 0)])
def test_where_the_mean_given_y_is_known_it_is_the_mean_whatever_the_windows(window, overlap):
    """E[X | Y = 1] = 0.4. Two passes that both look at Y said 0.51."""
    y = jnp.ones((13, 8, 8))
    found = estimate(y, Told(0.4), window=window, overlap=overlap)
    np.testing.assert_allclose(found.mean, 0.4, atol=1e-6)
    again = Told(0.4).given(y).denoise(y, 0.7)
    assert float(again.min()) > 0.5  # so it would be noticed


@pytest.mark.slow
@given(st.integers(0, 99), st.floats(0, 1), st.sampled_from([2, 9]))
@settings(max_examples=10)
def test_nothing_moves_the_mean_towards_the_input(seed, keeps, window):
    y = jax.random.uniform(jax.random.key(seed), (9, 6, 5))
    found = estimate(y, Told(keeps), window=window, overlap=1)
    np.testing.assert_allclose(found.mean, keeps * y, atol=1e-6)


def network(x, c_noise, seen=None):
    """A frame that tells all that a network is shown apart."""
    told = jnp.sin(3 * x) + 0.3 * c_noise
    if seen is not None:
        told = told + jnp.tensordot(jnp.arange(1.0, 7.0) / 10, jnp.sin(2 * seen), 1)
    return told


def shown(y: np.ndarray, moments: list[int], apart: int) -> np.ndarray:
    """The six planes, by hand."""
    last = len(y) - 1
    some = y[moments]
    rows = []
    for t, frame in enumerate(y):
        rows.append([frame, y[max(t - apart, 0)], y[min(t + apart, last)], some.mean(0), some.std(0), some.min(0)])
    return np.array(rows)


MEAN, SCALE, HIGHEST = 0.15, 0.2, 40.0


def aware(**rest) -> DiffusionPrior:
    return DiffusionPrior(network, MEAN, SCALE, 0.002, HIGHEST, haze_aware=True, **rest)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("frames", "moments", "apart", "stride"),
    [(5, [0, 1, 2, 3, 4], 1, 1), (15, [0, 2, 4, 6, 8, 10, 12, 14], 2, 4), (22, [0, 3, 6, 9, 12, 15, 18, 21], 3, 1)],
)
def test_the_mean_given_y_is_one_pass_that_sees_nothing_but_y(frames, moments, apart, stride):
    """E[X | Y] = m + d F(0; ln(sigma_max) / 4, what is seen of Y), to (d / sigma_max)^2 / 2; there is no key in it."""
    y = np.random.default_rng(0).random((frames, 6, 7)).astype(np.float32)
    found = aware(stride=stride).given(jnp.asarray(y)).mean()
    seen = (shown(y, moments, apart) - MEAN) / SCALE
    told = 0.3 * math.log(HIGHEST) / 4 + np.tensordot(np.sin(2 * seen), np.arange(1, 7) / 10, axes=(1, 0))
    np.testing.assert_allclose(found, MEAN + SCALE * told, rtol=1e-4, atol=1e-4)
    assert np.abs(told).max() > 0.5


@pytest.mark.slow
def test_a_window_of_the_estimate_is_that_pass():
    y = jax.random.uniform(jax.random.key(0), (7, 12, 12))
    expected = jnp.clip(aware().given(y).mean(), 0, 1)
    assert float(((expected > 0) & (expected < 1)).mean()) > 0.2
    np.testing.assert_allclose(estimate(y, aware()).mean, expected, atol=1e-5)
    np.testing.assert_allclose(posterior_mean(y, aware()).signal, expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_training_at_infinite_noise_shows_the_network_the_very_same(seed):
    """The loss is 0 where the clean frames are `mean()`, and lambda e^2 where they are e away, whatever the key."""
    y = jax.random.uniform(jax.random.key(5), (4, 8, 8))
    seen, mean = aware().given(y).seen, aware().given(y).mean()
    sigma, key = jnp.full(4, jnp.inf), jax.random.key(seed)
    assert float(score_matching_loss(aware(), mean, sigma, key, seen)) == pytest.approx(0, abs=1e-9)
    weight = (HIGHEST**2 + SCALE**2) / (HIGHEST * SCALE) ** 2
    assert float(score_matching_loss(aware(), mean + 0.1, sigma, key, seen)) == pytest.approx(weight * 0.01, rel=1e-3)
    for other in (HIGHEST, 0.3):
        assert float(score_matching_loss(aware(), mean, jnp.full(4, other), key, seen)) > 0.01
    other = Posterior(aware(), seen[::-1]).mean()
    assert float(score_matching_loss(aware(), other, sigma, key, seen)) > 0.01


# completion


def frames_by_pixels(video) -> np.ndarray:
    array = np.asarray(video, np.float64)
    return array.reshape(len(array), -1)


def hidden_haze(frames: int = 20, side: int = 24) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Haze that is static but for one pattern that grows and fades, weights in which bars hide it, and what is seen."""
    row, column = np.mgrid[:side, :side]
    static = 0.4 + 0.2 * np.sin(row / 5) * np.cos(column / 7)
    wave = 0.15 * np.sin(2 * np.pi * np.arange(frames) / frames)[:, None, None] * np.exp(-row / 20)
    haze = (static + wave).astype(np.float32)
    weights = np.ones_like(haze)
    for t in range(frames):
        weights[t, (np.arange(7) + 2 * t) % side] = 0
    return haze, weights, np.where(weights > 0, haze, np.float32(0.9))


def test_where_all_is_seen_the_haze_is_the_prox():
    """Singular values of what varies over time, less gamma; the mean over time stays. By NumPy, in double precision."""
    haze = np.random.default_rng(0).uniform(0.3, 1, (6, 9, 8)).astype(np.float32)
    found, trace = Completion(ridge=0.0, steps=3)(jnp.asarray(haze), jnp.ones((6, 9, 8)))
    matrix = frames_by_pixels(haze)
    left, values, right = np.linalg.svd(matrix - matrix.mean(0), full_matrices=False)
    gamma = NOISE * (72**0.5 + 6**0.5)
    assert 0 < (values > gamma).sum() < 6
    expected = matrix.mean(0) + (left * np.maximum(values - gamma, 0)) @ right
    np.testing.assert_allclose(frames_by_pixels(found), expected, atol=1e-5)
    np.testing.assert_allclose(trace[1:], 0, atol=1e-5)  # it was there after a step


def objective(low_rank, haze, weights, ridge: float) -> float:
    """1/2 sum w (D - L)^2 + ridge/2 ||L||^2 + gamma ||L - its mean||_*, by NumPy."""
    lr, d, w = (frames_by_pixels(part) for part in (low_rank, haze, weights))
    gamma = NOISE * (lr.shape[1] ** 0.5 + len(lr) ** 0.5)
    values = np.linalg.svd(lr - lr.mean(0), compute_uv=False)
    return float((w * (d - lr) ** 2).sum() / 2 + ridge / 2 * (lr**2).sum() + gamma * values.sum())


def completed(haze, weights, *, ridge: float, steps: int) -> jax.Array:
    return Completion(ridge=ridge, steps=steps)(jnp.asarray(haze), jnp.asarray(weights))[0]


@pytest.mark.slow
@pytest.mark.parametrize("ridge", [0.0, 0.05])
def test_the_completion_meets_the_optimality_condition(ridge):
    """Minus the slope of the smooth part is gamma times a subgradient: U V^T, and off it nothing longer than 1."""
    rng = np.random.default_rng(0)
    haze = hidden_haze(8, 12)[0] + 0.1 * rng.random((8, 12, 12)).astype(np.float32)
    weights = rng.random(haze.shape).astype(np.float32)
    best = completed(haze, weights, ridge=ridge, steps=400)
    assert float(best.min()) > 0  # else L >= 0 would bind
    lr, d, w = (frames_by_pixels(part) for part in (best, haze, weights))
    downhill = (w * (d - lr) - ridge * lr) / (NOISE * (12 + 8**0.5))
    np.testing.assert_allclose(downhill.mean(0), 0, atol=2e-3)  # the static part is free
    left, values, right = np.linalg.svd(lr - lr.mean(0), full_matrices=False)
    rank = (values > 1e-3).sum()
    assert 0 < rank < 7
    u, v = left[:, :rank], right[:rank]
    np.testing.assert_allclose(u.T @ downhill, v, atol=2e-3)
    np.testing.assert_allclose(downhill @ v.T, u, atol=2e-3)
    rest = downhill - u @ v
    assert np.linalg.norm(rest, 2) <= 1 + 1e-3

    lowest = objective(best, haze, weights, ridge)
    for size in (0.003, 0.03, 0.3):
        for kind in ("any", "static", "one pattern"):
            away = rng.standard_normal(haze.shape)
            if kind == "static":
                away = np.broadcast_to(away[:1], haze.shape)
            if kind == "one pattern":
                away = away[:, :1, :1] * away[:1]
            assert objective(np.asarray(best) + size * away, haze, weights, ridge) > lowest


@pytest.mark.slow
def test_no_step_raises_the_objective():
    haze, weights, seen = hidden_haze()
    values = [objective(completed(seen, weights, ridge=0.02, steps=k), haze, weights, 0.02) for k in (1, 2, 4, 10, 30)]
    assert all(later < earlier for earlier, later in itertools.pairwise(values))


@pytest.mark.slow
@pytest.mark.parametrize(("completion", "tolerance"), [(Completion(ridge=0.0), 0.025), (Completion(), 0.045)])
def test_haze_that_tissue_hides_is_completed(completion, tolerance):
    """What lies behind moving bars is found again, though what is seen there is wrong; a projection does not find it,
    nor a mean over time."""
    haze, weights, seen = hidden_haze()
    found, _ = completion(jnp.asarray(seen), jnp.asarray(weights))
    hidden = weights == 0
    assert 0.2 < hidden.mean() < 0.4
    assert np.abs(found - haze).max() < tolerance
    projected = slowly_varying(haze.shape).prox(jnp.asarray(seen))
    still = (weights * haze).sum(0) / weights.sum(0)
    for other in (projected, still):
        assert np.abs(other - haze)[hidden].max() > 2.5 * tolerance


def test_where_nothing_was_ever_seen_there_is_no_haze():
    _, weights, seen = hidden_haze()
    weights[:, 5:9, 3:20] = 0
    found = completed(seen, weights, ridge=0.02, steps=10)
    np.testing.assert_array_equal(found[:, 5:9, 3:20], 0)
    assert float(found[:, 10:, :].min()) > 0.1
    np.testing.assert_array_equal(completed(seen, np.zeros_like(weights), ridge=0.0, steps=3), 0)


def test_what_is_not_seen_does_not_matter():
    _, weights, seen = hidden_haze()
    other = np.where(weights > 0, seen, np.random.default_rng(0).uniform(0, 5, seen.shape).astype(np.float32))
    np.testing.assert_array_equal(
        completed(seen, weights, ridge=0.02, steps=10), completed(other, weights, ridge=0.02, steps=10)
    )


@pytest.mark.parametrize("setting", [{"decibels": 0.0}, {"decibels": -3.0}, {"ridge": -0.1}, {"steps": 0}])
def test_impossible_settings_are_refused(setting):
    with pytest.raises(InputError, match=next(iter(setting))):
        Completion(**setting)


# what the haze explains


GREY = st.floats(2**-8, 1, width=32)


@given(GREY, GREY, st.sampled_from([10.0, 20.0, 60.0]))
def test_the_share_that_is_explained_is_a_ratio_of_powers(haze, y, decibels):
    """Of 10^(R/10 intensity) - 1, intensity 1 being R decibels above black."""
    found = float(Completion(decibels).explained(jnp.full((1, 1, 1), haze), jnp.full((1, 1, 1), y))[0, 0, 0])
    ratio = (10 ** (decibels / 10 * haze) - 1) / (10 ** (decibels / 10 * y) - 1)
    assert found == pytest.approx(min(ratio, 1), rel=1e-4)
    if haze >= y:
        assert found == 1


@pytest.mark.slow
@given(st.lists(GREY, min_size=5, max_size=5), GREY)
def test_more_haze_explains_more_and_a_brighter_echo_is_explained_less(levels, fixed):
    ramp, level = jnp.sort(jnp.asarray(levels, jnp.float32))[:, None, None], jnp.full((5, 1, 1), fixed)
    assert (jnp.diff(Completion().explained(ramp, level), axis=0) >= 0).all()
    assert (jnp.diff(Completion().explained(level, ramp), axis=0) <= 0).all()


def test_black_holds_no_haze():
    found = Completion().explained(jnp.array([0.0, 0.3])[:, None, None], jnp.zeros((2, 1, 1)))
    np.testing.assert_array_equal(found, 0)


# the share


def test_a_share_of_haze_is_what_is_missing_of_the_input():
    y, x = jnp.array([0.8, 0.8, 0.8, 0.8, 0.0]), jnp.array([0.8, 0.6, 0.0, 0.9, 0.0])
    found = haze_share(y[:, None, None], x[:, None, None])
    np.testing.assert_allclose(found.ravel(), [0, 0.25, 1, 0, 0], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("brightness", "share"), [(0.2, 0.9), (0.5, 0.5), (0.9, 0.3)])
def test_an_even_clip_in_closed_form(brightness, share):
    """L: the weighted ridge regression of h Y; the share: the geometric mean of h and what L explains."""
    y = jnp.full((6, 16, 15), brightness)
    found = estimate(y, Told(1 - share), completion=Completion(20.0, 0.02))
    haze = share**2 * share * brightness / (share**2 + 0.02)
    explained = (10 ** (2 * haze) - 1) / (10 ** (2 * brightness) - 1)
    np.testing.assert_allclose(found.mean, (1 - share) * brightness, atol=1e-6)
    np.testing.assert_allclose(found.background, haze, atol=1e-4)
    np.testing.assert_allclose(found.share, (share * explained) ** 0.5, atol=1e-4)


@pytest.mark.slow
@given(st.integers(0, 99), st.floats(-0.5, 1.5), st.floats(-0.5, 0.5))
@settings(max_examples=20)
def test_everything_lies_in_its_range_and_black_stays_black_whatever_the_prior_says(seed, keeps, adds):
    """And the clip need not be even in size."""
    y = jax.random.uniform(jax.random.key(seed), (5, 11, 13)).at[:, :4, 3:].set(0)
    found = estimate(y, Told(keeps, adds))
    for part in (found.mean, found.share):
        assert part.min() >= 0
        assert part.max() <= 1
    assert found.background.min() >= 0
    for part in (found.mean, found.share, found.background):
        assert part.shape == y.shape
        np.testing.assert_array_equal(part[:, :4, 3:], 0)


@pytest.mark.slow
def test_where_the_prior_sees_no_haze_there_is_none():
    y = scene()
    for adds in (0.0, 0.2):  # X above Y is none either
        found = estimate(y, Told(1.0, adds))
        np.testing.assert_allclose(found.share, 0, atol=1e-5)
        np.testing.assert_allclose(found.background, 0, atol=1e-5)


@pytest.mark.slow
def test_what_is_added_to_one_pixel_makes_up_for_no_haze_in_the_next():
    """X above Y is no haze, as X at Y is none; it does not lower the share of the other pixels of a speckle."""
    y = scene()
    odd = jnp.indices((16, 16)).sum(0) % 2 == 1
    # brighter than the input in every other pixel, which the mean may be, up to 1
    brighter, equal = (estimate(y, Told(jnp.where(odd, 0.4, keeps))) for keeps in (5.0, 1.0))
    assert jnp.abs(brighter.mean - equal.mean).max() > 0.1
    np.testing.assert_allclose(brighter.share, equal.share, atol=1e-5)


def moving_echo(haze: float, size: int, step: int, side: int = 96, frames: int = 10):
    """Even haze, and a bright square that goes down over it; where the square is, but for its edges."""
    y, inside = np.full((frames, side, side), haze, np.float32), np.zeros((frames, side, side), bool)
    for t in range(frames):
        top = 4 + step * t
        y[t, top : top + size, 20 : 20 + size] = 0.9
        inside[t, top + 2 : top + size - 2, 22 : 20 + size - 2] = True
    return jnp.asarray(y), inside


def test_an_echo_that_is_brighter_than_the_haze_around_it_is_tissue():
    """Though the prior is as unsure of it as of the haze, half and half."""
    y, echo = moving_echo(0.3, 20, 4)
    share = np.asarray(estimate(y, Told(0.5), completion=Completion(20.0, 0.02)).share)
    assert np.median(share) == pytest.approx((0.5 * _power_ratio(0.5 * 0.3 * 0.25 / 0.27, 0.3)) ** 0.5, abs=0.01)
    assert share[echo].mean() < 0.55 * np.median(share)


def _power_ratio(haze: float, y: float) -> float:
    return (100**haze - 1) / (100**y - 1)


def test_a_small_bright_echo_is_not_explained_though_the_prior_takes_it_for_haze():
    """All weights 1: what a moving echo is brighter than the haze is less than what `slowly_varying` lets pass."""
    y, echo = moving_echo(0.15, 6, 9)
    completion = Completion(20.0, 0.02)
    haze, _ = completion(y, jnp.ones_like(y))
    explained = np.asarray(completion.explained(haze, y))
    assert explained[echo].max() < 0.3 < 0.9 < np.median(explained)


@pytest.mark.slow
def test_speckle_keeps_its_contrast():
    """X that is smooth where speckle could not be foretold takes nearly the same share of bright and dark pixels."""
    y = scene((6, 32, 32))
    found = estimate(y, Told(0.0, 0.3))
    kept = render(y, found.share, 0.5) / y
    per_pixel = render(y, haze_share(y, jnp.full_like(y, 0.3)), 0.5) / y
    assert 0.1 < kept.mean() < 0.9
    assert kept.std() < 0.5 * per_pixel.std()


@pytest.mark.slow
def test_a_share_that_stands_still_stays_and_white_noise_goes():
    still = jax.random.uniform(jax.random.key(2), (32, 32), minval=0.1, maxval=0.9)
    share = jnp.broadcast_to(still, (10, 32, 32))
    np.testing.assert_allclose(steady(share), share, atol=1e-5)
    noise = NOISE * jax.random.normal(jax.random.key(3), share.shape)
    left = steady(share + noise) - (still + noise.mean(0))
    assert float(jnp.abs(left).max()) < 0.02
    assert float(left.std()) < 0.1 * NOISE
    swell = 0.3 * jnp.sin(jnp.arange(10.0))[:, None, None] * still * (1 - still)
    np.testing.assert_allclose(steady(share + swell).std(0), (share + swell).std(0), atol=0.02)


def test_a_steady_share_is_a_share():
    made = eqx.filter_jit(steady)
    assert np.max(made(jnp.full((3, 4, 4), 1.7))) == 1
    assert np.min(made(jnp.full((3, 4, 4), -0.7))) == 0


@pytest.mark.slow
def test_errors_that_change_from_frame_to_frame_do_not_flicker():
    """Of a prior that is wrong anew in each frame little is seen in the share."""
    y = jnp.full((10, 32, 32), 0.5)
    wrong = 0.02 * jax.random.normal(jax.random.key(5), y.shape)
    flicker = jnp.mean(jnp.diff(estimate(y, Told(0.6 - wrong)).share, axis=0) ** 2)
    assert flicker < 0.01 * jnp.mean(jnp.diff(wrong, axis=0) ** 2)


@pytest.mark.slow
def test_haze_that_grows_and_fades_is_followed():
    y = jnp.full((12, 32, 32), 0.5)
    told = 0.5 + 0.2 * jnp.sin(jnp.arange(12) * 2 * jnp.pi / 12)[:, None, None] * jnp.ones((32, 32))
    share = estimate(y, Told(1 - told)).share.mean((1, 2))
    assert np.corrcoef(share, told[:, 0, 0])[0, 1] > 0.98
    assert float(share.max() - share.min()) > 0.2


# a prior that knows nothing of haze


@pytest.mark.slow
def test_a_blind_prior_takes_the_haze_from_the_background():
    y = jnp.asarray(np.random.default_rng(0).uniform(0.3, 0.9, (5, 12, 12)), jnp.float32).at[:, :4].set(0)
    prior = Gaussian(40.0, 0.2)
    found, em = estimate(y, prior), EM()(y, prior)
    lit = np.asarray(y > 0)
    np.testing.assert_allclose(found.background, em.background * lit, atol=1e-5)
    np.testing.assert_allclose(found.mean, np.clip(em.signal, 0, 1) * lit, atol=1e-5)
    weights = np.outer(SPECKLE, SPECKLE)
    taken = np.clip(y, None, em.background)  # no pixel loses more than it has
    shares = [
        ndimage.convolve(np.asarray(part[0]), weights, mode="constant")
        / np.maximum(ndimage.convolve(np.asarray(part[1]), weights, mode="constant"), 1e-9)
        for part in zip(taken, y, strict=True)
    ]
    np.testing.assert_allclose(found.share, steady(jnp.asarray(shares)) * lit, atol=1e-5)
    assert 0.1 < float(found.share[lit].mean()) < 0.9


# pixels


def test_a_mean_over_a_speckle_is_a_binomial_filter():
    """As SciPy has it, of frames one by one, zeros around them."""
    video = np.asarray(jax.random.uniform(jax.random.key(1), (3, 9, 12)))
    weights = np.outer(*2 * [np.array([1, 4, 6, 4, 1]) / 16])
    expected = [ndimage.convolve(frame, weights, mode="constant") for frame in video]
    np.testing.assert_allclose(over_speckle(jnp.asarray(video)), expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 6), (4, 6), (5, 8), (7, 9)])
def test_half_the_resolution_and_back_keeps_sizes_and_constants(height, width):
    level = 0.3
    even = jnp.full((2, height, width), level)
    half = halve(even)
    assert half.shape == (2, math.ceil(height / 2), math.ceil(width / 2))
    np.testing.assert_allclose(half, level, rtol=1e-6)
    back = double(half, height, width)
    assert back.shape == even.shape
    np.testing.assert_allclose(back, level, rtol=1e-6)


def test_half_the_resolution_is_the_mean_of_four_pixels():
    video = np.random.default_rng(0).random((2, 5, 6)).astype(np.float32)
    found = np.asarray(halve(jnp.asarray(video)))
    np.testing.assert_allclose(found[1, 1, 2], video[1, 2:4, 4:6].mean(), rtol=1e-6)
    np.testing.assert_allclose(found[0, 2, 1], video[0, 4, 2:4].mean(), rtol=1e-6)  # the last row stands alone


def test_doubling_is_bilinear_and_stays_in_place():
    """A plane that rises evenly comes back as it was, but for its edges."""
    row, column = np.mgrid[:12, :10].astype(np.float32)
    plane = jnp.asarray((0.3 + row / 40 + column / 30)[None])
    np.testing.assert_allclose(double(halve(plane), 12, 10)[:, 1:-1, 1:-1], plane[:, 1:-1, 1:-1], atol=1e-5)


# a clip


def test_progress_counts_the_frames_of_windows():
    told = []
    estimate(jnp.ones((11, 4, 4)), Told(), window=4, overlap=1, progress=lambda *now: told.append(now))
    assert told == [(0, 16), (4, 16), (8, 16), (12, 16), (16, 16)]


@pytest.mark.slow
def test_windows_agree_with_the_whole_where_frames_are_alike():
    y = scene((11, 12, 12))
    whole, parts = (estimate(y, Told(0.4), window=window, overlap=2) for window in (60, 5))
    for one, other in zip(whole[:3], parts[:3], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_separate_renders_the_estimate(strength):
    y = scene((7, 12, 12))
    found, parts = estimate(y, Told(0.4)), separate(y, Told(0.4), strength=strength)
    np.testing.assert_array_equal(parts.signal, render(y, found.share, strength))
    np.testing.assert_array_equal(parts.background, found.background)
    assert np.array_equal(parts.signal, y) == (strength == 0)


def test_the_same_bits_come_back():
    y = jax.random.uniform(jax.random.key(0), (7, 12, 12))
    first, again = (estimate(y, aware()) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_mean_alone_is_a_baseline():
    y = scene()
    found = posterior_mean(np.asarray(y), Told(0.4))
    np.testing.assert_allclose(found.signal, 0.4 * y, atol=1e-6)
    np.testing.assert_allclose(found.background, 0.6 * y, atol=1e-6)
    with pytest.raises(InputError, match="haze"):
        posterior_mean(y, Gaussian(1.0))


def test_one_blind_pass_is_the_denoiser():
    y, prior = scene(), Gaussian(10.0, 0.3)
    found = mmse(np.asarray(y), prior, 0.2)
    expected = (10.0 * 0.3 + y / 0.04) / (10.0 + 25.0)
    np.testing.assert_allclose(found.signal, expected, atol=1e-6)
    np.testing.assert_allclose(found.background, jnp.maximum(y - expected, 0), atol=1e-6)
    with pytest.raises(InputError, match="sigma"):
        mmse(np.zeros((3, 4, 4)), Gaussian(1.0), 0.0)


@pytest.mark.parametrize(
    ("video", "reason"),
    [
        (np.zeros((4, 4)), "shape"),
        (np.zeros((0, 4, 4)), "shape"),
        (np.full((3, 4, 4), np.nan), "finite"),
        (np.full((3, 4, 4), 248.0), "but reaches 248: divide by 255"),
        (np.full((3, 4, 4), 4000.0), "but reaches 4000: scale black to 0 and white to 1"),
        (np.full((3, 4, 4), -60.0), "but reaches -60: scale black to 0 and white to 1"),
        (np.zeros((3, 0, 4)), "shape"),
    ],
)
@pytest.mark.usefixtures("wrong_types")
def test_unusable_videos_are_refused(video, reason):
    for refused in (
        lambda: estimate(video, Told()),
        lambda: separate(video, Told()),
        lambda: posterior_mean(video, Told()),
        lambda: mmse(video, Gaussian(1.0), 0.1),
    ):
        with pytest.raises(InputError, match=reason):
            refused()
