"""What each part of the default is worth: `python docs/benchmarks/ablation.py`, on development patients of every kind.

All variants share one E[X | Y] and one rendering; they differ in how the share of haze follows from it. The first table
is about p(L), another about what else was tried. A share means something else for each variant, so that one strength
changes more tissue in one than in another: each table is followed by one in which the strength of each variant is moved
until it changes tissue as much as the default. Each finished patient is one line of `ablation.jsonl`, so that an
interrupted run goes on where it stopped: delete it where a variant here has changed.
"""

import csv
import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from finished import Finished
from jaxtyping import Array, Float
from numpy import ndarray
from patients import ABOUT, DEVELOPMENT, GAINED, clean_clip, clean_lost, development, gains, patient, prior_named

from nuclear_diffusion.files import atomic
from nuclear_diffusion.io import Clip, Fit, find_sector
from nuclear_diffusion.measure.comparison import as_clip
from nuclear_diffusion.measure.tables import Scores, difference_table, made_with, mean_table
from nuclear_diffusion.priors.diffusion_prior import DiffusionPrior
from nuclear_diffusion.restore.background import Completion
from nuclear_diffusion.restore.estimate import double, estimate, estimate_from, halve, haze_share, over_speckle, steady
from nuclear_diffusion.restore.render import STRENGTH, render
from nuclear_diffusion.types import Video

DEFAULT, STEADY, STILL = "default", "no completion: h, made steady", "L does not vary"
UNSTEADY = "without the last `steady`"
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
MATCHED = {name: COLUMNS[name] for name in ("gcnr", "ks_a", "psnr", "bright_lost")}

