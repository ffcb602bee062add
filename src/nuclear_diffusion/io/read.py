"""Read clips from DICOM, movies, image folders, TIFF, NumPy, HDF5 and MetaImage; nothing is unpickled."""

import logging
import math
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import av
import av.logging
import h5py
import numpy as np
import pydicom
import SimpleITK as sitk
import tifffile
from jaxtyping import Float32, Shaped, UInt8
from numpy import ndarray
from PIL import Image
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io.levels import Levels
from nuclear_diffusion.io.regions import Regions, dicom_regions
from nuclear_diffusion.types import Mask

DEFAULT_FPS = 30.0
MIN_SIDE = 16
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm", ".webp")
# Lossy compression tints grey pixels by a few levels; larger differences between channels are real colour.
COLOR_SPREAD = 12 / 255


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip as display intensity.

    Attributes:
        frames: (t, h, w), in [0, 1], black = 0; for colour input the Rec. 601 luma.
        fps: frames per second; 30 if the file does not say.
        color: (t, h, w, 3) RGB if the input is in colour, else None.
        region: pixels that may belong to an ultrasound image: a mask, or the number of the region that the DICOM tags
            give each pixel (0: none); None for all.
        name: file or folder name without suffix.
        source: the path as given.
        files: the file of each frame, if each has its own, else None.
        levels: how the input stores intensity, if known.
    """

    frames: Float32[ndarray, "frames height width"]
    fps: float
    color: UInt8[ndarray, "frames height width 3"] | None
    region: Mask | Regions | None
    name: str
    source: Path
    files: tuple[Path, ...] | None = None
    levels: Levels | None = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> ndarray:
        return np.array(self.frames, dtype=dtype, copy=copy)

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(frames, height, width)."""
        return self.frames.shape  # pyright: ignore[reportReturnType]


class _Decoded(NamedTuple):
    """Stored values and metadata from a format's reader."""

    pixels: Shaped[ndarray, "frames height width *rgb"]
    fps: float | None = None
    white: float | None = None  # the stored value of intensity 1; None: by dtype and range
    region: Regions | None = None


def read_video(path: str | Path) -> Clip:
    """Read a clip in any supported format, scaled to [0, 1].

    DICOM (with or without suffix), MP4, MOV, MKV, AVI, GIF, TIFF, NPZ, NPY, HDF5 (`data/image_sc` of zea, `input` of
    our results), MHA, or a folder of images in numerical order. To select one of several clips in a folder, give a
    pattern: `folder/patient-3-*.png`. 8-bit values are divided by 255, 16-bit values by 65535 (DICOM: according to the
    bits stored), floats in [0, 255] by 255 unless they are in [0, 1].

    Raises:
        InputError: the file is missing, damaged or of an unknown type, or has no usable clip: fewer than two frames,
            frames of different sizes, NaN or infinite values, values out of range, or one value throughout.
    """
    path = Path(path)
    return _clip(path, *_reader(path))


def read_frames(files: Sequence[Path]) -> Clip:
    """Read image files in the given order as one clip; values, colour and errors as in `read_video`."""
    if not files:
        raise ValueError("`files` must name at least two images, got none.")
    return _clip(files[0].parent, lambda folder: _read_files(folder, files), "images")


def _clip(path: Path, reader: Callable[[Path], "_Decoded"], kind: str) -> Clip:
    try:
        with _quiet():
            decoded = reader(path)
    except (InputError, MemoryError):
        raise
    except PermissionError as error:
        raise InputError(f"{path} cannot be opened (permission denied): change its permissions.") from error
    except Exception as error:  # decoders raise anything on damaged files
        raise InputError(
            f"{path} cannot be read as {kind}, it is damaged, cut short or of another type: export it again."
        ) from error
    frames, color = _intensity(path, decoded.pixels, decoded.white)
    fps = decoded.fps if decoded.fps and np.isfinite(decoded.fps) and decoded.fps > 0 else DEFAULT_FPS
    white = _white(path, decoded.pixels) if decoded.white is None else decoded.white
    levels = Levels(decoded.pixels.dtype, 0, white)
    return Clip(frames, float(fps), color, decoded.region, _name(path), path, levels=levels)


