"""The table of formats: how a file is recognised, and who decodes it."""

import gzip
import os
import re
import statistics
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, TypeVar

from natsort import natsorted, ns

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.files import followed
from nuclear_diffusion.io.clip import Reading
from nuclear_diffusion.io.formats import arrays, dicom, hdf5, images, itk, matlab, movie, tiff, zarrs
from nuclear_diffusion.io.guard import check_file, door, guarded, head
from nuclear_diffusion.io.stored import Picture, Stored


class Format(NamedTuple):
    """A kind of file."""

    kind: str  # in words that follow "read as"
    open: Callable[[Path, Reading], Stored]
    begins: Callable[[bytes], bool]  # whether a file that begins with these bytes (4096 at most) is of this kind
    suffixes: tuple[str, ...]  # what such files are called; decides only where no format knows the beginning


_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04"  # also documents of an office


def _open_zip(path: Path, reading: Reading) -> Stored:
    return (zarrs.open_zarr if zarrs.zipped(path) else arrays.open_npz)(path, reading)


FORMATS = (
    Format("HDF5", hdf5.open_hdf5, hdf5.begins, (".h5", ".hdf5", ".he5")),
    Format("MATLAB", matlab.open_matlab, matlab.begins, (".mat",)),
    Format("a NumPy array", arrays.open_npy, lambda start: start.startswith(b"\x93NUMPY"), (".npy",)),
    Format("a ZIP file (NPZ or zarr)", _open_zip, lambda start: start.startswith(_ZIP), (".npz", ".zarr.zip")),
    Format("a TIFF stack", tiff.open_tiff, tiff.begins, (".tif", ".tiff", ".btf")),
    Format("DICOM", dicom.open_dicom, dicom.begins, (".dcm", ".dicom", ".ima")),
    Format("NRRD", itk.open_nrrd, lambda start: start.startswith(b"NRRD000"), (".nrrd", ".nhdr")),
    Format("NIfTI", itk.open_nifti, itk.begins_nifti, (".nii", ".nii.gz", ".hdr", ".img")),
    Format("MetaImage", itk.open_metaimage, itk.begins_metaimage, (".mha", ".mhd")),
    Format("an image", images.open_image, images.begins, images.SUFFIXES),
    Format("a movie", movie.open_movie, movie.begins, movie.SUFFIXES),
)

_SEVERAL = {"HDF5", "MATLAB", "a ZIP file (NPZ or zarr)"}  # kinds that may hold several arrays
_ARRAYS = _SEVERAL | {"a NumPy array", "a TIFF stack", "NRRD", "NIfTI", "MetaImage"}  # kinds with axes in any order
_USED_BY = {"dataset": _SEVERAL, "axes": _ARRAYS}
"""Which kinds need what only some files do not say."""

KNOWN = "DICOM, a movie, GIF, TIFF, NPZ, NPY, HDF5, MATLAB, zarr, NIfTI, NRRD, MHA or MHD, or a folder of images"


@dataclass(frozen=True)
class Frames:
    """Files of one frame each, in order, that are one clip."""

    name: str  # of the clip
    folder: Path  # that holds the files
    files: tuple[Path, ...]


_MASK = re.compile(r"[-_. ](mask|masks|seg|segmentation|label|labels|gt|overlay)$", re.IGNORECASE)
"""What the name of a picture's mask ends in."""

_NOT_DICOM = {suffix for known in FORMATS if known.kind != "DICOM" for suffix in known.suffixes}

Source = Path | Frames
"""A clip on disk: a file, a folder, a pattern such as `folder/patient-3-*.png`, or files of a frame each."""

S = TypeVar("S", Path, Source)


def open_stored(source: Source, reading: Reading) -> Stored:
    """Open a clip of any format, without decoding it. Raises `InputError` if it cannot be read."""
    if isinstance(source, Frames):
        return _series(source.folder, source.files, reading)
    if "*" in source.name and not os.path.exists(source):
        return _series(source, _matching(source), reading)
    if os.path.isdir(source):
        opened = zarrs.open_zarr if zarrs.is_store(source) else _only_clip
        with door(source, "a folder" if opened is _only_clip else "zarr"):
            return opened(source, reading)
    check_file(source)
    if source.stat().st_size == 0:
        raise InputError(f"{source} is empty, of 0 bytes: export it again.")
    found = format_of(source)
    if found is None:
        if head(source, 2) == _GZIP:
            raise InputError(f"{source} is packed by gzip: unpack it first.")
        raise InputError(f"{source} is of an unknown format: give {KNOWN}.")
    with door(source, found.kind):
        stored = found.open(source, reading)
    ignored = [
        f"--{option}" for option, kinds in _USED_BY.items() if getattr(reading, option) and found.kind not in kinds
    ]
    return stored.but(*(f"{option} does not apply to {found.kind} and is ignored." for option in ignored))


