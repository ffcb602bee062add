"""Read text files that others may have written: size and nesting are limited before anything is decoded."""

import json
import re
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from nuclear_diffusion.errors import InputError

MAX_BYTES = 1 << 26  # largest text file; a LabelMe file holds its picture as text
MAX_DEPTH = 32  # deepest nesting of objects and lists in JSON; ours have at most six levels
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)

T = TypeVar("T")


def reason(error: msgspec.ValidationError) -> str:
    """What msgspec found, without the full stop."""
    return str(error).rstrip(".")


def read_json(
    path: Path,
    kind: type[T] | Any,
    what: str,
    advice: str = "make it again",
    *,
    max_bytes: int = MAX_BYTES,
    nonfinite: bool = False,
    explain: Callable[[msgspec.ValidationError], str] = reason,
) -> T:
    """The content of a JSON file as `kind`, a type that msgspec can check; it ignores unknown fields by default.

    For errors, `what` is the content in words, as in "{path} is not a settings file", `advice` what to do about a
    damaged file, and `explain` puts a wrong field or value into words. `nonfinite` accepts NaN and Infinity, which
    strict JSON does not have. Raises `InputError` if the file cannot be read, is larger than `max_bytes` or nested too
    deeply, is not JSON or not a `kind`.
    """
    content = read_bytes(path, what, max_bytes=max_bytes)
    return decode_json(content, kind, str(path), what, advice, nonfinite=nonfinite, explain=explain)


def decode_json(
    text: bytes | str,
    kind: type[T] | Any,
    source: str,
    what: str,
    advice: str = "make it again",
    *,
    nonfinite: bool = False,
    explain: Callable[[msgspec.ValidationError], str] = reason,
) -> T:
    """JSON text as `kind`; `source` names it in errors. Arguments and errors as in `read_json`."""
    try:
        content = text.encode() if isinstance(text, str) else text
        if len(content) > MAX_BYTES or depth(content) > MAX_DEPTH:
            raise InputError(f"{source} is not {what}: it is too large or nested too deeply; {advice}.")
        if nonfinite:
            return msgspec.convert(json.loads(content), kind)
        return msgspec.json.decode(content, type=kind)
    except InputError:
        raise
    except msgspec.ValidationError as error:
        raise InputError(f"{source} is not {what}: {explain(error)}; {advice}.") from error
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, numbers of thousands of digits
        raise InputError(f"{source} is not {what}: it is not valid JSON; {advice}.") from error


def read_lines(path: Path, what: str) -> Sequence[str]:
    """The lines of a UTF-8 text file without blank ones; raises `InputError` as `read_json`."""
    try:
        text = read_bytes(path, what, max_bytes=1 << 20).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not {what}: it is not UTF-8 text.") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_bytes(path: Path, what: str, *, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file; raises `InputError` if it cannot be read or is larger than `max_bytes`."""
    require_file(path, what, max_bytes=max_bytes)
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise InputError(f"Cannot read {path} ({words_of(error)}): check the path.") from error
    if len(content) > max_bytes:  # it grew
        raise InputError(f"{path} is not {what}: it has more than {max_bytes:,} bytes.")
    return content


def require_file(path: Path, what: str, *, max_bytes: int | None = None) -> int:
    """The size of a regular file in bytes; nothing is opened, because a named pipe would wait for a writer.

    Raises `InputError` if there is no such file, it is something else, or it is larger than `max_bytes`.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        words = words_of(error) if isinstance(error, OSError) else "no possible name"
        raise InputError(f"Cannot read {path} ({words}): check the path.") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
        raise InputError(f"{path} is not {what}: it is {kind}, not a file.")
    if max_bytes is not None and status.st_size > max_bytes:
        raise InputError(f"{path} is not {what}: it has {status.st_size:,} bytes, at most {max_bytes:,} are read.")
    return status.st_size


def depth(text: bytes) -> int:
    """How deeply objects and lists are nested in JSON."""
    symbols = np.frombuffer(_STRING.sub(b"", text), np.uint8) | 0x20  # [ and { differ from ] and } as below
    steps = (symbols == ord("{")).astype(np.int8) - (symbols == ord("}"))
    return int(np.cumsum(steps, dtype=np.int64).max(initial=0))


def words_of(error: OSError) -> str:
    """The system's reason."""
    return (error.strerror or str(error)).lower()
