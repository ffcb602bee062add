"""The command line. Heavy modules are imported when a command runs, so that help is fast."""

import argparse
import contextlib
import dataclasses
import math
import multiprocessing
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Protocol, TypeVar, Union

import tyro
from tyro.conf import Positional, arg, subcommand

from nuclear_diffusion import signals
from nuclear_diffusion.errors import InputError, require
from nuclear_diffusion.options import no_command, option, parse, require_positive, require_seed
from nuclear_diffusion.reporting import Reporter, one_line, plural, sentence_of
from nuclear_diffusion.restore.methods import METHODS, Method, MethodName, Nuclear, as_json, read_settings
from nuclear_diffusion.training.request import Request

if TYPE_CHECKING:
    from nuclear_diffusion.io.clip import Reading
    from nuclear_diffusion.io.formats import Source
    from nuclear_diffusion.restore.batch import Record

FAILED, UNREAD = 2, 141  # exit codes: an error that the user can fix; nobody reads the output, as after `| head`
Output = Annotated[Path, option("DIR", None, "-o", help="Output folder; created if missing.")]
Prior = Annotated[
    str | None, option("echo|echo-blind|PATH", "default: each method's own", help="Prior for all methods that use one.")
]
Data = Annotated[
    Positional[Path],
    option("DATA", help="Data set folder: hazy clips, septum and ventricle masks, ground truth if available."),
]
Noisy = Annotated[Path | None, option("DIR", "default: noisy in DATA, or DATA", help="Folder of hazy clips.")]
MASKS = "Folder of masks with the frames' file names: PNG (septum 255, ventricle 128) or LabelMe JSON."
Masks = Annotated[Path | None, option("DIR", "default: noisy_roi, or beside the frames", help=MASKS)]
Truth = Annotated[
    Path | None, option("DIR", "default: truth, if present", help="Haze-free versions of the hazy clips.")
]


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """How to read a clip whose file does not say."""

    axes: Annotated[str | None, option("HWT", "default: THW, or as the format says")] = None
    """Order of an array's axes: T frames, H height, W width, C colour."""
    white: Annotated[float | None, option("VALUE", "default: as the format says, or of its type")] = None
    """Stored value of white, if black is 0: 4095 for 12 bits."""
    db: Annotated[tuple[float, float] | None, option("LOW HIGH", "default: as the format says")] = None
    """Stored values of black and white: -60 0 for dB."""
    fps: Annotated[float | None, option("RATE", "default: as the file says, or 30")] = None
    """Frames per second."""
    dataset: Annotated[str | None, option("NAME", "default: frames, input, or the only one")] = None
    """Array to take from a file with several."""

    def reading(self) -> "Reading":
        """The options, checked."""
        from nuclear_diffusion.io.clip import Reading

        return Reading(**dataclasses.asdict(self))


M = TypeVar("M", bound=Method)
T = TypeVar("T")

