"""The methods, each a frozen class with settings, their defaults and help, and `separate`.

A method is set on the command line or in a settings file and stored in every report. JAX is imported when a method
runs, so that help is fast.

To add a method, write a class and add it to `Method`: `dehaze`, `evaluate` and `tune` then know its name, help,
settings and strengths. Two more places are optional: its colour in `measure.style.LOOKS` (else grey), and
`measure.candidates.METHODS` to compare it in the demo and the benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

import msgspec
import numpy as np
from jaxtyping import Float32
from numpy import ndarray
from tyro.conf import arg

from nuclear_diffusion.errors import InputError, require
from nuclear_diffusion.text import read_json

if TYPE_CHECKING:
    from nuclear_diffusion.paper.separation import Separation
    from nuclear_diffusion.priors.protocol import Prior
    from nuclear_diffusion.restore.draws import Posterior
    from nuclear_diffusion.restore.estimate import Estimate
    from nuclear_diffusion.types import Mask

Frames = Float32[ndarray, "frames size size"]
"""A clip on the prior's grid, display intensity in [0, 1]."""

Progress = Callable[[int, int], None]
"""Called with (done, total)."""

MOST, LARGEST = 1_000_000, 1e30
"""Largest counts (steps, frames, samples) and largest other settings."""

PriorName = Annotated[
    str,
    arg(
        metavar="echo|PATH",
        help="Diffusion prior: 'echo' (shipped), a .safetensors file you trained, or a zea preset folder.",
    ),
]
Seed = Annotated[int, arg(help="Random seed; results are bit-identical for the same seed on the same machine.")]
Gamma = Annotated[float, arg(help="Weight of the background's nuclear norm, for intensity in [0, 1].")]
Steps = Annotated[int, arg(help="Denoising steps per window.")]
Window = Annotated[int, arg(help="Frames separated together, at most the whole clip.")]
Overlap = Annotated[int, arg(help="Frames shared by neighbouring windows.")]


class _Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="method", tag=str.lower):
    """Base of all methods. The JSON of a method is its name and settings, as in `{"method": "rpca", "lam": 1.0}`.

    Every method has `separate`, which takes frames on the prior's grid and the sector's `mask` (default: the whole
    frame). The first line of its docstring is its help.
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


class Nuclear(_Settings, frozen=True):
    """Nuclear Diffusion removes the haze fraction estimated with a diffusion prior and a low-rank background."""

    prior: PriorName = "echo"
    strength: Annotated[
        float, arg(help="How much haze to remove: 0 keeps the input, 1 removes everything that may be haze.")
    ] = 0.5
    samples: Annotated[
        int, arg(help="Posterior samples for maps of the signal's mean and standard deviation: 0 or at least 2.")
    ] = 0
    seed: Annotated[int, arg(help="Random seed of --samples.")] = 0

    title: ClassVar[str] = "Nuclear Diffusion"
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
        """`estimate`, then render at `strength`."""
        from nuclear_diffusion.restore.estimate import separate

        return separate(frames, given(prior), strength=self.strength, progress=progress)

    def estimate(self, frames: Frames, prior: Prior | None, progress: Progress | None = None) -> Estimate:
        """Estimate tissue and haze; see `nuclear_diffusion.restore.estimate`."""
        from nuclear_diffusion.restore.estimate import estimate

        return estimate(frames, given(prior), progress=progress)

    def draw(self, frames: Frames, prior: Prior | None, background: Any, progress: Progress | None = None) -> Posterior:
        """Draw `samples` samples of p(X, L | Y), starting at the estimate's `background`."""
        import jax

        from nuclear_diffusion.paper.nuclear_norm import slowly_varying
        from nuclear_diffusion.priors.protocol import knows_haze
        from nuclear_diffusion.restore.draws import SplitGibbs, sample_posterior

        prior, (length, overlap) = given(prior), self.draws_window
        window = min(length, len(frames))
        return sample_posterior(
            frames,
            prior,
            slowly_varying((window, *frames.shape[1:]), self.draws_mu),
            key=jax.random.key(self.seed),
            sampler=SplitGibbs(mu=self.draws_mu, draws=self.samples, warm_up=0 if knows_haze(prior) else 1),
            start=np.asarray(background),
            window=window,
            overlap=min(overlap, window - 1),
            progress=progress,
        )


