"""Studies: what is measured, what is stored and reused, and that neither kills nor workers change a bit."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from PIL import Image
from scipy.stats import ks_2samp
from skimage.metrics import peak_signal_noise_ratio

from benchmarks.finished import completed
from children import eventually, started, stop
from nuclear_diffusion.cli import main
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import Clip
from nuclear_diffusion.measure import store as stores
from nuclear_diffusion.measure import study as studies
from nuclear_diffusion.measure.candidates import TUNED_LAM, Candidate, choose, strength_of, vary
from nuclear_diffusion.measure.datasets import Annotation, Case, Loaded, find_dataset
from nuclear_diffusion.measure.scores import Scores, histograms, measure, motion_levels, spectra
from nuclear_diffusion.measure.statistics import pick
from nuclear_diffusion.measure.store import Store, digest
from nuclear_diffusion.measure.study import run_study
from nuclear_diffusion.restore.clip import Dehazed
from nuclear_diffusion.restore.methods import Mmse, Nuclear, Paper, Rpca
from nuclear_diffusion.restore.render import render
from nuclear_diffusion.types import eight_bits

SIDE = 32
SEPTUM, VENTRICLE = np.zeros((2, SIDE, SIDE), bool)
SEPTUM[6:26, 5:13], VENTRICLE[6:26, 19:27] = True, True


def hazy_frame(rng: np.random.Generator, number: int) -> np.ndarray:
    image = rng.integers(20, 80, (SIDE, SIDE))
    image[np.roll(SEPTUM, number % 3, axis=0)] += 100
    image[VENTRICLE] += 60
    return image.astype(np.uint8)


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


@pytest.fixture
def data(tmp_path):
    """Three patients of six frames, one missing, masks on frames 2 and 5, with truth."""
    folder = tmp_path / "data"
    rng = np.random.default_rng(0)
    for patient in (1, 2, 3):
        for number in (1, 2, 3, 5, 6, 7):
            name = f"patient-{patient}-4C-frame-{number}.png"
            image = hazy_frame(rng, number)
            save(folder / "noisy" / name, image)
            save(folder / "truth" / name, np.where(VENTRICLE, 5, image).astype(np.uint8))
            if number in (2, 5):
                save(folder / "noisy_roi" / name, np.where(SEPTUM, 255, np.where(VENTRICLE, 128, 0)).astype(np.uint8))
    return folder


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "results"


@pytest.fixture
def calls(monkeypatch):
    """The (clip, method) pairs that are computed, in order, by a quick stand-in that halves the ventricle."""
    made: list[tuple[str, str]] = []

    def halve(clip, settings, prior=None, *, size, progress=None):
        made.append((clip.name, settings.name))
        haze = np.where(VENTRICLE, clip.frames * np.float32(0.5), 0).astype(np.float32)
        return Dehazed(clip.frames - haze, haze, None, np.ones((SIDE, SIDE), bool), 0.6)

    monkeypatch.setattr(studies, "dehaze_clip", halve)
    return made


METHODS = [Candidate("hazy", None, size=SIDE), Candidate("rpca", Rpca(), size=SIDE)]


def run(data, folder, methods=METHODS, **rest):
    return run_study(find_dataset(data).cases, methods, folder, **rest)


def bits(study):
    """Everything measured except times, as exact text."""
    return {
        key: repr(structs.replace(found, seconds=0.0, compiled=False)) for key, found in sorted(study.measured.items())
    }


def by_frame(found: Scores, score: str) -> dict[int, float]:
    """What was measured of each frame."""
    measured = found[score]
    assert isinstance(measured, dict)
    return measured


def of_clip(found: Scores, score: str) -> float:
    """What was measured of the whole clip."""
    measured = found[score]
    assert not isinstance(measured, dict)
    return measured


def values(found: Scores, score: str) -> list[float]:
    return list(by_frame(found, score).values())


# what is measured


def loaded_clip(numbers=(1, 2, 4), truth=None) -> tuple[Loaded, np.ndarray]:
    rng = np.random.default_rng(1)
    stored = np.stack([hazy_frame(rng, number) for number in numbers])
    clip = Clip(stored / np.float32(255), 30.0, None, None, "clip", Path("clip"))
    return Loaded(clip, numbers, {number: Annotation(SEPTUM, VENTRICLE) for number in numbers}, truth), stored


EVERYWHERE = np.ones((SIDE, SIDE), bool)


def test_scores_are_those_of_the_eight_bit_images():
    loaded, stored = loaded_clip()
    signal_ = stored.copy()
    signal_[:, VENTRICLE] //= 3
    scores, counts = measure(loaded, signal_, EVERYWHERE), histograms(loaded, signal_, EVERYWHERE)
    for index, number in enumerate(loaded.numbers):
        before, after = stored[index], signal_[index]
        assert by_frame(scores, "ks_a")[number] == 0
        assert by_frame(scores, "ks_b")[number] == ks_2samp(before[VENTRICLE], after[VENTRICLE])[0]
        a, b = after[SEPTUM].astype(float), after[VENTRICLE].astype(float)
        contrast = (a.mean() - b.mean()) / np.sqrt(a.var() + b.var())
        assert by_frame(scores, "cnr")[number] == pytest.approx(contrast)
        edges = np.histogram_bin_edges(np.concatenate([a, b]), bins=256)
        overlap = np.minimum(np.histogram(a, edges)[0] / a.size, np.histogram(b, edges)[0] / b.size).sum()
        assert by_frame(scores, "gcnr")[number] == pytest.approx(1 - overlap)
    for value in (0, 20, 50, 150):
        assert counts["ventricle"][value] == (signal_[:, VENTRICLE] == value).sum()
        assert counts["sector"][value] == (signal_ == value).sum()


def test_less_than_half_a_level_is_no_change():
    loaded, stored = loaded_clip()
    nearly = loaded.clip.frames - np.float32(0.4 / 255)
    np.testing.assert_array_equal(eight_bits(nearly), stored)
    scores = measure(loaded, eight_bits(nearly), EVERYWHERE)
    assert values(scores, "ks_a") == values(scores, "ks_b") == [0, 0, 0]


def test_the_motion_level_needs_the_frame_before():
    loaded, stored = loaded_clip()
    expected = peak_signal_noise_ratio(stored[0], stored[1], data_range=255)
    assert motion_levels(loaded) == pytest.approx({1: np.nan, 2: expected, 4: np.nan}, nan_ok=True)
    still = loaded._replace(clip=replace_frames(loaded.clip, stored[[0, 0, 1]]))
    assert motion_levels(still)[2] == np.inf


def test_a_frame_with_one_region_has_that_regions_score_only():
    loaded, stored = loaded_clip()
    loaded.annotations[2] = Annotation(SEPTUM, np.zeros_like(VENTRICLE))
    scores = measure(loaded, stored, EVERYWHERE)
    assert np.isnan(values(scores, "gcnr")).tolist() == [False, True, False]
    assert np.isnan(values(scores, "ks_b")).tolist() == [False, True, False]
    assert values(scores, "ks_a") == [0, 0, 0]


def test_fidelity_is_measured_frame_by_frame_within_the_sector():
    loaded, stored = loaded_clip(truth=np.zeros((3, SIDE, SIDE), np.float32))
    scores = measure(loaded, np.where(SEPTUM, 51, stored).astype(np.uint8), SEPTUM)
    assert values(scores, "psnr") == pytest.approx([-20 * np.log10(51 / 255)] * 3)
    assert len(values(scores, "ssim")) == 3
    assert values(scores, "ks_truth") == [1, 1, 1]  # 51 everywhere where the truth is 0


def test_flicker_and_loss_are_measured_over_all_frames_of_a_clip():
    """The septum, which moves by up to two rows, beats in turn by 10 levels; half the bright ventricle is put out."""
    loaded, stored = loaded_clip(numbers=(1, 2, 4, 5))
    moving = {number: Annotation(np.roll(SEPTUM, number, axis=0), VENTRICLE) for number in (1, 2)}
    loaded = loaded._replace(annotations=moving)
    signal_ = np.full_like(stored, 90)
    signal_[:, SEPTUM & np.roll(SEPTUM, 2, axis=0)] = 150
    signal_[::2, SEPTUM] += 10
    signal_[1] += 3 * VENTRICLE.astype(np.uint8)
    scores = measure(loaded, signal_, EVERYWHERE)
    core = moving[1].septum & moving[2].septum
    means = signal_[:, core].mean(axis=1)
    assert scores["flicker_a"] == pytest.approx(np.sqrt(np.mean(np.diff(means, 2) ** 2)))
    assert scores["flicker_b"] == pytest.approx(np.sqrt((6**2 + 3**2) / 2))

    only = Annotation(SEPTUM, np.zeros_like(VENTRICLE))
    scores = measure(loaded._replace(annotations=moving | {4: only}), signal_, EVERYWHERE)
    assert np.isnan(of_clip(scores, "flicker_b"))
    scores = measure(loaded._replace(annotations={}), signal_, EVERYWHERE)
    assert np.isnan([of_clip(scores, "flicker_a"), of_clip(scores, "flicker_b")]).all()


def test_bright_tissue_lost_is_that_of_the_sector_and_of_the_truth_where_it_is_known():
    loaded, stored = loaded_clip()
    bright = np.full(stored.shape, 200, np.uint8)
    loaded = loaded._replace(clip=replace_frames(loaded.clip, bright))
    gone = np.where(np.arange(SIDE) < 16, bright, 0).astype(np.uint8)
    assert measure(loaded, bright, EVERYWHERE)["bright_lost"] == 0
    assert measure(loaded, gone, EVERYWHERE)["bright_lost"] == pytest.approx(17 / 32)
    assert measure(loaded, gone, EVERYWHERE & (np.arange(SIDE) >= 20))["bright_lost"] == 1
    known = loaded._replace(truth=np.where(np.arange(SIDE) < 8, np.float32(1), np.zeros(stored.shape, np.float32)))
    assert measure(known, gone, EVERYWHERE)["bright_lost"] == 0
    assert np.isnan(of_clip(measure(known, gone, EVERYWHERE & (np.arange(SIDE) >= 20)), "bright_lost"))


def replace_frames(clip: Clip, stored: np.ndarray) -> Clip:
    return Clip(stored / np.float32(255), clip.fps, None, None, clip.name, clip.source)


def test_spectra_are_the_singular_values_of_clip_and_windows():
    video = np.random.default_rng(2).uniform(size=(9, 12, 10)).astype(np.float32)
    sector = np.zeros((12, 10), bool)
    sector[2:, :6] = True
    whole, *windows = spectra(video, sector)
    matrix = video[:, sector].astype(float)
    np.testing.assert_allclose(whole, np.linalg.svd(matrix, compute_uv=False), rtol=1e-7)
    assert len(windows) == 3
    np.testing.assert_allclose(windows[2], np.linalg.svd(matrix[2:], compute_uv=False), rtol=1e-7)


# what is run


def test_methods_are_named_with_their_defaults():
    assert [one.name for one in choose("rpca")] == ["hazy", "rpca"]
    tuned, plain, paper = choose("hazy,rpca-tuned,rpca,paper", seed=3)[1:]
    assert (tuned.name, tuned.settings) == ("rpca-tuned", Rpca(lam=TUNED_LAM))
    assert (plain.settings, paper.settings) == (Rpca(), Paper(seed=3))
    with pytest.raises(InputError, match="'magic'"):
        choose("rpca,magic")
    with pytest.raises(InputError, match="rpca twice"):
        choose("rpca,rpca")


def test_strengths_are_renderings_of_one_separation(data, folder, monkeypatch):
    made = []

    def half_haze(clip, settings, prior=None, *, size, progress=None):
        made.append(clip.name)
        share = np.where(VENTRICLE, np.full_like(clip.frames, 0.5), 0).astype(np.float32)
        signal = render(clip.frames, share, settings.strength)
        return Dehazed(signal, clip.frames, None, np.ones((SIDE, SIDE), bool), 0.6, share)

    monkeypatch.setattr(studies, "dehaze_clip", half_haze)
    monkeypatch.setattr(studies, "_prior", lambda *about: None)
    nuclear = Candidate("nuclear", Nuclear(), "0" * 64, SIDE)
    methods = [METHODS[0], nuclear, *vary([nuclear], [0.2, 2])]
    cases = find_dataset(data).cases
    study = run_study(cases, methods, folder)
    assert made == [case.name for case in cases]
    ventricle = [np.mean(values(study.of(method.name)[0].scores, "ks_b")) for method in methods]
    assert ventricle[2] == 0  # strength 0.1 takes a share of half for none
    assert ventricle[1] > 0
    assert ventricle[3] == 1  # strength 1 takes it for all


def test_strengths_are_multiples_of_the_default():
    methods = choose("hazy,rpca,nuclear")[:2]
    varied = vary(methods, [0.5, 1, 3])
    assert [(m.varied, m.settings) for m in varied] == [("rpca", Rpca(lam=0.5)), ("rpca", Rpca(lam=3.0))]
    assert [m.name for m in vary(methods, {"rpca": [3], "mmse": [2]})] == [varied[-1].name]
    assert len({m.name for m in varied}) == 2
    assert len({m.configuration_hash for m in (*methods, *varied)}) == 4
    assert vary([Candidate("nuclear", Nuclear())], [2.5]) == []  # its strength ends at 1
    assert [strength_of(method) for method in (Mmse(), Nuclear(), Paper(), None)] == ["sigma", "strength", "mu", None]


def test_every_clip_is_answered_by_every_method(data, folder, calls):
    told = []
    study = run(data, folder, progress=lambda done, total: told.append((done, total)))
    assert calls == [(f"patient-{p}-4C", "rpca") for p in (1, 2, 3)]
    assert told == [(done, 6) for done in range(7)]
    found = study.measured["rpca", "patient-2-4C"].scores
    assert found["septum_pixels"] == {2: SEPTUM.sum(), 5: SEPTUM.sum()}
    assert found["ks_a"] == {2: 0, 5: 0}
    assert np.isfinite(by_frame(found, "motion_psnr")[2])
    assert np.isnan(by_frame(found, "motion_psnr")[5])  # frame 4 is missing
    assert list(by_frame(found, "psnr")) == [1, 2, 3, 5, 6, 7]
    rows = pick(study.frame, method="rpca", clip="patient-2-4C")
    assert rows.patient.unique().tolist() == ["patient-2"]
    assert pick(rows, score="ks_a").frame.tolist() == [2, 5]
    assert pick(rows, score="flicker_b").frame.isna().tolist() == [True]
    case = study.cases[1]
    np.testing.assert_array_equal(study.output("hazy", case).signal, eight_bits(case.read().clip.frames))
    halved = eight_bits(case.read().clip.frames * np.where(VENTRICLE, np.float32(0.5), np.float32(1)))
    np.testing.assert_array_equal(study.output("rpca", case).signal, halved)


def test_time_counts_without_compilation(data, folder, calls, monkeypatch):
    monkeypatch.setattr(studies, "_kinds", set())
    study = run(data, folder)
    assert [found.compiled for found in study.of("rpca")] == [True, False, False]
    times = pick(study.frame, method="rpca", score="seconds")
    assert times.set_index("patient").value.to_dict() == {"patient-2": 0.6 / 6, "patient-3": 0.6 / 6}
    only = replace(study, cases=study.cases[:1])
    assert pick(only.frame, method="rpca", score="seconds").value.tolist() == [0.6 / 6]


# what is reused


def test_a_rerun_computes_nothing_and_gives_the_same(data, folder, calls):
    first = bits(run(data, folder))
    calls.clear()
    assert bits(run(data, folder)) == first
    assert calls == []


@pytest.mark.slow
def test_other_settings_weights_or_size_are_computed_anew_and_the_old_ones_found_again(data, folder, calls):
    first = bits(run(data, folder))
    rpca = METHODS[1]
    for changed in (
        replace(rpca, settings=Rpca(lam=2.0)),
        replace(rpca, prior_sha256="0" * 64),
        replace(rpca, size=SIDE // 2),
    ):
        calls.clear()
        run(data, folder, [METHODS[0], changed])
        assert len(calls) == 3, changed
    calls.clear()
    assert bits(run(data, folder)) == first
    assert calls == []


def test_another_revision_computes_everything_anew(data, folder, calls, monkeypatch):
    assert run(data, folder).reused == ()
    assert run(data, folder).reused[0].startswith(f"6 of 6 answers are from {folder} (")
    calls.clear()
    monkeypatch.setattr(stores, "REVISION", stores.REVISION + 1)
    assert run(data, folder).reused == ()
    assert len(calls) == 3


def test_where_a_prior_lies_does_not_matter():
    here, there = (Candidate("mmse", Mmse(prior=path), "0" * 64) for path in ("a.safetensors", "b.safetensors"))
    assert here.configuration_hash == there.configuration_hash


def test_only_the_clip_with_a_changed_frame_is_computed_anew(data, folder, calls):
    run(data, folder)
    calls.clear()
    path = data / "noisy" / "patient-2-4C-frame-3.png"
    image = np.array(Image.open(path))
    image[0, 0] += 1
    save(path, image)
    run(data, folder)
    assert calls == [("patient-2-4C", "rpca")]


def test_changed_masks_are_measured_anew_without_a_new_answer(data, folder, calls):
    before = run(data, folder)
    calls.clear()
    name = "patient-2-4C-frame-2.png"
    save(data / "noisy_roi" / name, np.where(VENTRICLE, 255, np.where(SEPTUM, 128, 0)).astype(np.uint8))
    after = run(data, folder)
    assert calls == []
    case = "patient-2-4C"
    old, new = (by_frame(study.measured["rpca", case].scores, "cnr") for study in (before, after))
    assert new[2] == -old[2]
    assert new[5] == old[5]


def test_variations_keep_their_numbers_and_not_their_answers(data, folder, calls):
    methods = [*METHODS, *vary(METHODS, [2])]
    study = run(data, folder, methods)
    assert len(list(folder.glob("*/*.npz"))) == 3
    assert [method.name for method in study.main] == ["hazy", "rpca"]
    calls.clear()
    run(data, folder, methods)
    assert calls == []


def test_ctrl_c_loses_only_what_was_under_way(data, folder, calls, monkeypatch):
    halve = studies.dehaze_clip

    def stop(clip, settings, prior=None, **rest):
        if clip.name == "patient-2-4C":
            raise KeyboardInterrupt
        return halve(clip, settings, prior, **rest)

    monkeypatch.setattr(studies, "dehaze_clip", stop)
    with pytest.raises(KeyboardInterrupt):
        run(data, folder)
    assert calls == [("patient-1-4C", "rpca")]
    monkeypatch.setattr(studies, "dehaze_clip", halve)
    run(data, folder)
    assert calls == [(f"patient-{p}-4C", "rpca") for p in (1, 2, 3)]
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]


def test_torn_numbers_are_measured_again(data, folder, calls):
    first = bits(run(data, folder))
    next((folder / "patient-1-4C").glob("rpca-*.json")).write_text('{"key": "pat')
    calls.clear()
    assert bits(run(data, folder)) == first
    assert calls == []


def test_a_torn_answer_is_computed_again(data, folder, calls):
    first = bits(run(data, folder))
    for path in (folder / "patient-1-4C").glob("rpca-*"):
        path.write_bytes(path.read_bytes()[:-40])
    calls.clear()
    assert bits(run(data, folder)) == first
    assert calls == [("patient-1-4C", "rpca")]


# the store alone


def test_what_is_stored_comes_back_to_the_bit(tmp_path):
    store, value = Store(tmp_path), {"a": [0.1 + 0.2, np.inf, None], "b": {"nan": "nan"}}
    assert store.once("x/y", ["about", 1], lambda: value) == value
    assert store.once("x/y", ["about", 1], lambda: pytest.fail("it is there")) == value
    assert store.once("x/y", ["about", 2], lambda: 7) == 7
    assert np.isnan(store.once("x/y", "nan", lambda: np.nan))
    assert store.arrays("x/y", 0) is None
    store.keep_arrays("x/y", 0, {"signal": np.arange(5)})
    found = store.arrays("x/y", 0)
    assert found is not None
    np.testing.assert_array_equal(found["signal"], np.arange(5))


def test_an_entry_of_another_key_under_the_same_name_does_not_count(tmp_path, monkeypatch):
    """As if the first digits of two keys agreed."""
    store = Store(tmp_path)
    store.once("x", "first", lambda: 1)
    store.keep_arrays("x", "first", {"signal": np.arange(5)})
    for suffix in ("json", "npz"):
        next(tmp_path.glob(f"x-*.{suffix}")).rename(tmp_path / f"x-{digest('second')[:16]}.{suffix}")
    assert store.once("x", "second", lambda: 2) == 2
    assert store.arrays("x", "second") is None


measured_items: list[int] = []


def square(item: dict[str, int]) -> dict[str, float]:
    measured_items.append(item["patient"])
    if item["patient"] == 99:
        raise KeyboardInterrupt
    return {"psnr": float(item["patient"] ** 2), "flicker": np.nan}


def test_a_benchmark_goes_on_where_it_stopped(tmp_path):
    measured_items.clear()
    with pytest.raises(KeyboardInterrupt):
        completed(tmp_path, [{"patient": k} for k in (1, 2, 99, 3)], square)
    found = completed(tmp_path, [{"patient": k} for k in (3, 2, 1)], square)
    assert [scores["psnr"] for scores in found] == [9, 4, 1]
    assert measured_items == [1, 2, 99, 3]


def test_a_benchmark_is_the_same_from_several_processes(tmp_path):
    items = [{"patient": k} for k in range(5)]
    one, two = (completed(tmp_path / str(workers), items, square, workers) for workers in (1, 2))
    assert repr(one) == repr(two)


# what fails


def test_a_clip_that_cannot_be_taken_is_left_out_and_named(data, folder):
    for number in (1, 2, 3, 5, 6, 7):
        (data / "noisy" / f"patient-2-4C-frame-{number}.png").write_bytes(
            (data / "noisy" / "patient-2-4C-frame-1.png").read_bytes()
        )
    study = run(data, folder)
    assert [case.patient for case in study.cases] == ["patient-1", "patient-3"]
    (failure,) = study.failures
    assert (failure.case, failure.method) == ("patient-2-4C", "rpca")
    assert "does not move" in failure.reason
    assert study.frame.patient.unique().tolist() == ["patient-1", "patient-3"]
    assert study.left_out() == [f"patient-2-4C is left out: {failure.reason}"]


def test_no_clip_left_is_an_error_and_mistakes_of_ours_are_not_hidden(folder, monkeypatch):
    case = Case("gone", "gone", Path("gone.mp4"), ())
    with pytest.raises(InputError, match="gone"):
        run_study([case], METHODS, folder)
    monkeypatch.setattr(studies, "_read", lambda case: 1 / 0)
    monkeypatch.setattr(studies._read, "cache_clear", lambda: None, raising=False)
    with pytest.raises(ZeroDivisionError):
        run_study([case], METHODS, folder)


def test_workers_do_not_share_a_gpu(data, folder, monkeypatch):
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    with pytest.raises(InputError, match="--workers 1"):
        run(data, folder, workers=2)


# whole processes


@pytest.mark.slow
def test_workers_do_not_change_a_bit(data, tmp_path):
    one, two = (run(data, tmp_path / str(workers), workers=workers) for workers in (1, 2))
    assert bits(one) == bits(two)
    for case in one.cases:
        np.testing.assert_array_equal(one.output("rpca", case).signal, two.output("rpca", case).signal)


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "how", "code"), [(1, signal.SIGKILL, -9), (2, signal.SIGINT, 130)])
@pytest.mark.usefixtures("_no_figures_of_reports")
def test_a_stopped_run_goes_on_where_it_stopped(data, tmp_path, calls, workers, how, code):
    """SIGKILL as by the system, SIGINT to every process as by Ctrl-C. What is left is then computed here."""
    out = tmp_path / "report"
    command = ["evaluate", str(data), "-o", str(out), "--methods", "hazy,rpca"]
    group = started(*command, "--workers", str(workers), stdout=subprocess.DEVNULL)
    assert stop(group, how, lambda: list(out.glob("results/*/hazy-*.json"))) == code
    kept = {path: path.stat().st_mtime_ns for path in out.glob("results/*/*") if path.name[0] != "."}
    assert main(command) == 0
    assert len(calls) == 3 - sum("rpca-" in path.name and path.suffix == ".npz" for path in kept)
    assert (out / "report.html").is_file()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(list(out.glob("results/*/rpca-*.npz"))) == 3


PARENT = """
import os, time
from nuclear_diffusion.measure.store import each


def answer(item):
    if item:
        time.sleep(3600)
    return os.getpid()


if __name__ == "__main__":
    for _, worker in each(answer, [0, 1, 1], workers=2):
        print(worker, flush=True)
"""


@pytest.mark.slow
def test_no_worker_outlives_a_killed_parent(tmp_path):
    """Nobody would wait for its answer, and the next run would share its cores."""
    (tmp_path / "parent.py").write_text(PARENT)
    command = [sys.executable, str(tmp_path / "parent.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert is_alive(worker)
        parent.kill()
    eventually(lambda: not is_alive(worker))


def is_alive(process: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has waited for does not."""
    state = Path(f"/proc/{process}/stat")
    try:
        os.kill(process, 0)
        return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
