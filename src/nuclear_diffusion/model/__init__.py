"""The terms of the model (Table 1 of the paper): p(L) and the candidates for p(X), one file each."""

from nuclear_diffusion.model.diffusion_prior import DiffusionPrior
from nuclear_diffusion.model.gaussian import Gaussian
from nuclear_diffusion.model.laplace import Laplace
from nuclear_diffusion.model.nuclear_norm import NuclearNorm, singular_values
from nuclear_diffusion.model.prior import Prior
from nuclear_diffusion.model.variance_preserving import VariancePreserving

__all__ = [
    "DiffusionPrior",
    "Gaussian",
    "Laplace",
    "NuclearNorm",
    "Prior",
    "VariancePreserving",
    "singular_values",
]
