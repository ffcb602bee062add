"""Measure every method on simulated test patients: `python docs/benchmarks/simulated_patients.py --patients 24`.

`--kind` chooses the haze, view or scanner of training, or one that training never uses. Each kind has patients and a
table of its own. Each finished patient is one line of `patients.jsonl`, so that an interrupted run goes on where it
stopped; the table (`simulated_patients.md`, `simulated_patients_unseen.md`, ...) and its numbers (`.csv`) are written
at the end.
"""

import csv
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from finished import Finished
from patients import ABOUT, COLUMNS, KINDS, KindName, Split, clean_clip, clean_lost, patient, prior_named

from nuclear_diffusion.measure.comparison import METHODS, compare
from nuclear_diffusion.measure.style import LOOKS
from nuclear_diffusion.measure.tables import difference_table, group_table, made_with, mean_table
from nuclear_diffusion.restore.clip import dehaze_clip
from nuclear_diffusion.restore.methods import Settings

PEERS = {method: Settings(method=method, steps=25) for method in ("paper", "zea")}
"""At 500 steps they would take days here."""

NAMES = {method: look.title for method, look in LOOKS.items()}
NAMES |= {method: f"{NAMES[method]}, {settings.steps} steps" for method, settings in PEERS.items()}

TIMED = COLUMNS | {"seconds": "s a clip"}


def measure(about: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Every method's scores on one patient, and what it takes from the clean clip."""
    simulated, loaded = patient(about), prior_named(about["settings"]["nuclear"]["prior"])
    methods = {name: Settings(**chosen) for name, chosen in about["settings"].items()}
    found = {
        each.method: each.scores | {"clean_lost": math.nan} for each in compare(simulated, loaded, methods=methods)
    }
    for name, settings in methods.items():
        signal = dehaze_clip(clean_clip(simulated), settings, loaded.prior).signal
        found[name]["clean_lost"] = clean_lost(simulated, signal)
    return found


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Every method on simulated patients, beside the hazy input and the clean clip."""

    kind: KindName = "seen"
    """Patients as in training, or with haze, views or scanners that training never uses."""
    patients: int = 24
    """How many patients."""
    first: int = 0
    """The first of them: patients that no choice has looked at yet come after those of earlier tables."""
    split: Split = "test"
    """Choices are made on development; test is only for reporting."""
    frames: int = 24
    """Frames a patient."""
    peers: bool = False
    """Also Algorithm 1 and zea's method; minutes a patient, and a table of their own."""
    workers: int = 1
    """Processes that share the patients."""
    output: Path = Path(__file__).parent
    """Folder for the lines, the table and its numbers."""

    def run(self) -> None:
        every = {**METHODS, **PEERS} if self.peers else METHODS
        settings = {name: every[name].resolved().as_dict() for name in LOOKS if name in every}
        identity = {
            "kind": self.kind,
            "split": self.split,
            "frames": self.frames,
            "settings": settings,
            "prior_sha256": prior_named(settings["nuclear"]["prior"]).sha256,
        }
        indices = range(self.first, self.first + self.patients)
        abouts = [identity | {"patient": index, "clip": KINDS[self.kind].clip(index)} for index in indices]
        found = Finished(self.output / "patients.jsonl").complete(abouts, measure, self.workers)
        self.write_tables(dict(zip(indices, found, strict=True)), identity)

    def write_tables(self, done: dict, identity: dict) -> None:
        name = "simulated_patients" + ("" if self.kind == "seen" else f"_{self.kind.replace('-', '_')}")
        name += "_peers" if self.peers else ""
        kind = KINDS[self.kind]
        with (self.output / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["patient", "group", "method", *TIMED])
            for index, methods in done.items():
                group = " + ".join(kind.groups(index))
                for method, scores in methods.items():
                    values = [scores[name] for name in TIMED]
                    cells = [f"{v:.5f}" if math.isfinite(v) else "" for v in values]
                    table.writerow([index, group, method, *cells])

        def scores_of(positions: list[int]) -> dict[str, dict[str, list[float]]]:
            return {
                NAMES[method]: {column: [done[k][method][column] for k in positions] for column in TIMED}
                for method in next(iter(done.values()))
            }

        scores = scores_of(list(done))
        names = sorted({group for index in done for group in kind.groups(index)})
        groups = {group: scores_of([k for k in done if group in kind.groups(k)]) for group in names}
        by_group = f"""
{NAMES["hazy"]} → {NAMES["nuclear"]}, each kind apart; a patient with two counts for both. * where the interval of
the paired difference excludes 0:

{group_table(groups, COLUMNS, before=NAMES["hazy"], after=NAMES["nuclear"])}"""
        differences = difference_table(scores, TIMED, method=NAMES["nuclear"])
        chosen = "\n".join(f"- {NAMES[m]}: `{json.dumps(s)}`" for m, s in identity["settings"].items())
        options = "" if self.kind == "seen" else f"--kind {self.kind} "
        options += f"--first {self.first} " if self.first else ""
        options += f"--patients {len(done)} --split {self.split} --frames {self.frames}"
        options += " --peers" if self.peers else ""
        options += f" --workers {self.workers}" if self.workers > 1 else ""
        text = f"""# Simulated patients{"" if self.kind == "seen" else ": what training never sees"}

{len(done)} patients of the {self.split} split, {self.frames} frames each, {kind.about}; mean over patients with
its 95 % percentile bootstrap interval. {ABOUT} Made by
`python docs/benchmarks/simulated_patients.py {options}`
with {made_with()}; prior `{(identity["prior_sha256"] or "none")[:16]}`.

{mean_table(scores, TIMED)}
{in_words(scores)}

Paired differences, patient by patient; * where the interval excludes 0:

{differences}{by_group if groups else ""}
Settings:

{chosen}
"""
        (self.output / f"{name}.md").write_text(text, encoding="utf-8")


def in_words(scores: dict[str, dict[str, list[float]]]) -> str:
    """What the default does to flicker, and to the clean clip that it harms most."""
    hazy, ours, clean = (scores[NAMES[method]] for method in ("hazy", "nuclear", "clean"))

    def ratio(signal: dict[str, list[float]], name: str) -> float:
        known = np.isfinite(hazy[name]) & np.isfinite(signal[name])
        return np.mean(np.array(signal[name])[known]) / np.mean(np.array(hazy[name])[known])

    flickers = (
        f"{ratio(ours, f'flicker_{region}'):.2f} in the {name} ({ratio(clean, f'flicker_{region}'):.2f} for the truth)"
        for region, name in (("b", "ventricle"), ("a", "septum"))
    )
    return (
        f"{NAMES['nuclear']}, mean flicker over that of the hazy input: {' and '.join(flickers)}. Of the clean clip\n"
        f"that it harms most it loses {np.nanmax(ours['clean_lost']):.1%} of the bright tissue."
    )


if __name__ == "__main__":
    tyro.cli(Benchmark).run()
