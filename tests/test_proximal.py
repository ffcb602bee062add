"""The default sampler and `separate`, against Gaussian priors whose posteriors are known in closed form."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from scipy import ndimage
from scipy.optimize import minimize

from nuclear_diffusion.inference import Algorithm1, Proximal, mmse, separate
from nuclear_diffusion.inference.proximal import (
    BLIND_START,
    ExactPosterior,
    ProximalPoint,
    haze_share,
    over_speckle,
    without_haze,
)
from nuclear_diffusion.model import Gaussian, NuclearNorm, singular_values
from nuclear_diffusion.types import InputError

NO_BACKGROUND = NuclearNorm(1e6)
FAR = 1e4  # a noise level at which X_tau says nothing


def clip(frames: int = 5, side: int = 12, seed: int = 0) -> jax.Array:
    """A static bright background under a noisy signal, well inside (0, 1)."""
    rng = np.random.default_rng(seed)
    background = 0.2 + 0.2 * rng.random((side, side))
    signal = 0.2 + 0.03 * rng.standard_normal((frames, side, side))
    return jnp.asarray(background + signal, jnp.float32)


def test_exact_posterior_is_the_posterior_mean():
    y, prior, sigma, mu = clip(), Gaussian(25.0, 0.3), jnp.float32(0.2), jnp.float32(40.0)
    x = y + sigma * jax.random.normal(jax.random.key(0), y.shape)
    found = ExactPosterior()(prior, x, y, sigma, mu)
    expected = (25.0 * 0.3 + x / sigma**2 + mu * y) / (25.0 + 1 / sigma**2 + mu)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_proximal_point_minimises_its_objective():
    prior, sigma, mu, trust = Gaussian(25.0, 0.3), 0.2, 40.0, 0.7
    x, target = 0.9, 0.1
    x0 = (25.0 * 0.3 + x / sigma**2) / (25.0 + 1 / sigma**2)
    best = minimize(lambda v: mu / 2 * (target - v[0]) ** 2 + (v[0] - x0) ** 2 / (2 * (trust * sigma) ** 2), [0.5]).x[0]
    frame = jnp.ones((1, 2, 2), jnp.float32)
    found = ProximalPoint(trust)(prior, x * frame, target * frame, jnp.float32(sigma), jnp.float32(mu))
    np.testing.assert_allclose(found, best, atol=1e-5)


@pytest.mark.parametrize("steps", [2, 5, 20])
def test_posterior_mean_at_any_number_of_steps(steps):
    """Without a background, E[X | Y] = (c m + mu Y) / (c + mu) for the prior N(m, 1/c)."""
    y, prior = clip(), Gaussian(10.0, 0.3)
    sampler = Proximal(mu=30.0, start=FAR, steps=steps, detail=0.0)
    found = sampler(y, prior, NO_BACKGROUND, key=jax.random.key(0)).signal
    np.testing.assert_allclose(found, (10.0 * 0.3 + 30.0 * y) / 40.0, atol=2e-5)


def test_expectation_maximisation_reaches_the_best_background():
    """Y - m - L ~ N(0, v) with v = 1/c + 1/mu: argmax p(L | Y) thresholds the singular values of Y - m at gamma v."""
    y, c, mu, m = clip(), 60.0, 20.0, 0.2
    nuclear = NuclearNorm(6.0)
    found = Proximal(mu=mu, start=FAR, steps=30, detail=0.0)(y, Gaussian(c, m), nuclear, key=jax.random.key(1))
    best = nuclear.prox(y - m, 1 / c + 1 / mu)
    assert best.min() > 0  # else L >= 0 would bind and the closed form would not hold
    assert 0 < (singular_values(best) > 1e-3).sum() < len(y)
    np.testing.assert_allclose(found.background, best, atol=1e-4)
    np.testing.assert_allclose(found.signal, (c * m + mu * (y - best)) / (c + mu), atol=1e-4)


def test_every_step_raises_the_background_s_probability():
    y, c, mu, m = clip(), 20.0, 60.0, 0.2
    nuclear, prior = NuclearNorm(6.0), Gaussian(20.0, 0.2)

    def objective(steps: int) -> float:
        low_rank = Proximal(mu=mu, start=FAR, steps=steps)(y, prior, nuclear, key=jax.random.key(1)).background
        return float(nuclear(low_rank) + jnp.sum((y - m - low_rank) ** 2) / (2 * (1 / c + 1 / mu)))

    values = [objective(steps) for steps in (1, 2, 3, 5, 9)]
    assert all(later < earlier - 1e-3 for earlier, later in itertools.pairwise(values))


class Told(eqx.Module):
    """A prior that knows the share of haze in the clip it is given, but for errors that are new in each frame."""

    share: Array
    error: float = 0.0
    observed: Array | None = None
    sigma_min: float = 1e-3
    sigma_max: float = 80.0
    haze_aware: bool = eqx.field(static=True, default=True)

    def given(self, observed):
        return eqx.tree_at(lambda p: p.observed, self, observed, is_leaf=lambda leaf: leaf is None)

    def denoise(self, x, sigma):
        wrong = self.error * jax.random.normal(jax.random.key(5), x.shape)
        return (1 - self.share - wrong) * self.observed


class Takes(Told):
    """A prior that takes the same intensity, `share`, from every pixel of the clip it is given."""

    def denoise(self, x, sigma):
        return self.observed - self.share


def test_a_share_of_haze_is_what_is_missing_of_the_input():
    y, x = jnp.array([0.8, 0.8, 0.8, 0.8, 0.0]), jnp.array([0.8, 0.6, 0.0, 0.9, 0.0])
    np.testing.assert_allclose(haze_share(y, x), [0, 0.25, 1, 0, 0], atol=1e-6)


def test_little_haze_is_none_and_much_is_all():
    """Between `spare` and `clear` the share of haze is stretched to all of [0, 1]; from 0 to 1 nothing changes."""
    y, share = jnp.full(6, 0.8), jnp.array([0.0, 0.1, 0.3, 0.5, 0.7, 1.0])
    np.testing.assert_allclose(without_haze(y, share, 0.0, 1.0), y * (1 - share), atol=1e-6)
    np.testing.assert_allclose(without_haze(y, share, 0.1, 0.7) / 0.8, [1, 1, 2 / 3, 1 / 3, 0, 0], atol=1e-6)


def test_the_signal_is_the_input_less_the_share_that_the_prior_has_told():
    """Where the prior is right and haze stands still: exactly, with the input's own speckle, whatever L is."""
    y = jax.random.uniform(jax.random.key(1), (6, 16, 32), minval=0.2)
    share = jnp.repeat(jnp.array([0.1, 0.3, 0.6, 0.9]), 8) * jnp.ones((16, 1))
    found = Proximal(spare=0.2, clear=0.8, mirror=False)(y, Told(share), NuclearNorm(2.0), key=jax.random.key(3))
    expected = y * (1 - np.clip((share - 0.2) / 0.6, 0, 1))
    inside = np.arange(32) % 8 // 2 % 3 != 0  # farther from where it changes than a speckle reaches
    np.testing.assert_allclose(found.signal[..., inside], expected[..., inside], atol=1e-5)


