"""What other settings or another prior would change: `python docs/benchmarks/development.py SETTINGS.json...`.

Development patients of every kind, and paired clips where they are given, with the default and with each choice: for
choosing, never for reporting. Each finished patient is one line of `development.jsonl`, so that an interrupted run goes
on where it stopped; the table is `development.md`.
"""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from finished import Finished
from paired_clips import decibels, read_pair
from simulated_patients import KINDS

from nuclear_diffusion.cli import progress_bar
from nuclear_diffusion.evaluation.comparison import as_clip
from nuclear_diffusion.evaluation.scores import score
from nuclear_diffusion.evaluation.tables import Scores, difference_table, made_with, mean_table
from nuclear_diffusion.files import atomic
from nuclear_diffusion.pipeline.core import dehaze_clip
from nuclear_diffusion.pipeline.run import LoadedPrior, prior_of
from nuclear_diffusion.pipeline.settings import Settings, read_settings
from nuclear_diffusion.simulation import SimulatedClip, patient_seed, simulate
from nuclear_diffusion.video import Clip

COLUMNS = {
    "gcnr": "gCNR ↑",
    "ks_a": "KS_A ↓",
    "ks_truth": "KS to truth ↓",
    "psnr": "PSNR gained [dB] ↑",
    "ssim": "SSIM ↑",
    "flicker_a": "flicker, septum ↓",
    "flicker_b": "flicker, ventricle ↓",
    "flicker_still": "flicker, still pixels ↓",
    "bright_lost": "bright tissue lost ↓",
    "left": "haze left ↓",
    "eaten": "tissue eaten ↓",
}
PAIRED = {"psnr": "PSNR gained [dB] ↑", "within": "within the clutter [dB] ↑", "outside": "outside [dB] ↑"}

PATIENTS = {"seen": 8, "unseen": 60, "unseen-look": 9, "unseen-view": 10}


@dataclasses.dataclass(frozen=True)
class Development:
    """The default and other choices on development patients."""

    choices: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILE...")] = ()
    """Settings files, as {"method": "nuclear", "spare": 0.12} or with another "prior"; the rest is the default."""
    pairs: tuple[Path, ...] = ()
    """Paired clips, see `paired_clips.py`; nine frames of each."""
    frames: int = 10
    """Frames a patient."""
    share: float = 1.0
    """Of the patients of each kind, at least one."""
    output: Path = Path(__file__).parent
    """Folder for the lines and the table."""

    def run(self) -> None:
        chosen = [Settings(), *map(read_settings, self.choices)]
        loaded = [prior_of(settings) for settings in chosen]
        methods = {title(settings, p): (settings.resolved(), p) for settings, p in zip(chosen, loaded, strict=True)}
        jobs = [(kind, k) for kind, count in PATIENTS.items() for k in range(max(1, round(self.share * count)))]
        jobs += [("pair", k) for k in range(len(self.pairs))]
        done = Finished(self.output / "development.jsonl")
        found: dict[str, dict[str, dict[str, list[float]]]] = {}
        with progress_bar("clips") as progress:
            for at, (kind, k) in enumerate(jobs):
                progress(at, len(jobs))
                clip = None
                for name, (settings, prior) in methods.items():
                    what = [kind, self.pairs[k].name if kind == "pair" else k, self.frames]
                    identity = [*what, settings.as_dict() | {"prior": prior.sha256}]
                    if (measured := done.get(identity)) is None:
                        clip = clip or self.clip(kind, k)
                        hazy, score_of = clip
                        measured = done.add(identity, score_of(dehaze_clip(hazy, settings, prior.prior).signal))
                    scores = found.setdefault(kind, {}).setdefault(name, defaultdict(list))
                    for column, value in measured.items():
                        scores[column].append(math.nan if value is None else value)
            progress(len(jobs), len(jobs))
        self.write(found, loaded[0].sha256)

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
            scores |= errors(patient, signal)
            return {name: float(scores[name]) if math.isfinite(scores[name]) else None for name in COLUMNS}

        return as_clip(patient), simulated

    def write(self, found: Mapping[str, Scores], sha256: str | None) -> None:
        """One part for each kind of clip."""
        parts = [part(kind, scores, PAIRED if kind == "pair" else COLUMNS) for kind, scores in found.items()]
        how = "python docs/benchmarks/development.py" + (" SETTINGS.json..." if self.choices else "")
        how += " --pairs FILE..." if self.pairs else ""
        how += f" --frames {self.frames}" if self.frames != Development.frames else ""
        how += f" --share {self.share:g}" if self.share != Development.share else ""
        with atomic(self.output / "development.md") as temporary:
            temporary.write_text(
                f"""# Looks at development patients

For choosing, not for reporting. {self.frames} frames a patient; PSNR is that above the hazy clip's; flicker: root mean
square second difference in time, grey levels, of the mean of a region and of each pixel of still tissue; bright tissue
lost: share of the pixels bright in hazy and clean clip of which less than three quarters is left; haze left and tissue
eaten: energy of what is too bright and too dark, of that of the hazy clip's error; means with 95 % bootstrap intervals
over patients, and paired differences from the default, * where the interval excludes 0. Made by
`{how}`
with {made_with()}; the default's prior `{(sha256 or "none")[:16]}`.
The other rows are named by what their settings files change.
{"".join(parts)}""",
                encoding="utf-8",
            )


def errors(patient: SimulatedClip, signal: np.ndarray) -> dict[str, float]:
    """Energy of the error where the signal is too bright and where it is too dark, of the hazy clip's error energy."""
    sector = patient.sector
    error = (signal - patient.clean)[:, sector]
    energy = np.mean((patient.hazy - patient.clean)[:, sector] ** 2)
    left, eaten = (float(np.mean(np.maximum(sign * error, 0) ** 2) / energy) for sign in (1, -1))
    return {"left": left, "eaten": eaten}


def title(settings: Settings, loaded: LoadedPrior) -> str:
    """What differs from the default; a prior by its hash, not by the place of its file."""
    default = Settings().resolved().as_dict()
    changed = {name: value for name, value in settings.resolved().as_dict().items() if value != default.get(name)}
    if "prior" in changed:
        changed["prior"] = (loaded.sha256 or "none")[:16]
    named = (f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in changed.items())
    return ",".join(named) or "default"


def part(kind: str, scores: Scores, columns: dict[str, str]) -> str:
    """The means of one kind of clip, and what each choice changes."""
    count = len(next(iter(scores["default"].values())))
    changes = [
        difference_table({"default": scores["default"], choice: scores[choice]}, columns, method=choice).splitlines()
        for choice in scores
        if choice != "default"
    ]
    rows = [*changes[0][:2], *(lines[-1] for lines in changes)] if changes else []
    return (
        f"\n## {kind}, {count} clips\n\n{mean_table(scores, columns)}"
        + "".join(f"\n{row}" for row in rows)
        + "\n" * bool(rows)
    )


if __name__ == "__main__":
    tyro.cli(Development).run()
