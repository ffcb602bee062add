"""One clip through the pipeline: what is promised of the arrays, the files and the folders."""

import dataclasses
import json
from pathlib import Path

import h5py
import jax.numpy as jnp
import numpy as np
import pytest
from msgspec import structs

from nuclear_diffusion.checks import require_intensity
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import Clip, read_video
from nuclear_diffusion.io.recording import Recording
from nuclear_diffusion.paper.algorithm1 import PAPER_GAMMA, PAPER_WINDOW
from nuclear_diffusion.paper.gaussian import Gaussian
from nuclear_diffusion.paper.rpca import robust_pca
from nuclear_diffusion.paper.separation import Separation
from nuclear_diffusion.restore import folder
from nuclear_diffusion.restore.clip import Dehazed, Piece, dehaze_clip, rendered
from nuclear_diffusion.restore.draws import Posterior
from nuclear_diffusion.restore.estimate import Estimate
from nuclear_diffusion.restore.folder import (
    FILES,
    About,
    Removed,
    holds_result,
    open_result,
    read_report,
    result_folder,
    write_result,
)
from nuclear_diffusion.restore.frames import fingerprint
from nuclear_diffusion.restore.methods import (
    METHODS,
    Aware,
    Mmse,
    Nuclear,
    Paper,
    Rpca,
    Zea,
    as_dict,
    from_dict,
)
from nuclear_diffusion.restore.pictures import Summary, side_by_side
from nuclear_diffusion.restore.render import STRENGTH, render
from nuclear_diffusion.restore.run import check_writable, folder_names
from nuclear_diffusion.sector import Fit

HEIGHT, WIDTH = 90, 120
RPCA = Rpca()


def fan() -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    radius, angle = np.hypot(y - 2, x - WIDTH / 2), np.arctan2(x - WIDTH / 2, y - 2)
    return (radius < 84) & (np.abs(angle) < 0.6)


