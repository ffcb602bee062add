"""The two figures of a training run, as PNG bytes."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from nuclear_diffusion.priors.diffusion_prior import DiffusionPrior, Posterior
from nuclear_diffusion.priors.flow import draw_from

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHEET_SIGMAS = (0.03, 0.1, 0.3, 1.0)


def draw_curves(rows: Sequence[dict[str, str]], sigmas: Sequence[float]) -> bytes:
    """Training loss, validation error by noise level and, with a judge, the prior's gain; over steps."""
    from matplotlib.figure import Figure

    judged = "gain" in rows[0]
    figure = Figure(figsize=(15 if judged else 10, 4), layout="constrained")
    left, right, *last = figure.subplots(1, 3 if judged else 2)
    left.plot([int(row["step"]) for row in rows], [float(row["loss"]) for row in rows], lw=1)
    left.set(xlabel="step", ylabel="weighted denoising loss", yscale="log")
    validated = [row for row in rows if row[f"rmse_{sigmas[0]:g}"]]
    for sigma in sigmas:
        errors = [float(row[f"rmse_{sigma:g}"]) for row in validated]
        right.plot([int(row["step"]) for row in validated], errors, ".-", label=f"{sigma:g}")
    right.set(xlabel="step", ylabel="validation RMSE, display intensity", yscale="log")
    right.legend(title="noise level")
    for axis in last:
        axis.plot([int(row["step"]) for row in validated], [float(row["gain"]) for row in validated], ".-")
        axis.axhline(0, color="gray", lw=0.8)
        axis.set(xlabel="step", ylabel="gCNR gain over the start at equal change of tissue")
    return _png(figure)


def draw_samples(prior: DiffusionPrior, frames: Float[Array, "kinds height width"], key: PRNGKeyArray) -> bytes:
    """A clean frame, noisy and denoised at several noise levels, above a row of unconditional samples.

    With the hazy inputs in `frames`, the first column also shows the hazy frame and E[x0 | y].
    """
    from matplotlib.figure import Figure

    sigmas = jnp.asarray(SHEET_SIGMAS)
    clean, hazy = frames[0], frames[1:]
    noise_key, sample_key = jax.random.split(key)
    noisy = clean + sigmas[:, None, None] * jax.random.normal(noise_key, (len(sigmas), *clean.shape))
    columns = len(sigmas) + 1
    denoised = eqx.filter_jit(DiffusionPrior.denoise)(prior, noisy, sigmas)
    samples = eqx.filter_jit(draw_from)(sample_key, prior, jnp.full((columns, *clean.shape), prior.mean))
    figure = Figure(figsize=(2.2 * columns, 7), layout="constrained")
    axes = figure.subplots(3, columns)
    for axis in axes.flat:
        axis.axis("off")
    labels = [f"noise {s:g}" for s in SHEET_SIGMAS]
    top = zip(axes[0], [clean, *noisy], ["clean", *labels], strict=True)
    middle = zip(axes[1, 1:], denoised, ["denoised"] * len(SHEET_SIGMAS), strict=True)
    bottom = zip(axes[2], samples, ["sample"] * columns, strict=True)
    seen = []
    if len(hazy):
        x = prior.mean + prior.sigma_max * jax.random.normal(noise_key, (1, *clean.shape))
        estimate = eqx.filter_jit(Posterior.denoise)(Posterior(prior, hazy[None]), x, prior.sigma_max)
        seen = [(axes[1, 0], hazy[0], "hazy"), (axes[2, 0], estimate[0], "estimate from hazy")]
    for axis, frame, title in (*top, *middle, *bottom, *seen):
        axis.imshow(np.asarray(frame), cmap="gray", vmin=0, vmax=1)
        axis.set_title(title, fontsize=9)
    return _png(figure)


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
