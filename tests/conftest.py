"""What holds in all tests.

Annotations are enforced: types by beartype, shapes and dtypes of arrays by jaxtyping. Programs are compiled once.
"""

import os
import signal
from pathlib import Path

import jaxtyping
import pytest
from hypothesis import HealthCheck, settings

# Most of the tests' time goes into compiling the same programs again in each process. The workers of pytest-xdist,
# their children and the next run read them from here. `pytest --cache-clear` empties it.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# And without LLVM's optimisations, in half the time or less. The programs of the tests are small: most run only once.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a background job: children would ignore Ctrl-C, too
    signal.signal(signal.SIGINT, signal.default_int_handler)

# An example may take as long as a machine needs that is slow, or busy.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

RESTORE = ("background", "clip", "draws", "estimate", "folder", "one_pass", "pictures", "render", "run")
"""All but `methods`, which imports the names in its annotations for type checkers only. Nor is `cli` checked, as tyro
builds its dataclasses with `tyro.MISSING`."""

jaxtyping.install_import_hook(
    [
        *(f"nuclear_diffusion.{name}" for name in ("io", "measure", "metrics", "paper", "priors")),
        *(f"nuclear_diffusion.{name}" for name in ("simulation", "training")),
        *(f"nuclear_diffusion.restore.{name}" for name in RESTORE),
    ],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",  # an int is a float, as for type checkers
)


@pytest.fixture
def wrong_types():
    """For arguments that the annotations forbid: to test what a function says to them, or as simple stand-ins."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def _no_figures_of_training(monkeypatch):
    """For runs of training whose subject is another: the figures take longer than the steps."""
    monkeypatch.setattr("nuclear_diffusion.training.records.draw_curves", lambda *_: b"curves")
    monkeypatch.setattr("nuclear_diffusion.training.records.draw_samples", lambda *_: b"samples")


@pytest.fixture
def _no_figures_of_results(monkeypatch):
    """For results whose subject is another: summary.png takes longer than all other files."""

    class Figure:
        def savefig(self, path, dpi):
            path.write_bytes(b"figure")

    monkeypatch.setattr("nuclear_diffusion.restore.folder.Summary.draw", lambda *_: Figure())


@pytest.fixture
def _no_figures_of_reports(monkeypatch):
    """For runs of `evaluate` whose subject is another: the figures take longer than the scores."""
    monkeypatch.setattr("nuclear_diffusion.measure.report.draw", lambda *_: {})


@pytest.fixture(autouse=True)
def _no_lines_of_progress(monkeypatch):
    """How long a test takes must not change what a command says."""
    monkeypatch.setattr("nuclear_diffusion.reporting.FIRST_SECONDS", 3600.0)
    monkeypatch.setattr("nuclear_diffusion.reporting.EVENT_SECONDS", 3600.0)
