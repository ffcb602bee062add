"""How fast the app is: pictures a second while the knob moves, a large colour DICOM, and the wait for a first result.

The page runs in Chromium without a window, the server in a process of its own, as `nuclear-diffusion app` starts it.
"""

import contextlib
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from pydicom import examples
from tyro.conf import arg

from benchmarks.record import RESULTS, markdown, record_of, save
from nuclear_diffusion.errors import require
from nuclear_diffusion.io import Clip, write_video
from nuclear_diffusion.priors.checkpoint import load_prior, prior_hash

SMALL = (60, 256, 256)
"""Frames, height and width of the clip whose knob is turned; it plays at 60 frames/s."""

LARGE = (120, 600, 800)
"""Those of the colour DICOM."""

VIEWS = {"side": "side by side", "wipe": "wipe"}

WINDOWS = {"1280 x 800": (1280, 800), "3840 x 2160": (3840, 2160)}

PLAYS = """async (seconds) => {
  const knob = document.getElementById("strength");
  const moving = !document.getElementById("knob").hidden;
  let pictures = 0, shown = 0, before = -1;
  const count = () => { pictures++; if (player.frame !== before) shown++; before = player.frame; };
  player.addEventListener("drawn", count);
  player.play(true);
  const start = performance.now();
  await new Promise((resolve) => {
    const turn = (now) => {
      if (moving) {
        knob.value = 0.5 + 0.5 * Math.sin((now - start) / 300);
        knob.dispatchEvent(new Event("input"));
      }
      now - start > 1000 * seconds ? resolve() : requestAnimationFrame(turn);
    };
    requestAnimationFrame(turn);
  });
  const took = (performance.now() - start) / 1000;
  player.play(false);
  player.removeEventListener("drawn", count);
  return [pictures, pictures / took, shown / took];
}"""
"""Play and move the knob at every turn of the screen; pictures drawn and frames of the clip shown in a second."""


SHARE = """() => {
  const { film } = player;
  film.share = Uint16Array.from({ length: film.frames * film.pixels }, (_, k) => (k * 40503) & 65535);
  player.setFilm(film);
  document.getElementById("knob").hidden = false;
}"""
"""Give the clip a haze fraction."""


class Played(NamedTuple):
    """What `PLAYS` counted."""

    pictures: float
    """Pictures drawn in a second."""
    frames: float
    """Frames of the clip shown in a second: at most its frame rate."""
    processor: float
    """Processor time of the browser for a picture, in ms."""


@dataclasses.dataclass(frozen=True)
class App:
    """Measure the app."""

    seconds: Annotated[float, arg(help="Length of each measurement of the play rate.")] = 5.0
    output: Annotated[Path, arg(help="Folder for the table.")] = RESULTS

    command: ClassVar[str] = "app"
    name: ClassVar[str] = "app"
    shows: ClassVar[str] = (
        "The app: frame rate while the strength changes, a large colour DICOM, the wait for a result."
    )

    def run(self) -> None:
        """Measure and write the table."""
        require(self.seconds > 0, "--seconds must be positive.")
        load = os.getloadavg()[0]
        with tempfile.TemporaryDirectory() as folder, chromium() as browser:
            rates = self.rates(Path(folder), browser)
            dicom = large_dicom(Path(folder), browser, self.seconds)
            demo = first_result(browser)
            version = browser.version
        record = record_of(self, {"echo": prior_hash(load_prior("echo"))})
        page = f"""# The app

The page of `nuclear-diffusion app` in Chromium {version}, headless and without a graphics card; the server and the
measurement run on the same cores. The clip plays at its own rate while a script changes the strength at every refresh
of the screen, at most 60 times a second. *Pictures*: drawn per second; *frames*: frames of the clip shown per second.
*Processor time*: of all browser processes per picture; at 60 pictures/s a core has {1000 / 60:.1f} ms. Other work on
the machine lowers the rates and lengthens the waits; load at the start: {load:.1f} on {os.cpu_count()} cores. The haze
fraction is arbitrary, because its values do not matter here.
{record.caption()}

{markdown(["Clip", "View", "Window", "Its rate", "Pictures/s", "Frames/s", "Processor time, ms"], rates)}
A colour DICOM of {LARGE[0]} frames of {LARGE[1]} x {LARGE[2]} pixels, dropped on the page:

{markdown(["", ""], dicom)}
The demo's clip, from the button *Dehaze* to the result on the screen, default method, server just started:
{demo:.0f} s.
"""
        save(self.output, record, page)

    def rates(self, folder: Path, browser: Any) -> list[list[str]]:
        """Rows of the table of play rates."""
        rows = []
        for shape, fps, color in ((SMALL, 60, False), (LARGE, 50, True)):
            frames, height, width = shape
            clip = made_clip(shape, fps, color=color)
            path = folder / f"{height}.dcm"
            write_video(path, clip.frames if clip.color is None else clip.color, fps)
            with served(path) as server:
                for window, (wide, high) in WINDOWS.items():
                    page = opened(browser, server, wide, high)
                    page.evaluate(SHARE)
                    for view in ("side", "wipe"):
                        page.evaluate("(view) => { player.view = view; }", view)
                        found = played(page, self.seconds)
                        text = f"{frames} of {height} x {width}" + (", colour" if color else "")
                        numbers = [f"{found.pictures:.0f}", f"{found.frames:.0f}", f"{found.processor:.0f}"]
                        rows.append([text, VIEWS[view], window, str(fps), *numbers])
                        print(*rows[-1], sep=", ", flush=True)
                    page.close()
        return rows


