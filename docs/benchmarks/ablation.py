"""What each part of the method is worth: `python docs/benchmarks/ablation.py --patients 4 --frames 14`.

Every row is the default with one thing changed, on simulated patients of the development split: nothing here touches
the test split. Each finished (variant, patient) is one line of the cache, so that an interrupted run goes on where it
stopped; the tables (`ablation.md`, `ablation.csv`) are written again after every variant.
"""

import csv
import dataclasses
import functools
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from numpy import ndarray

import nuclear_diffusion as nd
from nuclear_diffusion.evaluation.bootstrap import mean_interval, paired_difference
from nuclear_diffusion.evaluation.scores import score
from nuclear_diffusion.evaluation.tables import made_with
from nuclear_diffusion.files import atomic
from nuclear_diffusion.inference import Algorithm1, Proximal, Separation, Windows, Zea, mmse, robust_pca
from nuclear_diffusion.inference.algorithm1 import wrt_state
from nuclear_diffusion.inference.proximal import ProximalPoint
from nuclear_diffusion.inference.separate import Sampler
from nuclear_diffusion.inference.zea import rank_weights
from nuclear_diffusion.learning import load_prior, prior_hash
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
from nuclear_diffusion.pipeline.run import LoadedPrior, prior_of
from nuclear_diffusion.pipeline.settings import DEFAULTS, Settings
from nuclear_diffusion.simulation import SimulatedClip, patient_seed, simulate
from nuclear_diffusion.types import InputError, Video

QUALITY = {
    "gcnr": "gCNR ↑",
    "ks_a": "KS_A ↓",
    "ks_b": "KS_B ↑",
    "psnr": "PSNR [dB] ↑",
    "ssim": "SSIM ↑",
    "flicker": "flicker",
}
COST = {"passes": "passes a frame", "seconds": "s a frame"}

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
]

MANY = 100
"""Passes a frame from which on compilation is not timed apart: it is a few seconds of several minutes."""

Extent = Literal["usual", "long", "few"]
"""Patients and frames of a row: as asked for; four times the frames; or, where it is slow, two patients, 7 frames."""


