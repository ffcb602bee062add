"""The page in a real browser: what the eye sees is what the library computes."""

import json
import re
import shlex
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
from pydicom import examples

from nuclear_diffusion import cli
from nuclear_diffusion.app.regions import Regions, inside
from nuclear_diffusion.metrics import gcnr
from nuclear_diffusion.restore.clip import dehaze_clip, rendered
from nuclear_diffusion.restore.folder import read_h5
from nuclear_diffusion.restore.methods import Nuclear, Rpca, read_settings
from nuclear_diffusion.restore.render import render
from nuclear_diffusion.sector import read_sector
from nuclear_diffusion.types import eight_bits
from tests.pages import CHROMIUM, PATIENCE, assert_readable, until
from tests.test_app import SEPTUM, VENTRICLE, made_result

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium or Chrome")]
LONG = 20_000
"""Steps of zea's method that no machine ends while a test looks at them; such a run is stopped."""
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """A running app with one result open and two folders; yields its address, first folder, clip and haze fraction."""
    folder, second = tmp_path_factory.mktemp("app"), tmp_path_factory.mktemp("second")
    clip, share = made_result(folder / "result", frames=8)
    np.savez(folder / "raw.npz", frames=np.rint(255 * clip.frames).astype(np.uint8), fps=25.0)
    command = [sys.executable, "-m", "nuclear_diffusion", "app", str(folder / "result"), str(folder), str(second)]
    with subprocess.Popen([*command, "--no-browser"], stdout=subprocess.PIPE, text=True) as process:
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


def new_tab(browser, **how):
    tab = browser.new_page(**how)
    tab.set_default_timeout(PATIENCE)
    return tab


@pytest.fixture
def page(app, browser):
    tab = new_tab(browser, viewport={"width": 1280, "height": 800}, bypass_csp=True)  # for evaluate
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
    return np.reshape(np.array(values, np.uint8), page.evaluate("[player.film.height, player.film.width]"))


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


def test_uncertainty_lies_in_orange_over_the_result(app, page):
    _, _, clip, share = app
    deviation = np.arange(clip.frames.size) % 256
    page.evaluate("player.film.deviation = Uint8Array.from({ length: 8 * 64 * 64 }, (_, k) => k % 256)")
    part = deviation.reshape(clip.shape)[3] / 255
    strength = page.evaluate("player.strength")
    expected = 255 * render(clip.frames, share, strength)[3] * (1 - part) + 230 * part
    assert np.abs(painted(page, "deviation", 3) - expected).max() <= 1.5


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
    until(page, "Object.keys(outlines.keys.septum).sort()", ["0", "7"])
    polygons = page.evaluate("outlines.polygons().septum")
    moved = polygons[7][0][0]
    assert moved == pytest.approx(4, abs=0.5)
    first = polygons[0][0][0]
    np.testing.assert_allclose(polygons[3][0][0], first + (moved - first) * 3 / 7, atol=1e-6)


