"""Does a prior of your own help?

For each unseen scanner, `train` runs on clips of forty people who are easy to image. Most have some light haze, of the
training kinds and of one unseen kind. Then hazy clips of eighty other people are dehazed with the new prior and with
the one that training started from: with training haze twice as strong as in the other tables, so that there is
something to gain, and with added haze of an unseen kind. The truth is not used in training.
"""

import dataclasses
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from tyro.conf import Positional, arg

from benchmarks.finished import completed
from benchmarks.patients import Split, prior_named
from benchmarks.record import RESULTS, markdown, record_of, save
from nuclear_diffusion.files import atomic
from nuclear_diffusion.measure.front import DEFAULT, LEVELS, NAMES, Front, Regions, at_equal_change, front_of, gain
from nuclear_diffusion.priors.checkpoint import load_prior
from nuclear_diffusion.reporting import progress_bar
from nuclear_diffusion.simulation import FAMILIES, UNSEEN_FAMILIES, UNSEEN_LOOKS, SimulatedClip, patient_seed, simulate
from nuclear_diffusion.training.train_prior import MORE_STEPS, Request, train_prior

FIRST = 400_000
"""Index of the first patient; no other table has these."""
EASY, HAZY = 40, 80
"""Patients for training and for evaluation."""
FRAMES, HAZY_FRAMES = 24, 10
"""Frames of each of them."""
CLEAN_SHARE = 0.25
"""Fraction of the easy patients without haze."""
LIGHT = (-18.0, -8.0)
"""Range of the other easy patients' haze in decibels, relative to the other tables."""
KINDS = {"usual": ("haze as in training, twice as strong", 2.0), "foreign": ("with added haze of an unseen kind", 1.5)}
"""Kinds of haze for evaluation: description, and factor on the amplitude."""

NAMES_OF = {
    "gcnr": "gCNR ↑",
    "ks_a": "KS_A ↓",
    "ks_truth": "KS to truth ↓",
    "flicker": "flicker, ventricle ↓",
    "bright_lost": "bright tissue lost ↓",
}
"""Headings of the scores at the default strength."""


@dataclasses.dataclass(frozen=True)
class OwnPrior:
    """Priors trained on clips of one scanner, compared with the prior they start from."""

    runs: Annotated[
        Positional[Path], arg(metavar="RUNS", help="Folder of the training runs; finished ones are reused.")
    ] = dataclasses.field(default=Path("runs/own-prior"), metadata={"positional": True})
    steps: Annotated[int, arg(help="Steps of each training run.")] = MORE_STEPS
    looks: Annotated[tuple[str, ...], arg(help="Scanners.")] = UNSEEN_LOOKS
    split: Annotated[Split, arg(help="Development patients are for choosing, test patients for reporting.")] = "test"
    init: Annotated[str, arg(metavar="echo|PATH", help="The prior that training starts from.")] = "echo"
    workers: Annotated[int, arg(help="Worker processes.")] = 2
    output: Annotated[Path, arg(help="Folder for the table.")] = RESULTS

    command: ClassVar[str] = "own-prior"
    name: ClassVar[str] = "own-prior"
    shows: ClassVar[str] = "Gain of a prior trained on clean clips of your own scanner over the shipped prior."

    def run(self) -> None:
        """Train and measure for each scanner, and write the table."""
        sha256 = prior_named(self.init).sha256
        abouts = [{"look": look, "split": self.split, "steps": self.steps, "init": sha256} for look in self.looks]
        done = completed(self.runs / "finished", abouts, lambda about: self.measure(about["look"]))
        rows: list[list[str]] = []
        verdicts: list[str] = []
        for look, found in zip(self.looks, done, strict=True):
            rows += [[f"{look}, {KINDS[kind][0]}", *cells] for kind, cells in found["cells"].items()]
            verdicts.append(f"{look}: {' '.join(found['verdict'])}")
        self.write(rows, verdicts, sha256)

    def measure(self, look: str) -> dict[str, Any]:
        """Train on the easy patients of a scanner, and compare both priors on the hazy patients."""
        folder = self.runs / f"{self.split}-{look.replace(' ', '-')}"
        clips = folder / "clips"
        if not clips.is_dir():
            with atomic(clips) as temporary:
                temporary.mkdir()
                for index, clip in enumerate(self.rendered("easy", look, EASY)):
                    np.savez(temporary / f"patient-{index + 1}.npz", frames=np.rint(255 * clip.hazy).astype(np.uint8))
        request = Request(data=str(clips), output=folder / "run", init=self.init, steps=self.steps)
        trained = train_prior(request, progress_bar, print)
        if trained.interrupted:  # saved by `train`; what is not trained to the end is not measured
            raise KeyboardInterrupt
        rows = {}
        for kind in KINDS:
            hazy = [
                Regions(clip.hazy, clip.septum, clip.ventricle, clip.sector, clip.clean)
                for clip in self.rendered(kind, look, HAZY)
            ]
            priors = (folder / "run" / "prior.safetensors", self.init)
            rows[kind] = cells(*(front_of(hazy, load_prior(prior)) for prior in priors))
        return {"cells": rows, "verdict": trained.verdict}

    def rendered(self, what: str, look: str, count: int) -> Iterable[SimulatedClip]:
        """Simulate `count` patients of a scanner."""
        with ProcessPoolExecutor(self.workers, get_context("spawn")) as pool:
            yield from pool.map(patient, [(what, look, self.split, index) for index in range(count)])

    def write(self, rows: list[list[str]], verdicts: list[str], sha256: str) -> None:
        """Write the table, with the verdict of `train` on each prior."""
        head = ["", *(f"gCNR at KS_A {level:g}" for level in LEVELS), "gain, mean [95 %]"]
        head += [NAMES_OF[name] for name in NAMES]
        record = record_of(self, {self.init: sha256})
        page = f"""# A prior of your own

{(__doc__ or "").split(chr(10), 2)[2].strip()}

{HAZY} patients of the {self.split} split in each row, {HAZY_FRAMES} frames each; {self.steps} steps of training.
The start → the new prior. gCNR at equal change of tissue: the highest of all strengths with at most this KS_A, mean
over patients; the gain is the mean over these levels, with its 95 % bootstrap interval over patients. The last columns
are at the default strength.
{record.caption()}

{markdown(head, rows)}
The verdicts of `train`:

{"".join(f"- {verdict}{chr(10)}" for verdict in verdicts)}"""
        save(self.output, record, page)


def patient(job: tuple[str, str, str, int]) -> SimulatedClip:
    """A patient of a scanner: `easy` to image, or with haze of one of `KINDS`."""
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
    """A row of the table."""
    before, after, gained = at_equal_change(old), at_equal_change(new), gain(new, old)
    pairs = [f"{a:.3f} → {b:.3f}" for a, b in zip(before, after, strict=True)]
    pairs.append(f"{gained.mean:+.3f} [{gained.low:+.3f}, {gained.high:+.3f}]")
    default = ([float(np.nanmean(front[name][:, DEFAULT])) for front in (old, new)] for name in NAMES)
    return pairs + [f"{a:.3f} → {b:.3f}" for a, b in default]
