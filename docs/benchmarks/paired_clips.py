"""PSNR on clips with and without clutter: `python docs/benchmarks/paired_clips.py FILE...`.

Each file is an NPZ with uint8 arrays `cluttered` and `clean`, (frames, height, width). The clips that
docs/decisions reports on are not part of the project. They are development material: settings were chosen on them.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import imageio.v3 as iio
import numpy as np
import tyro
from numpy import ndarray

import nuclear_diffusion as nd
from nuclear_diffusion.evaluation.tables import made_with
from nuclear_diffusion.files import atomic
from nuclear_diffusion.pipeline.core import dehaze_clip
from nuclear_diffusion.pipeline.run import prior_of
from nuclear_diffusion.pipeline.settings import Settings
from nuclear_diffusion.video import Clip

METHODS = {
    "robust PCA": Settings(method="rpca"),
    "one blind pass": Settings(method="mmse"),
    "Nuclear Diffusion": Settings(),
    **{f"Nuclear Diffusion, {steps} steps": Settings(steps=steps) for steps in (1, 2, 4, 12)},
    **{f"Nuclear Diffusion, mu = {mu:g}": Settings(mu=mu) for mu in (1.0, 10.0)},
    **{f"Nuclear Diffusion, detail {share:g}": Settings(detail=share) for share in (0.0, 1.0)},
}

CLUTTER = 0.05
"""Where clutter changed the clean frame by more than this, intensity in [0, 1], counts as clutter."""


@dataclasses.dataclass(frozen=True)
class Pairs:
    """PSNR in dB over whole frames against the clean clip, and of the errors inside and outside the clutter alone."""

    files: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILE...")]
    frames: int = 25
    """Frames of each, from the first on."""
    prior: str = "echo"
    """The prior: echo or a file."""
    output: Path = Path(__file__).parent
    """Folder for the table and the picture."""

    def run(self) -> None:
        loaded = prior_of(Settings(prior=self.prior))
        table: dict[str, list[str]] = {}
        pictures = []
        for path in self.files:
            clip, clean = read_pair(path, np.arange(self.frames))
            hazy = clip.frames
            found = {name: dehaze_clip(clip, settings, loaded.prior).signal for name, settings in METHODS.items()}
            for name, video in {"cluttered": hazy, **found}.items():
                cell = " / ".join(f"{value:.2f}" for value in decibels(video, hazy, clean))
                table.setdefault(name, []).append(cell)
                print(path.stem, name, cell, flush=True)
            middle, best = len(hazy) // 2, found["Nuclear Diffusion"]
            row = [hazy[middle], clean[middle], best[middle], 0.5 + best[middle] - clean[middle]]
            pictures.append(np.hstack([np.clip(part, 0, 1) for part in row]))
        self.write(table, pictures, f"{made_with()}; prior `{loaded.sha256[:16]}`")

    def write(self, table: dict[str, list[str]], pictures: list[ndarray], how: str) -> None:
        """The table, and a picture of the middle frames."""
        titles = ["", *(path.stem.removeprefix("pairs_") for path in self.files)]
        rows = [titles, ["---"] * len(titles), *([name, *cells] for name, cells in table.items())]
        lines = "".join(f"| {' | '.join(row)} |\n" for row in rows)
        with atomic(self.output / "paired_clips.md") as temporary:
            temporary.write_text(
                f"""# Paired clips

PSNR [dB] against the clean clip, first {self.frames} frames: of the whole frames / if only the errors inside the
clutter were left / if only those outside it were. Clutter is where it changed the clean clip by more than {CLUTTER:g}.
The clips are development material: the default's settings were chosen with an eye on this table.

Made by `python docs/benchmarks/paired_clips.py FILE...`
with {how}.

{lines}
![Cluttered, clean, Nuclear Diffusion, and its error around grey](paired_clips.png)
""",
                encoding="utf-8",
            )
        width = max(picture.shape[1] for picture in pictures)
        padded = [np.pad(picture, ((0, 0), (0, width - picture.shape[1]))) for picture in pictures]
        with atomic(self.output / "paired_clips.png") as temporary:
            iio.imwrite(temporary, np.rint(255 * np.vstack(padded)).astype(np.uint8), extension=".png")


def read_pair(path: Path, chosen: ndarray) -> tuple[Clip, ndarray]:
    """The cluttered clip and the clean one, their frames `chosen`; of a shorter clip those that it has."""
    with np.load(path) as arrays:
        chosen = chosen[chosen < len(arrays["clean"])]
        hazy, clean = (arrays[name][chosen].astype(np.float32) / 255 for name in ("cluttered", "clean"))
    return Clip(hazy, 30.0, color=None, region=None, name=path.stem, source=path), clean


def decibels(video: ndarray, hazy: ndarray, clean: ndarray) -> tuple[float, float, float]:
    """PSNR of the whole, of the clutter's errors alone, and of the others alone."""
    error, clutter = (video - clean) ** 2, np.abs(hazy - clean) > CLUTTER
    alone = (-10 * np.log10(np.mean(error * where)) for where in (clutter, ~clutter))
    return (nd.metrics.psnr(clean, video), *(float(value) for value in alone))


if __name__ == "__main__":
    tyro.cli(Pairs).run()