def test_regions_drawn_with_keys_alone_give_the_librarys_scores(app, page):
    """The cross-hair goes where the arrows say; corners are set, taken back, closed and moved."""
    _, _, clip, share = app
    press = page.keyboard.press
    stride = 2 / page.evaluate("player.place(player.panels()[0]).scale * devicePixelRatio")

    def go(*to: float) -> None:
        for axis, ways in enumerate((("ArrowLeft", "ArrowRight"), ("ArrowUp", "ArrowDown"))):
            for prefix, step in (("Shift+", 10 * stride), ("", stride)):
                away = to[axis] - page.evaluate("outlines.cross")[axis]
                for _ in range(round(abs(away) / step)):
                    press(prefix + ways[away > 0])

    corners = {"septum": [(8, 8), (24, 8), (24, 40), (8, 40)], "ventricle": [(40, 8), (56, 8), (56, 40), (40, 40)]}
    for region, places in corners.items():
        page.locator(f"#{region}").focus()
        press("Enter")
        until(page, "[outlines.mode, document.activeElement.id]", [region, "screen"])
        for key, place in zip(("Enter", " ", "Enter", " "), places, strict=True):
            go(*place)
            press(key)
        go(32, 32)
        press("Enter")
        press("Backspace")
        until(page, "outlines.open.length", 4)
        if region == "septum":
            go(*places[0])  # the first corner closes
        else:
            press("ArrowUp")
            press("Enter")
        press("Enter")  # and so does a key that sets none
        until(page, "outlines.mode", None)
    page.locator("#ventricle").focus()
    press("Enter")
    press("Enter")
    press("Escape")
    drawn = page.evaluate("outlines.polygons()")
    assert len(drawn["ventricle"][0]) == 5  # the last one where the cross-hair was, one step up
    for region, places in corners.items():
        np.testing.assert_allclose(drawn[region][0][:4], places, atol=stride)
    page.wait_for_function("Object.values(window.scores?.results ?? {})[0]?.means?.gcnr > 0")
    masks = Regions(**drawn).annotations(clip.shape)[1]
    signal = render(clip.frames, share, page.evaluate("player.strength"))
    expected = np.mean([gcnr(eight_bits(frame), *masks) for frame in signal])
    assert page.locator("[data-score=gcnr] td").last.inner_text() == f"{expected:.3f}"

    press("ArrowLeft")
    until(page, "player.frame", 7)
    for key in ("e", "Tab", "Tab", "Tab", "Shift+Tab", "Shift+ArrowRight", "Enter"):
        press(key)
    moved = page.evaluate("outlines.polygons()")
    assert page.evaluate("Object.keys(outlines.keys.septum)") == ["0", "7"]
    difference = np.subtract(moved["septum"][7], drawn["septum"][0])
    np.testing.assert_allclose(difference, [[0, 0], [0, 0], [10 * stride, 0], [0, 0]], atol=1e-6)
    press("e")
    for _ in range(9):
        press("Tab")
    until(page, "[outlines.mode, document.activeElement.id === 'screen']", [None, False])  # no trap

    page.locator("#line").focus()
    for key in (" ", "Enter", "Shift+ArrowDown", " "):
        press(key)
    np.testing.assert_allclose(page.evaluate("outlines.line"), [[32, 32], [32, 32 + 10 * stride]], atol=1e-6)
    assert page.locator("#mmode").is_visible()


def test_the_cross_hair_stays_in_sight_and_is_seen(page):
    """Of a picture that is zoomed, the part where it goes comes into view; the mouse takes it over."""
    page.locator("#septum").focus()
    page.keyboard.press("Enter")
    for key in (*"+++", *["Shift+ArrowRight"] * 40):
        page.keyboard.press(key)
    until(page, "outlines.cross[0]", 64)
    zoom = page.evaluate("player.zoom")
    assert page.evaluate("player.pan[0]") == pytest.approx(32 - 32 / zoom)
    page.keyboard.press("0")
    for _ in range(20):
        page.keyboard.press("Shift+ArrowLeft")
    spot = """() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => {
      const place = player.place(player.panels()[0]), [x, y] = outlines.cross;
      const at = [place.left + x * place.scale + 7, place.top + y * place.scale];
      resolve([...player.canvas.getContext("2d").getImageData(...at, 1, 1).data].slice(0, 3));
    })))"""
    assert page.evaluate(spot) == [0xF0, 0xE4, 0x42]
    box = page.locator("#screen").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    until(page, "outlines.cross.map(Math.round)", [32, 32])


