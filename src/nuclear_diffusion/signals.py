"""SIGINT and SIGTERM end a command in one sentence, at any time. Imports nothing heavy, so that it is ready first."""

import _thread
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

SENTENCE = "Interrupted. What was finished is kept; the same command goes on from there."

GRACE = 10.0
"""Seconds to unwind. A compiled program cannot be interrupted; the process ends after this time even inside one."""

NUMBERS = (signal.SIGINT, signal.SIGTERM)

received: int | None = None  # the signal that ends the running command
_running = False  # whether a block of `unwinding` runs
_patient = 0  # blocks of `patient` that run


class Stopped(KeyboardInterrupt):
    """A signal ends the command. The text, if any, says what is finished."""


def code() -> int:
    """The exit code of an interrupted command: 130 or 143."""
    return 128 + (received or signal.SIGINT)


def check() -> None:
    """Raise `Stopped` if a signal has arrived; call it now and then where the main thread may be in compiled code."""
    if _running and received is not None and not _patient:
        raise Stopped


def end_at_once() -> None:
    """From now on a signal ends the process without unwinding: for imports, before which nothing can be left behind."""

    def end(number: int, _frame: FrameType | None) -> None:
        _end(number, "Interrupted.")

    _install(end)


def ignore() -> None:
    """From now on signals change nothing: all is done, and Python takes its handlers away before it ends."""
    for number in NUMBERS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def unwinding(sentence: str = SENTENCE) -> Iterator[None]:
    """Within the block the first signal raises `Stopped` in the main thread, so that cleanup runs.

    Later signals do not disturb the cleanup, but the fourth ends the process. In another thread nothing is changed.
    `sentence` is said if the process ends without unwinding.
    """
    global received, _running
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received, _running = None, True
    block = _Unwinding(sentence)
    watcher = threading.Thread(target=block.watch, daemon=True)
    watcher.start()
    sys.unraisablehook = block.again
    fd, before = -1, dict[int, "signal._HANDLER"]()
    try:
        fd = signal.set_wakeup_fd(block.theirs.fileno(), warn_on_full_buffer=False)
        before = _install(block.stop)
        yield
    finally:
        block.ended.set()
        _running = False
        signal.set_wakeup_fd(fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = block.report
        block.theirs.close()
        watcher.join()
        block.ours.close()


class _Unwinding:
    """What a block of `unwinding` does with signals; the interpreter writes their numbers to the socket `theirs`."""

    def __init__(self, sentence: str):
        import socket

        self.sentence, self.report = sentence, sys.unraisablehook
        self.arrived, self.swallowed, self.ended = 0, False, threading.Event()
        self.ours, self.theirs = socket.socketpair()
        self.theirs.setblocking(False)

    def stop(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        global received
        received = number
        self.arrived += 1
        if _loading():
            _end(number, self.sentence)
        if self.arrived == 1 or self.swallowed:
            self.swallowed = False
            raise Stopped
        if self.arrived > 3:
            _end(number, self.sentence)

    def again(self, unraisable: "sys.UnraisableHookArgs") -> None:
        """Python only reports what is raised in a destructor or callback: raise it again a moment later."""
        if not issubclass(unraisable.exc_type, Stopped):
            return self.report(unraisable)
        self.swallowed = True
        timer = threading.Timer(0.05, self._once_more)
        timer.daemon = True
        timer.start()

    def _once_more(self) -> None:
        if not self.ended.is_set():
            _again(received or signal.SIGINT)

    def watch(self) -> None:
        """Note a signal while the main thread is in compiled code, and end the process if it stays there."""
        global received
        while (arriving := self.ours.recv(1)) and arriving[0] not in NUMBERS:
            pass
        if not arriving:
            return
        received = arriving[0]
        while not self.ended.wait(GRACE):
            if not _patient:
                _end(received, self.sentence)


@contextlib.contextmanager
def patient() -> Iterator[None]:
    """Within the block, code that handles signals itself has all the time that it needs to end."""
    global _patient
    _patient += 1
    try:
        yield
    finally:
        _patient -= 1


def _loading() -> bool:
    """Whether jax is being imported: its start-up aborts the process, or worse, where Python raises in it."""
    return getattr(getattr(sys.modules.get("jax"), "__spec__", None), "_initializing", False)


def _install(handler: "signal._HANDLER") -> dict[int, "signal._HANDLER"]:
    """Handle both signals, but not one that is ignored, as SIGINT is in a background job; return the old handlers."""
    before: dict[int, signal._HANDLER] = {number: signal.getsignal(number) for number in NUMBERS}
    before = {number: old for number, old in before.items() if old is not signal.SIG_IGN and old is not None}
    for number in before:
        signal.signal(number, handler)
    return before


def _again(number: int) -> None:
    """Send the main thread a signal, which also wakes it."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        _thread.interrupt_main(signal.Signals(number))


def _end(number: int, sentence: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"\n{sentence}\n".encode() if sentence else b"")
    os._exit(128 + number)