def format_of(path: Path) -> Format | None:
    """The format of a file, by its content, else by its suffix; None if no format knows it."""
    start = head(path)
    for known in FORMATS:
        if known.begins(start):
            return known
    if start.startswith(_GZIP):
        try:
            with gzip.open(path) as file:
                inner = file.read(512)
        except (OSError, EOFError, ValueError, zlib.error):
            inner = b""
        if itk.begins_nifti(inner):
            return next(known for known in FORMATS if known.kind == "NIfTI")
    named = next((known for known in FORMATS if path.name.lower().endswith(known.suffixes)), None)
    if named is None and start and movie.probes(path):
        return FORMATS[-1]
    return named


def name_of(source: Source) -> str:
    """The clip's name, from what was typed; bytes that are no text are replaced."""
    return os.fsencode(_typed(source)).decode("utf-8", "replace")


def _typed(source: Source) -> str:
    if isinstance(source, Frames):
        return source.name
    if "*" in source.name and not os.path.exists(source):
        return re.sub(r"(\.nii)?\.[A-Za-z0-9]+$", "", source.name).replace("*", "").strip("-_. ") or name_of(
            source.parent
        )
    name = source.name if source.name not in ("", "..") else followed(source).name
    if not os.path.isdir(source) or name.lower().endswith(".zarr"):
        if name.lower().endswith((".nii.gz", ".zarr.zip")):
            return name[:-7] if name.lower().endswith(".nii.gz") else name[:-9]
        if re.fullmatch(r"\.[a-z][a-z0-9]{1,5}|\.3gp|\.3g2", Path(name).suffix.lower()):
            return Path(name).stem  # the last number of a UID is not a suffix
    return name


# ---------------------------------------------------------------------------------------------- folders


def find_clips(folder: Path) -> list[Source]:
    """The clips in a folder, sorted by name.

    Files of one frame each whose names differ in the number at their end are one clip (a pattern,
    `folder/patient-1-*.mha`); in names of pictures, text may follow the number.
    DICOM files of one frame and one series are one clip (`Frames`), but stills if the series holds clips, too, or if
    they were taken more than a second apart.
    Everything else that is not hidden is a clip by itself: subfolders, movies, and also files that may turn out to be
    none. `NAME_gt` beside `NAME` is its ground truth (CAMUS), and no clip.

    Raises:
        InputError: the folder holds the same frames twice, in two formats.
    """
    entries = _sorted(path for path in folder.iterdir() if path.name[0] != "." and not _waits(path))
    files = [path for path in entries if path.is_file()]
    used: set[Path] = {path for path in files if path.suffix.lower() in (".raw", ".zraw")}  # the data of an MHD
    used |= {path for path in files if path.suffix.lower() == ".img" and path.with_suffix(".hdr") in files}
    used |= _truths(files)
    found: list[Source] = []
    slices: dict[tuple[str, ...], list[tuple[dicom.InSeries, Path]]] = {}
    clips: set[tuple[str, ...]] = set()  # series that hold clips, whose files of one frame are stills
    for path in files:
        if path.suffix.lower() not in _NOT_DICOM:
            place = dicom.series_of(path)
            if place is not None and place.single:
                slices.setdefault(place.series, []).append((place, path))
            elif place is not None:
                clips.add(place.series[:2])
    for about, members in slices.items():
        members.sort(key=lambda item: item[0].number)
        if len(members) > 1 and about[:2] not in clips and not _far_apart([place.taken for place, _ in members]):
            ordered = tuple(path for _, path in members)
            found.append(Frames(_common_name(folder, ordered, len(slices)), folder, ordered))
            used |= set(ordered)
    apart = {path for members in slices.values() for _, path in members}
    series: dict[str, list[Path]] = {}
    for path in files:
        if path not in used and path not in apart and (pattern := _pattern(path)) != path.name:
            series.setdefault(pattern, []).append(path)
    for pattern, members in series.items():
        if _holds_one_frame(members[0]):
            found.append(folder / pattern)
            used |= set(members)
    _refuse_twice(folder, series, found)
    return _sorted([*found, *(path for path in entries if path not in used)])


