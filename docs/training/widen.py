"""Weights of the first release for today's network: `python docs/training/widen.py OLD NEW`.

Today's network sees three more planes (mean, standard deviation and minimum over time) and gives a share of the hazy
frame beside its own value. Both start silent, so that the widened network computes what the old one did.
"""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from nuclear_diffusion.learning.checkpoint import read_safetensors
from nuclear_diffusion.model.diffusion_prior import SEEN


def widened(kernel: np.ndarray, axis: int, groups: int, at: int, by: int) -> np.ndarray:
    """`kernel` with `by` zero channels inserted at place `at` of each of the `groups` on `axis`."""
    moved = np.moveaxis(kernel, axis, -1)
    split = moved.reshape(*moved.shape[:-1], groups, -1)
    grown = np.insert(split, [at] * by, 0, axis=-1)
    return np.moveaxis(grown.reshape(*moved.shape[:-1], -1), -1, axis)


def main(old: Path, new: Path) -> None:
    tensors, metadata = read_safetensors(old)
    grid = json.loads(metadata["architecture"])["grid"]
    tensors["stem.kernel"] = widened(tensors["stem.kernel"], 2, grid**2, 2, SEEN - 1)
    tensors["fine.0.kernel"] = widened(tensors["fine.0.kernel"], 2, 1, 2, SEEN - 1)
    tensors["head.kernel"] = widened(tensors["head.kernel"], 3, grid**2, 1, 1)
    tensors["head.bias"] = widened(tensors["head.bias"], 0, grid**2, 1, 1)
    new.write_bytes(save({name: np.ascontiguousarray(array) for name, array in tensors.items()}, metadata))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
