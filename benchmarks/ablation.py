"""Ablation: variants of the default on development patients of every kind.

The variants (`variants.py`) share one E[X | Y] and one rendering. The first table is about p(L), the second about other
ideas. At one strength, some variants change more tissue than others, so each table is followed by one in which every
variant has the strength at which it changes tissue as much as the default.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy import ndarray
from tyro.conf import arg

from benchmarks.finished import completed
from benchmarks.patients import (
    ABOUT,
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
from benchmarks.variants import DEFAULT, TABLES, shares_of
from nuclear_diffusion.errors import InputError, require
from nuclear_diffusion.io import Clip
from nuclear_diffusion.measure.datasets import as_clip
from nuclear_diffusion.measure.statistics import differences, patient_mean, tidy
from nuclear_diffusion.measure.tables import Table, difference_table, heading, number
from nuclear_diffusion.priors.protocol import HazeAware, knows_haze
from nuclear_diffusion.restore.clip import PRIOR_SIZE
from nuclear_diffusion.restore.render import STRENGTH, render
from nuclear_diffusion.sector import Fit, find_sector

COLUMNS = ("gcnr", "ks_a", "ks_truth", "psnr", "flicker_b", "flicker_a", "flicker_still", "bright_lost", "clean_lost")
"""Scores of every patient at the default strength."""

SHOWN = ("gcnr", "ks_a", "psnr", "flicker_b", "bright_lost", "clean_lost")
"""Scores of the tables at the default strength."""

MATCHED = ("gcnr", "psnr", "bright_lost")
"""Scores of the tables at equal change of tissue."""

STRENGTHS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Strengths at which every variant is rendered, except on long clips."""

LONG = {"seen": 2, "unseen": 2, "unseen-look": 1, "unseen-view": 1}
"""Number of patients of each kind with long clips."""


Shares = dict[str, Float[ndarray, "frames height width"]]


@dataclasses.dataclass(frozen=True)
class Ablation:
    """Variants of the default on development patients: for choosing, not for reporting."""

    kinds: Annotated[tuple[KindName, ...], arg(help="Kinds of development patients.")] = KIND_NAMES
    frames: Annotated[int, arg(help="Frames of each patient.")] = 12
    long_frames: Annotated[int, arg(help="Frames of the long clips, on which windows are compared too.")] = 40
    share: Annotated[float, arg(help="Fraction of the patients of each kind, at least one.")] = 1.0
    only: Annotated[
        tuple[str, ...],
        arg(
            metavar="VARIANT...",
            help="Measure only these and the default, also on long clips.",
            help_behavior_hint="(default: all)",
        ),
    ] = ()
    prior: Annotated[str, arg(metavar="echo|PATH", help="The prior; it must be haze-aware.")] = "echo"
    workers: Annotated[int, arg(help="Worker processes.")] = 1
    output: Annotated[Path, arg(help="Folder for the tables, their numbers and the finished patients.")] = RESULTS

    command: ClassVar[str] = "ablation"
    name: ClassVar[str] = "ablation"
    shows: ClassVar[str] = "Ablation: variants of Nuclear Diffusion on development patients."

    def run(self) -> None:
        """Measure the patients that are missing and write the tables."""
        rows = self.rows()
        usual = development(self.frames, self.share, self.kinds)
        few = development(self.long_frames, self.share, self.kinds)
        few = [about for about in few if about["patient"] < LONG.get(about["kind"], 0)]
        sha256 = prior_named(self.prior).sha256
        jobs = [
            about | {"sha256": sha256, "table": table} | ({"only": rows[table]} if self.only else {})
            for table in rows
            for about in (few if table == "long" else usual)
        ]
        measured = functools.partial(measure, prior=self.prior)
        done = completed(self.output / "finished" / "ablation", jobs, measured, self.workers)
        found = {
            table: [scores for job, scores in zip(jobs, done, strict=True) if job["table"] == table] for table in rows
        }
        if "others" in found:
            found["others"] = [
                {DEFAULT: known[DEFAULT], **scores}
                for known, scores in zip(found["backgrounds"], found["others"], strict=True)
            ]
        scores = {table: scores_of(of_table) for table, of_table in found.items() if of_table}
        self.write_numbers(jobs, scores)
        record = record_of(self, {self.prior: sha256})
        page = f"""# Ablation

For choosing, not for reporting: development patients ({counted(usual)}), {self.frames} frames each, at strength
{STRENGTH:g}. {ABOUT} are means over patients; PSNR is the gain over the hazy clip. {CELLS}
{record.caption()}

## p(L)

All with the same E[X | Y]; h is the network's haze fraction, q the haze fraction from L.
At 12 frames the default's L is static ([decision 3](../../docs/decisions/0003-completed-haze-field.md)): a p(L) that
changes only how L varies equals the default here; the long clips tell it apart.

{part(scores["backgrounds"], SHOWN)}
At equal change of tissue: each variant at the interpolated strength at which its mean KS_A equals the default's; "–" if
no strength from {STRENGTHS[0]:g} to {STRENGTHS[-1]:g} gives it.

{at_equal_change(found["backgrounds"])}"""
        if "others" in found:
            page += f"""
## Other variants

{part(scores["others"], SHOWN)}
At equal change of tissue:

{at_equal_change(found["others"])}"""
        if found.get("long"):
            page += f"""
## Long clips

{len(found["long"])} patients of {self.long_frames} frames each, long enough for haze to vary.
The default takes all frames together.

{part(scores["long"], SHOWN)}"""
        save(self.output, record, page)

    def rows(self) -> dict[str, list[str]]:
        """The rows of each table to measure. The default of "others" is that of "backgrounds"."""
        every = list(dict.fromkeys(name for names in TABLES.values() for name in names))
        unknown = [name for name in self.only if name not in every]
        require(not unknown, f"--only names {', '.join(unknown)}: choose from {'; '.join(every)}.")
        wanted = {DEFAULT, *(self.only or every)}
        found = {
            table: [name for name in (every if self.only and table == "long" else names) if name in wanted]
            for table, names in TABLES.items()
        }
        return {table: names for table, names in found.items() if names}

    def write_numbers(
        self, jobs: list[dict[str, Any]], scores: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]
    ) -> None:
        """One row per patient and variant, at the default strength."""
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
    """The scores of each variant at the default strength and then, for short clips, at each of `STRENGTHS`."""
    simulated, loaded = patient(about), prior_named(prior).prior
    if not knows_haze(loaded):
        raise InputError(f"{prior} is not haze-aware, but the variants need it: choose another --prior.")
    hazy, clean = as_clip(simulated), clean_clip(simulated)
    names = about.get("only", TABLES[about["table"]])
    shares, of_clean = (on_clip(clip, names, loaded) for clip in (hazy, clean))
    strengths = [STRENGTH, *(() if about["table"] == "long" else STRENGTHS)]
    found = {}
    for name, share in shares.items():
        found[name] = gains(simulated, *(render(hazy.frames, share, strength) for strength in strengths))
        found[name][0]["clean_lost"] = clean_lost(simulated, render(clean.frames, of_clean[name]))
    return found


