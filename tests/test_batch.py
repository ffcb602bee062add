"""Batches: shards, worker processes, what becomes of each clip, the summary, and what is said to logs and scripts."""

import contextlib
import csv
import errno
import functools
import io
import json
import logging
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import crew
from children import PATIENCE, eventually, started
from nuclear_diffusion import reporting, signals
from nuclear_diffusion.cli import main
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import write_video
from nuclear_diffusion.metrics import flicker
from nuclear_diffusion.reporting import Reporter, line, seconds_left
from nuclear_diffusion.restore import batch, workers
from nuclear_diffusion.restore.batch import Item, Record, Shard, items_of
from nuclear_diffusion.restore.methods import Rpca
from nuclear_diffusion.restore.run import Outcome
from nuclear_diffusion.view.overview import write_overview

pytestmark = pytest.mark.usefixtures("_no_figures_of_results")


def moving(seed: int = 0, frames: int = 5) -> np.ndarray:
    speckle = np.clip(np.random.default_rng(seed).rayleigh(0.2, (40, 48)) + 0.1, 0, 1)
    return np.stack([np.roll(speckle, 2 * t, axis=0) for t in range(frames)]).astype(np.float32)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def folder(tmp_path):
    """Empty files with the names of clips."""
    place = tmp_path / "clips"
    place.mkdir()
    for name in ("a10", "a2", "a1", "b"):
        (place / f"{name}.npz").touch()
    return place


REPORT = {
    "frames": 5,
    "seconds": 1.5,
    "haze_energy_removed": 0.25,
    "bright_tissue_lost": None,
    "bright_tissue_changed": 0.125,
    "notes": ["A note."],
}


class Separations:
    """In place of `dehaze_file`: writes an empty result, and raises what a clip's name is told to raise."""

    def __init__(self):
        self.raises = {}
        self.seen = []

    def __call__(self, source, folder, method, loaded, *, progress=None, **_):
        self.seen.append(source.stem)
        if progress is not None:
            progress(1, 2)
        if source.stem in self.raises:
            raise self.raises[source.stem]
        skipped = folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        return Outcome(folder, REPORT | {"flicker": {"input": 2.0, "signal": 1.0}}, skipped)


@pytest.fixture
def separations(monkeypatch):
    separate = Separations()
    monkeypatch.setattr(batch, "dehaze_file", separate)
    monkeypatch.setattr(batch, "spread", crew.spread_here)
    monkeypatch.setattr(batch, "open_stored", lambda *_: None)
    return separate


def command(folder, out, *flags):
    return ["dehaze", str(folder), "-o", str(out), "--method", "rpca", *flags]


def table(out) -> list[dict[str, str]]:
    with (out / "summary.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# shards


@pytest.mark.parametrize("clips", [0, 1, 7, 12])
@pytest.mark.parametrize("parts", [1, 2, 5, 12])
def test_shards_share_out_all_clips_once_and_evenly(clips, parts):
    items = [Item(Path(f"{number}.npz"), str(number)) for number in range(clips)]
    shared = [Shard.parse(f"{part}/{parts}").of(items) for part in range(1, parts + 1)]
    assert sorted(item for part in shared for item in part) == sorted(items)
    sizes = [len(part) for part in shared]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "1/0", "a/b", "-1/3", "1/3/5", "", "1.5/3"])
def test_a_shard_that_is_none_is_one_sentence(text, folder, out, capsys):
    assert main(command(folder, out, f"--shard={text}")) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: --shard must be I/N")
    assert said.count("\n") == 1
    assert not out.exists()


def test_clips_are_in_natural_order_whatever_was_typed_first(folder, tmp_path):
    (tmp_path / "pictures").mkdir()
    for number in range(3):
        (tmp_path / "pictures" / f"frame-{number}.png").touch()
    typed = [tmp_path / "pictures", folder]
    found = items_of(typed)
    assert [item.name for item in found] == ["a1", "a2", "a10", "b", "pictures"]
    assert found[-1].source == tmp_path / "pictures"
    assert items_of(typed[::-1]) == found


# what becomes of clips


