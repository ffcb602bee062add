from . import metrics as metrics
from .errors import InputError as InputError
from .io import (
    Clip as Clip,
)
from .io import (
    open_writer as open_writer,
)
from .io import (
    read_video as read_video,
)
from .io import (
    write_video as write_video,
)
from .paper.algorithm1 import Algorithm1 as Algorithm1
from .paper.em import EM as EM
from .paper.gaussian import Gaussian as Gaussian
from .paper.laplace import Laplace as Laplace
from .paper.nuclear_norm import Background as Background
from .paper.nuclear_norm import NuclearNorm as NuclearNorm
from .paper.rpca import robust_pca as robust_pca
from .paper.sample import sample as sample
from .paper.separation import Separation as Separation
from .paper.zea import Zea as Zea
from .paper.zea import separate_as_zea as separate_as_zea
from .priors.checkpoint import load_prior as load_prior
from .priors.checkpoint import save_prior as save_prior
from .priors.diffusion_prior import DiffusionPrior as DiffusionPrior
from .restore import methods as methods
from .restore.background import Completion as Completion
from .restore.clip import Dehazed as Dehazed
from .restore.clip import dehaze_clip as dehaze_clip
from .restore.draws import SplitGibbs as SplitGibbs
from .restore.draws import sample_posterior as sample_posterior
from .restore.estimate import Estimate as Estimate
from .restore.estimate import estimate as estimate
from .restore.estimate import separate as separate
from .restore.one_pass import mmse as mmse
from .restore.one_pass import posterior_mean as posterior_mean
from .restore.render import render as render
from .restore.stream import stream as stream
from .sector import (
    find_sector as find_sector,
)
from .simulation import SimulatedClip as SimulatedClip
from .simulation import simulate as simulate
from .training.config import TrainConfig as TrainConfig
from .training.loop import train as train
from .version import __version__ as __version__
from .view.show import show as show
