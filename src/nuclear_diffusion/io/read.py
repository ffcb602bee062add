"""Read clips of any format: `io.formats` holds the table."""

from collections.abc import Sequence
from pathlib import Path

from nuclear_diffusion.io.clip import Clip, Reading
from nuclear_diffusion.io.formats import Frames, files_of
from nuclear_diffusion.io.recording import read_clip


def read_video(path: str | Path | Frames, reading: Reading | None = None) -> Clip:
    """Read a clip in any supported format, scaled to [0, 1].

    DICOM, movies, GIF, TIFF, images, NumPy, HDF5 (zea, our results, or one array), MATLAB, zarr, NIfTI, NRRD and
    MetaImage, recognised by content, or a folder of numbered frames. To select one of several clips in a folder, give a
    pattern (`folder/patient-3-*.png`) or one of `find_clips(folder)`.

    Black and white are those of the format where it states them (DICOM window, ImageJ's display range); else 8-bit
    values are divided by 255, 16-bit values by 65535, floats by 1 or 255 by their range. `notes` say what was assumed.

    Args:
        path: a file, a folder, a pattern, or `Frames`.
        reading: what the file does not say, such as `Reading(axes="HWT", white=4095)`.

    Raises:
        InputError: the file is missing, damaged or of an unknown type, or has no usable clip: frames of different
            sizes, NaN or infinite values, values out of range, or one value throughout.
    """
    return read_clip(path, reading)


def read_frames(files: Sequence[Path], reading: Reading | None = None) -> Clip:
    """Read image files in the given order as one clip; values, colour and errors as in `read_video`."""
    if not files:
        raise ValueError("`files` must name at least one image, got none.")
    return read_clip(files_of(files), reading)
