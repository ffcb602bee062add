"""Atomic writes: a file is written completely or not at all."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nuclear_diffusion.errors import InputError

_NO_ROOM = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with the same suffixes, that is renamed to `path` if the block succeeds.

    The block writes a file or a folder there; it is removed if the block raises. Missing parents of `path` are created.
    A folder never replaces a non-empty folder. Raises `InputError` if `path` is not writable or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(4)}-{path.name[-100:]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.open("xb").close()  # fails here with a clear reason, not inside a library
        temporary.unlink()
        if path.is_dir() and (path.suffix or any(path.iterdir())):
            raise InputError(f"{path} is an existing folder: choose another output or remove it.")
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        yield temporary
        if temporary.is_file():
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise _unwritable(path, error) from error
        raise
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def write(path: str | Path, content: str | bytes) -> None:
    """Write a text (UTF-8) or bytes with `atomic`."""
    with atomic(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def _unwritable(path: Path, error: OSError) -> InputError:
    reason = os.strerror(error.errno).lower() if error.errno else str(error)
    return InputError(f"Cannot write {path} ({reason}): choose another output or free some space.")
