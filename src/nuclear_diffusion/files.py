"""Writes that are whole or not at all, by one process at a time.

`atomic` writes a file or a new folder, `replacing` a folder that may exist, `filling` several files at once. `locked`
and `working_in` keep other processes out. A process may be killed at any instruction: the next one tidies up.
"""

import contextlib
import errno
import functools
import hashlib
import inspect
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

from nuclear_diffusion.errors import InputError

P = ParamSpec("P")
T = TypeVar("T")

_NO_ROOM = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

_FULL = 1 << 20  # with fewer free bytes an error is put down to the full disk: not every library says so
TEMPORARY = re.compile(r"\.partial-[0-9a-f]{8}-.*", re.DOTALL)  # names of what `atomic` is writing
_LONGEST = 255  # most bytes of a file name


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with the same suffixes, that is renamed to `path` if the block succeeds.

    The block writes a file or a folder there; it is removed if the block raises. Missing parents of `path` are created.
    A folder never replaces a non-empty folder. Raises `InputError` if `path` is not writable or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".partial-{secrets.token_hex(4)}-{path.name[-100:]}")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.open("xb").close()  # fails here with a clear reason, not inside a library
            temporary.unlink()
            _check_replaceable(path)
        except OSError as error:
            raise _no_room(path, error) from error
        with _room_for(path):
            yield temporary
            _to_disk(temporary)
            os.replace(temporary, path)
    finally:  # a signal may also come before the block
        _remove(temporary)


def write(path: str | Path, content: str | bytes) -> None:
    """Write a text (UTF-8) or bytes with `atomic`."""
    with atomic(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def beside(path: Path, purpose: str) -> Path:
    """The hidden neighbour of `path` for a purpose, such as "lock"."""
    name = f".{path.name}.{purpose}"
    if len(os.fsencode(name)) > _LONGEST:
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:32]}.{purpose}"
    return path.with_name(name)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Within the block no other process, and no other thread of this one, writes the file or folder `path`.

    Missing parents of `path` are created, and removed again if they are still empty. The lock is the system's, on the
    hidden neighbour `.NAME.lock`, and ends with the process. Raises `InputError` if another holds it.
    """
    with _held(beside(followed(path), "lock"), path):
        yield


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """As `locked`, for all that is in `folder`; removes what a killed process was writing there."""
    with _held(folder / ".lock", folder) as first:
        for place, folders, files in os.walk(folder) if first else ():
            for name in (*folders, *files):
                if TEMPORARY.fullmatch(name):
                    _remove(Path(place, name))
            folders[:] = [name for name in folders if not TEMPORARY.fullmatch(name)]
        yield


def alone_in(argument: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorate a function so that it runs in `working_in` the folder that this argument names."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def alone(*args: P.args, **kwargs: P.kwargs) -> T:
            with working_in(Path(signature.bind(*args, **kwargs).arguments[argument])):
                return function(*args, **kwargs)

        return alone

    return decorate


@contextmanager
def replacing(folder: Path, ours: Callable[[str], bool]) -> Iterator[Path]:
    """Yield an empty hidden folder that takes the place of `folder` if the block succeeds; holds `locked(folder)`.

    An old `folder` stays until the new one is whole and on the disk. What else is in it, by names that are not `ours`,
    moves over. After a kill the old or the new one is there; `recovered` puts it in its place. Raises `InputError` if
    the disk is full.
    """
    with locked(folder), _room_for(folder):
        place = followed(folder)
        recovered(place, ours)
        partial = beside(place, "partial")
        try:
            with _room_for(folder):  # before what was written is removed
                partial.mkdir()
                yield partial
                _to_disk(partial)
                if place.exists():
                    place.rename(beside(place, "replaced"))
                partial.rename(place)
        finally:
            recovered(place, ours)
        _sync(place.parent)


@contextmanager
def filling(path: Path) -> Iterator[Path]:
    """Yield an empty hidden folder; what is in it goes beside `path` if the block succeeds. Holds `locked(path)`.

    A file of the same name is replaced. After a kill the next call removes what was not finished. Raises `InputError`
    if the disk is full, or a folder of the same name is not empty.
    """
    with locked(path), _room_for(path):
        partial = beside(followed(path), "partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            with _room_for(path):
                partial.mkdir()
                yield partial
                _to_disk(partial)
                for entry in sorted(partial.iterdir()):
                    _check_replaceable(path.with_name(entry.name))
                    os.replace(entry, path.with_name(entry.name))
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        _sync(partial.parent)


def recovered(folder: Path, ours: Callable[[str], bool]) -> None:
    """Put back, finish or remove what a killed `replacing` left; the caller holds `locked(folder)`."""
    folder = followed(folder)
    replaced = beside(folder, "replaced")
    if replaced.exists():
        if folder.exists():
            for entry in replaced.iterdir():
                if not ours(entry.name) and not (folder / entry.name).exists():
                    entry.rename(folder / entry.name)
            shutil.rmtree(replaced, ignore_errors=True)
        else:
            replaced.rename(folder)
    shutil.rmtree(beside(folder, "partial"), ignore_errors=True)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _held(lock: Path, what: Path) -> Iterator[bool]:
    """Hold the lock file `lock`, which is removed afterwards; it may be taken again within the block.

    Yields whether it was not held already.
    """
    from filelock import FileLock, Timeout

    made = [parent for parent in lock.parents if not parent.exists()]
    taken = FileLock(lock.absolute(), timeout=0, is_singleton=True)
    before = taken.lock_counter
    try:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            taken.acquire()
        except Timeout:
            raise InputError(
                f"{what} is being written by {_owner(lock)}: wait until it has ended, or choose another output."
            ) from None
        except OSError as error:
            raise _no_room(what, error) from error
        if not before:
            with contextlib.suppress(OSError):  # the disk may be full
                lock.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield not before
    finally:
        if taken.lock_counter > before:
            if not before:
                with contextlib.suppress(OSError):
                    lock.unlink()  # who waits for this file sees that it is gone
            taken.release()
        with contextlib.suppress(OSError):
            for parent in made:
                parent.rmdir()


def followed(path: Path) -> Path:
    """The path that symbolic links lead to; on links that lead to themselves `Path.resolve` raises a RuntimeError."""
    return Path(os.path.realpath(path))


def _owner(lock: Path) -> str:
    """Who holds a lock, in words."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return lock.read_text(encoding="utf-8")[:200] or "another process"
    return "another process"


