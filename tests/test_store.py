"""Result folders: one process at a time, whole after a kill, a full disk or damage."""

import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nuclear_diffusion import files
from nuclear_diffusion.cli import main
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.files import alone_in, atomic, beside, filling, locked, replacing, working_in
from nuclear_diffusion.io import write_video
from nuclear_diffusion.restore.folder import FILES, create_h5, read_report

pytestmark = pytest.mark.usefixtures("_no_figures_of_results")

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def child(script: str, *arguments) -> subprocess.CompletedProcess:
    """Run a script that imports nothing heavy."""
    return subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True)


# locks


ENTER = """
import sys
from pathlib import Path
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.files import locked, working_in
try:
    with {"locked": locked, "working_in": working_in}[sys.argv[1]](Path(sys.argv[2])):
        print("entered")
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize("hold", [locked, working_in])
def test_a_second_process_is_told_who_is_at_work(tmp_path, hold):
    with hold(tmp_path / "out"):
        with hold(tmp_path / "out"):  # the same thread may enter again
            pass
        said = child(ENTER, hold.__name__, tmp_path / "out").stdout
        assert f"out is being written by process {os.getpid()} on " in said
    assert list(tmp_path.iterdir()) == []
    assert child(ENTER, hold.__name__, tmp_path / "out").stdout == "entered\n"
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from nuclear_diffusion.files import atomic, locked, working_in
with locked(Path(sys.argv[1])), working_in(Path(sys.argv[1])), atomic(Path(sys.argv[1]) / "file") as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@posix
def test_the_lock_of_a_dead_process_is_taken_over_and_its_files_removed(tmp_path):
    folder = tmp_path / "out"
    child(KILLED, folder)
    left = sorted(path.name for path in folder.iterdir())
    assert left[0] == ".lock"
    assert left[1].startswith(".partial-")
    (folder / "note.txt").touch()
    with locked(folder), working_in(folder):
        assert sorted(path.name for path in folder.iterdir()) == [".lock", "note.txt"]
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "note.txt"]


def test_a_function_works_alone(tmp_path):
    @alone_in("out")
    def work(number: int, out: Path) -> int:
        assert (out / ".lock").exists()
        return number

    assert work(1, tmp_path / "a") == work(1, out=tmp_path / "a") == 1
    assert list(tmp_path.iterdir()) == []


# kills


EVERY_MOMENT = """
import os, signal, sys
from pathlib import Path
from nuclear_diffusion.files import beside, locked, recovered, replacing

folder, ours = Path(sys.argv[1]), {"a", "b"}.__contains__
EVENTS = ("open", "os.", "shutil.")
counted, last = 0, None

def count(event, arguments):
    global counted
    if event.startswith(EVENTS) and last is not None:
        counted += 1
        if counted == last:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)

def write(content):
    with replacing(folder, ours) as partial:
        for name in "ab":
            (partial / name).write_text(content)

write("0")
(folder / "note").write_text("mine")
version, outcomes = 0, []
for moment in range(1, 1000):
    process = os.fork()
    if process == 0:
        last = moment
        write(str(version + 1))
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with locked(folder):
        recovered(folder, ours)
    held = {path.name: path.read_text() for path in folder.iterdir()}
    assert held.pop("note") == "mine", moment
    assert held in ({"a": str(version), "b": str(version)}, {"a": str(version + 1), "b": str(version + 1)}), held
    assert [path.name for path in folder.parent.iterdir()] == [folder.name], list(folder.parent.iterdir())
    version = int(held["a"])
    if ended == 0:
        break
    assert ended == -signal.SIGKILL
    outcomes.append(version)
