"""Finished windows of an interrupted run, in a hidden folder beside the result, from which the next run goes on."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nuclear_diffusion.files import atomic, beside, write
from nuclear_diffusion.paper.windows import Once


class Finished:
    """The windows that are finished, one file each, written whole or not at all."""

    def __init__(self, folder: Path):
        self._folder = folder

    def __call__(self, stage: str, kind: type, windows: int) -> Once[Any] | None:
        """Where the windows of a stage are kept; a stage of one window has nothing to go on from."""
        if windows < 2:
            return None

        def once(index: int, compute: Callable[[], Any]) -> Any:
            path = self._folder / f"{stage}-{index:06d}.npz"
            if (found := _read(path, kind)) is not None:
                return found
            found = compute()
            with atomic(path) as temporary:
                arrays: dict[str, Any] = {name: np.asarray(array) for name, array in found._asdict().items()}
                np.savez(temporary, **arrays)
            return found

        return once


@contextlib.contextmanager
def finished_windows(folder: Path, identity: dict[str, Any]) -> Iterator[Finished]:
    """Keep the windows of the result `folder` in `.NAME.windows` beside it, until the block succeeds.

    Windows of another `identity` are removed first. A kill or Ctrl-C leaves them for the next run; an error, such as
    a full disk, does not.
    """
    place = beside(folder, "windows")
    about, text = place / "identity.json", json.dumps(identity, sort_keys=True)
    if place.exists() and not (about.is_file() and about.read_text(encoding="utf-8") == text):
        shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)
    try:
        write(about, text)
        yield Finished(place)
    except BaseException as error:
        if isinstance(error, Exception) or not any(place.glob("*.npz")):
            shutil.rmtree(place, ignore_errors=True)
        raise
    shutil.rmtree(place, ignore_errors=True)


def _read(path: Path, kind: type) -> Any:
    """A finished window, or None if there is none or it is damaged."""
    make: Any = kind
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:  # np.load leaks what it cannot read
            return make(**{name: held[name] for name in make._fields})
    except Exception:  # a zip file can be damaged in many ways; the window is computed again
        return None