def _far_apart(taken: Sequence[datetime | None]) -> bool:
    """Whether frames were taken too far apart to be one clip: more than a second, for most of them."""
    known = [when for when in taken if when is not None]
    gaps = [abs(after - before).total_seconds() for before, after in pairwise(known)]
    return len(known) == len(taken) and statistics.median(gaps) > 1


def _sorted(sources: Iterable[S]) -> list[S]:
    """In numerical order of their names."""
    return natsorted(sources, key=lambda source: source.name, alg=ns.PATH)


def _pattern(path: Path) -> str:
    """The name with a star for the number of the frame: the last one, at the end where 2CH may be a view (CAMUS)."""
    stem, number = _stem(path), r"\d+(?=\D*$)" if is_picture(path) else r"\d+(?=[\W_]*$)"
    return re.sub(number, "*", stem) + path.name[len(stem) :]


def _only_clip(folder: Path, reading: Reading) -> Stored:
    """The one clip in a folder."""
    clips = clips_among(folder, find_clips(folder))
    if not clips:
        raise InputError(f"{folder} holds no images and no clip: give a folder of PNG frames, or a video file.")
    if len(clips) > 1:
        first = clips[0]
        where = first.folder if isinstance(first, Frames) else first
        raise InputError(f"{folder} holds {len(clips)} clips: name one of them, as in {where}.")
    return open_stored(clips[0], reading)


def clips_among(folder: Path, entries: Sequence[Source]) -> list[Source]:
    """The clips of a folder by itself: lone pictures beside a series or a clip are none; pictures alone are one."""
    found = [source for source in entries if may_be_clip(source)]
    pictures = [source for source in found if isinstance(source, Path) and is_picture(source)]
    pictures = [source for source in pictures if len(_matching(source)) < 2]
    clips = [source for source in found if source not in pictures]
    stems = {source.stem for source in pictures}
    pictures = [source for source in pictures if _MASK.sub("", source.stem) not in stems - {source.stem}]
    if clips or not pictures:
        return clips
    return [Frames(name_of(folder), folder, tuple(_sorted(file for one in pictures for file in _matching(one))))]


def _refuse_twice(folder: Path, series: dict[str, list[Path]], found: list[Source]) -> None:
    """Raise `InputError` if two series of images differ in nothing but their format."""
    seen: dict[str, str] = {}
    for pattern, members in series.items():
        if folder / pattern in found and len(members) > 1 and is_picture(members[0]):
            base = Path(pattern).stem
            if base in seen:
                raise InputError(
                    f"{folder} holds the same frames twice, as {seen[base]} and {pattern}: name one, as in "
                    f"{folder / seen[base]}."
                )
            seen[base] = pattern


def _common_name(folder: Path, files: tuple[Path, ...], groups: int) -> str:
    """The name of a series: of its folder if it is the only one, else what its files' names have in common."""
    if groups == 1:
        return name_of(folder)
    common = {re.sub(r"\d+(?=\D*$)", "", _stem(path)).strip("-_. ") for path in files}
    return common.pop() if len(common) == 1 and common != {""} else _stem(files[0])


def _stem(path: Path) -> str:
    return path.name[: -len(".nii.gz")] if path.name.lower().endswith(".nii.gz") else path.stem


def is_picture(source: Source) -> bool:
    return isinstance(source, Path) and source.suffix.lower() in images.FRAME_SUFFIXES


def may_be_clip(source: Source) -> bool:
    """Whether a folder's entry is of a kind that can be read, by its name or beginning, or cannot be opened."""
    if isinstance(source, Frames) or "*" in source.name:
        return True
    if os.path.isdir(source):
        return zarrs.is_store(source)
    if source.name.upper() == "DICOMDIR":
        return False
    named = any(source.name.lower().endswith(known.suffixes) for known in FORMATS)
    try:
        start = head(source)
    except InputError:  # whoever opens it says why; a link to nothing has only its name
        return named or os.path.exists(source)
    found = any(known.begins(start) for known in FORMATS)
    return named or (found and (not start.startswith(_ZIP) or arrays.archived(source) or bool(zarrs.zipped(source))))