@pytest.mark.parametrize("exposure", [0.7, 1.0, 1.3])
def test_the_prior_sees_the_clip_as_bright_as_asked_and_the_result_is_as_bright_as_the_input(exposure):
    """A prior that takes 0.1 for haze, however bright the clip, takes 0.1 / `exposure` of the input."""
    y = jnp.broadcast_to(jax.random.uniform(jax.random.key(1), (16, 16), minval=0.4), (6, 16, 16))
    sampler = Proximal(detail=0.0, exposure=exposure, mirror=False)
    found = sampler(y, Takes(jnp.array(0.1)), NuclearNorm(2.0, static_is_free=True), key=jax.random.key(3))
    np.testing.assert_allclose(found.signal, y - 0.1 / exposure, atol=1e-5)
    np.testing.assert_allclose(found.background, 0.1 / exposure, atol=1e-5)
    unexplained = sampler(y, Takes(jnp.array(0.1)), NO_BACKGROUND, key=jax.random.key(3)).trace
    np.testing.assert_allclose(unexplained, 0.1 / exposure, atol=1e-5)


@pytest.mark.parametrize("exposure", [0.7, 1.3])
def test_a_signal_from_outside_starts_as_bright_as_the_prior_sees_the_clip(exposure):
    class Keeps(Told):
        def denoise(self, x, sigma):
            return x

    y, start = (jax.random.uniform(jax.random.key(k), (6, 16, 16), minval=0.2, maxval=0.7) for k in (1, 2))
    sampler = Proximal(steps=1, noise=0.0, detail=0.0, exposure=exposure)
    found = sampler(y, Keeps(jnp.array(0.0)), NO_BACKGROUND, key=jax.random.key(3), start=start)
    np.testing.assert_allclose(found.signal, start, atol=1e-6)


