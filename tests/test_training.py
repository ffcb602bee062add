"""The learned prior: network, loss, training run, weights on disk."""

import csv
import dataclasses
import json
import os
import pickle
import signal
import sys
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from scipy import stats

from networks import random_prior, random_unet
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.priors.checkpoint import (
    as_blind,
    load_prior,
    prior_hash,
    read_safetensors,
    save_prior,
)
from nuclear_diffusion.priors.diffusion_prior import SEEN, DiffusionPrior, Posterior
from nuclear_diffusion.priors.flow import draw_from
from nuclear_diffusion.priors.unet import UNet, UNetConfig
from nuclear_diffusion.training import batches as batches_module
from nuclear_diffusion.training import loop as training
from nuclear_diffusion.training import records
from nuclear_diffusion.training.batches import Batches, batch_of_file, batch_workers, prefetched
from nuclear_diffusion.training.config import TrainConfig
from nuclear_diffusion.training.data import pack_clips
from nuclear_diffusion.training.loop import TrainProgress, train
from nuclear_diffusion.training.loss import HIGH_SHARE, sample_sigma, score_matching_loss, show_haze
from nuclear_diffusion.training.records import VALIDATION_SIGMAS

TINY = UNetConfig(grid=2, widths=(8, 12), blocks=1, embedding=8, fine=2)
SMALLEST = UNetConfig(grid=2, widths=(6,), blocks=1, embedding=6, fine=0)
ONE_STEP = TrainConfig(SMALLEST, steps=1, batch=2, halved_until=0, lr=1e-3, warmup=0)


def prior_info(path):
    with safe_open(path, framework="numpy") as file:
        return json.loads(file.metadata()["info"])


def key(seed: int) -> jax.Array:
    return jax.random.key(seed, impl="rbg")  # compiles faster than the default


def make_unet(config: UNetConfig = TINY, seed: int = 0) -> UNet:
    """As `train` makes it."""
    return eqx.filter_jit(UNet)(config, key=key(seed))


loss_and_gradient = eqx.filter_jit(eqx.filter_value_and_grad(score_matching_loss))


def load_ours(path: Path) -> DiffusionPrior:
    """A prior that was trained here."""
    prior = load_prior(path)
    assert isinstance(prior, DiffusionPrior)
    return prior


def unet_of(prior: DiffusionPrior) -> UNet:
    assert isinstance(prior.network, UNet)
    return prior.network


@pytest.fixture(scope="module")
def prior() -> DiffusionPrior:
    return random_prior(TINY)


@pytest.fixture
def weights(prior, tmp_path):
    path = tmp_path / "prior.safetensors"
    save_prior(path, prior, {"step": 3})
    return path


def flat_frames(count: int, seed: int = 0, side: int = 16) -> np.ndarray:
    """Frames of one grey value each, N(0.5, 0.15^2): the posterior mean of such a frame is known."""
    values = np.clip(np.random.default_rng(seed).normal(0.5, 0.15, count), 0, 1)
    return np.rint(255 * np.broadcast_to(values[:, None, None], (count, side, side))).astype(np.uint8)


# The network


@pytest.mark.slow
def test_unet_starts_at_zero_and_keeps_the_shape():
    network = make_unet()
    out = eqx.filter_jit(network)(jnp.ones((12, 20)), jnp.float32(0.0))
    assert out.shape == (12, 20)
    np.testing.assert_array_equal(out, 0)


def test_default_unet_has_the_size_the_package_can_ship():
    shapes = eqx.filter_eval_shape(UNet, key=jax.random.key(0))
    count = sum(leaf.size for leaf in jax.tree_util.tree_leaves(shapes))
    assert 2e6 < count < 4e6
    assert UNetConfig().stride == 32


@pytest.mark.slow
def test_unet_is_equivariant_to_shifts_by_its_stride():
    network = eqx.filter_jit(random_unet(TINY))
    frame = np.random.default_rng(2).standard_normal((128, 128)).astype(np.float32)
    shifted = np.roll(frame, (TINY.stride, -TINY.stride), (0, 1))
    of_frame, of_shifted = (np.asarray(network(jnp.asarray(each), jnp.float32(0.1))) for each in (frame, shifted))
    out = np.roll(of_frame, (TINY.stride, -TINY.stride), (0, 1))
    inside = (slice(56, 72), slice(56, 72))
    np.testing.assert_allclose(of_shifted[inside], out[inside], atol=1e-5)
    assert out[inside].std() > 0.01


def test_unet_listens_to_the_noise_level():
    network = eqx.filter_jit(random_unet(TINY))
    frame = jax.random.normal(key(2), (16, 16))
    low, high = network(frame, jnp.float32(-1.5)), network(frame, jnp.float32(0.5))
    assert float(jnp.max(jnp.abs(low - high))) > 1e-3


def test_unet_refuses_sizes_it_cannot_divide():
    with pytest.raises(ValueError, match="divisible by 4"):
        random_unet(TINY)(jnp.zeros((18, 16)), jnp.float32(0.0))


