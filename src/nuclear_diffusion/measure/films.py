"""The films of the report: a few patients, the input and what every method made of it, small enough for a page."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nuclear_diffusion.measure.candidates import CLEAN, HAZY
from nuclear_diffusion.measure.figures import Chosen, shown_frame
from nuclear_diffusion.measure.scores import SCORES
from nuclear_diffusion.measure.statistics import pick
from nuclear_diffusion.measure.study import Study
from nuclear_diffusion.measure.style import title_of
from nuclear_diffusion.measure.tables import number
from nuclear_diffusion.restore.render import STRENGTH
from nuclear_diffusion.types import eight_bits
from nuclear_diffusion.view.film import Film, packed

PAGE_BYTES = 6 * 2**20  # characters that the films of a page take together
FEWEST = 8  # frames that are shown at least; large frames are thinned out for that


def films_of(study: Study, chosen: Sequence[Chosen], most: int = PAGE_BYTES) -> list[dict[str, Any]]:
    """For `Films` of panels.js: of each chosen patient the panels, and in words what is shown."""
    return [_patient(study, one, most // len(chosen)) for one in chosen]


def _patient(study: Study, one: Chosen, most: int) -> dict[str, Any]:
    films = panels_of(study, one)
    loaded = one.case.read()
    shown, step, texts = _fitting(films, loaded.numbers.index(shown_frame(loaded)), most)
    gain = f", gCNR {one.gain:+.3f} by {title_of(study.focus)}" if math.isfinite(one.gain) else ""
    count = len(loaded.numbers)
    some = "all" if len(shown) == count else f"frames {shown[0] + 1} to {shown[-1] + 1} of"
    thinned = "" if step == 1 else f"; every {_ORDINALS.get(step, f'{step}th')} pixel across and down"
    return {
        "title": one.rule.capitalize(),
        "caption": f"{one.case.name}{gain}. Shown: {some} {count} frames{thinned}.",
        "panels": [
            {
                "name": name,
                "title": title_of(name),
                "shows": title_of(name).lower() if name == CLEAN else "result",
                "scores": _scores(study, one, name),
                "info": _cut(film, shown, step).info(),
                "planes": text,
            }
            for (name, film), text in zip(films.items(), texts, strict=True)
        ],
    }


_ORDINALS = {2: "second", 3: "third"}


def panels_of(study: Study, one: Chosen) -> dict[str, Film]:
    """Whole films by method: the input, the input with each method's result, and with the truth if it is known.

    A method with a haze fraction gets that in place of its result, so that its strength is live.
    """
    loaded = one.case.read()
    before, fps = eight_bits(loaded.clip.frames), float(loaded.clip.fps)
    films = {HAZY: Film(before, fps)}
    for candidate in study.main:
        if candidate.name == HAZY:
            continue
        signal, share, *_ = study.output(candidate.name, one.case)
        strength = getattr(candidate.settings, "strength", STRENGTH)
        films[candidate.name] = Film(before, fps, share, signal if share is None else None, strength=strength)
    if loaded.truth is not None:
        films[CLEAN] = Film(before, fps, signal=eight_bits(loaded.truth))
    return films


def _fitting(films: dict[str, Film], middle: int, most: int) -> tuple[range, int, list[dict[str, str]]]:
    """As many frames around `middle` as fit, every how many pixels, and the planes as text; the input only once."""
    count, *sides = films[HAZY].input.shape

    def cut(length: int, step: int) -> tuple[int, tuple[range, int, list[dict[str, str]]]]:
        start = min(max(middle - length // 2, 0), count - length)
        shown, texts = range(start, start + length), []
        for name, film in films.items():
            part = _cut(film, shown, step)
            texts.append(packed(part if name == HAZY else part._replace(input=part.input[:0]), level=6))
        return sum(len(text) for planes in texts for text in planes.values()), (shown, step, texts)

    length, step = min(FEWEST, count), 1
    size, found = cut(length, step)
    while size > most and step < min(sides):
        step = min(max(step + 1, math.isqrt(step**2 * size // most)), min(sides))
        size, found = cut(length, step)
    while (longer := min(count, int(0.95 * length * most / size))) > length:  # the first frame is the largest
        size, more = cut(longer, step)
        if size > most:
            break
        length, found = longer, more
    return found


def _cut(film: Film, shown: range, step: int) -> Film:
    """Some frames of a film, of every `step`-th pixel."""
    part = slice(shown.start, shown.stop), slice(None, None, step), slice(None, None, step)
    return film._replace(**{name: plane[part] for name, plane in film.planes().items()})


def _scores(study: Study, one: Chosen, method: str) -> str:
    """Mean gCNR and KS of the clip, as words."""
    words = []
    for score in ("gcnr", "ks_a")[: 1 if method == HAZY else 2]:
        values = pick(study.frame, clip=one.case.name, method=method, score=score).value
        if values.notna().any():
            words.append(f"{SCORES[score].title} {number(float(np.nanmean(values)), score)}")
    return ", ".join(words)
