"""The methods, each a frozen class with settings, their defaults and help, which separates a clip in parts.

A method is set on the command line or in a settings file and stored in every report. JAX is imported when a method
runs, so that help is fast.

To add a method, write a class and add it to `Method`: `dehaze`, `evaluate` and `tune` then know its name, help,
settings and strengths. Two more places are optional: its colour in `measure.style.LOOKS` (else grey), and
`measure.candidates.METHODS` to compare it in the demo and the benchmarks.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, get_args

import msgspec
import numpy as np
from jaxtyping import Float32
from numpy import ndarray
from tyro.conf import arg

from nuclear_diffusion.errors import InputError, require
from nuclear_diffusion.text import read_json

if TYPE_CHECKING:
    from nuclear_diffusion.paper.separation import Separation
    from nuclear_diffusion.paper.windows import Once
    from nuclear_diffusion.priors.protocol import Prior
    from nuclear_diffusion.restore.draws import Posterior, SplitGibbs
    from nuclear_diffusion.types import Mask, Progress

Frames = Float32[ndarray, "frames size size"]
"""A clip on the prior's grid, display intensity in [0, 1]."""
MOST, LARGEST = 1_000_000, 1e30
"""Largest counts (steps, frames, samples) and largest other settings."""
PriorName = Annotated[
    str,
    arg(
        metavar="echo|echo-blind|PATH",
        help="Diffusion prior: 'echo' (trained on hazy and clean clips) and 'echo-blind' (on clean frames only) are "
        "shipped; or a .safetensors file you trained, or a zea preset folder.",
    ),
]
Seed = Annotated[int, arg(help="Random seed; results are bit-identical for the same seed on the same machine.")]
Gamma = Annotated[float, arg(help="Weight of the background's nuclear norm, for intensity in [0, 1].")]
Steps = Annotated[int, arg(help="Denoising steps per window.")]
Window = Annotated[int, arg(help="Frames separated together, at most the whole clip.")]
Overlap = Annotated[int, arg(help="Frames shared by neighbouring windows.")]


def keep_nothing(stage: str, kind: type, windows: int) -> Once[Any] | None:
    """The default of `Job.kept`: every window is computed."""
    return None


class Job(NamedTuple):
    """A clip to separate, on the prior's grid; only a few windows of it are ever in memory."""

    blocks: Iterable[ndarray]
    """Consecutive frames, in blocks of any length."""
    total: int
    """Frames in all blocks together."""
    prior: Prior | None = None

    mask: Mask | None = None
    """The sector; default: the whole frame."""
    progress: Progress | None = None

    kept: Callable[[str, type, int], Once[Any] | None] = keep_nothing
    """Called with a stage's name, the type of its results and the number of its windows: where finished windows are
    kept, as in `nuclear_diffusion.restore.finished`."""


class Part(NamedTuple):
    """Some frames of a separated clip, each (frames, size, size) on the prior's grid."""

    background: Frames
    """L, the haze."""
    haze: Frames | None = None
    """What is subtracted from the frames, for a method that finds it."""
    share: Frames | None = None
    """Haze fraction in [0, 1], for a method that finds it."""
    mean: Frames | None = None
    """Posterior mean."""
    draws_haze: Frames | None = None
    """The frames less the mean of the posterior samples, if any were drawn."""
    draws_deviation: Frames | None = None
    """Standard deviation of these samples."""


