"""Scores of simulated patients, and tables of them."""

import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from benchmarks.methods import group_table
from nuclear_diffusion.measure.candidates import METHODS
from nuclear_diffusion.measure.datasets import as_clip
from nuclear_diffusion.measure.demo import SHOWN, Compared, compare, table
from nuclear_diffusion.measure.scores import SCORES, score
from nuclear_diffusion.measure.statistics import differences, summarise, tidy
from nuclear_diffusion.measure.style import LOOKS, title_of
from nuclear_diffusion.measure.tables import difference_table, mean_table
from nuclear_diffusion.restore.methods import Rpca
from nuclear_diffusion.restore.run import LoadedPrior
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
    clean = (clip.clean - np.where(moving, 0.2, 0) * rng.random(clip.clean.shape)).astype(np.float32)
    clip = clip._replace(clean=clean, sector=clip.septum[0])
    assert score(clip, clip.clean)["flicker_still"] == 0
    noise = rng.normal(0, 0.03, clip.clean.shape).astype(np.float32)
    beating, noisier = (clip.clean + np.where(where, noise, 0) for where in (moving, ~moving))
    assert score(clip, noisier)["flicker_still"] == pytest.approx(np.sqrt(6) * 0.03 * 255, rel=0.05)
    assert score(clip, beating)["flicker_still"] < 0.2 * score(clip, noisier)["flicker_still"]


def test_bright_tissue_is_lost_to_a_method_and_haze_is_not():
    clip = two_regions()
    for signal, lost in ((clip.hazy, 0), (np.where(clip.septum, clip.hazy, 0), 0), (clip.hazy * np.float32(0.5), 1)):
        assert score(clip, signal)["bright_lost"] == lost
    assert np.isnan(score(clip._replace(sector=clip.ventricle[0]), clip.hazy)["bright_lost"])


