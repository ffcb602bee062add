"""Clutter removed against tissue changed, over strengths, on the clips of the table `paired`.

The clips have no regions of interest; the truth defines where clutter is, and where nothing should change. Each method
is a curve over its strength.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy import ndarray
from tyro.conf import arg

import nuclear_diffusion as nd
from benchmarks.paired import CLUTTER, Files, read_pair
from benchmarks.patients import prior_named
from benchmarks.record import RESULTS, markdown, record_of, save
from nuclear_diffusion.errors import require
from nuclear_diffusion.io import Clip
from nuclear_diffusion.measure.style import COLUMN, as_bytes, grid, look_of, styled
from nuclear_diffusion.priors.protocol import Prior
from nuclear_diffusion.restore.clip import dehaze_clip, rendered
from nuclear_diffusion.restore.methods import Method, Mmse, Nuclear, Paper, Rpca, Zea

CURVES: dict[str, Sequence[Method]] = {
    "rpca": [Rpca(lam=lam) for lam in (1.02, 1.1, 1.2, 1.4, 1.8)],
    "mmse": [Mmse(sigma=sigma) for sigma in (0.03, 0.1, 0.3)],
    "paper": [Paper(steps=25, mu=mu) for mu in (2.0, 20.0)],
    "zea": [Zea(steps=25)],
    "nuclear": [Nuclear(strength=strength) for strength in (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)],
}
"""`paper` and `zea` with 25 steps, because 500 would take hours on two CPU cores."""

STRENGTH = {"rpca": "lam", "mmse": "sigma", "paper": "mu", "zea": "steps", "nuclear": "strength"}
"""The setting that is each method's strength."""


class Point(NamedTuple):
    """A method at one strength, means over clips."""

    strength: float
    changed: float
    """KS of input and output where there is no clutter, in [0, 1], lower is better."""
    removed: float
    """PSNR [dB] within the clutter, higher is better."""
    psnr: float
    """PSNR of whole frames [dB]."""


@dataclasses.dataclass(frozen=True)
class Tradeoff:
    """The curves as a figure and a table."""

    files: Files = dataclasses.field(default=(), metadata={"positional": True})
    frames: Annotated[int, arg(help="Frames of each clip, evenly spaced in the first 25.")] = 7
    prior: Annotated[str, arg(metavar="echo|PATH", help="The prior.")] = "echo"
    output: Annotated[Path, arg(help="Folder for the table and the picture.")] = RESULTS

    command: ClassVar[str] = "paired-tradeoff"
    name: ClassVar[str] = "paired-tradeoff"
    shows: ClassVar[str] = "Clutter removed against tissue changed on the paired clips, each method over its strength."

    def run(self) -> None:
        """Measure every method at every strength and write the table."""
        require(bool(self.files), "Name at least one file of paired clips.")
        loaded = prior_named(self.prior)
        chosen = np.linspace(0, 24, self.frames).round().astype(int)
        clips = [read_pair(path, chosen) for path in self.files]
        curves: dict[str, list[Point]] = {
            "hazy": [mean_point(0, [(clip.frames, clip.frames, clean) for clip, clean in clips])]
        }
        for name, methods in CURVES.items():
            found = [signals(clip, methods, loaded.prior) for clip, _ in clips]
            for method, outputs in zip(methods, zip(*found, strict=True), strict=True):
                triples = [(output, clip.frames, clean) for output, (clip, clean) in zip(outputs, clips, strict=True)]
                point = mean_point(getattr(method, STRENGTH[name]), triples)
                curves.setdefault(name, []).append(point)
                print(name, point, flush=True)
        self.write(curves, loaded.sha256)

    def write(self, curves: Mapping[str, Sequence[Point]], sha256: str) -> None:
        """Write the table and the picture."""
        rows = (
            [look_of(method).title, f"{strength:g}", f"{changed:.3f}", f"{removed:.2f}", f"{psnr:.2f}"]
            for method, points in curves.items()
            for strength, changed, removed, psnr in points
        )
        record = record_of(self, {self.prior: sha256})
        page = f"""# Trade-off on paired clips

KS: change of the intensities outside the clutter (without black), lower is better. PSNR within the clutter, and of
whole frames [dB]. Means over {len(self.files)} clips of {self.frames} frames. Clutter is where the clean clip changed
by more than {CLUTTER:g}. Strength: lambda, sigma, mu or that of the rendering; `paper` and `zea` take 25 steps instead
of 500.
{record.caption()}

{markdown(["", "strength", "KS without clutter", "PSNR within", "PSNR"], rows)}
![PSNR within the clutter against the change without](paired-tradeoff.png)
"""
        save(self.output, record, page, as_bytes(draw(curves), "png"))


def signals(clip: Clip, methods: Sequence[Method], prior: Prior) -> list[ndarray]:
    """The output at each strength; all renderings are from one estimate."""
    strengths = [method.strength for method in methods if isinstance(method, Nuclear)]
    if not strengths:
        return [dehaze_clip(clip, method, prior).signal for method in methods]
    dehazed = dehaze_clip(clip, Nuclear(), prior)
    return [rendered(clip, dehazed, strength).signal for strength in strengths]


def mean_point(strength: float, clips: Sequence[tuple[ndarray, ndarray, ndarray]]) -> Point:
    """The mean over clips, each (output, hazy, clean)."""
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
