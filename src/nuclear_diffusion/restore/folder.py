"""The result folder of one clip: arrays, videos, a summary figure and a report."""

import contextlib
import functools
import io
import json
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import imagecodecs
import msgspec
import numpy as np
from numpy import ndarray

from nuclear_diffusion.errors import InputError, unreadable
from nuclear_diffusion.files import locked, recovered, replacing, sha256_of, write
from nuclear_diffusion.io import Clip
from nuclear_diffusion.io.recording import Recording
from nuclear_diffusion.io.write import Writer, open_writer
from nuclear_diffusion.metrics.visible import bright_tissue, mean_levels, swing
from nuclear_diffusion.restore.clip import PIECE, Dehazed, Piece, joined
from nuclear_diffusion.restore.frames import blocks_of
from nuclear_diffusion.restore.methods import Method, Nuclear, as_dict, from_dict
from nuclear_diffusion.restore.outputs import NAMES
from nuclear_diffusion.restore.pictures import Summary, caption, gain_of, named, side_by_side
from nuclear_diffusion.text import read_json
from nuclear_diffusion.types import Mask

FILES = ("result.h5", "signal.mp4", "background.mp4", "comparison.mp4", "summary.png", "report.json")
"""The files of a result folder."""

SPREAD = "spread.mp4"  # an additional file if there are posterior samples

RESULTS = {*FILES, SPREAD, *NAMES}
"""All names that `dehaze` writes into a result folder; anything else there is the user's."""


class _Written(msgspec.Struct):
    """A file of a result as it was written."""

    bytes: int
    sha256: str


class _Report(msgspec.Struct):
    """What must be in a report.json to say what the result is of, and whether it is whole."""

    input_sha256: str
    prior_sha256: str | None
    settings: dict[str, Any]
    versions: dict[str, str]
    files: dict[str, _Written]


def result_folder(folder: Path) -> contextlib.AbstractContextManager[Path]:
    """Yield a hidden folder that takes the place of `folder` if the block succeeds; see `files.replacing`.

    What the user has put into an old result moves over.
    """
    return replacing(folder, RESULTS.__contains__)


@contextlib.contextmanager
def locked_result(folder: Path) -> Iterator[None]:
    """`files.locked`, with a result that a killed process was replacing put back in its place."""
    with locked(folder):
        recovered(folder, RESULTS.__contains__)
        yield


def read_report(folder: Path) -> dict[str, Any] | None:
    """The report of a result, or None if `folder` does not exist, is empty, or holds a damaged result.

    Damaged: its report cannot be read, or a file of it is missing or has another size. Additional outputs that were
    removed are not missed. Raises `InputError` if `folder` is no result of `dehaze`; an error of the system, which says
    nothing of the result, is raised, too.
    """
    if not os.path.lexists(folder):
        return None
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        present = {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")}
        try:
            report = read_json(folder / "report.json", dict[str, Any], "a report of `dehaze`")
            listed = msgspec.convert(report, _Report).files
            tops = {name: Path(name).parts[:1] for name in listed}
            needed = {name: one for name, one in listed.items() if {*tops[name]} & {*FILES, SPREAD, *present}}
            whole = {*FILES} <= {*needed, "report.json"} and all(_has(folder, *pair) for pair in needed.items())
            return {**report, "files": {name: report["files"][name] for name in needed}} if whole else None
        except (InputError, msgspec.ValidationError) as error:
            if isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, FileNotFoundError):
                raise  # whoever cannot read a result does not know that it is damaged
        if not present or len(present & {*FILES}) > 2:
            return None
    raise InputError(f"{folder} exists and is not a result of `dehaze`: move it or choose another -o.")


def _has(folder: Path, name: str, written: _Written) -> bool:
    """Whether a file is there with the size that it was written with."""
    inside = Path(name).parts[0] in RESULTS and ".." not in Path(name).parts
    return inside and (folder / name).is_file() and (folder / name).stat().st_size == written.bytes


def is_whole(folder: Path, report: dict[str, Any]) -> bool:
    """Whether each file in `folder` is as it was written, by its hash; `report` is from `read_report`."""
    try:
        return all(sha256_of(folder / name) == one["sha256"] for name, one in report["files"].items())
    except FileNotFoundError:
        return False


def record_files(folder: Path, report: dict[str, Any]) -> dict[str, Any]:
    """Write report.json with the size and hash of every other file of the result; return the report."""
    mine = (path for path in folder.rglob("*") if path.relative_to(folder).parts[0] in RESULTS - {"report.json"})
    files = {path.relative_to(folder).as_posix(): path for path in sorted(mine) if path.is_file()}
    sizes = {name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for name, path in files.items()}
    report = {**report, "files": sizes}
    write(folder / "report.json", json.dumps(report, indent=2, allow_nan=False) + "\n")
    return report


