"""What lies on the desk: opened clips, and runs of methods on them, one at a time."""

import dataclasses
import re
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from nuclear_diffusion.app.export import sector_name
from nuclear_diffusion.app.regions import Polygon, inside
from nuclear_diffusion.errors import InputError, require
from nuclear_diffusion.files import followed
from nuclear_diffusion.io import Clip, Reading, read_video
from nuclear_diffusion.io.clip import usable_rate
from nuclear_diffusion.io.find import Source, expand
from nuclear_diffusion.io.recording import Recording
from nuclear_diffusion.priors.checkpoint import SHIPPED
from nuclear_diffusion.reporting import sentence_of
from nuclear_diffusion.restore.clip import PIECE, Dehazed, Piece, dehaze_recording, joined, rendered
from nuclear_diffusion.restore.color import recolored
from nuclear_diffusion.restore.folder import holds_result, open_result
from nuclear_diffusion.restore.frames import blocks_of, survey
from nuclear_diffusion.restore.methods import Method, Nuclear, as_dict, from_dict
from nuclear_diffusion.restore.render import WIDTH, render
from nuclear_diffusion.restore.run import LoadedPrior, prior_of
from nuclear_diffusion.sector import find_sector
from nuclear_diffusion.types import Mask, Progress
from nuclear_diffusion.view.film import Film, film_of


def is_result(path: Path) -> bool:
    """Whether a folder is a result of `dehaze`."""
    return (path / "report.json").is_file()


class Stopped(Exception):
    """The user stopped a run."""


@dataclass(eq=False)
class Opened:
    """A clip on the desk."""

    clip: Clip
    source: str  # the file or folder as the user knows it; of a file that was dropped on the page only its name
    path: Source  # the file, also one that was dropped
    sector: Mask
    # where the sector comes from, if it is not found in the clip: drawn on the page, or of an opened result
    given: Literal["", "drawn", "result"] = ""
    rate: float | None = None  # the frame rate, if the user corrected it
    white: float | None = None  # the stored value of white, if the user corrected it

    def named(self, text: str) -> str:
        """A text with the file's name in place of its path, which the user of a dropped file does not know."""
        return text.replace(str(self.path), self.source)

    def info(self) -> dict[str, Any]:
        """What was understood of the file."""
        frames, height, width = self.clip.shape
        return {
            "name": self.clip.name,
            "source": self.source,
            "rate": self.rate,
            "white": self.white,
            "result": self.given == "result",
            "sector_file": sector_name(self.clip),
            "width_of_knob": WIDTH,
            "frames": frames,
            "height": height,
            "width": width,
            "channels": 1 if self.clip.color is None else 3,
            "fps": self.clip.fps,
            "darkest": round(255 * float(self.clip.frames.min())),
            "brightest": round(255 * float(self.clip.frames.max())),
            "sector": outline(self.sector),
            "sector_pixels": int(self.sector.sum()),
            "notes": [without_flags(note) for note in self.clip.notes],
        }


@dataclass(eq=False)
class Run:
    """A method on a clip."""

    clip: str
    method: Method
    sector: Mask | None = None  # the sector that is given; None: the one that is found
    given: str = ""  # as in `Opened`
    folder: Path | None = None  # the result folder that it was opened from
    state: str = "waiting"  # waiting, running, done, stopped or failed
    done: int = 0
    total: int = 0  # steps of the method
    frames: int = 0  # finished frames
    message: str = ""
    began: float = 0.0
    result: Dehazed | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def info(self) -> dict[str, Any]:
        """How far it is."""
        seconds = time.perf_counter() - self.began if self.state == "running" else None
        if self.result is not None:
            seconds = self.result.seconds
        return {
            "clip": self.clip,
            "method": as_dict(self.method),
            "sector": self.given,
            "folder": None if self.folder is None else str(self.folder),
            "state": self.state,
            "done": self.done,
            "total": self.total,
            "frames": self.frames,
            "stopping": self.stop.is_set(),
            "message": self.message,
            "seconds": None if seconds is None else round(seconds, 2),
            "planes": [] if self.result is None else sorted(set(self._film_planes())),
        }

    def _film_planes(self) -> list[str]:
        found = self.result
        assert found is not None
        planes = ["background", "signal" if found.share is None else "share"]
        return planes + (["deviation"] if found.draws_deviation is not None else [])