@pytest.mark.parametrize("exposure", [0.7, 1.0, 1.3])
def test_the_signal_lies_in_the_unit_interval_whatever_a_prior_says(exposure):
    y = jax.random.uniform(jax.random.key(1), (6, 16, 16), minval=0.2)
    for taken in (-3.0, 3.0):
        sampler = Proximal(detail=0.0, exposure=exposure)
        found = sampler(y, Takes(jnp.array(taken)), NuclearNorm(2.0), key=jax.random.key(3)).signal
        assert found.min() >= 0
        assert found.max() <= 1


def test_what_is_added_to_one_pixel_makes_up_for_no_haze_in_the_next():
    """X above Y is no haze, as X at Y is none; it does not lower the share of the other pixels of a speckle."""
    y = jnp.broadcast_to(jax.random.uniform(jax.random.key(1), (16, 16), minval=0.2), (6, 16, 16))
    odd = jnp.indices((16, 16)).sum(0) % 2 == 1

    def found(share: Array) -> Array:
        return Proximal(spare=0.0, clear=1.0, mirror=False)(
            y, Told(share), NuclearNorm(2.0), key=jax.random.key(3)
        ).signal

    np.testing.assert_allclose(found(jnp.where(odd, 0.6, -3.0)), found(jnp.where(odd, 0.6, 0.0)), atol=1e-5)


def test_draws_and_modes_see_the_clip_as_it_is():
    """Of a prior that takes 0.1, they have 0.1 less."""
    y = jnp.broadcast_to(jax.random.uniform(jax.random.key(1), (16, 16), minval=0.4), (6, 16, 16))
    for sampler in (Proximal.sample(), Proximal.mode()):
        found = sampler(y, Takes(jnp.array(0.1)), NuclearNorm(2.0, static_is_free=True), key=jax.random.key(3))
        np.testing.assert_allclose(found.signal, y - 0.1, atol=1e-5)


def test_exposure_changes_nothing_where_the_share_of_haze_is_the_same_however_bright():
    """Not even of pixels that are brighter than 1 in the brighter clip."""
    y = jax.random.uniform(jax.random.key(1), (6, 16, 16), minval=0.2)
    share = 0.6 * jax.random.uniform(jax.random.key(2), (16, 16))

    def found(exposure: float) -> Array:
        return Proximal(exposure=exposure)(y, Told(share), NuclearNorm(2.0), key=jax.random.key(3)).signal

    np.testing.assert_allclose(found(1.5), found(1.0), atol=1e-5)


def test_exposure_is_for_a_prior_that_has_learned_haze():
    def found(exposure: float) -> Array:
        sampler = Proximal(mu=30.0, start=FAR, steps=3, exposure=exposure)
        return sampler(clip(), Gaussian(10.0, 0.2), NuclearNorm(2.0), key=jax.random.key(3)).signal

    np.testing.assert_array_equal(found(1.5), found(1.0))


def test_a_mean_over_a_speckle_is_a_binomial_filter():
    """As SciPy has it, of frames one by one, zeros around them."""
    video = np.asarray(jax.random.uniform(jax.random.key(1), (3, 9, 12)))
    weights = np.outer(*2 * [np.array([1, 4, 6, 4, 1]) / 16])
    expected = [ndimage.convolve(frame, weights, mode="constant") for frame in video]
    np.testing.assert_allclose(over_speckle(jnp.asarray(video)), expected, atol=1e-6)


def test_speckle_keeps_its_contrast():
    """X that is smooth where speckle could not be foretold takes nearly the same share of bright and dark pixels."""
    y = jnp.broadcast_to(jax.random.uniform(jax.random.key(1), (32, 32), minval=0.2), (6, 32, 32))
    level = jnp.full_like(y, 0.5)  # what a denoiser says where it knows no more
    found = Proximal(spare=0.2, clear=0.8, mirror=False)(
        y, Told(1 - level / y), NuclearNorm(2.0), key=jax.random.key(3)
    )
    per_pixel = without_haze(y, haze_share(y, level), 0.2, 0.8)
    assert (found.signal / y).std() < 0.5 * (per_pixel / y).std()


