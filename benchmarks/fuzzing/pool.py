"""Children that read damaged files, with limits of time and memory."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.fuzzing.child import READ, REFUSED
from benchmarks.fuzzing.mutations import mutated
from benchmarks.fuzzing.seeds import Seed

GOOD = (READ, REFUSED)

SECONDS = 10.0
"""Longest processor time for one file."""

MEMORY_LIMIT = 2 << 30
"""Most memory that reading a small file may map, bytes."""

ONE_THREAD = {"JAX_PLATFORMS": "cpu", "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Environment of a child: it forks, and each thread would map memory of its own."""


class Found(NamedTuple):
    """What became of one file."""

    number: int
    format: str
    outcome: str
    detail: str
    path: Path | None = None
    """Where an offending file is kept."""


class Child:
    """A process that reads files one after the other."""

    def __init__(self, seconds: float = SECONDS, memory: int = MEMORY_LIMIT):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.fuzzing.child", str(seconds), str(memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, **ONE_THREAD},
        )
        if self._line() != "ready\n":
            raise RuntimeError("a child does not start: run `python -m benchmarks.fuzzing.child 10 0` to see why.")

    def read(self, loader: str, path: Path) -> tuple[str, str]:
        """The outcome and its detail."""
        asked = self._process.stdin
        assert asked is not None
        asked.write(json.dumps([loader, str(path)]) + "\n")
        asked.flush()
        found, detail = json.loads(self._line())
        return found, detail

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def readable(seeds: Sequence[Seed], folder: Path, child: Child) -> dict[Seed, Path]:
    """The seeds that this version reads undamaged, and their files."""
    made = {}
    for number, seed in enumerate(seeds):
        place = folder / f"seed-{number}"
        place.mkdir(parents=True)
        path = seed.make(place)
        if child.read(seed.loader, path)[0] == READ:
            made[seed] = path
    return made


def campaign(
    seeds: Sequence[Seed],
    files: int,
    *,
    seed: int,
    workers: int = 1,
    seconds: float = SECONDS,
    memory: int = MEMORY_LIMIT,
    keep: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Found]:
    """Damage `files` files, the formats in turn, and read each in one of `workers` children.

    File number k depends on `seed` and k only. Offending files are copied into the folder `keep`. Seeds that this
    version does not read are left out.
    """
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        local, children = threading.local(), list[Child]()

        def child() -> Child:
            if not hasattr(local, "child"):
                local.child = spare.pop() if spare else Child(seconds, memory)
                children.append(local.child)
            return local.child

        spare = [Child(seconds, memory)]
        made = list(readable(seeds, folder, spare[0]).items())

        def one(number: int) -> Found:
            each, original = made[number % len(made)]
            place = folder / f"file-{number}"
            path = _damaged(each, original, place, seed, number)
            found, detail = child().read(each.loader, path)
            kept = None
            if found not in GOOD and keep is not None:
                kept = keep / f"{found}-{each.name.replace(', ', '-').replace(' ', '-')}-{number}"
                shutil.copytree(place, kept, dirs_exist_ok=True)
            shutil.rmtree(place, ignore_errors=True)
            return Found(number, each.name, found, detail, kept)

        try:
            with ThreadPoolExecutor(workers) as pool:
                return sorted(_told(pool, one, files, progress))
        finally:
            for each in children:
                each.close()


def _told(
    pool: ThreadPoolExecutor, one: Callable[[int], Found], files: int, progress: Callable[[int, int], None] | None
) -> Iterator[Found]:
    for done, future in enumerate(as_completed([pool.submit(one, number) for number in range(files)]), 1):
        if progress is not None:
            progress(done, files)
        yield future.result()


def _damaged(seed: Seed, original: Path, place: Path, base: int, number: int) -> Path:
    """A copy of a seed with one damaged file, in the folder `place`; returns the path for the loader."""
    shutil.copytree(original.parent, place)
    path = place / original.name
    hit = seed.hit(path)
    content = hit.read_bytes()
    hit.write_bytes(mutated(content, content, np.random.default_rng([base, number])))
    return path
