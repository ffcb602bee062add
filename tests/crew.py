"""Tasks for worker processes; light, as each worker imports it."""

import errno
import os
import signal
import time

from nuclear_diffusion import signals
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.restore.workers import Ended


def refuse():
    raise InputError("There is no prior.")


def start():
    return work


def start_as(plan, folder):
    """Start the n-th time as the n-th word of the plan says, and from then on as the last one does."""
    count = len(list(folder.iterdir()))
    (folder / str(count)).touch()
    what = plan[min(count, len(plan) - 1)]
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "refuse":
        refuse()
    if what == "fail":
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), "weights")
    if what == "hang":
        time.sleep(600)
    return work


def work(task, tell):
    """Do what the task says."""
    tell(1, 2)
    what, *about = task.split()
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "wait":
        while True:
            time.sleep(0.05)
    if what == "blocked":
        return hasattr(signal, "pthread_sigmask") and signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    if what == "threads":
        return os.environ["NPROC"]
    return os.getpid() if what == "pid" else about


def spread_here(tasks, begin, _jobs, progress=None):
    """In place of `workers.spread`: in this process, where a test can replace what a task does."""
    do = begin()
    for number, task in enumerate(tasks):

        def tell(done, total, number=number):
            signals.check()
            if progress is not None:
                progress({number: (done, total)})

        tell(0, 1)
        yield Ended(number, do(task, tell), None)
