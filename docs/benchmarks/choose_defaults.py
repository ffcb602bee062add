"""Measure the candidates for the defaults on development patients: `python docs/benchmarks/choose_defaults.py`.

Every row is one setting on the same patients; the table is written to `choose_defaults.md`. Nothing here touches the
test split.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import tyro
from rich.progress import track

import nuclear_diffusion as nd
from nuclear_diffusion.evaluation.scores import score
from nuclear_diffusion.evaluation.tables import made_with
from nuclear_diffusion.inference import PAPER_GAMMA, Separation, robust_pca
from nuclear_diffusion.inference.algorithm1 import ddim
from nuclear_diffusion.inference.proximal import ExactPosterior, Proximal, ProximalPoint
from nuclear_diffusion.model import NuclearNorm, Prior
from nuclear_diffusion.simulation import SimulatedClip, patient_seed, simulate

COLUMNS = {
    "gcnr": "gCNR ↑",
    "ks_a": "KS_A ↓",
    "ks_b": "KS_B ↑",
    "psnr": "PSNR ↑",
    "ssim": "SSIM ↑",
    "flicker": "flicker",
}

Method = Callable[[SimulatedClip, nd.DiffusionPrior], Separation]


@dataclasses.dataclass(frozen=True)
class Blind:
    """The same prior without its knowledge of haze: p(X) instead of p(X | Y)."""

    prior: Prior

    @property
    def sigma_min(self) -> float:
        return self.prior.sigma_min

    @property
    def sigma_max(self) -> float:
        return self.prior.sigma_max

    def denoise(self, x, sigma):
        return self.prior.denoise(x, sigma)


jax.tree_util.register_dataclass(Blind, data_fields=["prior"], meta_fields=[])


def rpca(lam: float) -> Method:
    return lambda clip, _: robust_pca(clip.hazy, lam / float(np.sqrt(clip.sector.sum() * len(clip.hazy))))


def mmse(sigma: float) -> Method:
    return lambda clip, prior: nd.mmse(clip.hazy, prior, sigma)


def sampled(
    sampler, *, gamma: float | None = None, scale: float = 1.0, window: int = 60, overlap: int = 0, blind: bool = False
) -> Method:
    """A sampler; `scale` multiplies the default gamma."""

    def method(clip: SimulatedClip, prior: nd.DiffusionPrior) -> Separation:
        shape = (min(window, len(clip.hazy)), *clip.hazy.shape[1:])
        default = sampler.background_for(shape).gamma
        return nd.separate(
            clip.hazy, Blind(prior) if blind else prior, key=jax.random.key(0), sampler=sampler,
            background=NuclearNorm(default * scale if gamma is None else gamma), window=window, overlap=overlap,
        )  # fmt: skip

    return method


def candidates(thorough: bool) -> Iterator[tuple[str, Method]]:
    for lam in (1.0, 1.05, 1.1, 1.15, 1.2, 1.5):
        yield f"robust PCA, lambda = {lam:g} / sqrt(n p)", rpca(lam)
    for sigma in (0.1, 0.3, 0.5):
        yield f"one blind pass, sigma {sigma:g}", mmse(sigma)
    yield "one pass that knows haze, E[X given Y]", sampled(Proximal(steps=1))
    for steps in (2, 3, 5, 8, 12):
        yield f"EM, {steps} passes, mu 3", sampled(Proximal(mu=3.0, steps=steps))
    for mu in (1.0, 6.0, 25.0):
        yield f"EM, 8 passes, mu {mu:g}", sampled(Proximal(mu=mu, steps=8))
    for scale in (0.0, 3.0):
        yield f"EM, 8 passes, mu 3, gamma x {scale:g}", sampled(Proximal(mu=3.0, steps=8), scale=scale)
    yield "EM, 8 passes, mu 3, windows of 7", sampled(Proximal(mu=3.0, steps=8), window=7, overlap=2)
    for data, name in ((ExactPosterior(), "exact posterior"), (ProximalPoint(), "DiffPIR")):
        walk = Proximal(mu=25.0, end=0.1, steps=6, data=data)
        yield f"diffusion to 0.1, {name}, 6 passes, mu 25", sampled(walk)
    yield "the same, fresh noise", sampled(Proximal(mu=25.0, end=0.1, steps=6, fresh=1.0))
    blind = Proximal(mu=25.0, start=0.3, end=0.1, steps=6)
    yield "blind diffusion 0.3 to 0.1, exact posterior, 6 passes, mu 25", sampled(blind, blind=True)
    if thorough:
        paper = nd.Algorithm1.paper(steps=20)
        yield "Algorithm 1, paper's gamma, mu, p; 20 steps", sampled(paper, gamma=PAPER_GAMMA, window=7)
        calm = nd.Algorithm1.paper(steps=20, relaxation=1.0)
        yield "the same, steps 1 / mu", sampled(calm, gamma=PAPER_GAMMA, window=7)
        smooth = dataclasses.replace(paper, renoise=ddim)
        yield "the same as the paper's, DDIM", sampled(smooth, gamma=PAPER_GAMMA, window=7)


@dataclasses.dataclass(frozen=True)
class Choice:
    """Candidates for the defaults on simulated patients of the development split."""

    patients: int = 6
    """How many patients, from the first on."""
    frames: int = 14
    """Frames a patient."""
    thorough: bool = True
    """Also the paper's algorithm."""
    prior: str = "echo"
    """The prior."""
    output: Path = Path(__file__).parent / "choose_defaults.md"
    """The table."""

    def run(self) -> None:
        prior = nd.load_prior(self.prior)
        seeds = [patient_seed("development", index) for index in range(self.patients)]
        clips = [simulate(seed=seed, frames=self.frames) for seed in track(seeds, "simulating")]
        rows = [("hazy", lambda clip, _: Separation(clip.hazy, clip.hazy, np.zeros(1)))]
        rows += [("clean", lambda clip, _: Separation(clip.clean, clip.clean, np.zeros(1))), *candidates(self.thorough)]
        lines = ["| | " + " | ".join(COLUMNS.values()) + " | s |", "|---|" + "---|" * (len(COLUMNS) + 1)]
        for name, method in track(rows, "measuring"):
            if name not in ("hazy", "clean"):
                method(clips[0], prior)  # compiles
            start = time.perf_counter()
            signals = [np.clip(np.asarray(method(clip, prior).signal), 0, 1) for clip in clips]
            seconds = (time.perf_counter() - start) / self.patients
            scores = [score(clip, signal) for clip, signal in zip(clips, signals, strict=True)]
            means = [np.nanmean([each[column] for each in scores]) for column in COLUMNS]
            lines.append(f"| {name} | " + " | ".join(f"{m:.3f}" for m in means) + f" | {seconds:.1f} |")
            print(lines[-1], flush=True)
        text, quick = "\n".join(lines), "" if self.thorough else " --no-thorough"
        self.output.write_text(
            f"""# Candidates for the defaults

{self.patients} patients of the development split, {self.frames} frames each, mean over patients; seconds a clip,
without compilation. Flicker: energy of frame differences in still tissue relative to the clean clip's. Made by
`python docs/benchmarks/choose_defaults.py --patients {self.patients} --frames {self.frames}{quick}`
with {made_with()}.

{text}
""",
            encoding="utf-8",
        )


if __name__ == "__main__":
    tyro.cli(Choice).run()
