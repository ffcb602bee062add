"""Training runs: optimiser steps, checkpoints, records and the choice of the best weights.

A run starts on frames of half the size, which cost a quarter, and ends at full size. The random numbers of step k
depend only on (seed, k), so a resumed run is bit-identical to an uninterrupted one, if its length is in steps and not
in minutes. On a GPU this does not hold: batches are made on the CPU, and a batch is used again until the next is ready.
"""

import collections
import contextlib
import csv
import dataclasses
import hashlib
import importlib
import importlib.util
import io
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol, cast, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8
from safetensors.numpy import save

from nuclear_diffusion import signals
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.files import alone_in, write
from nuclear_diffusion.priors.checkpoint import (
    fill_arrays,
    load_trained,
    named_arrays,
    prior_hash,
    read_safetensors,
    save_prior,
    tensors_hash,
)
from nuclear_diffusion.priors.diffusion_prior import DiffusionPrior, Posterior
from nuclear_diffusion.priors.unet import UNet
from nuclear_diffusion.text import decode_json
from nuclear_diffusion.training.config import TrainConfig
from nuclear_diffusion.training.data import Batches, batch_of_file, batch_workers
from nuclear_diffusion.training.figures import draw_curves, draw_samples
from nuclear_diffusion.training.loss import Frames, sample_sigma, score_matching_loss, show_haze
from nuclear_diffusion.types import Scalar

CHECKPOINT_FORMAT = "nuclear-diffusion training 1"
VALIDATION_SIGMAS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
VALIDATION_FRAMES = 16

VALIDATION_SHARE = 0.1
"""Largest fraction of the time spent on validation, in a run on a GPU with a budget in minutes."""

REUSED = 3
"""On a GPU, how often a batch may be used again, with new noise, until the next is ready (Choi et al. 2019, arXiv
1907.05550)."""

FREE_CORES, MOST_WORKERS = 3, 32
"""On a GPU, cores left to the training process, and most processes that make batches."""

FrameBank = UInt8[np.ndarray, "frames *moments_and_kinds height width"]
"""Clean frames (frames, height, width), or clips of clean and hazy frames (clips, moments, 2, height, width); 0-255."""


@runtime_checkable
class Judge(Protocol):
    """Scores a prior at its task; the weights with the highest score `gain` are kept."""

    @property
    def columns(self) -> Sequence[str]:
        """The names of the scores."""
        ...

    def __call__(self, prior: DiffusionPrior) -> dict[str, float]:
        """The scores by name."""
        ...


class Progress(NamedTuple):
    """What the progress callback receives every `log_every` steps and after each validation."""

    step: int
    fraction: float
    """Fraction of the run, in [0, 1], by steps or by minutes, whichever is larger."""
    seconds: float
    """Training time, including earlier parts of a resumed run."""
    images_per_second: float
    """Training frames since the last call."""
    loss: float
    lr: float
    validation: dict[str, float] | None
    """Validation results by column of loss.csv; None between validations."""


class TrainResult(NamedTuple):
    """The best prior by validation, and whether the run was interrupted."""

    prior: DiffusionPrior
    step: int
    interrupted: bool


class TrainState(NamedTuple):
    """The state of the optimisation: weights, their moving average, the optimiser's moments, steps done."""

    network: UNet
    average: UNet
    optimizer: optax.OptState
    step: Int[Array, ""]


