"""Priors side by side on development patients: `python docs/benchmarks/development.py --priors echo RUN`.

What a new prior is chosen by, never reported: all kinds of simulated patients, each patient dehazed by every prior.
Finished patients are lines of `development.jsonl`, so that an interrupted run goes on where it stopped.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from finished import Finished
from patients import GAINED, clean_clip, clean_lost, development, gains, patient, prior_named

from nuclear_diffusion.files import atomic
from nuclear_diffusion.measure.bootstrap import paired_difference
from nuclear_diffusion.measure.comparison import as_clip
from nuclear_diffusion.measure.front import Front, Regions, at_equal_change, front_of, gain
from nuclear_diffusion.measure.tables import made_with
from nuclear_diffusion.restore.clip import dehaze_clip
from nuclear_diffusion.restore.methods import Settings


@dataclasses.dataclass(frozen=True)
class Development:
    """Two priors or more; differences are those from the first."""

    priors: tuple[str, ...] = ("echo",)
    """Names, files or folders of training runs."""
    frames: int = 12
    """Frames a patient."""
    share: float = 1.0
    """Of the patients of each kind, at least one."""
    workers: int = 1
    """Processes that share the patients."""
    output: Path = Path(__file__).parent
    """Folder for the lines and the table."""

    def run(self) -> None:
        hashes = {name: prior_named(name).sha256 or "" for name in self.priors}
        jobs = [
            about | {"prior": name, "sha256": sha256}
            for name, sha256 in hashes.items()
            for about in development(self.frames, self.share)
        ]
        found = Finished(self.output / "development.jsonl").complete(jobs, measure, self.workers)
        scores: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for job, each in zip(jobs, found, strict=True):
            scores.setdefault(job["kind"], {}).setdefault(job["prior"], []).append(each)
        parts = [self.table(kind, of_kind) for kind, of_kind in scores.items()]
        priors = ", ".join(f"{Path(name).name} `{sha256[:16]}`" for name, sha256 in hashes.items())
        text = f"""# Development patients

For choosing, not for reporting: means over patients of {self.frames} frames at the default strength, and below each
prior its differences from {Path(self.priors[0]).name}, patient by patient; * where the 95 % bootstrap interval
excludes 0. Equal change: the highest gCNR of all strengths at a KS_A of 0.02 to 0.1. Made by
`python docs/benchmarks/development.py --frames {self.frames} --share {self.share:g}` with {made_with()}; priors:
{priors}.

{"".join(parts)}"""
        with atomic(self.output / "development.md") as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(text)

    def table(self, kind: str, scores: dict[str, list[dict[str, Any]]]) -> str:
        lines = [["", "gCNR at equal change ↑", *GAINED.values()], ["---"] * (len(GAINED) + 2)]
        first = scores[self.priors[0]]
        for name, patients in scores.items():
            means = [f"{np.nanmean([each[c] for each in patients]):.3f}" for c in GAINED]
            lines.append([Path(name).name, f"{np.mean(at_equal_change(front(patients))):.3f}", *means])
            if name == self.priors[0]:
                continue
            gained = gain(front(patients), front(first))
            differences = [paired_difference([p[c] for p in patients], [f[c] for f in first]) for c in GAINED]
            lines.append(["difference", *(difference(each) for each in (gained, *differences))])
        rows = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        return f"## {kind}, {len(first)} patients\n\n{rows}\n"


def difference(interval: Any) -> str:
    sure = interval.low > 0 or interval.high < 0
    return f"{interval.mean:+.3f}{'*' if sure else ''}"


def front(patients: list[dict[str, Any]]) -> Front:
    return {name: np.array([each["front"][name] for each in patients]) for name in ("gcnr", "ks_a")}


def measure(about: dict[str, Any]) -> dict[str, Any]:
    """The scores of a patient, what is lost of the clean clip, and gCNR and KS_A at all strengths."""
    simulated, prior = patient(about), prior_named(about["prior"]).prior
    signal = dehaze_clip(as_clip(simulated), Settings(), prior).signal
    scores: dict[str, Any] = gains(simulated, signal)[0]
    of_clean = dehaze_clip(clean_clip(simulated), Settings(), prior).signal
    regions = Regions(simulated.hazy, simulated.septum, simulated.ventricle, simulated.sector)
    found = front_of([regions], prior)
    return scores | {
        "clean_lost": clean_lost(simulated, of_clean),
        "front": {name: found[name][0].tolist() for name in ("gcnr", "ks_a")},
    }


if __name__ == "__main__":
    tyro.cli(Development).run()
