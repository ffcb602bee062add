"""From files to result folders: names of results, existing results, and dehazing or rendering one clip."""

import contextlib
import hashlib
import shlex
import tempfile
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.files import filling, followed
from nuclear_diffusion.io import Reading, read_video
from nuclear_diffusion.io.find import Source, name_of
from nuclear_diffusion.io.recording import Recording, open_clip
from nuclear_diffusion.priors.checkpoint import load_prior, prior_hash
from nuclear_diffusion.priors.protocol import Prior
from nuclear_diffusion.restore.clip import Kept, Piece, check_separable, dehaze_recording, rendered
from nuclear_diffusion.restore.finished import finished_windows
from nuclear_diffusion.restore.folder import (
    FILES,
    About,
    Removed,
    identity,
    is_whole,
    locked_result,
    make_report,
    open_result,
    read_report,
    record_files,
    result_folder,
    versions,
    write_result,
)
from nuclear_diffusion.restore.frames import held, survey
from nuclear_diffusion.restore.methods import Method, from_dict, keep_nothing
from nuclear_diffusion.restore.outputs import NAMES, Outputs
from nuclear_diffusion.sector import find_sector, read_sector
from nuclear_diffusion.text import words_of
from nuclear_diffusion.types import Mask, Progress


class Outcome(NamedTuple):
    """The result of one clip."""

    folder: Path
    report: dict[str, Any]
    skipped: bool  # whether the same result existed already
    separated: bool = True  # whether the clip was separated now


class OtherStrength(InputError):
    """A clip has a finished result that differs in the strength alone."""

    def __init__(self, outcome: Outcome, wanted: float):
        folder, strength = outcome.folder, outcome.report["settings"]["strength"]
        render = f"nuclear-diffusion render {shlex.quote(str(folder))} --strength {wanted:g}"
        super().__init__(
            f"{folder} holds a result with strength {strength:g}, not {wanted:g}: to keep it, add --strength "
            f"{strength:g}; to change it, type {render}, or add --overwrite."
        )
        self.outcome, self.wanted = outcome, wanted

    def __reduce__(self):
        return OtherStrength, (self.outcome, self.wanted)


class LoadedPrior(NamedTuple):
    """A prior and the SHA-256 of its weights; both None for a method without a prior."""

    prior: Prior | None
    sha256: str | None


def prior_of(method: Method) -> LoadedPrior:
    """Load the prior that a method uses. Raises `InputError` if it cannot be loaded."""
    if method.prior_name is None:
        return LoadedPrior(None, None)
    prior = load_prior(method.prior_name)
    return LoadedPrior(prior, prior_hash(prior))


def folder_names(sources: Sequence[Source]) -> list[str]:
    """A result name for each source: its name without suffix as typed, numbered where two would clash."""
    taken: set[str] = set()
    names = []
    for source in sources:
        stem = name_of(source).strip(".-_ ") or "clip"
        name, number = stem, 1
        while _alike(name) in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(_alike(name))
        names.append(name)
    return names


def _alike(name: str) -> str:
    """Equal for names that some file systems take for one."""
    return unicodedata.normalize("NFC", name).casefold()


