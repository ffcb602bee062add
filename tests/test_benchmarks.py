"""The benchmarks: their command line, what is finished, one table from end to end, and the index page."""

import csv
import dataclasses
import functools
import json
import re
import types
from pathlib import Path
from typing import Any

import jax
import msgspec
import numpy as np
import pytest

from benchmarks import ablation, development, index, methods, patients, strengths, variants
from benchmarks.__main__ import COMMANDS, main
from benchmarks.finished import completed
from benchmarks.methods import DEFAULTS, PEERS
from benchmarks.own_prior import OwnPrior
from benchmarks.paired import Paired
from benchmarks.patients import KINDS, Loaded
from benchmarks.record import RESULTS, TRIALS, command_line, linked
from benchmarks.strengths import Strengths
from benchmarks.tables import TABLES
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.measure import store
from nuclear_diffusion.measure.candidates import METHODS
from nuclear_diffusion.paper.gaussian import Gaussian
from nuclear_diffusion.priors.checkpoint import SHIPPED, load_prior, prior_hash
from nuclear_diffusion.restore.clip import dehaze_clip
from nuclear_diffusion.restore.estimate import estimate
from nuclear_diffusion.restore.methods import Rpca
from nuclear_diffusion.simulation import UNSEEN_FAMILIES, patient_seed, simulate
from nuclear_diffusion.training.train_prior import Trained

BENCHMARKS = RESULTS.parent


class Aware(Gaussian):
    """A prior that takes half of every pixel for haze."""

    haze_aware = True

    def given(self, observed):
        return types.SimpleNamespace(mean=lambda: observed / 2)


PRIORS = {"echo": Loaded(Aware(20.0, 0.2), "e" * 64), "runs/blind": Loaded(Gaussian(20.0, 0.2), "b" * 64)}


@pytest.fixture
def small(monkeypatch):
    """Priors without a network and small patients; the seeds of those that were simulated."""
    seeds = []

    def small_patient(*, seed, **rest):
        seeds.append(seed)
        return simulate(seed=seed, size=64, **rest)

    monkeypatch.setattr(patients, "simulate", small_patient)
    for module in (methods, strengths):
        monkeypatch.setattr(module, "prior_named", PRIORS.__getitem__)
        monkeypatch.setattr(module, "dehaze_clip", functools.partial(dehaze_clip, size=32))
    return seeds


