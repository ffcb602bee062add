"""Scores of simulated patients, bootstrap intervals and tables."""

import csv
import dataclasses
import importlib.util
import io
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import norm

from nuclear_diffusion.measure.bootstrap import mean_interval, paired_difference
from nuclear_diffusion.measure.comparison import METHODS, Compared, as_clip
from nuclear_diffusion.measure.demo import strict, table
from nuclear_diffusion.measure.scores import score
from nuclear_diffusion.measure.style import LOOKS
from nuclear_diffusion.measure.tables import difference_table, group_table, mean_table
from nuclear_diffusion.paper.gaussian import Gaussian
from nuclear_diffusion.restore.run import LoadedPrior
from nuclear_diffusion.simulation import UNSEEN_FAMILIES, SimulatedClip, patient_seed, simulate


def two_regions(frames: int = 2) -> SimulatedClip:
    """Bright septum on the left, dark ventricle on the right; haze fills the ventricle to the same brightness."""
    clean = np.full((frames, 32, 32), 0.1, np.float32)
    septum, ventricle = np.zeros((2, frames, 32, 32), bool)
    septum[:, 4:28, 4:12], ventricle[:, 4:28, 20:28] = True, True
    clean[septum] = 0.8
    hazy = np.where(ventricle, np.float32(0.8), clean)
    return SimulatedClip(hazy, clean, septum, ventricle, np.ones((32, 32), bool), 30.0, "a4c", 0)


def test_perfect_and_untouched_answers_have_known_scores():
    clip = two_regions()
    perfect, untouched = score(clip, clip.clean), score(clip, clip.hazy)
    assert perfect["gcnr"] == 1
    assert untouched["gcnr"] == 0
    assert (perfect["ks_a"], perfect["ks_b"]) == (0, 1)
    assert (untouched["ks_a"], untouched["ks_b"]) == (0, 0)
    assert (perfect["ks_truth"], untouched["ks_truth"]) == (0, 0)
    assert perfect["psnr"] == np.inf
    assert perfect["ssim"] == pytest.approx(1)
    share = clip.ventricle[0].mean()
    assert untouched["psnr"] == pytest.approx(-10 * np.log10(share * 0.7**2), rel=1e-5)


def test_tissue_under_haze_is_compared_with_the_truth():
    """Haze over a quarter of the septum: the input is a quarter from the truth, which is as far from the input."""
    clip = two_regions()
    quarter = clip.septum & (np.arange(32)[:, None] < 10)
    clip = clip._replace(hazy=np.where(quarter, np.float32(0.9), clip.hazy))
    untouched, perfect = score(clip, clip.hazy), score(clip, clip.clean)
    assert (untouched["ks_a"], untouched["ks_truth"]) == (0, pytest.approx(0.25))
    assert (perfect["ks_a"], perfect["ks_truth"]) == (pytest.approx(0.25), 0)


def test_only_the_sector_counts_for_fidelity():
    clip = two_regions()
    inside = clip._replace(sector=clip.septum[0])
    assert score(inside, clip.hazy)["psnr"] == np.inf


def test_frames_without_a_region_do_not_count():
    clip = two_regions(frames=3)
    clip.ventricle[1] = False
    signal = clip.clean.copy()
    signal[1] = 0.5
    assert score(clip, signal)["gcnr"] == 1
    clip.ventricle[:] = False
    assert np.isnan(score(clip, signal)["gcnr"])


def test_flicker_of_septum_and_ventricle_in_the_pixels_that_stay_theirs():
    """In turn +-10 and +-3 grey levels: second differences of 40 and 12; the septum's border, which moves, is none."""
    clip = two_regions(frames=9)
    clip.septum[::2, :, 11] = False
    turn = np.where(np.arange(9) % 2, 1, -1)[:, None, None] / np.float32(255)
    signal = np.where(clip.septum, 130 / 255 + 10 * turn, np.where(clip.ventricle, 40 / 255 + 3 * turn, 0))
    found = score(clip, signal.astype(np.float32))
    assert (found["flicker_a"], found["flicker_b"]) == pytest.approx((40, 12))
    clip.septum[4] = False
    found = score(clip, signal.astype(np.float32))
    assert np.isnan(found["flicker_a"])
    assert found["flicker_b"] == pytest.approx(12)
    short = two_regions(frames=2)
    assert np.isnan([score(short, short.clean)[name] for name in ("flicker_a", "flicker_b", "flicker_still")]).all()
    single = two_regions(frames=1)
    assert np.isnan(score(single, single.clean)["flicker_still"])


