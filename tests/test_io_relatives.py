"""More files of other libraries, relatives of those in `test_io_formats`: read as they were meant, or refused truly."""

import gzip
import json
import pickle
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import av
import h5py
import nibabel
import nrrd
import numpy as np
import pydicom
import pytest
import scipy.io
import SimpleITK as sitk
import tifffile
import zarr
from PIL import Image, ImageSequence
from pydicom import uid
from pydicom.dataset import Dataset

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import Reading, read_video
from nuclear_diffusion.io.find import find_clips
from nuclear_diffusion.io.formats import open_stored
from test_io_formats import CLIP, COLOR, check, movie
from test_io_read import smooth_clip, write_dicom

# ----------------------------------------------------------------------------------------------- DICOM


def test_dicom_of_twelve_bits_inverted(tmp_path):
    values = 4095 - CLIP.astype(np.uint16) * 16
    check(write_dicom(tmp_path / "c.dcm", values, "MONOCHROME1", BitsStored=12, HighBit=11), CLIP / 255 * 4080 / 4095)


@pytest.mark.parametrize(
    ("values", "tags", "says"),
    [
        (CLIP.astype(np.int16) * 4, {"RescaleIntercept": -1024, "WindowCenter": -513.5, "WindowWidth": 1021}, None),
        (CLIP.astype(np.int16) - 128, {"RescaleIntercept": 128}, "black is -128"),
        ((CLIP.astype(np.int32) * 257 - 32768).astype(np.int16), {"RescaleIntercept": 32768}, None),
        (255 - CLIP, {"RescaleSlope": -1, "RescaleIntercept": 255}, None),
    ],
)
def test_dicom_with_an_intercept(tmp_path, values, tags, says):
    check(write_dicom(tmp_path / "c.dcm", values, **{"RescaleSlope": 1, **tags}), says=says)


@pytest.mark.parametrize("values", [CLIP, CLIP.astype(np.uint16) * 257, COLOR])
def test_dicom_big_endian(tmp_path, values):
    path = write_dicom(tmp_path / "c.dcm", values, "RGB" if values.ndim == 4 else "MONOCHROME2")
    dataset = pydicom.dcmread(path)
    if values.itemsize == 2:
        dataset.PixelData = values.astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRBigEndian
    pydicom.dcmwrite(path, dataset, little_endian=False, implicit_vr=False, force_encoding=True)
    check(path, (COLOR if values.ndim == 4 else CLIP) / 255)


@pytest.mark.parametrize(
    ("tags", "fps"),
    [
        ({"FrameTimeVector": [0, 20, 20, 20, 20, 20]}, 50),
        ({"CineRate": 44}, 44),
        ({"RecommendedDisplayFrameRate": 25}, 25),
        ({"FrameTime": "0", "CineRate": 44}, 44),
        ({"FrameIncrementPointer": 0x00181063, "CineRate": 44}, 44),
        ({"FrameIncrementPointer": 0x00181065, "FrameTimeVector": [20, 20, 20, 20, 20, 20]}, 50),
    ],
)
def test_dicom_rates(tmp_path, tags, fps):
    check(write_dicom(tmp_path / "c.dcm", CLIP, **tags), fps=fps)


def test_dicom_colour_by_planes(tmp_path):
    path = write_dicom(tmp_path / "c.dcm", COLOR, "RGB", PlanarConfiguration=1)
    dataset = pydicom.dcmread(path)
    dataset.PixelData = np.ascontiguousarray(np.moveaxis(COLOR, -1, 1)).tobytes()
    dataset["PixelData"].VR = "OB"
    dataset.save_as(path)
    check(path, COLOR / 255)


@pytest.mark.parametrize(("kind", "count"), [("ARGB", 4), ("RGB", 4), ("RGB", 2)])
def test_dicom_of_other_numbers_of_colours_is_refused_truly(tmp_path, kind, count):
    path = write_dicom(tmp_path / "c.dcm", COLOR, "RGB")
    dataset = pydicom.dcmread(path)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = count, kind
    dataset.PixelData = np.repeat(CLIP[..., None], count, axis=-1).tobytes()
    dataset.save_as(path)
    with pytest.raises(InputError, match=rf"{count} values for each pixel \({kind}\)"):
        read_video(path)


def test_dicom_ybr_full_native(tmp_path):
    smooth = np.stack([smooth_clip(), np.roll(smooth_clip(), 9, 1), np.roll(smooth_clip(), 9, 2)], -1)
    ybr = np.stack([np.asarray(Image.fromarray(frame).convert("YCbCr")) for frame in smooth])
    check(write_dicom(tmp_path / "c.dcm", ybr, "YBR_FULL"), smooth / 255, tolerance=3.01 / 255)


