"""What the player needs of a clip and its result, in few bytes."""

import base64
import re
import zlib
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped, UInt8, UInt16
from numpy import ndarray

from nuclear_diffusion.restore.render import STRENGTH, WIDTH
from nuclear_diffusion.types import eight_bits

DEVIATIONS = 4  # standard deviations are shown this many times as bright


class Film(NamedTuple):
    """A clip and its result as the browser gets them."""

    input: UInt8[ndarray, "frames height width *rgb"]  # the clip
    fps: float
    # haze fraction of 0 to 1 as 0 to 65535: enough for a result that is exact to the grey level
    share: UInt16[ndarray, "frames height width"] | None = None
    signal: UInt8[ndarray, "frames height width *rgb"] | None = None  # the result of a method without a haze fraction
    background: UInt8[ndarray, "frames height width"] | None = None
    # `DEVIATIONS` standard deviations of the posterior samples
    deviation: UInt8[ndarray, "frames height width"] | None = None
    strength: float = STRENGTH

    def info(self) -> dict[str, Any]:
        """Sizes and settings, for `Film` of player.js."""
        frames, height, width = self.input.shape[:3]
        channels = self.input.shape[3] if self.input.ndim == 4 else 1
        sizes = {"frames": frames, "height": height, "width": width, "channels": channels}
        return sizes | {"fps": self.fps, "strength": self.strength, "width_of_knob": WIDTH}

    def planes(self) -> dict[str, Shaped[ndarray, "..."]]:
        """The arrays that are there, by name."""
        names = ("input", "share", "signal", "background", "deviation")
        return {name: array for name in names if (array := getattr(self, name)) is not None}


def film_of(
    video: Shaped[ndarray, "frames height width *rgb"],
    fps: float,
    *,
    share: Float[ndarray, "frames height width"] | None = None,
    signal: Float[ndarray, "frames height width *rgb"] | None = None,
    background: Float[ndarray, "frames height width"] | None = None,
    deviation: Float[ndarray, "frames height width"] | None = None,
    strength: float = STRENGTH,
) -> Film:
    """A film of a clip and the parts of its result; floats in [0, 1], `video` and `signal` also uint8.

    `signal` is left out where there is a haze fraction, from which the browser makes it.
    """
    if signal is not None and signal.ndim < video.ndim:
        signal = np.broadcast_to(signal[..., None], video.shape)
    return Film(
        to_bytes(video),
        float(fps),
        None if share is None else share_bits(share),
        None if signal is None or share is not None else to_bytes(signal),
        None if background is None else to_bytes(background),
        None if deviation is None else to_bytes(DEVIATIONS * deviation),
        strength,
    )


def share_bits(share: Float[ndarray, "frames height width"]) -> UInt16[ndarray, "frames height width"]:
    """[0, 1] to 0 to 65535, rounded."""
    return np.rint(65535 * np.clip(share, 0, 1)).astype(np.uint16)


def packed(film: Film, level: int = 9) -> dict[str, str]:
    """The planes as text, for `unpacked` of unpack.js: changes over time, low bytes before high ones, zlib, base64.

    `level`: of zlib, 1 is fast and 9 is small.
    """
    text = {}
    for name, plane in film.planes().items():
        change = np.diff(plane, axis=0, prepend=np.zeros_like(plane[:1]))  # modulo 2^8 or 2^16
        parts = [(change >> shift).astype(np.uint8).tobytes() for shift in range(0, 8 * plane.itemsize, 8)]
        text[name] = base64.b64encode(zlib.compress(b"".join(parts), level)).decode("ascii")
    return text


def source(name: str) -> str:
    """The text of one of the pages' files, such as style.css."""
    return (files("nuclear_diffusion.view") / name).read_text(encoding="utf-8")


def page(name: str, **values: str) -> str:
    """One of the pages, with the values in place of the comments that are their names."""
    return re.sub(r"/\*([A-Z]+)\*/", lambda found: values[found[1]], source(name))


def to_bytes(video: Shaped[ndarray, "frames height width *rgb"]) -> UInt8[ndarray, "frames height width *rgb"]:
    """[0, 1] to 0 to 255, rounded; bytes stay."""
    return video if video.dtype == np.uint8 else eight_bits(video)