def _reader(path: Path) -> tuple[Callable[[Path], _Decoded], str]:
    """The reader for a path, and its file type in words."""
    if "*" in path.name:
        return _read_images, "images"
    if path.is_dir():
        return _read_images, "a folder of images"
    if not path.exists():
        raise InputError(f"{path} does not exist: check the path.")
    if not path.is_file():
        raise InputError(f"{path} is neither a file nor a folder: give a video file or a folder of images.")
    if _has_dicom_preamble(path):
        return _read_dicom, "DICOM"
    match path.suffix.lower():
        case ".dcm" | ".dicom":
            return _read_dicom, "DICOM"
        case ".mp4" | ".m4v" | ".mov" | ".mkv" | ".webm" | ".avi" | ".gif":
            return _read_movie, "a movie"
        case ".tif" | ".tiff":
            return _read_tiff, "a TIFF stack"
        case ".npz" | ".npy":
            return _read_numpy, "a NumPy array"
        case ".h5" | ".hdf5":
            return _read_hdf5, "HDF5"
        case ".mha":
            return _read_metaimage, "MetaImage"
        case _:
            raise InputError(
                f"{path} is of no known kind: give DICOM, MP4, MOV, MKV, AVI, GIF, TIFF, NPZ, NPY, HDF5, MHA "
                "or a folder of images."
            )


def _has_dicom_preamble(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except PermissionError as error:
        raise InputError(f"{path} cannot be opened (permission denied): change its permissions.") from error


def _name(path: Path) -> str:
    if "*" in path.name:
        return path.stem.replace("*", "").strip("-_. ") or path.parent.name
    known = path.is_file() and re.fullmatch(r"\.[a-z][a-z0-9]{1,5}", path.suffix.lower())
    return path.stem if known else path.resolve().name  # the last number of a UID is not a suffix


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the decoding libraries' warnings; errors become an InputError."""
    loggers = [logging.getLogger(name) for name in ("pydicom", "tifffile", "libav", "h5py", "PIL")]
    levels = [logger.level for logger in loggers]
    av_level, itk = av.logging.get_level(), sitk.ProcessObject.GetGlobalWarningDisplay()
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        av.logging.set_level(av.logging.PANIC)
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        av.logging.set_level(av_level)
        sitk.ProcessObject.SetGlobalWarningDisplay(itk)


# ---------------------------------------------------------------------------------------------- values


def _intensity(
    path: Path, pixels: Shaped[ndarray, "..."], white: float | None
) -> tuple[Float32[ndarray, "frames height width"], UInt8[ndarray, "frames height width 3"] | None]:
    """Stored values to intensity in [0, 1], and 8-bit RGB where the channels differ."""
    if pixels.ndim == 4 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] in (3, 4)):
        raise InputError(f"{path} holds one image: give a clip of at least two frames.")
    if pixels.ndim not in (3, 4) or (pixels.ndim == 4 and pixels.shape[-1] not in (3, 4)):
        raise InputError(
            f"{path} has shape {pixels.shape}: give (frames, height, width) or (frames, height, width, 3)."
        )
    if len(pixels) < 2:
        raise InputError(f"{path} holds {len(pixels)} frame(s): give a clip of at least two frames.")
    if min(pixels.shape[1:3]) < MIN_SIDE:
        height, width = pixels.shape[1:3]
        raise InputError(f"{path} has frames of {height} x {width} pixels: give at least {MIN_SIDE} per side.")
    pixels = pixels[..., :3] if pixels.ndim == 4 else pixels  # drop opacity
    scale = np.float32(_white(path, pixels) if white is None else white)
    if pixels.min() == pixels.max():
        raise InputError(f"{path} is constant, with the same value in all pixels: give a clip with an image.")
    if pixels.ndim == 3:
        return np.clip(pixels.astype(np.float32) / scale, 0, 1), None
    frames = np.empty(pixels.shape[:3], np.float32)
    spread = 0.0
    for frame, stored in zip(frames, pixels, strict=True):
        rgb = np.clip(stored.astype(np.float32) / scale, 0, 1)
        red, green, blue = np.moveaxis(rgb, -1, 0)
        frame[:] = np.clip(green + 0.299 * (red - green) + 0.114 * (blue - green), 0, 1)  # exact for grey
        spread = max(spread, float(np.ptp(rgb, axis=-1).max()))
    if spread <= COLOR_SPREAD:
        return frames, None
    if pixels.dtype == np.uint8 and scale == 255:
        return frames, np.ascontiguousarray(pixels)
    return frames, np.rint(np.clip(pixels / scale, 0, 1) * 255).astype(np.uint8)


