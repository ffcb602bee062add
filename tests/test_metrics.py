"""Metrics against closed forms and independent recomputation from their definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from skimage.metrics import structural_similarity

from nuclear_diffusion import metrics
from nuclear_diffusion.errors import InputError

LEFT = np.zeros((10, 10), bool)
LEFT[:, :5] = True
RIGHT = ~LEFT


def two_regions(left, right):
    image = np.empty((10, 10), np.uint8)
    image[LEFT] = np.resize(left, 50)
    image[RIGHT] = np.resize(right, 50)
    return image


def random_clip(frames=3, height=16, width=12, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width), dtype=np.uint8)


def test_gcnr_of_separate_and_equal_regions():
    assert metrics.gcnr(two_regions([10, 20], [200, 210]), LEFT, RIGHT) == 1
    assert metrics.gcnr(two_regions([10, 20], [10, 20]), LEFT, RIGHT) == 0
    assert metrics.gcnr(two_regions([7], [7]), LEFT, RIGHT) == 0


def test_gcnr_of_a_known_overlap():
    """A quarter of each region is common, so the histograms overlap in 1/4."""
    image = two_regions([0] * 50, [0] * 50)
    image[LEFT] = np.repeat([50, 100], [10, 40])
    image[RIGHT] = np.repeat([100, 200], [20, 30])
    assert metrics.gcnr(image, LEFT, RIGHT) == pytest.approx(1 - 20 / 50)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 255))
def test_gcnr_is_the_sum_over_256_bins_of_the_joint_range(seed, top):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, top, (20, 20), endpoint=True).astype(np.uint8)
    a = rng.random((20, 20)) < 0.4
    b = ~a
    low, high = float(image.min()), float(image.max())
    if low == high:
        return
    bins = [np.minimum((image[roi] - low) / (high - low) * 256, 255).astype(int) for roi in (a, b)]
    f, g = (np.bincount(index, minlength=256) / len(index) for index in bins)
    # an integer may fall on the edge of a bin: the two regions then move together, and the sum stays
    assert metrics.gcnr(image, a, b) == pytest.approx(1 - np.minimum(f, g).sum(), abs=1e-9)


def test_gcnr_of_equal_distributions_has_its_known_bias():
    """Two samples of n = 1000 pixels of one distribution score sum_k sqrt(p_k / (pi n)), here 0.20, and not 0.

    f_k - g_k is close to N(0, 2 p_k / n), and 1 - sum min(f, g) = sum |f - g| / 2.
    """
    levels = np.arange(256)
    p = stats.norm.cdf(levels + 1, 128, 25) - stats.norm.cdf(levels, 128, 25)
    expected = np.sqrt(p / (np.pi * 1000)).sum()
    assert expected == pytest.approx(0.20, abs=0.005)
    values = np.random.default_rng(0).normal(128, 25, (100, 40, 50)).clip(0, 255).astype(np.uint8)
    mask = np.zeros((40, 50), bool)
    mask[:20] = True
    assert mask.sum() == 1000
    assert metrics.gcnr(values, mask, ~mask) == pytest.approx(expected, abs=0.02)


def test_cnr_by_hand():
    """Means 150 and 60, variances 30^2 and 40^2: 90 / 50; its sign is A less B."""
    image = two_regions([120, 180], [20, 100])
    assert metrics.cnr(image, LEFT, RIGHT) == pytest.approx(1.8)
    assert metrics.cnr(image, RIGHT, LEFT) == pytest.approx(-1.8)


def test_cnr_of_constant_regions():
    assert metrics.cnr(two_regions([9], [9]), LEFT, RIGHT) == 0
    assert metrics.cnr(two_regions([9], [5]), LEFT, RIGHT) == np.inf
    assert metrics.cnr(two_regions([5], [9]), LEFT, RIGHT) == -np.inf


def test_ks_is_scipys_statistic_a_frame():
    before, after = random_clip(seed=1), random_clip(seed=2) // 2
    mask = np.random.default_rng(3).random(before.shape) < 0.5
    expected = []
    for x, y, m in zip(before, after, mask, strict=True):
        expected.append(stats.ks_2samp(x[m], y[m]).statistic)  # pyright: ignore[reportAttributeAccessIssue]
    assert metrics.ks(before, after, mask) == pytest.approx(np.mean(expected))
    assert min(expected) != max(expected)


def test_ks_of_unchanged_and_disjoint_regions():
    image = random_clip(1)[0] // 2
    everywhere = np.ones(image.shape, bool)
    assert metrics.ks(image, image, everywhere) == 0
    assert metrics.ks(image, image + 128, everywhere) == 1


def test_psnr_by_hand():
    truth = np.zeros((2, 8, 8))
    estimate = np.stack([np.full((8, 8), 0.1), np.full((8, 8), 0.01)])
    assert metrics.psnr(truth, estimate) == pytest.approx((20 + 40) / 2)
    mask = np.zeros((8, 8), bool)
    mask[0, 0] = True
    estimate[:, 0, 0] = 1
    assert metrics.psnr(truth, estimate, mask) == pytest.approx(0)
    assert metrics.psnr(truth[0], truth[0]) == np.inf


def test_ssim_is_scikit_images_and_its_map_in_a_mask():
    truth = np.random.default_rng(0).random((2, 20, 20))
    estimate = np.clip(truth + 0.2 * np.random.default_rng(1).normal(size=truth.shape), 0, 1)
    each = [structural_similarity(x, y, data_range=1.0) for x, y in zip(truth, estimate, strict=True)]
    assert metrics.ssim(truth, estimate) == pytest.approx(np.mean(each))
    mask = np.zeros((20, 20), bool)
    mask[8, 9] = True
    # at one pixel: means, variances (7 x 7, ddof 1) and covariance by hand
    x, y = truth[0, 5:12, 6:13].ravel(), estimate[0, 5:12, 6:13].ravel()
    c1, c2, covariance = 0.01**2, 0.03**2, np.cov(x, y)
    expected = (2 * x.mean() * y.mean() + c1) * (2 * covariance[0, 1] + c2)
    expected /= (x.mean() ** 2 + y.mean() ** 2 + c1) * (covariance[0, 0] + covariance[1, 1] + c2)
    assert metrics.ssim(truth[0], estimate[0], mask) == pytest.approx(expected)
    assert metrics.ssim(truth, truth) == pytest.approx(1)


def test_motion_psnr_by_hand():
    """Frames that differ by 51 of 255 everywhere: 20 log10(5); identical frames: infinite."""
    video = np.stack([np.full((4, 4), value, np.uint8) for value in (100, 151, 151)])
    np.testing.assert_allclose(metrics.motion_psnr(video), [20 * np.log10(5), np.inf])


def in_time(values, shape=(8, 8)):
    """A clip whose frames are of one grey level each."""
    return np.broadcast_to(np.asarray(values, np.uint8)[:, None, None], (len(values), *shape))


MIDDLE = np.zeros((8, 8), bool)
MIDDLE[2:6, 2:6] = True
FLICKERS = [metrics.flicker, metrics.pixel_flicker]


@pytest.mark.parametrize("score", FLICKERS)
def test_flicker_of_still_even_and_alternating_clips(score):
    """The second difference of a line is 0, of +a, -a, +a it is 4 a, of 0, 0, a, 0, 0 it is a, -2 a, a."""
    assert score(in_time([70] * 6), MIDDLE) == 0
    assert score(in_time(range(0, 250, 25)), MIDDLE) == 0
    assert score(in_time([100, 80] * 4), MIDDLE) == pytest.approx(40)
    assert score(in_time([0, 255, 0]), MIDDLE) == pytest.approx(510)
    assert score(in_time([0, 0, 30, 0, 0]), MIDDLE) == pytest.approx(30 * np.sqrt(6 / 3))


@pytest.mark.parametrize("score", FLICKERS)
def test_flicker_of_white_noise_is_the_square_root_of_six_of_it(score):
    """Var(e_1 - 2 e_2 + e_3) = 6 s^2; the same noise in all pixels, and 8 bits add a twelfth of a level squared."""
    levels = np.rint(np.random.default_rng(0).normal(128, 20, 20_000)).clip(0, 255)
    assert score(in_time(levels, (2, 2)), np.ones((2, 2), bool)) == pytest.approx(np.sqrt(6 * (400 + 1 / 12)), rel=0.02)


def test_independent_noise_averages_out_of_the_mean_only():
    noise = np.random.default_rng(1).normal(128, 20, (400, 8, 8)).clip(0, 255).astype(np.uint8)
    assert metrics.pixel_flicker(noise, MIDDLE) == pytest.approx(20 * np.sqrt(6), rel=0.03)
    assert metrics.flicker(noise, MIDDLE) == pytest.approx(20 * np.sqrt(6 / MIDDLE.sum()), rel=0.1)


@pytest.mark.parametrize("score", FLICKERS)
def test_flicker_sees_neither_a_still_texture_nor_what_is_outside(score):
    texture = random_clip(1, 8, 8)[0] // 2
    beat = in_time([10, 60, 30, 90, 20])
    assert score(texture + beat, MIDDLE) == pytest.approx(score(beat, MIDDLE))
    outside = np.where(MIDDLE, beat, random_clip(5, 8, 8))
    assert score(outside, MIDDLE) == score(beat, MIDDLE)


@pytest.mark.parametrize("score", FLICKERS)
def test_of_a_region_that_moves_only_what_never_leaves_it_counts(score):
    moving = np.stack([np.roll(MIDDLE, shift, axis=1) for shift in (0, 1, 2, 1, 0)])
    core = moving.all(axis=0)
    assert core.sum() == 8
    video = np.where(moving, 200, 20).astype(np.uint8)
    assert score(video, moving) == 0
    assert score(video, MIDDLE) > 10
    video = random_clip(5, 8, 8)
    assert score(video, moving) == score(video, core)
    apart = np.stack([np.roll(MIDDLE, shift, axis=1) for shift in (0, 4, 0, 4, 0)])
    with pytest.raises(InputError, match="no pixel in every frame"):
        score(video, apart)


@pytest.mark.parametrize("score", FLICKERS)
def test_flicker_needs_three_frames(score):
    assert np.isnan(score(random_clip(2, 8, 8), MIDDLE))
    assert np.isnan(score(random_clip(1, 8, 8)[0], MIDDLE))


EVERYWHERE = np.ones((40, 60), bool)
TISSUE = np.random.default_rng(6).uniform(0.6, 0.9, (3, 40, 60)).astype(np.float32)


@pytest.mark.parametrize(("factor", "expected"), [(1, 0), (0.8, 0), (0.7, 1), (0, 1), (1.1, 0)])
def test_bright_tissue_is_lost_below_three_quarters(factor, expected):
    assert metrics.bright_lost(TISSUE, factor * TISSUE) == expected
    assert metrics.bright_lost(TISSUE[0], factor * TISSUE[0], EVERYWHERE) == expected


def test_bright_tissue_lost_in_half_of_the_picture():
    """Of 60 columns 30 become black; a 5 x 5 mean is below three quarters where two of its columns are."""
    before = np.full((2, 40, 60), 0.8)
    after = before * (np.arange(60) >= 30)
    assert metrics.bright_lost(before, after) == pytest.approx(31 / 60)
    left = np.broadcast_to(np.arange(60) < 20, EVERYWHERE.shape)
    assert metrics.bright_lost(before, after, left) == 1
    assert metrics.bright_lost(before, after, np.stack([left, np.roll(left, 40, axis=1)])) == 0.5


def test_bright_tissue_is_what_is_bright_in_the_mean():
    """102 of 255 is not above 0.4, 103 is; one bright pixel of 25 is no bright tissue, one that goes dark no loss."""
    before = np.full((40, 60), 102, np.uint8)
    before[:, 30:] = 103
    assert metrics.bright_lost(before, 0 * before) == 1
    assert np.isnan(metrics.bright_lost(before[:, :25], before[:, :25]))
    speck = np.zeros((40, 60), np.uint8)
    speck[20, 20] = 255
    assert np.isnan(metrics.bright_lost(speck, 0 * speck))
    assert metrics.bright_lost(255 - 0 * speck, 255 - speck) == 0


def test_bright_tissue_changed_is_the_mean_of_the_relative_changes():
    """100 columns at 200 become 150, 100 stay, 50 at 20 are not bright: the changes of 5 x 5 means are 0 to a quarter.

    Beside the border, means hold 1 to 4 of 5 changed columns, which is twice two of them; so the mean is half of 1/4.
    """
    before = np.full((2, 40, 250), 200, np.uint8)
    before[..., 200:] = 20
    after = before.copy()
    after[..., :100] = 150
    column = np.broadcast_to(np.arange(250), (40, 250))
    left = column < 196  # away from the dark part
    expected = 100 / 196 / 4
    assert metrics.bright_changed(before, after, left) == pytest.approx(expected)
    assert metrics.bright_changed(after, before, column < 50) == pytest.approx(1 / 3)  # also brighter
    assert metrics.bright_changed(before, before) == 0
    assert metrics.bright_changed(before, 0 * before) == 1
    assert metrics.bright_changed(before, after, truth=before * (column < 50)) == pytest.approx(0.25)
    assert np.isnan(metrics.bright_changed(before, after, column > 210))


def test_haze_that_is_bright_is_no_tissue_where_the_truth_is_known():
    """Rows of tissue above rows of haze: the last row of tissue, with two of haze in its mean, is lost."""
    truth, hazy = np.full((2, 2, 40, 60), 0.1)
    truth[:, :20] = 0.8
    hazy[:, :20], hazy[:, 20:] = 0.8, 0.6
    assert metrics.bright_lost(hazy, truth) == pytest.approx(21 / 40)
    assert metrics.bright_lost(hazy, truth, truth=truth) == pytest.approx(1 / 20)
    assert metrics.bright_lost(hazy, 0 * truth, truth=truth) == 1
    assert np.isnan(metrics.bright_lost(hazy, truth, truth=0 * truth))


def test_floats_are_read_as_8_bit_values():
    clip = random_clip()
    mask = np.random.default_rng(4).random(clip.shape[1:]) < 0.5
    as_float = clip.astype(np.float32) / 255
    for score in (metrics.gcnr, metrics.cnr):
        assert score(as_float, mask, ~mask) == score(clip, mask, ~mask)
    assert metrics.ks(as_float, clip, mask) == 0
    np.testing.assert_array_equal(metrics.motion_psnr(as_float), metrics.motion_psnr(clip))
    for score in FLICKERS:
        assert score(as_float, mask) == score(clip, mask)
    assert metrics.bright_lost(as_float, clip // 2) == metrics.bright_lost(clip, clip // 2)


def test_a_clip_scores_the_mean_of_its_frames():
    clip = random_clip()
    masks = np.random.default_rng(5).random(clip.shape) < 0.5
    for score in (metrics.gcnr, metrics.cnr):
        each = [score(frame, mask, ~mask) for frame, mask in zip(clip, masks, strict=True)]
        assert score(clip, masks, ~masks) == pytest.approx(np.mean(each))
        assert min(each) != max(each)


@pytest.mark.parametrize(
    "score",
    [
        lambda clip, mask: metrics.gcnr(clip, ~mask, mask),
        lambda clip, mask: metrics.cnr(clip, mask, ~mask),
        lambda clip, mask: metrics.ks(clip, clip, mask),
        lambda clip, mask: metrics.psnr(clip / 255, clip / 255, mask),
        lambda clip, mask: metrics.ssim(clip / 255, clip / 255, mask),
        lambda clip, mask: metrics.bright_lost(clip, clip, mask),
        lambda clip, mask: metrics.bright_changed(clip, clip, mask),
        *FLICKERS,
    ],
)
def test_an_empty_region_is_refused(score):
    clip = random_clip()
    with pytest.raises(InputError, match="selects no pixel"):
        score(clip, np.zeros(clip.shape[1:], bool))
    one_frame_empty = np.ones(clip.shape, bool)
    one_frame_empty[1] = False
    with pytest.raises(InputError, match="selects no pixel"):
        score(clip, one_frame_empty)


@pytest.mark.parametrize(
    "score",
    [
        lambda: metrics.gcnr(np.full((8, 8), np.nan), np.ones((8, 8), bool), np.ones((8, 8), bool)),
        lambda: metrics.gcnr(np.zeros((8, 8), np.int64), np.ones((8, 8), bool), np.ones((8, 8), bool)),
        lambda: metrics.cnr(np.zeros((8, 8)), np.ones((8, 7), bool), np.ones((8, 8), bool)),
        lambda: metrics.cnr(np.zeros((8, 8)), np.ones((8, 8)), np.ones((8, 8), bool)),
        lambda: metrics.ks(np.zeros((8, 8)), np.zeros((8, 7)), np.ones((8, 8), bool)),
        lambda: metrics.psnr(np.zeros((8, 8)), np.zeros((8, 7))),
        lambda: metrics.psnr(np.zeros((8, 8)), np.full((8, 8), np.nan)),
        lambda: metrics.psnr(np.zeros((8, 8)), np.full((8, 8), 255.0)),
        lambda: metrics.ks(np.zeros((8, 8)), np.full((8, 8), 255.0), np.ones((8, 8), bool)),
        lambda: metrics.ssim(np.zeros((6, 8)), np.zeros((6, 8))),
        lambda: metrics.motion_psnr(np.zeros(8)),
        lambda: metrics.flicker(np.zeros((3, 8, 8)), np.ones((2, 8, 8), bool)),
        lambda: metrics.pixel_flicker(np.zeros((3, 8, 8)), np.ones((8, 7), bool)),
        lambda: metrics.bright_lost(np.zeros((8, 8)), np.zeros((8, 7))),
        lambda: metrics.bright_lost(np.zeros((8, 8)), np.zeros((8, 8)), truth=np.zeros((2, 8, 8))),
    ],
)
@pytest.mark.usefixtures("wrong_types")
def test_images_that_cannot_be_compared_are_refused(score):
    with pytest.raises(ValueError, match=r"must|needs|holds NaN"):
        score()
