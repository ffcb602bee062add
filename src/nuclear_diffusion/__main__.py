"""The entry point of the command, also of `python -m nuclear_diffusion`."""

import atexit
import sys

from nuclear_diffusion import signals


def main() -> int:
    """Run the command line; from the first moment a signal ends it in one sentence."""
    signals.end_at_once()
    atexit.register(signals.ignore)  # first registered, last called
    if sys.flags.optimize > 1:
        print("error: scikit-image cannot do without docstrings: use python -O, not python -OO.", file=sys.stderr)
        return 2

    from nuclear_diffusion.cli import main as run

    return run()


if __name__ == "__main__":  # worker processes import this module too
    sys.exit(main())
