"""Do posterior intervals contain the truth?

The truth is exchangeable with draws from the right posterior, so it lies between the smallest and the largest of 19
draws with probability 18/20: a central 90 % interval.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from tyro.conf import arg

import nuclear_diffusion as nd
from benchmarks.finished import completed
from benchmarks.patients import Split, patient, prior_named
from benchmarks.record import RESULTS, markdown, record_of, save
from nuclear_diffusion.measure.bootstrap import mean_interval
from nuclear_diffusion.paper.nuclear_norm import slowly_varying
from nuclear_diffusion.priors.protocol import knows_haze
from nuclear_diffusion.restore.methods import Nuclear

DRAWS = 19
"""Draws per patient."""

REGIONS = {"sector": "whole sector", "septum": "septum", "ventricle": "ventricle", "removed": "haze above 0.1"}
"""Regions of the coverage, with headings."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Coverage of 90 % intervals on simulated patients, and how well the spread predicts the error."""

    patients: Annotated[int, arg(help="Number of patients.")] = 4
    frames: Annotated[int, arg(help="Frames of each patient.")] = 5
    split: Annotated[Split, arg(help="Development patients are for choosing, test patients for reporting.")] = "test"
    mu: Annotated[tuple[float, ...], arg(help="Precisions of the noise (eq. 8) to try.")] = (Nuclear.draws_mu,)
    prior: Annotated[str, arg(metavar="echo|PATH", help="The prior.")] = "echo"
    workers: Annotated[int, arg(help="Worker processes.")] = 1
    output: Annotated[Path, arg(help="Folder for the table and the finished patients.")] = RESULTS

    command: ClassVar[str] = "calibration"
    name: ClassVar[str] = "calibration"
    shows: ClassVar[str] = "How often the clean clip lies within 90 % intervals of posterior draws."

    def run(self) -> None:
        """Measure the patients that are missing and write the table."""
        sha256 = prior_named(self.prior).sha256
        about = {"kind": "seen", "split": self.split, "frames": self.frames, "sha256": sha256}
        abouts = [about | {"patient": k, "mu": mu} for mu in self.mu for k in range(self.patients)]
        measured = functools.partial(measure, prior=self.prior)
        found = completed(self.output / "finished" / "calibration", abouts, measured, self.workers)
        columns = {f"held_{name}": title for name, title in REGIONS.items()} | {
            "error": "error (rms)",
            "spread": "spread (rms)",
            "correlation": "correlation of the two",
            "psnr_mean": "PSNR of the draws' mean [dB]",
            "psnr_default": "of the default [dB]",
            "accepted": "Langevin steps accepted",
        }
        rows = []
        for mu in self.mu:
            of_mu = [scores for job, scores in zip(abouts, found, strict=True) if job["mu"] == mu]
            means = [mean_interval([scores[name] for scores in of_mu]) for name in columns]
            rows.append([f"{mu:g}", *(f"{m.mean:.3f} [{m.low:.3f}, {m.high:.3f}]" for m in means)])
        record = record_of(self, {self.prior: sha256})
        page = f"""# Calibration of the posterior draws

Fraction of the clean clip's pixels between the smallest and the largest of {DRAWS} draws of the signal: 0.90 if the
draws are right. {self.patients} patients of the {self.split} split, {self.frames} frames each, four-chamber
view; mean over patients with its 95 % percentile bootstrap interval.
{record.caption()}

{markdown(["mu", *columns.values()], rows)}"""
        save(self.output, record, page)


def measure(about: dict[str, Any], prior: str) -> dict[str, float]:
    """Coverage by region, error and spread of one patient."""
    clip, loaded, mu = patient(about), prior_named(prior).prior, about["mu"]
    first = nd.separate(clip.hazy, loaded)
    found = nd.sample_posterior(
        clip.hazy,
        loaded,
        slowly_varying(clip.hazy.shape, mu),
        key=jax.random.key(about["patient"]),
        sampler=nd.SplitGibbs(mu=mu, draws=DRAWS, warm_up=0 if knows_haze(loaded) else 1),
        start=first.background,
    )
    held = np.asarray((found.draws.min(0) <= clip.clean) & (clip.clean <= found.draws.max(0)))
    sector = np.broadcast_to(clip.sector, clip.hazy.shape)
    where = {
        "sector": sector,
        "septum": clip.septum,
        "ventricle": clip.ventricle,
        "removed": sector & (clip.hazy - clip.clean > 0.1),
    }
    error = np.abs(np.asarray(found.mean) - clip.clean)[sector]
    spread = np.asarray(found.deviation)[sector]
    return {f"held_{name}": float(held[mask].mean()) for name, mask in where.items()} | {
        "error": float(np.sqrt(np.mean(error**2))),
        "spread": float(np.sqrt(np.mean(spread**2))),
        "correlation": float(np.corrcoef(error, spread)[0, 1]),
        "accepted": float(jnp.mean(found.accepted)),
        "psnr_mean": nd.metrics.psnr(clip.clean, np.clip(found.mean, 0, 1), clip.sector),
        "psnr_default": nd.metrics.psnr(clip.clean, first.signal, clip.sector),
    }
