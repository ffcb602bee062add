"""Nuclear Diffusion: a video as low-rank background + foreground under a diffusion prior.

Every public name is here: `import nuclear_diffusion as nd`, then `nd.separate`, `nd.read_video`, ... Names are imported
on first use, so that `import nuclear_diffusion` and the command line's help stay quick. Research use only.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nuclear_diffusion import metrics
    from nuclear_diffusion.inference import (
        EM,
        Algorithm1,
        Completion,
        Estimate,
        Separation,
        SplitGibbs,
        Zea,
        estimate,
        mmse,
        posterior_mean,
        render,
        robust_pca,
        sample,
        sample_posterior,
        separate,
        separate_as_zea,
    )
    from nuclear_diffusion.learning import TrainConfig, load_prior, save_prior, train
    from nuclear_diffusion.model import DiffusionPrior, Gaussian, Laplace, NuclearNorm
    from nuclear_diffusion.pipeline.core import Dehazed, dehaze_clip
    from nuclear_diffusion.pipeline.settings import Settings
    from nuclear_diffusion.simulation import SimulatedClip, simulate
    from nuclear_diffusion.types import InputError
    from nuclear_diffusion.video import Clip, find_sector, read_video, write_video

try:
    __version__ = version("nuclear-diffusion")
except PackageNotFoundError:  # a source tree on the path, not installed
    __version__ = "0+source"

_HOME = {
    "inference": [
        "EM",
        "Algorithm1",
        "Completion",
        "Estimate",
        "Separation",
        "SplitGibbs",
        "Zea",
        "estimate",
        "mmse",
        "posterior_mean",
        "render",
        "robust_pca",
        "sample",
        "sample_posterior",
        "separate",
        "separate_as_zea",
    ],
    "learning": ["TrainConfig", "load_prior", "save_prior", "train"],
    "model": ["DiffusionPrior", "Gaussian", "Laplace", "NuclearNorm"],
    "pipeline.core": ["Dehazed", "dehaze_clip"],
    "pipeline.settings": ["Settings"],
    "simulation": ["SimulatedClip", "simulate"],
    "types": ["InputError"],
    "video": ["Clip", "find_sector", "read_video", "write_video"],
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "EM",
    "Algorithm1",
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
    "Settings",
    "SimulatedClip",
    "SplitGibbs",
    "TrainConfig",
    "Zea",
    "__version__",
    "dehaze_clip",
    "estimate",
    "find_sector",
    "load_prior",
    "metrics",
    "mmse",
    "posterior_mean",
    "read_video",
    "render",
    "robust_pca",
    "sample",
    "sample_posterior",
    "save_prior",
    "separate",
    "separate_as_zea",
    "simulate",
    "train",
    "write_video",
]


def __getattr__(name: str) -> Any:
    if name == "metrics":
        return import_module("nuclear_diffusion.metrics")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'nuclear_diffusion' has no attribute {name!r}")
    value = getattr(import_module(f"nuclear_diffusion.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
