"""The command line. Heavy modules are imported when a command runs, so that help is fast."""

import argparse
import contextlib
import dataclasses
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

import tyro
from tyro.conf import Positional, arg, subcommand

from nuclear_diffusion import signals
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.reporting import Reporter, plural, sentence_of
from nuclear_diffusion.restore.methods import METHODS, Method, MethodName, Nuclear, as_json, read_settings
from nuclear_diffusion.training.request import Request

if TYPE_CHECKING:
    from nuclear_diffusion.io.clip import Reading
    from nuclear_diffusion.io.formats import Source
    from nuclear_diffusion.restore.batch import Record

FAILED, UNREAD = 2, 141
"""Exit codes: an error that the user can fix; nobody reads the output, as after `| head`."""

Output = Annotated[Path, arg(aliases=["-o"], metavar="DIR", help="Output folder; created if missing.")]
Prior = Annotated[
    str | None,
    arg(metavar="echo|PATH", help="Prior for all methods that use one.", help_behavior_hint="(default: echo)"),
]
Data = Annotated[
    Positional[Path],
    arg(metavar="DATA", help="Data set folder: hazy clips, septum and ventricle masks, ground truth if available."),
]
Noisy = Annotated[
    Path | None,
    arg(metavar="DIR", help="Folder of hazy clips.", help_behavior_hint="(default: noisy in DATA, or DATA)"),
]
Masks = Annotated[
    Path | None,
    arg(
        metavar="DIR",
        help="Folder of masks with the frames' file names: PNG (septum 255, ventricle 128) or LabelMe JSON.",
        help_behavior_hint="(default: noisy_roi, or beside the frames)",
    ),
]
Truth = Annotated[
    Path | None,
    arg(metavar="DIR", help="Haze-free versions of the hazy clips.", help_behavior_hint="(default: truth, if present)"),
]


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """How to read a clip whose file does not say."""

    axes: Annotated[
        str | None,
        arg(
            metavar="HWT",
            help="Order of an array's axes: T frames, H height, W width, C colour.",
            help_behavior_hint="(default: THW, or as the format says)",
        ),
    ] = None
    white: Annotated[
        float | None,
        arg(
            metavar="VALUE",
            help="Stored value of white, if black is 0: 4095 for 12 bits.",
            help_behavior_hint="(default: as the format says, or of its type)",
        ),
    ] = None
    db: Annotated[
        tuple[float, float] | None,
        arg(
            metavar="LOW HIGH",
            help="Stored values of black and white: -60 0 for dB.",
            help_behavior_hint="(default: as the format says)",
        ),
    ] = None
    fps: Annotated[
        float | None,
        arg(metavar="RATE", help="Frames per second.", help_behavior_hint="(default: as the file says, or 30)"),
    ] = None
    dataset: Annotated[
        str | None,
        arg(
            metavar="NAME",
            help="Array to take from a file with several.",
            help_behavior_hint="(default: frames, input, or the only one)",
        ),
    ] = None

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

    json: Annotated[bool, arg(help="One JSON object a line on stdout, for scripts, in place of text.")] = False
    quiet: Annotated[bool, arg(help="Say only errors.")] = False


