"""What stays as it is: burned-in text, coloured traces, Doppler colour; and the hue of everything else."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import Clip
from nuclear_diffusion.paper.separation import Separation
from nuclear_diffusion.restore.clip import dehaze_clip
from nuclear_diffusion.restore.color import drawn_in_color, recolored, tissue_shades
from nuclear_diffusion.restore.layout import Layout
from nuclear_diffusion.restore.methods import Rpca
from nuclear_diffusion.restore.run import LoadedPrior, dehaze_file, known_sector
from nuclear_diffusion.sector import find_strokes
from nuclear_diffusion.simulation import simulate

HEIGHT, WIDTH, FRAMES = 120, 160, 12
LUMA = np.array([0.299, 0.587, 0.114])
SEPIA = np.array([255, 200, 130]) / 255
EVERYWHERE = np.ones((HEIGHT, WIDTH), bool)


def tissue(seed: int = 0) -> np.ndarray:
    """Speckle that moves, 8 bits, in a sector."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    fan = (np.hypot(y - 3, x - WIDTH / 2) < 110) & (np.abs(np.arctan2(x - WIDTH / 2, y - 3)) < 0.65)
    speckle = np.clip(rng.rayleigh(60, (FRAMES, HEIGHT, WIDTH)) + 20, 0, 200)
    return np.where(fan, speckle, 0).astype(np.uint8)