def test_keys_play_step_loop_and_choose_the_view(page):
    page.locator("#screen").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    until(page, "player.frame", 2)
    page.keyboard.press("[")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("]")
    page.keyboard.press("ArrowRight")
    until(page, "[player.loop, player.frame]", [[2, 3], 2])
    for key, view in (("2", "wipe"), ("a", "flicker"), ("1", "side")):
        page.keyboard.press(key)
        until(page, "player.view", view)
    for playing in (True, False):
        page.keyboard.press(" ")
        until(page, "player.playing", playing)
    page.keyboard.press("+")
    page.keyboard.press("Shift+ArrowRight")
    until(page, "[player.zoom, player.pan]", [1.25, [-64 / 1.25 / 20, 0]])
    page.keyboard.press("0")
    until(page, "[player.zoom, player.pan]", [1, [0, 0]])
    page.keyboard.press("2")
    page.keyboard.press("Shift+ArrowLeft")
    until(page, "player.wipe", 0.45)
    page.keyboard.press("?")
    assert "shift + arrows" in page.locator("#keys").inner_text()


def test_the_page_can_be_read_by_all(page):
    """With all that it can show: names for those who do not see it, contrast, a mark of where the keys go."""
    page.evaluate("([a, b]) => { outlines.setKey('septum', a); outlines.setKey('ventricle', b); }", [SEPTUM, VENTRICLE])
    page.wait_for_function("document.querySelectorAll('#scores tbody tr').length > 0")
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    assert_readable(page)
    for name in ("browse", "sheet-open"):
        page.click(f"#{name}")
        page.locator("dialog[open] button").nth(1).wait_for()
        assert_readable(page)
        page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_results_of_two_methods_are_compared_in_step(app, page):
    """All panes show the library's pixels of one frame; any two stand side by side; one table scores them all."""
    _, _, clip, share = app
    page.locator("#strength").fill("0.7")
    page.locator("#method").select_option("rpca")
    page.click("#start")
    page.wait_for_function("player.sources.length === 3")
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
    until(page, "[player.sources[player.pair[0]].name, player.panels()[0].name]", ["Nuclear Diffusion", "Robust PCA"])
    page.locator("#screen").focus()
    for key, name in (("a", "Nuclear Diffusion"), ("b", "Robust PCA")):
        page.keyboard.press(key)
        until(page, "player.panels()[0].name", name)

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
    page.wait_for_function("player.sources.length === 2")  # before other tests look at this clip


def test_a_marked_beat_is_shown_on_the_time_line(page):
    page.locator("#screen").focus()
    assert page.locator("#beat").is_hidden()
    for key in ("ArrowRight", "ArrowRight", "[", "ArrowRight", "ArrowRight", "ArrowRight", "]"):
        page.keyboard.press(key)
    until(page, "document.querySelector('#loop').value", "3 to 6, 0.16 s")
    line, beat = page.locator("#frame").bounding_box(), page.locator("#beat").bounding_box()
    run = line["width"] - 16  # of the thumb's centre
    assert beat["x"] == pytest.approx(line["x"] + 8 + run * 2 / 7, abs=1)
    assert beat["width"] == pytest.approx(run * 3 / 7, abs=1)
    frames = """() => new Promise((resolve) => {
      const seen = new Set();
      player.addEventListener("frame", () => { seen.add(player.frame); if (seen.size > 3) resolve([...seen].sort()); });
      player.play(true);
    })"""
    assert page.evaluate(frames) == [2, 3, 4, 5]
    page.keyboard.press("\\")
    page.locator("#beat").wait_for(state="hidden")


