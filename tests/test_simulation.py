"""The simulator against the physics it claims: Rayleigh speckle, moving scatterers, additive complex clutter."""

import dataclasses
import json
import types

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import stats

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.simulation import UNSEEN_VIEWS, VIEWS, lay_haze, patient_seed, simulate, write_dataset
from nuclear_diffusion.simulation.acoustics import Scanner
from nuclear_diffusion.simulation.anatomy import make_anatomy
from nuclear_diffusion.simulation.clip import _overlay
from nuclear_diffusion.simulation.haze import Haze
from nuclear_diffusion.simulation.motion import Motion, contraction, opening


@pytest.fixture
def scanner():
    return Scanner.draw(np.random.default_rng(3), size=64)


def homogeneous(scanner: Scanner, rng: np.random.Generator, count: int = 150_000) -> tuple[np.ndarray, np.ndarray]:
    r = rng.uniform(0, scanner.depth * 1.1, count)
    a = rng.uniform(-1.2, 1.2, count) * scanner.half_angle
    points = np.stack([r * np.sin(a), r * np.cos(a)], axis=1)
    return points, np.exp(2j * np.pi * rng.random(count))


def test_homogeneous_tissue_has_rayleigh_speckle(scanner):
    rng = np.random.default_rng(0)
    envelope = np.abs(scanner.blur(scanner.receive(*homogeneous(scanner, rng))))
    # around the focus, where the beam and so the mean level is constant; samples farther apart than speckle
    focus = int(scanner.focus / scanner.depth * scanner.ranges)
    samples = envelope[focus - 60 : focus + 60 : 10, 10:-10:12].ravel()
    ratio = samples.mean() / samples.std()
    assert ratio == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), abs=0.25)  # 1.91 for Rayleigh
    scale = np.sqrt(np.mean(samples**2) / 2)
    assert stats.kstest(samples, stats.rayleigh(scale=scale).cdf).pvalue > 0.01


def test_too_few_scatterers_are_not_rayleigh(scanner):
    """The check above can fail: sparse scatterers are brighter and darker than Rayleigh's law allows."""
    rng = np.random.default_rng(0)
    envelope = np.abs(scanner.blur(scanner.receive(*homogeneous(scanner, rng, 3_000))))
    samples = envelope[60:-60:3, 10:-10:3].ravel()
    assert samples.mean() / samples.std() < 1.6


def test_point_spread_function_has_the_stated_widths(scanner):
    scanner = dataclasses.replace(scanner, focus=8.0, axial=0.08)
    field = np.zeros((scanner.ranges, scanner.beams), np.complex64)
    row, column = int(8.0 / (scanner.depth * 1.02) * (scanner.ranges - 1)), scanner.beams // 2
    field[row, column] = 1
    power = np.abs(scanner.blur(field))  # a Gaussian amplitude
    ranges, angles = scanner.grid

    def spread(weight, at):
        mean = (weight * at).sum() / weight.sum()
        return np.sqrt((weight * (at - mean) ** 2).sum() / weight.sum())

    assert spread(power[:, column], ranges[:, 0]) == pytest.approx(0.08, rel=0.05)
    assert spread(power[row], angles[0]) == pytest.approx(scanner.lateral, rel=0.05)


def test_speckle_moves_with_the_tissue(scanner):
    """A shift of all scatterers in range by whole samples shifts the envelope and nothing else."""
    rng = np.random.default_rng(1)
    points, amplitude = homogeneous(scanner, rng)
    r = np.hypot(points[:, 0], points[:, 1])
    ranges, _ = scanner.grid
    shift = 5 * (ranges[1, 0] - ranges[0, 0])
    moved = points * ((r + shift) / r)[:, None]
    scanner = dataclasses.replace(scanner, lateral=scanner.lateral, focus=1e9)  # the same beam at every depth
    before = np.abs(scanner.blur(scanner.receive(points, amplitude)))
    after = np.abs(scanner.blur(scanner.receive(moved, amplitude)))
    a, b = before[100:300, 20:-20], after[105:305, 20:-20]
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.999
    unmoved = after[100:300, 20:-20]
    assert np.corrcoef(a.ravel(), unmoved.ravel())[0, 1] < 0.5


def test_clutter_adds_to_the_complex_signal_and_is_low_rank_in_time(scanner):
    rng = np.random.default_rng(2)
    tissue = np.zeros((scanner.ranges, scanner.beams), np.complex64)
    clutter = Haze.draw(scanner, 1.0, rng)
    clips = np.stack([clutter.at(t, tissue).ravel() for t in np.linspace(0, 1, 24)])
    values = np.linalg.svd(clips, compute_uv=False)
    components = len(clutter.fields)
    assert values[components] < 1e-4 * values[0]
    doubled = Haze.draw(scanner, 1.0, np.random.default_rng(2), strength=2.0)
    single = Haze.draw(scanner, 1.0, np.random.default_rng(2), strength=1.0)
    np.testing.assert_allclose(doubled.at(0.3, tissue), 2 * single.at(0.3, tissue), rtol=1e-4, atol=1e-6)


