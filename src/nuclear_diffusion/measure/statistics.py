"""Averages of scores over patients, and tests between methods, from one tidy table with the columns `COLUMNS`."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

from nuclear_diffusion.measure.bootstrap import Interval, mean_interval, median_interval, pooled_interval
from nuclear_diffusion.measure.candidates import HAZY

COLUMNS: dict[str, Any] = {
    "clip": "str",
    "patient": "str",
    "method": "str",
    "frame": "Int64",
    "score": "str",
    "value": "float64",
}
"""Columns of the tidy table and their types; `frame` is missing for a value of the whole clip."""
INTERVALS = (
    "95 % percentile bootstrap intervals over patients, 9999 resamples; whole patients are resampled for means over "
    "frames."
)
TESTS = (
    "Paired over patients: two-sided Wilcoxon signed-rank test, with Holm's correction for all pairs of methods in one "
    "score."
)

DIFFERENCES = ["first", "second", "score", "patients", "mean", "mean_low", "mean_high", "p", "p_holm"]
"""Columns of `differences`."""
NOTHING_OF_THE_INPUT = ("ks_a", "ks_b", "bright_lost", "seconds")
"""Scores that are 0 for the input by definition and not tested against it."""


def tidy(patients: Mapping[Any, Mapping[str, Mapping[str, float]]]) -> pd.DataFrame:
    """The tidy table of patient -> method -> score -> value, with one clip per patient."""
    rows = [
        (str(patient), str(patient), method, pd.NA, score, value)
        for patient, methods in patients.items()
        for method, scores in methods.items()
        for score, value in scores.items()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def pick(frame: pd.DataFrame, where: Any = True, **equal: str) -> pd.DataFrame:
    """The rows of a table that satisfy a condition, and whose columns have these values."""
    for column, value in equal.items():
        where &= frame[column] == value
    return cast(pd.DataFrame, frame[where])


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as dictionaries."""
    return cast(list, frame.to_dict(orient="records"))


def patient_means(frame: pd.DataFrame, score: str) -> dict[str, pd.Series]:
    """By method: the mean over each patient's finite values; NaN if there are none.

    Methods and patients are in the order of the table.
    """
    finite = pick(frame, np.isfinite(frame.value), score=score)
    means = finite.groupby(["patient", "method"], sort=False).value.mean().unstack("method")
    return dict(means.reindex(index=frame.patient.unique(), columns=frame.method.unique()).items())  # pyright: ignore


def patient_mean(frame: pd.DataFrame, method: str, score: str) -> Interval:
    """Mean over patients of one method's score."""
    return mean_interval(patient_means(frame, score)[method].to_numpy())


def frame_mean(frame: pd.DataFrame, method: str, score: str) -> Interval:
    """Mean over all frames of one method's score; its interval is over patients."""
    return pooled_interval(_by_patient(pick(frame, method=method, score=score)))


def summarise(frame: pd.DataFrame, scores: Sequence[str]) -> pd.DataFrame:
    """One row per method and score, averaged over frames and over patients; only finite values count.

    Columns: `method`, `score`, `patients`; `frames`, the number of values (clips, for values of a whole clip);
    `frame_mean` over all of them, as in the paper and the challenge; `mean` and `median` over patients; each of the
    three with `_low` and `_high`, its 95 % bootstrap interval over patients; `lower_quartile`, `upper_quartile`.
    """
    rows = []
    for method in frame.method.unique():
        for score in scores:
            values = _by_patient(pick(frame, method=method, score=score))
            patients = [float(np.mean(each)) for each in values]
            quartiles = np.quantile(patients, (0.25, 0.75)) if patients else (np.nan, np.nan)
            rows.append(
                {"method": method, "score": score, "patients": len(patients), "frames": sum(map(len, values))}
                | _limits("frame_mean", pooled_interval(values))
                | _limits("mean", mean_interval(patients))
                | _limits("median", median_interval(patients))
                | dict(zip(("lower_quartile", "upper_quartile"), quartiles, strict=True))
            )
    return pd.DataFrame(rows)


def differences(
    frame: pd.DataFrame, scores: Sequence[str], pairs: Sequence[tuple[str, str]] | None = None
) -> pd.DataFrame:
    """One row per pair of methods and score: the first minus the second, patient by patient.

    `pairs`: by default all, a later method minus an earlier one, without the input for `NOTHING_OF_THE_INPUT`. Patients
    with an undefined value are left out of that pair.

    Columns: `first`, `second`, `score`, `patients`; `mean`, `mean_low`, `mean_high`, with 95 % bootstrap interval; `p`
    of the two-sided Wilcoxon signed-rank test (1 if no patient differs), and `p_holm` after Holm's correction for
    all pairs in this score.
    """
    from statsmodels.stats.multitest import multipletests

    rows = []
    for score in scores:
        means = patient_means(frame, score)
        of_score = []
        for second, first in combinations(means, 2) if pairs is None else [pair[::-1] for pair in pairs]:
            if pairs is None and second == HAZY and score in NOTHING_OF_THE_INPUT:
                continue
            values = (means[first] - means[second]).dropna().to_numpy()
            interval = mean_interval(values)
            row = {"first": first, "second": second, "score": score, "patients": interval.patients}
            of_score.append(row | _limits("mean", interval) | {"p": _signed_rank(values), "p_holm": np.nan})
        known = [row for row in of_score if row["patients"]]
        corrected = [row["p"] for row in known]
        if len(known) > 1:  # a single test needs no correction, and each call collects all garbage
            corrected = cast(Any, multipletests(corrected, method="holm")[1])
        for row, p in zip(known, corrected, strict=True):
            row["p_holm"] = float(p)
        rows += of_score if known else []
    return pd.DataFrame(rows, columns=DIFFERENCES)


def _by_patient(frame: pd.DataFrame) -> list[np.ndarray]:
    """The finite values of each patient that has any."""
    known = pick(frame, np.isfinite(frame.value))
    return [values.to_numpy() for _, values in known.groupby("patient", sort=False).value]


def _signed_rank(values: np.ndarray) -> float:
    """The p value of Wilcoxon's signed-rank test; zeros are left out, as in the original (Wilcoxon 1945)."""
    if not len(values):
        return np.nan
    return float(wilcoxon(values).pvalue) if values.any() else 1.0  # pyright: ignore[reportAttributeAccessIssue]


def _limits(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