def test_flicker_of_still_tissue_is_what_a_method_brings_there():
    rng = np.random.default_rng(3)
    clip = two_regions(frames=40)
    moving = (clip.clean[0] > 0.5) & (np.arange(32)[:, None] < 16)
    clean = clip.clean - np.where(moving, 0.2, 0) * rng.random(clip.clean.shape)
    clip = clip._replace(clean=clean, sector=clip.septum[0])
    assert score(clip, clip.clean)["flicker_still"] == 0
    noise = rng.normal(0, 0.03, clip.clean.shape)
    beating, noisier = (clip.clean + np.where(where, noise, 0) for where in (moving, ~moving))
    assert score(clip, noisier)["flicker_still"] == pytest.approx(np.sqrt(6) * 0.03 * 255, rel=0.05)
    assert score(clip, beating)["flicker_still"] < 0.2 * score(clip, noisier)["flicker_still"]


def test_bright_tissue_is_lost_to_a_method_and_haze_is_not():
    clip = two_regions()
    for signal, lost in ((clip.hazy, 0), (np.where(clip.septum, clip.hazy, 0), 0), (clip.hazy * np.float32(0.5), 1)):
        assert score(clip, signal)["bright_lost"] == lost
    assert np.isnan(score(clip._replace(sector=clip.ventricle[0]), clip.hazy)["bright_lost"])


def test_the_interval_agrees_with_the_normal_one_for_many_values():
    values = np.random.default_rng(0).normal(3, 2, 400)
    interval = mean_interval(values)
    half = norm.ppf(0.975) * values.std() / np.sqrt(len(values))
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.1 * half)
    assert interval.patients == 400


def test_pairing_takes_out_what_patients_have_in_common():
    rng = np.random.default_rng(1)
    patients = rng.normal(0, 10, 24)
    better = patients + 1 + rng.normal(0, 0.1, 24)
    difference = paired_difference(better, patients)
    assert difference.low > 0.9
    assert difference.high < 1.1
    alone = mean_interval(better)
    assert alone.high - alone.low > 10 * (difference.high - difference.low)
    with pytest.raises(ValueError, match="as many patients"):
        paired_difference([1.0], [1.0, 2.0])


def test_undefined_scores_are_left_out():
    assert mean_interval([1.0, np.nan, 3.0, np.inf]).mean == 2
    assert mean_interval([1.0, np.nan, 3.0]).patients == 2
    assert np.isnan(mean_interval([5.0]).low)
    assert np.isnan(mean_interval([]).mean)
    assert paired_difference([np.inf, np.inf], [np.inf, 1.0]).patients == 0


def test_tables_show_means_and_mark_sure_differences():
    scores = {
        "new": {"psnr": [30.0, 31.0, 32.0], "ssim": [0.5, 0.5, 0.5]},
        "old": {"psnr": [20.0, 21.0, 22.0], "ssim": [0.5, 0.5, 0.5]},
        "truth": {"psnr": [np.inf] * 3, "ssim": [1.0, 1.0, 1.0]},
    }
    columns = {"psnr": "PSNR", "ssim": "SSIM"}
    means = mean_table(scores, columns).splitlines()
    assert means[0] == "| | PSNR | SSIM |"
    assert means[2].startswith("| new | 31.000 [30")
    assert means[4].startswith("| truth | – | 1.000")
    differences = difference_table(scores, columns, method="new").splitlines()
    assert differences[2] == "| new − old | 10.000* [10.000, 10.000] | 0.000 [0.000, 0.000] |"
    assert differences[3].startswith("| new − truth | – | -0.500*")


def test_groups_are_told_apart():
    good = {"old": {"psnr": [10.0, 11.0]}, "new": {"psnr": [20.0, 21.0]}}
    bad = {"old": {"psnr": [10.0, 12.0, 11.0]}, "new": {"psnr": [9.0, 13.0, 11.0]}}
    lines = group_table({"good": good, "bad": bad}, {"psnr": "PSNR"}, before="old", after="new").splitlines()
    assert lines[0] == "| | patients | PSNR |"
    assert lines[2:] == ["| good | 2 | 10.500 → 20.500* |", "| bad | 3 | 11.000 → 11.000 |"]