@pytest.mark.parametrize("syntax", ["RLELossless", "JPEG2000Lossless", "JPEGLSLossless"])
def test_dicom_lossless_colour(tmp_path, syntax):
    values = np.tile(COLOR, (1, 4, 4, 1))  # JPEG 2000's encoder wants 32 x 32
    dataset = pydicom.dcmread(write_dicom(tmp_path / "c.dcm", values, "RGB"))
    dataset.compress(getattr(uid, syntax))
    dataset.save_as(tmp_path / "c.dcm")
    check(tmp_path / "c.dcm", values / 255)


def test_dicom_bits_above_the_stored_ones_are_an_overlay(tmp_path):
    values = CLIP.astype(np.uint16) | np.uint16(0x8000)
    check(write_dicom(tmp_path / "c.dcm", values, BitsStored=8, HighBit=7))


def test_dicom_window_of_functional_groups(tmp_path):
    voi, group = pydicom.Dataset(), pydicom.Dataset()
    voi.WindowCenter, voi.WindowWidth = 128, 256
    group.FrameVOILUTSequence = [voi]
    check(write_dicom(tmp_path / "c.dcm", CLIP.astype(np.uint16), SharedFunctionalGroupsSequence=[group]))


def test_dicom_of_floats(tmp_path):
    path = write_dicom(tmp_path / "c.dcm", CLIP)
    dataset = pydicom.dcmread(path)
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
    dataset.BitsAllocated, dataset.FloatPixelData = 32, (CLIP / np.float32(255)).astype("<f4").tobytes()
    dataset.save_as(path)
    check(path)


# ------------------------------------------------------------------------------------------------ TIFF


@pytest.mark.parametrize("dtype", [">u2", ">f4", "<f2", "<f8", "<u4"])
def test_tiff_of_other_numbers(tmp_path, dtype):
    values = CLIP.astype(dtype) * 257 if dtype == ">u2" else (CLIP / 255).astype(dtype)
    if dtype == "<u4":
        values = CLIP.astype(dtype)
    tifffile.imwrite(tmp_path / "c.tif", values, byteorder=dtype[0], photometric="minisblack")  # pyright: ignore[reportArgumentType]
    check(tmp_path / "c.tif", tolerance=1e-3 if dtype == "<f2" else 1e-6)


@pytest.mark.parametrize(("axes", "shape"), [("ZCTYX", (6, 1, 1)), ("ZCTYX", (1, 1, 6)), ("CTZYX", (1, 6, 1))])
def test_tiff_of_ome_with_all_axes(tmp_path, axes, shape):
    tifffile.imwrite(tmp_path / "c.ome.tif", CLIP.reshape(*shape, 20, 28), metadata={"axes": axes})
    check(tmp_path / "c.ome.tif")


def test_tiff_of_ome_in_colour_and_in_volumes(tmp_path):
    tifffile.imwrite(tmp_path / "a.ome.tif", COLOR, metadata={"axes": "TYXS"}, photometric="rgb")
    check(tmp_path / "a.ome.tif", COLOR / 255)
    tifffile.imwrite(tmp_path / "b.ome.tif", np.moveaxis(COLOR, -1, 1), metadata={"axes": "TCYX"})
    check(tmp_path / "b.ome.tif", COLOR / 255)
    tifffile.imwrite(tmp_path / "c.ome.tif", CLIP.reshape(3, 2, 20, 28), metadata={"axes": "TZYX"})
    with pytest.raises(InputError, match="one axis of frames"):
        read_video(tmp_path / "c.ome.tif")


def test_tiff_in_tiles_with_a_predictor(tmp_path):
    tifffile.imwrite(
        tmp_path / "c.tif", CLIP, tile=(16, 16), predictor=True, compression="deflate", photometric="minisblack"
    )
    check(tmp_path / "c.tif")


# --------------------------------------------------------------------------------- arrays and volumes


@pytest.mark.parametrize("dtype", ["<f2", ">f8", ">u2", "<i8", "|u1"])
def test_numpy_of_other_orders(tmp_path, dtype):
    values = (CLIP / 255).astype(dtype) if "f" in dtype else CLIP.astype(dtype) * (257 if dtype == ">u2" else 1)
    np.save(tmp_path / "c.npy", np.asfortranarray(values))
    check(tmp_path / "c.npy", tolerance=1e-3 if dtype == "<f2" else 1e-6)