def test_prior_denoises_any_frame_size(prior):
    x0 = eqx.filter_jit(prior.denoise)(jnp.full((2, 37, 50), 0.3), 0.1)
    assert x0.shape == (2, 37, 50)
    assert bool(jnp.isfinite(x0).all())


# The loss


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.002, 0.05, 0.5, 10.0])
def test_loss_of_the_untrained_network_is_one_at_every_noise_level(sigma):
    """White Gaussian frames: c_skip alone is the posterior mean, its variance is c_out^2, so the loss is 1."""
    prior = DiffusionPrior(make_unet(), 0.4, 0.2, 0.002, 10.0, TINY.stride)
    frames = 0.4 + 0.2 * jax.random.normal(key(1), (16, 64, 64))
    loss, _ = loss_and_gradient(prior, frames, jnp.full(16, sigma), key(2))
    # The mean of 65,536 squared normals: five standard deviations.
    assert float(loss) == pytest.approx(1, abs=5 * (2 / 65536) ** 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.002, 10.0])
def test_gradient_is_finite_and_not_zero_at_the_ends_of_the_range(sigma):
    prior = random_prior(TINY, 0.4, 0.2)
    frames = jax.random.uniform(key(1), (16, 64, 64))
    _, gradient = loss_and_gradient(prior, frames, jnp.full(16, sigma), key(2))
    leaves = jax.device_get(jax.tree_util.tree_leaves(eqx.filter(gradient.network, eqx.is_array)))
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert all(np.abs(leaf).max() > 0 for leaf in leaves)


@pytest.mark.slow
def test_noise_levels_follow_the_mixture():
    config = TrainConfig(p_mean=-2.0, p_std=1.0, tail=0.3)
    sigma = np.asarray(eqx.filter_jit(sample_sigma)(key(0), 4096, config))
    low, high = np.log([config.sigma_min, config.sigma_max])

    def cdf(z):
        return 0.3 * np.clip((z - low) / (high - low), 0, 1) + 0.7 * stats.norm.cdf(z, -2.0, 1.0)

    assert stats.kstest(np.log(sigma), cdf).statistic < 0.005
    assert sigma.min() >= config.sigma_min * 0.9999
    assert sigma.max() <= config.sigma_max * 1.0001


# The training run


@pytest.mark.slow
@pytest.mark.usefixtures("_no_figures_of_training")
def test_training_approaches_the_posterior_mean(tmp_path):
    """x0 = a 1 with a ~ N(m, s^2): E[a | x] = (m / s^2 + sum(x) / sigma^2) / (1 / s^2 + n / sigma^2)."""
    config = TrainConfig(
        UNetConfig(grid=4, widths=(24,), blocks=1, embedding=16, fine=0),
        steps=200, batch=16, halved_until=0, lr=1.2e-2, warmup=20, ema=0.95, p_mean=-1.0, p_std=0.8, tail=0.0,
        augment=False, log_every=200, validate_every=200,
    )  # fmt: skip
    n, m, s = 64, 0.5, 0.15
    train_frames, val_frames, test_frames = (
        flat_frames(count, seed, side=8) for seed, count in enumerate((1024, 16, 64))
    )
    result = train(train_frames, tmp_path, config, val_frames=val_frames)
    x0 = jnp.asarray(test_frames, jnp.float32) / 255
    for sigma in (0.3, 0.6):
        x = x0 + sigma * jax.random.normal(key(3), x0.shape)
        a = (m / s**2 + x.sum((1, 2)) / sigma**2) / (1 / s**2 + n / sigma**2)
        error = result.prior.denoise(x, sigma) - a[:, None, None]
        untrained = m + s**2 / (s**2 + sigma**2) * (x - m) - a[:, None, None]
        ratio = float(jnp.sqrt(jnp.mean(error**2) / jnp.mean(untrained**2)))
        assert ratio < 0.3, f"at noise {sigma}"


def rows_of(run) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "loss.csv").read_text().splitlines()))


@pytest.fixture(scope="module")
def one_step_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("one_step")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "draw_curves", lambda *_: b"curves")
        patch.setattr(records, "draw_samples", lambda *_: b"samples")
        train(flat_frames(8), out, ONE_STEP, seed=5)
    return out


@pytest.mark.slow
def test_one_step_of_the_optimiser_and_of_the_moving_average(one_step_run):
    """Muon's step is lr 0.2 sqrt(rows) times a nearly orthogonal matrix; NAdam's first one is alike in each weight.

    Five Newton-Schulz iterations end with singular values between about 0.7 and 1.2 (Jordan et al. 2024). The
    average's first decay is 1/10.
    """
    state = load_file(one_step_run / "checkpoint.safetensors")
    start = np.asarray(make_unet(SMALLEST, seed=5).head.kernel)
    moved = (state["network.head.kernel"] - start).reshape(-1, start.shape[-1])
    stretch = np.linalg.svd(moved, compute_uv=False) / (1e-3 * 0.2 * len(moved) ** 0.5)
    assert 0.6 < stretch.min() <= stretch.max() < 1.3
    nadam = 1 + 0.9 * 0.1 / (1 - 0.9**2)  # Dozat 2016: the first step looks one step ahead
    np.testing.assert_allclose(np.abs(state["network.head.bias"]), 1e-3 * nadam, rtol=1e-2)
    expected = 0.1 * start + 0.9 * state["network.head.kernel"]
    np.testing.assert_allclose(state["average.head.kernel"], expected, rtol=1e-5, atol=1e-9)


