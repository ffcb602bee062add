"""The Fréchet inception distance between methods' frames and clean frames, with a network that the user provides.

FID = |m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^½), of the means m and covariances S of the network's features (Heusel et al.
2017). The network is never downloaded.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float64, UInt8
from numpy import ndarray

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.files import sha256_of
from nuclear_diffusion.io import read_frames
from nuclear_diffusion.measure import require_modules
from nuclear_diffusion.measure.scores import LEVELS
from nuclear_diffusion.measure.study import Study
from nuclear_diffusion.types import Progress, eight_bits

BATCH = 16  # frames per pass of the network


class Network(NamedTuple):
    """A network that computes features of frames."""

    path: Path
    sha256: str  # of the file
    session: Any  # an `onnxruntime.InferenceSession`

    def features(self, frames: UInt8[ndarray, "frames height width"]) -> Float64[ndarray, "frames features"]:
        """The features of grey frames, shown as RGB in [0, 1].

        Raises `InputError` if the network rejects them or does not return (frames, features).
        """
        batches = [frames[start : start + BATCH] for start in range(0, len(frames), BATCH)]
        return np.concatenate([self._run(batch) for batch in batches])

    def _run(self, frames: UInt8[ndarray, "frames height width"]) -> Float64[ndarray, "frames features"]:
        color = np.repeat(frames[:, None] / np.float32(LEVELS - 1), 3, axis=1)
        try:
            found = self.session.run(None, {self.session.get_inputs()[0].name: color})[0]
        except Exception as error:  # onnxruntime's error types are not public
            raise _unfit(self.path) from error
        if found.ndim not in (2, 4) or found.shape[0] != len(frames) or found.shape[2:] not in ((), (1, 1)):
            raise _unfit(self.path)
        if not np.isfinite(found).all():
            raise InputError(f"{self.path} gives features that are not finite: export the network again.")
        return found.reshape(len(frames), -1).astype(np.float64)


def open_network(path: Path) -> Network:
    """Open an ONNX file and try it on two small batches, on the CPU.

    Raises `InputError` if onnxruntime is not installed, or the file is unreadable or not such a network.
    """
    require_modules("fid", "onnxruntime")
    import onnxruntime

    if not path.is_file():
        raise InputError(f"{path} is not a file: give the ONNX file of the Inception network to --inception.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # our own messages are enough
    try:
        sha256 = sha256_of(path)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the parser may raise anything
        raise InputError(
            f"{path} cannot be opened by onnxruntime: it is damaged, not an ONNX file or too new; export it again."
        ) from error
    network = Network(path, sha256, session)
    # Two sizes: a network of one fixed size would fail only after hours.
    small, large = (network.features(np.zeros(shape, np.uint8)) for shape in ((1, 64, 80), (2, 96, 72)))
    if small.shape[1] != large.shape[1]:
        raise _unfit(path)
    return network


class Moments(NamedTuple):
    """Mean and covariance of features."""

    frames: int
    mean: Float64[ndarray, " features"]
    root: Float64[ndarray, "rank features"]  # R with RᵀR the covariance, divisor frames - 1


def moments(features: Float[ndarray, "frames features"]) -> Moments:
    """The moments of at least two frames.

    R comes from a QR decomposition of the features: with fewer frames than features the covariance is singular, and
    its square root would lose half of the digits.
    """
    if len(features) < 2:
        raise ValueError(f"`features` must be of at least two frames, got {len(features)}.")
    values = np.asarray(features, np.float64)
    mean = values.mean(axis=0)
    return Moments(len(values), mean, np.linalg.qr(values - mean, mode="r") / np.sqrt(len(values) - 1))


def frechet_distance(first: Moments, second: Moments) -> float:
    """|m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^½), at least 0.

    With S = RᵀR, the eigenvalues of S1 S2 are the squared singular values of R1 R2ᵀ.
    """
    shift = first.mean - second.mean
    shared = np.linalg.svd(first.root @ second.root.T, compute_uv=False).sum()
    return max(0.0, float(shift @ shift + (first.root**2).sum() + (second.root**2).sum() - 2 * shared))


class Distances(NamedTuple):
    """The FID of every method of the tables, and the sample sizes."""

    values: dict[str, float]  # by method
    frames: int  # per method
    clean_frames: int
    features: int
    network_sha256: str


def clean_moments(network: Network, clips: Sequence[Sequence[Path]], progress: Progress) -> Moments:
    """The moments of all frames of clean clips. Raises `InputError` if a frame is unreadable."""
    return _moments_of(network, (eight_bits(read_frames(files).frames) for files in clips), len(clips), progress)


def measure_fid(study: Study, network: Network, clean: Moments, progress: Progress) -> Distances:
    """The FID between all frames of each method's stored outputs and the clean set."""
    names, cases = [one.name for one in study.main], study.cases
    values, frames = {}, 0
    for index, name in enumerate(names):
        found = _moments_of(
            network,
            (study.output(name, case).signal for case in cases),
            len(cases),
            lambda done, total, before=index: progress(before * total + done, len(names) * total),
        )
        values[name], frames = frechet_distance(found, clean), found.frames
    return Distances(values, frames, clean.frames, len(clean.mean), network.sha256)


def _moments_of(
    network: Network, clips: Iterable[UInt8[ndarray, "frames height width"]], count: int, progress: Progress
) -> Moments:
    """The moments over all frames of `count` clips, with one clip in memory at a time."""
    found = []
    progress(0, count)
    for done, frames in enumerate(clips, start=1):
        found.append(network.features(frames))
        progress(done, count)
    return moments(np.concatenate(found))


def _unfit(path: Path) -> InputError:
    return InputError(
        f"{path} is not a network for FID: it must take float32 (N, 3, height, width), any N, height and width, and "
        "return (N, features); export it as described in docs/evaluation.md."
    )