def make_clip(*, frames: int = 6, color: bool = False, seed: int = 0) -> Clip:
    """Speckle that moves down under steady haze within a fan, and a steady mark in a corner outside it."""
    rng = np.random.default_rng(seed)
    speckle = rng.rayleigh(0.15, (HEIGHT, WIDTH))
    haze = 0.2 * np.exp(-np.arange(HEIGHT)[:, None] / 30)
    video = np.stack([np.roll(speckle, 2 * t, axis=0) + haze for t in range(frames)])
    video = np.where(fan(), np.clip(video, 0, 1), 0)
    video[:, 5:8, 4:9] = 0.8
    video = np.rint(255 * video).astype(np.uint8)
    rgb = np.stack([video, video - video // 4, video // 2], axis=-1) if color else None  # sepia
    luma = video if rgb is None else rgb @ np.array([0.299, 0.587, 0.114])
    return Clip((luma / 255).astype(np.float32), 25.0, rgb, fan(), "fan", Path("fan.npz"))


def separated(haze: float):
    """A stand-in for the separation that finds the same haze everywhere."""

    def separations(self, job):
        for frames in job.blocks:
            yield Separation(jnp.asarray(frames - haze), jnp.full_like(frames, haze), jnp.zeros(1))

    return separations


def test_no_haze_found_leaves_every_bit(monkeypatch):
    monkeypatch.setattr(Rpca, "separations", separated(0.0))
    clip = make_clip()
    np.testing.assert_array_equal(dehaze_clip(clip, RPCA, size=64).signal, clip.frames)


@pytest.mark.parametrize("size", [48, 64, 150])
def test_even_haze_comes_off_at_the_clips_own_resolution(monkeypatch, size):
    monkeypatch.setattr(Rpca, "separations", separated(0.125))
    clip = make_clip()
    dehazed = dehaze_clip(clip, RPCA, size=size)
    inside = dehazed.sector
    expected = np.clip(clip.frames[:, inside] - 0.125, 0, 1)
    np.testing.assert_allclose(dehazed.signal[:, inside], expected, atol=1e-6)
    np.testing.assert_allclose(dehazed.background[:, inside], 0.125, atol=1e-6)


def test_a_clip_in_colour_keeps_its_hue(monkeypatch):
    """All channels are dimmed by the factor of the luma, where subtracting the haze from each would turn the hue."""
    monkeypatch.setattr(Rpca, "separations", separated(0.125))
    clip = make_clip(color=True)
    dehazed = dehaze_clip(clip, RPCA, size=64)
    assert clip.color is not None
    assert dehazed.color is not None
    original = clip.color.astype(np.float32) / 255
    inside = dehazed.sector
    luma = clip.frames[:, inside]
    dimmed = np.clip(luma - 0.125, 0, 1) / np.maximum(luma, 1e-9)
    assert (dimmed > 0).mean() > 0.5
    np.testing.assert_allclose(dehazed.color[:, inside], original[:, inside] * dimmed[..., None], atol=1e-5)
    np.testing.assert_array_equal(dehazed.color[:, ~inside], original[:, ~inside])


def test_outside_the_sector_nothing_changes():
    clip = make_clip()
    dehazed = dehaze_clip(clip, RPCA, size=64)
    outside = ~dehazed.sector
    assert outside[6, 6]
    np.testing.assert_array_equal(dehazed.signal[:, outside], clip.frames[:, outside])
    assert not dehazed.background[:, outside].any()
    assert not np.array_equal(dehazed.signal, clip.frames)
    for part in (dehazed.signal, dehazed.background):
        assert part.dtype == np.float32
        assert part.shape == clip.frames.shape
        assert part.min() >= 0
        assert part.max() <= 1


def test_robust_pca_takes_the_steady_haze_and_leaves_the_motion():
    clip = make_clip(frames=12)
    dehazed = dehaze_clip(clip, RPCA, size=64)
    steady = dehazed.background[:, dehazed.sector].std(axis=0).mean()
    moving = clip.frames[:, dehazed.sector].std(axis=0).mean()
    assert steady < moving / 3


@pytest.mark.slow
def test_the_weight_of_robust_pca_is_in_units_of_the_sector():
    """1 / sqrt(max(n, p)) of Candes et al. 2011, n the pixels that hold an image."""
    video = np.random.default_rng(0).random((6, 16, 16)).astype(np.float32)
    mask = np.zeros((16, 16), bool)
    mask[3:13, 4:14] = True
    for frames, unit in ((video, 1 / 10), (video.reshape(384, 2, 2), 384**-0.5)):
        found = Rpca(lam=0.7).separate(frames, mask=mask[: frames.shape[1]])
        expected = robust_pca(frames, 0.7 * unit)
        np.testing.assert_allclose(found.background, expected.background, atol=1e-6)
        mask = np.ones((2, 2), bool)


def found(share: float, monkeypatch, mean: float = 0.3, haze: float = 0.25):
    """Let `estimate` find the same everywhere, and nobody ask the prior."""

    def estimate_parts(blocks, windows, prior, **rest):
        for frames in blocks:
            yield Estimate(*(jnp.full_like(frames, value) for value in (mean, share, haze)), trace=jnp.zeros(1))

    monkeypatch.setattr("nuclear_diffusion.restore.estimate.estimate_parts", estimate_parts)


@pytest.mark.parametrize("size", [48, 64, 150])
@pytest.mark.parametrize(("strength", "kept"), [(0.0, 1.0), (0.5, 0.75), (1.0, 0.125)])
@pytest.mark.usefixtures("wrong_types")
def test_a_share_dims_every_pixel_and_channel_alike_at_the_clips_own_resolution(monkeypatch, size, strength, kept):
    found(0.35, monkeypatch)
    clip = make_clip(color=True)
    dehazed = dehaze_clip(clip, Nuclear(strength=strength), object(), size=size)  # pyright: ignore
    inside = dehazed.sector
    assert clip.color is not None
    color = clip.color.astype(np.float32) / 255
    for now, before in ((dehazed.signal, clip.frames), (dehazed.color, color)):
        assert now is not None
        np.testing.assert_allclose(now[:, inside], kept * before[:, inside], atol=1e-6)
        np.testing.assert_array_equal(now[:, ~inside], before[:, ~inside])
    for part, value in ((dehazed.share, 0.35), (dehazed.mean, 0.3), (dehazed.background, 0.25)):
        assert part is not None
        assert part.dtype == np.float32
        np.testing.assert_allclose(part[:, inside], value, atol=1e-6)
        np.testing.assert_array_equal(part[:, ~inside], 0)


@pytest.mark.parametrize("color", [False, True])
def test_an_estimate_rendered_again_is_the_clip_dehazed_at_that_strength(color):
    clip, prior = make_clip(color=color), Gaussian(20.0, 0.1)
    first = dehaze_clip(clip, Nuclear(strength=0.2), prior, size=32)
    whole = dehaze_clip(clip, Nuclear(strength=0.9), prior, size=32)
    assert not np.array_equal(first.signal, whole.signal)
    again = rendered(clip, first, 0.9)
    for one, other in zip(again, whole, strict=True):
        if not isinstance(one, float):  # the seconds
            np.testing.assert_array_equal(one, other)
    assert whole.share is not None
    np.testing.assert_array_equal(whole.signal, render(clip.frames, whole.share, 0.9))
    assert whole.share.max() > 0.2


def test_what_holds_no_share_cannot_be_rendered():
    clip = make_clip()
    with pytest.raises(InputError, match="nuclear"):
        rendered(clip, dehaze_clip(clip, RPCA, size=32), 0.5)


@pytest.mark.slow
def test_no_chance_is_in_the_estimate_and_the_seed_decides_the_draws():
    clip, prior = make_clip(), Gaussian(precision=20.0, mean=0.2)
    first, again, other = (dehaze_clip(clip, Nuclear(samples=2, seed=seed), prior, size=32) for seed in (1, 1, 2))
    for name in ("signal", "share", "mean", "background"):
        for one in (again, other):
            np.testing.assert_array_equal(getattr(first, name), getattr(one, name))
    np.testing.assert_array_equal(first.draws_mean, again.draws_mean)
    assert first.draws_mean is not None
    assert other.draws_mean is not None
    assert not np.array_equal(first.draws_mean, other.draws_mean)


def test_the_seed_decides_the_bits_of_a_sampler():
    clip, prior = make_clip(), Gaussian(precision=20.0, mean=0.2)
    settings = Paper(steps=3, window=4, overlap=2, seed=1)
    first, again = (dehaze_clip(clip, settings, prior, size=32) for _ in range(2))
    np.testing.assert_array_equal(first.signal, again.signal)
    np.testing.assert_array_equal(first.background, again.background)
    other = dehaze_clip(clip, structs.replace(settings, seed=2), prior, size=32)
    assert not np.array_equal(first.signal, other.signal)


@pytest.mark.parametrize("settings", [Nuclear(), Nuclear(samples=2), Paper(steps=3, window=4, overlap=2)])
def test_progress_counts_up_to_the_whole(settings):
    seen = []
    dehaze_clip(
        make_clip(), settings, Gaussian(20.0, 0.2), size=32, progress=lambda done, total: seen.append((done, total))
    )
    counts = [done for done, _ in seen]
    assert counts[0] == 0
    assert counts == sorted(counts)
    assert {total for _, total in seen} == {counts[-1]}


def test_identical_frames_cannot_be_told_apart_but_can_be_denoised():
    clip = make_clip()
    still = dataclasses.replace(clip, frames=np.repeat(clip.frames[:1], 5, axis=0))
    with pytest.raises(InputError, match="identical"):
        dehaze_clip(still, RPCA, size=32)
    assert dehaze_clip(still, Mmse(), Gaussian(20.0), size=32).signal.shape == still.frames.shape


def test_methods_with_a_prior_ask_for_it():
    with pytest.raises(ValueError, match="`prior`"):
        dehaze_clip(make_clip(), Nuclear(), None, size=32)


# settings


@pytest.mark.parametrize(
    ("method", "name", "value"),
    [
        (Paper, "mu", 0.0),
        (Paper, "mu", -1.0),
        (Paper, "gamma", float("nan")),
        (Zea, "gamma", float("inf")),
        (Paper, "steps", 0),
        (Paper, "window", -7),
        (Paper, "overlap", 7),
        (Paper, "overlap", -1),
        (Zea, "project", "maybe"),
        (Nuclear, "seed", -1),
        (Mmse, "sigma", 0.0),
        (Rpca, "lam", -0.1),
        (Nuclear, "strength", -0.1),
        (Nuclear, "strength", 1.1),
        (Nuclear, "strength", float("nan")),
        (Nuclear, "samples", 1),
        (Nuclear, "samples", -2),
    ],
)
def test_a_value_that_cannot_be_used_is_named(method, name, value):
    for make in (lambda: method(**{name: value}), lambda: from_dict(as_dict(method()) | {name: value})):
        with pytest.raises(InputError) as error:
            make()
        assert name in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("method", "name"),
    [(Rpca, "mu"), (Aware, "strength"), (Rpca, "prior"), (Nuclear, "mu"), (Nuclear, "window"), (Paper, "samples"),
     (Nuclear, "lam"), (Rpca, "seed")],
)  # fmt: skip
def test_a_setting_of_another_method_is_refused(method, name):
    with pytest.raises(TypeError):
        method(**{name: 1})
    with pytest.raises(InputError, match=name):
        from_dict(as_dict(method()) | {name: 1})


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_known_by_its_name_and_is_json(method):
    made = METHODS[method]()
    assert made.name == method == as_dict(made)["method"]
    assert from_dict(json.loads(json.dumps(as_dict(made)))) == made


@pytest.mark.parametrize(("low", "high", "refused"), [(-0.5, 1.5, False), (0, 248, True), (-60, 0, True)])
@pytest.mark.parametrize("method", METHODS.values())
def test_methods_refuse_what_is_no_intensity_but_not_the_overshoot_of_resampling(method, low, high, refused):
    frames = np.linspace(low, high, 3 * 8 * 8, dtype=np.float32).reshape(3, 8, 8)
    if refused:
        with pytest.raises(InputError, match=r"must be in \[0, 1\]"):
            method().separate(frames, Gaussian(20.0, 0.1))
    else:
        require_intensity("frames", frames)


@pytest.mark.usefixtures("wrong_types")
def test_an_array_is_no_clip():
    with pytest.raises(InputError, match=r"`nd.read_video\(path\)`, got ndarray: for an array use `nd.estimate`"):
        dehaze_clip(np.zeros((3, 32, 32)), RPCA)  # pyright: ignore[reportArgumentType]


def test_the_default_strength_is_that_of_the_library():
    assert Nuclear().strength == STRENGTH


def test_the_papers_defaults_are_the_papers():
    shown = Paper()
    assert (shown.gamma, shown.mu, shown.window, shown.steps) == (PAPER_GAMMA, 2.0, PAPER_WINDOW, 500)


# files


def held_by(path):
    with h5py.File(path) as file:
        return {name: np.asarray(file[name]) for name in file}, dict(file.attrs)


def written(folder, clip, dehazed, settings):
    about = About(settings, None, fingerprint(clip))
    return write_result(folder, Recording.of(clip), [Piece(clip, dehazed)], about)


@pytest.mark.slow
@pytest.mark.parametrize("color", [False, True])
def test_result_files_hold_the_arrays_without_loss(tmp_path, color):
    clip, settings = make_clip(color=color), RPCA
    dehazed = dehaze_clip(clip, settings, size=32)
    report = written(tmp_path, clip, dehazed, settings)
    assert {file.name for file in tmp_path.iterdir()} == set(FILES)

    arrays, attributes = held_by(tmp_path / "result.h5")
    np.testing.assert_array_equal(arrays["input"], clip.frames)
    np.testing.assert_array_equal(arrays["signal"], dehazed.signal)
    np.testing.assert_array_equal(arrays["background"], dehazed.background)
    np.testing.assert_array_equal(arrays["sector"], dehazed.sector)
    if color:
        np.testing.assert_array_equal(arrays["input_color"], clip.color)
        np.testing.assert_array_equal(arrays["signal_color"], dehazed.color)
    assert json.loads(str(attributes["configuration"])) == as_dict(settings)
    assert attributes["fps"] == clip.fps

    assert json.loads((tmp_path / "report.json").read_text()) == report
    video = read_video(tmp_path / "comparison.mp4")
    assert len(video.frames) == len(clip.frames)
    assert video.fps == pytest.approx(clip.fps)
    assert video.frames.shape[2] == 3 * 3 * WIDTH  # three panels, each three times as large: captions can be read


@pytest.mark.parametrize(("level", "gain"), [(0.0, 1), (0.001, 16), (0.03, 16), (0.2, 2), (0.4, 1)])
def test_a_faint_background_is_brighter_beside_the_input_and_its_title_says_so(level, gain, tmp_path, monkeypatch):
    clip, shown = make_clip(), []
    background = np.where(fan(), np.float32(level), 0) * np.ones_like(clip.frames)
    monkeypatch.setattr(folder, "side_by_side", lambda panels: shown.append(list(panels)) or side_by_side(panels))
    written(tmp_path, clip, Dehazed(clip.frames, background, None, fan(), 0.0), RPCA)
    assert shown[0][-1] == ("background" if gain == 1 else f"background, {gain} x as bright")
    inside = np.kron(fan(), np.ones((3, 3))) > 0
    panel = read_video(tmp_path / "comparison.mp4").frames[:, -3 * HEIGHT :, -3 * WIDTH :]
    assert np.median(panel[:, inside]) == pytest.approx(gain * level, abs=0.01)


def test_the_summary_shows_the_sector_alone(tmp_path):
    """Text beside the sector is not cut at the edge of the picture, and a long name does not leave it."""
    clip = dataclasses.replace(make_clip(), name="long-" * 50)
    clip.frames[:, 40:50, :20] = 1.0  # within the rows and columns of the sector
    background = np.where(fan(), np.float32(0.1), 0) * np.ones_like(clip.frames)
    summary = Summary(Recording.of(clip), fan())
    summary.add(0, clip, Dehazed(clip.frames, background, None, fan(), 0.0))
    figure = summary.draw(RPCA)
    figure.canvas.draw()
    rows, columns = (slice(found.min(), found.max() + 1) for found in np.nonzero(fan()))
    first = figure.axes[0].images[0].get_array()
    np.testing.assert_array_equal(first, np.where(fan(), clip.frames[0], 0)[rows, columns])
    titles = [axes.get_title() for axes in figure.axes[:4]]
    assert titles == ["input", "signal", "background, 4 x as bright", "bright echo dimmed: haze or tissue?"]
    assert [text.get_text() for text in figure.axes[3].texts] == ["none"]  # the signal is the clip itself
    assert figure.axes[2].images[0].get_clim() == (0, 0.25)
    title = figure.texts[0].get_window_extent()
    assert 0 < title.x0 < title.x1 < figure.bbox.width


def test_removed_energy_is_a_fraction_of_the_input(monkeypatch):
    clip = make_clip()
    monkeypatch.setattr(Rpca, "separations", separated(1.0))
    removed = Removed()
    removed.add(clip, dehaze_clip(clip, RPCA, size=32))
    assert removed.energy == pytest.approx(1.0)
    monkeypatch.setattr(Rpca, "separations", separated(0.0))
    removed = Removed()
    removed.add(clip, dehaze_clip(clip, RPCA, size=32))
    assert removed.energy == 0


def test_side_by_side_keeps_each_panel_under_its_caption():
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 256, (2, 3, 40, 50), np.uint8) / np.float32(255)
    joined = side_by_side({"a": left, "b": right})
    large = [video.repeat(7, axis=1).repeat(7, axis=2) for video in (left, right)]  # so that captions can be read
    np.testing.assert_array_equal(joined[:, -280:, :350] / np.float32(255), large[0])
    np.testing.assert_array_equal(joined[:, -280:, 350:] / np.float32(255), large[1])
    assert joined[:, :-280, :350].max() > 100  # its caption
    in_color = side_by_side({"a": left, "b": np.stack([right] * 3, axis=-1)})
    np.testing.assert_array_equal(in_color, np.repeat(joined[..., None], 3, axis=-1))


