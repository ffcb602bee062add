"""What other settings or another prior would change: `python docs/benchmarks/development.py mu=30,spare=0.18`.

Development patients of every kind, and paired clips where they are given, with the default and with each choice: for
choosing, never for reporting. Each finished patient is one line of `development.jsonl`, so that an interrupted run goes
on where it stopped; the table is `development.md`.
"""

import dataclasses
import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from paired_clips import decibels, read_pair
from simulated_patients import KINDS

from nuclear_diffusion.cli import progress_bar
from nuclear_diffusion.evaluation.comparison import as_clip
from nuclear_diffusion.evaluation.scores import score
from nuclear_diffusion.evaluation.tables import Scores, difference_table, made_with, mean_table
from nuclear_diffusion.files import atomic
from nuclear_diffusion.pipeline.core import dehaze_clip
from nuclear_diffusion.pipeline.run import prior_of
from nuclear_diffusion.pipeline.settings import Settings
from nuclear_diffusion.simulation import patient_seed, simulate
from nuclear_diffusion.video import Clip

COLUMNS = {
    "gcnr": "gCNR ↑",
    "ks_a": "KS_A ↓",
    "psnr": "PSNR gained [dB] ↑",
    "ssim": "SSIM ↑",
    "flicker": "flicker",
}
PAIRED = {"psnr": "PSNR gained [dB] ↑", "within": "within the clutter [dB] ↑", "outside": "outside [dB] ↑"}

PATIENTS = {"seen": 8, "unseen": 30, "unseen-look": 9, "unseen-view": 10}


@dataclasses.dataclass(frozen=True)
class Development:
    """The default and other choices on development patients."""

    choices: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="NAME=VALUE,...")] = ()
    """Settings that differ from the default's, as spare=0.15,clear=0.75 or prior=FILE."""
    pairs: tuple[Path, ...] = ()
    """Paired clips, see `paired_clips.py`; nine frames of each."""
    frames: int = 10
    """Frames a patient."""
    share: float = 1.0
    """Of the patients of each kind, at least one."""
    output: Path = Path(__file__).parent
    """Folder for the lines and the table."""

    def run(self) -> None:
        methods = {"default": Settings(), **{choice: settings_of(choice) for choice in self.choices}}
        priors = {name: prior_of(settings) for name, settings in methods.items()}
        jobs = [(kind, k) for kind, count in PATIENTS.items() for k in range(max(1, round(self.share * count)))]
        jobs += [("pair", k) for k in range(len(self.pairs))]
        lines = self.output / "development.jsonl"
        self.output.mkdir(parents=True, exist_ok=True)
        done = finished(lines)
        titles = {name: title(name, priors[name].sha256) for name in methods}
        found: dict[str, dict[str, dict[str, list[float]]]] = {}
        with progress_bar("clips") as progress:
            for at, (kind, k) in enumerate(jobs):
                progress(at, len(jobs))
                clip = None
                for name, settings in methods.items():
                    what = [kind, self.pairs[k].name if kind == "pair" else k, self.frames]
                    identity = json.dumps([*what, settings.resolved().as_dict(), priors[name].sha256])
                    if identity not in done:
                        clip = clip or self.clip(kind, k)
                        hazy, score_of = clip
                        done[identity] = score_of(dehaze_clip(hazy, settings, priors[name].prior).signal)
                        with lines.open("a", encoding="utf-8") as file:  # a new line even after a torn one
                            file.write("\n" + json.dumps({"identity": identity, "scores": done[identity]}) + "\n")
                    scores = found.setdefault(kind, {}).setdefault(titles[name], defaultdict(list))
                    for column, value in done[identity].items():
                        scores[column].append(math.nan if value is None else value)
            progress(len(jobs), len(jobs))
        self.write(found, list(titles.values())[1:])

    def clip(self, kind: str, k: int) -> tuple[Clip, Callable[[np.ndarray], dict[str, float | None]]]:
        """A hazy clip, and what scores a signal against its truth."""
        if kind == "pair":
            hazy, clean = read_pair(self.pairs[k], np.arange(9))
            before = decibels(hazy.frames, hazy.frames, clean)[0]

            def paired(signal: np.ndarray) -> dict[str, float | None]:
                whole, within, outside = decibels(signal, hazy.frames, clean)
                return {"psnr": float(whole) - float(before), "within": within, "outside": outside}

            return hazy, paired
        chosen = KINDS[kind]
        seed = patient_seed("development", chosen.first + k)
        patient = simulate(seed=seed, frames=self.frames, **chosen.clip(k))
        before = score(patient, patient.hazy)["psnr"]

        def simulated(signal: np.ndarray) -> dict[str, float | None]:
            scores = score(patient, signal)
            scores["psnr"] -= before
            return {name: float(scores[name]) if math.isfinite(scores[name]) else None for name in COLUMNS}

        return as_clip(patient), simulated

    def write(self, found: Mapping[str, Scores], choices: list[str]) -> None:
        """One part for each kind of clip."""
        parts = [part(kind, scores, PAIRED if kind == "pair" else COLUMNS) for kind, scores in found.items()]
        how = " ".join(["python docs/benchmarks/development.py", *(choice.replace(" ", "=") for choice in choices)])
        how += " --pairs FILE..." if self.pairs else ""
        how += f" --frames {self.frames}" if self.frames != Development.frames else ""
        how += f" --share {self.share:g}" if self.share != Development.share else ""
        with atomic(self.output / "development.md") as temporary:
            temporary.write_text(
                f"""# Looks at development patients

For choosing, not for reporting. {self.frames} frames a patient; PSNR is that above the hazy clip's; means with 95 %
bootstrap intervals over patients, and paired differences from the default, * where the interval excludes 0. Made by
`{how}`
with {made_with()}; the default's prior `{(prior_of(Settings()).sha256 or "none")[:16]}`.
{"".join(parts)}""",
                encoding="utf-8",
            )


def settings_of(choice: str) -> Settings:
    """The default's settings but for `choice`, as mu=30,spare=0.18; raises `InputError` where they cannot be used."""
    values = dict(item.split("=", 1) for item in choice.split(","))
    kinds = {"steps": int, "window": int, "overlap": int, "prior": str}
    settings = dataclasses.replace(Settings(), **{name: kinds.get(name, float)(v) for name, v in values.items()})
    settings.resolved()
    return settings


def title(choice: str, sha256: str | None) -> str:
    """The choice as tables name it: a prior by its hash, not by the place of its file."""
    items = (f"prior {(sha256 or 'none')[:16]}" if item.startswith("prior=") else item for item in choice.split(","))
    return ",".join(items)


def finished(lines: Path) -> dict[str, dict]:
    """What was measured before, with the same settings and weights."""
    found = {}
    for line in lines.read_text(encoding="utf-8").splitlines() if lines.exists() else []:
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:  # an empty line, or the one at which a run was killed
            continue
        found[entry["identity"]] = entry["scores"]
    return found


def part(kind: str, scores: Scores, columns: dict[str, str]) -> str:
    """The means of one kind of clip, and what each choice changes."""
    count = len(next(iter(scores["default"].values())))
    rows = []
    for choice in scores:
        if choice != "default":
            table = difference_table({"default": scores["default"], choice: scores[choice]}, columns, method=choice)
            rows += [table.splitlines()[-1]]
    head = difference_table({"default": scores["default"]}, columns, method="default").splitlines()
    changes = "\n" + "\n".join(head + rows) + "\n" if rows else ""
    return f"\n## {kind}, {count} clips\n\n{mean_table(scores, columns)}{changes}"


if __name__ == "__main__":
    tyro.cli(Development).run()
