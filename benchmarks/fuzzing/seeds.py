"""Small valid files of every format that is read, each made by the library that usually writes it."""

import dataclasses
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import equinox as eqx
import h5py
import imagecodecs
import jax
import jax.numpy as jnp
import numpy as np
import pydicom
import pydicom.datadict
import pydicom.uid
import scipy.io
import SimpleITK as sitk
import tifffile
import zarr
import zarr.storage
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid
from safetensors.numpy import load_file, save_file

from nuclear_diffusion.measure.store import Store
from nuclear_diffusion.priors.checkpoint import save_prior
from nuclear_diffusion.priors.diffusion_prior import DiffusionPrior
from nuclear_diffusion.priors.unet import UNet, UNetConfig
from nuclear_diffusion.restore.methods import Paper, as_json

SHAPE = (4, 32, 32)
"""Frames, height and width of the clips."""

ABOUT = {"frames": "a" * 64}
"""The key of the stored results."""

VALUE = {"gcnr": [0.5, float("nan")], "ks_a": 0.25}
"""The stored scores."""


@dataclasses.dataclass(frozen=True)
class Seed:
    """A format.

    Attributes:
        name: of the format.
        loader: what reads it, a name in `child.LOADERS`.
        make: writes a file, or a folder with several, into the given folder; returns what the loader gets, a path.
        hit: the file that is damaged, from the path that the loader gets.
    """

    name: str
    loader: str
    make: Callable[[Path], Path]
    hit: Callable[[Path], Path] = lambda path: path


def frames() -> UInt8[ndarray, "frames height width"]:
    """Speckle that moves."""
    still = np.random.default_rng(0).rayleigh(50, SHAPE[1:]).clip(0, 255)
    return np.stack([np.roll(still, 2 * t, axis=0) for t in range(SHAPE[0])]).astype(np.uint8)


def _npy(folder: Path) -> Path:
    np.save(folder / "clip.npy", frames())
    return folder / "clip.npy"


def _npz(folder: Path) -> Path:
    np.savez_compressed(folder / "clip.npz", frames=frames(), fps=np.float64(25))
    return folder / "clip.npz"


