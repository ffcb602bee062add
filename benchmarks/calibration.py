"""Do posterior intervals hold the truth? `python docs/benchmarks/calibration.py`.

The truth is exchangeable with K draws from the right posterior, so it lies between the smallest and the largest of 19
with probability 18/20: a central 90 % interval without any fit. Each finished patient is one line of a cache, so that
an interrupted run goes on where it stopped.
"""

import dataclasses
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from finished import Finished

import nuclear_diffusion as nd
from nuclear_diffusion.measure.bootstrap import mean_interval
from nuclear_diffusion.measure.tables import made_with
from nuclear_diffusion.paper.nuclear_norm import slowly_varying
from nuclear_diffusion.priors.checkpoint import prior_hash
from nuclear_diffusion.priors.protocol import knows_haze
from nuclear_diffusion.restore.clip import MU
from nuclear_diffusion.simulation import patient_seed, simulate

DRAWS = 19
REGIONS = {"sector": "whole sector", "septum": "septum", "ventricle": "ventricle", "removed": "haze above 0.1"}


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Coverage of 90 % intervals on simulated patients, and how well the spread tells the error."""

    patients: int = 4
    frames: int = 5
    split: Literal["development", "test"] = "test"
    """Choices are made on development; test is only for reporting."""
    mu: tuple[float, ...] = (MU,)
    """Precisions to try."""
    prior: str = "echo"
    cache: Path = Path("runs/calibration.jsonl")
    output: Path = Path(__file__).parent / "calibration.md"

    def run(self) -> None:
        prior = nd.load_prior(self.prior)
        sha256 = prior_hash(prior)[:16]
        done = Finished(self.cache)
        rows = []
        for mu in self.mu:
            for index in range(self.patients):
                about = {"split": self.split, "index": index, "frames": self.frames, "mu": mu, "prior": sha256}
                row = done.get(about) or done.add(about, about | self.measure(index, mu, prior))
                print(row, flush=True)
                rows.append(row)
        self.write(rows, sha256)

    def measure(self, index: int, mu: float, prior: nd.DiffusionPrior) -> dict[str, float]:
        clip = simulate(seed=patient_seed(self.split, index), frames=self.frames, view="a4c")
        first = nd.separate(clip.hazy, prior)
        found = nd.sample_posterior(
            clip.hazy,
            prior,
            slowly_varying(clip.hazy.shape, mu),
            key=jax.random.key(index),
            sampler=nd.SplitGibbs(mu=mu, draws=DRAWS, warm_up=0 if knows_haze(prior) else 1),
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

    def write(self, rows: list[dict], sha256: str) -> None:
        columns = {f"held_{name}": title for name, title in REGIONS.items()} | {
            "error": "error (rms)",
            "spread": "spread (rms)",
            "correlation": "correlation of the two",
            "psnr_mean": "PSNR of the draws' mean [dB]",
            "psnr_default": "of the default [dB]",
            "accepted": "Langevin steps accepted",
        }
        table = f"| mu | {' | '.join(columns.values())} |\n|{'---|' * (len(columns) + 1)}\n"
        for mu in self.mu:
            means = [mean_interval([row[name] for row in rows if row["mu"] == mu]) for name in columns]
            cells = [f"{m.mean:.3f} [{m.low:.3f}, {m.high:.3f}]" for m in means]
            table += f"| {mu:g} | {' | '.join(cells)} |\n"
        own = "" if self.prior == "echo" else " --prior FILE"
        flags = f"--patients {self.patients} --frames {self.frames} --split {self.split}"
        self.output.write_text(
            f"""# Calibration of the posterior draws

Share of pixels of the clean clip that lie between the smallest and the largest of {DRAWS} draws of the signal: 0.90 if
the draws are right. {self.patients} patients of the {self.split} split, {self.frames} frames each, four-chamber view;
mean over patients with its 95 % percentile bootstrap interval. Made by
`python docs/benchmarks/calibration.py {flags} --mu {" ".join(f"{mu:g}" for mu in self.mu)}{own}`
with {made_with()}; prior `{sha256}`.

{table}""",
            encoding="utf-8",
        )


if __name__ == "__main__":
    tyro.cli(Calibration).run()