def beside_gpu() -> bool:
    """Whether training runs on a GPU, so that the CPU cores are free; NUCLEAR_DIFFUSION_BESIDE_GPU=1 simulates it."""
    return jax.default_backend() != "cpu" or os.environ.get("NUCLEAR_DIFFUSION_BESIDE_GPU") == "1"


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
    progress: Callable[[Progress], None] | None = None,
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

    if init is None:
        sample = frames[np.linspace(0, there - 1, min(512, there)).astype(int), 0, 0] / np.float32(255)
        mean, scale = float(sample.mean()), float(sample.std())
        config = dataclasses.replace(
            config, network=dataclasses.replace(config.network, haze_aware=frames.shape[2] == 2)
        )
        network = eqx.filter_jit(UNet)(config.network, key=_key(seed))
        prior = DiffusionPrior(network, mean, scale, *_limits(config))
    else:
        prior = init if isinstance(init, DiffusionPrior) else load_trained(init)
        network = cast(UNet, prior.network)
        if network.config.haze_aware and frames.shape[2] != 2:
            raise InputError(
                "The initial prior is haze-aware and needs pairs of clean and hazy frames: give pairs, or no `init`."
            )
        config = dataclasses.replace(
            config, network=network.config, sigma_min=prior.sigma_min, sigma_max=prior.sigma_max
        )
    run = _Run(prior, config, out, seed, frames, None if init is None else prior_hash(prior), judge, ready)
    state = _first_state(network, config)
    if resume and run.checkpoint_path.exists():
        state = run.restore(state)
    else:
        run.start_records()

    source = Batches(frames, seed, config.batch, config.augment)
    watched = jnp.asarray(dataclasses.replace(source, clips=monitored).watched(VALIDATION_FRAMES))
    if init is not None and int(state.step) == 0:
        run.record(0, 0.0, math.nan, run.validate(state, watched, 0))  # the prior to improve on

    key = _key(seed + 1)
    step = int(state.step)
    losses: list[Scalar] = []
    saved_at = told_at = time.monotonic()
    images = 0
    fraction = run.fraction(step)
    prior = run.prior  # a resumed run has its own mean and scale
    with _stop_on_signal() as stop, _prefetched(source, step, run) as batches:
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
            mean_loss = float(jnp.mean(jnp.stack(losses)))
            losses.clear()
            if not math.isfinite(mean_loss):
                raise run.diverged(step)
            rate = images / max(time.monotonic() - told_at, 1e-9)
            errors = None
            if validates:
                if not _finite(state.average):
                    raise run.diverged(step)
                errors = run.validate(state, watched, step)
            run.record(step, lr, mean_loss, errors)
            if progress is not None:
                progress(Progress(step, min(fraction, 1.0), run.seconds, rate, mean_loss, lr, errors))
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


def _limits(config: TrainConfig) -> tuple[float, float, int, bool]:
    """The static fields of `DiffusionPrior`."""
    return config.sigma_min, config.sigma_max, config.network.stride, config.network.haze_aware


def _key(seed: int) -> PRNGKeyArray:
    """A key of XLA's own generator, which compiles and runs several times faster on a CPU than JAX's default."""
    return jax.random.key(seed, impl="rbg")


