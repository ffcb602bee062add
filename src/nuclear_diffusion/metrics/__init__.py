"""Quality of a dehazed clip: contrast and change of regions, fidelity to ground truth, flicker, and lost tissue.

Inputs are NumPy arrays in [0, 1] or uint8. Clips (frames, height, width) give the mean over frames, except for metrics
over time or over all frames together.
"""

from nuclear_diffusion.metrics.fidelity import motion_psnr, psnr, ssim
from nuclear_diffusion.metrics.regions import cnr, gcnr, ks
from nuclear_diffusion.metrics.visible import bright_changed, bright_lost, flicker, pixel_flicker

__all__ = [
    "bright_changed",
    "bright_lost",
    "cnr",
    "flicker",
    "gcnr",
    "ks",
    "motion_psnr",
    "pixel_flicker",
    "psnr",
    "ssim",
]
