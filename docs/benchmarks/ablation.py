"""What each part of the method is worth: `python docs/benchmarks/ablation.py --patients 4 --frames 14`.

Every row is the default with one thing changed, on simulated patients of the development split: nothing here touches
the test split. Each finished (variant, patient) is one line of the cache, so that an interrupted run goes on where it
stopped; the tables (`ablation.md`, `ablation.csv`) are written again after every variant.
"""

import csv
import dataclasses
import functools
import math
import time
from pathlib import Path

import numpy as np
import tyro
from ablation_rows import COST, QUALITY, Summary, markdown
from ablation_variants import DEFAULT, Group, Question, Variant, groups, parameters
from finished import Finished

from nuclear_diffusion.evaluation.scores import score
from nuclear_diffusion.evaluation.tables import made_with
from nuclear_diffusion.files import atomic
from nuclear_diffusion.learning import load_prior
from nuclear_diffusion.pipeline.run import LoadedPrior, prior_of
from nuclear_diffusion.pipeline.settings import Settings
from nuclear_diffusion.simulation import SimulatedClip, patient_seed, simulate
from nuclear_diffusion.types import InputError

MANY = 100
"""Passes a frame from which on compilation is not timed apart: it is a few seconds of several minutes."""


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
    """Folder of the finished rows."""
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
        cache = Finished(self.cache / "rows.jsonl")
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

    def identity(self, variant: Variant, patient: int, loaded: LoadedPrior) -> tuple[str, ...]:
        shape, sha256 = self.shape(variant), (variant.loaded or loaded).sha256
        return (variant.name, variant.settings(shape), str(patient), str(shape[0]), str(self.size), sha256[:16])

    def measure(self, variant: Variant, loaded: LoadedPrior, cache: Finished, title: str) -> None:
        """Measure what is not in the cache. What raises or is not finite becomes a row with the reason."""
        prior = (variant.loaded or loaded).prior
        compiled = False
        for patient in self.patients_of(variant):
            identity = self.identity(variant, patient, loaded)
            if cache.get(identity) is not None:
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
            cache.add(identity, values | {"failure": failure})
            shown = failure or ", ".join(f"{name} {values[name]:.3f}" for name in (*QUALITY, *COST))
            print(f"{title}, patient {patient}: {shown}", flush=True)

    def write(self, asked: dict[Question, Group], loaded: LoadedPrior, cache: Finished) -> None:
        """Both tables, of every question that has rows in the cache."""
        sections, table = [], []
        for question, group in asked.items():
            if self.name != "ablation" and question not in (self.only or asked):
                continue  # a page of its own is about what it was asked
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
the clip. Seconds: without compilation, but for rows of 100 passes and more; the rows were measured on different
occasions beside other work, so that their seconds are rough, and passes are the measure of cost. Rows of different n
compare through their brackets only.

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

    def summary(self, title: str, variant: Variant, loaded: LoadedPrior, cache: Finished) -> Summary | None:
        """What the cache holds on a row, beside the default on the same patients; None where it holds nothing."""
        default = dataclasses.replace(DEFAULT, extent=variant.extent)
        pairs = [
            tuple(cache.get(self.identity(each, patient, loaded)) for each in (variant, default))
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
            {name: [own[name] for own, _ in pairs] for name in (*QUALITY, *COST)},
            {name: [(beside or {}).get(name, math.nan) for _, beside in pairs] for name in (*QUALITY, *COST)},
            failures,
            is_default=variant.name == DEFAULT.name,
        )


@functools.cache
def patient_clip(patient: int, frames: int, size: int) -> SimulatedClip:
    return simulate(seed=patient_seed("development", patient), frames=frames, size=size)


if __name__ == "__main__":
    tyro.cli(Ablation).run()
