"""Video files, the ultrasound sector in a frame, and its fit to a prior's frame."""

from nuclear_diffusion.io.clip import Clip, Reading
from nuclear_diffusion.io.fit import Fit
from nuclear_diffusion.io.read import read_frames, read_video
from nuclear_diffusion.io.recording import Recording, open_clip
from nuclear_diffusion.io.sector import find_sector, find_sectors
from nuclear_diffusion.io.write import KINDS, Writer, check_kind, open_writer, write_video

__all__ = [
    "KINDS",
    "Clip",
    "Fit",
    "Reading",
    "Recording",
    "Writer",
    "check_kind",
    "find_sector",
    "find_sectors",
    "open_clip",
    "open_writer",
    "read_frames",
    "read_video",
    "write_video",
]
