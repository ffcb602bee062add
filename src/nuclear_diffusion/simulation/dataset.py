"""Simulated data sets on disk, in the folder layout of the DehazingEcho2025 challenge plus ground truth."""

import json
from pathlib import Path

import msgspec
import numpy as np
from jaxtyping import Shaped
from numpy import ndarray
from PIL import Image

from nuclear_diffusion.errors import InputError, require
from nuclear_diffusion.files import alone_in, atomic, write
from nuclear_diffusion.memory import require_memory
from nuclear_diffusion.text import read_json
from nuclear_diffusion.types import Progress, eight_bits

from .clip import SimulatedClip, simulate

SEPTUM, VENTRICLE = 255, 128  # pixel values of the masks
MASK_EVERY = 10  # the challenge has masks on frames 1, 11, 21, ...
BYTES_PER_PIXEL = 32  # least memory to simulate a pixel of a frame: two clips, hazy and clean, and their masks
SMALLEST = 16  # smallest side of a frame, pixels
ADVICE = "lower the number of frames or their size"
CLEAN_PATIENTS = 500_000  # seed offset of the clean patients, who differ from the hazy ones, as in the challenge


@alone_in("directory")
def write_dataset(
    directory: str | Path,
    clips: int,
    *,
    seed: int = 0,
    frames: int = 60,
    size: int = 256,
    progress: Progress | None = None,
) -> None:
    """Simulate patients and write them as 8-bit PNGs named `patient-{P}-4C-frame-{F}.png`, P and F from 1.

    - `noisy`: hazy clips of `clips` patients; `noisy_roi`: masks of every tenth frame (septum 255, ventricle 128);
    - `clean`: clean clips of as many *other* patients;
    - `truth`: the clips in `noisy` without haze; `truth_roi`: masks of all frames;
    - `patients`: seed, view and frame rate of each patient.

    File names say 4C for every view, as in the challenge. Complete patients are not simulated again, so that an
    interrupted run resumes. Raises `InputError` if the folder is not writable, holds patients of another seed, length
    or size, or a clip does not fit into memory, and ValueError for a count below 1.
    """
    if clips < 1:
        raise ValueError(f"`clips` must be at least 1, got {clips}")
    require(size >= SMALLEST, f"The frames must have at least {SMALLEST} x {SMALLEST} pixels, got {size}.")
    require_memory(BYTES_PER_PIXEL * frames * size**2, f"A clip of {frames} frames of {size} x {size} pixels", ADVICE)
    directory = Path(directory)
    request = {"seed": seed, "frames": frames, "size": size}
    for record in (directory / "patients").glob("patient-*.json"):
        known = _request_of(record)
        if known not in (None, request):
            raise InputError(
                f"{directory} holds patients simulated with {_flags(known)}: use these, or another folder."
            )
    for number in range(1, clips + 1):
        record = directory / "patients" / f"patient-{number}.json"
        if _request_of(record) is None:
            hazy = simulate(seed=seed + number - 1, frames=frames, size=size)
            other = simulate(seed=seed + CLEAN_PATIENTS + number - 1, frames=frames, size=size, haze=0.0)
            _write_patient(directory, number, hazy, other)
            about = {**request, "patient": number, "view": hazy.view, "fps": hazy.fps, "patient_seed": hazy.seed}
            write(record, json.dumps(about, indent=2))
        if progress is not None:
            progress(number, clips)


class _Request(msgspec.Struct):
    """What a patient's record says of how it was simulated."""

    seed: int
    frames: int
    size: int


def _request_of(record: Path) -> dict[str, int] | None:
    """How a patient was simulated; None if there is no record, or a damaged one."""
    try:
        return msgspec.structs.asdict(read_json(record, _Request, "a record of the simulator", max_bytes=1 << 20))
    except InputError:
        return None


def _flags(request: dict[str, int]) -> str:
    return " ".join(f"--{name} {value}" for name, value in request.items())


def _write_patient(directory: Path, number: int, hazy: SimulatedClip, other: SimulatedClip) -> None:
    masks = np.where(hazy.septum, SEPTUM, np.where(hazy.ventricle, VENTRICLE, 0)).astype(np.uint8)
    for k in range(len(hazy.hazy)):
        name = f"patient-{number}-4C-frame-{k + 1}.png"
        _write_png(directory / "noisy" / name, eight_bits(hazy.hazy[k]))
        _write_png(directory / "truth" / name, eight_bits(hazy.clean[k]))
        _write_png(directory / "truth_roi" / name, masks[k])
        _write_png(directory / "clean" / name, eight_bits(other.clean[k]))
        if k % MASK_EVERY == 0:
            _write_png(directory / "noisy_roi" / name, masks[k])


def _write_png(path: Path, image: Shaped[ndarray, "height width"]) -> None:
    with atomic(path) as temporary:
        Image.fromarray(image).save(temporary)