class _Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="method", tag=str.lower):
    """Base of all methods. The JSON of a method is its name and settings, as in `{"method": "rpca", "lam": 1.0}`.

    Every method has `separations`, which separates a clip in parts. The first line of its docstring is its help.
    """

    title: ClassVar[str]
    """Its name in tables and figures."""
    moving: ClassVar[bool] = True
    """Whether it distinguishes haze from tissue by motion and so refuses a static clip."""
    strengths: ClassVar[dict[str, tuple[float, float]]]
    """Settings that control how strongly it acts, each with the range that `tune` searches, in multiples of the
    default; the first is the one that `evaluate --strengths` varies."""

    @property
    def name(self) -> str:
        """The method's name on the command line."""
        return str(self.__struct_config__.tag)

    @property
    def prior_name(self) -> str | None:
        """The setting `prior`; None for a method without a prior."""
        return getattr(self, "prior", None)

    def separations(self, job: Job) -> Iterator[Separation]:
        """Separate a clip; yields its frames in order as windows are finished."""
        raise NotImplementedError

    def parts(self, job: Job) -> Iterator[Part]:
        """Separate a clip; yields the haze in order as windows are finished."""
        from nuclear_diffusion.paper.windows import Queue

        waiting = Queue()
        for found in self.separations(job._replace(blocks=waiting.passing(job.blocks))):
            (frames,) = waiting.take(len(found.signal))
            yield Part(np.asarray(found.background), haze=frames - np.asarray(found.signal))

    def separate(
        self, frames: Frames, prior: Prior | None = None, *, mask: Mask | None = None, progress: Progress | None = None
    ) -> Separation:
        """Separate a whole clip in memory; `mask`: the sector, default: the whole frame."""
        from nuclear_diffusion.checks import require_intensity
        from nuclear_diffusion.paper.windows import joined

        require_intensity("frames", np.asarray(frames))
        return joined(self.separations(Job([frames], len(frames), prior, mask, progress)))


class Nuclear(_Settings, frozen=True):
    """Nuclear Diffusion removes the haze fraction estimated with a diffusion prior and a low-rank background."""

    prior: PriorName = "echo"
    strength: float = 0.5
    """How much haze to remove: 0 keeps the input, 1 removes everything that may be haze."""
    samples: int = 0
    """Posterior samples for maps of the signal's mean and standard deviation: 0 or at least 2."""
    seed: int = 0
    """Random seed of --samples."""
    title: ClassVar[str] = "Nuclear Diffusion"
    moving: ClassVar[bool] = False
    strengths: ClassVar[dict[str, tuple[float, float]]] = {"strength": (1 / 10, 2.0)}
    draws_mu: ClassVar[float] = 10.0
    """Precision mu (eq. 8) for posterior samples, 1 / intensity^2."""
    draws_window: ClassVar[tuple[int, int]] = (15, 2)
    """Window and overlap for posterior samples, frames."""

    def __post_init__(self):
        require(0 <= self.strength <= 1, f"`strength` must be between 0 and 1, got {self.strength}.")
        require(
            self.samples == 0 or 2 <= self.samples <= MOST,
            f"`samples` must be 0 or at least 2, at most {MOST}, got {self.samples}.",
        )
        _check_seed(self.seed)

    def separate(
        self, frames: Frames, prior: Prior | None = None, *, mask: Mask | None = None, progress: Progress | None = None
    ) -> Separation:
        """Estimate a whole clip in memory, then render at `strength`."""
        from nuclear_diffusion.restore.estimate import separate

        return separate(frames, given(prior), strength=self.strength, progress=progress)

    def parts(self, job: Job) -> Iterator[Part]:
        """Estimate tissue and haze, and draw posterior samples if any are asked for."""
        from nuclear_diffusion.paper.windows import Queue, Windows
        from nuclear_diffusion.restore.estimate import OVERLAP, WINDOW, Estimate, estimate_parts

        windows, drawing = Windows(job.total, WINDOW, OVERLAP), Windows(job.total, *self.draws_window)
        passes = self._sampler(job.prior).steps * drawing.size * len(drawing) if self.samples else 0
        of_estimate, of_draws = _together(job.progress, windows.size * len(windows), passes)
        frames, estimates = Queue(), Queue()

        def estimated() -> Iterator[ndarray]:
            once = job.kept("estimate", Estimate, len(windows))
            blocks = frames.passing(job.blocks)
            for found in estimate_parts(blocks, windows, given(job.prior), progress=of_estimate, once=once):
                (y,) = frames.take(len(found.mean))
                estimates.put(y, *(np.asarray(part) for part in (found.background, found.share, found.mean)))
                yield np.stack([y, found.background], axis=1)

        if not self.samples:
            for block in estimated():
                _, background, share, mean = estimates.take(len(block))
                yield Part(background, None, share, mean)
            return
        for drawn in self._drawn(job._replace(blocks=estimated(), progress=of_draws)):
            y, background, share, mean = estimates.take(len(drawn.mean))
            yield Part(background, None, share, mean, y - np.asarray(drawn.mean), np.asarray(drawn.deviation))

    def _drawn(self, job: Job) -> Iterator[Posterior]:
        """Samples of p(X, L | Y) of frames and their estimated background, (frames, 2, size, size)."""
        import jax

        from nuclear_diffusion.paper.nuclear_norm import slowly_varying
        from nuclear_diffusion.paper.windows import Windows
        from nuclear_diffusion.restore.draws import Posterior, posterior_parts

        windows, blocks = Windows(job.total, *self.draws_window), iter(job.blocks)
        first = next(blocks)
        return posterior_parts(
            itertools.chain([first], blocks),
            windows,
            given(job.prior),
            slowly_varying((windows.size, *first.shape[2:]), self.draws_mu),
            key=jax.random.key(self.seed),
            sampler=self._sampler(job.prior),
            progress=job.progress,
            once=job.kept("draws", Posterior, len(windows)),
            with_draws=False,
        )

    def _sampler(self, prior: Prior | None) -> SplitGibbs:
        from nuclear_diffusion.priors.protocol import knows_haze
        from nuclear_diffusion.restore.draws import SplitGibbs

        warm_up = 0 if knows_haze(given(prior)) else 1
        return SplitGibbs(mu=self.draws_mu, draws=self.samples, warm_up=warm_up)


