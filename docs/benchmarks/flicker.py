"""How steady can a signal be that keeps the input's own speckle? `python docs/benchmarks/flicker.py`.

Haze that changes makes the speckle under it flicker. How much of that does the true share of haze leave, taken from the
clean clip and smooth over a speckle, and how much its mean over time? Each finished patient is one line of
`flicker.jsonl`, so that an interrupted run goes on where it stopped.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import tyro
from finished import Finished
from jaxtyping import Float32
from numpy import ndarray
from simulated_patients import KINDS

from nuclear_diffusion.cli import progress_bar
from nuclear_diffusion.evaluation.comparison import as_clip
from nuclear_diffusion.evaluation.scores import score
from nuclear_diffusion.evaluation.tables import Scores, made_with, mean_table
from nuclear_diffusion.files import atomic
from nuclear_diffusion.inference.proximal import haze_share, over_speckle
from nuclear_diffusion.pipeline.core import dehaze_clip
from nuclear_diffusion.pipeline.run import LoadedPrior, prior_of
from nuclear_diffusion.pipeline.settings import Settings
from nuclear_diffusion.simulation import SimulatedClip, patient_seed, simulate

TITLES = {"seen": "Haze as in training", "unseen": "Haze that training never sees"}

COLUMNS = {
    "flicker": "flicker ↓",
    "gcnr": "gCNR ↑",
    "ks_truth": "KS to truth ↓",
    "psnr": "PSNR [dB] ↑",
    "ssim": "SSIM ↑",
}


@dataclasses.dataclass(frozen=True)
class Flicker:
    """Nuclear Diffusion, its posterior mean, and the input less its true share of haze."""

    patients: int = 12
    """Patients of each kind, of the test split."""
    frames: int = 10
    """Frames a patient."""
    output: Path = Path(__file__).parent
    """Folder for the lines and the table."""

    def run(self) -> None:
        loaded = prior_of(Settings())
        done = Finished(self.output / "flicker.jsonl")
        jobs = [(kind, k) for kind in TITLES for k in range(self.patients)]
        found: dict[str, dict[str, dict[str, list[float]]]] = {}
        with progress_bar("patients") as progress:
            for at, (kind, k) in enumerate(jobs):
                progress(at, len(jobs))
                about = [kind, k, self.frames, loaded.sha256]
                for name, scores in (done.get(about) or done.add(about, self.measure(kind, k, loaded))).items():
                    for column, value in scores.items():
                        found.setdefault(kind, {}).setdefault(name, {}).setdefault(column, []).append(value)
            progress(len(jobs), len(jobs))
        self.write(found, loaded)

    def measure(self, kind: str, k: int, loaded: LoadedPrior) -> dict[str, dict[str, float]]:
        """Scores of each signal of one patient."""
        chosen = KINDS[kind]
        patient = simulate(seed=patient_seed("test", chosen.first + k), frames=self.frames, **chosen.clip(k))
        clip = as_clip(patient)
        signals = {"Hazy input": patient.hazy}
        for name, detail in {"Nuclear Diffusion": 1.0, "its posterior mean (detail 0)": 0.0}.items():
            signals[name] = dehaze_clip(clip, Settings(detail=detail), loaded.prior).signal
        signals |= with_the_true_share(patient)
        scores = {name: score(patient, signal) for name, signal in signals.items()}
        return {name: {column: float(each[column]) for column in COLUMNS} for name, each in scores.items()}

    def write(self, found: Mapping[str, Scores], loaded: LoadedPrior) -> None:
        """One table for each kind of haze."""
        parts = "\n".join(f"## {TITLES[kind]}\n\n{mean_table(scores, COLUMNS)}" for kind, scores in found.items())
        with atomic(self.output / "flicker.md") as temporary:
            temporary.write_text(
                f"""# How steady can a signal be that keeps the input's own speckle?

{self.patients} patients of the test split each, {self.frames} frames, four-chamber view; mean over patients with its
95 % percentile bootstrap interval. Flicker: energy of frame differences in still tissue relative to the clean clip's,
at least one grey level's. True share: of haze, 1 - X / Y, of means of the clean and hazy clip over a speckle. Made by
`python docs/benchmarks/flicker.py --patients {self.patients} --frames {self.frames}`
with {made_with()}; prior `{str(loaded.sha256)[:16]}`.

{parts}""",
                encoding="utf-8",
            )


def with_the_true_share(patient: SimulatedClip) -> dict[str, Float32[ndarray, "frames height width"]]:
    """The input less its true share of haze, and less the mean of that over time."""
    y, x = jnp.asarray(patient.hazy), jnp.asarray(patient.clean)
    share = haze_share(over_speckle(y), over_speckle(jnp.minimum(x, y)))
    return {
        "Input less its true share": np.asarray(y * (1 - share)),
        "the same, one share for all frames": np.asarray(y * (1 - share.mean(0))),
    }


if __name__ == "__main__":
    tyro.cli(Flicker).run()
