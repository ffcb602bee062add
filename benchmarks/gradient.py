"""The cost of the gradient through the network.

Times a step of `--method zea` and of DPS with the gradient of `priors/convolution.py`, and the first with JAX's own
gradient, for a network of the authors' size with random weights; also zea's own step, given an environment with zea
0.1.8 and Keras. All take turns, so that other load on the machine affects all alike.
"""

import contextlib
import dataclasses
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from tyro.conf import arg

from benchmarks.record import RESULTS, markdown, record_of, save
from nuclear_diffusion.paper.algorithm1 import PAPER_GAMMA, Algorithm1, wrt_state
from nuclear_diffusion.paper.nuclear_norm import NuclearNorm
from nuclear_diffusion.paper.zea import ZEA_GAMMA, ZEA_WINDOW, Zea
from nuclear_diffusion.priors.convolution import Conv, plain_correlate
from nuclear_diffusion.priors.variance_preserving import VariancePreserving
from nuclear_diffusion.priors.zea_preset import Layers, PresetConfig, build_network

OFFICIAL = PresetConfig(widths=(32, 64, 96, 128), block_depth=2)
"""The size of the authors' network."""

SIZE = 96
"""Height and width of the frames."""

STEPS = 2
"""Steps per run; a single step would not be compiled as a loop."""

FORWARD, OURS, JAXS, DPS, ZEAS = (
    "forward pass",
    "step of `--method zea`",
    "the same with JAX's gradient",
    "step of DPS (`wrt_state`)",
    "step of zea itself",
)

FIXTURES = Path(__file__).parents[1] / "tests" / "fixtures"
"""Folder of `make_zea_fixtures.py`, which runs zea itself."""

ZEA = f"""
import importlib.metadata, sys, time
from make_zea_fixtures import make_model, make_video, run_zea
model = make_model(size={SIZE}, widths={OFFICIAL.widths}, depth={OFFICIAL.block_depth})
video = make_video({ZEA_WINDOW}, {SIZE})
packages = ("zea", "keras", "jax")
print("versions", *(f"{{name}} {{importlib.metadata.version(name)}}" for name in packages), sep=";", flush=True)
for line in sys.stdin:
    begin = time.perf_counter()
    run_zea(model, video, n_steps=5000, initial_step={5000 - STEPS})
    print("seconds", time.perf_counter() - begin, sep=";", flush=True)
"""
"""A script that runs zea once per input line."""


class RandomLayers(Layers):
    """Random weights of about unit gain instead of a preset."""

    def __init__(self):
        super().__init__({}, "")
        self.rng = np.random.default_rng(0)

    def take(self, kind: str, *shapes: tuple[int, ...]) -> list[jax.Array]:
        """Kernel and bias, or means and variances of a normalisation."""
        if kind == "conv2d":
            kernel, bias = shapes
            drawn = self.rng.normal(0, np.prod(kernel[:3]) ** -0.5, kernel), self.rng.normal(0, 0.1, bias)
            return [jnp.asarray(array, jnp.float32) for array in drawn]
        return [jnp.zeros(shapes[0]), jnp.ones(shapes[0])]


class PlainConv(eqx.Module):
    """`Conv` with JAX's own gradient."""

    kernel: jax.Array
    bias: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        """Correlate, and add the bias."""
        return plain_correlate(x, self.kernel) + self.bias


def with_jaxs_gradient(prior: VariancePreserving) -> VariancePreserving:
    """The same prior without the gradient of `priors/convolution.py`."""

    def plain(node):
        return PlainConv(node.kernel, node.bias) if isinstance(node, Conv) else node

    return jax.tree.map(plain, prior, is_leaf=lambda node: isinstance(node, Conv))


@contextlib.contextmanager
def zea_itself(python: Path) -> Iterator[tuple[str, Callable[[], float]]]:
    """Zea's versions, and a function that returns the seconds of one run."""
    command = [str(python), "-c", ZEA]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=FIXTURES) as process:
        asked, answers = process.stdin, process.stdout
        assert asked is not None
        assert answers is not None

        def answer(to: str) -> str:
            for line in answers:
                if line.startswith(f"{to};"):
                    return line.strip().removeprefix(f"{to};")
            raise RuntimeError("zea exited early: see its messages above.")

        def run() -> float:
            asked.write("\n")
            asked.flush()
            return float(answer("seconds"))

        yield answer("versions").replace(";", ", "), run
        asked.close()


