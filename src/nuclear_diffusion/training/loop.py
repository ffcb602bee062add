"""Training runs: batches to optimiser steps, with checkpoints, records and the choice of the best weights.

A run starts on frames of half their size, which cost a quarter, and ends on whole ones. Every random number of step k
is derived from (seed, k), so a run that was killed and resumed ends with the same bits as one that was not, as long as
its length is given in steps; a budget in minutes follows the clock.

Beside a GPU the cores make the batches, and they are slower than it: a batch is used again while the next one is not
there, so that there a run depends on the clock in any case.
"""

import collections
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
from typing import Any, NamedTuple, Protocol, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8
from safetensors.numpy import save

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.files import atomic
from nuclear_diffusion.priors.checkpoint import (
    fill_arrays,
    load_trained,
    named_arrays,
    prior_hash,
    read_safetensors,
    save_prior,
)
from nuclear_diffusion.priors.diffusion_prior import DiffusionPrior, Posterior
from nuclear_diffusion.priors.unet import UNet
from nuclear_diffusion.training.config import TrainConfig
from nuclear_diffusion.training.data import Batches, batch_of_file, batch_workers
from nuclear_diffusion.training.figures import draw_curves, draw_samples
from nuclear_diffusion.training.loss import Frames, sample_sigma, score_matching_loss, show_haze
from nuclear_diffusion.types import Scalar

CHECKPOINT_FORMAT = "nuclear-diffusion training 1"
VALIDATION_SIGMAS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
VALIDATION_FRAMES = 16

VALIDATION_SHARE = 0.1
"""Of the time of a run beside a GPU that is given in minutes: at most so much is for validation."""

REUSED = 3
"""At most so often is a batch used again, with other noise, while the next one is not there (Choi et al. 2019,
arXiv 1907.05550); beside a GPU only."""

FREE_CORES, MOST_WORKERS = 3, 32
"""Beside a GPU, cores that are left to the process that trains, and processes that make batches at most."""

FrameBank = UInt8[np.ndarray, "frames *moments_and_kinds height width"]
"""Clean frames (frames, height, width), or short clips (clips, moments, 2, height, width) of clean and hazy; 0-255."""


class Judge(Protocol):
    """Scores a prior at what it is for; weights are kept by the score named `gain`, higher is better."""

    @property
    def columns(self) -> Sequence[str]:
        """The names of the scores."""
        ...

    def __call__(self, prior: DiffusionPrior) -> dict[str, float]:
        """The scores by name."""
        ...


class Progress(NamedTuple):
    """What the progress callback is told every `log_every` steps and after each validation."""

    step: int
    fraction: float
    """Of the run, in [0, 1], by steps or by minutes, whichever is further."""
    seconds: float
    """Spent training, resumed runs included."""
    images_per_second: float
    """Training frames since the last call."""
    loss: float
    lr: float
    validation: dict[str, float] | None
    """What was just measured of the averaged network, by column of loss.csv; None in between."""


class TrainResult(NamedTuple):
    """End of a run: the best prior by validation, and whether the run was asked to stop before its end."""

    prior: DiffusionPrior
    step: int
    interrupted: bool


class TrainState(NamedTuple):
    """What the next step needs: weights, their moving average, the optimiser's moments, the number of steps done."""

    network: UNet
    average: UNet
    optimizer: optax.OptState
    step: Int[Array, ""]


def beside_gpu() -> bool:
    """Whether the cores are free for rendering and for batches, because a GPU trains.

    With NUCLEAR_DIFFUSION_BESIDE_GPU=1 in the environment all is done as if one did, for tests where there is none.
    """
    return jax.default_backend() != "cpu" or os.environ.get("NUCLEAR_DIFFUSION_BESIDE_GPU") == "1"