@dataclasses.dataclass(frozen=True)
class Dehaze(Long, Generic[M]):
    """Separate clips into signal and haze; write arrays, videos, a summary figure and a report for each."""

    clips: Annotated[
        Positional[tuple[Path, ...]],
        arg(
            metavar="CLIP...",
            help="DICOM, movie, GIF, TIFF, NPZ, NPY, HDF5, MATLAB, NIfTI, NRRD or MHA files, zarr, or folders of "
            "frames or of clips.",
            help_behavior_hint="(one or more)",
        ),
    ]
    output: Output
    method: M
    method_name: OfMethod = "nuclear"
    settings: Annotated[
        Path | None,
        arg(
            metavar="FILE",
            help="Settings file written by `tune`. Typed settings override the file.",
            help_behavior_hint="(default: none)",
        ),
    ] = None
    sector: Annotated[
        Path | None,
        arg(
            metavar="PNG",
            help="Grey image of the frames' size, white where the ultrasound image is; separate pieces are separate "
            "images.",
            help_behavior_hint="(default: found in each clip)",
        ),
    ] = None
    sector_from: Annotated[
        Path | None,
        arg(
            metavar="CLIP",
            help="Another clip or result of the same scanner and frame size, to take the sector from.",
            help_behavior_hint="(default: found in each clip)",
        ),
    ] = None
    overwrite: Annotated[bool, arg(help="Replace existing results made with other settings, weights or frames.")] = (
        False
    )
    write: Annotated[
        str,
        arg(
            metavar="KINDS",
            help="Also write the dehazed clip as dicom, mp4, gif, ffv1, png, tiff, mha, nifti, npy, npz, h5, zea or "
            "zarr; several separated by commas.",
            help_behavior_hint="(default: only the result folder)",
        ),
    ] = ""
    flat: Annotated[bool, arg(help="Write only what --write names, under the input's name; no result folders.")] = False
    anonymize: Annotated[bool, arg(help="Remove patient data from DICOM headers; text in the picture stays.")] = False
    read: ReadOptions = ReadOptions()

    jobs: Annotated[
        int | None,
        arg(
            metavar="N",
            help="Worker processes, each with its share of the cores; 1 on a GPU. A crash in one costs only its clip.",
            help_behavior_hint="(default: none, all in this process)",
        ),
    ] = None
    shard: Annotated[
        str | None,
        arg(
            metavar="I/N",
            help="Only every N-th clip from the I-th on, for arrays of a scheduler; the last shard writes the summary.",
            help_behavior_hint="(default: all clips)",
        ),
    ] = None

    def run(self, say: Reporter) -> int:
        """Dehaze every clip; report failures and continue with the rest."""
        if not self.clips:
            raise InputError("Name at least one clip.")
        if self.jobs is not None:
            _require_positive("jobs", self.jobs)

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
        items = shard.of(everything)
        task = Task(self.output, self.method, reading, sector, outputs, self.overwrite)
        one = len(everything) == 1 and self.jobs is None
        recorded = len(everything) > 1 and not self.flat
        unfinished, ended = 0, dict[str, Record]()
        try:
            with say.progress(f"dehazing {items[0].name}" if one else "dehazing clips") as progress:
                for record in run_batch(items, task, jobs=self.jobs, progress=progress, strict=one):
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
                say.note(f"{len(missing)} clips are left for other shards; the last one writes {page}.")
            else:
                whole = [record for record in records if record is not None]
                page = write_overview(whole, self.output)
                say.result(f"{page}: {counted(whole)}", "summary", result=page, clips=len(whole))
        return FAILED if unfinished else 0

    def _tell(self, say: Reporter, record: "Record", done: int, total: int) -> None:
        """Say what became of a clip."""
        about = {"clip": record.clip, "done": done, "total": total}
        if record.state in ("left", "failed"):
            say.error(record.reason, record.state, **about)
        elif record.state == "skipped":
            why = "exists; --overwrite replaces it" if self.flat else "already done with the same settings"
            say.result(f"{record.result}: skipped, {why}", "skipped", **about, result=record.result)
        else:
            removed = _removed(record.haze_energy_removed or 0.0, record.bright_tissue_lost)
            text = f"{record.result}: {record.seconds or 0.0:.1f} s, {removed}"
            say.result(text, "done", **about, seconds=record.seconds, result=record.result)
            for sentence in record.notes:
                say.note(sentence, clip=record.clip)


@dataclasses.dataclass(frozen=True)
class Inspect:
    """Show how clips are understood, without changing anything."""

    clips: Annotated[
        Positional[tuple[Path, ...]],
        arg(metavar="CLIP...", help="Clips, or folders of clips.", help_behavior_hint="(one or more)"),
    ]
    output: Annotated[
        Path | None,
        arg(
            aliases=["-o"],
            metavar="PNG",
            help="Also draw the first frame of the (one) clip with the outline of its sector.",
            help_behavior_hint="(default: no picture)",
        ),
    ] = None
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

    results: Annotated[
        Positional[tuple[Path, ...]],
        arg(metavar="RESULT...", help="Result folders written by `dehaze`.", help_behavior_hint="(one or more)"),
    ]
    strength: Annotated[
        float, arg(help="How much haze to remove: 0 keeps the input, 1 removes everything that may be haze.")
    ]
    output: Annotated[
        Path | None,
        arg(
            aliases=["-o"],
            metavar="DIR",
            help="Output folder, with one subfolder per result.",
            help_behavior_hint="(default: replace each result)",
        ),
    ] = None

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
            removed = _removed(report["haze_energy_removed"], report.get("bright_tissue_lost"))
            say.result(f"{outcome.folder}: {removed}", "done", result=outcome.folder)

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
        lines = [f"{made}: {trained.step} steps on {trained.frames} frames", *trained.verdict]
        say.result("\n".join(lines), "done", result=made, **about)
        return 0


