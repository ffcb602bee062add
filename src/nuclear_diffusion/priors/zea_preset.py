"""Diffusion priors published as zea presets: a folder with config.json and Keras weights in HDF5.

The authors' prior is one of them (hf://tristan-deep/semantic-diffusion-echo-dehazing). Only plain arrays are read;
nothing is downloaded, unpickled or run.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import equinox as eqx
import h5py
import jax
import jax.numpy as jnp
import msgspec
import numpy as np
from jax import lax
from jaxtyping import Array, Float
from numpy import ndarray

from nuclear_diffusion.errors import InputError, require, unreadable
from nuclear_diffusion.priors.convolution import Conv, Features
from nuclear_diffusion.priors.variance_preserving import VariancePreserving
from nuclear_diffusion.text import read_json, require_file

ADVICE = "give a folder with all files of a zea preset"

MAX_WEIGHTS = 1 << 32  # largest file of weights, bytes
DENSEST = 4  # most bytes of weights per byte of their file; weights hardly compress

CONFIG, WEIGHTS, SHARDS = "config.json", "model.weights.h5", "model.weights.json"
NETWORK = "ema_network/layers/"  # group of the averaged network, the one meant for use, in the weights file


@dataclasses.dataclass(frozen=True)
class PresetConfig:
    """The network's settings in config.json, with zea's names."""

    min_signal_rate: float = 0.02
    max_signal_rate: float = 0.95
    widths: tuple[int, ...] = (32, 64, 96, 128)
    block_depth: int = 2
    embedding_min_frequency: float = 1.0
    embedding_max_frequency: float = 1000.0
    embedding_dims: int = 32

    def __post_init__(self):
        sizes = (*self.widths, self.block_depth, self.embedding_dims // 2)
        require(
            0 < len(self.widths) <= 8 and min(sizes) >= 1 and self.embedding_dims % 2 == 0,
            "widths, block_depth and embedding_dims must be positive, the last one even",
        )
        require(
            max(self.widths) <= 4096 and self.block_depth <= 16 and self.embedding_dims <= 4096,
            "widths and embedding_dims must be at most 4096, block_depth at most 16",
        )
        require(
            0 < self.embedding_min_frequency <= self.embedding_max_frequency <= 1e6,
            "embedding frequencies must be positive, ascending and at most 1e6",
        )
        require(
            1e-3 <= self.min_signal_rate < self.max_signal_rate <= 1 - 1e-6,
            "signal rates must lie between 0 and 1 and ascend",
        )

    @property
    def stride(self) -> int:
        """Height and width must be multiples of this, pixels."""
        return 2 ** (len(self.widths) - 1)


class _Network(msgspec.Struct):
    """`network_kwargs` in config.json; a null counts as missing."""

    widths: tuple[int, ...] | None = None
    block_depth: int | None = None
    embedding_min_frequency: float | None = None
    embedding_max_frequency: float | None = None
    embedding_dims: int | None = None
    normalization: str | None = "batch_norm"


class _Content(msgspec.Struct):
    """What we use of `config` in config.json."""

    network_name: str
    input_shape: list[int | None]
    network_kwargs: _Network | None = None
    input_range: tuple[float, float] = (0, 1)
    max_t: float | None = 1.0
    min_signal_rate: float | None = None
    max_signal_rate: float | None = None


class _File(msgspec.Struct):
    """config.json."""

    config: _Content


class Block(eqx.Module):
    """Residual block: normalisation of each channel with stored statistics, conv, SiLU, conv; plus input."""

    mean: Float[Array, " c_in"]
    variance: Float[Array, " c_in"]
    first: Conv
    second: Conv
    shortcut: Conv | None

    def __call__(self, x: Features) -> Features:
        """(batch, H, W, c_in) -> (batch, H, W, c_out)."""
        h = (x - self.mean) * lax.rsqrt(self.variance + 1e-3)
        h = self.second(jax.nn.silu(self.first(h)))
        return h + (x if self.shortcut is None else self.shortcut(x))


class PresetUNet(eqx.Module):
    """zea's `unet_time_conditional`: the noise in frames of X_tau whose sides are multiples of the stride.

    The noise variance enters as [sin, cos](2 pi f sigma^2), one constant map per feature next to the stem's output,
    with `embedding_dims` / 2 log-spaced frequencies f. At f = 1000, float32 rounding of f or sigma^2 shifts the phase
    by 1e-4 of a turn, so f is computed here rather than stored, to be rounded as in zea.
    Downsampling averages 2 x 2 pixels, upsampling is bilinear, and each block on the way up takes the output of one
    block on the way down, in reverse order.
    """

    stem: Conv
    down: list[list[Block]]
    middle: list[Block]
    up: list[list[Block]]
    head: Conv
    config: PresetConfig = eqx.field(static=True)

    def __call__(
        self, frames: Float[Array, "batch height width"], variance: Float[Array, "batch 1 1"]
    ) -> Float[Array, "batch height width"]:
        """eps_theta(X_tau), frame by frame; `variance` is sigma^2 = 1 - alpha^2."""
        low, high = jnp.log(self.config.embedding_min_frequency), jnp.log(self.config.embedding_max_frequency)
        frequencies = jnp.exp(jnp.linspace(low, high, self.config.embedding_dims // 2))
        angle = 2 * jnp.pi * frequencies * variance[..., None]
        embedding = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)
        h = self.stem(frames[..., None])
        h = jnp.concatenate([h, jnp.broadcast_to(embedding, (*h.shape[:3], embedding.shape[-1]))], axis=-1)
        skips = []
        for blocks in self.down:
            for block in blocks:
                h = block(h)
                skips.append(h)
            batch, height, width, channels = h.shape
            h = h.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))
        for block in self.middle:
            h = block(h)
        for blocks in self.up:
            batch, height, width, channels = h.shape
            h = jax.image.resize(h, (batch, 2 * height, 2 * width, channels), "bilinear")
            for block in blocks:
                h = block(jnp.concatenate([h, skips.pop()], axis=-1))
        return self.head(h)[..., 0]


def is_preset(folder: Path) -> bool:
    """Whether `folder` looks like a zea preset."""
    return (folder / CONFIG).is_file()


def load_preset(folder: Path) -> VariancePreserving:
    """The prior in a zea preset folder: config.json, and model.weights.h5 or model.weights.json with shards.

    Raises InputError, naming the file, if something is missing, damaged or of another architecture.
    """
    folder = Path(folder)
    config = read_config(folder / CONFIG)
    layers = Layers(read_network(folder), str(folder))
    network = build_network(config, layers)
    layers.require_all_used()
    return VariancePreserving(network, config.min_signal_rate, config.max_signal_rate, config.stride)


def read_config(path: Path) -> PresetConfig:
    """Read config.json; keys that do not affect the network's output are ignored."""
    content = read_json(path, _File, "a zea DiffusionModel preset", ADVICE).config
    network = content.network_kwargs or _Network()
    _require(path, "network_name", content.network_name, "unet_time_conditional")
    _require(path, "network_kwargs.normalization", network.normalization, "batch_norm")
    _require(path, "input_range", list(content.input_range), [-1, 1])
    _require(path, "max_t", content.max_t, 1.0)
    if len(content.input_shape) != 3 or content.input_shape[-1] != 1:
        raise InputError(f"{path} has input_shape {content.input_shape}: only [height, width, 1] is supported.")
    names = [field.name for field in dataclasses.fields(PresetConfig)]
    given = {**msgspec.structs.asdict(content), **msgspec.structs.asdict(network)}
    try:
        return PresetConfig(**{name: given[name] for name in names if given.get(name) is not None})
    except InputError as error:
        raise InputError(f"{path} describes a network that cannot be built ({error}): {ADVICE}.") from error


