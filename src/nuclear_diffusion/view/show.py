"""Play a result in a notebook: input, signal and background in synchrony, with a live slider for the strength."""

import html
import json
from pathlib import Path
from typing import Any

import numpy as np

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import Clip
from nuclear_diffusion.restore.clip import Dehazed, joined
from nuclear_diffusion.restore.folder import open_result
from nuclear_diffusion.restore.render import STRENGTH
from nuclear_diffusion.view.film import Film, film_of, packed, page, source

LARGEST = 256 * 2**20  # bytes of pixels that a page may hold
HEIGHT = 640  # of the frame in a notebook, in pixels


class Shown:
    """A page with a player; notebooks display it, `save` writes it as a file of its own."""

    def __init__(self, page: str):
        self.page = page

    def _repr_html_(self) -> str:
        """The page in a frame, so that it shares no styles and no names with the notebook."""
        frame = f'width="100%" height="{HEIGHT}" style="border:0" allow="fullscreen"'
        return f'<iframe srcdoc="{html.escape(self.page, quote=True)}" {frame}></iframe>'

    def save(self, path: str | Path) -> None:
        """Write the page: one HTML file that needs no server and no network."""
        Path(path).write_text(self.page, encoding="utf-8")


def show(result: Any, video: Any = None, *, fps: float | None = None, strength: float | None = None) -> Shown:
    """A player for a result, in a notebook or as an HTML file.

    Args:
        result: a result folder or its `result.h5`; or `Dehazed`, `Estimate` or `Separation` together with `video`; or a
            clip alone (`Clip` or an array).
        video: the input, `Clip` or (frames, height, width) in [0, 1] or uint8.
        fps: frames per second; default: those of the clip, or 30.
        strength: start of the slider, in [0, 1]; default: the result's own, or 0.5.

    Raises:
        InputError: `result` is none of these, or is too large for a page.
    """
    film = _film(result, video, fps, strength)
    size = sum(plane.nbytes for plane in film.planes().values())
    if size > LARGEST:
        raise InputError(
            f"The clip has {size / 2**20:.0f} MB of pixels, a page holds {LARGEST // 2**20}: give fewer frames."
        )
    return Shown(
        page(
            "show.html",
            STYLE=source("style.css"),
            PLAYER=source("player.js"),
            UNPACK=source("unpack.js"),
            INFO=json.dumps(film.info()),
            PLANES=json.dumps(packed(film, level=1)),
        )
    )


def _film(result: Any, video: Any, fps: float | None, strength: float | None) -> Film:
    if isinstance(result, str | Path):
        path = Path(result)
        path = path / "result.h5" if path.is_dir() else path
        with open_result(path) as opened:
            video, result = opened.recording.read(), joined(opened.pieces())
        strength = getattr(opened.method, "strength", None) if strength is None else strength
    if video is None:
        video, result = result, None
    if isinstance(video, Clip):
        seen, rate = video.pixels, video.fps
    else:
        seen, rate = np.asarray(video), 30.0
    if seen.ndim not in (3, 4) or seen.dtype.kind not in "uf":
        raise InputError("Give a result folder, or a result and its clip: show(result, video).")
    parts = {name: getattr(result, name, None) for name in ("share", "signal", "background")}
    parts["deviation"] = getattr(result, "draws_deviation", None)
    if isinstance(result, Dehazed):
        parts["signal"] = result.pixels
    arrays = {name: None if part is None else np.asarray(part) for name, part in parts.items()}
    start = STRENGTH if strength is None else strength
    return film_of(seen, rate if fps is None else fps, strength=start, **arrays)
