"""The options of the command `train`; imports no JAX."""

import dataclasses
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from nuclear_diffusion.errors import require
from nuclear_diffusion.memory import require_memory

SIMULATOR = "simulator"
"""Selects the package's echo simulator instead of a folder."""


BYTES_PER_PIXEL = 4 * 7
"""Least memory of a pixel of a batch: a clean frame and six planes that the network sees, in float32."""


@dataclasses.dataclass(frozen=True)
class Request:
    """The options of a training run."""

    data: Annotated[
        Positional[str],
        arg(metavar="DATA", help="Folder of clean clips or images, or the word 'simulator'."),
    ]
    output: Annotated[Path, arg(aliases=["-o"], metavar="RUN", help="Folder of a new run, or of one to resume.")]
    blind: Annotated[
        bool,
        arg(
            help="Train an unconditional prior p(X) on clean frames only, as in the paper, for the methods paper, zea "
            "and mmse."
        ),
    ] = False
    hazy: Annotated[
        Path | None,
        arg(
            metavar="DIR",
            help="Your own hazy clips to evaluate the prior on. If they have masks, they also help to choose its "
            "weights.",
            help_behavior_hint="(default: simulated patients only)",
        ),
    ] = None
    masks: Annotated[
        Path | None,
        arg(
            metavar="DIR",
            help="Folder of masks with the frames' file names: PNG (septum 255, ventricle 128) or LabelMe JSON.",
            help_behavior_hint="(default: LabelMe JSON files in --hazy)",
        ),
    ] = None
    patients: Annotated[int, arg(help="Number of simulated patients (simulator only).")] = 1500
    minutes: Annotated[
        float | None,
        arg(metavar="FLOAT", help="Wall-clock budget in minutes.", help_behavior_hint="(default: none)"),
    ] = None
    steps: Annotated[
        int | None,
        arg(
            metavar="INT",
            help="Length of the run in optimiser steps, unless --minutes ends it earlier.",
            help_behavior_hint="(default: 20000, or 2400 from an existing prior)",
        ),
    ] = None
    batch: Annotated[int, arg(help="Frames per step.")] = 5
    learning_rate: Annotated[
        float | None,
        arg(
            metavar="FLOAT",
            help="Peak learning rate.",
            help_behavior_hint="(default: 0.005; from an existing prior 0.001, or 0.002 with --blind)",
        ),
    ] = None
    init: Annotated[
        str | None,
        arg(
            metavar="echo|none|PATH",
            help="Prior to start from; none: random weights.",
            help_behavior_hint="(default: echo; none with --widths, or for the simulator without --blind)",
        ),
    ] = None
    widths: Annotated[
        tuple[int, ...] | None,
        arg(
            metavar="INT...",
            help="Channels of each level of a new network, finest first.",
            help_behavior_hint="(default: 40 64 96 128)",
        ),
    ] = None
    size: Annotated[int, arg(help="Height and width of the training frames in pixels.")] = 256
    cache_gb: Annotated[float, arg(help="Limit on the frames cached in RUN during training, in gigabytes.")] = 2.0
    keep_cache: Annotated[bool, arg(help="Keep the cached frames for another run.", help_behavior_hint="")] = False
    seed: Annotated[int, arg(help="Random seed of the weights, the noise and the haze.")] = 0

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
        for name in ("patients", "size", "steps", "minutes", "batch", "learning_rate", "cache_gb"):
            value = getattr(self, name)
            flag = f"--{name.replace('_', '-')}"
            require(value is None or 0 < value < float("inf"), f"{flag} must be a positive number, got {value}.")
        require(0 <= self.seed < 2**32, f"--seed must be between 0 and 2^32 - 1, got {self.seed}.")
        require(self.size >= 16, f"--size must be at least 16, got {self.size}.")
        pixels = self.batch * self.size**2
        require_memory(BYTES_PER_PIXEL * pixels, f"A step with {self.batch} frames", "lower --batch or --size")
        require(min(self.widths or (1,)) > 0, f"--widths must be positive numbers, got {self.widths}.")
        require(
            not self.widths or self.init in (None, "none"),
            "--widths is for a new network, but --init has its own: remove one of them.",
        )
        require(
            self.masks is None or self.hazy is not None,
            "--masks needs hazy clips: add --hazy or remove --masks.",
        )
