"""Files that other libraries write are read as they were meant: pixels, number and order of frames, rate, range."""

import gc
import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import av
import h5py
import imagecodecs
import nibabel
import nrrd
import numpy as np
import pydicom
import pydicom.data
import pytest
import scipy.io
import SimpleITK as sitk
import tifffile
import zarr
from PIL import Image
from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.fileset import FileSet
from pydicom.pixels.processing import convert_color_space

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import Reading, open_clip, read_video
from nuclear_diffusion.io.find import expand, find_clips
from test_io_read import smooth_clip, write_dicom

CLIP = np.random.default_rng(0).integers(0, 256, (6, 20, 28), np.uint8)
CLIP[0, 0, :2] = 0, 255
COLOR = np.random.default_rng(1).integers(0, 256, (6, 20, 28, 3), np.uint8)


def check(path, expected: np.ndarray = CLIP / 255, *, tolerance=1e-6, fps=30.0, says=None, rate=None, **reading):
    """Both ways of reading agree, and with what was written."""
    about = Reading(fps=rate, **reading)
    clip, lazy = read_video(path, about), open_clip(path, about)
    again = lazy.read()
    np.testing.assert_array_equal(clip.frames, again.frames)
    assert lazy.shape == clip.shape
    assert lazy.fps == clip.fps
    assert lazy.colored == (clip.color is not None) == (again.color is not None)
    assert lazy.notes == clip.notes
    np.testing.assert_array_equal(np.concatenate([part.frames for part in lazy.blocks(4)]), clip.frames)
    assert clip.shape == expected.shape[:3]
    if expected.ndim == 4:
        assert clip.color is not None
        np.testing.assert_array_equal(clip.color, again.color)
        np.testing.assert_allclose(clip.color / 255, expected, atol=max(tolerance, 1 / 500))
    else:
        assert clip.color is None
        np.testing.assert_allclose(clip.frames, expected, atol=tolerance)
    assert clip.fps == pytest.approx(fps)
    if says is None:
        assert clip.notes == ()
    else:
        assert says in " ".join(clip.notes)
    return clip


def movie(path, frames, codec: Any = "ffv1", pixels="gray", source="gray", **options):
    """Encoded by FFmpeg at 25 frames/s."""
    aspect = options.pop("aspect", None)
    with av.open(str(path), "w", **options) as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        stream.bit_rate, stream.gop_size = 20_000_000, 1
        stream.options = {"qscale": "1"}
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format=source).reformat(format=pixels)))
        container.mux(stream.encode(None))
    return path


# ---------------------------------------------------------------------------------- intensity and axes


@pytest.mark.parametrize("suffix", ["npy", "npz", "tif", "h5"])
def test_a_small_overshoot_is_clipped(tmp_path, suffix):
    values = (CLIP / 255 * 1.02 - 0.01).astype(np.float32)
    path = tmp_path / f"clip.{suffix}"
    match suffix:
        case "npy":
            np.save(path, values)
        case "npz":
            np.savez(path, frames=values)
        case "tif":
            tifffile.imwrite(path, values, photometric="minisblack")
        case _:
            with h5py.File(path, "w") as file:
                file["input"] = values
    check(path, np.clip(values, 0, 1), says="clipped to [0, 1]")


@pytest.mark.parametrize(
    ("low", "high", "says"), [(0, 4000, "--white 4095"), (-1, 1, "--db"), (0, 3, "--white 3"), (-60, 0, "--db -60 0")]
)
def test_a_range_that_fits_no_scale_is_refused_with_what_to_type(tmp_path, low, high, says):
    np.save(tmp_path / "clip.npy", (low + (high - low) * (CLIP / 255)).astype(np.float32))
    with pytest.raises(InputError, match=says):
        read_video(tmp_path / "clip.npy")
    check(tmp_path / "clip.npy", db=(low, high))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int16])
def test_twelve_bits_in_sixteen_are_dark_and_it_is_said(tmp_path, dtype):
    values = CLIP.astype(dtype) * 16
    np.save(tmp_path / "clip.npy", values)
    check(tmp_path / "clip.npy", values / 65535, says="--white 4095")
    check(tmp_path / "clip.npy", white=4080)


def test_png_of_twelve_bits_is_said(tmp_path):
    for number, frame in enumerate(CLIP.astype(np.uint16) * 16):
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
    check(tmp_path, CLIP * np.float64(16) / 65535, says="--white 4095")


def test_options_that_contradict_or_make_no_sense_are_refused():
    refused: tuple[dict[str, Any], ...] = (
        {"white": 3, "db": (-60, 0)},
        {"white": 0},
        {"db": (1, 1)},
        {"axes": "TTW"},
        {"fps": 1e20},
    )
    for options in refused:
        with pytest.raises(InputError):
            Reading(**options)


def test_swapped_black_and_white_are_refused_with_what_to_type():
    with pytest.raises(InputError, match="--db 0 -60 has black above white: type --db -60 0"):
        Reading(db=(0, -60))


@pytest.mark.parametrize(
    ("reading", "says"),
    [
        ({"white": 10.0}, f"{100 * np.mean(CLIP[0] > 10):.0f} % are brighter than white by --white"),
        ({"db": (0.0, float(np.quantile(CLIP[0], 0.96)))}, None),
    ],
)
def test_a_typed_range_that_clips_much_is_said(tmp_path, reading, says):
    np.save(tmp_path / "clip.npy", CLIP)
    low, high = reading.get("db") or (0, reading["white"])
    check(tmp_path / "clip.npy", np.clip((CLIP - low) / (high - low), 0, 1), says=says, **reading)