def _require(path: Path, name: str, value: object, supported: object) -> None:
    if value != supported:
        raise InputError(f"{path} has {name} = {value!r}: only {supported!r} is supported.")


def read_network(folder: Path) -> dict[str, ndarray]:
    """The averaged network's arrays by name, such as `conv2d_3/vars/0`, from one file or from shards."""
    files = [folder / WEIGHTS]
    if not files[0].exists():
        index = folder / SHARDS
        if not index.exists():
            raise InputError(f"The preset {folder} holds neither {WEIGHTS} nor {SHARDS}: copy all of its files.")
        files = list(_shards(index))
    arrays: dict[str, ndarray] = {}
    for path in files:
        if not path.exists():
            raise InputError(f"The preset {folder} lacks {path.name}: copy all of its files.")
        require_file(path, "an HDF5 file", max_bytes=MAX_WEIGHTS)
        try:
            with h5py.File(path, "r") as file:
                arrays |= dict(_datasets(file))
        except InputError:
            raise
        except Exception as error:  # HDF5 raises anything on damaged files
            sentence = f"{path} is not an HDF5 file or is cut short ({error}): copy it again."
            raise unreadable(path, error, sentence) from error
    return arrays


def _datasets(file: h5py.File) -> Iterator[tuple[str, ndarray]]:
    """Plain datasets of the averaged network, without following links to other files."""
    found: list[str] = []
    file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    left = DENSEST * Path(file.filename).stat().st_size
    for name in found:
        dataset = file[name]
        if not name.startswith(NETWORK) or not isinstance(dataset, h5py.Dataset):
            continue
        if dataset.external or dataset.is_virtual or dataset.dtype.kind != "f":
            raise InputError(f"{file.filename} has no plain array of floats at {name!r}: copy it again.")
        left -= dataset.nbytes
        if left < 0:  # before it is allocated
            raise InputError(f"{file.filename} is too short for its array {name!r}, {dataset.shape}: copy it again.")
        yield name.removeprefix(NETWORK), np.asarray(dataset[()])