def _white(path: Path, pixels: Shaped[ndarray, "..."]) -> float:
    """The stored value of intensity 1, from the dtype and, if that is ambiguous, the range."""
    if pixels.dtype == np.uint8:
        return 255
    if pixels.dtype == np.uint16:
        return 65535
    if pixels.dtype == np.bool_:
        return 1
    if pixels.dtype.kind not in "iuf":
        raise InputError(f"{path} holds {pixels.dtype} values: give integers or floats.")
    low, high = float(pixels.min()), float(pixels.max())
    if not (np.isfinite(low) and np.isfinite(high)):  # min and max propagate NaN
        raise InputError(f"{path} holds NaN or infinite values: replace them first.")
    choices = (1, 255) if pixels.dtype.kind == "f" else (255, 65535)
    for white in choices:
        if low >= -1e-5 * white and high <= white * (1 + 1e-5):  # resampling overshoots by a rounding error
            return white
    raise InputError(
        f"{path} has values from {low:g} to {high:g}: scale them to [0, 1] or [0, 255] (integers: to 65535)."
    )


# ---------------------------------------------------------------------------------------------- formats


def _read_dicom(path: Path) -> _Decoded:
    dataset = pydicom.dcmread(path)
    if "PixelData" not in dataset:
        raise InputError(f"{path} is a DICOM file without pixel data, or cut short: export the clip again.")
    expected = int(dataset.get("NumberOfFrames") or 1)
    syntax = dataset.file_meta.get("TransferSyntaxUID", UID(""))
    try:
        pixels = pixel_array(dataset)
    except (NotImplementedError, RuntimeError) as error:
        raise InputError(
            f"{path} has pixel data that cannot be decoded (transfer syntax {syntax.name}), it is damaged or its "
            "compression is not supported: export it uncompressed or as JPEG."
        ) from error
    bits = int(dataset.BitsStored)
    photometric = str(dataset.PhotometricInterpretation)
    if photometric == "PALETTE COLOR":
        pixels, bits = apply_color_lut(pixels, dataset), 8 * apply_color_lut(pixels[:1], dataset).itemsize
    if expected == 1:
        pixels = pixels[None]
    if len(pixels) != expected:
        raise InputError(f"{path} is cut short: {len(pixels)} of {expected} frames; export it again.")
    white = float(2**bits - 1)
    if int(dataset.get("PixelRepresentation", 0)) and photometric.startswith("MONOCHROME"):
        pixels = pixels.astype(np.int32) + 2 ** (bits - 1)
    if photometric == "MONOCHROME1":  # low values are bright
        pixels = white - pixels
    return _Decoded(pixels, _dicom_rate(dataset), white, dicom_regions(dataset, pixels.shape[1:3]))


def _dicom_rate(dataset: pydicom.Dataset) -> float | None:
    """Frames per second: from the acquisition's frame time (ms), else the recommended display rate."""
    if step := float(dataset.get("FrameTime") or 0):
        return 1000 / step
    steps = [float(step) for step in dataset.get("FrameTimeVector") or ()][1:]  # the first is 0
    if sum(steps) > 0:
        return 1000 * len(steps) / sum(steps)
    return float(dataset.get("CineRate") or dataset.get("RecommendedDisplayFrameRate") or 0) or None


def _read_movie(path: Path) -> _Decoded:
    frames: list[UInt8[ndarray, "height width *rgb"]] = []
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise InputError(f"{path} has no video stream: give a clip.")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            frames.append(frame.to_ndarray(format="gray" if frame.format.name == "gray" else "rgb24"))
        rate = stream.average_rate or stream.guessed_rate
    return _Decoded(_stack(path, frames), float(rate) if rate else None)


def _read_images(path: Path) -> _Decoded:
    """Images in a folder or matching a pattern, in numerical order."""
    listed = path.parent.glob(path.name) if "*" in path.name else path.iterdir()
    files = [file for file in listed if file.suffix.lower() in IMAGE_SUFFIXES and file.name[0] != "."]
    if not files:
        where = "matches no images" if "*" in path.name else "holds no images"
        raise InputError(f"{path} {where}: give a folder of PNG frames, or a video file.")
    clips: dict[str, int] = {}
    for file in files:
        series = re.sub(r"\d+(?=\D*$)", "#", file.stem)  # the last number counts frames
        clips[series] = clips.get(series, 0) + 1
    if sum(count > 1 for count in clips.values()) > 1:
        one = files[0].with_name(min(clips, key=_numerical).replace("#", "*") + files[0].suffix)
        raise InputError(f"{path} holds {len(clips)} clips: name one of them, as in {one}.")
    return _read_files(path, sorted(files, key=lambda file: _numerical(file.name)))


