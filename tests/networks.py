"""Networks with random weights that NumPy draws: JAX would compile a program for each shape of a layer."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nuclear_diffusion.priors.diffusion_prior import DiffusionPrior
from nuclear_diffusion.priors.unet import UNet, UNetConfig


def random_unet(config: UNetConfig, seed: int = 0) -> UNet:
    """A network none of whose weights is zero, each of about the size that training begins with."""
    rng = np.random.default_rng(seed)

    def drawn(weight: jax.ShapeDtypeStruct) -> jax.Array:
        fan_in = np.prod(weight.shape[:-1]) if len(weight.shape) > 1 else np.inf
        return jnp.asarray((0.1 + fan_in**-0.5) * rng.standard_normal(weight.shape), weight.dtype)

    return jax.tree.map(drawn, eqx.filter_eval_shape(UNet, config, key=jax.random.key(0)))


def random_prior(config: UNetConfig, mean: float = 0.2, scale: float = 0.25, seed: int = 0) -> DiffusionPrior:
    """The prior of such a network."""
    network = random_unet(config, seed)
    return DiffusionPrior(network, mean, scale, 0.002, 10.0, config.stride, haze_aware=config.haze_aware)
