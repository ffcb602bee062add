"""A result as one file, for the page to save."""

import tempfile
from pathlib import Path

import numpy as np

from nuclear_diffusion.io import Clip, open_writer, write_video
from nuclear_diffusion.restore.clip import Dehazed
from nuclear_diffusion.restore.folder import About, write_h5
from nuclear_diffusion.restore.frames import fingerprint
from nuclear_diffusion.restore.methods import Method, as_json
from nuclear_diffusion.restore.pictures import caption, side_by_side

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
}
"""Endings of the files, and what they hold."""

_FORMATS = {"dcm": "dicom", "mkv": "ffv1", "nii.gz": "nifti"}
"""Formats whose name in the library is not their ending."""


def export(kind: str, clip: Clip, dehazed: Dehazed, method: Method) -> tuple[str, bytes]:
    """Name and content of the file of one of `KINDS`."""
    name = f"{clip.name}-settings.json" if kind == "json" else f"{clip.name}-{method.name}.{kind}"
    if kind == "json":
        return name, as_json(method).encode()
    with tempfile.TemporaryDirectory(prefix="nuclear-diffusion-") as folder:
        path = Path(folder) / f"result.{kind}"
        signal = dehazed.signal if dehazed.color is None else dehazed.color
        if kind == "result.h5":
            write_h5(path, clip, dehazed, About(method, None, fingerprint(clip), made_by={}))
        elif kind.startswith("comparison"):
            seen = clip.frames if clip.color is None else clip.color / np.float32(255)
            write_video(path, side_by_side({"input": seen, f"signal ({caption(method)})": signal}), clip.fps)
        else:
            shape, form = signal.shape, _FORMATS.get(kind, kind)
            with open_writer(path, form, shape, clip.fps, source=clip, description=caption(method)) as writer:
                writer.append(signal)
        return name, path.read_bytes()
