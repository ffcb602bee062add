"""Tasks for worker processes; light, as each worker imports it."""

import os
import signal
import time

from nuclear_diffusion.errors import InputError


def refuse():
    raise InputError("There is no prior.")


def start():
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
    if what == "threads":
        return os.environ["NPROC"]
    return os.getpid() if what == "pid" else about
