"""zea's method and zea's presets against what zea 0.1.8 itself computes (tests/fixtures/make_zea_fixtures.py).

The embedding's fastest wave, 1000 turns a unit of variance, turns a last digit of float32 into 4e-4 of its phase.
`ROUNDING` allows for that digit; where the compilers agree on it the results are within 1e-5 of zea's, and zea's own
results move by 1e-5 when the last digit of its noise is changed. Pixels are of order 1.
"""

import dataclasses
import importlib.util
import json
import shutil
from pathlib import Path

import equinox as eqx
import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.paper.gaussian import Gaussian
from nuclear_diffusion.paper.nuclear_norm import NuclearNorm
from nuclear_diffusion.paper.sample import sample
from nuclear_diffusion.paper.zea import Zea, nuclear_gradient, separate_as_zea, zea_windows
from nuclear_diffusion.priors.checkpoint import load_prior, prior_hash
from nuclear_diffusion.priors.protocol import Prior
from nuclear_diffusion.priors.variance_preserving import VariancePreserving
from nuclear_diffusion.restore.methods import Zea as ZeaMethod
from nuclear_diffusion.restore.methods import as_dict
from nuclear_diffusion.training.loop import train

FIXTURES = Path(__file__).parent / "fixtures"
PRESET = FIXTURES / "zea_preset"
ROUNDING = 5e-4


def rank_weights(frames, factor=2.0):
    return tuple(1 + factor * i / frames for i in range(frames))


KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def prior() -> VariancePreserving:
    found = load_prior(PRESET)
    assert isinstance(found, VariancePreserving)
    return found


@pytest.fixture(scope="module")
def noise_of_zea():
    return np.load(FIXTURES / "zea_noise.npz")


@pytest.fixture(scope="module")
def dehazed():
    return np.load(FIXTURES / "zea_dehazed.npz")


class OnlyDenoise(eqx.Module):
    """What the sampler knows of a prior of any other kind."""

    prior: VariancePreserving
    sigma_min: float = 0.0
    sigma_max: float = 100.0

    def denoise(self, x, sigma):
        return self.prior.denoise(x, sigma)