def test_the_log_names_the_shipped_weights(one_step_run):
    log = json.loads((one_step_run / "log.json").read_text())
    assert log["step"] == 1
    assert log["prior_sha256"] == prior_hash(load_prior(one_step_run / "prior.safetensors"))
    info, (row,) = prior_info(one_step_run / "prior.safetensors"), rows_of(one_step_run)
    assert info["seed"] == 5
    measured = {name: float(value) for name, value in row.items() if name not in ("step", "seconds", "lr", "loss")}
    assert info["validation"] == pytest.approx(measured, abs=1e-6)
    assert all(0 < measured[f"rmse_{sigma:g}"] < 1 for sigma in VALIDATION_SIGMAS)


def test_a_checkpoint_of_another_run_is_refused(one_step_run):
    with pytest.raises(InputError, match="another network, start, seed or data"):
        train(flat_frames(8), one_step_run, ONE_STEP, seed=1)
    with pytest.raises(InputError, match="another network, start, seed or data"):
        train(flat_frames(8, 3), one_step_run, ONE_STEP, seed=5)
    with pytest.raises(InputError, match="judged by other clips"):
        train(flat_frames(8), one_step_run, ONE_STEP, seed=5, judge=FakeJudge([0.1]))
    with pytest.raises(InputError, match=r"prior\.safetensors that `train` wrote"):
        load_prior(one_step_run / "checkpoint.safetensors")


@pytest.mark.slow
@pytest.mark.usefixtures("_no_figures_of_training")
def test_a_run_never_ends_worse_than_it_started(one_step_run, tmp_path):
    """A learning rate that wrecks the weights: the start is validated too, and stays the best."""
    start = one_step_run / "prior.safetensors"
    wrecked = dataclasses.replace(ONE_STEP, steps=3, lr=10.0, ema=0.0)
    result = train(flat_frames(8), tmp_path, wrecked, seed=5, init=start)
    assert prior_hash(result.prior) == prior_hash(load_prior(start))
    assert prior_info(tmp_path / "prior.safetensors")["step"] == 0
    assert prior_hash(load_prior(tmp_path)) == prior_hash(result.prior)  # the folder of a run stands for its prior


@pytest.mark.usefixtures("wrong_types")
def test_the_first_part_of_a_run_is_on_halved_frames():
    """Each batch is of its own step, and halved as long as that step is in the first `halved_until` of the run."""
    batches = SimpleNamespace(at=lambda step, halved, ready: (step, halved))
    run = SimpleNamespace(fraction=lambda step: step / 10, config=TrainConfig(halved_until=0.5))
    with prefetched(batches, 3, partial(records.Run.halved, run), None) as made:  # pyright: ignore
        assert [next(made) for _ in range(4)] == [(3, True), (4, True), (5, False), (6, False)]


@pytest.mark.usefixtures("wrong_types")
def test_each_cycle_starts_with_half_the_peak_and_a_longer_run_begins_as_a_shorter_one():
    def rates(cycles: int) -> list[float]:
        config = TrainConfig(steps=100 * cycles, cycles=cycles, lr=0.8, warmup=0, final_lr=0.01)
        run = SimpleNamespace(fraction=lambda step: step / config.steps, config=config)
        return [records.Run.lr(run, step) for step in range(config.steps + 1)]  # pyright: ignore

    one, two, three = rates(1), rates(2), rates(3)
    np.testing.assert_allclose([one[0], one[50], one[100]], [0.8, 0.8 * 0.505, 0.008])
    np.testing.assert_allclose([two[100], two[150], two[200]], [0.4, 0.4 * 0.505, 0.004])
    np.testing.assert_allclose([three[200], three[300]], [0.2, 0.002])
    assert one[:100] == two[:100]  # so a run can be made longer, to the bit
    np.testing.assert_allclose(three[:200], two[:200], rtol=1e-12)


class Slow:
    """A pool whose work is done when it is asked for, or already where it is `early`."""

    def __init__(self, early: set[int]):
        self.early = early

    def submit(self, at, step, halved, ready):
        pending: Future = Future()
        if step in self.early:
            pending.set_result((step, ready))
        else:
            pending.result = lambda timeout=None: (step, ready)
        return pending

    def shutdown(self, cancel_futures):
        assert cancel_futures


@pytest.mark.usefixtures("wrong_types")
def test_a_batch_is_used_again_until_the_next_one_is_there(monkeypatch):
    """At most as often as may be; and a batch is of the clips that were there when it was asked for."""
    monkeypatch.setattr(batches_module, "_makers", lambda batches: (Slow({1, 3}), None, 1, 2))
    counts = iter(range(10, 99))
    with prefetched(None, 0, lambda step: False, lambda: next(counts)) as made:  # pyright: ignore
        assert [next(made) for _ in range(6)] == [(0, 10), (1, 11), (1, 11), (1, 11), (2, 12), (3, 13)]


