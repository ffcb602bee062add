"""Files as forty years of scanners and scripts leave them in archives: read as they were meant, or refused truly."""

import gc
import gzip
import io
import logging
import os
import shutil
import warnings
import zipfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import av
import h5py
import imagecodecs
import nibabel
import numpy as np
import pydicom
import pytest
import scipy.io
import SimpleITK as sitk
import tifffile
import zarr
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.fileset import FileSet

from nuclear_diffusion import InputError
from nuclear_diffusion.io import open_writer, read_video
from nuclear_diffusion.io.find import expand, find_clips, name_of
from test_io_formats import CLIP, COLOR, check
from test_io_read import smooth_clip, write_dicom

# ----------------------------------------------------------------------------------------------- DICOM


def jpegs(frames: np.ndarray) -> tuple[list[bytes], np.ndarray]:
    """JPEG files with a JFIF marker, and what Pillow reads in them."""
    files = []
    for frame in frames:
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "JPEG", quality=95)
        files.append(file.getvalue())
    return files, np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])


def write_jpegs(path: Path, files: list[bytes], frames: np.ndarray, kind: str, *, number: int | None = None) -> Path:
    """DICOM of JPEG frames in two fragments each, without an offset table."""
    dataset = pydicom.dcmread(write_dicom(path, frames, kind))
    dataset.PixelData = encapsulate(files, has_bot=False, fragments_per_frame=2)
    dataset["PixelData"].is_undefined_length = True
    dataset.NumberOfFrames = len(files) if number is None else number
    dataset.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    dataset.save_as(path)
    return path


@pytest.mark.parametrize("number", [0, 1, 3, 5])
def test_fragments_without_a_table_are_counted_whatever_the_tag_says(tmp_path, number):
    frames = smooth_clip()[:5]
    files, seen = jpegs(frames)
    path = write_jpegs(tmp_path / "c.dcm", files, frames, "MONOCHROME2", number=number)
    check(path, seen / 255, says=None if number == 5 else f"says {number}, but 5 frames")


def test_one_frame_in_two_fragments(tmp_path):
    files, seen = jpegs(smooth_clip()[:1])
    check(write_jpegs(tmp_path / "c.dcm", files, smooth_clip()[:1], "MONOCHROME2"), seen / 255)