def test_the_demo_clip_is_dehazed_through_a_reload_and_its_knob_is_the_librarys(app, page, tmp_path):
    dropped(page, app)
    started(page, "zea", steps=LONG)
    page.locator("#status", has_text="of 8 frames").wait_for()
    page.reload()
    page.locator("#status", has_text="of 8 frames").wait_for()
    page.locator("#pick").set_input_files(examples.get_path("ybr_color"))
    page.wait_for_function("document.title.includes('color')")
    page.click("#start")
    page.locator("#status", has_text="Waits for another run").wait_for()
    page.reload()
    page.locator("#status", has_text="Waits for another run").wait_for()
    page.locator("#clips li button:first-child").nth(-2).click()
    page.wait_for_function("document.title.includes('raw')")
    page.click("#stop")
    page.locator("#runs", has_text="stopped").wait_for()
    page.locator("#clips li button:first-child").last.click()
    page.wait_for_function("window.player?.film.share")
    assert page.inner_text("#runs").startswith("Nuclear Diffusion")
    for kind in ("json", "result.h5"):
        page.locator("#kind").select_option(kind)
        with page.expect_download() as download:
            page.click("#save")
        download.value.save_as(tmp_path / kind)
    assert read_settings(tmp_path / "json") == Nuclear()
    clip, found = read_h5(tmp_path / "result.h5")
    page.locator("#strength").fill("0.8")
    color = rendered(clip, found, 0.8).color
    assert color is not None
    assert np.abs(painted(page, "result", 3) - 255 * color[3, ..., 0]).max() <= 1
    clips = page.locator("#clips li").count()
    page.click("#clips li:last-child button:last-child")
    until(page, "document.querySelectorAll('#clips li').length", clips - 1)  # before other tests count them


