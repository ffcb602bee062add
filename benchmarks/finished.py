"""What a benchmark has measured, so that an interrupted run goes on where it stopped."""

import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from nuclear_diffusion.cli import progress_bar
from nuclear_diffusion.measure.study import code_hash

MEASURED = (
    "types.py",
    "model",
    "inference",
    "learning",
    "simulation",
    "video",
    "pipeline",
    "metrics",
    "measure/scores.py",
    "measure/comparison.py",
)
"""What the numbers follow from, besides settings and weights: all is measured again where it has changed."""


class Finished:
    """One JSON line for each finished piece of work.

    `identity`, anything that JSON can hold, says what was measured; the code that measured it counts as part of it.
    """

    def __init__(self, path: Path):
        self.path = path
        self.found: dict[str, Any] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:  # an empty line, or the one at which a run was killed
                continue
            self.found[entry["identity"]] = entry["scores"]

    def get(self, identity: Any) -> Any | None:
        """What was found, or None."""
        return self.found.get(key(identity))

    def add(self, identity: Any, scores: Any) -> Any:
        """Keep `scores`, and give them back as they will be read again."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"identity": key(identity), "scores": scores})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")  # a new line even after a torn one
        self.found[key(identity)] = json.loads(line)["scores"]
        return self.found[key(identity)]

    def complete(self, identities: Sequence[Any], measure: Callable[[Any], Any], workers: int = 1) -> list[Any]:
        """What was found for each of `identities`; `measure`, a function of a module, finds what is missing."""
        missing = [identity for identity in identities if self.get(identity) is None]
        with progress_bar("clips") as progress:
            progress(0, len(missing))
            for at, scores in enumerate(each(measure, missing, workers)):
                self.add(missing[at], scores)
                progress(at + 1, len(missing))
        return [self.get(identity) for identity in identities]


def each(measure: Callable[[Any], Any], items: Sequence[Any], workers: int) -> Iterator[Any]:
    """`measure` of each item, in order, in so many processes."""
    if workers < 2:
        yield from map(measure, items)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(measure, items)


def key(identity: Any) -> str:
    return json.dumps([identity, code_hash(MEASURED)], sort_keys=True)
