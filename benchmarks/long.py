"""Memory and time of recordings of any length.

Each recording is made frame by frame while it is decoded, so that its own size does not count, and is dehazed into a
result folder by a process of its own, whose peak memory the system tells. The stand-in prior keeps a fixed fraction of
every pixel: it takes no time, so that long recordings can be measured; windows, completion, rendering and files are
those of the default method.
"""

import dataclasses
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar

import equinox as eqx
import jax
import numpy as np
from tyro.conf import arg

from benchmarks.record import RESULTS, markdown, record_of, save
from nuclear_diffusion.io import Clip
from nuclear_diffusion.io.recording import Recording
from nuclear_diffusion.priors.checkpoint import load_prior, prior_hash
from nuclear_diffusion.restore.clip import dehaze_recording
from nuclear_diffusion.restore.folder import About, write_result
from nuclear_diffusion.restore.frames import survey
from nuclear_diffusion.restore.methods import Nuclear

STAND_IN = "stand-in"


class Given(eqx.Module):
    """p(X | Y) of the stand-in."""

    observed: jax.Array

    def mean(self) -> jax.Array:
        """Three fifths of every pixel."""
        return 0.6 * self.observed


class StandIn(eqx.Module):
    """A prior without a network."""

    sigma_min: float = eqx.field(static=True, default=0.01)
    sigma_max: float = eqx.field(static=True, default=7.0)
    haze_aware: bool = eqx.field(static=True, default=True)

    def denoise(self, x: jax.Array, sigma: float | jax.Array) -> jax.Array:
        """Three fifths of every pixel."""
        return 0.6 * x

    def given(self, observed: jax.Array) -> Given:
        """p(X | Y)."""
        return Given(observed)


def recording(frames: int, height: int, width: int) -> Recording:
    """Speckle in a sector that moves under haze that drifts, made while it is decoded."""
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:height, :width]
    sector = (np.abs(column - width / 2) < 0.6 * row) & (np.hypot(row, column - width / 2) < 0.95 * height)
    speckle = np.clip(rng.rayleigh(0.15, (height, width)), 0, 0.7).astype(np.float32)
    haze = (0.2 * np.exp(-row / (0.3 * height))).astype(np.float32)

    def frame(number: int) -> np.ndarray:
        echo = np.roll(speckle, round(height / 50 * np.sin(number / 5)), axis=0)
        return (echo + haze * np.float32(1 + 0.3 * np.sin(number / 40))) * sector

    def decode(length: int) -> Iterator[Clip]:
        for start in range(0, frames, length):
            block = np.stack([frame(number) for number in range(start, min(start + length, frames))])
            yield Clip(np.clip(block, 0, 1), 50.0, None, None, "loop", Path("loop"))

    return Recording((frames, height, width), 50.0, False, None, "loop", Path("loop"), decode)


def measure(frames: int, height: int, width: int, prior: str) -> dict[str, float]:
    """Seconds to the first finished frames and to the result, and peak memory in MB, of this process."""
    loaded = StandIn() if prior == STAND_IN else load_prior(prior)
    begin = time.perf_counter()
    clip = recording(frames, height, width)
    seen = survey(clip)
    first = 0.0

    def pieces():
        nonlocal first
        for piece in dehaze_recording(clip, seen, Nuclear(), loaded):
            first = first or time.perf_counter() - begin
            yield piece

    with tempfile.TemporaryDirectory() as folder:
        write_result(Path(folder), clip, pieces(), About(Nuclear(), None, seen.sha256))
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"first": first, "seconds": time.perf_counter() - begin, "peak": peak, "result": size / 1e6}


@dataclasses.dataclass(frozen=True)
class Long:
    """Peak memory and time of recordings of several lengths."""

    lengths: Annotated[tuple[int, ...], arg(help="Frames of the recordings.")] = (300, 10_000)
    size: Annotated[tuple[int, int], arg(help="Height and width of a frame in pixels.")] = (256, 256)
    large: Annotated[int, arg(help="Frames of a recording of 2160 x 3840 pixels; 0: none.")] = 16
    prior: Annotated[str, arg(metavar="echo|PATH", help="The prior of the shortest and of the large recording.")] = (
        "echo"
    )
    output: Annotated[Path, arg(help="Folder for the table.")] = RESULTS

    command: ClassVar[str] = "long"
    name: ClassVar[str] = "long"
    shows: ClassVar[str] = "Peak memory and time of long recordings and of 4K frames."

    def run(self) -> None:
        """Measure each recording in a process of its own and write the table."""
        jobs = [(STAND_IN, (length, *self.size)) for length in self.lengths]
        jobs += [(self.prior, (min(self.lengths), *self.size))]
        jobs += [(self.prior, (self.large, 2160, 3840))] * (self.large > 0)
        rows = []
        for prior, shape in jobs:
            call = [sys.executable, "-m", "benchmarks.long", *map(str, shape), prior]
            found = json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
            print(prior, shape, found, flush=True)
            frames, height, width = shape
            rows.append(
                [
                    prior,
                    f"{frames:,}",
                    f"{height} × {width}",
                    f"{found['peak']:,.0f}",
                    f"{found['first']:.1f}",
                    f"{1000 * found['seconds'] / frames:.0f}",
                    f"{found['result'] / frames:.2f}",
                ]
            )
        record = record_of(self, {self.prior: prior_hash(load_prior(self.prior))})
        head = [
            "prior",
            "frames",
            "pixels",
            "peak memory, MB",
            "first frames after, s",
            "ms a frame",
            "result, MB a frame",
        ]
        page = f"""# Long recordings

The default method on a recording that is simulated while it is read, from opening it to the finished result folder,
each in a process of its own. The stand-in prior takes no time, which shows the cost of everything else.
{record.caption()}

{markdown(head, rows)}"""
        save(self.output, record, page)


if __name__ == "__main__":
    *numbers, chosen = sys.argv[1:]
    print(json.dumps(measure(int(numbers[0]), int(numbers[1]), int(numbers[2]), chosen)))
