"""Commands as processes of their own, for the tests that stop or kill them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable


def started(*command: str, **how) -> subprocess.Popen:
    """A process group that hears Ctrl-C: a shell's background jobs, and their children, are started deaf to it."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return subprocess.Popen([sys.executable, "-m", "nuclear_diffusion", *command], start_new_session=True, **how)
    finally:
        signal.signal(signal.SIGINT, before)


def stop(group: subprocess.Popen, number: int, when: Callable[[], object]) -> int:
    """Send a signal to all processes of a group once `when` holds, which must be before it ends; the exit code."""
    deadline = time.monotonic() + 240
    while not when():
        assert time.monotonic() < deadline
        assert group.poll() is None
        time.sleep(0.01)
    os.killpg(group.pid, number)
    return group.wait(timeout=60)