@pytest.mark.parametrize(("reading", "said"), [({"db": (-60, 0)}, "--db"), ({"db": (300, 400)}, "--db")])
def test_a_typed_range_that_no_value_is_in_is_refused(tmp_path, reading, said):
    np.save(tmp_path / "clip.npy", CLIP)
    for read in (read_video, open_clip):
        with pytest.raises(
            InputError, match=rf"values from 0 to 255, none between .* and .*: correct or remove {said}"
        ):
            read(tmp_path / "clip.npy", Reading(**reading))


def test_a_range_for_a_colour_movie_is_said_to_be_ignored(tmp_path):
    path = movie(tmp_path / "clip.mkv", COLOR, pixels="bgr0", source="rgb24")
    check(path, COLOR / 255, fps=25, tolerance=0.01, white=10.0, says="--white does not apply to a colour movie")


def test_options_that_do_not_apply_to_a_format_are_said_to_be_ignored(tmp_path):
    nibabel.Nifti1Image(CLIP.T, np.eye(4)).to_filename(tmp_path / "clip.nii")
    check(tmp_path / "clip.nii", dataset="x", says="--dataset does not apply to NIfTI and is ignored")
    path = write_dicom(tmp_path / "clip.dcm", CLIP)
    check(path, fps=read_video(path).fps, axes="HWT", says="--axes does not apply to DICOM and is ignored")


@pytest.mark.parametrize(("frames", "height", "width"), [(6, 32, 32), (200, 32, 32), (20, 96, 128), (200, 32, 33)])
def test_frames_last_are_refused_and_named(tmp_path, frames, height, width):
    values = smooth_clip(frames, height, width)
    np.save(tmp_path / "clip.npy", np.moveaxis(values, 0, -1))
    with pytest.raises(InputError, match="--axes HWT"):
        read_video(tmp_path / "clip.npy")
    check(tmp_path / "clip.npy", values / 255, axes="HWT")


def sector(frames: int, height: int, width: int, margin: int) -> np.ndarray:
    """Speckle in a sector, black around it, and two black frames."""
    down, right = np.mgrid[:height, :width]
    inside = (np.hypot(down, right - width / 2) < height) & (abs(right - width / 2) < 0.7 * down)
    clip = np.random.default_rng(0).integers(1, 256, (frames, height, width), np.uint8) * inside
    clip[:2] = 0
    return np.pad(clip, ((0, 0), (0, 0), (margin, margin)))


@pytest.mark.parametrize("margin", [0, 60])
@pytest.mark.parametrize("suffix", ["npy", "h5", "mat"])
def test_frames_last_are_refused_by_what_is_black_around_the_sector(tmp_path, suffix, margin):
    """Where lengths tell nothing."""
    clip = sector(40, 60, 90, margin)

    def saved(name: str, values: np.ndarray) -> Path:
        path = tmp_path / f"{name}.{suffix}"
        match suffix:
            case "npy":
                np.save(path, values)
            case "h5":
                with h5py.File(path, "w") as file:
                    file["clip"] = values
            case "mat":
                scipy.io.savemat(path, {"clip": values})
        return path

    right, wrong = (("THW", clip), ("HWT", np.moveaxis(clip, 0, -1)))[:: -1 if suffix == "mat" else 1]
    check(saved("right", right[1]), clip / 255)
    with pytest.raises(InputError, match=f"type --axes {wrong[0]}, or --axes {right[0]} if it is not"):
        read_video(saved("wrong", wrong[1]))
    check(tmp_path / f"wrong.{suffix}", clip / 255, axes=wrong[0])


def test_a_clip_of_little_that_moves_is_not_taken_for_another_order(tmp_path):
    """Such as the signal of robust PCA: where it is black tells nothing."""
    clip = np.zeros((40, 60, 90), np.uint8)
    for number in range(40):
        clip[number, number : number + 4, 20:70] = 200
    np.save(tmp_path / "clip.npy", clip)
    check(tmp_path / "clip.npy", clip / 255)


@pytest.mark.parametrize("shape", [(6, 1, 20, 28), (1, 6, 20, 28), (6, 20, 28, 1), (1, 6, 1, 20, 28)])
def test_axes_of_length_one_are_dropped(tmp_path, shape):
    np.save(tmp_path / "clip.npy", CLIP.reshape(shape))
    check(tmp_path / "clip.npy")


def test_channels_first(tmp_path):
    np.save(tmp_path / "clip.npy", np.moveaxis(COLOR, -1, 1))
    check(tmp_path / "clip.npy", COLOR / 255, says="frames, channels")
    np.save(tmp_path / "turned.npy", np.moveaxis(COLOR, 0, -1))
    with pytest.raises(InputError, match="--axes HWCT"):
        read_video(tmp_path / "turned.npy")
    check(tmp_path / "turned.npy", COLOR / 255, axes="HWCT")


def test_a_still_is_a_clip_of_one_frame(tmp_path):
    Image.fromarray(CLIP[0]).save(tmp_path / "still.png")
    check(tmp_path / "still.png", CLIP[:1] / 255)
    Image.fromarray(COLOR[0]).save(tmp_path / "color.png")
    check(tmp_path / "color.png", COLOR[:1] / 255)


@pytest.mark.parametrize("fps", [1e20, 1e-300, float("nan"), -1.0])
def test_a_rate_that_cannot_be_used_is_replaced(tmp_path, fps):
    np.savez(tmp_path / "clip.npz", frames=CLIP, fps=fps)
    check(tmp_path / "clip.npz", says="30 frames per second")
    check(tmp_path / "clip.npz", fps=50, rate=50)


# ------------------------------------------------------------------------------------------------ TIFF