def test_npz_of_several_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", video=CLIP, mask=CLIP > 9, fps=np.array([50]))
    check(tmp_path / "a.npz", fps=50)
    np.savez(tmp_path / "b.npz", CLIP)
    check(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", CLIP, CLIP)
    with pytest.raises(InputError, match="arr_0, arr_1: name the clip with --dataset"):
        read_video(tmp_path / "c.npz")
    check(tmp_path / "c.npz", dataset="arr_1")
    np.savez(tmp_path / "d.npz", cine=CLIP, times=np.arange(6), label="text")
    check(tmp_path / "d.npz")


def test_matlab_of_several_variables(tmp_path):
    turned = np.moveaxis(CLIP, 0, -1)
    scipy.io.savemat(tmp_path / "a.mat", {"cine": turned, "mask": CLIP[0] > 9, "about": {"x": 1}, "frameRate": 50.0})
    check(tmp_path / "a.mat", fps=50)
    scipy.io.savemat(tmp_path / "b.mat", {"one": turned, "two": turned})
    with pytest.raises(InputError, match="one, two: name the clip with --dataset"):
        read_video(tmp_path / "b.mat")
    check(tmp_path / "b.mat", dataset="two")
    scipy.io.savemat(tmp_path / "c.mat", {"cine": turned / 255})
    check(tmp_path / "c.mat")


def test_matlab_73_of_several_variables(tmp_path):
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        file["cine"] = CLIP.swapaxes(1, 2)
        file["mask"] = CLIP[0].T > 9
        file["fps"] = np.array([[50.0]])
    data = (tmp_path / "a.mat").read_bytes()
    (tmp_path / "a.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + data[512:])
    check(tmp_path / "a.mat", fps=50)


def test_hdf5_of_several_datasets(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["frames"], file["mask"], file["ecg"] = CLIP, CLIP > 9, np.arange(600.0)
        file["fps"] = 50.0
    check(tmp_path / "a.h5", fps=50)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["cine"] = np.moveaxis(CLIP, 0, -1)
    with pytest.raises(InputError, match="--axes HWT"):
        read_video(tmp_path / "b.h5")
    check(tmp_path / "b.h5", axes="HWT")


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_groups(tmp_path, version):
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=version)
    group.create_array("study/cine", data=CLIP)
    group.create_array("study/ecg", data=np.arange(600.0))
    group.attrs["fps"] = 50
    check(tmp_path / "a.zarr", fps=50)
    ome = zarr.open_group(str(tmp_path / "o.zarr"), mode="w", zarr_format=version)
    ome.create_array("0", data=CLIP[:, None, None])
    ome.create_array("1", data=CLIP[:, None, None, ::2, ::2])
    levels = [{"axes": [{"name": name} for name in "tczyx"], "datasets": [{"path": "0"}, {"path": "1"}]}]
    ome.attrs["multiscales"] = levels
    check(tmp_path / "o.zarr")


def test_a_store_that_lacks_nearly_all_its_chunks_is_refused(tmp_path):
    array = zarr.create_array(str(tmp_path / "a.zarr"), shape=(4, 1_000_000, 32), chunks=(2, 32, 32), dtype="uint8")
    array[:, :32] = 7
    with pytest.raises(InputError, match="62,500 chunks and holds 2"):  # each would be looked for
        read_video(tmp_path / "a.zarr")
    bordered = zarr.create_array(str(tmp_path / "b.zarr"), shape=(4, 96, 96), chunks=(1, 32, 32), dtype="uint8")
    bordered[:, 32:64, 32:64] = 7  # chunks that are black are not stored
    assert read_video(tmp_path / "b.zarr").frames[:, 48, 48] == pytest.approx(7 / 255)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zarr_in_a_zip_file(tmp_path, version, packing):
    array = zarr.create_array(str(tmp_path / "a"), data=CLIP, chunks=(2, 20, 28), zarr_format=version)
    array.attrs["fps"] = 50
    with zipfile.ZipFile(tmp_path / "a.zarr.zip", "w", packing) as archive:
        for file in sorted((tmp_path / "a").rglob("*"), reverse=True):
            archive.write(file, file.relative_to(tmp_path / "a"))
    assert check(tmp_path / "a.zarr.zip", fps=50).name == "a"
    with pytest.raises(InputError, match="limit"):
        read_video(tmp_path / "a.zarr.zip", Reading(max_bytes=CLIP.nbytes))


@pytest.mark.parametrize("version", [2, 3])
def test_a_zarr_store_in_a_folder_of_a_zip_file(tmp_path, version):
    """One is found, also a group with arrays in it; of two, the user chooses."""
    group = zarr.open_group(str(tmp_path / "in" / "study" / "s.zarr"), mode="w", zarr_format=version)
    group.create_array("cine", data=CLIP)
    group.attrs["fps"] = 50
    shutil.make_archive(str(tmp_path / "one"), "zip", tmp_path / "in")
    assert check(tmp_path / "one.zip", fps=50).name == "one"
    zarr.create_array(str(tmp_path / "in" / "t.zarr"), data=CLIP, zarr_format=version)
    shutil.make_archive(str(tmp_path / "two"), "zip", tmp_path / "in")
    with pytest.raises(InputError, match=r"two\.zip holds 2 zarr stores: unpack it and name one of them"):
        read_video(tmp_path / "two.zip")


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("where", ["", "study/cine"])
def test_chunks_that_a_zarr_store_lacks_are_said(tmp_path, version, where):
    """In a folder and in a ZIP file; as values that are left out, or as files that are lost."""
    values = np.concatenate([CLIP, np.zeros_like(CLIP[:2])])
    if where:
        zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=version)
    how = {"data": values, "chunks": (1, 20, 28), "fill_value": 0, "zarr_format": version}
    array = zarr.create_array(str(tmp_path / "a.zarr"), name=where or None, **how)
    lacking, count = array.nchunks - array.nchunks_initialized, array.nchunks
    assert lacking > 0
    for lost in (0, 1):
        if lost:
            key = array.metadata.encode_chunk_key((0, 0, 0))
            (tmp_path / "a.zarr" / where / key).unlink()
        shutil.make_archive(str(tmp_path / "a.zarr"), "zip", tmp_path / "a.zarr")
        for name in ("a.zarr", "a.zarr.zip"):
            found = read_video(tmp_path / name)
            note = f"{lacking + lost} of its {count} chunks were never written or are lost; they are taken as 0."
            assert found.notes == (note,)
            assert not found.frames[-1].any()


def test_chunks_that_a_sharded_store_lacks_are_said(tmp_path):
    array = zarr.create_array(str(tmp_path / "a.zarr"), data=CLIP, chunks=(1, 20, 28), shards=(2, 20, 28))
    assert read_video(tmp_path / "a.zarr").notes == ()
    (tmp_path / "a.zarr" / array.metadata.encode_chunk_key((0, 0, 0))).unlink()
    assert f"1 of its {array.nchunks // 2} chunks" in read_video(tmp_path / "a.zarr").notes[0]


def test_chunks_that_hdf5_lacks_are_said(tmp_path):
    """As a program leaves them that was killed while it wrote."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("frames", (8, *CLIP.shape[1:]), np.uint8, chunks=(1, *CLIP.shape[1:]), fillvalue=3)
        data[:5] = CLIP[:5]
    found = read_video(tmp_path / "a.h5")
    assert found.notes == ("3 of its 8 chunks were never written or are lost; they are taken as 3.",)
    np.testing.assert_allclose(found.frames[5:], 3 / 255, rtol=1e-6)


@pytest.mark.parametrize("how", [{"compression": "zlib"}, {"rowsperstrip": 4}, {}])
def test_parts_that_a_tiff_lacks_are_said(tmp_path, how):
    """As a sparse file leaves them out; without them nothing of a plain frame is there."""
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for frame in CLIP:
            writer.write(frame, photometric="minisblack", metadata=None, contiguous=False, **how)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        for name in ("StripOffsets", "StripByteCounts"):
            tag = file.pages[2].tags[name]  # pyright: ignore[reportAttributeAccessIssue]
            tag.overwrite([0, *tag.value[1:]])
        count = len(CLIP) * len(tag.value)
    if not how:
        with pytest.raises(InputError, match="lacks the pixels of a frame"):
            read_video(tmp_path / "a.tif")
        return
    found = read_video(tmp_path / "a.tif")
    assert found.notes == (f"1 of its {count} strips or tiles are empty; they are taken as 0.",)
    assert not found.frames[2, :4].any()


def test_a_tiff_of_jpeg_that_was_cut_is_refused(tmp_path):
    """libjpeg makes the rest grey without an error."""
    tifffile.imwrite(tmp_path / "a.tif", smooth_clip(), photometric="minisblack", compression="jpeg", metadata=None)
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(whole[:-30])
    with pytest.raises(InputError, match="cut short"):
        read_video(tmp_path / "a.tif")


@pytest.mark.parametrize("share", [0.3, 0.5, 0.95])
@pytest.mark.parametrize("name", ["a.zarr.zip", "a.npz"])
def test_a_zip_file_that_was_cut_is_called_one(tmp_path, name, share):
    np.savez(tmp_path / "a.npz", frames=CLIP)
    zarr.create_array(str(tmp_path / "a"), data=CLIP)
    shutil.make_archive(str(tmp_path / "a.zarr"), "zip", tmp_path / "a")
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match=r"cannot be read as a ZIP file \(NPZ or zarr\), it is damaged, cut short"):
        read_video(tmp_path / name)


def test_pickles_in_zarr_are_never_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("numcodecs.pickles.ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)  # as older ones do

    class Code:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "run",))

    about = {"zarr_format": 2, "shape": CLIP.shape, "chunks": CLIP.shape, "fill_value": 0, "order": "C"}
    about |= {"dtype": "|O", "filters": [{"id": "vlen-utf8"}], "compressor": {"id": "pickle", "protocol": 5}}
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / ".zarray").write_text(json.dumps(about))
    (tmp_path / "a.zarr" / "0.0.0").write_bytes(pickle.dumps(Code()))
    with pytest.raises(InputError, match="pickled"):
        read_video(tmp_path / "a.zarr")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["c.mha", "c.nrrd", "c.nii.gz", "sitk.dcm", "c.tif"])
def test_pixels_that_are_not_square_are_said(tmp_path, name):
    """As in CAMUS; the frames stay as they are, so that spacing, regions and calibration hold for results."""
    for spacing, says in (((0.3, 0.15, 1), "0.5 times as high as wide"), ((0.3, 0.3, 1), None)):
        if name.endswith("dcm"):
            path = write_dicom(tmp_path / name, CLIP, PixelSpacing=[spacing[1], spacing[0]])
        elif name.endswith("tif"):
            path, lines = tmp_path / name, (1 / spacing[0], 1 / spacing[1])
            tifffile.imwrite(path, CLIP, photometric="minisblack", resolution=lines)
        else:
            image, path = sitk.GetImageFromArray(CLIP), tmp_path / name
            image.SetSpacing(spacing)
            sitk.WriteImage(image, str(path))
        check(path, says=says)


@pytest.mark.parametrize(
    ("tags", "ratio"),
    [
        ({"PixelAspectRatio": [12, 10], "PixelSpacing": [1, 1]}, "1.2"),
        ({"PixelAspectRatio": [1, 1]}, None),
        ({"PixelAspectRatio": [1, 0]}, None),
        ({"deltas": (0.02, 0.05)}, "2.5"),
        ({"deltas": (0.02, 0)}, None),
    ],
)
def test_dicom_pixels_that_are_not_square_are_said(tmp_path, tags, ratio):
    path = write_dicom(tmp_path / "c.dcm", CLIP)
    dataset, region = pydicom.dcmread(path), Dataset()
    if deltas := tags.pop("deltas", None):
        region.PhysicalDeltaX, region.PhysicalDeltaY = deltas
        region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
        region.RegionSpatialFormat = region.RegionDataType = 1
        dataset.SequenceOfUltrasoundRegions = [region]
    for tag, value in tags.items():
        setattr(dataset, tag, value)
    dataset.save_as(path)
    check(path, says=ratio and f"{ratio} times as high as wide")


def test_nifti_with_a_slope_and_five_axes(tmp_path):
    image = nibabel.Nifti1Image(CLIP.transpose(2, 1, 0).astype(np.int16), np.eye(4))
    image.header.set_slope_inter(1 / 255, 0)
    nibabel.save(image, tmp_path / "a.nii")
    header = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into("<2f", header, 112, 1 / 255, 0)
    (tmp_path / "a.nii").write_bytes(header)
    check(tmp_path / "a.nii", nibabel.load(tmp_path / "a.nii").get_fdata().transpose(2, 1, 0))  # pyright: ignore[reportAttributeAccessIssue]
    for name, shape in (("b", (28, 20, 1, 1, 6)), ("c", (28, 20, 1, 6, 1)), ("d", (28, 20, 6, 1, 1))):
        nibabel.save(nibabel.Nifti1Image(CLIP.transpose(2, 1, 0).reshape(shape), np.eye(4)), tmp_path / f"{name}.nii")
        check(tmp_path / f"{name}.nii")


def test_nifti_two_and_colour(tmp_path):
    nibabel.save(nibabel.Nifti2Image(CLIP.transpose(2, 1, 0), np.eye(4)), tmp_path / "a.nii")
    check(tmp_path / "a.nii")
    kind = np.dtype([(name, "u1") for name in "RGB"])
    rgb = np.ascontiguousarray(COLOR.transpose(2, 1, 0, 3)).view(kind)[..., 0]
    nibabel.save(nibabel.Nifti1Image(rgb, np.eye(4)), tmp_path / "b.nii")
    check(tmp_path / "b.nii", COLOR / 255)


def test_nrrd_big_endian(tmp_path):
    values = (CLIP.astype(np.uint16) * 257).transpose(2, 1, 0).astype(">u2")
    nrrd.write(str(tmp_path / "c.nrrd"), values, header={"encoding": "raw", "endian": "big"})
    check(tmp_path / "c.nrrd")


@pytest.mark.parametrize("encoding", ["ascii", "bzip2"])
def test_nrrd_of_other_encodings_is_refused_truly(tmp_path, encoding):
    nrrd.write(str(tmp_path / "c.nrrd"), CLIP.transpose(2, 1, 0), header={"encoding": encoding})
    with pytest.raises(InputError, match=encoding):
        read_video(tmp_path / "c.nrrd")


def test_nrrd_with_frames_or_colours_on_any_axis(tmp_path):
    slicer = CLIP.transpose(0, 2, 1)[..., None]  # (frames, width, height, 1), as 3D Slicer's sequences
    nrrd.write(str(tmp_path / "a.seq.nrrd"), slicer, header={"kinds": ["list", "domain", "domain", "domain"]})
    check(tmp_path / "a.seq.nrrd")
    nrrd.write(
        str(tmp_path / "b.nrrd"),
        COLOR.transpose(2, 1, 3, 0),
        header={"kinds": ["domain", "domain", "RGB-color", "time"]},
    )
    check(tmp_path / "b.nrrd", COLOR / 255)


@pytest.mark.parametrize(("unit", "fps"), [("ms", 50), ("mm", 30)])
def test_nrrd_with_a_spacing_of_time(tmp_path, unit, fps):
    header = {"kinds": ["domain", "domain", "time"], "spacings": [0.3, 0.3, 20], "units": ["mm", "mm", unit]}
    nrrd.write(str(tmp_path / "c.nrrd"), CLIP.transpose(2, 1, 0), header=header)
    check(tmp_path / "c.nrrd", fps=fps)


@pytest.mark.parametrize("suffix", ["mha", "nrrd"])
def test_a_sequence_of_plus(tmp_path, suffix):
    """The toolkit of tracked ultrasound writes several lines of header for each frame, with its time."""
    lines = [
        f"Seq_Frame{k:04d}_{name}" for k in range(6) for name in ("ImageStatus", *(f"P{i}Transform" for i in range(60)))
    ]
    if suffix == "mha":
        header = "ObjectType = Image\nNDims = 3\nDimSize = 28 20 6\nElementType = MET_UCHAR\n"
        header += "".join(f"{line} = OK\n" for line in lines)
        header += (
            "".join(f"Seq_Frame{k:04d}_Timestamp = {3 + k * 0.02}\n" for k in range(6)) + "ElementDataFile = LOCAL\n"
        )
    else:
        header = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 28 20 6\nencoding: raw\n"
        header += "".join(f"{line}:=OK\n" for line in lines)
        header += "".join(f"Seq_Frame{k:04d}_Timestamp:={3 + k * 0.02}\n" for k in range(6)) + "\n"
    (tmp_path / f"c.{suffix}").write_bytes(header.encode() + CLIP.tobytes())
    check(tmp_path / f"c.{suffix}", fps=50)
    between = ":=" if suffix == "nrrd" else " = "
    for turn, says in (("MFA", None), ("", None), ("XX", None), ("UN", "the probe is not at the top")):
        begins, ends = header.split("Seq_", 1)
        whole = f"{begins}UltrasoundImageOrientation{between}{turn}\nSeq_{ends}"
        (tmp_path / f"{turn}.{suffix}").write_bytes(whole.encode() + CLIP.tobytes())
        check(tmp_path / f"{turn}.{suffix}", fps=50, says=says)


def test_nrrd_after_skipped_bytes_and_lines(tmp_path):
    header = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 28 20 6\nencoding: {}\ndata file: c.raw\n"
    (tmp_path / "c.raw").write_bytes(b"one\ntwo\n123" + CLIP.tobytes())
    (tmp_path / "a.nhdr").write_text(header.format("raw") + "line skip: 2\nbyte skip: 3\n")
    check(tmp_path / "a.nhdr")
    (tmp_path / "b.nhdr").write_text(header.format("raw") + "byte skip: -1\n")
    check(tmp_path / "b.nhdr")
    (tmp_path / "c.raw").write_bytes(gzip.compress(b"123" + CLIP.tobytes()))
    (tmp_path / "c.nhdr").write_text(header.format("gzip") + "byte skip: 3\n")
    check(tmp_path / "c.nhdr")


def test_metaimage_of_four_axes_and_big_endian(tmp_path):
    image = sitk.GetImageFromArray(CLIP[:, None], isVector=False)
    image.SetSpacing((0.3, 0.3, 1, 0.02))
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    check(tmp_path / "a.mha")
    header = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = True\nDimSize = 28 20 6\n"
    header += "ElementType = MET_USHORT\nElementDataFile = LOCAL\n"
    (tmp_path / "b.mha").write_bytes(header.encode() + (CLIP.astype(">u2") * 257).tobytes())
    check(tmp_path / "b.mha")


@pytest.mark.parametrize("listed", ["LIST\n" + "".join(f"f{k}.raw\n" for k in range(6)), "f%d.raw 0 5 1\n"])
def test_metaimage_of_several_files(tmp_path, listed):
    for number, frame in enumerate(CLIP):
        frame.tofile(tmp_path / f"f{number}.raw")
    header = "ObjectType = Image\nNDims = 3\nDimSize = 28 20 6\nElementType = MET_UCHAR\nElementDataFile = "
    (tmp_path / "c.mhd").write_text(header + listed)
    check(tmp_path / "c.mhd")


@pytest.mark.parametrize("listed", ["LIST\n" + "".join(f"f{k}.raw\n" for k in range(6)), "f%d.raw 0 5 1\n"])
def test_nrrd_of_several_files(tmp_path, listed):
    for number, frame in enumerate(CLIP):
        frame.tofile(tmp_path / f"f{number}.raw")
    header = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 28 20 6\nencoding: raw\ndata file: "
    (tmp_path / "c.nhdr").write_text(header + listed)
    check(tmp_path / "c.nhdr")


# --------------------------------------------------------------------------------------------- movies


def gif(path, pauses):
    first, *rest = (Image.fromarray(frame) for frame in CLIP)
    first.save(path, save_all=True, append_images=rest, duration=pauses)
    return path


def test_gif_with_varying_delays_has_the_mean_rate(tmp_path):
    check(gif(tmp_path / "c.gif", [40, 40, 80, 40, 40, 60]), fps=20, says="varies from 40 to 80 ms")
    check(gif(tmp_path / "d.gif", 20), fps=50)


def varying(path, times, codec="mpeg4", base=1000):
    """Frames at the given times in ms."""
    from fractions import Fraction

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
        stream.bit_rate, stream.codec_context.time_base = 20_000_000, Fraction(1, base)
        for time, values in zip(times, smooth_clip(len(times), 96, 128), strict=True):
            frame = av.VideoFrame.from_ndarray(values, format="gray").reformat(format="yuv420p")
            frame.pts, frame.time_base = time * base // 1000, Fraction(1, base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("name", ["c.mp4", "c.mkv", "c.mov"])
def test_movies_with_varying_times_have_the_mean_rate(tmp_path, name):
    path = varying(tmp_path / name, [0, 20, 40, 100, 120, 140, 200])
    clip = read_video(path)
    assert clip.fps == pytest.approx(30, rel=0.2)
    assert "varies from 20 to 60 ms" in " ".join(clip.notes)


def test_vp9(tmp_path):
    values = smooth_clip(8, 96, 128)
    check(movie(tmp_path / "c.webm", values, "libvpx-vp9", "yuv420p"), values / 255, tolerance=0.08, fps=25)


def test_hevc_of_ten_bits_y4m_and_bare_h264(tmp_path):
    values = smooth_clip(8, 96, 128)
    check(movie(tmp_path / "c.mp4", values, "libx265", "yuv420p10le"), values / 255, tolerance=0.08, fps=25)
    check(movie(tmp_path / "c.h264", values, "libx264", "yuv420p"), values / 255, tolerance=0.08, fps=25)
    check(movie(tmp_path / "c.y4m", values, "wrapped_avframe", "yuv420p"), values / 255, tolerance=0.01, fps=25)


def test_avi_without_a_rate(tmp_path):
    data = bytearray(movie(tmp_path / "a.avi", smooth_clip(), "mjpeg", "yuvj420p").read_bytes())
    at = data.index(b"strh") + 8
    struct.pack_into("<2L", data, at + 20, 0, 0)  # scale and rate
    struct.pack_into("<L", data, data.index(b"avih") + 8, 0)  # microseconds a frame
    (tmp_path / "b.avi").write_bytes(data)
    clip = read_video(tmp_path / "b.avi")
    assert len(clip) == 6
    assert 1 <= clip.fps <= 100


def test_animated_pictures(tmp_path):
    first, *rest = (Image.fromarray(frame) for frame in CLIP)
    for name in ("c.png", "c.webp"):
        first.save(tmp_path / name, save_all=True, append_images=rest, duration=20, lossless=True)
        check(tmp_path / name, fps=50)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux lists them")
def test_pictures_in_rgb_have_no_threads_of_their_own(tmp_path):
    path = movie(tmp_path / "c.mkv", np.tile(COLOR, (20, 1, 1, 1)), "ffv1", "bgr0", "rgb24")
    pictures: list[Any] = list(open_stored(path, Reading()).frames())
    before = len(list(Path("/proc/self/task").iterdir()))
    assert all(picture.rgb().shape == (20, 28, 3) for picture in pictures)
    assert len(list(Path("/proc/self/task").iterdir())) < before + 60


def test_a_damaged_frame_of_ffv1_does_not_stop_the_threads(tmp_path):
    """FFmpeg's threads by frame would wait for it for ever, most of the time."""
    path = tmp_path / "c.mkv"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt, stream.gop_size = 20, 28, "gray", 12
        for values in CLIP:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(values, format="gray")))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        second = [bytes(packet) for packet in container.demux(video=0)][1]
    path.write_bytes(path.read_bytes().replace(second, b"\xff" * 40 + second[40:]))
    for _ in range(20):
        assert len(read_video(path)) == 1


