"""Compare priors on development patients of every kind, to choose a new prior."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from tyro.conf import arg

from benchmarks.finished import completed
from benchmarks.patients import (
    COLUMNS,
    KIND_NAMES,
    KINDS,
    KindName,
    clean_clip,
    clean_lost,
    development,
    gained,
    gains,
    patient,
    prior_named,
)
from benchmarks.record import RESULTS, markdown, record_of, save
from nuclear_diffusion.errors import require
from nuclear_diffusion.measure.bootstrap import Interval, mean_interval
from nuclear_diffusion.measure.datasets import as_clip
from nuclear_diffusion.measure.front import Front, Regions, at_equal_change, front_of, gain
from nuclear_diffusion.measure.tables import star
from nuclear_diffusion.restore.clip import dehaze_clip
from nuclear_diffusion.restore.methods import Nuclear


@dataclasses.dataclass(frozen=True)
class Development:
    """Two priors or more; differences are from the first."""

    priors: Annotated[
        tuple[str, ...], arg(metavar="echo|PATH...", help="Names, files or folders of training runs.")
    ] = ("echo",)
    kinds: Annotated[tuple[KindName, ...], arg(help="Kinds of development patients.")] = KIND_NAMES
    frames: Annotated[int, arg(help="Frames of each patient.")] = 12
    share: Annotated[float, arg(help="Fraction of the patients of each kind, at least one.")] = 1.0
    workers: Annotated[int, arg(help="Worker processes.")] = 1
    output: Annotated[Path, arg(help="Folder for the table and the finished patients.")] = RESULTS

    command: ClassVar[str] = "development"
    name: ClassVar[str] = "development"
    shows: ClassVar[str] = "Priors side by side on development patients of every kind, to choose between them."

    def run(self) -> None:
        """Measure the patients that are missing and write the table."""
        hashes = {name: prior_named(name).sha256 for name in self.priors}
        labels = [Path(name).name for name in hashes]
        require(
            len({*labels}) == len({*hashes.values()}) == len(labels), "Name priors that differ in name and weights."
        )
        jobs = [
            about | {"sha256": sha256}
            for sha256 in hashes.values()
            for about in development(self.frames, self.share, self.kinds)
        ]
        measured = functools.partial(measure, priors={sha256: name for name, sha256 in hashes.items()})
        found = completed(self.output / "finished" / "development", jobs, measured, self.workers)
        named = dict(zip(hashes.values(), labels, strict=True))
        scores: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for job, each in zip(jobs, found, strict=True):
            scores.setdefault(job["kind"], {}).setdefault(named[job["sha256"]], []).append(each)
        parts = [table(kind, of_kind) for kind, of_kind in scores.items()]
        record = record_of(self, hashes)
        page = f"""# Development patients

For choosing, not for reporting: means over patients of {self.frames} frames at the default strength, and below each
prior its paired differences from {labels[0]}; * if the 95 % bootstrap interval of at least six patients excludes 0.
gCNR at equal change: the highest gCNR of all strengths with a KS_A of at most 0.02 to 0.1, mean of five levels.
A patient of two groups counts for both.
{record.caption()}

{"".join(parts)}"""
        save(self.output, record, page)


def table(kind: str, scores: Mapping[str, list[dict[str, Any]]]) -> str:
    """The section of one kind of patients; `scores` by prior, the reference first."""
    first = next(iter(scores.values()))
    rows = []
    for name, patients in scores.items():
        means = [f"{np.nanmean([each[c] for each in patients]):.3f}" for c in COLUMNS]
        rows.append([name, f"{np.mean(at_equal_change(front(patients))):.3f}", *means])
        if patients is not first:
            more = gain(front(patients), front(first))
            changes = [[p[c] - f[c] for p, f in zip(patients, first, strict=True)] for c in COLUMNS]
            rows.append(["difference", *(difference(each) for each in (more, *map(mean_interval, changes)))])
    head = ["", "gCNR at equal change ↑", *map(gained, COLUMNS)]
    many = "" if len(first) == 1 else "s"
    return f"## {kind}, {len(first)} patient{many}\n\n{markdown(head, rows)}\n{groups(kind, scores)}"


def groups(kind: str, scores: Mapping[str, list[dict[str, Any]]]) -> str:
    """GCNR at equal change in each group of the patients; empty without groups."""
    rows = []
    for group, some in KINDS[kind].members(range(len(next(iter(scores.values()))))).items():
        means = [np.mean(at_equal_change(front([each[k] for k in some]))) for each in scores.values()]
        rows.append([group, str(len(some)), *(f"{mean:.3f}" for mean in means)])
    if not rows:
        return ""
    head = ["", "patients", *scores]
    return f"gCNR at equal change by {KINDS[kind].apart}:\n\n{markdown(head, rows)}\n"


def difference(interval: Interval) -> str:
    """A difference, with `star`."""
    row = {"score": "", "patients": interval.patients, "mean_low": interval.low, "mean_high": interval.high}
    return f"{interval.mean:+.3f}{star(row)}"


def front(patients: list[dict[str, Any]]) -> Front:
    """GCNR and KS_A of the patients at all strengths."""
    return {name: np.array([each["front"][name] for each in patients]) for name in ("gcnr", "ks_a")}


def measure(about: dict[str, Any], priors: Mapping[str, str]) -> dict[str, Any]:
    """The scores of a patient, and gCNR and KS_A at all strengths. `priors`: path of each prior by hash."""
    simulated, prior = patient(about), prior_named(priors[about["sha256"]]).prior
    signal = dehaze_clip(as_clip(simulated), Nuclear(), prior).signal
    scores: dict[str, Any] = gains(simulated, signal)[0]
    of_clean = dehaze_clip(clean_clip(simulated), Nuclear(), prior).signal
    regions = Regions(simulated.hazy, simulated.septum, simulated.ventricle, simulated.sector)
    found = front_of([regions], prior)
    return scores | {
        "clean_lost": clean_lost(simulated, of_clean),
        "front": {name: found[name][0].tolist() for name in ("gcnr", "ks_a")},
    }
