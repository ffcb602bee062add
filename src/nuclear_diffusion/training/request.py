"""What may be asked of a training run: the options of the command `train`. Light: no JAX."""

import dataclasses
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from nuclear_diffusion.errors import require

SIMULATOR = "simulator"
"""In place of a folder: the package's own echo simulator."""


@dataclasses.dataclass(frozen=True)
class Request:
    """A training run."""

    data: Annotated[
        Positional[str],
        arg(metavar="DATA", help="Folder of clean clips or images, or the word 'simulator'."),
    ]
    output: Annotated[Path, arg(aliases=["-o"], metavar="RUN", help="Folder of the run, new or to be resumed.")]
    blind: Annotated[
        bool,
        arg(
            help="Train p(X) on clean frames alone, as in the paper: a prior for the methods paper, zea and mmse that "
            "knows nothing of haze."
        ),
    ] = False
    hazy: Annotated[
        Path | None,
        arg(
            metavar="DIR",
            help="Hazy clips of your own that the prior is judged on; with --masks they choose its weights too.",
            help_behavior_hint="(default: simulated patients alone)",
        ),
    ] = None
    masks: Annotated[
        Path | None,
        arg(
            metavar="DIR",
            help="Masks named as the frames: PNG, 255 septum and 128 ventricle, or LabelMe JSON.",
            help_behavior_hint="(default: noisy_roi, else beside the frames)",
        ),
    ] = None
    patients: Annotated[int, arg(help="Simulated patients to render (simulator only).")] = 1500
    minutes: Annotated[
        float | None,
        arg(metavar="FLOAT", help="Wall-clock budget.", help_behavior_hint="(default: none)"),
    ] = None
    steps: Annotated[
        int | None,
        arg(
            metavar="INT",
            help="Length of the run in optimiser steps, where the minutes do not end it.",
            help_behavior_hint="(default: 20000, or 4000 where a prior is the start)",
        ),
    ] = None
    batch: Annotated[int, arg(help="Frames a step.")] = 5
    learning_rate: Annotated[
        float | None,
        arg(
            metavar="FLOAT",
            help="Peak learning rate.",
            help_behavior_hint="(default: 0.005, or 0.001 where a prior is the start)",
        ),
    ] = None
    init: Annotated[
        str | None,
        arg(
            metavar="echo|none|PATH",
            help="Prior to start from; none: random weights.",
            help_behavior_hint="(default: echo, but none for the simulator without --blind)",
        ),
    ] = None
    widths: Annotated[
        tuple[int, ...] | None,
        arg(
            metavar="INT...",
            help="Channels of a new network's levels, finest first; a prior to start from has its own.",
            help_behavior_hint="(default: 40 64 96 128)",
        ),
    ] = None
    size: Annotated[int, arg(help="Height and width of the training frames in pixels.")] = 256
    cache_gb: Annotated[float, arg(help="Gigabytes of frames that may be kept in RUN while it trains.")] = 2.0
    keep_cache: Annotated[
        bool, arg(help="Keep these frames at the end, for another run on them.", help_behavior_hint="")
    ] = False
    seed: Annotated[int, arg(help="Random seed of the weights, the noise and the haze.")] = 0

    @property
    def folder(self) -> Path | None:
        """Folder of the clips; None for the simulator's."""
        return None if self.data == SIMULATOR else Path(self.data)

    @property
    def start(self) -> str | None:
        """The prior to start from; None for random weights."""
        afresh = self.widths or (self.folder is None and not self.blind)
        init = self.init or ("none" if afresh else "echo")
        return None if init == "none" else init

    def check(self) -> None:
        """Raise `InputError` for values that cannot be used."""
        for name in ("patients", "size", "steps", "minutes", "batch", "learning_rate", "cache_gb"):
            value = getattr(self, name)
            flag = f"--{name.replace('_', '-')}"
            require(value is None or 0 < value < float("inf"), f"{flag} must be a positive number, got {value}.")
        require(0 <= self.seed < 2**32, f"--seed must be between 0 and 2^32 - 1, got {self.seed}.")
        require(min(self.widths or (1,)) > 0, f"--widths must be positive numbers, got {self.widths}.")
        require(
            not self.widths or self.init in (None, "none"),
            "--widths is for a new network, --init starts from one that has its own: leave out one.",
        )
        require(
            self.masks is None or self.hazy is not None,
            "--masks are those of hazy clips: name their folder with --hazy, or leave it out.",
        )