def test_errors_that_change_from_frame_to_frame_do_not_flicker():
    """Errors below the threshold's noise are averaged over time; haze that grows and fades as one keeps doing so."""
    y, still = jnp.full((10, 32, 32), 0.5), jax.random.uniform(jax.random.key(2), (32, 32), minval=0.3, maxval=0.6)

    def found(share: Array, error: float) -> Array:
        sampler = Proximal(spare=0.0, clear=1.0, mirror=False)
        return sampler(y, Told(share, error), NuclearNorm(2.0), key=jax.random.key(3)).signal

    steady, told = found(still, 0.01), Told(still, 0.01, y).denoise(y, 1.0)
    assert jnp.mean(jnp.diff(steady, axis=0) ** 2) < 0.01 * jnp.mean(jnp.diff(told, axis=0) ** 2)
    changes = 0.3 * jnp.sin(jnp.arange(10.0))[:, None, None] * still
    growing = found(still + changes, 0.0)
    smooth = over_speckle(still + changes) / over_speckle(jnp.ones_like(y))
    np.testing.assert_allclose(growing, y * (1 - smooth), atol=0.02)
    assert jnp.std(growing - growing.mean(0)) > 0.9 * jnp.std(y * (smooth - smooth.mean(0)))


def test_a_prior_that_knows_no_haze_takes_it_from_the_background():
    """Where L is above Y, as under dark speckle, all of Y and no more is haze."""
    y = clip().at[:, ::3, ::3].multiply(0.2)
    y = y.at[::2, ::3, ::3].multiply(4)
    sampler = Proximal(mu=30.0, start=FAR, steps=3, spare=0.0, clear=1.0)
    found = sampler(y, Gaussian(1000.0, 0.0), NuclearNorm(50.0, static_is_free=True), key=jax.random.key(3))
    steady = NuclearNorm(0.02 * (12 + 5**0.5), static_is_free=True)
    assert y.shape == (5, 12, 12)
    assert (found.background > y + 0.05).sum() > 20
    share = steady.prox(over_speckle(jnp.clip(found.background, 0, y)) / over_speckle(y))
    np.testing.assert_allclose(found.signal, y * (1 - share), atol=1e-5)


@pytest.mark.parametrize("detail", [0.3, 0.8])
def test_detail_lies_between_the_mean_and_the_input_less_its_haze(detail):
    y, settings = clip(), {"key": jax.random.key(3)}
    sampler = Proximal(mu=30.0, start=FAR, steps=3)

    def found(share: float):
        changed = eqx.tree_at(lambda s: s.detail, sampler, share)
        return changed(y, Gaussian(10.0, 0.2), NuclearNorm(2.0), **settings)

    mean, kept = found(0.0), found(1.0)
    np.testing.assert_allclose(found(detail).signal, (1 - detail) * mean.signal + detail * kept.signal, atol=1e-6)
    np.testing.assert_array_equal(mean.background, kept.background)


def test_a_walk_without_noise_ends_at_the_mode():
    """Of a two-peaked prior (1/4 at 0.2, 3/4 at 0.8) seen through weak data: at the peak on whose side Y lies."""

    class TwoPeaks(eqx.Module):
        sigma_min: float = 1e-3
        sigma_max: float = 10.0

        def denoise(self, x, sigma):
            odds = 3 * jnp.exp(((x - 0.2) ** 2 - (x - 0.8) ** 2) / (2 * sigma**2))
            return jnp.where(jnp.isinf(odds), 0.8, (0.2 + 0.8 * odds) / (1 + odds))

    y = jnp.full((3, 4, 4), 0.55)
    found = Proximal(mu=0.5, start=2.0, end=0.01, noise=0.0, steps=40, detail=0.0)(
        y, TwoPeaks(), NO_BACKGROUND, key=jax.random.key(0)
    )
    np.testing.assert_allclose(found.signal, 0.8, atol=1e-3)
    gaussian = Proximal.mode(mu=30.0, steps=60)(y, Gaussian(10.0, 0.3), NO_BACKGROUND, key=jax.random.key(0))
    np.testing.assert_allclose(gaussian.signal, (3 + 30 * y) / 40, atol=2e-3)


def test_walking_down_gives_a_sample_with_the_posterior_s_spread():
    """DDIM keeps the variance: over many pixels, mean (c m + mu y) / (c + mu) and variance 1 / (c + mu)."""
    y = jnp.full((4, 64, 64), 0.5, jnp.float32)
    c, mu, m = 100.0, 150.0, 0.45
    sampler = Proximal(mu=mu, start=30.0, end=1e-3, steps=400, detail=0.0)
    found = sampler(y, Gaussian(c, m), NO_BACKGROUND, key=jax.random.key(2)).signal
    assert float(found.mean()) == pytest.approx((c * m + mu * 0.5) / (c + mu), abs=2e-3)
    assert float(found.std()) == pytest.approx((c + mu) ** -0.5, rel=0.06)