def _waits(path: Path) -> bool:
    """Whether a path is a pipe, a socket or a device, which may never answer."""
    return os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))


def _holds_one_frame(path: Path) -> bool:
    if is_picture(path) and path.suffix.lower() not in (".tif", ".tiff"):
        return True
    if path.suffix.lower() in movie.SUFFIXES:
        return False
    try:
        return open_stored(path, Reading()).count == 1
    except InputError:
        return False


def _matching(pattern: Path) -> list[Path]:
    """The files that match a pattern, in numerical order."""
    if "*" not in pattern.name:
        return [pattern]
    wanted = re.compile(".*".join(re.escape(part) for part in pattern.name.split("*")), re.DOTALL)
    if not os.path.isdir(pattern.parent):
        raise InputError(f"{pattern.parent} is not a folder: check the path.")
    listed = {path for path in pattern.parent.iterdir() if path.name[0] != "." and wanted.fullmatch(path.name)}
    numbers = re.compile(r"\d+".join(re.escape(part) for part in pattern.name.split("*")))
    numbered = {path for path in listed if numbers.fullmatch(path.name)}  # not 01_mask.png beside 01.png
    return _sorted(path for path in (numbered or listed) - _truths(listed) if path.is_file())


def _truths(files: Iterable[Path]) -> set[Path]:
    """What the ground truth beside these files would be called."""
    return {path.with_name(f"{_stem(path)}_gt{path.name[len(_stem(path)) :]}") for path in files}


def _series(path: Path, files: Sequence[Path], reading: Reading) -> Stored:
    """Files of one frame each as one clip; the first one's rate and range hold for all."""
    if "*" in path.name:
        files = [file for file in files if format_of(file) is not None]
        several = [name for name, count in Counter(map(_pattern, files)).items() if count > 1]
        if len(several) > 1:
            raise InputError(
                f"{path} matches {len(several)} clips: name one of them, as in {files[0].parent / several[0]}."
            )
    if not files:
        where = "matches no images" if "*" in path.name else "holds no images"
        raise InputError(f"{path} {where}: give a folder of PNG frames, or a video file.")
    opened = [open_stored(file, reading) for file in files]
    long = next((file for file, stored in zip(files, opened, strict=True) if stored.count != 1), None)
    if long is not None:
        if len(files) == 1:
            return opened[0]
        raise InputError(f"{long} is a clip by itself, not a frame: give it alone.")
    shapes = sorted({stored.shape for stored in opened if stored.shape})
    if len(shapes) > 1:
        listed = ", ".join(f"{height} x {width}" for height, width in shapes[:3])
        raise InputError(f"{path} mixes frames of different sizes ({listed}): crop them to one size.")
    if len({stored.dtype for stored in opened}) > 1:
        raise InputError(f"{path} mixes images of different bit depths: convert them to one.")
    first, notes = opened[0], _gaps(files)
    if len({stored.range for stored in opened}) > 1:
        notes = ["The frames differ in their display range; the first one's is shown.", *notes]

    def frames() -> Iterator[Picture]:
        for file in files:
            stored = open_stored(file, reading)
            yield from guarded(file, stored.kind, stored.frames)

    kind = "images" if first.kind == "an image" else f"frames in {first.kind}"
    channels = max(stored.channels or 0 for stored in opened) or None
    return first.but(*notes, kind=kind, frames=frames, count=len(opened), channels=channels, files=tuple(files))


def _gaps(files: Sequence[Path]) -> list[str]:
    """A note if numbers are missing in the names of frames that otherwise count up by one step."""
    found = [re.findall(r"\d+", _stem(file)) for file in files]
    if len(files) < 3 or not all(found):
        return []
    numbers = [int(words[-1]) for words in found]
    steps = [after - before for before, after in pairwise(numbers)]
    usual = min(steps)
    lacking = sum(step // usual - 1 for step in steps) if usual > 0 else 0
    if not lacking:
        return []
    return [
        f"Of the frames {numbers[0]} to {numbers[-1]}, {lacking} are missing; the others are taken as even in time."
    ]


def files_of(files: Sequence[Path]) -> Frames:
    """Image files in the given order as one clip."""
    return Frames(name_of(files[0].parent), files[0].parent, tuple(files))


__all__ = ["FORMATS", "Format", "Frames", "Source", "files_of", "find_clips", "format_of", "name_of", "open_stored"]
