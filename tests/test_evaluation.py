"""Scores of simulated patients, bootstrap intervals and tables."""

import io

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
from nuclear_diffusion.simulation import SimulatedClip


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