@pytest.mark.parametrize("compression", ["lzw", "zstd", "deflate", "packbits", "lzma"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_compressions(tmp_path, compression, dtype):
    values = CLIP.astype(dtype) * (257 if dtype == np.uint16 else 1)
    tifffile.imwrite(tmp_path / "clip.tif", values, compression=compression, photometric="minisblack")
    check(tmp_path / "clip.tif")


def test_tiff_of_jpeg(tmp_path):
    values = smooth_clip()
    tifffile.imwrite(tmp_path / "clip.tif", values, compression="jpeg", photometric="minisblack")
    check(tmp_path / "clip.tif", values / 255, tolerance=0.02)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_tiff_where_white_is_zero(tmp_path, byteorder, bigtiff):
    for dtype, white in ((np.uint8, 255), (np.uint16, 65535)):
        values = (white - CLIP.astype(dtype) * (white // 255)).astype(dtype)
        path = tmp_path / "clip.tif"
        tifffile.imwrite(path, values, photometric="miniswhite", byteorder=byteorder, bigtiff=bigtiff)
        check(path)


def test_tiff_colour_map(tmp_path):
    table = np.random.default_rng(2).integers(0, 65536, (3, 256)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "clip.tif", CLIP, photometric="palette", colormap=table)
    check(tmp_path / "clip.tif", np.moveaxis(table[:, CLIP], 0, -1) / 65535)
    ramp = np.tile(np.arange(256, dtype=np.uint16) * 257, (3, 1))
    tifffile.imwrite(tmp_path / "grey.tif", CLIP, photometric="palette", colormap=ramp)
    check(tmp_path / "grey.tif")


def test_tiff_of_imagej_has_range_and_interval(tmp_path):
    values = CLIP.astype(np.uint16) * 16
    about = {"axes": "TYX", "min": 0.0, "max": 4080.0, "finterval": 0.02}
    tifffile.imwrite(tmp_path / "clip.tif", values, imagej=True, metadata=about)
    check(tmp_path / "clip.tif", fps=50, says="0 to 4080")


@pytest.mark.parametrize("axes", ["TYX", "ZYX", "TZCYX"])
def test_tiff_of_ome(tmp_path, axes):
    values = (CLIP.astype(np.uint16) * 16).reshape((6, *(1,) * (len(axes) - 3), 20, 28))
    about = {"axes": axes, "TimeIncrement": 20.0, "TimeIncrementUnit": "ms", "SignificantBits": 12}
    tifffile.imwrite(tmp_path / "clip.ome.tif", values, metadata=about)
    check(tmp_path / "clip.ome.tif", CLIP * np.float64(16) / 4095, fps=50)


@pytest.mark.parametrize(
    ("steps", "says"),
    [([20] * 5, None), ([20, 20, 10, 30, 20], "varies from 10 to 30 ms"), ([20, 20, -60, 20, 0], None)],
)
def test_tiff_of_ome_with_a_time_for_each_plane(tmp_path, steps, says):
    times = [float(time) for time in 1000 + np.cumsum([0, *steps])]
    about = {"axes": "TYX", "Plane": {"DeltaT": times, "DeltaTUnit": ["ms"] * 6}}
    tifffile.imwrite(tmp_path / "clip.ome.tif", CLIP, metadata=about)
    check(tmp_path / "clip.ome.tif", fps=50 if sum(steps) > 0 else 30, says=says)


def test_tiff_planes_and_opacity(tmp_path):
    tifffile.imwrite(tmp_path / "p.tif", np.moveaxis(COLOR, -1, 1), photometric="rgb", planarconfig="separate")
    check(tmp_path / "p.tif", COLOR / 255)
    opaque = np.concatenate([COLOR, np.full_like(COLOR[..., :1], 255)], axis=-1)
    tifffile.imwrite(tmp_path / "a.tif", opaque, photometric="rgb", extrasamples=["unassalpha"])
    check(tmp_path / "a.tif", COLOR / 255)


def test_tiff_whose_pages_form_a_loop_is_refused(tmp_path):
    path = tmp_path / "clip.tif"
    tifffile.imwrite(path, CLIP, photometric="minisblack", metadata=None)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        first, last = tiff.pages[0].offset, tiff.pages[-1].offset
    end = last + 2 + 12 * struct.unpack_from("<H", data, last)[0]
    struct.pack_into("<L", data, end, first)
    path.write_bytes(data)
    with pytest.raises(InputError, match="follows itself"):
        read_video(path)


# ----------------------------------------------------------------------------------------------- DICOM


def rewritten(path, syntax, data=None, **tags):
    """The file with other tags or pixel data."""
    dataset = pydicom.dcmread(path)
    for name, value in tags.items():
        setattr(dataset, name, value)
    if data is not None:
        dataset.PixelData = data
        dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path)
    return path


@pytest.mark.parametrize(
    ("dtype", "factor", "tags"),
    [
        (np.uint16, 1, {"WindowCenter": 128, "WindowWidth": 256}),
        (np.int16, 1, {"WindowCenter": 128, "WindowWidth": 256}),
        (np.uint8, 1, {"RescaleSlope": 257, "RescaleIntercept": 0, "WindowCenter": 32768, "WindowWidth": 65536}),
        (np.uint8, 1, {"RescaleSlope": 257, "RescaleIntercept": 0}),
        (np.int16, 16, {"RescaleSlope": 0.5, "RescaleIntercept": -10, "WindowCenter": 1010.5, "WindowWidth": 2041}),
        (np.uint16, 1, {"WindowCenter": 127.5, "WindowWidth": 255, "VOILUTFunction": "LINEAR_EXACT"}),
        (np.uint16, 1, {"WindowCenter": [128, 20], "WindowWidth": [256, 10]}),
    ],
)
def test_dicom_rescale_then_window(tmp_path, dtype, factor, tags):
    if factor == 16:  # rescaled to -10 .. 2030; the window spans 2040 from 1010 - 1020
        tags = {**tags, "WindowCenter": 1010.5, "WindowWidth": 2041}
    check(write_dicom(tmp_path / "clip.dcm", CLIP.astype(dtype) * factor, **tags))


def test_dicom_with_the_start_of_a_tiff_in_its_preamble():
    frames = read_video(Path(str(pydicom.data.get_testdata_file("examples_rgb_color.dcm")))).frames
    assert frames.shape == (1, 240, 320)


def test_dicom_signed_values_that_are_never_negative(tmp_path):
    check(write_dicom(tmp_path / "clip.dcm", CLIP.astype(np.int16)), says="255 is taken for white")
    values = CLIP.astype(np.int16) - 128
    check(write_dicom(tmp_path / "low.dcm", values), says="black is -128")


def test_dicom_sixteen_bits_that_are_not_filled_are_said(tmp_path):
    check(write_dicom(tmp_path / "c.dcm", CLIP.astype(np.uint16)), CLIP / 65535, says="--white 255")


@pytest.mark.parametrize(("dtype", "factor", "bits"), [("<u2", 1, 16), ("<u2", 257, 16), ("<u1", 1, 8), ("<u1", 1, 16)])
def test_dicom_palettes(tmp_path, dtype, factor, bits):
    tables = {}
    for name in ("Red", "Green", "Blue"):
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        tables[f"{name}PaletteColorLookupTableData"] = (np.arange(256) * factor).astype(dtype).tobytes()
    check(write_dicom(tmp_path / "clip.dcm", CLIP, "PALETTE COLOR", **tables))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("at", [0, 1])
def test_a_matlab_file_with_numbers_of_an_unknown_type_is_refused(tmp_path, compressed, at):
    """SciPy ends the process on one. The first number is the type, the second one the array's flags."""
    path = tmp_path / "clip.mat"
    scipy.io.savemat(path, {"clip": CLIP.transpose(1, 2, 0)})
    data = bytearray(path.read_bytes())
    numbers = data.index(struct.pack("<2I", 2, CLIP.size))  # unsigned bytes
    place, value = ((numbers, 1026), (128 + 16, 9 | 0x800))[at]
    assert struct.unpack_from("<I", data, place)[0] == (2, 9)[at]
    struct.pack_into("<I", data, place, value)
    element = bytes(data[128:])
    if compressed:
        code = zlib.compress(element)
        element = struct.pack("<2I", 15, len(code)) + code
    path.write_bytes(bytes(data[:128]) + element)
    with pytest.raises(InputError, match="complex numbers, or is damaged"):
        read_video(path)


def test_dicom_follows_the_frame_increment_pointer(tmp_path):
    tags = {"FrameIncrementPointer": 0x00181065, "FrameTimeVector": [0, 20, 20, 20, 20, 20], "FrameTime": 1}
    check(write_dicom(tmp_path / "clip.dcm", CLIP, **tags), fps=50)


@pytest.mark.parametrize("syntax", ["RLELossless", "JPEGLSLossless", "JPEG2000Lossless"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_dicom_lossless_codecs(tmp_path, syntax, dtype):
    values = smooth_clip(4, 64, 96)
    path = write_dicom(tmp_path / "clip.dcm", values.astype(dtype) * (257 if dtype == np.uint16 else 1))
    dataset = pydicom.dcmread(path)
    dataset.compress(getattr(uid, syntax))
    dataset.save_as(path)
    check(path, values / 255)


def test_dicom_jpeg_lossless(tmp_path):
    path = write_dicom(tmp_path / "clip.dcm", CLIP)
    data = encapsulate([bytes(imagecodecs.ljpeg_encode(frame)) for frame in CLIP])
    check(rewritten(path, uid.JPEGLosslessSV1, data))
    deep = CLIP.astype(np.uint16) * 257
    path = write_dicom(tmp_path / "deep.dcm", deep)
    data = encapsulate([bytes(imagecodecs.ljpeg_encode(frame, bitspersample=16)) for frame in deep])
    check(rewritten(path, uid.JPEGLossless, data))


def lossless_jpeg(frame: np.ndarray, *, named: bool) -> bytes:
    """The three values of each pixel as they are; unless `named`, the components have numbers, not R, G and B."""
    same = {"lossless": True, "predictor": 1, "colorspace": "RGB", "outcolorspace": "RGB"}
    code = bytearray(imagecodecs.jpeg8_encode(frame, **same))
    if not named:
        start, scan = code.index(b"\xff\xc3"), code.index(b"\xff\xda")
        for number in range(3):
            code[start + 10 + 3 * number] = code[scan + 5 + 2 * number] = number + 1
        assert code[2:4] == b"\xff\xee"  # Adobe's marker says RGB, too
        del code[2 : 4 + int.from_bytes(code[4:6], "big")]
    return bytes(code)


def test_dicom_jpeg_lossless_in_colour(tmp_path):
    """Neither RGB nor YBR is converted by the decoder; pydicom converts YBR."""
    tinted = np.rint(smooth_clip(4, 64, 96)[..., None] * np.array([1, 0.8, 0.5])).astype(np.uint8)
    path = write_dicom(tmp_path / "clip.dcm", tinted, "RGB")
    expected = read_video(path).color
    assert expected is not None
    data = encapsulate([lossless_jpeg(frame, named=True) for frame in tinted])
    found = read_video(rewritten(path, uid.JPEGLosslessSV1, data)).color
    assert found is not None
    np.testing.assert_array_equal(found, expected)
    turned = convert_color_space(tinted, "RGB", "YBR_FULL")
    data = encapsulate([lossless_jpeg(frame, named=False) for frame in turned])
    found = read_video(rewritten(path, uid.JPEGLosslessSV1, data, PhotometricInterpretation="YBR_FULL")).color
    assert found is not None
    np.testing.assert_allclose(found, expected, atol=3)


def test_dicom_jpeg_of_12_bits(tmp_path):
    values = smooth_clip(4, 64, 96).astype(np.uint16) * 16
    path = write_dicom(tmp_path / "clip.dcm", values, BitsStored=12, HighBit=11)
    data = encapsulate([bytes(imagecodecs.jpeg8_encode(frame, level=98, bitspersample=12)) for frame in values])
    clip = read_video(rewritten(path, uid.JPEGExtended12Bit, data))
    np.testing.assert_allclose(clip.frames, values / 4095, atol=0.01)


@pytest.mark.parametrize(
    ("syntax", "encode", "damage"),
    [
        ("JPEGLosslessSV1", imagecodecs.ljpeg_encode, lambda code: (code.index(b"\xff\xc4"), 0xFD)),
        ("JPEGLSLossless", imagecodecs.jpegls_encode, lambda code: (code.index(b"\xff\xf7") + 4, 40)),
        ("JPEG2000Lossless", lambda frame: imagecodecs.jpeg2k_encode(frame, codecformat="j2k"), lambda _: (42, 37)),
    ],
)
def test_a_damaged_code_does_not_end_the_process(tmp_path, syntax, encode, damage):
    """Each of these made GDCM, pydicom's first choice, call `terminate`."""
    path = write_dicom(tmp_path / "clip.dcm", CLIP)
    codes = [bytearray(encode(frame)) for frame in CLIP]
    for code in codes:
        place, value = damage(code)
        code[place] = value
    with pytest.raises(InputError, match="damaged"):
        read_video(rewritten(path, getattr(uid, syntax), encapsulate([bytes(code) for code in codes])))


def test_dicom_high_throughput_jpeg_2000(tmp_path):
    path = write_dicom(tmp_path / "clip.dcm", CLIP)
    data = encapsulate([bytes(imagecodecs.htj2k_encode(frame, reversible=True)) for frame in CLIP])
    check(rewritten(path, uid.HTJ2KLossless, data))


@pytest.mark.parametrize(
    ("codec", "name", "syntax"),
    [("libx264", "h264", "1.2.840.10008.1.2.4.102"), ("mpeg2video", "mpeg2video", "1.2.840.10008.1.2.4.100")],
)
def test_dicom_video(tmp_path, codec, name, syntax):
    values, data = smooth_clip(), io.BytesIO()
    with av.open(data, "w", format=name) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt, stream.bit_rate = 48, 64, "yuv420p", 8_000_000
        for frame in values:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode(None))
    path = write_dicom(tmp_path / "clip.dcm", values, FrameTime="20")
    rewritten(path, syntax, encapsulate([data.getvalue()]))
    check(path, values / 255, tolerance=0.03, fps=50)


def test_dicom_tags_that_lie_about_colour(tmp_path):
    grey = smooth_clip()
    luma = np.stack([grey, np.full_like(grey, 128), np.full_like(grey, 128)], axis=-1)
    for number, (pixels, stated) in enumerate(
        [(luma, "YBR_FULL_422"), (luma, "RGB"), (np.stack([grey] * 3, axis=-1), "YBR_FULL")]
    ):
        path = write_dicom(tmp_path / f"{number}.dcm", pixels, stated)
        check(path, grey / 255, tolerance=1.1 / 255, says=f"The tag says {stated}")


def test_dicom_number_of_frames(tmp_path):
    path = write_dicom(tmp_path / "clip.dcm", CLIP)
    dataset = pydicom.dcmread(path)
    del dataset.NumberOfFrames
    dataset.save_as(tmp_path / "none.dcm")
    check(tmp_path / "none.dcm")
    check(write_dicom(tmp_path / "few.dcm", CLIP, NumberOfFrames=4), says="says 4, but 6")
    with pytest.raises(InputError, match="6 of 8"):
        read_video(write_dicom(tmp_path / "many.dcm", CLIP, NumberOfFrames=8))
    dataset = pydicom.dcmread(path)
    dataset.compress(uid.RLELossless)
    del dataset.NumberOfFrames
    dataset.save_as(tmp_path / "packed.dcm")
    check(tmp_path / "packed.dcm")


@pytest.mark.parametrize("name", ["clip", "clip.dcm"])
def test_dicom_without_preamble(tmp_path, name):
    whole = write_dicom(tmp_path / "whole", CLIP)
    (tmp_path / name).write_bytes(whole.read_bytes()[132:])
    check(tmp_path / name)
    bare = pydicom.Dataset()
    bare.update(dict(pydicom.dcmread(whole).items()))
    bare.save_as(tmp_path / f"implicit-{name}", implicit_vr=True, little_endian=True, enforce_file_format=False)
    check(tmp_path / f"implicit-{name}")


def test_dicom_deflated(tmp_path):
    check(rewritten(write_dicom(tmp_path / "clip.dcm", CLIP), uid.DeflatedExplicitVRLittleEndian))


def test_dicom_directory_says_what_it_is(tmp_path):
    tags = {"PatientID": "A", "PatientName": "A", "StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.3"}
    tags |= {"Modality": "US", "StudyDate": "20200101", "StudyTime": "1200", "StudyID": "1"}
    index = FileSet()
    index.add(write_dicom(tmp_path / "clip.dcm", CLIP, SeriesNumber=1, InstanceNumber=1, **tags))
    index.write(tmp_path / "disk")
    with warnings.catch_warnings(action="ignore"):  # pydicom leaves its own temporary folder to the collector
        del index
        gc.collect()
    with pytest.raises(InputError, match="index of 1 files"):
        read_video(tmp_path / "disk" / "DICOMDIR")


# ------------------------------------------------------------------------------------- arrays and volumes


@pytest.mark.parametrize("name", ["p_2CH_sequence.nii", "p.nii.gz", "p.mhd", "p.mha", "p.nrrd"])
def test_what_simpleitk_writes(tmp_path, name):
    for packed in (False, True):
        sitk.WriteImage(sitk.GetImageFromArray(CLIP), str(tmp_path / name), packed)
        assert check(tmp_path / name).name == name.split(".")[0]


def test_nifti_of_nibabel(tmp_path):
    frames_last = CLIP.transpose(2, 1, 0)
    image = nibabel.Nifti1Image(frames_last[:, :, None], np.eye(4))
    image.header.set_xyzt_units("mm", "msec")
    image.header["pixdim"][4] = 20
    nibabel.save(image, tmp_path / "clip.nii.gz")
    check(tmp_path / "clip.nii.gz", fps=50)
    nibabel.save(nibabel.Nifti1Pair(frames_last, np.eye(4)), tmp_path / "pair.img")
    check(tmp_path / "pair.hdr")
    big = nibabel.Nifti1Image(frames_last.astype(">u2") * 257, np.eye(4), header=nibabel.Nifti1Header(endianness=">"))
    big.set_data_dtype(np.uint16)
    nibabel.save(big, tmp_path / "big.nii")
    check(tmp_path / "big.nii")
    scaled = nibabel.Nifti1Image(frames_last.astype(np.float32), np.eye(4))
    scaled.set_data_dtype(np.int16)  # with a slope
    nibabel.save(scaled, tmp_path / "scaled.nii")
    check(tmp_path / "scaled.nii", tolerance=1e-4)


def test_nrrd_of_pynrrd(tmp_path):
    nrrd.write(str(tmp_path / "clip.nrrd"), CLIP.transpose(2, 1, 0))
    check(tmp_path / "clip.nrrd")
    for encoding in ("raw", "gzip"):
        path = tmp_path / f"{encoding}.nhdr"
        nrrd.write(str(path), CLIP.transpose(2, 1, 0), detached_header=True, header={"encoding": encoding})
        check(path)
    kinds = {"kinds": ["RGB-color", "domain", "domain", "domain"]}
    nrrd.write(str(tmp_path / "color.nrrd"), COLOR.transpose(3, 2, 1, 0), header=kinds)
    check(tmp_path / "color.nrrd", COLOR / 255)


def test_metaimage_in_colour(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(COLOR, isVector=True), str(tmp_path / "clip.mha"))
    check(tmp_path / "clip.mha", COLOR / 255)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b"NDims = 3", b"NDims = -1", "dimensions"),
        (b"NDims = 3", b"NDims = 1000000000", "dimensions"),
        (b"DimSize = 28 20 6", b"DimSize = 28 20 600", "cut short"),
        (b"DimSize = 28 20 6", b"DimSize = 99999999 99999 9999", "limit"),
        (b"ElementType", b"ElementNumberOfChannels = 2147483647\nElementType", "header"),
        (b"ElementDataFile = LOCAL", b"ElementDataFile = ../x.raw", "outside"),
    ],
)
def test_metaimage_headers_are_checked_first(tmp_path, old, new, says):
    path = tmp_path / "clip.mha"
    sitk.WriteImage(sitk.GetImageFromArray(CLIP), str(path))
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(InputError, match=says):
        read_video(path)


def test_damaged_zlib_data_are_refused(tmp_path):
    path = tmp_path / "clip.mha"
    sitk.WriteImage(sitk.GetImageFromArray(CLIP), str(path), True)
    data = bytearray(path.read_bytes())
    data[-400:-380] = bytes(20)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"damaged|cannot be read"):
        read_video(path)


