"""Clips and results as napari layers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import Clip, read_video
from nuclear_diffusion.restore.clip import Dehazed
from nuclear_diffusion.restore.folder import read_h5

Layer = tuple[Any, dict[str, Any], str]
"""Data, properties and kind, as napari takes them."""


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[Layer]] | None:
    """The reader of one path; None for several at once, which napari then reads one by one."""
    return read if isinstance(path, str) else None


def read(path: str | list[str]) -> list[Layer]:
    """The layers of a clip, or of a result folder or its `result.h5`. Raises `InputError` as `read_video`."""
    place = Path(path if isinstance(path, str) else path[0])
    result = place / "result.h5" if place.is_dir() else place
    if result.name == "result.h5" and result.is_file():
        clip, found = read_h5(result)
        return [clip_layer(clip), *result_layers(clip, found)]
    return [clip_layer(read_video(place))]


def clip_layer(clip: Clip) -> Layer:
    """The clip itself; its frame rate and sector travel in the metadata."""
    about = {"fps": clip.fps, "region": clip.region, "name": clip.name, "source": str(clip.source)}
    look: dict[str, Any] = {"name": clip.name, "metadata": {"nuclear_diffusion": about}}
    return clip.pixels, look | ({"rgb": True} if clip.color is not None else {"contrast_limits": (0, 1)}), "image"


def result_layers(clip: Clip, found: Dehazed, name: str = "") -> list[Layer]:
    """Signal, background and, if there is one, the haze fraction over the clip."""
    title = f"{clip.name} {name}".strip()
    grey: dict[str, Any] = {"contrast_limits": (0, 1), "colormap": "gray"}
    look = {"rgb": True} if found.color is not None else grey
    layers: list[Layer] = [
        (found.background, grey | {"name": f"{title}: background", "visible": False}, "image"),
        (found.pixels, look | {"name": f"{title}: signal"}, "image"),
    ]
    if found.share is not None:
        tint: dict[str, Any] = {"colormap": "inferno", "opacity": 0.5, "blending": "additive", "visible": False}
        layers.insert(1, (found.share, tint | {"contrast_limits": (0, 1), "name": f"{title}: haze fraction"}, "image"))
    return layers


def clip_of(pixels: Any, look: dict[str, Any]) -> Clip:
    """The clip of a layer, also of one that another plugin made: (frames, height, width[, 3]) of any range.

    Raises `InputError` for other shapes and for values that are neither 8-bit nor in [0, 1].
    """
    import numpy as np

    values = np.asarray(pixels)
    about = look.get("metadata", {}).get("nuclear_diffusion", {})
    rgb = bool(look.get("rgb"))
    if values.ndim != 3 + rgb:
        raise InputError(f"The layer has shape {values.shape}: choose a clip (frames, height, width).")
    color = None
    if values.dtype != np.uint8:
        if values.size == 0 or not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise InputError("The layer's values are neither bytes nor in [0, 1]: scale them first.")
        values = values.astype(np.float32)
    frames = values.astype(np.float32) / (255 if values.dtype == np.uint8 else 1)
    if rgb:
        color = values[..., :3] if values.dtype == np.uint8 else np.rint(255 * values[..., :3]).astype(np.uint8)
        frames = frames[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32)
    name = str(look.get("name") or "clip")
    source = Path(str(about.get("source") or name))
    return Clip(frames, float(about.get("fps", 30.0)), color, about.get("region"), name, source)


def demo_clip() -> list[Layer]:
    """The real clip of the demo."""
    from pydicom import examples

    return [clip_layer(read_video(examples.get_path("ybr_color")))]


def simulated_patient() -> list[Layer]:
    """A simulated patient: hazy clip, truth, and its regions as labels (1 septum, 2 ventricle)."""
    import numpy as np

    from nuclear_diffusion.simulation import simulate

    patient = simulate(seed=7, frames=24, view="a4c")
    labels = np.asarray(patient.septum, np.uint8) + 2 * np.asarray(patient.ventricle, np.uint8)
    grey: dict[str, Any] = {"contrast_limits": (0, 1), "colormap": "gray"}
    about = {"fps": patient.fps, "name": "simulated patient"}
    return [
        (patient.clean, grey | {"name": "simulated patient: truth", "visible": False}, "image"),
        (patient.hazy, grey | {"name": "simulated patient", "metadata": {"nuclear_diffusion": about}}, "image"),
        (labels, {"name": "simulated patient: regions", "visible": False}, "labels"),
    ]