def test_parts_stay_in_range_and_black_stays_black():
    y = clip().at[:, :3].set(0.0)
    found = Proximal(mu=30.0, start=FAR, steps=4, detail=0.0)(
        y, Gaussian(100.0, 3.0), NuclearNorm(0.5), key=jax.random.key(3)
    )
    assert found.signal.max() == 1.0  # the prior pulls towards 3
    assert found.signal.min() >= 0
    assert found.background.min() >= 0
    assert found.trace.shape == (4,)
    np.testing.assert_array_equal(found.signal[:, :3], 0)


def test_the_trace_is_what_neither_part_explains():
    y = clip()
    found = Proximal(mu=30.0, start=FAR, steps=3, detail=0.0)(
        y, Gaussian(10.0, 0.2), NuclearNorm(2.0), key=jax.random.key(3)
    )
    misfit = jnp.sqrt(jnp.mean((y - found.signal - found.background) ** 2))
    assert float(found.trace[-1]) == pytest.approx(float(misfit), rel=1e-5)


class Aware(eqx.Module):
    """A prior that has learned haze: having seen y it knows that x0 = y / 2; else it says 0.9."""

    sigma_min: float = 0.01
    sigma_max: float = 7.0
    seen: jax.Array | None = None
    haze_aware: bool = eqx.field(static=True, default=True)

    def denoise(self, x, sigma):
        return jnp.full_like(x, 0.9) if self.seen is None else self.seen / 2

    def given(self, observed):
        return Aware(seen=observed)


def test_a_haze_aware_prior_is_shown_the_clip_and_starts_at_its_highest_noise():
    y = clip()
    found = separate(y, Aware(), key=jax.random.key(0), background=NO_BACKGROUND, sampler=Proximal(detail=0.0))
    np.testing.assert_allclose(found.signal, y / 2, atol=1e-6)
    np.testing.assert_allclose(Proximal(steps=3).levels(Aware()), 7.0, rtol=1e-6)
    np.testing.assert_allclose(Proximal(steps=3).levels(Gaussian(1.0)), BLIND_START, rtol=1e-6)
    walk = Proximal(start=2.0, end=0.5, steps=3).levels(Aware())
    np.testing.assert_allclose(walk, [2.0, 1.0, 0.5], rtol=1e-6)


class OneSided(Aware):
    """Having seen y it says y / 2, and more of it the further to the right."""

    def given(self, observed):
        return OneSided(seen=observed * (1 + jnp.linspace(-0.4, 0.4, observed.shape[-1])))


@pytest.mark.parametrize("steps", [2, 3])
def test_errors_that_depend_on_the_side_cancel_in_the_mirror(steps):
    y, settings = clip() / 2, {"key": jax.random.key(0), "background": NO_BACKGROUND}

    def signal(**how) -> Array:
        return separate(y, OneSided(), sampler=Proximal(detail=0.0, **how), **settings).signal

    np.testing.assert_allclose(signal(steps=steps), y / 2, atol=1e-6)
    wrong = OneSided().given(y).denoise(y, 1.0)
    assert jnp.abs(wrong - y / 2).max() > 0.02
    np.testing.assert_allclose(signal(steps=steps, mirror=False), wrong, atol=1e-6)
    np.testing.assert_allclose(signal(steps=1), wrong, atol=1e-6)  # there is one look, and nothing to take a mean of


def test_a_prior_that_knows_no_haze_is_not_mirrored():
    """It may well know left from right."""
    y = clip()
    mean = jnp.broadcast_to(jnp.linspace(0.1, 0.9, y.shape[-1]), y.shape)
    both = [
        Proximal(mirror=mirror)(y, Gaussian(10.0, mean), NO_BACKGROUND, key=jax.random.key(0))
        for mirror in (True, False)
    ]
    np.testing.assert_array_equal(both[0].signal, both[1].signal)


def test_the_default_background_just_swallows_white_noise():
    """Of noise at the level it is matched to, hardly more than the mean over time passes; a flat haze passes whole."""
    shape = (10, 64, 64)
    noise = 0.02 * jax.random.normal(jax.random.key(0), shape)
    nuclear = Proximal(mu=3.0).background_for(shape)
    rest = nuclear.prox(noise, 1 / 3.0) - noise.mean(axis=0)
    assert float(singular_values(rest)[0]) < 0.1 * float(singular_values(noise)[0])
    haze = jnp.full(shape, 0.1)
    np.testing.assert_allclose(nuclear.prox(haze, 1 / 3.0), haze, atol=1e-4)