def identity(
    input_sha256: str, method: Method, prior_sha256: str | None, sector_sha256: str | None = None
) -> dict[str, Any]:
    """What identifies a result: the clip's `fingerprint`, the sector if it was given, the settings and the weights."""
    return {
        "input_sha256": input_sha256,
        "sector_sha256": sector_sha256,
        "prior_sha256": prior_sha256,
        "settings": as_dict(method),
    }


class About(NamedTuple):
    """What is known of a result besides its frames."""

    method: Method
    prior_sha256: str | None
    input_sha256: str  # the clip's `fingerprint`
    sector_sha256: str | None = None  # of the sector, if it was given
    notes: Sequence[str] = ()  # sentences for the reader of the result
    made_by: dict[str, str] | None = None  # the versions that separated the clip, if not the current ones
    seconds: float | None = None  # time of the separation; None: as the last piece says


def write_result(folder: Path, recording: Recording, pieces: Iterable[Piece], about: About) -> dict[str, Any]:
    """Write all `FILES` into `folder`, and `SPREAD` if there are posterior samples; return the report.

    `pieces` are consecutive frames of the recording. Each is written when it comes, and none is kept.
    """
    method, removed = about.method, Removed()
    with contextlib.ExitStack() as files:
        result = files.enter_context(create_h5(folder / "result.h5"))
        movies: dict[str, Writer] = {}

        def show(name: str, frames: ndarray) -> None:
            if name not in movies:
                shape = (len(recording), *frames.shape[1:])
                movies[name] = files.enter_context(open_writer(folder / name, "mp4", shape, recording.fps))
            movies[name].append(frames)

        summary: Summary | None = None
        seconds, start, gain = 0.0, 0, 0
        for clip, dehazed in pieces:
            write_frames(result, start, clip, dehazed, len(recording))
            seen = clip.frames if clip.color is None else clip.color / np.float32(255)
            show("signal.mp4", dehazed.pixels)
            show("background.mp4", dehazed.background)
            gain = gain or gain_of(dehazed.background)
            panels = {
                "input": seen,
                f"signal ({caption(method)})": dehazed.pixels,
                named(gain): gain * dehazed.background,
            }
            show("comparison.mp4", side_by_side(panels))
            if isinstance(method, Nuclear) and dehazed.draws_mean is not None and dehazed.draws_deviation is not None:
                panels = {
                    "input": clip.frames,
                    f"mean of {method.samples} samples": dehazed.draws_mean,
                    "standard deviation x 4": 4 * dehazed.draws_deviation,
                }
                show(SPREAD, side_by_side(panels))
            removed.add(clip, dehazed)
            if summary is None:
                summary = Summary(recording, dehazed.sector)
                result["sector"] = dehazed.sector
            summary.add(start, clip, dehazed)
            start, seconds = start + len(clip), dehazed.seconds
        report = make_report(recording, about, removed, seconds if about.seconds is None else about.seconds)
        write_attributes(result, report)
    if summary is not None:
        with warnings.catch_warnings(action="ignore"):  # a name may have characters that the font lacks
            summary.draw(method).savefig(folder / "summary.png", dpi=120)
    return record_files(folder, report)


class Removed:
    """Counts what is removed within the sector, frame by frame; independent of how a clip is cut into pieces."""

    def __init__(self):
        self._before: list[float] = []
        self._taken: list[float] = []
        self._bright = self._lost = 0
        self._change: list[float] = []
        self._levels: dict[str, list[float]] = {"input": [], "signal": []}
        self.pixels = 0
        """Pixels of the sector."""

    def add(self, clip: Clip, dehazed: Dehazed) -> None:
        """Add some frames."""
        self.pixels = int(dehazed.sector.sum())
        bright, lost, change = bright_tissue(clip.frames, dehazed.signal)
        bright &= dehazed.sector
        self._bright += int(bright.sum())
        self._lost += int((lost & bright).sum())
        self._change += [float(one[mask].sum()) for one, mask in zip(change, bright, strict=True)]
        if self.pixels:
            for name, video in (("input", clip.frames), ("signal", dehazed.signal)):
                self._levels[name] += mean_levels(video, dehazed.sector).tolist()
        for before, after in zip(clip.frames, dehazed.signal, strict=True):
            seen = before[dehazed.sector].astype(np.float64)
            self._before.append(float(np.square(seen).sum()))
            self._taken.append(float(np.square(seen - after[dehazed.sector]).sum()))

    @property
    def energy(self) -> float:
        """Fraction of the energy that was removed."""
        energy = math.fsum(self._before)
        return math.fsum(self._taken) / energy if energy else 0.0

    @property
    def bright(self) -> float | None:
        """Fraction of the bright pixels that are lost (`metrics.bright_lost`); None if there are none."""
        return self._lost / self._bright if self._bright else None

    @property
    def changed(self) -> float | None:
        """Mean relative change of the bright pixels (`metrics.bright_changed`); None if there are none."""
        return math.fsum(self._change) / self._bright if self._bright else None

    @property
    def flicker(self) -> dict[str, float | None]:
        """Flicker of the sector's mean in input and signal (`metrics.flicker`); None for fewer than three frames."""
        swings = {name: swing(np.array(levels)) for name, levels in self._levels.items()}
        return {name: value if math.isfinite(value) else None for name, value in swings.items()}


