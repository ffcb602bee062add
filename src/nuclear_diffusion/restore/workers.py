"""Worker processes that outlive each other: when one dies, its task is named and the others go on."""

import contextlib
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import ModuleType
from typing import Any, NamedTuple

from nuclear_diffusion import signals
from nuclear_diffusion.errors import InputError, require
from nuclear_diffusion.reporting import sentence_of

Tell = Callable[[float, float], None]
Work = Callable[[Any, Tell], Any]

TELL_SECONDS = 0.2  # seconds between progress messages of a worker

STUCK = 1800.0
"""Seconds without progress after which a worker is taken for stuck, as in a decoder that waits for ever."""

LOADING = 1800.0
"""Seconds after which a worker that still loads is taken for stuck."""

STARTS = 3
"""Workers in a row that may fail to start, before no more are tried until one that has started dies."""

THREADS = ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Numbers of threads: of XLA on a CPU, and of the libraries for linear algebra."""


class Ended(NamedTuple):
    """A task that ended."""

    task: int  # its number
    value: Any
    died: str | None  # why its worker died, if it did; there is no value then


def spread(
    tasks: Sequence[Any],
    start: Callable[[], Work],
    jobs: int,
    progress: Callable[[dict[int, tuple[float, float]]], None] | None = None,
) -> Iterator[Ended]:
    """Do `tasks` in `jobs` processes and yield each as it ends.

    `start` runs once in each worker and returns the function that does a task there; both and the values are pickled.
    The cores are divided among the workers. A worker that dies is replaced. Workers never outlive the caller: they
    unwind and end with it. `progress` gets (done, total) of each task at work, by index.

    Raises `InputError` if `start` does in the first worker, or if none is left and `STARTS` in a row did not start.
    """
    if multiprocessing.current_process().daemon:
        raise InputError("This process may not start worker processes: leave out --jobs.")
    waiting = deque(enumerate(tasks))
    crew: list[_Worker] = []
    failures, started = list[str](), False
    try:
        while waiting or any(worker.task is not None for worker in crew):
            busy = sum(worker.task is not None for worker in crew)
            while len(failures) < STARTS and len(crew) < min(jobs, busy + len(waiting)):
                time.sleep(len(failures))  # a lack of memory may pass
                try:
                    crew.append(_Worker(start, jobs))
                except OSError as error:
                    failures.append(f"the system refuses it ({(error.strerror or str(error)).lower()})")
            if not crew:
                left = f"; {len(waiting)} of {len(tasks)} clips are left for the next run" if started else ""
                raise InputError(f"A worker process could not start{' again' * started}: {failures[-1]}{left}.")
            for worker in crew:
                if worker.idle() > (STUCK if worker.task is not None else math.inf if worker.ready else LOADING):
                    worker.stuck()
            for connection in wait([worker.connection for worker in crew], min(STUCK, LOADING, 60)):
                worker = next(worker for worker in crew if worker.connection is connection)
                try:
                    kind, content = worker.connection.recv()
                    worker.heard = time.monotonic()
                except (EOFError, OSError):
                    crew.remove(worker)
                    why = worker.death()
                    if not worker.ready:
                        failures.append(f"it {why}")
                        continue
                    failures.clear()
                    if worker.task is not None:
                        yield Ended(worker.task, None, why)
                    continue
                if kind == "refused":
                    require(started, content)
                    crew.remove(worker)
                    worker.end()
                    failures.append(content.rstrip("."))
                if kind == "told":
                    worker.told = content
                if kind == "ended" and worker.task is not None:
                    task, worker.task, worker.told = worker.task, None, (0, 1)
                    yield Ended(task, content, None)
                if kind == "ready":
                    worker.ready = started = True
                    failures.clear()
                if kind in ("ready", "ended") and waiting:
                    worker.give(*waiting.popleft())
            if progress is not None:
                progress({worker.task: worker.told for worker in crew if worker.task is not None})
    finally:
        with signals.patient():  # the workers have a limit themselves
            for worker in crew:
                worker.process.terminate()
            for worker in crew:
                worker.end()


class _Worker:
    """The parent's side of a worker."""

    def __init__(self, start: Callable[[], Work], jobs: int):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_main, args=(theirs, start))
        self.task: int | None = None
        self.told: tuple[float, float] = (0, 1)
        self.ready = False
        self.heard = time.monotonic()
        self.why = ""  # it was killed here
        self.others = jobs > 1
        with _for_child(threads=max(1, _cores() // jobs)):
            self.process.start()
        theirs.close()

    def idle(self) -> float:
        """Seconds since it was heard."""
        return time.monotonic() - self.heard

    def give(self, index: int, task: Any) -> None:
        self.task, self.heard = index, time.monotonic()
        with contextlib.suppress(OSError):  # it has died, as the next `recv` finds out
            self.connection.send(task)

    def stuck(self) -> None:
        self.why = f"made no progress for {self.idle() / 60:.0f} minutes"
        self.process.kill()

    def end(self) -> None:
        self.process.join(signals.GRACE + 2)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()

    def death(self) -> str:
        """How the process ended, after "it"."""
        self.end()
        if self.why:
            return self.why
        code = self.process.exitcode or 0
        if code == -getattr(signal, "SIGKILL", 0):
            return "was killed, probably for lack of memory" + (": use fewer --jobs" if self.others else "")
        if code in (-signal.SIGTERM, 128 + signal.SIGTERM):
            return "was ended by SIGTERM"
        return f"crashed ({signal.Signals(-code).name})" if code < 0 else f"ended with code {code}"


@contextlib.contextmanager
def _for_child(threads: int) -> Iterator[None]:
    """What a process started in the block inherits: its share of the cores, and to leave Ctrl-C to its parent.

    Nor does it run the caller's script again, of which it needs nothing: one without a guard would start workers, too.
    """
    missing = [name for name in THREADS if name not in os.environ]
    mask, script = getattr(signal, "pthread_sigmask", None), sys.modules["__main__"]
    if mask:
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()  # which would end the block of SIGINT
        mask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        sys.modules["__main__"] = ModuleType("__main__")
        os.environ.update(dict.fromkeys(missing, str(threads)))
        yield
    finally:
        sys.modules["__main__"] = script
        for name in missing:
            del os.environ[name]
        if mask:
            mask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _main(connection: Connection, start: Callable[[], Work]) -> None:
    """The worker: do one task after the other until the parent closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError, signals.Stopped), signals.unwinding(""):
        try:
            work = start()
        except Exception as error:
            if (sentence := sentence_of(error)) is None:
                raise
            connection.send(("refused", sentence))
            return
        connection.send(("ready", None))
        due = 0.0

        def tell(done: float, total: float) -> None:
            nonlocal due
            signals.check()
            if (now := time.monotonic()) >= due:
                due = now + TELL_SECONDS
                connection.send(("told", (done, total)))

        while True:
            connection.send(("ended", work(connection.recv(), tell)))
    if signals.received is not None:
        sys.exit(signals.code())


def _follow() -> None:
    """Unwind when the parent is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
