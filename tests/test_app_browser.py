"""The page in a real browser: what the eye sees is what the library computes."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from nuclear_diffusion.app.regions import Regions
from nuclear_diffusion.measure.scores import eight_bits
from nuclear_diffusion.metrics import gcnr
from nuclear_diffusion.restore.clip import dehaze_clip
from nuclear_diffusion.restore.methods import Rpca
from nuclear_diffusion.restore.render import render
from tests.test_app import SEPTUM, VENTRICLE, made_result

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium or Chrome")]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """A running app with one result open; yields its address, folder, clip and haze fraction."""
    folder = tmp_path_factory.mktemp("app")
    clip, share = made_result(folder / "result", frames=8)
    np.savez(folder / "raw.npz", frames=np.rint(255 * clip.frames).astype(np.uint8), fps=25.0)
    command = [sys.executable, "-m", "nuclear_diffusion", "app", str(folder / "result"), str(folder), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        match = re.search(r"http://127.0.0.1:\d+/\?token=\S+", process.stdout.readline())
        assert match is not None
        yield match[0], folder, clip, share
        process.terminate()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield made
        made.close()


@pytest.fixture
def page(app, browser):
    tab = browser.new_page(viewport={"width": 1280, "height": 800}, bypass_csp=True)  # for evaluate
    problems = []
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.goto(app[0])
    tab.wait_for_function("window.player !== undefined")
    yield tab
    tab.close()
    assert not problems


def painted(page, what: str, frame: int) -> np.ndarray:
    """The picture that the page draws of a frame, red channel, at the clip's own size."""
    values = page.evaluate(
        """([what, frame]) => {
          player.seek(frame);
          const { width, height } = player.film;
          const image = player.layer(what).getContext("2d").getImageData(0, 0, width, height);
          return [...image.data].filter((_, k) => k % 4 === 0);
        }""",
        [what, frame],
    )
    return np.reshape(np.array(values, np.uint8), (64, 64))


@pytest.mark.parametrize("strength", [0.0, 0.5, 0.83, 1.0])
def test_the_knob_changes_pixels_as_the_library_says(app, page, strength):
    _, _, clip, share = app
    page.locator("#strength").fill(str(strength))
    expected = np.rint(255 * render(clip.frames, share, strength)[3])
    shown = painted(page, "result", 3)
    assert np.abs(shown - expected).max() <= 1  # a rounding at exactly half a grey level
    assert (shown == expected).mean() > 0.99
    np.testing.assert_array_equal(painted(page, "input", 3), np.rint(255 * clip.frames[3]))
    assert page.inner_text("#strength-value") == f"{strength:.2f}"
    assert (f"--strength {strength:g}" in page.inner_text("#command")) == (strength != 0.5)


def test_regions_drawn_with_the_mouse_give_scores(page):
    """Corners are set by clicks, a dragged corner makes a key frame, and frames between are interpolated."""
    corner = """([x, y]) => {
      const place = player.place(player.panels()[0]), box = player.canvas.getBoundingClientRect();
      const ratio = player.canvas.width / box.width;
      return [box.left + (place.left + x * place.scale) / ratio, box.top + (place.top + y * place.scale) / ratio];
    }"""

    def at(x: float, y: float) -> tuple[float, float]:
        return tuple(page.evaluate(corner, [x, y]))

    for region, left in (("septum", 8), ("ventricle", 40)):
        page.click(f"#{region}")
        for x, y in ((left, 8), (left + 16, 8), (left + 16, 40), (left, 40)):
            page.mouse.click(*at(x, y))
        page.keyboard.press("Enter")
    page.wait_for_function("Object.values(window.scores?.results ?? {})[0]?.means?.gcnr > 0")
    assert page.locator("#scores tbody tr").count() >= 6
    page.evaluate("player.seek(7)")
    page.mouse.move(*at(8, 8))
    page.mouse.down()
    page.mouse.move(*at(4, 8))
    page.mouse.up()
    keys = page.evaluate("outlines.keys.septum")
    assert sorted(keys) == ["0", "7"]
    polygons = page.evaluate("outlines.polygons().septum")
    moved = polygons[7][0][0]
    assert moved == pytest.approx(4, abs=0.5)
    first = polygons[0][0][0]
    np.testing.assert_allclose(polygons[3][0][0], first + (moved - first) * 3 / 7, atol=1e-6)