@dataclasses.dataclass(frozen=True)
class Simulate(Long):
    """Write a data set of simulated hazy echo clips with ground truth."""

    directory: Annotated[Positional[Path], arg(metavar="DIR", help="Output folder; created if missing.")]
    clips: Annotated[int, arg(help="Number of patients, one clip each.")] = 10
    seed: Annotated[int, arg(help="Random seed of the first patient; it rises by 1 per patient.")] = 0
    frames: Annotated[int, arg(help="Frames per clip.")] = 60
    size: Annotated[int, arg(help="Height and width of a frame in pixels.")] = 256

    def run(self, say: Reporter) -> int:
        """Simulate and write the clips."""
        for name in ("clips", "frames", "size"):
            _require_positive(name, getattr(self, name))
        _require_seed(self.seed)

        from nuclear_diffusion.restore.run import check_writable
        from nuclear_diffusion.simulation import write_dataset

        check_writable(self.directory)
        with say.progress("simulating") as progress:
            write_dataset(
                self.directory,
                clips=self.clips,
                seed=self.seed,
                frames=self.frames,
                size=self.size,
                progress=progress,
            )
        text = f"{self.directory}: {self.clips} clips of {self.frames} frames with ground truth"
        say.result(text, "done", result=self.directory, clips=self.clips)
        return 0


@dataclasses.dataclass(frozen=True)
class Evaluate(Long):
    """Evaluate methods on a data set with masks: tables, figures and a report. Interrupted runs resume."""

    data: Data
    output: Output
    methods: Annotated[
        str, arg(metavar="NAMES", help="Methods to compare, separated by commas; the hazy input is always included.")
    ] = "hazy,rpca,mmse,nuclear"
    prior: Prior = None
    settings: Annotated[
        tuple[Path, ...],
        arg(
            metavar="FILE...",
            help="Settings files written by `tune`; each replaces the defaults of its method.",
            help_behavior_hint="(default: none)",
        ),
    ] = ()
    patients: Annotated[
        Path | None,
        arg(
            metavar="FILE",
            help="Evaluate only the patients in this text file, one per line, such as held-out.txt of `tune`.",
            help_behavior_hint="(default: all)",
        ),
    ] = None
    strengths: Annotated[
        tuple[str, ...],
        arg(
            metavar="[METHOD=]FACTORS...",
            help="Also run methods at these multiples of their strengths, for the trade-off curve: 0.25,0.5,2 for "
            "all methods, or rpca=1.1,1.2 nuclear=0.3,1.6 for some. For nuclear, strengths above 1 are skipped.",
            help_behavior_hint="(default: none)",
        ),
    ] = ()
    noisy: Noisy = None
    masks: Masks = None
    clean: Annotated[
        Path | None,
        arg(metavar="DIR", help="Clean clips of other people.", help_behavior_hint="(default: clean, if present)"),
    ] = None
    truth: Truth = None
    inception: Annotated[
        Path | None,
        arg(
            metavar="FILE",
            help="ONNX file of the Inception network, for FID against the clean clips; needs onnxruntime.",
            help_behavior_hint="(default: no FID)",
        ),
    ] = None
    workers: Annotated[int, arg(help="Worker processes; use 1 on a GPU. The scores do not depend on it.")] = 1
    seed: Annotated[
        int | None,
        arg(metavar="INT", help="Random seed of the methods.", help_behavior_hint="(default: 0, or from --settings)"),
    ] = None

    def run(self, say: Reporter) -> int:
        """Run what is missing and write the report."""
        _require_positive("workers", self.workers)
        _require_seed(self.seed)
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
            command=self.command(),
            progress_bar=say.progress,
            inception=self.inception,
        )
        left_out = study.left_out()
        for sentence in (*dataset.notes, *left_out):
            say.note(sentence)
        page = self.output / "report.html"
        text = f"{page}: {plural(len(study.main), 'method')} on {plural(len(study.cases), 'clip')}"
        say.result(text, "done", result=page, clips=len(study.cases), left_out=len(left_out))
        return FAILED if left_out else 0

    def command(self) -> str:
        """The command line that reproduces the report, whatever the number of workers."""
        return _command_line("evaluate", self, but=("workers",))


