"""Write arrays with their levels as they are: NumPy, TIFF, HDF5, zea's HDF5 and zarr."""

import dataclasses
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile
from jaxtyping import Shaped, UInt8
from numpy import ndarray
from numpy.lib import format as npy

from nuclear_diffusion.io.levels import EIGHT_BITS
from nuclear_diffusion.io.write.target import Append, Target

NOTICE = "Haze removed. Research use only, not for diagnostic use."


@contextmanager
def write_npy(path: Path, target: Target) -> Iterator[Append]:
    """The array alone."""
    with path.open("wb") as file:
        yield _appender(file, target)


@contextmanager
def write_npz(path: Path, target: Target) -> Iterator[Append]:
    """Arrays `frames` and `fps`, compressed."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("frames.npy", "w", force_zip64=True) as file:
            yield _appender(file, target)
        with archive.open("fps.npy", "w") as file:
            npy.write_array(file, np.float64(target.fps))  # pyright: ignore[reportArgumentType]


def _appender(file: Any, target: Target) -> Append:
    levels = target.levels
    header = {"descr": npy.dtype_to_descr(levels.dtype), "fortran_order": False, "shape": target.shape}
    npy.write_array_header_1_0(file, header)

    def append(block: Shaped[ndarray, "frames height width *rgb"]) -> None:
        for frame in levels.store(block):
            file.write(np.ascontiguousarray(frame).data)

    return append


@contextmanager
def write_tiff(path: Path, target: Target) -> Iterator[Append]:
    """One page for each frame; the rate is in the description of the first."""
    size = int(np.prod(target.shape)) * target.levels.dtype.itemsize
    with tifffile.TiffWriter(path, bigtiff=size > 2**32 - 2**25) as file:

        def append(block: Shaped[ndarray, "frames height width *rgb"]) -> None:
            color = "rgb" if target.colored else "minisblack"
            for frame in target.levels.store(block):
                file.write(frame, photometric=color, metadata={"fps": target.fps}, contiguous=True)

        yield append


@contextmanager
def write_h5(path: Path, target: Target) -> Iterator[Append]:
    """HDF5 with the dataset `frames`; attributes `fps`, `black`, `white` and `notice`."""
    with h5py.File(path, "w") as file:
        frames = _dataset(file, "frames", target, target.levels.dtype)
        frames.attrs.update(_attributes(target))
        yield filler(frames, target.levels.store)


@contextmanager
def write_zea(path: Path, target: Target) -> Iterator[Append]:
    """HDF5 as zea 0.1 lays it out: `data/image/values`, 8 bits, grey (luma), with a time for each frame."""
    with h5py.File(path, "w") as file:
        file.attrs.update(zea_version="0.1.8", description=NOTICE)
        image = file.create_group("data/image")
        values = _dataset(image, "values", dataclasses.replace(target, shape=target.shape[:3]), EIGHT_BITS.dtype)
        values.attrs.update(unit="–", description="Map pixel values.")
        image.create_dataset("timestamps", data=(np.arange(target.shape[0]) / target.fps).astype(np.float32))
        image["timestamps"].attrs["unit"] = "s"
        image.create_dataset("start_time_offset", data=np.float32(0))
        image["start_time_offset"].attrs["unit"] = "s"
        yield filler(values, _grey)


def _grey(block: Shaped[ndarray, "frames height width *rgb"]) -> UInt8[ndarray, "frames height width"]:
    stored = EIGHT_BITS.store(block)
    return stored if stored.ndim == 3 else np.rint(stored @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)


@contextmanager
def write_zarr(path: Path, target: Target) -> Iterator[Append]:
    """A zarr array with axes (frames, height, width), a chunk for each frame, attributes as in `write_h5`."""
    import zarr

    names = ("frames", "height", "width", *["rgb"] * target.colored)
    frames = zarr.create_array(
        path,
        shape=target.shape,
        chunks=(1, *target.shape[1:]),
        dtype=target.levels.dtype,
        dimension_names=names,
        attributes=_attributes(target),
        config={"write_empty_chunks": True},  # so that one that is missing is lost
    )
    append = filler(frames, target.levels.store)

    def one_by_one(block: Shaped[ndarray, "frames height width *rgb"]) -> None:
        for index in range(len(block)):  # of several chunks zarr would go on to write the others after one failed
            append(block[index : index + 1])

    yield one_by_one


def _attributes(target: Target) -> dict[str, Any]:
    levels = target.levels
    return {"fps": float(target.fps), "black": float(levels.black), "white": float(levels.white), "notice": NOTICE}


def _dataset(group: h5py.Group, name: str, target: Target, dtype: np.dtype) -> h5py.Dataset:
    frame = (1, *target.shape[1:])
    return group.create_dataset(
        name, target.shape, dtype, chunks=frame, compression="gzip", compression_opts=1, shuffle=True
    )


def filler(array: Any, store: Callable[[ndarray], ndarray]) -> Append:
    """Append to an array of all frames, in memory or on disk, as `store` makes them."""
    written = 0

    def append(block: Shaped[ndarray, "frames height width *rgb"]) -> None:
        nonlocal written
        array[written : written + len(block)] = store(block)
        written += len(block)

    return append
