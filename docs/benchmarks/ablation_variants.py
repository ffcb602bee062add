"""What `ablation.py` compares: the default and its variants, question by question."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpy import ndarray

import nuclear_diffusion as nd
from nuclear_diffusion.inference import Algorithm1, Proximal, Separation, Windows, Zea, mmse, robust_pca
from nuclear_diffusion.inference.algorithm1 import wrt_state
from nuclear_diffusion.inference.proximal import ProximalPoint
from nuclear_diffusion.inference.separate import Sampler
from nuclear_diffusion.inference.zea import rank_weights
from nuclear_diffusion.learning import prior_hash
from nuclear_diffusion.model import (
    Background,
    DiffusionPrior,
    FittedNuclearNorm,
    LearnedBackground,
    NuclearNorm,
    PowerSum,
    Prior,
    SmoothBackground,
)
from nuclear_diffusion.model.prior import given
from nuclear_diffusion.pipeline.run import LoadedPrior
from nuclear_diffusion.pipeline.settings import DEFAULTS
from nuclear_diffusion.simulation import SimulatedClip
from nuclear_diffusion.types import Video

Question = Literal[
    "input",
    "others",
    "steps",
    "precision",
    "pace",
    "estimate",
    "background",
    "window",
    "mixture",
    "data",
    "start",
    "gradient",
    "prior",
    "extra",
]

Extent = Literal["usual", "long", "few"]
"""Patients and frames of a row: as asked for; four times the frames; or, where it is slow, two patients, 7 frames."""


class Around(eqx.Module):
    """A sampler around another one, with the prior, the start or the answer changed."""

    sampler: Sampler

    @property
    def steps(self) -> int:
        return self.sampler.steps

    def background_for(self, shape: tuple[int, int, int]) -> NuclearNorm:
        return self.sampler.background_for(shape)


class Informed(Around):
    """A sampler made for p(X) with p(X | Y) in its place."""

    def __call__(self, y: Video, prior: Prior, background: NuclearNorm, *, key, start: Video | None = None):
        return self.sampler(y, given(prior, y), background, key=key, start=start)


class FromBlack(Around):
    """A sampler whose X starts from noise around black, not around the input (SeqDiff)."""

    def __call__(self, y: Video, prior: Prior, background: NuclearNorm, *, key, start: Video | None = None):
        return self.sampler(y, prior, background, key=key, start=jnp.zeros_like(y))


class Further(Around):
    """A sampler that takes `factor` times what stands still of what it has taken."""

    factor: float

    def __call__(self, y: Video, prior: Prior, background: NuclearNorm, *, key, start: Video | None = None):
        found = self.sampler(y, prior, background, key=key, start=start)
        still = jnp.maximum((y - found.signal).mean(0), 0)
        return found._replace(signal=found.signal - (self.factor - 1) * still)


class View(eqx.Module):
    """A prior around another one, good for the same noise."""

    prior: Prior

    @property
    def sigma_min(self) -> float:
        return self.prior.sigma_min

    @property
    def sigma_max(self) -> float:
        return self.prior.sigma_max


class Blind(View):
    """The same prior without its knowledge of haze: p(X) instead of p(X | Y)."""

    def denoise(self, x, sigma):
        return self.prior.denoise(x, sigma)


class Mirrored(View):
    """A prior that sees each frame also in the mirror, and gives the mean of both answers."""

    mirrored: Prior | None = None
    """The prior after seeing the mirrored clip."""
    haze_aware: bool = eqx.field(static=True, default=True)

    def given(self, observed: Video) -> Prior:
        return Mirrored(given(self.prior, observed), given(self.prior, observed[..., ::-1]))

    def denoise(self, x, sigma):
        other = self.prior if self.mirrored is None else self.mirrored
        return (self.prior.denoise(x, sigma) + other.denoise(x[..., ::-1], sigma)[..., ::-1]) / 2


def as_it_is(value, *_):
    return value


def told(part: Any) -> str:
    """A setting as text, with every field, also those at their default."""
    if isinstance(part, DiffusionPrior):
        return prior_hash(part)
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        fields = (f"{field.name}={told(getattr(part, field.name))}" for field in dataclasses.fields(part))
        return f"{type(part).__name__}({', '.join(fields)})"
    if isinstance(part, jax.Array):
        return str(part.tolist())
    return part.__name__ if callable(part) else repr(part)


@dataclasses.dataclass(frozen=True)
class Variant:
    """One setting; what is not given is the package's default."""

    name: str
    sampler: Sampler = Proximal()  # noqa: RUF009  (immutable)
    background: Callable[[NuclearNorm, int], Background] = as_it_is
    """p(L), from the sampler's own and the frames of a window."""
    window: int = DEFAULTS["nuclear"]["window"]
    overlap: int = DEFAULTS["nuclear"]["overlap"]
    view: Callable[[Prior], Prior] = as_it_is
    """How the prior is used."""
    asked: int = 1
    """Denoiser passes a step."""
    loaded: LoadedPrior | None = None
    """Another prior than the run's."""
    extent: Extent = "usual"

    def windows(self, frames: int) -> Windows:
        return Windows(frames, self.window, min(self.overlap, self.window - 1))

    def p(self, shape: tuple[int, ...]) -> Background:
        """p(L) for a clip of `shape`."""
        size = self.windows(shape[0]).size
        return self.background(self.sampler.background_for((size, shape[1], shape[2])), size)

    def passes(self, frames: int) -> float:
        """Denoiser passes a frame."""
        windows = self.windows(frames)
        return self.asked * self.sampler.steps * windows.size * len(windows) / frames

    def settings(self, shape: tuple[int, ...]) -> str:
        """A digest of all that the name stands for: a row is measured again where a default has changed."""
        windows = self.windows(shape[0])
        parts = (self.sampler, self.p(shape), self.view, windows.size, windows.starts)
        return hashlib.sha256("\n".join(map(told, parts)).encode()).hexdigest()[:12]

    def run(self, clip: SimulatedClip, prior: Prior) -> ndarray:
        """The signal, in [0, 1]."""
        found: Separation = nd.separate(
            clip.hazy, self.view(prior), key=jax.random.key(0), sampler=self.sampler,
            background=self.p(clip.hazy.shape), window=self.window, overlap=self.overlap,
        )  # fmt: skip
        return np.clip(np.asarray(found.signal), 0, 1)


