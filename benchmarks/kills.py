"""Commands that are killed at random moments, and what a second run makes of it.

A process that has imported everything is forked for each run (`forkserver`), so that the kills fall on the work and not
on the imports.
"""

import collections
import dataclasses
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from safetensors import safe_open
from tyro.conf import arg

from benchmarks.record import RESULTS, markdown, record_of, save
from nuclear_diffusion.errors import require
from nuclear_diffusion.files import TEMPORARY
from nuclear_diffusion.io import write_video
from nuclear_diffusion.reporting import progress_bar
from nuclear_diffusion.simulation import write_dataset

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)

SECONDS = 600.0
"""Longest run; more counts as a hang."""

SAME, OTHER, LOST, LEFT, TRACEBACK, CODE, HANG = OUTCOMES = (
    "same",
    "other result",
    "old result lost",
    "something left",
    "traceback",
    "exit code",
    "hang",
)
"""Outcomes of one kill; only the first is good: a second run ends as if there had been no kill."""


class Scenario(NamedTuple):
    """A command that is killed."""

    name: str
    arguments: Callable[[Path, Path], list[str]]
    """Of the folder with the inputs and the output."""
    compared: tuple[str, ...]
    """Patterns of the output files whose content is compared. Of all others only the names are, as they hold times."""


def _dehaze(inputs: Path, output: Path) -> list[str]:
    return ["dehaze", str(inputs / "clip.npy"), "-o", str(output), "--method", "rpca", "--overwrite"]


def _evaluate(inputs: Path, output: Path) -> list[str]:
    return ["evaluate", str(inputs / "data"), "-o", str(output), "--methods", "hazy,rpca"]


def _tune(inputs: Path, output: Path) -> list[str]:
    return ["tune", str(inputs / "data"), "-o", str(output), "--method", "rpca", "--trials", "3"]


def _train(inputs: Path, output: Path) -> list[str]:
    small = "--blind --init none --widths 4 --size 32 --batch 2 --steps 6"
    return ["train", str(inputs / "data" / "clean"), "-o", str(output), *small.split()]


def _simulate(_: Path, output: Path) -> list[str]:
    return ["simulate", str(output), "--clips", "2", "--frames", "3", "--size", "48"]


SCENARIOS = (
    Scenario("dehaze", _dehaze, ("*/result.h5", "*/summary.png", "*/*.mp4")),
    Scenario("evaluate", _evaluate, ("numbers.csv",)),
    Scenario("tune", _tune, ("settings.json", "trials.csv", "*.txt")),
    Scenario("train", _train, ("prior.safetensors",)),
    Scenario("simulate", _simulate, ("**/*",)),
)


class Killed(NamedTuple):
    """What became of one kill."""

    command: str
    signal: str
    outcome: str
    detail: str = ""
    ended: bool = False
    """Whether the command had ended before the signal came."""


@dataclasses.dataclass(frozen=True)
class Kills:
    """Kill the commands at random moments, run them again, and compare with undisturbed runs."""

    kills: Annotated[int, arg(help="Number of kills, the commands and the signals in turn.")] = 200
    seed: Annotated[int, arg(help="Random seed of the moments.")] = 0
    only: Annotated[
        tuple[str, ...], arg(metavar="COMMAND...", help="Commands.", help_behavior_hint="(default: all)")
    ] = ()
    output: Annotated[Path, arg(help="Folder for the table.")] = RESULTS

    command: ClassVar[str] = "kills"
    name: ClassVar[str] = "kills"
    shows: ClassVar[str] = "Commands killed at random moments and run again, compared with undisturbed runs."

    def run(self) -> None:
        """Run the campaign and write the table."""
        chosen = [each for each in SCENARIOS if not self.only or each.name in self.only]
        require(self.kills > 0, "--kills must be positive.")
        require(bool(chosen), f"--only names no command: choose from {', '.join(each.name for each in SCENARIOS)}.")
        with tempfile.TemporaryDirectory() as folder, progress_bar("killing") as progress:
            found = campaign(chosen, self.kills, Path(folder), seed=self.seed, progress=progress)
        for each in found:
            if each.outcome != SAME:
                print(f"{each.command}, {each.signal}: {each.outcome}, {each.detail}")
        self.write(found)

    def write(self, found: Sequence[Killed]) -> None:
        """The table."""
        counts = collections.Counter((each.command, each.outcome) for each in found)
        late = collections.Counter(each.command for each in found if each.ended)
        names = list(dict.fromkeys(each.command for each in found))
        rows = [[name, *(str(counts[name, one]) for one in OUTCOMES), str(late[name])] for name in names]
        rows.append(
            ["**all**", *(str(sum(counts[name, one] for name in names)) for one in OUTCOMES), str(late.total())]
        )
        record = record_of(self, {})
        page = f"""# Killed commands

{len(found)} runs, ended by SIGKILL, SIGTERM and SIGINT in turn at a random moment of their usual duration, then
repeated. Good: *same*, the repeated run leaves exactly the files of an undisturbed run. Bad: another result, a
`dehaze --overwrite` that left neither the old nor the new result, hidden files after SIGTERM or SIGINT, a traceback, an
exit code that is not the signal's, and a hang. Last column: the command had ended before the signal came.
{record.caption()}

{markdown(["command", *OUTCOMES, "ended before"], rows)}"""
        save(self.output, record, page)


