"""The simulated patients of the benchmarks, of four kinds, and what is measured of them."""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from numpy import ndarray

from nuclear_diffusion.io import Clip
from nuclear_diffusion.measure.comparison import as_clip
from nuclear_diffusion.measure.scores import score
from nuclear_diffusion.metrics import bright_lost
from nuclear_diffusion.restore.methods import Settings
from nuclear_diffusion.restore.run import LoadedPrior, prior_of
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
Split = Literal["development", "test"]

COLUMNS = {
    "gcnr": "gCNR ↑",
    "ks_a": "KS_A ↓",
    "ks_b": "KS_B ↑",
    "ks_truth": "KS to truth ↓",
    "psnr": "PSNR [dB] ↑",
    "ssim": "SSIM ↑",
    "flicker_b": "flicker, ventricle ↓",
    "flicker_a": "flicker, septum ↓",
    "flicker_still": "flicker, still pixels ↓",
    "bright_lost": "bright tissue lost ↓",
    "clean_lost": "lost of a clean clip ↓",
}
"""The headings of all that is measured."""

ABOUT = """Flicker: root mean square second difference in time, grey levels of 255, of the mean of septum or ventricle,
and of each pixel of tissue that stands still. Bright tissue lost: share of the pixels bright in hazy and clean clip (5
x 5 means above 0.4) of which less than three quarters is left; lost of a clean clip: the same share where the clean
clip itself goes in, which should come back as it is."""


class Kind(NamedTuple):
    """What the patients of one table look like."""

    about: str
    first: int
    """Index of its first patient in the split: no two kinds share one."""
    clip: Callable[[int], dict[str, Any]]
    """Arguments of `simulate` for the patient at a position."""
    apart: str = ""
    """The argument whose values are also reported apart."""

    def groups(self, position: int) -> list[str]:
        """The rows of that report in which a patient counts."""
        value = self.clip(position).get(self.apart, [])
        return [value] if isinstance(value, str) else value


def unseen_haze(position: int) -> dict[str, Any]:
    """One unseen family, or two at half the amplitude each, in turn: about the PSNR of the haze of training."""
    turn, count = position % (2 * len(UNSEEN_FAMILIES)), len(UNSEEN_FAMILIES)
    first = UNSEEN_FAMILIES[turn % count]
    if turn < count:
        return {"view": "a4c", "families": [first]}
    return {"view": "a4c", "families": [first, UNSEEN_FAMILIES[(turn + 2) % count]], "haze": 0.5}


STILL = ("still", "stutter")
"""Findings without which flicker can be measured."""


def findings(position: int) -> list[str]:
    """Bright haze in the near field for every second patient, and of the other findings one in turn."""
    others = [name for name in FINDINGS if name not in ("near haze", *STILL)]
    return ["near haze"] * (position % 2) + [others[position % len(others)]]


KINDS: dict[str, Kind] = {
    "seen": Kind("four-chamber view, haze and scanners as in training", 0, lambda _: {"view": "a4c"}),
    "unseen": Kind(
        "four-chamber view, haze of one or two families that training never uses",
        100_000,
        unseen_haze,
        "families",
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
        "four-chamber view, haze of training, findings of real clips, in every second one haze that fills the apex",
        500_000,
        lambda position: {"view": "a4c", "findings": findings(position)},
        "findings",
    ),
}

DEVELOPMENT = {"seen": 8, "unseen": 24, "unseen-look": 9, "unseen-view": 10, "findings": 16}
"""How many development patients of each kind the choices were made on."""


def development(frames: int, share: float = 1.0) -> list[dict[str, Any]]:
    """What `patient` needs for development patients of every kind, at least one of each."""
    return [
        {"split": "development", "kind": kind, "patient": k, "frames": frames}
        for kind, count in DEVELOPMENT.items()
        for k in range(max(1, round(share * count)))
    ]


def patient(about: dict[str, Any]) -> SimulatedClip:
    """The one of a `split` and a `kind` at a position, with so many `frames`."""
    kind = KINDS[about["kind"]]
    seed = patient_seed(about["split"], kind.first + about["patient"])
    return simulate(seed=seed, frames=about["frames"], **kind.clip(about["patient"]))


def clean_clip(simulated: SimulatedClip) -> Clip:
    """The clean clip as if it were an acquisition."""
    return as_clip(simulated._replace(hazy=simulated.clean))


def clean_lost(simulated: SimulatedClip, signal: ndarray) -> float:
    """Bright tissue that `signal`, a method's answer to the clean clip, has lost."""
    return bright_lost(simulated.clean, signal, simulated.sector)


def gains(simulated: SimulatedClip, *signals: ndarray) -> list[dict[str, float]]:
    """`score` of each signal, but PSNR above that of the hazy clip."""
    before = score(simulated, simulated.hazy)["psnr"]
    found = [score(simulated, signal) for signal in signals]
    return [scores | {"psnr": scores["psnr"] - before} for scores in found]


GAINED = COLUMNS | {"psnr": "PSNR gained [dB] ↑"}


@functools.cache
def prior_named(name: str | None) -> LoadedPrior:
    """Loaded once a process."""
    return prior_of(Settings(prior=name))
