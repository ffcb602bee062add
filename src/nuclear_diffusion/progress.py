"""Progress from inside compiled loops, and a way out of them."""

import contextlib
import logging
from collections.abc import Iterator
from functools import partial

import jax
from jaxtyping import Array, Int

from nuclear_diffusion.types import Progress


class _Left(Exception):
    """Ends a compiled program; `listening` raises the reason."""


# JAX logs what a callback raises, with its traceback
logging.getLogger("jax._src.debugging").addFilter(lambda said: not (said.exc_info and said.exc_info[0] is _Left))


class _Listener:
    """One `listening` block."""

    def __init__(self, progress: Progress, before: int, size: int, total: int):
        self._about = progress, before, size, total
        self.reason: BaseException | None = None

    def tell(self, step: Int[Array, ""], steps: int) -> None:
        progress, before, size, total = self._about
        if self.reason is not None:
            raise _Left
        try:
            progress(before + size * int(step) // steps, total)
        except BaseException as error:
            self.reason = error
            raise _Left from None


_listeners: list[_Listener] = []


def report(step: Int[Array, ""], steps: int) -> None:
    """Report to all active `listening` blocks that `step` of `steps` begins; call it in the loop's body."""
    jax.debug.callback(partial(_notify, steps=steps), step)


def _notify(step: Int[Array, ""], steps: int) -> None:
    for listener in _listeners:
        listener.tell(step, steps)


@contextlib.contextmanager
def listening(progress: Progress | None, index: int, count: int, size: int) -> Iterator[None]:
    """Call `progress` as each step of the block begins, part `index` of `count` parts with `size` units each.

    What `progress` raises, or a signal in the block, ends the compiled program at this step, and is raised from it.
    """
    if progress is None:
        yield
        return
    listener = _Listener(progress, index * size, size, count * size)
    _listeners.append(listener)
    try:
        yield
        jax.effects_barrier()
    except BaseException as error:
        if listener.reason is None or not isinstance(error, Exception):  # else JAX's, for the program that has ended
            listener.reason = error
        _settle()
    finally:
        _listeners.remove(listener)
    if listener.reason is not None:
        raise listener.reason


def _settle() -> None:
    """Wait for a program that is left, and run another: JAX raises a failure until then, also when Python ends."""
    with contextlib.suppress(Exception):
        jax.effects_barrier()
    jax.block_until_ready(_nothing())
    jax.effects_barrier()


@jax.jit
def _nothing() -> None:
    jax.debug.callback(lambda: None)