def test_beside_a_gpu_validation_has_a_tenth_of_the_minutes(monkeypatch):
    monkeypatch.setenv("NUCLEAR_DIFFUSION_BESIDE_GPU", "1")
    run = SimpleNamespace(
        config=TrainConfig(minutes=9, validate_every=5), validating=0.0, last_validating=0.0, seconds=1
    )

    def due(step):
        return records.Run.validates(run, step)  # pyright: ignore

    assert [due(step) for step in (4, 5)] == [False, True]
    run.validating, run.last_validating = 12.0, 8.0
    for run.seconds, expected in ((199, False), (201, True)):
        assert due(10) == expected
    run.seconds, run.config = 1, TrainConfig(validate_every=5)  # a length in steps does not follow the clock
    assert due(10)


# frames that are filled in while they are used


def numbered(count: int) -> np.ndarray:
    """Clips of one grey each: their number."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None, None], (count, 2, 2, 8, 8))


def test_batches_are_of_the_clips_that_are_there():
    batches = Batches(numbered(40), 3, 64, False)
    some = np.rint(255 * batches.at(5, ready=4)[:, 0, 0, 0])
    assert set(some) == {0, 1, 2, 3}
    np.testing.assert_array_equal(batches.at(5, ready=40), batches.at(5))
    assert len(set(np.rint(255 * batches.at(5)[:, 0, 0, 0]))) > 20


def platforms() -> tuple[str | None, int]:
    """Of JAX in this process: those that may be used, and how many are."""
    from jax._src import xla_bridge

    return jax.config.jax_platforms, len(xla_bridge._backends)  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.slow
def test_processes_make_the_same_batches_of_the_file_and_leave_the_gpu_alone(tmp_path):
    clips = np.random.default_rng(0).integers(0, 256, (3, 8, 2, 32, 32), np.uint8)
    np.save(tmp_path / "clips.npy", clips)
    batches = Batches(np.load(tmp_path / "clips.npy", mmap_mode="r"), 1, 2, True)
    assert batches.file is not None
    assert batches.file == tmp_path / "clips.npy"
    assert Batches(clips, 1, 2, True).file is None
    assert Batches(batches.clips[1:], 1, 2, True).file is None  # not the whole file
    with batch_workers(1) as pool:
        made = pool.submit(partial(batch_of_file, batches.file, 1, 2, True), 4, True, 2).result()
        assert pool.submit(platforms).result() == ("cpu", 0)
    np.testing.assert_allclose(made, batches.at(4, True, 2), atol=1 / 255 / 16)


@pytest.mark.slow
@pytest.mark.usefixtures("_no_figures_of_training")
def test_a_run_on_frames_that_are_filled_in_goes_on_when_all_are_there(tmp_path):
    """Its records tell how many there were, and its mean stays that of the start."""
    frames, count = flat_frames(40), [20]
    whole = frames.copy()
    frames[20:] = 0
    train(frames, tmp_path, ONE_STEP, seed=5, ready=lambda: count[0])
    log = json.loads((tmp_path / "log.json").read_text())
    assert log["ready"] == 20
    assert log["mean"] == pytest.approx(whole[:20].mean() / 255, abs=1e-6)
    frames[:], count[0] = whole, 40
    ended = train(frames, tmp_path, ONE_STEP, seed=5, ready=lambda: count[0])
    assert ended.prior.mean == log["mean"]
    assert json.loads((tmp_path / "log.json").read_text())["ready"] == 40


def test_what_goes_wrong_where_frames_are_filled_in_ends_the_run(tmp_path):
    asked = iter([8, 8, 8])

    def ready() -> int:
        for count in asked:
            return count
        raise RuntimeError("a renderer died")

    with pytest.raises(RuntimeError, match="a renderer died"):
        train(flat_frames(8), tmp_path, FOUR_STEPS, ready=ready)


@pytest.mark.slow
def test_in_bfloat16_only_the_network_computes(monkeypatch):
    """Loss, weights, their average and the optimiser's moments are float32."""
    seen = []

    def spied(prior, frames, sigma, noise_key, given):
        seen.append(({w.dtype for w in jax.tree.leaves(prior.network)}, prior.denoise(frames, sigma).dtype))
        return score_matching_loss(prior, frames, sigma, noise_key, given)

    monkeypatch.setattr(training, "score_matching_loss", spied)
    config = dataclasses.replace(ONE_STEP, mixed=True, lr=1.5e-3)
    state = training._first_state(make_unet(SMALLEST), config)
    batch = jnp.ones((2, 1, 16, 16), jnp.float16)
    state, loss = training._take_step(state, batch, key(0), 1e-3, 0.2, 0.2, config)
    assert seen == [({jnp.dtype(jnp.bfloat16)}, jnp.float32)]
    assert loss.dtype == jnp.float32
    numbers = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert len(numbers) > 3 * len(jax.tree.leaves(state.network))
    assert {leaf.dtype for leaf in numbers} == {jnp.dtype(jnp.float32)}


