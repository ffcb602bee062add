"""The one door to the decoding libraries: what they raise becomes a sentence, what a file declares is checked first."""

import logging
import math
import os
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import av.logging

from nuclear_diffusion.errors import InputError, unreadable
from nuclear_diffusion.memory import total_memory
from nuclear_diffusion.text import words_of

T = TypeVar("T")


@contextmanager
def door(path: Path, kind: str) -> Iterator[None]:
    """Silence the libraries, and turn what they raise into an `InputError` that names the file."""
    try:
        with _quiet():
            yield
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{path} needs more memory than there is: read a shorter clip.") from error
    except Exception as error:  # decoders raise anything on damaged files
        sentence = f"{path} cannot be read as {kind}, it is damaged, cut short or of another type: export it again."
        raise unreadable(path, error, sentence) from error


def guarded(path: Path, kind: str, items: Callable[[], Iterator[T]]) -> Iterator[T]:
    """The items, each made behind the door."""
    with door(path, kind):
        iterator = items()
    while True:
        with door(path, kind):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the decoding libraries' warnings; errors become an InputError."""
    loggers = [logging.getLogger(name) for name in ("pydicom", "tifffile", "libav", "h5py", "PIL", "zarr")]
    levels = [logger.level for logger in loggers]
    av_level = av.logging.get_level()
    try:
        _set_levels(loggers, [logging.CRITICAL + 1] * len(loggers))
        av.logging.set_level(av.logging.PANIC)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        _set_levels(loggers, levels)
        av.logging.set_level(av_level)


def _set_levels(loggers: Sequence[logging.Logger], levels: Sequence[int]) -> None:
    """Each `setLevel` empties what all loggers remember, and six take longer than opening an image: one will do."""
    if [logger.level for logger in loggers] != levels:
        for logger, level in zip(loggers, levels, strict=True):
            logger.level = level
        loggers[-1].setLevel(levels[-1])


def memory_limit(max_bytes: int | None) -> int:
    """Bytes that one clip may take: `max_bytes`, or half of the machine's memory."""
    return total_memory() // 2 if max_bytes is None else max_bytes


def check_size(path: Path, shape: Sequence[int], itemsize: int, max_bytes: int | None) -> None:
    """Raise `InputError` if an array that a file declares is empty or larger than the limit."""
    if any(side < 0 for side in shape):
        raise InputError(f"{path} declares {_sides(shape)} values: it is damaged, export it again.")
    size, limit = math.prod(int(side) for side in shape) * itemsize, memory_limit(max_bytes)
    if size > limit:
        raise InputError(
            f"{path} declares {_sides(shape)} values, {size / 1e9:.1f} GB, more than the limit of {limit / 1e9:.1f} "
            "GB: cut it, or raise the limit."
        )


def check_file(path: Path) -> None:
    """Raise `InputError` unless `path` is a regular file that may be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path} is neither a file nor a folder: give a video file or a folder of images.")
    except FileNotFoundError as error:
        link = f", a link to {os.readlink(path)}," if path.is_symlink() else ""
        raise InputError(f"{path}{link} does not exist: check the path.") from error
    except OSError as error:  # a link to itself, a name that is too long
        raise InputError(f"{path} cannot be opened ({words_of(error)}): check the path.") from error


def head(path: Path, length: int = 4096) -> bytes:
    """The first bytes of a file."""
    try:
        with path.open("rb") as file:
            return file.read(length)
    except PermissionError as error:
        raise InputError(f"{path} cannot be opened (permission denied): change its permissions.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be opened ({words_of(error)}): check the path.") from error


def _sides(shape: Sequence[int]) -> str:
    return " x ".join(str(side) for side in shape)
