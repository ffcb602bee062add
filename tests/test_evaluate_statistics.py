"""Averages and differences over patients against hand computations."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from nuclear_diffusion.measure.bootstrap import mean_interval, pooled_interval
from nuclear_diffusion.measure.challenge import challenge_points
from nuclear_diffusion.measure.fid import Distances
from nuclear_diffusion.measure.statistics import COLUMNS, differences, patient_means, pick, summarise, tidy


def numbers(values: dict[str, dict[str, list[float]]], score: str = "gcnr") -> pd.DataFrame:
    """The tidy table of method -> patient -> one value a frame."""
    rows = [
        (patient, patient, method, frame, score, value)
        for method, patients in values.items()
        for patient, each in patients.items()
        for frame, value in enumerate(each)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


# intervals


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
    difference = mean_interval(better - patients)
    assert difference.low > 0.9
    assert difference.high < 1.1
    alone = mean_interval(better)
    assert alone.high - alone.low > 10 * (difference.high - difference.low)


def test_undefined_scores_are_left_out():
    assert mean_interval([1.0, np.nan, 3.0, np.inf]).mean == 2
    assert mean_interval([1.0, np.nan, 3.0]).patients == 2
    assert np.isnan(mean_interval([5.0]).low)
    assert np.isnan(mean_interval([]).mean)
    assert mean_interval([np.nan, np.inf]).patients == 0


def test_patients_are_resampled_and_not_frames():
    """Every frame of a patient repeated ten times changes nothing; as many patients would narrow the interval."""
    values = np.random.default_rng(0).normal(0.6, 0.1, 20)
    once = mean_interval(values)
    repeated = pooled_interval([[value] * 10 for value in values])
    assert repeated == pytest.approx(once)
    more = mean_interval(np.repeat(values, 10))
    assert more.high - more.low < 0.5 * (once.high - once.low)


def test_the_mean_over_frames_weighs_patients_by_their_frames():
    frames = [[1.0, 2.0, 3.0], [10.0], [math.nan], []]
    found = pooled_interval(frames)
    assert found.mean == 4
    assert found.patients == 2
    assert (found.low, found.high) == (2, 10)  # either patient twice


# tables of numbers


def rows_of(table: pd.DataFrame) -> Iterable[Any]:
    """Whose attributes are the table's columns."""
    return table.itertuples()


def test_a_summary_by_hand():
    patients = {"a": [0.2, 0.4], "b": [0.5, math.nan], "c": [math.inf], "d": [0.7, 0.7, 0.7, 1.1]}
    (found,) = rows_of(summarise(numbers({"rpca": patients}), ["gcnr"]))
    assert (found.patients, found.frames) == (3, 7)
    assert found.frame_mean == pytest.approx((0.2 + 0.4 + 0.5 + 0.7 * 3 + 1.1) / 7)
    assert found.mean == pytest.approx((0.3 + 0.5 + 0.8) / 3)
    assert found.median == pytest.approx(0.5)
    assert (found.lower_quartile, found.upper_quartile) == pytest.approx((0.4, 0.65))
    assert found.mean_low < found.mean < found.mean_high
    (empty,) = rows_of(summarise(numbers({"rpca": patients}), ["psnr"]))
    assert (empty.patients, empty.frames) == (0, 0)
    assert math.isnan(empty.mean)


def test_patients_and_methods_keep_their_order_and_clips_of_one_patient_count_together():
    frame = numbers({"zea": {"p10": [1.0], "p2": [math.nan]}, "hazy": {"p10": [3.0], "p2": [4.0, 6.0]}})
    other = numbers({"hazy": {"p10": [5.0]}}).assign(clip="another of p10")
    means = patient_means(pd.concat([frame, other]), "gcnr")
    assert list(means) == ["zea", "hazy"]
    assert list(means["zea"].index) == ["p10", "p2"]
    np.testing.assert_array_equal(means["zea"], [1, np.nan])
    np.testing.assert_array_equal(means["hazy"], [4, 5])


PATIENTS = {
    "hazy": {"a": [0.5], "b": [0.6], "c": [0.7]},
    "rpca": {"a": [0.4], "b": [0.4], "c": [math.nan]},
    "nuclear": {"a": [0.7], "b": [0.9], "c": [1.1]},
}


def test_pairs_of_methods_by_hand():
    """Of n differences of one sign, Wilcoxon's p is 2 / 2^n; Holm takes the smallest of three times three."""
    found = differences(numbers(PATIENTS), ["gcnr"]).set_index(["first", "second"])
    assert set(found.index) == {("rpca", "hazy"), ("nuclear", "hazy"), ("nuclear", "rpca")}
    ours, both = found.loc[("nuclear", "hazy")], found.loc[("nuclear", "rpca")]
    assert (ours["mean"], ours.patients, ours.p, ours.p_holm) == pytest.approx((0.3, 3, 2 / 8, 3 * 2 / 8))
    assert (both["mean"], both.patients, both.p) == pytest.approx((0.4, 2, 2 / 4))
    assert found.loc[("rpca", "hazy")].p_holm == 1


def test_what_the_input_has_by_definition_is_not_tested():
    found = differences(numbers(PATIENTS, "ks_a"), ["ks_a", "gcnr"])
    assert [(row.first, row.second) for row in rows_of(found)] == [("nuclear", "rpca")]
    same = differences(numbers({"hazy": PATIENTS["hazy"], "rpca": PATIENTS["hazy"]}), ["gcnr"])
    assert same.p.tolist() == [1]


def test_only_the_pairs_that_are_asked_for():
    found = differences(numbers(PATIENTS), ["gcnr"], [("hazy", "nuclear")])
    assert found["mean"].tolist() == pytest.approx([-0.3])
    assert found.p_holm.tolist() == found.p.tolist()  # no other test to correct for


def test_scores_by_patient_and_method_become_tidy():
    frame = tidy({0: {"hazy": {"psnr": 20.0, "ssim": 0.5}}, 7: {"hazy": {"psnr": np.inf, "ssim": 0.6}}})
    assert list(frame) == list(COLUMNS)
    assert frame.frame.isna().all()
    assert pick(frame, patient="7", score="ssim").value.tolist() == [0.6]
    assert summarise(frame, ["psnr"]).patients.tolist() == [1]


# the challenge


def summary(gcnr: float, cnr: float, ks_a: float, ks_b: float) -> pd.DataFrame:
    means = {"gcnr": gcnr, "cnr": cnr, "ks_a": ks_a, "ks_b": ks_b}
    return pd.DataFrame([{"method": "m", "score": score, "frame_mean": value} for score, value in means.items()])


@pytest.mark.parametrize(
    ("means", "g1", "g2"),
    [((0.65, 1.25, 0.2, 0.25), 33.5, 50), ((0.9, 3, 0, 0.9), 67, 100), ((0.3, -1, 0.5, 0), 0, 0)],
    ids=["halfway", "best", "worst"],
)
def test_the_challenges_terms_by_hand(means, g1, g2):
    points = challenge_points(summary(*means)).loc["m"]
    assert (points.g1_contrast, points.g2) == pytest.approx((g1, g2))
    whole = challenge_points(summary(*means), Distances({"m": 105.0}, 8, 9, 6, "5ec0de")).loc["m"]
    assert whole.g1 == pytest.approx(g1 + 16.5)