def test_a_fingerprint_belongs_to_the_frames():
    clip = make_clip()
    assert fingerprint(clip) == fingerprint(make_clip())
    assert fingerprint(clip) != fingerprint(make_clip(seed=1))
    assert fingerprint(clip) != fingerprint(make_clip(color=True))


# folders


def test_a_failed_run_leaves_nothing(tmp_path):
    folder = tmp_path / "new" / "clip"

    def fail():
        with result_folder(folder) as partial:
            (partial / "half").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_draws_give_maps_of_mean_and_spread(tmp_path):
    clip, prior = make_clip(), Gaussian(2000.0, 0.2)
    settings = Nuclear(samples=3, seed=3)
    dehazed = dehaze_clip(clip, settings, prior, size=64)
    assert dehazed.draws_mean is not None
    assert dehazed.draws_deviation is not None
    # the prior's own, hardly less for mu = 10, but for what resampling to the clip takes
    assert 0.012 < dehazed.draws_deviation[:, 20:60, 50:70].mean() < 0.024
    outside = ~dehazed.sector
    np.testing.assert_array_equal(dehazed.draws_deviation[:, outside], 0)
    np.testing.assert_array_equal(dehazed.draws_mean[:, outside], clip.frames[:, outside])
    with result_folder(tmp_path / "one") as folder:
        written(folder, clip, dehazed, settings)
    assert {file.name for file in (tmp_path / "one").iterdir()} == {*FILES, "spread.mp4"}
    assert read_report(tmp_path / "one") is not None
    arrays, _ = held_by(tmp_path / "one" / "result.h5")
    np.testing.assert_array_equal(arrays["draws_deviation"], dehazed.draws_deviation)
    np.testing.assert_array_equal(arrays["draws_mean"], dehazed.draws_mean)


