"""Thresholds of the rendering: a grid of `render`'s limits, and the curve of `strength` through it.

On development patients of every kind and on given paired clips: one estimate per clip, many renderings. For choosing,
not for reporting.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from matplotlib.figure import Figure
from numpy import ndarray
from tyro.conf import arg

from benchmarks.finished import completed
from benchmarks.paired import measure_pair, read_pair
from benchmarks.patients import (
    KIND_NAMES,
    KindName,
    clean_clip,
    clean_lost,
    counted,
    development,
    gains,
    patient,
    prior_named,
)
from benchmarks.record import RESULTS, markdown, record_of, save, save_numbers
from nuclear_diffusion.io import Clip
from nuclear_diffusion.measure.datasets import as_clip
from nuclear_diffusion.measure.style import COLUMN, as_bytes, grid, look_of, styled
from nuclear_diffusion.restore.clip import dehaze_clip
from nuclear_diffusion.restore.methods import Nuclear
from nuclear_diffusion.restore.render import STRENGTH, limits

STRENGTHS = tuple(k / 10 for k in range(11))
"""Strengths that are rendered."""

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

    spare: Annotated[tuple[float, ...], arg(help="Haze fractions up to which a pixel is kept.")] = (
        0.0,
        0.03,
        0.06,
        0.125,
        0.2,
        0.3,
        0.45,
    )
    width: Annotated[tuple[float, ...], arg(help="Distances above `spare` from which a pixel is removed.")] = (
        0.2,
        0.35,
        0.5,
        0.7,
        1.0,
    )
    pairs: Annotated[tuple[Path, ...], arg(metavar="FILE...", help="Paired clips too; see the table `paired`.")] = ()
    kinds: Annotated[tuple[KindName, ...], arg(help="Kinds of development patients.")] = KIND_NAMES
    frames: Annotated[int, arg(help="Frames of each patient and of each paired clip.")] = 12
    share: Annotated[float, arg(help="Fraction of the patients of each kind, at least one.")] = 1.0
    prior: Annotated[str, arg(metavar="echo|PATH", help="The prior.")] = "echo"
    workers: Annotated[int, arg(help="Worker processes.")] = 1
    output: Annotated[Path, arg(help="Folder for the table, its numbers, its picture and the finished clips.")] = (
        RESULTS
    )

    command: ClassVar[str] = "strengths"
    name: ClassVar[str] = "strengths"
    shows: ClassVar[str] = "Nuclear Diffusion at many strengths and limits of rendering, on development patients."

    def run(self) -> None:
        """Measure the clips that are missing and write the table."""
        points = [(spare, spare + width) for spare, width in itertools.product(self.spare, self.width)]
        sha256 = prior_named(self.prior).sha256
        shared = {"sha256": sha256, "limits": [*map(limits, STRENGTHS), *points]}
        abouts = development(self.frames, self.share, self.kinds)
        abouts += [{"kind": "pair", "file": str(path), "frames": self.frames} for path in self.pairs]
        jobs = [about | shared for about in abouts]
        names = [strength_name(strength) for strength in STRENGTHS]
        names += [f"spare {spare:g}, clear {clear:g}" for spare, clear in points]
        measured = functools.partial(measure, prior=self.prior)
        found = completed(self.output / "finished" / "strengths", jobs, measured, self.workers)
        lines = [(job, dict(zip(names, scores, strict=True))) for job, scores in zip(jobs, found, strict=True)]
        patients, pairs = ([line for line in lines if (line[0]["kind"] == "pair") == pair] for pair in (False, True))
        self.write_numbers(lines)
        means = averages([scores for _, scores in patients])
        record = record_of(self, {self.prior: sha256})
        page = f"""# Strengths

For choosing, not for reporting: means over development patients ({counted([job for job, _ in patients])}) of
{self.frames} frames. A pixel is kept if its haze fraction is below `spare`, and removed above `clear`; `strength` sets
both as in `render`. PSNR is the gain over the hazy clip; flicker is that of the mean of ventricle or septum over the
hazy clip's, each a mean over patients. Bright tissue lost: fraction of the pixels bright in the hazy and in the clean
clip that keep less than three quarters of their brightness, and the same when the clean clip itself is the input.
{record.caption()}

{table(means, COLUMNS)}
![gCNR against KS_A](strengths.png)
"""
        if pairs:
            paired = averages([scores for _, scores in pairs])
            page += f"\n## {len(pairs)} paired clips, {self.frames} frames each\n\n{table(paired, PAIRED)}"
        save(self.output, record, page, as_bytes(draw(means, self.width), "png"))

    def write_numbers(self, lines: Sequence[tuple[dict[str, Any], Mapping[str, dict[str, float]]]]) -> None:
        """One row per clip and rendering."""
        columns = COLUMNS | PAIRED
        save_numbers(
            self.output / "strengths.csv",
            ["kind", "clip", "rendering", *columns],
            (
                [
                    job["kind"],
                    Path(job["file"]).stem if job["kind"] == "pair" else job["patient"],
                    name,
                    *(values.get(column, "") for column in columns),
                ]
                for job, scores in lines
                for name, values in scores.items()
            ),
        )


def measure(about: dict[str, Any], prior: str) -> list[dict[str, float]]:
    """The scores of a clip, rendered with each pair of `limits`."""
    loaded = prior_named(prior).prior

    def share(clip: Clip) -> ndarray:
        found = dehaze_clip(clip, Nuclear(), loaded).share
        assert found is not None
        return found

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
    """Rendering -> score -> mean over clips; for patients, the flicker is relative to the hazy clips'."""
    means = {}
    for name in clips[0]:
        values = {column: np.array([clip[name][column] for clip in clips]) for column in clips[0][name]}
        means[name] = {c: float(np.nanmean(v)) if np.isfinite(v).any() else math.nan for c, v in values.items()}
        for column in ("flicker_a", "flicker_b"):
            if column in values:
                means[name][column] /= means[name][f"{column}_before"]
    return means


def table(means: dict[str, dict[str, float]], columns: dict[str, str]) -> str:
    """One row per rendering."""
    rows = ([name, *(f"{values[column]:.3f}" for column in columns)] for name, values in means.items())
    return markdown(["", *columns.values()], rows)


def strength_name(strength: float) -> str:
    """A strength and its limits."""
    spare, clear = limits(strength)
    return f"strength {strength:g}: spare {spare:.3f}, clear {clear:.3f}"


def draw(means: dict[str, dict[str, float]], widths: tuple[float, ...]) -> Figure:
    """The gCNR against KS_A: a line per width of the grid, and the curve of `strength`."""
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
