"""The clips in a folder, and their patients."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io.formats import (
    Frames,
    Source,
    clips_among,
    files_of,
    find_clips,
    is_picture,
    may_be_clip,
    name_of,
)
from nuclear_diffusion.io.formats.dicom import indexed
from nuclear_diffusion.io.formats.zarrs import is_store

_PATIENT = re.compile(r"patient[-_ ]?\d+", re.IGNORECASE)


def patient_of(clip: str) -> str:
    """The patient of a clip, from its name: `patient-3` for `patient-3-...`; any other name is its own patient."""
    match = _PATIENT.match(clip)
    return match.group() if match else clip


def expand(paths: Sequence[Path], without: Path | None = None) -> list[Source]:
    """The clips that were typed: folders and DICOMDIRs become their clips, and images of one series one clip.

    Results of `dehaze` in a folder, and the folder `without`, are left out. What cannot be listed or holds no clips
    stands for itself: whoever opens it says why.
    """
    series: dict[tuple[Path, str], list[Path]] = {}
    for path in paths:
        if is_picture(path) and os.path.isfile(path):
            series.setdefault((path.parent, re.sub(r"\d+(?=\D*$)", "*", path.name)), []).append(path)
    found: list[Source] = []
    for path in paths:
        if (files := indexed(path)) is not None:
            found += _of_index(set(files)) or [path]
            continue
        if os.path.isdir(path) and not is_store(path):
            found += _clips_in(path, without and os.path.realpath(without)) or [path]
            continue
        members = series.get((path.parent, re.sub(r"\d+(?=\D*$)", "*", path.name)), [])
        if len(members) < 2:
            found.append(path)
        elif path == members[0]:  # typed as *.png
            found.append(files_of(members))
    return found


def left_out(paths: Sequence[Path], without: Path) -> list[Source]:
    """The clips in the folder `without` that `expand` leaves out: those of a folder below one that was typed."""
    place = Path(os.path.realpath(without))
    if not place.is_dir() or not any(Path(os.path.realpath(path)) in place.parents for path in paths):
        return []
    return _clips_in(without, None)


def _of_index(files: set[Path]) -> list[Source]:
    """The clips that a DICOMDIR names."""
    folders = dict.fromkeys(sorted(file.parent for file in files))
    try:
        clips = [source for folder in folders for source in find_clips(folder)]
    except (InputError, OSError):
        return []
    return [source for source in clips if files.intersection(source.files if isinstance(source, Frames) else [source])]


def _clips_in(folder: Path, without: str | None, above: frozenset[str] = frozenset()) -> list[Source]:
    """The clips in a folder and below it. A link to a folder `above` is left out: it never ends."""
    try:
        entries = find_clips(folder)
    except (InputError, OSError):
        return [folder]
    above |= {os.path.realpath(folder)}
    below = [path for path in entries if isinstance(path, Path) and os.path.isdir(path) and not is_store(path)]
    below = [path for path in below if os.path.realpath(path) not in (*above, without) and not _is_result(path)]
    if not below and len(clips_among(folder, entries)) == 1:
        return [folder]
    clips: list[Source] = []
    for source in entries:
        if source in below:
            clips += _clips_in(source, without, above)
        elif may_be_clip(source):
            clips.append(source)
    return clips


def _is_result(folder: Path) -> bool:
    return all(os.path.isfile(folder / name) for name in ("result.h5", "report.json"))


__all__ = ["Frames", "Source", "expand", "find_clips", "left_out", "name_of", "patient_of"]
