"""The command `train`: collect frames, train, evaluate."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.files import working_in, write
from nuclear_diffusion.measure.front import Regions
from nuclear_diffusion.memory import require_memory
from nuclear_diffusion.priors.checkpoint import as_blind, load_trained, prior_hash
from nuclear_diffusion.priors.diffusion_prior import MOMENTS, DiffusionPrior
from nuclear_diffusion.priors.unet import UNetConfig
from nuclear_diffusion.training.batches import beside_gpu
from nuclear_diffusion.training.clips import read_frames, render_ahead, render_frames
from nuclear_diffusion.training.config import TrainConfig
from nuclear_diffusion.training.data import Bank
from nuclear_diffusion.training.judge import Judge, own_hazy, simulated_like
from nuclear_diffusion.training.loop import TrainProgress, train
from nuclear_diffusion.training.request import Request
from nuclear_diffusion.types import Bar

STEPS, MORE_STEPS = 24_000, 2_400
"""Length of a run from random weights and from a prior: about four hours and one hour on two cores."""
CYCLES = 2  # of the learning rate, from random weights
VALIDATE_EVERY, VALIDATE_MORE = 1000, 200
"""Steps between validations, which take up to a minute, from random weights and from a prior."""
JUDGED = 48  # simulated patients to evaluate on, at most as many as `patients`

SHIPPED = "echo"

BYTES_PER_WEIGHT = 4 * 5
"""Weights, moving average, two moments and gradient in float32. A level has at least four 3 x 3 convolutions."""


class Trained(NamedTuple):
    """How a run ended."""

    step: int
    frames: int  # number of training frames
    verdict: list[str]  # sentences that say whether the prior is better than the previous one
    interrupted: bool


def train_prior(request: Request, progress_bar: Bar, note: Callable[[str], None]) -> Trained:
    """Collect frames, train, and compare the new prior with the previous one.

    The previous prior is the one that training starts from, or the shipped one. It dehazes your own clean clips, which
    are then paired with simulated haze (`read_frames`). Both priors are compared on hazy clips outside the training
    set. Raises `InputError` for unreadable clips or options that contradict each other.
    """
    with working_in(request.output):
        return _train_prior(request, progress_bar, note)


def _train_prior(request: Request, progress_bar: Bar, note: Callable[[str], None]) -> Trained:
    """`train_prior`, while no other process writes the output."""
    start = None if request.start is None else load_trained(request.start)
    if start is not None and request.blind:
        start = as_blind(start)
    blind = request.blind or (start is not None and not start.haze_aware)
    before = None if blind else start or load_trained(SHIPPED)
    if blind and request.hazy is not None:
        raise InputError("An unconditional prior is not evaluated on hazy clips: remove --hazy and --masks.")
    own = None if request.hazy is None else own_hazy(request.hazy, request.masks, request.size)
    cache = request.output / "cache"
    afresh = start is None
    config = TrainConfig(
        network=UNetConfig(widths=request.widths or UNetConfig().widths),
        steps=request.steps or (STEPS if afresh else MORE_STEPS),
        minutes=request.minutes,
        batch=request.batch,
        halved_until=0.1 if afresh else 0.0,
        cycles=CYCLES if afresh else 1,
        lr=request.learning_rate or (5e-3 if afresh else 2e-3 if blind else 1e-3),
        # clean frames as they are, and more noise, at which the shapes of samples are decided
        augment=not blind,
        p_mean=-1.2 if blind else -2.0,
        validate_every=VALIDATE_EVERY if afresh else VALIDATE_MORE,
    )
    if afresh:
        needed = BYTES_PER_WEIGHT * 36 * sum(width**2 for width in config.network.widths)
        require_memory(needed, f"A network of widths {config.network.widths}", "lower --widths")
    with _frames(request, before, cache, progress_bar, note) as (bank, ready):
        if blind and bank.train.ndim == 5:  # its clean frames
            bank = Bank(*(np.ascontiguousarray(part[:, :, 0]).reshape(-1, *part.shape[-2:]) for part in bank))
        there = len(bank.train) if ready is None else ready()
        judge = None if before is None else _judge(request, before, bank.train[:there], own, progress_bar)
        with progress_bar("training") as tell:
            result = train(
                bank.train,
                request.output,
                config,
                seed=request.seed,
                val_frames=bank.val,
                init=start,
                judge=judge,
                ready=ready,
                progress=lambda state: tell(round(state.fraction * config.steps), config.steps, _words(state)),
            )
        there = len(bank.train) if ready is None else ready()
        frames = there * (bank.train.shape[1] if bank.train.ndim == 5 else 1)
    if result.interrupted:
        return Trained(result.step, frames, [], True)
    verdict: list[str] = []
    if judge is not None and before is not None:
        name = request.start or SHIPPED
        verdict = judge.verdict(result.prior, name)
        if prior_hash(result.prior) == prior_hash(before):
            verdict = [f"No weights of this run were better than {name}: prior.safetensors is a copy of {name}."]
        write(request.output / "verdict.txt", "\n".join(verdict) + "\n")
    if not request.keep_cache:
        shutil.rmtree(cache, ignore_errors=True)
    return Trained(result.step, frames, verdict, False)


@contextmanager
def _frames(
    request: Request, teacher: DiffusionPrior | None, cache: Path, progress_bar: Bar, note: Callable[[str], None]
) -> Iterator[tuple[Bank, Callable[[], int] | None]]:
    """The training frames, and `ready` of `train` if patients are rendered during training on a GPU."""
    about: dict[str, Any] = {"cache": cache, "size": request.size, "limit_gb": request.cache_gb, "note": note}
    if request.folder is not None:
        with progress_bar("reading clips") as progress:
            bank = read_frames(request.folder, teacher=teacher, seed=request.seed, progress=progress, **about)
        yield bank, None
        return
    bar = "rendering simulated patients"
    if teacher is not None and beside_gpu():  # an unconditional prior trains on a copy of all clean frames
        with ExitStack() as first:
            progress = first.enter_context(progress_bar(bar))
            with render_ahead(request.patients, MOMENTS, progress=progress, **about) as (bank, ready):
                first.close()
                yield bank, ready
        return
    with progress_bar(bar) as progress:
        bank = render_frames(request.patients, MOMENTS, progress=progress, **about)
    yield bank, None


def _judge(
    request: Request,
    before: DiffusionPrior,
    clips: UInt8[ndarray, "clips moments 2 size size"],
    own: list[Regions] | None,
    progress_bar: Bar,
) -> Judge:
    """A judge on simulated patients that look like `clips`, and on the user's own hazy clips."""
    some = np.linspace(0, len(clips) - 1, min(64, len(clips))).astype(int)
    with progress_bar("rendering patients for evaluation") as progress:
        count, workers = min(JUDGED, request.patients), os.cpu_count() or 1
        like = simulated_like(clips[some][:, :, 0], count, size=request.size, workers=workers, progress=progress)
    return Judge({"simulated": like} | ({} if own is None else {"own": own}), before)


def _words(state: TrainProgress) -> str:
    words = f"step {state.step}, loss {state.loss:.4f}, {state.images_per_second:.1f} images/s"
    gained = (state.validation or {}).get("gain")
    return words if gained is None else f"{words}, gCNR gain {gained:+.3f}"
