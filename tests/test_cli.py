"""The command line: exit codes, one sentence for what the user can mend, and what is left on the disk."""

import csv
import functools
import io
import json
import pickle
import shlex
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path

import h5py
import numpy as np
import pydicom.examples
import pytest
from pydicom.encaps import encapsulate, generate_frames

import crew
import nuclear_diffusion
from networks import random_prior
from nuclear_diffusion import cli, options
from nuclear_diffusion.cli import main
from nuclear_diffusion.io import Clip, write_video
from nuclear_diffusion.io.recording import Recording
from nuclear_diffusion.paper.gaussian import Gaussian
from nuclear_diffusion.priors.checkpoint import load_prior
from nuclear_diffusion.priors.diffusion_prior import DiffusionPrior
from nuclear_diffusion.restore import batch, run
from nuclear_diffusion.restore import clip as core
from nuclear_diffusion.restore.folder import FILES, About, write_result
from nuclear_diffusion.restore.frames import fingerprint
from nuclear_diffusion.restore.methods import METHODS, as_dict
from nuclear_diffusion.simulation import simulate


def moving(frames: int = 5, height: int = 40, width: int = 48) -> np.ndarray:
    rng = np.random.default_rng(0)
    speckle = np.clip(rng.rayleigh(0.2, (height, width)) + 0.1, 0, 1)
    return np.stack([np.roll(speckle, 2 * t, axis=0) for t in range(frames)]).astype(np.float32)


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.npz"
    write_video(path, moving(), 20.0)
    return path


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def _at_32_pixels(monkeypatch):
    """Separate at 32 pixels a side rather than 256."""

    def dehaze_small(*args, **kwargs):
        return core.dehaze_recording(*args, **kwargs, size=32)

    monkeypatch.setattr(run, "dehaze_recording", dehaze_small)


@pytest.fixture
def _small(_at_32_pixels, _no_figures_of_results):
    """Neither do the pictures take long."""


def assert_refused(capsys, code, *words):
    """Exit code 2 and one sentence on the standard error that holds `words`."""
    captured = capsys.readouterr()
    assert code == 2
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("error: ")
    assert "Traceback" not in captured.err
    for word in words:
        assert str(word) in captured.err


# what cannot be used


def text_as_mp4(folder):
    path = folder / "text.mp4"
    path.write_text("this is not a video\n" * 100)
    return path


