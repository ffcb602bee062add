"""From clips to a prior and a verdict on it: who judges, by what, and what is left on the disk."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from nuclear_diffusion import cli
from nuclear_diffusion.cli import main
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import write_video
from nuclear_diffusion.measure.front import LEVELS, NAMES, STRENGTHS, Front
from nuclear_diffusion.priors.checkpoint import load_prior, prior_hash, save_prior
from nuclear_diffusion.priors.diffusion_prior import DiffusionPrior
from nuclear_diffusion.priors.unet import UNet, UNetConfig
from nuclear_diffusion.restore.render import STRENGTH
from nuclear_diffusion.simulation import write_dataset
from nuclear_diffusion.training import judge, train_prior
from nuclear_diffusion.training.data import Bank
from nuclear_diffusion.training.judge import Judge, own_hazy, simulated_like
from nuclear_diffusion.training.loop import TrainResult
from nuclear_diffusion.training.request import Request

# who judges


class Clip(int):
    """A number that stands for a clip; each ten thousand are of one patient, the others of a patient each."""

    @property
    def patient(self) -> str:
        return str(self if self < 10_000 else self // 10_000)


def clips_of(*numbers: int) -> list[Clip]:
    return [Clip(number) for number in numbers]


@pytest.fixture
def asked(monkeypatch, wrong_types):
    """Numbers stand for clips and priors: contrast is that of the prior's number, plus the change of tissue.

    Which clips were looked at, and by what prior, is kept.
    """
    looks: list[tuple[list[int], float]] = []

    def front_of(clips, prior) -> Front:
        looks.append((list(clips), prior))
        rise = np.array(STRENGTHS)
        start = np.array([prior(clip) if callable(prior) else prior for clip in clips])[:, None]
        front = {name: np.full((len(clips), len(rise)), np.nan) for name in NAMES}
        front["flicker"] = 3 * start + rise
        if not 1000 <= max(clips) < 10_000:  # those have no masks
            front["gcnr"], front["ks_a"] = start + rise, np.broadcast_to(rise, (len(clips), len(rise)))
        return front

    monkeypatch.setattr(judge, "front_of", front_of)
    return looks


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3, 8])
def test_what_is_told_was_not_chosen_by(asked, count):
    clips = {"simulated": clips_of(*range(count)), "own": clips_of(*range(100, 100 + count))}
    judged = Judge(clips, 0.1)  # pyright: ignore
    asked.clear()
    judged(0.2)  # pyright: ignore
    choosing = [seen for seen, _ in asked]
    asked.clear()
    judged.verdict(0.2)  # pyright: ignore
    telling = [seen for seen, _ in asked]
    for kind, chosen, told in zip(clips.values(), choosing, telling, strict=True):
        assert sorted([*chosen, *told]) == list(kind)
        assert abs(len(chosen) - len(told)) <= 1


def test_clips_of_one_patient_are_on_one_side(asked):
    judged = Judge({"own": clips_of(10_000, 20_000, 10_001, 30_000, 20_001)}, 0.1)  # pyright: ignore
    asked.clear()
    judged(0.2)  # pyright: ignore
    judged.verdict(0.2)  # pyright: ignore
    assert [seen for seen, _ in asked] == [[10_000, 10_001, 30_000], [20_000, 20_001]]


def test_a_single_clip_does_both_and_says_nothing_for_sure(asked):
    judged = Judge({"own": clips_of(7)}, 0.1)  # pyright: ignore
    (sentence,) = judged.verdict(0.9)  # pyright: ignore
    assert [seen for seen, _ in asked] == [[7], [7], [7]]
    assert "not clearly different" in sentence
    assert judged(0.2)["gain"] == pytest.approx(0.1)  # pyright: ignore


@pytest.mark.usefixtures("asked")
def test_weights_are_kept_by_the_mean_gain_of_all_kinds():
    """Contrast at equal change is start + level; what it started from had 0.1 on all clips."""

    def prior(clip):
        return 0.3 if clip < 100 else 0.0

    judged = Judge({"simulated": clips_of(*range(4)), "own": clips_of(*range(100, 106))}, 0.1)  # pyright: ignore
    scores = judged(prior)  # pyright: ignore
    assert list(scores) == judged.columns
    assert scores["gain"] == pytest.approx((0.2 - 0.1) / 2)
    assert scores["simulated_gcnr"] == pytest.approx(0.3 + np.mean(LEVELS))
    assert scores["own_gcnr"] == pytest.approx(0.0 + np.mean(LEVELS))
    assert scores["simulated_flicker"] == pytest.approx(0.9 + STRENGTH)  # at the default
    assert scores["simulated_ks_a"] == pytest.approx(STRENGTH)
    assert np.isnan(scores["own_ks_truth"])


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    ("prior", "words"),
    [
        (lambda clip: 0.15 + 0.001 * clip, "better than echo"),
        (lambda clip: 0.05 + 0.001 * clip, "worse than echo"),
        (lambda clip: 0.1 + (0.05 if clip % 4 == 1 else -0.05), "not clearly different from echo"),
    ],
)
def test_a_verdict_is_better_worse_or_not_clear(prior, words):
    """What is told are the odd ones of 12 clips; the start has 0.1 on all."""
    judged = Judge({"own": clips_of(*range(12))}, 0.1)  # pyright: ignore
    (sentence,) = judged.verdict(prior, "echo")
    assert sentence.startswith(f"6 own clips: {words}.")
    found = [prior(clip) for clip in range(1, 12, 2)]
    assert f"gCNR {np.mean(found) + np.mean(LEVELS):.3f}, before {0.1 + np.mean(LEVELS):.3f}" in sentence
    assert f"{np.mean(found) - 0.1:+.3f} [" in sentence
    assert f"strength {3 * np.mean(found) + STRENGTH:.2f}, before {0.3 + STRENGTH:.2f}." in sentence
    assert "\n" not in sentence


@pytest.mark.usefixtures("asked")
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_hazy_clips_without_masks_choose_nothing_and_tell_their_flicker():
    judged = Judge({"simulated": clips_of(*range(4)), "own": clips_of(*range(1000, 1004))}, 0.1)  # pyright: ignore

    def prior(clip):
        return 0.3 if clip < 1000 else 0.7

    scores = judged(prior)  # pyright: ignore
    assert list(scores) == judged.columns
    assert scores["gain"] == pytest.approx(0.2)
    assert scores["own_flicker"] == pytest.approx(3 * 0.7 + STRENGTH)
    assert np.isnan(scores["own_gcnr"])
    known, unknown = judged.verdict(prior, "echo")  # pyright: ignore
    assert "better than echo" in known
    assert unknown.startswith("2 own clips without masks: flicker")
    assert f"{3 * 0.7 + STRENGTH:.2f}, before {0.3 + STRENGTH:.2f}." in unknown


# the clips that are judged


@pytest.mark.slow
def test_simulated_patients_look_like_the_clips_that_are_given():
    """Their clean frames' grey levels, pooled, have the quantiles of these; one map serves hazy and clean ones."""
    rng = np.random.default_rng(0)
    given = np.rint(255 * rng.beta(2, 3, (6, 40, 40))).clip(1, 255).astype(np.uint8)
    given[:, :, :12] = 0  # black does not count
    seen = []
    patients = simulated_like(given, 2, size=32, progress=lambda *counts: seen.append(counts))
    assert seen == [(1, 2), (2, 2)]

    truths = [each.truth for each in patients if each.truth is not None]
    assert len(truths) == 2
    pooled = np.concatenate([truth[truth > 0] for truth in truths])
    levels = np.linspace(0.05, 0.95, 19)
    np.testing.assert_allclose(np.quantile(pooled, levels), np.quantile(given[given > 0] / 255, levels), atol=0.01)

    raw = [judge._patient(index, 32) for index in range(2)]
    for patient, truth, own in zip(patients, truths, raw, strict=True):
        assert patient.frames.shape == truth.shape == (judge.FRAMES, 32, 32)
        assert patient.frames.dtype == truth.dtype == np.float32
        np.testing.assert_array_equal(patient.septum, own.septum)
        np.testing.assert_array_equal(patient.ventricle, own.ventricle)
        np.testing.assert_array_equal(patient.sector, own.sector)
        for mapped, before in ((patient.frames, own.hazy), (truth, own.clean)):
            np.testing.assert_array_equal(mapped == 0, before == 0)
            assert mapped.max() <= 1
        assert patient.frames[:, patient.sector].mean() > truth[:, patient.sector].mean() + 0.01
    before, after = (
        np.concatenate([part.ravel() for part in parts])
        for parts in (
            [frames for own in raw for frames in (own.hazy, own.clean)],
            [part for patient, truth in zip(patients, truths, strict=True) for part in (patient.frames, truth)],
        )
    )
    assert (np.diff(after[np.argsort(before)]) >= 0).all()  # one monotone map for all
    assert not np.array_equal(raw[0].clean, raw[1].clean)
    assert np.abs(after - before).mean() > 0.02


