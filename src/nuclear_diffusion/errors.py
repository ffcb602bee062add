"""The error raised for input that cannot be used."""

import difflib
import errno
import os
import re
from collections.abc import Iterable

_OUTSIDE = {"EACCES", "EPERM", "EIO", "ESTALE", "ETIMEDOUT", "ENOTCONN", "EHOSTDOWN", "ENXIO", "ENODEV"}
_OUTSIDE |= {"EMFILE", "ENFILE"}
"""What keeps the system from reading a file, whatever is in it."""


class InputError(ValueError):
    """Unusable input; the message says in one sentence what is wrong and what to do."""


def require(condition: bool, sentence: str) -> None:
    """Raise `InputError(sentence)` unless `condition` holds."""
    if not condition:
        raise InputError(sentence)


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """The end of a sentence: a question with the known word that is most like `word`, if one is."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {close[0]}?" if close else f"{otherwise}."


def unreadable(path: object, error: Exception, sentence: str) -> InputError:
    """The error for a file on which a library raised `error`: `sentence`, unless the disk or the network failed."""
    told = re.search(r"errno = (\d+)", str(error))  # HDF5's
    code = int(told[1]) if told else error.errno if isinstance(error, OSError) else None
    if errno.errorcode.get(code or 0) not in _OUTSIDE or type(error).__module__.startswith("av."):
        return InputError(sentence)
    reason = os.strerror(code or 0).lower()
    return InputError(f"{path} cannot be read ({reason}): check its permissions, the disk and the network.")
