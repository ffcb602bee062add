"""What a prior does over all strengths: fronts of contrast against change, and who gains over whom."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import ArrayLike

from nuclear_diffusion.measure.front import LEVELS, NAMES, STRENGTHS, Front, Regions, at_equal_change, front_of, gain
from nuclear_diffusion.metrics import bright_lost, flicker, gcnr, ks
from nuclear_diffusion.paper.gaussian import Gaussian
from nuclear_diffusion.restore.estimate import estimate
from nuclear_diffusion.restore.render import STRENGTH, render


def front(contrast: ArrayLike, change: ArrayLike) -> Front:
    """A front of which only contrast and change are known; a row is a clip."""
    return {"gcnr": np.array(contrast, float), "ks_a": np.array(change, float)}


def test_contrast_at_a_change_between_two_strengths_is_linear():
    """From (0, 0.2) to (0.1, 0.4) to (0.2, 0.8): by hand; beyond its end a front is level."""
    one = front([[0.2, 0.4, 0.8]], [[0.0, 0.1, 0.2]])
    levels = (0.0, 0.05, 0.1, 0.15, 0.2, 0.9)
    np.testing.assert_allclose(at_equal_change(one, levels=levels), [0.2, 0.3, 0.4, 0.6, 0.8, 0.8], rtol=1e-12)
    np.testing.assert_allclose(at_equal_change(one), 0.2 + 2 * np.array(LEVELS), rtol=1e-12)


def test_a_front_that_falls_again_keeps_its_highest_contrast():
    """Nobody has to go on to more strength: from (0.04, 0.6) down to (0.1, 0.3), all changes above 0.04 have 0.6."""
    one = front([[0.4, 0.6, 0.3]], [[0.0, 0.04, 0.1]])
    np.testing.assert_allclose(at_equal_change(one, levels=(0.02, 0.04, 0.06, 0.1)), [0.5, 0.6, 0.6, 0.6], rtol=1e-12)


def highest(contrast: Sequence[float], change: Sequence[float], level: float) -> float:
    """By brute force: of all points of the line through the strengths, those with at most that change."""
    fine = np.linspace(0, len(change) - 1, 20_000 * (len(change) - 1) + 1)
    contrasts, changes = (np.interp(fine, np.arange(len(change)), values) for values in (contrast, change))
    return contrasts[changes <= level + 1e-9].max()


WINDING = [
    ([0.2, 0.3, 0.5, 0.6], [0.0, 0.05, 0.03, 0.1]),  # change falls again
    ([0.3, 0.5, 0.4, 0.6], [0.0, 0.02, 0.04, 0.06]),  # contrast falls and rises again
]


@pytest.mark.parametrize(("contrast", "change"), WINDING)
def test_a_winding_front_never_falls_and_ends_at_its_highest(contrast, change):
    one = front([contrast], [change])
    dense = at_equal_change(one, levels=np.linspace(0, 0.2, 201).tolist())
    assert (np.diff(dense) >= 0).all()
    assert dense[0] == contrast[0]
    assert dense[-1] == max(contrast)


@pytest.mark.parametrize(("contrast", "change"), WINDING)
def test_a_winding_front_has_the_highest_contrast_of_the_line_up_to_a_change(contrast, change):
    levels = (0.01, 0.03, 0.04, 0.05, 0.075, 0.1)
    expected = [highest(contrast, change, level) for level in levels]
    np.testing.assert_allclose(at_equal_change(front([contrast], [change]), levels=levels), expected, atol=2e-4)


def test_the_mean_over_clips_is_taken_before_anything_is_compared():
    """Of (0.2, 0.6) and (0.4, 1.0) at changes of (0, 0.1) and (0, 0.3): from (0, 0.3) to (0.2, 0.8)."""
    two = front([[0.2, 0.6], [0.4, 1.0]], [[0.0, 0.1], [0.0, 0.3]])
    np.testing.assert_allclose(at_equal_change(two, levels=(0.1,)), [0.55], rtol=1e-12)
    np.testing.assert_allclose(at_equal_change(two, [0, 0], levels=(0.05,)), [0.4], rtol=1e-12)
    np.testing.assert_allclose(at_equal_change(two, [0, 1, 1], levels=(7 / 30,)), [2.6 / 3], rtol=1e-12)


def some_fronts(clips: int = 12) -> Front:
    """Fronts that rise from contrast about 0.5 to 0.8, while change rises to 0.15 or more; no two clips alike."""
    rng = np.random.default_rng(0)
    rise = np.linspace(0, 1, len(STRENGTHS))
    start, height = rng.uniform(0.4, 0.6, (clips, 1)), rng.uniform(0.2, 0.4, (clips, 1))
    return front(start + height * rise, rng.uniform(0.15, 0.3, (clips, 1)) * rise)


def test_nothing_is_gained_over_oneself():
    one = some_fronts()
    assert gain(one, {name: values.copy() for name, values in one.items()}) == (0, 0, 0, 12)


@pytest.mark.slow
def test_a_front_that_is_higher_everywhere_gains_that_much():
    old = some_fronts()
    raised = 0.1 + 0.02 * np.random.default_rng(1).standard_normal((12, 1))
    new = {"gcnr": old["gcnr"] + raised, "ks_a": old["ks_a"]}
    found = gain(new, old)
    assert found.mean == pytest.approx(raised.mean(), abs=1e-9)
    assert 0 < found.low < found.mean < found.high < 0.15
    # half the width of a normal interval, of the mean over the clips
    deviation = raised.std() / 12**0.5
    assert found.high - found.low == pytest.approx(2 * 1.96 * deviation, rel=0.2)
    opposite = gain(old, new)
    assert opposite.mean == pytest.approx(-found.mean)
    assert opposite.high < 0


def test_less_change_for_the_same_contrast_is_a_gain_too():
    """At half the change, contrast at a level is what it was at twice that level."""
    old = some_fronts()
    new = {"gcnr": old["gcnr"], "ks_a": old["ks_a"] / 2}
    levels = (0.02, 0.04)
    expected = np.mean(at_equal_change(old, levels=(0.04, 0.08)) - at_equal_change(old, levels=levels))
    found = gain(new, old, levels)
    assert found.mean == pytest.approx(expected)
    assert found.low > 0


@pytest.mark.slow
def test_the_same_resamples_are_taken_of_both_and_on_every_call():
    """Clips differ far more than the two fronts do: unpaired, the interval would hold 0."""
    old = some_fronts()
    new = {"gcnr": old["gcnr"] + 0.01, "ks_a": old["ks_a"]}
    found = gain(new, old)
    assert found == gain(new, old)
    assert found.low == pytest.approx(0.01)
    assert found.high == pytest.approx(0.01)


@pytest.mark.usefixtures("wrong_types")
def test_fronts_of_other_clips_are_refused_and_one_clip_has_no_interval():
    with pytest.raises(ValueError, match="12"):
        gain(some_fronts(12), some_fronts(11))
    alone = gain(some_fronts(1), some_fronts(1))
    assert alone.mean == 0
    assert np.isnan([alone.low, alone.high]).all()
    assert alone.patients == 1


# what a prior makes of clips


class Halves(eqx.Module):
    """A prior that has learned that half of every grey level is haze."""

    haze_aware: bool = eqx.field(static=True, default=True)
    sigma_min: float = eqx.field(static=True, default=0.01)
    sigma_max: float = eqx.field(static=True, default=10.0)

    def denoise(self, x, sigma):
        raise AssertionError("p(X) alone was asked")

    def given(self, observed):
        return Told(observed)


class Told(eqx.Module):
    observed: jnp.ndarray
    sigma_min: float = eqx.field(static=True, default=0.01)
    sigma_max: float = eqx.field(static=True, default=10.0)

    def denoise(self, x, sigma):
        raise AssertionError("a noisy frame was denoised")

    def mean(self):
        return self.observed / 2


def some_clip(seed: int = 0, *, truth: bool = False) -> Regions:
    """Bright tissue left, a hazy cavity right; drawn in the first, third and last of 5 frames, in others by halves."""
    rng = np.random.default_rng(seed)
    hazy = rng.uniform(0.1, 0.4, (5, 24, 24)).astype(np.float32)
    hazy[:, :, :10] += 0.4
    septum, ventricle = np.zeros((2, 5, 24, 24), bool)
    septum[:, 4:20, 2:8], ventricle[:, 4:20, 13:22] = True, True
    septum[1], ventricle[3] = False, False
    clean = np.where(np.arange(24) < 10, hazy, 0.5 * hazy).astype(np.float32)
    return Regions(hazy, septum, ventricle, np.ones((24, 24), bool), clean if truth else None)


SEEN = [0, 2, 4]


PRIORS = pytest.mark.parametrize("prior", [Halves(), Gaussian(20.0, 0.2)], ids=["knows haze", "knows none"])


@pytest.mark.slow
@PRIORS
def test_a_front_starts_at_the_clip_itself(prior):
    """Rendered at strength 0: its contrast, and no change."""
    clips = [some_clip(0, truth=True), some_clip(1)]
    found = front_of(clips, prior)
    assert set(found) == set(NAMES)
    assert all(values.shape == (2, len(STRENGTHS)) for values in found.values())
    for row, clip in enumerate(clips):
        assert found["gcnr"][row, 0] == gcnr(clip.frames[SEEN], clip.septum[SEEN], clip.ventricle[SEEN])
        assert found["ks_a"][row, 0] == 0
    assert np.isfinite([found["gcnr"], found["ks_a"]]).all()


@PRIORS
def test_the_other_scores_are_those_of_the_default_strength(prior):
    """Of a picture that is rendered and scored here by the library's own measures."""
    known, unknown = some_clip(0, truth=True), some_clip(1)
    found = front_of([known, unknown], prior)
    default = STRENGTHS.index(STRENGTH)
    others = np.arange(len(STRENGTHS)) != default
    for name in ("ks_truth", "flicker", "bright_lost"):
        assert np.isnan(found[name][:, others]).all()
    scores = {name: values[:, default] for name, values in found.items()}
    for row, clip in enumerate((known, unknown)):
        picture = render(clip.frames, np.asarray(estimate(clip.frames, prior).share))
        assert scores["flicker"][row] == flicker(picture, clip.ventricle[0])
        assert scores["ks_a"][row] == ks(clip.frames[SEEN], picture[SEEN], clip.septum[SEEN])
        assert scores["gcnr"][row] == gcnr(picture[SEEN], clip.septum[SEEN], clip.ventricle[SEEN])
        if clip.truth is not None:
            assert scores["ks_truth"][row] == ks(clip.truth[SEEN], picture[SEEN], clip.septum[SEEN])
            assert scores["bright_lost"][row] == bright_lost(clip.frames, picture, clip.sector, clip.truth)
    assert np.isnan([scores["ks_truth"][1], scores["bright_lost"][1]]).all()


