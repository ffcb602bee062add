"""Clips of any length: windows one after another, black and repeated frames, stills, interrupted runs, live sources."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import jax.numpy as jnp
import numpy as np
import pytest

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import Clip, write_video
from nuclear_diffusion.io.recording import Recording
from nuclear_diffusion.paper.gaussian import Gaussian
from nuclear_diffusion.paper.windows import Queue, Windows, cut
from nuclear_diffusion.restore import clip as core
from nuclear_diffusion.restore import estimate as estimating
from nuclear_diffusion.restore import run
from nuclear_diffusion.restore.clip import dehaze_clip, dehaze_recording
from nuclear_diffusion.restore.estimate import estimate
from nuclear_diffusion.restore.frames import fingerprint, survey
from nuclear_diffusion.restore.methods import Mmse, Nuclear, Rpca
from nuclear_diffusion.restore.render import render
from nuclear_diffusion.restore.stream import stream

pytestmark = pytest.mark.usefixtures("_no_figures_of_results")

SIDE = 32
PRIOR = Gaussian(20.0, 0.1)


def moving(frames: int, seed: int = 0) -> np.ndarray:
    """Speckle that fills the frame and moves down under haze that drifts."""
    rng = np.random.default_rng(seed)
    speckle = np.clip(rng.rayleigh(0.2, (SIDE, SIDE)) + 0.1, 0, 0.8)
    haze = 0.1 * (1 + np.sin(np.arange(frames) / 11))[:, None, None]
    video = np.stack([np.roll(speckle, t, axis=0) for t in range(frames)]) + haze
    return np.clip(video, 0, 1).astype(np.float32)


def clip_of(frames: np.ndarray) -> Clip:
    return Clip(frames, 25.0, None, None, "loop", Path("loop.npz"))


def generated(frames: int, decoded: list[int] | None = None) -> Recording:
    """A recording whose frames are made when they are decoded."""
    loop = moving(40)

    def decode(length):
        for start in range(0, frames, length):
            stop = min(start + length, frames)
            if decoded is not None:
                decoded.append(stop)
            yield clip_of(loop[np.arange(start, stop) % len(loop)])

    return Recording((frames, SIDE, SIDE), 25.0, False, None, "loop", Path("loop.npz"), decode)


@pytest.mark.parametrize("length", [1, 7, 64])
def test_windows_are_cut_from_blocks_of_any_length(length):
    video = moving(30)
    windows = Windows(30, 8, 3)
    blocks = (video[start : start + length] for start in range(0, 30, length))
    for span, found in zip(windows.spans, cut(blocks, windows.spans), strict=True):
        np.testing.assert_array_equal(found, video[span.start : span.stop])


def test_a_clip_that_ends_early_is_said():
    with pytest.raises(InputError, match="20 of 30 frames"):
        list(cut([moving(20)], Windows(30, 8, 3).spans))


def test_a_queue_gives_back_what_was_put_in():
    queue, video = Queue(), moving(20)
    for start in range(0, 20, 3):
        queue.put(video[start : start + 3])
    for start, count in ((0, 4), (4, 1), (5, 10), (15, 5)):
        np.testing.assert_array_equal(queue.take(count)[0], video[start : start + count])
    assert len(queue) == 0


@pytest.mark.slow
@pytest.mark.parametrize("frames", [20, 60, 61, 150])
def test_a_clip_in_parts_is_the_whole_clip_bit_for_bit(frames):
    video = moving(frames)
    found = dehaze_clip(clip_of(video), Nuclear(), PRIOR, size=SIDE)
    whole = estimate(video, PRIOR)
    np.testing.assert_array_equal(found.share, whole.share)
    np.testing.assert_array_equal(found.signal, render(video, whole.share))


def test_the_estimate_is_the_cross_fade_of_its_windows():
    video = moving(110)
    halves = (jnp.asarray(y) for y in (video[:60], video[50:]))
    parts = [estimating.estimate_window(y, PRIOR, estimating.Completion()).share for y in halves]
    weight = np.minimum(np.arange(1, 61), np.arange(60, 0, -1))[:, None, None]
    total, expected = np.zeros((110, 1, 1)), np.zeros_like(video)
    for frames, part in zip((slice(60), slice(50, None)), parts, strict=True):
        total[frames] += weight
        expected[frames] += weight * np.asarray(part)
    np.testing.assert_allclose(estimate(video, PRIOR).share, expected / total, atol=1e-6)


def test_the_first_frames_come_out_before_the_last_are_decoded():
    decoded: list[int] = []
    recording = generated(600, decoded)
    seen = survey(recording)
    decoded.clear()
    first = next(dehaze_recording(recording, seen, Nuclear(), PRIOR, size=SIDE))
    assert len(first.clip) > 0
    assert max(decoded) <= 128


def test_a_survey_knows_the_frames_by_their_fingerprint():
    recording = generated(100)
    assert survey(recording).sha256 == fingerprint(recording.read())


# frames that take no part


def test_black_frames_take_no_part_and_come_back_as_they_were():
    video = moving(8)
    alone = dehaze_clip(clip_of(video), Nuclear(), PRIOR, size=SIDE)
    black = np.insert(video, [0, 3, 8], 0.01, axis=0)
    found = dehaze_clip(clip_of(black), Nuclear(), PRIOR, size=SIDE)
    kept = [1, 2, 3, 5, 6, 7, 8, 9]
    np.testing.assert_array_equal(found.signal[kept], alone.signal)
    np.testing.assert_array_equal(found.signal[[0, 4, 10]], black[[0, 4, 10]])
    np.testing.assert_array_equal(found.background[[0, 4, 10]], 0)


def test_repeated_frames_count_once():
    video = moving(20)
    alone = dehaze_clip(clip_of(video), Nuclear(), PRIOR, size=SIDE)
    twice = dehaze_clip(clip_of(np.repeat(video, 2, axis=0)), Nuclear(), PRIOR, size=SIDE)
    np.testing.assert_array_equal(twice.signal, np.repeat(alone.signal, 2, axis=0))
    assert len(survey(Recording.of(clip_of(np.repeat(video, 2, axis=0)))).notes) == 1


def test_a_still_is_dehazed_and_said_so_but_not_by_methods_that_need_motion():
    for count in (1, 5):
        still = clip_of(np.repeat(moving(1), count, axis=0))
        found = dehaze_clip(still, Nuclear(strength=1.0), PRIOR, size=SIDE)
        assert found.signal.shape == still.shape
        assert found.signal.mean() < still.frames.mean()
        assert "single image" in " ".join(survey(Recording.of(still)).notes)
        dehaze_clip(still, Mmse(), PRIOR, size=SIDE)
        with pytest.raises(InputError, match="needs motion"):
            dehaze_clip(still, Rpca(), size=SIDE)


# interrupted runs


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_video(tmp_path / "loop.npz", moving(130), 25.0)

    def small(*args, **rest):
        return core.dehaze_recording(*args, **rest, size=SIDE)

    monkeypatch.setattr(run, "dehaze_recording", small)
    return tmp_path


def dehaze(folder: Path, name: str, **rest):
    loaded = run.LoadedPrior(PRIOR, "0" * 64)
    return run.dehaze_file(folder / "loop.npz", folder / name, Nuclear(), loaded, **rest)


@pytest.mark.slow
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_run_goes_on_from_its_last_window(folder, monkeypatch, error):
    dehaze(folder, "undisturbed")
    solve, solved = estimating.estimate_window, []

    def interrupted(*args):
        if len(solved) == 2:
            raise error
        solved.append(1)
        return solve(*args)

    monkeypatch.setattr(estimating, "estimate_window", interrupted)
    with pytest.raises(error):
        dehaze(folder, "stopped")
    assert not (folder / "stopped").exists()
    assert len(list((folder / ".stopped.windows").glob("*.npz"))) == 2
    damaged = folder / ".stopped.windows" / "0-estimate-000000.npz"
    damaged.write_bytes(damaged.read_bytes()[:1000])

    def counted(*args):
        solved.append(1)
        return solve(*args)

    solved.clear()
    monkeypatch.setattr(estimating, "estimate_window", counted)
    dehaze(folder, "stopped")
    assert len(solved) == 2  # the damaged one and the last one
    for name in ("signal", "share", "mean", "background"):
        one, other = (h5py.File(folder / each / "result.h5")[name] for each in ("undisturbed", "stopped"))
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    assert {path.name for path in folder.iterdir()} == {"loop.npz", "undisturbed", "stopped"}


def test_an_error_leaves_no_windows_and_other_settings_take_none(folder, monkeypatch):
    windows = folder / ".loop.windows"
    windows.mkdir()
    (windows / "identity.json").write_text(json.dumps({"input_sha256": "another"}))
    (windows / "0-estimate-000000.npz").write_text("another clip")

    def full(*args):
        assert [path.name for path in windows.iterdir()] == ["identity.json"]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(estimating, "estimate_window", full)
    with pytest.raises(InputError, match="no space"):
        dehaze(folder, "loop")
    assert {path.name for path in folder.iterdir()} == {"loop.npz"}


# live


def whole(parts):
    parts = list(parts)
    return np.concatenate([part.signal for part in parts]), np.concatenate([part.background for part in parts])


@pytest.mark.slow
@pytest.mark.parametrize(("window", "overlap", "frames"), [(10, 3, 24), (10, 0, 20), (10, 3, 6), (60, 8, 30)])
def test_a_stream_is_the_clip_in_windows(window, overlap, frames):
    """Lengths for which no window is shifted back."""
    video = moving(frames)
    signal, background = whole(stream(iter(video), PRIOR, strength=0.7, window=window, overlap=overlap))
    found = estimate(video, PRIOR, window=window, overlap=overlap)
    np.testing.assert_array_equal(signal, render(video, found.share, 0.7))
    np.testing.assert_array_equal(background, found.background)


@pytest.mark.parametrize("frames", [11, 23, 27])
def test_a_stream_of_any_length_gives_every_frame_once(frames):
    video = moving(frames)
    for blocks in (iter(video), [video[:5], video[5:]], [jnp.asarray(video)]):
        signal, _ = whole(stream(blocks, PRIOR, window=10, overlap=3))
        assert signal.shape == video.shape
        assert (signal <= video + 1e-6).all()


def test_the_latency_of_a_stream_is_what_its_docstring_says():
    given, waits, out = 0, [], 0

    def source():
        nonlocal given
        for frame in moving(80):
            given += 1
            yield frame

    for part in stream(source(), PRIOR, window=16, overlap=4):
        if given < 80:
            waits += [given - 1 - number for number in range(out, out + len(part.signal))]
        out += len(part.signal)
    assert out == 80
    assert (min(waits), max(waits)) == (4, 15)


def test_black_and_repeated_frames_of_a_stream():
    video = moving(14)
    alone, _ = whole(stream(iter(video), PRIOR, window=6, overlap=2))
    source = [video[0] * 0, *[frame for frame in video for _ in range(2)], video[0] * 0]
    signal, _ = whole(stream(source, PRIOR, window=6, overlap=2))
    np.testing.assert_array_equal(signal[[0, -1]], 0)
    np.testing.assert_array_equal(signal[1:-1], np.repeat(alone, 2, axis=0))


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([np.zeros((4, 4), np.uint8)], "floats"),
        ([np.full((4, 4), np.nan)], "finite"),
        ([np.full((4, 4), 248.0)], "divide by 255"),
        ([np.ones((4, 4)), np.ones((4, 5))], "one size"),
        ([np.zeros(4)], "shape"),
    ],
)
def test_unusable_frames_of_a_stream_are_refused(frames, reason):
    with pytest.raises(InputError, match=reason):
        list(stream(frames, PRIOR))
    with pytest.raises(InputError, match="overlap"):
        stream(frames, PRIOR, window=4, overlap=4)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
@pytest.mark.parametrize(("large", "held"), [(True, False), (False, True)])
def test_large_arrays_go_back_to_the_system_when_they_are_freed(large, held):
    code = """
