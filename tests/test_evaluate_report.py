"""Tables, figures and the page against planted numbers, and the whole chain from the command line."""

import base64
import contextlib
import io
import json
import math
import re
import shutil
import zlib
from collections.abc import Iterable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from nuclear_diffusion import palette
from nuclear_diffusion.cli import main
from nuclear_diffusion.io import Clip, write_video
from nuclear_diffusion.measure import figures, style
from nuclear_diffusion.measure.candidates import Candidate
from nuclear_diffusion.measure.datasets import Annotation, Case, Loaded
from nuclear_diffusion.measure.films import films_of
from nuclear_diffusion.measure.report import Results, write_tables
from nuclear_diffusion.measure.scores import SCORES
from nuclear_diffusion.measure.study import Measured, Output, Study
from nuclear_diffusion.measure.tables import mean_table, patient_table
from nuclear_diffusion.restore.clip import Dehazed, dehaze_clip
from nuclear_diffusion.restore.methods import Rpca
from nuclear_diffusion.restore.render import render
from nuclear_diffusion.simulation import write_dataset
from nuclear_diffusion.view.film import Film, packed, source
from tests.pages import CHROMIUM, PATIENCE, assert_readable, until


def measured(method: str, gcnr, ks, motion, level: int) -> Measured:
    """`level` is also the flicker, in the ventricle twice as much, and the percentage of bright tissue lost."""
    histogram = [0] * 256
    histogram[level] = 10
    of_frames = {"gcnr": gcnr, "cnr": gcnr, "ks_a": ks, "ks_b": ks, "motion_psnr": motion}
    of_frames |= {"septum_pixels": [100] * len(gcnr)}
    return Measured(
        scores={name: dict(zip(range(1, 10_000, 10), values, strict=False)) for name, values in of_frames.items()}
        | {"flicker_a": level, "flicker_b": 2.0 * level, "bright_lost": level / 100},
        seconds=math.nan if method == "hazy" else 0.5,
        compiled=False,
        histograms={"septum": histogram, "ventricle": histogram, "sector": histogram},
        spectra={name: [[3.0, 2.0, 1.0], [2.0, 1.0, 0.5]] for name in ("signal", "background")},
        versions={"numpy": "2"},
    )


GAINS = {"ann": 0.1, "bob": 0.4, "cem": 0.2, "dot": -0.1, "eve": 0.3}
MOTION = [math.nan, 20.0, 30.0, math.inf]


@pytest.fixture
def study(tmp_path):
    """Five patients of four annotated frames; robust PCA gains what `GAINS` says, a variation twice as much."""
    cases = tuple(Case(name, name, Path(name), ()) for name in GAINS)
    candidates = (
        Candidate("hazy", None),
        Candidate("rpca", Rpca()),
        Candidate("rpca-lam-2", Rpca(lam=2.0), varied="rpca"),
        Candidate("rpca-lam-0.5", Rpca(lam=0.5), varied="rpca"),
    )
    found = {}
    for name, gain in GAINS.items():
        for method, factor, level in (
            ("hazy", 0, 10),
            ("rpca", 1, 20),
            ("rpca-lam-2", 2, 30),
            ("rpca-lam-0.5", 0.5, 40),
        ):
            gcnr, ks = [0.4 + factor * gain] * 4, [0.1 * factor, 0.2 * factor, 0.3 * factor, 0.4 * factor]
            found[method, name] = measured(method, gcnr, ks, MOTION, level)
    return Study(cases, candidates, found, (), tmp_path)


# tables


def rows_of(table: pd.DataFrame) -> Iterable[Any]:
    """Whose attributes are the table's columns."""
    return table.itertuples()


