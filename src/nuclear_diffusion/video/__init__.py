"""Video files, the ultrasound sector within a frame, and its fit to a prior's frame."""

from nuclear_diffusion.video.fit import Fit
from nuclear_diffusion.video.read import Clip, read_frames, read_video
from nuclear_diffusion.video.sector import find_sector
from nuclear_diffusion.video.write import write_video

__all__ = ["Clip", "Fit", "find_sector", "read_frames", "read_video", "write_video"]
