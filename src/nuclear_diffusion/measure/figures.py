"""The figures of a study: the paper's Figs. 2 to 4, and more."""

import math
from collections.abc import Sequence
from textwrap import fill
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Num
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy import ndarray

from nuclear_diffusion.measure.bootstrap import Interval
from nuclear_diffusion.measure.candidates import CLEAN, HAZY, Candidate, strength_of
from nuclear_diffusion.measure.datasets import Case, Loaded
from nuclear_diffusion.measure.scores import LEVELS, SCORES, WINDOW
from nuclear_diffusion.measure.statistics import frame_mean, patient_mean, patient_means, pick
from nuclear_diffusion.measure.study import Study
from nuclear_diffusion.measure.style import COLUMN, PAGE, SEPTUM_COLOR, VENTRICLE_COLOR, grid, look_of, styled, title_of
from nuclear_diffusion.measure.tables import heading, number
from nuclear_diffusion.palette import COLORS

BINS, FRAMES_A_BIN = 12, 8
"""Bins of motion in Fig. 2, as in the paper; fewer if a bin would have less than this mean number of frames."""
SYMBOLS = {"lam": "λ", "mu": "μ", "gamma": "γ", "sigma": "σ"}  # settings whose letter is Greek
WHOLE = -0.03, 1.03  # limits of a KS axis, so that marks at 0 and 1 are drawn whole
FOLLOWED = 3  # number of largest singular values shown over time


# ------------------------------------------------------------------------------------------- Fig. 2


class MotionBins(NamedTuple):
    """KS of one method against the input's motion level."""

    means: list[Interval]  # in each bin, with intervals over patients
    counts: Int[ndarray, " bins"]  # frames in each bin


def motion_bins(study: Study, method: str, edges: Float[ndarray, " edges"]) -> MotionBins:
    """Mean KS_A in bins of the input's motion level, between `edges` in dB; the last bin holds its upper edge."""
    values = pick(study.frame, method=method, score="ks_a")
    keys = ["clip", "frame"]
    level = values[keys].merge(_motion(study), how="left", on=keys).value.to_numpy()
    upper = np.append(edges[1:-1], np.nextafter(edges[-1], np.inf))
    bins = [pick(values, (level >= low) & (level < high)) for low, high in zip(edges[:-1], upper, strict=True)]
    means = [frame_mean(each, method, "ks_a") for each in bins]
    return MotionBins(means, np.array([np.isfinite(each.value).sum() for each in bins]))


def _motion(study: Study) -> pd.DataFrame:
    """The input's motion level at each annotated frame."""
    return pick(study.frame, method=HAZY, score="motion_psnr")


