"""What is understood of a clip before it is dehazed."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from nuclear_diffusion.errors import require
from nuclear_diffusion.files import atomic, followed
from nuclear_diffusion.io import Clip, Reading, Recording, open_clip
from nuclear_diffusion.io.find import Source
from nuclear_diffusion.io.guard import head
from nuclear_diffusion.reporting import one_line
from nuclear_diffusion.sector import find_sector
from nuclear_diffusion.types import Mask

_FRAMES = 48  # frames that the sector is found from


class Seen(NamedTuple):
    """A clip, a part of its frames, and its sector."""

    recording: Recording
    part: Clip
    sector: Mask

    def lines(self) -> list[str]:
        """Name, format, size, rate, range, axes, regions, sector and notes, a line each."""
        about = self.recording
        frames, height, width = about.shape
        black, white = about.range
        rows, columns = (np.flatnonzero(self.sector.any(axis=axis)) for axis in (1, 0))
        tagged = 0 if about.region is None else len(np.unique(about.region[about.region > 0]))
        share = 100 * float(self.sector.mean())
        assumed = " (assumed; --fps sets it)" if about.fps_assumed else ""
        place = f"rows {rows[0]} to {rows[-1]}, columns {columns[0]} to {columns[-1]}"
        lines = [
            f"{about.source}",
            f"  format  {about.kind.removeprefix('a ').removeprefix('an ')}",
            f"  name    {about.name}",
            f"  frames  {frames} of {height} x {width} pixels, {'colour' if about.colored else 'grey'}",
            f"  rate    {about.fps:.6g} frames/s{assumed}, {frames / about.fps:.3g} s",
            f"  range   {black:g} is black, {white:g} is white",
            f"  axes    {about.axes.replace('1', '')}",
            f"  regions {f'{tagged} tagged' if tagged else 'none tagged'}",
            f"  sector  {share:.0f} % of the frame, {place}",
            *(f"  note    {note}" for note in about.notes),
        ]
        return [one_line(line) for line in lines]


def describe(source: Source, reading: Reading | None = None) -> Seen:
    """Open a clip and find its sector from its first frames. Raises `InputError` if it cannot be read."""
    recording = open_clip(source, reading)
    part = next(recording.blocks(_FRAMES))
    return Seen(recording, part, find_sector(part.frames, recording.region))


def draw(seen: Seen, path: Path) -> None:
    """Write the first frame with the outline of the sector as PNG.

    Raises `InputError` if it cannot be written, or would replace the clip or anything but a PNG.
    """
    from PIL import Image
    from scipy.ndimage import binary_erosion

    inputs = map(followed, (seen.recording.source, *(seen.recording.files or ())))
    require(followed(path) not in inputs, f"{path} is the input itself: choose another -o.")
    require(path.suffix.lower() == ".png", f"-o must name a picture that ends in .png, got {path}.")
    other = path.is_file() and not head(path).startswith(b"\x89PNG")
    require(not other, f"{path} exists and is not a PNG: choose another -o.")
    grey = np.rint(255 * seen.part.frames[0]).astype(np.uint8)
    picture = np.stack([grey] * 3, axis=-1) if seen.part.color is None else seen.part.color[0].copy()
    picture[seen.sector & ~np.asarray(binary_erosion(seen.sector), bool)] = 255, 160, 0
    with atomic(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")
