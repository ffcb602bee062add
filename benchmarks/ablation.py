"""What each part of the default is worth, on development patients of every kind.

The variants (`variants.py`) share one E[X | Y] and one rendering. The first table is about p(L), another about what
else was tried. One strength changes more tissue with one variant than with another, so each table is followed by one in
which the strength of each variant is moved until it changes tissue as much as the default. Each finished patient is a
line of `ablation.jsonl`.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy import ndarray
from tyro.conf import arg

from benchmarks import variants
from benchmarks.finished import completed
from benchmarks.patients import (
    ABOUT,
    GAINED,
    KIND_NAMES,
    KindName,
    clean_clip,
    clean_lost,
    counted,
    development,
    gains,
    patient,
    prior_named,
)
from benchmarks.record import RESULTS, record_of, save, save_numbers
from benchmarks.variants import DEFAULT, TABLES
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import Clip, Fit, find_sector
from nuclear_diffusion.measure.comparison import as_clip
from nuclear_diffusion.measure.tables import Scores, difference_table, mean_table
from nuclear_diffusion.priors.protocol import HazeAware, knows_haze
from nuclear_diffusion.restore.clip import PRIOR_SIZE
from nuclear_diffusion.restore.render import STRENGTH, render

COLUMNS = {
    name: GAINED[name]
    for name in (
        "gcnr",
        "ks_a",
        "ks_truth",
        "psnr",
        "flicker_b",
        "flicker_a",
        "flicker_still",
        "bright_lost",
        "clean_lost",
    )
}
"""Scores of the tables at the default strength."""

MATCHED = {name: COLUMNS[name] for name in ("gcnr", "ks_a", "psnr", "bright_lost")}
"""Scores of the tables at equal change of tissue."""

STRENGTHS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Strengths at which every variant is rendered, except on long clips."""

LONG = {"seen": 2, "unseen": 2, "unseen-look": 1, "unseen-view": 1}
"""How many patients of each kind have long clips."""


Shares = dict[str, Float[ndarray, "frames height width"]]


@dataclasses.dataclass(frozen=True)
class Ablation:
    """Variants of the default on development patients: for choosing, never for reporting."""

    kinds: Annotated[tuple[KindName, ...], arg(help="Kinds of development patients.")] = KIND_NAMES
    frames: Annotated[int, arg(help="Frames of each patient.")] = 12
    long_frames: Annotated[int, arg(help="Frames of the few long clips, on which windows are compared too.")] = 40
    share: Annotated[float, arg(help="Share of the patients of each kind; at least one is taken.")] = 1.0
    prior: Annotated[str, arg(metavar="echo|PATH", help="The prior; it must have learned haze.")] = "echo"
    workers: Annotated[int, arg(help="Processes that share the patients.")] = 1
    output: Annotated[Path, arg(help="Folder for the tables, their numbers and the finished patients.")] = RESULTS

    command: ClassVar[str] = "ablation"
    name: ClassVar[str] = "ablation"
    shows: ClassVar[str] = "What each part of Nuclear Diffusion is worth: variants of it on development patients."

    def run(self) -> None:
        """Measure the patients that are missing and write the tables."""
        usual = development(self.frames, self.share, self.kinds)
        few = development(self.long_frames, self.share, self.kinds)
        few = [about for about in few if about["patient"] < LONG.get(about["kind"], 0)]
        shared = {"sha256": prior_named(self.prior).sha256, "variants": variants.REVISION}
        jobs = [about | shared | {"table": table} for table in TABLES for about in (few if table == "long" else usual)]
        measured = functools.partial(measure, prior=self.prior)
        done = completed(self.output / "ablation.jsonl", jobs, measured, self.workers)
        found = {
            table: [scores for job, scores in zip(jobs, done, strict=True) if job["table"] == table] for table in TABLES
        }
        found["others"] = [
            {DEFAULT: known[DEFAULT], **scores}
            for known, scores in zip(found["backgrounds"], found["others"], strict=True)
        ]
        scores = {table: scores_of(of_table) for table, of_table in found.items() if of_table}
        self.write_numbers(jobs, scores)
        record = record_of(self, {self.prior: shared["sha256"]})
        page = f"""# What each part is worth

For choosing, not for reporting: development patients ({counted(usual)}), {self.frames} frames each, at strength
{STRENGTH:g}. Means over patients with 95 % bootstrap intervals, and paired differences to the default, * where the
interval excludes 0. PSNR is what is gained over the hazy clip. {ABOUT}
{record.caption()}

## p(L)

All with the same E[X | Y]; h is the share of haze that the network sees, q the share that L would make.

{part(scores["backgrounds"], COLUMNS)}
At equal change of tissue: each variant at the strength, interpolated, where its mean KS_A is the default's. "–": none
from {STRENGTHS[0]:g} to {STRENGTHS[-1]:g} changes tissue as much.

{at_equal_change(found["backgrounds"])}
## What else was tried

{part(scores["others"], COLUMNS)}
At equal change of tissue:

{at_equal_change(found["others"])}"""
        if found["long"]:
            page += f"""
## Long clips

{len(found["long"])} patients of {self.long_frames} frames each, in which haze has the time to vary.
The default takes all frames together.

{part(scores["long"], COLUMNS)}"""
        save(self.output, record, page)

    def write_numbers(self, jobs: list[dict[str, Any]], scores: Mapping[str, Scores]) -> None:
        """One row for each patient and variant, at the default strength."""
        save_numbers(
            self.output / "ablation.csv",
            ["table", "kind", "patient", "variant", *COLUMNS],
            (
                [table, job["kind"], job["patient"], variant, *(values[name][at] for name in COLUMNS)]
                for table, of_table in scores.items()
                for variant, values in of_table.items()
                for at, job in enumerate(job for job in jobs if job["table"] == table)
            ),
        )


