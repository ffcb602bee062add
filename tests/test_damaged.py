"""Damaged or hostile priors, masks, data sets, stored results and training runs: one sentence, or made again."""

import errno
import json
import math
import os
import shutil
from pathlib import Path

import av.error
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from benchmarks.fuzzing.seeds import bombs
from networks import random_prior
from nuclear_diffusion.cli import main
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import guard, write_video
from nuclear_diffusion.measure.datasets import find_dataset, read_mask
from nuclear_diffusion.measure.store import Store
from nuclear_diffusion.measure.tables import write_csv
from nuclear_diffusion.priors.checkpoint import load_prior, prior_hash, read_safetensors, save_prior
from nuclear_diffusion.priors.unet import UNetConfig
from nuclear_diffusion.restore.folder import FILES, is_whole, read_report
from nuclear_diffusion.training import loop
from nuclear_diffusion.training.clips import read_frames
from nuclear_diffusion.training.config import TrainConfig
from nuclear_diffusion.training.loop import train

pytestmark = pytest.mark.usefixtures("_no_figures_of_results")

SIDE = 16


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished training run of two steps."""
    folder = tmp_path_factory.mktemp("run")
    train(bank(), folder, config(2), seed=5)
    return folder


@pytest.fixture
def prior(tmp_path):
    """The file of a sound prior, to damage."""
    path = tmp_path / "prior.safetensors"
    save_prior(path, random_prior(config(1).network))
    return path


@pytest.fixture
def resumed(run, tmp_path):
    """A copy of the run, to damage."""
    return shutil.copytree(run, tmp_path / "run")


def bank() -> np.ndarray:
    return np.random.default_rng(0).integers(20, 200, (8, SIDE, SIDE), np.uint8)


def config(steps: int) -> TrainConfig:
    network = UNetConfig(widths=(4,), blocks=1, embedding=4, fine=0)
    return TrainConfig(network, steps=steps, batch=2, log_every=1, validate_every=1, augment=False, lr=1e-3, warmup=0)


def change(path, tensors=None, **metadata):
    """Write a safetensors file again with other tensors and metadata; None removes an entry."""
    held, known = load_file(path), read_safetensors(path)[1]
    known = {name: value for name, value in {**known, **metadata}.items() if value is not None}
    save_file({**held, **(tensors or {})}, path, known)


# priors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("mean", "scale", "sigma_min", "sigma_max") for value in ("nan", "inf", "-1", "x")),
        ("sigma_max", "1e30"),
        ("sigma_min", "90"),
        ("scale", "0"),
        ("mean", None),
        ("architecture", None),
        ("architecture", "[1]"),
        ("architecture", "[" * 100_000),
        *(
            ("architecture", json.dumps({"widths": [4], "blocks": 1, "embedding": 4, "fine": 0, **wrong}))
            for wrong in (
                {"blocks": 10**9},
                {"widths": [10**9]},
                {"widths": [4] * 1000},
                {"widths": "4"},
                {"widths": []},
                {"blocks": "1"},
                {"blocks": 1.5},
                {"haze_aware": 3},
                {"grid": 10**400},
            )
        ),
    ],
)
def test_implausible_metadata_of_a_prior_are_refused(name, value, prior):
    change(prior, **{name: value})
    with pytest.raises(InputError) as caught:
        load_prior(prior)
    assert str(prior) in str(caught.value) or "sigma" in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EMFILE])
@pytest.mark.parametrize("told", [OSError, lambda code, words: OSError(f"Can't read (errno = {code}, ...)")])
def test_a_lost_disk_or_network_is_not_called_a_damaged_file(code, told, tmp_path):
    """Nobody exports an archive again because its server was down for a minute."""
    error = told(code, os.strerror(code))
    says = rf"a\.dcm cannot be read \({os.strerror(code).lower()}\): check its permissions, the disk and the network"
    with pytest.raises(InputError, match=says), guard.door(tmp_path / "a.dcm", "DICOM"):
        raise error
    for broken in (OSError("truncated"), OSError(errno.EINVAL, "seek"), av.error.OSError(errno.EIO, "")):
        with pytest.raises(InputError, match="damaged"), guard.door(tmp_path / "a.dcm", "DICOM"):
            raise broken


def test_a_result_that_cannot_be_read_is_not_taken_for_a_damaged_one(tmp_path, monkeypatch):
    """It would be replaced without --overwrite."""
    (tmp_path / "report.json").write_text("{}")
    for name in FILES:
        (tmp_path / name).touch()
    assert read_report(tmp_path) is None

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    for name, read, error in (
        ("open", read_report, InputError),
        ("iterdir", read_report, PermissionError),
        ("open", lambda folder: is_whole(folder, {"files": {"result.h5": {"sha256": ""}}}), PermissionError),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(Path, name, refuse)
            with pytest.raises(error, match=r"(?i)permission denied"):
                read(tmp_path)
    assert not is_whole(tmp_path, {"files": {"gone": {"sha256": ""}}})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(value, prior):
    change(prior, {"head.bias": np.full(load_file(prior)["head.bias"].shape, value, np.float16)})
    with pytest.raises(InputError, match=r"'head.bias' is not finite"):
        load_prior(prior)


def test_a_flipped_bit_in_the_weights_is_noticed(prior):
    assert load_prior(prior)
    content = bytearray(prior.read_bytes())
    content[-1] ^= 1
    prior.write_bytes(content)
    with pytest.raises(InputError, match="another hash"):
        load_prior(prior)


def test_a_header_that_declares_more_than_the_file_holds_is_refused(tmp_path):
    path = tmp_path / "prior.safetensors"
    entry = {"dtype": "F32", "shape": [1 << 20, 1 << 20], "data_offsets": [0, 1 << 42]}
    header = json.dumps({"a": entry}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(InputError, match="damaged"):
        load_prior(path)
    path.write_bytes((1 << 60).to_bytes(8, "little") + header)
    with pytest.raises(InputError, match="damaged"):
        load_prior(path)


def test_a_pipe_is_no_prior(tmp_path):
    os.mkfifo(tmp_path / "prior.safetensors")
    with pytest.raises(InputError, match="pipe"):
        load_prior(tmp_path / "prior.safetensors")


# masks and data sets


def labelme(points, **rest) -> str:
    shapes = [{"label": "septum", "points": points, "shape_type": "polygon"}]
    return json.dumps({"shapes": shapes, "imageHeight": SIDE, "imageWidth": SIDE, **rest})


SQUARE = [[2, 2], [8, 2], [8, 8], [2, 8]]


def test_a_square_is_drawn(tmp_path):
    (tmp_path / "mask.json").write_text(labelme(SQUARE))
    septum = read_mask(tmp_path / "mask.json", (SIDE, SIDE)).septum
    expected = np.zeros((SIDE, SIDE), bool)
    expected[2:8, 2:8] = True
    np.testing.assert_array_equal(septum, expected)


@pytest.mark.parametrize(
    "text",
    [
        labelme([[2, 2], [8, 2], [8, None]]),
        labelme([[2, 2], [8, 2], [8, float("nan")]]),
        labelme([[2, 2], [8, 2], [8, 1e300]]),
        labelme([[2, 2], [8, 2], [8, 10**400]]),
        labelme([[2, 2], [8, 2], [8, 2, 2]]),
        labelme([[2, 2], [8, 2], "88"]),
        labelme([2, 2]),
        labelme(SQUARE * 2000),
        labelme(SQUARE, imageHeight="16"),
        labelme(SQUARE, imageHeight=10**30),
        '{"shapes": ' + "[" * 100_000,
        '{"shapes": {"a": 1}}',
    ],
)
def test_impossible_drawings_are_refused(text, tmp_path):
    path = tmp_path / "mask.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_mask(path, (SIDE, SIDE))
    assert str(path) in str(caught.value)


def test_bombs_broken_pictures_and_pipes_are_no_masks(tmp_path):
    Image.fromarray(np.full((SIDE, SIDE), 255, np.uint8)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    for name, content in {
        "bomb.png": bombs()["bomb.png"][1],
        "cut.png": whole[:45],
        "broken.png": whole[:40] + b"\0" * 8 + whole[48:],
        "empty.png": b"",
        "text.png": b"P5 16 16 255 " + b"\0" * 256,  # another format than it says
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            read_mask(tmp_path / name, (SIDE, SIDE))
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match="pipe"):
        read_mask(tmp_path / "pipe.png", (SIDE, SIDE))


def test_two_files_of_one_clip_are_named(tmp_path):
    clip = np.random.default_rng(0).random((3, SIDE, SIDE)).astype(np.float32)
    (tmp_path / "noisy").mkdir()
    (tmp_path / "noisy_roi").mkdir()
    for suffix in (".npy", ".npz"):
        write_video(tmp_path / "noisy" / f"p{suffix}", clip)
    with pytest.raises(InputError, match=r"p\.npy and p\.npz are both clip p"):
        find_dataset(tmp_path)
    (tmp_path / "noisy" / "p.npz").unlink()
    for number in (1, 2):
        Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)).save(tmp_path / "noisy" / f"p-{number}.png")
    with pytest.raises(InputError, match=r"p\.npy and the frames of p are both clip p"):
        find_dataset(tmp_path)


# stored results


ABOUT = {"frames": "a"}


@pytest.mark.parametrize(
    "command", ["train DIR -o OUT", "render DIR/loop --strength 1", "evaluate DIR -o OUT --masks DIR/loop"]
)
def test_links_that_lead_to_themselves_are_one_sentence(command, tmp_path, capsys):
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "loop").symlink_to("loop")
    (folder / "loop.npz").symlink_to("loop.npz")
    assert main(command.replace("DIR", str(folder)).replace("OUT", str(tmp_path / "out")).split()) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_changed_score_is_not_believed(tmp_path):
    store, value = Store(tmp_path), {"gcnr": 0.5, "ks": [math.nan, math.inf]}
    assert json.dumps(store.once("x", ABOUT, lambda: value)) == json.dumps(value)
    assert json.dumps(store.once("x", ABOUT, lambda: "again")) == json.dumps(value)  # from the store
    (path,) = tmp_path.glob("*.json")
    path.write_text(path.read_text().replace("0.5", "0.9"))
    assert store.once("x", ABOUT, lambda: "again") == "again"
    for text in ("[" * 100_000, '{"key": 3}', "", "\udcff"):
        path.write_bytes(text.encode(errors="surrogateescape"))
        assert store.once("x", ABOUT, lambda text=text: text[:3]) == text[:3]


def test_a_changed_answer_is_not_believed(tmp_path):
    store, signal = Store(tmp_path), np.arange(4.0)
    store.keep_arrays("x", ABOUT, {"signal": signal})
    found = store.arrays("x", ABOUT)
    assert found is not None
    np.testing.assert_array_equal(found["signal"], signal)
    (path,) = tmp_path.glob("*.npz")
    with np.load(path) as stored:
        held = dict(stored)
    np.savez(path, **{**held, "signal": signal + 1})
    assert store.arrays("x", ABOUT) is None
    np.savez(path, signal=np.array([{}], object))  # a pickle
    assert store.arrays("x", ABOUT) is None


def test_no_cell_of_a_table_is_a_formula(tmp_path):
    names = ["=1+1", "@SUM(A1)", "+a", "-a", "\tx", "-0.5", "plain", None]
    write_csv(tmp_path / "a.csv", pd.DataFrame({"name": names, "value": [-1.5] * len(names)}))
    cells = pd.read_csv(tmp_path / "a.csv", keep_default_na=False)
    assert cells["name"].tolist() == ["'=1+1", "'@SUM(A1)", "'+a", "'-a", "'\tx", "-0.5", "plain", ""]
    assert cells["value"].tolist() == [-1.5] * len(names)


# commands


@pytest.mark.parametrize(
    "command",
    [
        "simulate OUT --size 1000000",
        "simulate OUT --size 8",
        "simulate OUT --frames 1000000000",
        "train simulator -o OUT --widths 1000000 1000000",
        "train simulator -o OUT --widths 4096 4096 4096 4096 4096 4096 4096 4096 4096",
        "train simulator -o OUT --batch 1000000000",
        "train simulator -o OUT --size 1000000",
        "train simulator -o OUT --size 3",
        "dehaze clip.npz -o OUT --method paper --steps 1000000000000000000000000000000",
        f"dehaze clip.npz -o OUT --method paper --mu {'1' * 401}",
    ],
)
def test_what_cannot_fit_is_refused_before_it_starts(command, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(command.replace("OUT", str(out)).split()) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert len(error) < 2000
    assert not [path for path in out.rglob("*") if path.is_file()]


@pytest.mark.slow
@pytest.mark.parametrize("text", ["[" * 100_000, "[1]", "", '{"seed": "0"}'])
def test_a_patient_with_a_damaged_record_is_simulated_again(text, tmp_path):
    command = ["simulate", str(tmp_path), "--clips", "1", "--frames", "2", "--size", "16"]
    assert main(command) == 0
    (record,) = (tmp_path / "patients").iterdir()
    whole = record.read_text()
    record.write_text(text)
    assert main(command) == 0
    assert record.read_text() == whole


# training


@pytest.mark.slow
def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_checkpoint(resumed, monkeypatch):
    whole, step = (resumed / "checkpoint.safetensors").read_bytes(), loop._take_step

    def poisoned(*arguments):
        state, loss = step(*arguments)
        return state, loss * jnp.nan

    monkeypatch.setattr(loop, "_take_step", poisoned)
    with pytest.raises(InputError, match=r"diverged before step 3.*last checkpoint is kept"):
        train(bank(), resumed, config(4), seed=5)
    assert (resumed / "checkpoint.safetensors").read_bytes() == whole
    monkeypatch.undo()
    assert train(bank(), resumed, config(4), seed=5).step == 4


@pytest.mark.slow
def test_weights_that_are_no_numbers_are_not_kept(tmp_path):
    with pytest.raises(InputError, match="diverged"):
        train(bank(), tmp_path, TrainConfig(config(4).network, steps=4, batch=2, lr=1e38, warmup=0, ema=0.0), seed=5)
    assert not (tmp_path / "checkpoint.safetensors").exists()


@pytest.mark.slow
def test_a_damaged_checkpoint_is_one_sentence(resumed):
    path = resumed / "checkpoint.safetensors"
    whole = path.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    for content in (whole[:-9], whole[:100], b"", flipped):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"checkpoint\.safetensors"):
            train(bank(), resumed, config(4), seed=5)
    for name, value in (("run", "[1]"), ("run", "{}"), ("seconds", "x"), ("best", None), ("format", None)):
        path.write_bytes(whole)
        change(path, **{name: value})
        with pytest.raises(InputError, match=r"checkpoint\.safetensors"):
            train(bank(), resumed, config(4), seed=5)


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"\0\xff,\n1,2", b"step,loss\nx,y\n", None])
def test_a_damaged_loss_table_or_prior_does_not_end_a_run(content, resumed):
    table, prior = resumed / "loss.csv", resumed / "prior.safetensors"
    if content is None:
        table.unlink()
    else:
        table.write_bytes(content)
    prior.write_bytes(b"damaged")
    result = train(bank(), resumed, config(3), seed=5)
    assert prior_hash(load_prior(prior)) == prior_hash(result.prior)
    rows = pd.read_csv(table)
    assert rows["step"].tolist() == [3]
    assert np.isfinite(rows["loss"]).all()


def test_a_damaged_cache_of_frames_is_made_again(tmp_path):
    clips, cache = tmp_path / "clips", tmp_path / "run" / "cache"
    clips.mkdir()
    for patient in (1, 2):
        frames = np.random.default_rng(patient).random((3, 32, 32)).astype(np.float32)
        write_video(clips / f"patient-{patient}.npz", frames)
    first = [np.array(part) for part in read_frames(clips, size=SIDE, cache=cache)]
    (kept,) = cache.iterdir()
    for name, content in (("train.npy", b"damaged"), ("val.npy", b""), ("left-out.json", b"{"), ("train.npy", None)):
        if content is None:
            (kept / name).unlink()
        else:
            (kept / name).write_bytes(content)
        again = read_frames(clips, size=SIDE, cache=cache)
        for part, expected in zip(again, first, strict=True):
            np.testing.assert_array_equal(part, expected)
