"""The colours of all pages and figures: dark, as reading rooms are, and told apart by colour-blind people.

The pages get them as variables of view/style.css, which a test compares.
"""

from typing import Any

COLORS = {
    "ground": "#111315",
    "panel": "#1a1d20",
    "line": "#33383d",
    "edge": "#6b747c",
    "text": "#e6e6e6",
    "quiet": "#a5adb5",
    "orange": "#e69f00",
    "sky": "#56b4e9",
    "green": "#009e73",
    "yellow": "#f0e442",
    "blue": "#0072b2",
    "vermilion": "#d55e00",
    "purple": "#cc79a7",
}
"""Surfaces and text, then the colours of Okabe and Ito (2008)."""

DARK: dict[Any, Any] = {
    "figure.facecolor": COLORS["ground"],
    "axes.facecolor": COLORS["ground"],
    "savefig.facecolor": COLORS["ground"],
    "text.color": COLORS["text"],
    "axes.labelcolor": COLORS["text"],
    "axes.titlecolor": COLORS["text"],
    "xtick.color": COLORS["quiet"],
    "ytick.color": COLORS["quiet"],
    "axes.edgecolor": COLORS["quiet"],
    "grid.color": COLORS["line"],
}
"""Settings of matplotlib for a figure on such a page."""
