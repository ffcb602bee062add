"""Which axis of an array counts frames: named by the user, given by the format, or seen from the lengths."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from numpy import ndarray

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io.stored import Stored

_BLOCK = 16 * 2**20  # bytes that are taken from an array at once
_SLICES = 12  # of an array, to see where it is black


def of_array(
    path: Path, kind: str, array: Any, *, named: str | None = None, usual: str = "THW", **about: Any
) -> Stored:
    """The clip in an array, frame by frame; `path` is named in messages, `kind` and `about` are of `Stored`.

    `array` is anything with a shape, a dtype and slices: an array, a memory map, a dataset in an HDF5 file. `named` are
    the axes as in `Reading`, `usual` the order that the format has: "THW", or "HWT" for MATLAB.
    """
    shape = tuple(int(side) for side in array.shape)
    order, notes = find_axes(path, shape, named, usual)
    if named is None:
        _check_order(path, array, order)
    side = dict(zip(order, shape, strict=True))
    count = side.get("T", 1)
    inner = [letter for letter in order if letter in "HWC"]
    turn = [inner.index(letter) for letter in ("H", "W", "C")[: len(inner)]]
    length = max(1, _BLOCK * count // max(1, int(np.prod(shape, dtype=np.float64)) * array.dtype.itemsize))

    def frames() -> Iterator[Shaped[ndarray, "height width *channels"]]:
        for start in range(0, count, length):
            at = {"T": slice(start, min(start + length, count)), "1": 0}
            block = np.asarray(array[tuple(at.get(letter, slice(None)) for letter in order)])
            block = np.moveaxis(block, order.replace("1", "").index("T"), 0) if "T" in order else block[None]
            for frame in block:
                yield frame.transpose(turn)

    about["notes"] = (*about.get("notes", ()), *notes)
    return Stored(
        kind, frames, count, (side["H"], side["W"]), side.get("C", 1), np.dtype(array.dtype), axes=order, **about
    )


def find_axes(path: Path, shape: tuple[int, ...], named: str | None, usual: str = "THW") -> tuple[str, list[str]]:
    """A letter for each axis, 1 for one of length 1 that is dropped, and notes.

    Raises `InputError` for a shape that is no clip, or whose axes are in doubt.
    """
    if named is not None:
        places = range(len(shape)) if len(named) == len(shape) else [i for i, side in enumerate(shape) if side != 1]
        if len(named) != len(places):
            raise InputError(f"{path} has shape {shape}, which --axes {named} does not fit: name each of its axes.")
        letters = dict(zip(places, named, strict=True))
        return "".join(letters.get(index, "1") for index in range(len(shape))), []
    notes: list[str] = []
    found = ["1"] * len(shape)
    free = list(range(len(shape)))
    long = [index for index in free if shape[index] != 1]
    color = len(long) >= 3 and len(shape) > 3 and shape[-1] in (3, 4)
    if len(shape) == 3 and shape[-1] in (3, 4) and min(shape[:2]) >= 16:
        color = True  # one image
    if color:
        found[free.pop()] = "C"
    elif len(long) == 4 and usual == "THW" and shape[long[1]] == 3 and shape[long[2]] > 4:
        found[long[1]] = "C"
        free.remove(long[1])
        notes.append("The axes are taken as frames, channels, height, width; --axes names another order.")
    elif len(long) == 4 and shape[long[2]] == 3:
        if usual == "THW":
            raise InputError(
                f"{path} has shape {shape}, which looks like (height, width, channels, frames): type --axes HWCT."
            )
        found[long[2]] = "C"
        free.remove(long[2])
    for index in [index for index in free if shape[index] == 1]:
        if len(free) > 3 or (len(free) == 3 and index > 0):
            free.remove(index)
    if len(free) not in (2, 3):
        raise InputError(f"{path} has shape {shape}: give (frames, height, width) or (frames, height, width, 3).")
    for index, letter in zip(free, usual if len(free) == 3 else "HW", strict=True):
        found[index] = letter
    return "".join(found), notes


_NAMED = {
    **dict.fromkeys(("t", "time", "frame", "frames"), "T"),
    **dict.fromkeys(("y", "height", "row", "rows"), "H"),
    **dict.fromkeys(("x", "width", "column", "columns"), "W"),
    **dict.fromkeys(("c", "channel", "channels", "rgb"), "C"),
}


def axes_of(names: Iterable[object], shape: tuple[int, ...]) -> str | None:
    """The axes longer than 1 as in `Reading`, by the names that a file gives them; None if they do not tell."""
    pairs = [(_NAMED.get(str(name).lower(), "?"), side) for name, side in zip(names, shape, strict=False) if side != 1]
    letters = "".join(letter for letter, _ in pairs)
    whole = sorted(letters.replace("C", "", 1)) in (["H", "T", "W"], ["H", "W"])
    return letters if whole and dict(pairs).get("C", 3) in (3, 4) else None


def _black_along(array: Any, order: str, last: bool) -> bool:
    """Whether more is black in all places of the other outer axis than in all frames, which are the first or `last`."""
    large = np.prod(array.shape[1:], dtype=np.float64) > _BLOCK // 8
    slow = not isinstance(array, ndarray) and np.prod(array.shape, dtype=np.float64) > 16 * _BLOCK
    if large or slow or order[0] == "1" or array.dtype.kind not in "biuf":
        return False
    chosen = np.unique(np.linspace(0, array.shape[0] - 1, _SLICES).astype(int))
    rest = (slice(None),) * (len(order) - 1)
    slices = np.stack([np.asarray(array[(int(index), *rest)]) for index in chosen]).squeeze().astype(np.float32)
    black = slices <= slices.min() + 0.02 * (slices.max() - slices.min())
    black = black[~black.all(axis=(1, 2))]  # black frames say nothing
    if len(black) < 4 or black.mean() > 0.9:  # of few bright pixels, which may move anywhere
        return False
    first, third = float(black.all(axis=0).mean()), float(black.all(axis=2).mean())
    frames, other = (third, first) if last else (first, third)
    return other - frames > 0.15 * (1 - frames)


def _check_order(path: Path, array: Any, order: str) -> None:
    """Raise `InputError` if lengths or values say that frames are on the axis opposite to the usual one.

    Then what would be a frame is a strip, what would be the number of frames is the side of a square, or what is black
    around the sector in all frames would change with them.
    """
    letters = order.replace("1", "")
    if letters not in ("THW", "HWT"):
        return
    sides = [int(side) for side, letter in zip(array.shape, order, strict=True) if letter != "1"]
    if letters == "HWT":  # swapped: frames first
        sides.reverse()
    first, second, last = sides
    square = first == second != last
    flat = max(second, last) > 4 * min(second, last) and max(first, second) <= 2 * min(first, second)
    if min(sides) < 2 or not (square or flat or _black_along(array, order, letters == "HWT")):
        return
    words, other = ("height, width, frames", "HWT") if letters == "THW" else ("frames, height, width", "THW")
    raise InputError(
        f"{path} has shape {tuple(array.shape)}, which looks like ({words}): type --axes {other}, or --axes {letters} "
        "if it is not."
    )
