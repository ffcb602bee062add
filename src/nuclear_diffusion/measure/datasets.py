"""Data sets to evaluate on: hazy clips, masks of septum and ventricle, and the truth if known.

A frame is identified by its clip and its number: `patient-3-4C-frame-12.png` in the folder of frames or masks, or
`patient-3-4C/frame-12.png` if each clip has its own folder. Files are read only by `Case.read`.
"""

import re
import warnings
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from jaxtyping import Float32
from natsort import natsorted
from numpy import ndarray
from PIL import Image
from skimage.draw import polygon2mask

from nuclear_diffusion.errors import InputError, unreadable
from nuclear_diffusion.files import followed
from nuclear_diffusion.io import Clip, read_frames, read_video
from nuclear_diffusion.io.find import find_clips, name_of, patient_of
from nuclear_diffusion.io.formats import may_be_clip
from nuclear_diffusion.io.formats.zarrs import is_store
from nuclear_diffusion.simulation import SimulatedClip
from nuclear_diffusion.simulation.dataset import SEPTUM, VENTRICLE
from nuclear_diffusion.text import MAX_BYTES, read_json, read_lines, require_file
from nuclear_diffusion.types import Mask

NOISY, MASKS, CLEAN, TRUTH = "noisy", "noisy_roi", "clean", "truth"  # default folders of a data set

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".webp")
LABELS = {"septum": SEPTUM, "a": SEPTUM, "ventricle": VENTRICLE, "b": VENTRICLE}
"""Labels of LabelMe polygons, in any case."""
MOST_POINTS = 5000  # most points of the polygons in one LabelMe file, which bounds the time to fill them

_NUMBERED = re.compile(r"(?P<clip>.*?)[-_. ]*(?:frame)?[-_. ]*(?P<number>\d+)", re.IGNORECASE)


class Annotation(NamedTuple):
    """The two regions of one frame; one of them may be empty."""

    septum: Mask
    ventricle: Mask


class _Shape(msgspec.Struct):
    """A drawing in a LabelMe file."""

    label: str
    points: list[tuple[float, float]]
    shape_type: str = "polygon"


class _LabelMe(msgspec.Struct):
    """What we use of a LabelMe file."""

    shapes: list[_Shape]
    imageHeight: int | None = None
    imageWidth: int | None = None


class _Patient(msgspec.Struct):
    """What we use of the simulator's record of a patient."""

    fps: float


class Loaded(NamedTuple):
    """A case in memory."""

    clip: Clip
    numbers: tuple[int, ...]  # the number of each frame, ascending, with gaps for missing frames
    annotations: dict[int, Annotation]  # by frame number, without frames that have no region
    truth: Float32[ndarray, "frames height width"] | None


def as_loaded(simulated: SimulatedClip) -> Loaded:
    """A simulated patient as a clip with truth and masks on every frame."""
    numbers = tuple(range(1, len(simulated.hazy) + 1))
    regions = map(Annotation, simulated.septum, simulated.ventricle)
    return Loaded(as_clip(simulated), numbers, dict(zip(numbers, regions, strict=True)), simulated.clean)


def as_clip(simulated: SimulatedClip) -> Clip:
    """The hazy acquisition as a clip with its sector as the region."""
    name = f"simulated-{simulated.view}-{simulated.seed}"
    region = np.asarray(simulated.sector, bool)
    return Clip(simulated.hazy, simulated.fps, color=None, region=region, name=name, source=Path(name))


