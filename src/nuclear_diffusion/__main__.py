"""`python -m nuclear_diffusion`: the command line."""

import sys

from nuclear_diffusion.cli import main

sys.exit(main())