DEFAULT = Variant("default")


@dataclasses.dataclass(frozen=True)
class Untouched(Variant):
    """No method: the clip itself."""

    part: Literal["hazy", "clean"] = "hazy"

    def passes(self, frames: int) -> float:
        return 0.0

    def settings(self, shape: tuple[int, ...]) -> str:
        return self.part

    def run(self, clip: SimulatedClip, prior: Prior) -> ndarray:
        return getattr(clip, self.part)


@dataclasses.dataclass(frozen=True)
class Other(Variant):
    """A method of its own: robust PCA at `lam`, or one blind pass told `sigma`."""

    lam: float | None = None
    sigma: float = 0.0

    def passes(self, frames: int) -> float:
        return 0.0 if self.lam else 1.0

    def settings(self, shape: tuple[int, ...]) -> str:
        return f"{self.lam} {self.sigma}"

    def run(self, clip: SimulatedClip, prior: Prior) -> ndarray:
        if self.lam is None:
            found = mmse(clip.hazy, prior, self.sigma)
        else:
            found = robust_pca(clip.hazy, self.lam / float(np.sqrt(clip.sector.sum() * len(clip.hazy))))
        return np.clip(np.asarray(found.signal), 0, 1)


class Group(NamedTuple):
    """The rows that answer one question."""

    question: str
    default: str
    """What the default is in this question."""
    variants: list[Variant]

    def rows(self) -> Iterator[tuple[str, Variant]]:
        """Title and variant of each row; the default leads the rows that are measured on the same frames."""
        for extent in ("usual", "long", "few"):
            same = [variant for variant in self.variants if variant.extent == extent]
            if same:
                yield f"**default: {self.default}**", dataclasses.replace(DEFAULT, extent=extent)
            yield from ((variant.name, variant) for variant in same)