def test_matlab(tmp_path):
    turned = np.moveaxis(CLIP, 0, -1)
    scipy.io.savemat(tmp_path / "old.mat", {"cine": turned, "fps": 50.0}, do_compression=True)
    check(tmp_path / "old.mat", fps=50)
    with h5py.File(tmp_path / "new.mat", "w", userblock_size=512) as file:
        file["cine"] = turned.T  # as MATLAB does
    data = (tmp_path / "new.mat").read_bytes()
    (tmp_path / "new.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + data[512:])
    check(tmp_path / "new.mat")
    scipy.io.savemat(tmp_path / "color.mat", {"cine": np.moveaxis(COLOR, 0, -1)})
    check(tmp_path / "color.mat", COLOR / 255)


def test_hdf5_of_others(tmp_path):
    with h5py.File(tmp_path / "clip.h5", "w") as file:
        file.create_dataset("study/view/cine", data=CLIP, chunks=(6, 20, 28), compression="gzip")
        file["study/label"] = "text"
        file.attrs["frame_rate"] = 50.0
    check(tmp_path / "clip.h5", fps=50)
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["a/one"], file["a/two"] = CLIP, 255 - CLIP
    with pytest.raises(InputError, match="a/one, a/two: name the clip with --dataset"):
        read_video(tmp_path / "two.h5")
    check(tmp_path / "two.h5", 1 - CLIP / 255, dataset="a/two")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("data/image/timestamps", 3 + np.arange(6, dtype=np.float32) / 50),
        ("scan/time_to_next_transmit", np.full((6, 40), 0.0005)),
    ],
)
def test_hdf5_of_zea_with_times(tmp_path, name, values):
    with h5py.File(tmp_path / "clip.hdf5", "w") as file:
        file["data/image/values"] = CLIP
        file[name] = values
    check(tmp_path / "clip.hdf5", fps=50)
    with h5py.File(tmp_path / "other.hdf5", "w") as file:  # without a time for each frame
        file["data/image/values"] = CLIP
        file[name] = values[:3].ravel() if values.ndim == 1 else values.ravel()
    check(tmp_path / "other.hdf5", fps=30)
    with h5py.File(tmp_path / "foreign.hdf5", "w") as file:  # times of another program are in units of its own
        file["frames"], file["timestamps"] = CLIP, 20.0 * np.arange(6)
    check(tmp_path / "foreign.hdf5", fps=30)