print(moment, *outcomes)
"""


@posix
def test_a_kill_at_any_operation_on_files_leaves_the_old_or_the_new(tmp_path):
    """Python reports each open, rename and removal beforehand: children are killed at the first, the second, ..."""
    found = child(EVERY_MOMENT, tmp_path / "clip")
    assert found.stderr == ""
    moments, *versions = map(int, found.stdout.split())
    assert moments > 20
    assert versions[0] == 0  # killed before the exchange
    assert versions[-1] > 0  # and after it


def test_an_exchange_that_was_cut_short_is_undone(tmp_path):
    folder = tmp_path / "clip"
    beside(folder, "replaced").mkdir()
    (beside(folder, "replaced") / "old").touch()
    with pytest.raises(RuntimeError), replacing(folder, {"old"}.__contains__):
        raise RuntimeError
    assert [path.name for path in tmp_path.rglob("*")] == ["clip", "old"]


def test_names_of_any_length_have_neighbours(tmp_path):
    long = tmp_path / ("n" * 251)
    with replacing(long, {"a"}.__contains__) as partial:
        (partial / "a").touch()
    assert [path.name for path in tmp_path.iterdir()] == [long.name]
    assert beside(tmp_path / ("n" * 250), "lock") != beside(long, "lock")


def test_a_link_is_followed(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "clip").symlink_to(tmp_path / "disk")
    with replacing(tmp_path / "clip", {"a"}.__contains__) as partial:
        (partial / "a").touch()
    assert (tmp_path / "clip").is_symlink()
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["a"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip", "disk"]


def test_files_appear_together(tmp_path):
    (tmp_path / "clip.mha").write_text("old")

    def fail():
        with filling(tmp_path / "clip") as partial:
            (partial / "clip.mha").write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"clip.mha": "old"}
    with filling(tmp_path / "clip") as partial:
        for name in ("clip.mha", "clip.npy"):
            (partial / name).write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"clip.mha": "new", "clip.npy": "new"}


# full disks


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    """Mounts a file system of so many kB."""
    place = tmp_path_factory.mktemp("disk")
    mounted = []

    def mount(kilobytes: int) -> Path:
        if not shutil.which("mount"):
            pytest.skip("there is no mount")
        folder = place / str(kilobytes)
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting is not allowed")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_sentence(small_disk):
    disk = small_disk(64)
    (disk / "kept").write_bytes(bytes(20_000))
    for write in (atomic, lambda path: replacing(path, {"a"}.__contains__), filling):
        sentence = r"Cannot write .*clip \(no space left on device\)"
        with pytest.raises(InputError, match=sentence), write(disk / "clip") as at:
            (at if write is atomic else at / "clip").write_bytes(bytes(100_000))
    assert [path.name for path in disk.iterdir()] == ["kept"]


FILL = """
import sys
import numpy as np
from pathlib import Path
from nuclear_diffusion.restore.folder import create_h5
try:
    with create_h5(Path(sys.argv[1])) as file:
        for k in range(40):
            file.create_dataset(str(k), data=np.random.default_rng(k).random((64, 64)))
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.slow
def test_hdf5_survives_a_full_disk(small_disk, tmp_path):
    """To the end of the process, where HDF5 closes what it still holds."""
    found = child(FILL, small_disk(200) / "result.h5")
    assert (found.returncode, found.stderr, found.stdout) == (0, "", "No space left on device\n")
    with create_h5(tmp_path / "result.h5") as file:
        file["x"] = np.arange(5)
    import h5py

    with h5py.File(tmp_path / "result.h5") as file:
        np.testing.assert_array_equal(np.asarray(file["x"]), np.arange(5))


# dehaze


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.npy"
    write_video(path, np.random.default_rng(0).integers(1, 256, (4, 32, 32), np.uint8))
    return path


def dehaze(clip: Path, out: Path, *more: str) -> int:
    return main(["dehaze", str(clip), "-o", str(out), "--method", "rpca", *more])


@pytest.fixture(scope="module")
def result(clip, tmp_path_factory):
    """A finished result, to be copied."""
    out = tmp_path_factory.mktemp("result")
    assert dehaze(clip, out) == 0
    return out / "clip"


