"""From a hazy clip to signal and background: each page beside the paper."""

from nuclear_diffusion.inference.algorithm1 import PAPER_GAMMA, PAPER_WINDOW, Algorithm1
from nuclear_diffusion.inference.em import EM, slowly_varying
from nuclear_diffusion.inference.estimate import Completion, Estimate
from nuclear_diffusion.inference.gibbs import Posterior, SplitGibbs, sample_posterior
from nuclear_diffusion.inference.render import STRENGTH, render
from nuclear_diffusion.inference.result import Separation
from nuclear_diffusion.inference.rpca import robust_pca, robust_pca_lagrangian
from nuclear_diffusion.inference.separate import estimate, mmse, posterior_mean, sample, separate
from nuclear_diffusion.inference.windows import Windows
from nuclear_diffusion.inference.zea import ZEA_GAMMA, ZEA_WINDOW, Zea, separate_as_zea

__all__ = [
    "EM",
    "PAPER_GAMMA",
    "PAPER_WINDOW",
    "STRENGTH",
    "ZEA_GAMMA",
    "ZEA_WINDOW",
    "Algorithm1",
    "Completion",
    "Estimate",
    "Posterior",
    "Separation",
    "SplitGibbs",
    "Windows",
    "Zea",
    "estimate",
    "mmse",
    "posterior_mean",
    "render",
    "robust_pca",
    "robust_pca_lagrangian",
    "sample",
    "sample_posterior",
    "separate",
    "separate_as_zea",
    "slowly_varying",
]
