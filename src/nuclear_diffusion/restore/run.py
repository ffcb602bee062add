"""From files to result folders: names of results, existing results, and dehazing or rendering one clip."""

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io.recording import open_clip
from nuclear_diffusion.priors.checkpoint import load_prior, prior_hash
from nuclear_diffusion.priors.protocol import Prior
from nuclear_diffusion.restore.clip import Piece, check_separable, dehaze_recording, rendered
from nuclear_diffusion.restore.finished import finished_windows
from nuclear_diffusion.restore.folder import (
    About,
    identity,
    open_result,
    read_report,
    result_folder,
    versions,
    write_result,
)
from nuclear_diffusion.restore.frames import held, survey
from nuclear_diffusion.restore.methods import Method, Nuclear, Progress, from_dict


class Outcome(NamedTuple):
    """The result of one clip."""

    folder: Path
    report: dict[str, Any]
    skipped: bool
    """Whether the same result existed already."""


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


def folder_names(sources: Sequence[Path]) -> list[str]:
    """A result name for each source: its file name without suffix, numbered where two would clash."""
    taken: set[str] = set()
    names = []
    for source in sources:
        path = source.resolve()
        stem = path.name if path.is_dir() else path.stem
        stem = stem.replace("*", "").strip(".-_ ") or "clip"
        name, number = stem, 1
        while name.lower() in taken:  # some file systems ignore case
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.lower())
        names.append(name)
    return names


def check_writable(folder: Path) -> None:
    """Raise `InputError` if results cannot be written into `folder`; creates nothing."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise InputError(f"{existing} is a file, not a folder: choose another output.")
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{existing} cannot be written to ({reason}): choose another output.") from error


def dehaze_file(
    source: Path,
    folder: Path,
    method: Method,
    loaded: LoadedPrior,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Dehaze one source (a file or a folder of images) into the result folder `folder`.

    An existing result of the same clip, settings and weights is kept. Any other result is replaced only with
    `overwrite`, once the new one is complete; if only the strength differs, it is just rendered again.
    """
    recording = held(open_clip(source))
    seen = survey(recording)
    check_separable(recording, seen, method)
    finished, wanted = read_report(folder), identity(seen.sha256, method, loaded.sha256)
    if finished is not None:
        if not overwrite and all(finished.get(name) == value for name, value in wanted.items()):
            return Outcome(folder, finished, skipped=True)
        if not overwrite:
            raise InputError(
                f"{folder} holds a result with another clip, settings or weights: add --overwrite to replace it."
            )
        if isinstance(method, Nuclear) and differs_in_strength_alone(finished, wanted):
            with contextlib.suppress(InputError):  # a damaged result is computed again
                return render_result(folder, method.strength)
    about = About(method, loaded.sha256, seen.sha256, tuple(seen.notes))
    estimated = {**wanted, "settings": {**wanted["settings"], "strength": None}, "versions": versions()}
    with result_folder(folder) as partial, finished_windows(folder, estimated) as kept:
        pieces = dehaze_recording(recording, seen, method, loaded.prior, progress=progress, kept=kept)
        report = write_result(partial, recording, seen.sector, pieces, about)
    return Outcome(folder, report, skipped=False)


def differs_in_strength_alone(finished: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether a report has the `wanted` identity and the current versions, except for the strength."""

    def estimated(identity: dict[str, Any]) -> dict[str, Any]:
        settings = {**(identity.get("settings") or {}), "strength": None}
        return {**{name: identity.get(name) for name in wanted}, "settings": settings}

    alike = estimated(finished) == estimated(wanted) and finished.get("versions") == versions()
    return alike and wanted["settings"]["method"] == "nuclear" and finished["settings"] != wanted["settings"]


def render_result(folder: Path, strength: float, output: Path | None = None) -> Outcome:
    """Render a result of method nuclear at another strength, in place or into the new folder `output`.

    Raises `InputError` if `folder` holds no such result, `output` exists or is inside it, or the strength is invalid.
    """
    place = folder.resolve()
    try:
        finished = read_report(place)
    except InputError:
        finished = None
    if finished is None:
        raise InputError(f"{folder} is not a result of `dehaze`: give the result folder of one clip.")
    if output is not None and (output.exists() or place in output.resolve().parents):
        raise InputError(f"{output} exists or is inside the result: choose another -o.")
    try:
        if finished["settings"]["method"] != "nuclear":
            raise InputError(f"{folder} is a result of {finished['settings']['method']}: give a result of nuclear.")
        method = from_dict({**finished["settings"], "strength": strength})
        about = About(
            method,
            finished["prior_sha256"],
            finished["input_sha256"],
            tuple(finished.get("notes", ())),
            dict(finished["versions"]),
            float(finished["seconds"]),
        )
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise InputError(f"{folder} is damaged or was made by another version: dehaze the clip again.") from error
    with open_result(place / "result.h5") as result, result_folder(place if output is None else output) as partial:
        pieces = (Piece(clip, rendered(clip, dehazed, strength)) for clip, dehazed in result.pieces())
        report = write_result(partial, result.recording, result.sector, pieces, about)
    return Outcome(folder if output is None else output, report, skipped=False)
