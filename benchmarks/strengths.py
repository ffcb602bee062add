"""Where a share of haze becomes none and where it becomes all: `python docs/benchmarks/strengths.py`.

Every pair of `render`'s limits on a grid, and the curve of `strength` through them, on development patients of every
kind and on paired clips where they are given: one estimate a clip, many renderings. For choosing, never for reporting.
Each finished clip is one line of `strengths.jsonl`, so that an interrupted run goes on where it stopped.
"""

import csv
import dataclasses
import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from finished import Finished
from matplotlib.figure import Figure
from numpy import ndarray
from paired_clips import measure_pair, read_pair
from patients import DEVELOPMENT, clean_clip, clean_lost, development, gains, patient, prior_named

from nuclear_diffusion.files import atomic
from nuclear_diffusion.io import Clip
from nuclear_diffusion.measure.comparison import as_clip
from nuclear_diffusion.measure.style import COLUMN, grid, look_of, png_bytes, styled
from nuclear_diffusion.measure.tables import made_with
from nuclear_diffusion.restore.clip import dehaze_clip
from nuclear_diffusion.restore.methods import Settings
from nuclear_diffusion.restore.render import STRENGTH, limits

STRENGTHS = tuple(k / 10 for k in range(11))

COLUMNS = {
    "gcnr": "gCNR ↑",
    "ks_a": "KS_A ↓",
    "ks_b": "KS_B ↑",
    "psnr": "PSNR gained [dB] ↑",
    "bright_lost": "bright tissue lost ↓",
    "clean_lost": "lost of a clean clip ↓",
    "flicker_b": "flicker ratio, ventricle ↓",
    "flicker_a": "flicker ratio, septum ↓",
}
PAIRED = {
    "psnr": "PSNR gained [dB] ↑",
    "within": "within the clutter [dB] ↑",
    "outside": "outside [dB] ↑",
    "changed": "KS without clutter ↓",
    "flicker": "flicker ratio, still pixels ↓",
    "bright_lost": "bright tissue lost ↓",
}


