"""What a person may choose about one separation, with the defaults of each method in one table.

This module stays light (no JAX): the command line reads its flags, help and defaults from here.
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

Method = Literal["nuclear", "paper", "zea", "mmse", "aware", "rpca"]

DEFAULTS: dict[Method, dict[str, Any]] = {
    "nuclear": {"prior": "echo", "strength": 0.5, "samples": 0},
    "paper": {"prior": "echo", "mu": 2.0, "gamma": 1.0, "steps": 500, "window": 7, "overlap": 0},
    "zea": {"prior": "echo", "gamma": 1.0, "steps": 500, "window": 7, "overlap": 0, "project": "on"},
    "mmse": {"prior": "echo", "sigma": 0.1},
    "aware": {"prior": "echo"},
    "rpca": {"lam": 1.0},
}
"""The settings that each method has, with their defaults. A setting that is not listed does not apply."""


def _by_method(name: str, metavar: str, text: str):
    """A flag whose default depends on the method; the help shows the default of each."""
    having = {method: values[name] for method, values in DEFAULTS.items() if name in values}
    same = len(having) > 1 and len(set(having.values())) == 1
    shown = next(iter(having.values())) if same else ", ".join(f"{_shown(v)} {m}" for m, v in having.items())
    return arg(metavar=metavar, help=text, help_behavior_hint=f"(default: {shown})")


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a clip is separated: the method and its settings, each with the method's own default."""

    method: Annotated[
        Method,
        arg(
            help="nuclear: the clip less its share of haze, by a diffusion prior and a low-rank background. "
            "paper: Algorithm 1 with the paper's gamma, mu, window and steps, and the largest step sizes that "
            "converge (its unit steps diverge). zea: the published implementation, zea 0.1.8, with its defaults. "
            "mmse: one pass of the prior's denoiser, which is not told of haze. "
            "aware: one pass of a prior that has learned haze. "
            "rpca: robust principal component analysis, no learned prior."
        ),
    ] = "nuclear"
    prior: Annotated[
        str | None,
        _by_method(
            "prior",
            "echo|PATH",
            "Diffusion prior: 'echo' (shipped), a .safetensors file you trained, or the folder of a zea preset.",
        ),
    ] = None
    strength: Annotated[
        float | None,
        _by_method("strength", "FLOAT", "How much haze is taken, from 0 (nothing) to 1 (all that may be haze)."),
    ] = None
    mu: Annotated[
        float | None,
        _by_method("mu", "FLOAT", "Precision of the noise, 1/variance, with intensity in [0, 1]."),
    ] = None
    gamma: Annotated[
        float | None,
        _by_method("gamma", "FLOAT", "Weight of the background's nuclear norm, with intensity in [0, 1]."),
    ] = None
    steps: Annotated[int | None, _by_method("steps", "INT", "Denoising steps a window.")] = None
    window: Annotated[
        int | None, _by_method("window", "INT", "Frames separated at a time; at most the clip's length is used.")
    ] = None
    overlap: Annotated[
        int | None, _by_method("overlap", "INT", "Frames shared by neighbouring windows and cross-faded.")
    ] = None
    project: Annotated[
        Literal["on", "off"] | None,
        _by_method("project", "on|off", "Replace every pixel whose estimate is brighter than mid grey by the input's."),
    ] = None
    samples: Annotated[
        int | None,
        _by_method(
            "samples", "INT", "Posterior draws for maps of the signal's mean and spread; 0 for none, else 2 or more."
        ),
    ] = None
    sigma: Annotated[
        float | None,
        _by_method("sigma", "FLOAT", "Noise level that the denoiser is told, with intensity in [0, 1]."),
    ] = None
    lam: Annotated[
        float | None,
        _by_method(
            "lam",
            "FLOAT",
            "Weight of the sparse signal, in units of 1/sqrt(max(n, p)), n pixels in the sector, p frames.",
        ),
    ] = None
    seed: Annotated[int, arg(help="Random seed: the same seed on the same machine gives the same bits.")] = 0

    def resolved(self) -> "Settings":
        """The same settings with the method's defaults filled in.

        Raises `InputError` for a value that cannot be used or a setting that the method does not have.
        """
        from nuclear_diffusion.types import InputError

        defaults = DEFAULTS[self.method]
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name in given.keys() - defaults.keys() - {"method", "seed"}:
            if given[name] is not None:
                raise InputError(f"--{name} does not apply to --method {self.method}; leave it out.")
        filled = {name: value if given[name] is None else given[name] for name, value in defaults.items()}
        for name in filled.keys() & {"mu", "gamma", "sigma", "lam"}:
            if not (math.isfinite(filled[name]) and filled[name] > 0):
                raise InputError(f"--{name} must be a positive number, got {filled[name]}.")
        for name in filled.keys() & {"steps", "window"}:
            if filled[name] < 1:
                raise InputError(f"--{name} must be at least 1, got {filled[name]}.")
        if not 0 <= filled.get("strength", 0) <= 1:
            raise InputError(f"--strength must be between 0 and 1, got {filled['strength']}.")
        if filled.get("samples", 0) < 0 or filled.get("samples", 0) == 1:
            raise InputError(f"--samples must be 0 or at least 2, got {filled['samples']}: one draw has no spread.")
        if filled.get("project", "on") not in ("on", "off"):
            raise InputError(f"--project must be on or off, got {filled['project']!r}.")
        if not 0 <= filled.get("overlap", 0) < filled.get("window", 1):
            raise InputError(
                f"--overlap must be at least 0 and less than --window, got {filled['overlap']} of {filled['window']}."
            )
        if not 0 <= self.seed < 2**32:
            raise InputError(f"--seed must be between 0 and 2^32 - 1, got {self.seed}.")
        return dataclasses.replace(self, **filled)

    def as_dict(self) -> dict[str, Any]:
        """Only the settings that the method has, for a report."""
        names = ["method", *DEFAULTS[self.method], "seed"]
        return {name: getattr(self, name) for name in names}

    def as_json(self) -> str:
        """`as_dict` as one line of JSON with sorted keys, so that equal settings give equal text."""
        return json.dumps(self.as_dict(), sort_keys=True)


