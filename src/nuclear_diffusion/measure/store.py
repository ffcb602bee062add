"""Finished results on disk, so that interrupted runs resume.

The key of an entry is a JSON value with all that the result depends on, such as the settings and the hashes of frames
and weights. Each entry is a file with the hash of its content, written atomically; a damaged or changed file counts as
missing.
"""

import contextlib
import hashlib
import json
import os
import signal
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy import ndarray

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.files import atomic, write
from nuclear_diffusion.text import read_json, require_file

REVISION = 1
"""Part of every key: raise it when a code change affects any output or score, also of a variant in the benchmarks, so
that everything is recomputed."""
LARGEST = 1 << 36  # largest stored arrays, bytes


class Store(NamedTuple):
    """A folder of finished results. Names are for readers, may contain slashes, and need not be unique."""

    folder: Path

    def once(self, name: str, about: Any, compute: Callable[[], Any]) -> Any:
        """The JSON value of `about`, computed and stored if missing.

        Returned as read back from JSON: NaN and infinities are kept, keys become text and tuples lists.
        """
        if (entry := self._entry(name, about)) is not None:
            return entry.value
        value = json.loads(json.dumps(compute()))
        text = json.dumps({"key": digest(about), "sha256": _hash(value), "value": value})
        write(self._path(name, about, "json"), text)
        return value

    def has(self, name: str, about: Any) -> bool:
        """Whether the JSON value of `about` is stored."""
        return self._entry(name, about) is not None

    def _entry(self, name: str, about: Any) -> "_Entry | None":
        with contextlib.suppress(InputError):
            entry = read_json(self._path(name, about, "json"), _Entry, "a stored result", nonfinite=True)
            if entry.key == digest(about) and entry.sha256 == _hash(entry.value):
                return entry
        return None

    def arrays(self, name: str, about: Any) -> dict[str, ndarray] | None:
        """Stored arrays by name, or None."""
        path = self._path(name, about, "npz")
        try:
            require_file(path, "a stored result")
            with zipfile.ZipFile(path) as stored:
                if sum(each.file_size for each in stored.infolist()) > LARGEST:
                    return None
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                found = dict(stored)
                key, sha256 = str(found.pop("key")), str(found.pop("sha256"))
                return found if key == digest(about) and sha256 == _hash_arrays(found) else None
        except Exception:  # zipfile and NumPy raise anything on damaged files, and a damaged file counts as missing
            return None

    def keep_arrays(self, name: str, about: Any, arrays: Mapping[str, Any]) -> None:
        """Store arrays, compressed, with their hash."""
        known = {name: np.asarray(array) for name, array in arrays.items()}
        with atomic(self._path(name, about, "npz")) as temporary:
            np.savez_compressed(temporary, **{**known, "key": digest(about), "sha256": _hash_arrays(known)})  # pyright: ignore

    def _path(self, name: str, about: Any, suffix: str) -> Path:
        return self.folder / f"{name}-{digest(about)[:16]}.{suffix}"


def reused(count: int, total: int, folder: Path) -> tuple[str, ...]:
    """The sentence about answers that were not computed again, if any."""
    advice = "after a change of code delete it, or raise REVISION in nuclear_diffusion/measure/store.py"
    return (f"{count} of {total} answers are from {folder} ({advice})",) if count else ()


def digest(about: Any) -> str:
    """SHA-256 of a JSON value and of `REVISION`."""
    return _hash([REVISION, about])


class _Entry(msgspec.Struct):
    """A stored JSON value, what it is of, and its hash, by which a value that was changed later is noticed."""

    key: str
    sha256: str
    value: Any


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _hash_arrays(arrays: Mapping[str, ndarray]) -> str:
    found = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def each(function: Callable[[Any], Any], items: Sequence[Any], workers: int = 1) -> Iterator[tuple[int, Any]]:
    """Index and result of `function` for each of `items`, in order of completion, from `workers` processes (1: this).

    Workers end on Ctrl-C and with this process. Raises `InputError` if a worker dies, or several would share a GPU.
    """
    if workers == 1:
        yield from ((index, function(item)) for index, item in enumerate(items))
        return
    import jax
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky import get_reusable_executor

    if jax.default_backend() != "cpu":
        raise InputError("several workers would share one accelerator: use --workers 1.")
    tasks = (delayed(_numbered)(function, index, item) for index, item in enumerate(items))
    try:
        with parallel_config("loky", n_jobs=workers, initializer=_follow, initargs=(os.getpid(),)):
            yield from Parallel(return_as="generator_unordered", batch_size=1)(tasks)  # pyright: ignore
    except BrokenProcessPool as error:
        raise InputError(
            "a worker process died, probably for lack of memory: run again with fewer --workers; finished results "
            "were kept."
        ) from error
    except BaseException:
        get_reusable_executor().shutdown(wait=False, kill_workers=True)
        raise


def _numbered(function: Callable[[Any], Any], index: int, item: Any) -> tuple[int, Any]:
    return index, function(item)


def _follow(parent: int) -> None:
    """In a worker: ignore Ctrl-C, and end with the parent process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