@contextmanager
def _room_for(path: Path) -> Iterator[None]:
    """Turn errors of a full or read-only disk into one sentence about `path`."""
    try:
        yield
    except _NoRoom as inner:  # of a file in a folder that is being made, which the user does not know
        raise _no_room(path, inner.error) from inner
    except InputError:
        raise
    except Exception as error:
        code = error.errno if isinstance(error, OSError) else None
        if code in _NO_ROOM and isinstance(error, OSError):
            raise _no_room(path, error) from error
        with contextlib.suppress(OSError):
            if shutil.disk_usage(path.parent).free < _FULL:
                raise _no_room(path, OSError(errno.ENOSPC, "")) from error
        raise


def _check_replaceable(path: Path) -> None:
    if path.is_dir() and (path.suffix or any(path.iterdir())):
        raise InputError(f"{path} is an existing folder: choose another output or remove it.")


def _to_disk(path: Path) -> None:
    """Wait until a file, or a folder with all that is in it, is on the disk."""
    if path.is_dir():
        for place, _, files in os.walk(path):
            for name in files:
                _sync(Path(place, name))
            _sync(Path(place))
    else:
        _sync(path)


def _sync(path: Path) -> None:
    if os.name != "posix" and path.is_dir():  # only POSIX opens folders
        return
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


class _NoRoom(InputError):
    """A full or read-only disk."""

    error: OSError


def _no_room(path: Path, error: OSError) -> _NoRoom:
    reason = os.strerror(error.errno).lower() if error.errno else str(error)
    found = _NoRoom(f"Cannot write {path} ({reason}): choose another output or free some space.")
    found.error = error
    return found