def _optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Gradient clipping, then Muon for convolutions and Adam for the rest; `_take_step` scales the result.

    Muon (Jordan et al. 2024) makes a kernel's update orthogonal, as a matrix from input patch to output channels.
    """
    muon = optax.contrib.muon(-1.0, consistent_rms=0.2, adam_b2=0.99, muon_weight_dimension_numbers=_as_matrices)
    return optax.chain(optax.clip_by_global_norm(config.clip), muon)


def _as_matrices(weights: optax.Params) -> Any:
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


class _Run:
    """The clock, the files and the records of one training run."""

    def __init__(
        self,
        prior: DiffusionPrior,
        config: TrainConfig,
        out: Path,
        seed: int,
        frames: FrameBank,
        start: str | None,
        judge: Judge | None,
        ready: Callable[[], int] | None,
    ):
        self.prior, self.config, self.out, self.seed, self.judge, self.ready = prior, config, out, seed, judge, ready
        self.frames, self.start = _digest(frames), start
        self.checkpoint_path = out / "checkpoint.safetensors"
        self.prior_path = out / "prior.safetensors"
        self.started = time.monotonic()
        self.seconds_before = 0.0
        self.validating = self.last_validating = 0.0
        self.best = math.inf
        self.board = _board(out / "tensorboard")
        self.columns = ["step", "seconds", "lr", "loss", *(f"rmse_{s:g}" for s in VALIDATION_SIGMAS)]
        if config.network.haze_aware:
            self.columns.append("rmse_hazy")
        self.columns.append("share")
        if judge is not None:
            self.columns += judge.columns

    @property
    def seconds(self) -> float:
        """Training time, including earlier parts of a resumed run."""
        return self.seconds_before + time.monotonic() - self.started

    def fraction(self, step: int) -> float:
        """Fraction of the run, by steps or by the clock, whichever is larger."""
        by_clock = 0.0 if self.config.minutes is None else self.seconds / (60 * self.config.minutes)
        return max(step / self.config.steps, by_clock)

    def lr(self, step: int) -> float:
        """Linear warm-up, then half a cosine over the run."""
        config = self.config
        cosine = 0.5 * (1 + math.cos(math.pi * min(self.fraction(step), 1.0)))
        return (
            config.lr
            * min(1.0, (step + 1) / max(config.warmup, 1))
            * (config.final_lr + (1 - config.final_lr) * cosine)
        )

    def averaged(self, state: TrainState, share: float = 1.0) -> DiffusionPrior:
        """The prior with the averaged weights, or with a fraction `share` of the way from the start to them."""
        network = state.average
        if share < 1:
            network = jax.tree.map(lambda a, b: (1 - share) * a + share * b, self.prior.network, network)
        return dataclasses.replace(self.prior, network=network)

    def validates(self, step: int) -> bool:
        """Whether to validate after this step: on a GPU, only within `VALIDATION_SHARE`."""
        if step % self.config.validate_every != 0:
            return False
        if self.config.minutes is None or not beside_gpu():
            return True
        return self.validating + self.last_validating <= VALIDATION_SHARE * self.seconds

    def validate(
        self, state: TrainState, watched: Float[Array, "batch kinds height width"], step: int
    ) -> dict[str, float]:
        """Validate the averaged network, also half way from the start, and save it if it is the best so far."""
        started = time.monotonic()
        shares = (1.0,) if self.start is None or step == 0 else (0.5, 1.0)
        loss, found, prior = min((self._measured(state, watched, share) for share in shares), key=lambda one: one[0])
        if loss < self.best or not self.prior_path.exists():
            self.best = loss
            info = {"step": step, "seed": self.seed, "seconds": round(self.seconds), "validation": found,
                    "config": dataclasses.asdict(self.config)}  # fmt: skip
            save_prior(self.prior_path, prior, info)
        self.last_validating = time.monotonic() - started
        self.validating += self.last_validating
        return found

    def _measured(
        self, state: TrainState, watched: Float[Array, "batch kinds height width"], share: float
    ) -> tuple[float, dict[str, float], DiffusionPrior]:
        """The criterion for keeping weights (lower is better), the denoising errors and scores, and the prior."""
        prior, clean = self.averaged(state, share), watched[:, 0]
        found = {f"rmse_{s:g}": float(_denoising_error(prior, clean, jnp.float32(s))) for s in VALIDATION_SIGMAS}
        # the error of the posterior mean counts as much as all noise levels together
        loss = sum(map(math.log, found.values())) / len(found)
        if prior.haze_aware:
            found["rmse_hazy"] = float(_error_given(prior, clean, watched[:, 1:]))
            loss += math.log(found["rmse_hazy"])
        found["share"] = share
        if self.judge is not None:
            found |= self.judge(prior)
            loss = -found["gain"]
        return loss, found, prior

    def start_records(self) -> None:
        """Begin a new run in this folder."""
        for path in (self.checkpoint_path, self.prior_path):
            path.unlink(missing_ok=True)
        write(self.out / "loss.csv", ",".join(self.columns) + "\n")

    def record(self, step: int, lr: float, loss: float, errors: dict[str, float] | None) -> None:
        """Append one row to loss.csv, and to TensorBoard's file if it is installed."""
        names = self.columns[4:]
        measured = [""] * len(names) if errors is None else [f"{errors[name]:.6f}" for name in names]
        row = [str(step), f"{self.seconds:.1f}", f"{lr:.3g}", f"{loss:.6f}", *measured]
        with open(self.out / "loss.csv", "a") as file:
            file.write(",".join(row) + "\n")
        for name, value in ({"loss": loss, "lr": lr} | (errors or {})).items():
            if self.board is not None and math.isfinite(value):
                self.board.add_scalar(name, value, step)

    def rows(self) -> list[dict[str, str]]:
        """The rows of loss.csv; damaged ones are left out."""
        found: list[dict[str, str]] = []
        with contextlib.suppress(OSError, csv.Error), open(self.out / "loss.csv", newline="", errors="replace") as file:
            for row in csv.DictReader(file):
                if row.keys() == set(self.columns) and _is_sound(row):
                    found.append(row)
        return found

    def diverged(self, step: int) -> InputError:
        """The error for a loss or weights that are not finite; the last checkpoint stays."""
        kept = "the last checkpoint is kept: run again" if self.checkpoint_path.exists() else "start again"
        return InputError(
            f"Training diverged before step {step} (the loss is not finite); {kept} with a lower learning rate."
        )

    def save(self, state: TrainState) -> None:
        """Write the checkpoint for `restore`, with the hash of its tensors; raises `InputError` if they diverged."""
        if not _finite((state.network, state.average)):
            raise self.diverged(int(state.step))
        metadata = {
            "format": CHECKPOINT_FORMAT,
            "run": json.dumps(self._identity()),
            "seconds": repr(self.seconds),
            "best": repr(self.best),
            "config": json.dumps(dataclasses.asdict(self.config)),
        }
        tensors = named_arrays(state)
        write(self.checkpoint_path, save(tensors, metadata | {"sha256": tensors_hash(tensors)}))

    def restore(self, template: TrainState) -> TrainState:
        """Read the checkpoint, and drop later rows of the log, which will be logged again."""
        path = self.checkpoint_path
        advice = "remove it to start again, or choose another folder"
        tensors, metadata = read_safetensors(path)
        if metadata.get("format") == CHECKPOINT_FORMAT and metadata.get("sha256") != tensors_hash(tensors):
            raise InputError(f"{path} is damaged: {advice}.")
        known = metadata.get("format") == CHECKPOINT_FORMAT
        own = decode_json(metadata.get("run", ""), _Identity, str(path), "a checkpoint", advice) if known else None
        if self.start is None and own is not None:  # the frames that are ready now may give another mean
            self.prior = dataclasses.replace(self.prior, mean=own.mean, scale=own.scale)
        if own is None or msgspec.structs.asdict(own) != self._identity():
            raise InputError(
                f"{path} is from a run with another network, start, seed or data, or judged by other "
                "clips: choose another folder."
            )
        state = fill_arrays(template, tensors, str(path))
        try:
            clock = msgspec.convert(metadata, _Clock, strict=False)
        except msgspec.ValidationError as error:
            raise InputError(f"{path} is not a checkpoint: {error}; {advice}.") from error
        self.seconds_before, self.best = clock.seconds, clock.best
        try:
            load_trained(self.prior_path)
        except InputError:  # the next validation writes it
            self.prior_path.unlink(missing_ok=True)
        self.started = time.monotonic()
        done = int(state.step)
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for row in self.rows() if int(row["step"]) <= done)
        write(self.out / "loss.csv", text.getvalue())
        return state

    def draw(self, state: TrainState, watched: Float[Array, "batch kinds height width"]) -> None:
        """Write loss.png, samples.png and log.json."""
        if not self.prior_path.exists():
            self.validate(state, watched, int(state.step))
        rows = self.rows()
        if not rows:
            return
        prior = self.averaged(state)
        write(self.out / "loss.png", draw_curves(rows, VALIDATION_SIGMAS))
        write(self.out / "samples.png", draw_samples(prior, watched[len(watched) // 2], _key(self.seed)))
        validated = [row for row in rows if row[self.columns[-1]]]
        log: dict[str, Any] = {
            "config": dataclasses.asdict(self.config),
            "seed": self.seed,
            "step": int(state.step),
            "seconds": round(self.seconds, 1),
            "device": jax.devices()[0].device_kind,
            "parameters": sum(a.size for a in jax.tree.leaves(state.network)),
            "mean": self.prior.mean,
            "scale": self.prior.scale,
            "ready": self.ready() if self.ready is not None else None,
            "last": rows[-1],
            "last_validation": validated[-1] if validated else None,
            "prior_sha256": prior_hash(load_trained(self.prior_path)),
        }
        write(self.out / "log.json", json.dumps(log, indent=2) + "\n")

    def _identity(self) -> dict[str, Any]:
        """What must not change when a run resumes; its length may."""
        network = json.loads(json.dumps(dataclasses.asdict(self.config.network)))
        own = {"seed": self.seed, "mean": self.prior.mean, "scale": self.prior.scale}
        return {"network": network, **own, "start": self.start, "frames": self.frames, "judged": self.columns[4:]}


class _Identity(msgspec.Struct):
    """`_Run._identity` in a checkpoint."""

    network: dict[str, Any]
    seed: int
    mean: float
    scale: float
    start: str | None
    frames: str
    judged: list[str]


class _Clock(msgspec.Struct):
    """The numbers among a checkpoint's metadata, stored as text."""

    seconds: Annotated[float, msgspec.Meta(ge=0)]
    best: float


def _is_sound(row: dict[str, str]) -> bool:
    """Whether a row of loss.csv has a step and a loss, and only numbers and empty cells."""
    try:
        _ = int(row["step"]), float(row["loss"]), [float(cell) for cell in row.values() if cell]
    except (ValueError, TypeError):
        return False
    return True


def _finite(tree: Any) -> bool:
    """Whether all numbers of a pytree are finite."""
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))


def _board(folder: Path) -> Any | None:
    """A writer of TensorBoard files, if a library for it is installed."""
    for module, name in (("tensorboardX", "SummaryWriter"), ("tensorboard.summary", "Writer")):
        if importlib.util.find_spec(module.split(".")[0]) is not None:
            return getattr(importlib.import_module(module), name)(str(folder))
    return None


@eqx.filter_jit
def _denoising_error(prior: DiffusionPrior, clean: Frames, sigma: Scalar) -> Scalar:
    """Root mean square error over all pixels, with fixed noise."""
    noise = jax.random.normal(_key(7), clean.shape)
    return jnp.sqrt(jnp.mean((prior.denoise(clean + sigma * noise, sigma) - clean) ** 2))


@eqx.filter_jit
def _error_given(prior: DiffusionPrior, clean: Frames, seen: Float[Array, "batch seen height width"]) -> Scalar:
    """Root mean square error of E[x0 | y] over all pixels."""
    return jnp.sqrt(jnp.mean((Posterior(prior, seen).mean() - clean) ** 2))


@contextmanager
def _prefetched(batches: Batches, first: int, run: _Run) -> Iterator[Iterator[Float[np.ndarray, "b k h w"]]]:
    """Batches from step `first` on, made in advance by the workers of `_makers`."""
    pool, at, workers, reused = _makers(batches)
    waiting: collections.deque[Future] = collections.deque()

    def generate() -> Iterator[np.ndarray]:
        step = first
        while True:
            while len(waiting) < workers + 2:
                halved = run.fraction(step) < run.config.halved_until
                waiting.append(pool.submit(at, step, halved, None if run.ready is None else run.ready()))
                step += 1
            batch = waiting.popleft().result()
            yield batch
            for _ in range(reused):
                if waiting[0].done():
                    break
                yield batch

    try:
        yield generate()
    finally:
        pool.shutdown(cancel_futures=True)


def _makers(batches: Batches) -> tuple[Executor, Callable[..., np.ndarray], int, int]:
    """A pool, its function of (step, halved, ready), the number of workers, and how often a batch is used again.

    One thread on a CPU, processes on a GPU, because threads would block each other there. Frames in memory need
    threads, because processes cannot share them.
    """
    if not beside_gpu():
        return ThreadPoolExecutor(1), batches.at, 1, 0
    cores = os.cpu_count() or 1
    if batches.file is None:
        workers = min(8, cores)
        return ThreadPoolExecutor(workers), batches.at, workers, REUSED
    workers = min(max(1, cores - FREE_CORES), MOST_WORKERS)
    at = partial(batch_of_file, batches.file.absolute(), batches.seed, batches.batch, batches.augment)
    return batch_workers(workers), at, workers, REUSED


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


def _digest(frames: FrameBank) -> str:
    """SHA-256 of the bank's shape and its first frames, which are ready from the start."""
    some = frames[: min(16, max(1, len(frames) // 4))]
    return hashlib.sha256(repr(frames.shape).encode() + np.ascontiguousarray(some).tobytes()).hexdigest()


def _checked(frames: FrameBank, name: str) -> UInt8[np.ndarray, "clips moments kinds height width"]:
    if frames.dtype != np.uint8 or not (frames.ndim == 3 or (frames.ndim == 5 and frames.shape[2] in (1, 2))):
        raise InputError(
            f"`{name}` must be uint8 of shape (frames, height, width), or of pairs (clips, moments, 2, height, width), "
            f"got {frames.dtype} of shape {frames.shape}: pack clips with `pack_clips`."
        )
    if len(frames) == 0 or not np.any(frames[:: max(1, len(frames) // 512)]):
        raise InputError(f"`{name}` holds no picture (no frames, or only black ones): give other clips.")
    return frames[:, None, None] if frames.ndim == 3 else frames