class Paper(_Settings, frozen=True):
    """Algorithm 1 with the paper's gamma, mu, window and steps, and step sizes just below the limit of divergence."""

    prior: PriorName = "echo"
    mu: Annotated[float, arg(help="Precision of the noise (1 / variance), for intensity in [0, 1].")] = 2.0
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

    def separate(
        self, frames: Frames, prior: Prior | None = None, *, mask: Mask | None = None, progress: Progress | None = None
    ) -> Separation:
        """Run `Algorithm1` window by window."""
        import jax
        import jax.numpy as jnp

        from nuclear_diffusion.paper.algorithm1 import Algorithm1
        from nuclear_diffusion.paper.nuclear_norm import NuclearNorm
        from nuclear_diffusion.paper.sample import sample

        window = min(self.window, len(frames))
        return sample(
            jnp.asarray(frames),
            given(prior),
            # mu and gamma as arrays: Python numbers would be compiled in, and each new value would recompile
            Algorithm1.paper(steps=self.steps, mu=jnp.float32(self.mu)),
            key=jax.random.key(self.seed),
            background=NuclearNorm(jnp.float32(self.gamma)),
            window=window,
            overlap=min(self.overlap, window - 1),
            progress=progress,
        )


class Zea(_Settings, frozen=True):
    """The published implementation, zea 0.1.8, with its defaults."""

    prior: PriorName = "echo"
    gamma: Gamma = 1.0
    steps: Steps = 500
    window: Window = 7
    overlap: Overlap = 0
    project: Annotated[
        Literal["on", "off"],
        arg(help="Replace pixels whose estimate is brighter than mid grey by the input."),
    ] = "on"
    seed: Seed = 0

    title: ClassVar[str] = "zea"
    strengths: ClassVar[dict[str, tuple[float, float]]] = {"gamma": (1 / 8, 8.0)}

    def __post_init__(self):
        _check_positive(self, "gamma", "steps", "window")
        _check_overlap(self.overlap, self.window)
        require(self.project in ("on", "off"), f"`project` must be on or off, got {self.project!r}.")
        _check_seed(self.seed)

    def separate(
        self, frames: Frames, prior: Prior | None = None, *, mask: Mask | None = None, progress: Progress | None = None
    ) -> Separation:
        """Run zea's sampler on zea's windows."""
        import jax
        import jax.numpy as jnp

        from nuclear_diffusion.paper import zea
        from nuclear_diffusion.paper.nuclear_norm import NuclearNorm

        return zea.separate_as_zea(
            jnp.asarray(frames),
            given(prior),
            key=jax.random.key(self.seed),
            background=NuclearNorm(jnp.float32(self.gamma)),
            sampler=zea.Zea.last_tenth(self.steps, project=self.project == "on"),
            window=self.window,
            overlap=self.overlap,
            progress=progress,
        )


class Mmse(_Settings, frozen=True):
    """One pass of the prior's unconditional denoiser."""

    prior: PriorName = "echo"
    sigma: Annotated[float, arg(help="Noise level assumed by the denoiser, for intensity in [0, 1].")] = 0.1

    title: ClassVar[str] = "MMSE denoiser"
    moving: ClassVar[bool] = False
    strengths: ClassVar[dict[str, tuple[float, float]]] = {"sigma": (1 / 8, 8.0)}

    def __post_init__(self):
        _check_positive(self, "sigma")

    def separate(
        self, frames: Frames, prior: Prior | None = None, *, mask: Mask | None = None, progress: Progress | None = None
    ) -> Separation:
        """D(Y, sigma), frame by frame."""
        from nuclear_diffusion.restore.one_pass import mmse

        return mmse(frames, given(prior), self.sigma)


class Aware(_Settings, frozen=True):
    """One pass of the conditional denoiser of a haze-aware prior: the posterior mean of the tissue."""

    prior: PriorName = "echo"

    title: ClassVar[str] = "Posterior mean"
    moving: ClassVar[bool] = False
    strengths: ClassVar[dict[str, tuple[float, float]]] = {}

    def separate(
        self, frames: Frames, prior: Prior | None = None, *, mask: Mask | None = None, progress: Progress | None = None
    ) -> Separation:
        """E[X | Y]."""
        from nuclear_diffusion.restore.one_pass import posterior_mean

        return posterior_mean(frames, given(prior))


class Rpca(_Settings, frozen=True):
    """Robust PCA finds a sparse signal and a low-rank background, without a learned prior."""

    lam: Annotated[
        float,
        arg(help="Weight of the signal's L1 norm, relative to the usual 1/sqrt(max(n, p)): n pixels, p frames."),
    ] = 1.0

    title: ClassVar[str] = "Robust PCA"
    strengths: ClassVar[dict[str, tuple[float, float]]] = {"lam": (1 / 4, 8.0)}

    def __post_init__(self):
        _check_positive(self, "lam")

    def separate(
        self, frames: Frames, prior: Prior | None = None, *, mask: Mask | None = None, progress: Progress | None = None
    ) -> Separation:
        """Principal component pursuit of the whole clip."""
        from nuclear_diffusion.paper.rpca import robust_pca

        pixels = frames[0].size if mask is None else mask.sum()
        return robust_pca(frames, self.lam / float(np.sqrt(max(pixels, len(frames)))))


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
