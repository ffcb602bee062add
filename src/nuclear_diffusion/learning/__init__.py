"""Networks, training and checkpoints of the learned prior p_theta(X)."""

from nuclear_diffusion.learning.checkpoint import load_prior, prior_hash, prior_info, save_prior
from nuclear_diffusion.learning.config import TrainConfig
from nuclear_diffusion.learning.data import Bank, letterbox, pack_clips
from nuclear_diffusion.learning.training import Progress, TrainResult, train
from nuclear_diffusion.learning.unet import UNet, UNetConfig

__all__ = [
    "Bank",
    "Progress",
    "TrainConfig",
    "TrainResult",
    "UNet",
    "UNetConfig",
    "letterbox",
    "load_prior",
    "pack_clips",
    "prior_hash",
    "prior_info",
    "save_prior",
    "train",
]
