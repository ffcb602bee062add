"""Training runs: optimiser steps, checkpoints, records and the choice of the best weights.

A run starts on frames of half the size, which cost a quarter, and ends at full size. The random numbers of step k
depend only on (seed, k), so a resumed run is bit-identical to an uninterrupted one, if its length is in steps and not
in minutes. On a GPU this does not hold: batches are made on the CPU, and a batch is used again until the next is ready.
"""

import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, UInt8

from nuclear_diffusion import signals
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.files import alone_in
from nuclear_diffusion.priors.checkpoint import load_trained, prior_hash
from nuclear_diffusion.priors.diffusion_prior import DiffusionPrior
from nuclear_diffusion.priors.unet import UNet
from nuclear_diffusion.training.batches import Batches, prefetched
from nuclear_diffusion.training.config import TrainConfig
from nuclear_diffusion.training.loss import sample_sigma, score_matching_loss, show_haze
from nuclear_diffusion.training.records import VALIDATION_FRAMES, FrameBank, Judge, Run, TrainState, fast_key
from nuclear_diffusion.types import Scalar


class TrainProgress(NamedTuple):
    """What the progress callback receives every `log_every` steps and after each validation."""

    step: int
    fraction: float  # fraction of the run, in [0, 1], by steps or by minutes, whichever is larger
    seconds: float  # training time, including earlier parts of a resumed run
    images_per_second: float  # training frames since the last call
    loss: float
    lr: float
    validation: dict[str, float] | None  # validation results by column of loss.csv; None between validations


class TrainResult(NamedTuple):
    """The best prior by validation, and whether the run was interrupted."""

    prior: DiffusionPrior
    step: int
    interrupted: bool


@alone_in("out")
def train(
    frames: FrameBank,
    out: Path,
    config: TrainConfig | None = None,
    *,
    seed: int = 0,
    val_frames: UInt8[np.ndarray, "others *moments_and_kinds height width"] | None = None,
    resume: bool = True,
    init: Path | str | DiffusionPrior | None = None,
    judge: Judge | None = None,
    ready: Callable[[], int] | None = None,
    progress: Callable[[TrainProgress], None] | None = None,
) -> TrainResult:
    """Train a prior and write it with its records into the folder `out`.

    Args:
        frames: clean frames (frames, height, width), or clips of clean and hazy frames (clips, moments, 2, height,
            width) for a conditional denoiser (`DiffusionPrior.given`); uint8, possibly a memory map.
        seed: of the weights, the batches and the noise.
        val_frames: frames of other patients; without them, validation is on `frames` and cannot show overfitting.
        resume: from `out`/checkpoint.safetensors, if it exists.
        init: a prior to start from, or its path (`load_trained`). Its architecture, intensities and noise range are
            kept. At each validation, the mean of its weights and the new ones competes too: training on a few clips
            makes a prior worse on others, and the mean is often better than either (Wortsman et al. 2022, arXiv
            2109.01903).
        judge: chooses the weights at each validation; without it, denoising errors do.
        ready: returns how many of `frames`, from the first on, are filled in yet; None: all. Mean and standard
            deviation are of the frames ready at the start.

    Writes prior.safetensors (moving average, best by validation), checkpoint.safetensors (exact resume), loss.csv,
    loss.png, samples.png, log.json. The first Ctrl-C saves and returns, the second stops at once.

    Raises InputError for unusable frames, or a checkpoint of another run.
    """
    config = TrainConfig() if config is None else config
    frames = _checked(frames, "frames")
    there = len(frames) if ready is None else ready()
    monitored = frames[:there] if val_frames is None or len(val_frames) == 0 else _checked(val_frames, "val_frames")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)

    prior, config = _prior_to_train(frames, there, config, seed, init)
    run = Run(prior, config, out, seed, frames, None if init is None else prior_hash(prior), judge, ready)
    state = _first_state(cast(UNet, prior.network), config)
    if resume and run.checkpoint_path.exists():
        state = run.restore(state)
    else:
        run.start_records()

    source = Batches(frames, seed, config.batch, config.augment)
    watched = jnp.asarray(dataclasses.replace(source, clips=monitored).watched(VALIDATION_FRAMES))
    if init is not None and int(state.step) == 0:
        run.record(0, 0.0, math.nan, run.validate(state, watched, 0))  # the prior to improve on

    key = fast_key(seed + 1)
    step = int(state.step)
    losses: list[Scalar] = []
    saved_at = told_at = time.monotonic()
    images = 0
    fraction = run.fraction(step)
    prior = run.prior  # a resumed run has its own mean and scale
    with _stop_on_signal() as stop, prefetched(source, step, run.halved, ready) as batches:
        while fraction < 1 and not stop.is_set():
            lr = run.lr(step)
            batch = next(batches)
            state, loss = _take_step(state, batch, key, lr, prior.mean, prior.scale, config)
            losses.append(loss)
            if len(losses) > 1:
                losses[-2].block_until_ready()  # at most two steps in flight, so that the clock measures the network
            images += len(batch)
            step += 1
            fraction = run.fraction(step)
            ends = fraction >= 1
            validates = ends or run.validates(step)
            if not (validates or step % config.log_every == 0):
                continue
            mean_loss = float(np.mean(jax.device_get(losses)))
            losses.clear()
            if not math.isfinite(mean_loss):
                raise run.diverged(step)
            rate = images / max(time.monotonic() - told_at, 1e-9)
            errors = run.validate(state, watched, step) if validates else None
            run.record(step, lr, mean_loss, errors)
            if progress is not None:
                progress(TrainProgress(step, min(fraction, 1.0), run.seconds, rate, mean_loss, lr, errors))
            images, told_at = 0, time.monotonic()
            if not ends and time.monotonic() - saved_at > 60 * config.checkpoint_minutes:
                run.save(state)
                run.draw(state, watched)
                saved_at = time.monotonic()
    run.save(state)
    run.draw(state, watched)
    if run.board is not None:
        run.board.close()
    return TrainResult(load_trained(run.prior_path), step, fraction < 1)


