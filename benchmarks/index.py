"""The page that lists all tables, from the records beside them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import msgspec

from benchmarks.record import RESULTS, Record, markdown
from benchmarks.tables import TABLES, Table
from nuclear_diffusion.files import write

PAGE = Path(__file__).parent / "README.md"


@dataclasses.dataclass(frozen=True)
class Index:
    """Rewrites `benchmarks/README.md`."""

    command: ClassVar[str] = "index"
    shows: ClassVar[str] = (
        "Rewrite benchmarks/README.md, the list of all tables, from the records in benchmarks/results."
    )

    def run(self) -> None:
        """Write the page."""
        write(PAGE, page(TABLES))


def records(folder: Path = RESULTS) -> list[Record]:
    """The records of all tables in a folder, by name."""
    return [msgspec.json.decode(path.read_bytes(), type=Record) for path in sorted(folder.glob("*.json"))]


def page(tables: Sequence[Table], folder: Path = RESULTS) -> str:
    """The text of the index page: the tables in `folder`, and those of `tables` that are missing."""
    order = [table.command for table in tables]
    found = sorted(records(folder), key=lambda record: (order.index(record.command.split()[3]), record.table))
    rows = [
        [
            f"[{record.table}](results/{record.table}.md)",
            record.shows,
            f"`{record.command}`",
            record.date,
        ]
        for record in found
    ]
    known = {record.command.split()[3] for record in found}
    others = ", ".join(f"`{table.command}`" for table in tables if table.command not in known)
    return f"""# Benchmarks

Each table is made by one command from the root of the repository; `python -m benchmarks COMMAND --help` lists its
options. A command writes its table, the numbers behind it and a record of how they were made to `benchmarks/results`,
and updates this page. Interrupted runs resume. Tables on development patients are for choosing, tables on test patients
for reporting.

{markdown(["Table", "Shows", "Command", "Date"], rows)}
Commands without a committed table: {others} (see `--help`).

This page is written by `python -m benchmarks index`.
"""
