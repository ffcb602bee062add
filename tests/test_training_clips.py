"""What is read or rendered to train on: short clips, clean and under haze, kept between runs."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from children import eventually
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import write_video
from nuclear_diffusion.io.find import find_clips, patient_of
from nuclear_diffusion.priors.diffusion_prior import DiffusionPrior
from nuclear_diffusion.restore.estimate import estimate
from nuclear_diffusion.restore.render import render
from nuclear_diffusion.training import clips as frames_module
from nuclear_diffusion.training.clips import CLEANING, LAYERS, read_frames, render_ahead, render_frames, short_clips
from nuclear_diffusion.training.data import Bank

HEIGHT, WIDTH = 90, 120


def speckle(frames: int, seed: int = 0) -> np.ndarray:
    """Speckle that moves down under steady haze within a fan."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    fan = (np.hypot(y - 2, x - WIDTH / 2) < 84) & (np.abs(np.arctan2(x - WIDTH / 2, y - 2)) < 0.6)
    still = np.random.default_rng(seed).rayleigh(0.15, (HEIGHT, WIDTH))
    video = np.stack([np.roll(still, 2 * t, axis=0) for t in range(frames)]) + 0.2 * np.exp(-y / 30)
    return np.where(fan, np.clip(video, 0, 1), 0).astype(np.float32)


class Keeps(eqx.Module):
    """A haze-aware network for which a share of every grey level is tissue and the rest is haze."""

    kept: jax.Array

    def __call__(self, x, c_noise, seen):
        return self.kept * (seen[0] * SCALE + MEAN) / SCALE - MEAN / SCALE


MEAN, SCALE = 0.2, 0.25


def teacher_that_keeps(share: float) -> DiffusionPrior:
    """E[X | Y] = share Y: with no noise too small for its output to count."""
    return DiffusionPrior(Keeps(jnp.float32(share)), MEAN, SCALE, 1e-4, 1e4, haze_aware=True)


@pytest.fixture
def _thin_air(monkeypatch):
    """The haze that is laid over clips is none."""
    monkeypatch.setattr("nuclear_diffusion.training.clips.lay_haze", lambda clip, sector, *, seed, fps: clip)


def two_clips(folder: Path, length: int = 9) -> Path:
    for seed, name in enumerate(("one", "two")):
        write_video(folder / f"{name}.npz", speckle(length, seed), 25)
    return folder


def test_a_teacher_that_keeps_a_share_keeps_it():
    clip = np.random.default_rng(0).uniform(0, 1, (3, 16, 16)).astype(np.float32)
    for share in (0.0, 0.5, 1.0):
        mean = teacher_that_keeps(share).given(jnp.asarray(clip)).mean()
        np.testing.assert_allclose(mean, share * clip, atol=1e-6)