def test_static_haze_does_not_wear_off_however_long_it_iterates():
    """X is known to be 0.2 below Y; a plain norm gives back a little of L at each step, the default's nothing."""
    y, prior = jnp.full((6, 24, 24), 0.5), Gaussian(0.05, 0.3)

    def background(steps: int, p_of_l: NuclearNorm) -> float:
        sampler = Proximal(mu=3.0, start=FAR, steps=steps)
        return float(sampler(y, prior, p_of_l, key=jax.random.key(0)).background.mean())

    own = Proximal(mu=3.0).background_for(y.shape)
    assert background(40, own) == pytest.approx(background(2, own), abs=2e-3)
    plain = NuclearNorm(own.gamma)
    assert background(40, plain) < background(2, plain) - 0.02


def test_windows_agree_with_the_whole_where_frames_do_not_interact():
    y, prior = clip(frames=11), Gaussian(10.0, 0.3)
    sampler = Proximal(mu=30.0, start=FAR, steps=2)
    settings = {"key": jax.random.key(0), "background": NO_BACKGROUND, "sampler": sampler}
    whole = separate(y, prior, **settings)
    parts = separate(y, prior, window=4, overlap=2, **settings)
    np.testing.assert_allclose(parts.signal, whole.signal, atol=5e-5)
    assert parts.signal.shape == parts.background.shape == y.shape


@pytest.mark.parametrize("sampler", [Proximal(steps=3), Algorithm1.paper(steps=3)])
def test_same_key_same_bits_and_progress(sampler):
    y, prior = clip(frames=6), Gaussian(10.0, 0.3)
    told = []
    first = separate(
        y, prior, key=jax.random.key(4), sampler=sampler, window=4, overlap=1,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    again = separate(y, prior, key=jax.random.key(4), sampler=sampler, window=4, overlap=1)
    np.testing.assert_array_equal(first.signal, again.signal)
    np.testing.assert_array_equal(first.background, again.background)
    assert told[0] == (0, 6)
    assert told[-1] == (6, 6)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    other = separate(y, prior, key=jax.random.key(5), sampler=sampler, window=4, overlap=1)
    assert np.abs(np.asarray(first.signal - other.signal)).max() > 0


def test_the_start_is_where_the_walk_begins():
    """With a noise level far below the prior's spread, X_tau decides: the estimate stays at the start."""
    y, prior = clip(), Gaussian(1.0, 0.5)
    sampler = Proximal(mu=1e-6, start=1e-3, steps=1, detail=0.0)
    found = sampler(y, prior, NO_BACKGROUND, key=jax.random.key(0), start=0.25 * jnp.ones_like(y))
    np.testing.assert_allclose(found.signal, 0.25, atol=6e-3)


def test_one_pass_is_the_denoiser():
    y, prior = clip(), Gaussian(10.0, 0.3)
    found = mmse(np.asarray(y), prior, 0.2)
    expected = (10.0 * 0.3 + y / 0.04) / (10.0 + 25.0)
    np.testing.assert_allclose(found.signal, expected, atol=1e-6)
    np.testing.assert_allclose(found.background, jnp.maximum(y - expected, 0), atol=1e-6)


@pytest.mark.parametrize(
    "setting",
    [
        {"mu": 0.0}, {"mu": float("nan")}, {"steps": 0}, {"start": -1.0}, {"end": 0.0}, {"fresh": -0.1},
        {"noise": -1.0}, {"detail": 1.5}, {"spare": -0.1}, {"spare": 0.9, "clear": 0.9}, {"exposure": 0.0},
        {"start": 0.1, "end": 0.2},
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(setting):
    with pytest.raises(InputError, match=next(reversed(setting))):
        Proximal(**setting)


@pytest.mark.parametrize(
    ("video", "reason"),
    [
        (np.zeros((4, 4)), "shape"),
        (np.zeros((1, 4, 4)), "2 frames"),
        (np.full((3, 4, 4), np.nan), "finite"),
        (np.zeros((3, 0, 4)), "shape"),
    ],
)
def test_unusable_videos_are_refused(video, reason):
    with pytest.raises(InputError, match=reason):
        separate(video, Gaussian(1.0), key=jax.random.key(0))
    with pytest.raises(InputError, match=reason):
        mmse(video, Gaussian(1.0), 0.1)
    with pytest.raises(InputError, match="sigma"):
        mmse(np.zeros((3, 4, 4)), Gaussian(1.0), 0.0)