@pytest.fixture(scope="module")
def hazy_data(tmp_path_factory):
    """A simulated data set of two patients; masks are on the first and the last of 8 frames."""
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, 2, frames=8, size=64)
    for path in (folder / "truth_roi").glob("*-frame-8.png"):
        shutil.copy(path, folder / "noisy_roi")
    return folder


def grey(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L"))


@pytest.mark.slow
def test_hazy_clips_of_ones_own_come_with_their_masks(hazy_data):
    """On the prior's grid the regions show what they show in the files."""
    clips = own_hazy(hazy_data / "noisy", hazy_data / "noisy_roi", 64)
    assert len(clips) == 2
    for number, clip in enumerate(clips, 1):
        assert clip.frames.shape == clip.septum.shape == clip.ventricle.shape == (8, 64, 64)
        assert clip.truth is None
        for region, value in ((clip.septum, 255), (clip.ventricle, 128)):
            np.testing.assert_array_equal(np.flatnonzero(region.any(axis=(1, 2))), [0, 7])
            for index in (0, 7):
                name = f"patient-{number}-4C-frame-{index + 1}.png"
                drawn = grey(hazy_data / "noisy_roi" / name) == value
                shown = grey(hazy_data / "noisy" / name)[drawn].mean() / 255
                assert clip.frames[index][region[index]].mean() == pytest.approx(shown, abs=0.03)
                assert (region[index] & clip.sector).sum() == region[index].sum()
        assert not (clip.septum & clip.ventricle).any()


def test_frames_with_one_region_only_are_of_no_use(hazy_data, tmp_path):
    """One such frame is left out, a folder of them is refused."""
    for number in (1, 2):
        for index in (1, 8):
            name = f"patient-{number}-4C-frame-{index}.png"
            mask = grey(hazy_data / "noisy_roi" / name).copy()
            if (number, index) != (2, 8):
                mask[mask == 128] = 0
            (tmp_path / "some").mkdir(exist_ok=True)
            (tmp_path / "none").mkdir(exist_ok=True)
            Image.fromarray(mask).save(tmp_path / "some" / name)
            Image.fromarray(np.where(mask == 128, 0, mask).astype(np.uint8)).save(tmp_path / "none" / name)
    (clip,) = own_hazy(hazy_data / "noisy", tmp_path / "some", 48)
    np.testing.assert_array_equal(np.flatnonzero(clip.septum.any(axis=(1, 2))), [7])
    with pytest.raises(InputError, match="both septum and ventricle") as caught:
        own_hazy(hazy_data / "noisy", tmp_path / "none", 48)
    assert str(tmp_path / "none") in str(caught.value)


def test_hazy_clips_without_masks_are_read_too(hazy_data, tmp_path):
    clips = own_hazy(hazy_data / "noisy", size=48)
    assert len(clips) == 2
    for one, marked in zip(clips, own_hazy(hazy_data / "noisy", hazy_data / "noisy_roi", 48), strict=True):
        np.testing.assert_array_equal(one.frames, marked.frames)
        np.testing.assert_array_equal(one.sector, marked.sector)
        assert not one.septum.any()
        assert not one.ventricle.any()
    with pytest.raises(InputError, match="clip"):
        own_hazy(tmp_path, size=48)


# a run, with stand-ins for what takes time


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A small haze-aware prior, untrained: it takes all that is above its mean for haze."""
    config = UNetConfig(widths=(8,), blocks=1, embedding=16, fine=0, haze_aware=True)
    network = UNet(config, key=jax.random.key(0, impl="rbg"))
    path = tmp_path_factory.mktemp("start") / "prior.safetensors"
    save_prior(path, DiffusionPrior(network, 0.1, 0.2, 0.002, 10.0, config.stride, haze_aware=True))
    return path


@contextmanager
def no_bar(title):
    yield lambda *told: None


class FakeJudge:
    def verdict(self, prior, name):
        return [f"as good as {name}", "and more"]


@pytest.fixture
def stand_ins(monkeypatch, start):
    """What reading, judging and training were asked for; a run that keeps its frames in the cache."""
    asked: dict = {"interrupted": False, "prior": load_prior()}

    def read_frames(folder, **about):
        asked["read"] = {"folder": folder, **about}
        about["cache"].mkdir(parents=True)
        (about["cache"] / "frames").touch()
        if about["teacher"] is None:
            return Bank(np.full((5, 32, 32), 90, np.uint8), np.full((2, 32, 32), 60, np.uint8))
        return pairs()

    def render_frames(patients, moments, **about):
        asked["render"] = {"patients": patients, "moments": moments, **about}
        about["cache"].mkdir(parents=True)
        return pairs()

    def pairs():
        both = np.stack([np.full((3, 8, 32, 32), level, np.uint8) for level in (40, 80)], axis=2)
        return Bank(both, both[:0])

    def train(frames, out, config, **about):
        asked["train"] = {"frames": frames, "config": config, **about}
        return TrainResult(asked["prior"], 3, asked["interrupted"])

    def new_judge(request, before, bank, own, bar):
        asked["before"] = before
        return FakeJudge()

    for stand_in in (read_frames, render_frames, train):
        monkeypatch.setattr(train_prior, stand_in.__name__, stand_in)
    monkeypatch.setattr(train_prior, "_judge", new_judge)
    return asked


def asking(request: Request):
    return train_prior.train_prior(request, no_bar, lambda sentence: None)


@pytest.mark.slow
def test_clean_clips_are_dehazed_and_judged_by_the_start(stand_ins, start, tmp_path):
    trained = asking(Request(str(tmp_path / "data"), tmp_path / "run", init=str(start), cache_gb=0.5, seed=4))
    expected = prior_hash(load_prior(start))
    for prior in (stand_ins["read"]["teacher"], stand_ins["train"]["init"], stand_ins["before"]):
        assert prior_hash(prior) == expected
    assert stand_ins["read"]["cache"] == tmp_path / "run" / "cache"
    assert stand_ins["read"]["limit_gb"] == 0.5
    assert stand_ins["read"]["seed"] == stand_ins["train"]["seed"] == 4
    config = stand_ins["train"]["config"]
    assert (config.halved_until, config.lr, config.validate_every) == (0, 1e-3, 200)
    assert trained == (3, 3 * 8, [f"as good as {start}", "and more"], False)
    assert (tmp_path / "run" / "verdict.txt").read_text() == f"as good as {start}\nand more\n"
    assert not (tmp_path / "run" / "cache").exists()


def test_a_new_network_learns_from_what_the_shipped_prior_cleans(stand_ins, tmp_path):
    request = Request(str(tmp_path / "data"), tmp_path / "run", widths=(8, 8), keep_cache=True)
    stand_ins["prior"] = "another"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_prior, "prior_hash", lambda prior: "1" if prior == "another" else "2")
        trained = asking(request)
    assert prior_hash(stand_ins["read"]["teacher"]) == prior_hash(stand_ins["before"]) == prior_hash(load_prior())
    assert stand_ins["train"]["init"] is None
    config = stand_ins["train"]["config"]
    assert (config.halved_until, config.lr, config.network.widths) == (0.1, 5e-3, (8, 8))
    assert config.validate_every == 1000
    assert trained.verdict[0] == "as good as echo"
    assert (tmp_path / "run" / "cache" / "frames").exists()


def test_a_run_that_found_nothing_better_says_so(stand_ins, tmp_path):
    trained = asking(Request(str(tmp_path / "data"), tmp_path / "run", init="echo"))
    (sentence,) = trained.verdict
    assert sentence.startswith("No weights of this run were better than echo")
    assert (tmp_path / "run" / "verdict.txt").read_text() == f"{sentence}\n"


def test_an_interrupted_run_keeps_its_frames_and_says_nothing(stand_ins, start, tmp_path):
    stand_ins["interrupted"] = True
    trained = asking(Request(str(tmp_path / "data"), tmp_path / "run", init=str(start)))
    assert trained.interrupted
    assert trained.verdict == []
    assert (tmp_path / "run" / "cache" / "frames").exists()
    assert not (tmp_path / "run" / "verdict.txt").exists()


@pytest.mark.parametrize("blind", [False, True])
def test_beside_a_gpu_patients_are_rendered_ahead(blind, stand_ins, tmp_path, monkeypatch):
    """The judge looks at those that are there. A blind prior needs a copy of all."""
    rendering = []

    @contextmanager
    def render_ahead(patients, moments, **about):
        rendering.append(patients)
        about["cache"].mkdir(parents=True)
        clips = np.full((5, 8, 2, 32, 32), 40, np.uint8)
        yield Bank(clips, clips[:1]), lambda: 3
        rendering.clear()

    def new_judge(request, before, clips, own, bar):
        assert rendering == [7]
        assert len(clips) == 3
        return FakeJudge()

    monkeypatch.setenv("NUCLEAR_DIFFUSION_BESIDE_GPU", "1")
    monkeypatch.setattr(train_prior, "render_ahead", render_ahead)
    monkeypatch.setattr(train_prior, "_judge", new_judge)
    trained = asking(Request("simulator", tmp_path / "run", blind=blind, patients=7, init="none"))
    assert ("render" in stand_ins) == blind
    assert not rendering
    assert trained.frames == 3 * 8
    assert (stand_ins["train"]["ready"] is None) == blind


@pytest.mark.parametrize("init", [None, "start"])
@pytest.mark.parametrize("data", ["simulator", "data"])
def test_a_blind_prior_sees_clean_frames_as_they_are_and_is_not_judged(data, init, stand_ins, start, tmp_path):
    trained = asking(Request(data, tmp_path / "run", blind=True, patients=7, init=str(start) if init else "none"))
    simulated = data == "simulator"
    told = stand_ins["train"]
    assert told["frames"].shape == ((3 * 8, 32, 32) if simulated else (5, 32, 32))
    assert set(told["frames"].ravel()) == {40 if simulated else 90}  # the clean ones
    assert told["val_frames"].shape == ((0, 32, 32) if simulated else (2, 32, 32))
    assert told["judge"] is None
    assert not told["config"].augment
    if simulated:
        assert stand_ins["render"]["patients"] == 7
    else:
        assert stand_ins["read"]["teacher"] is None
    if init is None:
        assert told["init"] is None
    else:
        assert not told["init"].haze_aware
        assert prior_hash(told["init"]) != prior_hash(load_prior(start))
    assert trained.verdict == []
    assert not (tmp_path / "run" / "verdict.txt").exists()


@pytest.mark.usefixtures("stand_ins")
def test_a_blind_prior_stays_blind_and_is_not_judged_on_hazy_clips(start, tmp_path):
    """Though nobody said so, where it is the start."""
    from nuclear_diffusion.priors.checkpoint import as_blind

    save_prior(tmp_path / "blind.safetensors", as_blind(load_prior(start)))  # pyright: ignore
    blind: dict[str, Any] = {"init": str(tmp_path / "blind.safetensors")}
    requests: list[dict[str, Any]] = [blind, {"blind": True, "init": str(start)}]
    assert asking(Request(str(tmp_path / "data"), tmp_path / "run", **blind)).verdict == []
    for request in requests:
        with pytest.raises(InputError, match="--hazy"):
            asking(Request(str(tmp_path / "data"), tmp_path / "r", hazy=tmp_path, masks=tmp_path, **request))


# the command, from end to end


@pytest.fixture
def clips(tmp_path):
    for seed, name in enumerate(("one", "two")):
        speckle = np.clip(np.random.default_rng(seed).rayleigh(0.2, (40, 48)) + 0.1, 0, 1).astype(np.float32)
        write_video(tmp_path / "data" / f"{name}.npz", np.stack([np.roll(speckle, 2 * t, 0) for t in range(9)]), 20.0)
    return tmp_path / "data"


@pytest.mark.slow
@pytest.mark.usefixtures("_no_figures_of_training")
def test_train_on_a_folder_judges_a_new_prior_against_the_shipped_one(clips, hazy_data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train_prior, "JUDGED", 2)
    monkeypatch.setattr(judge, "ProcessPoolExecutor", lambda workers, context: ThreadPoolExecutor(1))
    last = {}

    @contextlib.contextmanager
    def progress(_, description):
        yield lambda done, total, words="": last.update({description: (done, total)})

    monkeypatch.setattr(cli.Reporter, "progress", progress)
    run = tmp_path / "run"
    command = ["train", str(clips), "-o", str(run), "--widths", "8", "--size", "32", "--steps", "1"]
    command += ["--batch", "1", "--hazy", str(hazy_data / "noisy"), "--masks", str(hazy_data / "noisy_roi")]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert load_prior(run).haze_aware  # pyright: ignore
    assert not (run / "cache").exists()
    assert f"{run / 'prior.safetensors'}: 1 step on 16 frames" in out
    verdict = (run / "verdict.txt").read_text().splitlines()
    assert [line.split(":")[0] for line in verdict] == ["1 simulated clip", "1 own clip"]
    for line in verdict:
        assert "echo" in line
        assert line in out.splitlines()
    assert "GB of frames in" in err
    assert last == {"reading clips": (2, 2), "rendering patients for evaluation": (2, 2), "training": (1, 1)}
    log = json.loads((run / "log.json").read_text())
    assert log["config"]["lr"] == 0.005
    assert {"gain", "simulated_gcnr", "own_gcnr"} <= log["last_validation"].keys()


@pytest.mark.slow
def test_the_gpu_run_in_small_brings_back_what_it_promises(tmp_path):
    """As beside a GPU: patients are rendered while it trains, and batches are made in processes."""
    script = Path(__file__).parents[1] / "training" / "gpu.sh"
    environment = os.environ | {"SMALL": "1", "OUT": str(tmp_path), "PYTHON": sys.executable}
    done = subprocess.run([script], env=environment, capture_output=True, text=True, timeout=1900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {
        "prior.safetensors", "loss.csv", "loss.png", "samples.png", "log.json", "verdict.txt", "development.md",
        "gpu.log",
    }  # fmt: skip
    log = json.loads((tmp_path / "log.json").read_text())
    assert 1 <= log["ready"] <= 2
    assert log["step"] > 0
    assert log["config"]["network"]["widths"] == [8]
    assert prior_hash(load_prior(tmp_path / "prior.safetensors")) == log["prior_sha256"]
    assert "| difference |" in (tmp_path / "development.md").read_text()
    assert "1 of 2 patients are ready; the others are rendered during training." in done.stdout
    assert (tmp_path / "verdict.txt").read_text()