def truncated_dicom(folder):
    whole = pydicom.examples.get_path("ybr_color").read_bytes()
    path = folder / "cut.dcm"
    path.write_bytes(whole[: len(whole) // 2])
    return path


def empty_folder(folder):
    path = folder / "empty"
    path.mkdir()
    return path


def array(name, frames):
    def make(folder):
        path = folder / f"{name}.npy"
        np.save(path, frames)
        return path

    return make


def mixed_sizes(folder):
    path = folder / "mixed"
    write_video(path, moving(frames=2, height=32), 10)
    for file in path.iterdir():
        file.rename(path / f"a-{file.name[-5]}.png")
    write_video(folder / "other", moving(frames=2, height=40), 10)
    for file in (folder / "other").iterdir():
        file.rename(path / f"a-1{file.name[-5]}.png")
    return path


BAD_CLIPS = {
    "missing": lambda folder: folder / "missing.mp4",
    "empty folder": empty_folder,
    "text renamed": text_as_mp4,
    "truncated DICOM": truncated_dicom,
    "one frame": array("one", moving(frames=1)),
    "mixed sizes": mixed_sizes,
    "NaN": array("nan", np.where(moving() > 0.4, np.nan, moving())),
    "infinite": array("inf", np.where(moving() > 0.4, np.inf, moving())),
    "constant": array("constant", np.full((5, 40, 48), 0.5, np.float32)),
    "identical frames": array("identical", np.repeat(moving(frames=1), 5, axis=0)),
}


@pytest.mark.parametrize("kind", BAD_CLIPS)
def test_a_bad_clip_gets_one_sentence_and_leaves_nothing(kind, tmp_path, out, capsys):
    path = BAD_CLIPS[kind](tmp_path)
    assert_refused(capsys, main(["dehaze", str(path), "-o", str(out), "--method", "rpca"]), path)
    assert not out.exists()


@pytest.mark.parametrize(
    "flags",
    [
        "--strength -0.1",
        "--strength 1.1",
        "--strength nan",
        "--samples 1",
        "--mu 1",
        "--method paper --mu 0",
        "--method paper --mu -1",
        "--method paper --gamma nan",
        "--method paper --steps 0",
        "--method paper --window -3",
        "--method paper --overlap 99",
        "--seed -1",
        "--method mmse --sigma 0",
        "--method rpca --lam inf",
        "--method rpca --mu 1",
    ],
)
def test_a_bad_setting_is_named_before_any_work(flags, clip, out, capsys, monkeypatch):
    monkeypatch.setattr(batch, "prior_of", lambda method: pytest.fail("work began"))
    name = flags.split()[-2].removeprefix("--")
    assert_refused(capsys, main(["dehaze", str(clip), "-o", str(out), *flags.split()]), name)
    assert not out.exists()


@pytest.mark.parametrize(
    "command",
    [
        "train simulator -o OUT --steps 0",
        "train simulator -o OUT --learning-rate nan",
        "train simulator -o OUT --minutes -1",
        "train simulator -o OUT --batch 0",
        "train simulator -o OUT --patients 0",
        "train simulator -o OUT --cache-gb 0",
        "simulate OUT --clips 0",
        "simulate OUT --seed -1",
        "simulate OUT --frames -5",
    ],
)
def test_other_commands_check_their_settings_too(command, out, capsys):
    arguments = command.replace("OUT", str(out)).split()
    assert_refused(capsys, main(arguments), arguments[-2])
    assert not out.exists()


def test_a_script_for_completion_is_no_failure(capsys):
    assert main(["--tyro-print-completion", "bash"]) == 0
    assert "complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("", "Name a command: choose one of dehaze, inspect"),
        ("wash", "wash is no command: choose one of dehaze, inspect"),
        ("dehze x -o y", "did you mean dehaze?"),
        ("--fps 3", "--fps is no command"),
        ("dehaze", "nuclear-diffusion dehaze needs -o DIR: see nuclear-diffusion dehaze --help."),
        ("train", "needs DATA and -o RUN"),
        ("dehaze x -o", "--output needs a value: add it, or remove --output."),
        ("dehaze x --ouput y", "has no option --ouput; did you mean --output?"),
        ("dehaze x -o y --strenght=1", "has no option --strenght; did you mean --strength?"),
        ("dehaze x -o y --steps many", "--steps is not a setting of method nuclear"),
        ("dehaze x -o y --steps 3", "remove it, or add --method paper or zea."),
        ("dehaze x -o y --method rpca --strength 1", "remove it, or instead use --method nuclear."),
        ("dehaze x -o y --fps abc", "--fps RATE must be a number, got abc."),
        ("dehaze x -o y --db 1 x", "--db LOW HIGH must be two numbers, got 1 x."),
        ("dehaze x -o y --method nuclr", "got nuclr; did you mean nuclear?"),
        ("tune x -o y --method magic", "--method must be one of nuclear, paper, zea, mmse, aware, rpca, got magic."),
        ("simulate y --frames 3.5", "--frames INT must be a whole number, got 3.5."),
        (f"simulate y {'long/' * 30}path", f"cannot use '{'long/' * 30}path': remove it."),
        ("train x -o y --widths 8 x", "--widths INT... must be whole numbers, got 8 x."),
        ("train x -o y --no-haze", "has no option --no-haze: see nuclear-diffusion train --help."),
        ("dehaze x -o y --jobs a'b", "--jobs N must be a whole number, got a'b."),
        ("dehaze x -o y --jobs=a'b --fps 3", "--jobs N must be a whole number, got a'b."),
        ("train x -o y --widths a'b 8 --seed 2", "--widths INT... must be whole numbers, got a'b 8."),
        ("dehaze x -o y --fps=", "--fps RATE must be a number, got nothing."),
        ("dehaze x -o y --method=", "got nothing."),
        ("dehaze --overwrite=no x -o y", "--overwrite takes no value: remove =no."),
        ("dehaze x --flat=yes -o y", "--flat takes no value: remove =yes."),
        ("--tyro-print-completion foo", "--tyro-print-completion must be followed by bash, zsh, tcsh, fish."),
        ("dehaze --tyro-print-completion", "--tyro-print-completion must be followed by bash"),
        ("--tyro-write-completion bash", "must be followed by bash, zsh, tcsh, fish and a file."),
        ("train x -o y --shown 0.5", "no option --shown"),
        ("train x -o y --full-from 0.5", "no option --full-from"),
    ],
)
@pytest.mark.parametrize(("columns", "encoding"), [("40", "utf-8"), ("200", "latin-1")])
def test_what_cannot_be_parsed_is_one_sentence(command, words, columns, encoding, capsys, monkeypatch):
    """Whatever the width and the letters of the terminal, by which tyro draws its boxes."""
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    assert_refused(capsys, main(command.split()), words)


@pytest.mark.parametrize("arguments", [["", "-o", "y"], ["x", "-o", ""], ["x", "", "-o", "y"]])
def test_an_empty_argument_is_not_this_folder(arguments, capsys):
    """As from a shell's variable that is not set."""
    assert_refused(capsys, main(["dehaze", *arguments]), "An argument is empty")


def test_help_after_an_option_without_its_value_is_help(capsys):
    assert main(["dehaze", "x", "--jobs", "--help"]) == 0
    assert "--strength" in capsys.readouterr().out


def test_a_box_of_a_kind_not_known_here_is_one_sentence_too():
    box = "╭─ Conflict ──────╮\n│ a and b exclude │\n│ each other.     │\n│ ─────────────── │\n│ see help        │"
    assert options._sentence(box, [], "prog") == "a and b exclude each other: see prog --help."


def test_no_clip_is_said(out, capsys):
    assert_refused(capsys, main(["dehaze", "-o", str(out), "--method", "rpca"]), "clip")


