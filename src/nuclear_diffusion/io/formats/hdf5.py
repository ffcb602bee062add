"""HDF5: zea's layouts, our own results, MATLAB 7.3, and any file with one clip in it."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io.axes import axes_of, of_array
from nuclear_diffusion.io.clip import Reading
from nuclear_diffusion.io.formats.arrays import NAMES, is_rate, pick, scalar
from nuclear_diffusion.io.guard import check_size, memory_limit
from nuclear_diffusion.io.stored import Picture, Stored, lacking, mean_rate

SIGNATURE = b"\x89HDF\r\n\x1a\n"
ZEA = ("data/image_sc", "data/image_sc/values", "data/image/values", "data/image")
"""zea's scan-converted and other B-mode images, old and new layout."""

_SMALL = 2**22  # values of a dataset that is no clip
_CACHE = 64 * 2**20  # bytes of chunks to keep, so that a chunk of many frames is unpacked once


def begins(start: bytes) -> bool:
    """Whether a file begins as HDF5, perhaps after a user block (MATLAB 7.3)."""
    return any(start[at : at + 8] == SIGNATURE for at in (0, 512, 1024, 2048))


def open_hdf5(path: Path, reading: Reading) -> Stored:
    """The clip in an HDF5 file, read as it is needed."""
    with path.open("rb") as file:
        matlab = file.read(10) == b"MATLAB 7.3"
    with h5py.File(path, "r") as file:
        name = _name(path, file, reading.dataset)
        dataset = _dataset(path, file, name)
        zea = name in ZEA
        if zea and dataset.ndim not in (2, 3, 4, 5):
            raise InputError(f"{path} has a dataset {name} of shape {dataset.shape}: give (frames, height, width).")
        fps, uneven = _rate(file) or _rate(dataset) or _rate(file.get("scan")), ()
        if zea and not fps:
            fps, uneven = _zea_rate(file, dataset)
        kind, usual = ("MATLAB 7.3", "HWT") if matlab else ("HDF5", "THW")
        notes = _lacking(dataset) + uneven
        axes = reading.axes or (None if matlab else axes_of(_dimensions(dataset), dataset.shape))
        stored = of_array(path, kind, _view(dataset, matlab), named=axes, usual=usual, fps=fps, notes=notes)
    polar = ["The polar image of zea is shown, as no scan-converted one is there."] if name == "data/image" else []

    def frames() -> Iterator[Picture]:
        with h5py.File(path, "r", rdcc_nbytes=_CACHE) as file:
            view = _view(_dataset(path, file, name), matlab)
            yield from of_array(path, "HDF5", view, named=stored.axes.replace("1", "") or None, usual=usual).frames()

    return stored.but(*polar, frames=frames, decibel=zea)


class _Turned:
    """An array of MATLAB, whose axes HDF5 lists in reverse."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self.dataset, self.shape, self.dtype = dataset, dataset.shape[::-1], dataset.dtype

    def __getitem__(self, at: tuple[Any, ...]) -> np.ndarray:
        return np.asarray(self.dataset[tuple(reversed(at))]).T


def _view(dataset: h5py.Dataset, matlab: bool) -> Any:
    return _Turned(dataset) if matlab else dataset


def _name(path: Path, file: h5py.File, wanted: str | None) -> str:
    """The path of the clip's dataset in the file."""
    if wanted is None:
        for name in ("input", *ZEA):
            if _leads(path, file, name) and isinstance(file[name], h5py.Dataset):
                return name
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.dtype.kind in "biuf" and node.shape is not None:
            shapes[name] = node.shape

    file.visititems(note)  # follows no soft or external links
    if wanted is not None and _leads(path, file, wanted.strip("/")):
        return wanted.strip("/")
    leaves = [name for name in shapes if name.rpartition("/")[2] in NAMES and len(shapes[name]) >= 3]
    if wanted is None and len(leaves) == 1:
        return leaves[0]
    try:
        return pick(path, shapes, wanted)
    except InputError as error:
        listed = ", ".join(sorted(shapes)[:8])
        if wanted is not None:
            raise
        if not shapes:
            raise InputError(f"{path} holds no array of real numbers: save the clip as one.") from error
        raise InputError(
            f"{path} has no dataset `data/image_sc` (zea) or `input` (result.h5), but {listed}: name the clip with "
            "--dataset."
        ) from error


