"""Clutter removed against tissue changed, over strengths: `python docs/benchmarks/paired_tradeoff.py FILE...`.

The files are those of `paired_clips.py`. They have no regions of interest, but the truth: where clutter lies, and where
nothing may change. A method is a curve over its strength, as in the trade-off on simulated patients.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import tyro
from matplotlib.figure import Figure
from numpy import ndarray
from paired_clips import CLUTTER, read_pair
from patients import prior_named

import nuclear_diffusion as nd
from nuclear_diffusion.files import atomic
from nuclear_diffusion.io import Clip
from nuclear_diffusion.measure.style import COLUMN, grid, look_of, png_bytes, styled
from nuclear_diffusion.measure.tables import made_with
from nuclear_diffusion.priors.protocol import Prior
from nuclear_diffusion.restore.clip import dehaze_clip, rendered
from nuclear_diffusion.restore.methods import Settings

CURVES: dict[str, list[Settings]] = {
    "rpca": [Settings(method="rpca", lam=lam) for lam in (1.02, 1.1, 1.2, 1.4, 1.8)],
    "mmse": [Settings(method="mmse", sigma=sigma) for sigma in (0.03, 0.1, 0.3)],
    "paper": [Settings(method="paper", steps=25, mu=mu) for mu in (2.0, 20.0)],
    "zea": [Settings(method="zea", steps=25)],
    "nuclear": [Settings(strength=strength) for strength in (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)],
}
"""At 500 steps `paper` and `zea` would take hours here."""

STRENGTH = {"rpca": "lam", "mmse": "sigma", "paper": "mu", "zea": "steps", "nuclear": "strength"}


class Point(NamedTuple):
    """A method at one strength, means over clips."""

    strength: float
    changed: float
    """KS of input and output where there is no clutter, in [0, 1], lower is better."""
    removed: float
    """PSNR [dB] within the clutter, higher is better."""
    psnr: float
    """Of whole frames [dB]."""


@dataclasses.dataclass(frozen=True)
class Tradeoff:
    """Draw and tabulate the curves."""

    files: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILE...")]
    frames: int = 7
    """Frames of each, evenly chosen from the first 25."""
    prior: str = "echo"
    """The prior: echo or a file."""
    output: Path = Path(__file__).parent

    def run(self) -> None:
        loaded = prior_named(self.prior)
        chosen = np.linspace(0, 24, self.frames).round().astype(int)
        clips = [read_pair(path, chosen) for path in self.files]
        curves: dict[str, list[Point]] = {
            "hazy": [mean_point(0, [(clip.frames, clip.frames, clean) for clip, clean in clips])]
        }
        for method, all_settings in CURVES.items():
            found = [signals(clip, all_settings, loaded.prior) for clip, _ in clips]
            for settings, outputs in zip(all_settings, zip(*found, strict=True), strict=True):
                triples = [(output, clip.frames, clean) for output, (clip, clean) in zip(outputs, clips, strict=True)]
                point = mean_point(getattr(settings, STRENGTH[method]), triples)
                curves.setdefault(method, []).append(point)
                print(method, point, flush=True)
        self.write(curves, f"{made_with()}; prior `{loaded.sha256[:16]}`")

    def write(self, curves: Mapping[str, Sequence[Point]], how: str) -> None:
        rows = [
            f"| {look_of(method).title} | {strength:g} | {changed:.3f} | {removed:.2f} | {psnr:.2f} |\n"
            for method, points in curves.items()
            for strength, changed, removed, psnr in points
        ]
        with atomic(self.output / "paired_tradeoff.md") as temporary:
            temporary.write_text(
                f"""# Trade-off on paired clips

KS: change of the intensities where there is no clutter (black left out), lower is better. PSNR within the clutter, and
of whole frames [dB]. Means over {len(self.files)} clips of {self.frames} frames. Clutter is where it changed the clean
clip by more than {CLUTTER:g}. Strength: lambda, sigma, mu or that of the rendering; `paper` and `zea` take 25 steps
instead of 500.

Made by `python docs/benchmarks/paired_tradeoff.py FILE...`
with {how}.

| | strength | KS without clutter | PSNR within | PSNR |
|---|---|---|---|---|
{"".join(rows)}
![PSNR within the clutter against the change without](paired_tradeoff.png)
""",
                encoding="utf-8",
            )
        with atomic(self.output / "paired_tradeoff.png") as temporary:
            temporary.write_bytes(png_bytes(draw(curves)))


def signals(clip: Clip, all_settings: Sequence[Settings], prior: Prior) -> list[ndarray]:
    """What becomes of a clip at each strength; all renderings come from one estimate."""
    if all_settings[0].method != "nuclear":
        return [dehaze_clip(clip, settings, prior).signal for settings in all_settings]
    dehazed = dehaze_clip(clip, Settings(), prior)
    return [rendered(clip, dehazed, settings.strength).signal for settings in all_settings]


def mean_point(strength: float, clips: Sequence[tuple[ndarray, ndarray, ndarray]]) -> Point:
    """The point of several clips, each (output, hazy, clean)."""
    points = []
    for output, hazy, clean in clips:
        clutter = np.abs(hazy - clean) > CLUTTER
        untouched = ~clutter & (hazy > 0)
        error = np.mean((output - clean)[clutter] ** 2)
        points.append((nd.metrics.ks(hazy, output, untouched), -10 * np.log10(error), nd.metrics.psnr(clean, output)))
    return Point(strength, *(float(value) for value in np.mean(points, axis=0)))


def draw(curves: Mapping[str, Sequence[Point]]) -> Figure:
    """A curve for each method."""
    with styled():
        figure = Figure(figsize=(1.45 * COLUMN, 3.3))
        axes = figure.subplots()
        for method, points in curves.items():
            look = look_of(method)
            xs, ys = [point.changed for point in points], [point.removed for point in points]
            axes.plot(xs, ys, color=look.color, linestyle=look.line, marker=look.marker, label=look.title)
        grid(axes, "both")
        axes.set(xlabel="KS where there is no clutter: tissue changed", ylabel="PSNR within the clutter [dB]")
        axes.set_title("↖ better", loc="left", fontsize=7, color="#555555")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


if __name__ == "__main__":
    tyro.cli(Tradeoff).run()