class Desk:
    """The state of one app: what is open, what runs. Safe to use from several requests at a time.

    Args:
        folders: files below these may be opened; nothing else on the disk.
    """

    def __init__(self, folders: Sequence[Path] = ()):
        self.folders = tuple(dict.fromkeys(followed(folder) for folder in folders))
        self.clips: dict[str, Opened] = {}
        self.runs: dict[str, Run] = {}
        self._priors: dict[str, LoadedPrior] = {}
        self._uploads = tempfile.TemporaryDirectory(prefix="nuclear-diffusion-")
        self._lock = threading.Lock()
        self._worker = ThreadPoolExecutor(1, "separation")

    def allowed(self, path: str) -> Path:
        """A path below one of the folders. Raises `InputError` for any other."""
        require(path != "", "The request names no path: choose a file or a folder.")
        try:
            wanted = followed(Path(path))
        except (OSError, ValueError, RuntimeError) as error:  # a null character, a link to itself
            raise InputError("That is not a path: choose a file or a folder.") from error
        if not any(wanted == folder or folder in wanted.parents for folder in self.folders):
            raise InputError("That path is outside of the folders that this app was started with.")
        return wanted

    def place_for(self, name: str) -> Path:
        """Where a file is kept while the app runs: DICOM is saved with the header of the input.

        It has the end of its `name`, which says the format, in characters that every file system takes.
        """
        folder = Path(self._uploads.name) / secrets.token_hex(6)
        folder.mkdir()
        return folder / ("clip-" + re.sub(r"[^A-Za-z0-9.]", "_", name)[-40:])

    def open_inside(self, path: str) -> str:
        """As `open`, a path below one of the folders, all of whose files are there, too: they may be links."""
        wanted = self.allowed(path)
        parts = wanted.rglob("*") if wanted.is_dir() else wanted.parent.glob(wanted.name)
        for part in parts:
            if part.is_symlink():
                self.allowed(str(part))
        return self.open(wanted)

    def open_all(self, paths: Sequence[Path]) -> None:
        """Read what was typed: results, files, and images of one series as one clip. Folders of clips are left out."""
        for source in [*filter(is_result, paths), *expand([path for path in paths if not path.is_dir()])]:
            self.open(source)

    def open(self, path: Source, name: str | None = None) -> str:
        """Read a clip, or a result with its clip; returns the clip's key. `name`: of the file, if uploaded."""
        if isinstance(path, Path):
            if (path / "result.h5").is_file():
                return self._open_result(path / "result.h5", None, path)
            if holds_result(path):
                return self._open_result(path, name)
        clip = read_video(path)
        if name is not None:
            clip = dataclasses.replace(clip, name=Path(name).stem)
        typed = str(path if isinstance(path, Path) else path.folder)
        return self._add(Opened(clip, name or typed, path, find_sector(clip.frames, clip.region)))

    def reread(self, key: str, white: float | None) -> Opened:
        """Read a clip's file again with another stored value of white, None: the file's."""
        old = self.clip(key)
        require(
            white is None or 0 < float(np.float32(white)) < np.inf, f"White must be a positive number, got {white}."
        )
        require(old.given != "result", "A result holds its clip as it was dehazed: open the clip itself.")
        try:
            clip = dataclasses.replace(read_video(old.path, Reading(white=white, fps=old.rate)), name=old.clip.name)
        except InputError as error:
            raise InputError(old.named(str(error))) from error
        sector = find_sector(clip.frames, clip.region)
        with self._lock:  # another request may have corrected it meanwhile
            opened = self.clip(key)
            require(
                all(run.clip != key for run in self.runs.values()),
                "The results of this clip were made with another white: remove them (×) first.",
            )
            clip, sector = dataclasses.replace(clip, fps=opened.clip.fps), opened.sector if opened.given else sector
            self.clips[key] = corrected = dataclasses.replace(opened, clip=clip, sector=sector, white=white)
        return corrected

    def _add(self, opened: Opened) -> str:
        key = secrets.token_hex(6)
        with self._lock:
            self.clips[key] = opened
        return key

    def _open_result(self, file: Path, name: str | None, folder: Path | None = None) -> str:
        with open_result(file) as result:
            clip, found = result.recording.read(), joined(map(_without_colors, result.pieces()))
        key = self._add(Opened(clip, name or str(file), file, found.sector, "result"))
        run = Run(key, result.method, found.sector, "result", folder, "done", 1, 1, result=found)
        with self._lock:
            self.runs[secrets.token_hex(6)] = run
        return key

    def clip(self, key: str) -> Opened:
        """A clip by its key. Raises `InputError` if there is none."""
        try:
            return self.clips[key]
        except KeyError as error:
            raise InputError("That clip is not open any more: open it again.") from error

    def run(self, key: str) -> Run:
        """A run by its key. Raises `InputError` if there is none."""
        try:
            return self.runs[key]
        except KeyError as error:
            raise InputError("That run no longer exists: start it again.") from error

    def stop(self, key: str) -> Run:
        """Stop a run: one that waits at once, one that runs at its next step."""
        run = self.run(key)
        with self._lock:
            run.stop.set()
            if run.state == "waiting":
                run.state = "stopped"
        return run

    def remove(self, key: str) -> None:
        """Forget a run, and stop it; one that is gone already is no error."""
        with self._lock:
            run = self.runs.pop(key, None)
        if run is not None:
            run.stop.set()

    def close(self, key: str) -> None:
        """Take a clip and its runs off the desk."""
        with self._lock:
            self.clips.pop(key, None)
            for name in [name for name, run in self.runs.items() if run.clip == key]:
                self.runs.pop(name).stop.set()

    def correct(self, key: str, polygons: list[Polygon] | None, fps: float | None) -> Opened:
        """Replace a clip's sector (none: find it again) and its frame rate; what is None stays as it is."""
        clip, changes = self.clip(key).clip, dict[str, Any]()
        require(fps is None or usable_rate(fps), f"The frame rate must be between 0.01 and 100000, got {fps}.")
        if polygons:
            sector = np.any([inside(polygon, clip.shape[1:]) for polygon in polygons], axis=0)
            require(bool(sector.any()), "The drawn sector holds no pixel: draw it on the picture.")
            changes = {"sector": sector, "given": "drawn"}
        elif polygons is not None:
            changes = {"sector": find_sector(clip.frames, clip.region), "given": ""}
        with self._lock:  # another request may have corrected it meanwhile
            opened = self.clip(key)
            if fps is not None:
                changes |= {"clip": dataclasses.replace(opened.clip, fps=fps), "rate": fps}
            self.clips[key] = corrected = dataclasses.replace(opened, **changes)
        return corrected

    def start(self, key: str, settings: Any) -> str:
        """Start a method on a clip, behind those that run already; returns the run's key."""
        method = from_dict(settings)
        if method.prior_name not in (None, *SHIPPED):
            self.allowed(method.prior_name)
        name = secrets.token_hex(6)
        with self._lock:
            opened = self.clip(key)
            self.runs[name] = run = Run(key, method, opened.sector if opened.given else None, opened.given)
        self._worker.submit(self._separate, run)
        return name

    def _separate(self, run: Run) -> None:
        """Run a method; every outcome ends in `run.state`."""

        def progress(done: int, total: int) -> None:
            run.done, run.total = done, total
            if run.stop.is_set():
                raise Stopped

        with self._lock:
            if run.stop.is_set():
                return
            run.began, run.state = time.perf_counter(), "running"
        try:
            run.result = self._dehazed(run, progress)._replace(seconds=time.perf_counter() - run.began)
            run.done, run.state = run.total, "done"
        except Stopped:
            run.state = "stopped"
        except Exception as error:
            opened = self.clips.get(run.clip)
            run.message = sentence(error) if opened is None else opened.named(sentence(error))
            run.state = "failed"

    def _dehazed(self, run: Run, progress: Progress) -> Dehazed:
        recording, prior = Recording.of(self.clip(run.clip).clip), self._prior(run.method).prior
        seen = survey(recording)
        pieces = dehaze_recording(recording, seen, run.method, prior, sector=run.sector, progress=progress)

        def counted() -> Iterator[Piece]:
            for piece in pieces:
                run.frames += len(piece.clip)
                progress(run.done, run.total)  # a stop is heeded while frames are mapped back, too
                yield _without_colors(piece)

        return joined(counted())

    def _prior(self, method: Method) -> LoadedPrior:
        name = method.prior_name or ""
        if name not in self._priors:
            self._priors[name] = prior_of(method)
        return self._priors[name]

    def films(self, key: str, run: str | None = None) -> Iterator[Film]:
        """What the browser shows of a clip, or of a run's result, a few frames at a time."""
        clip = self.clip(key).clip
        if run is None:
            for _, part in blocks_of(Recording.of(clip), PIECE):
                yield film_of(part.pixels, clip.fps)
            return
        for part, found in self.pieces(run):
            parts = {"share": found.share, "background": found.background, "deviation": found.draws_deviation}
            yield film_of(part.pixels, clip.fps, signal=found.pixels, **parts)

    def finished(self, key: str) -> tuple[Opened, Dehazed]:
        """The clip and the result of a finished run, without its colours."""
        run = self.run(key)
        if run.result is None:
            raise InputError("That run is not finished: wait for it.")
        return self.clip(run.clip), run.result

    def signal(self, key: str, strength: float | None) -> Float32[ndarray, "frames height width"]:
        """The result of a run, at another `strength` if one is given."""
        opened, found = self.finished(key)
        if strength is None or found.share is None:
            return found.signal
        return render(opened.clip.frames, found.share, strength)

    def pieces(self, key: str, strength: float | None = None) -> Iterator[Piece]:
        """A result with its colours, at another `strength` if one is given, a few frames at a time."""
        opened, whole = self.finished(key)
        for start, part in blocks_of(Recording.of(opened.clip), PIECE):
            found = Dehazed(*(_cut(value, slice(start, start + len(part))) for value in whole))
            if strength is not None and found.share is not None:
                found = rendered(part, found, strength)
            elif part.color is not None:
                found = found._replace(color=recolored(part.color, part.frames, found.signal))
            yield Piece(part, found)

    def method_at(self, key: str, strength: float | None) -> Method:
        """The settings of a run, with the strength that the knob shows."""
        method = self.run(key).method
        if strength is None or not isinstance(method, Nuclear):
            return method
        return from_dict(as_dict(method) | {"strength": strength})

    def shut(self) -> None:
        """Stop all runs and remove the uploads."""
        for run in self.runs.values():
            run.stop.set()
        self._worker.shutdown(wait=False, cancel_futures=True)
        self._uploads.cleanup()


