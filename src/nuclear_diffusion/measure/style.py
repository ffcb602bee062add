"""The style of all figures: print sizes, and colours, markers and lines that colour-blind readers can tell apart.

Colours are from Okabe and Ito (2008), darker for the second of two similar methods. Each method also has its own marker
and line, for grey prints.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nuclear_diffusion.files import write
from nuclear_diffusion.restore.methods import METHODS, Aware, Mmse, Nuclear, Paper, Rpca, Zea

COLUMN, PAGE = 3.5, 7.16
"""Widths in inches of one and of two columns of an IEEE page."""


class Look(NamedTuple):
    """How one method is drawn."""

    title: str
    color: str
    marker: str
    line: Any
    """A matplotlib line style."""


LOOKS: dict[str, Look] = {
    "hazy": Look("Hazy input", "#000000", "X", "-"),
    "rpca": Look(Rpca.title, "#E69F00", "s", (0, (5, 1))),
    "rpca-tuned": Look(f"{Rpca.title}, tuned", "#8A5F00", "p", (0, (8, 2))),
    "mmse": Look(Mmse.title, "#009E73", "D", (0, (3, 1, 1, 1, 1, 1))),
    "aware": Look(Aware.title, "#00543D", "<", (0, (6, 1, 1, 1, 1, 1))),
    "paper": Look(Paper.title, "#56B4E9", "^", (0, (4, 1, 1, 1))),
    "zea": Look(Zea.title, "#CC79A7", "v", (0, (1, 1))),
    "nuclear": Look(Nuclear.title, "#D55E00", "o", "-"),
    "clean": Look("Clean clip", "#0072B2", "P", (0, (2, 1))),
}
"""Every method in the order of the tables, between the input and the truth."""

SEPTUM_COLOR, VENTRICLE_COLOR = "#F0E442", "#56B4E9"

_STYLE = Path(__file__).with_name("figures.mplstyle")


def look_of(method: str) -> Look:
    """A method's look; grey for methods without one in `LOOKS`."""
    title = METHODS[method].title if method in METHODS else method
    return LOOKS.get(method, Look(title, "#7F7F7F", "*", ":"))


def title_of(method: str) -> str:
    """A method's name for readers."""
    return look_of(method).title


@contextmanager
def styled() -> Iterator[None]:
    """Draw figures in this style."""
    with matplotlib.rc_context(fname=_STYLE):
        yield


def save(figure: Figure, path: Path) -> None:
    """Write `path` as .pdf and .png; the same figure gives the same bytes."""
    for suffix, content in ((".pdf", pdf_bytes(figure)), (".png", png_bytes(figure))):
        write(path.with_suffix(suffix), content)


def pdf_bytes(figure: Figure) -> bytes:
    """The figure as PDF."""
    return _saved(figure, format="pdf", metadata={"CreationDate": None}, dpi=300)


def png_bytes(figure: Figure) -> bytes:
    """The figure as PNG, 200 dots per inch."""
    return _saved(figure, format="png", dpi=200)


def _saved(figure: Figure, **how: Any) -> bytes:
    buffer = io.BytesIO()
    with styled():
        figure.savefig(buffer, **how)
    return buffer.getvalue()


def grid(axes: Axes, axis: str = "y") -> None:
    """Thin lines behind the data."""
    axes.grid(axis=axis)  # pyright: ignore[reportArgumentType]
    axes.set_axisbelow(True)