import sys
import numpy as np
from nuclear_diffusion.memory import return_large

if sys.argv[1] == "True":
    return_large()
larger = np.ones(30 << 20, np.uint8)
del larger  # glibc keeps arrays of this size from now on, by default
before, arrays, pins = int(open("/proc/self/statm").read().split()[1]), [], []
for _ in range(10):
    arrays.append(np.ones(10 << 20, np.uint8))
    pins.append(bytearray(200_000))  # keeps the end of the heap
arrays.clear()
print(4096 * (int(open("/proc/self/statm").read().split()[1]) - before))
"""
    done = subprocess.run([sys.executable, "-c", code, str(large)], capture_output=True, check=True)
    assert (int(done.stdout) > 50e6) == held


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_freed_memory_goes_back_to_the_system():
    code = """
import numpy as np
from nuclear_diffusion.memory import return_freed

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

large = np.ones(1 << 24, np.uint8)
del large  # from now on glibc keeps arrays of this size
before, arrays, pins = resident(), [], []
for _ in range(50):
    arrays.append(np.ones(1 << 22, np.uint8))
    pins.append(bytearray(200_000))  # keeps the end of the heap
arrays.clear()
held = resident() - before
return_freed()
print(held, resident() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    held, left = map(int, done.stdout.split())
    assert left < 30e6 < held
