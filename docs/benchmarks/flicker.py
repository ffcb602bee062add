"""How steady can a signal be that keeps the input's own speckle? `python docs/benchmarks/flicker.py`.

Haze that changes makes the speckle under it flicker. How much of that does the true share of haze leave, taken from the
clean clip and smooth over a speckle, and how much its mean over time?
"""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Float32
from numpy import ndarray
from simulated_patients import KINDS

from nuclear_diffusion.cli import progress_bar
from nuclear_diffusion.evaluation.comparison import as_clip
from nuclear_diffusion.evaluation.scores import score
from nuclear_diffusion.evaluation.tables import made_with, mean_table
from nuclear_diffusion.files import atomic
from nuclear_diffusion.inference.proximal import haze_share, over_speckle
from nuclear_diffusion.pipeline.core import dehaze_clip
from nuclear_diffusion.pipeline.run import prior_of
from nuclear_diffusion.pipeline.settings import Settings
from nuclear_diffusion.simulation import SimulatedClip, patient_seed, simulate

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
    output: Path = Path(__file__).parent / "flicker.md"

    def run(self) -> None:
        loaded = prior_of(Settings())
        kinds = {"seen": "haze as in training", "unseen": "haze that training never sees"}
        parts: list[str] = []
        with progress_bar("patients") as progress:
            for at, (kind, title) in enumerate(kinds.items()):
                found: dict[str, dict[str, list[float]]] = {}
                for k in range(self.patients):
                    progress(at * self.patients + k, len(kinds) * self.patients)
                    chosen = KINDS[kind]
                    seed = patient_seed("test", chosen.first + k)
                    patient = simulate(seed=seed, frames=self.frames, **chosen.clip(k))
                    clip = as_clip(patient)
                    signals = {"Hazy input": patient.hazy}
                    for name, detail in {"Nuclear Diffusion": 1.0, "its posterior mean (detail 0)": 0.0}.items():
                        signals[name] = dehaze_clip(clip, Settings(detail=detail), loaded.prior).signal
                    signals |= with_the_true_share(patient)
                    for name, signal in signals.items():
                        scores = score(patient, signal)
                        for column in COLUMNS:
                            found.setdefault(name, {}).setdefault(column, []).append(scores[column])
                parts.append(f"## {title.capitalize()}\n\n{mean_table(found, COLUMNS)}\n")
            progress(1, 1)
        with atomic(self.output) as temporary:
            temporary.write_text(
                f"""# How steady can a signal be that keeps the input's own speckle?

{self.patients} patients of the test split each, {self.frames} frames, four-chamber view; mean over patients with its
95 % percentile bootstrap interval. Flicker: energy of frame differences in still tissue relative to the clean clip's,
at least one grey level's. True share: of haze, 1 - X / Y, of means of the clean and hazy clip over a speckle. Made by
`python docs/benchmarks/flicker.py --patients {self.patients} --frames {self.frames}`
with {made_with()}; prior `{str(loaded.sha256)[:16]}`.

{"".join(parts).strip()}
""",
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
