"""From a hazy clip to signal and background: each page beside the paper."""

from nuclear_diffusion.inference.algorithm1 import PAPER_GAMMA, PAPER_WINDOW, Algorithm1
from nuclear_diffusion.inference.gibbs import Posterior, SplitGibbs, sample_posterior
from nuclear_diffusion.inference.proximal import Proximal
from nuclear_diffusion.inference.result import Separation
from nuclear_diffusion.inference.rpca import robust_pca, robust_pca_lagrangian
from nuclear_diffusion.inference.separate import mmse, separate
from nuclear_diffusion.inference.windows import Windows
from nuclear_diffusion.inference.zea import ZEA_GAMMA, ZEA_WINDOW, Zea, separate_as_zea

__all__ = [
    "PAPER_GAMMA",
    "PAPER_WINDOW",
    "ZEA_GAMMA",
    "ZEA_WINDOW",
    "Algorithm1",
    "Posterior",
    "Proximal",
    "Separation",
    "SplitGibbs",
    "Windows",
    "Zea",
    "mmse",
    "robust_pca",
    "robust_pca_lagrangian",
    "sample_posterior",
    "separate",
    "separate_as_zea",
]
