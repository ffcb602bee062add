"""The summary of a batch: a table for programs, and a page with a picture of each clip for a person."""

import csv
import html
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from nuclear_diffusion.files import write
from nuclear_diffusion.restore.batch import Record

COLUMNS = (
    "clip",
    "state",
    "frames",
    "seconds",
    "haze_energy_removed",
    "bright_tissue_lost",
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
    words = [f"{states[state]} {state}" for state in ("done", "skipped", "failed") if states[state]]
    return f"{len(records)} clip{'s' * (len(records) != 1)}" + (f": {', '.join(words)}" if words else "")


def _row(record: Record) -> list[object]:
    state = f"failed: {record.reason}" if record.state == "failed" else record.state
    numbers = [getattr(record, name) for name in COLUMNS[2:-1]]
    return [record.clip, state, *numbers, " ".join(record.notes)]


def _plain(value: object) -> object:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _page(records: Sequence[Record], output: Path) -> str:
    failed = [record for record in records if record.state == "failed"]
    wrong = "".join(f"<li><b>{html.escape(one.clip)}</b>: {html.escape(one.reason)}</li>\n" for one in failed)
    return _PAGE.format(
        title=html.escape(counted(records)),
        failed=f"<h2>Failed</h2>\n<ul>\n{wrong}</ul>" if failed else "",
        heads="".join(f"<th>{name.replace('_', ' ')}</th>" for name in COLUMNS),
        rows="\n".join(_cells(record) for record in records),
        sheet="\n".join(_picture(record, output) for record in records if record.state != "failed"),
    )


def _cells(record: Record) -> str:
    def shown(value: object) -> str:
        return f"{value:.3g}" if isinstance(value, float) else html.escape("" if value is None else str(value))

    return f'<tr class="{record.state}">' + "".join(f"<td>{shown(value)}</td>" for value in _row(record)) + "</tr>"


def _picture(record: Record, output: Path) -> str:
    name, address = html.escape(record.clip), quote(record.clip)
    if not (output / record.clip / "summary.png").is_file():
        return ""
    return (
        f'<figure><a href="{address}/comparison.mp4"><img src="{address}/summary.png" alt="{name}" loading="lazy"></a>'
        f"<figcaption>{name}</figcaption></figure>"
    )


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; font: 14px/1.4 system-ui, sans-serif; }}
body {{ margin: 2rem; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: .25rem .75rem; border-bottom: 1px solid #8884; text-align: left; vertical-align: top; }}
.failed {{ color: #d33; }}
.sheet {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(26rem, 1fr)); gap: 1rem; margin-top: 2rem; }}
figure {{ margin: 0; }}
img {{ width: 100%; }}
</style>
<h1>{title}</h1>
<p>Research use only, not a medical device. A picture links to the film of input, signal and background. Flicker is that
of the sector's mean, in grey levels of 255.</p>
{failed}
<table>
<tr>{heads}</tr>
{rows}
</table>
<div class="sheet">
{sheet}
</div>
</html>
"""