def check_writable(folder: Path) -> None:
    """Raise `InputError` if results cannot be written into `folder`; creates nothing."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise InputError(f"{existing} is a file, not a folder: choose another output.")
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise InputError(f"{existing} cannot be written to ({words_of(error)}): choose another output.") from error


def known_sector(picture: Path | None, other: Path | None) -> Mask | None:
    """The sector in a `picture`, or of an `other` clip or result of the same scanner; None if neither is given.

    Raises `InputError` if both are given, or no sector can be read.
    """
    if picture is not None and other is not None:
        raise InputError("--sector and --sector-from both say where the sector is: remove one of them.")
    if picture is not None:
        return read_sector(picture)
    if other is None:
        return None
    stored = other / "result.h5" if other.is_dir() else other
    if stored.name == "result.h5" and stored.is_file():
        with open_result(stored) as result:
            return result.sector
    clip = read_video(other)
    return find_sector(clip.frames, clip.region)


def dehaze_file(
    source: Source,
    folder: Path,
    method: Method,
    loaded: LoadedPrior,
    *,
    reading: Reading | None = None,
    sector: Mask | None = None,
    outputs: Outputs | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Dehaze one source (a file or a folder of images), read as `reading` says, into the result folder `folder`.

    `sector` (h, w) replaces the sector that would be found; see `known_sector`. An existing result of the same clip,
    sector, settings and weights is kept. Any other result is replaced only with `overwrite`, once the new one is
    complete; if only the strength differs, it is just rendered again. `outputs` are added to the result, or written in
    its place if they are flat.
    """
    outputs = outputs or Outputs()
    with locked_result(folder):
        recording = held(open_clip(source, reading))
        seen = survey(recording)
        check_separable(recording, seen, method)
        sector_sha256 = None if sector is None else hashlib.sha256(np.packbits(sector).tobytes()).hexdigest()
        about = About(method, loaded.sha256, seen.sha256, sector_sha256, (*recording.notes, *seen.notes))
        wanted = identity(seen.sha256, method, loaded.sha256, sector_sha256)
        estimated = {**wanted, "settings": {**wanted["settings"], "strength": None}, "versions": versions()}

        def dehazed(kept: Kept = keep_nothing) -> Iterator[Piece]:
            return dehaze_recording(recording, seen, method, loaded.prior, sector=sector, progress=progress, kept=kept)

        if outputs.flat:
            return _write_flat(recording, dehazed(), folder, about, outputs, overwrite)
        finished = read_report(folder)
        if finished is not None and is_whole(folder, finished):
            rerender, strength = differs_in_strength_alone(finished, wanted), wanted["settings"].get("strength")
            if not overwrite:
                if all(finished.get(name) == value for name, value in wanted.items()):
                    return _completed(folder, finished, recording, method, outputs)
                if rerender:
                    raise OtherStrength(Outcome(folder, finished, skipped=True), strength)
                differs = " and ".join(_differences(finished, wanted))
                raise InputError(f"{folder} holds a result with another {differs}: add --overwrite to replace it.")
            if rerender:
                with contextlib.suppress(InputError):  # a damaged result is computed again
                    return render_result(folder, strength, outputs=outputs, source=recording, progress=progress)
        with result_folder(folder) as partial, finished_windows(folder, estimated) as kept:
            pieces = outputs.passing(dehazed(kept), outputs.paths(partial), recording, method)
            report = write_result(partial, recording, pieces, about)
        return Outcome(folder, report, skipped=False)


def _completed(
    folder: Path, finished: dict[str, Any], recording: Recording, method: Method, outputs: Outputs
) -> Outcome:
    """A finished result, with those of `outputs` that it lacks."""
    missing = outputs.paths(folder)
    if missing:
        with open_result(folder / "result.h5") as result:
            for _ in outputs.passing(result.pieces(), missing, recording, method):
                pass
        finished = record_files(folder, finished)
    return Outcome(folder, finished, skipped=not missing, separated=False)


def _write_flat(
    recording: Recording, pieces: Iterator[Piece], folder: Path, about: About, outputs: Outputs, overwrite: bool
) -> Outcome:
    """Dehaze a clip and write `outputs` alone, beside `folder` and under its name."""
    paths = outputs.flat_paths(folder.parent, folder.name, recording)
    first = next(iter(paths.values()))
    where = first[0] if len(first) == 1 else folder.parent
    if not overwrite:
        paths = {kind: files for kind, files in paths.items() if not all(file.exists() for file in files)}
    if not paths:
        return Outcome(where, {}, skipped=True)
    removed, seconds = Removed(), 0.0
    with filling(folder) as partial:
        temporary = {kind: tuple(partial / file.name for file in files) for kind, files in paths.items()}
        for clip, dehazed in outputs.passing(pieces, temporary, recording, about.method):
            removed.add(clip, dehazed)
            seconds = dehazed.seconds
    return Outcome(where, make_report(recording, about, removed, seconds), skipped=False)