def test_drift_moves_the_level_of_each_part_by_the_stated_decibels(scanner):
    still = Haze.draw(scanner, 1.0, np.random.default_rng(0), families=["near field"])
    still = dataclasses.replace(still, depths=np.zeros_like(still.depths), phases=np.zeros_like(still.phases))
    drifting = dataclasses.replace(still, drift=(6.0, 8.0))
    tissue = np.zeros((scanner.ranges, scanner.beams), np.complex64)
    for time, decibels in ((0.0, 0.0), (2.0, 6.0), (4.0, 0.0), (6.0, -6.0), (8.0, 0.0)):
        expected = 10 ** (decibels / 20) * still.at(time, tissue)
        np.testing.assert_allclose(drifting.at(time, tissue), expected, rtol=1e-5, atol=1e-7)


def test_log_compression_spans_the_dynamic_range(scanner):
    plain = dataclasses.replace(scanner, smoothing=(0.0, 0.0), reject=0.0, gamma=1.0, gain=0.0)
    decibel = np.linspace(-plain.dynamic_range - 10, 10, 64)[:, None]
    shade = plain.compress(7.0 * 10 ** (decibel / 20), 7.0)
    np.testing.assert_allclose(shade, np.clip(1 + decibel / plain.dynamic_range, 0, 1), atol=1e-5)


def test_scan_conversion_keeps_positions():
    scanner = Scanner.draw(np.random.default_rng(5))
    ranges, angles = scanner.grid
    target = np.array([1.0, 7.0])
    r, a = np.hypot(*target), np.arctan2(*target)
    shade = np.exp(-(((ranges - r) / 0.15) ** 2) - ((angles - a) / 0.02) ** 2)
    image = scanner.scan_convert(shade)
    row, column = np.unravel_index(image.argmax(), image.shape)
    np.testing.assert_allclose([column, row], scanner.to_image(target[None])[0], atol=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("view", VIEWS + UNSEEN_VIEWS)
def test_every_view_has_dark_cavity_and_bright_septum(view):
    found = 0
    for index in range(4):
        clip = simulate(seed=patient_seed("train", 900_000 + index), frames=1, view=view, overlay=False)
        assert clip.view == view
        assert clip.hazy.shape == clip.clean.shape == clip.septum.shape == (1, 256, 256)
        assert clip.hazy.dtype == clip.clean.dtype == np.float32
        assert clip.hazy.min() >= 0
        assert clip.hazy.max() <= 1
        assert not (clip.septum & clip.ventricle).any()
        assert not (clip.septum[0] & ~clip.sector).any()
        assert clip.clean[:, ~clip.sector].max() == 0
        if clip.septum.sum() < 50 or clip.ventricle.sum() < 50:
            continue
        found += 1
        assert clip.clean[clip.septum].mean() > clip.clean[clip.ventricle].mean() + 0.05
        assert clip.hazy[clip.ventricle].mean() >= clip.clean[clip.ventricle].mean() - 0.01
    assert found >= 3


@pytest.mark.slow
def test_same_seed_same_bits_and_no_haze_is_clean():
    first = simulate(seed=11, frames=2, size=64)
    second = simulate(seed=11, frames=2, size=64)
    np.testing.assert_array_equal(first.hazy, second.hazy)
    assert np.abs(first.hazy - first.clean).max() > 0.05
    clear = simulate(seed=11, frames=2, size=64, haze=0.0)
    np.testing.assert_array_equal(clear.hazy, clear.clean)
    assert np.abs(simulate(seed=12, frames=2, size=64).clean - first.clean).max() > 0.05


def test_the_heart_beats():
    """The cavity is smallest at end-systole, and the cycle repeats."""
    rng = np.random.default_rng(4)
    anatomy = make_anatomy("a4c", rng)
    motion = dataclasses.replace(Motion.draw("a4c", rng), rate=60.0, phase=0.0, breathing=(0.0, 0.0, 3.0))
    modes = motion.modes(anatomy, anatomy.cavity)

    def area(time):
        x, z = motion.move(anatomy.cavity, modes, time).T
        return 0.5 * abs(np.dot(x, np.roll(z, 1)) - np.dot(z, np.roll(x, 1)))

    areas = [area(t) for t in np.linspace(0, 0.95, 20)]
    assert 0.3 <= np.argmin(areas) / 20 <= 0.45
    assert min(areas) < 0.85 * areas[0]
    assert area(0.2) == pytest.approx(area(1.2), rel=1e-9)
    phase = np.linspace(0, 1, 200)
    assert contraction(phase).min() >= -1e-9
    assert contraction(phase).max() == pytest.approx(1)
    both_open = opening(phase, True) * opening(phase, False)
    assert both_open.max() < 0.05  # mitral and aortic valve are never open together


def test_splits_never_share_a_patient():
    assert patient_seed("train", 999_999) < patient_seed("development", 0)
    assert patient_seed("development", 999_999) < patient_seed("test", 0)
    with pytest.raises(ValueError, match="split"):
        patient_seed("validation", 0)
    with pytest.raises(ValueError, match="index"):
        patient_seed("train", 1_000_000)


@pytest.mark.parametrize(
    "setting",
    [
        {"frames": 0},
        {"size": 4},
        {"haze": -1.0},
        {"drift": (-1.0, 5.0)},
        {"view": "suprasternal"},
        {"look": "dim"},
        {"families": ["fog"]},
        {"findings": ["stone"]},
    ],
)
@pytest.mark.usefixtures("wrong_types")
def test_impossible_settings_are_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        simulate(seed=0, **setting)


@pytest.mark.slow
def test_dataset_has_the_challenge_layout_and_resumes(tmp_path):
    write_dataset(tmp_path, 2, seed=5, frames=12, size=64)
    names = {f"patient-{p}-4C-frame-{f}.png" for p in (1, 2) for f in range(1, 13)}
    for folder in ("noisy", "truth", "truth_roi", "clean"):
        assert {path.name for path in (tmp_path / folder).iterdir()} == names
    masked = {f"patient-{p}-4C-frame-{f}.png" for p in (1, 2) for f in (1, 11)}
    assert {path.name for path in (tmp_path / "noisy_roi").iterdir()} == masked
    clip = simulate(seed=6, frames=12, size=64)
    name = "patient-2-4C-frame-11.png"
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "noisy" / name)), np.rint(clip.hazy[10] * 255))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "truth" / name)), np.rint(clip.clean[10] * 255))
    mask = np.asarray(Image.open(tmp_path / "noisy_roi" / name))
    np.testing.assert_array_equal(mask == 255, clip.septum[10])
    np.testing.assert_array_equal(mask == 128, clip.ventricle[10] & ~clip.septum[10])
    assert json.loads((tmp_path / "patients" / "patient-2.json").read_text())["fps"] == clip.fps

    untouched = tmp_path / "noisy" / "patient-1-4C-frame-1.png"
    missing = tmp_path / "patients" / "patient-2.json"
    stamp = untouched.stat().st_mtime_ns
    missing.unlink()
    write_dataset(tmp_path, 2, seed=5, frames=12, size=64)
    assert missing.is_file()
    assert untouched.stat().st_mtime_ns == stamp
    with pytest.raises(InputError, match="--seed 5 --frames 12 --size 64"):
        write_dataset(tmp_path, 1, seed=5, frames=11, size=64)
    assert untouched.stat().st_mtime_ns == stamp