def _read_files(path: Path, files: Sequence[Path]) -> _Decoded:
    frames = []
    for file in files:
        try:
            frames.append(_read_image(file))
        except OSError as error:
            raise InputError(f"{file} cannot be read as an image, it is damaged: export it again.") from error
    if len({frame.dtype for frame in frames}) > 1:
        raise InputError(f"{path} mixes images of different bit depths: convert them to one.")
    return _Decoded(_stack(path, frames))


def _numerical(name: str) -> list[str | int]:
    """A sort key that puts frame-2 before frame-10."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if index % 2 else part.casefold() for index, part in enumerate(parts)]


def _read_image(path: Path) -> Shaped[ndarray, "height width *rgb"]:
    with Image.open(path) as image:
        if image.mode.startswith("I"):  # 16 bits, which some versions of Pillow read as 32
            return np.asarray(image).astype(np.uint16)
        if image.mode in ("L", "RGB", "F"):
            return np.asarray(image)
        return np.asarray(image.convert("L" if image.mode in ("1", "LA") else "RGB"))


def _stack(path: Path, frames: list[ndarray]) -> Shaped[ndarray, "frames height width *rgb"]:
    if not frames:
        raise InputError(f"{path} holds no frames: give a clip of at least two.")
    sizes = {frame.shape[:2] for frame in frames}
    if len(sizes) > 1:
        listed = ", ".join(f"{height} x {width}" for height, width in sorted(sizes)[:3])
        raise InputError(f"{path} mixes frames of different sizes ({listed}): crop them to one size.")
    if len({frame.ndim for frame in frames}) > 1:  # grey frames among colour ones
        frames = [frame if frame.ndim == 3 else np.repeat(frame[..., None], 3, axis=-1) for frame in frames]
    return np.stack(frames)


def _read_tiff(path: Path) -> _Decoded:
    with tifffile.TiffFile(path) as tiff:
        shapes = {page.shape for page in tiff.pages}
        if len(shapes) > 1:
            raise InputError(f"{path} mixes frames of different sizes: crop them to one size.")
        metadata: dict[str, Any] = (tiff.shaped_metadata or ({},))[0]
        return _Decoded(tiff.asarray(), metadata.get("fps"))


def _read_numpy(path: Path) -> _Decoded:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, ndarray):
            return _Decoded(loaded)
        with loaded:
            arrays = {name: loaded[name] for name in loaded.files}
    except ValueError as error:
        if "pickle" not in str(error).lower():
            raise
        raise InputError(
            f"{path} is no plain NumPy array, and pickled data is never loaded: save a numeric array instead."
        ) from error
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} is not a whole NPZ file: save it again.") from error
    videos = [name for name, array in arrays.items() if array.ndim >= 3]
    name = next((name for name in ("frames", "input", "video") if name in videos), None)
    if name is None and len(videos) != 1:
        raise InputError(f"{path} holds the arrays {', '.join(arrays) or '(none)'}: name the clip `frames`.")
    fps = arrays.get("fps")
    return _Decoded(arrays[name or videos[0]], float(fps) if fps is not None and fps.ndim == 0 else None)


def _read_hdf5(path: Path) -> _Decoded:
    with h5py.File(path, "r") as file:
        for name, white in (("input", None), ("data/image_sc", 255.0)):
            dataset = file.get(name)
            if isinstance(dataset, h5py.Dataset):
                pixels = dataset[()]
                if white:
                    _white(path, pixels)  # raises on NaN and values out of range
                return _Decoded(pixels, _attribute(file, "fps") or _attribute(dataset, "fps"), white)
    raise InputError(f"{path} has no dataset `data/image_sc` (zea) or `input` (result.h5): give a file with one.")


def _attribute(node: h5py.File | h5py.Dataset, name: str) -> float | None:
    value = node.attrs.get(name)
    return float(value) if value is not None and np.ndim(value) == 0 else None


def _read_metaimage(path: Path) -> _Decoded:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    voxel = sitk.Image([1] * reader.GetDimension(), reader.GetPixelID(), reader.GetNumberOfComponents())
    size = math.prod(reader.GetSize()) * sitk.GetArrayViewFromImage(voxel).nbytes
    with path.open("rb") as file:
        packed = re.search(rb"^CompressedData\s*=\s*True", file.read(4096), re.MULTILINE)
    if not packed and path.stat().st_size < size:  # ITK would print to stderr
        raise InputError(f"{path} is cut short: export it again.")
    return _Decoded(sitk.GetArrayFromImage(reader.Execute()))
