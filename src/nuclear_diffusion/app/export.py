"""A result as one file, for the page to save."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from nuclear_diffusion.files import write
from nuclear_diffusion.io import Clip, open_writer
from nuclear_diffusion.io.recording import Recording
from nuclear_diffusion.restore.clip import Piece
from nuclear_diffusion.restore.folder import About, Removed, create_h5, make_report, write_attributes, write_frames
from nuclear_diffusion.restore.frames import fingerprint
from nuclear_diffusion.restore.methods import Method, as_json
from nuclear_diffusion.restore.pictures import caption, side_by_side
from nuclear_diffusion.types import Mask

KINDS = {
    "mp4": "Result, MP4",
    "dcm": "Result, DICOM",
    "mkv": "Result, FFV1 (lossless)",
    "mha": "Result, MHA",
    "nii.gz": "Result, NIfTI",
    "comparison.mp4": "Comparison, MP4",
    "comparison.gif": "Comparison, GIF",
    "result.h5": "All arrays, result.h5",
    "json": "Settings for dehaze --settings",
    "sector.png": "Sector for dehaze --sector",
}
"""Endings of the files, and what they hold."""

_FORMATS = {"dcm": "dicom", "mkv": "ffv1", "nii.gz": "nifti"}  # formats whose name in the library is not their ending


def name_of(kind: str, clip: Clip, method: Method) -> str:
    """The name of the file of one of `KINDS`."""
    if kind == "sector.png":
        return sector_name(clip)
    return safe(f"{clip.name}-settings.json" if kind == "json" else f"{clip.name}-{method.name}.{kind}")


def sector_name(clip: Clip) -> str:
    """The name of the sector's file."""
    return safe(f"{clip.name}-sector.png")


def safe(name: str) -> str:
    """A file name without characters that some file system or shell takes for others."""
    return re.sub(r"[^\w.\- ]", "_", name)


def export(path: Path, kind: str, clip: Clip, results: dict[str, tuple[Method, Iterator[Piece]]]) -> None:
    """Write the file of one of `KINDS`.

    Args:
        path: the file.
        kind: one of `KINDS`.
        clip: the input.
        results: method and frames of each result by its name; a comparison shows them all, the others hold the first.
    """
    method, pieces = next(iter(results.values()))
    if kind == "json":
        write(path, as_json(method))
    elif kind == "sector.png":
        write(path, _png(next(pieces).dehazed.sector))
    elif kind == "result.h5":
        _write_h5(path, clip, method, pieces)
    elif kind.startswith("comparison"):
        _write_comparison(path, kind.removeprefix("comparison."), clip, results)
    else:
        form, shape = _FORMATS.get(kind, kind), clip.pixels.shape
        with open_writer(path, form, shape, clip.fps, source=clip, description=caption(method)) as writer:
            for piece in pieces:
                writer.append(piece.dehazed.pixels)


def _png(mask: Mask) -> bytes:
    packed = io.BytesIO()
    Image.fromarray(np.uint8(255) * mask).save(packed, "PNG")
    return packed.getvalue()


def _write_h5(path: Path, clip: Clip, method: Method, pieces: Iterator[Piece]) -> None:
    removed, start, seconds = Removed(), 0, 0.0
    with create_h5(path) as file:
        for part, found in pieces:
            write_frames(file, start, part, found, len(clip))
            removed.add(part, found)
            if start == 0:
                file["sector"] = found.sector
            start, seconds = start + len(part), found.seconds
        about = About(method, None, fingerprint(clip), made_by={})
        write_attributes(file, make_report(Recording.of(clip), about, removed, seconds))


def _write_comparison(path: Path, kind: str, clip: Clip, results: dict[str, tuple[Method, Iterator[Piece]]]) -> None:
    def panels() -> Iterator[np.ndarray]:
        for together in zip(*(pieces for _, pieces in results.values()), strict=True):
            part = together[0].clip
            shown = {"input": part.frames if part.color is None else part.color / np.float32(255)}
            found = {name: piece.dehazed.pixels for name, piece in zip(results, together, strict=True)}
            yield side_by_side(shown | found)

    blocks = panels()
    first = next(blocks)
    with open_writer(path, kind, (len(clip), *first.shape[1:]), clip.fps) as writer:
        writer.append(first)
        for block in blocks:
            writer.append(block)
