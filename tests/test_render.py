"""From a haze fraction to a picture: a ramp between two limits, and a product."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.restore.render import STRENGTH, limits, render

UNIT = st.floats(0, 1, width=32)
STRENGTHS = st.floats(0, 1)
VIDEOS = arrays.arrays(np.float32, (2, 3, 4), elements=UNIT)


@pytest.mark.parametrize(
    ("strength", "spare", "clear"), [(0, 1, 1.4), (0.5, 0.25, 0.65), (0.9, 0.01, 0.41), (1, 0, 0.4)]
)
def test_limits_by_hand(strength, spare, clear):
    assert limits(strength) == pytest.approx((spare, clear))


def test_the_ramp_by_hand():
    """At strength 1/2 between 0.25 and 0.65: none below, all above, and straight between."""
    share = np.array([0, 0.25, 0.35, 0.45, 0.55, 0.65, 1], np.float32)[None, None]
    video = np.full(share.shape, 0.8)
    found = render(video, share, 0.5)
    np.testing.assert_allclose(found[0, 0], 0.8 * np.array([1, 1, 0.75, 0.5, 0.25, 0, 0]), atol=1e-6)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(
        render(np.full(share.shape, 0.8), share), render(np.full(share.shape, 0.8), share, STRENGTH)
    )


@given(VIDEOS, VIDEOS, STRENGTHS)
def test_every_pixel_is_dimmed_by_the_ramp_of_its_own_share(video, share, strength):
    spare, clear = limits(strength)
    expected = np.interp(share.astype(float), [spare, clear], [1, 0]) * video
    found = render(video, share, strength)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    np.testing.assert_array_equal(found[share <= spare * (1 - 1e-6)], video[share <= spare * (1 - 1e-6)])  # bits


@given(VIDEOS, VIDEOS)
def test_at_no_strength_every_bit_stays_and_at_full_strength_all_that_is_clear_goes(video, share):
    np.testing.assert_array_equal(render(video, share, 0), video)
    full = render(video, share, 1)
    np.testing.assert_array_equal(full[share >= 0.401], 0)
    np.testing.assert_array_equal(full[share == 0], video[share == 0])


@given(VIDEOS, VIDEOS, STRENGTHS, STRENGTHS)
def test_more_strength_never_shows_more(video, share, one, other):
    less, more = sorted((one, other))
    assert (render(video, share, more) <= render(video, share, less) + 1e-6).all()


@given(VIDEOS, STRENGTHS, UNIT, UNIT)
def test_more_haze_is_never_shown_brighter(video, strength, one, other):
    less, more = sorted((one, other))
    assert (
        render(video, np.full_like(video, more), strength) <= render(video, np.full_like(video, less), strength)
    ).all()


@given(arrays.arrays(np.float32, (2, 3, 4, 3), elements=UNIT), VIDEOS, STRENGTHS)
def test_colours_keep_their_hue_and_lose_as_much_as_grey(video, share, strength):
    found = render(video, share, strength)
    for channel in range(3):
        np.testing.assert_array_equal(found[..., channel], render(video[..., channel], share, strength))
    # ratios of channels, as products
    np.testing.assert_allclose(found[..., 0] * video[..., 1], found[..., 1] * video[..., 0], atol=1e-6)


def test_the_input_is_not_written_to():
    video, share = np.full((2, 3, 4), 0.5, np.float32), np.ones((2, 3, 4), np.float32)
    assert not render(video, share, 1).any()
    assert (video == 0.5).all()
    assert (share == 1).all()


@pytest.mark.parametrize("strength", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_strength_outside_the_unit_interval_is_refused(strength):
    with pytest.raises(InputError, match="strength"):
        render(np.zeros((2, 3, 4)), np.zeros((2, 3, 4)), strength)


@pytest.mark.parametrize(
    ("video", "share"),
    [
        ((2, 3, 4), (2, 3, 5)),
        ((2, 3, 4), (3, 4)),
        ((2, 3, 4), (1, 3, 4)),
        ((2, 3, 4, 3), (2, 3, 4, 3)),
        ((3, 4), (3, 4)),
    ],
)
@pytest.mark.usefixtures("wrong_types")
def test_shapes_that_do_not_fit_are_refused(video, share):
    with pytest.raises(InputError, match="share"):
        render(np.zeros(video), np.zeros(share))
