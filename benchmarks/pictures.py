"""The pictures of the documents: `python -m benchmarks pictures` writes them into docs/images."""

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

import numpy as np
from matplotlib.figure import Figure
from numpy import ndarray
from pydicom import examples
from skimage.measure import approximate_polygon, find_contours
from tyro.conf import Positional, arg

import nuclear_diffusion as nd
from benchmarks.app import chromium, opened, served
from nuclear_diffusion.cli import main
from nuclear_diffusion.files import atomic
from nuclear_diffusion.measure.datasets import as_clip
from nuclear_diffusion.restore.clip import PRIOR_SIZE, dehaze_clip
from nuclear_diffusion.restore.methods import Nuclear
from nuclear_diffusion.sector import Fit, find_sector
from nuclear_diffusion.simulation import (
    UNSEEN_FAMILIES,
    UNSEEN_LOOKS,
    UNSEEN_VIEWS,
    VIEWS,
    SimulatedClip,
    patient_seed,
    simulate,
    write_dataset,
)

Picture = Literal["demo", "contact_sheet", "unseen", "app", "report"]

EVERY: tuple[Picture, ...] = get_args(Picture)

IMAGES = Path(__file__).parents[1] / "docs" / "images"

TITLES = {"a4c": "four-chamber", "a2c": "two-chamber", "plax": "long axis", "psax": "short axis"}
"""The views of training."""

DEMO = 3
"""The development patient in the README: an illustration, not a result."""

GAIN = 4
"""How much brighter `demo` shows the removed haze."""

FIRST, OTHER = 400, 501
"""Development patients in `unseen`: the first one on the left, and the one on the right."""

