"""The demonstration: a real hazy echo clip made clean, and numbers where the truth is known."""

import json
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from pydicom import examples
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nuclear_diffusion.files import atomic
from nuclear_diffusion.io import write_video
from nuclear_diffusion.measure.comparison import Compared, compare
from nuclear_diffusion.measure.style import title_of
from nuclear_diffusion.restore.clip import Progress
from nuclear_diffusion.restore.folder import result_folder, versions
from nuclear_diffusion.restore.methods import Nuclear
from nuclear_diffusion.restore.pictures import side_by_side
from nuclear_diffusion.restore.run import dehaze_file, prior_of
from nuclear_diffusion.simulation import SimulatedClip, patient_seed, simulate

PATIENT, FRAMES = 0, 40
"""The simulated patient of the test split, and how many of its frames are used."""

COLUMNS = {
    "gcnr": "gCNR ↑",
    "ks_a": "KS_A ↓",
    "ks_b": "KS_B ↑",
    "ks_truth": "KS to truth ↓",
    "psnr": "PSNR [dB] ↑",
    "ssim": "SSIM ↑",
    "flicker_b": "flicker, ventricle ↓",
    "bright_lost": "bright tissue lost ↓",
    "seconds": "s",
}
"""What the table shows of each method, in this order."""


def run_demo(output: Path, *, progress_bar: Callable[[str], AbstractContextManager[Progress]]) -> dict[str, Any]:
    """Run both parts into `output`, print the table and the files to open, and return the report."""
    console = Console(soft_wrap=True)
    settings = Nuclear()
    loaded = prior_of(settings)
    with progress_bar("real clip") as progress:
        real = dehaze_file(
            Path(examples.get_path("ybr_color")),
            output / "real",
            settings,
            loaded,
            overwrite=True,
            progress=progress,
        )
    with progress_bar("simulating a patient") as progress:
        patient = simulate(seed=patient_seed("test", PATIENT), frames=FRAMES, view="a4c", progress=progress)
    with progress_bar("comparing methods") as progress:
        compared = list(compare(patient, loaded, progress=progress))
    with result_folder(output / "simulated") as partial:
        panels = {title_of(each.method): each.signal for each in compared}
        write_video(partial / "methods.mp4", side_by_side(panels), patient.fps)
        draw_methods(patient, compared).savefig(partial / "methods.png", dpi=120)

    report = {
        "simulated": {each.method: strict(each.scores) for each in compared},
        "simulated_patient": {"split": "test", "index": PATIENT, "frames": FRAMES, "view": patient.view},
        "real": {name: real.report[name] for name in ("clip", "seconds", "haze_energy_removed", "settings")},
        "versions": versions(),
        "notice": "Research use only, not a medical device.",
    }
    with atomic(output / "report.json") as temporary:
        temporary.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")

    console.print(table(compared))
    console.print("One simulated patient; the arrows point to better. Open:")
    for file in ("real/comparison.mp4", "real/summary.png", "simulated/methods.mp4", "simulated/methods.png"):
        console.print(f"  {output / file}", highlight=False)
    return report


def strict(scores: dict[str, float]) -> dict[str, float | None]:
    """The columns of the report, None where a score is undefined or infinite (JSON knows no NaN)."""
    values = {name: float(scores[name]) for name in COLUMNS}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def table(compared: list[Compared]) -> Table:
    """The scores, one row a method, in 80 columns."""
    rows = Table(title="Simulated patient", box=SIMPLE_HEAD, show_edge=False, padding=0)
    rows.add_column("", no_wrap=True)
    for column in COLUMNS.values():
        words = column.split()
        rows.add_column(escape(column), justify="right", width=max(5, *map(len, words)) if len(words) > 1 else None)
    for each in compared:
        digits = {"psnr": 1, "seconds": 1}
        values = strict(each.scores)
        cells = ["–" if value is None else f"{value:.{digits.get(name, 3)}f}" for name, value in values.items()]
        rows.add_row(title_of(each.method), *cells, style="bold" if each.method == "nuclear" else "")
    return rows


def draw_methods(patient: SimulatedClip, compared: list[Compared]) -> Figure:
    """One moment of every method, with the two regions outlined in the first and last picture."""
    moment = len(patient.hazy) // 2
    figure = Figure(figsize=(3 * len(compared), 3.6), layout="constrained")
    for axes, each in zip(figure.subplots(1, len(compared)), compared, strict=True):
        axes.imshow(each.signal[moment], cmap="gray", vmin=0, vmax=1)
        if each.method in ("hazy", "clean"):
            for region, color in ((patient.septum, "#facc15"), (patient.ventricle, "#38bdf8")):
                if region[moment].any():
                    axes.contour(np.asarray(region[moment], float), [0.5], colors=color, linewidths=0.8)
        gcnr = each.scores["gcnr"]
        axes.set_title(f"{title_of(each.method)}\ngCNR {gcnr:.2f}", fontsize=11)
        axes.set_axis_off()
    return figure
