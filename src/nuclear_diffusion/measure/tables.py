"""Scores of many patients as a table: means with intervals, and paired differences."""

import math
import os
import platform
from collections.abc import Mapping, Sequence

from nuclear_diffusion.measure.bootstrap import Interval, mean_interval, paired_difference
from nuclear_diffusion.restore.folder import versions

Scores = Mapping[str, Mapping[str, Sequence[float]]]
"""Method -> score -> one value a patient, the same patients in the same order for every method."""


def mean_table(scores: Scores, columns: Mapping[str, str]) -> str:
    """Markdown: one row a method, the mean over patients and its 95 % interval; `columns` maps scores to headings."""
    rows = {method: {name: mean_interval(values[name]) for name in columns} for method, values in scores.items()}
    return _markdown(rows, columns)


def difference_table(scores: Scores, columns: Mapping[str, str], *, method: str) -> str:
    """Markdown: `method` minus each other method, patient by patient; * where the interval excludes 0."""
    rows = {
        f"{method} − {other}": {name: paired_difference(scores[method][name], values[name]) for name in columns}
        for other, values in scores.items()
        if other != method
    }
    return _markdown(rows, columns, starred=True)


def group_table(groups: Mapping[str, Scores], columns: Mapping[str, str], *, before: str, after: str) -> str:
    """Markdown: one row a group of patients, the means of `before` and `after`; * where they differ for sure.

    A mean over all patients can hide one kind on which a method fails.
    """
    lines = ["| | patients | " + " | ".join(columns.values()) + " |", "|---|---|" + "---|" * len(columns)]
    for title, scores in groups.items():
        cells = [str(len(next(iter(scores[before].values()))))]
        for name in columns:
            old, new = scores[before][name], scores[after][name]
            difference = paired_difference(new, old)
            star = "*" if difference.low > 0 or difference.high < 0 else ""
            cells.append(f"{_plain(mean_interval(old).mean)} → {_plain(mean_interval(new).mean)}{star}")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _plain(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "–"


def _markdown(rows: Mapping[str, Mapping[str, Interval]], columns: Mapping[str, str], starred: bool = False) -> str:
    lines = ["| | " + " | ".join(columns.values()) + " |", "|---|" + "---|" * len(columns)]
    for title, intervals in rows.items():
        lines.append(f"| {title} | " + " | ".join(_cell(intervals[name], starred) for name in columns) + " |")
    return "\n".join(lines) + "\n"


def _cell(interval: Interval, starred: bool) -> str:
    if interval.patients == 0:
        return "–"
    star = "*" if starred and (interval.low > 0 or interval.high < 0) else ""
    return f"{interval.mean:.3f}{star} [{interval.low:.3f}, {interval.high:.3f}]"


def made_with() -> str:
    """The versions and the machine, without its name, for a table's caption."""
    names = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"{names}, Python {platform.python_version()} on {os.cpu_count()} CPU cores ({platform.machine()})"