def assert_same(found, dehazed, case, part):
    np.testing.assert_allclose(2 * found.signal - 1, dehazed[f"{case}_{part}_tissue"], rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(2 * found.background - 1, dehazed[f"{case}_{part}_haze"], rtol=0, atol=ROUNDING)


# the network


def test_network_predicts_zeas_noise(prior, noise_of_zea):
    variance = jnp.asarray(noise_of_zea["sigma"]) ** 2
    found = eqx.filter_jit(prior.predict_noise)(jnp.asarray(noise_of_zea["x"]), variance)
    assert noise_of_zea["noise"].std() > 1
    np.testing.assert_allclose(found, noise_of_zea["noise"], rtol=0, atol=ROUNDING)


def test_denoiser_is_tweedies_estimate_in_display_intensity(prior, noise_of_zea):
    """X_0 = (X_tau - sigma eps) / alpha in [-1, 1], asked for at X_tau / alpha in [0, 1]."""
    x, sigma, noise = (noise_of_zea[name].astype(np.float64) for name in ("x", "sigma", "noise"))
    sigma = sigma[:, None, None]
    alpha = np.sqrt(1 - sigma**2)
    expected = ((x - sigma * noise) / alpha + 1) / 2
    seen = jnp.asarray((x / alpha + 1) / 2, jnp.float32)
    found = eqx.filter_jit(prior.denoise)(seen, jnp.asarray(sigma / alpha / 2, jnp.float32)[:, 0, 0])
    # rounding of eps counts sigma / alpha / 2 times
    np.testing.assert_array_less(np.abs(found - expected), (ROUNDING * np.maximum(1, sigma / alpha))[:, :1, :1] + 0 * x)


def test_range_of_noise_is_the_presets(prior):
    assert prior.sigma_min == pytest.approx(0.329 / 2, abs=3e-4)
    assert prior.sigma_max == pytest.approx(np.sqrt(1 / 0.02**2 - 1) / 2)
    known = dataclasses.replace(prior, network=lambda x, variance: x * variance)
    assert isinstance(known, Prior)
    x = jax.random.uniform(KEY, (2, 16, 16))
    denoise = eqx.filter_jit(known.denoise)
    np.testing.assert_array_equal(denoise(x, jnp.float32(1e-3)), denoise(x, jnp.float32(prior.sigma_min)))
    assert not np.array_equal(denoise(x, jnp.float32(0.2)), denoise(x, jnp.float32(prior.sigma_min)))


def test_frames_are_independent_and_of_any_size(prior):
    """Many frames pass in parts; a size that the network cannot halve gets a border, black in the network's unit."""

    def network(x, variance):
        assert x.shape[1:] == (8, 10)
        return variance * jnp.roll(x, 1, axis=(1, 2))

    known = dataclasses.replace(prior, network=network)
    x, variance = jax.random.normal(KEY, (2, 10, 7, 9)), jnp.linspace(0.1, 0.9, 20).reshape(2, 10)
    alpha = jnp.sqrt(1 - variance)[..., None, None]
    bordered = jnp.concatenate([jnp.broadcast_to(-alpha, (2, 10, 1, 9)), x], axis=2)
    bordered = jnp.concatenate([jnp.broadcast_to(-alpha, (2, 10, 8, 1)), bordered], axis=3)
    expected = variance[..., None, None] * bordered[:, :, :-1, :-1]
    np.testing.assert_allclose(eqx.filter_jit(known.predict_noise)(x, variance), expected, atol=1e-6)


# the method


CASES = {
    "plain": (Zea(n_steps=500, initial_step=450), NuclearNorm(1.0)),
    "weighted": (Zea(n_steps=120, initial_step=70, omega=3.0), NuclearNorm(0.5, rank_weights(4, 2.0))),
}


@pytest.mark.slow
@pytest.mark.parametrize(("case", "as_any"), [("plain", False), ("plain", True), ("weighted", False)])
def test_fifty_steps_end_where_zeas_do(prior, dehazed, case, as_any):
    """With zea's network as such, and asked as any prior is, in [0, 1] at sigma / alpha."""
    sampler, background = CASES[case]
    assert sampler.steps == 50
    y, noise = jnp.asarray(dehazed[f"{case}_video"]), jnp.asarray(dehazed[f"{case}_noise"])
    sampled = sampler.sample(y, OnlyDenoise(prior) if as_any else prior, background, key=KEY, noise=noise)
    for part, project in (("projected", True), ("free", False)):
        found = dataclasses.replace(sampler, project=project).finish(y, sampled)
        assert_same(found, dehazed, case, part)


@pytest.mark.slow
def test_windows_are_laid_and_joined_as_zeas(prior, dehazed):
    y, noise = jnp.asarray(dehazed["windows_video"]), jnp.asarray(dehazed["windows_noise"])
    sampler = Zea(n_steps=100, initial_step=90)
    parts = jnp.split(noise, 3)
    found = separate_as_zea(y, prior, key=KEY, sampler=sampler, window=4, overlap=1, noise=parts)
    assert_same(found, dehazed, "windows", "projected")


@pytest.mark.parametrize(
    ("frames", "size", "overlap", "expected"),
    [
        (60, 7, 0, [(7 * k, 7 * k + 7) for k in range(8)] + [(56, 60)]),
        (10, 7, 0, [(0, 10)]),
        (11, 7, 0, [(0, 7), (7, 11)]),
        (14, 7, 0, [(0, 7), (7, 14)]),
        (3, 7, 0, [(0, 3)]),
        (10, 4, 2, [(0, 4), (2, 6), (4, 8), (6, 10)]),
    ],
)
def test_the_last_window_is_short_or_joined(frames, size, overlap, expected):
    assert [(part.start, part.stop) for part in zea_windows(frames, size, overlap)] == expected


def test_the_default_is_the_last_tenth_of_five_thousand_steps():
    sampler = Zea()
    assert (sampler.steps, Zea.last_tenth()) == (500, sampler)
    level = sampler.schedule(Gaussian(1.0))
    assert float(level.sigma[0] / level.alpha[0]) == pytest.approx(0.472, abs=5e-4)
    assert float(level.sigma_next[-1] / level.alpha_next[-1]) == pytest.approx(np.sqrt(1 / 0.95**2 - 1), rel=1e-4)
    np.testing.assert_allclose(level.sigma_next[:-1], level.sigma[1:], atol=1e-6)


def test_penalty_is_divided_by_the_frames_and_leaves_zero_along_the_identity():
    gradient = eqx.filter_jit(nuclear_gradient)
    low_rank = jax.random.normal(KEY, (3, 4, 4))
    left, _, right = np.linalg.svd(low_rank.reshape(3, -1), full_matrices=False)
    found = gradient(NuclearNorm(2.0, rank_weights(3)), low_rank)
    expected = 2 * (left * np.array([1, 1 + 2 / 3, 1 + 4 / 3])) @ right / 3
    np.testing.assert_allclose(found.reshape(3, -1), expected, atol=1e-5)
    at_zero = gradient(NuclearNorm(2.0, rank_weights(3)), jnp.zeros((3, 4, 4)))
    np.testing.assert_allclose(at_zero.reshape(3, -1)[:, :3], np.diag([2, 2 + 4 / 3, 2 + 8 / 3]) / 3, atol=1e-5)
    assert not at_zero.reshape(3, -1)[:, 3:].any()


@pytest.mark.slow
def test_projection_copies_what_is_brighter_than_mid_grey(dehazed):
    y, prior, background = jnp.asarray(dehazed["plain_video"]), Gaussian(20.0, 0.45), NuclearNorm(1.0)
    free = Zea.last_tenth(20, project=False)(y, prior, background, key=KEY)
    found = Zea.last_tenth(20)(y, prior, background, key=KEY)
    bright = np.asarray(free.signal) > 0.5
    assert 0.05 < bright.mean() < 0.95
    np.testing.assert_array_equal(np.asarray(found.signal)[bright], np.asarray(y)[bright])
    np.testing.assert_array_equal(np.asarray(found.signal)[~bright], np.asarray(free.signal)[~bright])
    np.testing.assert_allclose(found.background, y - found.signal, atol=1e-7)


@pytest.mark.slow
def test_is_a_sampler_of_sample():
    y, sampler = jax.random.uniform(KEY, (5, 8, 8)), Zea.last_tenth(3)
    found = sample(y, Gaussian(20.0, 0.2), sampler, key=KEY, background=NuclearNorm(1.0), window=5, overlap=0)
    alone = sampler(y, Gaussian(20.0, 0.2), NuclearNorm(1.0), key=jax.random.fold_in(KEY, 0), start=y)
    np.testing.assert_allclose(found.signal, alone.signal, atol=1e-6)
    assert found.trace.shape == (3,)


@pytest.mark.slow
def test_method_zea_is_the_published_default():
    assert as_dict(ZeaMethod()) == {
        "method": "zea",
        "prior": "echo-blind",
        "gamma": 1.0,
        "steps": 500,
        "window": 7,
        "overlap": 0,
        "project": "on",
        "seed": 0,
    }
    video, prior = np.random.default_rng(0).random((9, 12, 12), np.float32), Gaussian(20.0, 0.4)
    method = ZeaMethod(steps=4, seed=3, project="off")
    calls = []
    found = method.separate(video, prior, progress=lambda done, total: calls.append((done, total)))
    sampler = Zea(n_steps=40, initial_step=36, project=False)
    expected = separate_as_zea(video, prior, key=jax.random.key(3), sampler=sampler)
    np.testing.assert_array_equal(found.signal, expected.signal)
    np.testing.assert_array_equal(found.background, expected.background)
    assert calls[-1] == (4, 4)  # 9 frames are one window: the 2 left over are too few


def test_unusable_settings_are_refused():
    for n_steps, initial_step in [(5, 5), (5, -1)]:
        with pytest.raises(InputError, match="below `n_steps`"):
            Zea(n_steps=n_steps, initial_step=initial_step)
    with pytest.raises(InputError, match="overlap"):
        separate_as_zea(np.zeros((5, 4, 4)), Gaussian(1.0), key=KEY, window=4, overlap=4)
    with pytest.raises(InputError, match="on or off"):
        ZeaMethod(project="yes")  # pyright: ignore[reportArgumentType]


# presets


@pytest.fixture
def preset(tmp_path) -> Path:
    return Path(shutil.copytree(PRESET, tmp_path / "preset"))


def edit(path: Path, **changes):
    """Change entries of config.json, those of the network where it has them."""
    content = json.loads(path.read_text())
    for name, value in changes.items():
        inner = content["config"]
        (inner["network_kwargs"] if name in ("widths", "block_depth", "normalization") else inner)[name] = value
    path.write_text(json.dumps(content))


def test_shards_are_put_together(preset, prior):
    whole, shards = preset / "model.weights.h5", ["model_00000.weights.h5", "model_00001.weights.h5"]
    weight_map = {}
    with h5py.File(whole) as old, h5py.File(preset / shards[0], "w") as a, h5py.File(preset / shards[1], "w") as b:
        layers = old["ema_network/layers"]
        assert isinstance(layers, h5py.Group)
        for number, name in enumerate(layers):
            layers.copy(name, (a, b)[number % 2].require_group("ema_network/layers"))
            weight_map[f"/ema_network/layers/{name}/vars"] = [shards[number % 2]]
    whole.unlink()
    (preset / "model.weights.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert prior_hash(load_prior(preset)) == prior_hash(prior)
    (preset / shards[1]).unlink()
    with pytest.raises(InputError, match="lacks model_00001"):
        load_prior(preset)
    (preset / "model.weights.json").write_text(json.dumps({"weight_map": {"/a": ["../model.weights.h5"]}}))
    with pytest.raises(InputError, match="no file of the preset"):
        load_prior(preset)


def test_unknown_keys_and_the_other_network_do_not_matter(preset, prior):
    edit(preset / "config.json", ema_val=0.5, novelty={"a": 1})
    with h5py.File(preset / "model.weights.h5", "a") as file:
        file["layers/functional/layers/conv2d/vars/0"] = np.zeros(3)
    assert prior_hash(load_prior(preset)) == prior_hash(prior)
    with h5py.File(preset / "model.weights.h5", "a") as file:
        bias = file["ema_network/layers/conv2d/vars/1"]
        assert isinstance(bias, h5py.Dataset)
        bias[0] += 1e-6
    assert prior_hash(load_prior(preset)) != prior_hash(prior)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": [4, 6]}, "another architecture"),
        ({"widths": [4, 8, 8]}, "another architecture"),
        ({"widths": [4]}, "another architecture"),
        ({"widths": "wide"}, "widths"),
        ({"widths": [10**9]}, "cannot be built"),
        ({"block_depth": 10**9}, "cannot be built"),
        ({"network_kwargs": [1]}, "network_kwargs"),
        ({"normalization": "group_norm"}, "batch_norm"),
        ({"network_name": "dit_time_conditional"}, "unet_time_conditional"),
        ({"input_range": [0, 1]}, r"\[-1, 1\]"),
        ({"input_shape": [16, 16, 3]}, "input_shape"),
        ({"min_signal_rate": 0.99}, "signal rates"),
    ],
)
def test_presets_of_another_kind_are_refused(preset, changes, message):
    edit(preset / "config.json", **changes)
    with pytest.raises(InputError, match=message) as caught:
        load_prior(preset)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["no weights", "cut", "not json", "not an object", "no model", "missing", "extra"])
