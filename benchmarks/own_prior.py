"""Does a prior of one's own help? `python docs/benchmarks/own_prior.py RUNS`.

For each of the scanners that no prior is trained on: `train` on a folder of clips of forty people who are easy to
image, most of whom have some light haze all the same, of the kinds of training and of one that no prior is trained on.
Then hazy clips of twenty other people are dehazed by the new prior and by the one that training started from: with
haze as in training, twice as strong as in the other tables, where something is left to gain, and with some of a kind
never trained on. The truth takes no part in training.

What is finished in RUNS is not done again.
"""

import dataclasses
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from finished import Finished

from nuclear_diffusion.cli import progress_bar
from nuclear_diffusion.files import atomic
from nuclear_diffusion.measure.front import DEFAULT, LEVELS, NAMES, Front, Regions, at_equal_change, front_of, gain
from nuclear_diffusion.measure.tables import made_with
from nuclear_diffusion.priors.checkpoint import load_prior, prior_hash
from nuclear_diffusion.simulation import (
    FAMILIES,
    UNSEEN_FAMILIES,
    UNSEEN_LOOKS,
    SimulatedClip,
    patient_seed,
    simulate,
)
from nuclear_diffusion.training.train_prior import Request, train_prior

FIRST = 400_000
"""Index of the first patient; no other table is of these."""
EASY, HAZY = 40, 20
"""Patients to learn from, and to be measured on."""
FRAMES, HAZY_FRAMES = 24, 10
CLEAN_SHARE = 0.25
"""Of the patients who are easy to image: those without any haze."""
LIGHT = (-18.0, -8.0)
"""Decibels of the others' haze, of that of the other tables."""
KINDS = {"usual": ("haze as in training, twice as strong", 2.0), "foreign": ("haze never trained on beside it", 1.5)}
"""Kinds of haze of those who are measured: what it is, and the factor on its amplitude."""

NAMES_OF = {
    "gcnr": "gCNR ↑",
    "ks_a": "KS_A ↓",
    "ks_truth": "KS to truth ↓",
    "flicker": "flicker, ventricle ↓",
    "bright_lost": "bright tissue lost ↓",
}


@dataclasses.dataclass(frozen=True)
class OwnPrior:
    """Priors trained on clips of one scanner, against the one they start from."""

    runs: tyro.conf.Positional[Path]
    """Folder of the training runs."""
    minutes: float = 15.0
    """Of each run."""
    looks: tuple[str, ...] = UNSEEN_LOOKS
    """Scanners."""
    split: str = "test"
    """Split of the patients."""
    init: str = "echo"
    """Prior to start from."""
    workers: int = 2
    """Processes that render."""
    output: Path = Path(__file__).parent
    """Folder for the table."""

    def run(self) -> None:
        start = load_prior(self.init)
        done = Finished(self.runs / "own_prior.jsonl")
        rows: dict[str, list[str]] = {}
        verdicts: list[str] = []
        for look in self.looks:
            identity = {"look": look, "split": self.split, "minutes": self.minutes, "init": prior_hash(start)}
            found = done.get(identity)
            if found is None:
                found = done.add(identity, self.measure(look))
            rows |= {f"{look}, {KINDS[kind][0]}": cells for kind, cells in found["cells"].items()}
            verdicts.append(f"{look}, {found['steps']} steps: {' '.join(found['verdict'])}")
            print(found, flush=True)
        self.write(rows, verdicts, f"{made_with()}; it starts from `{prior_hash(start)[:16]}`")

    def measure(self, look: str) -> dict[str, Any]:
        folder = self.runs / f"{self.split}-{look.replace(' ', '-')}"
        clips = folder / "clips"
        if not clips.is_dir():
            with atomic(clips) as temporary:
                temporary.mkdir()
                for index, clip in enumerate(self.rendered("easy", look, EASY)):
                    np.savez(temporary / f"patient-{index + 1}.npz", frames=np.rint(255 * clip.hazy).astype(np.uint8))
        request = Request(data=clips, output=folder / "run", init=self.init, minutes=self.minutes, steps=1_000_000)
        trained = train_prior(request, progress_bar, print)
        rows = {}
        for kind in KINDS:
            hazy = [
                Regions(clip.hazy, clip.septum, clip.ventricle, clip.sector, clip.clean)
                for clip in self.rendered(kind, look, HAZY)
            ]
            priors = (folder / "run" / "prior.safetensors", self.init)
            rows[kind] = cells(*(front_of(hazy, load_prior(prior)) for prior in priors))
        return {"cells": rows, "verdict": trained.verdict, "steps": trained.step}

    def rendered(self, what: str, look: str, count: int) -> Iterable[SimulatedClip]:
        with ProcessPoolExecutor(self.workers, get_context("spawn")) as pool:
            yield from pool.map(patient, [(what, look, self.split, index) for index in range(count)])

    def write(self, rows: dict[str, list[str]], verdicts: list[str], made: str) -> None:
        head = ["", *(f"gCNR at KS_A {level:g}" for level in LEVELS), "gained, mean [95 %]"]
        head += [NAMES_OF[name] for name in NAMES]
        lines = [head, ["---"] * len(head), *([name, *values] for name, values in rows.items())]
        text = f"""# A prior of one's own

{(__doc__ or "").split(chr(10), 2)[2].strip()}

{HAZY} patients of the {self.split} split a row, {HAZY_FRAMES} frames each; {self.minutes:g} minutes of training. The
start → the new prior. gCNR at equal change of tissue: the highest of all strengths with a KS_A of at most so much, mean
over patients; what is gained is the mean over these levels, with its 95 % bootstrap interval over patients. The last
columns are at the default strength. Made by `python docs/benchmarks/own_prior.py RUNS --minutes {self.minutes:g}` with
{made}.

"""
        text += "".join(f"| {' | '.join(line)} |\n" for line in lines)
        text += "\nWhat `train` itself said at the end:\n\n" + "".join(f"- {verdict}\n" for verdict in verdicts)
        with atomic(self.output / "own_prior.md") as temporary:
            temporary.write_text(text, encoding="utf-8")


def patient(job: tuple[str, str, str, int]) -> SimulatedClip:
    """Of a scanner: one who is `easy` to image, or one of the hazy `KINDS`."""
    what, look, split, index = job
    families = FAMILIES if what == "usual" else [*FAMILIES, UNSEEN_FAMILIES[index % len(UNSEEN_FAMILIES)]]
    if what in KINDS:
        seed = patient_seed(split, FIRST + 10_000 + index)
        return simulate(seed=seed, frames=HAZY_FRAMES, view="a4c", look=look, haze=KINDS[what][1], families=families)
    seed = patient_seed(split, FIRST + index)
    rng = np.random.default_rng((seed, 9))
    haze = 0.0 if rng.random() < CLEAN_SHARE else 10 ** (rng.uniform(*LIGHT) / 20)
    return simulate(seed=seed, frames=FRAMES, look=look, haze=haze, families=families)


def cells(new: Front, old: Front) -> list[str]:
    before, after, gained = at_equal_change(old), at_equal_change(new), gain(new, old)
    pairs = [f"{a:.3f} → {b:.3f}" for a, b in zip(before, after, strict=True)]
    pairs.append(f"{gained.mean:+.3f} [{gained.low:+.3f}, {gained.high:+.3f}]")
    default = ([float(np.nanmean(front[name][:, DEFAULT])) for front in (old, new)] for name in NAMES)
    return pairs + [f"{a:.3f} → {b:.3f}" for a, b in default]


if __name__ == "__main__":
    tyro.cli(OwnPrior).run()
