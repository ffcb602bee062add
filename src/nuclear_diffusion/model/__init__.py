"""The terms of the model (Table 1 of the paper): p(L) and the candidates for p(X), one file each."""

from nuclear_diffusion.model.background import (
    Background,
    FittedNuclearNorm,
    LearnedBackground,
    SmoothBackground,
    fitted_gamma,
)
from nuclear_diffusion.model.diffusion_prior import DiffusionPrior
from nuclear_diffusion.model.gaussian import Gaussian
from nuclear_diffusion.model.laplace import Laplace
from nuclear_diffusion.model.mixture import Additive, Mixture, PowerSum
from nuclear_diffusion.model.nuclear_norm import NuclearNorm, singular_values
from nuclear_diffusion.model.prior import Prior
from nuclear_diffusion.model.variance_preserving import VariancePreserving

__all__ = [
    "Additive",
    "Background",
    "DiffusionPrior",
    "FittedNuclearNorm",
    "Gaussian",
    "Laplace",
    "LearnedBackground",
    "Mixture",
    "NuclearNorm",
    "PowerSum",
    "Prior",
    "SmoothBackground",
    "VariancePreserving",
    "fitted_gamma",
    "singular_values",
]