def test_the_command_lists_every_table_and_what_it_shows(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert len(COMMANDS) == len(TABLES) + 2
    for name, command in COMMANDS.items():
        assert f"• {name} {command.shows}" in shown


def test_what_the_user_gave_wrongly_is_one_sentence(capsys, tmp_path):
    assert main(["paired", "--output", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "Error: Name at least one file of paired clips.\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("", "Name a command: choose one of unseen"),
        ("pairs", "pairs is no command: choose one of"),
        ("paired --outptu x", "python -m benchmarks paired has no option --outptu; did you mean --output?"),
        ("gradient --repeats a", "--repeats INT must be a whole number, got a."),
    ],
)
def test_what_cannot_be_parsed_is_one_sentence(command, words, capsys):
    assert main(command.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("Error: ")
    assert words in said
    assert said.count("\n") == 1


def test_what_is_finished_outlives_a_kill_and_not_another_revision(tmp_path, monkeypatch, capsys):
    asked = []

    def measure(about):
        asked.append(about)
        if about == "stop":
            raise KeyboardInterrupt
        return {"psnr": 30.0, "flicker": np.nan}

    with pytest.raises(KeyboardInterrupt):
        completed(tmp_path, [{"patient": 1, "mu": 3.0}, "stop"], measure)
    assert capsys.readouterr().out == ""
    first, second = completed(tmp_path, [{"mu": 3.0, "patient": 1}, ["patient", 2]], measure)
    assert asked == [{"patient": 1, "mu": 3.0}, "stop", ["patient", 2]]
    assert first["psnr"] == second["psnr"] == 30.0
    assert np.isnan(first["flicker"])
    assert capsys.readouterr().out.startswith(
        f"1 of 2 answers are from {tmp_path} (after a change of code delete it, or"
    )
    monkeypatch.setattr(store, "REVISION", store.REVISION + 1)
    completed(tmp_path, [["patient", 2]], measure)
    assert len(asked) == 4
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_a_table_goes_on_where_it_stopped_and_is_written_with_its_record(tmp_path, monkeypatch, small):
    table = dataclasses.replace(DEFAULTS["unseen"], patients=2, first=4, split="development", frames=2, output=tmp_path)
    whole = patients.simulate

    def stop_at_second(**asked):
        if len(small) == 1:
            raise KeyboardInterrupt
        return whole(**asked)

    monkeypatch.setattr(patients, "simulate", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        table.run()
    monkeypatch.setattr(patients, "simulate", whole)
    table.run()
    table.run()
    first = KINDS["unseen"].first
    assert small == [patient_seed("development", first + k) for k in (4, 5)]

    name = "unseen-development"
    assert {path.name for path in tmp_path.iterdir()} == {
        "finished",
        *(f"{name}.{each}" for each in ("csv", "json", "md")),
    }
    with (tmp_path / f"{name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["patient"], row["method"]) for row in rows] == [
        (patient, method) for patient in "45" for method in ("hazy", *METHODS, "clean")
    ]
    assert {row["psnr"] for row in rows if row["method"] == "clean"} == {""}
    assert all(float(row["psnr"]) > 0 for row in rows if row["method"] != "clean")
    text = (tmp_path / f"{name}.md").read_text()
    (record,) = index.records(tmp_path)
    assert record.command == "python -m benchmarks unseen --patients 2 --first 4 --split development --frames 2"
    assert record.caption() in text
    assert record.priors == {"echo": "e" * 16}
    assert "| Nuclear Diffusion − Robust PCA |" in text
    for group in KINDS["unseen"].groups(4):
        assert f"| {group} | 1 |" in text


@pytest.mark.slow
def test_a_blind_prior_takes_the_place_of_the_shipped_one_in_the_methods_of_the_paper(tmp_path, monkeypatch, small):
    few = {name: msgspec.structs.replace(peer, steps=2) for name, peer in PEERS.items()}
    monkeypatch.setattr(methods, "PEERS", few)
    table = dataclasses.replace(DEFAULTS["peers"], patients=1, frames=2, blind="runs/blind", output=tmp_path)
    table.run()
    text = (tmp_path / "peers-blind.md").read_text()
    priors = dict(re.findall(r"[:;] ([^:;`]+) `[^`]+` with prior `(\w+)`", text))
    blind = ("MMSE denoiser", "Algorithm 1, 2 steps", "zea, 2 steps")
    aware = ("Posterior mean", "Nuclear Diffusion")
    assert priors == dict.fromkeys(blind, "b" * 16) | dict.fromkeys(aware, "e" * 16)
    assert f"echo `{'e' * 16}`, blind `{'b' * 16}`" in text
    assert "--frames 2 --blind PATH`" in text
    assert "runs/blind" not in text + "".join(path.read_text() for path in tmp_path.rglob("*.json"))


def test_a_prior_that_has_learned_haze_is_not_blind(tmp_path, small, capsys, monkeypatch):
    monkeypatch.setitem(PRIORS, "runs/aware", PRIORS["echo"])
    assert main(["peers", "--blind", "runs/aware", "--output", str(tmp_path)]) == 2
    assert "is haze-aware" in capsys.readouterr().err
    assert small == []


@pytest.mark.slow
def test_a_look_at_strengths_begins_at_the_input(tmp_path, small):
    look = Strengths(spare=(0.1,), width=(0.5,), kinds=("unseen",), frames=2, share=0.01, output=tmp_path)
    look.run()
    with (tmp_path / "strengths.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["rendering"].startswith("strength 0:"):  # the input as it is
            assert [float(row[name]) for name in ("psnr", "ks_a", "ks_b", "bright_lost", "clean_lost")] == [0] * 5
    assert {row["rendering"] for row in rows} >= {"strength 0.5: spare 0.250, clear 0.650", "spare 0.1, clear 0.6"}
    text = (tmp_path / "strengths.md").read_text()
    look.run()
    assert (tmp_path / "strengths.md").read_text() == text
    assert len(small) == 1


@pytest.mark.slow
def test_a_method_without_a_look_is_compared_by_its_name(tmp_path, monkeypatch, small):
    monkeypatch.setitem(methods.METHODS, "brighter", Rpca(lam=2.0))
    table = dataclasses.replace(DEFAULTS["unseen"], patients=1, frames=2, only=("brighter",), output=tmp_path)
    table.run()
    assert "| Nuclear Diffusion − brighter |" in (tmp_path / "unseen.md").read_text()


def test_pages_of_trials_point_to_the_documents():
    for output in (RESULTS, TRIALS, RESULTS / "finished"):
        (target,) = re.findall(r"\]\(([^)#]+)", linked(patients.ABOUT, output))
        assert (output / target).resolve() == BENCHMARKS.parent / "docs" / "evaluation.md"


def test_a_trial_does_not_overwrite_the_documents(monkeypatch):
    written = []
    monkeypatch.setattr(methods.Methods, "run", lambda self: written.append(self.output))
    monkeypatch.setattr(index.Index, "run", lambda self: written.append("index"))
    for options in (["--patients", "2"], ["--frames", "3"], ["--only", "rpca"]):
        assert main(["unseen", *options]) == 0
    assert written == [TRIALS] * 3
    assert main(["unseen", "--patients", "300"]) == 0
    assert written[3:] == [RESULTS, "index"]


def test_groups_of_development_patients_have_means_of_their_own():
    levels = [{"front": {"gcnr": [0.1 * k] * 3, "ks_a": [0.0, 0.1, 0.2]}} for k in range(6)]  # gCNR of any strength
    rows = re.findall(
        r"^\| (.+?) \| (\d) \| (.+?) \| (.+?) \|$", development.groups("unseen", {"a": levels, "b": levels[::-1]}), re.M
    )
    found = {name: (int(count), float(a), float(b)) for name, count, a, b in rows}
    for family in UNSEEN_FAMILIES:
        some = [k for k in range(6) if family in KINDS["unseen"].groups(k)]
        a, b = (0.1 * np.mean(some), 0.5 - 0.1 * np.mean(some))
        assert found[family] == (len(some), pytest.approx(a, abs=5e-4), pytest.approx(b, abs=5e-4))
    assert development.groups("seen", {"a": levels}) == ""


def test_development_patients_are_the_same_in_every_command():
    chosen = dataclasses.replace(DEFAULTS["unseen"], split="development")
    expected = [about["patient"] for about in patients.development(10, kinds=("unseen",))]
    assert list(chosen.positions()) == expected
    assert list(DEFAULTS["unseen"].positions()) == list(range(720, 960))
    assert list(dataclasses.replace(chosen, first=3, patients=2).positions()) == [3, 4]


def test_one_method_can_be_measured_alone():
    chosen = dataclasses.replace(DEFAULTS["unseen"], only=("rpca",)).methods()
    assert list(chosen) == ["rpca", "nuclear"]
    with pytest.raises(InputError, match="--only names rpcaa"):
        dataclasses.replace(DEFAULTS["unseen"], only=("rpcaa",)).methods()


@pytest.mark.slow
def test_one_variant_can_be_scored_alone(tmp_path, small, monkeypatch, capsys):
    shares = {variants.DEFAULT: 0.5, "half": 0.25, "none": 0.0}
    tables = {"backgrounds": list(shares), "others": ["other"], "long": [variants.DEFAULT]}
    monkeypatch.setattr(ablation, "TABLES", tables)
    monkeypatch.setattr(ablation, "prior_named", PRIORS.__getitem__)
    monkeypatch.setattr(ablation, "on_clip", lambda clip, names, _: {n: shares[n] * clip.frames for n in names})
    options = ["--kinds", "seen", "--share", "0.01", "--frames", "2", "--long-frames", "2", "--output", str(tmp_path)]
    assert main(["ablation", *options, "--only", "half"]) == 0
    with (tmp_path / "ablation.csv").open() as file:
        rows = [(row["table"], row["variant"]) for row in csv.DictReader(file)]
    assert rows == [(table, name) for table in ("backgrounds", "long") for name in (variants.DEFAULT, "half")]
    assert "| half |" in (tmp_path / "ablation.md").read_text().split("## Long clips")[1]
    monkeypatch.setattr(ablation, "measure", None)
    assert main(["ablation", *options, "--only", "halves"]) == 2
    assert capsys.readouterr().err == "Error: --only names halves: choose from default; half; none; other.\n"


@pytest.mark.slow
def test_rows_that_do_nothing_to_a_short_clip_are_the_estimate():
    """Of a prior that looks at each pixel alone, mirroring changes nothing; three frames are one window."""
    y = jax.random.uniform(jax.random.key(0), (3, 32, 32))
    prior: Any = Aware(20.0, 0.2)
    names = ["mean with a mirrored pass", variants.DEFAULT, variants.WINDOWS, variants.UNSTEADY]
    found = variants.shares_of(names, y, prior)
    assert list(found) == names
    *same, unsteady = found.values()
    for share in same:
        np.testing.assert_allclose(share, estimate(y, prior).share, atol=1e-5)
    assert np.abs(unsteady - same[0]).max() > 0.01


def test_a_command_is_told_without_paths():
    table = Paired(files=(Path("/home/someone/a.npz"),), frames=3, prior="/home/someone/prior", output=Path("/tmp"))
    assert command_line(table, Paired()) == "python -m benchmarks paired FILE... --frames 3 --prior PATH"
    own = OwnPrior(runs=Path("/home/someone"), looks=("edge enhancement",), steps=30)
    assert command_line(own, OwnPrior()) == (
        'python -m benchmarks own-prior PATH --steps 30 --looks "edge enhancement"'
    )


def test_a_prior_whose_training_was_interrupted_is_not_measured(tmp_path, monkeypatch):
    (tmp_path / "development-low-frequency" / "clips").mkdir(parents=True)
    trained = Trained(3, 8, [], interrupted=True)
    monkeypatch.setattr("benchmarks.own_prior.train_prior", lambda *_: trained)
    with pytest.raises(KeyboardInterrupt):
        OwnPrior(tmp_path, split="development").measure("low frequency")


def test_kinds_of_patients_never_share_one_and_every_unseen_family_gets_its_share():
    firsts = sorted(kind.first for kind in KINDS.values())
    assert firsts[0] == 0
    assert min(np.diff(firsts)) >= 100_000
    unseen = KINDS["unseen"]
    assert all(set(unseen.clip(k)["families"]) <= set(UNSEEN_FAMILIES) for k in range(24))
    counts = [sum(family in unseen.groups(k) for k in range(10)) for family in UNSEEN_FAMILIES]
    assert counts == [3] * len(UNSEEN_FAMILIES)
    assert KINDS["seen"].groups(0) == []


def test_the_index_page_says_what_lies_in_results():
    assert index.PAGE.read_text(encoding="utf-8") == index.page(TABLES), "run `python -m benchmarks index`"
    tables = {path.stem for path in RESULTS.glob("*.md")}
    assert {record.table for record in index.records()} == tables
    assert {path.stem for path in RESULTS.iterdir()} <= {"finished", *tables}


@pytest.mark.slow
@pytest.mark.parametrize("record", index.records(), ids=lambda record: record.table)
def test_tables_are_of_the_prior_that_ships_and_of_commands_that_exist(record):
    assert record.command.split()[3] in {table.command for table in TABLES}
    for name in SHIPPED:
        assert record.priors.get(name) in (None, prior_hash(load_prior(name))[:16])
    text = (RESULTS / f"{record.table}.md").read_text(encoding="utf-8")
    assert record.caption() in text
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        assert (RESULTS / target).exists(), target
    assert json.loads((RESULTS / f"{record.table}.json").read_bytes())["table"] == record.table
