"""What is written for one clip: data, videos, a summary figure and a report."""

import contextlib
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from numpy import ndarray
from PIL import Image, ImageDraw, ImageFont

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import Clip, write_video
from nuclear_diffusion.metrics import bright_lost
from nuclear_diffusion.metrics.visible import bright_and_lost
from nuclear_diffusion.paper.nuclear_norm import singular_values
from nuclear_diffusion.restore.clip import Dehazed
from nuclear_diffusion.restore.methods import Method, Nuclear, as_dict

FILES = ("result.h5", "signal.mp4", "background.mp4", "comparison.mp4", "summary.png", "report.json")
"""The files of one result folder."""

SPREAD = "spread.mp4"
"""One more where posterior draws were asked for."""


@contextlib.contextmanager
def result_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder beside `folder` to work in; it takes the name `folder` when the block ends without an error.

    A result that is already there is replaced at that moment and not before. After an error or Ctrl-C nothing is left;
    after a kill only the hidden folder is, which the next run removes.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    replaced = folder.with_name(f".{folder.name}.replaced")
    if replaced.exists() and not folder.exists():  # stopped between two renames
        replaced.rename(folder)
    for leftover in (partial, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    made = [parent for parent in folder.parents if not parent.exists()]
    partial.mkdir(parents=True)
    try:
        yield partial
        for file in partial.iterdir():
            with file.open("rb") as written:
                os.fsync(written.fileno())
        if folder.exists():
            folder.rename(replaced)
        partial.rename(folder)
        shutil.rmtree(replaced, ignore_errors=True)
    except BaseException:
        if replaced.exists() and not folder.exists():
            replaced.rename(folder)
        shutil.rmtree(partial, ignore_errors=True)
        with contextlib.suppress(OSError):
            for parent in made:
                parent.rmdir()
        raise


def read_report(folder: Path) -> dict[str, Any] | None:
    """The report of a finished result; None where the folder does not exist.

    Raises `InputError` where something else is in the way, which must not be overwritten.
    """
    if not folder.exists():
        return None
    with contextlib.suppress(OSError, ValueError):
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        if {file.name for file in folder.iterdir()} - {SPREAD} == set(FILES) and isinstance(report, dict):
            return report
    raise InputError(f"{folder} exists and is not a finished result; move it away or choose another -o.")


def fingerprint(clip: Clip) -> str:
    """SHA-256 of the clip's frames, so that a result is known to belong to this very clip."""
    pixels = clip.frames if clip.color is None else clip.color
    digest = hashlib.sha256(str(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def identity(clip: Clip, method: Method, prior_sha256: str | None) -> dict[str, Any]:
    """What makes two results the same: the clip's frames, the settings and the weights."""
    return {"input_sha256": fingerprint(clip), "prior_sha256": prior_sha256, "settings": as_dict(method)}


def write_result(
    folder: Path,
    clip: Clip,
    dehazed: Dehazed,
    method: Method,
    prior_sha256: str | None,
    made_by: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Write every file of `FILES` into `folder`, and `SPREAD` where there are draws, and return the report.

    `made_by`: the versions that separated the clip, where they are not these.
    """
    report = make_report(clip, dehazed, method, prior_sha256)
    report["versions"] = made_by or report["versions"]
    write_h5(folder / "result.h5", clip, dehazed, report)
    seen = clip.frames if clip.color is None else clip.color / np.float32(255)
    signal = dehazed.signal if dehazed.color is None else dehazed.color
    write_video(folder / "signal.mp4", signal, clip.fps)
    write_video(folder / "background.mp4", dehazed.background, clip.fps)
    panels = {"input": seen, f"signal ({_called(method)})": signal, "background": dehazed.background}
    write_video(folder / "comparison.mp4", side_by_side(panels), clip.fps)
    if isinstance(method, Nuclear) and dehazed.draws_mean is not None and dehazed.draws_deviation is not None:
        spread = {
            "input": clip.frames,
            f"mean of {method.samples} draws": dehazed.draws_mean,
            "standard deviation x 4": 4 * dehazed.draws_deviation,
        }
        write_video(folder / SPREAD, side_by_side(spread), clip.fps)
    draw_summary(clip, dehazed, method).savefig(folder / "summary.png", dpi=120)
    text = json.dumps(report, indent=2, allow_nan=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    return report


def make_report(clip: Clip, dehazed: Dehazed, method: Method, prior_sha256: str | None) -> dict[str, Any]:
    """Sizes, time, settings and what was removed, as plain JSON values."""
    frames, height, width = clip.frames.shape
    seen, kept = clip.frames[:, dehazed.sector], dehazed.signal[:, dehazed.sector]
    lost = bright_lost(clip.frames, dehazed.signal, dehazed.sector)
    energy = float(np.square(seen, dtype=np.float64).sum())
    removed = float(np.square(seen.astype(np.float64) - kept).sum())
    return {
        "clip": clip.name,
        "frames": frames,
        "height": height,
        "width": width,
        "fps": float(clip.fps),
        "sector_pixels": int(dehazed.sector.sum()),
        "seconds": round(dehazed.seconds, 3),
        "haze_energy_removed": removed / energy if energy else 0.0,
        "bright_tissue_lost": lost if math.isfinite(lost) else None,
        **identity(clip, method, prior_sha256),
        "versions": versions(),
        "notice": "Research use only, not a medical device.",
    }


def versions() -> dict[str, str]:
    """The versions that decide the bits of a result."""
    from nuclear_diffusion import __version__

    return {"nuclear-diffusion": __version__, **{name: version(name) for name in ("jax", "jaxlib", "numpy")}}


def write_h5(path: Path, clip: Clip, dehazed: Dehazed, report: dict[str, Any]) -> None:
    """Input, signal, background and sector without loss, with the report as attributes.

    Datasets: `input`, `signal`, `background` float32 (frames, height, width) in [0, 1]; `sector` bool (height, width);
    for a colour clip `input_color` uint8 and `signal_color` float32 (frames, height, width, 3). Of method nuclear the
    estimate from which `signal` was rendered: `share` of haze and posterior `mean`, float32 (frames, height, width); of
    posterior draws `draws_mean` and `draws_deviation`, likewise.
    """
    arrays = {"input": clip.frames, "signal": dehazed.signal, "background": dehazed.background}
    arrays |= {name: array for name in _ESTIMATE if (array := getattr(dehazed, name)) is not None}
    if clip.color is not None and dehazed.color is not None:
        arrays |= {"input_color": clip.color, "signal_color": dehazed.color}
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            frame_by_frame = (1, *array.shape[1:])
            file.create_dataset(
                name, data=array, compression="gzip", compression_opts=1, shuffle=True, chunks=frame_by_frame
            )
        file.create_dataset("sector", data=dehazed.sector)
        file.attrs["configuration"] = json.dumps(report["settings"], sort_keys=True)
        file.attrs["versions"] = json.dumps(report["versions"], sort_keys=True)
        file.attrs["prior_sha256"] = report["prior_sha256"] or ""
        file.attrs["seed"] = report["settings"].get("seed", 0)
        file.attrs["fps"] = report["fps"]
        file.attrs["clip"] = report["clip"]
        file.attrs["notice"] = report["notice"]


_ESTIMATE = ("share", "mean", "draws_mean", "draws_deviation")
"""Fields of `Dehazed` that only some methods have."""


def read_h5(path: Path) -> tuple[Clip, Dehazed]:
    """The clip and the estimate in a `result.h5`. Raises `InputError` where it cannot be read."""
    try:
        with h5py.File(path) as file:
            held = {name: np.asarray(data) for name, data in file.items()}
            attributes: dict[str, Any] = dict(file.attrs)
        name = str(attributes.get("clip", path.parent.name))
        clip = Clip(held["input"], float(attributes["fps"]), held.get("input_color"), held["sector"], name, path)
        estimate = {name: held.get(name) for name in _ESTIMATE}
        color = held.get("signal_color")
        return clip, Dehazed(held["signal"], held["background"], color, held["sector"], 0.0, **estimate)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not a result of `dehaze`, or it is damaged: dehaze the clip again.") from error


def side_by_side(panels: dict[str, ndarray]) -> UInt8[ndarray, "frames height width *rgb"]:
    """Videos of one size in [0, 1] next to each other under their captions, as bytes.

    In colour where one of them has colour.
    """
    rgb = (3,) if any(video.ndim == 4 for video in panels.values()) else ()
    frames, height, width = next(iter(panels.values())).shape[:3]
    strip = max(16, height // 12)
    joined = np.zeros((frames, strip + height, width * len(panels), *rgb), np.uint8)
    for column, (text, video) in enumerate(panels.items()):
        place = joined[:, :, column * width : (column + 1) * width]
        caption = _caption(text, width, strip)
        place[:, :strip] = caption[..., None] if rgb else caption
        for target, frame in zip(place[:, strip:], video, strict=True):
            pixels = np.rint(255 * np.clip(frame, 0, 1))
            target[...] = pixels[..., None] if rgb and pixels.ndim == 2 else pixels
    return joined


def _caption(text: str, width: int, height: int) -> UInt8[ndarray, "height width"]:
    """`text` centred in a black strip, at most as wide as it."""
    image = Image.new("L", (width, height))
    size = min(0.65 * height, 1.6 * width / max(len(text), 1))
    font = ImageFont.load_default(size=size)
    ImageDraw.Draw(image).text((width / 2, height / 2), text, fill=220, font=font, anchor="mm")
    return np.asarray(image)


def _called(method: Method) -> str:
    """The method, and its strength where it has one."""
    return f"{method.name}, strength {method.strength:g}" if isinstance(method, Nuclear) else method.name


_MARK = "#f97316"
"""Colour of bright echoes that lost much."""


def _tint(where: Bool[ndarray, "height width"]) -> Float[ndarray, "height width rgba"]:
    """`_MARK` where something is True, transparent elsewhere."""
    return np.where(where[..., None], to_rgba(_MARK, 0.7), 0.0)


def draw_summary(clip: Clip, dehazed: Dehazed, method: Method) -> Figure:
    """Three moments, the middle image line over time, and the singular values, for input, signal and background.

    Beside the three the input again, coloured where much was taken from a bright echo: a reader should look there.
    """
    parts = {"input": clip.frames, "signal": dehazed.signal, "background": dehazed.background}
    colors = {"input": "#6b7280", "signal": "#0f766e", "background": "#c2410c"}
    count = len(clip.frames)
    moments = sorted({0, count // 2, count - 1})
    rows, columns = (np.flatnonzero(dehazed.sector.any(axis=axis)) for axis in (1, 0))
    column = int(columns.mean())
    view = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    extent = (columns[0] - 0.5, columns[-1] + 0.5, rows[-1] + 0.5, rows[0] - 0.5)
    look = {"cmap": "gray", "vmin": 0, "vmax": 1, "aspect": "equal"}

    height = float(np.clip(2.7 * len(moments) * len(rows) / len(columns) + 0.8, 6, 12))
    figure = Figure(figsize=(15, height), layout="constrained")
    figure.suptitle(f"{clip.name}: {_called(method)}, {count} frames, {clip.fps:.3g} frames/s", fontsize=13)
    images, strips = figure.subfigures(1, 2, width_ratios=[2.2, 1])  # pyright: ignore[reportGeneralTypeIssues]
    grid = images.subplots(len(moments), 4, squeeze=False)
    chosen = list(moments)
    _, lost = bright_and_lost(clip.frames[chosen], dehazed.signal[chosen])
    for line, moment in zip(grid, moments, strict=True):
        for axes, (name, video) in zip(line[:3], parts.items(), strict=True):
            axes.imshow(video[moment][view], extent=extent, **look)
            axes.set(xticks=[], yticks=[])
            if moment == 0:
                axes.set_title(name, color=colors[name], fontsize=11)
        line[3].imshow(clip.frames[moment][view], extent=extent, **look)
        line[3].imshow(_tint(lost[chosen.index(moment)][view]), extent=extent, aspect="equal")
        line[3].set(xticks=[], yticks=[])
        if moment == 0:
            line[3].set_title("look here: bright, much taken", color=_MARK, fontsize=9)
        line[0].set_ylabel(f"{moment / clip.fps:.2f} s", fontsize=9)
        line[0].axvline(column, color="#facc15", linewidth=0.8, alpha=0.8)
    for axes in grid.flat:
        for spine in axes.spines.values():
            spine.set_visible(False)

    *profiles, spectrum = strips.subplots(4, 1)
    for axes, (name, video) in zip(profiles, parts.items(), strict=True):
        axes.imshow(video[:, view[0], column].T, **(look | {"aspect": "auto"}), extent=(0, count / clip.fps, 1, 0))
        axes.set_title(f"{name} along the yellow line", color=colors[name], fontsize=9, loc="left")
        axes.set(yticks=[], xlabel="time [s]" if name == "background" else "")
        axes.tick_params(labelsize=8)
    for name in ("input", "background"):
        values = np.asarray(singular_values(jnp.asarray(parts[name] * dehazed.sector)))
        shown = np.where(values > 1e-4 * values.max(), values, np.nan)  # below lies rounding
        spectrum.semilogy(range(1, count + 1), shown, ".-", color=colors[name], label=name)
    spectrum.set_title("singular values", fontsize=9, loc="left")
    spectrum.set_xlabel("index", fontsize=8)
    spectrum.tick_params(labelsize=8)
    spectrum.legend(fontsize=8, frameon=False)
    spectrum.spines[["top", "right"]].set_visible(False)
    return figure