@pytest.mark.slow
def test_methods_are_compared_between_the_input_and_the_truth():
    clip = two_regions(frames=3)
    clip = clip._replace(hazy=clip.hazy + np.linspace(0, 0.1, 3, dtype=np.float32)[:, None, None])
    told, methods = [], {"rpca": Rpca(), "again": Rpca()}
    found = list(compare(clip, LoadedPrior(None, None), methods=methods, progress=lambda *about: told.append(about)))
    assert [each.method for each in found] == ["hazy", "rpca", "again", "clean"]
    shares = [done / total for done, total in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert found[0].scores["ks_a"] == 0
    assert found[1].scores["seconds"] > 0
    assert found[3].scores["psnr"] == np.inf


# tables


def frame_of(methods: dict[str, dict[str, list[float]]]) -> pd.DataFrame:
    """Method -> score -> one value a patient."""
    count = len(next(iter(next(iter(methods.values())).values())))
    return tidy(
        {k: {m: {s: values[k] for s, values in scores.items()} for m, scores in methods.items()} for k in range(count)}
    )


@pytest.mark.slow
def test_tables_show_means_and_mark_differences_whose_interval_excludes_0():
    frame = frame_of(
        {
            "new": {"psnr": [30.0, 31.0, 32.0] * 2, "ssim": [0.5] * 6, "mine": [1.0] * 6},
            "hazy": {"psnr": [20.0, 21.0, 22.0] * 2, "ssim": [0.5] * 6, "mine": [1.0] * 6},
            "clean": {"psnr": [np.inf] * 6, "ssim": [1.0] * 6, "mine": [1.0] * 6},
        }
    )
    scores = ["psnr", "ssim", "mine"]
    means = mean_table(summarise(frame, scores)).markdown().splitlines()
    assert means[0] == "|  | PSNR [dB] ↑ | SSIM ↑ | mine |"
    assert means[2].startswith("| new | 31.00 [30")
    assert means[3].startswith("| Hazy input | 21.00 [20")
    assert means[4].startswith("| Clean clip | – | 1.000")
    found = differences(frame, scores, [("new", "hazy"), ("new", "clean")])
    wide = difference_table(found, wide=True).markdown().splitlines()
    assert wide[2].startswith("| new − Hazy input | 10.00* [10.00, 10.00] | 0.000 [0.000, 0.000] |")
    assert wide[3].startswith("| new − Clean clip | – | -0.500*")
    long = difference_table(found).rows
    assert long[0] == ["PSNR [dB] ↑", "new − Hazy input", "10.00 [10.00, 10.00]", "0.031", "0.031", "6"]
    assert [row[:2] for row in long[1:3]] == [["SSIM ↑", "new − Hazy input"], ["SSIM ↑", "new − Clean clip"]]


def test_a_star_needs_six_patients_and_an_interval_that_does_not_round_to_zero():
    def shown(*gains: float) -> str:
        frame = frame_of({"new": {"psnr": list(gains)}, "old": {"psnr": [0.0] * len(gains)}})
        return difference_table(differences(frame, ["psnr"], [("new", "old")]), wide=True).rows[0][1]

    assert shown(*[0.1] * 6) == "0.10* [0.10, 0.10]"
    assert shown(*[-0.1] * 6) == "-0.10* [-0.10, -0.10]"
    assert shown(*[0.1] * 5) == "0.10 [0.10, 0.10]"
    assert shown(*[0.1] * 5, np.nan) == "0.10 [0.10, 0.10]"
    assert shown(*[0.004] * 6) == "0.00 [0.00, 0.00]"
    assert shown(*[-0.004] * 6) == "-0.00 [-0.00, -0.00]"


def test_groups_are_told_apart():
    good = frame_of({"old": {"psnr": [10.0, 11.0] * 3}, "new": {"psnr": [20.0, 21.0] * 3}})
    bad = frame_of({"old": {"psnr": [10.0, 12.0, 11.0]}, "new": {"psnr": [9.0, 13.0, 11.0]}})
    found = group_table({"good": good, "bad": bad}, ["psnr"], before="old", after="new")
    assert found.headings == ["", "patients", "PSNR [dB] ↑"]
    assert found.rows == [["good", "6", "10.50 → 20.50*"], ["bad", "3", "11.00 → 11.00"]]


def test_every_compared_method_has_one_title_and_every_score_a_definition():
    every = {**LOOKS, **METHODS}  # a method without a look is grey
    assert len({title_of(name) for name in every}) == len(every)
    assert [name for name in METHODS if name in LOOKS] == [name for name in LOOKS if name in METHODS]  # one order
    assert all(each.definition and each.better in ("higher", "lower") for each in SCORES.values())
    assert len({each.title for each in SCORES.values()}) == len(SCORES)


def test_the_demos_table_fits_a_terminal():
    clip = two_regions()
    console = Console(width=80, soft_wrap=True, record=True, file=io.StringIO())
    scores = {**score(clip, clip.hazy), "seconds": 12.3}
    console.print(table([Compared(name, clip.hazy, scores) for name in METHODS]).console("A patient"))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    longest = max(map(title_of, METHODS), key=len)
    (row,) = (line.removeprefix(longest).split() for line in lines if line.startswith(longest))
    assert len(row) == len(SHOWN)
    assert row[1] == "0.000"
    assert "…" not in "".join(lines)


def test_a_simulated_patient_reads_like_a_clip():
    clip = as_clip(two_regions())
    assert clip.fps == 30
    np.testing.assert_array_equal(clip.frames, two_regions().hazy)


PLAIN = """
import sys
sys.modules |= dict.fromkeys(("jinja2", "joblib", "statsmodels", "optuna"))
import nuclear_diffusion.cli, nuclear_diffusion.restore.run, nuclear_diffusion.training.judge
assert "pandas" not in sys.modules
import nuclear_diffusion.measure.demo
"""


@pytest.mark.slow
def test_dehaze_train_and_demo_do_without_the_extra():
    subprocess.run([sys.executable, "-c", PLAIN], check=True)
