"""What all tests share."""

import os
from pathlib import Path

# Most of the tests' time goes into compiling the same programs again in each process. The workers of pytest-xdist,
# their children and the next run read them from here. `pytest --cache-clear` empties it.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
