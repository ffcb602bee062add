"""Zarr stores, an optional extra."""

import os
from pathlib import Path
from typing import Any

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io.axes import of_array
from nuclear_diffusion.io.clip import Reading
from nuclear_diffusion.io.formats.arrays import pick, scalar
from nuclear_diffusion.io.guard import check_size, memory_limit
from nuclear_diffusion.io.stored import Stored


def is_store(folder: Path) -> bool:
    """Whether a folder is a zarr array or group."""
    return any(os.path.isfile(folder / name) for name in (".zarray", ".zgroup", "zarr.json"))


def open_zarr(path: Path, reading: Reading) -> Stored:
    """The clip in a zarr store, read as it is needed; of OME-Zarr, the finest level."""
    try:
        import zarr
    except ImportError as error:
        raise InputError(f"{path} is zarr: pip install 'nuclear-diffusion[zarr]'.") from error
    node: Any = zarr.open(str(path), mode="r")
    attributes = dict(node.attrs)
    if isinstance(node, zarr.Group):
        arrays = {name: array for name, array in node.members(max_depth=None) if isinstance(array, zarr.Array)}
        levels = (attributes.get("ome") or attributes).get("multiscales")
        if reading.dataset is None and levels:
            name = str(levels[0]["datasets"][0]["path"])
        else:
            name = pick(path, {key: tuple(array.shape) for key, array in arrays.items()}, reading.dataset)
        node = arrays[name]
    check_size(path, node.chunks, node.dtype.itemsize, memory_limit(reading.max_bytes) // 8)
    fps = scalar(node.attrs.get("fps", attributes.get("fps")))
    return of_array(path, "zarr", node, named=reading.axes, fps=fps)
