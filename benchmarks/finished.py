"""Finished results of a benchmark, so that interrupted runs resume."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nuclear_diffusion.measure.store import complete
from nuclear_diffusion.reporting import progress_bar


def completed(folder: Path, identities: Sequence[Any], measure: Callable[[Any], Any], workers: int = 1) -> list[Any]:
    """The scores of each of `identities`, in order: read from `folder`, or measured if missing.

    The revision number in `nuclear_diffusion.measure.store` invalidates all stored scores.
    """
    with progress_bar("measured") as progress:
        return complete(identities, measure, folder, workers=workers, progress=progress)