def train(
    frames: FrameBank,
    out: Path,
    config: TrainConfig | None = None,
    *,
    seed: int = 0,
    val_frames: FrameBank | None = None,
    resume: bool = True,
    init: Path | str | DiffusionPrior | None = None,
    judge: Judge | None = None,
    ready: Callable[[], int] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> TrainResult:
    """Train a prior on clean frames, 0-255, and write it with its records into the folder `out`.

    From short clips (clips, moments, 2, height, width) of clean and hazy frames the prior also learns what haze does
    and how it shows over time; see `DiffusionPrior.given`.
    `frames` may be a memory map. `val_frames`: frames of other patients; without them some of `frames` are
    watched, and over-fitting goes unseen. `resume`: go on from `out`/checkpoint.safetensors if there is one.
    `init`: a prior to start from, or where it is (`load_trained`); its architecture, intensities and noise range stay.
    `judge`: what the prior is for, measured at each validation; without it, denoising errors choose the weights.
    `ready`: how many of `frames`, counted from the first, are there by now, where they are filled in while the run goes
    on; None: all. Mean and standard deviation are those of what is there when the run starts.

    With `init`, the weights half way back to it compete at each validation: a prior that is trained on a few clips
    loses what it could do on others, and the mean of both is often better than either (Wortsman et al. 2022, arXiv
    2109.01903).

    Writes prior.safetensors (moving average, best by validation), checkpoint.safetensors (exact resume),
    loss.csv, loss.png, samples.png, log.json. The first Ctrl-C saves and returns, the second stops at once.

    Raises InputError for frames of another kind, or a checkpoint of another run.
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
                "The prior to start from has learned haze and needs hazy frames to go on: give pairs, or no `init`."
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
        run.record(0, 0.0, math.nan, run.validate(state, watched, 0))  # training may only improve on it

    key = _key(seed + 1)
    step = int(state.step)
    losses: list[Scalar] = []
    saved_at = told_at = time.monotonic()
    images = 0
    fraction = run.fraction(step)
    prior = run.prior  # of a run that goes on, with its mean and scale
    with _stop_on_signal() as stop, _prefetched(source, step, run) as batches:
        while fraction < 1 and not stop.is_set():
            lr = run.lr(step)
            batch = next(batches)
            state, loss = _take_step(state, batch, key, lr, prior.mean, prior.scale, config)
            losses.append(loss)
            if len(losses) > 1:
                losses[-2].block_until_ready()  # at most two steps are under way: the clock is that of the network
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
                raise RuntimeError(f"the loss is {mean_loss} at step {step}: resume with a smaller `lr`")
            rate = images / max(time.monotonic() - told_at, 1e-9)
            errors = None
            if validates:
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
    """A key of XLA's own generator: several times faster to compile and to run on a CPU than JAX's default."""
    return jax.random.key(seed, impl="rbg")


def _write(path: Path, content: bytes) -> None:
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def _optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Clipped gradients to Muon's direction for convolutions, Adam's for the rest; the step multiplies by its rate.

    Muon (Jordan et al. 2024) makes a kernel's update orthogonal, as a matrix from what a site sees to its channels.
    """
    muon = optax.contrib.muon(-1.0, consistent_rms=0.2, adam_b2=0.99, muon_weight_dimension_numbers=_as_matrices)
    return optax.chain(optax.clip_by_global_norm(config.clip), muon)


def _as_matrices(weights: optax.Params) -> Any:
    """Which axes of a kernel are rows and which are columns; None for what is no kernel."""
    kernel = optax.contrib.MuonDimensionNumbers(reduction_axis=(0, 1, 2), output_axis=3)
    return jax.tree.map(lambda w: kernel if w.ndim == 4 else None, weights)


@partial(jax.jit, static_argnames="config")
def _first_state(network: UNet, config: TrainConfig) -> TrainState:
    """Before the first step. A step gives its state's memory away, so weights and average must not share theirs."""
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
    """One step of the optimiser, and of the moving average; the loss beside the new state.

    All in float32; only the network computes in bfloat16 where `mixed`.
    """
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
        """Spent training, earlier parts of a resumed run included."""
        return self.seconds_before + time.monotonic() - self.started

    def fraction(self, step: int) -> float:
        """Of the run, by steps or by the clock, whichever is further."""
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
        """The prior with the averaged weights, or only a `share` of the way from the start to them."""
        network = state.average
        if share < 1:
            network = jax.tree.map(lambda a, b: (1 - share) * a + share * b, self.prior.network, network)
        return dataclasses.replace(self.prior, network=network)

    def validates(self, step: int) -> bool:
        """Whether to validate after this step: beside a GPU only if `VALIDATION_SHARE` of the minutes will do."""
        if step % self.config.validate_every != 0:
            return False
        if self.config.minutes is None or not beside_gpu():
            return True
        return self.validating + self.last_validating <= VALIDATION_SHARE * self.seconds

    def validate(
        self, state: TrainState, watched: Float[Array, "batch kinds height width"], step: int
    ) -> dict[str, float]:
        """Errors of the averaged network, with fixed noise, and what the judge says; keeps the best prior.

        That with the highest gain, or without a judge the lowest errors. `share`: how far it is from the start.
        """
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
        """What weights are kept by, lower is better; all that is measured; and the prior."""
        prior, clean = self.averaged(state, share), watched[:, 0]
        found = {f"rmse_{s:g}": float(_denoising_error(prior, clean, jnp.float32(s))) for s in VALIDATION_SIGMAS}
        # what dehazing asks for counts as much as all the noise levels together
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
        (self.out / "loss.csv").write_text(",".join(self.columns) + "\n")

    def record(self, step: int, lr: float, loss: float, errors: dict[str, float] | None) -> None:
        """Append one row to loss.csv, and to TensorBoard's file where there is one."""
        names = self.columns[4:]
        measured = [""] * len(names) if errors is None else [f"{errors[name]:.6f}" for name in names]
        row = [str(step), f"{self.seconds:.1f}", f"{lr:.3g}", f"{loss:.6f}", *measured]
        with open(self.out / "loss.csv", "a") as file:
            file.write(",".join(row) + "\n")
        for name, value in ({"loss": loss, "lr": lr} | (errors or {})).items():
            if self.board is not None and math.isfinite(value):
                self.board.add_scalar(name, value, step)

    def rows(self) -> list[dict[str, str]]:
        """The rows of loss.csv."""
        with open(self.out / "loss.csv", newline="") as file:
            return list(csv.DictReader(file))

    def save(self, state: TrainState) -> None:
        """Write the checkpoint, from which `restore` goes on exactly."""
        metadata = {
            "format": CHECKPOINT_FORMAT,
            "run": json.dumps(self._identity()),
            "seconds": repr(self.seconds),
            "best": repr(self.best),
            "config": json.dumps(dataclasses.asdict(self.config)),
        }
        tensors = named_arrays(state)
        _write(self.checkpoint_path, save(tensors, metadata))

    def restore(self, template: TrainState) -> TrainState:
        """Read the checkpoint; rows that were logged after it are dropped, for they will be logged again."""
        tensors, metadata = read_safetensors(self.checkpoint_path)
        own = json.loads(metadata["run"]) if metadata.get("format") == CHECKPOINT_FORMAT else {}
        if self.start is None and own:  # they are those of the frames that were there when the run started
            self.prior = dataclasses.replace(self.prior, mean=own["mean"], scale=own["scale"])
        if own != self._identity():
            raise InputError(
                f"{self.checkpoint_path} is of a run with another network, start, seed or data, or was judged by other "
                "clips: choose another folder, or do not resume."
            )
        state = fill_arrays(template, tensors, str(self.checkpoint_path))
        self.seconds_before, self.best = float(metadata["seconds"]), float(metadata["best"])
        self.started = time.monotonic()
        done = int(state.step)
        logged = self.rows() if (self.out / "loss.csv").exists() else []
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for row in logged if int(row["step"]) <= done)
        _write(self.out / "loss.csv", text.getvalue().encode())
        return state

    def draw(self, state: TrainState, watched: Float[Array, "batch kinds height width"]) -> None:
        """Write loss.png, samples.png and log.json."""
        if not self.prior_path.exists():
            self.validate(state, watched, int(state.step))
        rows = self.rows()
        if not rows:
            return
        prior = self.averaged(state)
        _write(self.out / "loss.png", draw_curves(rows, VALIDATION_SIGMAS))
        _write(self.out / "samples.png", draw_samples(prior, watched[len(watched) // 2], _key(self.seed)))
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
        _write(self.out / "log.json", (json.dumps(log, indent=2) + "\n").encode())

    def _identity(self) -> dict[str, Any]:
        """What must not change between a run and its resumption. The length may: a run can be prolonged."""
        network = json.loads(json.dumps(dataclasses.asdict(self.config.network)))
        own = {"seed": self.seed, "mean": self.prior.mean, "scale": self.prior.scale}
        return {"network": network, **own, "start": self.start, "frames": self.frames, "judged": self.columns[4:]}


def _board(folder: Path) -> Any | None:
    """A writer of TensorBoard files, where a library for it is installed."""
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
    """Batches from step `first` on, made ahead: in a thread where the cores are the network's, else in processes.

    Threads would wait for each other beside a GPU: making a batch is many short calls. Frames that are in no file, of
    which no process can have its own memory map, are left to threads.
    """
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
    """What makes batches: a pool, its function of step, halved and ready, workers, and how often one is used again."""
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
    """An event set by the first SIGINT or SIGTERM; the second acts as usual. Main thread only, else never set."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def request(_number: int, _frame: Any) -> None:
        stop.set()
        restore()

    for number in previous:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        restore()


def _digest(frames: FrameBank) -> str:
    """SHA-256 of the bank's shape and of its first frames, which are there from the start, to tell sets apart."""
    some = frames[: min(16, max(1, len(frames) // 4))]
    return hashlib.sha256(repr(frames.shape).encode() + np.ascontiguousarray(some).tobytes()).hexdigest()


def _checked(frames: FrameBank, name: str) -> UInt8[np.ndarray, "clips moments kinds height width"]:
    if frames.dtype != np.uint8 or not (frames.ndim == 3 or (frames.ndim == 5 and frames.shape[2] in (1, 2))):
        raise InputError(
            f"`{name}` must be uint8 of shape (frames, height, width), or (clips, moments, 2, height, width) with hazy "
            f"versions, got {frames.dtype} of shape {frames.shape}: pack clips with `pack_clips`."
        )
    if len(frames) == 0 or not np.any(frames[:: max(1, len(frames) // 512)]):
        raise InputError(f"`{name}` holds no picture: every frame is black, or there is none.")
    return frames[:, None, None] if frames.ndim == 3 else frames
