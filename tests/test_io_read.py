"""Clips written by other libraries are read back as their source arrays; every bad input has one clear sentence."""

import logging
import pickle
import struct
import warnings
from pathlib import Path

import av
import h5py
import numpy as np
import pydicom
import pydicom.examples
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import read_video

SHAPE = (5, 32, 48)


@pytest.fixture
def grey() -> np.ndarray:
    values = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    values[3] = values[2]  # identical consecutive frames are legal
    return values


@pytest.fixture
def color() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (*SHAPE, 3), np.uint8)


def write_dicom(path: Path, pixels: np.ndarray, photometric: str = "MONOCHROME2", **tags: object) -> Path:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = pixels.shape[:3]
    dataset.SamplesPerPixel = 3 if pixels.ndim == 4 else 1
    if pixels.ndim == 4:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"
    dataset.save_as(path, enforce_file_format=True)
    return path


def region(left: int, top: int, right: int, bottom: int, kind: int = 1) -> pydicom.Dataset:
    item = pydicom.Dataset()
    item.RegionSpatialFormat, item.RegionDataType = 1, kind
    item.RegionLocationMinX0, item.RegionLocationMinY0 = left, top
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = right, bottom
    return item


# ----------------------------------------------------------------------------------------------- values


def test_clip_is_an_array(tmp_path, grey):
    np.save(tmp_path / "apical.v2.npy", grey)
    clip = read_video(tmp_path / "apical.v2.npy")
    assert np.asarray(clip) is clip.frames
    assert np.asarray(clip, np.float64).dtype == np.float64
    assert clip.frames.dtype == np.float32
    assert (clip.shape, len(clip), clip.name, clip.fps) == (SHAPE, 5, "apical.v2", 30.0)
    assert clip.source == tmp_path / "apical.v2.npy"
    assert clip.color is None
    assert clip.region is None


@pytest.mark.parametrize(
    ("dtype", "white"),
    [("uint8", 255), ("uint16", 65535), ("int64", 255), ("int32", 65535), ("float32", 1), ("float64", 255)],
)
def test_numpy_scales_by_type_and_range(tmp_path, dtype, white):
    values = (np.random.default_rng(0).random(SHAPE) * white).astype(dtype)
    values.flat[:2] = 0, white
    np.save(tmp_path / "clip.npy", values)
    np.testing.assert_allclose(read_video(tmp_path / "clip.npy").frames, values / white, atol=1e-6)


def test_npz_takes_frames_and_rate(tmp_path, grey):
    np.savez(tmp_path / "clip.npz", frames=grey, mask=grey > 3, fps=np.float64(12.5))
    clip = read_video(tmp_path / "clip.npz")
    np.testing.assert_allclose(clip.frames, grey / 255, atol=1e-7)
    assert clip.fps == 12.5


def test_color_is_kept_and_frames_are_its_luma(tmp_path, color):
    np.save(tmp_path / "clip.npy", color)
    clip = read_video(tmp_path / "clip.npy")
    np.testing.assert_array_equal(clip.color, color)
    np.testing.assert_allclose(clip.frames, color / 255 @ [0.299, 0.587, 0.114], atol=1e-6)


def test_grey_stored_as_rgb_is_grey(tmp_path, grey):
    np.save(tmp_path / "clip.npy", np.stack([grey] * 3, axis=-1))
    clip = read_video(tmp_path / "clip.npy")
    assert clip.color is None
    np.testing.assert_allclose(clip.frames, grey / 255, atol=1e-7)


def test_tiff_stacks(tmp_path, grey, color):
    tifffile.imwrite(tmp_path / "grey.tif", grey, photometric="minisblack")
    tifffile.imwrite(tmp_path / "deep.tiff", grey.astype(np.uint16) * 257, photometric="minisblack")
    tifffile.imwrite(tmp_path / "color.tif", color, photometric="rgb")
    np.testing.assert_allclose(read_video(tmp_path / "grey.tif").frames, grey / 255, atol=1e-7)
    np.testing.assert_allclose(read_video(tmp_path / "deep.tiff").frames, grey / 255, atol=1e-7)
    np.testing.assert_array_equal(read_video(tmp_path / "color.tif").color, color)


