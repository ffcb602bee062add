# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {name: python3, display_name: Python 3, language: python}
# ---

# %% [markdown]
# # Train a prior on your own frames
#
# A small version of what `nuclear-diffusion train` does: a diffusion prior of clean frames, as in the paper. Simulated
# frames stand in for yours. In real use, read your clips with `nd.read_video`, and give the command hours, not seconds.

# %%
import csv
import tempfile
from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import nuclear_diffusion as nd
from nuclear_diffusion.priors.unet import UNetConfig

SIZE = 64
patients = [nd.simulate(seed=seed, frames=5, size=SIZE) for seed in range(12)]
frames = np.concatenate([(255 * patient.clean).astype(np.uint8) for patient in patients])
print(f"{frames.shape} frames, height, width, of {len(patients)} patients")

# %% [markdown]
# `train` learns to remove Gaussian noise of every level, which is all that a diffusion prior is. It writes the weights
# and the records of the run into a folder; the same call resumes an interrupted run.

# %%
network = UNetConfig(grid=2, widths=(16, 32), blocks=1, fine=4)
config = nd.TrainConfig(network=network, steps=70, batch=8, halved_until=0, warmup=20, validate_every=100, log_every=5)
with tempfile.TemporaryDirectory() as run:
    prior = nd.train(frames, Path(run), config, seed=0, val_frames=frames[-12:]).prior
    with open(Path(run) / "loss.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

loss = [(int(row["step"]), float(row["loss"])) for row in rows if row["loss"] != "nan"]
plt.plot(*zip(*loss, strict=True))
plt.xlabel("step")
plt.ylabel("loss")
plt.show()

# %% [markdown]
# ## What it learned
#
# A frame it never saw, with noise, and the prior's estimate of the clean frame.

# %%
unseen = nd.simulate(seed=1000, frames=8, size=SIZE, view="a4c")
noise = np.random.default_rng(0).standard_normal(unseen.clean[0].shape)
_, axes = plt.subplots(2, 4, figsize=(9, 4.6))
for column, sigma in zip(axes.T, (0.05, 0.1, 0.2, 0.4), strict=True):
    noisy = jnp.asarray(unseen.clean[0] + sigma * noise, jnp.float32)
    denoised = prior.denoise(noisy, sigma)
    for axis, picture in zip(column, (noisy, denoised), strict=True):
        axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
        axis.axis("off")
    error = float(jnp.sqrt(jnp.mean((denoised - unseen.clean[0]) ** 2)))
    column[0].set_title(f"noise {sigma:g}", fontsize=9)
    column[1].set_title(f"error left {error:.3f}", fontsize=9)
plt.show()

# %% [markdown]
# ## Use it
#
# This prior knows clean frames only. `separate` then finds $X$ and $L$ by expectation-maximisation; the methods `paper`
# and `zea` take the same prior.

# %%
parts = nd.separate(unseen.hazy, prior)
pictures = {"hazy": unseen.hazy, "signal": parts.signal, "background": parts.background, "clean": unseen.clean}
_, axes = plt.subplots(1, 4, figsize=(9, 2.5))
for axis, (title, clip) in zip(axes, pictures.items(), strict=True):
    axis.imshow(clip[4], cmap="gray", vmin=0, vmax=1)
    axis.set_title(title)
    axis.axis("off")
plt.show()

# %% [markdown]
# ## In real use
#
#     nuclear-diffusion train CLIPS -o RUN --minutes 60          # a prior that dehazes, from the shipped one
#     nuclear-diffusion train CLIPS -o RUN --minutes 600 --blind # clean frames only, as in the paper
#     nuclear-diffusion dehaze CLIP -o DIR --prior RUN/prior.safetensors
#
# The first also pairs your clips with simulated haze, and says at the end whether the new prior dehazes better than the
# shipped one. [A prior of your own](../decisions/0008-a-prior-of-your-own.md) explains how.
