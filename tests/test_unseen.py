"""What training never sees: each kind is what it claims, and training never draws it."""

import dataclasses
import inspect

import numpy as np
import pytest
from scipy import signal

from nuclear_diffusion.simulation import (
    FAMILIES,
    UNSEEN_FAMILIES,
    UNSEEN_LOOKS,
    UNSEEN_VIEWS,
    VIEWS,
    bank,
    haze,
    lay_haze,
    overlay,
    simulate,
)
from nuclear_diffusion.simulation import clip as clips
from nuclear_diffusion.simulation.acoustics import Scanner
from nuclear_diffusion.simulation.looks import unlike
from nuclear_diffusion.simulation.unseen import (
    Breathing,
    FineGrain,
    GratingLobes,
    MovingReverberation,
    RibClutter,
    draw_unseen,
)


@pytest.fixture
def scanner():
    return Scanner.draw(np.random.default_rng(3), size=64)


@pytest.fixture
def tissue(scanner):
    rng = np.random.default_rng(0)
    white = rng.standard_normal((scanner.ranges, scanner.beams)) + 1j * rng.standard_normal(
        (scanner.ranges, scanner.beams)
    )
    return scanner.blur(white)


def alike(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(np.abs(a).ravel(), np.abs(b).ravel())[0, 1])


def width(field: np.ndarray, axis: int) -> float:
    """Root mean square frequency of `field` along `axis`, cycles a sample."""
    power = np.abs(np.fft.fft(field, axis=axis)) ** 2
    frequency = np.fft.fftfreq(field.shape[axis])
    along = power.sum(axis=1 - axis)
    return float(np.sqrt((along * frequency**2).sum() / along.sum()))


@pytest.mark.slow
def test_training_never_draws_what_is_unseen(monkeypatch):
    assert not set(FAMILIES) & set(UNSEEN_FAMILIES)
    assert not set(VIEWS) & set(UNSEEN_VIEWS)
    drawn = {family for seed in range(300) for family in haze.some_families(np.random.default_rng(seed))}
    assert drawn == set(FAMILIES)

    asked, hazes = [], []
    real, draw = simulate, haze.Haze.draw
    monkeypatch.setattr(bank, "simulate", lambda **given: asked.append(given) or real(**given))
    monkeypatch.setattr(overlay.Haze, "draw", lambda *given: hazes.append(draw(*given)) or hazes[-1])
    monkeypatch.setattr(clips, "make_anatomy", recorded := Recorder(clips.make_anatomy))
    for seed in range(4):
        bank._patient(seed, 1, 32)
    assert all(not given.keys() & {"view", "look"} and set(given["families"]) <= set(FAMILIES) for given in asked)
    assert all(0.5 <= given["haze"] <= 4 for given in asked)
    assert {call[0] for call in recorded.calls} <= set(VIEWS)
    lay_haze(np.full((1, 32, 32), 0.5, np.float32), np.ones((32, 32), bool), seed=0)
    assert len(hazes) == 5
    assert all(each.unseen == () for each in hazes)
    assert inspect.signature(simulate).parameters["families"].default == FAMILIES


class Recorder:
    def __init__(self, function):
        self.function, self.calls = function, []

    def __call__(self, *given):
        self.calls.append(given)
        return self.function(*given)


def test_unseen_families_leave_the_other_draws_as_they_were(scanner, tissue):
    seen = haze.Haze.draw(scanner, 1.0, np.random.default_rng(5))
    both = haze.Haze.draw(scanner, 1.0, np.random.default_rng(5), families=FAMILIES + UNSEEN_FAMILIES[:1])
    np.testing.assert_array_equal(seen.fields, both.fields)
    alone = haze.Haze.draw(scanner, 1.0, np.random.default_rng(5), families=UNSEEN_FAMILIES[:1])
    np.testing.assert_allclose(both.at(0.3, tissue) - seen.at(0.3, tissue), alone.at(0.3, tissue), atol=1e-3)
    rng, untouched = np.random.default_rng(5), np.random.default_rng(5)
    assert draw_unseen(FAMILIES, scanner, rng) == ()
    assert rng.random() == untouched.random()
    (ribs,) = draw_unseen(["rib clutter"], scanner, np.random.default_rng(7))
    beside = draw_unseen(UNSEEN_FAMILIES, scanner, np.random.default_rng(7))[UNSEEN_FAMILIES.index("rib clutter")]
    np.testing.assert_array_equal(ribs(0, tissue), beside(0, tissue))


