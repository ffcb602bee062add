"""Echocardiograms with ground truth: anatomy, motion, a scanner in beam space, and haze."""

from .anatomy import VIEWS
from .bank import frame_bank
from .clip import SPLITS, SimulatedClip, patient_seed, simulate
from .dataset import write_dataset
from .overlay import lay_haze

__all__ = ["SPLITS", "VIEWS", "SimulatedClip", "frame_bank", "lay_haze", "patient_seed", "simulate", "write_dataset"]
