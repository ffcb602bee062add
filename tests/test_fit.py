"""Properties of the fit: there and back is the identity on smooth images; shapes keep their proportions."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nuclear_diffusion.sector import Fit


def wedge(height: int, width: int, top: float = 0.1, degrees: float = 40) -> np.ndarray:
    y, x = np.mgrid[:height, :width] + 0.5
    down, across = y - top * height, x - 0.55 * width
    return (np.abs(np.degrees(np.arctan2(across, down))) <= degrees) & (np.hypot(down, across) < 0.8 * height)


def smooth(height: int, width: int, frames: int = 2) -> np.ndarray:
    """Waves much longer than a pixel of either frame."""
    t, y, x = np.mgrid[:frames, :height, :width]
    return (0.5 + 0.4 * np.sin(7 * y / height + t) * np.cos(5 * x / width)).astype(np.float32)


@settings(max_examples=30)
@given(
    height=st.integers(90, 400),
    width=st.integers(90, 500),
    size=st.sampled_from([64, 128, 256]),
    top=st.floats(0, 0.15),
    degrees=st.floats(20, 60),
)
def test_there_and_back_is_the_identity_on_smooth_images(height, width, size, top, degrees):
    mask = wedge(height, width, top, degrees)
    fit = Fit.to_prior(mask, size)
    frames = smooth(height, width)
    fitted = fit.forward(frames)
    back = fit.backward(fitted)
    assert fitted.shape == (2, size, size)
    assert fitted.dtype == back.dtype == np.float32
    assert fit.mask.shape == (size, size)
    assert not fitted[:, ~fit.mask].any()
    assert not back[:, ~mask].any()
    error = np.abs(back - frames)[:, mask]
    assert error.mean() < 0.005
    assert error.max() < 0.1  # at the tip, where a pixel of the prior is wider than the sector


@settings(max_examples=20)
@given(height=st.integers(40, 300), width=st.integers(40, 300), size=st.sampled_from([64, 100, 256]))
def test_the_sector_fills_the_frame_centred_and_top_aligned(height, width, size):
    mask = np.zeros((height, width), bool)
    mask[height // 4 : height - 3, width // 3 : width - 5] = True
    fit = Fit.to_prior(mask, size)
    rows, columns = np.flatnonzero(fit.mask.any(axis=1)), np.flatnonzero(fit.mask.any(axis=0))
    assert rows[0] <= 0.05 * size + 1
    assert max(np.ptp(rows), np.ptp(columns)) + 1 >= 0.9 * size
    pixel = size / fit.side  # centring is to a pixel of the clip
    assert abs(columns[0] - (size - 1 - columns[-1])) <= pixel + 1
    proportion = (height - 3 - height // 4) / (width - 5 - width // 3)
    across = np.ptp(columns) + 1
    assert np.ptp(rows) + 1 == pytest.approx(proportion * across, abs=1.5 + 1.5 * proportion)


@pytest.mark.parametrize("shape", [(768, 1024), (300, 200), (112, 112), (240, 320)])
def test_circles_stay_circles(shape):
    """A disc's second moments are equal along both axes, there and back."""
    height, width = shape
    y, x = np.mgrid[:height, :width]
    disc = np.clip(0.15 * height + 0.5 - np.hypot(y - 0.5 * height, x - 0.55 * width), 0, 1).astype(np.float32)
    fit = Fit.to_prior(wedge(height, width), 256)
    for image in (fit.forward(disc[None])[0], fit.backward(fit.forward(disc[None]))[0]):
        rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
        weight = image / image.sum()
        spread = [np.sqrt((weight * (axis - (weight * axis).sum()) ** 2).sum()) for axis in (rows, columns)]
        assert spread[0] == pytest.approx(spread[1], rel=0.01)
        scale = len(image) / fit.side if len(image) == 256 and image.shape != shape else 1
        assert spread[0] == pytest.approx(0.15 * height * scale / 2, rel=0.02)  # a disc: radius / 2


def test_identity_is_exact():
    frames = np.random.default_rng(0).random((3, 256, 256), np.float32)
    mask = np.zeros((256, 256), bool)
    mask[4:250, 2:255] = True
    fit = Fit.to_prior(mask, 256)
    np.testing.assert_array_equal(fit.forward(frames), frames * mask)
    np.testing.assert_array_equal(fit.backward(frames), frames * mask)
    np.testing.assert_array_equal(fit.mask, mask)


