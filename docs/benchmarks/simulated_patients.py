"""Measure every method on simulated test patients: `python docs/benchmarks/simulated_patients.py --patients 24`.

Each finished patient is one line of `patients.jsonl`, so that an interrupted run goes on where it stopped; the table
(`simulated_patients.md`) and its numbers (`simulated_patients.csv`) are written at the end.
"""

import csv
import dataclasses
import json
import math
from pathlib import Path
from typing import Literal

import tyro

from nuclear_diffusion.cli import progress_bar
from nuclear_diffusion.evaluation import demo
from nuclear_diffusion.evaluation.comparison import METHODS, TITLES, compare
from nuclear_diffusion.evaluation.tables import difference_table, made_with, mean_table
from nuclear_diffusion.pipeline.results import versions
from nuclear_diffusion.pipeline.run import prior_of
from nuclear_diffusion.simulation import patient_seed, simulate

COLUMNS = demo.COLUMNS | {"seconds": "s a clip"}


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Hazy input, robust PCA, one MMSE pass, Nuclear Diffusion and the clean clip on simulated patients."""

    patients: int = 24
    """How many patients, from the first of the split on."""
    split: Literal["development", "test"] = "test"
    """Choices are made on development; test is only for reporting."""
    frames: int = 24
    """Frames a patient."""
    output: Path = Path(__file__).parent
    """Folder for the lines, the table and its numbers."""

    def run(self) -> None:
        self.output.mkdir(parents=True, exist_ok=True)
        settings = {method: chosen.resolved().as_dict() for method, chosen in METHODS.items()}
        loaded = prior_of(METHODS["nuclear"])
        identity = {
            "split": self.split,
            "frames": self.frames,
            "settings": settings,
            "prior_sha256": loaded.sha256,
            "version": versions()["nuclear-diffusion"],
        }
        lines = self.output / "patients.jsonl"
        done = finished(lines, identity)
        with progress_bar("patients") as progress:
            for index in range(self.patients):
                progress(index, self.patients)
                if index in done:
                    continue
                patient = simulate(seed=patient_seed(self.split, index), frames=self.frames, view="a4c")
                done[index] = {each.method: each.scores for each in compare(patient, loaded)}
                line = json.dumps({"patient": index, "identity": identity, "scores": done[index]})
                with lines.open("a", encoding="utf-8") as file:
                    file.write(f"\n{line}\n")  # a new line even after a torn one
            progress(self.patients, self.patients)
        self.write_tables({index: done[index] for index in range(self.patients)}, identity)

    def write_tables(self, done: dict, identity: dict) -> None:
        with (self.output / "simulated_patients.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["patient", "method", *COLUMNS])
            for index, methods in done.items():
                for method, scores in methods.items():
                    values = [scores[name] for name in COLUMNS]
                    table.writerow([index, method, *(f"{v:.5f}" if math.isfinite(v) else "" for v in values)])
        methods = next(iter(done.values()))
        scores = {
            TITLES[method]: {name: [each[method][name] for each in done.values()] for name in COLUMNS}
            for method in methods
        }
        differences = difference_table(scores, COLUMNS, method=TITLES["nuclear"])
        chosen = "\n".join(f"- {TITLES[m]}: `{json.dumps(s)}`" for m, s in identity["settings"].items())
        text = f"""# Simulated patients

{len(done)} patients of the {self.split} split, {self.frames} frames each, four-chamber view; mean over patients with
its 95 % percentile bootstrap interval. Made by
`python docs/benchmarks/simulated_patients.py --patients {len(done)} --split {self.split} --frames {self.frames}`
with {made_with()}; prior `{(identity["prior_sha256"] or "none")[:16]}`.

{mean_table(scores, COLUMNS)}
Paired differences, patient by patient; * where the interval excludes 0:

{differences}
Settings:

{chosen}
"""
        (self.output / "simulated_patients.md").write_text(text, encoding="utf-8")


def finished(lines: Path, identity: dict) -> dict[int, dict]:
    """The patients that were measured before with the same settings, weights and version."""
    if not lines.exists():
        return {}
    found = {}
    for line in lines.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:  # the line at which a run was killed
            continue
        if entry["identity"] == identity:
            found[entry["patient"]] = entry["scores"]
    return found


if __name__ == "__main__":
    tyro.cli(Benchmark).run()