FOUR_STEPS = TrainConfig(
    SMALLEST, steps=4, batch=2, halved_until=0, lr=0.02, warmup=0, ema=0.0, log_every=1, validate_every=1
)


@dataclasses.dataclass
class FakeJudge:
    """Gains from a list, whatever the prior; what it was shown is kept."""

    gains: list[float]
    columns: tuple[str, ...] = ("gain", "fake_score")
    called: Callable[[], None] = lambda: None

    def __post_init__(self):
        self.seen: list[DiffusionPrior] = []

    def __call__(self, prior: DiffusionPrior) -> dict[str, float]:
        self.called()
        self.seen.append(jax.tree.map(np.asarray, prior))
        return {"gain": self.gains[len(self.seen) - 1], "fake_score": 10.0 + len(self.seen)}


@pytest.mark.slow
@pytest.mark.usefixtures("_no_figures_of_training")
def test_a_judge_keeps_the_weights_with_the_highest_gain(tmp_path, monkeypatch):
    """Not those with the lowest errors, which a run without a judge keeps; and judging takes no time from training."""
    train(flat_frames(8), tmp_path / "alone", FOUR_STEPS)
    lowest = prior_info(tmp_path / "alone" / "prior.safetensors")["step"]
    best = 2 if lowest != 2 else 3
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    take_step = training._take_step

    def pass_time(seconds: float) -> None:
        clock.now += seconds

    def slow_step(*arguments):
        pass_time(2.0)
        return take_step(*arguments)

    for module in (training, records):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(training, "_take_step", slow_step)
    judge = FakeJudge([0.3 if step == best else -0.1 * step for step in range(1, 5)], called=lambda: pass_time(50.0))
    told: list[TrainProgress] = []
    result = train(flat_frames(8), tmp_path / "judged", FOUR_STEPS, judge=judge, progress=told.append)

    assert prior_info(tmp_path / "judged" / "prior.safetensors")["step"] == best
    kept = unet_of(judge.seen[best - 1]).head.kernel
    np.testing.assert_allclose(unet_of(result.prior).head.kernel, kept, rtol=2.0**-11, atol=2.0**-25)
    assert np.abs(kept - unet_of(judge.seen[lowest - 1]).head.kernel).max() > 1e-3
    rows = rows_of(tmp_path / "judged")
    errors = [[row[f"rmse_{sigma:g}"] for sigma in VALIDATION_SIGMAS] for row in rows]
    assert errors == [[row[f"rmse_{s:g}"] for s in VALIDATION_SIGMAS] for row in rows_of(tmp_path / "alone")]
    assert [float(row["gain"]) for row in rows] == pytest.approx(judge.gains)
    assert [float(row["fake_score"]) for row in rows] == [11, 12, 13, 14]
    for state, row in zip(told, rows, strict=True):
        assert state.validation is not None
        assert list(state.validation) == [name for name in row if name not in ("step", "seconds", "lr", "loss")]
        assert state.validation == pytest.approx({name: float(row[name]) for name in state.validation}, abs=1e-6)
        assert state.images_per_second == pytest.approx(2 / 2)  # frames a step, seconds a step


@pytest.mark.usefixtures("_no_figures_of_training")
def test_weights_half_way_back_to_the_start_compete(one_step_run, tmp_path):
    """They are the mean of the start's and of the averaged ones, and are kept where the judge likes them best."""
    start = load_ours(one_step_run / "prior.safetensors")
    judge = FakeJudge([0.0, 0.2, 0.1])
    kept = train(flat_frames(8), tmp_path, ONE_STEP, seed=5, init=start, judge=judge).prior
    assert [float(row["share"]) for row in rows_of(tmp_path)] == [1, 0.5]
    assert prior_info(tmp_path / "prior.safetensors")["validation"]["share"] == 0.5
    average = load_file(tmp_path / "checkpoint.safetensors")
    for name in ("stem", "head"):
        before = np.asarray(getattr(start.network, name).kernel)
        after = average[f"average.{name}.kernel"]
        assert np.abs(after - before).max() > 1e-4
        found = np.asarray(getattr(kept.network, name).kernel)
        np.testing.assert_allclose(found, (before + after) / 2, rtol=2.0**-10, atol=2.0**-24)
    np.testing.assert_array_equal(unet_of(judge.seen[2]).head.kernel, average["average.head.kernel"])
    np.testing.assert_array_equal(unet_of(judge.seen[0]).head.kernel, unet_of(start).head.kernel)


BOARD = """
import json

class SummaryWriter:
    def __init__(self, folder):
        self.folder, self.told = folder, []
    def add_scalar(self, name, value, step):
        self.told.append((name, value, step))
    def close(self):
        with open(self.folder + ".json", "w") as file:
            json.dump(self.told, file)
"""