MOMENTS = np.linspace(0, 1, 48)
"""Times in seconds of the lines over time in `unseen`."""


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Draws pictures."""

    which: Annotated[
        Positional[tuple[Picture, ...]],
        arg(
            help="demo: a simulated and a real clip dehazed. contact_sheet: simulated frames beside a real one. "
            "unseen: the haze, views and scanners that training never uses. app: the page of `app`, in Chromium. "
            "report: the films in the page of `evaluate`."
        ),
    ] = EVERY
    output: Annotated[Path, arg(help="Folder for the pictures.")] = IMAGES

    command: ClassVar[str] = "pictures"
    shows: ClassVar[str] = "Redraw some or all pictures of the documents in docs/images."

    def run(self) -> None:
        """Draw and write them."""
        for name in self.which:
            with atomic(self.output / f"{name}.png") as temporary:
                if name == "app":
                    app(temporary)
                elif name == "report":
                    report(temporary)
                else:
                    draw, dots = PICTURES[name]
                    draw().savefig(temporary, dpi=dots)
            print(self.output / f"{name}.png")


def demo() -> Figure:
    """The picture that the README opens with: a simulated clip, with its truth, above a real one with less haze."""
    prior = nd.load_prior("echo")
    real = nd.read_video(examples.get_path("ybr_color"))
    found = dehaze_clip(real, Nuclear(), prior)
    rows, columns = np.nonzero(found.sector)
    box = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
    moment = 16
    shown = [frames[moment][box] for frames in (real.frames, found.signal, real.frames - found.signal)]
    real_row = [*brightened(*shown[:2]), np.clip(GAIN * brightened(shown[0], shown[2])[1], 0, 1)]

    patient = simulate(seed=patient_seed("development", DEMO), frames=24, view="a4c", overlay=False)
    signal = dehaze_clip(as_clip(patient), Nuclear(), prior).signal
    simulated_row = brightened(*(frames[moment] for frames in (patient.hazy, signal, patient.clean)))

    figure = Figure(figsize=(10.5, 7.2), layout="constrained", facecolor="black")
    titles = [
        "simulated clip with haze",
        "dehazed",
        "truth",
        "real clip",
        "dehazed",
        f"haze removed, {GAIN} x brighter",
    ]
    for axes, picture, title in zip(figure.subplots(2, 3).flat, simulated_row + real_row, titles, strict=True):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1)
        axes.set_title(title, color="white", fontsize=13)
        axes.set_axis_off()
    return figure


def brightened(*pictures: ndarray) -> list[ndarray]:
    """The pictures, all as much brighter as the first needs to reach white."""
    return [np.clip(picture * 0.9 / np.percentile(pictures[0], 99.5), 0, 1) for picture in pictures]


def contact_sheet() -> Figure:
    """Simulated frames, and one real frame (pydicom's example, fitted to the same grid), labelled REAL."""
    clip = nd.read_video(examples.get_path("ybr_color"))
    fit = Fit.to_prior(find_sector(clip.frames, clip.region), PRIOR_SIZE)
    real = fit.forward(clip.frames[:1])[0]
    figure = Figure(figsize=(12, 12.6), layout="constrained")
    grid = figure.subplots(5, 5)
    for row, view in zip(grid[:4], VIEWS, strict=True):
        for k, axes in enumerate(row):
            patient = simulate(seed=patient_seed("development", 100 + k), frames=1, view=view, overlay=False)
            hazy = k % 2 == 1
            axes.imshow((patient.hazy if hazy else patient.clean)[0], cmap="gray", vmin=0, vmax=1)
            axes.set_title(f"{TITLES[view]}, {'hazy' if hazy else 'clean'}", fontsize=9)
    seeds = [patient_seed("development", 200 + k) for k in range(4)]
    shown = [simulate(seed=seed, frames=1, view="a4c", haze=0.3, overlay=False).hazy[0] for seed in seeds]
    for axes, picture in zip(grid[4], [*shown[:2], real, *shown[2:]], strict=True):
        # equal brightness for the whole row, because the real clip is dim
        white = np.percentile(picture[picture > 0.02], 99)
        axes.imshow(np.clip(picture / white, 0, 1), cmap="gray", vmin=0, vmax=1)
        axes.set_title("REAL" if picture is real else "four-chamber, light haze", fontsize=9)
    for axes in grid.flat:
        axes.set_axis_off()
    return figure


def unseen() -> Figure:
    """Unseen haze, views and scanners, clean and hazy.

    Left: unseen families of haze, as a frame and as a column over one second. Right: unseen views and scanners.
    """
    right: list[dict[str, Any]] = [{"view": view} for view in UNSEEN_VIEWS] + [
        {"view": "a4c", "look": look} for look in UNSEEN_LOOKS
    ]
    figure = Figure(figsize=(17, 14.5), layout="constrained")
    grid = figure.subplots(5, 6)
    for row, (family, kind) in enumerate(zip(UNSEEN_FAMILIES, right, strict=True)):
        seed = patient_seed("development", FIRST + row)
        patient = simulate(seed=seed, view="a4c", families=[family], overlay=False, times=MOMENTS)
        # the line through the ventricle with the most haze
        added = np.abs(patient.hazy[0] - patient.clean[0]) * patient.ventricle[0]
        column = int(np.argmax(added.sum(0)))
        pictures = [(patient.clean[0], "clean"), (patient.hazy[0], family)]
        pictures += [(line(patient, part, column), f"{part}, a line over 1 s") for part in ("clean", "hazy")]
        other = simulate(seed=patient_seed("development", OTHER), frames=1, overlay=False, **kind)
        name = kind.get("look", kind["view"])
        pictures += [(other.clean[0], f"{name}, clean"), (other.hazy[0], f"{name}, hazy as in training")]
        for axes, (picture, title) in zip(grid[row], pictures, strict=True):
            axes.imshow(picture, cmap="gray", vmin=0, vmax=1, aspect="auto")
            axes.set_title(title, fontsize=10)
            axes.set_axis_off()
    return figure


def line(patient: SimulatedClip, part: str, column: int) -> ndarray:
    """One `column` over time (M-mode), 5 pixels per moment."""
    return np.repeat(getattr(patient, part)[:, :, column].T, 5, axis=1)


PICTURES: dict[Picture, tuple[Callable[[], Figure], int]] = {
    "demo": (demo, 90),
    "contact_sheet": (contact_sheet, 80),
    "unseen": (unseen, 70),
}
"""How each is drawn, and its dots per inch."""


def app(path: Path) -> None:
    """A screenshot of the app with a development patient and its regions; needs Chromium and Playwright."""
    patient = simulate(seed=patient_seed("development", DEMO), frames=24, view="a4c")
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "patient.npz"
        nd.write_video(clip, patient.hazy, patient.fps)
        with served(clip) as server, chromium() as browser:
            page = opened(browser, server)
            for count, method in enumerate(("rpca", "mmse", "nuclear"), 1):
                page.locator("#method").select_option(method)
                page.click("#start")
                finished = f"player.sources.length > {count} && !document.getElementById('start').disabled"
                page.wait_for_function(finished, timeout=600_000)
            for name, mask in (("septum", patient.septum[0]), ("ventricle", patient.ventricle[0])):
                page.evaluate("([name, polygon]) => outlines.setKey(name, polygon)", [name, corners(mask)])
            page.evaluate("outlines.line = [[128, 20], [128, 230]]; outlines.start(null)")
            page.click("[data-view=all]")
            page.evaluate("player.loop = [4, 19]; player.seek(8)")
            scored = "Object.values(window.scores?.results ?? {}).filter(({ means }) => means.gcnr > 0).length === 3"
            page.wait_for_function(scored)
            page.wait_for_timeout(1000)
            page.screenshot(path=str(path))


def report(path: Path) -> None:
    """A screenshot of the films that `evaluate` shows of a development patient; needs Chromium and Playwright."""
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        write_dataset(Path(folder) / "data", 1, seed=patient_seed("development", DEMO), frames=24)
        command = ["evaluate", f"{folder}/data", "-o", f"{folder}/report", "--methods", "hazy,rpca-tuned,mmse,nuclear"]
        assert main(command) == 0
        page = browser.new_page(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
        page.goto((Path(folder) / "report" / "report.html").as_uri())
        page.evaluate("films.ready.then(() => films.leader.seek(12))")
        page.wait_for_timeout(500)  # until it is drawn
        page.locator("#films").screenshot(path=str(path))


def corners(mask: ndarray) -> list[list[float]]:
    """A polygon of few corners (column, row) around a mask."""
    (line, *_) = sorted(find_contours(np.pad(mask, 1).astype(float), 0.5), key=len, reverse=True)
    return (approximate_polygon(line, 2.0)[:-1, ::-1] - 0.5).tolist()