STRENGTHS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""At which every variant is rendered, but for those on long clips."""

LONG = {"seen": 2, "unseen": 2, "unseen-look": 1, "unseen-view": 1}
"""Patients of the long clips."""

Shares = dict[str, Float[ndarray, "frames height width"]]


class Still(Completion):
    """L that does not vary: what `Completion` starts from, and ends at where no pattern is above the threshold."""

    def __call__(self, haze: Video, weights: Video) -> tuple[Video, Float[Array, " steps"]]:
        still = (weights * haze).sum(0) / (weights.sum(0) + self.ridge * len(haze) + 1e-12)
        return jnp.broadcast_to(still, haze.shape), jnp.zeros(self.steps)


@eqx.filter_jit
def share_by_prior(y: Video, mean: Video) -> list[tuple[str, Video]]:
    """The share of haze by each p(L), from the same `mean`."""
    lit = jnp.any(y > 0, axis=0)
    seen = haze_share(over_speckle(y), over_speckle(jnp.minimum(mean, y))) * lit
    inside = over_speckle(halve(jnp.broadcast_to(lit, y.shape).astype(y.dtype)))

    def completed(completion: Completion) -> Video:
        return estimate_from(y, mean, completion).share

    def explained(completion: Completion) -> Video:
        # q, which `estimate_from` keeps to itself
        weights, haze, brightness = (
            over_speckle(halve(part)) for part in (seen**2, seen**2 * jnp.maximum(y - mean, 0), y)
        )
        low_rank, _ = completion(haze / jnp.maximum(weights, 1e-6), weights / jnp.maximum(inside, 1e-6))
        found = completion.explained(low_rank, brightness / jnp.maximum(inside, 1e-6))
        return double(found, *y.shape[1:]) * lit

    q = explained(Completion())
    shares = {
        DEFAULT: completed(Completion()),
        "no p(L): h of each frame": seen,
        STEADY: steady(seen) * lit,
        STILL: completed(Still()),
        UNSTEADY: jnp.sqrt(seen * q),
        "without h: q, made steady": steady(q) * lit,
        "P linear, R = 0.01 dB": completed(Completion(decibels=0.01)),
        "R = 10 dB": completed(Completion(decibels=10.0)),
        "R = 40 dB": completed(Completion(decibels=40.0)),
        "ridge 0": completed(Completion(ridge=0.0)),
    }
    return list(shares.items())  # what is compiled would sort a dictionary


_estimate_from = eqx.filter_jit(estimate_from)


@eqx.filter_jit
def mean_of(y: Video, prior: DiffusionPrior) -> Video:
    """E[X | Y], within [0, 1] and the sector."""
    return jnp.clip(prior.given(y).mean(), 0, 1) * jnp.any(y > 0, axis=0)


@eqx.filter_jit
def noisy_mean(y: Video, prior: DiffusionPrior, noise: Video) -> Video:
    """E[X | X_tau, Y] with X_tau = Y and noise at the highest level."""
    seen = prior.given(y)
    found = seen.denoise(y + seen.sigma_max * noise, seen.sigma_max)
    return jnp.clip(found, 0, 1) * jnp.any(y > 0, axis=0)


def backgrounds(y: Video, prior: DiffusionPrior) -> dict[str, Video]:
    """For the first table; q must be what the package makes of it."""
    shares = dict(share_by_prior(y, mean_of(y, prior)))
    np.testing.assert_allclose(steady(shares[UNSTEADY]), shares[DEFAULT], atol=1e-3)
    return shares


def others(y: Video, prior: DiffusionPrior) -> dict[str, Video]:
    """For the second table; the default is in the first."""

    def share(mean: Video) -> Video:
        return _estimate_from(y, mean, Completion()).share

    mirrored = mean_of(y[:, :, ::-1], prior)[:, :, ::-1]
    found = {
        "exposure 1.25": estimate(1.25 * y, prior).share,
        "mean with a mirrored pass": share((mean_of(y, prior) + mirrored) / 2),
    }
    for seed in range(2):
        noise = jax.random.normal(jax.random.key(seed), y.shape)
        for name, drawn in {"fresh": noise, "shared": jnp.broadcast_to(noise[0], y.shape)}.items():
            found[f"{name} noise in X_tau, seed {seed}"] = share(noisy_mean(y, prior, drawn))
    return found


def long(y: Video, prior: DiffusionPrior) -> dict[str, Video]:
    """For long clips, in which patterns have the time to vary."""
    shares = backgrounds(y, prior)
    return {name: shares[name] for name in (DEFAULT, STEADY, STILL)} | {
        "windows of 15 frames, 2 shared": estimate(y, prior, window=15, overlap=2).share,
    }


TABLES: dict[str, Callable[[Video, DiffusionPrior], dict[str, Video]]] = {
    "backgrounds": backgrounds,
    "others": others,
    "long": long,
}


def measure(about: dict[str, Any]) -> dict[str, list[dict[str, float]]]:
    """Of each variant the scores at the default strength, then, of short clips, those at `STRENGTHS`."""
    simulated, prior = patient(about), prior_named(about["prior"]).prior
    variants = TABLES[about["table"]]
    hazy, clean = as_clip(simulated), clean_clip(simulated)
    shares, of_clean = (on_clip(clip, partial(variants, prior=prior)) for clip in (hazy, clean))
    strengths = [STRENGTH, *(() if about["table"] == "long" else STRENGTHS)]
    found = {}
    for name, share in shares.items():
        found[name] = gains(simulated, *(render(hazy.frames, share, strength) for strength in strengths))
        found[name][0]["clean_lost"] = clean_lost(simulated, render(clean.frames, of_clean[name]))
    return found


def on_clip(clip: Clip, variants: Callable[[Video], dict[str, Video]]) -> Shares:
    """The shares at the clip's resolution, as `dehaze_clip` has them."""
    fit = Fit.to_prior(find_sector(clip.frames, clip.region), 256)
    found = variants(jnp.asarray(fit.forward(clip.frames)))
    return {name: np.clip(fit.backward(np.asarray(share)), 0, 1) for name, share in found.items()}


