"""Findings: each is what it claims, belongs to the clip it should, and leaves everything else as it was."""

import functools
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, label

from nuclear_diffusion.simulation import FINDINGS, VIEWS, bank, patient_seed, simulate
from nuclear_diffusion.simulation.acoustics import Scanner
from nuclear_diffusion.simulation.anatomy import EXTENT, SPACING, Anatomy, make_anatomy
from nuclear_diffusion.simulation.findings import Findings, NearHaze, Solid, _amplitude, some_findings
from nuclear_diffusion.simulation.motion import Motion
from nuclear_diffusion.simulation.tissue import SCATTERERS

HAZE = ("near haze",)
SEEDS = (2, 7, 8, 14)


class Patient(NamedTuple):
    anatomy: Anatomy
    scanner: Scanner
    motion: Motion
    seed: int

    def findings(self, *names: str) -> Findings:
        return Findings.draw(names, self.seed, self.anatomy, self.scanner, self.motion, frames=12)


def patient(seed: int, view: str = "a4c", size: int = 128) -> Patient:
    """What `simulate` draws before the findings."""
    rng = np.random.default_rng(seed)
    rng.choice(VIEWS, p=(0.55, 0.15, 0.15, 0.15))
    anatomy = make_anatomy(view, rng)
    return Patient(anatomy, Scanner.draw(rng, size), Motion.draw(view, rng), seed)


@functools.cache
def clip(seed: int, *names: str, times: tuple[float, ...] | None = (0.0, 0.2), **settings):
    """A patient with findings `names`; the same for all tests that ask for it."""
    settings = {"size": 96, "view": "a4c", "overlay": False, **settings}
    return simulate(seed=seed, findings=names, times=None if times is None else np.array(times), **settings)


def rest_grid() -> np.ndarray:
    (x0, x1), (z0, z1) = EXTENT
    return np.stack(np.meshgrid(np.arange(x0, x1, SPACING), np.arange(z0, z1, SPACING)), -1)


def decibels(ratio) -> np.ndarray:
    return 20 * np.log10(ratio)


def test_no_findings_are_the_clip_without_them():
    plain = simulate(seed=3, frames=2, size=48)
    none = simulate(seed=3, frames=2, size=48, findings=())
    for a, b in zip(plain, none, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(FINDINGS) - {"still", "stutter"}))
def test_a_finding_changes_pixels_of_its_patient_only(name):
    plain, found = clip(2), clip(2, name)
    assert (found.view, found.fps) == (plain.view, plain.fps)
    np.testing.assert_array_equal(found.septum, plain.septum)
    np.testing.assert_array_equal(found.sector, plain.sector)
    assert np.abs(found.hazy - plain.hazy).max() > 0.1
    if name in HAZE:
        np.testing.assert_array_equal(found.clean, plain.clean)
    else:
        assert np.abs(found.clean - plain.clean).max() > 0.1


def test_without_haze_the_hazy_clip_is_the_clean_one():
    everything = clip(2, *FINDINGS, haze=0.0)
    np.testing.assert_array_equal(everything.hazy, everything.clean)


@pytest.mark.slow
def test_one_finding_less_leaves_the_others_as_they_were():
    who = patient(5)
    every, stutter = who.findings(*FINDINGS), who.findings("stutter").held
    for left_out in FINDINGS:
        rest = who.findings(*(name for name in FINDINGS if name != left_out))
        np.testing.assert_array_equal(rest.held, stutter if left_out == "still" else every.held)
        if left_out != "low gain":
            assert rest.shade == every.shade
        if left_out != "near haze":
            assert rest.near is not None and every.near is not None  # noqa: PT018
            np.testing.assert_array_equal(rest.near.fields, every.near.fields)
        if left_out != "weak far field":
            np.testing.assert_array_equal(rest.gain, every.gain)
            assert rest.scanner.noise == every.scanner.noise
        if left_out != "wide range":
            assert rest.scanner.dynamic_range == every.scanner.dynamic_range
        kept = [solid for solid in every.solids if any(_same(solid, other) for other in rest.solids)]
        gone = {"calcium", "lead", "prosthetic valve"} & {left_out}
        assert len(kept) == len(rest.solids)
        assert (len(kept) < len(every.solids)) == bool(gone)
    # the order of the names does not matter
    np.testing.assert_array_equal(who.findings(*FINDINGS[::-1]).anatomy.decibel, every.anatomy.decibel)


def _same(one: Solid, other: Solid) -> bool:
    return np.array_equal(one.amplitude, other.amplitude) and np.array_equal(one.at(0.3), other.at(0.3))


