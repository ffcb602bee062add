"""Clips: files of many formats, read and written."""

from nuclear_diffusion.io.clip import Clip, Reading
from nuclear_diffusion.io.read import read_frames, read_video
from nuclear_diffusion.io.recording import Recording, open_clip
from nuclear_diffusion.io.write import KINDS, Writer, check_kind, open_writer, write_video

__all__ = [
    "KINDS",
    "Clip",
    "Reading",
    "Recording",
    "Writer",
    "check_kind",
    "open_clip",
    "open_writer",
    "read_frames",
    "read_video",
    "write_video",
]
