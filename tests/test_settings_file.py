"""A settings file: what it may hold, and that `dehaze` and `evaluate` take it, what is typed going first."""

import functools
import json

import numpy as np
import pytest
from PIL import Image

import nuclear_diffusion.paper.sample
from nuclear_diffusion import cli
from nuclear_diffusion.cli import main
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import write_video
from nuclear_diffusion.measure.candidates import METHODS, choose, vary
from nuclear_diffusion.measure.datasets import find_dataset, only_patients
from nuclear_diffusion.paper import zea
from nuclear_diffusion.restore import clip as core
from nuclear_diffusion.restore import methods, run
from nuclear_diffusion.restore.methods import Paper, Zea, as_dict, as_json, read_settings

pytestmark = pytest.mark.usefixtures("_no_figures_of_results")


def speckle(frames: int = 5, side: int = 40) -> np.ndarray:
    still = np.clip(np.random.default_rng(0).rayleigh(0.2, (side, side)) + 0.1, 0, 1)
    return np.stack([np.roll(still, 2 * t, axis=0) for t in range(frames)]).astype(np.float32)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"method": "paper", "mu": 1.5, "steps": 2, "seed": 3}))
    return path


@pytest.fixture
def data(tmp_path):
    """Three patients of two frames, with masks."""
    folder = tmp_path / "data"
    mask = np.zeros((40, 40), np.uint8)
    mask[4:20, 4:20], mask[24:36, 24:36] = 255, 128
    for patient in (1, 2, 10):
        for number, frame in enumerate(speckle(2), start=1):
            name = f"patient-{patient}-4C-frame-{number}.png"
            for kind, image in (("noisy", np.rint(255 * frame).astype(np.uint8)), ("noisy_roi", mask)):
                (folder / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(folder / kind / name)
    return folder


def assert_refused(capsys, code, *words):
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1, error
    for word in words:
        assert str(word) in error


# the file


@pytest.mark.parametrize("method", methods.METHODS)
def test_settings_come_back_as_they_were_written(method, tmp_path):
    settings = methods.METHODS[method]()
    path = tmp_path / "settings.json"
    path.write_text(as_json(settings))
    assert read_settings(path) == settings


def test_what_a_file_leaves_out_is_the_default(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text('{"method": "paper", "mu": 5}')
    assert read_settings(path) == Paper(mu=5)


BAD = {
    "no JSON": ("mu = 3", "JSON"),
    "bytes": ("\udcff", "JSON"),
    "a list": ("[1]", "object"),
    "no method": ('{"mu": 3}', "method"),
    "another method": ('{"method": "magic"}', "nuclear"),
    "a method that is no text": ('{"method": 3}', "method"),
    "a stranger": ('{"method": "rpca", "softness": 3}', "softness"),
    "a text for a number": ('{"method": "rpca", "lam": "3"}', "lam"),
    "half a step": ('{"method": "paper", "steps": 2.5}', "steps"),
    "true": ('{"method": "paper", "steps": true}', "steps"),
    "too strong": ('{"method": "nuclear", "strength": 2}', "strength"),
    "a setting that is gone": ('{"method": "nuclear", "spare": 0.1}', "spare"),
    "a number for a text": ('{"method": "mmse", "prior": 3}', "prior"),
    "a negative number": ('{"method": "rpca", "lam": -1}', "lam"),
    "not a number": ('{"method": "rpca", "lam": NaN}', "JSON"),
    "a setting without a value": ('{"method": "paper", "gamma": null}', "gamma"),
    "a setting of another method": ('{"method": "rpca", "mu": 1}', "mu"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_one_sentence_in_both_commands(kind, tmp_path, data, capsys):
    text, word = BAD[kind]
    path, out = tmp_path / "settings.json", tmp_path / "out"
    path.write_bytes(text.encode(errors="surrogateescape"))
    for command in (["dehaze", "clip.npz"], ["evaluate", str(data), "--methods", "rpca"]):
        assert_refused(capsys, main([*command, "-o", str(out), "--settings", str(path)]), path, word)
    assert not out.exists()


def test_a_missing_file_is_one_sentence(tmp_path, capsys):
    path = tmp_path / "none.json"
    assert_refused(capsys, main(["dehaze", "clip.npz", "-o", str(tmp_path), "--settings", str(path)]), path)


# dehaze


@pytest.mark.parametrize(
    ("flags", "changed"),
    [
        ("", {}),
        ("--mu 2.5", {"mu": 2.5}),
        ("--seed 0", {"seed": 0}),  # typed, though it is the default of the flag
        ("--method paper", {}),
    ],
)
def test_what_is_typed_wins_over_the_file(flags, changed, file):
    command = cli._parse(["dehaze", "clip.npz", "-o", "out", *flags.split(), "--settings", str(file)])
    assert isinstance(command, cli.Dehaze)
    assert as_dict(command.method) == as_dict(Paper(mu=1.5, steps=2, seed=3)) | changed


@pytest.mark.slow
def test_dehaze_runs_with_the_settings_of_a_file(tmp_path, monkeypatch):
    clip, out, file = tmp_path / "clip.npz", tmp_path / "out", tmp_path / "settings.json"
    write_video(clip, speckle(), 20.0)
    file.write_text('{"method": "rpca", "lam": 1.5}')
    monkeypatch.setattr(run, "dehaze_recording", functools.partial(core.dehaze_recording, size=32))
    assert main(["dehaze", str(clip), "-o", str(out), "--settings", str(file)]) == 0
    report = json.loads((out / "clip" / "report.json").read_text())
    assert report["settings"] == {"method": "rpca", "lam": 1.5}


@pytest.mark.parametrize("method", ["nuclear", "mmse"])  # the first is the flag's default, and typed all the same
def test_a_file_of_another_method_than_the_typed_one_is_refused(method, file, tmp_path, capsys):
    command = ["dehaze", "clip.npz", "-o", str(tmp_path / "out"), "--settings", str(file), "--method", method]
    assert_refused(capsys, main(command), file, "paper", method)


# evaluate


@pytest.mark.slow
def test_a_file_replaces_the_settings_of_its_method_only():
    own = [methods.Rpca(lam=1.5)]
    hazy, rpca, tuned = choose("rpca,rpca-tuned", settings=own)
    assert hazy.settings is None
    assert (rpca.settings, tuned.settings) == (own[0], METHODS["rpca-tuned"])
    (twice,) = vary([rpca], [2])
    assert twice.settings == methods.Rpca(lam=3.0)
    paper = methods.Paper(mu=3.0, seed=3)
    assert choose("paper", settings=[paper])[1].settings == paper
    assert choose("paper", settings=[paper], seed=0)[1].settings == methods.Paper(mu=3.0)
    with pytest.raises(InputError, match="two files"):
        choose("rpca", settings=own * 2)
    with pytest.raises(InputError, match="does not name"):
        choose("hazy", settings=own)


def test_evaluate_uses_the_files_settings_and_only_the_patients_named(file, data, tmp_path, monkeypatch):
    names = tmp_path / "some.txt"
    names.write_text("patient-10\n\npatient-1\n")
    seen = {}

    def evaluate(dataset, methods, folder, **rest):
        seen.update(cases=[case.patient for case in dataset.cases], methods=methods, command=rest["command"])
        raise InputError("enough seen.")

    monkeypatch.setattr("nuclear_diffusion.measure.evaluate.evaluate", evaluate)
    command = ["evaluate", str(data), "-o", str(tmp_path / "out"), "--methods", "paper", "--settings", str(file)]
    command += ["--patients", str(names)]
    assert main(command) == 2
    assert seen["cases"] == ["patient-1", "patient-10"]
    assert seen["methods"][1].settings.mu == 1.5
    again = cli._parse(seen["command"].split()[1:])
    assert again == cli._parse(command)  # the page's command line makes the same page


@pytest.mark.parametrize(
    ("text", "word"), [("", "no patient"), ("patient-1\npatient-7", "patient-7"), (None, "no such file")]
)
def test_a_bad_list_of_patients_is_one_sentence(text, word, data, tmp_path):
    path = tmp_path / "names.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=word):
        only_patients(find_dataset(data), path)


# what makes a search quick


@pytest.mark.usefixtures("wrong_types")
def test_other_strengths_do_not_compile_the_sampler_again(monkeypatch):
    """A strength that is compiled in costs seconds in every trial; each reaches the sampler all the same."""
    made = []

    def sample_parts(blocks, total, prior, sampler, *, background, **rest):
        made.extend([sampler.mu, background.gamma])
        raise InputError("enough seen.")

    def zea_parts(blocks, total, prior, *, background, **rest):
        made.append(background.gamma)
        raise InputError("enough seen.")

    monkeypatch.setattr(nuclear_diffusion.paper.sample, "sample_parts", sample_parts)
    monkeypatch.setattr(zea, "zea_parts", zea_parts)
    for method in (Paper(mu=1.5, gamma=2.5), Zea(gamma=3.5)):
        with pytest.raises(InputError):
            method.separate(speckle(), object())  # pyright: ignore
    assert not any(isinstance(value, float) for value in made)
    np.testing.assert_allclose([float(value) for value in made], [1.5, 2.5, 3.5])