def campaign(
    scenarios: Sequence[Scenario], kills: int, folder: Path, *, seed: int, progress: Callable[..., None] | None = None
) -> list[Killed]:
    """Kill the commands in turn, `kills` times in all, in `folder`."""
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "programs")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["PYTHONWARNINGS"] = "ignore"  # JAX warns of forks; it has not started here
    inputs, rng = folder / "inputs", np.random.default_rng(seed)
    write_video(inputs / "clip.npy", rng.integers(1, 256, (12, 48, 48), np.uint8))
    write_dataset(inputs / "data", 4, frames=11, size=48)
    known: dict[str, tuple[Path, dict[str, str], float]] = {}
    for each in scenarios:
        output = folder / each.name
        if each.name == "dehaze":  # an old result, of another strength
            _whole([*each.arguments(inputs, output), "--lam", "0.05"], folder)
            shutil.copytree(output, folder / "before" / each.name)
        _whole(each.arguments(inputs, output), folder)  # compiles
        seconds = _whole(each.arguments(inputs, folder / "again" / each.name), folder)
        known[each.name] = folder / "before" / each.name, contents(output, each.compared), seconds
    found: list[Killed] = []
    for number in range(kills):
        each = scenarios[number % len(scenarios)]
        before, wanted, seconds = known[each.name]
        number_of_signal = SIGNALS[number // len(scenarios) % len(SIGNALS)]
        moment = rng.uniform(0, 1.05 * seconds)
        outcome = _kill(each, inputs, folder / "killed", before, wanted, number_of_signal, moment)
        found.append(Killed(each.name, number_of_signal.name, *outcome))
        if progress is not None:
            progress(number + 1, kills)
    return found


def _kill(
    each: Scenario, inputs: Path, folder: Path, before: Path, wanted: dict[str, str], ending: int, moment: float
) -> tuple[str, str, bool]:
    """Run a command, end it after `moment` seconds and run it again; return outcome, detail, whether it had ended."""
    shutil.rmtree(folder, ignore_errors=True)
    output = folder / "out"
    if before.exists():
        shutil.copytree(before, output)
    old = contents(output, each.compared)
    code, words, _ = _run(each.arguments(inputs, output), folder, (ending, moment))
    at = f"after {moment:.2f} s"
    if code is None:
        return HANG, at, False
    if "Traceback" in words:
        return TRACEBACK, f"{at}: {words[-500:]}", False
    if code not in (0, -ending if ending == signal.SIGKILL else 128 + ending):
        return CODE, f"{at}: {code}: {words[-500:]}", False
    hidden = [path.name for path in output.rglob("*") if _is_ours(path.name)] if output.exists() else []
    if ending != signal.SIGKILL and hidden:
        return LEFT, f"{at}: {hidden}", False
    visible = {name: sha256 for name, sha256 in contents(output, each.compared).items() if "/." not in f"/{name}"}
    if old and visible not in (old, wanted) and not (output / ".clip.replaced").exists():
        return LOST, at, False
    ended = code == 0
    code, words, _ = _run(each.arguments(inputs, output), folder)
    if code != 0:
        return (HANG if code is None else CODE), f"{at}, then {code}: {words[-500:]}", ended
    made = contents(output, each.compared)
    if made != wanted:
        differing = sorted(name for name in {*made, *wanted} if made.get(name) != wanted.get(name))
        return OTHER, f"{at}: {differing[:5]}", ended
    return SAME, "", ended


def _is_ours(name: str) -> bool:
    return name == ".lock" or name.endswith((".lock", ".partial", ".replaced")) or bool(TEMPORARY.fullmatch(name))


def contents(folder: Path, compared: Sequence[str]) -> dict[str, str]:
    """The files in `folder`, and the hashes of those that are compared."""
    chosen = {path for pattern in compared for path in folder.glob(pattern)}
    return {
        path.relative_to(folder).as_posix(): _hash(path) if path in chosen else ""
        for path in folder.rglob("*")
        if path.is_file()
    }


def _hash(path: Path) -> str:
    """Of a file without times, and of the weights and facts of a prior, whose order in the file is arbitrary."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="numpy") as file:
            facts = file.metadata() or {}
        info = json.loads(facts["info"]) | {"seconds": None}
        return hashlib.sha256(json.dumps([facts | {"info": info}], sort_keys=True).encode()).hexdigest()
    lines = path.read_bytes().split(b"\n")
    kept = [line for line in lines if path.suffix != ".csv" or b",seconds," not in line]
    return hashlib.sha256(b"\n".join(kept)).hexdigest()


def _whole(arguments: list[str], folder: Path) -> float:
    """Run a command to its end; return the seconds."""
    code, words, seconds = _run(arguments, folder)
    require(code == 0, f"{' '.join(arguments)} failed: {words}")
    return seconds


def _run(arguments: list[str], folder: Path, kill: tuple[int, float] | None = None) -> tuple[int | None, str, float]:
    """Run a command in a forked process, and maybe end it by a signal; return exit code, stderr and seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "nuclear_diffusion.cli", "nuclear_diffusion.restore.run"])
    folder.mkdir(parents=True, exist_ok=True)
    said = folder / "stderr.txt"
    ours, theirs = context.Pipe()
    process = context.Process(target=_child, args=(arguments, said, theirs))
    process.start()
    theirs.close()
    with suppress(EOFError):
        ours.recv()  # it runs
    started = time.monotonic()
    if kill is not None:
        process.join(kill[1])
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, kill[0])
    process.join(SECONDS)
    seconds = time.monotonic() - started
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    return code, said.read_text(encoding="utf-8", errors="replace"), seconds


def _child(arguments: list[str], said: Path, started: Connection) -> None:
    """Run the command as the shell would."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    stream = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor in (1, 2):
        os.dup2(stream, descriptor)
    from nuclear_diffusion import signals
    from nuclear_diffusion.cli import main

    signals.end_at_once()
    started.send(json.dumps(arguments))
    started.close()
    sys.argv = ["nuclear-diffusion", *arguments]
    code = main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