@dataclasses.dataclass(frozen=True)
class Tune(Long):
    """Tune a method's strengths on some patients and evaluate the result on the others. Interrupted runs resume."""

    data: Data
    output: Output
    method: Annotated[MethodName, arg(help="Method to tune.")] = "nuclear"
    trials: Annotated[int, arg(help="Settings to try. More trials extend a finished search.")] = 50
    share: Annotated[
        float, arg(help="Fraction of the patients to tune on, between 0 and 1; the rest are held out.")
    ] = 0.5
    max_ks: Annotated[
        float | None,
        arg(
            metavar="FLOAT",
            help="Highest mean KS_A (change of tissue) allowed on the patients tuned on.",
            help_behavior_hint="(default: the KS_A of the default settings)",
        ),
    ] = None
    prior: Prior = None
    noisy: Noisy = None
    masks: Masks = None
    truth: Truth = None
    seed: Annotated[int, arg(help="Random seed of the split, the search and the method.")] = 0

    def run(self, say: Reporter) -> int:
        """Split the patients, search, and write the settings file and the report."""
        for name in ("trials", "max_ks"):
            _require_positive(name, getattr(self, name))
        if not 0 < self.share < 1:
            raise InputError(f"--share must be between 0 and 1, got {self.share}.")
        _require_seed(self.seed)
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
    """Look at clips in a browser, dehaze them, turn the strength and see the picture change. Local: 127.0.0.1 only."""

    paths: Annotated[
        Positional[tuple[Path, ...]],
        arg(metavar="[CLIP|FOLDER|RESULT...]", help="Clips and results to open, and folders to open them from."),
    ] = ()
    port: Annotated[int, arg(help="Port; 0 takes a free one.")] = 0
    no_browser: Annotated[bool, arg(help="Only print the address, with its token.")] = False

    def run(self, say: Reporter) -> int:
        """Serve the page until Ctrl-C."""
        from nuclear_diffusion.measure import require_modules

        require_modules("app", "starlette", "uvicorn")

        from nuclear_diffusion.app.server import serve

        serve(self.paths, port=self.port, browser=not self.no_browser)
        return 0


Command = (
    Annotated[Dehaze[Nuclear], subcommand("dehaze")]
    | Annotated[Inspect, subcommand("inspect")]
    | Annotated[Render, subcommand("render")]
    | Annotated[Train, subcommand("train")]
    | Annotated[Simulate, subcommand("simulate")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Tune, subcommand("tune")]
    | Annotated[Demo, subcommand("demo")]
    | Annotated[App, subcommand("app")]
)


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
    say, command = Reporter(), None
    with signals.unwinding():
        try:
            command = _parse(arguments)
            if isinstance(command, Long):
                say = Reporter(json=command.json, quiet=command.quiet)
            code = command.run(say)
            sys.stdout.flush()  # so that a reader that is gone is noticed here
            return code
        except SystemExit as stop:  # help, or arguments that tyro cannot parse
            return stop.code if isinstance(stop.code, int) else FAILED
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
    open_ = f"{', '.join(rest[:most])}{more}"
    return f"Interrupted. Finished: {plural(done, 'clip')}; not finished: {open_}. The same command goes on from there."


def _removed(energy: float, lost: float | None) -> str:
    words = f"{100 * energy:.1f} % of the energy removed"
    return words if lost is None else f"{words}, {100 * lost:.1f} % of the bright pixels dimmed by more than a quarter"


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
    how: dict[str, Any] = {"config": (tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes)}
    if arguments[:1] == ["dehaze"]:
        chosen = _method(arguments[1:])
        kind, default = type(chosen), Dehaze(tyro.MISSING, tyro.MISSING, chosen, chosen.name)
        return tyro.cli(Dehaze[kind], args=arguments[1:], default=default, prog="nuclear-diffusion dehaze", **how)
    return tyro.cli(
        Command,
        args=arguments,
        prog="nuclear-diffusion",
        description="Remove haze from echocardiograms with Nuclear Diffusion. Research use only. --version prints "
        "the version.",
        **how,
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
    except argparse.ArgumentError:  # tyro's message is better
        return Nuclear()
    own = None if typed.settings is None else read_settings(typed.settings)
    if own is not None and typed.method not in (None, own.name):
        raise InputError(f"{typed.settings} holds settings for method {own.name}: remove --method {typed.method}.")
    method = own or METHODS[typed.method or "nuclear"]()
    for flag in rest:
        name = flag.removeprefix("--").split("=")[0]
        having = [kind for kind in METHODS if name in METHODS[kind].__struct_fields__]
        if flag.startswith("--") and having and method.name not in having:
            raise InputError(
                f"--{name} is not a setting of method {method.name}: remove it, or add --method {' or '.join(having)}."
            )
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
            _require_positive("strengths", value)
        for name in [method] if equals else names:
            factors.setdefault(name, []).extend(values)
    return {name: list(dict.fromkeys(values)) for name, values in factors.items()}


def _require_seed(seed: int | None) -> None:
    if seed is not None and not 0 <= seed < 2**32:
        raise InputError(f"--seed must be between 0 and 2^32 - 1, got {seed}.")


def _require_positive(name: str, value: float | None) -> None:
    if value is not None and not 0 < value < float("inf"):
        raise InputError(f"--{name.replace('_', '-')} must be a positive number, got {value}.")