def test_keys_play_step_loop_and_choose_the_view(page):
    page.locator("#screen").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("player.frame") == 2
    page.keyboard.press("[")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("]")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("[player.loop, player.frame]") == [[2, 3], 2]
    for key, view in (("2", "wipe"), ("a", "flicker"), ("1", "side")):
        page.keyboard.press(key)
        assert page.evaluate("player.view") == view
    page.keyboard.press(" ")
    assert page.evaluate("player.playing")
    page.keyboard.press(" ")
    assert not page.evaluate("player.playing")


def test_results_of_two_methods_are_compared_in_step(app, page):
    """All panes show the library's pixels of one frame; any two stand side by side; one table scores them all."""
    _, _, clip, share = app
    page.locator("#strength").fill("0.7")
    page.locator("#method").select_option("rpca")
    page.click("#start")
    page.wait_for_function("player.sources.length === 3", timeout=120_000)
    assert page.inner_text("#strength-value") == "0.70"  # a method without a knob leaves it alone
    assert page.locator("#strength").input_value() == "0.7"
    assert page.evaluate("player.sources.map(({ name }) => name)") == ["input", "Nuclear Diffusion", "Robust PCA"]
    page.click("[data-view=all]")
    page.evaluate("player.seek(5)")
    shown = page.evaluate(
        """() => player.panels().map(({ what, film }) => {
          const { data } = player.layer(what, film).getContext("2d").getImageData(0, 0, film.width, film.height);
          return [...data].filter((_, k) => k % 4 === 0);
        })"""
    )
    signals = (clip.frames, render(clip.frames, share, 0.7), dehaze_clip(clip, Rpca()).signal)
    for values, signal in zip(shown, signals, strict=True):
        assert np.abs(np.reshape(values, (64, 64)) - np.rint(255 * signal[5])).max() <= 1
    places = page.evaluate("player.panels().map((panel) => { const { x, y } = player.place(panel); return [x, y]; })")
    assert len({tuple(place) for place in places}) == 3

    page.locator("#a").select_option(label="Nuclear Diffusion")
    page.wait_for_function("player.pair[0] === 1")
    page.click("[data-view=wipe]")
    assert page.evaluate("[player.sources[player.pair[0]].name, player.panels()[0].name]") == [
        "Nuclear Diffusion",
        "Robust PCA",
    ]
    page.locator("#screen").focus()
    for key, name in (("a", "Nuclear Diffusion"), ("b", "Robust PCA")):
        page.keyboard.press(key)
        assert page.evaluate("player.panels()[0].name") == name

    page.evaluate("([a, b]) => { outlines.setKey('septum', a); outlines.setKey('ventricle', b); }", [SEPTUM, VENTRICLE])
    page.wait_for_function(
        "Object.values(window.scores?.results ?? {}).filter(({ means }) => means.gcnr > 0).length === 2"
    )
    assert page.locator("#scores thead th").all_inner_texts() == ["", "input", "Nuclear Diffusion", "Robust PCA"]
    masks = Regions(septum=[SEPTUM] * 8, ventricle=[VENTRICLE] * 8).annotations((8, 64, 64))[1]
    expected = [np.mean([gcnr(eight_bits(frame), *masks) for frame in signal]) for signal in signals]
    numbers = page.locator("[data-score=gcnr] td").all_inner_texts()
    assert numbers == [f"{value:.3f}" for value in expected]
    page.click("#runs button[aria-label='Forget Robust PCA']")
    page.wait_for_function("player.sources.length === 2")


