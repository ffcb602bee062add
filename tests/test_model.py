"""The terms of the model against float64 linear algebra, optimality conditions and closed forms."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.paper.gaussian import Gaussian
from nuclear_diffusion.paper.laplace import Laplace
from nuclear_diffusion.paper.nuclear_norm import NuclearNorm, singular_values
from nuclear_diffusion.priors.checkpoint import load_trained
from nuclear_diffusion.priors.diffusion_prior import DiffusionPrior
from nuclear_diffusion.priors.protocol import Prior
from nuclear_diffusion.simulation import patient_seed, simulate

nuclear_prox = jax.jit(lambda gamma, v, step: NuclearNorm(gamma).prox(v, step))
EPS = float(np.finfo(np.float32).eps)


def clip_with_spectrum(values, height=32, width=32, seed=0):
    """A float32 clip of len(values) frames whose matrix has these singular values up to float32 rounding."""
    rng = np.random.default_rng(seed)
    frames = len(values)
    left, _ = np.linalg.qr(rng.normal(size=(frames, frames)))
    right, _ = np.linalg.qr(rng.normal(size=(height * width, frames)))
    return (left @ np.diag(values) @ right.T).reshape(frames, height, width).astype(np.float32)


def as_matrix(video):
    return np.asarray(video, np.float64).reshape(len(video), -1)


def threshold_by_svd(video, thresholds):
    """Singular value soft-thresholding by a float64 SVD of the whole matrix."""
    left, values, right = np.linalg.svd(as_matrix(video), full_matrices=False)
    return (left * np.maximum(values - thresholds, 0)) @ right


def hard_cases():
    rng = np.random.default_rng(1)
    frame = rng.random((1, 12, 10))
    return {
        "zeros": np.zeros((7, 12, 10)),
        "one frame": frame,
        "identical frames": np.repeat(frame, 7, axis=0),
        "rank two": np.einsum("pr,rhw->phw", rng.random((9, 2)), rng.random((2, 12, 10))),
        "as many frames as pixels": rng.random((12, 3, 4)),
        "more frames than pixels": rng.random((30, 3, 4)),
        "one pixel": rng.random((5, 1, 1)),
    }


@pytest.mark.parametrize("decades", [0, 2, 4, 6, 9])
@pytest.mark.parametrize("frames", [7, 40])
def test_singular_values_far_below_the_largest_survive_float32(frames, decades):
    values = 100 * np.logspace(0, -decades, frames)
    video = clip_with_spectrum(values)
    exact = np.linalg.svd(as_matrix(video), compute_uv=False)
    np.testing.assert_allclose(jax.jit(singular_values)(video), exact, rtol=0, atol=20 * EPS * exact[0])


@pytest.mark.parametrize("threshold", [50.0, 1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("decades", [0, 3, 6])
def test_nuclear_prox_is_singular_value_thresholding_at_any_threshold(decades, threshold):
    video = clip_with_spectrum(100 * np.logspace(0, -decades, 20))
    found = as_matrix(nuclear_prox(2.0, video, threshold / 2))
    assert np.linalg.norm(found - threshold_by_svd(video, threshold), 2) < 20 * EPS * 100


def test_plain_gram_would_fail_the_accuracy_test_above():
    """The guard is needed: eigenvalues of the Gram matrix miss the same tolerance by orders of magnitude."""
    matrix = as_matrix(clip_with_spectrum(100 * np.logspace(0, -6, 20))).astype(np.float32)
    by_gram = np.sqrt(np.maximum(np.linalg.eigvalsh(matrix @ matrix.T), 0))[::-1]
    exact = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
    assert np.abs(by_gram - exact).max() > 20 * EPS * exact[0]


@pytest.mark.slow
@pytest.mark.parametrize("case", hard_cases())
@pytest.mark.parametrize("gamma", [0.0, 1e-3, 0.5, 1e3])
def test_nuclear_prox_of_degenerate_clips(case, gamma):
    video = hard_cases()[case].astype(np.float32)
    found = as_matrix(nuclear_prox(gamma, video, 1.0))
    np.testing.assert_allclose(found, threshold_by_svd(video, gamma), atol=1e-5)


@settings(max_examples=25)
@given(st.sampled_from([(1, 2, 2), (6, 3, 4), (9, 2, 3)]), st.floats(1e-3, 3), st.floats(0.1, 5), st.integers(0, 99))
def test_nuclear_prox_meets_the_optimality_condition(shape, gamma, step, seed):
    """v - L is in step * d(gamma ||L||_*): it has spectral norm <= step * gamma, and is aligned with L."""
    v = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    low_rank = as_matrix(nuclear_prox(gamma, v, step))
    rest = as_matrix(v) - low_rank
    level = step * gamma
    assert np.linalg.norm(rest, 2) <= level + 1e-4
    nuclear = np.linalg.svd(low_rank, compute_uv=False).sum()
    assert np.vdot(rest, low_rank) == pytest.approx(level * nuclear, abs=1e-3)


def test_nuclear_norm_value():
    video = clip_with_spectrum([4.0, 2.0, 1.0])
    assert float(NuclearNorm(0.5)(jnp.asarray(video))) == pytest.approx(3.5, rel=1e-5)
    assert float(NuclearNorm(0.5, weights=(0.0, 1.0))(jnp.asarray(video))) == pytest.approx(1.5, rel=1e-5)


def test_weighted_prox_beats_every_other_choice_of_singular_values():
    """The weighted penalty is not convex; over spectra in the same singular vectors, search the whole grid."""
    values, weights, step = np.array([3.0, 2.0, 1.2]), np.array([0.0, 0.5, 2.0]), 0.7
    video = clip_with_spectrum(values)
    found = NuclearNorm(1.0, tuple(weights)).prox(jnp.asarray(video), step)
    spectrum = np.linalg.svd(as_matrix(found), compute_uv=False)
    grid = np.stack(np.meshgrid(*[np.linspace(0, 3.2, 65)] * 3, indexing="ij"), -1).reshape(-1, 3)

    def cost(s):
        return step * (np.sort(s, -1)[..., ::-1] * weights).sum(-1) + ((s - values) ** 2).sum(-1) / 2

    assert cost(spectrum) <= cost(grid).min() + 1e-5
    np.testing.assert_allclose(spectrum, [3.0, 1.65, 0.0], atol=1e-5)


@pytest.mark.slow
def test_weighted_prox_leaves_a_static_clip_alone():
    static = jnp.asarray(np.repeat(np.random.default_rng(0).random((1, 8, 8)), 7, axis=0), jnp.float32)
    np.testing.assert_allclose(NuclearNorm(100.0, weights=(0.0, 1.0)).prox(static), static, atol=1e-5)
    assert float(jnp.abs(NuclearNorm(100.0).prox(static)).max()) == 0


def test_last_weight_holds_for_all_further_singular_values():
    video = jnp.asarray(clip_with_spectrum([5.0, 4.0, 3.0, 2.0]))
    short = NuclearNorm(1.0, (0.0, 0.5)).prox(video)
    np.testing.assert_allclose(short, NuclearNorm(1.0, (0.0, 0.5, 0.5, 0.5)).prox(video), atol=1e-6)


@pytest.mark.slow
@settings(max_examples=25)
@given(st.sampled_from([(1, 2, 2), (6, 3, 4), (9, 2, 3)]), st.floats(1e-3, 3), st.integers(0, 99))
def test_prox_with_a_free_static_part_meets_the_optimality_condition(shape, gamma, seed):
    """With D = L - mean(L): v - L is in the span of d(gamma ||D||_*), and so has no mean; D is that of a plain prox."""
    v = jnp.asarray(np.random.default_rng(seed).normal(size=shape) + 0.5, jnp.float32)
    found = NuclearNorm(gamma, static_is_free=True).prox(v)
    np.testing.assert_allclose(found.mean(axis=0), v.mean(axis=0), atol=1e-5)
    rest, varying = as_matrix(v - found), as_matrix(found - found.mean(axis=0))
    assert np.linalg.norm(rest, 2) <= gamma + 1e-4
    nuclear = np.linalg.svd(varying, compute_uv=False).sum()
    assert np.vdot(rest, varying) == pytest.approx(gamma * nuclear, abs=1e-3)
    assert float(NuclearNorm(gamma, static_is_free=True)(found)) == pytest.approx(gamma * nuclear, abs=1e-3)


def test_a_still_background_is_free_and_has_no_slope():
    still = jnp.asarray(np.repeat(np.random.default_rng(0).random((1, 8, 8)), 7, axis=0), jnp.float32)
    norm = NuclearNorm(100.0, static_is_free=True)
    assert float(norm(still)) < 0.01
    np.testing.assert_allclose(norm.prox(still), still, atol=1e-6)
    np.testing.assert_array_equal(norm.subgradient(still), 0)


def test_nuclear_subgradient_with_a_free_static_part_is_the_derivative():
    rng = np.random.default_rng(3)
    video, way = rng.normal(size=(2, 6, 5, 5))
    norm = lambda v: np.linalg.svd(as_matrix(v - v.mean(0)), compute_uv=False).sum()  # noqa: E731
    slope = (norm(video + 1e-5 * way) - norm(video - 1e-5 * way)) / 2e-5
    found = NuclearNorm(2.0, static_is_free=True).subgradient(jnp.asarray(video, jnp.float32))
    assert float(jnp.vdot(found, way)) == pytest.approx(2 * slope, rel=1e-4)


def test_nuclear_subgradient_is_the_derivative_at_full_rank():
    rng = np.random.default_rng(3)
    video, way = rng.normal(size=(2, 6, 5, 5))
    norm = lambda v: np.linalg.svd(as_matrix(v), compute_uv=False).sum()  # noqa: E731
    slope = (norm(video + 1e-5 * way) - norm(video - 1e-5 * way)) / 2e-5
    found = NuclearNorm(2.0).subgradient(jnp.asarray(video, jnp.float32))
    assert float(jnp.vdot(found, way)) == pytest.approx(2 * slope, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("case", hard_cases())
def test_nuclear_subgradient_of_degenerate_clips_is_finite_and_valid(case):
    """A subgradient G has spectral norm <= gamma and <G, L> = gamma ||L||_*; the least one has the rank of L."""
    video = hard_cases()[case].astype(np.float32)
    g = as_matrix(jax.jit(NuclearNorm(1.0).subgradient)(video))
    exact = np.linalg.svd(as_matrix(video), compute_uv=False)
    rank = int((exact > 1e-5 * max(exact[0], 1e-30)).sum())
    assert np.vdot(g, as_matrix(video)) == pytest.approx(exact.sum(), rel=1e-4, abs=1e-6)
    np.testing.assert_allclose(np.linalg.svd(g, compute_uv=False), np.arange(len(exact)) < rank, atol=1e-3)


def test_new_gamma_and_step_do_not_recompile():
    traces = []

    @jax.jit
    def prox(gamma, v, step):
        traces.append(None)
        return NuclearNorm(gamma).prox(v, step)

    video = jnp.asarray(clip_with_spectrum([3.0, 2.0]))
    for gamma in (0.5, 1.0):
        found = prox(jnp.asarray(gamma), video, jnp.asarray(2.0))
        np.testing.assert_allclose(as_matrix(found), threshold_by_svd(video, 2 * gamma), atol=1e-5)
    assert len(traces) == 1


@pytest.mark.parametrize("gamma", [-1.0, np.nan, np.inf])
def test_impossible_gamma_is_refused(gamma):
    with pytest.raises(InputError, match="gamma"):
        NuclearNorm(gamma)


@pytest.mark.parametrize("weights", [(1.0, 0.5), (-1.0, 0.0), (), ((1.0,),)])
@pytest.mark.usefixtures("wrong_types")
def test_weights_without_an_exact_prox_are_refused(weights):
    with pytest.raises(ValueError, match="weights"):
        NuclearNorm(1.0, weights)


def test_laplace_prox_minimises_on_a_grid():
    v, lam, step = np.linspace(-2, 2, 41), 0.6, 1.5
    grid = np.linspace(-2.5, 2.5, 5001)
    best = grid[np.argmin(step * lam * np.abs(grid) + (grid - v[:, None]) ** 2 / 2, axis=1)]
    found = Laplace(lam).prox(jnp.asarray(v, jnp.float32)[:, None, None], step)[:, 0, 0]
    np.testing.assert_allclose(found, best, atol=1.1e-3)
    assert float(Laplace(lam)(jnp.asarray([[[-1.0, 2.0]]]))) == pytest.approx(1.8)


def test_gaussian_prox_and_denoiser_are_the_posterior_mean():
    """Numerical integration over x0 of p(x0) N(x; x0, sigma^2)."""
    precision, mean, sigma, x = 4.0, 0.3, 0.7, 1.1
    x0 = np.linspace(-6, 6, 20001)
    posterior = np.exp(-precision / 2 * (x0 - mean) ** 2 - (x - x0) ** 2 / (2 * sigma**2))
    expected = (x0 * posterior).sum() / posterior.sum()
    prior = Gaussian(precision, mean)
    frame = jnp.full((1, 2, 2), x)
    np.testing.assert_allclose(prior.denoise(frame, sigma), expected, rtol=1e-5)
    np.testing.assert_allclose(prior.prox(frame, sigma**2), expected, rtol=1e-5)


def test_gaussian_takes_a_value_a_pixel_and_a_noise_level_a_frame():
    precision = jnp.asarray([[1.0, 4.0]])
    mean = jnp.asarray([[0.0, 1.0]])
    x, sigma = jnp.ones((3, 1, 2)), jnp.asarray([0.0, 1.0, 1e3])
    # weights of x against the mean: 1 / (1 + precision sigma^2)
    expected = [[[1, 1]], [[0.5, 1]], [[0, 1]]]
    np.testing.assert_allclose(Gaussian(precision, mean).denoise(x, sigma), expected, atol=1e-5)


def test_gaussian_value_has_its_gradient_at_the_mean():
    prior = Gaussian(3.0, 0.4)
    x = jnp.full((2, 2, 2), 0.9)
    np.testing.assert_allclose(jax.grad(prior)(x), 3 * 0.5, rtol=1e-5)
    assert float(prior(x)) == pytest.approx(3 / 2 * 8 * 0.25, rel=1e-5)


@pytest.mark.slow
def test_edm_preconditioning_of_a_gaussian_needs_no_network():
    """For clean frames of N(mean, scale^2) the exact denoiser is m + c_skip (x - m): F must be 0 (Karras, eq. 8)."""
    prior = DiffusionPrior(lambda frame, c_noise: jnp.zeros_like(frame), 0.3, 0.2, 0.01, 5.0)
    x = jax.random.normal(jax.random.key(0), (4, 5, 6))
    for sigma in (0.02, 0.2, 2.0):
        np.testing.assert_allclose(
            prior.denoise(x, sigma), Gaussian(1 / 0.2**2, 0.3).denoise(x, sigma), rtol=1e-4, atol=1e-5
        )


@pytest.mark.slow
def test_edm_network_sees_unit_variance_and_is_asked_for_unit_variance():
    """Karras et al. 2022, eqs. 114-121: c_in makes the input's variance 1, the target (x0 - c_skip x) / c_out too."""
    scale, mean = 0.2, 0.3
    seen = DiffusionPrior(lambda frame, c_noise: frame, mean, scale, 0.01, 5.0)
    zero = DiffusionPrior(lambda frame, c_noise: jnp.zeros_like(frame), mean, scale, 0.01, 5.0)
    one = DiffusionPrior(lambda frame, c_noise: jnp.ones_like(frame), mean, scale, 0.01, 5.0)
    x0_key, noise_key = jax.random.split(jax.random.key(1))
    x0 = mean + scale * jax.random.normal(x0_key, (8, 64, 64))
    for sigma in (0.02, 0.2, 2.0):
        x = x0 + sigma * jax.random.normal(noise_key, x0.shape)
        c_out = one.denoise(x, sigma) - zero.denoise(x, sigma)
        network_input = (seen.denoise(x, sigma) - zero.denoise(x, sigma)) / c_out
        target = (x0 - zero.denoise(x, sigma)) / c_out
        assert float(network_input.std()) == pytest.approx(1, rel=0.02)
        assert float(target.std()) == pytest.approx(1, rel=0.02)


