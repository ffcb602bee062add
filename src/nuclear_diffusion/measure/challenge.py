"""The terms of the DehazingEcho2025 challenge's score that need no private networks, in points."""

from importlib.metadata import version

import numpy as np
import pandas as pd

from nuclear_diffusion.measure.fid import Distances
from nuclear_diffusion.measure.style import title_of
from nuclear_diffusion.measure.tables import Table

MISSING = (
    "Missing: FID (33 points of g1), which needs Inception weights, and g3 (Dice, ASD), which needs the challenge's "
    "private segmenter. g1 is shown without its FID term, out of 67."
)


def challenge_points(summary: pd.DataFrame, fid: Distances | None = None) -> pd.DataFrame:
    """Terms of (5 g1 + 3 g2 + 2 g3) / 10 by method, each clipped to [0, 1] before it is weighted.

        g1 = 33 (150 - FID)/90 + 33 (CNR - 1)/0.5 + 34 (gCNR - 0.5)/0.3
        g2 = 50 (0.3 - KS_A)/0.2 + 50 KS_B/0.5

    From means over frames of `statistics.summarise`. Columns: `g1_contrast`, the terms of CNR and gCNR, out of 67
    points; `g2`, out of 100; with `fid` also `g1`, out of 100, the distance and its numbers of frames. g3 needs a
    private segmenter and is missing.
    """
    means = summary.pivot(index="method", columns="score", values="frame_mean").reindex(summary.method.unique())
    points = pd.DataFrame(
        {
            "g1_contrast": 33 * ((means.cnr - 1) / 0.5).clip(0, 1) + 34 * ((means.gcnr - 0.5) / 0.3).clip(0, 1),
            "g2": 50 * ((0.3 - means.ks_a) / 0.2).clip(0, 1) + 50 * (means.ks_b / 0.5).clip(0, 1),
        }
    )
    if fid is not None:
        points["fid"] = pd.Series(fid.values)
        points["fid_frames"], points["fid_clean_frames"] = fid.frames, fid.clean_frames
        points.insert(0, "g1", points.g1_contrast + fid_points(points.fid))
    return points


def fid_points(fid):
    """The FID term of g1, of 33 points: 33 (150 - FID)/90, the fraction clipped to [0, 1]."""
    return 33 * np.clip((150 - fid) / 90, 0, 1)


def challenge_table(points: pd.DataFrame, fid: Distances | None = None) -> Table:
    """The `challenge_points`, one row per method."""
    columns = {"g1_contrast": "g1 without FID (of 67)", "g2": "g2 (of 100)", "fid": "FID", "g3": "g3"}
    if fid is not None:
        sizes = f"FID ↓ (n = {fid.frames}, clean n = {fid.clean_frames})"
        columns = {"g1": "g1 (of 100)", "g2": "g2 (of 100)", "fid": sizes, "g3": "g3"}
    rows = [
        [title_of(str(method)), *(f"{row[name]:.1f}" if name in row else "missing" for name in columns)]
        for method, row in points.iterrows()
    ]
    return Table(["", *columns.values()], rows)


def challenge_note(fid: Distances | None = None) -> str:
    """The missing terms of the challenge's score, and how FID was computed."""
    if fid is None:
        return MISSING
    return (
        "Missing: g3 (Dice, ASD), which needs the challenge's private segmenter. FID = |m1 - m2|^2 + tr(S1 + S2 - "
        f"2 (S1 S2)^(1/2)) of means and covariances of {fid.features} features: {fid.frames} frames of each method "
        f"against {fid.clean_frames} clean ones. FID rises with fewer frames: compare only at equal n. "
        f"Network SHA-256 {fid.network_sha256}, onnxruntime {version('onnxruntime')}."
    )