def test_whatever_a_clip_raises_costs_one_sentence(folder, out, separations, capsys):
    separations.raises = {
        "a1": InputError("a1 holds one image."),
        "a2": ZeroDivisionError("division\nby zero"),
        "a10": MemoryError(),
    }
    assert main(command(folder, out)) == 2
    assert separations.seen == ["a1", "a2", "a10", "b"]
    captured = capsys.readouterr()
    errors = captured.err.splitlines()
    assert errors[0] == "error: a1 holds one image."
    assert "a2.npz: ZeroDivisionError: division by zero" in errors[1]
    assert "memory" in errors[2]
    assert errors[3:] == ["note: b: A note."]
    assert "Traceback" in json.loads((out / ".batch" / ".a2.json").read_text())["traceback"]
    states = {row["clip"]: row["state"] for row in table(out)}
    assert list(states) == ["a1", "a2", "a10", "b"]
    assert states["a1"] == "failed: a1 holds one image."
    assert states["b"] == "done"
    assert captured.out.splitlines()[-1] == f"{out / 'summary.html'}: 4 clips: 1 done, 3 failed"


def test_the_table_holds_what_the_reports_say(folder, out, separations):
    assert main(command(folder, out)) == 0
    first = table(out)[0]
    assert first == {
        "clip": "a1",
        "state": "done",
        "frames": "5",
        "seconds": "1.5",
        "haze_energy_removed": "0.25",
        "bright_tissue_lost": "",
        "bright_tissue_changed": "0.125",
        "flicker_in": "2.0",
        "flicker_out": "1.0",
        "notes": "A note.",
    }
    assert main(command(folder, out)) == 0
    assert {row["state"] for row in table(out)} == {"skipped"}


def test_the_shard_that_ends_last_writes_the_summary(folder, out, separations, capsys):
    separations.raises = {"a2": InputError("a2 is empty.")}
    assert main(command(folder, out, "--shard", "2/3")) == 2
    assert main(command(folder, out, "--shard", "3/3")) == 0
    assert not (out / "summary.csv").exists()
    assert "Left for other shards: 2 clips; the last one writes" in capsys.readouterr().err
    assert main(command(folder, out, "--shard", "1/3")) == 0
    assert [row["state"] for row in table(out)] == ["done", "failed: a2 is empty.", "done", "done"]

    (out / "summary.csv").unlink()
    separations.raises = {}
    assert main(command(folder, out, "--shard", "2/3")) == 0, "a rerun of any shard writes it again"
    assert [row["state"] for row in table(out)] == ["done", "done", "done", "done"]


def test_records_of_other_settings_do_not_count(folder, out, separations):
    assert main(command(folder, out)) == 0
    (out / "summary.csv").unlink()
    assert main(command(folder, out, "--lam", "2", "--shard", "1/2")) == 0
    assert not (out / "summary.csv").exists()
    (out / ".batch" / ".a2.json").write_text("{")
    assert main(command(folder, out, "--lam", "2", "--shard", "2/2")) == 0
    assert len(table(out)) == 4


def test_names_of_all_kinds_are_in_the_summary(tmp_path, out, separations, capsys):
    names = ["x" * 251, "\udcff", "\x1b[31m", "[/b]", "\u00e9", "e\u0301", "new\nline", "-o", "\u202egpj", "\U0001fac0"]
    clips = [Path(f"{tmp_path}/{name.replace('/', '%')}.npz") for name in names]
    for clip in clips:
        clip.touch()
    separations.raises = {clips[2].stem: InputError(f"{clips[2]} is cut short."), "\udcff": ZeroDivisionError("\udcff")}
    for _ in range(2):
        assert main(command(tmp_path, out)) == 2
    rows = table(out)
    assert len({row["clip"] for row in rows}) == len(names)
    assert [row["state"].split(":")[0] for row in rows].count("skipped") == len(names) - 2
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert r"\x1b[31m.npz is cut short" in said.err
    assert "Left for other shards" not in said.err


def test_results_are_not_written_flat_among_the_clips(folder, separations, capsys):
    """The next run would take them for clips."""
    assert main(command(folder, folder, "--flat", "--write", "mp4")) == 2
    assert "change -o" in capsys.readouterr().err
    assert separations.seen == []