class Around(eqx.Module):
    """A sampler that meets the window, the prior or the start changed."""

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


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Blind:
    """The same prior without its knowledge of haze: p(X) instead of p(X | Y)."""

    prior: Prior

    @property
    def sigma_min(self) -> float:
        return self.prior.sigma_min

    @property
    def sigma_max(self) -> float:
        return self.prior.sigma_max

    def denoise(self, x, sigma):
        return self.prior.denoise(x, sigma)


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
        return self.sampler.steps * windows.size * len(windows) / frames

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
            f"whole clip, or windows of {window} that share {overlap}",
            [
                Variant("windows of 7 that share 2", window=7, overlap=2, extent="long"),
                Variant("windows of 7 that share none", window=7, overlap=0, extent="long"),
                Variant("windows of 15 that share 2", window=15, overlap=2, extent="long"),
                Variant("whole clip", window=10**6, overlap=0, extent="long"),
            ],
        ),
        "background": Group(
            "What does p(L) bring?",
            "nuclear norm with the strongest pattern free, L at least 0",
            [
                Variant("gamma x 0: L is all that X leaves", background=lambda own, p: NuclearNorm(0.0)),
                Variant("L = 0: no background", background=lambda own, p: NuclearNorm(1e9)),
                Variant("gamma x 0.3", background=lambda own, p: NuclearNorm(0.3 * own.gamma, own.weights)),
                Variant("gamma x 3", background=lambda own, p: NuclearNorm(3.0 * own.gamma, own.weights)),
                Variant(
                    "plain, the strongest pattern costs as the others",
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
                Variant(f"powers add, {decibels:g} dB", Proximal(mixture=PowerSum(decibels)))
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
            "Which estimate, and how much of what is unexplained does it keep? 24 steps for a draw and a mode.",
            f"mean, detail {DEFAULT.sampler.detail:g}",
            [
                *(Variant(f"detail {share:g}", Proximal(detail=share)) for share in (0.0, 0.25, 0.5, 0.75, 1.0)),
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
    }


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


IDENTITY = ("variant", "settings", "patient", "frames", "size", "prior")
FIELDS = (*IDENTITY, *QUALITY, *COST, "failure")

Identity = tuple[str, ...]
Row = dict[str, str]


class Cache:
    """The finished rows in a CSV file, one line each; `IDENTITY` says what was measured."""

    def __init__(self, path: Path):
        self.path = path
        self.rows: dict[Identity, Row] = {}
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for line in lines[1:]:  # each on its own, so that one torn by a killed run harms no other
            values = next(csv.reader([line]), [])
            if len(values) == len(FIELDS):
                self.rows[tuple(values[: len(IDENTITY)])] = dict(zip(FIELDS, values, strict=True))

    def add(self, identity: Identity, values: dict[str, float], failure: str) -> Row:
        row = dict(zip(IDENTITY, identity, strict=True)) | {name: repr(float(v)) for name, v in values.items()}
        self.rows[identity] = {name: row.get(name, "") for name in FIELDS} | {"failure": failure}
        new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="")
            if new:
                writer.writerow(FIELDS)
            file.write("\n")  # a new line even after a torn one
            writer.writerow(self.rows[identity].values())
        return self.rows[identity]


@dataclasses.dataclass(frozen=True)
class Ablation:
    """One row a variant, question by question, relative to the default on the same patients and frames."""

    patients: int = 4
    """How many patients, from the first on; two in slow rows."""
    frames: int = 14
    """Frames a patient; four times as many where windows are compared, 7 in slow rows."""
    size: int = 256
    """Side of the frames, pixels; another size is for trying the script."""
    prior: str = "echo"
    """The prior: echo or a file."""
    priors: tuple[str, ...] = ()
    """Priors of other sizes, files."""
    haze: str | None = None
    """A prior of haze frames (`train --learn haze`), a file."""
    only: tuple[Question, ...] = ()
    """Questions to measure; all by default."""
    cache: Path = Path("runs/ablation")
    """Folder of the finished rows. Another one is needed where the simulator has changed, which no row records."""
    output: Path = Path(__file__).parent
    """Folder for the table and its numbers."""
    name: str = "ablation"
    """Name of these two files, without ending."""

    def run(self) -> None:
        if self.patients < 1 or self.frames < 2:
            raise InputError(f"--patients must be at least 1 and --frames 2, got {self.patients} and {self.frames}.")
        loaded = prior_of(Settings(prior=self.prior))
        haze = None if self.haze is None else load_prior(self.haze)
        asked = groups(loaded, [prior_of(Settings(prior=path)) for path in self.priors], haze)
        cache = Cache(self.cache / "rows.csv")
        wanted = {
            (variant.name, variant.extent): variant
            for question, group in asked.items()
            if question in (self.only or asked)
            for _, variant in self.rows_of(group)
        }
        for count, variant in enumerate(wanted.values(), 1):
            self.measure(variant, loaded, cache, f"[{count}/{len(wanted)}] {variant.name}")
            self.write(asked, loaded, cache)
        self.write(asked, loaded, cache)

    def rows_of(self, group: Group) -> list[tuple[str, Variant]]:
        """Title and variant of each row of a group, without those that are the default under another name."""
        return [
            (title, variant)
            for title, variant in group.rows()
            if variant.name == DEFAULT.name
            or variant.loaded is not None
            or variant.settings(self.shape(variant)) != DEFAULT.settings(self.shape(variant))
        ]

    def shape(self, variant: Variant) -> tuple[int, int, int]:
        frames = {"usual": self.frames, "long": 4 * self.frames, "few": min(self.frames, 7)}[variant.extent]
        return frames, self.size, self.size

    def patients_of(self, variant: Variant) -> range:
        return range(min(self.patients, 2) if variant.extent == "few" else self.patients)

    def identity(self, variant: Variant, patient: int, loaded: LoadedPrior) -> Identity:
        shape, sha256 = self.shape(variant), (variant.loaded or loaded).sha256
        return (variant.name, variant.settings(shape), str(patient), str(shape[0]), str(self.size), sha256[:16])

    def measure(self, variant: Variant, loaded: LoadedPrior, cache: Cache, title: str) -> None:
        """Measure what is not in the cache. What raises or is not finite becomes a row with the reason."""
        prior = (variant.loaded or loaded).prior
        compiled = False
        for patient in self.patients_of(variant):
            identity = self.identity(variant, patient, loaded)
            if identity in cache.rows:
                continue
            clip = patient_clip(patient, *self.shape(variant)[:2])
            values: dict[str, float] = {}
            failure = ""
            try:
                if not compiled and variant.passes(len(clip.hazy)) < MANY:
                    variant.run(clip, prior)
                    compiled = True
                start = time.perf_counter()
                signal = variant.run(clip, prior)
                seconds = (time.perf_counter() - start) / len(signal)
                if not np.isfinite(signal).all():
                    raise FloatingPointError("the result is not finite")
                cost = {"passes": variant.passes(len(signal)), "seconds": seconds}
                values = score(clip, signal) | cost
            except Exception as error:  # one variant must not end the run
                failure = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            row = cache.add(identity, values, failure)
            shown = failure or ", ".join(f"{name} {float(row[name]):.3f}" for name in (*QUALITY, *COST))
            print(f"{title}, patient {patient}: {shown}", flush=True)

    def write(self, asked: dict[Question, Group], loaded: LoadedPrior, cache: Cache) -> None:
        """Both tables, of every question that has rows in the cache."""
        sections, table = [], []
        for question, group in asked.items():
            rows = self.rows_of(group)
            summaries = [self.summary(title, variant, loaded, cache) for title, variant in rows]
            found = [each for each in summaries if each is not None]
            if any(variant.name != DEFAULT.name for each, (_, variant) in zip(summaries, rows, strict=True) if each):
                sections.append(f"## {question.capitalize()}\n\n{group.question}\n\n{markdown(found)}")
                table += [{"group": question, **each.line()} for each in found]
        if not table:
            return
        own = "" if self.prior == "echo" else " --prior FILE"
        more = (" --priors FILE..." if self.priors else "") + (" --haze FILE" if self.haze else "")
        size = "" if self.size == 256 else f" --size {self.size}"
        only = f" --only {' '.join(self.only)} --name {self.name}" if self.only and self.name != "ablation" else ""
        with atomic(self.output / f"{self.name}.md") as temporary:
            temporary.write_text(
                f"""# Ablation

Each row is the default with one thing changed, on simulated patients of the development split: mean over patients and,
in brackets, the difference from the default on the same patients and frames, for passes and seconds the ratio.
\\* where the difference's 95 % percentile bootstrap interval excludes 0; with so few patients that says hardly more
than that all of them agree in sign, and in a table of this length some will by chance. n: patients x frames. Flicker:
energy of frame differences in still tissue relative to the clean clip's. Passes: denoiser evaluations for each frame of
the clip. Seconds: without compilation, but for rows of 100 passes and more. Rows of different n compare through their
brackets only.

Made by `python docs/benchmarks/ablation.py --patients {self.patients} --frames {self.frames}{size}{own}{more}{only}`
with {made_with()}; prior `{loaded.sha256[:16]}`, {parameters(loaded)}.

"""
                + "\n".join(sections),
                encoding="utf-8",
            )
        with atomic(self.output / f"{self.name}.csv") as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, table[0])
            writer.writeheader()
            writer.writerows(table)

    def summary(self, title: str, variant: Variant, loaded: LoadedPrior, cache: Cache) -> "Summary | None":
        """What the cache holds on a row, beside the default on the same patients; None where it holds nothing."""
        default = dataclasses.replace(DEFAULT, extent=variant.extent)
        pairs = [
            tuple(cache.rows.get(self.identity(each, patient, loaded)) for each in (variant, default))
            for patient in self.patients_of(variant)
        ]
        pairs = [(own, beside) for own, beside in pairs if own is not None]
        if not pairs:
            return None
        failures = [own["failure"] for own, _ in pairs if own["failure"]]
        pairs = [(own, beside) for own, beside in pairs if not own["failure"]]
        return Summary(
            title,
            self.shape(variant)[0],
            {name: [number(own[name]) for own, _ in pairs] for name in (*QUALITY, *COST)},
            {name: [number(beside[name]) if beside else math.nan for _, beside in pairs] for name in (*QUALITY, *COST)},
            failures,
            is_default=variant.name == DEFAULT.name,
        )


@functools.cache
def patient_clip(patient: int, frames: int, size: int) -> SimulatedClip:
    return simulate(seed=patient_seed("development", patient), frames=frames, size=size)


def number(text: str) -> float:
    return float(text) if text else math.nan


class Summary(NamedTuple):
    """One row of the tables; the values are one a patient."""

    title: str
    frames: int
    values: dict[str, list[float]]
    default: dict[str, list[float]]
    failures: list[str]
    is_default: bool

    @property
    def patients(self) -> int:
        return len(self.values["passes"])

    def mean(self, name: str) -> float:
        return mean_interval(self.values[name]).mean

    def change(self, name: str) -> float:
        """Difference from the default, or the ratio of a cost."""
        if name in COST:
            return float(np.divide(self.mean(name), mean_interval(self.default[name]).mean))
        return paired_difference(self.values[name], self.default[name]).mean

    def line(self) -> dict[str, str | int]:
        """For the CSV file."""
        line: dict[str, str | int] = {
            "variant": self.title.strip("*"),
            "patients": self.patients,
            "frames": self.frames,
        }
        for name in (*QUALITY, *COST):
            change = math.nan if self.is_default else self.change(name)
            line[name] = plain(self.mean(name))
            line[f"{name}_{'ratio' if name in COST else 'change'}"] = plain(change)
        return line | {"failure": "; ".join(sorted(set(self.failures)))}

    def cells(self) -> list[str]:
        """For the Markdown table."""
        title = self.title
        if self.failures:
            reasons = "; ".join(sorted(set(self.failures))).replace("|", "\\|")
            title += f" – failed for {len(self.failures)} of {len(self.failures) + self.patients}: {reasons}"
        return [title, f"{self.patients} x {self.frames}", *(self.cell(name) for name in (*QUALITY, *COST))]

    def cell(self, name: str) -> str:
        mean, digits = self.mean(name), {"psnr": 2, "flicker": 2, "passes": 1}.get(name, 3)
        if not math.isfinite(mean):
            return "–"
        change = self.change(name)
        if self.is_default or not math.isfinite(change):
            return f"{mean:.{digits}f}"
        if name in COST:
            return f"{mean:.{digits}f} (x {change:.2g})" if change < 10 else f"{mean:.{digits}f} (x {change:.0f})"
        interval = paired_difference(self.values[name], self.default[name])
        star = "\\*" if interval.low > 0 or interval.high < 0 else ""
        return f"{mean:.{digits}f} ({change:+.{digits}f}{star})"


def plain(value: float) -> str:
    return f"{value:.5f}" if math.isfinite(value) else ""


def markdown(rows: Sequence[Summary]) -> str:
    titles = ["", "n", *QUALITY.values(), *COST.values()]
    lines = [titles, ["---"] * len(titles), *(row.cells() for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    tyro.cli(Ablation).run()
