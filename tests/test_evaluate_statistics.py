"""Averages, intervals and tests over patients against hand computations, enumeration and NumPy."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import norm, rankdata

from nuclear_diffusion.measure.bootstrap import mean_interval, median_interval, pooled_interval
from nuclear_diffusion.measure.statistics import challenge_score, compare_pairs, holm, signed_rank, summarise


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


def test_the_median_has_its_normal_interval_for_many_values():
    values = np.random.default_rng(1).normal(0, 1, 2000)
    found = median_interval(values)
    half = norm.ppf(0.975) * math.sqrt(math.pi / 2 / 2000)
    assert found.mean == np.median(values)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.2)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(2)
    covered = 0
    for trial in range(100):
        patients = [rng.normal(rng.normal(0, 1), 0.1, rng.integers(2, 8)) for _ in range(30)]
        found = pooled_interval([list(frames) for frames in patients], seed=trial)
        covered += found.low <= 0 <= found.high
    assert 87 <= covered <= 100  # 95 expected, standard deviation 2.2, slightly less at 30 patients


def test_a_summary_by_hand():
    found = summarise("rpca", "gcnr", [[0.2, 0.4], [0.5, math.nan], [math.inf], [0.7, 0.7, 0.7, 1.1]])
    assert (found.patients, found.frames) == (3, 7)
    assert found.frame_mean == pytest.approx((0.2 + 0.4 + 0.5 + 0.7 * 3 + 1.1) / 7)
    assert found.mean == pytest.approx((0.3 + 0.5 + 0.8) / 3)
    assert found.median == pytest.approx(0.5)
    assert (found.lower_quartile, found.upper_quartile) == pytest.approx((0.4, 0.65))
    empty = summarise("rpca", "psnr", [[], [math.nan]])
    assert (empty.patients, empty.frames) == (0, 0)
    assert math.isnan(empty.mean)


def test_the_signed_rank_test_is_its_definition_enumerated():
    """All 2^n signs are equally likely: p is the share of rank sums at least as far from their mean."""
    values = np.random.default_rng(3).normal(0.4, 1, 8)
    ranks = rankdata(np.abs(values))
    sums = np.array([np.dot(signs, ranks) for signs in itertools.product((0, 1), repeat=len(values))])
    centre = ranks.sum() / 2
    expected = np.mean(np.abs(sums - centre) >= abs(ranks[values > 0].sum() - centre) - 1e-9)
    assert signed_rank(values) == pytest.approx(expected)
    assert signed_rank([1, 2, 3, 4, 5]) == pytest.approx(2 / 32)


def test_the_signed_rank_test_of_nothing():
    assert signed_rank([0.0, 0.0, 0.0]) == 1
    assert math.isnan(signed_rank([math.nan]))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.5]) == [1, 1]
    assert holm([0.02, math.nan, 0.04])[::2] == pytest.approx([0.04, 0.04])
    assert math.isnan(holm([0.02, math.nan])[1])
    assert holm([]) == []


def test_holm_keeps_the_error_rate_of_the_family():
    """With no difference anywhere, any of ten independent tests is found at 5 % in at most 5 % of families."""
    p = np.random.default_rng(4).uniform(size=(2000, 10))
    false = np.mean([min(holm(family)) < 0.05 for family in p])
    assert false == pytest.approx(0.05, abs=0.015)


def test_pairs_of_methods_by_hand():
    patients = {"hazy": [0.5, 0.6, 0.7], "rpca": [0.4, 0.4, math.nan], "nuclear": [0.7, 0.9, 1.1]}
    found = {(d.first, d.second): d for d in compare_pairs("gcnr", patients)}
    assert found.keys() == {("rpca", "hazy"), ("nuclear", "hazy"), ("nuclear", "rpca")}
    assert found["nuclear", "hazy"].mean == pytest.approx(0.3)
    assert found["nuclear", "hazy"].patients == 3
    assert found["nuclear", "hazy"].p == pytest.approx(2 / 8)
    assert found["nuclear", "rpca"].mean == pytest.approx(0.4)
    assert found["nuclear", "rpca"].patients == 2
    assert found["rpca", "hazy"].p_holm == 1


def test_the_challenges_terms_by_hand():
    halfway = challenge_score(gcnr=0.65, cnr=1.25, ks_a=0.2, ks_b=0.25)
    assert halfway == pytest.approx((33.5, 50))
    assert challenge_score(gcnr=0.9, cnr=3, ks_a=0, ks_b=0.9) == pytest.approx((67, 100))
    assert challenge_score(gcnr=0.3, cnr=-1, ks_a=0.5, ks_b=0) == (0, 0)