@pytest.mark.usefixtures("_no_figures_of_training")
def test_tensorboard_is_told_what_the_log_holds_where_it_is_installed(one_step_run, tmp_path, monkeypatch):
    (tmp_path / "tensorboardX.py").write_text(BOARD)
    monkeypatch.syspath_prepend(tmp_path)
    start, run = one_step_run / "prior.safetensors", tmp_path / "run"
    train(flat_frames(8), run, ONE_STEP, seed=5, init=start, judge=FakeJudge([0.0, 0.1, 0.2]))
    monkeypatch.delitem(sys.modules, "tensorboardX")
    told = {(name, step): value for name, value, step in json.loads((run / "tensorboard.json").read_text())}
    logged = {
        (name, int(row["step"])): float(value)
        for row in rows_of(run)
        for name, value in row.items()
        if name not in ("step", "seconds")
    }
    assert np.isnan(logged.pop(("loss", 0)))  # of the start, which has not been trained
    assert told.keys() == logged.keys()
    assert {"loss", "lr", "gain", "fake_score", "rmse_0.1"} <= {name for name, _ in told}
    assert told == pytest.approx(logged, abs=1e-6)


def test_nothing_asks_for_tensorboard(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert records._board(tmp_path / "board") is None
    assert not list(tmp_path.iterdir())


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.slow
def test_a_run_that_is_interrupted_and_killed_ends_with_the_same_bits(tmp_path, monkeypatch):
    frames = np.random.default_rng(0).integers(0, 256, (8, 16, 16), dtype=np.uint8)
    config = TrainConfig(
        SMALLEST, steps=9, batch=2, warmup=2, log_every=3, validate_every=3,
        checkpoint_minutes=0.0,
    )  # fmt: skip

    def interrupt(progress):
        if progress.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    def kill(progress):
        if progress.step == 9:  # after the checkpoint of step 6, before that of step 9
            raise Killed

    with monkeypatch.context() as figures:  # those of the last run are drawn
        figures.setattr(records, "draw_curves", lambda *_: b"curves")
        figures.setattr(records, "draw_samples", lambda *_: b"samples")
        train(frames, tmp_path / "whole", config)
        stopped = train(frames, tmp_path / "parts", config, progress=interrupt)
        assert stopped.interrupted
        assert stopped.step == 3
        with pytest.raises(Killed):
            train(frames, tmp_path / "parts", config, progress=kill)
    steps = []
    ended = train(frames, tmp_path / "parts", config, progress=lambda p: steps.append(p.step))
    assert steps == [9]
    assert not ended.interrupted

    whole, parts = (load_file(tmp_path / run / "checkpoint.safetensors") for run in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    for name, array in whole.items():
        np.testing.assert_array_equal(array, parts[name], err_msg=name)
    columns = ("step", "loss", "rmse_0.1")
    rows = [
        [[row[column] for column in columns] for row in csv.DictReader(text.splitlines())]
        for text in ((tmp_path / run / "loss.csv").read_text() for run in ("whole", "parts"))
    ]
    assert rows[0] == rows[1]
    assert prior_hash(load_prior(tmp_path / "whole" / "prior.safetensors")) == prior_hash(ended.prior)
    for name in ("loss.png", "samples.png", "log.json"):
        assert (tmp_path / "parts" / name).stat().st_size > 100
    assert not list((tmp_path / "parts").glob("*.part"))


@pytest.mark.slow
@pytest.mark.usefixtures("_no_figures_of_training")
def test_training_can_start_from_a_prior_in_bfloat16(tmp_path):
    weights = tmp_path / "start.safetensors"
    prior = random_prior(SMALLEST)
    save_prior(weights, prior)
    config = TrainConfig(steps=2, batch=2, halved_until=0, mixed=True)
    result = train(flat_frames(4), tmp_path / "run", config, init=weights)
    assert unet_of(result.prior).config == unet_of(prior).config
    assert result.prior.mean == prior.mean
    start, end = (unet_of(each).head.kernel for each in (load_ours(weights), result.prior))
    assert 0 < float(jnp.max(jnp.abs(end - start))) < 0.01


def test_a_prior_that_has_learned_haze_does_not_go_on_without(tmp_path):
    config = dataclasses.replace(SMALLEST, haze_aware=True)
    prior = random_prior(config)
    save_prior(tmp_path / "start.safetensors", prior)
    with pytest.raises(InputError, match="haze"):
        train(flat_frames(4), tmp_path / "run", TrainConfig(steps=1), init=tmp_path / "start.safetensors")


@pytest.mark.usefixtures("wrong_types")
@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (np.zeros((2, 16, 16), np.float32), "uint8"),
        (np.zeros((0, 16, 16), np.uint8), "no picture"),
        (np.zeros((2, 16, 16), np.uint8), "black"),
    ],
)
def test_unusable_frames_are_refused(tmp_path, frames, reason):
    with pytest.raises(InputError, match=reason):
        train(frames, tmp_path, TrainConfig(TINY, steps=1))


def test_unusable_settings_are_refused():
    impossible: dict[str, Any] = {"steps": 0, "lr": 0.0, "tail": 2.0, "sigma_max": 0.001, "minutes": 0.0}
    for name, value in impossible.items():
        with pytest.raises(InputError, match=name):
            TrainConfig(**{name: value})


