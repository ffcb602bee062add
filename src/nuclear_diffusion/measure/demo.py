"""The demo: dehaze a real echo clip, and score the methods on a simulated patient."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float32
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy import ndarray
from pydicom import examples
from rich.console import Console
from scipy.ndimage import find_objects

from nuclear_diffusion.io import write_video
from nuclear_diffusion.measure.candidates import CLEAN, HAZY, METHODS, tuned_rpca
from nuclear_diffusion.measure.datasets import as_clip
from nuclear_diffusion.measure.scores import score
from nuclear_diffusion.measure.statistics import summarise, tidy
from nuclear_diffusion.measure.style import SEPTUM_COLOR, VENTRICLE_COLOR, title_of
from nuclear_diffusion.measure.tables import Table, mean_table, write_json
from nuclear_diffusion.palette import DARK
from nuclear_diffusion.restore.clip import dehaze_clip
from nuclear_diffusion.restore.folder import result_folder, versions
from nuclear_diffusion.restore.methods import Method, Nuclear
from nuclear_diffusion.restore.pictures import side_by_side
from nuclear_diffusion.restore.run import LoadedPrior, dehaze_file, prior_of
from nuclear_diffusion.simulation import SimulatedClip, patient_seed, simulate
from nuclear_diffusion.types import Bar, Progress

PATIENT, FRAMES = 0, 40  # index of the simulated patient in the test split, and its number of frames

SHOWN = ("gcnr", "ks_a", "ks_b", "ks_truth", "psnr", "ssim", "flicker_b", "bright_lost", "seconds")
"""The scores in the table and the report, in this order."""


def run_demo(output: Path, *, progress_bar: Bar, silent: bool = False) -> dict[str, Any]:
    """Run both parts into `output`, print the table and the files to open unless `silent`, and return the report."""
    console = Console(soft_wrap=True, quiet=silent)
    settings = Nuclear()
    loaded = prior_of(settings)
    with progress_bar("real clip") as progress:
        real = dehaze_file(
            Path(examples.get_path("ybr_color")), output / "real", settings, loaded, overwrite=True, progress=progress
        )
    with progress_bar("simulating a patient") as progress:
        patient = simulate(seed=patient_seed("test", PATIENT), frames=FRAMES, view="a4c", progress=progress)
    with progress_bar("comparing methods") as progress:
        compared = list(
            compare(patient, loaded, methods=METHODS | {"rpca-tuned": tuned_rpca(FRAMES)}, progress=progress)
        )
    with result_folder(output / "simulated") as partial:
        panels = {
            title_of(each.method): each.signal[:, *find_objects(patient.sector.astype(int))[0]] for each in compared
        }
        write_video(partial / "methods.mp4", side_by_side(panels), patient.fps)
        draw_methods(patient, compared).savefig(partial / "methods.png", dpi=120)

    report = {
        "simulated": {each.method: {name: each.scores[name] for name in SHOWN} for each in compared},
        "simulated_patient": {"split": "test", "index": PATIENT, "frames": FRAMES, "view": patient.view},
        "real": {name: real.report[name] for name in ("clip", "seconds", "haze_energy_removed", "settings")},
        "versions": versions(),
        "notice": "Research use only, not a medical device.",
    }
    write_json(output / "report.json", report)
    console.print(table(compared).console("Simulated patient", bold=title_of("nuclear")))
    console.print("One simulated patient; the arrows point to better.")
    removed = f"{100 * real.report['haze_energy_removed']:.1f} % of its energy"
    console.print(f"The real clip has little haze: {removed} was removed. Its background is brightened. Open:")
    for file in ("real/comparison.mp4", "real/summary.png", "simulated/methods.mp4", "simulated/methods.png"):
        console.print(f"  {output / file}", highlight=False)
    return report


class Compared(NamedTuple):
    """One method on one patient."""

    method: str  # `hazy`, `clean`, or one of the methods
    signal: Float32[ndarray, "frames height width"]
    scores: dict[str, float]  # `scores.score`, and `seconds` per frame


def compare(
    simulated: SimulatedClip,
    loaded: LoadedPrior,
    *,
    methods: Mapping[str, Method] = METHODS,
    progress: Progress | None = None,
) -> Iterator[Compared]:
    """The hazy input, each of `methods` through the whole pipeline, and the clean clip."""
    yield Compared(HAZY, simulated.hazy, {**score(simulated, simulated.hazy), "seconds": 0.0})
    for before, (name, method) in enumerate(methods.items()):

        def tell(done: int, total: int, before: int = before) -> None:
            if progress is not None:
                progress(before * total + done, len(methods) * total)

        dehazed = dehaze_clip(as_clip(simulated), method, loaded.prior, progress=tell)
        seconds = dehazed.seconds / len(simulated.hazy)
        yield Compared(name, dehazed.signal, {**score(simulated, dehazed.signal), "seconds": seconds})
    yield Compared(CLEAN, simulated.clean, {**score(simulated, simulated.clean), "seconds": 0.0})


def table(compared: list[Compared]) -> Table:
    """The scores, one row per method."""
    patient = {each.method: each.scores for each in compared}
    return mean_table(summarise(tidy({"simulated": patient}), SHOWN))


@matplotlib.rc_context(DARK)
def draw_methods(patient: SimulatedClip, compared: list[Compared]) -> Figure:
    """The sector in one frame of every method, with the two regions outlined in the input and the truth."""
    moment, columns = len(patient.hazy) // 2, -(-len(compared) // 2)
    rows, across = find_objects(patient.sector.astype(int))[0]
    regions = {"septum": (patient.septum, SEPTUM_COLOR), "ventricle": (patient.ventricle, VENTRICLE_COLOR)}
    figure = Figure(figsize=(3.4 * columns, 6.3), layout="constrained")
    grid = list(figure.subplots(2, columns).flat)
    for axes in grid:
        axes.set_axis_off()
    for axes, each in zip(grid, compared, strict=False):
        axes.imshow(each.signal[moment], cmap="gray", vmin=0, vmax=1)
        if each.method in (HAZY, CLEAN):
            for region, color in regions.values():
                if region[moment].any():
                    axes.contour(np.asarray(region[moment], float), [0.5], colors=color, linewidths=0.8)
        axes.set(xlim=(across.start - 0.5, across.stop - 0.5), ylim=(rows.stop - 0.5, rows.start - 0.5))
        axes.set_title(f"{title_of(each.method)}\ngCNR {each.scores['gcnr']:.2f}", fontsize=11)
    lines = [Line2D([], [], color=color) for _, color in regions.values()]
    title = "gCNR: contrast of septum and ventricle, at most 1"
    figure.legend(lines, regions, title=title, loc="outside lower center", ncols=2, frameon=False)
    return figure
