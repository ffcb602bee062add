"""The options of the command `train`; imports no JAX."""

import dataclasses
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from nuclear_diffusion.errors import require
from nuclear_diffusion.memory import require_memory
from nuclear_diffusion.options import option, require_positive, require_seed

SIMULATOR = "simulator"  # selects the package's echo simulator instead of a folder

BYTES_PER_PIXEL = 4 * 7
"""Least memory of a pixel of a batch: a clean frame and six planes that the network sees, in float32."""


@dataclasses.dataclass(frozen=True)
class Request:
    """The options of a training run."""

    data: Annotated[Positional[str], option("DATA")]
    """Folder of clean clips or images, or the word 'simulator'."""
    output: Annotated[Path, option("RUN", None, "-o")]
    """Folder of a new run, or of one to resume."""
    blind: bool = False
    """Train an unconditional prior p(X) on clean frames only, as in the paper, for the methods paper, zea and mmse."""
    hazy: Annotated[Path | None, option("DIR", "default: simulated patients only")] = None
    """Your own hazy clips to evaluate the prior on. If they have masks, they also help to choose its weights."""
    masks: Annotated[Path | None, option("DIR", "default: LabelMe JSON files in --hazy")] = None
    """Folder of masks with the frames' file names: PNG (septum 255, ventricle 128) or LabelMe JSON."""
    patients: int = 1500
    """Number of simulated patients (simulator only)."""
    minutes: Annotated[float | None, option("FLOAT", "default: none")] = None
    """Wall-clock budget in minutes."""
    steps: Annotated[int | None, option("INT", "default: 24000, or 2400 from an existing prior")] = None
    """Length of the run in optimiser steps, unless --minutes ends it earlier."""
    batch: int = 5
    """Frames per step."""
    learning_rate: Annotated[
        float | None, option("FLOAT", "default: 0.005; from an existing prior 0.001, or 0.002 with --blind")
    ] = None
    """Peak learning rate."""
    init: Annotated[
        str | None, option("echo|none|PATH", "default: echo; none with --widths, or for the simulator without --blind")
    ] = None
    """Prior to start from; none: random weights."""
    widths: Annotated[tuple[int, ...] | None, option("INT...", "default: 40 64 96 128")] = None
    """Channels of each level of a new network, finest first."""
    size: int = 256
    """Height and width of the training frames in pixels."""
    cache_gb: float = 2.0
    """Limit on the frames cached in RUN during training, in gigabytes."""
    keep_cache: Annotated[bool, option(None, "")] = False
    """Keep the cached frames for another run."""
    seed: int = 0
    """Random seed of the weights, the noise and the haze."""

    @property
    def folder(self) -> Path | None:
        """Folder of the clips; None for the simulator."""
        return None if self.data == SIMULATOR else Path(self.data)

    @property
    def start(self) -> str | None:
        """The prior to start from; None for random weights."""
        afresh = self.widths or (self.folder is None and not self.blind)
        init = self.init or ("none" if afresh else "echo")
        return None if init == "none" else init

    def check(self) -> None:
        """Raise `InputError` for unusable values."""
        require_positive(self, "patients", "size", "steps", "minutes", "batch", "learning_rate", "cache_gb")
        require_seed(self.seed)
        require(self.size >= 16, f"--size must be at least 16, got {self.size}.")
        pixels = self.batch * self.size**2
        require_memory(BYTES_PER_PIXEL * pixels, f"A step with {self.batch} frames", "lower --batch or --size")
        require(min(self.widths or (1,)) > 0, f"--widths must be positive numbers, got {self.widths}.")
        require(
            not self.widths or self.init in (None, "none"),
            "--widths is for a new network, but --init has its own: remove one of them.",
        )
        require(self.masks is None or self.hazy is not None, "--masks needs hazy clips: add --hazy or remove --masks.")
