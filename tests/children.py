"""Commands as processes of their own, for the tests that stop or kill them, and waiting."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

PATIENCE = 600  # seconds that anything may take, on a machine that is slow, or busy


def started(*command: str, **how) -> subprocess.Popen:
    """A process group that hears Ctrl-C: a shell's background jobs, and their children, are started deaf to it."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return subprocess.Popen([sys.executable, "-m", "nuclear_diffusion", *command], start_new_session=True, **how)
    finally:
        signal.signal(signal.SIGINT, before)


def eventually(holds: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "It never holds."
        time.sleep(0.01)


def stop(group: subprocess.Popen, number: int, when: Callable[[], object]) -> int:
    """Send a signal to all processes of a group once `when` holds, which must be before it ends; the exit code."""
    eventually(lambda: group.poll() is not None or when())
    assert group.poll() is None
    os.killpg(group.pid, number)
    return group.wait(PATIENCE)
