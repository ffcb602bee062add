"""Data sets: the challenge's layout, the simulator's, clips with masks drawn elsewhere, and all that can be wrong."""

import json
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest
import scipy.io
import zarr
from nibabel.nifti1 import Nifti1Image
from PIL import Image

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import write_video
from nuclear_diffusion.measure.datasets import find_dataset, read_mask
from nuclear_diffusion.measure.report import clean_intensities
from nuclear_diffusion.simulation import simulate, write_dataset

SIDE = 20


def frame(number: int) -> np.ndarray:
    """A picture that says which frame it is."""
    image = np.zeros((SIDE, SIDE), np.uint8)
    image[2:18, 2:18] = number
    return image


def mask() -> np.ndarray:
    image = np.zeros((SIDE, SIDE), np.uint8)
    image[4:8, 4:10], image[10:15, 5:9] = 255, 128
    return image


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def challenge(root: Path, patients=(3, 12), numbers=(1, 2, 4, 10, 11)) -> Path:
    for patient in patients:
        for number in numbers:
            write(root / "noisy" / f"patient-{patient}-4C-frame-{number}.png", frame(number))
        for number in (1, 11):
            write(root / "noisy_roi" / f"patient-{patient}-4C-frame-{number}.png", mask())
    return root


def test_the_challenges_frames_are_in_numerical_order_with_their_gaps(tmp_path):
    dataset = find_dataset(challenge(tmp_path))
    assert [case.name for case in dataset.cases] == ["patient-3-4C", "patient-12-4C"]
    assert [case.patient for case in dataset.cases] == ["patient-3", "patient-12"]
    loaded = dataset.cases[0].read()
    assert loaded.numbers == (1, 2, 4, 10, 11)
    np.testing.assert_array_equal(loaded.clip.frames[:, 5, 5], np.divide([1, 2, 4, 10, 11], 255, dtype=np.float32))
    assert list(loaded.annotations) == [1, 11]
    septum, ventricle = loaded.annotations[11]
    np.testing.assert_array_equal(septum, mask() == 255)
    np.testing.assert_array_equal(ventricle, mask() == 128)
    assert loaded.truth is None
    assert dataset.notes == ()


def test_nothing_is_read_before_it_is_needed(tmp_path):
    challenge(tmp_path)
    (tmp_path / "noisy" / "patient-3-4C-frame-2.png").write_bytes(b"not an image")
    cases = find_dataset(tmp_path).cases
    cases[1].read()
    with pytest.raises(InputError, match=r"frame-2\.png cannot be read"):
        cases[0].read()


def test_folders_may_have_other_names_and_lie_elsewhere(tmp_path):
    challenge(tmp_path / "data")
    (tmp_path / "data" / "noisy").rename(tmp_path / "data" / "hazy frames")
    (tmp_path / "data" / "noisy_roi").rename(tmp_path / "regions")
    dataset = find_dataset(tmp_path / "data", noisy=Path("hazy frames"), masks=tmp_path / "regions")
    assert [list(case.read().annotations) for case in dataset.cases] == [[1, 11], [1, 11]]


@pytest.mark.slow
def test_the_simulators_set_comes_back_with_its_truth(tmp_path):
    write_dataset(tmp_path, 1, seed=5, frames=3, size=64)
    dataset = find_dataset(tmp_path)
    (case,), (clean,) = dataset.cases, dataset.clean
    loaded, simulated = case.read(), simulate(seed=5, frames=3, size=64)
    assert loaded.truth is not None
    np.testing.assert_allclose(loaded.truth, simulated.clean, atol=0.5001 / 255)
    np.testing.assert_allclose(loaded.clip.frames, simulated.hazy, atol=0.5001 / 255)
    np.testing.assert_array_equal(loaded.annotations[1].septum, simulated.septum[0])
    assert loaded.clip.fps == simulated.fps
    assert [path.parent.name for path in clean] == ["clean"] * 3


def test_a_frame_without_a_region_is_not_annotated(tmp_path):
    challenge(tmp_path)
    write(tmp_path / "noisy_roi" / "patient-3-4C-frame-11.png", np.zeros((SIDE, SIDE), np.uint8))
    assert list(find_dataset(tmp_path).cases[0].read().annotations) == [1]


def test_masks_of_missing_frames_and_clips_without_masks_are_said(tmp_path):
    challenge(tmp_path)
    write(tmp_path / "noisy_roi" / "patient-3-4C-frame-21.png", mask())
    for number in (1, 2):
        write(tmp_path / "noisy" / f"patient-7-4C-frame-{number}.png", frame(number))
    dataset = find_dataset(tmp_path)
    assert [case.patient for case in dataset.cases] == ["patient-3", "patient-12"]
    missing, unmarked = dataset.notes
    assert "patient-3-4C" in missing
    assert "21" in missing
    assert "patient-7-4C" in unmarked