def test_hdf5_stays_in_its_file(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["input"] = CLIP
    CLIP.tofile(tmp_path / "raw")
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["input"] = h5py.ExternalLink("other.h5", "input")
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file.create_dataset("input", CLIP.shape, "u1", external=[(str(tmp_path / "raw"), 0, CLIP.size)])
    layout = h5py.VirtualLayout(CLIP.shape, "u1")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "input", CLIP.shape)
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("input", layout)
    for name in ("link", "raw", "virtual"):
        with pytest.raises(InputError, match="one file"):
            read_video(tmp_path / f"{name}.h5")


@pytest.mark.parametrize("version", [2, 3])
def test_zarr(tmp_path, version):
    array = zarr.create_array(str(tmp_path / "a.zarr"), data=CLIP, chunks=(2, 20, 28), zarr_format=version)
    array.attrs["fps"] = 50
    check(tmp_path / "a.zarr", fps=50)
    group = zarr.open_group(str(tmp_path / "g.zarr"), mode="w", zarr_format=version)
    group.create_array("frames", data=CLIP)
    check(tmp_path / "g.zarr")


# --------------------------------------------------------------------------------------------- movies


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("clip.wmv", "wmv2"),
        ("clip.mpg", "mpeg2video"),
        ("clip.ts", "mpeg2video"),
        ("clip.flv", "flv1"),
        ("clip.3gp", "mpeg4"),
        ("clip.webm", "libvpx"),
    ],
)
def test_containers(tmp_path, name, codec):
    values = smooth_clip(8, 96, 128)
    check(movie(tmp_path / name, values, codec, "yuv420p"), values / 255, tolerance=0.08, fps=25)