@pytest.mark.parametrize("kind", ["RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_PARTIAL_422"])
@pytest.mark.parametrize("grey", [False, True])
def test_colours_of_jpeg_are_those_of_its_codes(tmp_path, kind, grey):
    frames = smooth_clip()[:5]
    frames = np.stack([frames, frames if grey else frames // 3, frames if grey else 255 - frames], -1)
    files, seen = jpegs(frames)
    path = write_jpegs(tmp_path / "c.dcm", files, frames, kind)
    expected = seen[..., 1] if grey else seen
    check(path, expected / 255, tolerance=3 / 255, says="but the pixels are" if kind == "RGB" else None)


def test_colours_that_nobody_uses_any_more_are_refused_truly(tmp_path):
    with pytest.raises(InputError, match="colours of type HSV"):
        read_video(write_dicom(tmp_path / "c.dcm", COLOR, "HSV"))


@pytest.mark.parametrize("bits", [1, 6, 7])
def test_fewer_than_eight_bits(tmp_path, bits):
    values = CLIP >> (8 - bits)
    path = write_dicom(tmp_path / "c.dcm", values, BitsStored=bits, HighBit=bits - 1)
    if bits == 1:
        dataset = pydicom.dcmread(path)
        dataset.BitsAllocated, dataset.PixelData = 1, np.packbits(values.ravel(), bitorder="little").tobytes()
        dataset.save_as(path)
    check(path, values / (2**bits - 1))


@pytest.mark.parametrize("high", [11, 13, 15])
def test_bits_at_the_upper_end(tmp_path, high):
    values = CLIP.astype(np.uint16) << 4
    check(
        write_dicom(tmp_path / "c.dcm", values << (high - 11), BitsStored=12, HighBit=high),
        values / 4095,
        tolerance=1e-5,
    )


def test_a_table_for_signed_values(tmp_path):
    dataset = pydicom.dcmread(write_dicom(tmp_path / "c.dcm", CLIP.astype(np.int16) - 128))
    table = Dataset()
    table.add_new("LUTDescriptor", "SS", [256, -128, 16])
    table.add_new("LUTData", "US", [257 * value for value in range(256)])
    table.ModalityLUTType = "US"
    dataset.ModalityLUTSequence = [table]
    dataset.save_as(tmp_path / "c.dcm")
    check(tmp_path / "c.dcm")


def test_a_palette_in_segments(tmp_path):
    dataset = pydicom.dcmread(write_dicom(tmp_path / "c.dcm", CLIP, "PALETTE COLOR"))
    for name in ("Red", "Green", "Blue"):
        setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
        dataset[f"{name}PaletteColorLookupTableDescriptor"].VR = "US"
        ramp = np.array([0, 1, 0, 1, 255, 65535], "<u2").tobytes()  # one value, then a line to white
        setattr(dataset, f"Segmented{name}PaletteColorLookupTableData", ramp)
    dataset.save_as(tmp_path / "c.dcm")
    check(tmp_path / "c.dcm", tolerance=1e-4)


def test_a_syntax_of_a_vendor_is_named(tmp_path):
    dataset = pydicom.dcmread(write_dicom(tmp_path / "c.dcm", CLIP))
    dataset.file_meta.TransferSyntaxUID = uid.UID("1.2.840.113619.5.2")
    pydicom.dcmwrite(tmp_path / "c.dcm", dataset, implicit_vr=True, little_endian=True, force_encoding=True)
    with pytest.raises(InputError, match=r"transfer syntax 1\.2\.840\.113619\.5\.2, which is not known"):
        read_video(tmp_path / "c.dcm")


def test_slices_of_volumes_are_said(tmp_path):
    check(write_dicom(tmp_path / "c.dcm", CLIP, SOPClassUID=uid.EnhancedUSVolumeStorage), says="slices of volumes")


def disk(folder: Path) -> Path:
    """A DICOMDIR of two clips and a series of three stills, beside a viewer's picture."""
    index = FileSet()
    about = {"PatientName": "A", "StudyInstanceUID": "1.2", "Modality": "US", "StudyID": "1"}
    about |= {"PatientID": "A", "StudyDate": "20200101", "StudyTime": "1200"}
    for number in range(5):
        series = min(number, 2)
        pixels = CLIP if number < 2 else CLIP[number : number + 1]
        tags = {"SeriesInstanceUID": f"1.2.{series + 1}", "SeriesNumber": series, "InstanceNumber": number}
        index.add(write_dicom(folder.parent / f"{number}.dcm", pixels, **about, **tags))
    index.write(folder)
    with warnings.catch_warnings(action="ignore"):  # pydicom leaves its own temporary folder to the collector
        del index
        gc.collect()
    Image.fromarray(CLIP[0]).save(folder / "viewer.png")
    return folder / "DICOMDIR"


def test_a_dicomdir_stands_for_the_clips_that_it_names(tmp_path):
    clips = expand([disk(tmp_path / "disk")])
    assert sorted(len(read_video(clip)) for clip in clips) == [3, 6, 6]


def test_a_folder_with_a_dicomdir_is_its_clips(tmp_path):
    path = disk(tmp_path / "disk")
    (path.parent / "viewer.png").unlink()
    assert sorted(len(read_video(clip)) for clip in expand([path.parent])) == [3, 6, 6]


def test_a_dicomdir_whose_files_are_elsewhere_is_refused_truly(tmp_path):
    (tmp_path / "copy").mkdir()
    shutil.copy(disk(tmp_path / "disk"), tmp_path / "copy" / "DICOMDIR")
    with pytest.raises(InputError, match="files that are not here"):
        read_video(expand([tmp_path / "copy" / "DICOMDIR"])[0])


@pytest.mark.parametrize("kind", ["parts", "one part", "absolute"])
def test_a_dicomdir_names_nothing_outside_its_folder(tmp_path, kind):
    path = disk(tmp_path / "disk")
    dataset = pydicom.dcmread(path)
    (tmp_path / "OUT").mkdir()
    write_dicom(tmp_path / "OUT" / "CLIP", CLIP)
    with warnings.catch_warnings(action="ignore"):  # pydicom says that this is no valid name
        for record in dataset.DirectoryRecordSequence:
            if "ReferencedFileID" in record:
                record.ReferencedFileID = {
                    "parts": ["..", "OUT", "CLIP"],
                    "one part": ["../OUT", "CLIP"],
                    "absolute": ["A", str(tmp_path / "OUT" / "CLIP")],
                }[kind]
        pydicom.dcmwrite(path, dataset)
    with pytest.raises(InputError, match="files that are not here"):
        read_video(expand([path])[0])


def test_stills_of_several_series_are_no_clip(tmp_path):
    for number in range(3):
        write_dicom(tmp_path / f"IM{number}", CLIP[number : number + 1], SeriesInstanceUID=f"1.2.{number}")
    assert [len(read_video(clip)) for clip in find_clips(tmp_path)] == [1, 1, 1]


@pytest.mark.parametrize("names", [("01.png", "01_mask.png"), ("heart.png", "heart-Seg.png")])
def test_the_mask_of_a_still_is_no_frame(tmp_path, names):
    for name, frame in zip(names, CLIP, strict=False):
        Image.fromarray(frame).save(tmp_path / name)
    check(tmp_path, CLIP[:1] / 255)


# ------------------------------------------------------------------------------------ stacks and volumes


def test_frames_that_are_written_one_after_the_other_are_one_stack(tmp_path):
    for name, frames in (("grey", CLIP), ("colour", COLOR)):
        with tifffile.TiffWriter(tmp_path / f"{name}.tif") as file:
            for frame in frames:
                file.write(frame, photometric="rgb" if frame.ndim == 3 else "minisblack")
        check(tmp_path / f"{name}.tif", frames / 255)


@pytest.mark.parametrize("contiguous", [True, False])
def test_a_stack_that_is_cut_short_is_refused(tmp_path, contiguous):
    with tifffile.TiffWriter(tmp_path / "c.tif") as file:
        for frame in CLIP:
            file.write(frame, photometric="minisblack", contiguous=contiguous)
    whole = (tmp_path / "c.tif").read_bytes()
    (tmp_path / "c.tif").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cut short"):
        read_video(tmp_path / "c.tif")


@pytest.mark.parametrize("turn", range(1, 9))
def test_tiff_is_upright(tmp_path, turn):
    image = Image.fromarray(CLIP[0])
    image.save(tmp_path / "c.tif", tiffinfo={0x0112: turn})
    image.save(tmp_path / "c.png", exif=_turned(turn))
    np.testing.assert_array_equal(read_video(tmp_path / "c.tif").frames, read_video(tmp_path / "c.png").frames)


def _turned(turn: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = turn
    return exif


def test_tiff_of_other_colours_is_refused_truly(tmp_path):
    Image.fromarray(COLOR[0]).convert("CMYK").save(tmp_path / "c.tif")
    with pytest.raises(InputError, match="colours of type SEPARATED"):
        read_video(tmp_path / "c.tif")


def test_volumes_over_time_are_refused_truly(tmp_path):
    volumes = np.stack([CLIP.transpose(2, 1, 0)] * 3, axis=2)
    nibabel.save(nibabel.Nifti1Image(volumes, np.eye(4)), tmp_path / "c.nii")
    with pytest.raises(InputError, match="6 volumes of 3 slices"):
        read_video(tmp_path / "c.nii")


@pytest.mark.parametrize("slope", [np.nan, 0, 1 / 255])
def test_nifti_with_any_slope(tmp_path, slope):
    header = nibabel.Nifti1Header()
    header.set_data_shape(CLIP.shape[::-1])
    header.set_data_dtype(np.uint8)
    header["scl_slope"], header["scl_inter"], header["magic"], header["vox_offset"] = slope, 0, b"n+1", 352
    with (tmp_path / "c.nii").open("wb") as file:
        header.write_to(file)
        file.write(CLIP.tobytes())
    check(tmp_path / "c.nii")


def test_matlab_of_truth_values(tmp_path):
    scipy.io.savemat(tmp_path / "c.mat", {"x": (CLIP > 127).transpose(1, 2, 0)})
    check(tmp_path / "c.mat", (CLIP > 127).astype(float))


def test_the_logarithm_of_nothing_is_black(tmp_path):
    with h5py.File(tmp_path / "c.h5", "w") as file, np.errstate(divide="ignore"):
        file["data/image_sc"] = np.where(CLIP < 3, -np.inf, CLIP / 255 * 60 - 60).astype(np.float32)
    check(tmp_path / "c.h5", np.where(CLIP < 3, 0, CLIP / 255), says="-60 to 0 dB")


def test_an_archive_of_anything_else_is_refused_truly(tmp_path):
    shutil.make_archive(str(tmp_path / "c"), "zip", Path(__file__).parent, "fixtures/zea_preset")
    with pytest.raises(InputError, match="archive without NumPy arrays"):
        read_video(tmp_path / "c.zip")


# ------------------------------------------------------------------------------------ movies and folders


def test_a_gif_that_is_cut_off_says_so(tmp_path):
    images = [Image.fromarray(frame) for frame in CLIP]
    images[0].save(tmp_path / "c.gif", save_all=True, append_images=images[1:], duration=40)
    whole = (tmp_path / "c.gif").read_bytes()
    assert read_video(tmp_path / "c.gif").notes == ()
    (tmp_path / "c.gif").write_bytes(whole + bytes(3))
    assert read_video(tmp_path / "c.gif").notes == ()
    (tmp_path / "c.gif").write_bytes(whole[: len(whole) // 2])
    cut = read_video(tmp_path / "c.gif")
    assert 0 < len(cut) < len(CLIP)
    assert "cut short" in cut.notes[0]


def test_b_frames_come_in_the_order_of_time(tmp_path):
    frames = np.concatenate([smooth_clip()] * 3)
    with av.open(str(tmp_path / "c.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, options={"qscale": "1"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:], "yuv420p"
        stream.max_b_frames, stream.bit_rate = 2, 20_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray").reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    check(tmp_path / "c.mp4", frames / 255, tolerance=0.06, fps=25)


@pytest.mark.parametrize("name", ["c.nii.gz", "c.zarr.zip", "c"])
def test_an_empty_file_is_called_so(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=rf"{name} is empty, of 0 bytes"):
        read_video(tmp_path / name)
    (tmp_path / "link.npz").symlink_to("gone.npz")
    with pytest.raises(InputError, match=r"link\.npz, a link to gone\.npz, does not exist"):
        read_video(tmp_path / "link.npz")


def test_pipes_in_a_folder_are_passed_over(tmp_path):
    np.save(tmp_path / "a.npy", CLIP)
    os.mkfifo(tmp_path / "b.npy")
    os.mkfifo(tmp_path / "c.dcm")
    assert [clip.name for clip in expand([tmp_path])] == [tmp_path.name]
    check(tmp_path)


def test_a_folder_of_camus_is_its_clips_and_stills(tmp_path):
    """Two views are no two frames, and label maps no clips."""
    names = []
    for patient in ("patient0001", "patient0002"):
        for view in ("2CH", "4CH"):
            for kind, frames in (("ED", CLIP[:1]), ("half_sequence", CLIP)):
                names.append(f"{patient}_{view}_{kind}")
                for name in (names[-1], f"{names[-1]}_gt"):
                    image = nibabel.Nifti1Image(np.squeeze(frames.T), np.eye(4))
                    nibabel.save(image, tmp_path / f"{name}.nii.gz")
    found = expand([tmp_path])
    assert [name_of(clip) for clip in found] == names
    assert [len(read_video(clip)) for clip in found] == [1, 6] * 4


def test_label_maps_are_no_frames_of_a_series(tmp_path):
    for number, frame in enumerate(CLIP):
        Image.fromarray(frame).save(tmp_path / f"frame_{number}.png")
        Image.fromarray(frame // 100).save(tmp_path / f"frame_{number}_gt.png")
    (tmp_path / "notes.txt").symlink_to("elsewhere")
    check(tmp_path)
    check(tmp_path / "frame_*.png")


def test_what_cannot_be_opened_stands_for_itself_and_the_others_go_on(tmp_path):
    np.save(tmp_path / "a.npy", CLIP)
    (tmp_path / "gone.mp4").symlink_to("elsewhere")
    (tmp_path / "round.npy").symlink_to("round.npy")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "README").write_text("words")
    (tmp_path / "twice").mkdir()
    for number, frame in enumerate(CLIP):
        for suffix in ("png", "jpg"):
            Image.fromarray(frame).save(tmp_path / "twice" / f"{number}.{suffix}")
    found = expand([tmp_path, tmp_path / "notes", tmp_path / "missing.npy"])
    assert [clip.name for clip in found] == ["a.npy", "gone.mp4", "round.npy", "twice", "notes", "missing.npy"]
    check(found[0])
    for clip in found[1:]:
        with pytest.raises(InputError, match=clip.name):
            read_video(clip)


def test_links_that_lead_back_are_left_out(tmp_path):
    (tmp_path / "inner").mkdir()
    for name in ("a.npy", "inner/b.npy", "inner/c.npy"):
        np.save(tmp_path / name, CLIP)
    (tmp_path / "self").symlink_to(".")
    (tmp_path / "inner" / "up").symlink_to(tmp_path)
    assert [clip.name for clip in expand([tmp_path])] == ["a.npy", "b.npy", "c.npy"]


def test_results_among_the_clips_are_none(tmp_path):
    for name in ("a.npy", "earlier/a/signal.npy", "flat/b.npy"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / name, CLIP)
    for name in ("result.h5", "report.json"):
        (tmp_path / "earlier" / "a" / name).touch()
    assert [clip.name for clip in expand([tmp_path], tmp_path / "flat")] == ["a.npy"]
    assert [clip.name for clip in expand([tmp_path])] == ["a.npy", "flat"]


@pytest.mark.parametrize("name", ["-{}.png", "Ä\n{} é.png", "2024-01-0{} 12.00.png"])
def test_names_of_frames(tmp_path, name):
    for number, frame in enumerate(CLIP, 1):
        Image.fromarray(frame).save(tmp_path / name.format(number))
    check(tmp_path)


# ------------------------------------------------------------------------------------------------ logging


def test_the_library_logs_what_was_understood_and_what_is_in_doubt(tmp_path, caplog):
    np.save(tmp_path / "c.npy", CLIP.astype(np.uint16) * 16)
    with caplog.at_level(logging.INFO, logger="nuclear_diffusion"):
        clip = read_video(tmp_path / "c.npy")
    said = {record.levelname: record.getMessage() for record in caplog.records}
    assert "6 frames of 20 x 28" in said["INFO"]
    assert said["WARNING"] == f"{tmp_path / 'c.npy'}: {clip.notes[0]}"
    assert "--white 4095" in said["WARNING"]


# ------------------------------------------------------------------------------------ headers of the input


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("c.nrrd", b"space: left-posterior-superior", b"space: " + b"x" * 5000),  # ends ITK itself
        ("c.mha", b"ElementSpacing = 1 1 1", b"ElementSpacing = 0 0 1"),
        ("c.mha", b"TransformMatrix = 1 0 0 0 1 0 0 0 1", b"TransformMatrix = 0 0 0 0 0 0 0 0 0"),
        ("c.mha", b"Offset = 0 0 0", b"Offset = nan 0 0"),
    ],
)
def test_a_geometry_without_sense_is_left_out(tmp_path, name, old, new):
    sitk.WriteImage(sitk.GetImageFromArray(CLIP), str(tmp_path / name))
    whole = (tmp_path / name).read_bytes()
    assert whole.count(old) == 1
    (tmp_path / name).write_bytes(whole.replace(old, new))
    clip = check(tmp_path / name)
    for kind, suffix in (("mha", ".mha"), ("nifti", ".nii.gz"), ("dicom", ".dcm")):
        with open_writer(tmp_path / f"out{suffix}", kind, clip.shape, clip.fps, source=clip) as writer:
            writer.append(clip.frames)
        np.testing.assert_array_equal(read_video(tmp_path / f"out{suffix}").frames, clip.frames)
    assert sitk.ReadImage(str(tmp_path / "out.mha")).GetSpacing()[:2] == (1, 1)


# ------------------------------------------------------------------------------- what comes with frames


def test_masks_and_copies_beside_frames_are_none(tmp_path):
    for number, frame in enumerate(CLIP):
        Image.fromarray(frame).save(tmp_path / f"{number:02}.png")
        Image.fromarray(255 - frame).save(tmp_path / f"{number:02}_mask.png")
    frames, masks = expand([tmp_path])
    check(frames)
    check(masks, 1 - CLIP / 255)
    (tmp_path / "one").mkdir()
    for number, frame in enumerate(CLIP):
        Image.fromarray(frame).save(tmp_path / "one" / f"f{number}.png")
    for name in ("f0 - Copy", "f3~", "f1 (1)"):
        Image.fromarray(CLIP[0]).save(tmp_path / "one" / f"{name}.png")
    check(tmp_path / "one")


def test_a_pattern_of_two_clips_is_refused(tmp_path):
    for number, frame in enumerate(CLIP):
        for view, shown in (("2CH", frame), ("4CH", 255 - frame)):
            Image.fromarray(shown).save(tmp_path / f"p1_{view}_{number}.png")
    with pytest.raises(InputError, match=r"matches 2 clips: name one of them, as in .*p1_2CH_\*\.png"):
        read_video(tmp_path / "p1_*.png")
    check(tmp_path / "p*_4CH_*.png", 1 - CLIP / 255)


@pytest.mark.parametrize("name", ["labels.xlsx", "model.pt", "P2.csv", "BMI.csv"])
def test_documents_beside_frames_are_no_clips(tmp_path, name):
    for number, frame in enumerate(CLIP):
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("xl/workbook.xml", "<a/>")
    if name.endswith(".csv"):
        (tmp_path / name).write_text(f"{name[:-4]},age\n20,30\n")
    assert expand([tmp_path]) == [tmp_path]
    check(tmp_path)


def test_pictures_of_two_letters_are_known_without_a_suffix(tmp_path):
    for kind in ("bmp", "ppm"):
        Image.fromarray(CLIP[0]).save(tmp_path / "still", kind)
        check(tmp_path / "still", CLIP[:1] / 255)


def test_single_frame_dicom_without_numbers_is_sorted_by_name(tmp_path):
    order = [f"IM{number}" for number in range(7, 13)]
    for name, frame in zip(order, CLIP, strict=True):
        write_dicom(tmp_path / name, frame[None], SeriesInstanceUID="1.2", InstanceNumber=None)
    check(tmp_path)


def test_stills_in_a_series_of_clips_are_no_clip(tmp_path):
    write_dicom(tmp_path / "IM1", CLIP, SeriesInstanceUID="1.2", InstanceNumber=1)
    for number in (2, 3):
        write_dicom(tmp_path / f"IM{number}", CLIP[:1], SeriesInstanceUID="1.2", InstanceNumber=number)
    assert [len(read_video(clip)) for clip in expand([tmp_path])] == [6, 1, 1]


@pytest.mark.parametrize("seconds", [0.02, 12])
@pytest.mark.parametrize("tag", ["AcquisitionDateTime", "AcquisitionTime"])
def test_stills_taken_far_apart_are_no_clip(tmp_path, tag, seconds):
    for number, frame in enumerate(CLIP):
        when = datetime(2026, 1, 2, 23, 58, 30) + timedelta(seconds=seconds * number)
        said = {tag: when.strftime("%Y%m%d%H%M%S.%f" if tag == "AcquisitionDateTime" else "%H%M%S.%f")}
        write_dicom(tmp_path / f"IM{number}", frame[None], SeriesInstanceUID="1.2", InstanceNumber=number + 1, **said)
    assert [len(read_video(clip)) for clip in expand([tmp_path])] == ([6] if seconds < 1 else [1] * 6)


# ----------------------------------------------------------------------------------------- range, rate


@pytest.mark.parametrize("opaque", [True, False])
@pytest.mark.parametrize("colors", [1, 3])
def test_png_of_twelve_bits_in_colour_or_with_opacity_keeps_them(tmp_path, colors, opaque):
    values = np.repeat(CLIP[..., None].astype(np.uint16) * 16, colors, axis=-1)
    if not opaque:
        values = np.concatenate([values, np.full_like(values[..., :1], 65535)], axis=-1)
        values[:, :4, :, -1] = 0
    expected = np.where(opaque | (np.arange(20)[:, None] >= 4), CLIP * 16.0 / 65535, 0)
    for number, frame in enumerate(values):
        (tmp_path / f"{number}.png").write_bytes(imagecodecs.png_encode(frame))
    check(tmp_path, expected, says="type --white 4095")


def test_png_of_sixteen_bits_in_colour(tmp_path):
    values = COLOR[0].astype(np.uint16) * 257
    (tmp_path / "c.png").write_bytes(imagecodecs.png_encode(values))
    check(tmp_path / "c.png", COLOR[:1] / 255)


def test_eight_bits_that_are_hardly_used_are_said(tmp_path):
    np.save(tmp_path / "c.npy", CLIP // 4)
    check(tmp_path / "c.npy", CLIP // 4 / 255, says="The values reach 63 of 255, so the clip is dark: type --white 63")
    np.save(tmp_path / "c.npy", np.concatenate([CLIP // 8, CLIP]))  # it grows light
    check(tmp_path / "c.npy", np.concatenate([CLIP // 8, CLIP]) / 255)


@pytest.mark.parametrize(
    ("center", "width", "says"),
    [(2048, 4096, "reach 255 of 4095, so the clip is dark"), (40, 80, "% are brighter than white by the file")],
)
def test_a_window_of_other_values_is_said(tmp_path, center, width, says):
    path = write_dicom(tmp_path / "c.dcm", CLIP, WindowCenter=center, WindowWidth=width)
    check(path, np.clip(CLIP / (width - 1), 0, 1), says=says)


@pytest.mark.parametrize("unit", ["ms", "msec", "sec"])
def test_tiff_of_imagej_in_any_unit_of_time(tmp_path, unit):
    step = 0.02 if unit == "sec" else 20.0
    about = {"axes": "TYX", "finterval": step, "tunit": unit}
    tifffile.imwrite(tmp_path / "c.tif", CLIP, imagej=True, metadata=about)
    check(tmp_path / "c.tif", fps=50)


def test_a_rate_that_no_scanner_has_is_said(tmp_path):
    path = write_dicom(tmp_path / "c.dcm", CLIP, FrameTime=0.04)  # seconds in place of milliseconds
    check(path, fps=25000, says="25000, is unusual; --fps")


# ------------------------------------------------------------------------------------------ names of axes


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_with_named_axes(tmp_path, version):
    about: dict = {"dimension_names": ("y", "x", "time")} if version == 3 else {}
    array = zarr.create_array(tmp_path / "c.zarr", data=np.moveaxis(CLIP, 0, -1), zarr_format=version, **about)
    if version == 2:
        array.attrs["_ARRAY_DIMENSIONS"] = ["y", "x", "time"]
    check(tmp_path / "c.zarr")


def test_ome_zarr_has_axes_and_times(tmp_path):
    group = zarr.open_group(tmp_path / "c.zarr", mode="w", zarr_format=2)
    group.create_array("0", data=CLIP.transpose(1, 2, 0)[None])
    axes = [("c", "channel", None), ("y", "space", None), ("x", "space", None), ("t", "time", "millisecond")]
    group.attrs["multiscales"] = [
        {
            "axes": [{"name": name, "type": kind, "unit": unit} for name, kind, unit in axes],
            "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1, 20.0]}]}],
        }
    ]
    check(tmp_path / "c.zarr", fps=50)


def test_hdf5_with_named_axes(tmp_path):
    with h5py.File(tmp_path / "c.h5", "w") as file:
        dataset = file.create_dataset("bmode", data=np.moveaxis(CLIP, 0, -1))
        for index, name in enumerate(("y", "x", "time")):
            dataset.dims[index].label = name
    check(tmp_path / "c.h5")


@pytest.mark.parametrize(
    ("name", "value"), [("LABELS", [1, 2, 3]), ("LABELS", "x"), ("LIST", [1, 2, 3]), ("LIST", "x")]
)
def test_names_of_axes_that_are_damaged_are_left_out(tmp_path, name, value):
    """HDF5's own functions end the process on some."""
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file.create_dataset("clip", data=CLIP).attrs[f"DIMENSION_{name}"] = value
    check(tmp_path / "c.h5")


# ------------------------------------------------------------------------------------------ true reasons


def test_a_movie_cut_without_encoding_anew_is_not_cut_short(tmp_path):
    """Frames before the cut are there to decode the others; an edit list hides them."""
    frames = np.concatenate([smooth_clip()] * 4)
    with av.open(str(tmp_path / "c.mp4"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:], "yuv420p"
        stream.options = {"g": "12"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray").reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    start = 17
    with (
        av.open(str(tmp_path / "c.mp4")) as old,
        av.open(str(tmp_path / "d.mp4"), "w", options={"avoid_negative_ts": "disabled"}) as new,
    ):
        stream = old.streams.video[0]
        copied = new.add_stream_from_template(stream)
        offset = int(start / 25 / stream.time_base)
        old.seek(offset, stream=stream)
        packet: Any
        for packet in old.demux(stream):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - offset, packet.dts - offset, copied
                new.mux(packet)
    whole = read_video(tmp_path / "c.mp4").frames
    check(tmp_path / "d.mp4", whole[start:], fps=25)


def test_a_second_stream_of_a_movie_is_said(tmp_path):
    with av.open(str(tmp_path / "c.mkv"), "w") as container:
        streams = [container.add_stream("ffv1", rate=25) for _ in range(2)]
        for stream in streams:
            stream.height, stream.width, stream.pix_fmt = *CLIP.shape[1:], "gray"
        for frame in CLIP:
            container.mux(streams[0].encode(av.VideoFrame.from_ndarray(frame, format="gray")))
            container.mux(streams[1].encode(av.VideoFrame.from_ndarray(255 - frame, format="gray")))
    check(tmp_path / "c.mkv", fps=25, says="has 2 video streams; the first is taken")


def test_pixels_that_are_not_compressed_whatever_the_tag_says(tmp_path):
    data = write_dicom(tmp_path / "c.dcm", CLIP).read_bytes()
    native, stated = b"\x14\x001.2.840.10008.1.2.1\0", b"\x16\x001.2.840.10008.1.2.4.50"
    assert data.count(native) == 1
    (tmp_path / "c.dcm").write_bytes(data.replace(native, stated))
    check(tmp_path / "c.dcm", says="say JPEG Baseline (Process 1), but the pixels are not compressed")


def test_compressed_pixels_without_a_transfer_syntax(tmp_path):
    files, frames = jpegs(CLIP)
    dataset = pydicom.dcmread(write_jpegs(tmp_path / "c.dcm", files, frames, "MONOCHROME2"))
    del dataset.file_meta
    dataset.save_as(tmp_path / "c.dcm", implicit_vr=False, little_endian=True)
    with pytest.raises(InputError, match="compressed pixel data and does not say by which method"):
        read_video(tmp_path / "c.dcm")


def test_filters_of_hdf5_that_are_missing_are_named(tmp_path):
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk(CLIP.shape)
    plan.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, (2, 2, 1, 1, 5, 1, 0))  # Blosc
    with h5py.File(tmp_path / "c.h5", "w") as file:
        space = h5py.h5s.create_simple(CLIP.shape)
        dataset = h5py.h5d.create(file.id, b"input", h5py.h5t.NATIVE_UINT8, space, plan)
        dataset.write_direct_chunk((0, 0, 0), CLIP.tobytes())
    with pytest.raises(InputError, match=r"HDF5 filter 32001.*which is not installed"):
        read_video(tmp_path / "c.h5")


def test_hdf5_of_complex_numbers_alone(tmp_path):
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["rf"] = CLIP.astype(np.complex64)
    with pytest.raises(InputError, match="holds no array of real numbers"):
        read_video(tmp_path / "c.h5")


def test_old_and_other_files_called_mat(tmp_path):
    scipy.io.savemat(tmp_path / "four.mat", {"x": CLIP[0].astype(float)}, format="4")
    (tmp_path / "octave.mat").write_text("# Created by Octave 8.4.0\n# name: x\n# type: matrix\n")
    for name in ("four.mat", "octave.mat"):
        with pytest.raises(InputError, match="no file of MATLAB 5 or newer"):
            read_video(tmp_path / name)


@pytest.mark.parametrize("name", ["c.hdr", "c.img"])
def test_analyze(tmp_path, name):
    image = nibabel.AnalyzeImage(np.ascontiguousarray(CLIP.T).astype(np.int16), np.eye(4))
    nibabel.save(image, tmp_path / "c.hdr")
    check(tmp_path / name)


def test_what_is_packed_by_gzip_is_called_so(tmp_path):
    (tmp_path / "c.npy.gz").write_bytes(gzip.compress(b"anything"))
    with pytest.raises(InputError, match="is packed by gzip: unpack it"):
        read_video(tmp_path / "c.npy.gz")
