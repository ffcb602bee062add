"""Settings of a training run."""

import dataclasses

from nuclear_diffusion.errors import require
from nuclear_diffusion.priors.unet import UNetConfig


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run: lengths in optimiser steps, noise in display intensity [0, 1].

    - `steps`: length of the run; `minutes`: wall-clock budget. The run ends at whichever comes first, and the learning
      rate follows both.
    - `batch`: frames per step. Before the fraction `halved_until` of the run, steps take four times as many frames at
      half the size.
    - `lr`: peak learning rate, after `warmup` steps, then a cosine down to `final_lr` * `lr`; each of the `cycles` of
      equal length starts again, with half the peak of the one before (warm restarts; Loshchilov, Hutter 2017).
      `clip`: largest gradient norm.
    - `ema`: decay of the weights' moving average, warmed up as (1 + t) / (10 + t).
    - `sigma_min`, `sigma_max`: range of noise levels. E[X | Y] is computed at `sigma_max`, which hides even the
      brightness of a large region (10 does not). ln sigma is normal (`p_mean`, `p_std`), or with probability `tail`
      uniform over the range.
    - `shown`: fraction of the frames whose hazy version the network sees, if trained on pairs.
    - `augment`: flips, gain and gamma, shift and zoom; for pairs also turns, stretches, bends, grey maps, uneven gain,
      smoothing and noise, the same in clean and hazy frames, and more kinds of haze, or none, in the hazy frames.
    - `mixed`: run the network in bfloat16; None: on a GPU only.
    """

    network: UNetConfig = dataclasses.field(default_factory=UNetConfig)
    steps: int = 12_000
    minutes: float | None = None
    batch: int = 5
    halved_until: float = 0.2
    lr: float = 5e-3
    cycles: int = 1
    warmup: int = 200
    final_lr: float = 0.01
    clip: float = 1.0
    ema: float = 0.999
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    p_mean: float = -2.0
    p_std: float = 1.3
    tail: float = 0.2
    shown: float = 0.8
    augment: bool = True
    mixed: bool | None = None
    log_every: int = 20
    validate_every: int = 200
    checkpoint_minutes: float = 5.0

    def __post_init__(self):
        for name in ("steps", "cycles", "batch", "log_every", "validate_every"):
            require(getattr(self, name) >= 1, f"`{name}` must be at least 1, got {getattr(self, name)}.")
        for name in ("lr", "clip", "p_std", "sigma_min"):
            require(getattr(self, name) > 0, f"`{name}` must be positive, got {getattr(self, name)}.")
        for name in ("tail", "shown", "halved_until", "ema"):
            require(0 <= getattr(self, name) <= 1, f"`{name}` must lie in [0, 1], got {getattr(self, name)}.")
        above = f"`sigma_max` must be above {self.sigma_min} (`sigma_min`), got {self.sigma_max}."
        require(self.sigma_min < self.sigma_max, above)
        require(self.minutes is None or self.minutes > 0, f"`minutes` must be positive, got {self.minutes}.")
        require(self.warmup >= 0, f"`warmup` must not be negative, got {self.warmup}.")