def _tiff(**how: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        tifffile.imwrite(folder / "clip.tif", frames(), **how)
        return folder / "clip.tif"

    return make


CODES: dict[str, Callable[[ndarray], bytes | bytearray]] = {
    pydicom.uid.JPEGBaseline8Bit: imagecodecs.jpeg8_encode,
    pydicom.uid.JPEGLosslessSV1: lambda frame: imagecodecs.ljpeg_encode(frame, bitspersample=8),
}
"""Codes that pydicom does not write."""


def _dicom(syntax: str = ExplicitVRLittleEndian) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["fuzz"])
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data = FileDataset("clip.dcm", {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        data.Modality, data.FrameTime = "US", "40"
        data.FrameIncrementPointer = pydicom.datadict.tag_for_keyword("FrameTime")
        data.NumberOfFrames, data.Rows, data.Columns = SHAPE
        data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
        data.BitsAllocated = data.BitsStored = 8
        data.HighBit = 7
        region = pydicom.Dataset()
        region.RegionSpatialFormat, region.RegionDataType = 1, 1
        region.RegionLocationMinX0 = region.RegionLocationMinY0 = 2
        region.RegionLocationMaxX1 = region.RegionLocationMaxY1 = 29
        data.SequenceOfUltrasoundRegions = [region]
        data.PixelData = frames().tobytes()
        data["PixelData"].VR = "OB"
        if syntax in CODES:
            data.PixelData = encapsulate([bytes(CODES[syntax](frame)) for frame in frames()])
        elif pydicom.uid.UID(syntax).is_encapsulated:
            data.compress(syntax, generate_instance_uid=False)
        meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
        data.save_as(folder / "clip.dcm", enforce_file_format=True)
        return folder / "clip.dcm"

    return make


def _movie(name: str, codec: str, pixels: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        with av.open(str(folder / name), "w") as container:
            stream: Any = container.add_stream(codec, rate=25)
            stream.height, stream.width, stream.pix_fmt = *SHAPE[1:], pixels
            stream.codec_context.thread_count = 1
            for frame in frames():
                picture = av.VideoFrame.from_ndarray(np.repeat(frame[..., None], 3, axis=-1), format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        return folder / name

    return make


def _gif(folder: Path) -> Path:
    first, *rest = map(Image.fromarray, frames())
    first.save(folder / "clip.gif", save_all=True, append_images=rest, duration=40)
    return folder / "clip.gif"


def _pictures(suffix: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "clip").mkdir()
        for number, frame in enumerate(frames(), 1):
            Image.fromarray(frame).save(folder / "clip" / f"frame-{number}{suffix}")
        return folder / "clip"

    return make


def _second_picture(folder: Path) -> Path:
    return sorted(folder.iterdir())[1]


_ZEA_TIMES = {
    "data/image/values": ("data/image/timestamps", np.arange(SHAPE[0]) / np.float32(25)),
    "data/image_sc": ("scan/time_to_next_transmit", np.full((SHAPE[0], 4), 0.01)),
}
"""Times that zea keeps beside its images."""


def _hdf5(dataset: str, name: str = "clip.h5", **how: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        with h5py.File(folder / name, "w") as file:
            file.create_dataset(dataset, data=frames() / np.float32(255), **how)
            if dataset in _ZEA_TIMES:
                name_of_times, times = _ZEA_TIMES[dataset]
                file[name_of_times] = times
            else:
                file.attrs["fps"] = 25.0
        return folder / name

    return make


def _mat(compressed: bool) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        stored = {"frames": np.moveaxis(frames(), 0, -1), "fps": 25.0}
        scipy.io.savemat(folder / "clip.mat", stored, do_compression=compressed)
        return folder / "clip.mat"

    return make


def _zarr(packed: bool) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        name = folder / ("clip.zarr.zip" if packed else "clip.zarr")
        store = zarr.storage.ZipStore(name, mode="w") if packed else zarr.storage.LocalStore(name)
        array = zarr.create_array(store, shape=SHAPE, chunks=(2, *SHAPE[1:]), dtype="uint8", attributes={"fps": 25.0})
        array[:] = frames()
        store.close()
        return name

    return make


def _itk(name: str, compressed: bool = False) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        image = sitk.GetImageFromArray(frames())
        image.SetSpacing((0.5, 0.5, 0.04))
        sitk.WriteImage(image, str(folder / name), useCompression=compressed)
        return folder / name

    return make


def _mask(folder: Path) -> Path:
    mask = np.zeros(SHAPE[1:], np.uint8)
    mask[4:12, 4:12], mask[20:28, 20:28] = 255, 128
    Image.fromarray(mask).save(folder / "mask.png")
    return folder / "mask.png"


def _labelme(folder: Path) -> Path:
    square = [[4.0, 4.0], [12.0, 4.0], [12.0, 12.0], [4.0, 12.0]]
    shapes = [{"label": name, "points": square, "shape_type": "polygon"} for name in ("septum", "ventricle")]
    content = {"version": "5.4.1", "shapes": shapes, "imageHeight": SHAPE[1], "imageWidth": SHAPE[2]}
    (folder / "mask.json").write_text(json.dumps(content, indent=2))
    return folder / "mask.json"


def _text(name: str, text: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_text(text)
        return folder / name

    return make


def _prior(hashed: bool) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / "prior.safetensors"
        config = UNetConfig(widths=(2, 4), blocks=1, embedding=4, fine=1)
        rng = np.random.default_rng(0)
        shapes = eqx.filter_eval_shape(UNet, config, key=jax.random.key(0))
        network = jax.tree.map(lambda each: jnp.asarray(rng.normal(0, 0.1, each.shape).astype(np.float32)), shapes)
        save_prior(path, DiffusionPrior(network, 0.2, 0.2, 0.002, 80.0, config.stride), {"step": 3}, half=False)
        if not hashed:  # else every damage to the weights is noticed by their hash
            from nuclear_diffusion.priors.checkpoint import read_safetensors

            metadata = read_safetensors(path)[1]
            del metadata["sha256"]
            save_file(load_file(path), path, metadata)
        return path

    return make


PRESET = {
    "config": {
        "input_shape": [16, 16, 1],
        "input_range": [-1, 1],
        "min_signal_rate": 0.02,
        "max_signal_rate": 0.95,
        "max_t": 1.0,
        "network_name": "unet_time_conditional",
        "network_kwargs": {"widths": [2], "block_depth": 1, "embedding_dims": 2},
    }
}
"""The smallest preset of zea: one block."""


def _preset(folder: Path) -> Path:
    preset = folder / "preset"
    preset.mkdir()
    (preset / "config.json").write_text(json.dumps(PRESET, indent=1))
    rng = np.random.default_rng(0)
    shapes = {"conv2d": (1, 1, 1, 2), "conv2d_1": (3, 3, 4, 2), "conv2d_2": (3, 3, 2, 2), "conv2d_3": (1, 1, 4, 2)}
    shapes["conv2d_4"] = (1, 1, 2, 1)
    with h5py.File(preset / "model.weights.h5", "w") as file:
        layers = file.create_group("ema_network/layers")
        for name, shape in shapes.items():
            layers[f"{name}/vars/0"] = rng.normal(size=shape).astype(np.float32)
            layers[f"{name}/vars/1"] = np.zeros(shape[-1], np.float32)
        for number, value in enumerate((0, 1)):
            layers[f"batch_normalization/vars/{number}"] = np.full(4, value, np.float32)
    return preset


def _stored(kind: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        store = Store(folder / "results")
        if kind == "scores":
            store.once("patient-1/rpca", ABOUT, lambda: VALUE)
        else:
            store.keep_arrays("patient-1/rpca", ABOUT, {"signal": frames(), "about": "{}"})
        return folder / "results"

    return make


def _only_file(folder: Path) -> Path:
    (found,) = (path for path in folder.rglob("*") if path.is_file())
    return found


def _dataset(folder: Path) -> Path:
    for kind in ("noisy", "noisy_roi"):
        (folder / "data" / kind).mkdir(parents=True)
        for number in (1, 2):
            Image.fromarray(frames()[0]).save(folder / "data" / kind / f"patient-1-4C-frame-{number}.png")
    (folder / "data" / "patients").mkdir()
    record = {"seed": 0, "frames": 2, "size": 32, "patient": 1, "view": "a4c", "fps": 50.0, "patient_seed": 0}
    (folder / "data" / "patients" / "patient-1.json").write_text(json.dumps(record, indent=2))
    return folder / "data"


REPORT = {"clip": "clip", "frames": 4, "settings": {"method": "rpca", "lam": 1.0}, "input_sha256": "a", "seconds": 1.0}


def _result(folder: Path) -> Path:
    from nuclear_diffusion.restore.folder import FILES

    made = folder / "result"
    made.mkdir()
    for name in FILES:
        (made / name).write_bytes(b"0")
    (made / "report.json").write_text(json.dumps(REPORT, indent=2))
    return made


def bombs() -> dict[str, tuple[str, bytes]]:
    """Files of a few bytes that declare gigabytes: (loader, content) by file name."""
    header = (100_000).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    chunk = b"IHDR" + header
    data = zlib.compress(b"\0" * 10_000)
    png = b"\x89PNG\r\n\x1a\n" + len(header).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    png += len(data).to_bytes(4, "big") + b"IDAT" + data + zlib.crc32(b"IDAT" + data).to_bytes(4, "big")
    return {
        "bomb.png": ("mask", png),
        "deep.json": ("labelme", b'{"shapes": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        "long.json": ("settings", b'{"method": "rpca", "lam": ' + b"1" * 401 + b"}"),
        "steps.json": ("settings", b'{"method": "paper", "steps": 1' + b"0" * 30 + b"}"),
        "list.json": ("settings", b'{"method": ["rpca"]}'),
    }


_OME_TIMES = {"DeltaT": [40.0 * k for k in range(SHAPE[0])], "DeltaTUnit": ["ms"] * SHAPE[0]}

SEEDS: tuple[Seed, ...] = (
    Seed("npy", "video", _npy),
    Seed("npz", "video", _npz),
    Seed("tiff", "video", _tiff(metadata={"fps": 25.0}, photometric="minisblack")),
    Seed("tiff, deflate", "video", _tiff(compression="zlib", photometric="minisblack")),
    Seed("tiff, imagej", "video", _tiff(imagej=True, metadata={"axes": "TYX", "finterval": 0.04})),
    Seed("tiff, ome", "video", _tiff(ome=True, metadata={"axes": "TYX", "Plane": _OME_TIMES})),
    Seed("dicom", "video", _dicom()),
    Seed("dicom, deflated", "video", _dicom(pydicom.uid.DeflatedExplicitVRLittleEndian)),
    Seed("dicom, rle", "video", _dicom(pydicom.uid.RLELossless)),
    Seed("dicom, jpeg", "video", _dicom(pydicom.uid.JPEGBaseline8Bit)),
    Seed("dicom, jpeg lossless", "video", _dicom(pydicom.uid.JPEGLosslessSV1)),
    Seed("dicom, jpeg-ls", "video", _dicom(pydicom.uid.JPEGLSLossless)),
    Seed("dicom, jpeg 2000", "video", _dicom(pydicom.uid.JPEG2000Lossless)),
    Seed("mp4", "video", _movie("clip.mp4", "mpeg4", "yuv420p")),
    Seed("mp4, h264", "video", _movie("clip.mp4", "libx264", "yuv420p")),
    Seed("avi, mjpeg", "video", _movie("clip.avi", "mjpeg", "yuvj420p")),
    Seed("mkv, ffv1", "video", _movie("clip.mkv", "ffv1", "yuv420p")),
    Seed("webm, vp9", "video", _movie("clip.webm", "libvpx-vp9", "yuv420p")),
    Seed("gif", "video", _gif),
    Seed("png folder", "video", _pictures(".png"), _second_picture),
    Seed("jpeg folder", "video", _pictures(".jpg"), _second_picture),
    Seed("bmp folder", "video", _pictures(".bmp"), _second_picture),
    Seed("webp folder", "video", _pictures(".webp"), _second_picture),
    Seed("hdf5", "video", _hdf5("input", compression="gzip", chunks=(1, 32, 32))),
    Seed("hdf5, zea", "video", _hdf5("data/image_sc")),
    Seed("hdf5, zea image", "video", _hdf5("data/image/values")),
    Seed("mat 7.3", "video", _hdf5("frames", "clip.mat")),
    Seed("mat 7.2", "video", _mat(False)),
    Seed("mat 7.2, compressed", "video", _mat(True)),
    Seed("zarr, metadata", "video", _zarr(False), lambda path: path / "zarr.json"),
    Seed("zarr, chunk", "video", _zarr(False), lambda path: path / "c" / "0" / "0" / "0"),
    Seed("zarr, zip", "video", _zarr(True)),
    Seed("mha", "video", _itk("clip.mha")),
    Seed("mha, zlib", "video", _itk("clip.mha", compressed=True)),
    Seed("mhd", "video", _itk("clip.mhd")),
    Seed("nifti", "video", _itk("clip.nii")),
    Seed("nifti, gzip", "video", _itk("clip.nii.gz", compressed=True)),
    Seed("nrrd", "video", _itk("clip.nrrd")),
    Seed("nrrd, gzip", "video", _itk("clip.nrrd", compressed=True)),
    Seed("nhdr", "video", _itk("clip.nhdr")),
    Seed("mask, png", "mask", _mask),
    Seed("mask, labelme", "labelme", _labelme),
    Seed("settings", "settings", _text("settings.json", as_json(Paper()))),
    Seed("patients", "patients", _text("patients.txt", "patient-1\npatient-2\n")),
    Seed("prior", "prior", _prior(hashed=True)),
    Seed("prior, no hash", "prior", _prior(hashed=False)),
    Seed("zea preset, json", "prior", _preset, lambda path: path / "config.json"),
    Seed("zea preset, hdf5", "prior", _preset, lambda path: path / "model.weights.h5"),
    Seed("stored scores", "scores", _stored("scores"), _only_file),
    Seed("stored arrays", "arrays", _stored("arrays"), _only_file),
    Seed("simulator's record", "dataset", _dataset, lambda path: path / "patients" / "patient-1.json"),
    Seed("finished report", "report", _result, lambda path: path / "report.json"),
)
"""Every format. Those that this version of the package does not read are left out by the campaign."""