@pytest.mark.slow
def test_a_folder_of_clips_becomes_one_bank(tmp_path):
    two_clips(tmp_path, 17)
    clean = read_frames(tmp_path, size=64)
    assert clean.train.dtype == np.uint8
    assert len(clean.train) + len(clean.val) == 2 * 17
    assert clean.train.shape[1:] == (64, 64)

    seen = []
    pairs = read_frames(
        tmp_path, size=64, teacher=teacher_that_keeps(1), seed=3, progress=lambda *counts: seen.append(counts)
    )
    assert seen == [(1, 2), (2, 2)]
    assert pairs.train.dtype == np.uint8
    assert pairs.train.shape == (LAYERS * (len(clean.train) // 8), 8, 2, 64, 64)
    one, other = np.split(pairs.train, LAYERS)
    np.testing.assert_array_equal(one[:, :, 0], other[:, :, 0])
    assert not np.array_equal(one[:, :, 1], other[:, :, 1])
    for short in pairs.train:  # where the teacher sees no haze each target is one of the clip's frames
        assert all((clean.train == frame).all((1, 2)).any() for frame in short[:, 0])
    added = pairs.train[:, :, 1].astype(int) - pairs.train[:, :, 0]
    assert (added.max((1, 2, 3)) > 20).all()
    assert (added.mean((1, 2, 3)) > 0).all()
    again, other = (read_frames(tmp_path, size=64, teacher=teacher_that_keeps(1), seed=seed) for seed in (3, 4))
    np.testing.assert_array_equal(again.train, pairs.train)
    np.testing.assert_array_equal(other.train[:, :, 0], pairs.train[:, :, 0])
    assert not np.array_equal(other.train[:, :, 1], pairs.train[:, :, 1])


@pytest.mark.slow
@pytest.mark.usefixtures("_thin_air")
@pytest.mark.parametrize("kept", [1.0, 0.5, 0.0])
def test_the_target_lacks_what_the_teacher_takes_for_haze(kept, tmp_path):
    """Haze is laid over the target first and then over the clip itself; where it is none, these are what is left."""
    two_clips(tmp_path, 8)
    clip = read_frames(tmp_path, size=32).train
    target, over_target, over_clip = dehazed_and_hazy(read_frames(tmp_path, size=32, teacher=teacher_that_keeps(kept)))
    np.testing.assert_array_equal(over_target, target)
    np.testing.assert_array_equal(over_clip, clip)
    if kept == 1:
        np.testing.assert_array_equal(target, clip)
    else:
        assert (target <= clip).all()
        bright = clip > 20
        assert (target[bright] < clip[bright]).mean() > 0.8
        assert target.mean() < (0.75 if kept else 0.4) * clip.mean()
        fitted = clip / np.float32(255)
        share = np.asarray(estimate(fitted, teacher_that_keeps(kept)).share)
        np.testing.assert_allclose(target / np.float32(255), render(fitted, share, CLEANING), atol=0.02)


def dehazed_and_hazy(bank: Bank) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of a bank of one short clip: target, what haze over it gave, and what haze over the clip gave."""
    (first, second) = bank.train
    np.testing.assert_array_equal(first[:, 0], second[:, 0])
    return first[:, 0], first[:, 1], second[:, 1]


@pytest.mark.usefixtures("_thin_air")
def test_of_long_clips_some_short_ones_are_taken_evenly(tmp_path):
    """Four of eight at half of the room that all need; the first and the last are among them, and gaps are alike."""
    two_clips(tmp_path, 64)
    every = read_frames(tmp_path, size=32, teacher=teacher_that_keeps(1))
    assert every.train.shape == every.val.shape == (LAYERS * 8, 8, 2, 32, 32)
    needed = (every.train.nbytes + every.val.nbytes) / 1e9
    some = read_frames(tmp_path, size=32, teacher=teacher_that_keeps(1), limit_gb=0.51 * needed)
    assert some.train.shape == some.val.shape == (LAYERS * 4, 8, 2, 32, 32)
    chosen = [int(np.flatnonzero((every.train[:8] == short).all((1, 2, 3, 4)))[0]) for short in some.train[:4]]
    assert (chosen[0], chosen[-1]) == (0, 7)
    assert set(np.diff(chosen)) <= {2, 3}
    assert (some.train.nbytes + some.val.nbytes) / 1e9 <= 0.51 * needed


def test_of_clean_frames_alone_some_are_taken_evenly(tmp_path):
    two_clips(tmp_path, 30)
    every = read_frames(tmp_path, size=32)
    some = read_frames(tmp_path, size=32, limit_gb=2 * 10.5 * 32**2 / 1e9)
    assert some.train.shape == some.val.shape == (10, 32, 32)
    chosen = [int(np.flatnonzero((every.train == frame).all((1, 2)))[0]) for frame in some.train]
    assert (chosen[0], chosen[-1]) == (0, 29)
    assert set(np.diff(chosen)) <= {3, 4}


@pytest.mark.parametrize("kept", [None, 1.0])
def test_clips_that_need_more_room_than_there_is_are_refused(kept, tmp_path, monkeypatch):
    """Before any is read: one frame of each clip, or one short clip with its hazy layers, is the least."""
    two_clips(tmp_path)
    monkeypatch.setattr("nuclear_diffusion.training.clips.read_video", lambda *_: pytest.fail("a clip was read"))
    least = 2 * 32**2 * (1 if kept is None else LAYERS * 8 * 2) / 1e9
    teacher = None if kept is None else teacher_that_keeps(kept)
    with pytest.raises(InputError, match="--cache-gb") as caught:
        read_frames(tmp_path, size=32, teacher=teacher, limit_gb=0.99 * least)
    assert str(caught.value).startswith("2 clips need")
    assert str(caught.value).count("\n") == 0
    with pytest.raises(pytest.fail.Exception, match="was read"):
        read_frames(tmp_path, size=32, teacher=teacher, limit_gb=1.01 * least)


def test_patients_that_need_more_room_than_there_is_are_not_rendered(tmp_path, monkeypatch):
    """40 patients and 2 to watch, of 8 moments, clean and hazy."""
    needed = 42 * 8 * 2 * 32**2 / 1e9
    rendered: list[tuple[str, int]] = []

    def frame_bank(count, moments, *, split, size, workers, progress):
        rendered.append((split, count))
        both = [np.full((count, moments, size, size), grey, np.uint8) for grey in (30, 90)]
        return np.stack(both, axis=2)

    monkeypatch.setattr("nuclear_diffusion.training.clips.frame_bank", frame_bank)
    with pytest.raises(InputError, match="--cache-gb") as caught:
        render_frames(40, 8, tmp_path / "cache", size=32, limit_gb=0.99 * needed)
    assert "40 patients" in str(caught.value)
    assert not rendered
    assert not (tmp_path / "cache").exists()
    notes: list[str] = []
    bank = render_frames(40, 8, tmp_path / "cache", size=32, limit_gb=1.01 * needed, note=notes.append)
    assert rendered == [("train", 40), ("development", 2)]
    assert bank.train.nbytes + bank.val.nbytes == pytest.approx(1e9 * needed)
    assert (bank.train[:, :, 0] == 30).all()  # clean first
    assert (bank.train[:, :, 1] == 90).all()
    assert len(notes) == 1
    assert str(tmp_path / "cache") in notes[0]


@pytest.fixture
def renderer(monkeypatch):
    """Patient k has grey k + 1; those from `until` on are rendered when `until` is raised, or not, after an error."""
    told = SimpleNamespace(until=3, error=None, closed=False)

    def rendered_patients(count, moments, *, size, workers):
        try:
            for k in range(count):
                while k >= told.until:
                    if told.error is not None:
                        raise told.error
                    time.sleep(0.01)
                yield np.full((moments, 2, size, size), k + 1, np.uint8)
        finally:
            told.closed = True

    def frame_bank(count, moments, *, split, size, workers, progress):
        assert split == "development"
        return np.full((count, moments, 2, size, size), 200, np.uint8)

    monkeypatch.setattr(frames_module, "rendered_patients", rendered_patients)
    monkeypatch.setattr(frames_module, "frame_bank", frame_bank)
    return told


def test_patients_are_rendered_while_others_are_used(renderer, tmp_path):
    whole = tmp_path / "train-12x2-8.npy"
    notes: list[str] = []
    with render_ahead(12, 2, tmp_path, size=8, note=notes.append) as (bank, ready):
        assert ready() == 3
        assert "3 of 12 patients are ready" in notes[1]
        assert (bank.val == 200).all()
        assert (bank.train[:3, 0, 0, 0, 0] == [1, 2, 3]).all()
        assert isinstance(bank.train, np.memmap)
        assert bank.train.filename is not None
        mapped = np.load(bank.train.filename, mmap_mode="r")  # as another process sees them
        renderer.until = 12
        eventually(lambda: ready() == 12)
        assert (mapped[:, 0, 0, 0, 0] == np.arange(1, 13)).all()
        assert not whole.exists()
    assert {path.name for path in tmp_path.iterdir()} == {whole.name, "development-1x2-8.npy"}
    renderer.until = 0  # nothing is rendered any more
    with render_ahead(12, 2, tmp_path, size=8) as (bank, ready):
        assert ready() == 12
        assert (bank.train[:, 0, 0, 0, 0] == np.arange(1, 13)).all()


@pytest.mark.parametrize("interrupt", [None, KeyboardInterrupt()])
def test_what_is_not_rendered_at_the_end_is_never_taken_for_whole(interrupt, renderer, tmp_path, monkeypatch):
    """Whether the run has ended or was interrupted; the renderer is stopped first."""

    class Stop(threading.Event):
        def set(self):
            super().set()
            renderer.until = 6  # the one that is under way

    monkeypatch.setattr(frames_module, "threading", SimpleNamespace(Event=Stop))

    def use() -> None:
        with render_ahead(12, 2, tmp_path, size=8) as (_, ready):
            renderer.until = 5
            eventually(lambda: ready() == 5)
            if interrupt is not None:
                raise interrupt

    if interrupt is None:
        use()
    else:
        with pytest.raises(KeyboardInterrupt):
            use()
    assert renderer.closed
    assert [path.name for path in tmp_path.iterdir()] == ["development-1x2-8.npy"]


@pytest.mark.parametrize("until", [2, 4])
def test_an_error_of_the_renderer_is_raised_where_the_frames_are_used(until, renderer, tmp_path):
    renderer.until, renderer.error = until, RuntimeError("a renderer died")

    def use() -> None:
        with render_ahead(12, 2, tmp_path, size=8) as (_, ready):
            assert until > 3  # else too few are there to begin
            eventually(lambda: ready() > 12)

    with pytest.raises(RuntimeError, match="a renderer died"):
        use()
    assert [path.name for path in tmp_path.iterdir()] == ["development-1x2-8.npy"]


@given(st.integers(1, 200))
def test_short_clips_are_evenly_spaced_and_never_share_a_frame(frames):
    chosen = short_clips(frames)
    assert chosen.shape[1] == 8
    assert set(chosen.ravel()) <= set(range(frames))
    if frames < 8:
        assert set(chosen.ravel()) == set(range(frames))
        assert np.abs(np.diff(chosen)).max() <= 1
    else:
        assert len(set(chosen.ravel())) == chosen.size > frames - 8
        steps = np.diff(chosen)
        assert steps.max() - steps.min() <= 1
        assert chosen[0, -1] - chosen[0, 0] >= 7 * frames // 8 - 1  # over the whole clip


def test_numbered_images_are_one_clip_a_series(tmp_path):
    names = ["patient-1-4C-frame-1.png", "patient-1-4C-frame-10.png", "patient-2-4C-frame-1.png"]
    names += ["patient-2-4C-frame-2.png", "loop.mp4", "loop2.mp4", ".hidden"]
    for name in names:
        (tmp_path / name).touch()
    found = [path.name for path in find_clips(tmp_path)]
    assert found == ["loop.mp4", "loop2.mp4", "patient-1-4C-frame-*.png", "patient-2-4C-frame-*.png"]


def test_what_cannot_be_read_is_left_out_with_a_note(tmp_path):
    write_video(tmp_path / "one.npz", speckle(9), 25)
    (tmp_path / "README.txt").write_text("what lies here")
    Image.fromarray(np.full((40, 40), 90, np.uint8)).save(tmp_path / "patient-5-4C-frame-1.png")
    notes: list[str] = []
    bank = read_frames(tmp_path, size=32, note=notes.append)
    assert len(bank.train) + len(bank.val) == 9
    assert len(notes) == 2
    assert "README.txt" in notes[0]
    assert "patient-5-4C-frame" in notes[1]  # one frame is no clip
    for path in tmp_path.glob("*[gz]"):
        path.unlink()
    with pytest.raises(InputError, match="README"):
        read_frames(tmp_path, size=32)


@pytest.mark.slow
def test_a_run_that_goes_on_does_not_read_its_clips_again(tmp_path, monkeypatch):
    data, cache = two_clips(tmp_path / "data"), tmp_path / "run" / "cache"
    (data / "README.txt").write_text("what lies here")
    notes: list[str] = []
    teacher = teacher_that_keeps(0.5)
    about = {"size": 32, "teacher": teacher, "seed": 1}
    first = read_frames(data, **about, cache=cache, note=notes.append)
    np.testing.assert_array_equal(first.train, read_frames(data, **about).train)

    def untouched(*_):
        raise AssertionError("read again")

    with monkeypatch.context() as patch:
        patch.setattr("nuclear_diffusion.training.clips.read_video", untouched)
        again = read_frames(data, **about, cache=cache, note=notes.append)
        np.testing.assert_array_equal(again.train, first.train)
        np.testing.assert_array_equal(again.val, first.val)
        size, left_out, left_out_again = notes
        assert str(cache) in size
        assert "README.txt" in left_out
        assert left_out == left_out_again
        for change in ({"seed": 2}, {"size": 64}, {"teacher": None}, {"teacher": teacher_that_keeps(1)}):
            with pytest.raises(AssertionError, match="read again"):
                read_frames(data, **{**about, **change}, cache=cache)
        write_video(data / "two.npz", speckle(9, seed=7), 25)
        with pytest.raises(AssertionError, match="read again"):
            read_frames(data, **about, cache=cache)
    assert not np.array_equal(read_frames(data, **about, cache=cache).val, first.val)


def test_one_patient_alone_has_no_validation_also_when_kept(tmp_path):
    write_video(tmp_path / "data" / "one.npz", speckle(9), 25)
    for _ in range(2):
        bank = read_frames(tmp_path / "data", size=32, teacher=teacher_that_keeps(1), cache=tmp_path / "run" / "cache")
        assert bank.val.shape == (0, 8, 2, 32, 32)
        assert len(bank.train) == LAYERS


def test_a_run_in_the_folder_of_its_clips_is_none_of_them(tmp_path):
    two_clips(tmp_path)
    run = tmp_path / "run"
    notes: list[str] = []
    for content in ("first", "second"):
        bank = read_frames(tmp_path, size=32, cache=run / "cache", note=notes.append)
        assert len(bank.train) == len(bank.val) == 9
        (run / "log.json").write_text(content)
    assert len(notes) == 1
    assert "GB of frames" in notes[0]
    assert len(list((run / "cache").glob("frames-*"))) == 1


def test_all_clips_of_a_patient_are_on_one_side(tmp_path):
    assert patient_of("patient-3-4C-frame-*.png") == patient_of("patient-3-2C-frame-*.png") == "patient-3"
    assert patient_of("patient-13.npz") == "patient-13"
    assert patient_of("loop.mp4") == "loop.mp4"
    for number in range(1, 4):
        for view in ("2C", "4C"):
            frames = np.full((8, 32, 32), 60 * number, np.uint8) + np.arange(8, dtype=np.uint8)[:, None, None]
            for k, frame in enumerate(frames):
                Image.fromarray(frame).save(tmp_path / f"patient-{number}-{view}-frame-{k}.png")
    bank = read_frames(tmp_path, size=32)
    assert len(bank.val) == 16
    assert not {*np.unique(bank.val) // 60} & {*np.unique(bank.train) // 60}


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="no clips"):
        read_frames(tmp_path)