def test_mov_turned_by_180(tmp_path):
    data = bytearray(movie(tmp_path / "w.mov", smooth_clip(), "mpeg4", "yuv420p").read_bytes())
    at = data.index(b"tkhd") + 44
    struct.pack_into(">9i", data, at, -65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30)
    (tmp_path / "c.mov").write_bytes(data)
    plain = read_video(tmp_path / "w.mov").frames
    check(tmp_path / "c.mov", plain[:, ::-1, ::-1], fps=25, says="upright")


# -------------------------------------------------------------------------------------------- folders


def test_pictures_with_opacity(tmp_path):
    for mode in ("RGBA", "LA", "P"):
        (tmp_path / mode).mkdir()
        for number, frame in enumerate(CLIP):
            image = Image.fromarray(frame).convert("RGBA" if mode == "RGBA" else mode)
            image.save(tmp_path / mode / f"f{number}.png")
        check(tmp_path / mode)
    (tmp_path / "c").mkdir()
    for number, frame in enumerate(COLOR):
        Image.fromarray(frame).convert("RGBA").save(tmp_path / "c" / f"f{number}.png")
    check(tmp_path / "c", COLOR / 255)


def test_what_is_transparent_is_black(tmp_path):
    """Whatever is stored there: white in GIF's decoder, anything in PNG."""
    opaque = CLIP > 80
    for number, (frame, seen) in enumerate(zip(CLIP, opaque, strict=True)):
        layers = [np.where(seen, frame, 255)] * 3 + [np.where(seen, 255, 0)]
        Image.fromarray(np.stack(layers, axis=-1).astype(np.uint8)).save(tmp_path / f"f{number}.png")
    check(tmp_path, np.where(opaque, CLIP, 0) / 255)
    first, *rest = (Image.fromarray(frame).convert("P") for frame in np.where(opaque, CLIP, 0))
    about = {"save_all": True, "append_images": rest, "duration": 40, "optimize": False}
    for disposal in (1, 2, 3):
        path = tmp_path / f"{disposal}.gif"
        first.save(path, disposal=disposal, transparency=0, **about)
        with Image.open(path) as stored:
            layers = np.stack([np.asarray(frame.convert("RGBA")) for frame in ImageSequence.Iterator(stored)])
        check(path, np.where(layers[..., 3] > 0, layers[..., 0], 0) / 255, fps=25)