def on_clip(clip: Clip, names: Sequence[str], prior: HazeAware) -> Shares:
    """The haze fractions at the clip's resolution, as in `dehaze_clip`."""
    fit = Fit.to_prior(find_sector(clip.frames, clip.region), PRIOR_SIZE)
    found = shares_of(names, jnp.asarray(fit.forward(clip.frames)), prior)
    return {name: np.clip(fit.backward(np.asarray(share)), 0, 1) for name, share in found.items()}


def scores_of(patients: list[dict[str, list[dict[str, float]]]]) -> dict[str, dict[str, list[float]]]:
    """By variant and score: the values of all patients at the default strength."""
    return {
        variant: {name: [found[variant][0][name] for found in patients] for name in COLUMNS} for variant in patients[0]
    }


def at_equal_change(patients: list[dict[str, list[dict[str, float]]]]) -> str:
    """A table of each variant at the strength (in its name) at which its mean KS_A equals the default's; else NaN."""
    target = np.nanmean([found[DEFAULT][0]["ks_a"] for found in patients])
    scores = {}
    for variant in patients[0]:
        curves = {
            name: np.array([[at[name] for at in found[variant][1:]] for found in patients])
            for name in ("ks_a", *MATCHED)
        }
        changed = np.maximum.accumulate(np.nanmean(curves["ks_a"], axis=0))
        strength = float(np.interp(target, changed, STRENGTHS, left=np.nan, right=np.nan))
        scores[variant if variant == DEFAULT else f"{variant}, at {strength:.2f}"] = {
            name: [float(np.interp(strength, STRENGTHS, curve)) for curve in curves[name]] for name in MATCHED
        }
    return part(scores, MATCHED)


CELLS = """After the semicolon:
the paired difference from the default with its 95 % bootstrap interval, * if it excludes 0 (six patients or more)."""
"""What `part` shows, for captions."""


def part(scores: Mapping[str, Mapping[str, Sequence[float]]], columns: Sequence[str]) -> str:
    """A table of each variant's means and their differences from the default."""
    patients = range(len(scores[DEFAULT][columns[0]]))
    frame = tidy(
        {
            k: {variant: {name: values[name][k] for name in columns} for variant, values in scores.items()}
            for k in patients
        }
    )
    changes = differences(frame, columns, [(variant, DEFAULT) for variant in scores if variant != DEFAULT])
    headings, rows = difference_table(changes, wide=True)
    found = {row[0]: dict(zip(headings, row, strict=True)) for row in rows}
    table = []
    for variant in scores:
        means = {heading(name): number(patient_mean(frame, variant, name).mean, name) for name in columns}
        of_variant = found.get(f"{variant} − {DEFAULT}", {})
        table.append([variant, *("; ".join(filter(None, (means[name], of_variant.get(name)))) for name in means)])
    return Table(["", *map(heading, columns)], table).markdown() + "\n"
