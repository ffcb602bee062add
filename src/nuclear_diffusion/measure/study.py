"""Methods over clips: each answer is stored as it comes, and reused as long as nothing behind it changes."""

import functools
import hashlib
import json
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from msgspec import structs
from numpy import ndarray

import nuclear_diffusion
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.files import atomic
from nuclear_diffusion.io import find_sector
from nuclear_diffusion.measure.comparison import METHODS
from nuclear_diffusion.measure.datasets import Case, Loaded
from nuclear_diffusion.measure.measures import Measured, eight_bits, measure, spectra
from nuclear_diffusion.priors.protocol import Prior
from nuclear_diffusion.restore import methods as kinds
from nuclear_diffusion.restore.clip import PRIOR_SIZE, Dehazed, Progress, dehaze_clip, rendered
from nuclear_diffusion.restore.folder import fingerprint, versions
from nuclear_diffusion.restore.methods import Nuclear, Rpca, as_dict
from nuclear_diffusion.restore.run import prior_of
from nuclear_diffusion.types import Mask

HAZY = "hazy"
"""The method that does nothing."""

STRENGTHS = ("lam", "sigma", "strength", "mu", "gamma")
"""What makes a method act more or less: the first of these that has a number for its default is varied."""

_SEPARATING = ("types.py", "paper", "priors", "io", "restore")
_MEASURING = ("metrics", "measure/measures.py", "measure/scores.py", "measure/datasets.py")


@dataclass(frozen=True)
class Method:
    """One way of answering a clip.

    Attributes:
        name: unique in a study, and part of file names.
        settings: None for the hazy input itself.
        prior_sha256: of the weights, where the method has any.
        size: side of the frames that are separated, pixels.
        varied: the method whose strength this one varies; None for those of the tables.
        code_sha256: of the source text that answers; noted here once, so that all workers agree.
    """

    name: str
    settings: kinds.Method | None
    prior_sha256: str | None = None
    size: int = PRIOR_SIZE
    varied: str | None = None
    code_sha256: str = field(default_factory=lambda: code_hash(_SEPARATING))

    @property
    def configuration(self) -> dict[str, Any]:
        """What decides the method's answer, besides the frames."""
        settings = None if self.settings is None else as_dict(self.settings)
        if settings is not None and "prior" in settings:
            settings = {**settings, "prior": None}  # its hash counts, not where it lies
        return {
            "settings": settings,
            "prior_sha256": self.prior_sha256,
            "size": self.size,
            "code_sha256": self.code_sha256,
            "versions": versions(),
        }

    @property
    def configuration_hash(self) -> str:
        """First 12 digits of the SHA-256 of `configuration`."""
        return digest(self.configuration)[:12]


class Failure(NamedTuple):
    """A clip that a method could not take."""

    case: str
    method: str
    reason: str


class Study(NamedTuple):
    """What came of all methods on all clips."""

    cases: tuple[Case, ...]
    """Clips that every method answered, in the order of the data set."""
    methods: tuple[Method, ...]
    """Those of the tables first, then their variations."""
    measured: dict[tuple[str, str], Measured]
    """By method and case."""
    failures: tuple[Failure, ...]
    folder: Path

    @property
    def main(self) -> tuple[Method, ...]:
        """The methods of the tables."""
        return tuple(method for method in self.methods if method.varied is None)

    def of(self, method: str) -> list[Measured]:
        """The numbers of one method, clip by clip."""
        return [self.measured[method, case.name] for case in self.cases]

    def signal(self, method: str, case: Case) -> UInt8[ndarray, "frames height width"]:
        """A stored answer of one of the `main` methods."""
        if method == HAZY:
            return eight_bits(case.read().clip.frames)
        found = self.measured[method, case.name]
        with np.load(_answer_path(self.folder, case.name, method, found.key)) as stored:
            return stored["signal"]


def choose_methods(
    names: str,
    *,
    prior: str | None = None,
    seed: int | None = None,
    settings: Sequence[kinds.Method] = (),
    size: int = PRIOR_SIZE,
) -> list[Method]:
    """The methods that a comma-separated list names, `hazy` always first among them.

    Each has its defaults, or what `METHODS` says, or those of `settings` that are its own. `prior` replaces the prior
    of the methods that have one, `seed` every seed. Raises `InputError` for an unknown name, a name given twice, a
    prior that cannot be used, and settings of a method that has others already or is not named.
    """
    known: dict[str, kinds.Method] = {name: kind() for name, kind in kinds.METHODS.items()} | METHODS
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in (HAZY, *known):
            raise InputError(f"--methods has {name!r}: choose from {', '.join((HAZY, *known))}, separated by commas.")
        if wanted.count(name) > 1:
            raise InputError(f"--methods names {name} twice: name each method once.")
    own = {each.name: each for each in settings}
    if len(own) < len(settings):
        raise InputError("--settings has two files of one method: give one file a method.")
    for name in own:
        if name not in wanted:
            raise InputError(f"--settings has a file of {name}, which --methods does not name: add it or leave it out.")
    methods = [Method(HAZY, None, size=size)]
    hashes = functools.cache(lambda path: prior_of(Nuclear(prior=path)).sha256)
    for name in wanted:
        if name != HAZY:
            chosen = own.get(name, known[name])
            chosen = with_settings(chosen, **({} if prior is None else {"prior": prior}))
            chosen = with_settings(chosen, **({} if seed is None else {"seed": seed}))
            methods.append(Method(name, chosen, None if isinstance(chosen, Rpca) else hashes(chosen.prior), size))
    return methods


