"""How signal and background add up to what is seen."""

from typing import Protocol

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from nuclear_diffusion.model._checks import require_positive
from nuclear_diffusion.types import Scalar, Video


class Mixture(Protocol):
    """Y from X and L, solved for either; the Gaussian noise of eq. 8 lies around both solutions."""

    def signal(self, y: Video, background: Video) -> Video:
        """What X would be if there were no noise."""
        ...

    def background(self, y: Video, signal: Video) -> Video:
        """What L would be if there were no noise."""
        ...


class Additive(eqx.Module):
    """Y = X + L in display intensity  (eq. 8)."""

    def signal(self, y: Video, background: Video) -> Video:
        """Y - L."""
        return y - background

    def background(self, y: Video, signal: Video) -> Video:
        """Y - X."""
        return y - signal


class PowerSum(eqx.Module):
    """Signal and background are log-compressed echoes whose powers add, as those of random phase do on average.

        10^(R y / 10) = 10^(R x / 10) + 10^(R l / 10) - 1,   R = `decibels`, the scale from black to white

    Black is no echo at all. Haze that lies 10 dB under the tissue changes the tissue by 0.4 dB, not by its own grey
    value: what eq. 8 would call haze in bright tissue is none. L is then the haze as it would look on its own.
    """

    decibels: float | Scalar = 60.0

    def __check_init__(self):
        require_positive("decibels", self.decibels)

    def signal(self, y: Video, background: Video) -> Video:
        """The echo left in Y without the power of L; black where L has all of it."""
        return self._compress(self._power(y) - self._power(background))

    def background(self, y: Video, signal: Video) -> Video:
        """The echo left in Y without the power of X; black where X has all of it."""
        return self._compress(self._power(y) - self._power(signal))

    def _power(self, intensity: Video) -> Video:
        """Relative to black's, which counts as 0."""
        return jnp.expm1(self.decibels * np.log(10) / 10 * intensity)

    def _compress(self, power: Video) -> Video:
        return jnp.log1p(jnp.maximum(power, 0)) * 10 / (self.decibels * np.log(10))
