"""Nuclear Diffusion: separate a video into a low-rank background and a foreground with a diffusion prior.

All public names are here: `import nuclear_diffusion as nd`, then `nd.separate`, `nd.read_video`, ... Each is imported
on first use, which keeps the import and the command line's help fast. Research use only.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nuclear_diffusion import metrics
    from nuclear_diffusion.errors import InputError
    from nuclear_diffusion.io import Clip, find_sector, open_writer, read_video, write_video
    from nuclear_diffusion.paper.algorithm1 import Algorithm1
    from nuclear_diffusion.paper.em import EM
    from nuclear_diffusion.paper.gaussian import Gaussian
    from nuclear_diffusion.paper.laplace import Laplace
    from nuclear_diffusion.paper.nuclear_norm import Background, NuclearNorm
    from nuclear_diffusion.paper.rpca import robust_pca
    from nuclear_diffusion.paper.sample import sample
    from nuclear_diffusion.paper.separation import Separation
    from nuclear_diffusion.paper.zea import Zea, separate_as_zea
    from nuclear_diffusion.priors.checkpoint import load_prior, save_prior
    from nuclear_diffusion.priors.diffusion_prior import DiffusionPrior
    from nuclear_diffusion.restore import methods
    from nuclear_diffusion.restore.background import Completion
    from nuclear_diffusion.restore.clip import Dehazed, dehaze_clip
    from nuclear_diffusion.restore.draws import SplitGibbs, sample_posterior
    from nuclear_diffusion.restore.estimate import Estimate, estimate, separate
    from nuclear_diffusion.restore.one_pass import mmse, posterior_mean
    from nuclear_diffusion.restore.render import render
    from nuclear_diffusion.restore.stream import stream
    from nuclear_diffusion.simulation import SimulatedClip, simulate
    from nuclear_diffusion.training.config import TrainConfig
    from nuclear_diffusion.training.loop import train
    from nuclear_diffusion.version import __version__
    from nuclear_diffusion.view.show import show

logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent unless a program asks for it

_HOME = {
    "paper.algorithm1": ["Algorithm1"],
    "paper.em": ["EM"],
    "paper.gaussian": ["Gaussian"],
    "paper.laplace": ["Laplace"],
    "paper.nuclear_norm": ["Background", "NuclearNorm"],
    "paper.rpca": ["robust_pca"],
    "paper.sample": ["sample"],
    "paper.separation": ["Separation"],
    "paper.zea": ["Zea", "separate_as_zea"],
    "priors.checkpoint": ["load_prior", "save_prior"],
    "priors.diffusion_prior": ["DiffusionPrior"],
    "restore.background": ["Completion"],
    "restore.clip": ["Dehazed", "dehaze_clip"],
    "restore.draws": ["SplitGibbs", "sample_posterior"],
    "restore.estimate": ["Estimate", "estimate", "separate"],
    "restore.one_pass": ["mmse", "posterior_mean"],
    "restore.render": ["render"],
    "restore.stream": ["stream"],
    "io": ["Clip", "find_sector", "open_writer", "read_video", "write_video"],
    "simulation": ["SimulatedClip", "simulate"],
    "training.config": ["TrainConfig"],
    "training.loop": ["train"],
    "view.show": ["show"],
    "errors": ["InputError"],
    "version": ["__version__"],
}
_MODULES = {"methods": "restore.methods", "metrics": "metrics"}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "EM",
    "Algorithm1",
    "Background",
    "Clip",
    "Completion",
    "Dehazed",
    "DiffusionPrior",
    "Estimate",
    "Gaussian",
    "InputError",
    "Laplace",
    "NuclearNorm",
    "Separation",
    "SimulatedClip",
    "SplitGibbs",
    "TrainConfig",
    "Zea",
    "__version__",
    "dehaze_clip",
    "estimate",
    "find_sector",
    "load_prior",
    "methods",
    "metrics",
    "mmse",
    "open_writer",
    "posterior_mean",
    "read_video",
    "render",
    "robust_pca",
    "sample",
    "sample_posterior",
    "save_prior",
    "separate",
    "separate_as_zea",
    "show",
    "simulate",
    "stream",
    "train",
    "write_video",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"nuclear_diffusion.{_MODULES[name]}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'nuclear_diffusion' has no attribute {name!r}")
    value = getattr(import_module(f"nuclear_diffusion.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