def test_hdf5_of_zea_and_of_our_results(tmp_path, grey):
    with h5py.File(tmp_path / "zea.hdf5", "w") as file:
        file["data/image_sc"] = grey.astype(np.float32)
    with h5py.File(tmp_path / "result.h5", "w") as file:
        file["input"] = (grey / 255).astype(np.float32)
        file.attrs["fps"] = 47.0
    np.testing.assert_allclose(read_video(tmp_path / "zea.hdf5").frames, grey / 255, atol=1e-7)
    clip = read_video(tmp_path / "result.h5")
    np.testing.assert_array_equal(clip.frames, (grey / 255).astype(np.float32))
    assert clip.fps == 47


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 255), (-60, 0)])
@pytest.mark.parametrize("name", ["data/image_sc", "data/image/values"])
def test_zea_in_all_its_ranges(tmp_path, grey, low, high, name):
    with h5py.File(tmp_path / "zea.hdf5", "w") as file:
        file[name] = (low + (high - low) * (grey / 255)).astype(np.float32)
    np.testing.assert_allclose(read_video(tmp_path / "zea.hdf5").frames, grey / 255, atol=1e-6)


def test_metaimage(tmp_path, grey):
    sitk.WriteImage(sitk.GetImageFromArray(grey), str(tmp_path / "clip.mha"))
    np.testing.assert_allclose(read_video(tmp_path / "clip.mha").frames, grey / 255, atol=1e-7)


