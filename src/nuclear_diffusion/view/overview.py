"""The summary of a batch: a table for programs, and a page with a picture of each clip for a person."""

import csv
import html
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from nuclear_diffusion.files import write
from nuclear_diffusion.reporting import one_line, plural
from nuclear_diffusion.restore.batch import Record
from nuclear_diffusion.view.film import page, source

COLUMNS = (
    "clip",
    "state",
    "frames",
    "seconds",
    "haze_energy_removed",
    "bright_tissue_lost",
    "bright_tissue_changed",
    "flicker_in",
    "flicker_out",
    "notes",
)


def write_overview(records: Sequence[Record], output: Path) -> Path:
    """Write `summary.csv` and `summary.html` into `output`, in the order of `records`; return the page's path."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows([_plain(value) for value in _row(record)] for record in records)
    write(output / "summary.csv", text.getvalue())
    write(output / "summary.html", _page(records, output))
    return output / "summary.html"


def counted(records: Sequence[Record]) -> str:
    """How many clips are in each state, as words."""
    states = Counter(record.state for record in records)
    words = [f"{states[state]} {state}" for state in ("done", "skipped", "left", "failed") if states[state]]
    return plural(len(records), "clip") + (f": {', '.join(words)}" if words else "")


def _row(record: Record) -> list[object]:
    state = f"{record.state}: {record.reason}" if record.reason else record.state
    numbers = [getattr(record, name) for name in COLUMNS[2:-1]]
    return [record.clip, state, *numbers, " ".join(record.notes)]


def _plain(value: object) -> object:
    """A cell on one line that no spreadsheet takes for a formula."""
    if not isinstance(value, str):
        return value
    return f"'{one_line(value)}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else one_line(value)


def _page(records: Sequence[Record], output: Path) -> str:
    return page(
        "summary.html",
        TITLE=html.escape(counted(records)),
        STYLE=source("style.css"),
        SCRIPT=source("table.js"),
        REASONS=_reasons(records, "failed", "Failed") + _reasons(records, "left", "Left at another strength"),
        HEADS="".join(f"<th{_side(name)}>{HEADINGS.get(name, name)}</th>" for name in COLUMNS),
        ROWS="\n".join(_cells(record) for record in records),
        PICTURES="\n".join(_picture(record, output) for record in records if record.state != "failed"),
    )


def _reasons(records: Sequence[Record], state: str, title: str) -> str:
    """Why clips are in a state."""
    those = [record for record in records if record.state == state]
    lines = "".join(f"<li><b>{html.escape(one.clip)}</b>: {html.escape(one.reason)}</li>\n" for one in those)
    return f'<h2>{title}</h2>\n<ul class="notice">\n{lines}</ul>\n' if those else ""


HEADINGS = {
    "haze_energy_removed": "haze removed",
    "bright_tissue_lost": "bright tissue lost",
    "bright_tissue_changed": "change of tissue",
    "flicker_in": "flicker of input",
    "flicker_out": "flicker of signal",
}
"""Columns as a person reads them, in the words of the app."""

FRACTIONS = {"haze_energy_removed", "bright_tissue_lost", "bright_tissue_changed"}  # shown in percent
WORDS = {"clip", "state", "notes"}  # columns of text


def _side(column: str) -> str:
    return f' class="words {column}"' if column in WORDS else ""


def _cells(record: Record) -> str:
    def cell(column: str, value: object) -> str:
        if not isinstance(value, float):
            return f"<td{_side(column)}>{html.escape('' if value is None else str(value))}</td>"
        shown = f"{value:.1%}".replace("%", " %") if column in FRACTIONS else f"{value:.2f}"
        return f'<td data-value="{value!r}">{shown}</td>'

    values = dict(zip(COLUMNS, _row(record), strict=True)) | {"state": record.state}  # the reason is above the table
    cells = "".join(cell(*pair) for pair in values.items())
    return f'<tr class="{record.state}" data-clip="{html.escape(record.clip)}">{cells}</tr>'


def _picture(record: Record, output: Path) -> str:
    name, address = html.escape(record.clip), quote(record.clip)
    if not (output / record.clip / "summary.png").is_file():
        return ""
    picture = f'<img src="{address}/summary.png" alt="{name}" loading="lazy">'
    return (
        f'<figure data-clip="{name}"><a href="{address}/comparison.mp4">{picture}</a>'
        f"<figcaption>{name}</figcaption></figure>"
    )