def make_report(recording: Recording, about: About, removed: Removed, seconds: float) -> dict[str, Any]:
    """Sizes, time, settings and amount of haze removed, as JSON values."""
    frames, height, width = recording.shape
    return {
        "clip": recording.name,
        "frames": frames,
        "height": height,
        "width": width,
        "fps": float(recording.fps),
        "sector_pixels": removed.pixels,
        "seconds": round(seconds, 3),
        "haze_energy_removed": removed.energy,
        "bright_tissue_lost": removed.bright,
        "bright_tissue_changed": removed.changed,
        "flicker": removed.flicker,
        **identity(about.input_sha256, about.method, about.prior_sha256, about.sector_sha256),
        "versions": versions() if about.made_by is None else about.made_by,
        "notes": list(about.notes),
        "notice": "Research use only, not a medical device.",
    }


def versions(*others: str) -> dict[str, str]:
    """Versions of the packages that a result depends on, and of others."""
    from nuclear_diffusion.version import __version__

    return {"nuclear-diffusion": __version__, **{name: version(name) for name in ("jax", "jaxlib", "numpy", *others)}}


class _Sink(io.FileIO):
    """A file that remembers its first error instead of raising it.

    HDF5 cannot close a file that it cannot write to the end: its error comes again when the process ends, as a crash.
    """

    failed: OSError | None = None

    def write(self, content: Any) -> int:
        """Write all of `content`, or nothing after an error."""
        rest = memoryview(content).cast("B")
        size = len(rest)
        try:
            while self.failed is None and rest:
                rest = rest[super().write(rest) or 0 :]
        except OSError as error:
            self.failed = error
        return size

    def readinto(self, buffer: Any) -> int:
        """Read; what could not be written is 0."""
        view = memoryview(buffer).cast("B")
        found = super().readinto(view) or 0
        if self.failed is not None:
            view[found:] = bytes(len(view) - found)
            return len(view)
        return found

    def truncate(self, size: int | None = None) -> int:
        """Change the size, or do nothing after an error."""
        try:
            return super().truncate(size) if self.failed is None else size or 0
        except OSError as error:
            self.failed = error
            return size or 0

    def check(self) -> None:
        """Raise the error, if there was one."""
        if self.failed is not None:
            raise self.failed


@contextlib.contextmanager
def create_h5(path: Path) -> Iterator[h5py.File]:
    """A new HDF5 file. Raises `OSError` at the end if the disk was full, whatever HDF5 says."""
    with _Sink(path, "w+") as sink:
        try:
            with h5py.File(sink, "w") as file:
                yield file
        finally:
            sink.check()


def write_frames(file: h5py.File, start: int, clip: Clip, dehazed: Dehazed, count: int) -> None:
    """Write frames `start` and on of a clip of `count` frames losslessly.

    Datasets: `input`, `signal`, `background` float32 (frames, height, width) in [0, 1]; `sector` bool (height, width);
    for a colour clip `input_color` uint8 and `signal_color` float32 (frames, height, width, 3). Method nuclear adds the
    haze fraction `share` and the posterior `mean`, and with posterior samples `draws_mean` and `draws_deviation`, all
    float32 (frames, height, width). Settings and versions are attributes.
    """
    arrays = {"input": clip.frames, "signal": dehazed.signal, "background": dehazed.background}
    arrays |= {name: array for name in _ESTIMATE if (array := getattr(dehazed, name)) is not None}
    if clip.color is not None and dehazed.color is not None:
        arrays |= {"input_color": clip.color, "signal_color": dehazed.color}
    for name, array in arrays.items():
        if name not in file:
            shape, frame_by_frame = (count, *array.shape[1:]), (1, *array.shape[1:])
            how = {"compression": "gzip", "compression_opts": 1, "shuffle": True, "chunks": frame_by_frame}
            file.create_dataset(name, shape, array.dtype, **how)
        chunks: Any = file[name].id
        for number, frame in enumerate(array, start):
            chunks.write_direct_chunk((number, *[0] * frame.ndim), _packed(frame))