@pytest.mark.parametrize("shape", [(1, 20, 28), (20, 28)])
def test_an_archive_of_a_single_image(tmp_path, shape):
    np.savez(tmp_path / "one.npz", frames=CLIP[0].reshape(shape), fps=30.0)
    check(tmp_path / "one.npz", CLIP[:1] / 255)


def test_a_movie_of_any_name(tmp_path):
    values = smooth_clip()
    path = movie(tmp_path / "w.mkv", values)
    for name in ("movie", "movie.bin", "12:30.mp4", "$^$.avi"):
        path = path.rename(tmp_path / name)
        check(path, values / 255, fps=25)


def test_grey_motion_jpeg_is_its_luma(tmp_path):
    """EchoNet's kind, against Pillow's decoder."""
    values = smooth_clip()
    path = movie(tmp_path / "clip.avi", values, "mjpeg", "yuvj420p")
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    expected = np.stack([np.asarray(Image.open(io.BytesIO(data)).convert("YCbCr"))[..., 0] for data in packets])
    check(path, expected / 255, tolerance=2.01 / 255, fps=25)
    assert abs(read_video(path).frames.mean() - expected.mean() / 255) < 0.2 / 255


@pytest.mark.parametrize("pixels", ["gray16le", "gray10le", "gray12le"])
def test_deep_grey_movies(tmp_path, pixels):
    values = smooth_clip()
    bits = int("".join(filter(str.isdigit, pixels)))
    check(
        movie(tmp_path / "c.mkv", values.astype(np.uint16) * 257, "ffv1", pixels, "gray16le"),
        values / 255,
        tolerance=1.01 / 2**bits,
        fps=25,
    )


