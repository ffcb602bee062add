"""Where the ultrasound image is in a frame, and its fit to a prior's frame."""

from nuclear_diffusion.sector.find import find_sector, find_sectors, nearest, read_sector, split_sectors
from nuclear_diffusion.sector.fit import Fit
from nuclear_diffusion.sector.strokes import find_strokes

__all__ = ["Fit", "find_sector", "find_sectors", "find_strokes", "nearest", "read_sector", "split_sectors"]
