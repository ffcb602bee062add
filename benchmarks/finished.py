"""Finished results of a benchmark, so that interrupted runs resume."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nuclear_diffusion.measure.store import Store, each, reused
from nuclear_diffusion.reporting import progress_bar


def completed(folder: Path, identities: Sequence[Any], measure: Callable[[Any], Any], workers: int = 1) -> list[Any]:
    """The scores of each of `identities`, in order: read from `folder`, or measured if missing.

    An identity is a JSON value with all that its scores depend on, besides the code: the revision number in
    `nuclear_diffusion.measure.store` invalidates all stored scores. Says how many were stored. With several `workers`,
    `measure` is a module-level function.
    """
    found: list[Any] = [None] * len(identities)
    for sentence in reused(sum(Store(folder).has("finished", one) for one in identities), len(found), folder):
        print(sentence)
    with progress_bar("measured") as progress:
        progress(0, len(found))
        remembered = functools.partial(_once, measure, Store(folder))
        for done, (index, scores) in enumerate(each(remembered, identities, workers), 1):
            found[index] = scores
            progress(done, len(found))
    return found


def _once(measure: Callable[[Any], Any], store: Store, identity: Any) -> Any:
    return store.once("finished", identity, functools.partial(measure, identity))
