"""Videos side by side, and a summary figure per clip."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from numpy import ndarray
from PIL import Image, ImageDraw, ImageFont

from nuclear_diffusion.io import Clip
from nuclear_diffusion.metrics.visible import bright_and_lost
from nuclear_diffusion.paper.nuclear_norm import singular_values
from nuclear_diffusion.restore.clip import Dehazed
from nuclear_diffusion.restore.methods import Method, Nuclear


def side_by_side(panels: dict[str, ndarray]) -> UInt8[ndarray, "frames height width *rgb"]:
    """Videos of equal size in [0, 1] side by side under their captions; RGB if any of them is."""
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
    """`text` centred in a black strip and shrunk to fit."""
    image = Image.new("L", (width, height))
    size = min(0.65 * height, 1.6 * width / max(len(text), 1))
    font = ImageFont.load_default(size=size)
    ImageDraw.Draw(image).text((width / 2, height / 2), text, fill=220, font=font, anchor="mm")
    return np.asarray(image)


def caption(method: Method) -> str:
    """The method's name, and its strength if it has one."""
    return f"{method.name}, strength {method.strength:g}" if isinstance(method, Nuclear) else method.name


_MARK = "#f97316"
"""Colour of bright echoes that were dimmed strongly."""


def _tint(where: Bool[ndarray, "height width"]) -> Float[ndarray, "height width rgba"]:
    """`_MARK` where `where` is True, transparent elsewhere."""
    return np.where(where[..., None], to_rgba(_MARK, 0.7), 0.0)


def draw_summary(clip: Clip, dehazed: Dehazed, method: Method) -> Figure:
    """Three frames, the middle image line over time, and the singular values, for input, signal and background.

    A fourth image per frame marks bright echoes in the input that were dimmed strongly, for the reader to check.
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
    figure.suptitle(f"{clip.name}: {caption(method)}, {count} frames, {clip.fps:.3g} frames/s", fontsize=13)
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
            line[3].set_title("check: bright echo dimmed", color=_MARK, fontsize=9)
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
        shown = np.where(values > 1e-4 * values.max(), values, np.nan)  # smaller ones are rounding errors
        spectrum.semilogy(range(1, count + 1), shown, ".-", color=colors[name], label=name)
    spectrum.set_title("singular values", fontsize=9, loc="left")
    spectrum.set_xlabel("index", fontsize=8)
    spectrum.tick_params(labelsize=8)
    spectrum.legend(fontsize=8, frameon=False)
    spectrum.spines[["top", "right"]].set_visible(False)
    return figure