@pytest.mark.slow
def test_a_report_has_the_size_and_hash_of_every_file(result):
    import hashlib

    report = json.loads((result / "report.json").read_text())
    assert report["files"].keys() == {*FILES} - {"report.json"}
    for name, written in report["files"].items():
        content = (result / name).read_bytes()
        assert written == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "damage"),
    [("result.h5", cut), ("summary.png", Path.unlink), ("signal.mp4", flip), ("report.json", cut)],
)
def test_a_damaged_result_is_noticed_and_made_again(clip, result, tmp_path, capsys, name, damage):
    shutil.copytree(result, tmp_path / "clip")
    (tmp_path / "clip" / "note.txt").write_text("mine")
    (tmp_path / "clip" / ".DS_Store").touch()
    assert dehaze(clip, tmp_path) == 0
    assert "skipped" in capsys.readouterr().out
    damage(tmp_path / "clip" / name)
    assert dehaze(clip, tmp_path) == 0
    assert "skipped" not in capsys.readouterr().out
    made, first = read_report(tmp_path / "clip"), read_report(result)
    assert made is not None
    assert first is not None
    assert made["files"]["result.h5"] == first["files"]["result.h5"]
    assert {path.name for path in (tmp_path / "clip").iterdir()} == {*FILES, "note.txt", ".DS_Store"}
    assert (tmp_path / "clip" / "note.txt").read_text() == "mine"


def test_a_report_that_points_out_of_its_folder_is_not_believed(result, tmp_path):
    folder = shutil.copytree(result, tmp_path / "clip")
    report = json.loads((folder / "report.json").read_text())
    report["files"]["signal.png/../../secret"] = report["files"]["summary.png"]
    (folder / "signal.png").mkdir()
    (folder / "report.json").write_text(json.dumps(report))
    assert read_report(folder) is None


HOLD = """
import sys
from pathlib import Path
from nuclear_diffusion.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes_never_write_one_result(clip, tmp_path, capsys):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "clip"], stdin=-1, stdout=-1)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    assert dehaze(clip, tmp_path) == 2
    assert f"clip is being written by process {holder.pid}" in capsys.readouterr().err
    holder.kill()
    holder.communicate()
    assert dehaze(clip, tmp_path) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["clip"]


def test_dehaze_on_a_full_disk_is_one_sentence_and_leaves_nothing(clip, small_disk, capsys):
    disk = small_disk(100)
    assert dehaze(clip, disk / "out") == 2
    error = capsys.readouterr().err
    assert "clip (no space left on device): choose another output or free some space." in error
    assert list(disk.iterdir()) == []


def test_a_full_disk_is_named_by_the_folder_that_was_asked_for_also_by_another_process(tmp_path):
    def fill() -> None:
        with atomic(tmp_path / "wanted") as hidden:
            hidden.mkdir()
            with atomic(hidden / "part"):
                raise OSError(errno.ENOSPC, "full")

    with pytest.raises(InputError) as told:
        fill()
    copy = pickle.loads(pickle.dumps(told.value))
    assert isinstance(copy, InputError)
    assert str(copy).startswith(f"Cannot write {tmp_path / 'wanted'} (no space left on device)")


@pytest.mark.parametrize(
    "entered",
    [
        lambda folder: atomic(folder / "new" / "file.txt"),
        lambda folder: locked(folder / "file"),
        lambda folder: working_in(folder / "run"),
        lambda folder: replacing(folder / "result", lambda name: True),
        lambda folder: filling(folder / "more"),
    ],
    ids=["atomic", "locked", "working_in", "replacing", "filling"],
)
def test_a_signal_at_any_line_before_the_block_leaves_nothing(entered, tmp_path):
    def interrupted(line: int) -> bool:
        """Whether a signal came at that line of the module, before the block."""
        seen = 0

        def trace(frame, event, _):
            nonlocal seen
            if frame.f_code.co_filename != files.__file__:
                return None
            if event == "line":
                seen += 1
                if seen == line:
                    raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        try:
            sys.settrace(trace)
            with entered(tmp_path):
                sys.settrace(before)
                raise EOFError
        except KeyboardInterrupt:
            return True
        except EOFError:
            return False
        finally:
            sys.settrace(before)

    lines = 0
    while interrupted(lines + 1):
        lines += 1
        assert [path for path in tmp_path.rglob("*") if path.name[0] == "." or path.is_file()] == []
    assert lines > 5
