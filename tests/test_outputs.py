"""The forms of a dehazed clip that `dehaze --write` adds, or writes alone."""

import dataclasses
import json
from pathlib import Path

import h5py
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import zarr

from nuclear_diffusion import cli
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import Clip, Recording, open_writer, write_video
from nuclear_diffusion.io.levels import EIGHT_BITS
from nuclear_diffusion.paper.gaussian import Gaussian
from nuclear_diffusion.restore.clip import Dehazed, Piece
from nuclear_diffusion.restore.methods import Nuclear, Rpca
from nuclear_diffusion.restore.outputs import Outputs
from nuclear_diffusion.restore.run import LoadedPrior, dehaze_file, render_result

pytestmark = pytest.mark.usefixtures("_no_figures_of_results")

RPCA = Rpca()
NO_PRIOR = LoadedPrior(None, None)


def hazy(frames: int = 6, height: int = 40, width: int = 48) -> np.ndarray:
    rng = np.random.default_rng(0)
    speckle = np.stack([np.roll(rng.rayleigh(20, (height, width)), t, 0) for t in range(frames)])
    return np.clip(speckle + np.linspace(90, 30, height)[:, None], 0, 255).astype(np.uint8)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    write_video(tmp_path / "in" / "clip.dcm", hazy(), 20.0)
    return tmp_path / "in" / "clip.dcm"


def signal_of(folder: Path) -> np.ndarray:
    with h5py.File(folder / "result.h5") as file:
        signal = file["signal"]
        assert isinstance(signal, h5py.Dataset)
        return np.rint(signal[()] * 255)


@pytest.mark.slow
def test_kinds_are_added_to_the_result_folder(tmp_path, clip):
    folder = tmp_path / "out" / "clip"
    outputs = Outputs.parse("dicom, mha,mp4,zarr")
    assert not dehaze_file(clip, folder, RPCA, NO_PRIOR, outputs=outputs).skipped
    signal = signal_of(folder)
    np.testing.assert_array_equal(pydicom.dcmread(folder / "signal.dcm").pixel_array, signal)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "signal.mha"))), signal)
    np.testing.assert_array_equal(np.asarray(zarr.open_array(folder / "signal.zarr")[:]), signal)
    source = pydicom.dcmread(clip)
    derived = pydicom.dcmread(folder / "signal.dcm")
    assert derived.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert derived.StudyInstanceUID == source.StudyInstanceUID
    assert dehaze_file(clip, folder, RPCA, NO_PRIOR, outputs=outputs).skipped


def test_a_missing_kind_is_made_from_the_result(tmp_path, clip):
    folder = tmp_path / "out" / "clip"
    dehaze_file(clip, folder, RPCA, NO_PRIOR)
    before = (folder / "result.h5").stat().st_mtime_ns
    assert not dehaze_file(clip, folder, RPCA, NO_PRIOR, outputs=Outputs(("dicom", "h5"))).skipped
    np.testing.assert_array_equal(pydicom.dcmread(folder / "signal.dcm").pixel_array, signal_of(folder))
    assert (folder / "result.h5").stat().st_mtime_ns == before
    assert dehaze_file(clip, folder, RPCA, NO_PRIOR).skipped


@pytest.mark.slow
def test_another_strength_is_rendered_with_its_kinds(tmp_path):
    """From the finished estimate; `render` leaves such a result alone, for it does not have the input's header."""
    write_video(tmp_path / "clip.npz", hazy(), 20.0)
    folder, prior = tmp_path / "out", LoadedPrior(Gaussian(20.0, 0.1), None)
    outputs = Outputs(("dicom",))
    dehaze_file(tmp_path / "clip.npz", folder, Nuclear(), prior, outputs=outputs)
    with pytest.raises(InputError, match=r"also holds signal\.dcm: use dehaze with --write"):
        render_result(folder, 0.9)
    told = []
    again = render_result(folder, 0.9, tmp_path / "new", progress=lambda *about: told.append(about))
    assert "signal.dcm" not in {path.name for path in again.folder.iterdir()}
    assert told[-1] == (len(hazy()), len(hazy()))
    dehaze_file(tmp_path / "clip.npz", folder, Nuclear(strength=0.9), prior, outputs=outputs, overwrite=True)
    np.testing.assert_array_equal(pydicom.dcmread(folder / "signal.dcm").pixel_array, signal_of(folder))
    np.testing.assert_array_equal(signal_of(folder), signal_of(tmp_path / "new"))


@pytest.mark.slow
def test_flat_outputs_have_the_inputs_name(tmp_path, clip):
    folder = tmp_path / "out" / "clip"
    outcome = dehaze_file(clip, folder, RPCA, NO_PRIOR, outputs=Outputs(("mha", "npz"), flat=True))
    assert outcome.folder == tmp_path / "out" / "clip.mha"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["clip.mha", "clip.npz"]
    dehaze_file(clip, folder, RPCA, NO_PRIOR)
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "clip.npz")["frames"], signal_of(folder))
    assert dehaze_file(clip, folder, RPCA, NO_PRIOR, outputs=Outputs(("mha", "npz"), flat=True)).skipped


def test_the_input_is_never_replaced(clip):
    before = clip.read_bytes()
    with pytest.raises(InputError, match="is the input itself: choose another -o"):
        dehaze_file(clip, clip.parent / "clip", RPCA, NO_PRIOR, outputs=Outputs(("dicom",), flat=True), overwrite=True)
    assert clip.read_bytes() == before
    assert [path.name for path in clip.parent.iterdir()] == ["clip.dcm"]


