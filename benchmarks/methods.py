"""Every method on simulated test patients, one table for each kind of patient.

Each kind has patients of its own. Each finished patient is a line of `NAME.jsonl`.
"""

import dataclasses
import functools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from tyro.conf import Suppress, arg

from benchmarks.finished import completed
from benchmarks.patients import ABOUT, COLUMNS, KINDS, KindName, Split, clean_clip, clean_lost, patient, prior_named
from benchmarks.record import RESULTS, record_of, save, save_numbers
from nuclear_diffusion.errors import require
from nuclear_diffusion.measure.comparison import METHODS, as_clip
from nuclear_diffusion.measure.scores import score
from nuclear_diffusion.measure.style import LOOKS
from nuclear_diffusion.measure.tables import Scores, difference_table, group_table, mean_table
from nuclear_diffusion.priors.protocol import knows_haze
from nuclear_diffusion.restore.clip import dehaze_clip
from nuclear_diffusion.restore.methods import Method, Mmse, Paper, Rpca, Zea, as_dict, from_dict

PEERS: dict[str, Paper | Zea] = {"paper": Paper(steps=25), "zea": Zea(steps=25)}
"""With 25 steps, because 500 would take days on two CPU cores."""

NAMES = {method: look.title for method, look in LOOKS.items()}
NAMES |= {method: f"{NAMES[method]}, {peer.steps} steps" for method, peer in PEERS.items()}

TIMED = COLUMNS | {"seconds": "s a clip"}


@dataclasses.dataclass(frozen=True)
class Methods:
    """The methods on simulated patients of one kind, beside the hazy input and the clean clip."""

    kind: Suppress[KindName] = "seen"
    peers: Suppress[bool] = False
    patients: Annotated[int, arg(help="How many patients.")] = 24
    first: Annotated[
        int,
        arg(help="Position of the first patient; patients that no choice has looked at come after earlier tables'."),
    ] = 0
    split: Annotated[Split, arg(help="Choices are made on development patients; test patients are for reporting.")] = (
        "test"
    )
    frames: Annotated[int, arg(help="Frames of each patient.")] = 10
    blind: Annotated[
        str | None,
        arg(
            metavar="PRIOR",
            help="A blind prior (trained on clean frames only: 'nuclear-diffusion train simulator --blind') for the "
            "methods mmse, paper and zea; a table of its own, NAME-blind.",
        ),
    ] = None
    workers: Annotated[int, arg(help="Processes that share the patients.")] = 1
    output: Annotated[Path, arg(help="Folder for the table, its numbers and the finished patients.")] = RESULTS

    @property
    def command(self) -> str:
        """The kind of the patients, or `peers`."""
        return "peers" if self.peers else self.kind

    @property
    def name(self) -> str:
        """The command, and what sets the table apart from the command's usual one."""
        return self.command + "-development" * (self.split == "development") + "-blind" * (self.blind is not None)

    @property
    def shows(self) -> str:
        """The kind of patients and the methods."""
        what = "Algorithm 1 and zea's method beside the others" if self.peers else "The methods side by side"
        whose = "development patients" if self.split == "development" else "test patients"
        blind = "; mmse, paper and zea with a blind prior" if self.blind else ""
        return f"{what} on simulated {whose}: {KINDS[self.kind].about}{blind}."

    def methods(self) -> dict[str, Method]:
        """The methods in the order of the table."""
        every = {**METHODS, **PEERS} if self.peers else METHODS
        chosen = {name: every[name] for name in LOOKS if name in every}
        if self.blind is None:
            return chosen
        return {
            name: msgspec.structs.replace(method, prior=self.blind)
            if isinstance(method, (Mmse, Paper, Zea))
            else method
            for name, method in chosen.items()
        }

    def run(self) -> None:
        """Measure the patients that are missing and write the table."""
        if self.blind is not None:
            require(
                not knows_haze(prior_named(self.blind).prior),
                f"{self.blind} has learned haze: give a prior that was trained with --blind.",
            )
        methods = self.methods()
        names = {prior_named(name).sha256: name for name in _prior_names(methods)}
        settings = {name: _identified(method) for name, method in methods.items()}
        about = {"kind": self.kind, "split": self.split, "frames": self.frames, "settings": settings}
        positions = range(self.first, self.first + self.patients)
        abouts = [about | {"patient": k, "clip": KINDS[self.kind].clip(k)} for k in positions]
        measured = functools.partial(measure, priors=names)
        found = completed(self.output / f"{self.name}.jsonl", abouts, measured, self.workers)
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

        def scores_of(positions: list[int]) -> dict[str, dict[str, list[float]]]:
            return {
                NAMES[method]: {column: [done[k][method][column] for k in positions] for column in TIMED}
                for method in next(iter(done.values()))
            }

        scores = scores_of(list(done))
        names = sorted({group for position in done for group in kind.groups(position)})
        groups = {group: scores_of([k for k in done if group in kind.groups(k)]) for group in names}
        by_group = f"""
{NAMES["hazy"]} → {NAMES["nuclear"]} by {kind.apart}; a patient with two counts for both. * where the 95 % interval of
the paired difference excludes 0:

{group_table(groups, COLUMNS, before=NAMES["hazy"], after=NAMES["nuclear"])}"""
        chosen = "".join(f"- {NAMES[name]}: {_in_words(method)}\n" for name, method in methods.items())
        priors = {"blind" if name == self.blind else name: prior_named(name).sha256 for name in _prior_names(methods)}
        record = record_of(self, priors, DEFAULTS[self.command])
        page = f"""# Simulated patients: {kind.about}

{len(done)} patients of the {self.split} split, {self.frames} frames each; mean over patients with its 95 % percentile
bootstrap interval. {ABOUT}
{record.caption()}

{mean_table(scores, TIMED)}
{in_words(scores)}

Paired differences, patient by patient; * where the 95 % interval excludes 0:

{difference_table(scores, TIMED, method=NAMES["nuclear"])}{by_group if groups else ""}
Settings and priors:

{chosen}"""
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
"""What each command makes without options."""