def vary(methods: Sequence[Method], factors: Sequence[float] | Mapping[str, Sequence[float]]) -> list[Method]:
    """Each method at other strengths: its own times each of `factors`, of all methods or by method.

    A factor of 1 is left out, and what takes the strength of `nuclear` above 1, as nothing is left to take there.
    """
    found = []
    for method in methods:
        name = None if method.settings is None else strength_of(method.settings)
        if method.settings is None or name is None:
            continue
        for factor in factors.get(method.name, ()) if isinstance(factors, Mapping) else factors:
            if factor != 1:
                value = factor * getattr(method.settings, name)
                if name == "strength" and value > 1:
                    continue
                settings = with_settings(method.settings, **{name: value})
                found.append(
                    replace(method, name=f"{method.name}-{name}-{value:g}", settings=settings, varied=method.name)
                )
    return found


def with_settings(method: kinds.Method, **values: Any) -> kinds.Method:
    """`method` with other values of the settings that it has; the others are left out."""
    return structs.replace(method, **{name: value for name, value in values.items() if hasattr(method, name)})


def strength_of(method: kinds.Method) -> str | None:
    """The name of the setting that is the method's strength, see `STRENGTHS`."""
    return next((name for name in STRENGTHS if hasattr(method, name)), None)


def run_study(
    cases: Sequence[Case],
    methods: Sequence[Method],
    folder: Path,
    *,
    workers: int = 1,
    progress: Progress | None = None,
) -> Study:
    """Run every method on every clip, in `workers` processes, and measure the answers.

    Answers and numbers are stored in `folder`, whole or not at all, under the hash of what they follow from: a rerun
    computes what is missing. The numbers, but for the seconds, do not depend on `workers`. A clip that cannot be read,
    or that a method cannot take, is left out of the study and named in `failures`.

    Raises:
        InputError: no clip is left, a worker died, or several workers were asked for on a GPU.
    """
    _read.cache_clear()
    _separated.cache_clear()
    tasks = [_Task(case, method, folder) for case in cases for method in methods]
    measured, failures = {}, []
    for done, result in enumerate(_results(tasks, workers, progress), start=1):
        if isinstance(result, Failure):
            failures.append(result)
        else:
            measured[result.method, result.case] = result
        if progress is not None:
            progress(done, len(tasks))
    failed = {failure.case for failure in failures}
    left = tuple(case for case in cases if case.name not in failed)
    if not left:
        raise InputError(f"no clip could be evaluated; the first failed with: {failures[0].reason}")
    order = {(case.name, method.name): index for index, (case, method, _) in enumerate(tasks)}
    failures.sort(key=lambda failure: order[failure.case, failure.method])
    return Study(left, tuple(methods), measured, tuple(failures), folder)


class _Task(NamedTuple):
    case: Case
    method: Method
    folder: Path