def _without_colors(piece: Piece) -> Piece:
    """The colours are the clip's own at another brightness: they are made again where they are needed."""
    return piece._replace(dehazed=piece.dehazed._replace(color=None))


def _cut(value: Any, frames: slice) -> Any:
    """Some frames of a field of `Dehazed`; those without a time axis are left as they are."""
    return value[frames] if isinstance(value, np.ndarray) and value.ndim > 2 else value


def outline(mask: Mask) -> list[list[list[float]]]:
    """The borders of a mask as polygons of [column, row]."""
    from skimage.measure import approximate_polygon, find_contours

    padded = np.pad(mask, 1).astype(np.float32)
    return [(approximate_polygon(line, 0.7)[:, ::-1] - 1).round(1).tolist() for line in find_contours(padded, 0.5)]


def sentence(error: Exception) -> str:
    """What to tell the user of the page about an error."""
    known = sentence_of(error)
    if known is None:
        return f"The separation failed ({type(error).__name__}: {error}): please report it."
    words = known.replace("--method nuclear", Nuclear.title).replace(", or use fewer --jobs", "")
    said = without_flags(words)
    more = " The command line has options for that: dehaze it there, and open the result here."
    return said if said == words else said + more


def without_flags(text: str) -> str:
    """A sentence without the advice to type flags, which the page does not have."""
    return re.sub(r"[:;] [^:;]*--\w.*", ".", text)
