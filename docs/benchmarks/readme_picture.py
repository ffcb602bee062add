"""The picture that the README opens with: `python docs/benchmarks/readme_picture.py` writes docs/images/demo.png."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from pydicom import examples

import nuclear_diffusion as nd
from nuclear_diffusion.measure.comparison import as_clip
from nuclear_diffusion.restore.clip import dehaze_clip
from nuclear_diffusion.restore.methods import Settings
from nuclear_diffusion.simulation import patient_seed, simulate

PATIENT = 3
"""A development patient: the picture is an illustration, not a result."""


def main() -> None:
    prior = nd.load_prior("echo")
    real = nd.read_video(examples.get_path("ybr_color"))
    found = dehaze_clip(real, Settings(), prior)
    rows, columns = np.nonzero(found.sector)
    box = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
    moment = 16
    shown = [frames[moment][box] for frames in (real.frames, found.signal, real.frames - found.signal)]
    gain = 0.9 / np.percentile(shown[0], 99.5)  # the clip is dim; all three pictures alike
    top = [np.clip(picture * gain, 0, 1) for picture in shown]

    patient = simulate(seed=patient_seed("development", PATIENT), frames=24, view="a4c", overlay=False)
    signal = dehaze_clip(as_clip(patient), Settings(), prior).signal
    bottom = [frames[moment] for frames in (patient.hazy, signal, patient.clean)]

    figure = Figure(figsize=(10.5, 7.2), layout="constrained", facecolor="black")
    titles = ["real clip", "dehazed", "haze removed", "simulated clip", "dehazed", "truth"]
    for axes, picture, title in zip(figure.subplots(2, 3).flat, top + bottom, titles, strict=True):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1)
        axes.set_title(title, color="white", fontsize=13)
        axes.set_axis_off()
    images = Path(__file__).parents[1] / "images"
    images.mkdir(exist_ok=True)
    figure.savefig(images / "demo.png", dpi=90)
    print(images / "demo.png")


if __name__ == "__main__":
    main()
