"""What is written is read back, by us and by other libraries; a failure leaves nothing behind."""

import os
from pathlib import Path

import av
import numpy as np
import pytest
import tifffile
from PIL import Image

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.files import atomic
from nuclear_diffusion.io import read_video, write_video


def smooth_clip(frames: int = 8, height: int = 64, width: int = 96) -> np.ndarray:
    t, y, x = np.mgrid[:frames, :height, :width]
    return (0.5 + 0.4 * np.sin(y / 9 + t / 3) * np.cos(x / 11)).astype(np.float32)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((np.float64(a) - b) ** 2)))


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".tif", ".tiff"])
def test_lossless_formats_keep_floats_exactly(tmp_path, suffix):
    frames = np.random.default_rng(0).random((3, 20, 30), np.float32)
    write_video(tmp_path / f"clip{suffix}", frames, fps=12.5)
    clip = read_video(tmp_path / f"clip{suffix}")
    np.testing.assert_array_equal(clip.frames, frames)
    assert clip.fps == (30 if suffix == ".npy" else 12.5)


@pytest.mark.parametrize("name", ["clip.npz", "clip.npy", "clip.tif", "clip.gif", "clip"])
@pytest.mark.parametrize("repeat", [False, True])
def test_eight_bit_grey_is_exact(tmp_path, name, repeat):
    frames = np.random.default_rng(0).integers(0, 256, (12, 20, 31), np.uint8)
    if repeat:
        frames[4:7] = frames[3]
    write_video(tmp_path / name, frames, fps=25)
    clip = read_video(tmp_path / name)
    np.testing.assert_array_equal(np.rint(clip.frames * 255), frames)
    assert clip.color is None
    if name == "clip.gif":
        assert clip.fps == pytest.approx(25)


@pytest.mark.parametrize("name", ["clip.npz", "clip.npy", "clip.tif", "clip"])
def test_color_is_exact(tmp_path, name):
    frames = np.random.default_rng(0).integers(0, 256, (3, 20, 31, 3), np.uint8)
    write_video(tmp_path / name, frames)
    np.testing.assert_array_equal(read_video(tmp_path / name).color, frames)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif"])
def test_color_movies_keep_their_colors(tmp_path, name):
    frames = np.zeros((4, 32, 32, 3), np.uint8)
    frames[:, :, :16] = 200, 40, 60
    frames[:, :, 16:] = 30, 90, 180
    write_video(tmp_path / name, frames)
    color = read_video(tmp_path / name).color
    assert color is not None
    np.testing.assert_allclose(color[:, :, [4, 28]].astype(int), frames[:, :, [4, 28]], atol=6)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi"])
def test_movies_are_close_and_play_at_the_rate(tmp_path, suffix):
    frames = smooth_clip()
    write_video(tmp_path / f"clip{suffix}", frames, fps=1000 / 33.333)
    clip = read_video(tmp_path / f"clip{suffix}")
    assert psnr(clip.frames, frames) > 40
    assert clip.fps == pytest.approx(30, rel=1e-3)
    assert clip.color is None


def test_mp4_keeps_speckle_black_and_white(tmp_path):
    """Rayleigh speckle, the hardest content here: above 30 dB; black and white stay where they are."""
    rng = np.random.default_rng(0)
    frames = np.clip(rng.rayleigh(0.2, (6, 64, 64)), 0, 1).astype(np.float32)
    frames[:, :, :16], frames[:, :, 48:] = 0, 1
    write_video(tmp_path / "clip.mp4", frames)
    read = read_video(tmp_path / "clip.mp4").frames
    assert psnr(read, frames) > 30
    assert read[:, 4:-4, 4:12].max() < 0.01
    assert read[:, 4:-4, 52:60].min() > 0.99


def test_mp4_plays_everywhere(tmp_path):
    """H.264 where there is an encoder, 4:2:0, even sides."""
    write_video(tmp_path / "clip.mp4", smooth_clip(4, 33, 47))
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == ("h264" if "libx264" in av.codecs_available else "mpeg4")
        assert stream.pix_fmt == "yuv420p"
        assert (stream.height, stream.width, stream.frames) == (34, 48, 4)
    np.testing.assert_allclose(read_video(tmp_path / "clip.mp4").frames[:, :33, :47], smooth_clip(4, 33, 47), atol=0.05)


def test_mpeg4_where_h264_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    write_video(tmp_path / "clip.mp4", smooth_clip())
    assert psnr(read_video(tmp_path / "clip.mp4").frames, smooth_clip()) > 35