def test_tables_hold_the_planted_averages(study):
    results = Results.of(study)
    found = {(row.method, row.score): row for row in rows_of(results.summary)}
    assert found["rpca", "gcnr"].mean == pytest.approx(0.4 + np.mean(list(GAINS.values())))
    assert found["rpca", "gcnr"].median == pytest.approx(0.6)
    assert found["rpca", "gcnr"].frames == 20
    assert found["rpca", "ks_a"].frame_mean == pytest.approx(0.25)
    assert found["rpca", "seconds"].mean == pytest.approx(0.5)
    assert [found[method, "flicker_b"].mean for method in ("hazy", "rpca")] == [20, 40]
    assert found["rpca", "flicker_a"].frames == 5  # one value a clip
    scores = ["gcnr", "cnr", "ks_a", "ks_b", "flicker_a", "flicker_b", "bright_lost", "seconds"]
    assert results.summary.score.unique().tolist() == scores
    pairs = results.differences
    assert set(pairs["first"] + pairs.second) == {"rpcahazy"}  # of the methods of the tables
    assert pairs.score.tolist() == ["gcnr", "cnr", "flicker_a", "flicker_b"]  # the input changes and loses nothing
    over_frames = mean_table(results.summary, over="frames")
    assert (over_frames.headings[1], over_frames.headings[-1]) == ("gCNR ↑", "frames")
    assert over_frames.rows[1][0] == "Robust PCA"
    assert over_frames.rows[1][1].startswith("0.580 [")
    assert over_frames.rows[1][-1] == "20"
    flicker = next(row for row in patient_table(results.summary).rows if row[0].startswith("Flicker, septum"))
    assert flicker[:3] == ["Flicker, septum [grey levels] ↓", "Hazy input", "10.00 [10.00, 10.00]"]


def test_every_written_value_says_what_it_is_and_can_be_made_again(study, tmp_path):
    write_tables(Results.of(study), tmp_path)
    numbers = pd.read_csv(tmp_path / "numbers.csv")
    scores = pd.read_csv(tmp_path / "scores.csv")
    for row in rows_of(scores):
        assert row.definition == SCORES[row.score].definition
        assert re.fullmatch("[0-9a-f]{12}", row.configuration)
        assert "numpy" in row.versions
        values = numbers.value[(numbers.method == row.method) & (numbers.score == row.score)].dropna()
        assert row.frames == len(values)
        if len(values):
            assert row.frame_mean == pytest.approx(np.mean(values))
    points = pd.read_csv(tmp_path / "challenge.csv").set_index("method").loc["rpca"]
    assert points.g1_contrast == pytest.approx(34 * 0.08 / 0.3)  # CNR is below 1
    assert points.g2 == pytest.approx(50 * 0.05 / 0.2 + 50 * 0.25 / 0.5)
    assert points.fid == points.g3 == "missing"
    assert np.isinf(numbers.value[numbers.score == "motion_psnr"]).sum() == 20
    pairs = pd.read_csv(tmp_path / "differences.csv")
    assert all(re.fullmatch("[0-9a-f]{12} [0-9a-f]{12}", both) for both in pairs.configuration)
    assert set(numbers.method) == {candidate.name for candidate in study.candidates}


