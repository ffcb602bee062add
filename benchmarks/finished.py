"""What a benchmark has measured already, so that an interrupted run goes on where it stopped."""

import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from nuclear_diffusion.cli import progress_bar

REVISION = 1
"""Raise it by hand when a change of the package or of a benchmark changes numbers: everything is then measured again.

A change that leaves the numbers as they are, such as a new name, keeps it.
"""


def completed(
    path: Path, identities: Sequence[Any], measure: Callable[[Any], Any], workers: int = 1, revision: int = REVISION
) -> list[Any]:
    """The scores of each of `identities`, in order: read from `path` where they are known, measured where not.

    An identity is anything that JSON can hold and says what was measured, the prior's hash included. `measure` gets one
    identity and returns its scores, which JSON must hold too. With more than one of `workers` it runs in processes of
    its own and must be a function of a module. Each result is a line of `path` as soon as it is there.
    """
    known = _read(path)
    keys = [json.dumps([identity, revision], sort_keys=True) for identity in identities]
    missing = {key: identity for key, identity in zip(keys, identities, strict=True) if key not in known}
    with progress_bar("measured") as progress:
        progress(0, len(missing))
        for at, (key, scores) in enumerate(zip(missing, _each(measure, [*missing.values()], workers), strict=True)):
            known[key] = _append(path, key, scores)
            progress(at + 1, len(missing))
    return [known[key] for key in keys]


def _read(path: Path) -> dict[str, Any]:
    known = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:  # an empty line, or the one at which a run was killed
            continue
        known[entry["identity"]] = entry["scores"]
    return known


def _append(path: Path, key: str, scores: Any) -> Any:
    """Write one line, and give the scores back as they will be read again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"identity": key, "scores": scores})
    with path.open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")  # a new line even after one that was cut short
    return json.loads(line)["scores"]


def _each(measure: Callable[[Any], Any], items: Sequence[Any], workers: int) -> Iterator[Any]:
    if workers < 2:
        yield from map(measure, items)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(measure, items)
