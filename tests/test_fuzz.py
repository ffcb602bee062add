"""Damaged files of every readable format end in a result or in one sentence; the campaign notices when they do not."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from benchmarks import fuzz
from benchmarks.fuzzing import child
from benchmarks.fuzzing.child import CRASH, HANG, MEMORY, OUTCOMES, READ, REFUSED, TRACEBACK
from benchmarks.fuzzing.mutations import mutated
from benchmarks.fuzzing.pool import GOOD, Child, Found, campaign, readable
from benchmarks.fuzzing.seeds import SEEDS, bombs
from nuclear_diffusion.errors import InputError

OUR_OWN = [seed for seed in SEEDS if seed.loader != "video"]
CLIPS = [seed for seed in SEEDS if seed.loader == "video"]


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "files"), [(CLIPS, 300), (OUR_OWN, 300)], ids=["clips", "our own"])
def test_no_damaged_file_is_more_than_a_sentence(seeds, files, tmp_path):
    found = campaign(seeds, files, seed=7, workers=2, keep=tmp_path)
    assert len(found) == files
    assert {each.format for each in found} >= {"npy", "dicom", "mha"} or seeds is OUR_OWN
    assert fuzz.listed(found) == []


@pytest.mark.slow
def test_every_seed_of_our_own_is_read_and_every_bomb_refused(tmp_path):
    reader = Child()
    try:
        assert len(readable(OUR_OWN, tmp_path, reader)) == len(OUR_OWN)
        for name, (loader, content) in bombs().items():
            (tmp_path / name).write_bytes(content)
            assert reader.read(loader, tmp_path / name)[0] == REFUSED, name
    finally:
        reader.close()


# the campaign itself


@pytest.fixture(scope="module")
def readers():
    """What a child can be asked for in these tests: it works, or goes wrong in every way."""

    def starve(_):
        raise MemoryError

    def refuse(_):
        raise InputError("no.")

    def work(_):
        return None

    return {"work": work, "refuse": refuse, "starve": starve, "fail": lambda _: 1 // 0}


def test_outcomes_are_told_apart(readers, monkeypatch, tmp_path):
    monkeypatch.setattr(child, "LOADERS", readers)
    found = {name: child.outcome(name, tmp_path)[0] for name in readers}
    assert found == {"work": READ, "refuse": REFUSED, "starve": MEMORY, "fail": TRACEBACK}
    assert child.outcome("fail", tmp_path)[1].startswith("ZeroDivisionError at test_fuzz.py")


GOING_WRONG = """
import os, signal, time
from benchmarks.fuzzing import child
from nuclear_diffusion.errors import InputError

def die(_):
    os.kill(os.getpid(), signal.SIGKILL)

def spin(_):
    while True:
        pass

def sleep(_):
    time.sleep(60)

def hoard(_):
    return bytes(1 << 30)

def pid(_):
    raise InputError(str(os.getpid()))

child.LOADERS = {each.__name__: each for each in (die, spin, sleep, hoard, pid)}
child._warm_up = lambda: None
child.main(0.3, 1 << 28)
"""


@pytest.fixture
def asked(monkeypatch):
    """The answers of a child whose loaders go wrong, asked for them one after the other."""
    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **how: start([command[0], "-c", GOING_WRONG], **how))
    reader = Child()
    yield lambda *names: [reader.read(name, Path("/")) for name in names]
    reader.close()


@pytest.mark.slow
def test_a_process_that_dies_spins_sleeps_or_hoards_is_noticed_and_replaced(asked):
    first, again, died, second, spun, third, slept, hoarded = asked(
        "pid", "pid", "die", "pid", "spin", "pid", "sleep", "hoard"
    )
    assert first == again
    assert died == (CRASH, "SIGKILL")
    assert len({first, second, third}) == 3
    assert spun[0] == slept[0] == HANG
    assert hoarded[0] == MEMORY


@pytest.mark.parametrize("number", range(40))
def test_the_same_number_is_the_same_damage(number):
    data = bytes(range(256)) * 8 + b'{"steps": 30, "method": "paper"}'
    first, again = (mutated(data, data, np.random.default_rng([0, number])) for _ in range(2))
    assert first == again


def test_most_damages_change_the_file():
    data = bytes(range(256)) * 8
    changed = [mutated(data, data, np.random.default_rng([0, k])) != data for k in range(100)]
    assert sum(changed) > 90


def test_the_page_counts_and_the_list_names_what_went_wrong(tmp_path):
    found = [
        Found(0, "npy", "read", ""),
        Found(1, "npy", "refused", "no."),
        Found(2, "npy", "hang", "longer", tmp_path),
        *[Found(3, "tiff", "read", ""), Found(4, "tiff, ome", "read", "")],
    ]
    fuzz.Fuzz(files=3, output=tmp_path).write(found)
    page = (tmp_path / "fuzz.md").read_text()
    assert "| npy | 1 | 1 | 1 hang |" in page
    assert "| tiff (ome) | 2 | 0 | 0 |" in page
    assert "| **all** | 3 | 1 | 1 hang |" in page
    assert fuzz.listed(found) == [f"1 x npy: hang, longer ({tmp_path})"]
    assert set(GOOD) < set(OUTCOMES)