def test_clips_among_the_results_are_left_out_with_a_note(folder, separations, capsys):
    out = folder / "out"
    for _ in range(2):  # also when results lie there
        assert main(command(folder, out)) == 0
        assert "Left out" not in capsys.readouterr().err
    shutil.copy(folder / "b.npz", out / "d.npz")
    assert main(command(folder, out)) == 0
    assert f"note: Left out: 1 clip in {out}, where the results go; change -o.\n" in capsys.readouterr().err
    assert "d" not in separations.seen
    assert main(command(out / "d.npz", folder / "other")) == 0
    assert "Left out" not in capsys.readouterr().err
    assert separations.seen[-1] == "d"


def test_the_record_of_whoever_ended_last_counts(folder, out):
    """Of two processes, one finds a clip locked that the other finishes later."""
    items, task = items_of([folder]), batch.Task(out, Rpca())
    mine = {item.name: task.failed(item, "It is being written.") for item in items}
    for item, state in zip(items[1:], ("done", "done", "other settings"), strict=True):
        configuration = task.configuration if state == "done" else state
        batch.keep(Record(item.name, "done", item.place, configuration), out)
    found = batch.records_of(items, task, mine)
    assert [record and record.state for record in found] == ["failed", "done", "done", "failed"]


def test_one_clip_leaves_no_summary(folder, out, separations):
    assert main(command(folder / "b.npz", out)) == 0
    assert [path.name for path in out.iterdir()] == ["b"]


@pytest.mark.slow
def test_flicker_of_input_and_signal_is_in_the_report(tmp_path, out):
    clip = moving() * np.array([1, 0.5, 1, 0.5, 1], np.float32)[:, None, None]
    write_video(tmp_path / "clip.npz", clip, 20.0)
    np.save(tmp_path / "two.npy", moving(frames=2))
    assert main(command(tmp_path / "clip.npz", out)) == 0
    assert main(command(tmp_path / "two.npy", out)) == 0
    report = json.loads((out / "clip" / "report.json").read_text())
    everywhere = np.ones(clip.shape[1:], bool)
    assert report["sector_pixels"] == everywhere.sum()
    assert report["flicker"]["input"] == pytest.approx(flicker(clip, everywhere))
    assert report["flicker"]["signal"] >= 0
    assert json.loads((out / "two" / "report.json").read_text())["flicker"] == {"input": None, "signal": None}


class Cells(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self):
        super().__init__()
        self.tags, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def test_names_and_reasons_are_no_formulas_and_no_markup(tmp_path):
    names = ["=cmd()", "+1", "-1", "@sum", "<script>", "plain"]
    records = [Record(name, "failed", name, "", reason="<img src=x>") for name in names]
    page = write_overview([*records, Record("last", "done", "", "", seconds=-1.5, notes=("=1+1",))], tmp_path)
    rows = table(tmp_path)
    assert [row["clip"] for row in rows] == ["'=cmd()", "'+1", "'-1", "'@sum", "<script>", "plain", "last"]
    assert rows[-1]["notes"] == "'=1+1"
    assert rows[-1]["seconds"] == "-1.5"
    parser = Cells()
    parser.feed(page.read_text(encoding="utf-8"))
    assert (parser.tags.count("script"), parser.tags.count("img")) == (1, 0)  # the page's own script
    assert "<script>" in parser.text


# what is said


def test_json_is_one_object_a_line(folder, out, separations, capsys):
    separations.raises = {"a1": InputError("a1 is empty.")}
    assert main(command(folder, out, "--json")) == 2
    captured = capsys.readouterr()
    events = [json.loads(text) for text in captured.out.splitlines()]
    assert [event["event"] for event in events] == ["failed", *["done", "note"] * 3, "summary"]
    assert events[0] == {"event": "failed", "error": "a1 is empty.", "clip": "a1", "done": 1, "total": 4}
    done = events[1]
    assert {name: done[name] for name in ("clip", "done", "total", "seconds")} == {
        "clip": "a2",
        "done": 2,
        "total": 4,
        "seconds": 1.5,
    }
    assert done["result"] == str(out / "a2")
    assert events[-1]["result"] == str(out / "summary.html")
    assert captured.err == "error: a1 is empty.\n"


def test_quiet_says_only_errors(folder, out, separations, capsys):
    assert main(command(folder, out, "--quiet")) == 0
    assert capsys.readouterr() == ("", "")
    separations.raises = {"a1": InputError("a1 is empty.")}
    assert main(command(folder, out, "--quiet")) == 2
    assert capsys.readouterr() == ("", "error: a1 is empty.\n")