def _differences(finished: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What a report and the `wanted` identity differ in, in words."""
    words = {"input_sha256": "clip", "sector_sha256": "sector", "prior_sha256": "prior"}
    differ = [word for name, word in words.items() if finished.get(name) != wanted[name]]
    old, new = finished["settings"], wanted["settings"]
    if old.get("method") != new["method"]:
        return [*(word for word in differ if word != "prior"), "method"]
    return [*differ, *(name for name in {**old, **new} if name not in differ and old.get(name) != new.get(name))]


def differs_in_strength_alone(finished: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether a report has the `wanted` identity and the current versions, except for the strength."""

    def estimated(identity: dict[str, Any]) -> dict[str, Any]:
        settings = {**(identity.get("settings") or {}), "strength": None}
        return {**{name: identity.get(name) for name in wanted}, "settings": settings}

    alike = estimated(finished) == estimated(wanted) and finished.get("versions") == versions()
    return alike and wanted["settings"]["method"] == "nuclear" and finished["settings"] != wanted["settings"]


def render_result(
    folder: Path,
    strength: float,
    output: Path | None = None,
    *,
    outputs: Outputs | None = None,
    source: Recording | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Render a result of method nuclear at another strength, in place or into the new folder `output`.

    `outputs` are added, with the header of the input `source`. `progress` gets the frames done and all.

    Raises `InputError` if `folder` holds no such result, `output` exists or is inside it, or the strength is invalid,
    and for a result in place that holds other outputs, whose headers would be lost.
    """
    place, outputs = followed(folder), outputs or Outputs()
    with locked_result(folder if output is None else output):
        finished = _renderable(folder, place, output, source)
        method, about = _rerendered(folder, finished, strength)
        with open_result(place / "result.h5") as result, result_folder(place if output is None else output) as partial:

            def again() -> Iterator[Piece]:
                done = 0
                for clip, dehazed in result.pieces():
                    yield Piece(clip, rendered(clip, dehazed, strength))
                    done += len(clip)
                    if progress is not None:
                        progress(done, len(result.recording))

            pieces = outputs.passing(again(), outputs.paths(partial), source or result.recording, method)
            report = write_result(partial, result.recording, pieces, about)
    return Outcome(folder if output is None else output, report, skipped=False, separated=False)


def _renderable(folder: Path, place: Path, output: Path | None, source: Recording | None) -> dict[str, Any]:
    """The report of a result that can be rendered into `output`; raises `InputError` as `render_result`."""
    finished = None
    with contextlib.suppress(InputError):
        finished = read_report(place)
    if finished is None:
        inside, named = sorted(folder.glob("*/report.json")), folder.parent / name_of(folder)
        meant = named != folder and (named / "report.json").is_file()
        advice = f"did you mean {named}?" if meant else "give result folders."
        advice = f"give the result folders in it, such as {inside[0].parent}." if inside else advice
        raise InputError(f"{folder} is not a result of `dehaze`: {advice}")
    if output is not None and (output.exists() or place in followed(output).parents):
        raise InputError(f"{output} exists or is inside the result: choose another -o.")
    if not is_whole(place, finished):
        raise InputError(f"{folder} is damaged: dehaze the clip again.")
    others = sorted(NAMES.intersection(file.name for file in place.iterdir()) - set(FILES))
    if output is None and source is None and others:
        raise InputError(
            f"{folder} also holds {', '.join(others)}: use dehaze with --write and --overwrite, or add -o."
        )
    return finished


def _rerendered(folder: Path, finished: dict[str, Any], strength: float) -> tuple[Method, About]:
    """The method of a result at another strength, and what its report says."""
    try:
        if finished["settings"]["method"] != "nuclear":
            raise InputError(f"{folder} is a result of {finished['settings']['method']}: give a result of nuclear.")
        method = from_dict({**finished["settings"], "strength": strength})
        known = (finished["prior_sha256"], finished["input_sha256"], finished.get("sector_sha256"))
        notes, made_by = tuple(finished.get("notes", ())), dict(finished["versions"])
        return method, About(method, *known, notes, made_by, float(finished["seconds"]))
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise InputError(f"{folder} is damaged or was made by another version: dehaze the clip again.") from error