@pytest.mark.parametrize("size", [64, 256])
def test_a_constant_stays_constant_up_to_the_edge(size):
    """Neither black nor text from outside the sector bleeds in."""
    mask = wedge(200, 260)
    frames = np.where(mask, np.float32(0.5), np.random.default_rng(0).random((200, 260), np.float32))[None]
    fit = Fit.to_prior(mask, size)
    np.testing.assert_allclose(fit.forward(frames)[0][fit.mask], 0.5, atol=1e-5)
    np.testing.assert_allclose(fit.backward(fit.forward(frames))[0][mask], 0.5, atol=1e-5)


def test_shrinking_averages_what_it_cannot_show():
    """A one-pixel checkerboard, four times finer than the prior's pixel, becomes its mean."""
    y, x = np.mgrid[:512, :512]
    checks = ((x + y) % 2).astype(np.float32)[None]
    fit = Fit.to_prior(np.ones((512, 512), bool), 128)
    middle = fit.forward(checks)[0][10:100, 20:100]
    np.testing.assert_allclose(middle, 0.5, atol=0.02)


def test_backward_keeps_sign_and_scale():
    fit = Fit.to_prior(wedge(150, 200), 128)
    field = np.where(np.arange(128) % 2, -3.0, 3.0)[:, None] * np.zeros((1, 1, 128)) - 2.0
    np.testing.assert_allclose(fit.backward(field)[0][fit.source], -2, atol=1e-5)


def test_backward_is_linear():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 1, 64, 64)).astype(np.float32)
    fit = Fit.to_prior(wedge(150, 200), 64)
    np.testing.assert_allclose(fit.backward(2 * a - b), 2 * fit.backward(a) - fit.backward(b), atol=1e-5)


def test_forward_stays_within_zero_and_one():
    frames = (np.random.default_rng(0).random((2, 120, 150)) > 0.5).astype(np.float32)
    fitted = Fit.to_prior(wedge(120, 150), 256).forward(frames)
    assert fitted.min() >= 0
    assert fitted.max() <= 1


@pytest.mark.slow
def test_sixty_large_frames_take_seconds():
    fit = Fit.to_prior(wedge(768, 1024), 256)
    frames = np.ones((60, 768, 1024), np.float32)
    start = time.process_time()  # another program may have the cores
    fit.backward(fit.forward(frames))
    assert time.process_time() - start < 15


def test_an_inverted_sector_is_turned_over_and_back():
    """The prior's frame is that of the clip turned over, and fields come back where they were."""
    mask = wedge(150, 200)
    frames = smooth(150, 200)
    upright, inverted = Fit.to_prior(mask, 64), Fit.to_prior(mask[::-1], 64)
    assert inverted.inverted
    assert not upright.inverted
    np.testing.assert_array_equal(inverted.mask, upright.mask)
    np.testing.assert_array_equal(inverted.forward(frames[:, ::-1]), upright.forward(frames))
    field = np.random.default_rng(0).random((2, 64, 64), np.float32)
    np.testing.assert_array_equal(inverted.backward(field), upright.backward(field)[:, ::-1])


def test_hidden_pixels_do_not_reach_the_prior():
    mask = wedge(150, 200)
    hidden = np.zeros_like(mask)
    hidden[60:64, 90:130] = hidden[100:130, 110:113] = True
    frames = np.where(hidden, np.float32(1), np.float32(0.5))[None]
    fit = Fit.to_prior(mask, 64, hidden=hidden)
    np.testing.assert_allclose(fit.forward(frames)[0][fit.mask], 0.5, atol=1e-5)
    assert Fit.to_prior(mask, 64).forward(frames)[0][fit.mask].max() > 0.7


@pytest.mark.usefixtures("wrong_types")
def test_mistakes_are_value_errors():
    with pytest.raises(ValueError, match="`mask` must be"):
        Fit.to_prior(np.zeros((20, 20), bool))
    with pytest.raises(ValueError, match="`size` must be"):
        Fit.to_prior(np.ones((20, 20), bool), 0)
    fit = Fit.to_prior(wedge(60, 80), 64)
    with pytest.raises(ValueError, match="`frames` must be"):
        fit.forward(np.zeros((2, 64, 64)))
    with pytest.raises(ValueError, match="`field` must be"):
        fit.backward(np.zeros((2, 60, 80)))