def _packed(frame: ndarray) -> bytes:
    """A frame as HDF5's filters shuffle and gzip leave it; libdeflate takes half the time."""
    by_place = np.ascontiguousarray(frame).view(np.uint8).reshape(-1, frame.itemsize).T
    return bytes(imagecodecs.deflate_encode(by_place.tobytes(), level=1))


def write_attributes(file: h5py.File, report: dict[str, Any]) -> None:
    """Write settings and versions beside the frames."""
    file.attrs["configuration"] = json.dumps(report["settings"], sort_keys=True)
    file.attrs["versions"] = json.dumps(report["versions"], sort_keys=True)
    file.attrs["prior_sha256"] = report["prior_sha256"] or ""
    file.attrs["seed"] = report["settings"].get("seed", 0)
    file.attrs["fps"] = report["fps"]
    file.attrs["clip"] = report["clip"]
    file.attrs["notice"] = report["notice"]


_ESTIMATE = ("share", "mean", "draws_mean", "draws_deviation")  # fields of `Dehazed` that only some methods set


class Result:
    """A `result.h5`, read a few frames at a time."""

    def __init__(self, path: Path, file: h5py.File):
        frames, height, width = file["input"].shape  # pyright: ignore[reportAttributeAccessIssue]
        self._file, self._path = file, path
        self.sector: Mask = np.asarray(file["sector"])
        self._configuration = str(file.attrs.get("configuration", '{"method": "nuclear"}'))
        name = str(file.attrs.get("clip", path.parent.name))
        fps, colored = float(file.attrs["fps"]), "input_color" in file  # pyright: ignore[reportArgumentType]
        for needed in ("signal", "background", *(["signal_color"] if colored else [])):
            if len(file[needed]) != frames:  # pyright: ignore[reportArgumentType]
                raise ValueError(f"{needed} is cut short.")
        self.recording = Recording((frames, height, width), fps, colored, self.sector, name, path, self._clips)

    @functools.cached_property
    def method(self) -> Method:
        """The method with its settings. Raises `InputError` if this version does not know them."""
        with _readable(self._path):
            stored = json.loads(self._configuration)
        return from_dict(stored)

    def _clips(self, length: int) -> Iterator[Clip]:
        clip = self.recording
        for start in range(0, len(clip), length):
            frames, color = self._frames("input", start, length), self._frames("input_color", start, length)
            yield Clip(frames, clip.fps, color, clip.region, clip.name, clip.source)

    def _frames(self, name: str, start: int, length: int) -> Any:
        """Some frames of a dataset; None if the result has none of that name."""
        with _readable(self._path):
            data: Any = self._file.get(name)
            return None if data is None else np.asarray(data[start : start + length])

    def pieces(self) -> Iterator[Piece]:
        """All frames and what was found in them, in order."""
        for start, clip in blocks_of(self.recording, PIECE):
            background, color, signal = (
                self._frames(name, start, len(clip)) for name in ("background", "signal_color", "signal")
            )
            estimate = {name: self._frames(name, start, len(clip)) for name in _ESTIMATE}
            yield Piece(clip, Dehazed(signal, background, color, self.sector, 0.0, **estimate))


def holds_result(path: Path) -> bool:
    """Whether a file is a `result.h5`, under any name."""
    with contextlib.suppress(OSError):
        if path.is_file() and h5py.is_hdf5(path):
            with h5py.File(path) as file:
                return "configuration" in file.attrs and {"input", "signal", "sector"} <= file.keys()
    return False


@contextlib.contextmanager
def open_result(path: Path) -> Iterator[Result]:
    """Open a `result.h5`. Raises `InputError` if it cannot be read."""
    with contextlib.ExitStack() as stack:
        with _readable(path):
            result = Result(path, stack.enter_context(h5py.File(path)))
        yield result


def read_h5(path: Path) -> tuple[Clip, Dehazed]:
    """The whole clip and the estimate in a `result.h5`. Raises `InputError` if it cannot be read."""
    with open_result(path) as result:
        return result.recording.read(), joined(result.pieces())


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist: give a result folder of `dehaze`.") from error
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        sentence = f"{path} is damaged or not a result of `dehaze`: dehaze the clip again."
        raise unreadable(path, error, sentence) from error