def test_a_marked_beat_is_shown_on_the_time_line(page):
    page.locator("#screen").focus()
    assert page.locator("#beat").is_hidden()
    for key in ("ArrowRight", "ArrowRight", "[", "ArrowRight", "ArrowRight", "ArrowRight", "]"):
        page.keyboard.press(key)
    assert page.inner_text("#loop") == "3 to 6, 0.16 s"
    line, beat = page.locator("#frame").bounding_box(), page.locator("#beat").bounding_box()
    run = line["width"] - 16  # of the thumb's centre
    assert beat["x"] == pytest.approx(line["x"] + 8 + run * 2 / 7, abs=1)
    assert beat["width"] == pytest.approx(run * 3 / 7, abs=1)
    page.evaluate("player.speed = 1000; player.play(true)")
    page.wait_for_timeout(200)
    assert 2 <= page.evaluate("player.frame") <= 5
    page.keyboard.press("\\")
    assert page.locator("#beat").is_hidden()


def test_a_dropped_clip_is_separated_and_survives_a_reload(app, page, tmp_path):
    page.locator("#pick").set_input_files(str(app[1] / "raw.npz"))
    page.wait_for_function("document.querySelector('#clips').innerText.includes('raw')")
    page.locator("#method").select_option("rpca")
    page.click("#start")
    page.wait_for_selector("#runs button:not(:disabled)", timeout=120_000)
    assert "Robust PCA" in page.inner_text("#runs")
    page.locator("#kind").select_option("json")
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(tmp_path / "settings.json")
    assert '"method":"rpca"' in (tmp_path / "settings.json").read_text().replace(" ", "")
    page.reload()
    page.wait_for_function("window.player !== undefined")
    assert "Robust PCA" in page.inner_text("#runs")


def test_a_bad_file_is_one_sentence_on_the_page(page, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no movie")
    page.locator("#pick").set_input_files(str(tmp_path / "broken.mp4"))
    page.wait_for_selector("#error:not([hidden])")
    assert "broken.mp4" in page.inner_text("#error")


def test_two_tabs_share_the_desk(app, browser, page):
    other = browser.new_page()
    violations = []
    other.on("console", lambda message: violations.append(message.text) if message.type == "error" else None)
    other.goto(app[0])
    other.wait_for_selector("#look:not([hidden])")
    assert other.inner_text("#clips") == page.inner_text("#clips")
    other.close()
    assert not violations  # of the content security policy, which the other tests bypass


def test_the_sheet_is_sorted_and_results_without_the_number_come_last(app, page):
    _, folder, _, _ = app
    planted = {"much": 0.9, "little": 0.01, "old": None}
    for name, change in planted.items():
        shutil.copytree(folder / "result", folder / name)
        report = json.loads((folder / name / "report.json").read_text())
        assert 0.01 < report.pop("bright_tissue_changed") < 0.9
        more = {} if change is None else {"bright_tissue_changed": change}
        (folder / name / "report.json").write_text(json.dumps(report | more))
    page.click("#sheet-open")
    page.locator("#sort").select_option("bright_tissue_changed")
    assert page.locator("#cards strong").all_inner_texts() == ["much", "result", "little", "old"]
    assert "tissue changed 90.0 %" in page.locator("#cards .card").first.inner_text()
    for name in planted:
        shutil.rmtree(folder / name)


def test_a_page_without_the_token_shows_nothing(app, browser):
    tab = browser.new_page()
    reply = tab.goto(app[0].split("?")[0])
    assert reply is not None
    assert reply.status == 403
    tab.close()


def test_show_is_a_page_of_its_own(browser, tmp_path, app):
    """`nd.show` needs no server: the saved page plays and its knob is live."""
    import nuclear_diffusion as nd

    _, folder, clip, share = app
    nd.show(folder / "result").save(tmp_path / "show.html")
    tab = browser.new_page(viewport={"width": 900, "height": 640})
    tab.goto((tmp_path / "show.html").as_uri())
    tab.wait_for_function("window.player !== undefined")
    tab.evaluate("player.play(false)")
    tab.locator("#strength").fill("0.9")
    expected = np.rint(255 * render(clip.frames, share, 0.9)[2])
    assert np.abs(painted(tab, "result", 2) - expected).max() <= 1
    assert "<iframe srcdoc=" in nd.show(folder / "result")._repr_html_()
    tab.close()