def test_the_report_holds_no_number_that_json_lacks():
    scores = {
        "gcnr": 0.5,
        "ks_a": np.nan,
        "ks_b": 0.1,
        "ks_truth": 0.2,
        "psnr": np.inf,
        "ssim": np.float32(1),
        "flicker_b": 3.0,
        "bright_lost": np.nan,
        "seconds": 0.0,
    }
    expected = scores | {"ks_a": None, "psnr": None, "ssim": 1.0, "bright_lost": None}
    assert strict(scores) == expected


def test_every_compared_method_has_valid_settings_and_one_title():
    for method, settings in METHODS.items():
        assert settings.resolved().method == method.removesuffix("-tuned")
        assert method in LOOKS
    assert len({look.title for look in LOOKS.values()}) == len(LOOKS)
    assert list(METHODS) == [name for name in LOOKS if name in METHODS]  # one order everywhere


def test_the_demos_table_fits_a_terminal():
    clip = two_regions()
    console = Console(width=80, soft_wrap=True, record=True, file=io.StringIO())
    console.print(table([Compared("aware", clip.hazy, {**score(clip, clip.hazy), "seconds": 12.3})]))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[-1].split()[:4] == ["One", "haze-aware", "pass", "0.000"]
    assert "…" not in "".join(lines)


def test_a_simulated_patient_reads_like_a_clip():
    clip = as_clip(two_regions())
    assert clip.fps == 30
    np.testing.assert_array_equal(clip.frames, two_regions().hazy)


@pytest.mark.slow
def test_a_look_at_strengths_goes_on_where_it_stopped_and_begins_at_the_input(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "docs" / "benchmarks"))
    module = importlib.import_module("strengths")
    loaded = LoadedPrior(Gaussian(20.0, 0.2), "0123456789abcdef" * 4)
    monkeypatch.setattr(module, "prior_named", lambda name: loaded)
    look = module.Strengths(spare=(0.1,), width=(0.5,), frames=3, share=0.01, output=tmp_path)
    look.run()
    with (tmp_path / "strengths.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["kind"] for row in rows} == set(module.DEVELOPMENT)
    for row in rows:
        if row["rendering"].startswith("strength 0:"):  # the input as it is
            assert [float(row[name]) for name in ("psnr", "ks_a", "ks_b", "bright_lost", "clean_lost")] == [0] * 5
    assert {row["rendering"] for row in rows} >= {"strength 0.5: spare 0.250, clear 0.650", "spare 0.1, clear 0.6"}
    text = (tmp_path / "strengths.md").read_text()

    monkeypatch.setattr(module, "patient", None)  # finished patients are not rendered again
    look.run()
    assert (tmp_path / "strengths.md").read_text() == text


def test_what_is_finished_outlives_a_kill_and_not_a_change_of_code(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "docs" / "benchmarks"))
    module = importlib.import_module("finished")
    path = tmp_path / "folder" / "lines.jsonl"
    first = module.Finished(path)
    assert first.get(["patient", 1]) is None
    first.add(["patient", 1], {"psnr": 30.0, "flicker": np.nan})
    with path.open("a") as lines:
        lines.write('{"identity": "[\\"pat')
    again = module.Finished(path)
    again.add({"patient": 2, "mu": 3.0}, 0)
    found = module.Finished(path)
    assert found.get(("patient", 1))["psnr"] == 30.0
    assert np.isnan(found.get(["patient", 1])["flicker"])
    assert found.get({"mu": 3.0, "patient": 2}) == 0
    assert found.get({"mu": 3.0, "patient": 3}) is None
    monkeypatch.setattr(module, "code_hash", lambda parts: "other")
    assert module.Finished(path).get(["patient", 1]) is None


class Aware(Gaussian):
    """A prior that takes half of every pixel for haze."""

    haze_aware = True

    def given(self, observed):
        return types.SimpleNamespace(mean=lambda: observed / 2)


@pytest.fixture
def benchmark(monkeypatch):
    path = Path(__file__).parents[1] / "docs" / "benchmarks" / "simulated_patients.py"
    monkeypatch.syspath_prepend(str(path.parent))
    spec = importlib.util.spec_from_file_location("simulated_patients", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "simulated_patients", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "prior_named", lambda name: LoadedPrior(Aware(20.0, 0.2), "0" * 64))
    return module


