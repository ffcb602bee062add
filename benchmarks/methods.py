"""Every method on simulated test patients, one table per kind of patient."""

import dataclasses
import functools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pandas as pd
from tyro.conf import Suppress, arg

from benchmarks.finished import completed
from benchmarks.patients import (
    ABOUT,
    COLUMNS,
    DEVELOPMENT,
    KINDS,
    KindName,
    Split,
    clean_clip,
    clean_lost,
    patient,
    prior_named,
)
from benchmarks.record import RESULTS, record_of, save, save_numbers
from nuclear_diffusion.errors import require
from nuclear_diffusion.measure.candidates import METHODS
from nuclear_diffusion.measure.datasets import as_clip
from nuclear_diffusion.measure.scores import score
from nuclear_diffusion.measure.statistics import differences, patient_mean, patient_means, records, summarise, tidy
from nuclear_diffusion.measure.style import LOOKS, title_of
from nuclear_diffusion.measure.tables import Table, difference_table, heading, mean_table, number, star
from nuclear_diffusion.priors.checkpoint import SHIPPED
from nuclear_diffusion.priors.protocol import knows_haze
from nuclear_diffusion.restore.clip import dehaze_clip
from nuclear_diffusion.restore.methods import Method, Mmse, Paper, Zea, as_dict, from_dict

PEERS: dict[str, Paper | Zea] = {"paper": Paper(steps=25), "zea": Zea(steps=25)}
"""With 25 steps, because 500 take hours on two CPU cores."""

TIMED = (*COLUMNS, "seconds")

COMPARED = ("gcnr", "ks_a", "ks_b", "psnr", "flicker_b", "flicker_a", "bright_lost", "clean_lost")
"""Scores of the differences and of the groups."""


@dataclasses.dataclass(frozen=True)
class Methods:
    """The methods on simulated patients of one kind, with the hazy input and the clean clip."""

    kind: Suppress[KindName] = "seen"
    peers: Suppress[bool] = False
    only: Annotated[
        tuple[str, ...],
        arg(
            metavar="METHOD...",
            help="Measure only these methods, beside the hazy input, Nuclear Diffusion and the clean clip.",
            help_behavior_hint="(default: all)",
        ),
    ] = ()
    patients: Annotated[
        int, arg(help="Number of patients; --split development alone has those of the other commands, from the first.")
    ] = 24
    first: Annotated[
        int, arg(help="Position of the first patient; raise it for patients that no earlier table used.")
    ] = 0
    split: Annotated[Split, arg(help="Choices are made on development patients; test patients are for reporting.")] = (
        "test"
    )
    frames: Annotated[int, arg(help="Frames of each patient.")] = 10
    blind: Annotated[
        str | None,
        arg(
            metavar="PRIOR",
            help="An unconditional prior ('nuclear-diffusion train simulator --blind') for the methods mmse, paper and "
            "zea; the table is named NAME-blind.",
        ),
    ] = None
    workers: Annotated[int, arg(help="Worker processes.")] = 1
    output: Annotated[Path, arg(help="Folder for the table, its numbers and the finished patients.")] = RESULTS

    @property
    def command(self) -> str:
        """The kind of the patients, or `peers`."""
        return "peers" if self.peers else self.kind

    @property
    def name(self) -> str:
        """The command, with suffixes for development patients and an unconditional prior."""
        return self.command + "-development" * (self.split == "development") + "-blind" * (self.blind is not None)

    @property
    def shows(self) -> str:
        """The kind of patients and the methods."""
        what = "Algorithm 1 and zea's method beside the others" if self.peers else "The methods side by side"
        whose = "development patients" if self.split == "development" else "test patients"
        blind = "; mmse, paper and zea with an unconditional prior" if self.blind else ""
        return f"{what} on simulated {whose}: {KINDS[self.kind].about}{blind}."

    def methods(self) -> dict[str, Method]:
        """The methods in the order of the table."""
        every = {**METHODS, **PEERS} if self.peers else METHODS
        unknown = [name for name in self.only if name not in every]
        require(not unknown, f"--only names {', '.join(unknown)}: choose from {', '.join(every)}.")
        wanted = {*self.only, "nuclear"} if self.only else every
        chosen = {name: every[name] for name in [*LOOKS, *every] if name in every and name in wanted}
        if self.blind is None:
            return chosen
        return {
            name: msgspec.structs.replace(method, prior=self.blind)
            if isinstance(method, (Mmse, Paper, Zea))
            else method
            for name, method in chosen.items()
        }

    def positions(self) -> range:
        """Of the patients in their split."""
        usual = DEFAULTS[self.command]
        if self.split == "development" and (self.first, self.patients) == (usual.first, usual.patients):
            return range(DEVELOPMENT[self.kind])
        return range(self.first, self.first + self.patients)

    def run(self) -> None:
        """Measure the patients that are missing and write the table."""
        if self.blind is not None:
            require(
                not knows_haze(prior_named(self.blind).prior),
                f"{self.blind} is haze-aware: give a prior that was trained with --blind.",
            )
        methods = self.methods()
        names = {prior_named(name).sha256: name for name in _prior_names(methods)}
        settings = {name: _identified(method) for name, method in methods.items()}
        about = {"kind": self.kind, "split": self.split, "frames": self.frames, "settings": settings}
        positions = self.positions()
        abouts = [about | {"patient": k, "clip": KINDS[self.kind].clip(k)} for k in positions]
        measured = functools.partial(measure, priors=names)
        found = completed(self.output / "finished" / self.name, abouts, measured, self.workers)
        self.write(dict(zip(positions, found, strict=True)), methods)

    def write(self, done: dict[int, dict[str, dict[str, float]]], methods: dict[str, Method]) -> None:
        """The page, and the numbers of each patient."""
        kind = KINDS[self.kind]
        save_numbers(
            self.output / f"{self.name}.csv",
            ["patient", "group", "method", *TIMED],
            (
                [position, " + ".join(kind.groups(position)), method, *(scores[column] for column in TIMED)]
                for position, found in done.items()
                for method, scores in found.items()
            ),
        )

        def scores_of(positions: list[int]) -> pd.DataFrame:
            return tidy({k: {_title(method): scores for method, scores in done[k].items()} for k in positions})

        scores = scores_of(list(done))
        ours, others = _title("nuclear"), (name for name in scores.method.unique() if name != _title("nuclear"))
        compared = differences(scores, COMPARED, [(ours, other) for other in others])
        groups = {group: scores_of(some) for group, some in kind.members(done).items()}
        both = "; a patient with two counts for both" if any(len(kind.groups(k)) > 1 for k in done) else ""
        by_group = f"""
{_title("hazy")} → {_title("nuclear")} by {kind.apart}{both}. * if the 95 % interval of the paired
difference of at least six patients excludes 0:

{group_table(groups, COMPARED, before=_title("hazy"), after=ours).markdown()}
"""
        chosen = "; ".join(f"{_title(name)} {_in_words(method)}" for name, method in methods.items())
        priors = {
            name if name in SHIPPED or name != self.blind else "blind": prior_named(name).sha256
            for name in _prior_names(methods)
        }
        record = record_of(self, priors, DEFAULTS[self.command])
        page = f"""# Simulated patients: {kind.about}

{len(done)} {self.split} patients, {self.frames} frames each. {ABOUT} are means over patients with 95 % bootstrap
intervals.
{record.caption()}

{mean_table(summarise(scores, TIMED)).markdown()}

{in_words(scores)}

Paired differences; * if the 95 % interval of at least six patients excludes 0:

{difference_table(compared, wide=True).markdown()}
{by_group if groups else ""}
Settings: {chosen}.
"""
        save(self.output, record, page)