class _Shards(msgspec.Struct):
    """model.weights.json."""

    weight_map: dict[str, str | list[str]]


def _shards(index: Path) -> Iterator[Path]:
    listed = read_json(index, _Shards, "a list of a preset's shards", ADVICE).weight_map.values()
    names = [name for entry in listed for name in (entry if isinstance(entry, list) else [entry])]
    for name in dict.fromkeys(names):
        if Path(name).name != name or "\0" in name:
            raise InputError(f"{index} names {name!r}, which is no file of the preset: {ADVICE}.")
        yield index.parent / name


class Layers:
    """The network's layers, taken in the order in which Keras numbered them.

    Keras numbers convolutions and normalisations separately: `conv2d`, `conv2d_1`, ... A block's shortcut comes last.
    """

    def __init__(self, arrays: dict[str, ndarray], source: str):
        self.arrays, self.source = dict(arrays), source
        self.counts = {"conv2d": 0, "batch_normalization": 0}

    def conv(self, c_in: int, c_out: int, size: int) -> Conv:
        """The next convolution."""
        return Conv(*self.take("conv2d", (size, size, c_in, c_out), (c_out,)))

    def block(self, c_in: int, c_out: int) -> Block:
        """The next residual block."""
        mean, variance = self.take("batch_normalization", (c_in,), (c_in,))
        first, second = self.conv(c_in, c_out, 3), self.conv(c_out, c_out, 3)
        return Block(mean, variance, first, second, self.conv(c_in, c_out, 1) if c_in != c_out else None)

    def require_all_used(self) -> None:
        """Raise InputError if the weights contain arrays that the network does not use."""
        if self.arrays:
            raise self._mismatch(f"it has an unknown {min(self.arrays)!r}")

    def take(self, kind: str, *shapes: tuple[int, ...]) -> list[Array]:
        """The arrays of the next layer of `kind`, `conv2d` or `batch_normalization`."""
        layer = kind if self.counts[kind] == 0 else f"{kind}_{self.counts[kind]}"
        self.counts[kind] += 1
        arrays = []
        for number, shape in enumerate(shapes):
            name = f"{layer}/vars/{number}"
            if name not in self.arrays:
                raise self._mismatch(f"it lacks {name!r}")
            array = self.arrays.pop(name)
            if array.shape != shape or array.dtype.kind != "f":
                raise self._mismatch(f"{name!r} is {array.dtype} {array.shape} where {CONFIG} asks for {shape}")
            if not np.isfinite(array).all() or (kind == "batch_normalization" and number == 1 and (array < 0).any()):
                raise InputError(
                    f"{self.source} is not a usable prior ({name!r} is not finite, or a negative variance)."
                )
            # NumPy casts, because JAX would compile a cast for each shape.
            arrays.append(jnp.asarray(array.astype(np.float32)))
        return arrays

    def _mismatch(self, what: str) -> InputError:
        return InputError(f"{self.source} holds weights of another architecture ({what}): copy the preset again.")


def build_network(config: PresetConfig, layers: Layers) -> PresetUNet:
    """The network that `config` describes, with weights from `layers` in Keras's order."""
    *outer, deepest = config.widths
    stem = layers.conv(1, config.widths[0], 1)
    width = config.widths[0] + config.embedding_dims

    def blocks(wide: int, skipped: int = 0) -> list[Block]:
        """The blocks of a level, each with `skipped` more channels from the way down."""
        nonlocal width
        made = []
        for _ in range(config.block_depth):
            made.append(layers.block(width + skipped, wide))
            width = wide
        return made

    down, middle = [blocks(wide) for wide in outer], blocks(deepest)
    up = [blocks(wide, skipped=wide) for wide in reversed(outer)]
    return PresetUNet(stem, down, middle, up, layers.conv(width, 1, 1), config)
