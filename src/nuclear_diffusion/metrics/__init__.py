"""How good a dehazed clip is: contrast and change of regions, fidelity to a known truth. NumPy in, numbers out.

Images are in [0, 1], or uint8; clips (frames, height, width) give the mean over frames.
"""

from nuclear_diffusion.metrics.fidelity import motion_psnr, psnr, ssim
from nuclear_diffusion.metrics.regions import cnr, gcnr, ks

__all__ = ["cnr", "gcnr", "ks", "motion_psnr", "psnr", "ssim"]