def test_other_libraries_read_what_is_written(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (11, 20, 30), np.uint8)
    write_video(tmp_path / "folder", frames)
    write_video(tmp_path / "clip.tif", frames)
    names = sorted(path.name for path in (tmp_path / "folder").iterdir())
    assert names[0] == "frame-01.png"
    np.testing.assert_array_equal([np.asarray(Image.open(tmp_path / "folder" / name)) for name in names], frames)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "clip.tif"), frames)
    with Image.open(tmp_path / "folder" / names[0]) as image:
        assert image.mode == "L"


def test_floats_are_rounded_and_clipped(tmp_path):
    frames = np.full((2, 16, 16), 0.5 / 255 + 1e-4, np.float32)
    frames[1, 0, :2] = -0.5, 1.5
    write_video(tmp_path / "folder", frames)
    stored = np.asarray(Image.open(tmp_path / "folder" / "frame-2.png"))
    assert (stored[0, 0], stored[0, 1], stored[5, 5]) == (0, 255, 1)


# ------------------------------------------------------------------------------------------------ atomic


def test_atomic_replaces_only_at_the_end(tmp_path):
    path = tmp_path / "new" / "report.json"
    with atomic(path) as temporary:
        assert temporary.suffix == ".json"
        assert temporary.parent == path.parent
        temporary.write_text("first")
        assert not path.exists()
    with atomic(path) as temporary:
        temporary.write_text("second")
        assert path.read_text() == "first"
    assert path.read_text() == "second"
    assert os.listdir(path.parent) == ["report.json"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ValueError, SystemExit])
def test_an_interrupted_write_leaves_nothing_new(tmp_path, interruption):
    (tmp_path / "a.txt").write_text("old")

    def write_half(name: str) -> None:
        with atomic(tmp_path / name) as temporary:
            (temporary / "half").mkdir(parents=True) if name == "folder" else temporary.write_text("half")
            raise interruption

    for name in ("a.txt", "folder"):
        with pytest.raises(interruption):
            write_half(name)
    assert os.listdir(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_files_get_the_usual_permissions(tmp_path):
    (tmp_path / "plain").touch()
    write_video(tmp_path / "clip.npy", smooth_clip())
    assert (tmp_path / "clip.npy").stat().st_mode == (tmp_path / "plain").stat().st_mode


# --------------------------------------------------------------------------------------------- bad input


def test_unwritable_places_are_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "keep.txt").touch()
    (tmp_path / "folder.mp4").mkdir()
    for path in (
        tmp_path / "file" / "clip.mp4",
        tmp_path / "full",
        tmp_path / "folder.mp4",
        Path("/proc/clip.npy") if Path("/proc").is_dir() else tmp_path / "file" / "clip.npy",
    ):
        with pytest.raises(InputError) as caught:
            write_video(path, smooth_clip())
        assert str(path) in str(caught.value)
        assert "choose another" in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.mp4", "full"]
    assert (tmp_path / "full" / "keep.txt").exists()


def test_a_full_disk_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no space left"), atomic(tmp_path / "a.bin"):
        raise OSError(28, "No space left on device")
    assert not os.listdir(tmp_path)


def test_unknown_suffix(tmp_path):
    with pytest.raises(InputError, match=r"names no known video format: use \.mp4"):
        write_video(tmp_path / "clip.xyz", smooth_clip())


@pytest.mark.parametrize(
    ("frames", "fps", "says"),
    [
        (np.zeros((4, 4)), 30, "`frames` must be"),
        (np.zeros((2, 4, 4, 2)), 30, "`frames` must be"),
        (np.zeros((0, 4, 4)), 30, "`frames` must be"),
        (np.zeros((2, 4, 4), int), 30, "`frames` must be uint8"),
        (np.full((2, 4, 4), np.nan), 30, "`frames` must be finite"),
        (np.full((2, 4, 4), 248.0), 30, "reaches 248: divide by 255"),
        (np.zeros((2, 4, 4)), 0, "`fps` must be positive"),
        (np.zeros((2, 4, 4)), np.inf, "`fps` must be positive"),
    ],
)
@pytest.mark.usefixtures("wrong_types")
def test_mistakes_are_value_errors(tmp_path, frames, fps, says):
    with pytest.raises(ValueError, match=says):
        write_video(tmp_path / "clip.mp4", frames, fps)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("seed", range(4))
def test_the_same_clip_is_the_same_bytes(tmp_path, seed):
    """Whatever the memory held before that the encoder uses; the sides are no multiple of its 16 pixels."""
    rng = np.random.default_rng(seed)
    frames = np.clip(rng.rayleigh(0.2, (5, 56, 144)), 0, 1)
    seen = set()
    for _ in range(10):
        _ = [rng.integers(0, 255, size, np.uint8) for size in rng.integers(1000, 3_000_000, 3)]
        write_video(tmp_path / "clip.mp4", frames, 20.0)
        seen.add((tmp_path / "clip.mp4").read_bytes())
    assert len(seen) == 1