@dataclass(frozen=True)
class Case:
    """One hazy clip of a data set with its masks and, if known, its truth: paths only."""

    name: str  # the clip's name
    patient: str  # the patient's name; clips named `patient-3-...` all belong to patient-3
    # (number, file) of each frame, ascending; or the path of a movie, whose frames count from 1
    frames: tuple[tuple[int, Path], ...] | Path
    masks: tuple[tuple[int, Path], ...]  # (number, file) of each annotated frame
    truth: tuple[tuple[int, Path], ...] | Path | None = None  # the haze-free clip, as `frames`; None if unknown
    fps: float | None = None  # frames per second, if known

    def read(self) -> Loaded:
        """Read frames, masks and truth. Raises `InputError` if they are unreadable or do not match."""
        clip = _read(self.frames)
        numbers = tuple(range(1, len(clip) + 1)) if isinstance(self.frames, Path) else tuple(n for n, _ in self.frames)
        clip = Clip(clip.frames, self.fps or clip.fps, clip.color, clip.region, self.name, clip.source)
        annotations = {}
        for number, path in self.masks:
            if number not in numbers:
                raise InputError(f"{path} is a mask of frame {number}, but {clip.source} has {len(clip)} frames.")
            annotation = read_mask(path, clip.shape[1:])
            if annotation.septum.any() or annotation.ventricle.any():
                annotations[number] = annotation
        truth = None if self.truth is None else _read(self.truth).frames
        if truth is not None and truth.shape != clip.shape:
            raise InputError(
                f"the truth of {self.name} has shape {truth.shape}, its frames {clip.shape}: export again."
            )
        return Loaded(clip, numbers, annotations, truth)


class Dataset(NamedTuple):
    """The clips of a data set."""

    cases: tuple[Case, ...]
    clean: tuple[tuple[Path, ...], ...]  # frames of each clean clip of other people, if there are any
    notes: tuple[str, ...]  # one sentence for each part that was left out


def find_dataset(
    data: Path,
    *,
    noisy: Path | None = None,
    masks: Path | None = None,
    clean: Path | None = None,
    truth: Path | None = None,
) -> Dataset:
    """List the clips of a data set with their masks.

    Reads the layout of the DehazingEcho2025 challenge (frames with gaps in their numbers, masks on every tenth), the
    simulator's (the same, with truth), and folders of clips that `read_video` can read, with masks as PNG (255 septum,
    128 ventricle) or LabelMe JSON, named by clip and frame number.

    The folders are relative to `data` or the working directory; by default `noisy`, else `data` itself; `noisy_roi`,
    else JSON files beside the frames; `clean` and `truth` if they exist. Raises `InputError` if one is missing or
    empty, two files have the same name or number, masks fit no frame, or a clip's truth is incomplete.
    """
    if not data.is_dir():
        raise InputError(f"{data} is not a folder: give the folder of a data set.")
    hazy = _folder(data, noisy, NOISY, "--noisy") or data
    mask_folder = _folder(data, masks, MASKS, "--masks") or hazy
    truth_folder = _folder(data, truth, TRUTH, "--truth")
    clean_folder = _folder(data, clean, CLEAN, "--clean")

    beside = (mask_folder, truth_folder, clean_folder)
    others = {followed(folder) for folder in beside if folder is not None} - {followed(hazy)}
    clips = _clips(hazy, others)
    if not clips:
        raise InputError(f"{hazy} holds no clips: name the folder of the hazy frames with --noisy.")
    drawn = _index(mask_folder, (".json",) if mask_folder == hazy else (".json", ".png"))
    truths = {} if truth_folder is None else _clips(truth_folder)
    cases, notes = [], []
    for name, frames in clips.items():
        if isinstance(frames, dict) and len(frames) < 2:
            notes.append(f"{name}: one frame only, left out.")
            continue
        known = drawn.get(name, {})
        if isinstance(frames, dict) and (stray := sorted(known.keys() - frames.keys())):
            notes.append(f"{name}: masks of missing frames {', '.join(map(str, stray))} are not used.")
            known = {number: path for number, path in known.items() if number in frames}
        found = None if truth_folder is None else _truth_of(name, frames, truths, truth_folder)
        if not known and found is None:
            notes.append(f"{name}: no masks and no truth, left out.")
            continue
        patient = patient_of(name)
        cases.append(Case(name, patient, _pairs(frames), _pairs(known), found, _fps(data, patient)))
    if not any(case.masks or case.truth for case in cases):
        raise _nothing_to_score(hazy, mask_folder, clips)
    pictures = [] if clean_folder is None else _index(clean_folder, IMAGES).values()
    clean_clips = tuple(tuple(frames.values()) for frames in pictures if len(frames) > 1)
    if clean is not None and not clean_clips:
        raise InputError(f"{clean_folder} holds no clips: give a folder of clean frames to --clean, or leave it out.")
    return Dataset(tuple(cases), clean_clips, tuple(notes))