def test_full_range_and_colour_movies(tmp_path):
    check(movie(tmp_path / "rgb.mkv", COLOR, "ffv1", "bgr0", "rgb24"), COLOR / 255, fps=25)


@pytest.mark.parametrize(("matrix", "turns"), [((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)])
def test_a_turned_movie_is_upright(tmp_path, matrix, turns):
    """The display matrix of the track, written by hand; clockwise is negative."""
    values = smooth_clip()
    data = bytearray(movie(tmp_path / "w.mp4", values, "mpeg4", "yuv420p").read_bytes())
    at = data.index(b"tkhd") + 44
    a, b, c, d = (65536 * part for part in matrix)
    struct.pack_into(">9i", data, at, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / "clip.mp4").write_bytes(data)
    plain = read_video(tmp_path / "w.mp4").frames
    check(tmp_path / "clip.mp4", np.rot90(plain, turns, axes=(1, 2)), fps=25, says="upright")


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("clip.mp4", "libx264", {"x264-params": "interlaced=1:tff=1", "crf": "1"}),
        ("clip.mpg", "mpeg2video", {"flags": "+ildct+ilme"}),
    ],
)
def test_interlaced_movies_are_not_combed(tmp_path, name, codec, options):
    fields = np.full((8, 2, 32, 96), 30, np.uint8)  # a bar that moves from field to field
    for moment, field in enumerate(fields.reshape(16, 32, 96)):
        field[:, 8 + 4 * moment :][:, :16] = 220
    combed = fields.swapaxes(1, 2).reshape(8, 64, 96)
    with av.open(tmp_path / name, "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt, stream.bit_rate = 64, 96, "yuv420p", 8_000_000
        for frame in combed:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode(None))
    clip = read_video(tmp_path / name)
    assert any("interlaced" in note for note in clip.notes)
    moments = fields.repeat(2, axis=2)[:, :, 4:-4] / 255
    off = np.abs(clip.frames[:, None, 4:-4] - moments).max(axis=(0, 2, 3))
    assert min(off) < 0.06  # of one field, whichever the encoder says is first


def test_pixels_become_square(tmp_path):
    clip = read_video(movie(tmp_path / "clip.mp4", smooth_clip(), "mpeg4", "yuv420p", aspect=2))
    assert clip.shape == (6, 48, 128)
    np.testing.assert_allclose(clip.frames.reshape(6, 48, 64, 2).mean(-1), smooth_clip() / 255, atol=0.05)
    assert "not square" in clip.notes[0]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), [("avi", {}), ("mkv", {}), ("mp4", {"movflags": "faststart"})])
