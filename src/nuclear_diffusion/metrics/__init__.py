"""How good a dehazed clip is: contrast and change of regions, fidelity to a known truth, flicker and harm.

NumPy in, numbers out. Images are in [0, 1], or uint8; clips (frames, height, width) give the mean over frames, but for
what is measured over time or over all frames together.
"""

from nuclear_diffusion.metrics.fidelity import motion_psnr, psnr, ssim
from nuclear_diffusion.metrics.regions import cnr, gcnr, ks
from nuclear_diffusion.metrics.visible import bright_lost, flicker, pixel_flicker

__all__ = ["bright_lost", "cnr", "flicker", "gcnr", "ks", "motion_psnr", "pixel_flicker", "psnr", "ssim"]
