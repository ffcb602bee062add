"""Progress reports from inside a compiled loop."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax
from jaxtyping import Array, Int

from nuclear_diffusion.types import Progress

_listeners: list[tuple[Progress, int, int]] = []


def report(step: Int[Array, ""]) -> None:
    """Report `step` to all active `listening` blocks; call it in the loop's body."""
    jax.debug.callback(_notify, step)


def _notify(step: Int[Array, ""]) -> None:
    for progress, before, total in _listeners:
        progress(before + int(step), total)


@contextmanager
def listening(progress: Progress | None, before: int, total: int) -> Iterator[None]:
    """Call `progress` as each step of the block begins; `before` of the job's `total` steps come before the block."""
    if progress is None:
        yield
        return
    listener = progress, before, total
    _listeners.append(listener)
    try:
        yield
        jax.effects_barrier()
    finally:
        _listeners.remove(listener)
