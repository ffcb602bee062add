"""Video files, the ultrasound sector in a frame, and its fit to a prior's frame."""

from nuclear_diffusion.io.clip import Clip, Reading
from nuclear_diffusion.io.fit import Fit
from nuclear_diffusion.io.read import read_frames, read_video
from nuclear_diffusion.io.recording import Recording, open_clip
from nuclear_diffusion.io.sector import find_sector
from nuclear_diffusion.io.write import write_video

__all__ = [
    "Clip",
    "Fit",
    "Reading",
    "Recording",
    "find_sector",
    "open_clip",
    "read_frames",
    "read_video",
    "write_video",
]