def test_json_is_strict_and_holds_every_setting(study, tmp_path):
    write_tables(Results.of(study), tmp_path)
    read = json.loads((tmp_path / "tables.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    assert read["patients"] == 5
    assert read["configurations"]["rpca-lam-2"]["settings"]["lam"] == 2
    (time,) = [row for row in read["scores"] if (row["method"], row["score"]) == ("hazy", "seconds")]
    assert time["mean"] is None
    assert "FID" in read["notes"]["challenge"]


# figures


def test_motion_bins_are_numpys(study):
    edges = figures.motion_edges(study)
    np.testing.assert_allclose(edges[[0, -1]], [20, 30])
    found = figures.motion_bins(study, "rpca", np.array([20.0, 25.0, 30.0]))
    assert found.counts.tolist() == [5, 5]  # neither the undefined nor the infinite
    assert [mean.mean for mean in found.means] == pytest.approx([0.2, 0.3])
    assert [mean.patients for mean in found.means] == [5, 5]


def with_motion(study, levels):
    """The study with one patient, whose annotated frames have these motion levels, and KS that rise with them."""
    (case, *_), ks = study.cases, list(np.argsort(np.argsort(levels)) / 1000)
    found = {(one.name, case.name): measured(one.name, ks, ks, list(levels), 10) for one in study.candidates}
    return replace(study, cases=(case,), measured=found)


def test_motion_bins_hold_as_many_frames_each_whatever_one_still_frame_does(study):
    """96 frames in 12 bins; one that hardly moves has no bin of its own, those that do not move at all have none."""
    levels = np.random.default_rng(0).permutation(np.append(np.linspace(20, 30, 95), 80))
    planted = with_motion(study, np.append(levels, [np.inf, np.inf, np.nan]))
    edges = figures.motion_edges(planted)
    assert (len(edges), edges[0], edges[-1]) == (13, 20, 80)
    assert edges[-2] < 30
    found = figures.motion_bins(planted, "rpca", edges)
    assert found.counts.tolist() == [8] * 12
    assert [mean.mean for mean in found.means] == pytest.approx((np.arange(12) * 8 + 3.5) / 1000)
    figure = figures.draw_motion(planted)
    assert figure is not None
    upper, lower = figure.axes
    assert lower.get_xlim()[1] < 13  # bins as wide as each other, not 80 dB
    assert [bar.get_height() for bar in lower.patches if isinstance(bar, Rectangle)] == [8] * 12
    assert [text.get_text() for text in lower.get_xticklabels()] == [f"{edge:.1f}" for edge in edges]
    assert upper.get_title(loc="right").startswith("2 frames equal")


def test_few_or_equal_motion_levels_have_few_bins(study):
    assert len(figures.motion_edges(with_motion(study, np.linspace(20, 30, 15)))) == 2
    assert len(figures.motion_edges(with_motion(study, np.linspace(20, 30, 16)))) == 3
    ties = with_motion(study, np.repeat([20.0, 25.0, 30.0], 40))
    assert figures.motion_bins(ties, "rpca", figures.motion_edges(ties)).counts.sum() == 120
    equal = with_motion(study, np.full(50, 25.0))
    assert figures.motion_bins(equal, "rpca", figures.motion_edges(equal)).counts.tolist() == [50]
    assert isinstance(figures.draw_motion(equal), Figure)
    assert figures.draw_motion(with_motion(study, np.full(50, np.inf))) is None


def test_patients_are_chosen_by_their_gain(study):
    chosen = {one.rule: (one.case.name, round(one.gain, 6)) for one in figures.choose_patients(study)}
    assert chosen == {"median": ("cem", 0.2), "best": ("bob", 0.4), "worst": ("dot", -0.1)}
    two = figures.choose_patients(replace(study, cases=study.cases[:2]))
    assert [(one.rule, one.case.name) for one in two] == [("best", "bob"), ("worst", "ann")]
    (one,) = figures.choose_patients(replace(study, cases=study.cases[:1]))
    assert (one.rule, one.case.name) == ("patient", "ann")


def test_the_inset_lies_midway_between_the_regions_within_the_frame():
    septum, ventricle = np.zeros((2, 60, 90), bool)
    septum[20:23, 30:33], ventricle[20:23, 50:53] = True, True
    clip = Clip(np.zeros((2, 60, 90), np.float32), 30.0, None, None, "a", Path("a"))
    loaded = Loaded(clip, (1, 2), {2: Annotation(septum, ventricle)}, None)
    assert figures.inset_of(loaded, 2) == (slice(11, 31), slice(31, 51))
    septum[:], ventricle[:] = False, False
    septum[0, 0], ventricle[1, 1] = True, True
    assert figures.inset_of(loaded, 2) == (slice(0, 20), slice(0, 20))


def test_curves_follow_the_strength(study):
    curve = figures.curve_of(study, study.candidates[1])
    assert curve is not None
    assert (curve.setting, curve.values) == ("lam", [0.5, 1.0, 2.0])
    assert [interval.mean for interval in curve.ks] == pytest.approx([0.125, 0.25, 0.5])
    drawn = [np.asarray(line.get_xydata()) for line in figures.draw_tradeoff(study).axes[0].lines]
    expected = np.array([[0.125, 0.49], [0.25, 0.58], [0.5, 0.76]])
    assert any(data.shape == (3, 2) and np.allclose(data, expected) for data in drawn)


def test_boxes_show_every_patient_and_the_mean_over_frames(study):
    axes = figures.draw_boxes(study).axes[0]
    places = [np.asarray(points.get_offsets()) for points in axes.collections]
    np.testing.assert_allclose(sorted(places[2][:, 1]), sorted(0.4 + gain for gain in GAINS.values()))
    np.testing.assert_allclose(places[3], [[1, 0.58]])
    assert [text.get_text() for text in axes.texts] == ["0.400", "0.580"]


def test_cumulative_intensities_step_where_the_values_are(study):
    for method, level in (("hazy", 10), ("rpca", 20)):
        shares = figures.cumulative(study, method, "septum")
        assert shares is not None
        np.testing.assert_array_equal(shares, np.arange(256) >= level)


@pytest.mark.slow
def test_all_figures_without_pictures_are_drawn_and_written(study, tmp_path):
    drawn = [
        figures.draw_motion(study),
        figures.draw_boxes(study),
        figures.draw_tradeoff(study),
        figures.draw_intensities(study, np.ones(256)),
        figures.draw_singular_values(study, study.cases[0]),
    ]
    for number, figure in enumerate(drawn):
        assert isinstance(figure, Figure)
        style.save(figure, tmp_path / str(number))
        assert (tmp_path / f"{number}.pdf").read_bytes().startswith(b"%PDF")
        with Image.open(tmp_path / f"{number}.png") as picture:
            assert picture.width >= 200 * 3
    alone = replace(study, candidates=study.candidates[:1])
    assert figures.draw_motion(alone) is None
    assert figures.draw_singular_values(alone, study.cases[0]) is None


@pytest.mark.slow
def test_the_same_figure_gives_the_same_bytes(study):
    first, second = (style.as_bytes(figures.draw_boxes(study), "pdf") for _ in range(2))
    assert first == second


def test_methods_can_be_told_apart_without_colour_and_in_grey():
    looks = list(style.LOOKS.values())
    assert len({look.color for look in looks}) == len({look.marker for look in looks}) == len(looks)
    assert len({str(look.line) for look in looks if look.title != "Hazy input"}) == len(looks) - 1


# the page


class Page(HTMLParser):
    """Checks nesting and collects what the page refers to."""

    VOID = ("meta", "img", "br", "link", "input", "hr")

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [
            value or "" for name, value in attrs if name in ("src", "href", "poster", "action", "srcset")
        ]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What the command line makes of three small simulated patients, one of which does not move."""
    root = tmp_path_factory.mktemp("chain")
    write_dataset(root / "data", 4, seed=3, frames=11, size=64)
    for path in (root / "data" / "noisy").glob("patient-3-*.png"):
        shutil.copy(root / "data" / "noisy" / "patient-3-4C-frame-1.png", root / path.name)
        shutil.copy(root / path.name, path)
    command = ["evaluate", str(root / "data"), "-o", str(root / "report"), "--methods", "hazy,rpca,nuclear"]

    def small(*args, **rest) -> Dehazed:
        return dehaze_clip(*args, **rest | {"size": 64})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nuclear_diffusion.measure.study.dehaze_clip", small)
        assert main([*command, "--strengths", "rpca=0.3"]) == 2
    return root / "report"


@pytest.mark.slow
def test_the_chain_writes_everything_and_says_what_was_left_out(report):
    names = {path.relative_to(report).as_posix() for path in report.rglob("*") if "results" not in path.parts}
    kinds = ("comparison", "boxes", "tradeoff", "motion", "intensities", "singular_values")
    assert names >= {f"figures/{kind}.{suffix}" for kind in kinds for suffix in ("pdf", "png")}
    assert names >= {
        "scores.csv",
        "differences.csv",
        "numbers.csv",
        "challenge.csv",
        "tables.md",
        "tables.json",
        "report.html",
    }
    read = json.loads((report / "tables.json").read_text())
    assert read["clips"] == ["patient-1-4C", "patient-2-4C", "patient-4-4C"]
    assert [failure["case"] for failure in read["left_out"]] == ["patient-3-4C", "patient-3-4C"]
    there = {row["score"] for row in read["scores"] if row["patients"]}
    assert there >= {"gcnr", "ks_a", "psnr", "ssim", "flicker_a", "flicker_b", "bright_lost"}
    text = (report / "tables.md").read_text()
    for name in ("ks_a", "flicker_a", "flicker_b", "bright_lost"):
        assert f"- {SCORES[name].title}: {SCORES[name].definition}\n" in text
    for word in ("| Robust PCA |", "FID", "g3", "missing", "Holm"):
        assert word in text


@pytest.mark.slow
def test_the_page_is_well_formed_and_holds_all_it_shows(report):
    text = (report / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert page.references
    assert all(reference.startswith("data:") for reference in page.references)
    assert not re.search(r"@import|url\((?!data:)|https?://", text)
    assert (page.tags.count("img"), page.tags.count("table")) == (6, 5)
    assert len(text) < 10_000_000
    assert {path.name for path in (report / "clips").iterdir()} == {"best.mp4", "median.mp4", "worst.mp4"}
    words = " ".join(page.words)
    read = json.loads((report / "tables.json").read_text())
    for row in read["scores"]:
        if row["frames"] and row["score"] in ("gcnr", "ks_a", "ssim"):
            assert f"{row['frame_mean']:.3f}" in words
    for word in ("patient-3-4C is left out", "does not move", "--strengths rpca=0.3", "Research use only"):
        assert word in words
    assert not re.search(r"\{\{ |\{%", text)  # no place of the template was left unfilled


# the films of the page


def plain(text: str, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """A plane as `packed` describes it, read back by NumPy alone."""
    raw = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(-1, *shape)
    change = sum(part.astype(kind) << 8 * place for place, part in enumerate(raw))
    return np.cumsum(change, axis=0, dtype=kind)


def test_packed_planes_hold_every_value():
    generator = np.random.default_rng(0)
    before, share = (generator.integers(0, top, (4, 5, 6)).astype(kind) for top, kind in ((256, "u1"), (65536, "u2")))
    text = packed(Film(before, 25.0, share))
    np.testing.assert_array_equal(plain(text["input"], before.shape, "u1"), before)
    np.testing.assert_array_equal(plain(text["share"], share.shape, "u2"), share)


@pytest.mark.parametrize(("most", "step"), [(10**9, 1), (100_000, 1), (20_000, 2)])
def test_films_fit_into_the_page_and_say_what_is_shown(study, tmp_path, monkeypatch, most, step):
    """30 frames of 48 x 40 pixels of noise, which cannot be compressed, and of their halves, in base64."""
    frames = min(30, round(most / (2 * 4 / 3 * 48 * 40 / step**2)))
    before = np.random.default_rng(1).integers(0, 256, (30, 48, 40)).astype(np.uint8)
    write_video(tmp_path / "ann.npz", before, 20.0)
    case = Case("ann", "ann", tmp_path / "ann.npz", ())
    planted, chosen = replace(study, cases=(case,)), figures.Chosen("patient", case, 0.1)
    sector = np.ones((48, 40), bool)
    monkeypatch.setattr(Study, "output", lambda *_: Output(before // 2, None, sector, 0.0, False, {}, {}))
    (patient,) = films_of(planted, [chosen], most)
    first, second = patient["panels"]
    assert (first["title"], second["title"]) == ("Hazy input", "Robust PCA")
    info = first["info"]
    assert abs(info["frames"] - frames) <= 0.15 * frames
    assert (info["height"], info["width"], info["fps"]) == (48 // step, 40 // step, 20.0)
    assert sum(len(text) for panel in patient["panels"] for text in panel["planes"].values()) <= most
    assert ("all 30 frames" in patient["caption"]) == (frames == 30)
    assert ("every second pixel" in patient["caption"]) == (step == 2)
    place = re.search(r"frames (\d+) to (\d+) of 30", patient["caption"])
    start, stop = (int(place[1]) - 1, int(place[2])) if place else (0, 30)
    assert start <= 15 < stop == start + info["frames"]  # the middle frame is among them
    shape = info["frames"], info["height"], info["width"]
    shown = before[start:stop, ::step, ::step]
    np.testing.assert_array_equal(plain(first["planes"]["input"], shape, "u1"), shown)
    np.testing.assert_array_equal(plain(second["planes"]["signal"], shape, "u1"), shown // 2)


PAINTED = """([number, panel, what, frame]) => films.choose(number).then(() => {
  const player = films.players[panel];
  films.leader.seek(frame);
  const { width, height } = player.film;
  const image = player.layer(what).getContext("2d").getImageData(0, 0, width, height);
  return [player.frame, ...[...image.data].filter((_, k) => k % 4 === 0)];
})"""


@pytest.fixture(scope="module")
def tab(report):
    """The page in headless Chromium, from the disk, without a network."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("needs Chromium or Chrome")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(viewport={"width": 1280, "height": 800}, offline=True, reduced_motion="reduce")
        context.set_default_timeout(PATIENCE)
        page, problems = context.new_page(), []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto((report / "report.html").as_uri())
        page.wait_for_function("window.films && films.ready.then(() => true)")
        yield page
        browser.close()
    assert not problems


def stored(report: Path, method: str, patient: int, name: str) -> np.ndarray:
    """An array of a method's output as `evaluate` keeps it."""
    (path,) = (report / "results" / f"patient-{patient}-4C").glob(f"{method}-*.npz")
    with np.load(path) as held:
        return held[name]


@pytest.mark.slow
def test_the_page_can_be_read_by_all(tab):
    assert_readable(tab)


@pytest.mark.slow
def test_the_page_shows_the_pixels_that_were_measured(report, tab):
    titles = tab.evaluate("films.patients.map(({ caption, panels }) => [caption, ...panels.map(({ title }) => title)])")
    assert [each[1:] for each in titles] == [["Hazy input", "Robust PCA", "Nuclear Diffusion", "Clean clip"]] * 3
    for number, (caption, *_) in enumerate(titles):
        patient = int(caption.removeprefix("patient-")[0])
        assert "Shown: all 11 frames." in caption
        frame, *pixels = tab.evaluate(PAINTED, [number, 1, "result", 4])
        assert frame == 4
        expected = stored(report, "rpca", patient, "signal")[4]
        np.testing.assert_array_equal(np.reshape(pixels, (64, 64)), expected)
        hazy = np.asarray(Image.open(report.parent / "data" / "noisy" / f"patient-{patient}-4C-frame-5.png"))
        _, *pixels = tab.evaluate(PAINTED, [number, 2, "input", 4])
        np.testing.assert_array_equal(np.reshape(pixels, (64, 64)), hazy)


@pytest.mark.slow
@pytest.mark.parametrize("strength", [0.1, 0.5, 0.9])
def test_the_knob_of_the_page_renders_as_the_library(report, tab, strength):
    tab.locator("[name=strength]").fill(str(strength))
    patient = int(tab.evaluate("films.patients[0].caption.match(/\\d/)[0]"))
    _, *pixels = tab.evaluate(PAINTED, [0, 2, "result", 3])
    hazy = np.asarray(Image.open(report.parent / "data" / "noisy" / f"patient-{patient}-4C-frame-4.png"))
    share = stored(report, "nuclear", patient, "share")[3:4] / 65535
    expected = render(hazy[None] / np.float32(255), share, strength)[0] * 255
    assert np.abs(np.reshape(pixels, (64, 64)) - expected).max() <= 0.51
    if strength == 0.5:
        measured = stored(report, "nuclear", patient, "signal")[3].astype(int)
        assert np.abs(np.reshape(pixels, (64, 64)) - measured).max() <= 1
    until(tab, "document.querySelector('[name=strength-value]').value", f"{strength:.2f}")


@pytest.mark.slow
def test_the_page_is_worked_by_keyboard(tab):
    tab.locator("#films canvas").first.focus()
    start = tab.evaluate("films.leader.frame")
    tab.keyboard.press("ArrowRight")
    until(tab, "films.players.map(({ frame }) => frame)", [(start + 1) % 11] * 4)
    tab.keyboard.press("2")
    until(tab, "films.players.slice(1).map(({ view }) => view)", ["wipe"] * 3)
    tab.locator("[name=wipe]").fill("0.25")
    until(tab, "films.players.map(({ wipe }) => wipe)", [0.25] * 4)
    # a panel that is drawn later, as it was, does not take back what another was given
    tab.evaluate("films.leader.wipe = 0.4; films.players[1].dispatchEvent(new Event('drawn'))")
    tab.evaluate("films.leader.dispatchEvent(new Event('drawn'))")
    until(tab, "films.players.map(({ wipe }) => wipe)", [0.4] * 4)
    tab.locator("[name=wipe]").fill("0.25")
    tab.keyboard.press(" ")
    tab.wait_for_function(f"films.leader.playing && films.leader.frame !== {(start + 1) % 11}")
    tab.keyboard.press(" ")
    until(tab, "document.querySelector('[name=play]').textContent", "Play")


@pytest.mark.slow
def test_a_heading_sorts_its_table(tab):
    table = tab.locator("table.sortable").first
    button = table.locator("th button").nth(1)
    for order in ("ascending", "descending"):
        button.focus()
        tab.keyboard.press("Enter")
        values = [float(text.split()[0]) for text in table.locator("tbody td:nth-child(2)").all_inner_texts()]
        assert values == sorted(values, reverse=order == "descending")
        assert table.locator("th").nth(1).get_attribute("aria-sort") == order


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (3840, 2160)])
def test_the_page_fits_the_screen(tab, width, height):
    tab.set_viewport_size({"width": width, "height": height})
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    for wide in tab.evaluate(
        "[...document.images].map((one) => one.naturalWidth && one.getBoundingClientRect().width)"
    ):
        assert wide > 0.25 * min(width, 1600)
    left, right, top, bottom = tab.evaluate(
        """() => {
          const boxes = films.players.map(({ canvas }) => canvas.getBoundingClientRect());
          return [Math.min(...boxes.map((b) => b.left)), Math.max(...boxes.map((b) => b.right)),
                  Math.min(...boxes.map((b) => b.top)), Math.max(...boxes.map((b) => b.bottom))];
        }"""
    )
    assert 0 <= left < right <= width
    assert bottom - top < 0.75 * height  # all panels are in view at once


