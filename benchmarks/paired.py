"""Clips with and without clutter: `python docs/benchmarks/paired_clips.py FILE...`.

Each file is an NPZ with uint8 arrays `cluttered` and `clean`, (frames, height, width). The clips that
docs/decisions reports on are not part of the project. They are development material: settings were chosen on them.
"""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import numpy as np
import tyro
from numpy import ndarray
from patients import prior_named
from PIL import Image

import nuclear_diffusion as nd
from nuclear_diffusion.files import atomic
from nuclear_diffusion.io import Clip
from nuclear_diffusion.measure.comparison import METHODS
from nuclear_diffusion.measure.scores import still_tissue
from nuclear_diffusion.measure.style import title_of
from nuclear_diffusion.measure.tables import made_with
from nuclear_diffusion.metrics import bright_lost, pixel_flicker
from nuclear_diffusion.priors.protocol import Prior
from nuclear_diffusion.restore.clip import dehaze_clip, rendered

STRENGTHS = (0.3, 0.4, 0.6)
"""Rendered beside the default."""

PUBLISHED = {
    "supervised 3-D filter": {"GE": 31.3, "Philips": 36.9, "Siemens": 34.2},
    "supervised 2-D filter": {"GE": 34.1, "Philips": 35.6, "Siemens": 32.0},
}
"""PSNR [dB] of whole frames, of the filters of those who made the clips: Tabassian et al., arXiv 2401.13147."""

CLUTTER = 0.05
"""Where clutter changed the clean frame by more than this, intensity in [0, 1], counts as clutter."""


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Fidelity to the clean clip, flicker, and what is lost, of every method on paired clips."""

    files: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILE...")]
    frames: int = 25
    """Frames of each, from the first on."""
    prior: str = "echo"
    """The prior: echo or a file."""
    output: Path = Path(__file__).parent
    """Folder for the table and the picture."""

    def run(self) -> None:
        loaded = prior_named(self.prior)
        decibel: dict[str, list[str]] = {}
        visible: dict[str, list[str]] = {}
        pictures = []
        for path in self.files:
            clip, clean = read_pair(path, np.arange(self.frames))
            found = signals(clip, loaded.prior)
            of_clean = signals(dataclasses.replace(clip, frames=clean), loaded.prior)
            for name, video in {title_of("hazy"): clip.frames, **found}.items():
                scores = measure_pair(video, clip.frames, clean)
                kept = f"{bright_lost(clean, of_clean[name]):.3f}" if name in of_clean else "–"
                cells = [f"{scores[column]:.2f}" for column in ("psnr", "within", "outside")]
                decibel.setdefault(name, []).append(" / ".join(cells))
                cells = [f"{scores[column]:.3f}" for column in ("flicker", "bright_lost")]
                visible.setdefault(name, []).append(" / ".join([*cells, kept]))
                print(path.stem, name, decibel[name][-1], visible[name][-1], flush=True)
            middle, best = len(clean) // 2, found[title_of("nuclear")]
            row = [clip.frames[middle], clean[middle], best[middle], 0.5 + best[middle] - clean[middle]]
            pictures.append(np.hstack([np.clip(part, 0, 1) for part in row]))
        for name, values in PUBLISHED.items():
            decibel[name] = [f"{values[vendor]:.1f}" if vendor in values else "–" for vendor in self.names()]
        self.write(decibel, visible, pictures, f"{made_with()}; prior `{loaded.sha256[:16]}`")

    def names(self) -> list[str]:
        return [path.stem.removeprefix("pairs_") for path in self.files]

    def write(
        self, decibel: dict[str, list[str]], visible: dict[str, list[str]], pictures: list[ndarray], how: str
    ) -> None:
        """The tables, and a picture of the middle frames."""

        def table(cells: dict[str, list[str]]) -> str:
            rows = [
                ["", *self.names()],
                ["---"] * (len(self.files) + 1),
                *([name, *row] for name, row in cells.items()),
            ]
            return "".join(f"| {' | '.join(row)} |\n" for row in rows)

        flags = "" if self.frames == Pairs.frames else f" --frames {self.frames}"
        with atomic(self.output / "paired_clips.md") as temporary:
            temporary.write_text(
                f"""# Paired clips

First {self.frames} frames of each. The clips are development material: settings were chosen with an eye on these
tables. Made by `python docs/benchmarks/paired_clips.py FILE...{flags}{"" if self.prior == "echo" else " --prior FILE"}`
with {how}.

PSNR [dB] against the clean clip: of the whole frames / if only the errors inside the clutter were left / if only those
outside it were. Clutter is where it changed the clean clip by more than {CLUTTER:g}. The last rows are the
supervised filters of those who made the clips (Tabassian et al., arXiv 2401.13147): PSNR of whole frames, measured by
us on the videos that they published, with the letters in the panels blanked.

{table(decibel)}
Flicker of still tissue (root mean square second difference in time of each pixel) over that of the cluttered clip /
share of bright tissue that is lost / that is lost where the clean clip itself goes in; all three are better lower.

{table(visible)}
![Cluttered, clean, Nuclear Diffusion, and its error around grey](paired_clips.png)
""",
                encoding="utf-8",
            )
        width = max(picture.shape[1] for picture in pictures)
        padded = [np.pad(picture, ((0, 0), (0, width - picture.shape[1]))) for picture in pictures]
        with atomic(self.output / "paired_clips.png") as temporary:
            Image.fromarray(np.rint(255 * np.vstack(padded)).astype(np.uint8)).save(temporary)


def signals(clip: Clip, prior: Prior) -> dict[str, ndarray]:
    """What each method makes of a clip; the default's estimate at other strengths too."""
    found = {}
    for method, settings in METHODS.items():
        dehazed = dehaze_clip(clip, settings, prior)
        found[title_of(method)] = dehazed.signal
        if method == "nuclear":
            for strength in STRENGTHS:
                found[f"{title_of(method)}, strength {strength:g}"] = rendered(clip, dehazed, strength).signal
    return found


def read_pair(path: Path, chosen: ndarray) -> tuple[Clip, ndarray]:
    """The cluttered clip and the clean one, their frames `chosen`; of a shorter clip those that it has."""
    with np.load(path) as arrays:
        chosen = chosen[chosen < len(arrays["clean"])]
        hazy, clean = (arrays[name][chosen].astype(np.float32) / 255 for name in ("cluttered", "clean"))
    return Clip(hazy, 30.0, color=None, region=None, name=path.stem, source=path), clean


def measure_pair(video: ndarray, hazy: ndarray, clean: ndarray) -> dict[str, float]:
    """PSNR of the whole, of the clutter's errors alone and of the others alone; what changed, flickers and is lost."""
    error, clutter = (video - clean) ** 2, np.abs(hazy - clean) > CLUTTER
    within, outside = (float(-10 * np.log10(np.mean(error * where))) for where in (clutter, ~clutter))
    # where clutter comes and goes the cluttered clip flickers too: only what it never reaches
    apart = ~clutter.any(0) & (clean > 0).any(0)
    still = still_tissue(SimpleNamespace(clean=clean, sector=apart))
    return {
        "psnr": nd.metrics.psnr(clean, video),
        "within": within,
        "outside": outside,
        "changed": nd.metrics.ks(hazy, video, ~clutter & (hazy > 0)),
        "flicker": pixel_flicker(video, still) / pixel_flicker(hazy, still),
        "bright_lost": bright_lost(hazy, video, truth=clean),
    }


if __name__ == "__main__":
    tyro.cli(Pairs).run()
