"""Every method on clips with and without clutter, made by others.

Each file is an NPZ with uint8 arrays `cluttered` and `clean`, (frames, height, width). The reported clips are not part
of the project. They are development data: settings were chosen on them too.
"""

import dataclasses
import io
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from numpy import ndarray
from PIL import Image
from tyro.conf import Positional, arg

import nuclear_diffusion as nd
from benchmarks.patients import prior_named
from benchmarks.record import RESULTS, markdown, record_of, save
from nuclear_diffusion.errors import require
from nuclear_diffusion.io import Clip
from nuclear_diffusion.measure.candidates import METHODS
from nuclear_diffusion.measure.scores import still_tissue
from nuclear_diffusion.measure.style import title_of
from nuclear_diffusion.metrics import bright_lost, pixel_flicker
from nuclear_diffusion.priors.protocol import Prior
from nuclear_diffusion.restore.clip import dehaze_clip, rendered

STRENGTHS = (0.3, 0.4, 0.6)
"""Strengths of Nuclear Diffusion besides the default."""

PUBLISHED = {
    "supervised 3-D filter": {"GE": 31.3, "Philips": 36.9, "Siemens": 34.2},
    "supervised 2-D filter": {"GE": 34.1, "Philips": 35.6, "Siemens": 32.0},
}
"""PSNR [dB] of whole frames for the filters of the clips' authors: Tabassian et al., arXiv 2401.13147."""

CLUTTER = 0.05
"""Change of the clean frame above which a pixel counts as clutter, intensity in [0, 1]."""


Files = Annotated[
    Positional[tuple[Path, ...]],
    arg(metavar="FILE...", help="NPZ files with uint8 arrays `cluttered` and `clean`, (frames, height, width)."),
]


@dataclasses.dataclass(frozen=True)
class Paired:
    """Fidelity to the clean clip, flicker and lost tissue of every method on paired clips."""

    files: Files = dataclasses.field(default=(), metadata={"positional": True})
    frames: Annotated[int, arg(help="Frames of each clip, from the first on.")] = 25
    prior: Annotated[str, arg(metavar="echo|PATH", help="The prior.")] = "echo"
    output: Annotated[Path, arg(help="Folder for the table and the picture.")] = RESULTS

    command: ClassVar[str] = "paired"
    name: ClassVar[str] = "paired"
    shows: ClassVar[str] = "The methods on clips with and without clutter, made by others."

    def run(self) -> None:
        """Measure every method on every clip and write the table."""
        require(bool(self.files), "Name at least one file of paired clips.")
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
            decibel[name] = [f"{values[vendor]:.1f}" if vendor in values else "–" for vendor in self.vendors()]
        self.write(decibel, visible, pictures, loaded.sha256)

    def vendors(self) -> list[str]:
        """The vendor that each clip imitates, from the file names."""
        return [path.stem.removeprefix("pairs_") for path in self.files]

    def write(
        self, decibel: dict[str, list[str]], visible: dict[str, list[str]], pictures: list[ndarray], sha256: str
    ) -> None:
        """Write the tables and a picture of the middle frames."""

        def table(cells: dict[str, list[str]]) -> str:
            return markdown(["", *self.vendors()], ([name, *row] for name, row in cells.items()))

        record = record_of(self, {self.prior: sha256})
        page = f"""# Paired clips

First {self.frames} frames of each. The clips are development data: settings were chosen on these tables too.
{record.caption()}

PSNR [dB] against the clean clip: of whole frames / counting only errors inside the clutter / only errors outside.
Clutter is where the clean clip changed by more than {CLUTTER:g}. The last rows are the supervised filters of the clips'
authors (Tabassian et al., arXiv 2401.13147): PSNR of whole frames, which we measured on their published videos, with
the letters in the panels blanked.

{table(decibel)}
Flicker of still tissue (root mean square second difference in time of single pixels) relative to the cluttered clip /
fraction of bright tissue lost / fraction lost when the clean clip itself is the input; lower is better for all three.

{table(visible)}
![Cluttered, clean, Nuclear Diffusion, and its error around grey](paired.png)
"""
        width = max(picture.shape[1] for picture in pictures)
        padded = [np.pad(picture, ((0, 0), (0, width - picture.shape[1]))) for picture in pictures]
        buffer = io.BytesIO()
        Image.fromarray(np.rint(255 * np.vstack(padded)).astype(np.uint8)).save(buffer, "png")
        save(self.output, record, page, buffer.getvalue())


def signals(clip: Clip, prior: Prior) -> dict[str, ndarray]:
    """The output of each method, and of the default at other strengths."""
    found = {}
    for method, settings in METHODS.items():
        dehazed = dehaze_clip(clip, settings, prior)
        found[title_of(method)] = dehazed.signal
        if method == "nuclear":
            for strength in STRENGTHS:
                found[f"{title_of(method)}, strength {strength:g}"] = rendered(clip, dehazed, strength).signal
    return found


def read_pair(path: Path, chosen: ndarray) -> tuple[Clip, ndarray]:
    """The frames `chosen` of the cluttered and the clean clip, as far as they exist."""
    with np.load(path) as arrays:
        chosen = chosen[chosen < len(arrays["clean"])]
        hazy, clean = (arrays[name][chosen].astype(np.float32) / 255 for name in ("cluttered", "clean"))
    return Clip(hazy, 30.0, color=None, region=None, name=path.stem, source=path), clean


def measure_pair(video: ndarray, hazy: ndarray, clean: ndarray) -> dict[str, float]:
    """PSNR of all errors, of those inside and of those outside the clutter; change, flicker and lost tissue."""
    error, clutter = (video - clean) ** 2, np.abs(hazy - clean) > CLUTTER
    within, outside = (float(-10 * np.log10(np.mean(error * where))) for where in (clutter, ~clutter))
    # only where clutter never is, because moving clutter flickers too
    apart = np.asarray(~clutter.any(0) & (clean > 0).any(0))
    still = still_tissue(clean, apart)
    return {
        "psnr": nd.metrics.psnr(clean, video),
        "within": within,
        "outside": outside,
        "changed": nd.metrics.ks(hazy, video, ~clutter & (hazy > 0)),
        "flicker": pixel_flicker(video, still) / pixel_flicker(hazy, still),
        "bright_lost": bright_lost(hazy, video, truth=clean),
    }
