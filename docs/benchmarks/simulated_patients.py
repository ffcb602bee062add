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
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import tyro
from finished import Finished

from nuclear_diffusion.cli import progress_bar
from nuclear_diffusion.evaluation import demo
from nuclear_diffusion.evaluation.comparison import METHODS, compare
from nuclear_diffusion.evaluation.style import LOOKS
from nuclear_diffusion.evaluation.tables import difference_table, group_table, made_with, mean_table
from nuclear_diffusion.pipeline.run import prior_of
from nuclear_diffusion.pipeline.settings import Settings
from nuclear_diffusion.simulation import UNSEEN_FAMILIES, UNSEEN_LOOKS, UNSEEN_VIEWS, patient_seed, simulate

PEERS = {method: Settings(method=method, steps=25) for method in ("paper", "zea")}
"""At 500 steps they would take days here."""

NAMES = {method: look.title for method, look in LOOKS.items()}
NAMES |= {method: f"{NAMES[method]}, {settings.steps} steps" for method, settings in PEERS.items()}

QUALITY = {
    **{name: title for name, title in demo.COLUMNS.items() if name != "seconds"},
    "flicker_a": "flicker, septum ↓",
    "flicker_still": "flicker, still pixels ↓",
}
COLUMNS = QUALITY | {"seconds": "s a clip"}


class Kind(NamedTuple):
    """What the patients of one table look like."""

    about: str
    first: int
    """Index of its first patient in the split: no two kinds share one."""
    clip: Callable[[int], dict[str, Any]]
    """Arguments of `simulate` for the patient at a position."""
    apart: str = ""
    """The argument whose values are also reported apart."""

    def groups(self, position: int) -> list[str]:
        """The rows of that report in which a patient counts."""
        value = self.clip(position).get(self.apart, [])
        return [value] if isinstance(value, str) else value


def unseen_haze(position: int) -> dict[str, Any]:
    """One unseen family, or two at half the amplitude each, in turn: about the PSNR of the haze of training."""
    turn, count = position % (2 * len(UNSEEN_FAMILIES)), len(UNSEEN_FAMILIES)
    first = UNSEEN_FAMILIES[turn % count]
    if turn < count:
        return {"view": "a4c", "families": [first]}
    return {"view": "a4c", "families": [first, UNSEEN_FAMILIES[(turn + 2) % count]], "haze": 0.5}


KINDS = {
    "seen": Kind("four-chamber view, haze and scanners as in training", 0, lambda _: {"view": "a4c"}),
    "unseen": Kind(
        "four-chamber view, haze of one or two families that training never uses",
        100_000,
        unseen_haze,
        "families",
    ),
    "unseen-view": Kind(
        "views that training never uses, haze and scanners as in training",
        200_000,
        lambda position: {"view": UNSEEN_VIEWS[position % len(UNSEEN_VIEWS)]},
        "view",
    ),
    "unseen-look": Kind(
        "four-chamber view, scanners that training never uses, haze as in training",
        300_000,
        lambda position: {"view": "a4c", "look": UNSEEN_LOOKS[position % len(UNSEEN_LOOKS)]},
        "look",
    ),
}


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Every method on simulated patients, beside the hazy input and the clean clip."""

    kind: Literal["seen", "unseen", "unseen-view", "unseen-look"] = "seen"
    """Patients as in training, or with haze, views or scanners that training never uses."""
    patients: int = 24
    """How many patients."""
    first: int = 0
    """The first of them: patients that no choice has looked at yet come after those of earlier tables."""
    split: Literal["development", "test"] = "test"
    """Choices are made on development; test is only for reporting."""
    frames: int = 24
    """Frames a patient."""
    peers: bool = False
    """Also Algorithm 1 and zea's method; minutes a patient, and a table of their own."""
    output: Path = Path(__file__).parent
    """Folder for the lines, the table and its numbers."""

    def run(self) -> None:
        every = {**METHODS, **PEERS} if self.peers else METHODS
        methods = {name: every[name] for name in LOOKS if name in every}
        settings = {method: chosen.resolved().as_dict() for method, chosen in methods.items()}
        loaded = prior_of(methods["nuclear"])
        identity = {
            "kind": self.kind,
            "split": self.split,
            "frames": self.frames,
            "settings": settings,
            "prior_sha256": loaded.sha256,
        }
        kind = KINDS[self.kind]
        finished = Finished(self.output / "patients.jsonl")
        done = {}
        with progress_bar("patients") as progress:
            for index in range(self.first, self.first + self.patients):
                progress(index - self.first, self.patients)
                clip = kind.clip(index)
                about = identity | {"patient": index, "clip": clip}
                done[index] = finished.get(about)
                if done[index] is None:
                    patient = simulate(seed=patient_seed(self.split, kind.first + index), frames=self.frames, **clip)
                    scores = {each.method: each.scores for each in compare(patient, loaded, methods=methods)}
                    done[index] = finished.add(about, scores)
            progress(self.patients, self.patients)
        self.write_tables(done, identity)

    def write_tables(self, done: dict, identity: dict) -> None:
        name = "simulated_patients" + ("" if self.kind == "seen" else f"_{self.kind.replace('-', '_')}")
        name += "_peers" if self.peers else ""
        kind = KINDS[self.kind]
        with (self.output / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["patient", "group", "method", *COLUMNS])
            for index, methods in done.items():
                group = " + ".join(kind.groups(index))
                for method, scores in methods.items():
                    values = [scores[name] for name in COLUMNS]
                    cells = [f"{v:.5f}" if math.isfinite(v) else "" for v in values]
                    table.writerow([index, group, method, *cells])

        def scores_of(positions: list[int]) -> dict[str, dict[str, list[float]]]:
            return {
                NAMES[method]: {column: [done[k][method][column] for k in positions] for column in COLUMNS}
                for method in next(iter(done.values()))
            }

        scores = scores_of(list(done))
        names = sorted({group for index in done for group in kind.groups(index)})
        groups = {group: scores_of([k for k in done if group in kind.groups(k)]) for group in names}
        by_group = f"""
{NAMES["hazy"]} → {NAMES["nuclear"]}, each kind apart; a patient with two counts for both. * where the interval of
the paired difference excludes 0:

{group_table(groups, QUALITY, before=NAMES["hazy"], after=NAMES["nuclear"])}"""
        differences = difference_table(scores, COLUMNS, method=NAMES["nuclear"])
        chosen = "\n".join(f"- {NAMES[m]}: `{json.dumps(s)}`" for m, s in identity["settings"].items())
        options = "" if self.kind == "seen" else f"--kind {self.kind} "
        options += f"--first {self.first} " if self.first else ""
        options += f"--patients {len(done)} --split {self.split} --frames {self.frames}"
        options += " --peers" if self.peers else ""
        text = f"""# Simulated patients{"" if self.kind == "seen" else ": what training never sees"}

{len(done)} patients of the {self.split} split, {self.frames} frames each, {kind.about}; mean over patients with
its 95 % percentile bootstrap interval. Flicker: root mean square second difference in time, grey levels of 255, of
the mean of septum or ventricle, and of each pixel of tissue that stands still. Bright tissue lost: share of the pixels
bright in hazy and clean clip (5 x 5 means above 0.4) of which less than three quarters is left. Made by
`python docs/benchmarks/simulated_patients.py {options}`
with {made_with()}; prior `{(identity["prior_sha256"] or "none")[:16]}`.

{mean_table(scores, COLUMNS)}
Paired differences, patient by patient; * where the interval excludes 0:

{differences}{by_group if groups else ""}
Settings:

{chosen}
"""
        (self.output / f"{name}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(Benchmark).run()
