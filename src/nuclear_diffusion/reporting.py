"""What a command says: progress, results, notes and errors; for a terminal, for a log, or for a script."""

import datetime
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from nuclear_diffusion import signals
from nuclear_diffusion.errors import InputError

FIRST_SECONDS, LINE_SECONDS = 5.0, 60.0  # seconds to the first line of a log, and between lines
EVENT_SECONDS = 1.0  # seconds between progress events for scripts


class Reporter:
    """Results go to stdout; progress, notes and errors to stderr.

    With `json` stdout gets one JSON object per line instead of text and progress; with `quiet` only errors are printed.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False):
        if json and quiet:
            raise InputError("--json and --quiet contradict each other: remove one of them.")
        self.json, self.quiet = json, quiet
        self._start = time.monotonic()
        self._due = self._start + (EVENT_SECONDS if json else FIRST_SECONDS)
        self._lock = threading.Lock()
        self._open = 0  # tasks of `_lines`, one within the other

    def result(self, text: str, event: str = "result", **fields: Any) -> None:
        """Say what was made."""
        if self.json:
            self._event(event, **fields)
        elif not self.quiet:
            self._print(text, sys.stdout)

    def note(self, sentence: str, **fields: Any) -> None:
        """Say something about the data or the result that a person should know."""
        if self.json:
            self._event("note", note=sentence, **fields)
        elif not self.quiet:
            where = f"{fields['clip']}: " if "clip" in fields else ""
            self._print(one_line(f"note: {where}{sentence}"), sys.stderr)

    def error(self, sentence: str, event: str = "error", **fields: Any) -> None:
        """Say what went wrong."""
        if self.json:
            self._event(event, error=sentence, **fields)
        self._print(f"error: {sentence}", sys.stderr)

    def interrupted(self, sentence: str) -> None:
        """Say that a signal ended the command, and what is finished."""
        if self.json:
            self._event("interrupted", error=sentence)
        self._print(f"\n{sentence}", sys.stderr)

    @contextmanager
    def progress(self, description: str) -> Iterator[Callable[..., None]]:
        """Show progress; yields a function to call with (done, total) and optionally a short text.

        A terminal gets a bar with elapsed and remaining time. A log gets a line within seconds and then one a minute,
        also while nothing is reported.
        """
        if self.quiet:
            yield lambda *_: signals.check()
        elif self.json or not sys.stderr.isatty():
            with self._lines(description) as tell:
                yield tell
        else:
            with _bar(description) as tell:
                yield tell

    @contextmanager
    def _lines(self, description: str) -> Iterator[Callable[..., None]]:
        started, ended = time.monotonic(), threading.Event()
        state: tuple[float, float, str] = (0, 0, "")
        begun: tuple[float, float] | None = None  # what was done at first, as a run may go on from a checkpoint
        self._open += 1
        depth = self._open
        self._due = max(self._due, started + FIRST_SECONDS / 5)  # no line for a refusal, however long imports took

        def tell(done: float, total: float, words: str = "") -> None:
            nonlocal state, begun
            signals.check()
            begun = begun or (done, time.monotonic())
            state = (done, total, words)

        def keep_saying() -> None:
            said = state
            while not ended.wait(max(0.0, self._due - time.monotonic())):
                now = time.monotonic()
                if depth < self._open:  # the task within this one speaks
                    ended.wait(0.1)
                    continue
                self._due = now + (EVENT_SECONDS if self.json else LINE_SECONDS)
                with suppress(OSError):  # nobody reads on: the next result finds that out
                    if self.json and state == said:
                        continue
                    said = state
                    if self.json:
                        about = {"done": state[0], "total": state[1]} | ({"words": state[2]} if state[2] else {})
                        self._event("progress", task=description, **about, seconds=round(now - started, 1))
                    else:
                        done, total, words = state
                        left = seconds_left(begun, done, total, now)
                        said_now = line(description, done, total, words, now - started, left)
                        self._print(one_line(said_now), sys.stderr)

        speaker = threading.Thread(target=keep_saying, daemon=True)
        speaker.start()
        try:
            yield tell
        finally:
            self._open -= 1
            ended.set()
            speaker.join()

    def _event(self, event: str, **fields: Any) -> None:
        self._print(json.dumps({"event": event, **fields}, default=str), sys.stdout)

    def _print(self, text: str, stream: TextIO | None) -> None:
        """Print a line or several, whole: another thread may print too. A closed stream is None and gets nothing."""
        if stream is None:
            return
        coding = getattr(stream, "encoding", None) or "utf-8"
        with self._lock:
            stream.write(shown(text).encode(coding, "backslashreplace").decode(coding) + "\n")
            stream.flush()


progress_bar = Reporter().progress
"""Progress for programs without these options."""


def line(description: str, done: float, total: float, words: str, seconds: float, left: float | None) -> str:
    """Progress after some seconds as one line of a log, with the seconds left."""
    counts = f"{done:.0f} of {total:.0f}, " if total else ""
    estimate = "" if left is None else f", about {_duration(left)} left"
    return f"{description}: {counts}{_duration(seconds)} elapsed{estimate}{', ' * bool(words)}{words}"


def seconds_left(begun: tuple[float, float] | None, done: float, total: float, now: float) -> float | None:
    """Seconds left, by the speed since the first report."""
    if begun is None or done <= begun[0]:
        return None
    return (total - done) * (now - begun[1]) / (done - begun[0])


def shown(text: str) -> str:
    """Text for terminals and files: names may hold any character, of which those that cannot be seen are spelt out."""
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)


def one_line(text: str) -> str:
    """The same on one line: names may hold line breaks."""
    return shown(text).replace("\n", "\\n")


def plural(count: int, noun: str) -> str:
    """A count in words: 1 clip, 2 clips."""
    return f"{count} {noun}{'s' * (count != 1)}"


def sentence_of(error: Exception) -> str | None:
    """An error that the user can fix, on one line; None for any other, which is a bug."""
    if isinstance(error, InputError):
        sentence = str(error)
    elif isinstance(error, OSError) and error.strerror:
        sentence = f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
    elif isinstance(error, OSError):  # h5py and av set only the message
        sentence = str(error)
    elif isinstance(error, MemoryError):
        sentence = "There is not enough memory: give a smaller clip, or use fewer --jobs."
    elif isinstance(error, BrokenExecutor):
        sentence = "A worker process was killed, probably for lack of memory: free some and run the command again."
    else:
        return None
    return shown(" ".join(sentence.split()))


@contextmanager
def _bar(description: str) -> Iterator[Callable[..., None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[counts]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("elapsed,"),
        Remaining(),
        TextColumn("left {task.fields[words]}", markup=False),
    )
    # Estimate speed over an hour, because rich's 30 s may not contain a single step.
    with Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=3600) as bar:
        task = bar.add_task(description, total=None, words="", counts="")

        def tell(done: float, total: float, words: str = "") -> None:
            signals.check()
            bar.update(task, completed=done, total=total, words=words, counts=f"{done:.0f}/{total:.0f}")

        yield tell


def _duration(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
