"""The candidates of a comparison: methods, and the same methods at other strengths."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from msgspec import structs

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.measure.store import REVISION, digest
from nuclear_diffusion.restore import methods
from nuclear_diffusion.restore.clip import PRIOR_SIZE
from nuclear_diffusion.restore.methods import Aware, Method, Mmse, Nuclear, Rpca, as_dict
from nuclear_diffusion.restore.run import prior_of

HAZY, CLEAN = "hazy", "clean"  # names of the input and the truth

TUNED_LAM = 0.35
"""Robust PCA's lambda with the best PSNR on development patients of 10 frames, in units of 1/sqrt(max(n, p))."""


def tuned_rpca(frames: int = 10) -> Rpca:
    """Robust PCA tuned to clips of that length: the best lambda falls about as 1/sqrt(frames).

    A third less removes nothing; twice as much leaves hardly any tissue.
    """
    return Rpca(lam=TUNED_LAM * (10 / frames) ** 0.5)


METHODS: dict[str, Method] = {
    "rpca": Rpca(),
    "rpca-tuned": tuned_rpca(),
    "mmse": Mmse(),
    "aware": Aware(),
    "nuclear": Nuclear(),
}
"""The methods compared in the demo and the benchmarks, besides the hazy input and the clean clip."""


@dataclass(frozen=True)
class Candidate:
    """A method with its settings."""

    name: str  # unique in a study, and part of file names
    settings: Method | None  # None for the hazy input itself
    prior_sha256: str | None = None  # of the weights, if any
    size: int = PRIOR_SIZE  # side of the frames on the prior's grid, pixels
    varied: str | None = None  # the method whose strength this candidate varies; None for the candidates of the tables

    @property
    def configuration(self) -> dict[str, Any]:
        """All that determines the output, besides the frames: a JSON value."""
        settings = None if self.settings is None else as_dict(self.settings)
        if settings is not None and "prior" in settings:
            settings["prior"] = None  # the hash counts, not the path
        return {"settings": settings, "prior_sha256": self.prior_sha256, "size": self.size, "revision": REVISION}

    @property
    def configuration_hash(self) -> str:
        """First 12 digits of the SHA-256 of `configuration`."""
        return digest(self.configuration)[:12]


def choose(
    names: str, *, prior: str | None = None, seed: int | None = None, settings: Sequence[Method] = ()
) -> list[Candidate]:
    """The methods in a comma-separated list, `hazy` always first.

    Each has its settings from `settings`, else from `METHODS`, else its defaults. `prior` replaces the prior of the
    methods that have one, `seed` every seed. Raises `InputError` for an unknown or repeated name, an unusable prior,
    and repeated settings or settings of a method that is not listed.
    """
    known: dict[str, Method] = {name: kind() for name, kind in methods.METHODS.items()} | METHODS
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in (HAZY, *known):
            raise InputError(f"--methods has {name!r}: choose from {', '.join((HAZY, *known))}, separated by commas.")
        if wanted.count(name) > 1:
            raise InputError(f"--methods names {name} twice: name each method once.")
    own = {each.name: each for each in settings}
    if len(own) < len(settings):
        raise InputError("--settings has two files of one method: give one file per method.")
    for name in own:
        if name not in wanted:
            raise InputError(f"--settings has a file of {name}, which --methods does not name: add it or leave it out.")
    replaced = {name: value for name, value in (("prior", prior), ("seed", seed)) if value is not None}
    prior_sha256 = functools.cache(lambda path: prior_of(Nuclear(prior=path)).sha256)
    found = [Candidate(HAZY, None)]
    for name in wanted:
        if name != HAZY:
            method = with_settings(own.get(name, known[name]), **replaced)
            found.append(Candidate(name, method, method.prior_name and prior_sha256(method.prior_name)))
    return found


def vary(candidates: Sequence[Candidate], factors: Sequence[float] | Mapping[str, Sequence[float]]) -> list[Candidate]:
    """Each candidate at its strength times each of `factors`, for all methods or by method.

    A factor of 1 is skipped, and so is one that takes the strength of `nuclear` above its limit of 1.
    """
    found = []
    for one in candidates:
        name = strength_of(one.settings)
        if one.settings is None or name is None:
            continue
        for factor in factors.get(one.name, ()) if isinstance(factors, Mapping) else factors:
            value = factor * getattr(one.settings, name)
            if factor != 1 and not (name == "strength" and value > 1):
                settings = with_settings(one.settings, **{name: value})
                found.append(replace(one, name=f"{one.name}-{name}-{value:g}", settings=settings, varied=one.name))
    return found


def with_settings(method: Method, **values: Any) -> Method:
    """`method` with new values of the settings that it has; other names are ignored."""
    return structs.replace(method, **{name: value for name, value in values.items() if hasattr(method, name)})


def strength_of(method: Method | None) -> str | None:
    """The name of the method's strength, the first of its `strengths`; None if it has none."""
    return None if method is None else next(iter(method.strengths), None)
