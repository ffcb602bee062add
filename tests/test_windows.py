"""Windows cover a clip, and merging undoes splitting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.paper.windows import Windows


@st.composite
def windows(draw):
    length = draw(st.integers(1, 12))
    return Windows(draw(st.integers(1, 40)), length, draw(st.integers(0, length - 1)))


@settings(max_examples=200, deadline=None)
@given(windows())
def test_windows_cover_the_clip_and_overlap_as_asked(plan):
    ends = [start + plan.size for start in plan.starts]
    assert plan.starts[0] == 0
    assert ends[-1] == plan.frames
    assert all(start >= 0 for start in plan.starts)
    for previous_end, start in zip(ends[:-1], plan.starts[1:], strict=True):
        assert previous_end - start >= plan.overlap
    assert len(set(plan.starts)) == len(plan)
    # no window more than the clip needs: without the last one it would not be covered
    assert len(plan) == 1 or ends[-2] < plan.frames


@settings(max_examples=200, deadline=None)
@given(windows())
def test_weights_are_a_partition_of_unity(plan):
    total = np.zeros(plan.frames)
    for start, weight in zip(plan.starts, plan.weights, strict=True):
        assert (weight > 0).all()
        total[start : start + plan.size] += weight
    np.testing.assert_allclose(total, 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("frames", "length", "overlap"), [(1, 7, 3), (5, 7, 3), (7, 7, 6), (20, 7, 0), (23, 7, 3), (60, 60, 0), (9, 4, 3)]
)
def test_merge_undoes_split(frames, length, overlap):
    video = np.random.default_rng(0).random((frames, 2, 3)).astype(np.float32)
    plan = Windows(frames, length, overlap)
    parts = plan.split(video)
    assert parts.shape == (len(plan), min(frames, length), 2, 3)
    np.testing.assert_allclose(plan.merge(parts), video, rtol=1e-6)
    np.testing.assert_allclose(plan.merge(list(parts)), video, rtol=1e-6)


def test_cross_fade_moves_from_one_window_to_the_next():
    plan = Windows(8, 5, 2)
    assert plan.starts == (0, 3)
    merged = plan.merge(np.stack([np.zeros((5, 1, 1)), np.ones((5, 1, 1))]).astype(np.float32))[:, 0, 0]
    # triangles 1 2 3 2 1: on frames 3 and 4 the windows weigh 2:1 and 1:2
    np.testing.assert_allclose(merged, [0, 0, 0, 1 / 3, 2 / 3, 1, 1, 1], rtol=1e-6)


def test_warm_start_takes_the_shared_frames_from_the_previous_result():
    plan = Windows(10, 4, 1)
    assert plan.starts == (0, 3, 6)
    clip = np.arange(10, dtype=np.float32)[:, None, None]
    previous, current = plan.split(clip)[0], plan.split(clip)[1]
    assert [plan.shared(index) for index in range(3)] == [0, 1, 1]
    start = plan.warm_start(1, previous + 100, current)
    np.testing.assert_array_equal(start[:, 0, 0], [103, 4, 5, 6])
    np.testing.assert_array_equal(plan.warm_start(0, previous + 100, previous), previous)


def test_last_window_may_share_more():
    plan = Windows(8, 4, 1)
    assert plan.starts == (0, 3, 4)
    assert plan.shared(2) == 3


@pytest.mark.parametrize(("frames", "length", "overlap"), [(0, 7, 0), (5, 0, 0), (5, 7, 7), (5, 7, -1)])
def test_impossible_windows_are_refused(frames, length, overlap):
    with pytest.raises(InputError, match="must be at least"):
        Windows(frames, length, overlap)


def test_a_clip_or_results_of_another_length_are_refused():
    plan = Windows(10, 4, 1)
    with pytest.raises(ValueError, match="10 frames"):
        plan.split(np.zeros((9, 2, 2)))
    with pytest.raises(ValueError, match="3 windows"):
        plan.merge(np.zeros((2, 4, 2, 2)))
