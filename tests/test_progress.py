"""Progress from inside compiled loops: it moves within a window, and what it raises ends the window."""

import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from networks import random_prior
from nuclear_diffusion.paper.gaussian import Gaussian
from nuclear_diffusion.priors.unet import UNetConfig
from nuclear_diffusion.progress import listening, report
from nuclear_diffusion.restore.background import Completion
from nuclear_diffusion.restore.estimate import estimate_window
from nuclear_diffusion.restore.methods import Job, Nuclear, Paper, Rpca, Zea

FRAMES = np.random.default_rng(0).random((51, 16, 16)).astype(np.float32)
RUNS = {
    "em": (Nuclear(), Gaussian(20.0, 0.4), 4),
    "draws": (Nuclear(samples=2), Gaussian(20.0, 0.4), 4 + 3 * 3 * 24),  # of each window and sweep, the levels
    "paper": (Paper(steps=9, window=40), Gaussian(20.0, 0.4), 9),
    "zea": (Zea(steps=9, window=40), Gaussian(20.0, 0.4), 9),
    "rpca": (Rpca(), None, 15),
}


class Enough(Exception):
    """What progress raises."""


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_progress_moves_within_a_window_and_can_end_it(name, caplog):
    method, prior, least = RUNS[name]

    def run(progress):
        parts = list(method.parts(Job([FRAMES], len(FRAMES), prior, progress=progress)))
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True) if arrays[0] is not None]

    told = []
    whole = run(lambda *now: told.append(now))
    counts = [done for done, _ in told]
    assert counts == sorted(counts)
    assert {total for _, total in told} == {counts[-1]}
    assert len(set(counts)) > least
    half = next(done for done in counts if 0 < done < counts[-1])
    heard = []

    def enough(done, total):
        heard.append(done)
        if done >= half:
            raise Enough

    with pytest.raises(Enough):
        run(enough)
    assert heard[-1] == half  # no step was told after it: the program had ended
    assert not caplog.records
    jax.effects_barrier()
    for one, other in zip(whole, run(None), strict=True):
        np.testing.assert_array_equal(one, other)


class Running:
    """A program of many steps that tells each, and runs beside Python: its input takes a while."""

    def __init__(self, steps: int):
        def step(i, x):
            report(i, steps)
            return jnp.sin(x)

        self.wait = jax.jit(lambda x: jax.lax.fori_loop(0, 300, lambda _, x: jnp.sin(x @ x), x))
        self.steps = jax.jit(lambda x: jax.lax.fori_loop(0, steps, step, x))
        self()
        jax.effects_barrier()

    def __call__(self):
        return self.steps(self.wait(jnp.ones((200, 200))))


def test_a_signal_as_a_program_fails_leaves_no_failure_behind():
    """JAX would print it with its traceback as Python ends."""
    program, failed = Running(9), threading.Event()

    def enough(done, total):
        failed.set()
        raise Enough

    def interrupted():
        with listening(enough, 0, 1, 9):
            program()
            assert failed.wait(60)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    jax.effects_barrier()


def test_a_signal_beside_a_program_ends_it_at_its_next_step():
    program, heard = Running(300), list[int]()

    def outside(done, total):
        heard.append(done)
        time.sleep(0.01)

    def interrupted():
        with listening(lambda done, total: None, 0, 1, 300):
            program()
            while not heard:
                time.sleep(0.001)
            raise KeyboardInterrupt

    with listening(outside, 0, 1, 300):
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        jax.effects_barrier()
    assert len(heard) < 250


def test_the_default_is_kept_by_the_compilation_cache():
    """JAX keeps no program that calls the host, so that each process would compile it again."""
    prior = random_prior(UNetConfig(widths=(8, 8), haze_aware=True))
    program = str(jax.make_jaxpr(lambda y: estimate_window(y, prior, Completion()))(FRAMES))
    assert "scan" in program
    assert "callback" not in program