@pytest.fixture
def patients(monkeypatch, benchmark):
    """The module from which the benchmark has its patients."""
    return importlib.import_module("patients")


@pytest.mark.slow
def test_the_benchmark_goes_on_where_it_stopped_and_writes_its_tables(tmp_path, monkeypatch, benchmark, patients):
    module = benchmark
    run = module.Benchmark(patients=2, split="development", frames=3, output=tmp_path)

    simulated = []

    def stop_at_second(*, seed, **rest):
        simulated.append(seed)
        if len(simulated) == 2:
            raise KeyboardInterrupt
        return simulate(seed=seed, **rest)

    monkeypatch.setattr(patients, "simulate", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    with (tmp_path / "patients.jsonl").open("a") as lines:
        lines.write('{"patient": 1, "scor')  # killed while writing
    run.run()
    assert simulated == [patient_seed("development", k) for k in (0, 1, 1)]
    run.run()
    assert len(simulated) == 3

    with (tmp_path / "simulated_patients.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = ("hazy", *METHODS, "clean")
    assert [(row["patient"], row["method"]) for row in rows] == [(p, m) for p in "01" for m in names]
    assert {row["psnr"] for row in rows if row["method"] == "clean"} == {""}
    text = (tmp_path / "simulated_patients.md").read_text()
    assert "| Nuclear Diffusion − Robust PCA |" in text
    assert str(Path.home()) not in text


def test_kinds_of_patients_never_share_one_and_every_unseen_family_gets_its_share(benchmark):
    firsts = sorted(kind.first for kind in benchmark.KINDS.values())
    assert firsts[0] == 0
    assert min(np.diff(firsts)) >= 100_000
    unseen = benchmark.KINDS["unseen"]
    assert all(set(unseen.clip(k)["families"]) <= set(UNSEEN_FAMILIES) for k in range(24))
    counts = [sum(family in unseen.groups(k) for k in range(10)) for family in UNSEEN_FAMILIES]
    assert counts == [3] * len(UNSEEN_FAMILIES)
    assert benchmark.KINDS["seen"].groups(0) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["unseen", "unseen-view", "unseen-look"])
def test_unseen_kinds_have_patients_and_tables_of_their_own(kind, tmp_path, monkeypatch, benchmark, patients):
    asked = []

    def small(*, seed, **rest):
        asked.append((seed, rest))
        return simulate(seed=seed, size=64, **rest)

    monkeypatch.setattr(patients, "simulate", small)
    for one in ("seen", kind, kind):
        benchmark.Benchmark(kind=one, patients=2, split="development", frames=2, output=tmp_path).run()
    first = benchmark.KINDS[kind].first
    assert [seed for seed, _ in asked] == [patient_seed("development", k) for k in (0, 1, first, first + 1)]
    name = f"simulated_patients_{kind.replace('-', '_')}"
    assert {path.name for path in tmp_path.iterdir()} == {
        "patients.jsonl", "simulated_patients.md", "simulated_patients.csv", f"{name}.md", f"{name}.csv",
    }  # fmt: skip
    text = (tmp_path / f"{name}.md").read_text()
    assert f"--kind {kind} --patients 2" in text
    for position in (0, 1):
        (group,) = benchmark.KINDS[kind].groups(position)
        assert f"| {group} | 1 |" in text
    assert "each kind apart" not in (tmp_path / "simulated_patients.md").read_text()


@pytest.mark.slow
def test_peers_are_measured_beside_the_others_in_a_table_of_their_own(tmp_path, monkeypatch, benchmark, patients):
    monkeypatch.setattr(patients, "simulate", lambda **asked: simulate(size=64, **asked))
    few = {method: dataclasses.replace(settings, steps=2) for method, settings in benchmark.PEERS.items()}
    monkeypatch.setattr(benchmark, "PEERS", few)
    benchmark.Benchmark(kind="unseen", patients=1, split="development", frames=2, output=tmp_path, peers=True).run()
    text = (tmp_path / "simulated_patients_unseen_peers.md").read_text()
    for title in ("Algorithm 1, 25 steps", "zea, 25 steps", "Nuclear Diffusion"):
        assert f"| {title} |" in text
    assert "| Nuclear Diffusion − zea, 25 steps |" in text
    assert "--frames 2 --peers" in text