# LabelMe


def labelme(path: Path, shapes, height=SIDE, width=SIDE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = [{"label": label, "points": points, "shape_type": kind} for label, points, kind in shapes]
    path.write_text(json.dumps({"shapes": drawn, "imageHeight": height, "imageWidth": width}))
    return path


SQUARE = [[2, 3], [6, 3], [6, 8], [2, 8]]


def test_labelme_polygons_hold_the_pixels_whose_centres_they_hold(tmp_path):
    shapes = [("Septum", SQUARE, "polygon"), ("ventricle", [[10, 11], [14, 17]], "rectangle")]
    septum, ventricle = read_mask(labelme(tmp_path / "a.json", shapes), (SIDE, SIDE))
    expected = np.zeros((2, SIDE, SIDE), bool)
    expected[0, 3:8, 2:6], expected[1, 11:17, 10:14] = True, True
    np.testing.assert_array_equal(septum, expected[0])
    np.testing.assert_array_equal(ventricle, expected[1])


def test_pixels_in_both_regions_count_for_neither(tmp_path):
    shapes = [("septum", SQUARE, "polygon"), ("ventricle", [[5, 3], [9, 8]], "rectangle")]
    septum, ventricle = read_mask(labelme(tmp_path / "a.json", shapes), (SIDE, SIDE))
    assert (septum.sum(), ventricle.sum()) == (5 * 3, 5 * 3)
    assert not (septum & ventricle).any()


def test_clips_in_folders_of_their_own_with_masks_beside_the_frames(tmp_path):
    for clip in ("anna", "bert"):
        for number in (1, 2, 3):
            write(tmp_path / clip / f"img_{number:03d}.png", frame(number))
    labelme(tmp_path / "anna" / "img_002.json", [("septum", SQUARE, "polygon")])
    dataset = find_dataset(tmp_path)
    (case,) = dataset.cases
    assert case.patient == "anna"
    assert list(case.read().annotations) == [2]
    assert "bert" in dataset.notes[0]


def test_movies_with_masks_by_frame_number(tmp_path):
    frames = np.stack([frame(number) for number in (10, 20, 30)])
    write_video(tmp_path / "noisy" / "case_a.npz", frames / np.float32(255), 25.0)
    write(tmp_path / "noisy_roi" / "case_a-frame-3.png", mask())
    (case,) = find_dataset(tmp_path).cases
    loaded = case.read()
    assert loaded.clip.fps == 25
    assert loaded.numbers == (1, 2, 3)
    assert list(loaded.annotations) == [3]
    write(tmp_path / "noisy_roi" / "case_a-frame-9.png", mask())
    with pytest.raises(InputError, match="frame 9"):
        find_dataset(tmp_path).cases[0].read()


def _nifti(path, frames):
    nibabel.save(Nifti1Image(np.moveaxis(frames, 0, -1)[..., None, :].swapaxes(0, 1), np.eye(4)), path)


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("case_a.nii.gz", _nifti),
        ("case_a.mat", lambda path, frames: scipy.io.savemat(path, {"frames": np.moveaxis(frames, 0, -1)})),
        ("case_a.zarr", lambda path, frames: zarr.create_array(str(path), data=frames)),
        ("case_a.nrrd", lambda path, frames: nrrd.write(str(path), frames, index_order="C")),
    ],
)
def test_clips_of_every_format_are_evaluated(tmp_path, name, save):
    frames = np.stack([frame(number) for number in (10, 20, 30, 40, 50)])
    (tmp_path / "noisy").mkdir()
    save(tmp_path / "noisy" / name, frames)
    (tmp_path / "noisy" / "README.txt").write_text("five frames")
    write(tmp_path / "noisy_roi" / "case_a-frame-3.png", mask())
    (case,) = find_dataset(tmp_path).cases
    assert case.name == "case_a"
    loaded = case.read()
    assert list(loaded.annotations) == [3]
    np.testing.assert_allclose(loaded.clip.frames, frames / 255, atol=1e-6)


def test_a_clip_of_one_frame_is_left_out_with_a_note(tmp_path):
    for number in (1, 2):
        write(tmp_path / "noisy" / f"patient-3-4C-frame-{number}.png", frame(number))
    write(tmp_path / "noisy" / "patient-5-4C-frame-1.png", frame(1))
    write(tmp_path / "noisy_roi" / "patient-3-4C-frame-1.png", mask())
    dataset = find_dataset(tmp_path)
    assert [case.patient for case in dataset.cases] == ["patient-3"]
    assert "one frame only" in dataset.notes[0]


