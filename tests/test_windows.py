"""Windows cover a clip, and merging undoes cutting."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.paper.windows import CrossFade, Windows, over_windows


@st.composite
def windows(draw):
    length = draw(st.integers(1, 12))
    return Windows(draw(st.integers(1, 40)), length, draw(st.integers(0, length - 1)))


@settings(max_examples=200)
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


@pytest.mark.slow
@settings(max_examples=200)
@given(windows())
def test_merging_undoes_cutting(plan):
    """So the weights of the windows add up to 1 in each frame."""
    video = np.random.default_rng(0).random((plan.frames, 1, 2)).astype(np.float32)
    merged = np.concatenate([part for (part,) in over_windows([video], plan.spans, lambda index, part: (part,))])
    np.testing.assert_allclose(merged, video, rtol=1e-6)


def test_cross_fade_moves_from_one_window_to_the_next():
    fade = CrossFade()
    fade.add(0, (np.zeros((5, 1, 1), np.float32),))
    fade.add(3, (np.ones((5, 1, 1), np.float32),))
    (merged,) = fade.finish(8)
    # triangles 1 2 3 2 1: on frames 3 and 4 the windows weigh 2:1 and 1:2
    np.testing.assert_allclose(merged[:, 0, 0], [0, 0, 0, 1 / 3, 2 / 3, 1, 1, 1], rtol=1e-6)


def test_warm_start_takes_the_shared_frames_from_the_previous_result():
    plan = Windows(10, 4, 1)
    assert plan.starts == (0, 3, 6)
    clip = np.arange(10, dtype=np.float32)[:, None, None]
    previous, current = (jnp.asarray(clip[span.start : span.stop]) for span in plan.spans[:2])
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