OfMethod = Annotated[
    MethodName,
    arg(
        name="method",
        help=" ".join(f"{name}: {(kind.__doc__ or '').splitlines()[0]}" for name, kind in METHODS.items())
        + " Each method has its own settings, listed by 'dehaze --method NAME --help'.",
    ),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Long:
    """How a command that takes long reports."""

    json: bool = False
    """Print one JSON object per line on stdout instead of text, for scripts."""
    quiet: bool = False
    """Print only errors."""


@dataclasses.dataclass(frozen=True)
class Dehaze(Long, Generic[M]):
    """Separate clips into signal and haze; write arrays, videos, a summary figure and a report for each."""

    clips: Annotated[Positional[tuple[Path, ...]], option("CLIP...", "one or more")]
    """DICOM, movie, GIF, TIFF, NPZ, NPY, HDF5, MATLAB, NIfTI, NRRD, MHA or zarr, or folders of frames or of clips."""
    output: Output
    method: M
    method_name: OfMethod = "nuclear"
    settings: Annotated[Path | None, option("FILE", "default: none")] = None
    """Settings file written by `tune`. Typed settings override the file."""
    sector: Annotated[Path | None, option("PNG", "default: found in each clip")] = None
    """Grey image of the frames' size, white where the ultrasound image is; separate pieces are separate images."""
    sector_from: Annotated[Path | None, option("CLIP", "default: found in each clip")] = None
    """Another clip or result of the same scanner and frame size, to take the sector from."""
    overwrite: bool = False
    """Replace existing results made with other settings, weights or frames."""
    write: Annotated[str, option("KINDS", "default: only the result folder")] = ""
    """Also write the result as dicom, mp4, gif, ffv1, png, tiff, mha, nifti, npy, npz, h5, zea or zarr (or npz,mha)."""
    flat: bool = False
    """Write only what --write names, under the input's name; no result folders."""
    anonymize: bool = False
    """Remove patient data from DICOM headers; text in the picture stays."""
    read: ReadOptions = ReadOptions()

    jobs: Annotated[int | None, option("N", "default: 1, none for a single clip")] = None
    """Worker processes, each with its share of the cores; 1 on a GPU. A crash in one costs only its clip."""
    shard: Annotated[str | None, option("I/N", "default: all clips")] = None
    """Only every N-th clip from the I-th on, for job arrays; the last shard to end writes the summary."""

    def run(self, say: Reporter) -> int:
        """Dehaze every clip; report failures and continue with the rest."""
        if not self.clips:
            raise InputError("Name at least one clip.")
        require_positive(self, "jobs")

        from nuclear_diffusion.io.find import left_out
        from nuclear_diffusion.restore.batch import Record, Shard, Task, items_of, keep, records_of, run_batch
        from nuclear_diffusion.restore.outputs import Outputs
        from nuclear_diffusion.restore.run import check_writable, known_sector
        from nuclear_diffusion.view.overview import counted, write_overview

        shard = Shard() if self.shard is None else Shard.parse(self.shard)
        outputs = Outputs.parse(self.write, flat=self.flat, anonymize=self.anonymize)
        check_writable(self.output)
        reading = self.read.reading()
        sector = known_sector(self.sector, self.sector_from)
        if self.flat and os.path.realpath(self.output) in map(os.path.realpath, self.clips):
            raise InputError(f"{self.output} holds the clips, among which --flat results would be lost: change -o.")
        everything = items_of(self.clips, self.output)
        if not self.flat and (missed := left_out(self.clips, self.output)):
            say.note(f"Left out: {plural(len(missed), 'clip')} in {self.output}, where the results go; change -o.")
        items = shard.of(everything)
        task = Task(self.output, self.method, reading, sector, outputs, self.overwrite)
        one = len(everything) == 1 and self.jobs is None
        here = one or (self.jobs is None and multiprocessing.current_process().daemon)
        jobs = None if here else self.jobs or 1
        recorded = len(everything) > 1 and not self.flat
        unfinished, ended = 0, dict[str, Record]()
        try:
            with say.progress(f"dehazing {items[0].name}" if one else "dehazing clips") as progress:
                for record in run_batch(items, task, jobs=jobs, progress=progress, strict=one):
                    if recorded:
                        keep(record, self.output)
                    ended[record.clip] = record
                    unfinished += record.state in ("left", "failed")
                    self._tell(say, record, len(ended), len(items))
        except KeyboardInterrupt:
            rest = [item.name for item in items if item.name not in ended]
            raise signals.Stopped(_interrupted(len(ended) - unfinished, rest)) from None
        if recorded:
            records = records_of(everything, task, ended)
            missing = [item.name for item, record in zip(everything, records, strict=True) if record is None]
            if missing:
                page = self.output / "summary.html"
                say.note(f"Left for other shards: {plural(len(missing), 'clip')}; the last one writes {page}.")
            else:
                whole = [record for record in records if record is not None]
                page = write_overview(whole, self.output)
                say.result(one_line(f"{page}: {counted(whole)}"), "summary", result=page, clips=len(whole))
        return FAILED if unfinished else 0

    def _tell(self, say: Reporter, record: "Record", done: int, total: int) -> None:
        """Say what became of a clip."""
        about = {"clip": record.clip, "done": done, "total": total}
        if record.state in ("left", "failed"):
            say.error(record.reason, record.state, **about)
        elif record.state == "skipped":
            why = "exists; --overwrite replaces it" if self.flat else "already done with the same settings"
            say.result(one_line(f"{record.result}: skipped, {why}"), "skipped", **about, result=record.result)
        else:
            folder = None if self.flat else Path(record.result)
            removed = _removed(record.haze_energy_removed or 0.0, record.bright_tissue_lost, folder)
            seconds = f"{record.seconds or 0.0:.1f} s, " if record.separated else ""
            text = one_line(f"{record.result}: {seconds}{removed}")
            say.result(text, "done", **about, seconds=record.seconds, result=record.result)
            for sentence in record.notes:
                say.note(sentence, clip=record.clip)


@dataclasses.dataclass(frozen=True)
class Inspect:
    """Show how clips are read: format, frame rate, grey values, sector. Nothing is changed."""

    clips: Annotated[Positional[tuple[Path, ...]], option("CLIP...", "one or more")]
    """Clips, or folders of clips."""
    output: Annotated[Path | None, option("PNG", "default: no picture", "-o")] = None
    """Also draw the first frame of the (one) clip with the outline of its sector."""
    read: ReadOptions = ReadOptions()

    def run(self, say: Reporter) -> int:
        """Describe every clip; report failures and continue with the rest."""
        if not self.clips:
            raise InputError("Name at least one clip.")

        from nuclear_diffusion.io.find import expand
        from nuclear_diffusion.restore.inspect import describe, draw

        reading, clips = self.read.reading(), expand(self.clips)
        if self.output is not None and len(clips) > 1:
            raise InputError(f"-o draws one clip, got {len(clips)}: name one of them.")

        def inspect(source: "Source") -> None:
            seen = describe(source, reading)
            say.result("\n".join(seen.lines()))
            if self.output is not None:
                draw(seen, self.output)

        return _each(clips, inspect, say)


@dataclasses.dataclass(frozen=True)
class Render(Long):
    """Render existing results at another strength, without separating the clips again."""

    results: Annotated[Positional[tuple[Path, ...]], option("RESULT...", "one or more")]
    """Result folders written by `dehaze`."""
    strength: float
    """How much haze to remove: 0 keeps the input, 1 removes everything that may be haze."""
    output: Annotated[Path | None, option("DIR", "default: replace each result", "-o")] = None
    """Output folder, with one subfolder per result."""

    def run(self, say: Reporter) -> int:
        """Render every result; report failures and continue with the rest."""
        if not self.results:
            raise InputError("Name at least one result folder.")

        from nuclear_diffusion.restore.render import limits
        from nuclear_diffusion.restore.run import check_writable, folder_names, render_result

        limits(self.strength)
        if self.output is not None:
            check_writable(self.output)

        def render(one: tuple[int, Path, str]) -> None:
            index, folder, name = one

            def tell(done: float, total: float) -> None:
                progress(index + done / total, len(self.results), f"{name} {done / total:.0%}")

            into = None if self.output is None else self.output / name
            outcome = render_result(folder, self.strength, into, progress=tell)
            report = outcome.report
            removed = _removed(report["haze_energy_removed"], report.get("bright_tissue_lost"), outcome.folder)
            say.result(one_line(f"{outcome.folder}: {removed}"), "done", result=outcome.folder)

        numbered = range(len(self.results))
        with say.progress("rendering") as progress:
            return _each(zip(numbered, self.results, folder_names(self.results), strict=True), render, say)


@dataclasses.dataclass(frozen=True)
class Train(Long, Request):
    """Train a diffusion prior on your own or simulated clips. Interrupted runs resume."""

    def run(self, say: Reporter) -> int:
        """Train, and report whether the new prior is better than the previous one."""
        self.check()

        from nuclear_diffusion.restore.run import check_writable
        from nuclear_diffusion.training.train_prior import train_prior

        check_writable(self.output)
        trained = train_prior(self, say.progress, say.note)
        if trained.interrupted:
            raise signals.Stopped(f"Interrupted at step {trained.step}; run the same command to resume.")
        made = self.output / "prior.safetensors"
        about = {"steps": trained.step, "frames": trained.frames, "verdict": trained.verdict}
        lines = [f"{made}: {plural(trained.step, 'step')} on {plural(trained.frames, 'frame')}", *trained.verdict]
        say.result("\n".join(lines), "done", result=made, **about)
        return 0


@dataclasses.dataclass(frozen=True)
class Simulate(Long):
    """Write a data set of simulated hazy echo clips with ground truth."""

    directory: Annotated[Positional[Path], option("DIR")]
    """Output folder; created if missing."""
    clips: int = 10
    """Number of patients, one clip each."""
    seed: int = 0
    """Random seed of the first patient; it rises by 1 per patient."""
    frames: int = 60
    """Frames per clip."""
    size: int = 256
    """Height and width of a frame in pixels."""

    def run(self, say: Reporter) -> int:
        """Simulate and write the clips."""
        require_positive(self, "clips", "frames", "size")
        require_seed(self.seed)

        from nuclear_diffusion.restore.run import check_writable
        from nuclear_diffusion.simulation import write_dataset

        check_writable(self.directory)
        done = 0

        def tell(number: int, clips: int) -> None:
            nonlocal done
            done = number
            progress(number, clips)

        try:
            with say.progress("simulating") as progress:
                write_dataset(
                    self.directory, clips=self.clips, seed=self.seed, frames=self.frames, size=self.size, progress=tell
                )
        except KeyboardInterrupt:
            finished = f"{done} of {plural(self.clips, 'patient')}"
            raise signals.Stopped(f"Interrupted. Finished: {finished}; the same command makes the rest.") from None
        text = f"{self.directory}: {plural(self.clips, 'clip')} of {plural(self.frames, 'frame')} with ground truth"
        say.result(text, "done", result=self.directory, clips=self.clips)
        return 0


@dataclasses.dataclass(frozen=True)
class Evaluate(Long):
    """Evaluate methods on a data set with masks: tables, figures and a report. Interrupted runs resume."""

    data: Data
    output: Output
    methods: Annotated[str, option("NAMES")] = "hazy,rpca,mmse,nuclear"
    """Methods to compare, separated by commas; the hazy input is always included."""
    prior: Prior = None
    settings: Annotated[tuple[Path, ...], option("FILE...", "default: none")] = ()
    """Settings files written by `tune`; each replaces the defaults of its method."""
    patients: Annotated[Path | None, option("FILE", "default: all")] = None
    """Evaluate only the patients in this text file, one per line, such as held-out.txt of `tune`."""
    strengths: Annotated[tuple[str, ...], option("[METHOD=]FACTORS...", "default: none")] = ()
    """Also run all methods at multiples of their strengths (0.25,0.5,2), or some (rpca=1.1,1.2 nuclear=0.3,1.6).
    Strengths of nuclear above 1 are skipped."""
    noisy: Noisy = None
    masks: Masks = None
    clean: Annotated[Path | None, option("DIR", "default: clean, if present")] = None
    """Clean clips of other people."""
    truth: Truth = None
    inception: Annotated[Path | None, option("FILE", "default: no FID")] = None
    """ONNX file of the Inception network, for FID against the clean clips; needs onnxruntime."""
    workers: int = 1
    """Worker processes; use 1 on a GPU. The scores do not depend on it."""
    seed: Annotated[int | None, option("INT", "default: 0, or from --settings")] = None
    """Random seed of the methods."""

    def run(self, say: Reporter) -> int:
        """Run what is missing and write the report."""
        require_positive(self, "workers")
        require_seed(self.seed)
        factors = _factors(self.strengths, self.methods)

        own = [read_settings(path) for path in self.settings]

        from nuclear_diffusion.measure import require_modules

        require_modules("evaluate", "joblib", "jinja2", "statsmodels")

        from nuclear_diffusion.measure.candidates import choose, vary
        from nuclear_diffusion.measure.datasets import find_dataset, only_patients
        from nuclear_diffusion.measure.evaluate import evaluate
        from nuclear_diffusion.restore.run import check_writable

        check_writable(self.output)
        dataset = find_dataset(self.data, noisy=self.noisy, masks=self.masks, clean=self.clean, truth=self.truth)
        if self.patients is not None:
            dataset = only_patients(dataset, self.patients)
        chosen = choose(self.methods, prior=self.prior, seed=self.seed, settings=own)
        study = evaluate(
            dataset,
            [*chosen, *vary(chosen, factors)],
            self.output,
            workers=self.workers,
            command=_command_line("evaluate", self, but=("workers",)),
            progress_bar=say.progress,
            inception=self.inception,
        )
        left_out = study.left_out()
        for sentence in (*dataset.notes, *study.reused, *left_out):
            say.note(sentence)
        page = self.output / "report.html"
        text = f"{page}: {plural(len(study.main), 'method')} on {plural(len(study.cases), 'clip')}"
        say.result(text, "done", result=page, clips=len(study.cases), left_out=len(left_out))
        return FAILED if left_out else 0


@dataclasses.dataclass(frozen=True)
class Tune(Long):
    """Tune a method's strengths on some patients and evaluate the result on the others. Interrupted runs resume."""

    data: Data
    output: Output
    method: MethodName = "nuclear"
    """Method to tune."""
    trials: int = 50
    """Settings to try. More trials extend a finished search."""
    share: float = 0.5
    """Fraction of the patients to tune on, between 0 and 1; the rest are held out."""
    max_ks: Annotated[float | None, option("FLOAT", "default: the KS_A of the default settings")] = None
    """Highest mean KS_A (change of tissue) allowed on the patients tuned on."""
    prior: Prior = None
    noisy: Noisy = None
    masks: Masks = None
    truth: Truth = None
    seed: int = 0
    """Random seed of the split, the search and the method."""

    def run(self, say: Reporter) -> int:
        """Split the patients, search, and write the settings file and the report."""
        require_positive(self, "trials", "max_ks")
        if not 0 < self.share < 1:
            raise InputError(f"--share must be between 0 and 1, got {self.share}.")
        require_seed(self.seed)
        if self.prior is not None and "prior" not in METHODS[self.method].__struct_fields__:
            raise InputError(f"--method {self.method} has no prior: remove --prior.")

        from nuclear_diffusion.measure import require_modules

        require_modules("tune", "optuna", "jinja2", "statsmodels")

        from nuclear_diffusion.measure.candidates import choose
        from nuclear_diffusion.measure.datasets import find_dataset
        from nuclear_diffusion.measure.tune import tune
        from nuclear_diffusion.restore.run import check_writable

        check_writable(self.output)
        dataset = find_dataset(self.data, noisy=self.noisy, masks=self.masks, truth=self.truth)
        _, base = choose(self.method, prior=self.prior, seed=self.seed)
        tuned = tune(
            dataset,
            base,
            self.output,
            trials=self.trials,
            share=self.share,
            seed=self.seed,
            max_ks=self.max_ks,
            command=_command_line("tune", self),
            progress_bar=say.progress,
        )
        for sentence in tuned.notes:
            say.note(sentence)
        made = self.output / "settings.json"
        text = f"{made}: {as_json(tuned.settings)}; numbers in {self.output / 'report.md'}"
        say.result(text, "done", result=made)
        return FAILED if tuned.left_out else 0


@dataclasses.dataclass(frozen=True)
class Demo(Long):
    """Dehaze a real echo clip, and compare the methods on a simulated patient with known truth."""

    output: Output = Path("nuclear-diffusion-demo")

    def run(self, say: Reporter) -> int:
        """Run both parts and list the files to open."""
        from nuclear_diffusion.measure.demo import run_demo
        from nuclear_diffusion.restore.run import check_writable

        check_writable(self.output)
        run_demo(self.output, progress_bar=say.progress, silent=self.json or self.quiet)
        if self.json:
            say.result("", "done", result=self.output)
        return 0


@dataclasses.dataclass(frozen=True)
class App:
    """Look at clips in a browser, dehaze them, and change the strength while you watch. Local: 127.0.0.1 only."""

    paths: Annotated[Positional[tuple[Path, ...]], option("[CLIP|FOLDER|RESULT...]", "")] = ()
    """Clips and results to open, and folders to open them from."""
    port: int = 0
    """Port; 0 takes a free one."""
    no_browser: bool = False
    """Only print the address, with its token."""

    def run(self, say: Reporter) -> int:
        """Serve the page until Ctrl-C."""
        from nuclear_diffusion.measure import require_modules

        require_modules("app", "starlette", "uvicorn")

        from nuclear_diffusion.app.server import serve

        serve(self.paths, port=self.port, browser=not self.no_browser)
        return 0


class Command(Protocol):
    """What was typed, parsed."""

    def run(self, say: Reporter) -> int:
        """Do it, and return the exit code."""
        ...


COMMANDS: dict[str, Any] = {
    "dehaze": Dehaze[Nuclear],
    "inspect": Inspect,
    "render": Render,
    "train": Train,
    "simulate": Simulate,
    "evaluate": Evaluate,
    "tune": Tune,
    "demo": Demo,
    "app": App,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    0: done. 2: an error that the user can fix. 130 and 143: ended by SIGINT (Ctrl-C) and SIGTERM. 141: nobody reads the
    output.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        from nuclear_diffusion.version import __version__

        print(f"nuclear-diffusion {__version__}")
        return 0
    try:
        with signals.unwinding():
            return _run(arguments)
    except KeyboardInterrupt:  # a signal at the very beginning or end
        return _end(Reporter())


def _run(arguments: Sequence[str]) -> int:
    say, command = Reporter(), None
    try:
        command = _parse(arguments)
        if isinstance(command, Long):
            say = Reporter(json=command.json, quiet=command.quiet)
        code = command.run(say)
        sys.stdout.flush()  # so that a reader that is gone is noticed here
        return code
    except SystemExit as stop:  # help, or arguments that tyro cannot parse
        return stop.code if isinstance(stop.code, int) else FAILED if stop.code else 0
    except KeyboardInterrupt as stop:
        return _end(say, str(stop) or ("" if isinstance(command, Long) else "Interrupted."))
    except BrokenPipeError:
        for stream in (sys.stdout, sys.stderr):  # what is still buffered has nowhere to go
            with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())
        return UNREAD
    except Exception as error:
        if signals.received is not None:  # compiled code turns what a signal raises into its own errors
            return _end(say)
        report_error(error, say)
        return FAILED


def _end(say: Reporter, sentence: str = "") -> int:
    say.interrupted(sentence or signals.SENTENCE)
    return signals.code()


def _interrupted(done: int, rest: Sequence[str], most: int = 5) -> str:
    """What is finished when a batch is interrupted, and some of what is not."""
    more = f" and {len(rest) - most} more" if len(rest) > most else ""
    open_ = one_line(f"{', '.join(rest[:most])}{more}")
    finished = f"Finished: {plural(done, 'clip')}; {f'not finished: {open_}' if rest else 'none is left'}"
    return f"Interrupted. {finished}. The same command goes on, and skips the clips and windows that are finished."


def _removed(energy: float, lost: float | None, folder: Path | None) -> str:
    """What was removed; `folder` is the result, with a summary that marks the bright pixels lost."""
    words = f"{100 * energy:.1f} % of the energy removed"
    if lost is None:
        return words
    words += f", {100 * lost:.1f} % of the bright pixels dimmed by more than a quarter"
    return f"{words}, marked in {folder / 'summary.png'}" if lost and folder else words


def _each(items: Iterable[T], run: Callable[[T], None], say: Reporter) -> int:
    """Run on each item; report failures and continue with the rest. Returns the exit code."""
    code = 0
    for item in items:
        try:
            run(item)
        except BrokenPipeError:
            raise
        except Exception as error:
            signals.check()
            report_error(error, say)
            code = FAILED
    return code


def report_error(error: Exception, say: Reporter) -> None:
    """Report an error that the user can fix in one sentence; re-raise any other."""
    sentence = sentence_of(error)
    if sentence is None:
        raise error
    say.error(sentence)


def _parse(arguments: Sequence[str]) -> Command:
    """Parse the command; the options of `dehaze` depend on the method."""
    name, *rest = arguments or [""]
    prog = f"nuclear-diffusion {name}"
    if name == "dehaze":
        method = _method(rest)
        return parse(Dehaze[type(method)], rest, prog, default=Dehaze(tyro.MISSING, tyro.MISSING, method, method.name))
    if name in COMMANDS:
        return parse(COMMANDS[name], rest, prog)
    if name not in ("-h", "--help") and not name.startswith("--tyro"):
        raise no_command(name, COMMANDS)
    return parse(
        Union[tuple(Annotated[kind, subcommand(name)] for name, kind in COMMANDS.items())],  # noqa: UP007
        arguments,
        "nuclear-diffusion",
        description="Remove haze from echocardiograms with Nuclear Diffusion. Research use only. --version prints "
        "the version.",
    )


def _method(arguments: Sequence[str]) -> Method:
    """The method chosen by --method or --settings, with its default settings or the file's.

    Raises `InputError` if the two name different methods, or a setting belongs only to other methods.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--method", choices=METHODS)
    parser.add_argument("--settings", type=Path)
    try:
        typed, rest = parser.parse_known_args(arguments)
    except argparse.ArgumentError:  # tyro finds it too
        return Nuclear()
    own = None if typed.settings is None else read_settings(typed.settings)
    if own is not None and typed.method not in (None, own.name):
        raise InputError(f"{typed.settings} holds settings for method {own.name}: remove --method {typed.method}.")
    method = own or METHODS[typed.method or "nuclear"]()
    for flag in rest:
        name = flag.removeprefix("--").split("=")[0]
        having = [kind for kind in METHODS if name in METHODS[kind].__struct_fields__]
        if flag.startswith("--") and having and method.name not in having:
            way = "add" if typed.method is None else "instead use"
            other = "" if own else f", or {way} --method {' or '.join(having)}"
            raise InputError(f"--{name} is not a setting of method {method.name}: remove it{other}.")
    return method


def _command_line(name: str, command: Any, but: Sequence[str] = ()) -> str:
    """The command line for `command`, without defaults and the flags in `but`."""
    flags = []
    for field in dataclasses.fields(command):
        value = getattr(command, field.name)
        if field.name not in ("data", "output", "json", "quiet", *but) and value != field.default:
            words = value if isinstance(value, tuple) else (value,)
            flags += [f"--{field.name.replace('_', '-')}", *(str(word) for word in words)]
    return shlex.join(["nuclear-diffusion", name, str(command.data), "-o", str(command.output), *flags])


def _factors(texts: Sequence[str], methods: str) -> dict[str, list[float]]:
    """Factors by method, from texts such as "0.5,2" for all `methods` or "rpca=0.5,2" for one."""
    factors: dict[str, list[float]] = {}
    names = [name.strip() for name in methods.split(",")]
    for text in texts:
        method, equals, numbers = text.rpartition("=")
        if equals and method not in names:
            raise InputError(f"--strengths names {method!r}, which --methods does not name: add or remove it.")
        try:
            values = [float(part) for part in numbers.split(",")]
        except ValueError as error:
            raise InputError(f"--strengths must be numbers separated by commas, got {text}.") from error
        for value in values:
            require(0 < value < math.inf, f"--strengths must be a positive number, got {value}.")
        for name in [method] if equals else names:
            factors.setdefault(name, []).extend(values)
    return {name: list(dict.fromkeys(values)) for name, values in factors.items()}