def test_a_mask_folder_by_another_spelling_is_not_a_clip(tmp_path, monkeypatch):
    for number in (1, 2):
        write(tmp_path / f"patient-3-4C-frame-{number}.png", frame(number))
    write(tmp_path / "roi" / "patient-3-4C-frame-1.png", mask())
    monkeypatch.chdir(tmp_path)
    (case,) = find_dataset(tmp_path, masks=Path("../") / tmp_path.name / "roi").cases
    assert len(case.masks) == 1


def test_a_damaged_clean_frame_costs_its_clip_only(tmp_path):
    files = [[tmp_path / f"patient-{p}-4C-frame-{n}.png" for n in (1, 2)] for p in (1, 2)]
    for clip in files:
        for number, path in enumerate(clip, start=1):
            write(path, frame(number))
    whole, notes = clean_intensities(files[:1])
    assert whole is not None
    assert notes == []
    files[1][0].write_bytes(files[1][0].read_bytes()[:40])
    left, notes = clean_intensities(files)
    np.testing.assert_array_equal(left, whole)
    assert len(notes) == 1
    assert "patient-2" in notes[0]
    assert clean_intensities(files[1:])[0] is None


# what can be wrong with a folder


def without(name):
    return lambda root: [path.unlink() for path in (root / name).iterdir()]


def truth_with_a_gap(root):
    for number in (1, 2):
        for patient in (3, 12):
            write(root / "truth" / f"patient-{patient}-4C-frame-{number}.png", frame(number))


WRONG_FOLDERS = {
    "no clips": (without("noisy"), "holds no clips"),
    "no masks": (without("noisy_roi"), "holds no mask of any frame"),
    "no number": (lambda root: write(root / "noisy" / "logo.png", frame(1)), "no frame number"),
    "twice": (lambda root: write(root / "noisy" / "patient-3-4C-frame-02.png", frame(1)), "both frame 2"),
    "truth with a gap": (truth_with_a_gap, "no truth of frame 4"),
    "no truth of a clip": (
        lambda root: [write(root / "truth" / f"patient-3-4C-frame-{n}.png", frame(n)) for n in (1, 2, 4, 10, 11)],
        "no truth of patient-12-4C",
    ),
}


@pytest.mark.parametrize("kind", WRONG_FOLDERS)
def test_what_is_wrong_with_a_folder_is_said_at_once(kind, tmp_path):
    spoil, words = WRONG_FOLDERS[kind]
    spoil(challenge(tmp_path))
    with pytest.raises(InputError, match=words):
        find_dataset(tmp_path)


def test_missing_folders_are_named(tmp_path):
    challenge(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        find_dataset(tmp_path / "elsewhere")
    for flag in ("noisy", "masks", "clean", "truth"):
        with pytest.raises(InputError, match=f"--{flag} nowhere"):
            find_dataset(tmp_path, **{flag: Path("nowhere")})
    (tmp_path / "blank").mkdir()
    with pytest.raises(InputError, match="--clean"):
        find_dataset(tmp_path, clean=Path("blank"))


# what can be wrong with a mask


def test_a_mask_must_fit_its_frame_and_use_its_values(tmp_path):
    shape = (SIDE, SIDE)
    write(tmp_path / "small.png", mask()[:-1])
    with pytest.raises(InputError, match="19 x 20 pixels"):
        read_mask(tmp_path / "small.png", shape)
    write(tmp_path / "labels.png", (mask() > 0).astype(np.uint8))
    with pytest.raises(InputError, match="255 in the septum"):
        read_mask(tmp_path / "labels.png", shape)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match="damaged"):
        read_mask(tmp_path / "broken.png", shape)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ([("atrium", SQUARE, "polygon")], "atrium"),
        ([("septum", SQUARE[:2], "polygon")], "2 points"),
        ([("septum", SQUARE[:2], "circle")], "circle"),
    ],
)
def test_shapes_that_are_no_regions_are_refused(shapes, words, tmp_path):
    with pytest.raises(InputError, match=words):
        read_mask(labelme(tmp_path / "a.json", shapes), (SIDE, SIDE))


def test_labelme_files_of_another_size_or_kind_are_refused(tmp_path):
    with pytest.raises(InputError, match="40 x 20"):
        read_mask(labelme(tmp_path / "a.json", [("septum", SQUARE, "polygon")], height=40), (SIDE, SIDE))
    for text in ("{", "[]", '{"shapes": [{"label": "septum"}]}'):
        (tmp_path / "b.json").write_text(text)
        with pytest.raises(InputError, match="not a LabelMe file"):
            read_mask(tmp_path / "b.json", (SIDE, SIDE))