def test_a_movie_that_is_cut_off_says_so(tmp_path, name, options):
    values = np.tile(smooth_clip(), (10, 1, 1))
    whole = movie(tmp_path / f"whole.{name}", values, "mpeg4", "yuv420p", options=options)
    (tmp_path / f"cut.{name}").write_bytes(whole.read_bytes()[: int(0.6 * whole.stat().st_size)])
    clip = read_video(tmp_path / f"cut.{name}")
    assert 20 < len(clip) < 50
    assert "cut short" in clip.notes[0]
    np.testing.assert_array_equal(clip.frames, read_video(whole).frames[: len(clip)])
    assert read_video(whole).notes == ()


@pytest.mark.parametrize("text", ["ffconcat version 1.0\nfile w.mp4\n", "#EXTM3U\n#EXTINF:1,\nw.mp4\n"])
def test_lists_of_movies_are_not_followed(tmp_path, text):
    movie(tmp_path / "w.mp4", smooth_clip(), "mpeg4", "yuv420p")
    (tmp_path / "list.mp4").write_text(text)
    with pytest.raises(InputError, match="cannot be read"):
        read_video(tmp_path / "list.mp4")


# -------------------------------------------------------------------------------------------- folders


def test_only_the_numbered_series_are_frames(tmp_path):
    for number, frame in enumerate(CLIP, start=8):
        Image.fromarray(frame).save(tmp_path / f"frame{number}.png")
    Image.fromarray(CLIP[0]).save(tmp_path / "mask.png")
    Image.fromarray(CLIP[0, :18]).save(tmp_path / "cover.png")
    check(tmp_path)


def test_the_same_frames_twice_are_refused(tmp_path):
    for number, frame in enumerate(CLIP):
        Image.fromarray(frame).save(tmp_path / f"f{number}.png")
        Image.fromarray(frame).save(tmp_path / f"f{number}.jpg")
    with pytest.raises(InputError, match="twice"):
        read_video(tmp_path)
    check(tmp_path / "f*.png")


def test_single_frame_metaimages_of_two_patients(tmp_path):
    for patient in (8, 9):
        for number, frame in enumerate(CLIP, start=7):
            image = sitk.GetImageFromArray(frame if patient == 8 else 255 - frame)
            sitk.WriteImage(image, str(tmp_path / f"patient-{patient}-4C-frame-{number}.mha"))
    clips = find_clips(tmp_path)
    assert [clip.name for clip in clips] == [f"patient-{patient}-4C-frame-*.mha" for patient in (8, 9)]
    check(clips[0])
    clip = check(clips[1], 1 - CLIP / 255)
    assert [path.name for path in clip.files or ()] == [f"patient-9-4C-frame-{number}.mha" for number in range(7, 13)]


@pytest.mark.parametrize("suffix", ["", ".dcm"])
def test_single_frame_dicom_is_grouped_by_series_and_sorted_by_number(tmp_path, suffix):
    for series, values in (("1.2.3", CLIP), ("1.2.4", 255 - CLIP)):
        for number, frame in enumerate(values):
            name = f"{series}-{90 - number}{suffix}"
            tags = {"SeriesInstanceUID": series, "InstanceNumber": number + 1, "PatientID": "A"}
            write_dicom(tmp_path / name, frame[None], **tags)
    first, second = sorted(find_clips(tmp_path), key=lambda clip: clip.name)
    check(first)
    check(second, 1 - CLIP / 255)


def test_a_folder_of_clips_is_expanded(tmp_path):
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a" / "one.npy", CLIP)
    np.save(tmp_path / "a" / "two.npy", CLIP)
    (tmp_path / "a" / "README.txt").write_text("words")
    for number, frame in enumerate(CLIP):
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
    assert [source.name for source in expand([tmp_path / "a"])] == ["one.npy", "two.npy"]
    (typed,) = expand(sorted(tmp_path.glob("*.png")))  # dehaze *.png
    check(typed)


def test_a_link_keeps_the_name_that_was_typed(tmp_path):
    np.save(tmp_path / "0af3.npy", CLIP)
    (tmp_path / "patient-a.npy").symlink_to(tmp_path / "0af3.npy")
    assert check(tmp_path / "patient-a.npy").name == "patient-a"


# ------------------------------------------------------------------------------------- sizes and names


def test_declared_sizes_are_checked_before_anything_is_allocated(tmp_path):
    header = np.lib.format.magic(1, 0)
    text = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000000, 1000)}".ljust(117) + b"\n"
    (tmp_path / "clip.npy").write_bytes(header + struct.pack("<H", len(text)) + text + bytes(100))
    with h5py.File(tmp_path / "clip.h5", "w") as file:
        file.create_dataset("input", (300, 4096, 4096), "f4", chunks=(1, 64, 64))
    for name in ("clip.npy", "clip.h5"):
        with pytest.raises(InputError):
            read_video(tmp_path / name)
    np.save(tmp_path / "small.npy", CLIP)
    with pytest.raises(InputError, match="limit"):
        read_video(tmp_path / "small.npy", Reading(max_bytes=1000))


@pytest.mark.parametrize("name", ["clip\udcff.npy", "clip\udcff.mha", "clip\udcff.mkv", "clip\udcff.tif"])
def test_names_that_are_not_text(tmp_path, name):
    source = Path(f"{tmp_path}/x{Path(name).suffix}")
    match source.suffix:
        case ".npy":
            np.save(source, CLIP)
        case ".mha":
            sitk.WriteImage(sitk.GetImageFromArray(CLIP), str(source))
        case ".tif":
            tifffile.imwrite(source, CLIP, photometric="minisblack")
        case _:
            movie(source, CLIP)
    check(source.rename(Path(f"{tmp_path}/{name}")), fps=25 if name.endswith("mkv") else 30)


def test_loops_of_links_and_pipes_are_refused(tmp_path):
    import os

    (tmp_path / "a.npy").symlink_to(tmp_path / "a.npy")
    os.mkfifo(tmp_path / "b.npy")
    for name, says in (("a.npy", "links"), ("b.npy", "neither")):
        with pytest.raises(InputError, match=says):
            read_video(tmp_path / name)