@pytest.mark.usefixtures("wrong_types")
def test_a_standard_deviation_is_never_negative(monkeypatch):
    """Though what is between pixels of 0 and 1 is interpolated by a cubic, which overshoots."""
    clip = make_clip()
    fit = Fit.to_prior(fan(), 32)
    spread = np.zeros((len(clip.frames), 32, 32), np.float32)
    spread[:, ::4, ::4] = 1
    assert fit.backward(spread).min() < -0.01
    found(0.5, monkeypatch)
    deviation = jnp.asarray(spread)
    draws = Posterior(deviation[None], 0 * deviation, deviation, deviation, jnp.ones(1))

    def drawn(self, job):
        list(job.blocks)
        yield draws

    monkeypatch.setattr(Nuclear, "_drawn", drawn)
    dehazed = dehaze_clip(clip, Nuclear(samples=2), object(), size=32)  # pyright: ignore
    assert dehazed.draws_deviation is not None
    assert dehazed.draws_deviation.min() == 0
    assert dehazed.draws_deviation.max() > 0.5
    assert dehazed.draws_mean is not None
    assert dehazed.draws_mean.min() >= 0


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("samples", [0, 2])
@pytest.mark.usefixtures("_no_figures_of_results")
def test_a_result_file_is_read_back_whole(tmp_path, color, samples):
    clip, settings = make_clip(color=color), Nuclear(samples=samples)
    dehazed = dehaze_clip(clip, settings, Gaussian(20.0, 0.1), size=32)
    written(tmp_path, clip, dehazed, settings)
    with open_result(tmp_path / "result.h5") as result:
        (piece,) = result.pieces()
        read, recording = piece.clip, result.recording
        assert (recording.shape, recording.colored) == (clip.shape, color)
    for name in dehazed._fields:
        one, other = getattr(dehazed, name), getattr(piece.dehazed, name)
        if name != "seconds":
            assert (one is None) == (other is None), name
            np.testing.assert_array_equal(one, other)
    assert (dehazed.draws_mean is None) == (samples == 0)
    np.testing.assert_array_equal(read.frames, clip.frames)
    np.testing.assert_array_equal(read.color, clip.color)
    assert fingerprint(read) == fingerprint(clip)
    assert (read.fps, read.name) == (clip.fps, clip.name)


