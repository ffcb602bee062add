"""The prior's network: a small 2-D U-Net on a pixel-unshuffled grid.

Each 4 x 4 patch of pixels becomes one site with 16 channels (space-to-depth), so that a 256 x 256 frame is processed as
64 x 64 sites; the same channels at full resolution would cost sixteen times as much. Normalisation is over the channels
of each site, which is cheap and the same for a crop as for the whole frame. A thin residual pair of convolutions at
full resolution removes traces of the patch grid.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from nuclear_diffusion.errors import require
from nuclear_diffusion.priors.convolution import Conv
from nuclear_diffusion.priors.diffusion_prior import SEEN
from nuclear_diffusion.types import Frame, Scalar

Features = Float[Array, "1 _ _ _"]
"""(1, height, width, channels), whose sizes change from layer to layer."""


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """Architecture of a `UNet`, stored as JSON with the weights.

    `grid`: side of the patch that becomes one site, pixels. `widths`: channels of each level, finest first; each
    level halves the resolution. `blocks`: residual blocks per level and direction, and in the middle.
    `embedding`: width of the noise embedding. `fine`: channels of the full-resolution correction, 0 for none.
    `haze_aware`: whether the network also takes inputs from a hazy clip.
    """

    grid: int = 4
    widths: tuple[int, ...] = (40, 64, 96, 128)
    blocks: int = 2
    embedding: int = 128
    fine: int = 8
    haze_aware: bool = False

    def __post_init__(self):
        for name, most in {"grid": 64, "blocks": 16, "embedding": 4096, "fine": 1024}.items():
            least, size = int(name != "fine"), getattr(self, name)
            require(least <= size <= most, f"`{name}` must be between {least} and {most}, got {size}.")
        levels, widest = 8, 4096
        require(
            0 < len(self.widths) <= levels and min(self.widths) > 0 and max(self.widths) <= widest,
            f"`widths` must name 1 to {levels} widths between 1 and {widest}, got {self.widths[: levels + 1]}.",
        )
        require(self.embedding % 2 == 0, f"`embedding` must be even (sines and cosines), got {self.embedding}.")

    @property
    def stride(self) -> int:
        """Height and width must be multiples of this, pixels."""
        return self.grid * 2 ** (len(self.widths) - 1)


class Dense(eqx.Module):
    """Affine map of a vector."""

    weight: Float[Array, "c_in c_out"]
    bias: Float[Array, " c_out"]

    def __init__(self, c_in: int, c_out: int, *, key: PRNGKeyArray):
        self.weight = 1 / c_in**0.5 * jax.random.normal(key, (c_in, c_out))
        self.bias = jnp.zeros(c_out)

    def __call__(self, x: Float[Array, " c_in"]) -> Float[Array, " c_out"]:
        """X W + b."""
        return x @ self.weight + self.bias


class NoiseEmbedding(eqx.Module):
    """Noise level to a vector: Fourier features of c_noise = ln(sigma)/4, then a two-layer perceptron."""

    hidden: Dense
    out: Dense

    def __init__(self, width: int, *, key: PRNGKeyArray):
        first, second = jax.random.split(key)
        self.hidden = Dense(width, width, key=first)
        self.out = Dense(width, width, key=second)

    def __call__(self, c_noise: Scalar) -> Float[Array, " width"]:
        """Embed `c_noise` (-1.6 to 1.1 for noise levels of 0.002 to 80) with periods from 1/2 to 32."""
        half = self.hidden.weight.shape[0] // 2
        angle = 2 * jnp.pi * c_noise * jnp.geomspace(1 / 32, 2, half)
        features = jnp.sqrt(2.0) * jnp.concatenate([jnp.sin(angle), jnp.cos(angle)])
        features = features.astype(self.hidden.weight.dtype)
        return jax.nn.silu(self.out(jax.nn.silu(self.hidden(features))))


def rms_norm(x: Features) -> Features:
    """Unit root mean square over the channels of each site; statistics in float32."""
    power = jnp.mean(jnp.square(x.astype(jnp.float32)), axis=-1, keepdims=True)
    return x * lax.rsqrt(power + 1e-6).astype(x.dtype)


class Block(eqx.Module):
    """Residual block: norm, SiLU, conv, norm scaled and shifted by the noise embedding, SiLU, conv; plus input."""

    first: Conv
    modulation: Dense
    second: Conv
    shortcut: Conv | None

    def __init__(self, c_in: int, c_out: int, embedding: int, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 4)
        self.first = Conv.random(c_in, c_out, key=keys[0])
        self.modulation = Dense(embedding, 2 * c_out, key=keys[1])
        self.second = Conv.random(c_out, c_out, key=keys[2], gain=0.1)
        self.shortcut = Conv.random(c_in, c_out, size=1, key=keys[3]) if c_in != c_out else None

    def __call__(self, x: Features, embedding: Float[Array, " width"]) -> Features:
        """(1, H, W, c_in) -> (1, H, W, c_out)."""
        scale, shift = jnp.split(self.modulation(embedding), 2)
        h = self.first(jax.nn.silu(rms_norm(x)))
        h = self.second(jax.nn.silu(rms_norm(h) * (1 + scale) + shift))
        return h + (x if self.shortcut is None else self.shortcut(x))


def space_to_depth(x: Features, size: int) -> Features:
    """(1, H, W, c) -> (1, H/size, W/size, c size^2): each patch of pixels becomes one site."""
    _, height, width, channels = x.shape
    x = x.reshape(1, height // size, size, width // size, size, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(1, height // size, width // size, -1)


def depth_to_space(x: Features, size: int) -> Features:
    """Inverse of `space_to_depth`."""
    _, height, width, channels = x.shape
    x = x.reshape(1, height, width, size, size, channels // size**2)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(1, height * size, width * size, -1)


def halve(x: Features) -> Features:
    """Mean of each 2 x 2 patch."""
    _, height, width, channels = x.shape
    return x.reshape(1, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def double(x: Features) -> Features:
    """Repeat each site 2 x 2."""
    _, height, width, channels = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (1, height, 2, width, 2, channels))
    return x.reshape(1, 2 * height, 2 * width, channels)


class UNet(eqx.Module):
    """F_theta(frame, c_noise) -> frame of the same shape (h, w), both multiples of `config.stride`.

    The network inside EDM's preconditioning (Karras et al. 2022, Table 1): input and output have about unit variance.
    The head is initialised to zero, so that an untrained denoiser is c_skip x.
    """

    stem: Conv
    embed: NoiseEmbedding
    down: list[list[Block]]
    middle: list[Block]
    up: list[list[Block]]
    head: Conv
    fine: tuple[Conv, Conv] | None
    config: UNetConfig = eqx.field(static=True)

    def __init__(self, config: UNetConfig | None = None, *, key: PRNGKeyArray):
        config = UNetConfig() if config is None else config
        levels, blocks = len(config.widths), config.blocks
        keys = iter(jax.random.split(key, 5 + (2 * levels + 1) * blocks))

        def block(c_in: int, c_out: int) -> Block:
            return Block(c_in, c_out, config.embedding, key=next(keys))

        patch = config.grid**2
        inputs = 1 + SEEN if config.haze_aware else 1
        self.stem = Conv.random(inputs * patch, config.widths[0], key=next(keys))
        self.embed = NoiseEmbedding(config.embedding, key=next(keys))
        self.down, self.up = [], []
        width = config.widths[0]
        for c in config.widths:
            self.down.append([block(width if i == 0 else c, c) for i in range(blocks)])
            width = c
        self.middle = [block(width, width) for _ in range(blocks)]
        for c in reversed(config.widths[:-1]):
            # The first block of a level takes the upsampled coarser level and the skip of its own level.
            self.up.append([block(width + c if i == 0 else c, c) for i in range(blocks)])
            width = c
        self.head = Conv.random(width, (2 if config.haze_aware else 1) * patch, key=next(keys), gain=0.0)
        self.fine = None
        if config.fine:
            self.fine = (
                Conv.random(1 + inputs, config.fine, key=next(keys)),
                Conv.random(config.fine, 1, key=next(keys), gain=0.0),
            )
        self.config = config

    def blind(self) -> "UNet":
        """The network without the weights for a hazy clip; the same function of a frame without a clip."""
        if not self.config.haze_aware:
            return self
        inputs, patch = 1 + SEEN, self.config.grid**2
        frames = np.arange(inputs * patch).reshape(patch, inputs)[:, 0]  # a site's inputs from the frame itself
        kernels = [self.stem.kernel[:, :, frames], self.head.kernel[..., ::2], self.head.bias[::2]]
        changed = eqx.tree_at(lambda n: [n.stem.kernel, n.head.kernel, n.head.bias], self, kernels)
        if self.fine is not None:
            changed = eqx.tree_at(lambda n: n.fine[0].kernel, changed, self.fine[0].kernel[:, :, np.array([0, inputs])])
        config = dataclasses.replace(self.config, haze_aware=False)
        structure = jax.tree.structure(eqx.filter_eval_shape(UNet, config, key=jax.random.key(0)))
        return jax.tree.unflatten(structure, jax.tree.leaves(changed))

    def __call__(self, frame: Frame, c_noise: Scalar, seen: Float[Array, "seen height width"] | None = None) -> Frame:
        """Run the network on one frame (`vmap` for several); `seen`: a haze-aware network's inputs from the hazy clip.

        Raises ValueError if the frame's sides are not divisible by `config.stride`.
        """
        if frame.shape[0] % self.config.stride or frame.shape[1] % self.config.stride:
            raise ValueError(f"`frame` must have sides divisible by {self.config.stride}, got {frame.shape}")
        embedding = self.embed(c_noise)
        inputs = [frame] if seen is None else [frame, *seen]
        pixels = jnp.stack(inputs, axis=-1)[None].astype(self.stem.kernel.dtype)
        h = self.stem(space_to_depth(pixels, self.config.grid))
        skips = []
        for level, blocks in enumerate(self.down):
            if level > 0:
                h = halve(h)
            for block in blocks:
                h = block(h, embedding)
            skips.append(h)
        skips.pop()
        for block in self.middle:
            h = block(h, embedding)
        for blocks in self.up:
            h = jnp.concatenate([double(h), skips.pop()], axis=-1)
            for block in blocks:
                h = block(h, embedding)
        out = depth_to_space(self.head(jax.nn.silu(rms_norm(h))), self.config.grid)
        if seen is not None:
            # part of the hazy frame bypasses the coarse grid: where there is no haze, its speckle is the answer
            value, share = jnp.split(out, 2, axis=-1)
            out = value + share * pixels[..., 1:2]
        if self.fine is not None:
            widen, narrow = self.fine
            out = out + narrow(jax.nn.silu(widen(jnp.concatenate([pixels, out], axis=-1))))
        return out[0, :, :, 0].astype(frame.dtype)