@pytest.mark.slow
@pytest.mark.parametrize("family", UNSEEN_FAMILIES)
def test_strength_scales_the_clutter_and_none_is_the_clean_clip(family, scanner, tissue):
    clip = simulate(seed=31, frames=2, size=48, families=[family], haze=0.0)
    np.testing.assert_array_equal(clip.hazy, clip.clean)
    one, two = (haze.Haze.draw(scanner, 2.0, np.random.default_rng(1), s, [family]).at(0.2, tissue) for s in (1.0, 2.0))
    assert np.abs(one).max() > 0
    np.testing.assert_allclose(two, 2 * one, rtol=1e-4, atol=1e-6)
    # relative to the tissue: a louder acquisition has louder clutter
    loud = haze.Haze.draw(scanner, 6.0, np.random.default_rng(1), 1.0, [family]).at(0.2, 3 * tissue)
    np.testing.assert_allclose(loud, 3 * one, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("family", UNSEEN_FAMILIES)
def test_every_unseen_family_shows(family):
    clip = simulate(seed=31, frames=2, size=96, view="a4c", families=[family], overlay=False)
    assert np.abs(clip.hazy - clip.clean)[:, clip.sector].mean() > 0.03


def test_moving_reverberation_is_tissue_farther_away_that_moves_as_it_does(scanner, tissue):
    delayed = MovingReverberation(((1.0, 60.0, 0.5),), spread=0.01)(0.0, tissue)
    np.testing.assert_allclose(delayed[60:], 0.5 * tissue[:-60], rtol=1e-4, atol=1e-6)
    assert np.abs(delayed[:60]).max() == 0
    twice = MovingReverberation(((2.0, 0.0, 0.5),), spread=0.01)(0.0, tissue)
    np.testing.assert_allclose(twice[::2], 0.5 * tissue[: len(twice[::2])], rtol=1e-4, atol=1e-6)
    for seed in range(6):
        drawn = MovingReverberation.draw(scanner, np.random.default_rng(seed))
        factor, delay, _ = drawn.paths[0]
        before, after = drawn(0.0, tissue), drawn(0.0, np.roll(tissue, 3, axis=0))
        step = int(3 * factor)
        start = int(3 * factor + delay) + 2 * step
        moved, unmoved = before[start : -2 * step], after[start + step : -step]
        assert alike(moved, unmoved) > 0.95
        assert alike(before[start:], after[start:]) < 0.8
        source = np.arange(start, len(tissue))
        assert alike(before[start:], tissue[((source - delay) / factor).astype(int)]) > 0.4


def test_a_grating_lobe_is_a_displaced_copy(scanner, tissue):
    ghost = GratingLobes(((40, 0.5j),), smear=0.01)(0.0, tissue)
    np.testing.assert_allclose(ghost[:, 40:], 0.5j * tissue[:, :-40], rtol=1e-4, atol=1e-6)
    assert np.abs(ghost[:, :40]).max() == 0
    _, angles = scanner.grid
    for seed in range(6):
        drawn = GratingLobes.draw(scanner, np.random.default_rng(seed))
        (beams, _), (other, _) = drawn.ghosts
        assert other == -beams
        assert 0.28 < abs(beams) * (angles[0, 1] - angles[0, 0]) < 0.62
        shift = np.roll(tissue, beams, axis=1)
        seen = np.s_[:, beams:] if beams > 0 else np.s_[:, :beams]
        assert alike(drawn(0.0, tissue)[seen], shift[seen]) > 0.5
        assert alike(drawn(0.0, tissue)[seen], tissue[seen]) < 0.3


def test_rib_clutter_stays_still_and_is_narrow_combs(scanner, tissue):
    for seed in range(6):
        drawn = RibClutter.draw(scanner, np.random.default_rng(seed))
        np.testing.assert_array_equal(drawn(0.0, tissue), drawn(1.0, 0 * tissue))
        power = np.abs(drawn.field) ** 2
        lit = power.sum(0) > 0.05 * power.sum(0).max()
        assert lit.mean() < 0.75
        # along the brightest comb there is a tooth every 0.5 to 1 cm
        line = 20 * np.log10(np.abs(drawn.field[:240, power.sum(0).argmax()]))
        teeth = signal.find_peaks(line, prominence=2)[0] * scanner.grid[0][1, 0]
        assert len(teeth) > 6
        assert 0.45 < np.median(np.diff(teeth)) < 1.05


def test_fine_grain_is_finer_across_and_longer_along_the_beam_than_training_clutter(scanner):
    coarse = [haze.speckle(scanner, np.random.default_rng(seed)) for seed in range(12)]
    fine = [FineGrain.draw(scanner, np.random.default_rng(seed)) for seed in range(12)]
    assert min(width(each.texture, 1) for each in fine) > 1.2 * max(width(each, 1) for each in coarse)
    assert max(width(each.texture, 0) for each in fine) < 0.8 * min(width(each, 0) for each in coarse)
    first = fine[0]
    # one beam further after 1 / drift seconds, under the same cloud
    later = first(1 / first.drift, coarse[0]) / first.cloud
    np.testing.assert_allclose(later, np.roll(first.texture, 1, axis=1), atol=1e-3)


def test_breathing_travels_along_the_beam(scanner, tissue):
    motions = [Breathing.draw(scanner, np.random.default_rng(seed)) for seed in range(6)]
    for drawn in motions:
        times = np.linspace(0, drawn.period, 200)
        travels = np.array([drawn.travel(t) for t in times])
        step = scanner.grid[0][1, 0]
        assert np.ptp(travels) * step > 1.0  # cm
        assert abs(drawn.travel(0.5) - drawn.travel(0.0)) * step > 0.1  # also in a short clip
        # a moment at which it has travelled by whole samples
        whole = dataclasses.replace(drawn, amplitude=12.0, phase=np.pi / 2)
        moved = whole(0.0, tissue)
        np.testing.assert_allclose(np.abs(moved[12:]), np.abs(drawn.pattern[:-12]), rtol=1e-3, atol=1e-5)
    moments = np.stack([motions[-1](t, tissue).ravel() for t in np.linspace(0, 1, 24)])
    values = np.linalg.svd(moments, compute_uv=False)
    assert values[4] > 0.02 * values[0]  # no sum of a few static fields


def test_looks_lie_outside_what_training_draws():
    drawn = [Scanner.draw(np.random.default_rng(seed)) for seed in range(400)]

    def outside(scanner: Scanner, name: str) -> bool:
        values = [getattr(each, name) for each in drawn]
        return not min(values) <= getattr(scanner, name) <= max(values)

    traits = {
        "speckle reduction": ("half_angle", "despeckle", "curve", "fps"),
        "edge enhancement": ("half_angle", "wavelength", "axial", "lateral", "dynamic_range", "sharpen"),
        "low frequency": ("wavelength", "axial", "lateral", "dynamic_range", "fps"),
    }
    assert tuple(traits) == UNSEEN_LOOKS
    for look, names in traits.items():
        for seed in range(10):
            scanner = unlike(drawn[seed], look, np.random.default_rng(seed))
            assert all(outside(scanner, name) for name in names)
            columns = np.flatnonzero(scanner.sector.any(0))
            assert columns[0] > 0 or columns[-1] < scanner.size - 1  # the sector fits the image
            assert scanner.sector.any(1).sum() > 0.4 * scanner.size


@pytest.mark.slow
@pytest.mark.parametrize("look", UNSEEN_LOOKS)
def test_a_look_changes_the_picture_not_the_patient(look):
    usual = simulate(seed=41, frames=2, size=128, view="a4c", overlay=False)
    clip = simulate(seed=41, frames=2, size=128, view="a4c", overlay=False, look=look)
    assert clip.hazy.shape == clip.clean.shape == usual.clean.shape
    assert clip.clean.min() >= 0
    assert clip.clean.max() <= 1
    assert np.abs(clip.clean - usual.clean).max() > 0.2
    assert not (clip.septum & clip.ventricle).any()
    assert clip.clean[clip.septum].mean() > clip.clean[clip.ventricle].mean() + 0.05
    assert clip.hazy[clip.ventricle].mean() > clip.clean[clip.ventricle].mean()


def test_the_grey_map_and_the_filters_of_looks(scanner):
    plain = dataclasses.replace(scanner, smoothing=(0.0, 0.0), reject=0.0, gamma=1.0, gain=0.0)
    decibel = np.linspace(-plain.dynamic_range, 0, 65)[:, None] * np.ones((1, 9))
    shade = plain.compress(10 ** (decibel / 20), 1.0)
    curved = dataclasses.replace(plain, curve=6.0).compress(10 ** (decibel / 20), 1.0)
    np.testing.assert_allclose(curved[[0, 32, 64]], shade[[0, 32, 64]], atol=1e-6)  # black, mid-grey and white stay
    assert (np.diff(curved, axis=0) > 0).all()
    assert (curved[:32] <= shade[:32]).all()
    assert (curved[33:] >= shade[33:]).all()
    speck = 10 ** (np.where(np.arange(65) == 40, -10.0, -30.0)[:, None] * np.ones((1, 9)) / 20)
    assert np.ptp(dataclasses.replace(plain, despeckle=(5, 5)).compress(speck, 1.0)) < 1e-6
    sharp = dataclasses.replace(plain, sharpen=2.0).compress(speck, 1.0)
    assert sharp.max() - sharp.min() > np.ptp(plain.compress(speck, 1.0))