@pytest.mark.slow
def test_a_table_that_is_cut_glows_where_it_goes_on(tab):
    tab.set_viewport_size({"width": 600, "height": 800})
    table = tab.locator(".scroll").first
    assert table.evaluate("({ scrollWidth, clientWidth }) => scrollWidth - clientWidth") > 50

    def edges() -> list[bool]:
        """Whether the left and the right edge are brighter than the ground, in a row between the lines of text."""
        picture = np.asarray(Image.open(io.BytesIO(table.screenshot())).convert("RGB")).astype(int)
        ground = [round(255 * part) for part in to_rgb(palette.COLORS["ground"])]
        return [bool(np.abs(picture[2, at] - ground).max() > 20) for at in (1, -2)]

    assert edges() == [False, True]
    table.evaluate("(box) => { box.scrollLeft = box.scrollWidth; }")
    assert edges() == [True, False]
    table.evaluate("(box) => { box.scrollLeft = 0; }")


@pytest.mark.slow
def test_one_patient_needs_no_choice_and_one_thing_has_one_name(report, tab):
    assert tab.locator("[name=patients] button").count() == 3
    assert tab.evaluate("films.players.at(-1).sources.at(-1).name") == "clean clip"
    assert not re.search(r"\btruth\b", tab.inner_text("body"))
    other = tab.context.new_page()
    other.goto((report / "report.html").as_uri())
    other.wait_for_function("window.films && films.ready.then(() => true)")
    assert other.locator("[name=patients]").is_visible()
    other.evaluate("new films.constructor(films.root, films.patients.slice(0, 1))")
    assert other.locator("[name=patients]").is_hidden()
    other.close()