@dataclasses.dataclass(frozen=True)
class Gradient:
    """Seconds of a forward pass and of steps with gradients through the network."""

    repeats: Annotated[int, arg(help="Number of timings, after one run that compiles.")] = 3
    zea_python: Annotated[
        Path | None, arg(metavar="PYTHON", help="Python of an environment with zea; without it, zea is left out.")
    ] = None
    output: Annotated[Path, arg(help="Folder for the table.")] = RESULTS

    command: ClassVar[str] = "gradient"
    name: ClassVar[str] = "gradient"
    shows: ClassVar[str] = "Seconds of a step with the gradient through the network: ours, JAX's own and zea's."

    def run(self) -> None:
        """Time everything and write the table."""
        prior = VariancePreserving(
            build_network(OFFICIAL, RandomLayers()), OFFICIAL.min_signal_rate, OFFICIAL.max_signal_rate, OFFICIAL.stride
        )
        plain = with_jaxs_gradient(prior)
        y = jax.random.uniform(jax.random.key(0), (ZEA_WINDOW, SIZE, SIZE))
        zea = Zea(n_steps=5000, initial_step=5000 - STEPS)
        dps = dataclasses.replace(Algorithm1.paper(steps=STEPS), data_gradient=wrt_state)
        forward = eqx.filter_jit(lambda prior, y: prior.predict_noise(y, 0.5))
        found = {}

        def timed(name: str, function: Callable, *arguments, steps: int = STEPS, **rest) -> Callable[[], float]:
            def run() -> float:
                begin = time.perf_counter()
                found[name] = jax.block_until_ready(function(*arguments, **rest))
                return (time.perf_counter() - begin) / steps

            return run

        key = jax.random.key(1)
        runs = {
            FORWARD: timed(FORWARD, forward, prior, y, steps=1),
            OURS: timed(OURS, zea.sample, y, prior, NuclearNorm(ZEA_GAMMA), key=key),
            JAXS: timed(JAXS, zea.sample, y, plain, NuclearNorm(ZEA_GAMMA), key=key),
            DPS: timed(DPS, dps, y, prior, NuclearNorm(PAPER_GAMMA), key=key),
        }
        with contextlib.ExitStack() as stack:
            versions = ""
            if self.zea_python is not None:
                versions, run_zea = stack.enter_context(zea_itself(self.zea_python))
                runs[ZEAS] = lambda: run_zea() / STEPS
            seconds = {name: [] for name in runs}
            for turn in range(self.repeats + 1):
                for name, run in runs.items():
                    spent = run()
                    print(f"{name}: {spent:.2f} s{' with compiling' if turn == 0 else ''}", flush=True)
                    if turn > 0:
                        seconds[name].append(spent)
        difference = float(jnp.abs(found[OURS].signal - found[JAXS].signal).max())
        self.write(seconds, difference, versions)

    def write(self, seconds: dict[str, list[float]], difference: float, versions: str) -> None:
        """The table."""
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        rows = []
        for name, values in seconds.items():
            ratios = [medians[name] / medians[other] for other in (FORWARD, OURS)]
            spread = f"{min(values):.2f}, {max(values):.2f}"
            rows.append([name, f"{medians[name]:.2f}", spread, f"{ratios[0]:.1f}", f"{ratios[1]:.2f}"])
        against = f" zea itself is that of {versions}." if versions else ""
        widths = ", ".join(map(str, OFFICIAL.widths))
        timings = "1 timing" if self.repeats == 1 else f"{self.repeats} timings"
        record = record_of(self, {})
        page = f"""# The gradient through the network

Seconds for one window of {ZEA_WINDOW} frames of {SIZE} × {SIZE} and a network of the authors' size with random weights:
widths {widths}, {OFFICIAL.block_depth} blocks per level. Median of {timings} of {STEPS} steps, taken in turns,
compilation excluded.
{STEPS} steps with our gradient and with JAX's end within {difference:.1e} of each other, in [-1, 1].
{record.caption()}{against}

{markdown(["", "seconds", "least, most", "forward passes", "times our step"], rows)}"""
        save(self.output, record, page)
