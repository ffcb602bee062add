"""Options of the command line: their help, how they are parsed, and checks of their values."""

import contextlib
import functools
import io
import itertools
import math
import re
import typing
from collections.abc import Iterable, Sequence
from typing import Any

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, arg

from nuclear_diffusion.errors import InputError, did_you_mean, require

_SHELLS = ("bash", "zsh", "tcsh", "fish")


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


def no_command(name: str, commands: Iterable[str]) -> InputError:
    """The error for a first word that is none of the commands."""
    what = f"{name} is no command" if name else "Name a command"
    return InputError(f"{what}: choose one of {', '.join(commands)}{did_you_mean(name, commands)}")


def parse(kind: Any, arguments: Sequence[str], prog: str, **how: Any) -> Any:
    """`tyro.cli`, but what it cannot parse raises `InputError` with one sentence; tyro draws a box of ten lines."""
    box = io.StringIO()
    call = functools.partial(tyro.cli, kind, prog=prog, config=(FlagCreatePairsOff, OmitArgPrefixes), **how)
    _check_completion(arguments)
    for before, word in itertools.pairwise(["", *arguments]):
        require(word != "" or before.startswith("--"), "An argument is empty: give a path in its place.")
    _check_switches(kind, arguments)
    try:
        with contextlib.redirect_stderr(box):
            return call(args=arguments)
    except SystemExit as stop:
        if not stop.code:  # help
            raise
        if {"-h", "--help"} & {*arguments}:  # where tyro misses the value of the option before it
            return call(args=["--help"])
        raise InputError(_sentence(box.getvalue(), arguments, prog)) from None


def _check_completion(arguments: Sequence[str]) -> None:
    """Raise `InputError` if tyro is asked for a script for a shell that it does not know."""
    name, shell, *files = *arguments[:3], "", ""
    if name.startswith("--tyro") and (shell not in _SHELLS or ("write" in name and len(files) < 3)):
        raise InputError(f"{name} must be followed by {', '.join(_SHELLS)}{' and a file' * ('write' in name)}.")


def _check_switches(kind: Any, arguments: Sequence[str]) -> None:
    """Raise `InputError` if a switch has a value, which tyro would take for a clip: --overwrite=no."""
    fields = getattr(typing.get_origin(kind) or kind, "__dataclass_fields__", {})
    switches = {name for name, field in fields.items() if field.type is bool}
    for flag, equals, value in (word.partition("=") for word in itertools.takewhile("--".__ne__, arguments)):
        if equals and flag.removeprefix("--").replace("-", "_") in switches:
            raise InputError(f"{flag} takes no value: remove ={value}.")


def _values(flags: str, count: float, arguments: Sequence[str]) -> str:
    """What was typed after one of these flags, up to `count` words: tyro's box breaks and quotes it."""
    found: list[str] = []
    for index, word in enumerate(arguments):
        flag, equals, value = word.partition("=")
        if flag.replace("_", "-") in flags.split("/"):
            others = itertools.takewhile(lambda one: not re.match("--[a-z]|-[a-z]$", one), arguments[index + 1 :])
            found = [*([value] if equals else []), *others]
    return " ".join(found[: int(min(count, len(found)))]) or "nothing"


def _sentence(box: str, arguments: Sequence[str], prog: str) -> str:
    """What tyro's box says is wrong, and what to do."""
    plain = re.sub(r"\x1b\[[\d;]*m", "", box)
    inside = "\n".join(line[2:].rstrip(" │") for line in plain.splitlines() if line[:2] in ("│ ", "  "))
    parts = re.split(r"\n[─-]{9,}\n", inside)
    first, quoted = " ".join(parts[0].split()), re.compile("'([^']*)'").findall
    if wrong := re.match(r"Error parsing (\S+): (.*?)( Got errors: .*)?$", first):
        if "Argument helptext:" not in inside:  # the sentence is of the settings themselves
            return wrong[2]
        usage = parts[1].splitlines()[1].strip()
        number = "whole number" if "int()" in first or "INT" in usage else "number"
        many = f"two {number}s" if usage.count(" ") == 2 else f"{number}s" if "..." in usage else f"a {number}"
        values = _values(wrong[1], math.inf if "..." in usage else usage.count(" "), arguments)
        return f"{usage} must be {many}, got {values}."
    if wrong := re.match(r"invalid choice '(.*)' for argument '(\S+)'. Expected one of \((.*)\)", first):
        choices = quoted(wrong[3])
        got = f"{wrong[1] or 'nothing'}{did_you_mean(wrong[1], choices)}"
        return f"{wrong[2]} must be one of {', '.join(choices)}, got {got}"
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
