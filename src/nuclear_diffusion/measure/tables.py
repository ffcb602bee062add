"""Tables for the report, Markdown and the terminal."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table as Console

from nuclear_diffusion.files import write
from nuclear_diffusion.measure.scores import SCORES
from nuclear_diffusion.measure.statistics import pick, records
from nuclear_diffusion.measure.style import Look, title_of

FEWEST = 6
"""Patients for a star: by chance five differences have one sign in 1 of 16 cases, and the interval then excludes 0."""


class Table(NamedTuple):
    """Headings and rows of text."""

    headings: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """Lines of Markdown."""
        lines = [self.headings, ["---"] * len(self.headings), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def console(self, title: str = "", bold: str = "") -> Console:
        """For a terminal, with the row `bold` in bold."""
        table = Console(title=title, box=SIMPLE_HEAD, show_edge=False, padding=0)
        table.add_column("", no_wrap=True)
        for words in (heading.replace("[", "").replace("]", "").split() for heading in self.headings[1:]):
            width = max(5, *map(len, words)) if len(words) > 1 else None
            table.add_column(escape(" ".join(words)), justify="right", width=width)
        for row in self.rows:
            table.add_row(*map(escape, row), style="bold" if row[0] == bold else "")
        return table


def mean_table(summary: pd.DataFrame, *, over: str = "patients") -> Table:
    """Means with 95 % intervals of `statistics.summarise`, one row per method: over `patients` or `frames`.

    Over frames, the last column is the number of frames.
    """
    frames = over == "frames"
    rows = []
    for method, of_method in summary.groupby("method", sort=False):
        cells = [_interval(row, "frame_mean" if frames else "mean") for row in records(of_method)]
        counts = of_method.frames[of_method.frames > 0]
        rows.append([title_of(str(method)), *cells, *([str(counts.iloc[0] if len(counts) else 0)] * frames)])
    return Table(["", *map(heading, summary.score.unique()), *(["frames"] * frames)], rows)


def patient_table(summary: pd.DataFrame) -> Table:
    """Mean, median and quartiles over patients, one row per score and method."""
    rows = [
        [
            heading(score),
            title_of(row["method"]),
            _interval(row),
            _interval(row, "median"),
            f"{number(row['lower_quartile'], score)} to {number(row['upper_quartile'], score)}",
            str(row["patients"]),
        ]
        for score in summary.score.unique()
        for row in records(pick(summary, score=score))
        if row["patients"]
    ]
    return Table(["score", "method", "mean", "median", "quartiles", "patients"], rows)


def difference_table(found: pd.DataFrame, *, wide: bool = False) -> Table:
    """`statistics.differences`: one row per pair and score, with p values.

    `wide`: one row per pair, one column per score; * as in `star`.
    """
    known = [row for row in records(found) if row["patients"]]
    pairs = [f"{title_of(row['first'])} − {title_of(row['second'])}" for row in known]
    if not wide:
        rows = [
            [
                heading(row["score"]),
                pair,
                _interval(row),
                _p_value(row["p"]),
                _p_value(row["p_holm"]),
                str(row["patients"]),
            ]
            for pair, row in zip(pairs, known, strict=True)
        ]
        return Table(["score", "difference", "mean", "p", "p (Holm)", "patients"], rows)
    scores = list(found.score.unique())
    cells = {(pair, row["score"]): _interval(row, starred=True) for pair, row in zip(pairs, known, strict=True)}
    rows = [[pair, *(cells.get((pair, score), "–") for score in scores)] for pair in dict.fromkeys(pairs)]
    return Table(["", *map(heading, scores)], rows)


def heading(score: str) -> str:
    """A score's title, unit and an arrow to better; `score` itself if it is not in `SCORES`."""
    if (known := SCORES.get(score)) is None:
        return score
    unit = f" [{known.unit}]" if known.unit else ""
    return known.title + unit + {"higher": " ↑", "lower": " ↓"}[known.better]


def number(value: float, score: str = "") -> str:
    """A value with its score's format; a dash if undefined."""
    digits = SCORES[score].digits if score in SCORES else ".3f"
    return f"{value:{digits}}" if math.isfinite(value) else "–"


def _interval(row: Mapping[str, Any], name: str = "mean", starred: bool = False) -> str:
    """A value and its interval, if any."""
    value, low, high = (number(row[name + end], row["score"]) for end in ("", "_low", "_high"))
    return value + (star(row) if starred else "") + ("" if low == "–" else f" [{low}, {high}]")


def star(row: Mapping[str, Any]) -> str:
    """* if the interval of a difference, over at least `FEWEST` patients, excludes 0 and does not round to it."""
    ends = row["mean_low"], row["mean_high"]
    sure = row["patients"] >= FEWEST and (ends[0] > 0 or ends[1] < 0)
    return "*" if sure and any(float(number(end, row["score"])) for end in ends) else ""


def _p_value(p: float) -> str:
    return "–" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """A table as CSV; undefined values are empty cells, and no cell of text is a formula (`plain_cell`)."""
    texts = [name for name, kind in table.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]
    write(path, table.assign(**{str(name): table[name].map(plain_cell) for name in texts}).to_csv(index=False))


def plain_cell(cell: Any) -> Any:
    """The cell; text that a spreadsheet would run as a formula gets an apostrophe, unless it is a number."""
    if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        try:
            float(cell)
        except ValueError:
            return f"'{cell}"
    return cell


def write_json(path: Path, value: Any) -> None:
    """Indented strict JSON; null for undefined or infinite numbers."""
    text = msgspec.json.format(msgspec.json.encode(value, enc_hook=lambda scalar: scalar.item()), indent=2)
    write(path, text + b"\n")


def render(template: str, context: dict[str, Any]) -> str:
    """A page or a text from one of the `templates`."""
    from jinja2 import Environment, PackageLoader, select_autoescape

    pages = Environment(
        loader=PackageLoader("nuclear_diffusion.measure"),
        autoescape=select_autoescape(["html"]),
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    pages.filters["listed"] = listed
    pages.filters["marked"] = marked
    return pages.get_template(template).render(context)


MARKS = {"X": "✕", "s": "■", "p": "⬟", "D": "◆", "<": "◀", "^": "▲", "v": "▼", "o": "●", "P": "✚", "*": "★"}
"""Markers of matplotlib as text."""


def marked(cell: str, looks: Mapping[str, Look]) -> str:
    """A cell of a page; the name of a method gets its marker in its colour, as in the figures."""
    from markupsafe import Markup

    if (look := looks.get(cell)) is None:
        return Markup.escape(cell)
    return Markup('<span class="mark" style="color: {}" aria-hidden="true">{}</span> {}').format(
        look.color, MARKS[look.marker], cell
    )


def listed(used: Mapping[str, str]) -> str:
    """Names and versions in words."""
    return ", ".join(f"{name} {number}" for name, number in used.items())
