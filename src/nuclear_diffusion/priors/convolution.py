"""The networks' convolution, with a custom gradient because JAX's is slow on a CPU.

The gradient with respect to the input is a convolution with the flipped kernel and swapped channels. JAX swaps them by
dimension name (HWOI), which XLA's CPU compiler maps to its fast library only at the top level; within `lax.scan` it
falls back to plain loops, several times slower. Here they are swapped in memory (timing: benchmarks/gradient.py).
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

Features = Float[Array, "batch _ _ _"]
"""(batch, height, width, channels): channels last, several times faster than first in XLA's CPU convolutions."""
Kernel = Float[Array, "size size c_in c_out"]


def plain_correlate(x: Features, kernel: Kernel) -> Features:
    """`correlate` with JAX's own gradient."""
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@jax.custom_vjp
def correlate(x: Features, kernel: Kernel) -> Features:
    """Zero-padded correlation, odd kernel size: (batch, H, W, c_in) -> (batch, H, W, c_out). Reverse mode only."""
    return plain_correlate(x, kernel)


def _correlate_forward(x: Features, kernel: Kernel) -> tuple[Features, tuple[Features, Kernel]]:
    return correlate(x, kernel), (x, kernel)


def _correlate_backward(kept: tuple[Features, Kernel], dy: Features) -> tuple[Features, Kernel]:
    x, kernel = kept
    # the barrier keeps the compiler from merging the swap into the convolution again
    flipped = lax.optimization_barrier(kernel[::-1, ::-1].swapaxes(2, 3))
    dx = correlate(dy, flipped)
    if len(x) == 1 and jax.default_backend() == "cpu":
        return dx, _kernel_gradient(len(kernel))(x, dy)
    (dkernel,) = jax.vjp(lambda k: plain_correlate(x, k), kernel)[1](dy)
    return dx, dkernel


def _kernel_gradient(size: int) -> Callable[[Features, Features], Kernel]:
    """dk[i, j] = sum over sites s of x[s] dy[s + reach - (i, j)]^T: one matrix product per row of the kernel.

    Takes about a third of XLA's time on a CPU. Frames are processed one by one even under `vmap`, so that each fits the
    processor's cache.
    """
    reach = size // 2

    @jax.custom_batching.sequential_vmap
    def of_frame(x: Features, dy: Features) -> Kernel:
        (_, height, width, c_in), c_out = x.shape, dy.shape[-1]
        padded = jnp.pad(dy[0], ((reach, reach), (reach, reach), (0, 0)))
        columns = jnp.concatenate([padded[:, j : j + width] for j in reversed(range(size))], axis=-1)
        sites = x.reshape(-1, c_in).T
        rows = [sites @ columns[i : i + height].reshape(-1, size * c_out) for i in reversed(range(size))]
        return jnp.stack(rows).reshape(size, c_in, size, c_out).swapaxes(1, 2)

    return of_frame


correlate.defvjp(_correlate_forward, _correlate_backward)


class Conv(eqx.Module):
    """Convolution, zero-padded to the same size: (batch, H, W, c_in) -> (batch, H, W, c_out)."""

    kernel: Kernel
    bias: Float[Array, " c_out"]

    @classmethod
    def random(cls, c_in: int, c_out: int, size: int = 3, *, key: PRNGKeyArray, gain: float = 1.0) -> "Conv":
        """LeCun's fan-in initialisation: unit variance in and out, times `gain`; a gain of 0 gives zero output."""
        scale = gain / (c_in * size**2) ** 0.5
        return cls(scale * jax.random.normal(key, (size, size, c_in, c_out)), jnp.zeros(c_out))

    def __call__(self, x: Features) -> Features:
        """Correlation plus bias."""
        return correlate(x, self.kernel) + self.bias