def letters() -> np.ndarray:
    """Grey levels of text, marks and a trace in the sector; 0 elsewhere."""
    image = Image.new("L", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(image)
    draw.text((62, 60), "72 bpm", 255, font_size=10)
    for row in range(20, 100, 12):
        draw.line([(78, row), (82, row)], 240)
    draw.line([(60, 90), (75, 90), (80, 80), (85, 95), (100, 92)], 230)
    return np.asarray(image)


def clip_of(pixels: np.ndarray) -> Clip:
    luma = pixels if pixels.ndim == 3 else pixels @ LUMA
    color = None if pixels.ndim == 3 else pixels
    return Clip((luma / 255).astype(np.float32), 25.0, color, None, "made up", Path("made-up.npz"))


@pytest.fixture
def even_haze(monkeypatch):
    """A separation that finds a haze of 0.1 everywhere; yields the frames that it is given."""
    seen = []

    def separations(self, job):
        frames = np.concatenate(list(job.blocks))
        seen.append(frames)
        yield Separation(np.maximum(frames - 0.1, 0), np.full_like(frames, 0.1), np.zeros(1))  # pyright: ignore

    monkeypatch.setattr(Rpca, "separations", separations)
    return seen


# ---------------------------------------------------------------------------------------------- strokes


def test_burned_in_text_stays_bit_for_bit_and_is_hidden_from_the_prior(even_haze):
    text = letters()
    clip = clip_of(np.where(text > 0, text, tissue()).astype(np.uint8))
    dehazed = dehaze_clip(clip, Rpca(), size=128)
    solid = text > 120
    assert (dehazed.sector & solid).sum() > 150
    np.testing.assert_array_equal(dehazed.signal[:, solid], clip.frames[:, solid])
    plain = dehazed.sector & ~find_strokes(clip.frames)
    assert plain.sum() > 0.85 * dehazed.sector.sum()
    assert (clip.frames - dehazed.signal)[:, plain].mean() > 0.09
    assert clip.frames.max() > 0.99
    assert even_haze[0].max() < 0.9  # bicubic overshoot of speckle


def test_tissue_and_haze_that_hardly_changes_are_no_strokes():
    assert not find_strokes(tissue().astype(np.float32) / 255).any()
    rng = np.random.default_rng(0)
    haze = rng.rayleigh(0.25, (HEIGHT, WIDTH)) + 0.01 * rng.random((FRAMES, HEIGHT, WIDTH))
    assert not find_strokes(np.clip(haze, 0, 0.98).astype(np.float32)).any()
    clip = simulate(seed=1, frames=16)  # its haze is saturated in places, in all frames
    found = find_strokes((np.rint(255 * clip.hazy) / 255).astype(np.float32)) & clip.sector
    assert found.sum() < 0.002 * clip.sector.sum()


def test_text_in_a_lossy_file_is_found():
    """Compression changes it by some grey levels."""
    text, rng = letters(), np.random.default_rng(0)
    clip = np.where(text > 0, text, np.concatenate([tissue(0), tissue(1)])) / 255
    found = find_strokes(np.clip(clip + rng.uniform(-0.02, 0.02, clip.shape), 0, 1).astype(np.float32))
    solid = text > 200
    assert found[solid].mean() > 0.95
    assert found.sum() < 5 * solid.sum()


@pytest.mark.parametrize("frames", [1, 3])
def test_a_few_frames_have_no_strokes(frames):
    assert not find_strokes(np.repeat(letters()[None] / np.float32(255), frames, axis=0)).any()


def test_a_clip_that_stands_still_has_no_strokes():
    still = np.where(letters() > 0, letters(), tissue()[0])
    assert not find_strokes(np.repeat(still[None] / np.float32(255), FRAMES, axis=0)).any()


# ---------------------------------------------------------------------------------------------- colour


def with_flow(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """RGB with red and blue flow that changes over time, and where it is."""
    rng = np.random.default_rng(1)
    flow = np.zeros(pixels.shape[:3], bool)
    flow[:, 40:80, 60:100] = rng.random((FRAMES, 40, 40)) < 0.8
    speed = rng.integers(90, 256, flow.shape)
    hues = np.where(rng.random(flow.shape)[..., None] < 0.5, [1.0, 0.2, 0.0], [0.0, 0.3, 1.0])
    return np.where(flow[..., None], speed[..., None] * hues, pixels).astype(np.uint8), flow


@pytest.mark.parametrize("tint", [np.ones(3), SEPIA], ids=["grey", "sepia"])
def test_doppler_colour_stays_bit_for_bit_and_tissue_keeps_its_hue(even_haze, tint):
    pixels, flow = with_flow(np.rint(tissue()[..., None] * tint))
    clip = clip_of(pixels)
    dehazed = dehaze_clip(clip, Rpca(), size=128)
    assert dehazed.color is not None
    before = pixels / np.float32(255)
    np.testing.assert_array_equal(dehazed.color[flow], before[flow])
    np.testing.assert_array_equal(dehazed.signal[flow], clip.frames[flow])
    plain = dehazed.sector & ~flow & (clip.frames > 0.2)
    assert (clip.frames - dehazed.signal)[plain].mean() == pytest.approx(0.1, abs=0.01)
    ratio = dehazed.signal[plain] / clip.frames[plain]
    np.testing.assert_allclose(dehazed.color[plain], before[plain] * ratio[:, None], atol=1e-6)
    hidden = clip.frames[:, 40:80, 60:100].mean()
    assert even_haze[0].shape == (FRAMES, 128, 128)
    assert hidden != pytest.approx(even_haze[0][:, 45:80, 50:80].mean(), abs=0.01)


def test_a_coloured_trace_that_moves_stays_bit_for_bit(even_haze):
    pixels = np.repeat(tissue()[..., None], 3, axis=-1)
    traces = np.zeros(pixels.shape[:3], bool)
    for t, frame in enumerate(pixels):
        image = Image.new("L", (WIDTH, HEIGHT))
        ImageDraw.Draw(image).line([(50, 95), (70 + t, 95), (74 + t, 85), (78 + t, 95), (110, 95)], 255)
        traces[t] = np.asarray(image) > 0
        frame[traces[t]] = (0, 220, 60)
    dehazed = dehaze_clip(clip_of(pixels), Rpca(), size=128)
    assert dehazed.color is not None
    assert (traces & dehazed.sector).sum() > 500
    np.testing.assert_array_equal(dehazed.color[traces], pixels[traces] / np.float32(255))


@pytest.mark.parametrize("tint", [np.ones(3), SEPIA, np.array([0.6, 0.8, 1.0])], ids=["grey", "sepia", "blue"])
def test_the_shades_of_tissue_are_the_clips_tint(tint):
    pixels = np.rint(tissue()[..., None] * tint).astype(np.uint8)
    shades = tissue_shades(pixels, EVERYWHERE)
    colors = pixels.reshape(-1, 3)[::7].astype(float)
    np.testing.assert_allclose(shades[np.rint(colors @ LUMA).astype(int)], colors, atol=8)
    assert not drawn_in_color(pixels, shades).any()


def test_colour_flow_is_not_the_tint():
    pixels, flow = with_flow(np.repeat(tissue()[..., None], 3, axis=-1))
    shades = tissue_shades(pixels, EVERYWHERE)
    np.testing.assert_array_equal(shades, np.repeat(np.arange(256.0)[:, None], 3, axis=1))
    np.testing.assert_array_equal(drawn_in_color(pixels, shades), flow)


def test_recolouring_scales_the_channels_and_never_clips_a_hue():
    color = np.array([[[[200, 100, 50], [10, 20, 40], [0, 0, 0]]]], np.uint8)
    luma = (color @ LUMA / 255).astype(np.float32)
    np.testing.assert_array_equal(recolored(color, luma, luma), color / np.float32(255))
    half = recolored(color, luma, luma / 2)
    np.testing.assert_allclose(half, color / 510, rtol=1e-6)
    bright = recolored(color, luma, np.ones_like(luma))[0, 0, 0]
    np.testing.assert_allclose(bright, [1, 0.5, 0.25], rtol=1e-6)


# ---------------------------------------------------------------------------------------------- several images


def test_both_images_are_separated_and_nothing_else_changes(even_haze):
    pixels = np.concatenate([tissue(0), tissue(1)], axis=2)
    pixels[:, 2:6, 150:170] = 200  # a bar between them
    clip = clip_of(pixels)
    dehazed = dehaze_clip(clip, Rpca(), size=128)
    assert len(even_haze) == 2
    for half in (np.s_[:, :, :WIDTH], np.s_[:, :, WIDTH:]):
        assert (dehazed.background[half] > 0).mean() > 0.4
    np.testing.assert_array_equal(dehazed.signal[:, ~dehazed.sector], clip.frames[:, ~dehazed.sector])
    np.testing.assert_allclose(dehazed.background[:, dehazed.sector], 0.1, atol=1e-6)


def test_a_given_sector_is_used_and_must_fit(even_haze):
    clip, sector = clip_of(tissue()), np.zeros((HEIGHT, WIDTH), bool)
    sector[50:80, 60:100] = True
    dehazed = dehaze_clip(clip, Rpca(), size=64, sector=sector)
    np.testing.assert_array_equal(dehazed.sector, sector)
    np.testing.assert_array_equal(dehazed.signal[:, ~sector], clip.frames[:, ~sector])
    assert (dehazed.signal != clip.frames)[:, sector].mean() > 0.9
    with pytest.raises(InputError, match="50 x 60 pixels"):
        Layout.find(clip, 64, np.ones((50, 60), bool))


@pytest.mark.slow
def test_a_sector_is_taken_from_a_picture_a_clip_or_a_result(tmp_path, even_haze):
    np.save(tmp_path / "clip.npy", tissue())
    sector = np.zeros((HEIGHT, WIDTH), bool)
    sector[50:80, 60:100] = True
    Image.fromarray(255 * sector.astype(np.uint8)).save(tmp_path / "sector.png")
    assert known_sector(None, None) is None
    given = known_sector(tmp_path / "sector.png", None)
    np.testing.assert_array_equal(given, sector)

    def dehaze(sector: np.ndarray | None):
        return dehaze_file(tmp_path / "clip.npy", tmp_path / "result", Rpca(), LoadedPrior(None, None), sector=sector)

    assert not dehaze(given).skipped
    assert dehaze(given).skipped
    with pytest.raises(InputError, match="with another sector: add --overwrite"):
        dehaze(None)
    for result in (tmp_path / "result", tmp_path / "result" / "result.h5"):
        np.testing.assert_array_equal(known_sector(None, result), sector)
    found = known_sector(None, tmp_path / "clip.npy")
    assert found is not None
    assert found.sum() > 3 * sector.sum()
    with pytest.raises(InputError, match="remove one"):
        known_sector(tmp_path / "sector.png", tmp_path / "clip.npy")