def read_settings(path: Path) -> Settings:
    """The settings in a file that holds `as_dict` as JSON; what it leaves out, or has as null, is the default.

    Raises `InputError` where it cannot be read, holds something else, or holds values that cannot be used.
    """
    from nuclear_diffusion.types import InputError

    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({(error.strerror or str(error)).lower()}).") from error
    except ValueError as error:
        raise InputError(f"{path} is not a settings file: it must be JSON, as `tune` writes it.") from error
    if not isinstance(content, dict) or content.get("method") not in DEFAULTS:
        raise InputError(f"{path} is not a settings file: its `method` must be one of {', '.join(DEFAULTS)}.")
    given = {name: value for name, value in content.items() if value is not None}
    for name, value in given.items():
        if name not in _KINDS:
            raise InputError(f"{path} holds {name!r}, which is not a setting: remove it.")
        kind, words = _KINDS[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise InputError(f"{path} has {json.dumps(value)} for {name}: it must be {words}.")
    settings = Settings(**given)
    try:
        settings.resolved()
    except InputError as error:
        raise InputError(f"{path} cannot be used: {error}") from error
    return settings


_TEXT, _INTEGER, _NUMBER = (str, "a text"), (int, "a whole number"), ((int, float), "a number")
_KINDS: dict[str, tuple[Any, str]] = {
    **dict.fromkeys(("method", "prior", "project"), _TEXT),
    **dict.fromkeys(("steps", "window", "overlap", "samples", "seed"), _INTEGER),
    **dict.fromkeys(("strength", "mu", "gamma", "sigma", "lam"), _NUMBER),
}
"""What a settings file may hold for each field of `Settings`."""
