"""PSNR on clips with and without clutter: `python docs/benchmarks/paired_clips.py FILE...`.

Each file is an NPZ with uint8 arrays `cluttered` and `clean`, (frames, height, width). The clips that
docs/decisions/0004 reports on are not part of the project.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

import nuclear_diffusion as nd
from nuclear_diffusion.pipeline.core import dehaze_clip
from nuclear_diffusion.pipeline.settings import Settings
from nuclear_diffusion.video import Clip


@dataclasses.dataclass(frozen=True)
class Pairs:
    """PSNR in dB over whole frames against the clean clip, before and after."""

    files: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILE...")]
    frames: int = 25
    """Frames of each, from the first on."""

    def run(self) -> None:
        prior = nd.load_prior("echo")
        for path in self.files:
            with np.load(path) as arrays:
                hazy, clean = (arrays[name][: self.frames].astype(np.float32) / 255 for name in ("cluttered", "clean"))
            clip = Clip(hazy, 30.0, color=None, region=None, name=path.stem, source=path)
            after = {
                name: dehaze_clip(clip, Settings(method=name), prior).signal for name in ("nuclear", "mmse", "rpca")
            }
            values = {"cluttered": hazy, **after}
            print(path.stem, *(f"{name} {nd.metrics.psnr(clean, video):.2f}" for name, video in values.items()))


if __name__ == "__main__":
    tyro.cli(Pairs).run()