class Paper(_Settings, frozen=True):
    """Algorithm 1 with the paper's gamma, mu, window and steps, and step sizes just below the limit of divergence."""

    prior: PriorName = "echo-blind"
    mu: float = 2.0
    """Precision of the noise (1 / variance), for intensity in [0, 1]."""
    gamma: Gamma = 1.0
    steps: Steps = 500
    window: Window = 7
    overlap: Overlap = 0
    seed: Seed = 0

    title: ClassVar[str] = "Algorithm 1"
    strengths: ClassVar[dict[str, tuple[float, float]]] = {"mu": (1 / 8, 8.0), "gamma": (1 / 8, 8.0)}

    def __post_init__(self):
        _check_positive(self, "mu", "gamma", "steps", "window")
        _check_overlap(self.overlap, self.window)
        _check_seed(self.seed)

    def separations(self, job: Job) -> Iterator[Separation]:
        """Run `Algorithm1` window by window."""
        import jax
        import jax.numpy as jnp

        from nuclear_diffusion.paper.algorithm1 import Algorithm1
        from nuclear_diffusion.paper.nuclear_norm import NuclearNorm
        from nuclear_diffusion.paper.sample import sample_parts
        from nuclear_diffusion.paper.separation import Separation
        from nuclear_diffusion.paper.windows import Windows

        windows = Windows(job.total, self.window, self.overlap)
        return sample_parts(
            job.blocks,
            windows,
            given(job.prior),
            # mu and gamma as arrays: Python numbers would be compiled in, and each new value would recompile
            Algorithm1.paper(steps=self.steps, mu=jnp.float32(self.mu)),
            key=jax.random.key(self.seed),
            background=NuclearNorm(jnp.float32(self.gamma)),
            progress=job.progress,
            once=job.kept("paper", Separation, len(windows)),
        )