class Served(NamedTuple):
    """A running app."""

    address: str
    process: int

    def peak(self) -> float:
        """Most memory that it ever held, in MB."""
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.process}/status").read_text())
        assert found is not None
        return int(found[1]) / 1024


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A browser without a window; needs Chromium and Playwright."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    require(path is not None, "Install Chromium: this benchmark needs it.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def served(*paths: Path) -> Iterator[Served]:
    """The app in a process of its own."""
    command = [sys.executable, "-m", "nuclear_diffusion", "app", *map(str, paths), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield Served(process.stdout.readline().split()[-1], process.pid)
        os.kill(process.pid, signal.SIGINT)


def opened(browser: Any, server: Served, width: int = 1280, height: int = 800) -> Any:
    """The page with its first clip."""
    page = browser.new_page(viewport={"width": width, "height": height}, bypass_csp=True)
    page.goto(server.address)
    page.wait_for_function("window.player !== undefined", timeout=120_000)
    return page


def played(page: Any, seconds: float) -> Played:
    """Play for some seconds, after one to warm up."""
    session = page.context.browser.new_browser_cdp_session()

    def spent() -> float:
        return sum(each["cpuTime"] for each in session.send("SystemInfo.getProcessInfo")["processInfo"])

    page.evaluate(PLAYS, 1)
    before = spent()
    count, pictures, frames = page.evaluate(PLAYS, seconds)
    return Played(pictures, frames, 1000 * (spent() - before) / max(count, 1))


def made_clip(shape: Sequence[int], fps: float, *, color: bool = False) -> Clip:
    """Speckle in a sector that moves, under a sheet of haze; tinted if in colour."""
    frames, height, width = shape
    row, column = np.mgrid[:height, :width]
    sector = (np.abs(column - width / 2) < 0.6 * row) & (np.hypot(row, column - width / 2) < 0.95 * height)
    speckle = np.random.default_rng(0).rayleigh(0.2, (height, width)) + 0.2 * np.exp(-row / (0.3 * height))
    moved = [np.roll(speckle, round(height / 50 * np.sin(number / 5)), axis=0) * sector for number in range(frames)]
    gray = np.clip(moved, 0, 1).astype(np.float32)
    tint = np.array([255, 240, 200], np.float32)
    colored = np.rint(gray[..., None] * tint).astype(np.uint8) if color else None
    return Clip(gray, fps, colored, None, "loop", Path("loop.npz"))


def large_dicom(folder: Path, browser: Any, seconds: float) -> list[list[str]]:
    """Drop a large colour DICOM on the page, play it, remove its haze with robust PCA, save it."""
    clip = made_clip(LARGE, 50.0, color=True)
    path = folder / "large.dcm"
    assert clip.color is not None
    write_video(path, clip.color, clip.fps)
    small = folder / "small.npz"
    write_video(small, made_clip((3, 64, 64), 50.0).frames)
    rows: list[list[str]] = []

    def note(what: str, found: str) -> None:
        rows.append([what, found])
        print(what, found, sep=": ", flush=True)

    note("file", f"{path.stat().st_size / 1e6:.0f} MB")
    with served(small) as server:
        page = opened(browser, server)
        note("server's peak memory before", f"{server.peak():.0f} MB")
        begin = time.perf_counter()
        page.locator("#pick").set_input_files(str(path))
        page.wait_for_function(f"player.film.frames === {LARGE[0]}", timeout=300_000)
        note("until its first frame is on the screen", f"{time.perf_counter() - begin:.1f} s")
        sent = "performance.getEntriesByType('resource').reduce((sum, entry) => sum + entry.transferSize, 0)"
        note("sent to the browser", f"{page.evaluate(sent) / 1e6:.0f} MB")
        note("server's peak memory once it is open", f"{server.peak():.0f} MB")
        note("frames/s at 50 frames/s", f"{played(page, seconds).frames:.0f}")
        page.locator("#method").select_option("rpca")
        begin = time.perf_counter()
        page.click("#start")
        page.wait_for_function("player.film.hasResult", timeout=900_000)
        note("robust PCA until its result is on the screen", f"{time.perf_counter() - begin:.0f} s")
        note("frames/s side by side", f"{played(page, seconds).frames:.0f}")
        for kind, name in (("dcm", "DICOM"), ("mp4", "MP4")):
            page.locator("#kind").select_option(kind)
            begin = time.perf_counter()
            with page.expect_download(timeout=300_000) as download:
                page.click("#save")
            size = Path(download.value.path()).stat().st_size
            note(f"saved as {name}", f"{time.perf_counter() - begin:.0f} s, {size / 1e6:.0f} MB")
        note("server's peak memory", f"{server.peak():.0f} MB")
        page.close()
    return rows


def first_result(browser: Any) -> float:
    """Seconds from the button to a result that plays, for the demo's clip."""
    with served(Path(examples.get_path("ybr_color"))) as server:
        page = opened(browser, server)
        begin = time.perf_counter()
        page.click("#start")
        page.wait_for_function("player.film.hasResult", timeout=900_000)
        seconds = time.perf_counter() - begin
        page.close()
    print(f"demo clip: {seconds:.0f} s", flush=True)
    return seconds