def only_patients(dataset: Dataset, path: Path) -> Dataset:
    """The clips of the patients listed in a text file, one per line.

    Raises `InputError` if it is unreadable or empty, or a patient has no clip.
    """
    names = read_lines(path, "a readable text file with one patient per line (--patients)")
    if not names:
        raise InputError(f"{path} names no patient: write one per line.")
    known = {case.patient for case in dataset.cases}
    if strangers := [name for name in names if name not in known]:
        raise InputError(f"{path} names {strangers[0]}, who has no clip in the data: remove that line.")
    return dataset._replace(cases=tuple(case for case in dataset.cases if case.patient in names))


def read_mask(path: Path, shape: tuple[int, ...]) -> Annotation:
    """The regions of a mask: PNG values exactly 255 (septum) and 128 (ventricle), or LabelMe shapes.

    Raises `InputError` if it is unreadable, has another size than `shape`, or draws something else.
    """
    return _read_labelme(path, shape) if path.suffix.lower() == ".json" else _read_png_mask(path, shape)


def _read_png_mask(path: Path, shape: tuple[int, ...]) -> Annotation:
    require_file(path, "a mask", max_bytes=MAX_BYTES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=["PNG"]) as image:
                size = image.height, image.width
                values = np.asarray(image.convert("L")) if size == tuple(shape) else None
    except Exception as error:  # Pillow raises anything on damaged files
        sentence = f"{path} cannot be read as a PNG image: it is damaged; export it again."
        raise unreadable(path, error, sentence) from error
    if values is None:
        raise InputError(f"{path} is {_size(size)} pixels, its frame {_size(shape)}: draw it on the frame itself.")
    annotation = Annotation(values == SEPTUM, values == VENTRICLE)
    if values.any() and not (annotation.septum.any() or annotation.ventricle.any()):
        others = ", ".join(str(value) for value in np.unique(values[values > 0])[:5])
        raise InputError(
            f"{path} has the values {others}: a mask is {SEPTUM} in the septum, {VENTRICLE} in the ventricle, else 0."
        )
    return annotation


def _read_labelme(path: Path, shape: tuple[int, ...]) -> Annotation:
    """Polygons and rectangles; a pixel belongs to a shape if its centre, (x + 1/2, y + 1/2), lies in it.

    Pixels within both regions count for neither.
    """
    advice = "it needs `shapes` with `label` and `points`"
    content = read_json(path, _LabelMe, "a LabelMe file", advice)
    size = content.imageHeight or shape[0], content.imageWidth or shape[1]
    if size != tuple(shape):
        raise InputError(
            f"{path} was drawn on {_size(size)} pixels, but its frame is {_size(shape)}: draw it on the frame."
        )
    regions = {SEPTUM: np.zeros(shape, bool), VENTRICLE: np.zeros(shape, bool)}
    if sum(len(drawn.points) for drawn in content.shapes) > MOST_POINTS:
        raise InputError(f"{path} has more than {MOST_POINTS} points: draw the regions with fewer.")
    for drawn in content.shapes:
        label, kind, points = drawn.label, drawn.shape_type, np.array(drawn.points, float)
        if not (np.abs(points) <= 2 * max(shape)).all():
            raise InputError(f"{path} draws {label!r} far outside its frame of {_size(shape)} pixels: draw it again.")
        if label.lower() not in LABELS:
            raise InputError(f"{path} has the label {label!r}: use septum and ventricle.")
        if kind == "rectangle" and points.shape == (2, 2):
            (x0, y0), (x1, y1) = points
            points = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
        elif kind != "polygon" or points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
            raise InputError(f"{path} draws {label} as a {kind!r} of {len(points)} points: draw a polygon.")
        regions[LABELS[label.lower()]] |= polygon2mask(shape, points[:, ::-1] - 0.5)
    both = regions[SEPTUM] & regions[VENTRICLE]
    return Annotation(regions[SEPTUM] & ~both, regions[VENTRICLE] & ~both)


def _folder(data: Path, given: Path | None, default: str, flag: str) -> Path | None:
    if given is None:
        return data / default if (data / default).is_dir() else None
    for folder in (data / given, given):
        if folder.is_dir():
            return folder
    raise InputError(f"{flag} {given} is not a folder, neither in {data} nor in the working directory: check its name.")


