"""Options of the command line: their help, how they are parsed, and checks of their values."""

import contextlib
import difflib
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, arg

from nuclear_diffusion.errors import InputError, require


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


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """The end of a sentence: a question with the known word that is most like `word`, if one is."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {close[0]}?" if close else f"{otherwise}."


def parse(kind: Any, arguments: Sequence[str], prog: str, **how: Any) -> Any:
    """`tyro.cli`, but what it cannot parse raises `InputError` with one sentence; tyro draws a box of ten lines."""
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.cli(kind, args=arguments, prog=prog, config=(FlagCreatePairsOff, OmitArgPrefixes), **how)
    except SystemExit as stop:
        if not stop.code:  # help
            raise
        raise InputError(_sentence(box.getvalue(), arguments, prog)) from None


def _sentence(box: str, arguments: Sequence[str], prog: str) -> str:
    """What tyro's box says is wrong, and what to do."""
    plain = re.sub(r"\x1b\[[\d;]*m", "", box)
    inside = "\n".join(line[2:].rstrip(" │") for line in plain.splitlines() if line[:2] in ("│ ", "  "))
    parts = re.split(r"\n[─-]{9,}\n", inside)
    first, quoted = " ".join(parts[0].split()), re.compile("'([^']*)'").findall
    if wrong := re.match(r"Error parsing \S+: (.*?)( Got errors: .*)?$", first):
        if "Argument helptext:" not in inside:  # the sentence is of the settings themselves
            return wrong[1]
        usage = parts[1].splitlines()[1].strip()
        number = "whole number" if "int()" in first or "INT" in usage else "number"
        many = f"two {number}s" if usage.count(" ") == 2 else f"{number}s" if "..." in usage else f"a {number}"
        return f"{usage} must be {many}, got {' '.join(quoted(wrong[1]))}."
    if wrong := re.match(r"invalid choice '(.*)' for argument '(\S+)'. Expected one of \((.*)\)", first):
        choices = quoted(wrong[3])
        return f"{wrong[2]} must be one of {', '.join(choices)}, got {wrong[1]}{did_you_mean(wrong[1], choices)}"
    if wrong := re.match(r"Missing value for argument .*?(--[a-z-]+)", first):
        return f"{wrong[1]} needs a value: add it, or remove {wrong[1]}."
    missing = [line.strip() for line in parts[0].splitlines() if re.match(r" {4}\S", line)]
    if unknown := re.search(r"Unrecognized options: +([^\s,]+)", " ".join(inside.split())):
        word = next((word for word in arguments if word.startswith(unknown[1])), unknown[1])  # long ones are broken
        if not word.startswith("-"):
            return f"{prog} cannot use {word!r}: remove it."
        known = re.findall(r"--[a-z-]+", " ".join(missing) or inside.partition("Perhaps you meant:")[2])
        return f"{prog} has no option {word.split('=')[0]}{did_you_mean(word, known, f': see {prog} --help')}"
    if missing:
        return f"{prog} needs {' and '.join(line.split(', ')[0] for line in missing)}: see {prog} --help."
    return f"{first.rstrip('.')}: see {prog} --help."