@pytest.mark.slow
@pytest.mark.parametrize("view", VIEWS)
def test_muscles_spring_from_the_walls_and_are_as_bright_as_they(view):
    raised_area = []
    for seed in range(8):
        who = patient(seed, view)
        before, after = who.anatomy.decibel, who.findings("muscles").anatomy.decibel
        assert (after >= before).all()
        blood = before < -27
        inside = np.logical_or.reduce([c.radius(rest_grid()) < 1.2 for c in who.anatomy.chambers])
        muscle = blood & inside & (after > -12)
        raised_area.append(muscle.sum() * SPACING**2)
        if muscle.any():
            assert -8 < np.median(after[muscle]) < 6
        # nothing floats in the blood
        parts = np.empty(muscle.shape, np.int32)
        label(muscle, np.ones((3, 3)), parts)
        large = [k for k in range(1, parts.max() + 1) if (parts == k).sum() * SPACING**2 > 0.1]
        grown = [np.logical_and(binary_dilation(parts == k, iterations=4), ~blood).any() for k in large]
        assert all(grown)
    # one papillary muscle covers about 1 cm2
    assert 0.8 < np.mean(raised_area) < 9


@pytest.mark.slow
def test_surroundings_leave_no_gap_around_the_heart_and_the_blood_black():
    for seed in range(6):
        who = patient(seed)
        before, after = who.anatomy.decibel, who.findings("surroundings").anatomy.decibel
        radius = np.min([c.radius(rest_grid()) for c in who.anatomy.chambers], axis=0)
        around = (radius > 1.25) & (radius < 2) & (rest_grid()[..., 1] > 3)
        assert np.percentile(after[around], 10) > -14
        assert np.percentile(after[around], 10) > np.percentile(before[around], 10)
        blood = who.anatomy.ventricle.radius(rest_grid()) < 0.6
        blood &= before < -28
        np.testing.assert_allclose(after[blood], before[blood], atol=1e-4)


def test_solids_have_their_level_above_myocardium():
    scanner = Scanner.draw(np.random.default_rng(3), size=64)
    rng = np.random.default_rng(0)
    r = rng.uniform(0, scanner.depth * 1.1, SCATTERERS)  # as `simulate` lays them
    a = rng.uniform(-1.2, 1.2, SCATTERERS) * scanner.half_angle
    points = np.stack([r * np.sin(a), r * np.cos(a)], axis=1)
    tissue = np.abs(scanner.blur(scanner.receive(points, np.exp(2j * np.pi * rng.random(SCATTERERS)))))
    for depth in (4.0, 8.0, 12.0):
        row = int(depth / scanner.grid[0][-1, 0] * (scanner.ranges - 1))
        local = np.sqrt(np.mean(tissue[row - 12 : row + 12, 20:-20] ** 2))
        peaks = []
        for _ in range(30):
            spot = np.array([0.3, depth]) + rng.normal(0, 0.06, (8, 2))
            peaks.append(np.abs(scanner.blur(scanner.receive(spot, _amplitude(scanner, spot, 18.0, rng)))).max())
        assert decibels(np.median(peaks) / local) == pytest.approx(18, abs=3)


@pytest.mark.slow
def test_calcium_on_a_hinge_outshines_all_myocardium():
    shining = []
    for seed in SEEDS:
        who = patient(seed)
        found = clip(seed, "low gain", "calcium", size=128)  # dark, so that nothing is at the scale's end
        spots = who.findings("calcium").solids
        first = spots[0].at(0.0)
        hinges = [who.motion.move(v.hinge[None], who.motion.modes(who.anatomy, v.hinge[None]), 0.0)[0]
                  for v in who.anatomy.leaflets]  # fmt: skip
        assert min(np.linalg.norm(first.mean(0) - hinge) for hinge in hinges) < 0.2  # cm
        column, row = np.round(who.scanner.to_image(first.mean(0)[None])[0]).astype(int)
        near = np.s_[0, row - 3 : row + 4, column - 3 : column + 4]
        sound = clip(seed, "low gain", size=128)
        shining.append(found.clean[near].max() > max(sound.clean[sound.septum].max(), sound.clean[near].max() + 0.05))
        assert np.ptp(first, axis=0).max() < 0.9
    assert np.mean(shining) >= 0.75


def test_a_shadow_darkens_what_lies_behind_and_nothing_else():
    scanner = patient(2).scanner
    spot = np.array([[0.5, 7.0]])
    shade = Solid(lambda time: spot, np.ones(1, complex), shadow=12.0).shade(scanner, 0.0)
    r, a = scanner.grid
    beam = np.abs(a[0] - np.arctan2(0.5, 7.0)).argmin()
    behind = r[:, 0] > 7.8
    np.testing.assert_allclose(decibels(shade[behind, beam]), -12, atol=0.3)
    assert shade[r[:, 0] < 6.9].min() > 0.99
    assert shade[:, np.abs(a[0] - a[0, beam]) > 0.1].min() > 0.99