def groups(loaded: LoadedPrior, others: Sequence[LoadedPrior] = (), haze: Prior | None = None) -> dict[Question, Group]:
    """All questions for the prior `loaded`; `others` are priors of other sizes, `haze` one of haze frames."""
    sigma_max = loaded.prior.sigma_max
    far = dataclasses.replace(Proximal(), start=sigma_max)
    walk = dataclasses.replace(far, end=0.05)
    far_to_near = f"from {sigma_max:g} down to 0.05"
    paper = Algorithm1.paper(steps=50)
    through = dataclasses.replace(paper, data_gradient=wrt_state)
    sevens: dict[str, Any] = {"window": 7, "overlap": 0, "extent": "few"}
    window, overlap = DEFAULT.window, DEFAULT.overlap
    return {
        "input": Group(
            "Where it starts, and what it cannot exceed.",
            "Nuclear Diffusion",
            [Untouched("hazy input"), Untouched("clean clip", part="clean")],
        ),
        "others": Group(
            "Robust PCA at other lambdas, in units of 1/sqrt(n p), and one blind pass told other noise levels.",
            "Nuclear Diffusion",
            [
                *(Other(f"robust PCA, lambda {lam:g}", lam=lam) for lam in (1.0, 1.05, 1.1, 1.15, 1.2, 1.5)),
                *(Other(f"one blind pass, sigma {sigma:g}", sigma=sigma) for sigma in (0.1, 0.3, 0.5)),
            ],
        ),
        "window": Group(
            "How many frames are separated together? (four times the frames of the other rows)",
            f"windows of {window} that share {overlap}",
            [
                Variant("windows of 7 that share 2", window=7, overlap=2, extent="long"),
                Variant("windows of 7 that share none", window=7, overlap=0, extent="long"),
                Variant("whole clip", window=10**6, overlap=0, extent="long"),
            ],
        ),
        "background": Group(
            "What does p(L) bring?",
            "nuclear norm of what varies, what stands still is free, L at least 0",
            [
                Variant("gamma x 0: L is all that X leaves", background=lambda own, p: NuclearNorm(0.0)),
                Variant("L = 0: no background", background=lambda own, p: NuclearNorm(1e9)),
                *(Variant(f"gamma x {factor:g}", background=scaled(factor)) for factor in (0.25, 0.5, 2.0, 100.0)),
                *(
                    Variant(
                        f"the strongest pattern free, not the mean over time, gamma x {factor:g}",
                        background=lambda own, p, factor=factor: NuclearNorm(factor * own.gamma, (0.0, 1.0)),
                    )
                    for factor in (0.5, 1.0)
                ),
                Variant(
                    "plain, what stands still costs as the rest",
                    background=lambda own, p: NuclearNorm(own.gamma),
                ),
                Variant(
                    "weighted, from 1 to 3 along the patterns (zea's)",
                    background=lambda own, p: NuclearNorm(own.gamma, rank_weights(p)),
                ),
                Variant("L may be below 0", Proximal(nonnegative=False)),
                *(
                    Variant(f"gamma fitted to the clip, noise {noise:g}", background=fitted(noise))
                    for noise in (0.01, 0.03, 0.1)
                ),
                *(Variant(f"smooth to {width:g} pixels", background=smooth(width)) for width in (1.0, 3.0)),
                *(
                    Variant(f"learned haze, told {noise:g}, then the nuclear norm", background=learned(haze, noise))
                    for noise in (0.03, 0.1, 0.3)
                    if haze is not None
                ),
            ],
        ),
        "mixture": Group(
            "How do signal and background make up what is seen?",
            "intensities add",
            [
                Variant(f"powers add, {decibels:g} dB", Proximal(mixture=PowerSum(decibels / Proximal().exposure)))
                for decibels in (20.0, 40.0, 60.0)
            ],
        ),
        "data": Group(
            f"How does Y enter? Held at {sigma_max:g}, where the default stands, and on a walk {far_to_near}.",
            "exact posterior",
            [
                Variant("proximal point (DiffPIR), trust 1", Proximal(data=ProximalPoint(1.0))),
                Variant("proximal point, trust 0.5", Proximal(data=ProximalPoint(0.5))),
                Variant(far_to_near, walk),
                Variant(f"{far_to_near}, proximal point, trust 1", dataclasses.replace(walk, data=ProximalPoint(1.0))),
                Variant(
                    f"{far_to_near}, proximal point, trust 0.5", dataclasses.replace(walk, data=ProximalPoint(0.5))
                ),
            ],
        ),
        "steps": Group(
            "How many passes?",
            f"{DEFAULT.sampler.steps} steps",
            [
                *(Variant(f"{steps} steps", Proximal(steps=steps)) for steps in (1, 2, 3, 4, 8, 12, 25, 50)),
                *(
                    Variant(
                        f"{steps} steps, plain norm",
                        Proximal(steps=steps),
                        background=lambda own, p: NuclearNorm(own.gamma),
                    )
                    for steps in (3, 12, 25)
                ),
                *(Variant(f"{steps} steps", Proximal(steps=steps), extent="few") for steps in (200, 500)),
            ],
        ),
        "precision": Group(
            "How much may X differ from Y - L?",
            f"mu = {DEFAULT.sampler.mu:g}",
            [Variant(f"mu = {mu:g}", Proximal(mu=mu)) for mu in (0.3, 1.0, 2.0, 3.0, 6.0, 12.0, 25.0)],
        ),
        "pace": Group(
            "How many passes at which precision?",
            f"{DEFAULT.sampler.steps} steps, mu = {DEFAULT.sampler.mu:g}",
            [
                Variant(f"{steps} steps, mu = {mu:g}", Proximal(steps=steps, mu=mu))
                for steps in (2, 3, 4, 6)
                for mu in (0.5, 1.0, 2.0, 3.0)
            ],
        ),
        "start": Group(
            "At which noise level does X start and end? It starts from the input, which tells more the lower the level "
            "(SeqDiff).",
            f"held at {sigma_max:g}",
            [
                *(Variant(f"held at {level:g}", Proximal(start=level)) for level in (0.1, 0.3, 1.0, 3.0, 10.0)),
                Variant(far_to_near, walk),
                *(
                    Variant(f"from {level:g} down to 0.05", dataclasses.replace(walk, start=level))
                    for level in (1.0, 0.3)
                ),
                Variant("from 0.3 down to 0.05, black start", FromBlack(dataclasses.replace(walk, start=0.3))),
            ],
        ),
        "estimate": Group(
            "Which estimate, how much of the input's speckle does it keep, and which shares of haze are taken for none "
            "and for all? How many times as bright does the prior see the clip? 24 steps for a draw and a mode.",
            f"mean, detail {DEFAULT.sampler.detail:g}, spare {DEFAULT.sampler.spare:g}, "
            f"clear {DEFAULT.sampler.clear:g}, exposure {DEFAULT.sampler.exposure:g}",
            [
                *(Variant(f"detail {share:g}", Proximal(detail=share)) for share in (0.0, 0.25, 0.5, 0.75, 1.0)),
                *(Variant(f"spare {value:g}", Proximal(spare=value)) for value in (0.0, 0.1, 0.3)),
                *(Variant(f"clear {value:g}", Proximal(clear=value)) for value in (0.7, 1.0)),
                *(Variant(f"exposure {value:g}", Proximal(exposure=value)) for value in (1.0, 1.1, 1.4)),
                Variant("no pass in the mirror", Proximal(mirror=False)),
                Variant("one draw", Proximal.sample()),
                Variant("a mode", Proximal.mode()),
            ],
        ),
        "gradient": Group(
            "Small steps down a gradient, 50 of them: the paper's Algorithm 1 with line 6 taken with respect to "
            "X_0|tau or through the network (DPS: each pass also backwards), with p(X) as published and with "
            "p(X given Y); and zea's method, also through the network.",
            "closed-form steps",
            [
                Variant("Algorithm 1, X_0|tau", paper, **sevens),
                Variant("Algorithm 1, through the network", through, **sevens),
                Variant("Algorithm 1, X_0|tau, haze-aware", Informed(paper), **sevens),
                Variant("Algorithm 1, through the network, haze-aware", Informed(through), **sevens),
                Variant("zea's method", Zea.last_tenth(50), **sevens),
            ],
        ),
        "prior": Group(
            "What does the prior bring? Blind: p(X) of the same weights, with nothing seen of the hazy clip.",
            f"{parameters(loaded)}, haze-aware",
            [
                Variant("blind, held at 0.3", Proximal(start=0.3), view=Blind),
                Variant("blind, from 0.3 down to 0.05", Proximal(start=0.3, end=0.05), view=Blind),
                *(Variant(named(each, others), loaded=each) for each in others),
            ],
        ),
        "extra": Group(
            "What the default does not do: take more of the static part of what it has taken, and ask the network "
            "about the mirrored clip too.",
            "neither",
            [
                *(
                    Variant(f"static part taken {factor:g} times", Further(Proximal(), factor))
                    for factor in (1.25, 1.5)
                ),
                Variant("averaged with the mirrored clip's", view=Mirrored, asked=2),
            ],
        ),
    }


def scaled(factor: float) -> Callable[[NuclearNorm, int], Background]:
    return lambda own, p: dataclasses.replace(own, gamma=factor * own.gamma)


def fitted(noise: float) -> Callable[[NuclearNorm, int], Background]:
    return lambda own, p: FittedNuclearNorm(noise)


def smooth(width: float) -> Callable[[NuclearNorm, int], Background]:
    return lambda own, p: SmoothBackground(own, width)


def learned(haze: Prior, noise: float) -> Callable[[NuclearNorm, int], Background]:
    return lambda own, p: LearnedBackground(haze, own, noise)


def parameters(loaded: LoadedPrior) -> str:
    """The size of a prior, for a title."""
    arrays = jax.tree.leaves(eqx.filter(loaded.prior, eqx.is_array))
    return f"{sum(array.size for array in arrays) / 1e6:.2f} M parameters"


def named(loaded: LoadedPrior, others: Sequence[LoadedPrior]) -> str:
    """A prior's size, with the start of its hash where another has the same."""
    title = parameters(loaded)
    return title if [parameters(each) for each in others].count(title) == 1 else f"{title}, {loaded.sha256[:6]}"