def test_of_a_clip_without_masks_only_the_flicker_of_its_sector_is_known():
    clip = some_clip(0)
    nowhere, sector = np.zeros_like(clip.septum), np.ones((24, 24), bool)
    sector[:, :6] = False
    found = front_of([clip._replace(septum=nowhere, ventricle=nowhere, sector=sector)], Halves())
    picture = render(clip.frames, np.asarray(estimate(clip.frames, Halves()).share))
    assert found["flicker"][0, STRENGTHS.index(STRENGTH)] == flicker(picture, sector)
    for name in ("gcnr", "ks_a", "ks_truth", "bright_lost"):
        assert np.isnan(found[name]).all()


def test_more_strength_changes_more():
    """Of a prior that takes half of every pixel for haze the highest strength leaves little, the lowest all."""
    change = front_of([some_clip(0)], Halves())["ks_a"][0]
    assert (np.diff(change) >= -1e-9).all()
    assert change[-1] > 0.9


def test_frames_in_which_one_region_is_missing_do_not_count():
    """Wherever the other one is drawn in them."""
    clip = some_clip(0)
    moved = clip.septum.copy()
    moved[3] = np.roll(moved[3], 12, axis=1)
    assert moved[3].any()
    one, other = front_of([clip], Halves()), front_of([clip._replace(septum=moved)], Halves())
    for name in NAMES:
        np.testing.assert_array_equal(one[name], other[name])
