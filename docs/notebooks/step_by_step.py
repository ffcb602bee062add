# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {name: python3, display_name: Python 3, language: python}
# ---

# %% [markdown]
# # The method, step by step
#
# A toy clip small enough to see every step of the paper: a disc that moves, behind haze that stands still.
# [The paper, equation by equation](../equations.md) says where each of these lines lives in the package.

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import nuclear_diffusion as nd
from nuclear_diffusion.paper.nuclear_norm import singular_values
from nuclear_diffusion.restore.background import Completion


def show(**pictures):
    """One row of pictures, all on the same grey scale."""
    _, axes = plt.subplots(1, len(pictures), figsize=(2.2 * len(pictures), 2.5))
    for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
        axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
        axis.set_title(title.replace("_", " "), fontsize=9)
        axis.axis("off")
    plt.show()


# %% [markdown]
# ## The model
#
# A clip $Y$ of $p$ frames with $n$ pixels is a low-rank background plus a signal (eq. 1), with a little Gaussian
# noise (eq. 8): $p(Y \mid L, X) = \mathcal{N}(Y;\; L + X,\; I / \mu)$. The disc covers a third of the frame and moves
# slowly, so it is not sparse. That is hard for robust PCA.

# %%
SIZE, FRAMES = 32, 7
rows, columns = np.mgrid[:SIZE, :SIZE] / (SIZE - 1)


def disc(x, y):
    """A soft disc with its centre at (x, y)."""
    return 0.7 / (1 + np.exp((np.hypot(columns - x, rows - y) - 0.22) / 0.015))


haze = 0.5 * np.exp(-((columns - 0.2) ** 2 + (rows - 0.35) ** 2) / 0.1)
truth = np.stack([disc(x, 0.5) for x in np.linspace(0.42, 0.58, FRAMES)])
noise = 0.02 * np.random.default_rng(0).standard_normal(truth.shape)
y = jnp.asarray(truth + haze + noise, jnp.float32)
show(Y=y[3], X_truth=truth[3], L_truth=haze)

# %% [markdown]
# ## The background: eq. 9
#
# $p(L) \propto \exp(-\gamma \|L\|_*)$ punishes the sum of singular values of the $n \times p$ matrix (eq. 11). Still
# haze has one singular value. Its proximal operator shrinks each singular value by the same amount.

# %%
still = jnp.broadcast_to(jnp.asarray(haze, jnp.float32), y.shape)
shrunk = nd.NuclearNorm(gamma=1.0).prox(y, 1.0)
for name, clip in {"L (truth)": still, "Y": y, "prox of Y": shrunk}.items():
    plt.semilogy(np.maximum(singular_values(clip), 1e-3), "o-", label=name)
plt.xlabel("singular value")
plt.legend()
plt.show()

# %% [markdown]
# ## Robust PCA: eqs. 2 and 10
#
# With a sparse signal, $p(X) \propto \exp(-\lambda \|X\|_1)$, the most probable $X$ and $L$ solve a convex problem.
# The centre of the disc is bright in every frame, so robust PCA puts it into the background.

# %%
rpca = nd.robust_pca(y)
show(Y=y[3], X_by_robust_PCA=rpca.signal[3], L_by_robust_PCA=rpca.background[3])

# %% [markdown]
# ## A prior that knows what discs look like: eqs. 3, 4, 12 and 13
#
# A diffusion model is used through its denoiser. For a frame $x = x_0 + \sigma \epsilon$ it returns the mean of the
# clean frame, $D(x, \sigma) = \mathbb{E}[x_0 \mid x]$ (Tweedie, eq. 4), and with it the score
# $(D(x, \sigma) - x) / \sigma^2$ (eq. 13). Here the prior is simple enough to write down: one disc, anywhere. Its
# denoiser is a weighted mean of all discs. In real use a trained network takes its place.