@dataclasses.dataclass(frozen=True)
class Strengths:
    """Renderings of the default's estimate."""

    spare: tuple[float, ...] = (0.0, 0.03, 0.06, 0.125, 0.2, 0.3, 0.45)
    """Shares of haze below which there is none."""
    width: tuple[float, ...] = (0.2, 0.35, 0.5, 0.7, 1.0)
    """How far above it a share is all haze; at the default strength 0.5."""
    pairs: tuple[Path, ...] = ()
    """Paired clips, see `paired_clips.py`."""
    frames: int = 12
    """Frames a patient, and of each paired clip."""
    share: float = 1.0
    """Of the patients of each kind, at least one."""
    prior: str = "echo"
    """The prior: echo or a file."""
    workers: int = 1
    """Processes that share the clips."""
    output: Path = Path(__file__).parent
    """Folder for the lines, the table, its numbers and the picture."""

    def run(self) -> None:
        points = [(spare, spare + width) for spare, width in itertools.product(self.spare, self.width)]
        sha256 = prior_named(self.prior).sha256
        named = {"prior": self.prior, "sha256": sha256, "limits": [*map(limits, STRENGTHS), *points]}
        abouts = [*development(self.frames, self.share)]
        abouts += [{"kind": "pair", "file": str(path), "frames": self.frames} for path in self.pairs]
        jobs = [about | named for about in abouts]
        names = [strength_name(strength) for strength in STRENGTHS]
        names += [f"spare {spare:g}, clear {clear:g}" for spare, clear in points]
        found = Finished(self.output / "strengths.jsonl").complete(jobs, measure, self.workers)
        lines = [(job, dict(zip(names, scores, strict=True))) for job, scores in zip(jobs, found, strict=True)]
        patients, pairs = ([line for line in lines if (line[0]["kind"] == "pair") == pair] for pair in (False, True))
        self.write_numbers(lines)
        means = averages([scores for _, scores in patients])
        counts = ", ".join(f"{sum(job['kind'] == kind for job, _ in patients)} {kind}" for kind in DEVELOPMENT)
        text = f"""# Strengths

For choosing, not for reporting: development patients ({counts}) of {self.frames} frames, means. A share of haze below
`spare` is taken for none, one above `clear` for all; `strength` is the curve through them that `render` has. PSNR is
that above the hazy clip's, flicker that of the mean of ventricle or septum over the hazy clip's, each a mean over
patients. Bright tissue lost: share of the pixels bright in hazy and clean clip of which less than three quarters is
left, and where the clean clip itself goes in. Made by
`python docs/benchmarks/strengths.py{self.flags()}`
with {made_with()}; prior `{sha256[:16]}`.

{table(means, COLUMNS)}
![gCNR against KS_A](strengths.png)
"""
        if pairs:
            paired = averages([scores for _, scores in pairs])
            text += f"\n## {len(pairs)} paired clips, {self.frames} frames each\n\n{table(paired, PAIRED)}"
        with atomic(self.output / "strengths.md") as temporary:
            temporary.write_text(text, encoding="utf-8")
        with atomic(self.output / "strengths.png") as temporary:
            temporary.write_bytes(png_bytes(draw(means, self.width)))

    def flags(self) -> str:
        """What the command line gave, for the page."""
        changed = [
            f" --{name} {' '.join(f'{value:g}' for value in np.atleast_1d(getattr(self, name)))}"
            for name in ("spare", "width", "frames", "share")
            if getattr(self, name) != getattr(Strengths, name)
        ]
        return "".join(changed) + " --pairs FILE..." * bool(self.pairs) + " --prior FILE" * (self.prior != "echo")

    def write_numbers(self, lines: list[tuple[dict[str, Any], Mapping[str, dict[str, float]]]]) -> None:
        """One line a clip and rendering."""
        columns = COLUMNS | PAIRED
        with (self.output / "strengths.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["kind", "clip", "rendering", *columns])
            for job, scores in lines:
                clip = Path(job["file"]).stem if job["kind"] == "pair" else job["patient"]
                for name, values in scores.items():
                    numbers = (f"{values[column]:.5f}" if column in values else "" for column in columns)
                    writer.writerow([job["kind"], clip, name, *numbers])


def measure(about: dict[str, Any]) -> list[dict[str, float]]:
    """The scores of a clip, rendered with each pair of `limits`."""
    prior = prior_named(about["prior"]).prior

    def share(clip: Clip) -> ndarray:
        return dehaze_clip(clip, Settings(), prior).share

    def pictures(frames: ndarray, share: ndarray) -> list[ndarray]:
        return [frames * (1 - np.clip((share - spare) / (clear - spare), 0, 1)) for spare, clear in about["limits"]]

    if about["kind"] == "pair":
        hazy, clean = read_pair(Path(about["file"]), np.arange(about["frames"]))
        before = measure_pair(hazy.frames, hazy.frames, clean)["psnr"]
        found = [measure_pair(picture, hazy.frames, clean) for picture in pictures(hazy.frames, share(hazy))]
        return [scores | {"psnr": scores["psnr"] - before} for scores in found]
    simulated = patient(about)
    hazy, *scores = gains(simulated, simulated.hazy, *pictures(simulated.hazy, share(as_clip(simulated))))
    of_clean = pictures(simulated.clean, share(clean_clip(simulated)))
    chosen = ("gcnr", "ks_a", "ks_b", "psnr", "bright_lost", "flicker_a", "flicker_b")
    before = {f"{name}_before": hazy[name] for name in ("flicker_a", "flicker_b")}
    return [
        {name: each[name] for name in chosen} | before | {"clean_lost": clean_lost(simulated, clean)}
        for each, clean in zip(scores, of_clean, strict=True)
    ]


def averages(clips: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Rendering -> score -> mean over clips; flicker of patients over that of the hazy clips."""
    means = {}
    for name in clips[0]:
        values = {column: np.array([clip[name][column] for clip in clips]) for column in clips[0][name]}
        means[name] = {c: float(np.nanmean(v)) if np.isfinite(v).any() else math.nan for c, v in values.items()}
        for column in ("flicker_a", "flicker_b"):
            if column in values:
                means[name][column] /= means[name][f"{column}_before"]
    return means


def table(means: dict[str, dict[str, float]], columns: dict[str, str]) -> str:
    lines = [["", *columns.values()], ["---"] * (len(columns) + 1)]
    lines += [[name, *(f"{values[column]:.3f}" for column in columns)] for name, values in means.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def strength_name(strength: float) -> str:
    spare, clear = limits(strength)
    return f"strength {strength:g}: spare {spare:.3f}, clear {clear:.3f}"


def draw(means: dict[str, dict[str, float]], widths: tuple[float, ...]) -> Figure:
    """gCNR against KS_A: a line for each width of the grid, and the curve of `strength`."""
    points = [(values["ks_a"], values["gcnr"]) for values in means.values()]
    curve, rest = np.array(points[: len(STRENGTHS)]), np.array(points[len(STRENGTHS) :])
    with styled():
        figure = Figure(figsize=(1.45 * COLUMN, 3.3))
        axes = figure.subplots()
        for k, width in enumerate(widths):
            tone = str(0.75 - 0.6 * k / max(1, len(widths) - 1))
            axes.plot(*rest[k :: len(widths)].T, ".:", color=tone, label=f"clear = spare + {width:g}")
        look = look_of("nuclear")
        axes.plot(*curve.T, color=look.color, marker=look.marker, label="strength 0, 0.1, ..., 1")
        axes.plot(*curve[[STRENGTHS.index(STRENGTH)]].T, "o", color=look.color, markersize=8, mfc="none")
        grid(axes, "both")
        axes.set(xlabel="KS_A: tissue changed", ylabel="gCNR")
        axes.set_title("↖ better; ringed: the default", loc="left", fontsize=7, color="#555555")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


if __name__ == "__main__":
    tyro.cli(Strengths).run()
