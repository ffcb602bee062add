"""Refuse work that cannot fit into memory before anything is allocated, and return memory when it is freed."""

import contextlib
import ctypes
import os
import sys
from pathlib import Path

from nuclear_diffusion.errors import InputError

_CGROUP = Path("/sys/fs/cgroup/memory.max")

_LARGE = 2 << 20
"""Bytes of an array that goes back to the system as soon as it is freed; a window's arrays are larger."""

_M_MMAP_THRESHOLD = -3  # of malloc.h


def return_large() -> None:
    """From now on give large arrays back to the system when they are freed, where glibc allocates.

    Its own limit grows to 32 MB, and what it keeps fragments: memory would grow with the length of a recording.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)


def return_freed() -> None:
    """Give the freed rest back to the system, where glibc allocates."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def total_memory() -> int:
    """The memory of the machine, or of its container, in bytes."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not Linux or macOS
        return 1 << 34
    try:
        return min(total, int(_CGROUP.read_text()))
    except (OSError, ValueError):  # no container, or one without a limit
        return total


def require_memory(needed: float, what: str, advice: str) -> None:
    """Raise `InputError` if `what` needs more than the machine's memory; `needed` in bytes, a lower estimate."""
    total = total_memory()
    if needed > total:
        raise InputError(
            f"{what} needs at least {needed / 1e9:,.0f} GB of memory, this machine has {total / 1e9:,.0f} GB: {advice}."
        )
