"""The result folder of one clip: arrays, videos, a summary figure and a report."""

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
import numpy as np

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import Clip, write_video
from nuclear_diffusion.metrics import bright_lost, flicker
from nuclear_diffusion.restore.clip import Dehazed
from nuclear_diffusion.restore.methods import Method, Nuclear, as_dict
from nuclear_diffusion.restore.outputs import NAMES
from nuclear_diffusion.restore.pictures import caption, draw_summary, side_by_side

FILES = ("result.h5", "signal.mp4", "background.mp4", "comparison.mp4", "summary.png", "report.json")
"""The files of a result folder."""

SPREAD = "spread.mp4"
"""An additional file if there are posterior samples."""


@contextlib.contextmanager
def result_folder(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder beside `folder` that is renamed to `folder` if the block succeeds.

    An existing result is replaced only then. An error or Ctrl-C leaves nothing behind; a killed process leaves the
    hidden folder, which the next run removes.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    replaced = folder.with_name(f".{folder.name}.replaced")
    if replaced.exists() and not folder.exists():  # killed between the two renames
        replaced.rename(folder)
    for leftover in (partial, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    made = [parent for parent in folder.parents if not parent.exists()]
    partial.mkdir(parents=True)
    try:
        yield partial
        for file in (file for file in partial.rglob("*") if file.is_file()):
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
    """The report of a finished result, or None if `folder` does not exist; raises `InputError` for anything else."""
    if not folder.exists():
        return None
    with contextlib.suppress(OSError, ValueError):
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        present = {file.name for file in folder.iterdir() if file.name[0] != "."}
        if set(FILES) <= present <= {*FILES, SPREAD, *NAMES} and isinstance(report, dict):
            return report
    raise InputError(f"{folder} exists and is not a finished result: move it or choose another -o.")


def fingerprint(clip: Clip) -> str:
    """SHA-256 of the clip's frames, to recognise a result of the same clip."""
    pixels = clip.frames if clip.color is None else clip.color
    digest = hashlib.sha256(str(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def identity(clip: Clip, method: Method, prior_sha256: str | None, sector_sha256: str | None = None) -> dict[str, Any]:
    """What identifies a result: the clip's frames, the sector if it was given, the settings and the weights."""
    return {
        "input_sha256": fingerprint(clip),
        "sector_sha256": sector_sha256,
        "prior_sha256": prior_sha256,
        "settings": as_dict(method),
    }


def write_result(
    folder: Path,
    clip: Clip,
    dehazed: Dehazed,
    method: Method,
    prior_sha256: str | None,
    made_by: dict[str, str] | None = None,
    sector_sha256: str | None = None,
) -> dict[str, Any]:
    """Write all `FILES` into `folder`, and `SPREAD` if there are posterior samples; return the report.

    `made_by`: the versions that separated the clip, if not the current ones. `sector_sha256`: of the sector, if it was
    given.
    """
    report = make_report(clip, dehazed, method, prior_sha256, sector_sha256)
    report["versions"] = made_by or report["versions"]
    write_h5(folder / "result.h5", clip, dehazed, report)
    seen = clip.frames if clip.color is None else clip.color / np.float32(255)
    signal = dehazed.signal if dehazed.color is None else dehazed.color
    write_video(folder / "signal.mp4", signal, clip.fps)
    write_video(folder / "background.mp4", dehazed.background, clip.fps)
    panels = {"input": seen, f"signal ({caption(method)})": signal, "background": dehazed.background}
    write_video(folder / "comparison.mp4", side_by_side(panels), clip.fps)
    if isinstance(method, Nuclear) and dehazed.draws_mean is not None and dehazed.draws_deviation is not None:
        spread = {
            "input": clip.frames,
            f"mean of {method.samples} samples": dehazed.draws_mean,
            "standard deviation x 4": 4 * dehazed.draws_deviation,
        }
        write_video(folder / SPREAD, side_by_side(spread), clip.fps)
    draw_summary(clip, dehazed, method).savefig(folder / "summary.png", dpi=120)
    text = json.dumps(report, indent=2, allow_nan=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    return report


def make_report(
    clip: Clip, dehazed: Dehazed, method: Method, prior_sha256: str | None, sector_sha256: str | None = None
) -> dict[str, Any]:
    """Sizes, time, settings and amount of haze removed, as JSON values."""
    frames, height, width = clip.frames.shape
    seen, kept = clip.frames[:, dehazed.sector], dehazed.signal[:, dehazed.sector]
    lost = bright_lost(clip.frames, dehazed.signal, dehazed.sector)
    parts = {"input": clip.frames, "signal": dehazed.signal}
    swings = {name: flicker(video, dehazed.sector) for name, video in parts.items()}
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
        "flicker": {name: swing if math.isfinite(swing) else None for name, swing in swings.items()},
        **identity(clip, method, prior_sha256, sector_sha256),
        "versions": versions(),
        "notice": "Research use only, not a medical device.",
    }


def versions() -> dict[str, str]:
    """Versions of the packages that a result depends on."""
    from nuclear_diffusion.version import __version__

    return {"nuclear-diffusion": __version__, **{name: version(name) for name in ("jax", "jaxlib", "numpy")}}


def write_h5(path: Path, clip: Clip, dehazed: Dehazed, report: dict[str, Any]) -> None:
    """Write input, signal, background and sector losslessly, with settings and versions as attributes.

    Datasets: `input`, `signal`, `background` float32 (frames, height, width) in [0, 1]; `sector` bool (height, width);
    for a colour clip `input_color` uint8 and `signal_color` float32 (frames, height, width, 3). Method nuclear adds the
    haze fraction `share` and the posterior `mean`, and with posterior samples `draws_mean` and `draws_deviation`, all
    float32 (frames, height, width).
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
"""Fields of `Dehazed` that only some methods set."""


def read_h5(path: Path) -> tuple[Clip, Dehazed]:
    """The clip and the estimate in a `result.h5`. Raises `InputError` if it cannot be read."""
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
        raise InputError(f"{path} is damaged or not a result of `dehaze`: dehaze the clip again.") from error