@pytest.mark.slow
def test_haze_over_clean_frames_fills_the_cavity_and_leaves_the_rest_of_the_screen():
    clip = simulate(seed=21, frames=3, size=128, overlay=True)
    raised = []
    for seed in range(12):
        hazy = lay_haze(clip.clean, clip.sector, seed=seed)
        assert hazy.dtype == np.float32
        assert hazy.min() >= 0
        assert hazy.max() <= 1
        np.testing.assert_array_equal(hazy[:, ~clip.sector], clip.clean[:, ~clip.sector])
        raised.append(hazy[clip.ventricle].mean() - clip.clean[clip.ventricle].mean())
        # mostly static: what was added in the dark cavity barely changes from frame to frame
        added = (hazy - clip.clean)[:, clip.ventricle.all(0)]
        assert np.abs(np.diff(added, axis=0)).mean() < 0.5 * added.mean() + 0.02
    assert min(raised) >= 0
    assert np.mean(raised) > 0.05
    assert min(raised) < 0.02  # some clips have bright patches only, as the simulator's own
    one, same = (lay_haze(clip.clean, clip.sector, seed=11) for _ in range(2))
    np.testing.assert_array_equal(one, same)


@pytest.mark.usefixtures("wrong_types")
def test_haze_needs_a_sector_of_the_frames_shape():
    with pytest.raises(ValueError, match="frames"):
        lay_haze(np.zeros((3, 32, 32), np.float32), np.ones((31, 32), bool), seed=0)


@pytest.mark.usefixtures("wrong_types")
@pytest.mark.parametrize("size", [64, 96, 256])
def test_the_heart_rate_is_burned_in_whole(size):
    rng, motion = np.random.default_rng(0), types.SimpleNamespace(phase=0.0, rate=118.0)
    burned = _overlay(types.SimpleNamespace(size=size), motion, rng)  # pyright: ignore[reportArgumentType]
    columns = np.flatnonzero(burned[int(size * 0.03) + 1 : size // 2].any(axis=0))  # below the probe mark
    width = ImageDraw.Draw(Image.new("L", (1, 1))).textlength("118 bpm")
    assert columns[-1] < size - 1
    assert np.ptp(columns) >= width - 4  # without the space that letters have at their sides
