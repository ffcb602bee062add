"""Weights on disk: safetensors files with the architecture as JSON metadata. Nothing is ever unpickled."""

import dataclasses
import hashlib
import importlib.resources
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.files import write
from nuclear_diffusion.priors.diffusion_prior import DiffusionPrior
from nuclear_diffusion.priors.unet import UNet, UNetConfig
from nuclear_diffusion.priors.variance_preserving import VariancePreserving
from nuclear_diffusion.priors.zea_preset import is_preset, load_preset

PRIOR_FORMAT = "nuclear-diffusion prior 1"
SHIPPED = ("echo",)


def named_arrays(tree: Any) -> dict[str, np.ndarray]:
    """All arrays of a pytree by dotted path, such as `down.0.1.first.kernel`, in row-major order."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(eqx.filter(tree, eqx.is_array))
    return {_dotted(path): np.asarray(leaf, order="C") for path, leaf in leaves}


def fill_arrays(template: Any, arrays: Mapping[str, np.ndarray], source: str) -> Any:
    """Fill the pytree `template` (arrays or shapes) with named arrays, cast to its types.

    Raises InputError, naming `source`, if an array is missing, unknown or of another shape.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(template)
    names = [_dotted(path) for path, _ in leaves]
    missing, extra = sorted(set(names) - set(arrays)), sorted(set(arrays) - set(names))
    if missing or extra:
        what = f"lacks {missing[0]!r}" if missing else f"has an unknown tensor {extra[0]!r}"
        raise InputError(
            f"{source} holds weights of another architecture (it {what}): give weights made by this version's `train`."
        )
    filled = []
    for name, (_, leaf) in zip(names, leaves, strict=True):
        array = arrays[name]
        if array.shape != leaf.shape:
            raise InputError(
                f"{source} holds weights of another architecture ({name!r} has shape {array.shape}, its metadata say "
                f"{leaf.shape}): give weights made by this version's `train`."
            )
        # NumPy casts, because JAX would compile a cast for each shape.
        filled.append(jnp.asarray(array.astype(leaf.dtype)))
    return jax.tree_util.tree_unflatten(structure, filled)


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors and metadata of a safetensors file; raises InputError for anything else, without running it."""
    path = Path(path)
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise InputError(f"The weights {path} {what}: give a .safetensors file.")
    with open(path, "rb") as file:
        head = file.read(9)
    # A safetensors file starts with the length of its JSON header (8 bytes), then the header.
    if len(head) < 9 or head[8:] != b"{":
        raise InputError(
            f"{path} is not a safetensors file: convert the weights to safetensors; pickles (.pt, .pkl, .ckpt) are "
            "never opened."
        )
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is damaged or cut short ({error}): copy it again.") from error


def save_prior(path: Path, prior: DiffusionPrior, info: Mapping[str, Any] | None = None, *, half: bool = True) -> None:
    """Write a prior whose network is a `UNet` as safetensors, atomically.

    `info`: JSON-serialisable facts about the training, read back by `prior_info`. `half`: store float16, which rounds
    the weights to 11 bits; once loaded, the network computes in float32.
    """
    network = prior.network
    if not isinstance(network, UNet):
        raise ValueError(f"`prior` must hold a `UNet`, got {type(network).__name__}")
    dtype = np.float16 if half else np.float32
    tensors = {name: array.astype(dtype) for name, array in named_arrays(network).items()}
    metadata = {
        "format": PRIOR_FORMAT,
        "architecture": json.dumps(dataclasses.asdict(network.config)),
        "mean": repr(float(prior.mean)),
        "scale": repr(float(prior.scale)),
        "sigma_min": repr(float(prior.sigma_min)),
        "sigma_max": repr(float(prior.sigma_max)),
        "info": json.dumps(dict(info or {})),
    }
    write(path, save(tensors, metadata))


def load_prior(name_or_path: str | Path = "echo") -> DiffusionPrior | VariancePreserving:
    """Load the shipped prior "echo", a file that `save_prior` wrote, or the folder of a training run or a zea preset.

    Weights are float32. Nothing is downloaded. Raises InputError for a missing, damaged or unknown file.
    """
    path = Path(name_or_path)
    is_folder = str(name_or_path) not in SHIPPED and is_preset(path)
    return load_preset(path) if is_folder else load_trained(name_or_path)


def as_blind(prior: DiffusionPrior) -> DiffusionPrior:
    """The same p(X) with a network without the hazy input, as a start for training on clean frames only."""
    network = prior.network
    if not isinstance(network, UNet):
        raise ValueError(f"`prior` must hold a `UNet`, got {type(network).__name__}")
    return dataclasses.replace(prior, network=network.blind(), haze_aware=False)


def load_trained(name_or_path: str | Path = "echo") -> DiffusionPrior:
    """As `load_prior`, but without zea presets."""
    if str(name_or_path) in SHIPPED:
        resource = importlib.resources.files("nuclear_diffusion.priors") / "weights" / f"{name_or_path}.safetensors"
        if not resource.is_file():
            raise InputError(
                f"The shipped prior {str(name_or_path)!r} is missing from this installation: reinstall the package, "
                "or give the path of a prior you trained."
            )
        with importlib.resources.as_file(resource) as path:
            return _load(path)
    path = Path(name_or_path)
    return _load(path / "prior.safetensors" if (path / "prior.safetensors").is_file() else path)


def prior_info(path: Path) -> dict[str, Any]:
    """The `info` stored by `save_prior`."""
    return json.loads(_prior_metadata(path, read_safetensors(path)[1])["info"])


def prior_hash(prior: DiffusionPrior | VariancePreserving) -> str:
    """Hexadecimal SHA-256 of the weights (names, shapes, float32 bytes), mean, scale and noise range."""
    digest = hashlib.sha256()
    numbers = (float(prior.mean), float(prior.scale), float(prior.sigma_min), float(prior.sigma_max))
    digest.update(repr(numbers).encode())
    for name, array in sorted(named_arrays(prior.network).items()):
        digest.update(f"{name} {array.shape}".encode())
        digest.update(array.astype("<f4").tobytes())
    return digest.hexdigest()


def _load(path: Path) -> DiffusionPrior:
    tensors, metadata = read_safetensors(path)
    metadata = _prior_metadata(path, metadata)
    try:
        architecture = json.loads(metadata["architecture"])
        config = UNetConfig(**{**architecture, "widths": tuple(architecture["widths"])})
        mean, scale, sigma_min, sigma_max = (
            float(metadata[name]) for name in ("mean", "scale", "sigma_min", "sigma_max")
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} does not describe a network of this version ({error}): give weights made by its `train`."
        ) from error
    template = eqx.filter_eval_shape(UNet, config, key=jax.random.key(0))
    network = fill_arrays(template, tensors, str(path))
    return DiffusionPrior(network, mean, scale, sigma_min, sigma_max, config.stride, config.haze_aware)


def _prior_metadata(path: Path, metadata: dict[str, str]) -> dict[str, str]:
    if metadata.get("format") != PRIOR_FORMAT:
        raise InputError(
            f"{path} holds weights of another architecture (its metadata do not say {PRIOR_FORMAT!r}): give the "
            "prior.safetensors that `train` wrote."
        )
    return metadata


def _dotted(path: tuple[Any, ...]) -> str:
    def part(key: Any) -> str:
        for attribute in ("name", "key", "idx"):
            if hasattr(key, attribute):
                return str(getattr(key, attribute))
        raise TypeError(f"unnamed leaf at {key!r}")

    return ".".join(part(key) for key in path)