def test_a_bad_file_is_one_sentence_on_the_page(app, page, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no movie")
    page.locator("#pick").set_input_files(str(tmp_path / "broken.mp4"))
    page.wait_for_selector("#error:not([hidden])")
    assert "broken.mp4" in page.inner_text("#error")
    clips = page.locator("#clips li").count()
    page.locator("#pick").set_input_files([str(tmp_path / "broken.mp4"), str(app[1] / "raw.npz")])
    page.locator("#clips li").nth(clips).wait_for()  # the other one is read
    assert "broken.mp4" in page.inner_text("#error")
    dropped(page, app)
    assert page.locator("#error").is_hidden()


def test_a_file_that_is_read_is_named_meanwhile_and_clips_of_one_name_say_where_they_are(app, page):
    (app[1] / "again").mkdir()
    shutil.copytree(app[1] / "result", app[1] / "again" / "result")
    said = []

    def seen(route):
        said.append(page.inner_text("#drop"))
        route.continue_()

    page.route("**/api/open", seen)
    page.click("#browse")
    for name in (str(app[1]), "again/", "result (result)"):
        page.locator("#entries li button:first-child", has_text=name).first.click()
    places = [str(app[1] / place / "result.h5") for place in ("result", "again/result")]
    page.locator("#clips", has_text=places[1]).wait_for()
    assert said == ["Reading result …"]
    shown = page.locator("#clips li button:first-child", has_text="patient-7").all_inner_texts()
    assert shown == [f"patient-7\n{place}" for place in places]
    page.locator("#drop", has_text="Drop a clip").wait_for()
    shutil.rmtree(app[1] / "again")


def test_start_and_progress_are_in_sight_with_many_clips(app, page):
    for _ in range(12):
        dropped(page, app)
    assert page.locator("#start").evaluate("(start) => start.getBoundingClientRect().bottom") < 800
    chosen, shown = (page.locator(f"#clips{part}").bounding_box() for part in (" [aria-pressed=true]", ""))
    assert shown["y"] <= chosen["y"] < chosen["y"] + chosen["height"] <= shown["y"] + shown["height"] + 1
    page.click("#start")
    run = page.locator("#runs li button:first-child")
    run.wait_for()
    assert run.evaluate("(shown) => shown.getBoundingClientRect().bottom") < 800
    page.click("#runs li button:last-child")
    page.wait_for_function("document.querySelectorAll('#runs li').length === 0")


def test_two_tabs_share_the_desk(app, browser, page):
    other = new_tab(browser)
    violations = []
    other.on("console", lambda message: violations.append(message.text) if message.type == "error" else None)
    other.goto(app[0])
    other.wait_for_selector("#look:not([hidden])")
    assert page.inner_text("#clips").split() == other.inner_text("#clips").split()
    clips = other.locator("#clips li").count()
    dropped(page, app)
    other.dispatch_event("body", "focus", {"bubbles": True})
    other.locator("#clips li").nth(clips).wait_for()
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
    page.locator("#cards strong").nth(3).wait_for()
    page.locator("#sort").select_option("bright_tissue_changed")
    assert page.locator("#cards strong").all_inner_texts() == ["much", "result", "little", "old"]
    assert "tissue changed 90.0 %" in page.locator("#cards .card").first.inner_text()
    for name in planted:
        shutil.rmtree(folder / name)


def dropped(page, app) -> str:
    """Drop the raw clip; returns its key."""
    before = page.locator("#clips li").count()
    page.locator("#pick").set_input_files(str(app[1] / "raw.npz"))
    page.wait_for_function(f"document.querySelectorAll('#clips li').length > {before}")
    page.wait_for_function("outlines.clip === sessionStorage.getItem('clip')")
    return page.evaluate("outlines.clip")


def started(page, method: str, **values: float | str) -> None:
    """Start a method on the clip in view."""
    page.locator("#method").select_option(method)
    page.evaluate("document.querySelector('#settings').closest('details').open = true")
    for name, value in values.items():
        page.locator(f"#settings [name={name}]").fill(str(value))
    page.click("#start")


def test_regions_stay_with_their_clip(app, page):
    """Another clip has none; back on the first one, and after a reload, they are there, with their scores."""
    page.evaluate("([a, b]) => { outlines.setKey('septum', a); outlines.setKey('ventricle', b); }", [SEPTUM, VENTRICLE])
    page.evaluate("outlines.line = [[1, 2], [30, 40]]; outlines.start(null)")
    drawn = page.evaluate("outlines.keys")
    first = page.evaluate("outlines.clip")
    dropped(page, app)
    until(page, "outlines.keys", {"septum": {}, "ventricle": {}})
    assert page.locator("#scores").is_hidden()
    page.locator("#clips li button:first-child").first.click()
    until(page, "outlines.keys", drawn)
    page.reload()
    page.wait_for_function("window.outlines !== undefined")
    until(page, "outlines.keys", drawn)
    until(page, "outlines.line", [[1, 2], [30, 40]])
    assert page.evaluate("outlines.clip") == first
    page.wait_for_function("Object.values(window.scores?.results ?? {})[0]?.means?.gcnr > 0")


def test_the_command_of_a_run_gives_its_result(app, page, tmp_path, monkeypatch):
    """With the frame rate and the sector that were corrected, and the file's name with its ending."""
    dropped(page, app)
    page.evaluate("(detail) => outlines.dispatchEvent(new CustomEvent('sector', { detail }))", SEPTUM)
    page.locator("#fps").fill("40")
    page.locator("#fps").press("Enter")
    page.wait_for_function("player.film.fps === 40")
    page.locator("#facts", has_text="10 % of the picture").wait_for()
    page.locator("#white").fill("200")  # the clip is read again first, and the run waits for it
    started(page, "rpca", lam=0.5)
    page.locator("#runs button:not(:disabled)", has_text="Robust PCA, lam 0.5, drawn sector").wait_for()
    shutil.copy(app[1] / "raw.npz", tmp_path / "raw.npz")
    for kind in ("sector.png", "result.h5"):
        page.locator("#kind").select_option(kind)
        with page.expect_download() as download:
            page.click("#save")
        download.value.save_as(tmp_path / download.value.suggested_filename)

    monkeypatch.chdir(tmp_path)
    words = shlex.split(page.inner_text("#command"))
    parsed = cli._parse(words[1:])
    assert isinstance(parsed, cli.Dehaze)
    assert (words[0], parsed.method, parsed.read.fps, parsed.read.white) == (
        "nuclear-diffusion",
        Rpca(lam=0.5),
        40,
        200,
    )
    assert parsed.sector is not None
    np.testing.assert_array_equal(read_sector(parsed.sector), inside(SEPTUM, (64, 64)))
    assert cli.main(words[1:]) == 0
    with h5py.File("raw-rpca.result.h5") as mine, h5py.File("results/raw/result.h5") as typed:
        for name in ("input", "signal", "background", "sector"):
            np.testing.assert_array_equal(mine[name], typed[name])
        assert mine.attrs["fps"] == typed.attrs["fps"] == 40


def test_the_command_of_an_opened_result_renders_it(app, page, tmp_path, monkeypatch):
    """Another method on it takes the result's sector."""
    _, folder, clip, share = app
    page.locator("#runs button", has_text="Nuclear Diffusion").first.click()
    page.locator("#strength").fill("0.7")
    until(page, "player.strength", 0.7)
    words = shlex.split(page.inner_text("#command"))
    monkeypatch.chdir(tmp_path)
    assert cli.main(words[1:]) == 0
    with h5py.File("results/result/result.h5") as typed:
        np.testing.assert_array_equal(typed["signal"], render(clip.frames, share, 0.7))

    started(page, "rpca")
    page.locator("#runs button:not(:disabled)", has_text="Robust PCA").wait_for()
    page.locator("#command", has_text="rpca").wait_for()
    parsed = cli._parse(shlex.split(page.inner_text("#command"))[1:])
    assert isinstance(parsed, cli.Dehaze)
    assert (parsed.method, parsed.sector, parsed.sector_from) == (Rpca(), None, folder / "result" / "result.h5")
    page.click("#runs button[aria-label='Forget Robust PCA']")
    page.wait_for_function("player.sources.length === 2")


def test_many_clicks_start_one_run_and_others_are_followed(app, page):
    """While a long run goes, one of another clip waits; each tells its own state, and × removes it at any time."""
    first = dropped(page, app)
    page.locator("#method").select_option("zea")
    page.evaluate("document.querySelector('#settings').closest('details').open = true")
    page.locator("#settings [name=steps]").fill(str(LONG))
    page.evaluate("for (let k = 0; k < 20; k++) document.querySelector('#start').click()")
    ask = "fetch('/api/runs', { headers: { 'x-token': new URLSearchParams(location.search).get('token') } })"
    runs = f"async () => Object.values(await (await {ask}).json())"
    page.wait_for_function("document.querySelector('#status').innerText.includes('frames')")
    assert [run["method"]["method"] for run in page.evaluate(runs) if run["clip"] == first] == ["zea"]

    second = dropped(page, app)
    assert not page.locator("#start").is_disabled()  # the other clip's run is not this one's
    started(page, "rpca")
    until(page, "document.querySelector('#status').innerText", "Waits for another run")
    page.click("#stop")
    page.locator("#runs", has_text="stopped").wait_for()
    started(page, "rpca")
    page.locator("#runs", has_text="waiting").wait_for()
    page.locator("#clips li button:first-child").nth(-2).click()
    until(page, "outlines.clip", first)
    page.click("#runs button[aria-label^='Forget zea']")  # it is stopped and gone
    page.wait_for_function("document.querySelectorAll('#runs li').length === 0")
    page.locator("#clips li button:first-child").last.click()
    until(page, "outlines.clip", second)
    page.locator("#runs button:not(:disabled)", has_text="Robust PCA (2)").wait_for()
    until(page, "document.querySelector('#status').innerText", "")  # its time is in the list

    key = page.evaluate(f"async () => Object.entries(await (await {ask}).json()).at(-1)[0]")
    remove = ask.replace("'/api/runs', {", f"'/api/runs/{key}', {{ method: 'DELETE',")
    page.evaluate(f"async () => {{ await {remove}; }}")  # another tab
    page.click("#runs button[aria-label='Forget Robust PCA (2)']")
    page.wait_for_function("document.querySelectorAll('#runs li').length === 1")
    assert page.locator("#error").is_hidden(), page.inner_text("#error")


def test_a_result_that_another_tab_removes_while_it_loads_is_no_error(app, page):
    dropped(page, app)
    asked = []

    def removed_first(route):
        asked.append(route.fetch(url=route.request.url.split("/planes")[0], method="DELETE").status)
        route.continue_()

    page.route("**/api/runs/*/planes/signal", removed_first)
    with page.expect_response("**/planes/signal") as response:
        started(page, "rpca")
    assert response.value.status == 400
    page.wait_for_function("document.querySelectorAll('#runs li').length === 0")
    assert asked == [200]
    assert page.locator("#error").is_hidden(), page.inner_text("#error")
    assert page.evaluate("player.sources.length") == 1  # the clip alone


def test_names_of_runs_are_whole_and_say_what_differs(app, page):
    dropped(page, app)
    for count, lam in enumerate((1, 0.25, 0.25), 1):
        started(page, "rpca", lam=lam)
        page.locator("#runs button:not(:disabled)").nth(2 * count - 2).wait_for()
        page.wait_for_function("!document.querySelector('#start').disabled")
    shown = page.locator("#runs li button:first-child")
    names = ["Robust PCA", "Robust PCA, lam 0.25", "Robust PCA, lam 0.25 (2)"]
    assert [text.split("\n")[0] for text in shown.all_inner_texts()] == names
    cut = "[...document.querySelectorAll('#runs button, #clips button')].filter((b) => b.scrollWidth > b.clientWidth)"
    assert page.evaluate(f"{cut}.length") == 0


def test_an_empty_box_changes_nothing(app, page):
    """An empty frame rate is the one that holds, an empty setting its default."""
    page.locator("#fps").fill("")
    page.locator("#fps").press("Enter")
    until(page, "document.querySelector('#fps').value", "25")
    page.locator("#fps").fill("-3")
    page.locator("#fps").press("Enter")
    page.locator("#error", has_text="frame rate").wait_for()
    until(page, "document.querySelector('#fps').value", "25")
    dropped(page, app)
    started(page, "rpca", lam="")
    page.locator("#runs button:not(:disabled)", has_text="Robust PCA").first.wait_for()


def test_all_folders_that_were_given_can_be_browsed(app, page):
    page.click("#browse")
    entries = page.locator("#entries li button:first-child")
    entries.nth(1).wait_for()
    first, second = entries.all_inner_texts()
    assert first == str(app[1])
    entries.first.click()
    page.locator("#entries", has_text="raw.npz").wait_for()
    entries.first.click()  # ../
    page.locator("#entries", has_text=second).wait_for()
    page.click("#close-files")


def test_a_page_without_the_token_shows_nothing(app, browser):
    tab = new_tab(browser)
    reply = tab.goto(app[0].split("?")[0])
    assert reply is not None
    assert reply.status == 403
    tab.close()


def test_show_is_a_page_of_its_own(browser, tmp_path, app):
    """`nd.show` needs no server: the saved page plays and its knob is live."""
    import nuclear_diffusion as nd

    _, folder, clip, share = app
    shown = nd.show(folder / "result")
    shown.save(tmp_path / "show.html")
    (tmp_path / "notebook.html").write_text(f"<!DOCTYPE html><div class=output>{shown._repr_html_()}</div>")
    tab = new_tab(browser, viewport={"width": 900, "height": 700})
    for name in ("show", "notebook"):
        tab.goto((tmp_path / f"{name}.html").as_uri())
        frame = tab.frames[-1]
        frame.wait_for_function("window.player !== undefined")
        assert frame.evaluate("player.panels().map(({ name }) => name)") == ["input", "result", "background"]
        frame.evaluate("player.play(false)")
        frame.locator("#strength").fill("0.9")
        expected = np.rint(255 * render(clip.frames, share, 0.9)[2])
        assert np.abs(painted(frame, "result", 2) - expected).max() <= 1
        assert_readable(frame)
    tab.close()