@dataclasses.dataclass(frozen=True)
class Ablation:
    """Variants of the default on development patients: for choosing, never for reporting."""

    frames: int = 12
    """Frames a patient."""
    long_frames: int = 40
    """Frames of the few long clips, on which windows are compared too."""
    share: float = 1.0
    """Of the patients of each kind, at least one."""
    prior: str = "echo"
    """The prior: echo or a file."""
    workers: int = 1
    """Processes that share the patients."""
    output: Path = Path(__file__).parent
    """Folder for the lines, the tables and their numbers."""

    def run(self) -> None:
        usual = development(self.frames, self.share)
        few = [about for about in development(self.long_frames, self.share) if about["patient"] < LONG[about["kind"]]]
        named = {"prior": self.prior, "sha256": prior_named(self.prior).sha256}
        jobs = [about | named | {"table": table} for table in TABLES for about in (few if table == "long" else usual)]
        done = Finished(self.output / "ablation.jsonl")
        lines = list(zip(jobs, done.complete(jobs, measure, self.workers), strict=True))
        found = {table: [scores for job, scores in lines if job["table"] == table] for table in TABLES}
        found["others"] = [
            {DEFAULT: known[DEFAULT], **scores}
            for known, scores in zip(found["backgrounds"], found["others"], strict=True)
        ]
        scores = {table: scores_of(found[table]) for table in TABLES}
        self.write_numbers(jobs, scores)
        counts = ", ".join(f"{sum(about['kind'] == kind for about in usual)} {kind}" for kind in DEVELOPMENT)
        flags = "".join(
            f" --{name.replace('_', '-')} {getattr(self, name)}"
            for name in ("frames", "long_frames", "share")
            if getattr(self, name) != getattr(Ablation, name)
        )
        flags += "" if self.prior == Ablation.prior else " --prior FILE"
        with atomic(self.output / "ablation.md") as temporary:
            temporary.write_text(
                f"""# What each part is worth

For choosing, not for reporting: development patients ({counts}), {self.frames} frames each, at strength {STRENGTH:g}.
Means over patients with 95 % bootstrap intervals, and paired differences to the default, * where the interval excludes
0. PSNR is that above the hazy clip's. {ABOUT} Made by
`python docs/benchmarks/ablation.py{flags}`
with {made_with()}; prior `{named["sha256"][:16]}`.

## p(L)

All with the same E[X | Y]; h is the share of haze that the network sees, q the share that L would make.

{part(scores["backgrounds"], COLUMNS)}
At equal change of tissue: each variant at the one strength, interpolated, where its mean KS_A is the default's. "–":
none from {STRENGTHS[0]:g} to {STRENGTHS[-1]:g} changes tissue as much.

{at_equal_change(found["backgrounds"])}
## What else was tried

{part(scores["others"], COLUMNS)}
At equal change of tissue:

{at_equal_change(found["others"])}
## Long clips

{len(found["long"])} patients of {self.long_frames} frames each, in which haze has the time to vary.
The default takes all frames together.

{part(scores["long"], COLUMNS)}""",
                encoding="utf-8",
            )

    def write_numbers(self, jobs: list[dict[str, Any]], scores: dict[str, Scores]) -> None:
        """One line a patient and variant, at the default strength."""
        with (self.output / "ablation.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["table", "kind", "patient", "variant", *COLUMNS])
            for table, variants in scores.items():
                about = [job for job in jobs if job["table"] == table]
                for variant, values in variants.items():
                    for at, job in enumerate(about):
                        numbers = (f"{values[name][at]:.5f}" for name in COLUMNS)
                        writer.writerow([table, job["kind"], job["patient"], variant, *numbers])


def scores_of(patients: list[dict[str, list[dict[str, float]]]]) -> dict[str, dict[str, list[float]]]:
    """Variant -> score -> one value a patient, at the default strength."""
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


if __name__ == "__main__":
    tyro.cli(Ablation).run()