@pytest.mark.slow
@pytest.mark.parametrize("flags", [["--quiet"], ["--json"]])
def test_simulate_is_quiet_or_speaks_json(flags, out, capsys):
    assert main(["simulate", str(out), "--clips", "1", "--frames", "2", "--size", "32", *flags]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    if flags == ["--json"]:
        assert json.loads(captured.out) == {"event": "done", "result": str(out), "clips": 1}
    else:
        assert captured.out == ""


def test_json_and_quiet_contradict_each_other(folder, out, capsys):
    assert main(command(folder, out, "--quiet", "--json")) == 2
    assert "contradict" in capsys.readouterr().err


def test_the_library_logs_and_is_silent_by_default(folder, out, separations, caplog, capsys):
    separations.raises = {"b": ZeroDivisionError()}
    with caplog.at_level(logging.INFO, "nuclear_diffusion"):
        assert main(command(folder, out, "--quiet")) == 2
    assert f"{folder / 'a1.npz'}: done" in caplog.text
    assert "Traceback" in caplog.text
    assert capsys.readouterr().err.count("\n") == 1


def test_a_line_of_a_log_says_how_long_it_takes():
    assert line("reading", 3, 9, "", 61, 122) == "reading: 3 of 9, 0:01:01 elapsed, about 0:02:02 left"
    assert line("training", 0, 7, "", 5, None) == "training: 0 of 7, 0:00:05 elapsed"
    assert (
        line("training", 2, 4, "loss 0.1", 60, 60) == "training: 2 of 4, 0:01:00 elapsed, about 0:01:00 left, loss 0.1"
    )
    assert line("compiling", 0, 0, "", 5, None) == "compiling: 0:00:05 elapsed"


def test_time_left_is_by_the_speed_of_this_run():
    assert seconds_left(None, 0, 9, 60) is None
    assert seconds_left((700, 10), 700, 2400, 60) is None
    assert seconds_left((700, 10), 720, 2400, 50) == 1680 / 20 * 40  # a run that went on from step 700


def test_a_log_gets_a_line_soon_and_then_now_and_then_even_if_nothing_is_reported(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(reporting, "FIRST_SECONDS", 0.05)
    with Reporter().progress("soon"):
        eventually(lambda: "soon: " in log.getvalue())
    monkeypatch.setattr(reporting, "LINE_SECONDS", 0.2)
    say, start = Reporter(), time.monotonic()
    for task in ("one", "two"):
        with say.progress(task) as tell:
            tell(1, 4)
            eventually(lambda said=f"{task}: 1 of 4, ": log.getvalue().count(said) > 1)
    seconds = time.monotonic() - start
    assert len(log.getvalue().splitlines()) - 1 <= 1 + seconds / 0.2


@pytest.mark.parametrize("clip", ["empty", "missing.npz", "cut.npz"])
def test_a_clip_that_cannot_be_opened_is_refused_before_all_else(clip, tmp_path, out, monkeypatch, capsys):
    """However long imports took, and without waiting for the prior."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.npz").write_bytes(b"PK\3\4")
    monkeypatch.setattr(reporting.Reporter, "__init__", functools.partialmethod(_late, reporting.Reporter.__init__))
    monkeypatch.setattr(batch, "prior_of", None)
    assert main(["dehaze", str(tmp_path / clip), "-o", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path / clip} ")
    assert said.count("\n") == 1


def _late(self, begin, **how):
    begin(self, **how)
    self._due = time.monotonic() - 60


def test_tasks_within_a_task_speak_alone_and_whole_lines(monkeypatch):
    class Log(io.StringIO):
        """Gives way to other threads after every write."""

        def write(self, text):
            super().write(text)
            time.sleep(0.01)
            return len(text)

    log = Log()
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(reporting, "FIRST_SECONDS", 0.05)
    monkeypatch.setattr(reporting, "LINE_SECONDS", 0.02)
    say = Reporter()
    with say.progress("outer"):
        with say.progress("inner"):
            eventually(lambda: say.note("note") or log.getvalue().count("inner:") > 2)
            within = log.getvalue()
        eventually(lambda: "outer:" in log.getvalue()[len(within) :])
    begun = within[within.index("inner:") :]  # the outer one may speak until then
    assert {re.sub(r" .*", "", line) for line in begun.splitlines()} == {"inner:", "note:"}
    assert all(
        re.fullmatch(r"(inner|outer): \d+:\d\d:\d\d elapsed|note: note", line) for line in log.getvalue().splitlines()
    )


def test_skipped_clips_do_not_count_for_the_time_left(folder, out, separations):
    for name in ("a1", "a2"):
        (out / name).mkdir(parents=True)
    told = []
    task = batch.Task(out, Rpca())
    list(batch.run_batch(items_of([folder]), task, progress=lambda *about: told.append(about)))
    assert told[0] == (0, 4, "a1 0%")
    assert told[-1] == (1.5, 2, "b 50%")


# worker processes


def test_the_others_go_on_when_a_worker_dies():
    tasks = ["say 1", "die", "say 2", "say 3"]
    found = {one.task: one for one in workers.spread(tasks, crew.start, jobs=2)}
    assert {task: one.value for task, one in found.items()} == {0: ["1"], 1: None, 2: ["2"], 3: ["3"]}
    assert "killed" in (found[1].died or "")
    assert all(one.died is None for task, one in found.items() if task != 1)


def test_a_worker_that_is_stuck_is_replaced(monkeypatch):
    monkeypatch.setattr(workers, "STUCK", 1.0)
    idle = workers._Worker.idle
    monkeypatch.setattr(workers._Worker, "idle", lambda one: idle(one) if one.task == 0 else 0.0)  # others may be slow
    found = {one.task: one for one in workers.spread(["wait", "say 2"], crew.start, jobs=1)}
    assert "no progress" in (found[0].died or "")
    assert found[1].value == ["2"]


def test_workers_end_with_the_loop_and_share_the_cores():
    told = []
    spread = workers.spread(["threads", "pid", "wait"], crew.start, jobs=2, progress=told.append)
    found = {one.task: one.value for one in (next(spread), next(spread))}
    assert found[0] == str(max(1, workers._cores() // 2))
    start = time.monotonic()
    spread.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert time.monotonic() - start < signals.GRACE
    with pytest.raises(ProcessLookupError):
        os.kill(found[1], 0)


@pytest.mark.parametrize("stdin", [False, True])
def test_a_worker_leaves_the_caller_s_script_and_ctrl_c_alone(stdin, tmp_path):
    """A script without a guard would start workers again, and one from stdin cannot be read again."""
    path = [str(Path(module.__file__ or "").parents[up]) for module, up in ((crew, 0), (workers, 2))]
    code = f"import sys; sys.path[:0] = {path}\nimport crew\nfrom nuclear_diffusion.restore import workers\n"
    code += "print([one.value for one in workers.spread(['blocked'], crew.start, jobs=1)])"
    script = tmp_path / "script.py"
    script.write_text(code)
    arguments = [sys.executable, "-" if stdin else str(script)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=PATIENCE, input=code if stdin else None)
    assert (done.stderr, done.stdout) == ("", f"[{hasattr(signal, 'pthread_sigmask')}]\n")


def test_workers_that_cannot_start_say_why():
    with pytest.raises(InputError, match="There is no prior"):
        list(workers.spread(["say 1"], crew.refuse, jobs=1))


@pytest.mark.parametrize("lack", ["die", "refuse", "fail", "hang"])
def test_a_worker_that_fails_to_start_is_tried_again(lack, tmp_path, monkeypatch):
    idle, seen = workers._Worker.idle, list[workers._Worker]()

    def idle_where_it_hangs(worker):  # others may be slow
        if worker not in seen:
            seen.append(worker)
        return idle(worker) if seen.index(worker) == 1 and len(list(tmp_path.iterdir())) == 2 else 0.0

    if lack == "hang":
        monkeypatch.setattr(workers, "LOADING", 0.5)
        monkeypatch.setattr(workers._Worker, "idle", idle_where_it_hangs)
    start = functools.partial(crew.start_as, ["start", lack, "start"], tmp_path)
    found = {one.task: one for one in workers.spread(["die", "say 1", "say 2"], start, jobs=1)}
    assert {task: one.value for task, one in found.items()} == {0: None, 1: ["1"], 2: ["2"]}
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(("lack", "why"), [("die", "it was killed"), ("refuse", "no prior"), ("fail", "Stale")])
def test_workers_that_start_no_more_are_one_sentence_and_what_is_done_counts(lack, why, tmp_path):
    start = functools.partial(crew.start_as, ["start", lack], tmp_path)
    ended = workers.spread(["say 1", "die", "say 2", "say 3"], start, jobs=1)
    assert [one.value for one in (next(ended), next(ended))] == [["1"], None]
    with pytest.raises(InputError, match=f"could not start again: .*{why}.*; 2 of 4 clips are left for the next run"):
        next(ended)
    assert len(list(tmp_path.iterdir())) == 1 + workers.STARTS


def test_one_worker_does_all_where_no_other_starts(tmp_path):
    start = functools.partial(crew.start_as, ["start", "die"], tmp_path)
    found = {one.task: one.value for one in workers.spread([f"say {n}" for n in range(9)], start, jobs=2)}
    assert found == {n: [str(n)] for n in range(9)}


def test_a_system_without_processes_to_give_is_one_sentence(monkeypatch):
    def refuse(*_):
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(workers, "_Worker", refuse)
    with pytest.raises(InputError, match=r"the system refuses it \(resource temporarily unavailable\)"):
        list(workers.spread(["say 1"], crew.start, jobs=2))


@pytest.mark.parametrize(("flags", "jobs"), [([], 1), (["--jobs", "2"], 2)])
def test_a_dead_worker_names_its_clip(flags, jobs, folder, out, monkeypatch, capsys):
    def spread(tasks, start, asked, *_):
        assert asked == jobs
        yield workers.Ended(1, None, "crashed (SIGSEGV)")
        for number in (0, 2, 3):
            done = Record(tasks[number].name, "done", str(tasks[number].source), "")
            yield workers.Ended(number, done, None)

    monkeypatch.setattr(batch, "spread", spread)
    assert main(command(folder, out, *flags)) == 2
    assert "a2.npz: its worker process crashed (SIGSEGV)." in capsys.readouterr().err
    assert [row["state"].split(":")[0] for row in table(out)] == ["done", "failed", "done", "done"]


def test_a_pool_s_process_dehazes_clips_itself_as_it_may_start_no_other(folder, out, separations, monkeypatch, capsys):
    monkeypatch.setattr(batch, "spread", workers.spread)
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # pyright: ignore
    assert main(command(folder, out)) == 0
    assert separations.seen == ["a1", "a2", "a10", "b"]
    capsys.readouterr()
    assert main(command(folder, out, "--jobs", "2")) == 2
    assert capsys.readouterr().err == "error: This process may not start worker processes: leave out --jobs.\n"


# signals


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_batch_and_says_what_is_finished(number, code, folder, out, separations, capsys):
    def separate(source, *rest, **how):
        if source.stem == "a10":
            signal.raise_signal(number)
        return separations(source, *rest, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "dehaze_file", separate)
        before = signal.getsignal(number)
        assert main(command(folder, out)) == code
    assert signal.getsignal(number) is before
    signals.check()  # what ended one command does not end the next
    said = capsys.readouterr().err
    assert "Finished: 2 clips; not finished: a10, b." in said
    assert "Traceback" not in said


class Noisy:
    """Receives a signal in its destructor, where Python only reports exceptions."""

    def __del__(self):
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_while_jax_is_imported_does_not_raise_in_it(tmp_path):
    """What Python raises in the start-up of its compiled code aborts the process."""
    (tmp_path / "jax.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGTERM); print('went on')")
    code = "import sys; sys.path.insert(0, sys.argv[1])\nfrom nuclear_diffusion import signals\n"
    code += "with signals.unwinding('The end.'):\n  try: import jax\n  except BaseException: print('raised')"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (143, "", "The end.")


def test_a_signal_that_code_swallows_still_ends_the_command(folder, out, monkeypatch, capsys):
    def in_destructor(*_, **__):
        noisy = Noisy()
        del noisy
        time.sleep(60)

    def caught(*_, progress, **__):
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            progress(1, 2)

    def renamed(*_, **__):
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt as error:
            raise RuntimeError from error

    monkeypatch.setattr(batch, "spread", crew.spread_here)
    for swallow in (in_destructor, caught, renamed):
        monkeypatch.setattr(batch, "dehaze_file", swallow)
        assert main(command(folder, out)) == 143
        assert "not finished: a1, a2, a10, b" in capsys.readouterr().err


run = functools.partial(started, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def clips(tmp_path):
    for number in range(3):
        write_video(tmp_path / "in" / f"clip-{number}.npz", moving(number), 20.0)
    return tmp_path / "in"


def alive(group: int) -> bool:
    """Whether a process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to see when the handlers are installed")
@pytest.mark.parametrize(
    ("number", "wait", "flags"),
    [
        (signal.SIGINT, 0, []),
        (signal.SIGTERM, 0.15, []),
        (signal.SIGINT, 3, []),
        (signal.SIGTERM, 6, ["--jobs", "2"]),
        (signal.SIGINT, 9, ["--jobs", "1"]),
    ],
)
def test_a_signal_at_any_time_is_one_sentence_and_leaves_nothing(number, wait, flags, clips, out):
    process = run(*command(clips, out, *flags))
    while not handles(process.pid, signal.SIGTERM):
        time.sleep(0.001)
    time.sleep(wait * np.random.default_rng().uniform(0.5, 1.5))
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode in (0, 128 + number)
    if process.returncode:
        errors = re.sub("^dehazing clips: .*\n", "", errors)
        assert errors.strip().startswith("Interrupted.")
        assert len(errors.strip().splitlines()) == 1
    assert not list(out.glob(".clip-*"))
    eventually(lambda: not alive(process.pid))  # helpers of multiprocessing end a moment after their parent


def test_a_signal_while_python_ends_changes_nothing():
    code = """
import os, signal, sys
from nuclear_diffusion.__main__ import main

class Late:  # ends after Python has taken its handlers away
    def __del__(self, kill=os.kill, pid=os.getpid(), number=signal.SIGINT):
        kill(pid, number)

sys.argv, late = ["nuclear-diffusion", "--version"], Late()
sys.exit(main())
"""
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


def handles(pid: int, number: int) -> bool:
    """Whether a process has its own handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    (caught,) = re.findall(r"SigCgt:\s*(\w+)", status)
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.mark.slow
def test_two_shards_at_once_make_all_results_and_one_summary(clips, out):
    shards = [run(*command(clips, out, "--shard", *shard.split(), "--json")) for shard in ("1/2 --jobs 1", "2/2")]
    said = [process.communicate(timeout=PATIENCE)[0] for process in shards]
    assert [process.returncode for process in shards] == [0, 0]
    events = [json.loads(text) for one in said for text in one.splitlines()]
    assert sorted(event["clip"] for event in events if event["event"] == "done") == ["clip-0", "clip-1", "clip-2"]
    assert [row["state"] for row in table(out)] == ["done"] * 3
    assert all(float(row["flicker_in"]) >= 0 for row in table(out))
    assert "clip-1/summary.png" in (out / "summary.html").read_text()


@pytest.mark.slow
def test_a_reader_that_goes_away_while_clips_are_inspected(clips):
    assert without_a_reader("inspect", *(str(clip) for clip in sorted(clips.iterdir()))) == (141, "")


def without_a_reader(*words: str) -> tuple[int, str]:
    """The exit code of a command whose output nobody reads, from the start on, and what it says to stderr."""
    reader, writer = os.pipe()
    os.close(reader)
    with run(*words, stdout=writer) as process:
        os.close(writer)
        assert process.stderr is not None
        said = process.stderr.read()
    return process.returncode, said


def test_a_reader_that_goes_away_ends_the_command_silently():
    assert without_a_reader("dehaze", "--help") == (141, "")


@pytest.mark.parametrize("name", ["new\nline", "back\rspace", "\x1b[31m"])
def test_a_name_with_line_breaks_breaks_no_line(name, tmp_path, out, separations, capsys):
    for one in (name, "other"):
        (tmp_path / f"{one}.npz").touch()
    for _ in range(2):  # made, then skipped
        assert main(command(tmp_path, out)) == 0
        said = capsys.readouterr()
        assert [str(out) in line for line in said.out.splitlines()] == [True] * 3
        assert all(line.startswith(("note: ", "dehazing ")) for line in said.err.splitlines())
    lines = (out / "summary.csv").read_text().split("\n")
    assert len(lines) == 4
    assert all(line.isprintable() for line in lines)
