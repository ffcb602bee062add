"""Compare the methods on a simulated patient."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from jaxtyping import Float32
from numpy import ndarray

from nuclear_diffusion.measure.candidates import CLEAN, HAZY, METHODS
from nuclear_diffusion.measure.datasets import as_clip
from nuclear_diffusion.measure.scores import score
from nuclear_diffusion.restore.clip import Progress, dehaze_clip
from nuclear_diffusion.restore.methods import Method
from nuclear_diffusion.restore.run import LoadedPrior
from nuclear_diffusion.simulation import SimulatedClip


class Compared(NamedTuple):
    """One method on one patient."""

    method: str
    """`hazy`, `clean`, or one of the methods."""
    signal: Float32[ndarray, "frames height width"]
    scores: dict[str, float]
    """`scores.score`, and `seconds` per frame."""


def compare(
    simulated: SimulatedClip,
    loaded: LoadedPrior,
    *,
    methods: Mapping[str, Method] = METHODS,
    progress: Progress | None = None,
) -> Iterator[Compared]:
    """The hazy input, each of `methods` through the whole pipeline, and the clean clip."""
    yield Compared(HAZY, simulated.hazy, {**score(simulated, simulated.hazy), "seconds": 0.0})
    for before, (name, method) in enumerate(methods.items()):

        def tell(done: int, total: int, before: int = before) -> None:
            if progress is not None:
                progress(before * total + done, len(methods) * total)

        dehazed = dehaze_clip(as_clip(simulated), method, loaded.prior, progress=tell)
        seconds = dehazed.seconds / len(simulated.hazy)
        yield Compared(name, dehazed.signal, {**score(simulated, dehazed.signal), "seconds": seconds})
    yield Compared(CLEAN, simulated.clean, {**score(simulated, simulated.clean), "seconds": 0.0})
