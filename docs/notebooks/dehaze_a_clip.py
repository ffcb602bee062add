# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {name: python3, display_name: Python 3, language: python}
# ---

# %% [markdown]
# # Dehaze a clip and look
#
# A real apical view with haze near the probe: an example file of pydicom. Put the path of your own clip in its
# place. Research use only.

# %%
import matplotlib.pyplot as plt
import numpy as np
from pydicom import examples

import nuclear_diffusion as nd

clip = nd.read_video(examples.get_path("ybr_color"))
prior = nd.load_prior("echo")
found = nd.dehaze_clip(clip, nd.methods.Nuclear(strength=0.5), prior)
print(f"{clip.frames.shape} frames, height, width; {found.seconds:.0f} s on this machine")

# %% [markdown]
# The background is the haze, also where tissue hides it; here it is shown five times as bright. The haze fraction
# decides how much each pixel is dimmed. Settings text and colour bars lie outside the sector and stay as they are.


# %%
def show(vmax=1.0, **pictures):
    """One row of pictures on the same grey scale."""
    _, axes = plt.subplots(1, len(pictures), figsize=(3 * len(pictures), 2.7))
    for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
        axis.imshow(picture, cmap="gray", vmin=0, vmax=vmax)
        axis.set_title(title.replace("_", " "))
        axis.axis("off")
    plt.tight_layout()
    plt.show()


middle = len(clip.frames) // 2
show(input=clip.frames[middle], dehazed=found.signal[middle])
show(vmax=0.2, removed=(clip.frames - found.signal)[middle], background=found.background[middle])
show(haze_fraction=found.share[middle], posterior_mean=found.mean[middle])

# %% [markdown]
# ## Choose the strength
#
# One estimate has many renderings. A higher strength removes more haze, and more of the faint tissue.

# %%
strengths = {f"strength {s:g}": nd.render(clip.frames, found.share, s)[middle] for s in (0.0, 0.3, 0.5, 0.7, 0.9)}
show(**strengths)

# %% [markdown]
# ## What was removed
#
# Haze stands nearly still and the heart moves. Each row of the picture is one frame: still haze draws vertical bands,
# moving tissue wavy ones. What was removed should hold no wavy line.

# %%
row = int(found.sector.any(axis=1).nonzero()[0].mean())
lines = {"input": clip.frames[:, row], "dehazed": found.signal[:, row]}
show(vmax=0.7, **{name: np.repeat(line, 6, axis=0) for name, line in lines.items()})
removed = {"removed": clip.frames - found.signal, "background": found.background}
show(vmax=0.2, **{name: np.repeat(part[:, row], 6, axis=0) for name, part in removed.items()})

# %% [markdown]
# ## Where the truth is known
#
# For a simulated patient there is a clean clip to compare with. gCNR is the contrast of septum and ventricle (higher is
# better), KS_A is how much the septum changed (lower is better), PSNR is closeness to the clean clip.

# %%
patient = nd.simulate(seed=7, frames=8, view="a4c")
estimate = nd.estimate(patient.hazy, prior)
for strength in (0.0, 0.3, 0.5, 0.7, 0.9):
    signal = nd.render(patient.hazy, estimate.share, strength)
    gcnr = nd.metrics.gcnr(signal, patient.septum, patient.ventricle)
    changed = nd.metrics.ks(patient.hazy, signal, patient.septum)
    psnr = nd.metrics.psnr(patient.clean, signal, patient.sector)
    print(f"strength {strength:.1f}: gCNR {gcnr:.3f}, KS_A {changed:.3f}, PSNR {psnr:.1f} dB")
