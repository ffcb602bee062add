"""Videos side by side, and a summary figure per clip."""

import functools

import jax.numpy as jnp
import matplotlib
import numpy as np
from jaxtyping import UInt8
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy import ndarray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import find_objects

from nuclear_diffusion.io import Clip
from nuclear_diffusion.io.recording import Recording
from nuclear_diffusion.metrics.visible import bright_tissue
from nuclear_diffusion.palette import COLORS, DARK
from nuclear_diffusion.paper.nuclear_norm import singular_values
from nuclear_diffusion.restore.clip import Dehazed
from nuclear_diffusion.restore.methods import Method, Nuclear
from nuclear_diffusion.types import Mask, eight_bits, evenly

LINES = 600  # frames of which an image line is shown over time
SPECTRUM, COARSE = 60, 320  # frames whose singular values are shown, of at most so many pixels per side

LARGEST = 1080, 3840
"""Largest height of a panel and width of all panels together, in pixels, that players show without trouble."""

SMALLEST = 256  # smallest height and width of a panel, in pixels, whose caption can be read


def side_by_side(panels: dict[str, ndarray]) -> UInt8[ndarray, "frames height width *rgb"]:
    """Videos of equal size in [0, 1] side by side under their captions; RGB if any of them is.

    Panels larger than `LARGEST` are shrunk; each pixel of panels smaller than `SMALLEST` becomes a square of several.
    """
    rgb = (3,) if any(video.ndim == 4 for video in panels.values()) else ()
    frames, rows, columns = next(iter(panels.values())).shape[:3]
    height, width = looked_at(rows, columns, len(panels))
    strip = max(16, height // 12)
    joined = np.zeros((frames, strip + height, width * len(panels), *rgb), np.uint8)
    for column, (text, video) in enumerate(panels.items()):
        place = joined[:, :, column * width : (column + 1) * width]
        caption = _caption(text, width, strip)
        place[:, :strip] = caption[..., None] if rgb else caption
        for target, frame in zip(place[:, strip:], video, strict=True):
            pixels = eight_bits(frame)
            if pixels.shape[:2] != (height, width):
                pixels = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX))
            target[...] = pixels[..., None] if rgb and pixels.ndim == 2 else pixels
    return joined


