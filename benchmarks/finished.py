"""What a benchmark has measured already, so that an interrupted run goes on where it stopped."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nuclear_diffusion.cli import progress_bar
from nuclear_diffusion.measure.store import complete


def completed(folder: Path, identities: Sequence[Any], measure: Callable[[Any], Any], workers: int = 1) -> list[Any]:
    """The scores of each of `identities`, in order: read from `folder` where they are known, measured where not.

    See `nuclear_diffusion.measure.store`, which has the revision number that says when all is measured again.
    """
    with progress_bar("measured") as progress:
        return complete(identities, measure, folder, workers=workers, progress=progress)
