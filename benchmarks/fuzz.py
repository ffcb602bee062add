"""Damaged files of every format, read in child processes: how many are refused in a sentence, and what else happens."""

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import arg

from benchmarks.fuzzing.child import OUTCOMES
from benchmarks.fuzzing.pool import GOOD, MEMORY_LIMIT, SECONDS, Found, campaign
from benchmarks.fuzzing.seeds import SEEDS
from benchmarks.record import RESULTS, markdown, record_of, save
from nuclear_diffusion.errors import require
from nuclear_diffusion.reporting import progress_bar


@dataclasses.dataclass(frozen=True)
class Fuzz:
    """Damage small files of every readable format and count what reading them does."""

    files: Annotated[int, arg(help="Number of damaged files, the formats in turn.")] = 20_000
    seed: Annotated[int, arg(help="Random seed; file k depends on it and on k only.")] = 0
    workers: Annotated[int, arg(help="Child processes.")] = 2
    only: Annotated[
        tuple[str, ...],
        arg(metavar="FORMAT...", help="Formats whose names start so.", help_behavior_hint="(default: all)"),
    ] = ()
    keep: Annotated[Path, arg(help="Folder for the files that were neither read nor refused.")] = Path("fuzz-found")
    output: Annotated[Path, arg(help="Folder for the table.")] = RESULTS

    command: ClassVar[str] = "fuzz"
    name: ClassVar[str] = "fuzz"
    shows: ClassVar[str] = "What happens when damaged files of every format are read."

    def run(self) -> None:
        """Run the campaign and write the table."""
        require(self.files > 0 and self.workers > 0, "--files and --workers must be positive.")
        chosen = [seed for seed in SEEDS if not self.only or seed.name.startswith(self.only)]
        require(bool(chosen), f"--only names no format: choose from {', '.join(seed.name for seed in SEEDS)}.")
        with progress_bar("fuzzing") as progress:
            found = campaign(
                chosen, self.files, seed=self.seed, workers=self.workers, keep=self.keep, progress=progress
            )
        for line in listed(found):
            print(line)
        self.write(found)

    def write(self, found: Sequence[Found]) -> None:
        """The table."""
        read = {each.format for each in found}
        families: dict[str, list[str]] = {}
        for seed in SEEDS:
            if seed.name in read:
                family, _, variant = seed.name.partition(", ")
                families.setdefault(family, []).extend([variant] * bool(variant))
        rows = [
            [family + f" ({', '.join(variants)})" * bool(variants), *counted(found, family)]
            for family, variants in families.items()
        ]
        rows.append(["**all**", *counted(found)])
        record = record_of(self, {})
        page = f"""# Damaged files

{len(found):,} damaged copies of small valid files, the variants of each format in turn: flipped bits, cuts, splices,
changed header fields, lengths and numbers, also inside gzip, ZIP and PNG with corrected checksums. Good: *read* (the
damage does not matter or cannot be seen) and *refused* (in one sentence). Bad: a traceback, a crash, more than
{SECONDS:g} s (hang), more than {MEMORY_LIMIT >> 30} GB (memory), and a wrong answer: values or frame rates that cannot
be used, or a changed result that is accepted.
{record.caption()}

{markdown(["format (variants)", *GOOD, "bad"], rows)}"""
        save(self.output, record, page)


def counted(found: Sequence[Found], family: str = "") -> list[str]:
    """How many files of a family of formats, or of all, were read, refused, or had which bad outcome."""
    counts = collections.Counter(each.outcome for each in found if family in ("", each.format.partition(", ")[0]))
    bad = ", ".join(f"{counts[one]:,} {one}" for one in OUTCOMES if one not in GOOD and counts[one])
    return [*(f"{counts[one]:,}" for one in GOOD), bad or "0"]


def listed(found: Sequence[Found]) -> list[str]:
    """One line for each kind of offence, the most frequent first, with the first file of that kind."""
    kinds: dict[tuple[str, str, str], list[Found]] = {}
    for each in found:
        if each.outcome not in GOOD:
            kinds.setdefault((each.format, each.outcome, each.detail.split(": ")[0]), []).append(each)
    ordered = sorted(kinds.items(), key=lambda kind: -len(kind[1]))
    return [f"{len(many)} x {name}: {one}, {many[0].detail} ({many[0].path})" for (name, one, _), many in ordered]