DEFAULTS = {
    table.command: table
    for table in (
        Methods(kind="unseen", first=720, patients=240),
        Methods(kind="unseen-view", patients=12),
        Methods(kind="unseen-look", patients=12),
        Methods(kind="seen"),
        Methods(kind="findings"),
        Methods(kind="unseen", first=720, patients=12, peers=True),
    )
}
"""The table of each command with default options."""


def measure(about: dict[str, Any], priors: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Every method's scores on one patient, and its loss of the clean clip. `priors`: path of each prior by hash."""
    simulated = patient(about)
    hazy, clean = as_clip(simulated), clean_clip(simulated)
    none = {"seconds": 0.0, "clean_lost": math.nan}
    found = {"hazy": score(simulated, simulated.hazy) | none}
    for name, settings in about["settings"].items():
        prior = None
        if "prior" in settings:
            prior = prior_named(priors[settings["prior"]]).prior
        method = from_dict(settings)
        dehazed = dehaze_clip(hazy, method, prior)
        lost = clean_lost(simulated, dehaze_clip(clean, method, prior).signal)
        found[name] = score(simulated, dehazed.signal) | {
            "seconds": dehazed.seconds / len(hazy.frames),
            "clean_lost": lost,
        }
    return found | {"clean": score(simulated, simulated.clean) | none}


def group_table(groups: Mapping[str, pd.DataFrame], columns: Sequence[str], *, before: str, after: str) -> Table:
    """One row per group of patients (a tidy table each): the means of two methods and a `star`."""
    rows = []
    for title, frame in groups.items():
        found = {row["score"]: row for row in records(differences(frame, columns, [(after, before)]))}
        cells = [str(frame.patient.nunique())]
        for column in columns:
            old, new = (number(patient_mean(frame, method, column).mean, column) for method in (before, after))
            cells.append(f"{old} → {new}" + (star(found[column]) if column in found else ""))
        rows.append([title, *cells])
    return Table(["", "patients", *map(heading, columns)], rows)


def _title(method: str) -> str:
    """A method's name for readers."""
    return title_of(method) + (f", {PEERS[method].steps} steps" if method in PEERS else "")


def _prior_names(methods: Mapping[str, Method]) -> list[str]:
    names = (method.prior_name for method in methods.values())
    return sorted({name for name in names if name is not None}, key=lambda name: name != "echo")


def _identified(method: Method) -> dict[str, Any]:
    """A method's settings with the hash of its prior in place of the name."""
    name = method.prior_name
    return as_dict(method) | ({} if name is None else {"prior": prior_named(name).sha256})


def _in_words(method: Method) -> str:
    """A method's settings, and the hash of its prior."""
    settings = as_dict(method)
    name = settings.pop("prior", None)
    prior = "" if name is None else f" with prior `{prior_named(name).sha256[:16]}`"
    return f"`{json.dumps(settings)}`{prior}"


def in_words(scores: pd.DataFrame) -> str:
    """The default's flicker relative to the input, and its largest loss of a clean clip."""

    def ratio(method: str, score: str) -> float:
        means = patient_means(scores, score)
        hazy, signal = means[_title("hazy")], means[_title(method)]
        known = hazy.notna() & signal.notna()
        return signal[known].mean() / hazy[known].mean()

    flickers = (
        f"{ratio('nuclear', f'flicker_{region}'):.2f} in the {name} "
        f"({ratio('clean', f'flicker_{region}'):.2f} for the truth)"
        for region, name in (("b", "ventricle"), ("a", "septum"))
    )
    lost = patient_means(scores, "clean_lost")[_title("nuclear")].max()
    return (
        f"{_title('nuclear')}: mean flicker relative to the hazy input is {' and '.join(flickers)}.\n"
        f"The clean clip that loses most loses {lost:.1%} of its bright tissue."
    )