def looked_at(height: int, width: int, panels: int) -> tuple[int, int]:
    """Height and width of a panel of several side by side, from `SMALLEST` to `LARGEST`, in the same proportion."""
    larger = -(-SMALLEST // min(height, width))
    scale = min(larger, LARGEST[0] / height, LARGEST[1] / (panels * width))
    scale = int(scale) if scale > 1 else scale
    return max(1, round(scale * height)), max(1, int(scale * width))


@functools.lru_cache
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


def gain_of(background: ndarray) -> int:
    """How many times as bright a faint background is shown, by its first frame: 1, 2, 4, 8 or 16."""
    brightest = float(background[0].max())
    return 2 ** int(np.clip(np.floor(np.log2(0.5 / brightest)), 0, 4)) if brightest > 0 else 1


def named(gain: int) -> str:
    """The title of a background that is shown `gain` times as bright."""
    return "background" if gain == 1 else f"background, {gain} x as bright"


_LONGEST = 80  # characters of a clip's name in the title of its summary
_MARK = COLORS["orange"]  # colour of bright echoes that were dimmed strongly


class Summary:
    """Collects the frames that the summary figure shows, while a clip is written."""

    def __init__(self, recording: Recording, sector: Mask):
        count = len(recording)
        self._recording, self._sector = recording, sector
        self._moments = sorted({0, count // 2, count - 1})
        self._lines = set(evenly(count, LINES).tolist())
        self._spectrum = set(evenly(count, SPECTRUM).tolist())
        self._column = int(np.flatnonzero(sector.any(axis=0)).mean())
        self._view = find_objects(sector.astype(int))[0]
        self._coarse = -(-max(sector.shape) // COARSE)
        self._shown: list[dict[str, ndarray]] = []
        self._over_time: dict[str, list[ndarray]] = {"input": [], "signal": [], "background": []}
        self._fields: dict[str, list[ndarray]] = {"input": [], "background": []}

    def add(self, start: int, clip: Clip, dehazed: Dehazed) -> None:
        """Add consecutive frames, the first of them number `start`."""
        parts = {"input": clip.frames, "signal": dehazed.signal, "background": dehazed.background}
        step = self._coarse
        for index in range(len(clip)):
            number = start + index
            if number in self._moments:
                self._shown.append({name: video[index] * self._sector for name, video in parts.items()})
            if number in self._lines:
                for name, lines in self._over_time.items():
                    lines.append(parts[name][index, self._view[0], self._column].copy())
            if number in self._spectrum:
                for name, fields in self._fields.items():
                    fields.append((parts[name][index] * self._sector)[::step, ::step].copy())

    @matplotlib.rc_context(DARK)
    def draw(self, method: Method) -> Figure:
        """Three frames, the middle image line over time, and the singular values, for input, signal and background.

        A fourth image per frame marks bright echoes in the input that were dimmed strongly, for the reader to check.
        What is outside the sector is black, and a faint background is brighter, as its title says.
        """
        colors = {"input": COLORS["quiet"], "signal": COLORS["vermilion"], "background": COLORS["sky"]}
        count, fps = len(self._recording), self._recording.fps
        rows, columns = self._view
        extent = (columns.start - 0.5, columns.stop - 0.5, rows.stop - 0.5, rows.start - 0.5)
        look = {"cmap": "gray", "vmin": 0, "vmax": 1, "aspect": "equal"}
        gain = gain_of(self._shown[0]["background"][None])
        titles = {"input": "input", "signal": "signal", "background": named(gain)}
        looks = {name: look | {"vmax": 1 / gain if name == "background" else 1} for name in titles}

        proportion = (rows.stop - rows.start) / (columns.stop - columns.start)
        height = float(np.clip(2.7 * len(self._moments) * proportion + 0.8, 6, 12))
        figure = Figure(figsize=(15, height), layout="constrained")
        clip = self._recording.name
        clip = clip if len(clip) <= _LONGEST else f"{clip[: _LONGEST - 1]}…"
        figure.suptitle(f"{clip}: {caption(method)}, {count} frames, {fps:.3g} frames/s", fontsize=13)
        images, strips = figure.subfigures(1, 2, width_ratios=[2.2, 1])  # pyright: ignore[reportGeneralTypeIssues]
        grid = images.subplots(len(self._moments), 4, squeeze=False)
        for line, moment, shown in zip(grid, self._moments, self._shown, strict=True):
            for axes, (name, frame) in zip(line[:3], shown.items(), strict=True):
                axes.imshow(frame[self._view], extent=extent, **looks[name])
                axes.set(xticks=[], yticks=[])
                if moment == 0:
                    axes.set_title(titles[name], color=colors[name], fontsize=11)
            lost = bright_tissue(shown["input"][None], shown["signal"][None]).lost[0][self._view]
            line[3].imshow(shown["input"][self._view], extent=extent, **look)
            line[3].imshow(np.where(lost[..., None], to_rgba(_MARK, 0.7), 0.0), extent=extent, aspect="equal")
            line[3].set(xticks=[], yticks=[])
            if not lost.any():
                line[3].text(0.98, 0.02, "none", color=_MARK, fontsize=9, ha="right", transform=line[3].transAxes)
            if moment == 0:
                line[3].set_title("bright echo dimmed: haze or tissue?", color=_MARK, fontsize=9)
            line[0].set_ylabel(f"{moment / fps:.2f} s", fontsize=9)
            line[0].axvline(self._column, color=COLORS["yellow"], linewidth=0.8, alpha=0.8)
        for axes in grid.flat:
            for spine in axes.spines.values():
                spine.set_visible(False)

        *profiles, spectrum = strips.subplots(4, 1)
        for axes, (name, lines) in zip(profiles, self._over_time.items(), strict=True):
            axes.imshow(np.array(lines).T, **(looks[name] | {"aspect": "auto"}), extent=(0, count / fps, 1, 0))
            axes.set_title(f"{titles[name]}, along the yellow line", color=colors[name], fontsize=9, loc="left")
            axes.set_yticks([])
            axes.tick_params(labelsize=8)
        profiles[-1].set_xlabel("time [s]", fontsize=8)
        for name, fields in self._fields.items():
            values = np.asarray(singular_values(jnp.asarray(np.array(fields))))
            shown = np.where(values > 1e-4 * values.max(), values, np.nan)  # smaller ones are rounding errors
            spectrum.semilogy(range(1, len(values) + 1), shown, ".-", color=colors[name], label=name)
        some = f" of {len(self._spectrum)} frames" if len(self._spectrum) < count else ""
        spectrum.set_title(f"singular values{some}", fontsize=9, loc="left")
        spectrum.set_xlabel("index", fontsize=8)
        spectrum.xaxis.set_major_locator(MaxNLocator(integer=True))
        spectrum.tick_params(labelsize=8)
        spectrum.legend(fontsize=8, frameon=False)
        spectrum.spines[["top", "right"]].set_visible(False)
        return figure
