"""Simulated frames beside the real DICOM, in docs/images/contact_sheet.png.

One of the pictures is real (pydicom's example, fitted to the same frame); the caption says which.
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from pydicom import examples

import nuclear_diffusion as nd
from nuclear_diffusion.io import Fit, find_sector, read_video
from nuclear_diffusion.simulation import VIEWS, patient_seed, simulate

TITLES = {"a4c": "four-chamber", "a2c": "two-chamber", "plax": "long axis", "psax": "short axis"}


def main() -> None:
    clip = read_video(examples.get_path("ybr_color"))
    fit = Fit.to_prior(find_sector(clip.frames, clip.region), 256)
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
        # the real clip is dim: every picture of this row at the same brightness
        white = np.percentile(picture[picture > 0.02], 99)
        axes.imshow(np.clip(picture / white, 0, 1), cmap="gray", vmin=0, vmax=1)
        axes.set_title("REAL" if picture is real else "four-chamber, light haze", fontsize=9)
    for axes in grid.flat:
        axes.set_axis_off()
    images = Path(__file__).parents[1] / "images"
    images.mkdir(exist_ok=True)
    figure.savefig(images / "contact_sheet.png", dpi=80)
    print(images / "contact_sheet.png", nd.__version__)


if __name__ == "__main__":
    main()
