"""The clock, the checkpoint and the records of one training run, and its choice of the best weights."""

import contextlib
import csv
import dataclasses
import hashlib
import importlib
import importlib.util
import io
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8
from safetensors.numpy import save

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.files import write
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
from nuclear_diffusion.training.batches import beside_gpu
from nuclear_diffusion.training.config import TrainConfig
from nuclear_diffusion.training.figures import draw_curves, draw_samples
from nuclear_diffusion.training.loss import Frames
from nuclear_diffusion.types import Scalar

CHECKPOINT_FORMAT = "nuclear-diffusion training 1"
VALIDATION_SIGMAS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
VALIDATION_FRAMES = 16

VALIDATION_SHARE = 0.1  # largest fraction of the time spent on validation, in a run on a GPU with a budget in minutes

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


class TrainState(NamedTuple):
    """The state of the optimisation: weights, their moving average, the optimiser's moments, steps done."""

    network: UNet
    average: UNet
    optimizer: optax.OptState
    step: Int[Array, ""]


class Run:
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

    def halved(self, step: int) -> bool:
        """Whether the frames of this step have half the size."""
        return self.fraction(step) < self.config.halved_until

    def lr(self, step: int) -> float:
        """Linear warm-up, then half a cosine in each cycle, from half the peak of the one before."""
        config = self.config
        cycle = min(int(self.fraction(step) * config.cycles), config.cycles - 1)
        cosine = 0.5 * (1 + math.cos(math.pi * min(self.fraction(step) * config.cycles - cycle, 1.0)))
        rise = min(1.0, (step + 1) / max(config.warmup, 1))
        return config.lr * 0.5**cycle * rise * (config.final_lr + (1 - config.final_lr) * cosine)

    def averaged(self, state: TrainState, share: float = 1.0) -> DiffusionPrior:
        """The prior with the averaged weights, or with a fraction `share` of the way from the start to them."""
        network = state.average
        if share < 1:
            # by NumPy: JAX would compile programs for each shape
            between = jax.tree.map(
                lambda a, b: (1 - share) * np.asarray(a) + share * np.asarray(b), self.prior.network, network
            )
            network = jax.device_put(between)
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
        """Validate the averaged network, also half way from the start, and save it if it is the best so far.

        Raises `InputError` if its weights are not finite.
        """
        if not finite(state.average):
            raise self.diverged(step)
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
        if not finite((state.network, state.average)):
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
        write(self.out / "samples.png", draw_samples(prior, watched[len(watched) // 2], fast_key(self.seed)))
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
    """`Run._identity` in a checkpoint."""

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


def finite(tree: Any) -> bool:
    """Whether all numbers of a pytree are finite."""
    return all(np.isfinite(leaf).all() for leaf in jax.device_get(jax.tree.leaves(tree)))


def _board(folder: Path) -> Any | None:
    """A writer of TensorBoard files, if a library for it is installed."""
    for module, name in (("tensorboardX", "SummaryWriter"), ("tensorboard.summary", "Writer")):
        if importlib.util.find_spec(module.split(".")[0]) is not None:
            return getattr(importlib.import_module(module), name)(str(folder))
    return None


@eqx.filter_jit
def _denoising_error(prior: DiffusionPrior, clean: Frames, sigma: Scalar) -> Scalar:
    """Root mean square error over all pixels, with fixed noise."""
    noise = jax.random.normal(fast_key(7), clean.shape)
    return jnp.sqrt(jnp.mean((prior.denoise(clean + sigma * noise, sigma) - clean) ** 2))


@eqx.filter_jit
def _error_given(prior: DiffusionPrior, clean: Frames, seen: Float[Array, "batch seen height width"]) -> Scalar:
    """Root mean square error of E[x0 | y] over all pixels."""
    return jnp.sqrt(jnp.mean((Posterior(prior, seen).mean() - clean) ** 2))


def fast_key(seed: int) -> PRNGKeyArray:
    """A key of XLA's own generator, which compiles and runs several times faster on a CPU than JAX's default."""
    return jax.random.key(seed, impl="rbg")


def _digest(frames: FrameBank) -> str:
    """SHA-256 of the bank's shape and its first frames, which are ready from the start."""
    some = frames[: min(16, max(1, len(frames) // 4))]
    return hashlib.sha256(repr(frames.shape).encode() + np.ascontiguousarray(some).tobytes()).hexdigest()
