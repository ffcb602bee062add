"""The style of all figures: print sizes, and colours, markers and lines that colour-blind readers can tell apart.

Colours are those of the palette; the second of two similar methods is darker in print and lighter on screen. Each
method also has its own marker and line, for grey prints. Figures are drawn for print, on white; within `on_screen`
for the dark page.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nuclear_diffusion.files import write
from nuclear_diffusion.palette import COLORS, DARK
from nuclear_diffusion.restore.methods import METHODS, Aware, Mmse, Nuclear, Paper, Rpca, Zea

COLUMN, PAGE = 3.5, 7.16  # widths in inches of one and of two columns of an IEEE page


class Look(NamedTuple):
    """How one method is drawn."""

    title: str
    color: str
    marker: str
    line: Any  # a line style of matplotlib
    screen: str = ""  # the colour on a dark ground, if another


LOOKS: dict[str, Look] = {
    "hazy": Look("Hazy input", "#000000", "X", "-", COLORS["text"]),
    "rpca": Look(Rpca.title, COLORS["orange"], "s", (0, (5, 1))),
    "rpca-tuned": Look(f"{Rpca.title}, tuned", "#8a5f00", "p", (0, (8, 2)), "#ffd98a"),
    "mmse": Look(Mmse.title, COLORS["green"], "D", (0, (3, 1, 1, 1, 1, 1))),
    "aware": Look(Aware.title, "#00543d", "<", (0, (6, 1, 1, 1, 1, 1)), "#8cb978"),
    "paper": Look(Paper.title, COLORS["sky"], "^", (0, (4, 1, 1, 1))),
    "zea": Look(Zea.title, COLORS["purple"], "v", (0, (1, 1))),
    "nuclear": Look(Nuclear.title, COLORS["vermilion"], "o", "-"),
    "clean": Look("Clean clip", COLORS["blue"], "P", (0, (2, 1))),
}
"""Every method in the order of the tables, between the input and the truth."""
SEPTUM_COLOR, VENTRICLE_COLOR = COLORS["yellow"], COLORS["sky"]

_ON_SCREEN = ContextVar("on_screen", default=False)

_STYLE = Path(__file__).with_name("figures.mplstyle")


def look_of(method: str) -> Look:
    """A method's look; grey for methods without one in `LOOKS`."""
    title = METHODS[method].title if method in METHODS else method
    look = LOOKS.get(method, Look(title, "#7f7f7f", "*", ":"))
    return look._replace(color=look.screen) if _ON_SCREEN.get() and look.screen else look


def title_of(method: str) -> str:
    """A method's name for readers."""
    return look_of(method).title


@contextmanager
def styled() -> Iterator[None]:
    """Draw figures in this style."""
    with matplotlib.rc_context(DARK if _ON_SCREEN.get() else {}, fname=_STYLE):
        yield


@contextmanager
def on_screen() -> Iterator[None]:
    """Draw and save figures for a dark page."""
    token = _ON_SCREEN.set(True)
    try:
        yield
    finally:
        _ON_SCREEN.reset(token)


_SAVED: dict[str, dict[str, Any]] = {
    "pdf": {"metadata": {"CreationDate": None}, "dpi": 300},
    "png": {"dpi": 200},
    "svg": {"metadata": {"Date": None}, "dpi": 200},
}
"""How matplotlib saves each format: the same figure gives the same bytes."""


def save(figure: Figure, path: Path) -> None:
    """Write `path` as .pdf and .png."""
    for kind in ("pdf", "png"):
        write(path.with_suffix(f".{kind}"), as_bytes(figure, kind))


def as_bytes(figure: Figure, kind: str) -> bytes:
    """The figure as pdf, png or svg."""
    buffer = io.BytesIO()
    with styled(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # names in other scripts show as boxes
        figure.savefig(buffer, format=kind, **_SAVED[kind])
    return buffer.getvalue()


def grid(axes: Axes, axis: str = "y") -> None:
    """Thin lines behind the data."""
    axes.grid(axis=axis)  # pyright: ignore[reportArgumentType]
    axes.set_axisbelow(True)