def test_a_result_with_settings_of_another_version_still_has_its_clip_and_sector(tmp_path):
    path = tmp_path / "mine.h5"
    with h5py.File(path, "w") as file:
        file.attrs["configuration"] = "probe S5-1"
        file["frames"] = np.zeros((2, 3, 4))
        assert not holds_result(path)  # somebody else's file
        for name in ("input", "signal", "background"):
            file[name] = np.full((2, 3, 4), 0.5, np.float32)
        file["sector"], file.attrs["fps"] = np.ones((3, 4), bool), 20.0
        file.attrs["configuration"] = '{"method": "nuclear", "wisdom": 3}'
    assert holds_result(path)
    with open_result(path) as result:
        assert result.recording.read().shape == (2, 3, 4)
        assert result.sector.all()
        with pytest.raises(InputError, match="wisdom"):
            _ = result.method


def test_what_is_no_result_file_is_refused(tmp_path):
    path = tmp_path / "result.h5"

    def refused(says="not a result"):
        with pytest.raises(InputError, match=says), open_result(path):
            pytest.fail("it was opened")

    refused("does not exist")
    path.write_text("no HDF5")
    refused()
    with h5py.File(path, "w") as file:
        file["input"] = np.zeros((2, 3, 4))
    refused()


def test_an_old_result_stays_until_the_new_one_is_whole(tmp_path):
    folder = tmp_path / "clip"
    folder.mkdir()
    for name in ("signal.mp4", "note.txt", ".DS_Store"):  # one of ours
        (folder / name).write_text("old")
    killed = tmp_path / ".clip.partial"
    killed.mkdir()
    (killed / "half").touch()
    with result_folder(folder) as partial:
        (partial / "summary.png").touch()
        assert (folder / "signal.mp4").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["clip"]
    assert sorted(path.name for path in folder.iterdir()) == [".DS_Store", "note.txt", "summary.png"]


def test_what_is_not_a_result_is_never_overwritten(tmp_path):
    assert read_report(tmp_path / "missing") is None
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "patient-1.png").touch()
    with pytest.raises(InputError, match="is not a result"):
        read_report(tmp_path / "frames")


def test_names_never_clash(tmp_path):
    (tmp_path / "c.d").mkdir()
    sources = [tmp_path / name for name in ("a/clip.mp4", "b/clip.avi", "CLIP.npz", "other.dcm", "c.d", "p-*.png")]
    assert folder_names(sources) == ["clip", "clip-2", "CLIP-3", "other", "c.d", "p"]


def test_an_output_within_a_file_is_refused_and_nothing_is_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="not a folder"):
        check_writable(tmp_path / "file" / "out")
    check_writable(tmp_path / "a" / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