def test_folder_is_sorted_numerically(tmp_path, grey):
    for number, frame in zip((1, 2, 9, 10, 100), grey, strict=True):
        Image.fromarray(frame).save(tmp_path / f"patient-3-4C-frame-{number}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    clip = read_video(tmp_path)
    np.testing.assert_allclose(clip.frames, grey / 255, atol=1e-7)
    assert clip.name == tmp_path.name


def test_one_of_several_clips_in_a_folder(tmp_path, grey):
    for patient in (1, 2):
        for number, frame in enumerate(grey, start=8):
            Image.fromarray(frame // patient).save(tmp_path / f"patient-{patient}-frame-{number}.png")
    with pytest.raises(InputError, match=r"2 clips: name one of them, as in .*patient-1-frame-\*\.png"):
        read_video(tmp_path)
    clip = read_video(tmp_path / "patient-2-frame-*.png")
    np.testing.assert_allclose(clip.frames, grey // 2 / 255, atol=1e-7)
    assert clip.name == "patient-2-frame"


@pytest.mark.parametrize("mode", ["I;16", "P", "LA", "RGBA", "RGB"])
def test_png_modes(tmp_path, grey, mode):
    for number, frame in enumerate(grey):
        deep = Image.fromarray(frame.astype(np.uint16) * 257)
        (deep if mode == "I;16" else Image.fromarray(frame).convert(mode)).save(tmp_path / f"{number}.png")
    np.testing.assert_allclose(read_video(tmp_path).frames, grey / 255, atol=1e-6)


# ----------------------------------------------------------------------------------------------- movies


def smooth_clip(frames: int = 6, height: int = 48, width: int = 64) -> np.ndarray:
    t, y, x = np.mgrid[:frames, :height, :width]
    return np.rint(127 + 90 * np.sin(y / 9 + t / 3) * np.cos(x / 11)).astype(np.uint8)


@pytest.mark.parametrize(
    ("suffix", "codec", "pixel_format", "tolerance"),
    [
        (".mp4", "mpeg4", "yuv420p", 7),
        (".mkv", "ffv1", "gray", 0),
        (".avi", "rawvideo", "gray", 0),
        (".mov", "png", "gray", 0),
    ],
)
def test_movies(tmp_path, suffix, codec, pixel_format, tolerance):
    values = smooth_clip()
    path = tmp_path / f"clip{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *values.shape[1:], pixel_format
        stream.bit_rate = 4_000_000
        for frame in values:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode(None))
    clip = read_video(path)
    assert clip.fps == 25
    assert clip.color is None
    np.testing.assert_allclose(clip.frames * 255, values, atol=tolerance + 1e-4)


def test_gif_of_another_writer(tmp_path):
    values = smooth_clip()
    images = [Image.fromarray(frame) for frame in values]
    images[0].save(tmp_path / "clip.gif", save_all=True, append_images=images[1:], duration=50)
    clip = read_video(tmp_path / "clip.gif")
    np.testing.assert_allclose(clip.frames, values / 255, atol=1e-6)
    assert clip.fps == pytest.approx(20)


# ----------------------------------------------------------------------------------------------- DICOM


def test_dicom_grey_eight_bits(tmp_path, grey):
    clip = read_video(write_dicom(tmp_path / "clip.dcm", grey, FrameTime="20"))
    np.testing.assert_allclose(clip.frames, grey / 255, atol=1e-7)
    assert clip.fps == 50


def test_dicom_without_suffix(tmp_path, grey):
    clip = read_video(write_dicom(tmp_path / "1.2.840.77", grey))
    np.testing.assert_allclose(clip.frames, grey / 255, atol=1e-7)
    assert clip.name == "1.2.840.77"


def test_dicom_monochrome1_is_inverted(tmp_path, grey):
    clip = read_video(write_dicom(tmp_path / "clip.dcm", grey, "MONOCHROME1"))
    np.testing.assert_allclose(clip.frames, 1 - grey / 255, atol=1e-6)


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_dicom_scales_by_the_bits_stored(tmp_path, bits):
    values = np.random.default_rng(0).integers(0, 2**bits, SHAPE).astype(np.uint16)
    path = write_dicom(tmp_path / "clip.dcm", values, BitsStored=bits, HighBit=bits - 1)
    np.testing.assert_allclose(read_video(path).frames, values / (2**bits - 1), atol=1e-6)


def test_dicom_signed_values_start_at_black(tmp_path):
    values = np.random.default_rng(0).integers(-(2**15), 2**15, SHAPE).astype(np.int16)
    expected = (values.astype(float) + 2**15) / (2**16 - 1)
    np.testing.assert_allclose(read_video(write_dicom(tmp_path / "c.dcm", values)).frames, expected, atol=1e-6)


def test_dicom_rgb(tmp_path, color):
    clip = read_video(write_dicom(tmp_path / "clip.dcm", color, "RGB"))
    np.testing.assert_array_equal(clip.color, color)


def test_dicom_ybr(tmp_path):
    """YBR_FULL with neutral chroma is grey of value Y."""
    luma = smooth_clip()
    ybr = np.stack([luma, np.full_like(luma, 128), np.full_like(luma, 128)], axis=-1)
    clip = read_video(write_dicom(tmp_path / "clip.dcm", ybr, "YBR_FULL"))
    np.testing.assert_allclose(clip.frames * 255, luma, atol=1.01)
    assert clip.color is None


def test_dicom_jpeg_example():
    """pydicom's own clip: YBR_FULL_422, JPEG; a region for twice its size, which must not be believed."""
    clip = read_video(pydicom.examples.get_path("ybr_color"))
    assert clip.shape == (30, 240, 320)
    assert clip.fps == pytest.approx(30, rel=1e-3)
    assert clip.color is not None  # the green marker
    np.testing.assert_array_equal(clip.color[7], pixel_array(pydicom.examples.ybr_color, index=7))
    assert clip.region is None


@pytest.mark.parametrize(
    ("tags", "fps"),
    [
        ({"CineRate": 24}, 24),
        ({"RecommendedDisplayFrameRate": 61}, 61),
        ({"FrameTime": "40", "CineRate": 24}, 25),
        ({"FrameTimeVector": [0, 10, 30, 20, 20]}, 50),
        ({"FrameTime": "0"}, 30),
        ({}, 30),
    ],
)
def test_dicom_rate(tmp_path, grey, tags, fps):
    assert read_video(write_dicom(tmp_path / "clip.dcm", grey, **tags)).fps == pytest.approx(fps)


def test_dicom_region(tmp_path, grey):
    """The tissue rectangle, ends included, not the larger spectral one beside it."""
    regions = [region(0, 0, 47, 31, kind=3), region(10, 4, 40, 29)]
    mask = read_video(write_dicom(tmp_path / "c.dcm", grey, SequenceOfUltrasoundRegions=regions)).region
    expected = np.zeros(SHAPE[1:], bool)
    expected[4:30, 10:41] = True
    np.testing.assert_array_equal(mask, expected)


# -------------------------------------------------------------------------------------------- bad input


class Unpickled:
    """Tells on whoever unpickles it."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


UNREADABLE = "cannot be read|no plain NumPy array|does not begin as DICOM"


def bad_inputs(folder: Path) -> dict[str, tuple[Path, str]]:
    """A path and what its message must say, by name."""
    noise = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    found: dict[str, tuple[Path, str]] = {}

    def add(name: str, says: str) -> Path:
        found[Path(name).name] = folder / name, says
        return folder / name

    add("missing.mp4", "does not exist")
    add("empty", "no images").mkdir()
    for name in (
        "text.mp4",
        "text.avi",
        "text.gif",
        "text.npy",
        "text.npz",
        "text.tif",
        "text.h5",
        "text.mha",
        "text.dcm",
    ):
        add(name, UNREADABLE).write_text("this is not a video\n" * 40)
    for name in ("void.mp4", "void.npy", "void.npz", "void.tif", "void.h5", "void.mha", "void.dcm"):
        add(name, "is empty, of 0 bytes").touch()
    add("notes.txt", "of an unknown format").write_text("words")
    for name, values, says in (
        ("none.npy", noise[:0], "no frames"),
        ("flat.npy", noise[0, 0], "shape"),
        ("five.npy", np.zeros((2, 3, 32, 32, 3)), "shape"),
        ("channels.npy", np.zeros((5, 32, 32, 5)), "shape"),
        ("tiny.npy", noise[:, :8, :8], "at least 16"),
        ("constant.npy", np.full(SHAPE, 7, np.uint8), "constant"),
        ("negative.npy", noise.astype(float) - 300, "values from"),
        ("large.npy", noise.astype(float) * 100, "values from"),
        ("complex.npy", noise.astype(complex), "complex"),
        ("words.npy", np.full(SHAPE, "a"), "integers or floats"),
    ):
        np.save(add(name, says), values)
    for name, value in (("nan.npy", np.nan), ("inf.npy", np.inf)):
        values = noise / 255
        values[1, 2, 3] = value
        np.save(add(name, "NaN or infinite"), values)
    with h5py.File(add("nan.h5", "NaN or infinite"), "w") as file:
        file["data/image_sc"] = np.where(noise == 3, np.nan, noise)
    with h5py.File(add("other.h5", "no dataset"), "w") as file:
        file["first"] = file["second"] = noise
    np.savez(add("two.npz", "name the clip"), a=noise, b=noise)
    objects = np.empty(2, object)
    objects[:] = [Unpickled(), None]
    np.save(add("objects.npy", "pickled data is never loaded"), objects, allow_pickle=True)
    np.savez(add("objects.npz", "pickled data is never loaded"), frames=objects, allow_pickle=True)
    add("pickle.npy", "pickled data is never loaded").write_bytes(pickle.dumps(Unpickled()))

    sizes = add("sizes", "different sizes")
    sizes.mkdir()
    for number in range(3):
        Image.fromarray(noise[0, : 32 - number]).save(sizes / f"{number}.png")
    with tifffile.TiffWriter(add("sizes.tif", "different sizes")) as tiff:
        tiff.write(noise[0])
        tiff.write(noise[0, :20])
    broken = add("broken", "2.png cannot be read")
    broken.mkdir()
    Image.fromarray(noise[0]).save(broken / "1.png")
    (broken / "2.png").write_bytes((broken / "1.png").read_bytes()[:300])

    whole = write_dicom(folder / "whole.dcm", noise).read_bytes()
    add("pixels.dcm", "cannot be read|cut short|decoded").write_bytes(whole[:-2000])
    add("header.dcm", "cannot be read|cut short|without pixel").write_bytes(whole[:400])
    add("start.dcm", "cannot be read|cut short|without pixel").write_bytes(whole[:140])
    jpeg = Path(pydicom.examples.get_path("ybr_color")).read_bytes()
    add("jpeg.dcm", "cannot be read|cut short|decoded").write_bytes(jpeg[: len(jpeg) // 2])
    write_dicom(add("constant.dcm", "constant"), noise * 0)
    with av.open(str(folder / "whole.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for frame in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode(None))
    movie = (folder / "whole.mp4").read_bytes()
    add("cut.mp4", "cannot be read").write_bytes(movie[: len(movie) // 2])
    with av.open(str(add("sound.mp4", "no video")), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 8000
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    header = b"ObjectType = Image\nNDims = 3\nDimSize = 48 32 5\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    add("cut.mha", "cut short").write_bytes(header + struct.pack("9B", *range(9)))
    return found


NAMES = """
missing.mp4 empty text.mp4 text.avi text.gif text.npy text.npz text.tif text.h5 text.mha text.dcm
void.mp4 void.npy void.npz void.tif void.h5 void.mha void.dcm notes.txt none.npy
flat.npy five.npy channels.npy tiny.npy constant.npy negative.npy large.npy complex.npy
words.npy nan.npy inf.npy nan.h5 other.h5 two.npz objects.npy objects.npz pickle.npy sizes sizes.tif
broken pixels.dcm header.dcm start.dcm jpeg.dcm constant.dcm cut.mp4 sound.mp4 cut.mha
""".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def bad(tmp_path_factory) -> dict[str, tuple[Path, str]]:
    found = bad_inputs(tmp_path_factory.mktemp("bad"))
    assert sorted(found) == sorted(NAMES)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_bad_input_is_one_clear_sentence(bad, name, capfd, monkeypatch):
    path, says = bad[name]
    capfd.readouterr()
    monkeypatch.setattr(logging, "lastResort", logging.StreamHandler())  # writes to the stderr captured here
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(InputError, match=says) as caught:
            read_video(path)
    message = str(caught.value)
    assert str(path) in message
    assert message.endswith(".")
    assert "\n" not in message
    assert not warned
    assert capfd.readouterr() == ("", "")