@pytest.mark.slow
def test_a_lead_runs_through_the_right_heart_and_moves_with_it():
    for seed in SEEDS:
        who = patient(seed)
        (lead,) = who.findings("lead").solids
        right = [c for c in who.anatomy.chambers if c.name in ("rv", "ra")]
        rest = lead.at(0.0)
        assert np.mean(np.min([c.radius(rest) for c in right], axis=0) < 1.2) > 0.85
        assert np.linalg.norm(rest[-1] - rest[0]) > 1.5
        travel = [np.linalg.norm(lead.at(t) - rest, axis=1).max() for t in np.linspace(0, 60 / who.motion.rate, 9)]
        assert max(travel) > 0.15
        assert travel[-1] < 0.15 + 2 * np.hypot(*who.motion.breathing[:2])  # back after a beat, but for the breath
        # where it is seen follows where it is
        plain, found = clip(seed, size=128), clip(seed, "lead", size=128)
        added = np.clip(found.clean - plain.clean, 0, None)
        for k, time in enumerate((0.0, 0.2)):
            column, row = np.round(who.scanner.to_image(lead.at(time))).astype(int).T
            seen = (column >= 0) & (column < 128) & (row >= 0) & (row < 128)
            on = np.zeros((128, 128), bool)
            on[row[seen], column[seen]] = True
            on &= found.sector
            if on.sum() > 10:
                away = found.sector & np.logical_not(binary_dilation(on, iterations=4))
                assert added[k][on].mean() > 10 * added[k][away].mean()
    assert patient(2, "a2c").findings("lead").solids == ()


@pytest.mark.slow
def test_a_prosthesis_sits_in_an_annulus_and_trails_moving_echoes_in_the_hazy_clip_only():
    for seed in SEEDS:
        who = patient(seed)
        found = who.findings("prosthetic valve")
        (valve,) = found.solids
        assert valve.tail is not None
        at = valve.at(0.0)
        hinges = [who.motion.move(v.hinge[None], who.motion.modes(who.anatomy, v.hinge[None]), 0.0)
                  for v in who.anatomy.leaflets]  # fmt: skip
        held = [np.linalg.norm(at - hinge, axis=1).min() < 0.1 for hinge in hinges]
        assert held in ([True, True, False, False], [False, False, True, True])
        where, what = valve.echoes(0.0, who.scanner.depth)
        assert np.hypot(*where.T).min() > np.hypot(*at.T).min() + 0.9 * valve.tail[0]
        assert np.abs(what).max() < np.abs(valve.amplitude).max()
        # the echoes of the nearest part move along as it does
        moments = np.linspace(0, 60 / who.motion.rate, 9)
        depth = np.array([np.hypot(*valve.at(t).T).mean() for t in moments])
        first = np.array([np.hypot(*valve.echoes(t, who.scanner.depth)[0][: len(at)].T).mean() for t in moments])
        assert np.ptp(depth) > 0.1
        np.testing.assert_allclose(first - depth, valve.tail[0], atol=1e-6)
        ones = np.ones((who.scanner.ranges, who.scanner.beams))
        assert np.abs(found.clutter(0.0, ones, 1.0)).max() > 0
        # what haze hides by other means is the same with and without it: the tail alone differs
        seen, clean = clip(seed, "prosthetic valve", families=()), clip(seed, "prosthetic valve", haze=0.0)
        np.testing.assert_array_equal(seen.clean, clean.clean)
        assert np.abs(seen.hazy - seen.clean).max() > 0.02
    assert patient(2, "psax").findings("prosthetic valve").solids == ()


@pytest.mark.slow
def test_a_weak_far_field_leaves_basal_walls_barely_above_the_noise():
    for seed in range(6):
        found = patient(seed).findings("weak far field")
        r = found.scanner.grid[0][:, 0]
        gain = decibels(np.asarray(found.gain)[:, 0])
        assert gain[r < 4].min() == 0
        base = 0.72 * found.scanner.depth
        loss = np.interp(base, r, gain)
        assert -25.1 < loss < -9.9
        level, slope = found.scanner.noise
        assert 2.9 < loss - (level + slope * (base - 8)) < 12.1
        assert (np.diff(gain) <= 1e-4).all()