def test_damaged_presets_are_refused(preset, damage):
    config, weights = preset / "config.json", preset / "model.weights.h5"
    match damage:
        case "no weights":
            weights.unlink()
        case "cut":
            weights.write_bytes(weights.read_bytes()[:2000])
        case "not json":
            config.write_text("{")
        case "not an object":
            config.write_text("[]")
        case "no model":
            config.write_text("{}")
        case "missing" | "extra":
            with h5py.File(weights, "a") as file:
                if damage == "missing":
                    del file["ema_network/layers/conv2d_3/vars/1"]
                else:
                    file["ema_network/layers/conv2d_99/vars/0"] = np.zeros(3)
    with pytest.raises(InputError) as caught:
        load_prior(preset)
    assert "\n" not in str(caught.value)


def test_training_does_not_start_from_a_preset(preset, tmp_path):
    with pytest.raises(InputError, match="folder"):
        train(np.full((4, 16, 16), 9, np.uint8), tmp_path / "run", init=preset)


# zea itself, where it is installed


@pytest.mark.slow
def test_against_zea_itself(tmp_path):
    """Another network of three levels in shards, other frames, another seed; the windows of many clips."""
    pytest.importorskip("zea")
    spec = importlib.util.spec_from_file_location("make_zea_fixtures", FIXTURES / "make_zea_fixtures.py")
    assert spec is not None
    assert spec.loader is not None
    fixtures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fixtures)
    from zea.func import split_into_windows  # pyright: ignore[reportMissingImports]

    model = fixtures.make_model(seed=5, size=24, widths=(6, 4, 8), depth=1)
    model.save_to_preset(str(tmp_path), max_shard_size=2e-5)
    assert (tmp_path / "model.weights.json").exists()
    prior = load_prior(tmp_path)
    y = fixtures.make_video(6, size=24, seed=6)
    for project in (True, False):
        theirs = fixtures.run_zea(model, y, seed=7, n_steps=500, initial_step=450, hard_project=project)
        noise = jnp.asarray(theirs["noise"])
        sampler = Zea(n_steps=500, initial_step=450, project=project)
        sampled = sampler.sample(jnp.asarray(y), prior, NuclearNorm(1.0), key=KEY, noise=noise)
        ours = sampler.finish(jnp.asarray(y), sampled)
        np.testing.assert_allclose(2 * ours.signal - 1, theirs["tissue"], rtol=0, atol=ROUNDING)
        np.testing.assert_allclose(2 * ours.background - 1, theirs["haze"], rtol=0, atol=ROUNDING)

    for frames in range(1, 30):
        for size, overlap in [(7, 0), (7, 3), (4, 1), (2, 1), (1, 0)]:
            _, theirs = split_into_windows(np.zeros(frames), size, size - overlap)
            assert [list(part) for part in zea_windows(frames, size, overlap)] == theirs
