"""Many clips: on one machine, in shards on several, and what became of each."""

import dataclasses
import functools
import hashlib
import json
import logging
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from natsort import natsorted

from nuclear_diffusion import signals
from nuclear_diffusion.errors import InputError, require
from nuclear_diffusion.files import beside, write
from nuclear_diffusion.io import Reading
from nuclear_diffusion.io.find import Frames, Source, expand
from nuclear_diffusion.io.formats import open_stored
from nuclear_diffusion.reporting import one_line, sentence_of, shown
from nuclear_diffusion.restore.methods import Method, as_dict
from nuclear_diffusion.restore.outputs import Outputs
from nuclear_diffusion.restore.run import LoadedPrior, OtherStrength, Outcome, dehaze_file, folder_names, prior_of
from nuclear_diffusion.restore.workers import Tell, Work, spread
from nuclear_diffusion.text import read_json
from nuclear_diffusion.types import Mask

RECORDS = ".batch"
"""Folder in the output with a record of each clip, from which the last shard makes the summary."""

MOST_WORDS = 300
"""Characters of an error message that is not ours."""

log = logging.getLogger(__name__)


class Item(NamedTuple):
    """A clip of a batch."""

    source: Source
    name: str

    @property
    def place(self) -> str:
        """Where the clip is."""
        return place_of(self.source)