@pytest.mark.slow
def test_low_gain_shows_myocardium_dark():
    shades = []
    for seed in range(8):
        dark = clip(seed, "low gain", size=64, frames=1, times=None)
        if dark.septum.sum() < 20:
            continue
        shades.append(np.median(dark.clean[dark.septum]))
        usual = clip(seed, size=64, frames=1, times=None)
        if np.median(usual.clean[usual.septum]) > 0.35:
            assert dark.clean.mean() < usual.clean.mean()
    shades = np.array(shades)
    # a wall in a rib's shadow is darker still
    assert np.mean((shades > 0.12) & (shades < 0.33)) >= 0.8
    assert shades.max() < 0.4


@pytest.mark.slow
def test_a_wide_range_shows_blood_grey():
    for seed in SEEDS:
        usual, wide = clip(seed), clip(seed, "wide range")
        assert 80 <= patient(seed).findings("wide range").scanner.dynamic_range <= 100
        assert wide.clean[wide.ventricle].mean() > 0.08
        assert wide.clean[wide.ventricle].mean() > usual.clean[usual.ventricle].mean()
        assert wide.clean[wide.septum].mean() > wide.clean[wide.ventricle].mean() + 0.05


@pytest.mark.slow
def test_near_haze_is_as_bright_as_tissue_in_the_first_centimetres_and_ends_below():
    depths, still, top = [], [], []
    scanners = [patient(seed).scanner for seed in range(4)]
    for seed in range(20):
        scanner = scanners[seed % 4]
        haze = NearHaze.draw(scanner, np.random.default_rng(seed))
        now, later = (np.abs(haze.at(t)) for t in (0.0, 1.3))
        r, a = scanner.grid
        middle = np.abs(a[0]) < 0.3 * scanner.half_angle
        profile = np.median(now[:, middle], axis=1)
        top.append(decibels(np.median(profile[(r[:, 0] > 0.8) & (r[:, 0] < 2)])))
        depths.append(r[profile > 0.4 * np.median(profile[r[:, 0] < 2]), 0].max())
        assert decibels(now[r[:, 0] > 9].max()) < -8
        unchanged = np.allclose(now, later)
        still.append(unchanged)
        assert unchanged or np.corrcoef(now.ravel(), np.abs(haze.at(1 / 30)).ravel())[0, 1] > 0.9  # slowly
    assert np.median(top) > 0  # of the septum
    assert min(top) > -5
    assert 3 < np.median(depths) < 6
    assert max(depths) < 7.5
    assert 0.25 < np.mean(still) < 0.75


@pytest.mark.slow
def test_near_haze_is_seen_above_and_not_below():
    above, below = [], []
    for seed in SEEDS:
        found = clip(seed, "near haze", families=())
        scanner = patient(seed, size=96).scanner
        row, column = np.mgrid[:96, :96]
        x, z = (column - 47.5) * scanner.scale, (row - scanner.top) * scanner.scale
        r = np.hypot(x, z + scanner.near * np.cos(scanner.half_angle))
        added = np.abs(found.hazy - found.clean)
        above.append(added[:, found.sector & (r < 2.5)].mean())
        below.append(added[:, found.sector & (r > 10)].mean())
    assert np.median(above) > 0.1
    assert max(below) < 0.02


@pytest.mark.slow
def test_still_and_stuttering_clips_repeat_frames():
    moments = tuple(np.linspace(0, 1, 12))
    plain, still, stutter = (clip(4, *names, size=48, times=moments) for names in ((), ("still",), ("stutter",)))
    for name in ("hazy", "clean", "septum", "ventricle"):
        shown = getattr(plain, name)
        np.testing.assert_array_equal(getattr(still, name), np.repeat(shown[:1], 12, axis=0))
        held = [int(np.flatnonzero([np.array_equal(f, g) for g in plain.clean])[0]) for f in stutter.clean]
        np.testing.assert_array_equal(getattr(stutter, name), shown[held])
    assert held == sorted(held)
    assert 0 < 12 - len(set(held)) < 11
    # a repeat is of the frame before, and time goes on afterwards
    assert all(now in (before, k) for k, (before, now) in enumerate(pairwise(held), 1))


@pytest.mark.slow
def test_training_patients_have_findings(monkeypatch):
    drawn = [some_findings(np.random.default_rng(seed)) for seed in range(2000)]
    assert 0.2 < np.mean([not names for names in drawn]) < 0.32
    for name in FINDINGS:
        assert 0.1 < np.mean([name in names for names in drawn]) < 0.45
    asked = []
    real = simulate
    monkeypatch.setattr(bank, "simulate", lambda **given: asked.append(given["findings"]) or real(**given))
    for split in ("train", "development"):
        for index in range(4):
            hazy, clean = bank._patient(patient_seed(split, index), 2, 32)
            assert hazy.shape == clean.shape == (2, 32, 32)
    assert len({tuple(names) for names in asked}) > 3
