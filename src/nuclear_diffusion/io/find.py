"""The clips in a folder, and their patients."""

import re
from collections.abc import Sequence
from pathlib import Path

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io.formats import (
    Frames,
    Source,
    files_of,
    find_clips,
    is_picture,
    may_be_clip,
    name_of,
    one_clip,
)
from nuclear_diffusion.io.formats.dicom import indexed

_PATIENT = re.compile(r"patient[-_ ]?\d+", re.IGNORECASE)


def patient_of(clip: str) -> str:
    """The patient of a clip, from its name: `patient-3` for `patient-3-...`; any other name is its own patient."""
    match = _PATIENT.match(clip)
    return match.group() if match else clip


def expand(paths: Sequence[Path]) -> list[Source]:
    """The clips that were typed: folders and DICOMDIRs become their clips, and images of one series one clip.

    Raises `InputError` for a folder without clips.
    """
    series: dict[tuple[Path, str], list[Path]] = {}
    for path in paths:
        if is_picture(path) and path.is_file():
            series.setdefault((path.parent, re.sub(r"\d+(?=\D*$)", "*", path.name)), []).append(path)
    found: list[Source] = []
    for path in paths:
        if (files := indexed(path)) is not None:
            found += _of_index(path, set(files))
            continue
        if path.is_dir() and not one_clip(path):
            found += _clips_in(path)
            continue
        members = series.get((path.parent, re.sub(r"\d+(?=\D*$)", "*", path.name)), [])
        if len(members) < 2:
            found.append(path)
        elif path == members[0]:  # typed as *.png
            found.append(files_of(members))
    return found


def _of_index(path: Path, files: set[Path]) -> list[Source]:
    """The clips that a DICOMDIR names."""
    clips = [source for folder in dict.fromkeys(sorted(file.parent for file in files)) for source in find_clips(folder)]
    clips = [source for source in clips if files.intersection(source.files if isinstance(source, Frames) else [source])]
    if not clips:
        raise InputError(f"{path} is a DICOMDIR, an index of files that are not here: give a clip.")
    return clips


def _clips_in(folder: Path) -> list[Source]:
    clips: list[Source] = []
    for source in find_clips(folder):
        if isinstance(source, Frames) or not source.is_dir():
            clips += [source] if may_be_clip(source) else []
        elif one_clip(source):
            clips.append(source)
        else:
            clips += _clips_in(source)
    if not clips:
        raise InputError(f"{folder} holds no clips: give clips, or a folder of them.")
    return clips


__all__ = ["Frames", "Source", "expand", "find_clips", "name_of", "patient_of"]
