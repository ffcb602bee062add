"""Simulated echocardiograms with ground truth: anatomy, motion, a scanner in beam space, and haze."""

from .anatomy import UNSEEN_VIEWS, VIEWS
from .bank import frame_bank
from .clip import SPLITS, SimulatedClip, patient_seed, simulate
from .dataset import write_dataset
from .findings import FINDINGS
from .haze import FAMILIES, UNSEEN_FAMILIES
from .looks import UNSEEN_LOOKS
from .overlay import lay_haze

__all__ = [
    "FAMILIES",
    "FINDINGS",
    "SPLITS",
    "UNSEEN_FAMILIES",
    "UNSEEN_LOOKS",
    "UNSEEN_VIEWS",
    "VIEWS",
    "SimulatedClip",
    "frame_bank",
    "lay_haze",
    "patient_seed",
    "simulate",
    "write_dataset",
]
