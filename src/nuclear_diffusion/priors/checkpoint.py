"""Weights on disk: safetensors files with the architecture as JSON metadata. Nothing is ever unpickled."""

import dataclasses
import functools
import hashlib
import importlib.resources
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import equinox as eqx
import jax
import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from nuclear_diffusion.errors import InputError, did_you_mean, unreadable
from nuclear_diffusion.files import write
from nuclear_diffusion.priors.diffusion_prior import DiffusionPrior
from nuclear_diffusion.priors.unet import UNet, UNetConfig
from nuclear_diffusion.priors.variance_preserving import VariancePreserving
from nuclear_diffusion.priors.zea_preset import MAX_WEIGHTS, is_preset, load_preset
from nuclear_diffusion.text import decode_json, require_file

PRIOR_FORMAT = "nuclear-diffusion prior 1"
SHIPPED = ("echo", "echo-blind")
"""The haze-aware prior, trained on pairs of hazy and clean clips, and one as the paper's, trained on clean frames."""
MAX_HEADER = 1 << 23  # longest header of a safetensors file, bytes
SMALLEST_SIGMA, LARGEST_SIGMA = 1e-6, 1e6  # plausible noise levels, for intensity in [0, 1]; ours are from 0.002 to 80


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
        filled.append(array.astype(leaf.dtype))
    # Cast by NumPy and sent as they are: JAX would compile a program for each shape.
    return jax.tree_util.tree_unflatten(structure, jax.device_put(filled))


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors and metadata of a safetensors file; raises InputError for anything else, without running it.

    The header is checked before anything is allocated: the library refuses tensors that are not in the file.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"The weights {path} are a folder, not a file: give a .safetensors file.")
    if not path.exists():
        raise InputError(f"The weights {path} do not exist: give a .safetensors file.")
    size = require_file(path, "a safetensors file", max_bytes=MAX_WEIGHTS)
    try:
        with open(path, "rb") as file:
            head = file.read(9)
            # A safetensors file starts with the length of its JSON header (8 bytes), then the header.
            if len(head) < 9 or head[8:] != b"{":
                raise InputError(
                    f"{path} is not a safetensors file: convert the weights to safetensors; pickles (.pt, .pkl, .ckpt) "
                    "are never opened."
                )
            length = int.from_bytes(head[:8], "little")
            if length > min(size - 8, MAX_HEADER):
                raise InputError(f"{path} is damaged or cut short (its header has {length} bytes): copy it again.")
            decode_json(
                head[8:] + file.read(length - 1), dict[str, _Entry], str(path), "a safetensors file", "copy it again"
            )
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except InputError:
        raise
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:  # the last two: unknown types
        raise unreadable(path, error, f"{path} is damaged or cut short ({error}): copy it again.") from error


_Entry = dict[str, str | int | list[int]]
"""What a safetensors header says of a tensor (dtype, shape, data_offsets), or its metadata."""


def save_prior(path: Path, prior: DiffusionPrior, info: Mapping[str, Any] | None = None, *, half: bool = True) -> None:
    """Write a prior whose network is a `UNet` as safetensors with the hash of its tensors, atomically.

    `info`: JSON-serialisable facts about the training, kept in the file's metadata. `half`: store float16, which rounds
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
        "sha256": tensors_hash(tensors),
    }
    write(path, save(tensors, metadata))


def load_prior(name_or_path: str | Path = "echo") -> DiffusionPrior | VariancePreserving:
    """Load a shipped prior, a file that `save_prior` wrote, or the folder of a training run or a zea preset.

    "echo" is haze-aware, "echo-blind" knows clean frames only, as the paper's prior.

    Weights are float32. Nothing is downloaded. Raises InputError for a missing, damaged or unknown file.
    """
    if str(name_or_path) not in SHIPPED and is_preset(Path(name_or_path)):
        return load_preset(Path(name_or_path))
    return load_trained(name_or_path)


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
    if not path.exists():
        known = f"give {', '.join(SHIPPED)} or a .safetensors file"
        raise InputError(f"The weights {path} do not exist: {known}{did_you_mean(str(path), SHIPPED)}")
    return _load(path / "prior.safetensors" if (path / "prior.safetensors").is_file() else path)


def prior_hash(prior: DiffusionPrior | VariancePreserving) -> str:
    """Hexadecimal SHA-256 of the weights (names, shapes, float32 bytes), mean, scale and noise range."""
    digest = hashlib.sha256()
    numbers = (float(prior.mean), float(prior.scale), float(prior.sigma_min), float(prior.sigma_max))
    digest.update(repr(numbers).encode())
    for name, array in sorted(named_arrays(prior.network).items()):
        digest.update(f"{name} {array.shape}".encode())
        digest.update(array.astype("<f4").tobytes())
    return digest.hexdigest()


class _Numbers(msgspec.Struct):
    """The numbers among a prior's metadata, stored as text."""

    mean: Annotated[float, msgspec.Meta(ge=0, le=1)]
    scale: Annotated[float, msgspec.Meta(gt=0, le=1)]
    sigma_min: Annotated[float, msgspec.Meta(ge=SMALLEST_SIGMA)]
    sigma_max: Annotated[float, msgspec.Meta(le=LARGEST_SIGMA)]


def _load(path: Path) -> DiffusionPrior:
    tensors, metadata = read_safetensors(path)
    if metadata.get("format") != PRIOR_FORMAT:
        raise InputError(
            f"{path} holds weights of another architecture (its metadata do not say {PRIOR_FORMAT!r}): give the "
            "prior.safetensors that `train` wrote."
        )
    config = _architecture(path, metadata.get("architecture", ""))
    try:
        numbers = msgspec.convert(metadata, _Numbers, strict=False)
    except msgspec.ValidationError as error:
        raise InputError(
            f"{path} is not a plausible prior ({error}): give weights made by this version's `train`."
        ) from error
    with np.errstate(over="ignore"):
        for name, array in tensors.items():
            if array.dtype.kind != "f" or not np.isfinite(np.abs(array).max(initial=0).astype(np.float32)):
                raise InputError(f"{path} is not a usable prior ({name!r} is not finite): copy it again.")
    network = fill_arrays(_template(config), tensors, str(path))
    if metadata.get("sha256", known := tensors_hash(tensors)) != known:
        raise InputError(f"{path} is damaged (its weights have another hash than when it was written): copy it again.")
    return DiffusionPrior(
        network, numbers.mean, numbers.scale, numbers.sigma_min, numbers.sigma_max, config.stride, config.haze_aware
    )


@functools.cache
def _template(config: UNetConfig) -> UNet:
    """The shapes of a network's arrays, which take as long to find as the weights take to read."""
    return eqx.filter_eval_shape(UNet, config, key=jax.random.key(0))


def _architecture(path: Path, text: str) -> UNetConfig:
    what, advice = "a prior of this version", "give weights made by its `train`"
    named = decode_json(text, dict[str, Any], f"The architecture in {path}", what, advice)
    known = {field.name for field in dataclasses.fields(UNetConfig)}
    try:
        if unknown := sorted(named.keys() - known):
            raise InputError(f"it has an unknown {unknown[0]!r}")
        return msgspec.convert(named, UNetConfig)
    except (ValueError, TypeError) as error:
        raise InputError(f"The architecture in {path} is not {what} ({error}): {advice}.") from error


def tensors_hash(tensors: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of names, shapes, types and bytes."""
    digest = hashlib.sha256()
    for name, array in sorted(tensors.items()):
        digest.update(f"{name} {array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _dotted(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