@pytest.mark.slow
def test_denoiser_gives_the_score_of_the_noisy_density():
    """(D(x; sigma) - x) / sigma^2 is the gradient of log p(x; sigma) = log N(x; mean, scale^2 + sigma^2)."""
    mean, scale, sigma = 0.3, 0.2, 0.5
    prior = DiffusionPrior(lambda frame, c_noise: jnp.zeros_like(frame), mean, scale, 0.01, 5.0)
    x = jax.random.normal(jax.random.key(0), (2, 3, 3))
    log_density = lambda x: jax.scipy.stats.norm.logpdf(x, mean, np.hypot(scale, sigma)).sum()  # noqa: E731
    np.testing.assert_allclose((prior.denoise(x, sigma) - x) / sigma**2, jax.grad(log_density)(x), rtol=1e-4)


def test_network_is_told_a_quarter_of_the_log_noise_and_noise_stays_in_range():
    prior = DiffusionPrior(lambda frame, c_noise: jnp.full_like(frame, c_noise), 0.0, 1.0, 0.1, 2.0)
    sigma = jnp.asarray([1e-4, 0.1, 0.5, 2.0, 50.0])
    clipped = np.clip(sigma, 0.1, 2.0)
    c_out = clipped / np.sqrt(clipped**2 + 1)
    told = prior.denoise(jnp.zeros((5, 2, 2)), sigma)[:, 0, 0] / c_out
    np.testing.assert_allclose(told, np.log(clipped) / 4, rtol=1e-4)


