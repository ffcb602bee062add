"""Options of the command line: their help, and checks of their values."""

from typing import Any

from tyro.conf import arg

from nuclear_diffusion.errors import require


def option(metavar: str | None = None, hint: str | None = None, *aliases: str, help: str | None = None) -> Any:
    """What stands for an option's value, its default in words, shorter names, and help in place of a docstring."""
    how: dict[str, Any] = {} if hint is None else {"help_behavior_hint": f"({hint})" if hint else ""}
    return arg(metavar=metavar, aliases=aliases, help=help, **how)


def require_positive(options: object, *names: str) -> None:
    """Raise `InputError` unless each of these options is unset, or positive and finite."""
    for name in names:
        flag, value = f"--{name.replace('_', '-')}", getattr(options, name)
        require(value is None or 0 < value < float("inf"), f"{flag} must be a positive number, got {value}.")


def require_seed(seed: int | None) -> None:
    """Raise `InputError` unless a seed is unset or fits into 32 bits."""
    require(seed is None or 0 <= seed < 2**32, f"--seed must be between 0 and 2^32 - 1, got {seed}.")