def _leads(path: Path, file: h5py.File, name: str) -> bool:
    """Whether the name is in the file. Raises `InputError` if a part of it is a link to another file."""
    node: Any = file
    for part in name.split("/"):
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if isinstance(link, h5py.ExternalLink):
            raise InputError(f"{path} links to another file, {link.filename}: copy the data into one file.")
        if not isinstance(node, h5py.Group) or part not in node:
            return False
        node = node[part]
    return True


def _dataset(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    """A dataset of numbers that lies in this file alone."""
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or not dataset.shape:
        raise InputError(f"{path} has no array in {name}: name the clip with --dataset.")
    if dataset.dtype.kind not in "biuf":
        raise InputError(f"{path} holds {dataset.dtype} values in {name}: give integers or floats.")
    sources = dataset.virtual_sources() if dataset.is_virtual else ()
    if dataset.external or any(source.file_name not in (".", "") for source in sources):
        raise InputError(f"{path} keeps {name} in another file: copy the data into one file.")
    if 0 in dataset.shape:
        raise InputError(f"{path} holds no frames in {name}: give a clip.")
    if not dataset.is_virtual and dataset.id.get_storage_size() == 0:
        raise InputError(f"{path} declares {name} of shape {dataset.shape}, but holds no values: export it again.")
    plan = dataset.id.get_create_plist()
    for code, _, _, words in (plan.get_filter(number) for number in range(plan.get_nfilters())):
        if not h5py.h5z.filter_avail(code):
            called = f"HDF5 filter {code} ({words.decode('ascii', 'replace')})".replace(" ()", "")
            raise InputError(f"{path} is compressed by {called}, which is not installed: h5repack -f GZIP=4 it.")
    if dataset.chunks is not None:
        check_size(path, dataset.chunks, dataset.dtype.itemsize, memory_limit(None) // 8)
    return dataset


def _dimensions(dataset: h5py.Dataset) -> list[object]:
    """The labels of the axes. HDF5's own functions crash on damaged ones."""
    labels = dataset.attrs.get("DIMENSION_LABELS")
    if not isinstance(labels, np.ndarray):
        return []
    return [label.decode("utf-8", "replace") if isinstance(label, bytes) else label for label in labels.flat]


def _lacking(dataset: h5py.Dataset) -> tuple[str, ...]:
    """A note if some chunks were never written, as by a program that was killed."""
    if dataset.chunks is None:
        return ()
    count = math.prod(-(-side // each) for side, each in zip(dataset.shape, dataset.chunks, strict=True))
    return lacking(count - dataset.id.get_num_chunks(), count, dataset.fillvalue)


def _rate(node: Any) -> float | None:
    """Frames per second, of an attribute or a dataset of one number."""
    if not isinstance(node, (h5py.Group, h5py.Dataset)):
        return None
    for key in filter(is_rate, node.attrs):
        if rate := scalar(node.attrs[key]):
            return rate
    for key in filter(is_rate, node if isinstance(node, h5py.Group) else ()):
        if rate := scalar(_small(node, key)):
            return rate
    return None


def _zea_rate(file: h5py.File, dataset: h5py.Dataset) -> tuple[float | None, tuple[str, ...]]:
    """The rate of the times that zea keeps beside its images, or of those from transmit to transmit, both in seconds;
    and a note on it.
    """
    times = _small(dataset.parent, "timestamps")
    if times is not None and times.shape == dataset.shape[:1]:
        return mean_rate(times)
    steps = _small(file.get("scan"), "time_to_next_transmit")
    if steps is not None and steps.ndim == 2:
        return mean_rate(np.cumsum([0.0, *steps.sum(axis=1, dtype=np.float64)]))
    return None, ()


def _small(node: Any, name: str) -> np.ndarray | None:
    """The values of a small dataset of numbers that lies in this file, if the group has one of this name."""
    if not isinstance(node, h5py.Group) or not isinstance(node.get(name, getlink=True), h5py.HardLink):
        return None
    held = node[name]
    if not isinstance(held, h5py.Dataset) or held.dtype.kind not in "iuf" or held.is_virtual or held.external:
        return None
    return np.asarray(held[()]) if held.size and held.size <= _SMALL else None