def motion_edges(study: Study) -> Float[ndarray, " edges"]:
    """Edges of bins with about equally many frames each, from the finite motion levels; empty if there are none.

    Equal levels share a bin, so there may be fewer bins.
    """
    levels = _motion(study).value.to_numpy()
    known = levels[np.isfinite(levels)]
    if not len(known):
        return known
    shares = np.linspace(0, 1, int(np.clip(len(known) // FRAMES_A_BIN, 1, BINS)) + 1)
    edges = np.unique(np.quantile(known, shares, method="higher"))
    return edges if len(edges) > 1 else np.repeat(edges, 2)


@styled()
def draw_motion(study: Study) -> Figure | None:
    """Fig. 2: KS of the septum against motion, with intervals, above the number of frames in each bin."""
    edges, names = motion_edges(study), study.answering
    if not len(edges) or not names:
        return None
    figure = Figure(figsize=(COLUMN, 3.3))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    middles = np.arange(len(edges) - 1) + 0.5  # all bins equally wide, whatever their range
    for place, name in enumerate(names):
        found, look = motion_bins(study, name, edges), look_of(name)
        centres = middles + (place - (len(names) - 1) / 2) * 0.6 / max(len(names), 2)
        draw_intervals(upper, centres, found.means, name)
        upper.plot(centres, [m.mean for m in found.means], color=look.color, linestyle=look.line, linewidth=0.7)
    counts = motion_bins(study, names[0], edges).counts
    bars = lower.bar(middles, counts, 0.92, color="#9A9A9A")
    lower.bar_label(bars, fontsize=6, padding=1)
    lower.margins(y=0.35)
    lower.set_xticks(range(len(edges)), [f"{edge:.1f}" for edge in edges], rotation=45)
    grid(upper)
    upper.set_ylabel("KS of septum ↓")
    upper.set_ylim(WHOLE[0], 1.08 * upper.get_ylim()[1])
    lower.set(xlabel="motion level PSNR($y_t$, $y_{t-1}$) [dB]: moving ← → still", ylabel="frames")
    still = np.isinf(_motion(study).value).sum()
    if still:
        upper.set_title(f"{still} frames equal to the previous one are not shown", fontsize=6, loc="right")
    figure.legend(*upper.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def draw_intervals(axes: Axes, places: Sequence[float] | ndarray, means: Sequence[Interval], name: str) -> None:
    """Means with their intervals, where they have one."""
    look = look_of(name)
    values = np.array([(m.mean, m.low, m.high) for m in means]).reshape(-1, 3)
    reach = np.nan_to_num(np.abs(values[:, 1:] - values[:, :1])).T
    axes.errorbar(
        places, values[:, 0], reach, color=look.color, marker=look.marker, linestyle="none", elinewidth=0.7,
        capsize=1.5, label=look.title,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------- Fig. 3


class Chosen(NamedTuple):
    """A patient picked by rule."""

    rule: str
    case: Case
    gain: float  # gCNR gain of the method in focus over the input, mean over the patient's frames


def choose_patients(study: Study) -> list[Chosen]:
    """The median, best and worst patient by the gain in gCNR of the method in focus.

    The lower median for an even number; of two patients the best and the worst. Patients without a gCNR are not chosen;
    the first clip of each is shown.
    """
    means = patient_means(study.frame, "gcnr")
    ranked = (means[study.focus] - means[HAZY]).dropna().sort_values(kind="stable", ascending=True)
    if ranked.empty:
        return [Chosen("first patient", study.cases[0], math.nan)]
    rules = {"median": (len(ranked) - 1) // 2, "best": -1, "worst": 0}
    rules = {1: {"patient": 0}, 2: {"best": -1, "worst": 0}}.get(len(ranked), rules)
    first: dict[Any, Case] = {case.patient: case for case in reversed(study.cases)}
    return [Chosen(rule, first[ranked.index[at]], float(ranked.iloc[at])) for rule, at in rules.items()]


def shown_frame(loaded: Loaded) -> int:
    """The number of the frame to show: the middle one of those that have both regions, else of all."""
    both = [number for number, (a, b) in loaded.annotations.items() if a.any() and b.any()]
    numbers = both or list(loaded.annotations) or list(loaded.numbers)
    return numbers[len(numbers) // 2]


def inset_of(loaded: Loaded, number: int) -> tuple[slice, slice]:
    """Rows and columns of the inset: a square, a third of the frame's smaller side, midway between the regions."""
    height, width = loaded.clip.shape[1:]
    side = max(8, min(height, width) // 3)
    marked = loaded.annotations.get(number)
    centres = [np.argwhere(mask).mean(axis=0) for mask in marked or () if mask.any()]
    middle = np.mean(centres, axis=0) if centres else np.array([height / 2, width / 2])
    row, column = (int(np.clip(m - side / 2, 0, n - side)) for m, n in zip(middle, (height, width), strict=True))
    return slice(row, row + side), slice(column, column + side)


@styled()
def draw_comparison(study: Study, chosen: Sequence[Chosen]) -> Figure:
    """Fig. 3: one frame (`shown_frame`) of each chosen patient for every method and, if known, the truth.

    Below are the inset (`inset_of`) and the frame's scores; regions are outlined in the input.
    """
    names = [one.name for one in study.main]
    columns = len(names) + any(one.case.truth is not None for one in chosen)
    side = min(PAGE / columns, 1.7)
    figure = Figure(figsize=(side * columns, (2 * side + 0.67) * len(chosen)))
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.03, wspace=0, hspace=0)  # pyright: ignore
    parts: Any = figure.subfigures(len(chosen), 1, squeeze=False)
    for part, one in zip(parts[:, 0], chosen, strict=True):
        draw_patient(part, study, one, names, columns)
    return figure


def draw_patient(part: SubFigure, study: Study, one: Chosen, names: Sequence[str], columns: int) -> None:
    """One chosen patient of Fig. 3: a row of frames above a row of insets."""
    loaded = one.case.read()
    shown = shown_frame(loaded)
    place, inset = loaded.numbers.index(shown), inset_of(loaded, shown)
    pictures = {name: study.output(name, one.case).signal[place] / (LEVELS - 1) for name in names}
    if loaded.truth is not None:
        pictures[CLEAN] = loaded.truth[place]
    gain = f" (gCNR {one.gain:+.3f} by {title_of(study.focus)})" if math.isfinite(one.gain) else ""
    part.suptitle(f"{one.rule.capitalize()}{gain}: {one.case.patient}, frame {shown}", fontsize=8, x=0.01, ha="left")
    rows = part.subplots(2, columns, squeeze=False)
    for axes in rows.flat:
        axes.set_axis_off()
    for column, (name, picture) in enumerate(pictures.items()):
        whole, detail = rows[:, column]
        for axes, pixels in ((whole, picture), (detail, picture[inset])):
            axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        corner, size = (inset[1].start - 0.5, inset[0].start - 0.5), inset[0].stop - inset[0].start
        whole.add_patch(Rectangle(corner, size, size, fill=False, color="white", linewidth=0.6))
        whole.set_title(fill(title_of(name), 14), fontsize=min(8, 11 - columns / 2))
        if name == HAZY and shown in loaded.annotations:
            outline(whole, loaded, shown)
        if name != CLEAN:
            caption(detail, study, name, one.case, shown)


def outline(axes: Axes, loaded: Loaded, number: int) -> None:
    """Draw the borders of the two regions."""
    for mask, color in zip(loaded.annotations[number], (SEPTUM_COLOR, VENTRICLE_COLOR), strict=True):
        if mask.any():
            axes.contour(mask.astype(float), [0.5], colors=color, linewidths=0.7)


def caption(axes: Axes, study: Study, name: str, case: Case, frame: int) -> None:
    """A frame's gCNR and KS below its inset."""
    rows = pick(study.frame, study.frame.frame == frame, clip=case.name, method=name)
    values = {score: pick(rows, score=score).value for score in ("gcnr", "ks_a")[: 1 if name == HAZY else 2]}
    shown = [f"{SCORES[score].title} {number(value.iloc[0], score)}" for score, value in values.items() if len(value)]
    if shown:
        axes.text(0.5, -0.04, "\n".join(shown), transform=axes.transAxes, ha="center", va="top", fontsize=6.5)


# ------------------------------------------------------------------------------------------- Fig. 4


@styled()
def draw_boxes(study: Study) -> Figure:
    """Fig. 4: boxes of gCNR and KS over patients; dots are patients, diamonds and values are means over frames."""
    figure = Figure(figsize=(PAGE, 2.6))
    for axes, score in zip(figure.subplots(1, 3), ("gcnr", "ks_a", "ks_b"), strict=True):
        names = [m.name for m in study.main if m.name != HAZY or score == "gcnr"]
        for place, name in enumerate(names):
            look = look_of(name)
            values = patient_means(study.frame, score)[name].dropna().to_numpy()
            if not len(values):
                continue
            line = {"color": look.color, "linewidth": 1}
            axes.boxplot(
                [values], positions=[place], widths=0.55, whis=(5, 95), showfliers=False, boxprops=line,
                whiskerprops=line, capprops=line, medianprops={"color": look.color, "linewidth": 2},
            )  # fmt: skip
            spread = 0.16 * np.sin(2.4 * np.arange(len(values)))  # deterministic jitter
            axes.scatter(place + spread, values, s=4, color=look.color, alpha=0.55, linewidths=0, zorder=3)
            mean = frame_mean(study.frame, name, score).mean
            axes.scatter([place], [mean], s=22, marker="D", color="white", edgecolors=look.color, zorder=4)
            above = place, 1.0
            axes.annotate(
                f"{mean:.3f}", above, xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=6.5
            )
        axes.set_xticks(range(len(names)), [title_of(name) for name in names], rotation=35, ha="right")
        axes.set_xlim(-0.6, len(names) - 0.4)
        axes.set_ylabel(heading(score))
        if score != "gcnr":
            axes.set_ylim(*WHOLE)
        grid(axes)
    return figure


# ------------------------------------------------------------------------------------------- beyond the paper


class Curve(NamedTuple):
    """A method at several strengths."""

    setting: str
    values: list[float]
    ks: list[Interval]
    gcnr: list[Interval]


def curve_of(study: Study, candidate: Candidate) -> Curve | None:
    """Contrast and KS_A of a candidate over its strength, ascending; None for a method without one."""
    setting = strength_of(candidate.settings)
    if setting is None:
        return None
    family = [each for each in study.candidates if candidate.name in (each.name, each.varied)]
    family.sort(key=lambda each: getattr(each.settings, setting))
    averages = [[patient_mean(study.frame, each.name, score) for each in family] for score in ("ks_a", "gcnr")]
    return Curve(setting, [getattr(each.settings, setting) for each in family], *averages)


@styled()
def draw_tradeoff(study: Study) -> Figure:
    """Contrast against KS_A, means over patients: a curve over each method's strength, with a large default."""
    figure = Figure(figsize=(1.45 * COLUMN, 3.3))
    axes = figure.subplots()
    before = patient_mean(study.frame, HAZY, "gcnr")
    look = look_of(HAZY)
    axes.axhline(before.mean, color=look.color, linewidth=0.6, linestyle=":")
    axes.plot([0], [before.mean], marker=look.marker, color=look.color, linestyle="none", label=look.title)
    for method in study.main:
        look = look_of(method.name)
        if method.name == HAZY:
            continue
        curve, title = curve_of(study, method), look.title
        if curve is not None and len(curve.values) > 1:
            xs, ys = [i.mean for i in curve.ks], [i.mean for i in curve.gcnr]
            axes.plot(xs, ys, color=look.color, linestyle=look.line, linewidth=1, marker=look.marker, markersize=2.5)
            symbol = SYMBOLS.get(curve.setting, curve.setting)
            reached = f"{symbol} = {curve.values[-1]:.3g}"
            axes.annotate(
                reached, (xs[-1], ys[-1]), xytext=(3, 3), textcoords="offset points", fontsize=6, color=look.color
            )
            title += f", {symbol} from {curve.values[0]:.3g}"
        x, y = (patient_mean(study.frame, method.name, score) for score in ("ks_a", "gcnr"))
        up, across = (np.nan_to_num([[i.mean - i.low], [i.high - i.mean]]) for i in (y, x))
        axes.errorbar(
            [x.mean], [y.mean], up, across, color=look.color, marker=look.marker, markersize=7, linestyle="none",
            elinewidth=0.7, capsize=2, markeredgecolor="black", markeredgewidth=0.5, label=title,
        )  # fmt: skip
    _label_tradeoff(figure, axes)
    return figure


@styled()
def draw_trials(method: str, trials: pd.DataFrame, limit: float, hazy: float) -> Figure:
    """Contrast against KS_A of the `trials` of a search, the default first, with the Pareto front and the choice.

    `hazy`: the input's gCNR, at a KS_A of 0; `limit`: the highest KS_A allowed.
    """
    look, before = look_of(method), look_of(HAZY)
    front = pick(trials, trials.pareto == 1).sort_values(by="ks_a", kind="stable")
    figure = Figure(figsize=(1.45 * COLUMN, 3.3))
    axes = figure.subplots()
    axes.axhline(hazy, color=before.color, linewidth=0.6, linestyle=":")
    axes.axvline(limit, color="#7F7F7F", linewidth=0.8, linestyle="--", label=f"limit, KS_A = {limit:.3g}")
    axes.plot([0], [hazy], marker=before.marker, color=before.color, linestyle="none", label=before.title)
    axes.plot(
        trials.ks_a[1:], trials.gcnr[1:], color="#9A9A9A", marker=".", linestyle="none",
        label=f"{len(trials) - 1} trials of {look.title}",
    )  # fmt: skip
    axes.plot(
        front.ks_a, front.gcnr, color=look.color, marker=look.marker, markersize=3.5, linewidth=1,
        drawstyle="steps-post", label="Pareto front",
    )  # fmt: skip
    chosen = pick(trials, trials.chosen == 1)
    for title, point, marker, size in (("Default", trials[:1], "s", 6.0), ("Chosen", chosen, "*", 10.0)):
        if len(point):
            axes.plot(
                point.ks_a, point.gcnr, marker=marker, markersize=size, color="white", linestyle="none",
                markeredgecolor="black", markeredgewidth=0.9, label=title, zorder=3,
            )  # fmt: skip
    _label_tradeoff(figure, axes)
    return figure


def _label_tradeoff(figure: Figure, axes: Axes) -> None:
    grid(axes, "both")
    axes.set(xlabel=heading("ks_a") + ": tissue changed", ylabel=heading("gcnr") + ": contrast")
    axes.margins(0.08)
    axes.set_title("↖ better", loc="left", fontsize=7)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)


def cumulative(study: Study, method: str, region: str) -> Float[ndarray, " levels"] | None:
    """Fraction of pixels at or below each of the 256 values, with equal weight for each clip; None without pixels."""
    counts = [np.array(each.histograms[region], float) for each in study.of(method)]
    shares = [np.cumsum(count) / count.sum() for count in counts if count.sum()]
    return np.mean(shares, axis=0) if shares else None


@styled()
def draw_intensities(study: Study, clean: Num[ndarray, " levels"] | None = None) -> Figure:
    """Cumulative intensities in septum, ventricle and sector; KS is the greatest distance from the input's curve.

    In the sector also those of `clean`, clean clips of other people, for comparison.
    """
    panels = {"septum": "septum (to be kept)", "ventricle": "ventricle (to be cleared)", "sector": "whole sector"}
    figure = Figure(figsize=(PAGE, 2.5))
    every = figure.subplots(1, 3, sharey=True)
    for axes, (region, title) in zip(every, panels.items(), strict=True):
        for method in study.main:
            shares, look = cumulative(study, method.name, region), look_of(method.name)
            if shares is not None:
                axes.step(range(LEVELS), shares, color=look.color, linestyle=look.line, where="post", label=look.title)
        if region == "sector" and clean is not None:
            look = look_of(CLEAN)
            axes.step(
                range(LEVELS), np.cumsum(clean) / clean.sum(), color=look.color, linestyle=look.line, where="post",
                label="Clean clips of others",
            )  # fmt: skip
        grid(axes, "both")
        axes.set(title=title, xlabel="8-bit value", xlim=(0, LEVELS - 1), ylim=(0, 1.01))
    every[0].set_ylabel("fraction of pixels at or below")
    handles = {label: h for axes in every for h, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=4)
    return figure


@styled()
def draw_singular_values(study: Study, case: Case) -> Figure | None:
    """Singular values of Y, L and X within the sector of one clip: of all frames, and the largest of each window."""
    names = study.answering
    if not names:
        return None
    y = study.measured[HAZY, case.name].spectra["signal"]
    figure = Figure(figsize=(PAGE, 0.6 + 1.35 * len(names)))
    rows = figure.subplots(len(names), 2, squeeze=False, sharex="col", sharey=True)
    for (whole, followed), name in zip(rows, names, strict=True):
        found = study.measured[name, case.name].spectra
        parts = {"Y (input)": (y, look_of(HAZY).color, "-")}
        parts["L (background)"] = (found["background"], COLORS["orange"], "--")
        parts["X (signal)"] = (found["signal"], COLORS["sky"], "-.")
        for label, (values, color, line) in parts.items():
            spectrum = np.array(values[0])
            spectrum[spectrum < 1e-6 * y[0][0]] = np.nan  # rounding
            whole.semilogy(range(1, len(spectrum) + 1), spectrum, color=color, linestyle=line, marker=".", label=label)
            windows = np.array(values[1:])[:, :FOLLOWED] if len(values) > 1 else np.empty((0, FOLLOWED))
            windows[windows < 1e-6 * y[0][0]] = np.nan
            for rank in range(windows.shape[1]):
                weight = 1.6 - 0.5 * rank
                starts = range(1, len(windows) + 1)
                followed.semilogy(starts, windows[:, rank], color=color, linestyle=line, linewidth=weight)
        whole.set_ylabel(f"{title_of(name)}\nsingular value")
        for axes in (whole, followed):
            grid(axes, "both")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.minorticks_off()
    rows[0, 0].set_title(f"{case.name}, all {len(y[0])} frames")
    rows[0, 1].set_title(f"largest {FOLLOWED} in windows of {WINDOW} frames (thicker: larger)")
    rows[-1, 0].set_xlabel("index")
    rows[-1, 1].set_xlabel("first frame of the window")
    if len(y) == 1:
        for axes in rows[:, 1]:
            axes.text(0.5, 0.5, f"fewer than {WINDOW} frames", transform=axes.transAxes, ha="center")
    figure.legend(*rows[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure
