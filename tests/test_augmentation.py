"""Batches for training, and what is made of a sample."""

import dataclasses

import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from nuclear_diffusion.priors.diffusion_prior import SEEN
from nuclear_diffusion.training import augmentation
from nuclear_diffusion.training import batches as batches_module
from nuclear_diffusion.training.batches import Batches


@pytest.mark.parametrize("halved", [False, True])
def test_batches_depend_on_the_seed_and_step_alone_and_keep_black_black(halved):
    frames = np.zeros((3, 1, 1, 64, 64), np.uint8)
    frames[..., 32:] = 200
    batches = Batches(frames, seed=1, batch=32, augment=True)
    first = batches.at(7, halved)
    np.testing.assert_array_equal(first, Batches(frames, 1, 32, True).at(7, halved))
    assert not np.array_equal(first, batches.at(8, halved))
    assert first.dtype == np.float32
    assert first.shape == ((4 * 32, 1, 32, 32) if halved else (32, 1, 64, 64))
    assert (first.min((1, 2, 3)) == 0).all()
    assert first.max() <= 1
    filled = (first > 0).mean((1, 2, 3))
    assert 0.3 < filled.min() <= filled.max() < 0.7  # half, moved by a sixteenth, scaled by a tenth, black at an edge
    gains = first.max((1, 2, 3))
    assert gains.min() < 0.75 < 0.85 < gains.max()


@pytest.mark.parametrize("shape", [(3, 8, 6), (2, 7, 9)])
def test_halved_frames_are_the_rounded_means_of_their_patches(shape):
    """By SciPy's uniform filter in double precision; a mean that ends on one half is rounded up."""
    planes = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    planes[0, :2, :4] = [[0, 1, 255, 255], [1, 0, 255, 253]]
    means = uniform_filter(planes.astype(float), 2, origin=-1, axes=(1, 2))[:, : shape[1] // 2 * 2 : 2, ::2]
    found = batches_module._halved(planes)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.floor(means[:, :, : shape[2] // 2] + 0.5))
    assert found[0, 0, 0] == 1
    assert found[0, 0, 1] == 255


def test_a_halved_sample_is_halved_before_anything_is_made_of_it():
    """Without augmentation it is the mean of the frame's patches, and of the planes over time as well."""
    clips = np.random.default_rng(0).integers(0, 256, (1, 1, 2, 16, 16), np.uint8)
    sample = 255 * Batches(clips, 0, 1, False).at(0, halved=True)[0]
    for plane, kind in ((0, 0), (1, 1), (2, 1), (3, 1), (4, 1), (6, 1)):
        np.testing.assert_allclose(sample[plane], batches_module._halved(clips[0, 0])[kind], atol=1e-4)


@pytest.mark.parametrize("halved", [False, True])
def test_clean_and_hazy_frames_go_through_one_augmentation(halved, monkeypatch):
    """A hazy clip that is the clean frame throughout: all it shows but the deviation over time is that frame."""
    for share in ("BRIGHT_SHARE", "GHOST_SHARE", "TEXTURE_SHARE", "FLOOR_SHARE", "ISLAND_SHARE"):
        monkeypatch.setattr(augmentation, share, 0.0)
    clean = np.random.default_rng(0).integers(0, 255, (5, 1, 1, 64, 64), np.uint8)
    clips = np.broadcast_to(clean, (5, 8, 2, 64, 64))
    first = Batches(clips, 1, 16, True).at(3, halved)
    assert first.shape == ((64, 1 + SEEN, 32, 32) if halved else (16, 1 + SEEN, 64, 64))
    for plane in (1, 2, 3, 4, 6):
        np.testing.assert_allclose(first[:, plane], first[:, 0], atol=1e-6)
    np.testing.assert_allclose(first[:, 5], 0, atol=1e-6)


def test_some_samples_lose_their_own_haze(monkeypatch):
    """Then the hazy frame is the clean one of its moment, and the clip over time a clean one."""
    for share in ("BRIGHT_SHARE", "GHOST_SHARE", "TEXTURE_SHARE", "FLOOR_SHARE", "ISLAND_SHARE"):
        monkeypatch.setattr(augmentation, share, 0.0)
    clips = np.zeros((4, 8, 2, 32, 32), np.uint8)
    clips[:, :, 0] = 60
    clips[:, :, 1] = 120
    monkeypatch.setattr(batches_module, "BARE_SHARE", 0.25)
    clean, hazy, *_, least = Batches(clips, 1, 256, True).at(0)[:, :, 16, 16].T
    bare = hazy == clean
    assert bare.mean() == pytest.approx(0.25, abs=0.1)
    np.testing.assert_allclose(least[bare], clean[bare], atol=1e-6)
    assert (hazy[~bare] > clean[~bare] + 0.02).all()


@pytest.mark.parametrize("bent", [False, True])
def test_a_grey_map_is_gain_and_gamma_or_bent_and_keeps_the_order(bent, monkeypatch):
    """Gain and gamma alone are a line in logarithms; black stays black."""
    for share in ("TONE_SHARE", "DIM_SHARE", "SMOOTH_SHARE", "UNEVEN_SHARE", "FLOOR_SHARE", "ISLAND_SHARE"):
        monkeypatch.setattr(augmentation, share, 0.0)
    monkeypatch.setattr(augmentation, "TONE_SHARE", float(bent))
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8), (5, 2, 256))
    strays = []
    for seed in range(20):
        grey = augmentation.augmented(ramp, np.zeros(4, int), 1, np.random.default_rng(seed))[0, 0]
        grey = grey[::-1] if grey[0] > grey[-1] else grey
        assert grey[0] == 0
        assert (np.diff(grey) >= 0).all()
        inside = (np.arange(256) > 10) & (grey < 1)
        logarithms = np.log(np.arange(256)[inside]), np.log(grey[inside])
        strays.append(np.abs(logarithms[1] - np.polyval(np.polyfit(*logarithms, 1), logarithms[0])).max())
    assert (np.array(strays) > 1e-3).mean() == (1 if bent else 0)


def test_brief_samples_show_little_or_nothing_of_time(monkeypatch):
    """A still is its own neighbour, its own mean and its own minimum; four moments in a row differ less than eight."""
    monkeypatch.setattr(batches_module, "BRIEF_SHARE", 1.0)
    for share in ("BRIGHT_SHARE", "GHOST_SHARE", "TEXTURE_SHARE", "FLOOR_SHARE", "ISLAND_SHARE"):
        monkeypatch.setattr(augmentation, share, 0.0)
    moments = np.arange(10, 90, 10, dtype=np.uint8)[:, None, None, None]
    clips = np.broadcast_to(moments, (1, 8, 2, 32, 32))
    brief = Batches(clips, 0, 128, True).at(0)[:, :, 16, 16]
    still = brief[:, 5] == 0
    assert still.mean() == pytest.approx(1 / 4, abs=0.12)
    for plane in (2, 3, 4, 6):
        np.testing.assert_allclose(brief[still, plane], brief[still, 1], atol=1e-6)
    monkeypatch.setattr(batches_module, "BRIEF_SHARE", 0.0)
    whole = Batches(clips, 0, 128, True).at(0)[:, 5, 16, 16]
    assert brief[:, 5].mean() < 0.6 * whole.mean()


def test_bright_clutter_lies_still_over_the_hazy_frames_alone():
    """It only brightens, also black cavities, stays black outside, and is the same sum in every frame.

    Where grey values add, all echoes gain alike; where amplitudes do, dim ones gain more grey.
    """
    hazy = np.random.default_rng(0).uniform(0.1, 0.6, (4, 64, 64)).astype(np.float32)
    hazy[:, :, :5] = 0
    hazy[:, 10:60, 10:60] = 0
    hazy[1] = hazy[0]
    sums, brightest = set(), 0.0
    for seed in range(8):
        cluttered = augmentation._with_bright_clutter(hazy, np.random.default_rng(seed))
        assert (cluttered >= hazy - 1e-6).all()
        assert (cluttered - hazy).max() > 0.2
        brightest = max(brightest, cluttered[:, 10:60, 10:60].max())
        np.testing.assert_array_equal(cluttered[:, :, :5], 0)
        np.testing.assert_array_equal(cluttered[0], cluttered[1])
        brighter, darker = cluttered[2] - hazy[2], cluttered[3] - hazy[3]
        lower = (hazy[2] < hazy[3] - 0.1) & (cluttered[3] < 1) & (brighter > 0.02) & (cluttered[2] < 1)
        difference = (brighter - darker)[lower]
        if difference.size:
            assert (difference > 0).all() or np.abs(difference).max() < 1e-6
            sums.add("amplitudes" if (difference > 1e-6).all() else "greys")
    assert brightest > 0.1
    assert sums == {"amplitudes", "greys"}


def test_clean_frames_alone_get_no_noise_and_no_smoothing(monkeypatch):
    """What is learned from them is p(X) of the frames as given: two grey values stay two, whatever the gain."""
    for share in ("SMOOTH_SHARE", "FLOOR_SHARE"):
        monkeypatch.setattr(augmentation, share, 1.0)
    monkeypatch.setattr(augmentation, "DIM_SHARE", 0.0)
    monkeypatch.setattr(
        batches_module, "moved", lambda planes, rng: planes
    )  # which brings in black, and greys between two
    frames = np.full((2, 1, 1, 32, 32), 50, np.uint8)
    frames[..., ::2] = 100
    for frame in Batches(frames, 0, 8, True).at(0):
        assert len(np.unique(frame)) == 2


def some_picture(planes: int) -> np.ndarray:
    """Planes of a picture that varies, with a black margin on its left."""
    hazy = np.random.default_rng(0).uniform(0.1, 0.6, (planes, 64, 64)).astype(np.float32)
    hazy[:, :, :5] = 0
    return hazy


def test_a_noise_floor_is_the_same_in_planes_of_one_moment_and_new_in_others():
    planes = np.where(some_picture(4) > 0, np.float32(0.2), np.float32(0))
    noisy = augmentation._with_noise_floor(planes, np.array([2, 2, 0, 1]), np.random.default_rng(0))
    np.testing.assert_array_equal(noisy[0], noisy[1])
    for other in (2, 3):
        added, elsewhere = ((noisy[k] - planes[k])[:, 5:].ravel() for k in (0, other))
        assert added.std() > 0.01
        assert abs(np.corrcoef(added, elsewhere)[0, 1]) < 0.5
    assert (noisy >= planes - 1e-6).all()
    np.testing.assert_array_equal(noisy[:, :, :5], 0)


def test_pieces_of_tissue_lie_in_clean_and_hazy_planes_alike_and_move():
    """At equal times they lie at the same place, clean or hazy, at others elsewhere, by one shift."""
    dark = np.full((64, 64), 0.05, np.float32)
    planes, times = np.stack([dark, dark, dark + 0.25, dark]), np.array([0.1, 0.1, 0.1, 0.6])
    moves, areas = 0, []
    for seed in range(12):
        found = augmentation._with_islands(planes, times, np.random.default_rng(seed))
        np.testing.assert_array_equal(found[0], found[1])
        clean, hazy, later = (found[k] - planes[k] for k in (0, 2, 3))
        assert min(clean.min(), hazy.min(), later.min()) > -1e-6
        assert clean.max() > 0.2
        assert (clean[hazy > 0.02] > 0.02).all()  # the hazy one gains where the clean one does, and nowhere else
        assert (clean < 0.01).mean() > 0.4  # most of the picture has none
        areas.append((clean > 0.1).sum())
        moves += np.abs(later - clean).max() > 0.1
        spectrum = np.fft.rfft2(later - later.mean()) * np.conj(np.fft.rfft2(clean - clean.mean()))
        shift = np.unravel_index(np.argmax(np.fft.irfft2(spectrum, (64, 64))), (64, 64))
        np.testing.assert_allclose(np.roll(clean, shift, (0, 1)), later, atol=1e-6)
    assert moves > 6
    assert 10 < np.median(areas) < 1200


def test_pieces_of_tissue_leave_black_black():
    planes = some_picture(4)
    found = augmentation._with_islands(planes, np.zeros(4), np.random.default_rng(0))
    np.testing.assert_array_equal(found[:, :, :5], 0)
    assert (found - planes).max() > 0.1


@pytest.mark.parametrize("decibels", [40, 80])
def test_amplitudes_add_as_numpy_adds_them_in_logarithms(decibels):
    """log(exp(beta a) + exp(beta b)) / beta in single precision, of clutter from far below black to above white."""
    rng = np.random.default_rng(0)
    planes = rng.uniform(1 / 255, 1, (2, 64, 64)).astype(np.float32)
    planes[:, :, :5] = 0
    clutter = np.stack([rng.uniform(-0.5, 0.9, (64, 64)), rng.uniform(-30, 1.6, (64, 64))])
    beta = decibels * np.log(10) / 20
    found = augmentation._laid_over(planes, iter(clutter), beta)
    assert found.dtype == np.float32
    expected = np.clip(np.logaddexp(beta * planes.astype(float), beta * clutter) / beta, 0, 1)
    np.testing.assert_allclose(found[:, :, 5:], expected[:, :, 5:], atol=1e-5)
    np.testing.assert_array_equal(found[:, :, :5], 0)


def test_a_ghost_is_a_copy_in_another_place():
    """Of a dot on a dim ground: every frame gains one more dot, at one place or on one way, and nothing gets darker."""
    planes = np.full((3, 64, 64), 0.1, np.float32)
    planes[:, 30:33, 30:33] = 1.0
    seen = 0
    for seed in range(20):
        haunted = augmentation._with_ghost(planes, np.array([0.0, 0.3, 0.6]), np.random.default_rng(seed))
        assert (haunted >= planes - 1e-6).all()
        gain = (haunted - planes).reshape(3, -1)
        assert haunted.max() <= 1
        seen += bool((gain.max(1) > 0.2).all())
    assert seen > 5  # elsewhere it fades away or leaves the picture


def test_some_ghosts_are_turned():
    """A standing bar's copies stand too, or lean, and where no copy reaches there is nothing."""
    bar = np.full((1, 96, 96), 0.1, np.float32)
    bar[:, 24:72, 46:50] = 1.0
    leaning, free = [], 0
    for seed in range(40):
        (placed,) = augmentation._displaced(bar, np.zeros((1, 2)), np.random.default_rng(seed))
        rows, columns = np.nonzero(placed > 0.6)
        if len(rows) > 60:  # most of it is in the picture
            leaning.append(abs(np.polyfit(rows, columns, 1)[0]))
        assert placed.min() >= -1
        free += placed.min() == -1
    assert free > 30  # only one that is stretched may fill the picture
    leaning = np.array(leaning)
    assert (leaning < 0.02).mean() > 0.25
    assert (leaning > 0.15).mean() > 0.25


def test_a_texture_brightens_a_part_of_the_picture():
    planes = some_picture(3)
    planes[1:] = planes[0]
    kinds = set()
    for seed in range(20):
        hazy = augmentation._with_texture(planes, np.array([0.0, 0.3, 0.6]), np.random.default_rng(seed))
        assert (hazy >= planes - 1e-6).all()
        np.testing.assert_array_equal(hazy[:, :, :5], 0)
        assert (hazy - planes).max() > 0.02
        kinds.add(bool(np.array_equal(hazy[0], hazy[1])))
    assert kinds == {True, False}  # still ones and moving ones


def test_beam_space_is_range_and_angle():
    """Down the middle the range is the row; what lies on one beam or one arc has one angle or one range."""
    range_, angle = augmentation._beams((128, 128))
    np.testing.assert_allclose(range_[:, 64], np.arange(128), atol=1e-4)
    np.testing.assert_allclose(angle[:, 64], 64, atol=1e-4)
    assert range_[60, 64 + 45] == pytest.approx(75, abs=0.1)  # 3, 4, 5
    far, near = angle[100, 64 + 50], angle[50, 64 + 25]
    assert far == pytest.approx(near, abs=0.6)
    assert far == pytest.approx(64 + 128 * np.arctan(0.5) / (np.pi / 2), abs=0.6)
    assert min(range_.min(), angle.min()) >= 0
    assert max(range_.max(), angle.max()) <= 127


def test_a_dimmed_near_field_is_darker_at_the_probe_in_all_planes_alike():
    planes = np.full((3, 64, 64), 0.9, np.float32)
    planes[:, 40:, :10] = 0
    dimmed = augmentation._dim_near_field(planes, np.random.default_rng(1))
    np.testing.assert_array_equal(dimmed[0], dimmed[2])
    assert dimmed[0, 0, 32] < 0.85
    assert dimmed[0, 60, 32] > dimmed[0, 20, 32] > dimmed[0, 0, 32]
    np.testing.assert_array_equal(dimmed[:, 40:, :10], 0)


def test_uneven_gain_is_a_smooth_shift_in_all_planes_alike():
    planes = np.random.default_rng(0).uniform(0.45, 0.6, (3, 64, 64)).astype(np.float32)
    planes[:, 40:, :10] = 0
    darker = brighter = 0
    for seed in range(10):
        uneven = augmentation._with_uneven_gain(planes, np.random.default_rng(seed))
        np.testing.assert_array_equal(uneven[:, 40:, :10], 0)
        shift = uneven - planes
        free = (uneven > 0.01).all(0) & (uneven < 1).all(0) & (planes > 0).all(0)
        np.testing.assert_allclose(shift[0][free], shift[2][free], atol=1e-6)
        inside = shift[0, :40, 10:]
        assert np.abs(np.diff(inside, axis=0)).max() < 0.1
        darker += inside.min() < -0.05
        brighter += inside.max() > 0.02
    assert darker > 3
    assert brighter > 1


def test_frames_are_turned_with_their_hazy_ones_and_stay_upright_alone():
    """A bar across the middle: the angle of its axis, all planes alike; clean frames alone are at most scaled."""
    bar = np.zeros((1, 96, 96), np.uint8)
    bar[:, 44:52, 20:76] = 200

    def axis(frame: np.ndarray) -> float:
        rows, columns = np.nonzero(frame > 100)
        return np.rad2deg(np.arctan(np.polyfit(columns, rows, 1)[0]))

    pairs, alone = [], []
    for seed in range(40):
        moved = augmentation.moved(np.repeat(bar, 3, 0), np.random.default_rng(seed))
        np.testing.assert_array_equal(moved[0], moved[2])
        pairs.append(axis(moved[0]))
        alone.append(axis(augmentation.moved(bar, np.random.default_rng(seed))[0]))
    assert max(map(abs, alone)) < 0.5
    assert 10 < np.max(np.abs(pairs)) < 30
    assert min(pairs) < -5 < 5 < max(pairs)
    assert 0.3 < np.mean(np.abs(pairs) < 0.5) < 0.8


def test_some_hearts_are_bent_all_planes_alike(monkeypatch):
    """A straight bar: how far it strays from a line, in pixels; a mesh that is not bent moves nothing."""
    bar = np.zeros((1, 96, 96), np.uint8)
    bar[:, 44:52, 12:84] = 200

    def strays(bend: float) -> np.ndarray:
        monkeypatch.setattr(augmentation, "BEND", bend)
        found = []
        for seed in range(40):
            moved = augmentation.moved(np.repeat(bar, 3, 0), np.random.default_rng(seed))
            np.testing.assert_array_equal(moved[0], moved[2])
            rows, columns = np.nonzero(moved[0] > 100)
            middles = np.bincount(columns, rows)[columns] / np.bincount(columns)[columns]
            found.append(np.abs(middles - np.polyval(np.polyfit(columns, middles, 1), columns)).mean())
        return np.array(found)

    assert strays(1e-9).max() < 0.3  # the rounding of its edges
    bent = strays(0.07)
    assert 0.05 < (bent > 0.3).mean() < 0.4
    assert bent.max() < 10


def test_a_sample_is_a_moment_and_its_clip_over_time():
    """Hazy frames 10, 20, ... 80 of 255, clean ones 1 to 8: which moment it is shows in both alike."""
    hazy = np.arange(10, 90, 10, dtype=np.uint8)
    clip = np.broadcast_to(np.stack([hazy // 10, hazy], 1)[None, :, :, None, None], (2, 8, 2, 8, 8))
    batches = Batches(clip, seed=0, batch=64, augment=False)
    clean, seen, before, after, mean, deviation, least = (255 * batches.at(0)[:, :, 0, 0]).T
    np.testing.assert_allclose(seen, 10 * clean, rtol=1e-5)
    np.testing.assert_allclose(before, np.maximum(seen - 10, 10), rtol=1e-5)
    np.testing.assert_allclose(after, np.minimum(seen + 10, 80), rtol=1e-5)
    assert len(np.unique(clean.round())) == 8
    np.testing.assert_allclose(mean, 45, rtol=1e-5)
    np.testing.assert_allclose(deviation, hazy.std(), rtol=1e-5)
    np.testing.assert_allclose(least, 10, rtol=1e-5)
    augmented = 255 * dataclasses.replace(batches, augment=True).at(0)[:, 6, 4, 4]
    assert len(np.unique(augmented.round())) > 2  # of some of the frames only, and with a gain
