"""Array types.

Public arrays are float32 of shape (frames, height, width): display intensity in [0, 1], black = 0.
"""

from jaxtyping import Array, Bool, Float
from numpy import ndarray

Scalar = Float[Array, ""]
"""A float with no axes."""

Frame = Float[Array, "height width"]
"""One image, display intensity in [0, 1]."""

Video = Float[Array, "frames height width"]
"""A clip, display intensity in [0, 1]; the paper's n x p matrix (pixels x frames) is the transpose of its frames."""

VideoLike = Float[Array | ndarray, "frames height width"]
"""A clip as JAX or NumPy array, where a function takes both."""

Mask = Bool[ndarray, "height width"]
"""A region of interest."""
