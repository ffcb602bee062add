"""Zarr stores, an optional extra."""

import math
import operator
import os
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from nuclear_diffusion.errors import InputError, require
from nuclear_diffusion.io.axes import axes_of, of_array
from nuclear_diffusion.io.clip import Reading
from nuclear_diffusion.io.formats.arrays import pick, scalar
from nuclear_diffusion.io.guard import check_size, memory_limit
from nuclear_diffusion.io.stored import SECONDS, Stored, lacking

_ROOTS = (".zarray", ".zgroup", "zarr.json")
"""The file in a store that says what it is."""


def is_store(folder: Path) -> bool:
    """Whether a folder is a zarr array or group."""
    return any(os.path.isfile(folder / name) for name in _ROOTS)


def zipped(path: Path) -> list[PurePosixPath]:
    """The folders in a ZIP file that are zarr arrays or groups, without those within another."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [PurePosixPath(name) for name in archive.namelist()]
    except zipfile.BadZipFile:
        return []
    stores = {name.parent for name in names if name.name in _ROOTS}
    return [store for store in stores if stores.isdisjoint(store.parents)]


def open_zarr(path: Path, reading: Reading) -> Stored:
    """The clip in a zarr store, a folder or a ZIP file, read as it is needed; of OME-Zarr, the finest level."""
    try:
        import zarr
        from zarr.storage import ZipStore
    except ImportError as error:
        raise InputError(f"{path} is zarr: pip install 'nuclear-diffusion[zarr]'.") from error
    limit = memory_limit(reading.max_bytes) // 8
    axes: Sequence[object] = ()
    step: float | None = None
    if path.is_file():
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                check_size(path, (member.file_size,), 1, limit)
        stores = zipped(path)
        require(len(stores) == 1, f"{path} holds {len(stores)} zarr stores: unpack it and name one of them.")
        node: Any = zarr.open(ZipStore(path, mode="r"), mode="r", path=str(stores[0]) if stores[0].name else "")
    else:
        node = zarr.open(str(path), mode="r")
    attributes = dict(node.attrs)
    if isinstance(node, zarr.Group):
        arrays = {name: array for name, array in node.members(max_depth=None) if isinstance(array, zarr.Array)}
        levels = (attributes.get("ome") or attributes).get("multiscales")
        axes, step = _ome_axes(levels)
        if reading.dataset is None and levels:
            name = str(levels[0]["datasets"][0]["path"])
        else:
            name = pick(path, {key: tuple(array.shape) for key, array in arrays.items()}, reading.dataset)
        node = arrays[name]
    packed = [*(getattr(node.metadata, "filters", None) or ()), getattr(node.metadata, "compressor", None)]
    if any(getattr(codec, "codec_id", "") == "pickle" for codec in packed):
        raise InputError(f"{path} holds pickled data, which is never loaded: save a numeric array instead.")
    check_size(path, node.chunks, node.dtype.itemsize, limit)
    grid = [-(-side // each) for side, each in zip(node.shape, node.shards or node.chunks, strict=True)]
    count, held = math.prod(grid), _held(path, node.path, grid)
    if count > 10_000 and count > 100 * held:  # few bytes could take hours
        raise InputError(
            f"{path} declares {count:,} chunks and holds {held:,}: it is damaged or cut short, export it again."
        )
    fps = scalar(node.attrs.get("fps", attributes.get("fps"))) or (1 / step if step else None)
    notes = lacking(count - held, count, node.fill_value)
    names = getattr(node.metadata, "dimension_names", None) or node.attrs.get("_ARRAY_DIMENSIONS")
    names = names if isinstance(names, (list, tuple)) else axes
    return of_array(path, "zarr", node, named=reading.axes or axes_of(names, node.shape), fps=fps, notes=notes)


def _ome_axes(levels: Any) -> tuple[Sequence[object], float | None]:
    """The names of the axes of OME-Zarr, and the time from frame to frame in seconds, if they are said."""
    try:
        axes = [axis["name"] for axis in levels[0]["axes"]]
        units = [SECONDS.get(axis.get("unit")) if axis.get("type") == "time" else None for axis in levels[0]["axes"]]
        scales = [one["scale"] for one in levels[0]["datasets"][0]["coordinateTransformations"] if "scale" in one]
        steps = [unit * float(step) for unit, step in zip(units, scales[0], strict=True) if unit]
    except (TypeError, KeyError, IndexError, ValueError, AttributeError):
        return (), None
    return axes, steps[0] if steps else None


def _held(path: Path, inside: str, grid: Sequence[int]) -> int:
    """The chunks, or shards of chunks, of an array in a store."""
    if path.is_file():
        with zipfile.ZipFile(path) as archive:
            names = [name.removeprefix(f"{inside}/") for name in archive.namelist() if name.startswith(inside)]
    else:
        home = path / inside
        found = (os.path.join(place, name) for place, _, files in os.walk(home) for name in files)
        names = [os.path.relpath(name, home).replace(os.sep, "/") for name in found]
    keys = (re.fullmatch(r"(?:c[./])?(\d{1,9}(?:[./]\d{1,9})*)", name) for name in names)
    places = (list(map(int, re.split("[./]", key[1]))) for key in keys if key)
    return sum(len(place) == len(grid) and all(map(operator.lt, place, grid)) for place in places)