def _index(folder: Path, suffixes: Iterable[str], but: Collection[Path | None] = ()) -> dict[str, dict[int, Path]]:
    """Clip name -> frame number -> file, in numerical order, of `folder` and its subfolders except `but`."""
    clips: dict[str, dict[int, Path]] = {}
    for path in sorted([*folder.iterdir(), *folder.glob("*/*")]):
        hidden = path.name[0] == "." or (path.parent != folder and path.parent.name[0] == ".")
        if hidden or path.suffix.lower() not in suffixes or path.is_dir() or followed(path.parent) in but:
            continue
        if path.parent != folder and is_store(path.parent):
            continue
        match = _NUMBERED.fullmatch(path.stem)
        if match is None:
            raise InputError(f"{path} has no frame number at the end of its name: rename or remove it.")
        name = path.parent.name if path.parent != folder else match["clip"] or folder.name
        frames, number = clips.setdefault(name, {}), int(match["number"])
        if number in frames:
            raise InputError(f"{path} and {frames[number].name} are both frame {number} of {name}: remove one.")
        frames[number] = path
    return {name: dict(sorted(clips[name].items())) for name in natsorted(clips)}


def _movies(folder: Path) -> dict[str, Path]:
    """The files, and stores of zarr, that hold a clip each."""
    named: dict[str, Path] = {}
    for path in find_clips(folder):
        if not (isinstance(path, Path) and may_be_clip(path)) or "*" in path.name or path.suffix.lower() in IMAGES:
            continue
        name = name_of(path)
        if name in named:
            raise InputError(f"{named[name]} and {path.name} are both clip {name}: rename or remove one.")
        named[name] = path
    return named


def _clips(folder: Path, but: Collection[Path | None] = ()) -> dict[str, dict[int, Path] | Path]:
    """The clips of frames and the movies in a folder, by name."""
    frames, movies = _index(folder, IMAGES, but), _movies(folder)
    for name in frames.keys() & movies.keys():
        raise InputError(f"{movies[name]} and the frames of {name} are both clip {name}: rename or remove one.")
    return {**frames, **movies}


def _truth_of(
    name: str, frames: dict[int, Path] | Path, truths: dict[str, dict[int, Path] | Path], folder: Path
) -> tuple[tuple[int, Path], ...] | Path:
    found = truths.get(name)
    if isinstance(frames, Path) and isinstance(found, Path):
        return found
    if not (isinstance(frames, dict) and isinstance(found, dict)):
        raise InputError(f"{folder} has no truth of {name}: add it, or name another folder with --truth.")
    if missing := sorted(frames.keys() - found.keys()):
        raise InputError(f"{folder} has no truth of frame {missing[0]} of {name}: add it, or remove that frame.")
    return tuple((number, found[number]) for number in frames)


def _read(frames: tuple[tuple[int, Path], ...] | Path) -> Clip:
    return read_video(frames) if isinstance(frames, Path) else read_frames([path for _, path in frames])


def _pairs(frames: Any) -> Any:
    return frames if isinstance(frames, Path) else tuple(frames.items())


def _fps(data: Path, patient: str) -> float | None:
    """The frame rate recorded by the simulator."""
    path = data / "patients" / f"{patient}.json"
    try:
        fps = read_json(path, _Patient, "a record of the simulator", max_bytes=1 << 20).fps
    except InputError:
        return None
    return fps if 0 < fps < 1e4 else None


def _nothing_to_score(hazy: Path, masks: Path, clips: dict[str, dict[int, Path] | Path]) -> InputError:
    if all(isinstance(frames, dict) and len(frames) < 2 for frames in clips.values()):
        return InputError(f"{hazy} holds single frames, not clips: give at least two frames of each.")
    name, frames = next(iter(clips.items()))
    example = f"{name}-frame-1.png" if isinstance(frames, Path) else f"{next(iter(frames.values())).stem}.png"
    return InputError(f"{masks} holds no mask of any frame in {hazy}: name masks as frames, such as {example}.")


def _size(shape: Iterable[int]) -> str:
    return " x ".join(str(side) for side in shape)