def measure(about: dict[str, Any], priors: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Every method's scores on one patient, and what it takes from the clean clip.

    `priors` says where the prior of each hash that the settings name is found.
    """
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
        found[name] = score(simulated, dehazed.signal) | {"seconds": dehazed.seconds, "clean_lost": lost}
    return found | {"clean": score(simulated, simulated.clean) | none}


def _prior_name(method: Method) -> str | None:
    return None if isinstance(method, Rpca) else method.prior


def _prior_names(methods: Mapping[str, Method]) -> list[str]:
    names = (_prior_name(method) for method in methods.values())
    return sorted({name for name in names if name is not None}, key=lambda name: name != "echo")


def _identified(method: Method) -> dict[str, Any]:
    """A method's settings with the hash of its prior in place of the name."""
    name = _prior_name(method)
    return as_dict(method) | ({} if name is None else {"prior": prior_named(name).sha256})


def _in_words(method: Method) -> str:
    """A method's settings, and its prior by hash: a path means nothing to others."""
    settings = as_dict(method)
    name = settings.pop("prior", None)
    prior = "" if name is None else f"; prior `{prior_named(name).sha256[:16]}`"
    return f"`{json.dumps(settings)}`{prior}"


def in_words(scores: Scores) -> str:
    """What the default does to flicker, and to the clean clip that it harms most."""
    hazy, ours, clean = (scores[NAMES[method]] for method in ("hazy", "nuclear", "clean"))

    def ratio(signal: Mapping[str, Any], name: str) -> float:
        known = np.isfinite(hazy[name]) & np.isfinite(signal[name])
        return float(np.mean(np.array(signal[name])[known]) / np.mean(np.array(hazy[name])[known]))

    flickers = (
        f"{ratio(ours, f'flicker_{region}'):.2f} in the {name} ({ratio(clean, f'flicker_{region}'):.2f} for the truth)"
        for region, name in (("b", "ventricle"), ("a", "septum"))
    )
    return (
        f"{NAMES['nuclear']}, mean flicker over that of the hazy input: {' and '.join(flickers)}. Of the clean clip\n"
        f"that it harms most it loses {np.nanmax(ours['clean_lost']):.1%} of the bright tissue."
    )