# colours


def test_the_pages_and_the_figures_share_their_colours():
    assert dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6});", source("style.css"))) == palette.COLORS
    colours = {value.lower() for value in palette.COLORS.values()}
    for script in ("player.js", "panels.js"):
        assert set(re.findall(r"#[0-9a-f]{6}\b", source(script))) <= colours


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    value = np.array(to_rgb(colour))
    return float(np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


def test_marks_and_words_stand_out_on_the_dark_page():
    """WCAG 2.2 asks for a contrast of 4.5 for text and of 3 for graphics."""
    ground = luminance(palette.COLORS["ground"]) + 0.05
    assert all((luminance(palette.COLORS[name]) + 0.05) / ground > 4.5 for name in ("text", "quiet", "sky"))
    with style.on_screen():
        colours = [style.look_of(name).color for name in style.LOOKS]
    assert all((luminance(colour) + 0.05) / ground > 3 for colour in colours)
    assert len(set(colours)) == len(colours)


BLIND = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""What colour-blind people see of linear RGB: Machado, Oliveira and Fernandes (2009), severity 1."""


@pytest.mark.parametrize("kind", BLIND)
def test_colours_on_screen_differ_for_colour_blind_people(kind):
    """By at least 10 in CIEDE2000; 1 is just noticeable."""
    with style.on_screen():
        colours = np.array([to_rgb(style.look_of(name).color) for name in style.LOOKS])
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(BLIND[kind]), 0, 1)
    lab = rgb2lab(np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)[None])[0]
    apart = deltaE_ciede2000(lab[:, None], lab[None]) + 100 * np.eye(len(lab))
    assert apart.min() >= 10


@pytest.mark.slow
def test_figures_are_white_in_print_and_dark_on_the_page(study):
    for dark in (False, True):
        with style.on_screen() if dark else contextlib.nullcontext():
            figure = figures.draw_boxes(study)
            picture = Image.open(io.BytesIO(style.as_bytes(figure, "png"))).convert("RGB")
            first, second = (style.as_bytes(figures.draw_boxes(study), "svg") for _ in range(2))
        assert first == second
        expected = palette.COLORS["ground"] if dark else "#ffffff"
        assert picture.getpixel((0, 0)) == tuple(round(255 * part) for part in to_rgb(expected))


def test_without_the_extra_the_command_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("nuclear_diffusion.measure.find_spec", lambda name: None if name != "joblib" else name)
    assert main(["evaluate", str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    said = "error: evaluate needs jinja2 and statsmodels, which are not installed: "
    assert capsys.readouterr().err == said + "python -m pip install 'nuclear-diffusion[evaluate]'.\n"


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ("--workers 0", "--workers"),
        ("--strengths 1,fast", "--strengths"),
        ("--strengths zea=2", "--methods does not name"),
        ("--strengths -1", "--strengths"),
        ("--seed -1", "--seed"),
        ("--methods magic", "magic"),
        ("--noisy nowhere", "nowhere"),
    ],
)
def test_bad_flags_are_one_sentence_before_any_work(flags, word, tmp_path, capsys):
    (tmp_path / "noisy").mkdir()
    out = tmp_path / "out"
    Image.new("L", (20, 20)).save(tmp_path / "noisy" / "a-1.png")
    Image.new("L", (20, 20)).save(tmp_path / "noisy" / "a-2.png")
    (tmp_path / "noisy" / "a-1.json").write_text('{"shapes": []}')
    assert main(["evaluate", str(tmp_path), "-o", str(out), *flags.split()]) == 2
    captured = capsys.readouterr().err
    assert captured.startswith("error: ")
    assert captured.count("\n") == 1
    assert word in captured
    assert not out.exists()
