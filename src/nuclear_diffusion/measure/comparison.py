"""The methods side by side on a simulated patient, whose truth is known."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from nuclear_diffusion.io import Clip
from nuclear_diffusion.measure.scores import score
from nuclear_diffusion.restore.clip import Progress, dehaze_clip
from nuclear_diffusion.restore.methods import Aware, Method, Mmse, Nuclear, Rpca
from nuclear_diffusion.restore.run import LoadedPrior
from nuclear_diffusion.simulation import SimulatedClip

TUNED_LAM = 0.35
"""Robust PCA's lambda with the best PSNR on development patients, in units of 1/sqrt(max(n, p))."""

METHODS: dict[str, Method] = {
    "rpca": Rpca(),
    "rpca-tuned": Rpca(lam=TUNED_LAM),
    "mmse": Mmse(),
    "aware": Aware(),
    "nuclear": Nuclear(),
}
"""What is compared, beside the hazy input and the clean clip."""


class Compared(NamedTuple):
    """One method on one patient."""

    method: str
    """`hazy`, `clean`, or one of the methods; `title_of` names each."""
    signal: Float32[ndarray, "frames height width"]
    scores: dict[str, float]
    """`score` plus `seconds`."""


def compare(
    simulated: SimulatedClip,
    loaded: LoadedPrior,
    *,
    methods: dict[str, Method] = METHODS,
    progress: Progress | None = None,
) -> Iterator[Compared]:
    """Hazy input, each of `methods` through the whole pipeline, and the clean clip, one after the other."""
    yield Compared("hazy", simulated.hazy, {**score(simulated, simulated.hazy), "seconds": 0.0})
    for method, settings in methods.items():
        dehazed = dehaze_clip(as_clip(simulated), settings, loaded.prior, progress=progress)
        scores = {**score(simulated, dehazed.signal), "seconds": dehazed.seconds}
        yield Compared(method, dehazed.signal, scores)
    yield Compared("clean", simulated.clean, {**score(simulated, simulated.clean), "seconds": 0.0})


def as_clip(simulated: SimulatedClip) -> Clip:
    """The hazy acquisition as if it had been read from a file that names its region."""
    name = f"simulated-{simulated.view}-{simulated.seed}"
    region = np.asarray(simulated.sector, bool)
    return Clip(simulated.hazy, simulated.fps, color=None, region=region, name=name, source=Path(name))