@pytest.mark.parametrize(
    "command", ["dehaze CLIP -o OUT --method rpca", "simulate OUT", "train simulator -o OUT", "demo -o OUT"]
)
def test_an_unwritable_output_is_refused(command, clip, tmp_path, capsys):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out"
    assert_refused(capsys, main(command.replace("CLIP", str(clip)).replace("OUT", str(out)).split()), tmp_path / "file")


@pytest.mark.usefixtures("_small")
def test_a_full_disk_is_one_sentence(clip, out, capsys, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device", str(out))

    monkeypatch.setattr(run, "write_result", full)
    assert_refused(capsys, main(["dehaze", str(clip), "-o", str(out), "--method", "rpca"]), "no space left", out)
    assert not out.exists()


def test_a_text_named_as_dicom_is_no_dicom(tmp_path, capsys):
    (tmp_path / "broken.dcm").write_text("no clip")
    said = "broken.dcm is named as DICOM but does not begin as DICOM"
    assert_refused(capsys, main(["inspect", str(tmp_path / "broken.dcm")]), said)


def test_a_pickle_is_never_opened(clip, out, tmp_path, capsys):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was opened",))

    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(pickle.dumps(Trap()))
    assert_refused(capsys, main(["dehaze", str(clip), "-o", str(out), "--prior", str(weights)]), weights)
    assert not out.exists()


def test_weights_of_another_architecture_are_refused(clip, out, tmp_path, capsys):
    from safetensors.numpy import save_file

    weights = tmp_path / "weights.safetensors"
    save_file({"conv": np.zeros((3, 3), np.float32)}, weights)
    assert_refused(capsys, main(["dehaze", str(clip), "-o", str(out), "--prior", str(weights)]), weights)
    assert not out.exists()


@pytest.mark.usefixtures("_small")
def test_a_mistake_of_ours_is_not_hidden(clip, out, monkeypatch):
    def broken(*args):
        raise ZeroDivisionError

    monkeypatch.setattr(run, "write_result", broken)
    with pytest.raises(ZeroDivisionError):
        main(["dehaze", str(clip), "-o", str(out), "--method", "rpca"])


# what works


@pytest.mark.slow
@pytest.mark.usefixtures("_small")
def test_a_clip_is_written_then_skipped_then_kept_then_replaced(clip, out, capsys):
    command = ["dehaze", str(clip), "-o", str(out), "--method", "rpca"]
    assert main(command) == 0
    assert {path.name for path in (out / "clip").iterdir()} == set(FILES)
    assert [path.name for path in out.iterdir()] == ["clip"]
    written = (out / "clip" / "result.h5").stat().st_mtime_ns
    capsys.readouterr()

    assert main(command) == 0
    assert "skipped" in capsys.readouterr().out

    assert_refused(capsys, main([*command, "--lam", "2"]), "--overwrite")
    assert (out / "clip" / "result.h5").stat().st_mtime_ns == written

    write_video(clip, moving()[::-1], 20.0)
    assert_refused(capsys, main(command), "--overwrite")

    assert main([*command, "--lam", "2", "--overwrite"]) == 0
    assert json.loads((out / "clip" / "report.json").read_text())["settings"]["lam"] == 2
    assert [path.name for path in out.iterdir()] == ["clip"]


@pytest.mark.usefixtures("_small")
def test_the_picture_that_marks_dimmed_pixels_is_named_where_there_is_one(clip, out, capsys):
    command = ["dehaze", str(clip), "-o", str(out), "--method", "rpca"]
    assert main(command) == 0
    picture = out / "clip" / "summary.png"
    lost = json.loads((out / "clip" / "report.json").read_text())["bright_tissue_lost"]
    words = f"{100 * lost:.1f} % of the bright pixels dimmed by more than a quarter"
    assert lost > 0
    assert picture.exists()
    assert capsys.readouterr().out.endswith(f"{words}, marked in {picture}\n")
    assert main([*command, "--flat", "--write", "npz"]) == 0
    assert capsys.readouterr().out.endswith(f"{words}\n")
    assert cli._removed(0.1, 0.0, out).endswith("0.0 % of the bright pixels dimmed by more than a quarter")
    assert cli._removed(0.1, None, out) == "10.0 % of the energy removed"


@pytest.mark.slow
@pytest.mark.usefixtures("_small")
def test_one_bad_clip_does_not_stop_the_others(clip, tmp_path, out, capsys):
    second = tmp_path / "second.npz"
    write_video(second, moving(), 20.0)
    command = ["dehaze", str(clip), str(tmp_path / "missing.mp4"), str(second), "-o", str(out), "--method", "rpca"]
    assert_refused(capsys, main(command), "missing.mp4")
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == [".batch", "clip", "second"]


@pytest.mark.usefixtures("_small")
def test_ctrl_c_keeps_what_is_finished(clip, tmp_path, out, capsys, monkeypatch):
    second = tmp_path / "second.npz"
    write_video(second, moving(), 20.0)
    write_result = run.write_result

    def stopped_at_second(folder, clip, *rest):
        (folder / "half").touch()
        if clip.name == "second":
            raise KeyboardInterrupt
        (folder / "half").unlink()
        return write_result(folder, clip, *rest)

    monkeypatch.setattr(run, "write_result", stopped_at_second)
    monkeypatch.setattr(batch, "spread", crew.spread_here)
    assert main(["dehaze", str(clip), str(second), "-o", str(out), "--method", "rpca"]) == 130
    assert "Finished: 1 clip; not finished: second." in capsys.readouterr().err
    assert sorted(path.name for path in out.iterdir()) == [".batch", "clip"]


@pytest.mark.parametrize("method", METHODS)
def test_help_shows_the_settings_of_a_method_with_their_defaults(method, capsys):
    assert main(["dehaze", "--method", method, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    settings = as_dict(METHODS[method]())
    for name in {name for kind in METHODS.values() for name in kind.__struct_fields__}:
        if name not in settings:
            assert f"--{name} " not in shown
            continue
        words = shown[shown.index(f"--{name} ") :]
        words = words[words.index("(default: ") + len("(default: ") :]
        assert words[: words.index(")")] == str(settings[name])


@pytest.mark.parametrize("command", ["app", "dehaze", "evaluate", "inspect", "render", "simulate", "train", "tune"])
def test_help_names_no_empty_default(command, capsys):
    assert main([command, "--help"]) == 0
    assert "(default: )" not in " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_a_setting_of_another_method_is_refused_with_a_hint(capsys, tmp_path):
    assert main(["dehaze", "clip.npz", "-o", str(tmp_path / "out"), "--method", "rpca", "--strength", "1"]) == 2
    error = capsys.readouterr().err
    assert "--strength" in error
    assert "--method nuclear" in error


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"nuclear-diffusion {nuclear_diffusion.__version__}\n"


def test_help_and_import_are_light():
    code = (
        "import sys, nuclear_diffusion as nd\n"
        "from nuclear_diffusion.cli import main\n"
        "main(['--help']); main(['dehaze', '--help']); main(['tune', '--help'])\n"
        "assert not {'jax', 'scipy', 'matplotlib', 'av', 'optuna'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_python_without_docstrings_is_refused():
    command = [sys.executable, "-OO", "-m", "nuclear_diffusion", "--help"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == "error: scikit-image cannot do without docstrings: use python -O, not python -OO.\n"


def test_every_public_name_exists():
    for name in dir(nuclear_diffusion):
        assert getattr(nuclear_diffusion, name) is not None
    with pytest.raises(AttributeError):
        nuclear_diffusion.nonsense  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_simulate_writes_a_data_set(out, capsys):
    assert main(["simulate", str(out), "--clips", "1", "--frames", "2", "--size", "64"]) == 0
    assert any(out.rglob("*.png"))
    assert str(out) in capsys.readouterr().out


def test_simulate_goes_on_after_ctrl_c(out, capsys, monkeypatch):
    command = ["simulate", str(out), "--clips", "2", "--frames", "2", "--size", "64"]
    seen: list[int] = []

    def stopped_at_second(*, seed, haze=1.0, **rest):
        if seed == 1:
            raise KeyboardInterrupt
        seen.append(seed)
        return simulate(seed=seed, haze=haze, **rest)

    with monkeypatch.context() as context:
        context.setattr("nuclear_diffusion.simulation.dataset.simulate", stopped_at_second)
        assert main(command) == 130
    assert "Interrupted. Finished: 1 of 2 patients; the same command makes the rest.\n" in capsys.readouterr().err
    monkeypatch.setattr("nuclear_diffusion.simulation.dataset.simulate", stopped_at_second)
    seen.clear()
    assert main(command) == 130  # at the second patient, as the first is finished
    assert seen == []


@pytest.mark.parametrize(
    ("name", "flags", "rate"),
    [
        ("said.npz", "", "20 frames/s, 0.25 s"),
        ("unsaid.npy", "", "30 frames/s (assumed; --fps sets it), 0.167 s"),
        ("unsaid.npy", "--fps 30", "30 frames/s, 0.167 s"),
    ],
)
def test_inspect_says_whether_the_rate_is_assumed(name, flags, rate, tmp_path, capsys):
    write_video(tmp_path / "said.npz", moving(), 20.0)
    np.save(tmp_path / "unsaid.npy", moving())
    assert main(["inspect", str(tmp_path / name), *flags.split()]) == 0
    assert f"  rate    {rate}\n" in capsys.readouterr().out


def series(folder: Path) -> Path:
    write_video(folder / "frames", moving(), 20.0)
    return folder / "frames"


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("clip.npz", "is the input itself"),
        ("link.png", "is the input itself"),
        ("frames/frame-2.png", "is the input itself"),
        ("other.dcm", "must name a picture that ends in .png"),
        ("new.txt", "must name a picture that ends in .png"),
        ("notes.png", "exists and is not a PNG"),
    ],
)
def test_a_picture_of_a_clip_replaces_neither_the_clip_nor_what_is_no_picture(output, words, clip, tmp_path, capsys):
    for name in ("other.dcm", "notes.png"):
        (tmp_path / name).write_text("of another")
    (tmp_path / "link.png").symlink_to(clip)
    inspected = series(tmp_path) if output.startswith("frames") else clip
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert_refused(capsys, main(["inspect", str(inspected), "-o", str(tmp_path / output)]), words)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_a_picture_of_a_clip_replaces_an_older_one(clip, tmp_path):
    picture = tmp_path / "new" / "picture.PNG"
    for _ in range(2):
        assert main(["inspect", str(clip), "-o", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


# render


def knows_haze(run: Path) -> bool:
    """Whether the prior of a run of training is haze-aware."""
    prior = load_prior(run)
    assert isinstance(prior, DiffusionPrior)
    return prior.haze_aware


def arrays(folder) -> dict[str, np.ndarray]:
    with h5py.File(folder / "result.h5") as file:
        return {str(name): np.asarray(file[name]) for name in file}


def assert_same_result(one, other):
    """The same bits and the same report, but for the seconds."""
    held, expected = arrays(one), arrays(other)
    assert held.keys() == expected.keys()
    for name in held:
        np.testing.assert_array_equal(held[name], expected[name])
    reports = [json.loads((folder / "report.json").read_text()) | {"seconds": 0} for folder in (one, other)]
    assert reports[0] == reports[1]
    for video in one.glob("*.mp4"):
        assert video.read_bytes() == (other / video.name).read_bytes()
    assert {path.name for path in one.iterdir()} == {path.name for path in other.iterdir()}


@pytest.fixture
def blind(monkeypatch):
    """A prior known in closed form in place of the shipped one; how often it was loaded and the clip estimated."""
    asked: list[str] = []
    from nuclear_diffusion.restore.estimate import estimate_parts

    def prior_of(settings):
        asked.append("prior")
        return run.LoadedPrior(Gaussian(20.0, 0.1), "0" * 64)

    def counted(*args, **rest):
        asked.append("estimate")
        return estimate_parts(*args, **rest)

    monkeypatch.setattr(batch, "prior_of", prior_of)
    monkeypatch.setattr("nuclear_diffusion.restore.estimate.estimate_parts", counted)
    return asked


def dehaze(clip, out, *flags) -> int:
    return main(["dehaze", str(clip), "-o", str(out), *flags])


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize(
    "samples",
    [pytest.param([], id="estimate"), pytest.param(["--samples", "2"], id="draws", marks=pytest.mark.slow)],
)
def test_rendering_is_dehazing_at_that_strength_without_the_prior(samples, clip, tmp_path, blind, capsys):
    assert dehaze(clip, tmp_path / "weak", "--strength", "0.1", *samples) == 0
    assert dehaze(clip, tmp_path / "strong", "--strength", "0.9", *samples) == 0
    weak, strong = (arrays(tmp_path / name / "clip")["signal"] for name in ("weak", "strong"))
    assert np.abs(weak - strong).max() > 0.05
    before = {path.name: path.read_bytes() for path in (tmp_path / "weak" / "clip").iterdir()}
    blind.clear()
    capsys.readouterr()

    assert main(["render", str(tmp_path / "weak" / "clip"), "--strength", "0.9", "-o", str(tmp_path / "new")]) == 0
    assert str(tmp_path / "new" / "clip") in capsys.readouterr().out
    assert_same_result(tmp_path / "new" / "clip", tmp_path / "strong" / "clip")
    assert {path.name: path.read_bytes() for path in (tmp_path / "weak" / "clip").iterdir()} == before

    capsys.readouterr()
    assert main(["render", str(tmp_path / "weak" / "clip"), "--strength", "0.9", "--json"]) == 0  # in its place
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said == {"event": "done", "result": str(tmp_path / "weak" / "clip")}
    assert_same_result(tmp_path / "weak" / "clip", tmp_path / "strong" / "clip")
    assert [path.name for path in (tmp_path / "weak").iterdir()] == ["clip"]
    assert blind == []


@pytest.mark.slow
@pytest.mark.usefixtures("_small")
def test_rendering_there_and_back_changes_nothing(clip, out, blind):
    assert dehaze(clip, out) == 0
    held = arrays(out / "clip")
    for strength in ("1", "0", "0.5"):
        assert main(["render", str(out / "clip"), "--strength", strength]) == 0
    for name, array in arrays(out / "clip").items():
        np.testing.assert_array_equal(array, held[name])
    assert dehaze(clip, out) == 0  # and it is known for what it is
    assert blind.count("estimate") == 1


@pytest.mark.slow
@pytest.mark.usefixtures("_small")
def test_dehazing_at_another_strength_renders_what_is_there(clip, tmp_path, out, blind, capsys):
    assert dehaze(clip, out, "--strength", "0.2") == 0
    assert_refused(capsys, dehaze(clip, out, "--strength", "0.8"), "--overwrite")
    assert dehaze(clip, out, "--strength", "0.8", "--overwrite") == 0
    assert blind.count("estimate") == 1
    assert dehaze(clip, tmp_path / "other", "--strength", "0.8") == 0
    assert_same_result(out / "clip", tmp_path / "other" / "clip")
    # another clip, seed or number of draws is no rendering
    for flags in (["--seed", "1"], ["--samples", "2"]):
        blind.clear()
        assert dehaze(clip, out, "--strength", "0.3", "--overwrite", *flags) == 0
        assert blind.count("estimate") == 1
    write_video(clip, moving()[::-1], 20.0)
    blind.clear()
    assert dehaze(clip, out, "--strength", "0.3", "--overwrite", "--samples", "2") == 0
    assert blind.count("estimate") == 1


@pytest.mark.slow
@pytest.mark.usefixtures("_small", "blind")
def test_a_batch_leaves_a_result_at_another_strength_and_goes_on(tmp_path, out, capsys):
    """It is said in one sentence and by the exit code, and what the sentence advises mends it."""
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in "ab":
        write_video(clips / f"{name}.npz", moving(), 20.0)
    assert dehaze(clips, out) == 0
    assert main(["render", str(out / "a"), "--strength", "0.7"]) == 0
    held = (out / "a" / "result.h5").read_bytes()
    write_video(clips / "c.npz", moving()[::-1], 20.0)
    capsys.readouterr()
    assert dehaze(clips, out, "--json") == 2
    captured = capsys.readouterr()
    events = {event["clip"]: event for event in map(json.loads, captured.out.splitlines()) if "done" in event}
    assert {name: event["event"] for name, event in events.items()} == {"a": "left", "b": "skipped", "c": "done"}
    assert (out / "a" / "result.h5").read_bytes() == held
    (said,) = [text for text in captured.err.splitlines() if text.startswith("error: ")]
    assert "strength 0.7, not 0.5: to keep it, add --strength 0.7; to change it, type" in said
    with (out / "summary.csv").open(newline="") as file:
        states = {row["clip"]: row["state"] for row in csv.DictReader(file)}
    assert states == {"a": f"left: {said.removeprefix('error: ')}", "b": "skipped", "c": "done"}
    page = (out / "summary.html").read_text()
    assert "3 clips: 1 done, 1 skipped, 1 left" in page
    assert 'src="a/summary.png"' in page
    advised = said.split("type nuclear-diffusion ")[1].split(", or")[0]
    assert main(shlex.split(advised)) == 0
    assert dehaze(clips, out) == 0


@pytest.mark.slow
@pytest.mark.usefixtures("_small", "blind")
def test_only_a_line_about_a_separation_has_its_seconds(clip, out, capsys):
    for flags, timed in (([], True), (["--write", "npy"], False), (["--strength", "0.7", "--overwrite"], False)):
        assert dehaze(clip, out, *flags) == 0
        assert (" s, " in capsys.readouterr().out) == timed


@pytest.mark.slow
@pytest.mark.usefixtures("_small", "blind")
def test_a_refusal_to_replace_a_result_says_what_differs(clip, out, capsys):
    assert dehaze(clip, out) == 0
    assert_refused(capsys, dehaze(clip, out, "--seed", "1"), "a result with another seed: add --overwrite")
    rpca = dehaze(clip, out, "--method", "rpca")
    assert_refused(capsys, rpca, "a result with another method: add --overwrite")
    write_video(clip, moving()[::-1], 20.0)
    assert_refused(capsys, dehaze(clip, out), "a result with another clip: add --overwrite")


def test_a_folder_or_file_named_for_a_result_is_answered_with_the_result(tmp_path, capsys):
    (tmp_path / "results" / "us").mkdir(parents=True)
    (tmp_path / "results" / "us" / "report.json").write_text("{}")
    for name, words in (
        ("results", f"give the result folders in it, such as {tmp_path / 'results' / 'us'}."),
        ("results/us.dcm", f"did you mean {tmp_path / 'results' / 'us'}?"),
        ("results/us", "give result folders."),
    ):
        assert_refused(capsys, main(["render", str(tmp_path / name), "--strength", "0.5"]), words)


@pytest.mark.usefixtures("_small", "blind")
def test_an_interrupted_rendering_leaves_the_old_result(clip, out, capsys, monkeypatch):
    assert dehaze(clip, out) == 0
    before = {path.name: path.read_bytes() for path in (out / "clip").iterdir()}

    def stopped(folder, *rest):
        (folder / "half").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "write_result", stopped)
    for flags in ([], ["-o", str(out.parent / "new")]):
        assert main(["render", str(out / "clip"), "--strength", "1", *flags]) == 130
        assert "Interrupted" in capsys.readouterr().err
        assert {path.name: path.read_bytes() for path in (out / "clip").iterdir()} == before
        assert [path.name for path in out.iterdir()] == ["clip"]
    assert not (out.parent / "new").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("_small", "blind")
def test_one_bad_result_does_not_stop_the_others(clip, tmp_path, out, capsys):
    assert dehaze(clip, out) == 0
    capsys.readouterr()
    command = ["render", str(tmp_path / "none"), str(out / "clip"), "--strength", "1", "-o", str(tmp_path / "new")]
    assert_refused(capsys, main(command), tmp_path / "none")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["clip"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A result of the default method and one of robust PCA."""
    folder = tmp_path_factory.mktemp("finished")
    clip = Clip(moving(), 20.0, None, None, "clip", folder / "clip.npz")
    for name, settings, prior in (
        ("RESULT", METHODS["nuclear"](), Gaussian(20.0, 0.1)),
        ("RPCA", METHODS["rpca"](), None),
    ):
        (folder / name / "clip").mkdir(parents=True)
        piece = core.Piece(clip, core.dehaze_clip(clip, settings, prior, size=32))
        about = About(settings, None, fingerprint(clip))
        write_result(folder / name / "clip", Recording.of(clip), [piece], about)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("render RESULT --strength 1.2", "strength"),
        ("render RESULT --strength -0.1", "strength"),
        ("render RESULT --strength nan", "strength"),
        ("render --strength 0.5", "result"),
        ("render MISSING --strength 0.5", "MISSING"),
        ("render EMPTY --strength 0.5", "EMPTY"),
        ("render RPCA --strength 0.5", "rpca"),
        ("render DAMAGED --strength 0.5", "DAMAGED"),
        ("render RESULT --strength 0.5 -o RPCA/report.json/x", "report.json"),
        ("render RESULT --strength 0.5 -o TAKEN", "TAKEN"),
    ],
)
def test_what_cannot_be_rendered_is_one_sentence_and_stays_as_it_was(command, word, finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "TAKEN" / "clip").mkdir(parents=True)
    shutil.copytree(tmp_path / "RESULT" / "clip", tmp_path / "DAMAGED")
    (tmp_path / "DAMAGED" / "result.h5").write_bytes(b"no HDF5")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    places = {name: tmp_path / name / "clip" for name in ("RESULT", "RPCA")}
    places |= {name: tmp_path / name for name in ("MISSING", "EMPTY", "DAMAGED", "TAKEN")}
    arguments = []
    for argument in command.split():
        name, slash, rest = argument.partition("/")
        arguments.append(f"{places[name]}{slash}{rest}" if name in places else argument)
    assert_refused(capsys, main(arguments), word)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


# end to end


@pytest.fixture(scope="module")
def tiny_prior(tmp_path_factory):
    """Weights of the shipped kind of network, small and random."""
    from nuclear_diffusion.priors.checkpoint import save_prior
    from nuclear_diffusion.priors.unet import UNetConfig

    path = tmp_path_factory.mktemp("prior") / "prior.safetensors"
    save_prior(path, random_prior(UNetConfig(widths=(8, 8), blocks=1, embedding=16, haze_aware=True), 0.1, 0.2))
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("_no_figures_of_training")
def test_train_renders_once_then_goes_on(tiny_prior, out, capsys, monkeypatch):
    """A blind prior, which is not judged: the second run is on the frames that the first one has kept."""
    monkeypatch.setattr("nuclear_diffusion.training.clips.os.cpu_count", lambda: 1)
    command = ["train", "simulator", "-o", str(out), "--blind", "--init", str(tiny_prior)]
    command += ["--patients", "2", "--size", "32", "--batch", "1"]
    assert main([*command, "--steps", "1", "--keep-cache"]) == 0
    assert {path.name for path in (out / "cache").iterdir()} == {"train-2x8-32.npy", "development-1x8-32.npy"}
    assert f"{out / 'prior.safetensors'}: 1 step on 16 frames" in capsys.readouterr().out
    monkeypatch.setattr("nuclear_diffusion.training.clips.frame_bank", lambda *_, **__: pytest.fail("rendered again"))
    assert main([*command, "--steps", "2"]) == 0
    assert "2 steps" in capsys.readouterr().out
    assert not (out / "cache").exists()
    assert not (out / "verdict.txt").exists()
    assert not knows_haze(out)


@pytest.fixture
def folder(tmp_path):
    """Two clips of different people."""
    for name in ("one", "two"):
        write_video(tmp_path / "data" / f"{name}.npz", moving(), 20.0)
    return tmp_path / "data"


@pytest.mark.slow
@pytest.mark.usefixtures("_no_figures_of_training")
def test_train_reads_a_folder_of_clips(folder, tiny_prior, out, capsys):
    """Blind, from a prior that is not: it goes on from what that one knows of clean frames."""
    command = ["train", str(folder), "-o", str(out), "--blind", "--init", str(tiny_prior)]
    assert main([*command, "--size", "32", "--batch", "1", "--steps", "1"]) == 0
    assert f"{out / 'prior.safetensors'}: 1 step on 5 frames" in capsys.readouterr().out
    assert not knows_haze(out)
    assert not (out / "cache").exists()
    assert not (out / "verdict.txt").exists()
    config = json.loads((out / "log.json").read_text())["config"]
    assert config["lr"] == 0.002  # it goes on from a prior
    assert config["network"]["widths"] == [8, 8]


def test_training_data_must_exist(tmp_path, out, capsys):
    assert_refused(capsys, main(["train", str(tmp_path / "none"), "-o", str(out)]), tmp_path / "none")
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--masks DATA", ("--hazy", "--masks")),
        ("--blind --hazy DATA --masks DATA", ("--hazy", "--masks")),
        ("--widths 8 --init echo", ("--widths", "--init")),
        ("--init MISSING", ("MISSING",)),
        ("--cache-gb 0.0001", ("--cache-gb", "0.0001 GB")),
        ("--blind --cache-gb 1e-6", ("--cache-gb", "1e-06 GB")),
    ],
)
def test_what_cannot_be_trained_is_said_before_a_clip_is_read(flags, words, folder, out, capsys, monkeypatch):
    monkeypatch.setattr("nuclear_diffusion.training.clips.read_video", lambda *_: pytest.fail("a clip was read"))
    command = ["train", str(folder), "-o", str(out), *flags.replace("DATA", str(folder)).split()]
    assert_refused(capsys, main(command), *words)
    assert not out.exists()


def test_a_cache_that_is_too_large_is_refused_before_it_is_rendered(out, capsys, monkeypatch):
    """Of 2000 patients and 48 to watch, 8 moments, clean and hazy, at 256 x 256 and at 64 x 64."""
    monkeypatch.setattr("nuclear_diffusion.training.clips.frame_bank", lambda *_, **__: pytest.fail("rendered"))
    command = ["train", "simulator", "-o", str(out), "--blind", "--init", "none", "--patients", "2000"]
    needed = 2048 * 8 * 2 * 256**2 / 1e9
    assert_refused(capsys, main(command), "--cache-gb", f"{needed:.2f} GB", "2 GB")
    assert_refused(capsys, main([*command, "--size", "64", "--cache-gb", "0.1"]), "--cache-gb", f"{needed / 16:.2f} GB")
    assert not out.exists()
    with pytest.raises(pytest.fail.Exception, match="rendered"):
        main([*command, "--size", "64", "--cache-gb", "0.14"])


@pytest.fixture(scope="module")
def real_clip(tmp_path_factory):
    """The first frames of a real clip, compressed as they were."""
    dataset, frames = pydicom.dcmread(pydicom.examples.get_path("ybr_color")), 8
    first = islice(generate_frames(dataset.PixelData, number_of_frames=int(dataset.NumberOfFrames)), frames)
    dataset.PixelData, dataset.NumberOfFrames = encapsulate(list(first)), frames
    path = tmp_path_factory.mktemp("real") / "real.dcm"
    dataset.save_as(path)
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("method", ["nuclear", "mmse", "aware", "paper"])
def test_the_real_clip_from_end_to_end_twice_with_the_same_bits(method, tiny_prior, real_clip, tmp_path):
    flags = ["--steps", "2"] if method == "paper" else []
    source, signals = str(real_clip), []
    for name in ("first", "second"):
        out = tmp_path / name
        assert main(["dehaze", source, "-o", str(out), "--method", method, "--prior", str(tiny_prior), *flags]) == 0
        (folder,) = out.iterdir()
        with h5py.File(folder / "result.h5") as file:
            signals.append(np.asarray(file["signal"]))
            assert len(str(file.attrs["prior_sha256"])) == 64
            outside = ~np.asarray(file["sector"])
            np.testing.assert_array_equal(signals[-1][:, outside], np.asarray(file["input"])[:, outside])
    np.testing.assert_array_equal(signals[0], signals[1])


@pytest.mark.slow
@pytest.mark.usefixtures("_at_32_pixels")
def test_the_demo_writes_its_report(tiny_prior, out, capsys, monkeypatch):
    from nuclear_diffusion.measure import demo

    monkeypatch.setattr(run, "load_prior", lambda name: load_prior(tiny_prior))
    monkeypatch.setattr(demo, "FRAMES", 8)
    monkeypatch.setattr(demo, "simulate", functools.partial(demo.simulate, size=64))
    monkeypatch.setattr(demo, "dehaze_clip", functools.partial(core.dehaze_clip, size=64))
    assert main(["demo", "-o", str(out)]) == 0
    printed = capsys.readouterr().out
    removed = json.loads((out / "real" / "report.json").read_text())["haze_energy_removed"]
    assert f"The real clip has little haze: {100 * removed:.1f} % of its energy was removed." in printed
    for file in ("real/comparison.mp4", "real/summary.png", "simulated/methods.mp4", "simulated/methods.png"):
        assert (out / file).stat().st_size > 0
        assert str(out / file) in printed

    def refuse(constant):
        raise ValueError(constant)

    report = json.loads((out / "report.json").read_text(), parse_constant=refuse)["simulated"]
    assert list(report) == ["hazy", *demo.METHODS, "clean"]
    for scores in report.values():
        quality = {"gcnr", "ks_a", "ks_b", "ks_truth", "psnr", "ssim"}
        assert set(scores) == quality | {"flicker_b", "bright_lost", "seconds"}
    assert report["clean"]["psnr"] is None
    assert report["clean"]["ssim"] == pytest.approx(1)
    assert report["hazy"]["ks_a"] == 0
    assert report["clean"]["gcnr"] > report["hazy"]["gcnr"]


def test_strengths_are_of_all_methods_or_of_one():
    factors = cli._factors(("0.5,2", "rpca=2,1.1"), "hazy, rpca,nuclear")
    assert factors == {"hazy": [0.5, 2], "rpca": [0.5, 2, 1.1], "nuclear": [0.5, 2]}