def test_missing_numbers_are_said(tmp_path):
    for number, frame in zip((1, 2, 5, 6, 9, 10), CLIP, strict=True):
        Image.fromarray(frame).save(tmp_path / f"f{number}.png")
    check(tmp_path, says="missing")


@pytest.mark.parametrize(
    "names", [["f8", "f9", "f10", "f11", "f12", "f13"], ["008", "009", "010", "011", "012", "013"]]
)
def test_numbers_with_and_without_zeros(tmp_path, names):
    for name, frame in zip(names, CLIP, strict=True):
        Image.fromarray(frame).save(tmp_path / f"{name}.png")
    check(tmp_path)


def test_mixed_padding(tmp_path):
    for name, frame in zip(["f08", "f9", "f010", "f11", "f12", "f13"], CLIP, strict=True):
        Image.fromarray(frame).save(tmp_path / f"{name}.png")
    check(tmp_path)


def test_pictures_stored_turned_are_upright(tmp_path):
    values = smooth_clip()
    for number, frame in enumerate(values):
        about = Image.Exif()
        about[0x0112] = 6
        Image.fromarray(np.rot90(frame, 1)).save(tmp_path / f"f{number}.jpg", exif=about, quality=98)
    check(tmp_path, values / 255, tolerance=0.03)


def test_pnm_of_twelve_bits(tmp_path):
    for number, frame in enumerate(CLIP.astype(np.uint16) * 16):
        (tmp_path / f"f{number}.pgm").write_bytes(b"P5\n28 20\n4080\n" + frame.astype(">u2").tobytes())
    check(tmp_path, tolerance=1e-4)


def test_png_of_one_bit(tmp_path):
    for number, frame in enumerate(CLIP):
        Image.fromarray(frame > 127).save(tmp_path / f"b{number}.png")
    check(tmp_path, (CLIP > 127).astype(float))


def test_two_series_in_one_folder_are_named(tmp_path):
    for number, frame in enumerate(CLIP):
        Image.fromarray(frame).save(tmp_path / f"a{number}.png")
        Image.fromarray(frame).save(tmp_path / f"b{number}.png")
    assert len(find_clips(tmp_path)) == 2
    with pytest.raises(InputError, match="2 clips"):
        read_video(tmp_path)