def _prior_to_train(
    frames: UInt8[np.ndarray, "clips moments kinds height width"],
    there: int,
    config: TrainConfig,
    seed: int,
    init: Path | str | DiffusionPrior | None,
) -> tuple[DiffusionPrior, TrainConfig]:
    """The prior at step 0: random weights with the intensities of the `there` first clips, or `init`."""
    if init is None:
        sample = frames[np.linspace(0, there - 1, min(512, there)).astype(int), 0, 0] / np.float32(255)
        config = dataclasses.replace(
            config, network=dataclasses.replace(config.network, haze_aware=frames.shape[2] == 2)
        )
        network = eqx.filter_jit(UNet)(config.network, key=fast_key(seed))
        return DiffusionPrior(network, float(sample.mean()), float(sample.std()), *_limits(config)), config
    prior = init if isinstance(init, DiffusionPrior) else load_trained(init)
    network = cast(UNet, prior.network)
    if network.config.haze_aware and frames.shape[2] != 2:
        raise InputError(
            "The initial prior is haze-aware and needs pairs of clean and hazy frames: give pairs, or no `init`."
        )
    return prior, dataclasses.replace(
        config, network=network.config, sigma_min=prior.sigma_min, sigma_max=prior.sigma_max
    )


def _limits(config: TrainConfig) -> tuple[float, float, int, bool]:
    """The static fields of `DiffusionPrior`."""
    return config.sigma_min, config.sigma_max, config.network.stride, config.network.haze_aware


def _optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Gradient clipping, then Muon for convolutions and Adam for the rest; `_take_step` scales the result.

    Muon (Jordan et al. 2024) makes a kernel's update orthogonal, as a matrix from input patch to output channels.
    """
    muon = optax.contrib.muon(-1.0, consistent_rms=0.2, adam_b2=0.99, muon_weight_dimension_numbers=_as_matrices)
    return optax.chain(optax.clip_by_global_norm(config.clip), muon)


def _as_matrices(weights: PyTree) -> PyTree:
    """The axes of a kernel that form rows and columns; None for other arrays."""
    kernel = optax.contrib.MuonDimensionNumbers(reduction_axis=(0, 1, 2), output_axis=3)
    return jax.tree.map(lambda w: kernel if w.ndim == 4 else None, weights)


@partial(jax.jit, static_argnames="config")
def _first_state(network: UNet, config: TrainConfig) -> TrainState:
    """The initial state. `_take_step` donates its memory, so weights and average must not share theirs."""
    weights, average = (jax.tree.map(jnp.copy, network) for _ in range(2))
    moments = _optimizer(config).init(cast(optax.Params, network))
    return TrainState(weights, average, moments, jnp.zeros((), jnp.int32))


@partial(jax.jit, static_argnames="config", donate_argnames="state")
def _take_step(
    state: TrainState,
    frames: Float[Array, "batch kinds height width"],
    key: PRNGKeyArray,
    lr: float | Scalar,
    mean: float | Scalar,
    scale: float | Scalar,
    config: TrainConfig,
) -> tuple[TrainState, Scalar]:
    """One step of the optimiser and of the moving average, in float32 (the network in bfloat16 if `mixed`)."""
    frames = frames.astype(jnp.float32)
    level_key, noise_key, haze_key = jax.random.split(jax.random.fold_in(key, state.step), 3)
    sigma = sample_sigma(level_key, len(frames), config)
    clean, seen = frames[:, 0], None
    if config.network.haze_aware:
        seen, sigma = show_haze(haze_key, frames[:, 1:], sigma, mean, config)
    mixed = jax.default_backend() != "cpu" if config.mixed is None else config.mixed

    def loss_of(network: UNet) -> Scalar:
        if mixed:
            network = jax.tree.map(lambda w: w.astype(jnp.bfloat16), network)
        prior = DiffusionPrior(network, mean, scale, *_limits(config))
        return score_matching_loss(prior, clean, sigma, noise_key, seen)

    loss, gradient = jax.value_and_grad(loss_of)(state.network)
    direction, moments = _optimizer(config).update(gradient, state.optimizer, cast(optax.Params, state.network))
    network = jax.tree.map(lambda w, d: w - lr * d, state.network, direction)
    decay = jnp.minimum(config.ema, (1 + state.step) / (10 + state.step))
    average = jax.tree.map(lambda a, w: decay * a + (1 - decay) * w, state.average, network)
    return TrainState(network, average, moments, state.step + 1), loss


@contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    """An event set by the first SIGINT or SIGTERM; the second acts as usual. Only in the main thread."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def request(number: int, _frame: Any) -> None:
        signals.received = number
        stop.set()
        restore()

    for number in previous:
        signal.signal(number, request)
    try:
        with signals.patient():
            yield stop
    finally:
        restore()


def _checked(frames: FrameBank, name: str) -> UInt8[np.ndarray, "clips moments kinds height width"]:
    if frames.dtype != np.uint8 or not (frames.ndim == 3 or (frames.ndim == 5 and frames.shape[2] in (1, 2))):
        raise InputError(
            f"`{name}` must be uint8 of shape (frames, height, width), or of pairs (clips, moments, 2, height, width), "
            f"got {frames.dtype} of shape {frames.shape}: round frames to bytes."
        )
    if len(frames) == 0 or not np.any(frames[:: max(1, len(frames) // 512)]):
        raise InputError(f"`{name}` holds no picture (no frames, or only black ones): give other clips.")
    return frames[:, None, None] if frames.ndim == 3 else frames