@pytest.mark.slow
def test_samples_of_a_gaussian_prior_have_its_mean_and_spread():
    """With F = 0 the denoiser is that of white Gaussian frames, so samples must have mean m and deviation d."""
    prior = DiffusionPrior(make_unet(), 0.4, 0.2, 0.002, 10.0, TINY.stride)
    samples = np.asarray(eqx.filter_jit(draw_from)(key(1), prior, jnp.full((4, 32, 32), prior.mean)))
    assert samples.mean() == pytest.approx(0.4, abs=0.01)
    assert samples.std() == pytest.approx(0.2, rel=0.05)


# Frames


def test_patients_are_never_on_both_sides_of_the_split():
    clips = [(f"p{i % 5}", np.full((2, 8, 8), i % 5 + 1, np.uint8)) for i in range(10)]
    bank = pack_clips(clips, val_every=3)
    train_patients, val_patients = set(bank.train[:, 0, 0]), set(bank.val[:, 0, 0])
    assert train_patients == {1, 2, 4, 5}
    assert val_patients == {3}
    assert len(bank.train) == 16
    assert len(pack_clips(clips[:2]).val) == 2
    assert len(pack_clips(clips[:1]).val) == 0


@pytest.mark.slow
def test_a_clip_is_seen_over_eight_frames_at_most():
    """The statistics that a haze-aware prior is given are those of evenly spaced frames, shared by all frames.

    The neighbours that it is given are as far away as these frames are from each other, or at the clip's end.
    """
    prior = DiffusionPrior(lambda *_: pytest.fail("the network was asked"), 0.2, 0.2, 0.01, 10.0, haze_aware=True)
    given = eqx.filter_jit(DiffusionPrior.given)
    clip = np.random.default_rng(1).random((15, 8, 8), np.float32)
    seen = np.asarray(given(prior, jnp.asarray(clip)).seen)
    assert seen.shape == (15, SEEN, 8, 8)
    np.testing.assert_array_equal(seen[:, 0], clip)
    np.testing.assert_array_equal(seen[2:, 1], clip[:-2])
    np.testing.assert_array_equal(seen[:2, 1], clip[np.array([0, 0])])
    np.testing.assert_array_equal(seen[:-2, 2], clip[2:])
    np.testing.assert_array_equal(seen[-2:, 2], clip[np.array([-1, -1])])
    every_other = clip[::2]
    for k, expected in enumerate((every_other.mean(0), every_other.std(0), every_other.min(0)), 3):
        np.testing.assert_allclose(seen[:, k], np.broadcast_to(expected, clip.shape), atol=1e-6)
    alone = np.asarray(given(prior, jnp.asarray(clip[:1])).seen)
    np.testing.assert_array_equal(alone[0, np.array([0, 1, 2, 3, 5])], np.broadcast_to(clip[0], (5, 8, 8)))
    np.testing.assert_allclose(alone[0, 4], 0, atol=1e-6)


# Priors that have seen haze


@pytest.mark.slow
@pytest.mark.usefixtures("_no_figures_of_training")
def test_a_prior_trained_on_pairs_uses_the_hazy_frame(tmp_path):
    """Clean frames are flat, of random level a; the hazy one is a + 0.3. E[x0 | y] is exact, E[x0] knows nothing."""
    clean = flat_frames(512, 0, side=8)
    hazy = np.clip(clean.astype(int) + 76, 0, 255).astype(np.uint8)
    config = TrainConfig(
        UNetConfig(grid=4, widths=(16,), blocks=1, embedding=16, fine=0),
        steps=120, batch=16, halved_until=0, lr=8e-3, warmup=20, ema=0.93, augment=False, log_every=120,
        validate_every=120,
    )  # fmt: skip
    prior = train(np.stack([clean, hazy], 1)[:, None], tmp_path, config).prior
    assert prior.haze_aware
    x0, y = (jnp.asarray(frames[:64], jnp.float32) / 255 for frames in (clean, hazy))
    x = x0 + prior.sigma_max * jax.random.normal(key(2), x0.shape)
    blind = jnp.sqrt(jnp.mean((prior.denoise(x, prior.sigma_max) - x0) ** 2))
    alone = [y, y, y, y, jnp.zeros_like(y), y]  # each frame a clip of its own
    posterior = Posterior(prior, jnp.stack(alone, axis=1))
    seeing = jnp.sqrt(jnp.mean((posterior.denoise(x, prior.sigma_max) - x0) ** 2))
    assert blind > 0.8 * x0.std()
    assert seeing < 0.35 * blind
    assert load_ours(tmp_path / "prior.safetensors").haze_aware


def test_a_prior_that_knows_no_haze_cannot_be_given_a_hazy_clip(prior):
    assert not prior.haze_aware
    with pytest.raises(ValueError, match="haze-aware"):
        prior.given(jnp.zeros((2, 16, 16)))