def series(folder: Path, frames: np.ndarray) -> Clip:
    """The challenge's input: a MetaImage for each frame, with spacing and type of its own."""
    folder.mkdir()
    files = []
    for number, frame in enumerate(frames, start=1):
        image = sitk.GetImageFromArray(frame)
        image.SetSpacing((0.5, 0.25))
        image.SetOrigin((1, 2))
        files.append(folder / f"patient-8-4C-frame-{number}.mha")
        sitk.WriteImage(image, str(files[-1]))
    values = frames.astype(np.float32) / 255
    return Clip(values, 30.0, None, None, "patient-8-4C-frame", folder, tuple(files), EIGHT_BITS)


def test_a_file_for_each_frame_comes_back_under_its_name(tmp_path):
    frames = hazy(11)
    clip = series(tmp_path / "in", frames)
    outputs, source = Outputs(("mha", "mp4"), flat=True), Recording.of(clip)
    paths = outputs.flat_paths(tmp_path / "out", "patient-8", source)
    everywhere = np.ones(clip.frames.shape[1:], bool)
    pieces = (Piece(part, Dehazed(part.frames, 0 * part.frames, None, everywhere, 0.0)) for part in source.blocks(4))
    for count, _ in zip((4, 8, 11), outputs.passing(pieces, paths, source, RPCA), strict=True):
        assert len(list((tmp_path / "out").glob("*.mha"))) == count  # each is there as its frame has passed
    names = {file.name for file in clip.files or ()}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names | {"patient-8.mp4"}
    for number, frame in enumerate(frames, start=1):
        image = sitk.ReadImage(str(tmp_path / "out" / f"patient-8-4C-frame-{number}.mha"))
        assert (image.GetSpacing(), image.GetOrigin()) == ((0.5, 0.25), (1, 2))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), frame)


def test_a_series_is_not_replaced_either(tmp_path):
    clip = series(tmp_path / "in", hazy())
    with pytest.raises(InputError, match=r"frame-1\.mha is the input itself"):
        Outputs(("mha",), flat=True).flat_paths(tmp_path / "in", "patient-8", Recording.of(clip))


def test_blocks_have_the_sources_files(tmp_path):
    clip = series(tmp_path / "in", hazy(7))
    assert clip.files is not None
    parts = list(Recording.of(clip).blocks(3))
    assert [part.files for part in parts] == [clip.files[:3], clip.files[3:6], clip.files[6:]]
    whole = dataclasses.replace(Recording.of(clip)).read()
    assert (whole.files, whole.levels) == (clip.files, clip.levels)


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("mp3", {}, "--write does not know mp3: choose from dicom"),
        ("mha,", {}, "--write does not know an empty name"),
        ("", {"flat": True}, "--flat writes what --write names"),
        ("mha", {"anonymize": True}, "--anonymize is for DICOM: add --write dicom"),
    ],
)
def test_mistakes_are_said_before_work(text, options, says):
    with pytest.raises(InputError, match=says):
        Outputs.parse(text, **options)


def test_an_extra_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("nuclear_diffusion.io.write.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'nuclear-diffusion\[zarr\]'"):
        Outputs(("zarr",))
    with pytest.raises(InputError, match=r"pip install 'nuclear-diffusion\[anonymize\]'"):
        Outputs(("dicom",), anonymize=True)


def test_the_command_line(tmp_path, clip, capsys):
    words = ["dehaze", str(clip), "-o", str(tmp_path / "out"), "--method", "rpca", "--write", "dicom,gif"]
    assert cli.main([*words, "--flat", "--anonymize"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["clip.dcm", "clip.gif"]
    assert pydicom.dcmread(tmp_path / "out" / "clip.dcm").PatientIdentityRemoved == "YES"
    assert cli.main([*words, "--flat"]) == 0
    assert "clip.dcm: skipped, exists; --overwrite replaces it" in capsys.readouterr().out
    assert cli.main([*words[:-1], "gif", "--anonymize"]) == 2


def test_the_containers_command(tmp_path):
    """Its entry point, with further options typed after the image's name."""
    lines = Path(__file__, "../../containers/Dockerfile").resolve().read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("ENTRYPOINT")]
    words: list[str]
    program, *words = json.loads(line.removeprefix("ENTRYPOINT"))
    assert program == "nuclear-diffusion"
    write_video(tmp_path / "input", hazy(), 20.0)
    places = {f"/{name}": str(tmp_path / name) for name in ("input", "output")}
    assert cli.main([places.get(word, word) for word in [*words, "--method", "rpca"]]) == 0
    (written,) = (tmp_path / "output").iterdir()
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(written))).shape == hazy().shape
    assert written.suffix == ".mha"


def test_sixteen_bits_come_back(tmp_path):
    stored = hazy().astype(np.uint16) * 257
    sitk.WriteImage(sitk.GetImageFromArray(stored), str(tmp_path / "deep.mha"))
    dehaze_file(tmp_path / "deep.mha", tmp_path / "out" / "deep", RPCA, NO_PRIOR, outputs=Outputs(("mha",), flat=True))
    image = sitk.ReadImage(str(tmp_path / "out" / "deep.mha"))
    assert image.GetPixelIDTypeAsString() == "16-bit unsigned integer"
    dehazed = sitk.GetArrayFromImage(image)
    assert 0.1 * stored.max() < dehazed.max() <= stored.max()
    with pytest.raises(ValueError, match="`shape` must"), open_writer(tmp_path / "x.mha", "mha", (0, 2, 2), 25.0):
        pass
