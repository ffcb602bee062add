"""Entry point of `python -m nuclear_diffusion`."""

import sys

from nuclear_diffusion.cli import main

if __name__ == "__main__":  # worker processes import this module too
    sys.exit(main())