def measure(about: dict[str, Any], prior: str) -> dict[str, list[dict[str, float]]]:
    """The scores of each variant at the default strength and then, of short clips, at each of `STRENGTHS`."""
    simulated, loaded = patient(about), prior_named(prior).prior
    if not knows_haze(loaded):
        raise InputError(f"{prior} has not learned haze, and the variants are of a prior that has.")
    hazy, clean = as_clip(simulated), clean_clip(simulated)
    shares, of_clean = (on_clip(clip, TABLES[about["table"]], loaded) for clip in (hazy, clean))
    strengths = [STRENGTH, *(() if about["table"] == "long" else STRENGTHS)]
    found = {}
    for name, share in shares.items():
        found[name] = gains(simulated, *(render(hazy.frames, share, strength) for strength in strengths))
        found[name][0]["clean_lost"] = clean_lost(simulated, render(clean.frames, of_clean[name]))
    return found


def on_clip(clip: Clip, shares_of: variants.SharesOf, prior: HazeAware) -> Shares:
    """The shares of haze at the clip's resolution, as in `dehaze_clip`."""
    fit = Fit.to_prior(find_sector(clip.frames, clip.region), PRIOR_SIZE)
    found = shares_of(jnp.asarray(fit.forward(clip.frames)), prior)
    return {name: np.clip(fit.backward(np.asarray(share)), 0, 1) for name, share in found.items()}


def scores_of(patients: list[dict[str, list[dict[str, float]]]]) -> dict[str, dict[str, list[float]]]:
    """By variant and score, one value for each patient, at the default strength."""
    return {
        variant: {name: [found[variant][0][name] for found in patients] for name in COLUMNS} for variant in patients[0]
    }


def at_equal_change(patients: list[dict[str, list[dict[str, float]]]]) -> str:
    """A table of each variant at the strength, in its name, where its mean KS_A is the default's; NaN: none is."""
    target = np.nanmean([found[DEFAULT][0]["ks_a"] for found in patients])
    scores = {}
    for variant in patients[0]:
        curves = {name: np.array([[at[name] for at in found[variant][1:]] for found in patients]) for name in MATCHED}
        changed = np.maximum.accumulate(np.nanmean(curves["ks_a"], axis=0))
        strength = float(np.interp(target, changed, STRENGTHS, left=np.nan, right=np.nan))
        scores[variant if variant == DEFAULT else f"{variant}, at {strength:.2f}"] = {
            name: [float(np.interp(strength, STRENGTHS, curve)) for curve in rows] for name, rows in curves.items()
        }
    return part(scores, MATCHED)


def part(scores: Scores, columns: dict[str, str]) -> str:
    """The means, and what each variant changes in the default."""
    changes = [
        difference_table({DEFAULT: scores[DEFAULT], variant: values}, columns, method=variant).splitlines()
        for variant, values in scores.items()
        if variant != DEFAULT
    ]
    rows = [*changes[0][:2], *(lines[-1] for lines in changes)]
    return mean_table(scores, columns) + "".join(f"\n{row}" for row in rows) + "\n"
