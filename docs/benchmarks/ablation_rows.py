"""The rows of `ablation.py`, for its tables."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nuclear_diffusion.evaluation.bootstrap import mean_interval, paired_difference

QUALITY = {
    "gcnr": "gCNR ↑",
    "ks_a": "KS_A ↓",
    "ks_b": "KS_B ↑",
    "psnr": "PSNR [dB] ↑",
    "ssim": "SSIM ↑",
    "flicker": "flicker",
}
COST = {"passes": "passes a frame", "seconds": "s a frame"}


class Summary(NamedTuple):
    """One row of the tables; the values are one a patient."""

    title: str
    frames: int
    values: dict[str, list[float]]
    default: dict[str, list[float]]
    failures: list[str]
    is_default: bool

    @property
    def patients(self) -> int:
        return len(self.values["passes"])

    def mean(self, name: str) -> float:
        return mean_interval(self.values[name]).mean

    def change(self, name: str) -> float:
        """Difference from the default, or the ratio of a cost."""
        if name in COST:
            return float(np.divide(self.mean(name), mean_interval(self.default[name]).mean))
        return paired_difference(self.values[name], self.default[name]).mean

    def line(self) -> dict[str, str | int]:
        """For the CSV file."""
        line: dict[str, str | int] = {
            "variant": self.title.strip("*"),
            "patients": self.patients,
            "frames": self.frames,
        }
        for name in (*QUALITY, *COST):
            change = math.nan if self.is_default else self.change(name)
            line[name] = plain(self.mean(name))
            line[f"{name}_{'ratio' if name in COST else 'change'}"] = plain(change)
        return line | {"failure": "; ".join(sorted(set(self.failures)))}

    def cells(self) -> list[str]:
        """For the Markdown table."""
        title = self.title
        if self.failures:
            reasons = "; ".join(sorted(set(self.failures))).replace("|", "\\|")
            title += f" – failed for {len(self.failures)} of {len(self.failures) + self.patients}: {reasons}"
        return [title, f"{self.patients} x {self.frames}", *(self.cell(name) for name in (*QUALITY, *COST))]

    def cell(self, name: str) -> str:
        mean, digits = self.mean(name), {"psnr": 2, "flicker": 2, "passes": 1}.get(name, 3)
        if not math.isfinite(mean):
            return "–"
        change = self.change(name)
        if self.is_default or not math.isfinite(change):
            return f"{mean:.{digits}f}"
        if name in COST:
            return f"{mean:.{digits}f} (x {change:.2g})" if change < 10 else f"{mean:.{digits}f} (x {change:.0f})"
        interval = paired_difference(self.values[name], self.default[name])
        star = "\\*" if interval.low > 0 or interval.high < 0 else ""
        return f"{mean:.{digits}f} ({change:+.{digits}f}{star})"


def plain(value: float) -> str:
    return f"{value:.5f}" if math.isfinite(value) else ""


def markdown(rows: Sequence[Summary]) -> str:
    titles = ["", "n", *QUALITY.values(), *COST.values()]
    lines = [titles, ["---"] * len(titles), *(row.cells() for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
