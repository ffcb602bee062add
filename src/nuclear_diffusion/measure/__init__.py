"""Evaluation: data sets, scores, intervals, tables, figures, reports."""

from importlib.util import find_spec

from nuclear_diffusion.errors import InputError


def require_modules(command: str, *modules: str) -> None:
    """Raise `InputError` with what to install if `command`, also the name of an extra, cannot run."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise InputError(
            f"{command} needs {' and '.join(missing)}, which {verb} not installed: "
            f"python -m pip install 'nuclear-diffusion[{command}]'."
        )