def test_most_of_the_shown_frames_have_high_noise():
    config = TrainConfig(shown=0.6)
    hazy = jnp.ones((4000, SEEN, 1, 1))
    shown_haze = eqx.filter_jit(show_haze)(key(0), hazy, jnp.full(4000, 0.01), 0.2, config)
    seen, sigma = map(np.asarray, shown_haze)
    shown = seen[:, 0, 0, 0] == 1
    assert shown.mean() == pytest.approx(0.6, abs=0.03)
    assert np.all(seen[~shown] == np.float32(0.2))
    assert np.all(sigma[~shown] == np.float32(0.01))
    assert (sigma[shown] >= 0.3).mean() == pytest.approx(HIGH_SHARE, abs=0.04)


@pytest.mark.slow
@pytest.mark.parametrize("fine", [0, 2])
def test_a_blind_prior_is_the_haze_aware_one_that_has_seen_nothing(fine, tmp_path):
    config = dataclasses.replace(SMALLEST, haze_aware=True, fine=fine)
    aware = random_prior(config)
    blind = as_blind(aware)
    assert not blind.haze_aware
    x, sigma = jax.random.uniform(key(3), (3, 17, 20)), jnp.array([0.003, 0.2, 9.0])
    denoise = eqx.filter_jit(DiffusionPrior.denoise)
    denoised = denoise(blind, x, sigma)
    np.testing.assert_allclose(denoised, denoise(aware, x, sigma), atol=1e-5)
    nothing = dataclasses.replace(blind, network=lambda frame, c_noise: 0 * frame)
    assert np.abs(np.asarray(denoised) - denoise(nothing, x, sigma)).max() > 0.01

    save_prior(tmp_path / "blind.safetensors", blind, half=False)
    loaded = load_ours(tmp_path / "blind.safetensors")
    assert not loaded.haze_aware
    assert prior_hash(loaded) == prior_hash(blind)
    np.testing.assert_array_equal(denoise(loaded, x, sigma), denoised)
    with pytest.raises(ValueError, match="haze-aware"):
        loaded.given(x)
    assert prior_hash(as_blind(loaded)) == prior_hash(blind)  # nothing is left to take away


# Weights on disk


@pytest.mark.slow
def test_saved_weights_are_read_back(prior, tmp_path):
    path = tmp_path / "full.safetensors"
    save_prior(path, prior, {"step": 3}, half=False)
    loaded = load_ours(path)
    assert prior_hash(loaded) == prior_hash(prior)
    assert prior_info(path) == {"step": 3}
    x = jax.random.uniform(key(0), (2, 16, 16))
    denoise = eqx.filter_jit(DiffusionPrior.denoise)
    np.testing.assert_array_equal(denoise(loaded, x, 0.1), denoise(prior, x, 0.1))


def test_half_precision_rounds_by_at_most_half_a_unit_in_the_last_place(prior, weights):
    kernel = np.asarray(unet_of(prior).stem.kernel)
    loaded = unet_of(load_ours(weights)).stem.kernel
    assert loaded.dtype == jnp.float32
    np.testing.assert_allclose(loaded, kernel, rtol=2.0**-11, atol=2.0**-25)


def test_the_hash_changes_with_any_weight(prior):
    bias = prior.network.head.bias.at[0].add(1e-6)
    other = eqx.tree_at(lambda p: p.network.head.bias, prior, bias)
    assert prior_hash(other) != prior_hash(prior)
    assert prior_hash(dataclasses.replace(prior, mean=0.21)) != prior_hash(prior)


def test_missing_weights(tmp_path):
    with pytest.raises(InputError, match=r"The weights .* do not exist: "):
        load_prior(tmp_path / "none.safetensors")
    with pytest.raises(InputError, match=r"ech do not exist: give echo, echo-blind or .*; did you mean echo\?"):
        load_prior("ech")
    with pytest.raises(InputError, match=r"The weights .* are a folder, not a file: "):
        load_prior(tmp_path)


def test_a_pickle_is_never_opened(tmp_path):
    touched = tmp_path / "touched"

    class Bomb:
        def __reduce__(self):
            return (open, (str(touched), "w"))

    for name in ("weights.pt", "weights.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(InputError, match="pickle"):
            load_prior(tmp_path / name)
    assert not touched.exists()


@pytest.mark.parametrize("kept", [0, 8, 200, -1])
def test_truncated_weights(weights, kept):
    content = weights.read_bytes()
    weights.write_bytes(content[:kept])
    with pytest.raises(InputError, match="cut short" if kept in (200, -1) else "not a safetensors"):
        load_prior(weights)


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "metadata", "architecture", "unknown field"])
def test_weights_of_another_architecture(weights, change):
    tensors, metadata = read_safetensors(weights)
    architecture = json.loads(metadata["architecture"])
    match change:
        case "missing":
            del tensors["stem.bias"]
        case "extra":
            tensors["attention.kernel"] = np.zeros(3, np.float16)
        case "shape":
            tensors["stem.bias"] = np.zeros(3, np.float16)
        case "metadata":
            metadata = {}
        case "architecture":
            metadata["architecture"] = json.dumps({**architecture, "widths": [16, 24]})
        case "unknown field":
            metadata["architecture"] = json.dumps({**architecture, "heads": 4})
    save_file(tensors, weights, metadata)
    with pytest.raises(InputError, match=r"another architecture|of this version") as caught:
        load_prior(weights)
    assert str(caught.value).count("\n") == 0
