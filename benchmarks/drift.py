"""Recordings longer than a window, with haze that drifts: does it matter that only a window is looked at?

The level of each part of the haze goes up and down over seconds, each part at its own time, so that the haze of one
window is not that of another.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Annotated, Any, ClassVar

import jax.numpy as jnp
import numpy as np
from tyro.conf import arg

from benchmarks.ablation import CELLS, part
from benchmarks.finished import completed
from benchmarks.patients import ABOUT, gains, prior_named
from benchmarks.record import RESULTS, record_of, save
from benchmarks.variants import DEFAULT
from nuclear_diffusion.measure.datasets import as_clip
from nuclear_diffusion.restore.clip import PRIOR_SIZE
from nuclear_diffusion.restore.estimate import OVERLAP, WINDOW, estimate
from nuclear_diffusion.restore.render import render
from nuclear_diffusion.sector import Fit, find_sector
from nuclear_diffusion.simulation import patient_seed, simulate

FIRST = 600_000
"""Index of the first patient; no other table has these."""

COLUMNS = ("gcnr", "ks_a", "ks_b", "ks_truth", "psnr", "ssim", "flicker_b", "flicker_a", "flicker_still", "bright_lost")

TOGETHER, APART = "all frames in one window", "each window by itself, not cross-faded"


@dataclasses.dataclass(frozen=True)
class Drift:
    """Long simulated clips whose haze drifts: window by window against all frames at once."""

    patients: Annotated[int, arg(help="Number of test patients.")] = 8
    frames: Annotated[int, arg(help="Frames of each patient.")] = 480
    drift: Annotated[
        tuple[float, float],
        arg(metavar="DECIBELS SECONDS", help="How far each part of the haze drifts up and down, and the period."),
    ] = (8.0, 10.0)
    prior: Annotated[str, arg(metavar="echo|PATH", help="The prior.")] = "echo"
    workers: Annotated[int, arg(help="Worker processes.")] = 1
    output: Annotated[Path, arg(help="Folder for the table and the finished patients.")] = RESULTS

    command: ClassVar[str] = "drift"
    name: ClassVar[str] = "drift"
    shows: ClassVar[str] = "Long recordings whose haze drifts: window by window against all frames at once."

    def run(self) -> None:
        """Measure the patients that are missing and write the table."""
        sha256 = prior_named(self.prior).sha256
        about = {"frames": self.frames, "drift": self.drift, "sha256": sha256}
        jobs = [about | {"patient": k} for k in range(self.patients)]
        measured = functools.partial(measure, prior=self.prior)
        done = completed(self.output / "finished" / "drift", jobs, measured, self.workers)
        scores = {name: {column: [found[name][column] for found in done] for column in COLUMNS} for name in done[0]}
        decibels, seconds = self.drift
        record = record_of(self, {self.prior: sha256})
        page = f"""# Long recordings whose haze drifts

{self.patients} test patients, {self.frames} frames each; every part of the haze drifts by {decibels:g} dB up and down
in {seconds:g} s. The default takes {WINDOW} frames at a time and cross-fades {OVERLAP}. {ABOUT} are means over
patients; PSNR is the gain over the hazy clip. {CELLS}
{record.caption()}

{part(scores, COLUMNS)}"""
        save(self.output, record, page)


def measure(about: dict[str, Any], prior: str) -> dict[str, dict[str, float]]:
    """The scores of each way to look at a patient."""
    seed, frames = patient_seed("test", FIRST + about["patient"]), about["frames"]
    simulated = simulate(seed=seed, frames=frames, view="a4c", drift=about["drift"])
    clip, loaded = as_clip(simulated), prior_named(prior).prior
    fit = Fit.to_prior(find_sector(clip.frames, clip.region), PRIOR_SIZE)
    y = jnp.asarray(fit.forward(clip.frames))
    ways = {DEFAULT: (WINDOW, OVERLAP), TOGETHER: (frames, 0), APART: (WINDOW, 0)}
    found = {}
    for name, (window, overlap) in ways.items():
        share = np.asarray(estimate(y, loaded, window=window, overlap=overlap).share)
        found[name] = gains(simulated, render(clip.frames, np.clip(fit.backward(share), 0, 1)))[0]
    return found