# %%
class OneDisc(eqx.Module):
    """Every place in `discs` (places, height, width) is equally likely."""

    discs: jax.Array
    sigma_min: float = eqx.field(static=True, default=0.01)
    sigma_max: float = eqx.field(static=True, default=80.0)

    def denoise(self, x, sigma):
        """The discs' mean, weighted by how well each explains `x`."""
        misfit = ((x[..., None, :, :] - self.discs) ** 2).sum((-2, -1))
        weights = jax.nn.softmax(-misfit / (2 * jnp.reshape(sigma, (-1, 1)) ** 2))
        return jnp.einsum("...k,khw->...hw", weights, self.discs)


places = np.linspace(0.2, 0.8, 31)
prior = OneDisc(jnp.asarray(np.stack([disc(x, y) for x in places for y in places]), jnp.float32))

noisy = y[3] + 2 * jax.random.normal(jax.random.key(0), y[3].shape)
show(noisy=noisy, denoised=prior.denoise(noisy[None], 2.0)[0], truth=truth[3])

# %% [markdown]
# ## Algorithm 1
#
# Each step denoises (lines 3-5), moves $X$ and $L$ down the gradient of $\frac{\mu}{2} \|Y - L - X\|^2$ (lines 6, 7
# and 10), goes back to the next noise level (line 8), and shrinks $L$ (lines 9-10). $X$ and $L$ share one residual,
# which each step multiplies by $1 - \mu (s_x + s_l)$. The step sizes are not printed. With unit steps and $\mu = 2$
# the factor is $-3$, and the run diverges; here more slowly, as the prior pulls $X$ back to a disc in between.

# %%
key = jax.random.key(0)
converges = nd.Algorithm1.paper(steps=200)
diverges = nd.Algorithm1(mu=2.0, signal_step=1.0, background_step=1.0, allow_divergence=True)
found = converges(y, prior, nd.NuclearNorm(gamma=0.1), key=key)
lost = diverges(y, prior, nd.NuclearNorm(gamma=0.1), key=key)
plt.semilogy(found.trace, label="steps that sum to 1.9 / mu (our default)")
plt.semilogy(lost.trace[:60], label="unit steps")
plt.xlabel("step")
plt.ylabel("root mean square of Y - L - X")
plt.legend()
plt.show()
show(Y=y[3], X=found.signal[3], L=found.background[3])

# %% [markdown]
# ## Without random numbers
#
# Eq. 8 is Gaussian noise on $X$, so one pass of the denoiser gives its exact mean, $\mathbb{E}[X \mid Y, L] =
# D(Y - L, \mu^{-1/2})$, and the prox of eq. 9 gives the most probable $L$. Taking turns is expectation-maximisation.
# The package does this for a prior that was trained on clean frames only, as the paper's was.

# %%
em = nd.EM(mu=100.0, steps=20)(y, prior)
show(Y=y[3], X_by_EM=em.signal[3], L_by_EM=em.background[3])

# %% [markdown]
# ## A background with missing entries
#
# The shipped prior was trained on pairs of hazy and clean clips and returns $\mathbb{E}[X \mid Y]$ in one pass. What
# is left, $Y - \mathbb{E}[X \mid Y]$, shows the haze only where no tissue hides it: a low-rank matrix with missing
# entries. `Completion` fills them in. Here haze under the disc counts as hidden. What the disc hides in every frame
# remains unknown, and counts as no haze.

# %%
visible = jnp.asarray(1 - truth / 0.7, jnp.float32)
completed, _ = Completion()(jnp.maximum(y - truth, 0) * visible, visible)
show(seen=(visible * (y - truth))[3], completed=completed[3], L_truth=haze)

# %% [markdown]
# Mean error of the background, in grey levels of 255:

# %%
for name, part in {"robust PCA": rpca.background, "Algorithm 1": found.background, "EM": em.background}.items():
    print(f"{name:12s} {255 * float(jnp.abs(part - haze).mean()):6.1f}")
print(f"{'completion':12s} {255 * float(jnp.abs(completed - haze).mean()):6.1f}")