class Zea(_Settings, frozen=True):
    """The published implementation, zea 0.1.8, with its defaults."""

    prior: PriorName = "echo-blind"
    gamma: Gamma = 1.0
    steps: Steps = 500
    window: Window = 7
    overlap: Overlap = 0
    project: Literal["on", "off"] = "on"
    """Replace pixels whose estimate is brighter than mid grey by the input."""
    seed: Seed = 0

    title: ClassVar[str] = "zea"
    strengths: ClassVar[dict[str, tuple[float, float]]] = {"gamma": (1 / 8, 8.0)}

    def __post_init__(self):
        _check_positive(self, "gamma", "steps", "window")
        _check_overlap(self.overlap, self.window)
        require(self.project in ("on", "off"), f"`project` must be on or off, got {self.project!r}.")
        _check_seed(self.seed)

    def separations(self, job: Job) -> Iterator[Separation]:
        """Run zea's sampler on zea's windows."""
        import jax
        import jax.numpy as jnp

        from nuclear_diffusion.paper import zea
        from nuclear_diffusion.paper.nuclear_norm import NuclearNorm
        from nuclear_diffusion.paper.separation import Separation

        windows = zea.zea_windows(job.total, self.window, self.overlap)
        return zea.zea_parts(
            job.blocks,
            windows,
            given(job.prior),
            key=jax.random.key(self.seed),
            background=NuclearNorm(jnp.float32(self.gamma)),
            sampler=zea.Zea.last_tenth(self.steps, project=self.project == "on"),
            progress=job.progress,
            once=job.kept("zea", Separation, len(windows)),
        )


class Mmse(_Settings, frozen=True):
    """One pass of the prior's unconditional denoiser."""

    prior: PriorName = "echo"
    sigma: float = 0.1
    """Noise level assumed by the denoiser, for intensity in [0, 1]."""
    title: ClassVar[str] = "MMSE denoiser"
    moving: ClassVar[bool] = False
    strengths: ClassVar[dict[str, tuple[float, float]]] = {"sigma": (1 / 8, 8.0)}

    def __post_init__(self):
        _check_positive(self, "sigma")

    def separations(self, job: Job) -> Iterator[Separation]:
        """D(Y, sigma), frame by frame."""
        from nuclear_diffusion.restore.one_pass import mmse

        # frame by frame; blocks bound memory
        return _windowed(job, "mmse", 64, 0, lambda y: mmse(y, given(job.prior), self.sigma))


class Aware(_Settings, frozen=True):
    """One pass of the conditional denoiser of a haze-aware prior: the posterior mean of the tissue."""

    prior: PriorName = "echo"

    title: ClassVar[str] = "Posterior mean"
    moving: ClassVar[bool] = False
    strengths: ClassVar[dict[str, tuple[float, float]]] = {}

    def separations(self, job: Job) -> Iterator[Separation]:
        """E[X | Y]."""
        from nuclear_diffusion.restore.estimate import OVERLAP, WINDOW
        from nuclear_diffusion.restore.one_pass import posterior_mean

        return _windowed(job, "aware", WINDOW, OVERLAP, lambda y: posterior_mean(y, given(job.prior)))


