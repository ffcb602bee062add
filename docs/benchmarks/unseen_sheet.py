"""What training never sees, clean and hazy, in docs/images/unseen.png.

Left: each unseen family of haze on a frame, and on a line of the image over a second; right: unseen views and looks.
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from nuclear_diffusion.simulation import (
    UNSEEN_FAMILIES,
    UNSEEN_LOOKS,
    UNSEEN_VIEWS,
    SimulatedClip,
    patient_seed,
    simulate,
)

FIRST, OTHER = 400, 501
"""Patients of the development split: the first of those on the left, and the one on the right."""

MOMENTS = np.linspace(0, 1, 48)


def main() -> None:
    right = [{"view": view} for view in UNSEEN_VIEWS] + [{"view": "a4c", "look": look} for look in UNSEEN_LOOKS]
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
    images = Path(__file__).parents[1] / "images"
    images.mkdir(exist_ok=True)
    figure.savefig(images / "unseen.png", dpi=70)
    print(images / "unseen.png")


def line(patient: SimulatedClip, part: str, column: int) -> np.ndarray:
    """Rows of one `column` over time (M-mode), 5 pixels a moment."""
    return np.repeat(getattr(patient, part)[:, :, column].T, 5, axis=1)


if __name__ == "__main__":
    main()