@pytest.mark.slow
def test_denoiser_pads_frames_for_the_network_and_keeps_any_leading_axes():
    sizes = []

    def network(frame, c_noise):
        sizes.append(frame.shape)
        return frame

    prior = DiffusionPrior(network, 0.1, 0.2, 0.01, 5.0, stride=8)
    x = jax.random.uniform(jax.random.key(0), (2, 3, 13, 17))
    sigma = jnp.asarray([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    together = prior.denoise(x, sigma)
    assert together.shape == x.shape
    assert set(sizes) == {(16, 24)}
    np.testing.assert_allclose(together[1, 2], prior.denoise(x[1, 2], 0.6), rtol=1e-5)


def test_diffusion_prior_trains_through_its_network_only():
    prior = DiffusionPrior(eqx.nn.Lambda(jnp.tanh), 0.1, 0.2, 0.01, 5.0)
    assert jax.tree.leaves(eqx.filter(prior, eqx.is_inexact_array)) == []


@pytest.mark.slow
def test_the_prior_of_clean_frames_beats_the_other_where_no_hazy_clip_is_given():
    """On patients of the development split: neither prior was trained on them."""
    clips = [simulate(seed=patient_seed("development", k), frames=2).clean for k in (900_001, 900_002)]
    clean = jnp.asarray(np.concatenate(clips))
    noise = jax.random.normal(jax.random.key(0), clean.shape)

    def error(name: str, sigma: float) -> float:
        found = eqx.filter_jit(load_trained(name).denoise)(clean + sigma * noise, sigma)
        return float(jnp.sqrt(jnp.mean((found - clean) ** 2)))

    for sigma in (0.1, 1.0):
        assert error("echo-blind", sigma) < error("echo", sigma) < 0.15


def test_every_prior_has_the_denoiser_protocol():
    assert isinstance(Gaussian(1.0), Prior)
    assert isinstance(DiffusionPrior(lambda frame, c_noise: frame, 0.0, 1.0, 0.1, 2.0), Prior)
    assert not isinstance(Laplace(1.0), Prior)
    assert (Gaussian(1.0).sigma_min, Gaussian(1.0).sigma_max) == (0.0, np.inf)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Laplace(-1.0),
        lambda: Gaussian(0.0),
        lambda: DiffusionPrior(lambda frame, c_noise: frame, 0.0, 0.0, 0.1, 2.0),
        lambda: DiffusionPrior(lambda frame, c_noise: frame, 0.0, 1.0, 2.0, 2.0),
        lambda: DiffusionPrior(lambda frame, c_noise: frame, 0.0, 1.0, 0.0, 2.0),
        lambda: DiffusionPrior(lambda frame, c_noise: frame, 0.0, 1.0, 0.1, 2.0, stride=0),
    ],
)
def test_impossible_settings_are_refused(make):
    with pytest.raises(ValueError, match="must be"):
        make()