class Rpca(_Settings, frozen=True):
    """Robust PCA finds a sparse signal and a low-rank background, without a learned prior."""

    lam: float = 1.0
    """Weight of the signal's L1 norm, relative to the usual 1/sqrt(max(n, p)): n pixels, p frames."""
    title: ClassVar[str] = "Robust PCA"
    strengths: ClassVar[dict[str, tuple[float, float]]] = {"lam": (1 / 4, 8.0)}
    largest: ClassVar[int] = 2**24
    """Values separated together, 256 frames of 256 x 256; longer clips are separated in windows of that many."""
    overlap: ClassVar[int] = 16
    """Frames shared by neighbouring windows."""

    def __post_init__(self):
        _check_positive(self, "lam")

    def separations(self, job: Job) -> Iterator[Separation]:
        """Principal component pursuit of the clip, or of each window of a long one."""
        from nuclear_diffusion.paper.rpca import robust_pca

        blocks = iter(job.blocks)
        first = next(blocks)
        length = max(2, self.largest // first[0].size)
        job = job._replace(blocks=itertools.chain([first], blocks))

        def solve(y: Frames) -> Separation:
            pixels = y[0].size if job.mask is None else job.mask.sum()
            return robust_pca(y, self.lam / float(np.sqrt(max(pixels, len(y)))))

        return _windowed(job, "rpca", length, min(self.overlap, length - 1), solve)


Method = Nuclear | Paper | Zea | Mmse | Aware | Rpca
"""Any method."""
METHODS: dict[str, type[Method]] = {kind.__name__.lower(): kind for kind in get_args(Method)}
"""The methods by name."""

if TYPE_CHECKING:
    MethodName = str
else:
    MethodName = Literal[tuple(METHODS)]  # the choices on the command line


def as_dict(method: Method) -> dict[str, Any]:
    """Name and settings, as stored in a report."""
    return msgspec.to_builtins(method)


def as_json(method: Method) -> str:
    """One line of JSON with sorted keys; equal settings give equal text."""
    return msgspec.json.encode(method, order="sorted").decode()


def from_dict(settings: Any) -> Method:
    """Inverse of `as_dict`, with defaults for missing settings. Raises `InputError` for anything else."""
    try:
        return msgspec.convert(settings, Method)
    except msgspec.ValidationError as error:
        raise InputError(f"{_reason(error)}.") from error


def read_settings(path: Path) -> Method:
    """The method in a settings file: JSON as `as_json` writes it, with defaults for missing settings.

    Raises `InputError` if the file cannot be read, is not a settings file, or has unusable values.
    """
    advice = "correct it, or write one with `tune`"
    return read_json(path, Method, "a settings file of this version", advice, max_bytes=1 << 20, explain=_reason)


def _reason(error: msgspec.ValidationError) -> str:
    """The message of msgspec, with the known methods if the method is wrong."""
    text = str(error).rstrip(".")
    return f"{text}; `method` must be one of {', '.join(METHODS)}" if "method" in text else text


def given(prior: Prior | None) -> Prior:
    """`prior`; raises `ValueError` if it is None."""
    if prior is None:
        raise ValueError("This method needs a `prior`: load one with `load_prior`.")
    return prior


def _windowed(
    job: Job, stage: str, length: int, overlap: int, solve: Callable[[Frames], Separation]
) -> Iterator[Separation]:
    """Separate a clip window by window, each on its own."""
    from nuclear_diffusion.paper.separation import Separation
    from nuclear_diffusion.paper.windows import Windows, over_windows

    windows = Windows(job.total, length, overlap)

    def alone(index: int, y: Frames) -> Separation:
        found = solve(y)
        # windows may differ in steps
        return found if len(windows) == 1 else found._replace(trace=np.asarray(found.trace)[-1:])

    once = job.kept(stage, Separation, len(windows))
    return over_windows(job.blocks, windows.spans, alone, once=once, progress=job.progress, steps=windows.size)


def _together(progress: Progress | None, *totals: int) -> list[Progress | None]:
    """One count for stages that take turns: a function for each, given the total of each."""
    if progress is None:
        return [None] * len(totals)
    done = [0] * len(totals)

    def of(stage: int) -> Progress:
        def tell(count: int, total: int) -> None:
            done[stage] = totals[stage] * count // total
            progress(sum(done), sum(totals))

        return tell

    return [of(stage) for stage in range(len(totals))]


def _check_positive(method: Any, *names: str) -> None:
    for name in names:
        value = getattr(method, name)
        # beyond these limits float32 overflows, and a count of steps or frames is a slip of the pen
        most = MOST if isinstance(value, int) else LARGEST
        require(0 < value <= most, f"`{name}` must be a positive number, at most {most:g}, got {value}.")


def _check_overlap(overlap: int, window: int) -> None:
    require(0 <= overlap < window, f"`overlap` must be at least 0 and less than `window`, got {overlap} of {window}.")


def _check_seed(seed: int) -> None:
    require(0 <= seed < 2**32, f"`seed` must be between 0 and 2^32 - 1, got {seed}.")