def _results(tasks: list[_Task], workers: int, progress: Progress | None) -> Iterator[Measured | Failure]:
    """The outcome of each task, in the order in which they end."""
    if progress is not None:
        progress(0, len(tasks))
    if workers == 1:
        yield from map(_attempt, tasks)
        return
    import jax

    if jax.default_backend() != "cpu":
        raise InputError("several workers would share one accelerator: use --workers 1.")
    with _pool(workers) as pool:
        futures = [pool.submit(_attempt, task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise InputError(
                "a worker process ended early, probably for lack of memory: run again with fewer --workers; "
                "what was finished stays."
            ) from error


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes (JAX must not be forked), ended at once when the block is left early, as by Ctrl-C."""
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_follow_the_parent)
    try:
        yield pool
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()


def _follow_the_parent() -> None:
    """In a worker: Ctrl-C is for the parent to answer, and where the parent was killed nobody waits for an answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _attempt(task: _Task) -> Measured | Failure:
    try:
        return _measured(task)
    except InputError as error:
        return Failure(task.case.name, task.method.name, str(error))


def _measured(task: _Task) -> Measured:
    """The numbers of one task, from disk where they are there."""
    case, method, folder = task
    loaded, frames_hash, marks_hash = _read(case)
    key = digest({"frames": frames_hash, **method.configuration})
    path = folder / case.name / f"{method.name}-{key[:16]}-{digest([marks_hash, *_measuring()])[:8]}.json"
    if (stored := _stored_numbers(path, key)) is not None:
        return replace(stored, patient=case.patient)
    answer = _answer(case, method, folder, key)
    scores, histograms = measure(loaded, answer.signal, answer.sector)
    result = Measured(
        case=case.name,
        patient=case.patient,
        method=method.name,
        key=key,
        frames=len(loaded.clip),
        seconds=answer.seconds,
        compiled=answer.compiled,
        numbers=list(loaded.annotations),
        pixels=[[int(a.sum()), int(b.sum())] for a, b in loaded.annotations.values()],
        scores=scores,
        histograms=histograms,
        spectra=answer.spectra,
    )
    with atomic(path) as temporary:
        temporary.write_text(result.as_json(), encoding="utf-8")
    return result


def _stored_numbers(path: Path, key: str) -> Measured | None:
    try:
        stored = Measured.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return None
    return stored if stored.key == key else None


class _Answer(NamedTuple):
    signal: UInt8[ndarray, "frames height width"]
    sector: Mask
    seconds: float
    compiled: bool
    spectra: dict[str, list[list[float]]]


@functools.lru_cache(maxsize=1)
def _separated(case: Case, settings: kinds.Method, prior_sha256: str | None, size: int) -> Dehazed:
    """The last separation of this process."""
    prior = None if isinstance(settings, Rpca) else _prior(settings.prior, prior_sha256)
    return dehaze_clip(_read(case)[0].clip, settings, prior, size=size)


def _answer(case: Case, method: Method, folder: Path, key: str) -> _Answer:
    """The method's answer, from disk where it is there. Answers of variations are not kept."""
    clip, settings = _read(case)[0].clip, method.settings
    if settings is None:
        sector = find_sector(clip.frames, clip.region)
        return _Answer(eight_bits(clip.frames), sector, math.nan, False, {"signal": spectra(clip.frames, sector)})
    path = _answer_path(folder, clip.name, method.name, key)
    if (stored := _stored_answer(path, key)) is not None:
        return stored
    usual = with_settings(settings, strength=Nuclear().strength)
    dehazed = _separated(case, usual, method.prior_sha256, method.size)  # one for all strengths
    if isinstance(settings, Nuclear) and settings != usual:
        dehazed = rendered(clip, dehazed, settings.strength)
    parts: dict[str, Float[ndarray, "frames height width"]] = {}
    if method.varied is None:
        parts = {"signal": dehazed.signal, "background": dehazed.background}
    answer = _Answer(
        eight_bits(dehazed.signal),
        dehazed.sector,
        dehazed.seconds,
        _first_of_its_kind(method.name, len(clip)),
        {name: spectra(part, dehazed.sector) for name, part in parts.items()},
    )
    if method.varied is None:
        with atomic(path) as temporary:
            np.savez_compressed(temporary, key=key, **{**answer._asdict(), "spectra": json.dumps(answer.spectra)})
    return answer


def _stored_answer(path: Path, key: str) -> _Answer | None:
    if not path.is_file():
        return None
    with np.load(path) as stored:
        if str(stored["key"]) != key:
            return None
        return _Answer(
            stored["signal"],
            stored["sector"],
            float(stored["seconds"]),
            bool(stored["compiled"]),
            json.loads(str(stored["spectra"])),
        )


def _answer_path(folder: Path, case: str, method: str, key: str) -> Path:
    return folder / case / f"{method}-{key[:16]}.npz"


@functools.lru_cache(maxsize=1)
def _read(case: Case) -> tuple[Loaded, str, str]:
    """A case, the hash of its frames, and that of its numbers, masks and truth."""
    loaded = case.read()
    marks = hashlib.sha256(repr(loaded.numbers).encode())
    for number, regions in loaded.annotations.items():
        marks.update(str(number).encode())
        for region in regions:
            marks.update(np.packbits(region).data)
    marks.update(b"" if loaded.truth is None else np.ascontiguousarray(loaded.truth).data)
    region = loaded.clip.region
    frames = fingerprint(loaded.clip) + ("" if region is None else hashlib.sha256(np.packbits(region).data).hexdigest())
    return loaded, frames, marks.hexdigest()


@functools.lru_cache(maxsize=4)
def _prior(path: str, sha256: str | None) -> Prior | None:
    """The weights with that hash; each process loads them once."""
    loaded = prior_of(Nuclear(prior=path))
    if loaded.sha256 != sha256:
        raise InputError(f"{path} changed while the study ran: run it again.")
    return loaded.prior


_kinds: set[tuple[str, int]] = set()


def _first_of_its_kind(method: str, frames: int) -> bool:
    """Whether this process had not run `method` on a clip of that length before, and so had to compile."""
    first = (method, frames) not in _kinds
    _kinds.add((method, frames))
    return first


def digest(value: Any) -> str:
    """SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@functools.cache
def code_hash(parts: tuple[str, ...]) -> str:
    """SHA-256 of the source text of some modules and packages of `nuclear_diffusion`."""
    root = Path(nuclear_diffusion.__file__).parent
    found = hashlib.sha256()
    for part in parts:
        for path in sorted((root / part).rglob("*.py")) if (root / part).is_dir() else [root / part]:
            found.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return found.hexdigest()


def _measuring() -> list[str]:
    """What the numbers follow from, besides answer, masks and truth."""
    return [code_hash(_MEASURING), *(f"{name} {version(name)}" for name in ("numpy", "scipy", "scikit-image"))]
