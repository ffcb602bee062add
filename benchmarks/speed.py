"""Speed and memory of `dehaze` against an earlier commit.

Whole commands on simulated clips, start and files included. Both versions take turns, so that other load on the machine
affects them alike.
"""

import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from tyro.conf import Positional, arg

from benchmarks.record import RESULTS, markdown, record_of, save
from nuclear_diffusion.reporting import progress_bar
from nuclear_diffusion.simulation import simulate

HERE = Path(__file__).parents[1]

MEASURES = ("seconds", "CPU seconds", "peak memory, MB")


@dataclasses.dataclass(frozen=True)
class Speed:
    """Time and memory of `dehaze` on ordinary clips, against an earlier commit."""

    commit: Annotated[Positional[str], arg(metavar="COMMIT", help="The earlier commit.")] = dataclasses.field(
        default="", metadata={"positional": True}
    )
    lengths: Annotated[tuple[int, ...], arg(help="Frames of the clips.")] = (60, 120)
    size: Annotated[int, arg(help="Height and width of a frame in pixels.")] = 256
    rounds: Annotated[int, arg(help="Runs of each version on each clip.")] = 5
    arguments: Annotated[str, arg(help="Arguments of `dehaze`.")] = ""
    output: Annotated[Path, arg(help="Folder for the table.")] = RESULTS

    command: ClassVar[str] = "speed"
    name: ClassVar[str] = "speed"
    shows: ClassVar[str] = "Time and memory of `dehaze` on ordinary clips, against an earlier commit."

    def run(self) -> None:
        """Measure both versions in turn and write the table."""
        with tempfile.TemporaryDirectory() as name, progress_bar("measuring") as progress:
            folder = Path(name)
            earlier = folder / "earlier"
            git = ["git", "-C", str(HERE), "worktree"]
            subprocess.run([*git, "add", "--quiet", "--detach", str(earlier), self.commit], check=True)
            try:
                found = self.measured(folder, earlier, progress)
            finally:
                subprocess.run([*git, "remove", "--force", str(earlier)], check=True)
        self.write(found)

    def measured(self, folder: Path, earlier: Path, progress) -> dict[int, list[tuple[Sequence[float], ...]]]:
        """What each round measured of the earlier and of this version, by the number of frames."""
        clips = {length: folder / f"{length}.npz" for length in self.lengths}
        for length, path in clips.items():
            frames = simulate(seed=0, frames=length, size=self.size).hazy
            np.savez(path, frames=np.rint(255 * frames).astype(np.uint8), fps=50.0)
        found: dict[int, list[tuple[Sequence[float], ...]]] = {length: [] for length in self.lengths}
        for number in range(self.rounds):
            for length, path in clips.items():
                found[length].append(tuple(self.one(tree, path, folder / "out") for tree in (earlier, HERE)))
            progress(number + 1, self.rounds)
        return found

    def one(self, tree: Path, clip: Path, output: Path) -> tuple[float, float, float]:
        """Seconds, CPU seconds and peak memory in MB of one run by the code in `tree`."""
        call = [sys.executable, "-m", "nuclear_diffusion", "dehaze", str(clip), "-o", str(output), "--overwrite"]
        environment = os.environ | {"PYTHONPATH": str(tree / "src")}
        begin = time.perf_counter()
        process = subprocess.Popen(
            [*call, *self.arguments.split()], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise RuntimeError(f"{' '.join(call)} failed in {tree}: run it to see why.")
        return time.perf_counter() - begin, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024

    def write(self, found: dict[int, list[tuple[Sequence[float], ...]]]) -> None:
        """The table."""
        rows = []
        for length, rounds in found.items():
            for which, name in enumerate(MEASURES):
                before, after = ([each[version][which] for each in rounds] for version in (0, 1))
                ratios = [new / old for old, new in zip(before, after, strict=True)]
                spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
                numbers = [f"{statistics.median(values):.0f}" for values in (before, after)]
                rows.append([f"{length}", name, *numbers, spread])
        record = record_of(self, {})
        page = f"""# Speed against an earlier commit

`dehaze` on simulated clips of {self.size} × {self.size} pixels, start-up and writing included, with the code of commit
`{self.commit}` and with the current code in turn: medians of {self.rounds} runs; median and range of the ratios.
{record.caption()}

{markdown(["frames", "", "earlier", "now", "now / earlier"], rows)}"""
        save(self.output, record, page)
