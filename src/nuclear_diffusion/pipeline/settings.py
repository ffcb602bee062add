"""What a person may choose about one separation, with the defaults of each method in one table.

This module stays light (no JAX): the command line reads its flags, help and defaults from here.
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from tyro.conf import arg

Method = Literal["nuclear", "paper", "zea", "mmse", "rpca"]

Estimate = Literal["mean", "sample", "mode"]

DEFAULTS: dict[Method, dict[str, Any]] = {
    "nuclear": {
        "prior": "echo",
        "mu": 10.0,
        "gamma": None,
        "steps": 2,
        "window": 15,
        "overlap": 2,
        "detail": 1.0,
        "spare": 0.2,
        "clear": 0.85,
        "exposure": 1.25,
        "estimate": "mean",
        "samples": 0,
    },
    "paper": {"prior": "echo", "mu": 2.0, "gamma": 1.0, "steps": 500, "window": 7, "overlap": 0},
    "zea": {"prior": "echo", "gamma": 1.0, "steps": 500, "window": 7, "overlap": 0, "project": "on"},
    "mmse": {"prior": "echo", "sigma": 0.1},
    "rpca": {"lam": 1.1},
}
"""The settings that each method has, with their defaults. A setting that is not listed does not apply; None stands for
a value that follows from the clip."""


def _by_method(name: str, metavar: str, text: str):
    """A flag whose default depends on the method; the help shows the default of each."""
    having = {method: values[name] for method, values in DEFAULTS.items() if name in values}
    same = len(having) > 1 and len(set(having.values())) == 1
    shown = next(iter(having.values())) if same else ", ".join(f"{_shown(v)} {m}" for m, v in having.items())
    return arg(metavar=metavar, help=text, help_behavior_hint=f"(default: {shown})")


def _shown(value: float | str | None) -> str:
    if isinstance(value, str):
        return value
    return "from the clip" if value is None else f"{value:g}"


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a clip is separated: the method and its settings, each with the method's own default."""

    method: Annotated[
        Method,
        arg(
            help="nuclear: a posterior mean under a diffusion prior and a low-rank background. "
            "paper: Algorithm 1 with the paper's gamma, mu, window and steps, and the largest step sizes that "
            "converge (its unit steps diverge). zea: the published implementation, zea 0.1.8, with its defaults. "
            "mmse: one pass of the prior's denoiser. "
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
    mu: Annotated[
        float | None,
        _by_method("mu", "FLOAT", "Precision of the noise, 1/variance, with intensity in [0, 1]."),
    ] = None
    gamma: Annotated[
        float | None,
        _by_method(
            "gamma",
            "FLOAT",
            "Weight of the background's nuclear norm, intensity in [0, 1]; of nuclear, of what varies.",
        ),
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
    detail: Annotated[
        float | None,
        _by_method(
            "detail",
            "FLOAT",
            "What is reported: 1 the clip less its haze, with its own speckle; 0 the posterior mean, smooth; between "
            "them a mean of both.",
        ),
    ] = None
    spare: Annotated[
        float | None,
        _by_method("spare", "FLOAT", "A pixel whose share of haze is below this is left as it is: more keeps tissue."),
    ] = None
    clear: Annotated[
        float | None,
        _by_method("clear", "FLOAT", "A pixel whose share of haze is above this becomes black: less clears cavities."),
    ] = None
    exposure: Annotated[
        float | None,
        _by_method(
            "exposure",
            "FLOAT",
            "How many times as bright a prior that has learned haze sees the clip, for the mean: more removes more.",
        ),
    ] = None
    estimate: Annotated[
        Estimate | None,
        _by_method(
            "estimate",
            "mean|sample|mode",
            "What is reported of p(X | Y): its mean, one draw, or a mode. The last two take twelve times the steps.",
        ),
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
            "Weight of the sparse signal, in units of 1/sqrt(pixels in the sector x frames); at 1, all is signal.",
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
        for name in filled.keys() & {"mu", "gamma", "exposure", "sigma", "lam"}:
            if filled[name] is not None and not (math.isfinite(filled[name]) and filled[name] > 0):
                raise InputError(f"--{name} must be a positive number, got {filled[name]}.")
        for name in filled.keys() & {"steps", "window"}:
            if filled[name] < 1:
                raise InputError(f"--{name} must be at least 1, got {filled[name]}.")
        if filled.get("estimate", "mean") not in get_args(Estimate):
            raise InputError(f"--estimate must be mean, sample or mode, got {filled['estimate']!r}.")
        if not 0 <= filled.get("detail", 0) <= 1:
            raise InputError(f"--detail must be between 0 and 1, got {filled['detail']}.")
        if not 0 <= filled.get("spare", 0) < filled.get("clear", 1):
            raise InputError(
                f"--spare must be at least 0 and less than --clear, got {filled['spare']} and {filled['clear']}."
            )
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
    **dict.fromkeys(("method", "prior", "project", "estimate"), _TEXT),
    **dict.fromkeys(("steps", "window", "overlap", "samples", "seed"), _INTEGER),
    **dict.fromkeys(("mu", "gamma", "detail", "spare", "clear", "exposure", "sigma", "lam"), _NUMBER),
}
"""What a settings file may hold for each field of `Settings`."""
