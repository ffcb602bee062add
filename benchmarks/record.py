"""Write tables, each with a record of how and when it was made."""

import csv
import dataclasses
import datetime
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import msgspec

from nuclear_diffusion.files import atomic, write
from nuclear_diffusion.measure.tables import Table as Markdown
from nuclear_diffusion.measure.tables import listed, write_json
from nuclear_diffusion.restore.folder import versions

RESULTS = Path(__file__).parent / "results"
"""Tables of the shipped prior; tables of earlier priors are in the Git history."""


TRIALS = RESULTS / "finished" / "trials"
"""Where tables go that are smaller than those of the documents."""


def is_trial(table: Any, default: Any) -> bool:
    """Whether a `tables.Table` has fewer or shorter clips or fewer methods than the command makes by default."""
    smaller = ("patients", "frames", "long_frames", "share", "minutes")
    return bool(getattr(table, "only", ())) or any(
        getattr(table, name) < getattr(default, name) for name in smaller if hasattr(table, name)
    )


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """How a table was made; `NAME.json` beside `NAME.md`."""

    table: str
    shows: str
    command: str
    priors: dict[str, str]
    """First 16 digits of the SHA-256 of the weights, by the prior's name; empty for a table without a prior."""
    date: str
    machine: str
    versions: dict[str, str]

    def caption(self) -> str:
        """Two lines for the table's page."""
        prior = f"prior {self.hashes()}" if self.priors else "no trained prior"
        made = f"Made by `{self.command}` on {self.date}"
        return f"{made}\nwith {listed(self.versions)} on {self.machine}; {prior}."

    def hashes(self) -> str:
        """The priors, for a page."""
        return ", ".join(f"{name} `{digits}`" for name, digits in self.priors.items())


def record_of(table: Any, priors: Mapping[str, str], default: Any = None) -> Record:
    """The record of a `tables.Table` made now.

    `priors`: the full hashes by the prior's name or path. `default`: the table with the command's default options;
    None: the class's defaults.
    """
    return Record(
        table=table.name,
        shows=table.shows,
        command=command_line(table, type(table)() if default is None else default),
        priors={Path(name).name: sha256[:16] for name, sha256 in priors.items()},
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        machine=machine(),
        versions=versions() | {"Python": platform.python_version()},
    )


def command_line(table: Any, default: Any) -> str:
    """The command for this table: options that differ from the default, with placeholders for paths."""
    words = ["python -m benchmarks", table.command]
    for field in dataclasses.fields(table):
        value = getattr(table, field.name)
        if field.name != "output" and value != getattr(default, field.name):
            shown = _shown(field.name, value)
            words.append(shown if field.metadata.get("positional") else f"--{field.name.replace('_', '-')} {shown}")
    return " ".join(words)


def _shown(name: str, value: Any) -> str:
    if isinstance(value, tuple) and value and isinstance(value[0], Path):
        return "FILE..."
    if isinstance(value, tuple):
        return " ".join(dict.fromkeys(_shown(name, each) for each in value))
    if isinstance(value, Path) or (isinstance(value, str) and ("/" in value or Path(value).exists())):
        return "PATH"
    return f"{value:g}" if isinstance(value, float) else f'"{value}"' if " " in str(value) else str(value)


def machine() -> str:
    """Processors and accelerator."""
    device = jax.devices()[0]
    beside = "" if device.platform == "cpu" else f", {device.device_kind}"
    return f"{os.cpu_count()} CPU cores ({platform.machine()}){beside}"


def save(output: Path, record: Record, page: str, picture: bytes | None = None) -> None:
    """Write the page of a table, its record, and its picture, if any."""
    write(output / f"{record.table}.md", linked(page, output))
    if picture is not None:
        write(output / f"{record.table}.png", picture)
    write_json(output / f"{record.table}.json", record)


def linked(page: str, output: Path) -> str:
    """The page with its links to the documents, written for `RESULTS`, as they are from a folder in it."""
    deeper = len(output.relative_to(RESULTS).parts) if output.is_relative_to(RESULTS) else 0
    return page.replace("](../../", "](../../" + "../" * deeper)


def save_numbers(path: Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write numbers as CSV: floats with five decimals, empty cells if not finite."""
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(head)
        for row in rows:
            table.writerow([_number(each) if isinstance(each, float) else each for each in row])


def _number(value: float) -> str:
    return f"{value:.5f}" if abs(value) < float("inf") else ""  # False for NaN


def markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with a final newline."""
    return Markdown([*headings], [[*row] for row in rows]).markdown() + "\n"
