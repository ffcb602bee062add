"""The simulated patients of the benchmarks, of five kinds, and their scores."""

import collections
import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, NamedTuple, get_args

from numpy import ndarray

from nuclear_diffusion.io import Clip
from nuclear_diffusion.measure.datasets import as_clip
from nuclear_diffusion.measure.scores import score
from nuclear_diffusion.measure.tables import heading
from nuclear_diffusion.metrics import bright_lost
from nuclear_diffusion.priors.checkpoint import load_prior, prior_hash
from nuclear_diffusion.priors.protocol import Prior
from nuclear_diffusion.simulation import (
    FINDINGS,
    UNSEEN_FAMILIES,
    UNSEEN_LOOKS,
    UNSEEN_VIEWS,
    SimulatedClip,
    patient_seed,
    simulate,
)

KindName = Literal["seen", "unseen", "unseen-view", "unseen-look", "findings"]
KIND_NAMES: tuple[KindName, ...] = get_args(KindName)
Split = Literal["development", "test"]

COLUMNS = (
    "gcnr",
    "ks_a",
    "ks_b",
    "ks_truth",
    "psnr",
    "ssim",
    "flicker_b",
    "flicker_a",
    "flicker_still",
    "bright_lost",
    "clean_lost",
)
"""Scores of every patient; see `SCORES`."""

ABOUT = "The [scores](../../docs/evaluation.md#scores)"
"""Where the scores are defined, for captions."""


class Kind(NamedTuple):
    """One kind of patients."""

    about: str
    """Description for captions."""
    first: int
    """Index of its first patient in the split; the kinds do not share patients."""
    clip: Callable[[int], dict[str, Any]]
    """Arguments of `simulate` for the patient at a position."""
    apart: str = ""
    """The argument of `simulate` whose values form the groups of a second table."""

    def groups(self, position: int) -> list[str]:
        """The groups that the patient at a position belongs to."""
        value = self.clip(position).get(self.apart, [])
        return [value] if isinstance(value, str) else value

    def members(self, positions: Collection[int]) -> dict[str, list[int]]:
        """The patients at `positions` in each group, by name; one of two groups counts for both."""
        names = sorted({group for position in positions for group in self.groups(position)})
        return {name: [position for position in positions if name in self.groups(position)] for name in names}


def unseen_haze(position: int) -> dict[str, Any]:
    """One unseen family, or two at half the amplitude, in turn; the PSNR is about that of the training haze."""
    turn, count = position % (2 * len(UNSEEN_FAMILIES)), len(UNSEEN_FAMILIES)
    first = UNSEEN_FAMILIES[turn % count]
    if turn < count:
        return {"view": "a4c", "families": [first]}
    return {"view": "a4c", "families": [first, UNSEEN_FAMILIES[(turn + 2) % count]], "haze": 0.5}


STILL = ("still", "stutter")
"""Findings that are left out, because flicker cannot be measured in a still clip."""


def findings(position: int) -> list[str]:
    """One finding in turn, and bright haze in the near field for every second patient."""
    others = [name for name in FINDINGS if name not in ("near haze", *STILL)]
    return ["near haze"] * (position % 2) + [others[position % len(others)]]


KINDS: dict[str, Kind] = {
    "seen": Kind("four-chamber view, haze and scanners as in training", 0, lambda _: {"view": "a4c"}),
    "unseen": Kind(
        "four-chamber view, haze of one or two families that training never uses", 100_000, unseen_haze, "families"
    ),
    "unseen-view": Kind(
        "views that training never uses, haze and scanners as in training",
        200_000,
        lambda position: {"view": UNSEEN_VIEWS[position % len(UNSEEN_VIEWS)]},
        "view",
    ),
    "unseen-look": Kind(
        "four-chamber view, scanners that training never uses, haze as in training",
        300_000,
        lambda position: {"view": "a4c", "look": UNSEEN_LOOKS[position % len(UNSEEN_LOOKS)]},
        "look",
    ),
    "findings": Kind(
        "four-chamber view, haze as in training, findings of real clips; of every second patient haze fills the apex",
        500_000,
        lambda position: {"view": "a4c", "findings": findings(position)},
        "findings",
    ),
}

DEVELOPMENT = {"seen": 8, "unseen": 24, "unseen-look": 9, "unseen-view": 10, "findings": 16}
"""Number of development patients of each kind."""


def development(frames: int, share: float = 1.0, kinds: Sequence[KindName] = KIND_NAMES) -> list[dict[str, Any]]:
    """The arguments of `patient` for a fraction `share` of the development patients, at least one of each kind."""
    return [
        {"split": "development", "kind": kind, "patient": k, "frames": frames}
        for kind in kinds
        for k in range(max(1, round(share * DEVELOPMENT[kind])))
    ]


def counted(abouts: Sequence[dict[str, Any]]) -> str:
    """The number of patients of each kind, for captions."""
    counts = collections.Counter(about["kind"] for about in abouts)
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


def patient(about: dict[str, Any]) -> SimulatedClip:
    """Simulate the patient described by `split`, `kind`, `patient` (its position) and `frames`."""
    kind = KINDS[about["kind"]]
    seed = patient_seed(about["split"], kind.first + about["patient"])
    return simulate(seed=seed, frames=about["frames"], **kind.clip(about["patient"]))


def clean_clip(simulated: SimulatedClip) -> Clip:
    """The clean clip as an input."""
    return as_clip(simulated._replace(hazy=simulated.clean))


def clean_lost(simulated: SimulatedClip, signal: ndarray) -> float:
    """Fraction of the bright tissue lost in `signal`, a method's output on the clean clip."""
    return bright_lost(simulated.clean, signal, simulated.sector)


def gains(simulated: SimulatedClip, *signals: ndarray) -> list[dict[str, float]]:
    """`score` of each signal, with the gain in PSNR over the hazy clip instead of the PSNR."""
    before = score(simulated, simulated.hazy)["psnr"]
    found = [score(simulated, signal) for signal in signals]
    return [scores | {"psnr": scores["psnr"] - before} for scores in found]


def gained(score: str) -> str:
    """The heading of a score of `gains`."""
    return "PSNR gained [dB] ↑" if score == "psnr" else heading(score)


class Loaded(NamedTuple):
    """A prior and the SHA-256 of its weights."""

    prior: Prior
    sha256: str


@functools.cache
def prior_named(name: str) -> Loaded:
    """The prior with this name, file or folder; each process loads it once."""
    prior = load_prior(name)
    return Loaded(prior, prior_hash(prior))