class Shard(NamedTuple):
    """Every `parts`-th clip, from number `part` (1-based) on."""

    part: int = 1
    parts: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """From I/N. Raises `InputError` unless 1 <= I <= N."""
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
        part, parts = map(int, found.groups()) if found else (0, 0)
        require(1 <= part <= parts, f"--shard must be I/N with I from 1 to N, such as 2/8, got {text}.")
        return cls(part, parts)

    def of(self, items: Sequence[Item]) -> list[Item]:
        """The clips of this shard. The shards share out all clips, and neighbours go to different shards."""
        return list(items[self.part - 1 :: self.parts])


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a clip."""

    clip: str
    state: str
    """"done", "skipped" (the same result existed already), "left" (one at another strength did) or "failed"."""
    source: str
    configuration: str
    """`Task.configuration`."""
    result: str = ""
    reason: str = ""
    """Why it was left or failed, in one sentence."""
    traceback: str = ""
    """Of a bug of the package."""
    frames: int | None = None
    seconds: float | None = None
    haze_energy_removed: float | None = None
    bright_tissue_lost: float | None = None
    bright_tissue_changed: float | None = None
    flicker_in: float | None = None
    flicker_out: float | None = None
    notes: tuple[str, ...] = ()
    separated: bool = True
    """Whether the clip was separated now, in `seconds`; else outputs were added or rendered."""


@dataclasses.dataclass(frozen=True)
class Task:
    """What is done with each clip; see `dehaze_file`."""

    output: Path
    method: Method
    reading: Reading | None = None
    sector: Mask | None = None
    outputs: Outputs | None = None
    overwrite: bool = False

    @functools.cached_property
    def configuration(self) -> str:
        """Distinguishes the records of other settings."""
        sector = None if self.sector is None else hashlib.sha256(np.packbits(self.sector).tobytes()).hexdigest()
        about = [as_dict(self.method), sector, self.reading and dataclasses.asdict(self.reading)]
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]

    def run(self, item: Item, loaded: LoadedPrior, tell: Tell | None = None) -> Record:
        """Dehaze one clip; raises what `dehaze_file` raises."""
        folder = self.output / item.name
        outcome = dehaze_file(
            item.source,
            folder,
            self.method,
            loaded,
            reading=self.reading,
            sector=self.sector,
            outputs=self.outputs,
            overwrite=self.overwrite,
            progress=tell,
        )
        return self._record(item, "skipped" if outcome.skipped else "done", outcome)

    def _record(self, item: Item, state: str, outcome: Outcome, reason: str = "") -> Record:
        report = outcome.report
        flicker = report.get("flicker") or {}
        return Record(
            item.name,
            state,
            item.place,
            self.configuration,
            shown(str(outcome.folder)),
            shown(reason),
            frames=report.get("frames"),
            seconds=report.get("seconds"),
            haze_energy_removed=report.get("haze_energy_removed"),
            bright_tissue_lost=report.get("bright_tissue_lost"),
            bright_tissue_changed=report.get("bright_tissue_changed"),
            flicker_in=flicker.get("input"),
            flicker_out=flicker.get("signal"),
            notes=tuple(report.get("notes", ())),
            separated=outcome.separated,
        )

    def attempt(self, item: Item, loaded: LoadedPrior, tell: Tell | None = None, *, strict: bool = False) -> Record:
        """Dehaze one clip; what goes wrong is in the record. With `strict` a bug is raised."""
        try:
            return self.run(item, loaded, tell)
        except OtherStrength as error:
            return self._record(item, "left", error.outcome, str(error))
        except Exception as error:
            signals.check()  # a signal may arrive as any exception from compiled code
            log.info("%s failed", item.place, exc_info=True)
            sentence = sentence_of(error)
            if sentence is not None:
                return self.failed(item, sentence)
            if strict:
                raise
            first = " ".join(f"{type(error).__name__}: {error}".split())
            where = _path_of(item.name, self.output)
            sentence = f"{item.place}: {first[:MOST_WORDS]} (a bug, please report it: see {where})."
            return self.failed(item, sentence, traceback.format_exc())

    def unreadable(self, item: Item) -> Record | None:
        """The record of a clip that cannot be opened."""
        try:
            open_stored(item.source, self.reading or Reading())
        except InputError as error:
            return self.failed(item, sentence_of(error) or "")

    def failed(self, item: Item, reason: str, trace: str = "") -> Record:
        """The record of a clip that failed."""
        reason, trace = shown(reason), shown(trace)
        return Record(item.name, "failed", item.place, self.configuration, reason=reason, traceback=trace)


def items_of(paths: Sequence[Path], output: Path | None = None) -> list[Item]:
    """The clips that were typed, and those in the folders among them, in natural order, and their result names.

    Folders of several clips become their clips (`expand`), but not results in them. Order and names do not depend on
    the order of `paths`.
    """
    sources = natsorted(expand(paths, output), key=place_of)
    return [Item(*pair) for pair in zip(sources, folder_names(sources), strict=True)]


def place_of(source: Source) -> str:
    """Where a clip is, for a person."""
    return one_line(str(source.folder / source.name if isinstance(source, Frames) else source))


def run_batch(
    items: Sequence[Item],
    task: Task,
    *,
    jobs: int | None = None,
    progress: Callable[..., None] | None = None,
    strict: bool = False,
) -> Iterator[Record]:
    """Dehaze `items` and yield what became of each as it ends; a clip that fails does not stop the others.

    With `jobs`, in as many worker processes, so that even a crash costs one clip; otherwise in this process. Each loads
    the prior once. With `strict` a bug is raised, in this process. Raises `InputError` if the prior cannot
    be loaded, or several workers would share an accelerator.
    """
    skipped = ended = 0

    def tell(at_work: dict[int, tuple[float, float]]) -> None:
        """Skipped clips take no time, so that they do not count for the time left."""
        if progress is not None:
            parts = {items[index].name: done / total for index, (done, total) in at_work.items() if total}
            words = ", ".join(f"{name} {part:.0%}" for name, part in parts.items())
            progress(ended - skipped + sum(parts.values()), len(items) - skipped, words)

    def tell_of(index: int, done: float, total: float) -> None:
        tell({index: (done, total)})

    def all_records() -> Iterator[Record]:
        if jobs is None:
            if len(items) == 1 and (refused := task.unreadable(items[0])):  # before the prior is loaded
                yield refused
                return
            loaded = prior_of(task.method)
            for index, item in enumerate(items):
                tell({index: (0, 1)})
                yield task.attempt(item, loaded, functools.partial(tell_of, index), strict=strict)
            return
        for one in spread(items, functools.partial(_start, task, jobs), jobs, tell):
            item = items[one.task]
            if one.died is None:
                yield one.value
            else:
                yield task.failed(item, f"{item.place}: its worker process {one.died}.")

    for record in all_records():
        ended += 1
        skipped += record.state in ("skipped", "left")
        log.info("%s: %s %s", record.source, record.state, record.reason)
        yield record


def _start(task: Task, jobs: int) -> Work:
    """In a worker: load the prior."""
    if jobs > 1:
        import jax

        require(jax.default_backend() == "cpu", "Several workers would share one accelerator: use --jobs 1.")
    loaded = prior_of(task.method)
    return lambda item, tell: task.attempt(item, loaded, tell)


def keep(record: Record, output: Path) -> None:
    """Store a record for the summary."""
    write(_path_of(record.clip, output), msgspec.json.format(msgspec.json.encode(record)))


def records_of(items: Sequence[Item], task: Task, made: dict[str, Record]) -> list[Record | None]:
    """The stored records of `items` with the task's settings, of this process or another; else those that were `made`
    here, by name: another process may have stored one of other settings. None where there is none.
    """

    def stored(item: Item) -> Record | None:
        try:
            record = read_json(_path_of(item.name, task.output), Record, "a record of a clip")
        except InputError:
            return None
        wanted = (item.name, item.place, task.configuration)
        return record if (record.clip, record.source, record.configuration) == wanted else None

    return [stored(item) or made.get(item.name) for item in items]


def _path_of(clip: str, output: Path) -> Path:
    return beside(output / RECORDS / clip, "json")
