"""Progress reports from inside a compiled loop."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jax
from jaxtyping import Array, Int

from nuclear_diffusion.types import Progress

_listeners: list[Callable[[int], None]] = []


def report(step: Int[Array, ""]) -> None:
    """Report `step` to all active `listening` blocks; call it in the loop's body."""
    jax.debug.callback(_notify, step)


def _notify(step: Int[Array, ""]) -> None:
    for listener in _listeners:
        listener(int(step))


def part_of(progress: Progress | None, before: int, total: int) -> Callable[..., None] | None:
    """Progress of one part of a job of `total` steps, of which `before` come first: called with the part's steps."""
    return None if progress is None else lambda done, *_: progress(before + done, total)


@contextmanager
def listening(listener: Callable[[int], None] | None) -> Iterator[None]:
    """Call `listener` with the number of each step that begins while the block runs."""
    if listener is None:
        yield
        return
    _listeners.append(listener)
    try:
        yield
        jax.effects_barrier()
    finally:
        _listeners.remove(listener)
