"""Reads files in a process of its own; the parent sends one line for each and gets one line back."""

import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import numpy as np

from benchmarks.fuzzing.seeds import ABOUT, SHAPE, VALUE, frames
from nuclear_diffusion.errors import InputError

READ, REFUSED, TRACEBACK, CRASH, HANG, MEMORY, WRONG = OUTCOMES = (
    "read",
    "refused",
    "traceback",
    "crash",
    "hang",
    "memory",
    "wrong",
)
"""Outcomes of one file; the first two are good. Wrong: accepted, but nobody can use it, or another answer."""

SLOWEST, FASTEST = 1e-2, 1e5
"""Frame rates that can be written to a movie."""


class WrongAnswer(Exception):
    """A damaged file was accepted with an impossible result."""


def _video(path: Path) -> None:
    from nuclear_diffusion.io import read_video

    clip = read_video(path)
    if not (np.isfinite(clip.frames).all() and clip.frames.min() >= 0 and clip.frames.max() <= 1):
        raise WrongAnswer("frames outside [0, 1]")
    if not SLOWEST <= clip.fps <= FASTEST:
        raise WrongAnswer(f"frame rate {clip.fps}")


def _mask(path: Path) -> None:
    from nuclear_diffusion.measure.datasets import read_mask

    read_mask(path, SHAPE[1:])


def _settings(path: Path) -> None:
    from nuclear_diffusion.restore.methods import read_settings

    read_settings(path)


def _patients(path: Path) -> None:
    from nuclear_diffusion.measure.datasets import Case, Dataset, only_patients

    cases = tuple(Case(name, name, path, ()) for name in ("patient-1", "patient-2"))
    only_patients(Dataset(cases, (), ()), path)


def _prior(path: Path) -> None:
    import jax

    from nuclear_diffusion.priors.checkpoint import load_prior

    for leaf in jax.tree.leaves(load_prior(path)):
        if not np.isfinite(leaf).all():
            raise WrongAnswer("weights that are not finite")


def _scores(folder: Path) -> None:
    from nuclear_diffusion.measure.store import Store

    found = Store(folder).once("patient-1/rpca", ABOUT, lambda: VALUE)
    if json.dumps(found) != json.dumps(VALUE):
        raise WrongAnswer("a changed score is believed")


def _arrays(folder: Path) -> None:
    from nuclear_diffusion.measure.store import Store

    found = Store(folder).arrays("patient-1/rpca", ABOUT)
    if found is None:
        raise InputError("missing")
    if not np.array_equal(found["signal"], frames()):
        raise WrongAnswer("a changed answer is believed")


def _dataset(folder: Path) -> None:
    from nuclear_diffusion.measure.datasets import find_dataset

    (case,) = find_dataset(folder).cases
    if case.fps is not None and not 0 < case.fps < FASTEST:
        raise WrongAnswer(f"frame rate {case.fps}")


def _report(folder: Path) -> None:
    from nuclear_diffusion.restore.folder import read_report

    read_report(folder)


LOADERS: dict[str, Callable[[Path], None]] = {
    "video": _video,
    "mask": _mask,
    "labelme": _mask,
    "settings": _settings,
    "patients": _patients,
    "prior": _prior,
    "scores": _scores,
    "arrays": _arrays,
    "dataset": _dataset,
    "report": _report,
}


def outcome(loader: str, path: Path) -> tuple[str, str]:
    """What becomes of a file, and the sentence or the last place of the traceback."""
    try:
        LOADERS[loader](path)
    except InputError as error:
        return REFUSED, str(error)
    except MemoryError as error:
        return MEMORY, _place(error)
    except WrongAnswer as error:
        return WRONG, str(error)
    except BaseException as error:
        return TRACEBACK, _place(error)
    return READ, ""


def _place(error: BaseException) -> str:
    """The kind of an error, our last line before it, and the library's."""
    steps = traceback.extract_tb(error.__traceback__)
    ours = [step for step in steps if "nuclear_diffusion" in step.filename]
    places = dict.fromkeys(f"{Path(step.filename).name}:{step.lineno}" for step in (*ours[-1:], *steps[-1:]))
    return f"{type(error).__name__} at {', '.join(places)}: {' '.join(str(error).split())[:120]}"


def main(seconds: float, memory: int) -> None:
    """Answer lines of JSON, [loader, path], in a forked process, which is forked again when a file ends it.

    A file may take `seconds` of processor time, or six times as long asleep, and `memory` bytes more than now.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    silence = os.open(os.devnull, os.O_WRONLY)  # libraries print
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    _warm_up()
    answers.write("ready\n")
    while (process := os.fork()) != 0:
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if code == 0:  # nothing more to read
            return
        late = code in (-signal.SIGPROF, -signal.SIGALRM)
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        answers.write(json.dumps([HANG, f"longer than {seconds:g} s"] if late else [CRASH, name]) + "\n")
    _answer(answers, seconds, memory)
    os._exit(0)


def _answer(answers: TextIO, seconds: float, memory: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while line := os.read(0, 1 << 16):  # one line, as the parent waits for the answer
        asked: list[str] = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, seconds)  # their signals end the process, in the midst of a library too
        signal.setitimer(signal.ITIMER_REAL, 6 * seconds)
        found = outcome(asked[0], Path(asked[1]))
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(json.dumps(found) + "\n")


def _warm_up() -> None:
    """Import all that reads."""
    import nuclear_diffusion.io
    import nuclear_diffusion.measure.datasets
    import nuclear_diffusion.measure.store
    import nuclear_diffusion.priors.checkpoint
    import nuclear_diffusion.restore.folder  # noqa: F401


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
