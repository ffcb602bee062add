"""The search for strengths: what is searched and chosen, on whom, and that nothing is done twice."""

import csv
import itertools
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.distributions import FloatDistribution
from PIL import Image

from children import started, stop
from nuclear_diffusion import cli
from nuclear_diffusion.cli import main
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.measure import study as studies
from nuclear_diffusion.measure.candidates import Candidate
from nuclear_diffusion.measure.datasets import find_dataset
from nuclear_diffusion.measure.figures import draw_trials
from nuclear_diffusion.measure.search import (
    Point,
    centre,
    choose,
    measure_first,
    pareto_front,
    search,
    search_space,
    split_patients,
)
from nuclear_diffusion.measure.tune import portable, trials_table
from nuclear_diffusion.metrics import gcnr
from nuclear_diffusion.restore.clip import Dehazed
from nuclear_diffusion.restore.methods import METHODS, Method, Mmse, Rpca, as_dict, read_settings
from nuclear_diffusion.types import eight_bits

SIDE = 32
SEPTUM, VENTRICLE = np.zeros((2, SIDE, SIDE), bool)
SEPTUM[6:26, 5:13], VENTRICLE[6:26, 19:27] = True, True
RPCA = Candidate("rpca", Rpca(), size=SIDE)
NAMES = [f"patient-{number}" for number in (1, 2, 3, 10)]


@pytest.fixture
def data(tmp_path):
    """Four patients of three frames with masks on two; the second has two clips."""
    folder = tmp_path / "data"
    rng = np.random.default_rng(0)
    mask = np.where(SEPTUM, 255, np.where(VENTRICLE, 128, 0)).astype(np.uint8)
    for clip in ("patient-1-4C", "patient-2-4C", "patient-2-2C", "patient-3-4C", "patient-10-4C"):
        for number in (1, 2, 3):
            image = rng.integers(20, 80, (SIDE, SIDE)) + 100 * SEPTUM + 90 * VENTRICLE
            save(folder / "noisy" / f"{clip}-frame-{number}.png", image)
            if number > 1:
                save(folder / "noisy_roi" / f"{clip}-frame-{number}.png", mask)
    return folder


def lam_of(settings: Method) -> float:
    """The setting of robust PCA that the tests search for."""
    assert isinstance(settings, Rpca)
    assert settings.lam is not None
    return settings.lam


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.astype(np.uint8)).save(path)


def answer(frames: np.ndarray, lam: float) -> np.ndarray:
    """A trade-off in closed form: clears the ventricle by a share of lam / 8, saturates that share of the septum."""
    share = lam / 8
    signal = np.where(VENTRICLE, frames * np.float32(1 - share), frames).astype(np.float32)
    rows, columns = np.nonzero(SEPTUM)
    count = round(share * len(rows))
    signal[:, rows[:count], columns[:count]] = 1
    return signal


def ks_of(lam: float) -> float:
    """No value of the septum is 1 before: the share that is 1 afterwards is what KS_A measures."""
    return round(lam / 8 * SEPTUM.sum()) / SEPTUM.sum()


@pytest.fixture
def calls(monkeypatch):
    """The (clip, lam) pairs that are separated, in order, by `answer`."""
    made: list[tuple[str, float]] = []

    def stand_in(clip, settings, prior=None, *, size, progress=None):
        made.append((clip.name, settings.lam))
        return Dehazed(answer(clip.frames, settings.lam), clip.frames, None, np.ones((SIDE, SIDE), bool), 0.1)

    monkeypatch.setattr(studies, "dehaze_clip", stand_in)
    return made


def point(name, gain, ks) -> Point:
    return Point(str(name), RPCA, gain, ks)


# the front and the choice


@pytest.mark.parametrize("seed", range(3))
def test_the_front_is_what_no_other_point_dominates(seed):
    rng = np.random.default_rng(seed)  # few distinct values, so that there are ties
    points = [point(i, *rng.integers(0, 8, 2) / 8) for i in range(30)]

    def dominated(p):
        return any(q.gcnr >= p.gcnr and q.ks_a <= p.ks_a and (q.gcnr, q.ks_a) != (p.gcnr, p.ks_a) for q in points)

    front = pareto_front(points)
    assert {p.name for p in front} == {p.name for p in points if not dominated(p)}
    assert [p.ks_a for p in front] == sorted(p.ks_a for p in front)


def test_the_choice_by_hand():
    points = [point("default", 0.6, 0.2), point(0, 0.9, 0.3), point(1, 0.7, 0.2), point(2, 0.7, 0.1), point(3, 0.5, 0)]
    for limit, name in ((0.2, "2"), (0.3, "0"), (0.05, "3")):
        chosen = choose(points, limit)
        assert chosen is not None
        assert chosen.name == name
        assert chosen.name in {p.name for p in pareto_front(points)}
    assert choose(points[:-1], 0.05) is None


def test_the_default_stays_where_nothing_is_better():
    points = [point("default", 0.6, 0.2), point(0, 0.6, 0.2), point(1, 0.6, 0.3)]
    assert choose(points, 0.2) == points[0]


# who is searched on


def test_patients_are_split_whole_by_seed_and_not_by_order():
    names = [f"patient-{number}" for number in range(1, 12)]
    split = split_patients(names * 3, 0.4, seed=5)
    assert len(split[0]) == 4  # 4.4 rounded
    assert not set(split[0]) & set(split[1])
    assert sorted((*split[0], *split[1])) == sorted(names)
    assert split_patients(reversed(names), 0.4, seed=5) == split
    others = {split_patients(names, 0.4, seed=seed)[0] for seed in range(20)}
    assert len(others) > 10
    drawn = {name for development in others for name in development}
    assert drawn == set(names)


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.5, 2), (0.99, 2)])
def test_there_is_somebody_on_both_sides(share, count):
    assert len(split_patients(["a", "b", "c"], share, seed=0)[0]) == count
    with pytest.raises(InputError, match="at least two patients"):
        split_patients(["a", "a"], share, seed=0)


# what is searched


def test_a_method_without_a_strength_is_refused():
    with pytest.raises(InputError, match="aware has no strength"):
        search_space(Candidate("aware", METHODS["aware"]()))


@pytest.mark.parametrize("method", [method for method in METHODS if METHODS[method].strengths])
def test_every_number_is_searched_around_its_default(method):
    base = Candidate(method, METHODS[method]())
    space, middle = search_space(base), centre(base)
    assert set(space) == set(METHODS[method].strengths)
    for name, distribution in space.items():
        assert middle[name] == getattr(METHODS[method](), name)
        assert isinstance(distribution, FloatDistribution)
        assert distribution.log
        expected = np.array(METHODS[method].strengths[name]) * middle[name]
        np.testing.assert_allclose([distribution.low, distribution.high], expected, rtol=1e-3)
        for end in expected:
            value: dict[str, Any] = {name: float(end)}
            METHODS[method](**value)  # every value can be used


# the search


def run_search(data, folder, trials=12, seed=0, cases=None, **rest) -> list[Point]:
    cases = cases or [case for case in find_dataset(data).cases if case.patient != "patient-10"]
    first = measure_first(cases, RPCA, folder / "results")
    return search(first, RPCA, folder / "results", trials=trials, seed=seed, **rest)


def numbers(points):
    return [(p.name, lam_of(p.settings), p.gcnr, p.ks_a) for p in points]


@pytest.mark.slow
def test_what_is_measured_is_the_mean_over_patients(data, tmp_path, calls):
    points = run_search(data, tmp_path / "out")
    assert [p.name for p in points] == ["default", *map(str, range(12))]
    assert points[1].settings == points[0].settings == RPCA.settings
    assert len({lam_of(p.settings) for p in points}) == 12
    cases = find_dataset(data).cases
    each: dict[str, list[float]] = {}
    for found in points:
        lam = lam_of(found.settings)
        assert 0.25 <= lam <= 8
        assert lam == float(f"{lam:.4g}")
        assert found.ks_a == pytest.approx(ks_of(lam))
        each = {}
        for case in cases[:-1]:
            signals = eight_bits(answer(case.read().clip.frames, lam))[1:]
            each.setdefault(case.patient, []).extend(gcnr(signal, SEPTUM, VENTRICLE) for signal in signals)
        assert found.gcnr == pytest.approx(np.mean([np.mean(values) for values in each.values()]))
    assert len(each) == 3


@pytest.mark.slow
def test_a_second_run_measures_nothing_and_more_trials_go_on(data, tmp_path, calls):
    points = run_search(data, tmp_path / "out", trials=3)
    assert len(calls) == 4 * 3  # the first trial is the default, measured before
    calls.clear()
    told = []
    assert numbers(run_search(data, tmp_path / "out", trials=3)) == numbers(points)
    assert calls == []
    more = run_search(data, tmp_path / "out", trials=5, progress=lambda done, total: told.append((done, total)))
    assert numbers(more)[:4] == numbers(points)
    assert len(calls) == 4 * 2
    assert told == [(done, 20) for done in (4, 8, 12, *range(12, 17), 16, *range(16, 21), 20)]
    calls.clear()
    assert numbers(run_search(data, tmp_path / "out", trials=3)) == numbers(points)  # fewer: the first ones
    assert calls == []


@pytest.mark.slow
def test_a_stopped_search_goes_on_as_if_it_had_not_been(data, tmp_path, calls, monkeypatch):
    """Stopped in the default, in a random trial, and in one that the earlier ones led to."""
    whole = run_search(data, tmp_path / "whole", trials=14)
    order = list(calls)
    calls.clear()
    stand_in, stops = studies.dehaze_clip, [50, 9, 1]

    def stop(*args, **rest):
        if stops and len(calls) == stops[-1]:
            raise KeyboardInterrupt
        return stand_in(*args, **rest)

    monkeypatch.setattr(studies, "dehaze_clip", stop)
    for _ in (1, 9, 50):
        with pytest.raises(KeyboardInterrupt):
            run_search(data, tmp_path / "stopped", trials=14)
        stops.pop()
    assert numbers(run_search(data, tmp_path / "stopped", trials=14)) == numbers(whole)
    assert calls == order  # no clip twice, none left out


@pytest.mark.slow
def test_other_masks_frames_and_seeds_are_other_searches(data, tmp_path, calls):
    before = numbers(run_search(data, tmp_path / "out", trials=3))
    assert numbers(run_search(data, tmp_path / "out", trials=3, seed=1))[2:] != before[2:]
    mask, frame = (data / kind / "patient-1-4C-frame-2.png" for kind in ("noisy_roi", "noisy"))
    for path in (mask, frame):
        old = path.read_bytes()
        save(path, np.roll(np.asarray(Image.open(path)), 3, axis=1))
        calls.clear()
        changed = numbers(run_search(data, tmp_path / "out", trials=3))
        assert [row[1] for row in changed] == [row[1] for row in before]  # the same draws,
        assert [row[2:] for row in changed] != [row[2:] for row in before]  # measured anew
        assert {name for name, _ in calls} == {"patient-1-4C"}
        path.write_bytes(old)
    calls.clear()
    assert numbers(run_search(data, tmp_path / "out", trials=3)) == before
    assert calls == []


@pytest.mark.slow
def test_a_damaged_trial_is_taken_again_from_the_numbers_of_its_clips(data, tmp_path, calls):
    before = numbers(run_search(data, tmp_path / "out", trials=3))
    for path in (tmp_path / "out" / "results").glob("trial-*.json"):
        path.write_text(path.read_text()[:-9])
    calls.clear()
    assert numbers(run_search(data, tmp_path / "out", trials=3)) == before
    assert calls == []


def test_a_clip_that_vanishes_stops_the_search(data, tmp_path, calls):
    cases = find_dataset(data).cases
    first = measure_first(cases, RPCA, tmp_path / "results")
    (data / "noisy" / "patient-3-4C-frame-2.png").unlink()
    with pytest.raises(InputError, match="patient-3-4C"):
        search(first, RPCA, tmp_path, trials=3, seed=0)


# the command


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def tune(data, out, *flags) -> int:
    return main(["tune", str(data), "-o", str(out), "--method", "rpca", "--trials", "12", *map(str, flags)])


@pytest.mark.slow
def test_everything_is_written_and_the_held_out_are_seen_last(data, out, calls, capsys):
    assert tune(data, out, "--max-ks", 0.4) == 0
    assert capsys.readouterr().err == ""
    names = {path.name for path in out.iterdir()}
    assert names >= {"settings.json", "trials.csv", "pareto.pdf", "pareto.png", "report.json", "report.md"}
    development, held_out = ((out / f"{side}.txt").read_text().split() for side in ("development", "held-out"))
    assert sorted(development + held_out) == sorted(NAMES)
    assert len(development) == 2

    report = json.loads((out / "report.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    chosen = read_settings(out / "settings.json")
    assert as_dict(chosen) == report["chosen"]
    patients = [name[: name.rindex("-")] for name, _ in calls]
    last = len(patients) - sum(name in held_out for name in patients)
    assert not set(patients[:last]) & set(held_out)
    assert {lam for _, lam in calls[last:]} == {1.0, lam_of(chosen)}

    with (out / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == ["default", *map(str, range(12))]
    allowed = [row for row in rows if float(row["ks_a"]) <= 0.4]
    best = max(allowed, key=lambda row: (float(row["gcnr"]), -float(row["ks_a"])))
    assert [row["trial"] for row in rows if row["chosen"] == "1"] == [best["trial"]]
    assert best["pareto"] == "1"
    assert float(best["lam"]) == lam_of(chosen)
    for side in ("development", "held-out"):
        means = {(row["method"], row["score"]): row["mean"] for row in report["scores"][side]}
        assert means["default", "ks_a"] == pytest.approx(ks_of(1.0))
        assert means["chosen", "ks_a"] == pytest.approx(ks_of(lam_of(chosen)))
        assert means["hazy", "ks_a"] == 0
        assert means["default", "psnr"] is None
        (gain,) = [row["mean"] for row in report["gain"][side] if row["score"] == "gcnr"]
        assert gain == pytest.approx(means["chosen", "gcnr"] - means["default", "gcnr"])
    text = (out / "report.md").read_text()
    for word in ("Held-out patients", "0.25 to 8", "Chosen − default", "Research use only", report["command"]):
        assert word in text
    assert cli._parse(report["command"].split()[1:]) == cli._parse(
        ["tune", str(data), "-o", str(out), "--method", "rpca", "--trials", "12", "--max-ks", "0.4"]
    )
    assert lam_of(chosen) != 1

    calls.clear()
    written = {name: (out / name).read_bytes() for name in names - {"results"}}
    assert tune(data, out, "--max-ks", 0.4) == 0
    assert calls == []
    assert {name: (out / name).read_bytes() for name in written} == written


@pytest.mark.slow
def test_a_higher_limit_chooses_more_contrast_from_the_same_trials(data, out, calls):
    chosen = {}
    for limit in (0.3, 0.5):
        assert tune(data, out, "--max-ks", limit) == 0
        chosen[limit] = lam_of(read_settings(out / "settings.json"))
        assert ks_of(chosen[limit]) <= limit
    assert chosen[0.5] > chosen[0.3]


@pytest.mark.slow
def test_no_setting_within_the_limit_is_said_and_the_trials_are_kept(data, out, calls, capsys):
    assert tune(data, out, "--max-ks", 0.02) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no setting")
    assert error.count("\n") == 1
    assert (out / "trials.csv").exists()
    assert (out / "pareto.png").exists()
    assert not (out / "settings.json").exists()


@pytest.mark.slow
def test_a_clip_that_does_not_move_is_left_out_and_named(data, out, capsys):
    first = data / "noisy" / "patient-1-4C-frame-1.png"
    for number in (2, 3):
        first.with_name(f"patient-1-4C-frame-{number}.png").write_bytes(first.read_bytes())
    assert main(["tune", str(data), "-o", str(out), "--method", "rpca", "--trials", "1", "--share", "0.7"]) == 2
    assert "note: patient-1-4C is left out" in capsys.readouterr().err
    assert json.loads((out / "report.json").read_text())["notes"]
    assert lam_of(read_settings(out / "settings.json")) == 1


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ("--trials 0", "--trials"),
        ("--share 0", "--share"),
        ("--share 1", "--share"),
        ("--share nan", "--share"),
        ("--max-ks -1", "--max-ks"),
        ("--seed -1", "--seed"),
        ("--method rpca --prior echo", "--prior"),
        ("--method rpca --noisy nowhere", "nowhere"),
    ],
)
def test_bad_flags_are_one_sentence_before_any_work(flags, word, data, out, capsys):
    assert main(["tune", str(data), "-o", str(out), *flags.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert word in error
    assert not out.exists()


def test_without_optuna_the_command_says_what_to_install(data, out, capsys, monkeypatch):
    monkeypatch.setattr("nuclear_diffusion.measure.find_spec", lambda name: None if name == "optuna" else name)
    assert tune(data, out) == 2
    assert (
        "tune needs optuna, which is not installed: python -m pip install 'nuclear-diffusion[tune]'."
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(("kept", "word"), [("patient-1-*", "at least two patients"), ("*", "septum and ventricle")])
def test_masks_that_do_not_do_are_one_sentence(kept, word, data, out, calls, capsys):
    for path in (data / "noisy_roi").glob("*"):
        if not path.match(kept):
            path.unlink()
        elif kept == "*":
            save(path, np.where(SEPTUM, 255, 0))
    (data / "truth").mkdir()
    for path in (data / "noisy").glob("*"):  # so that a clip without masks counts
        (data / "truth" / path.name).write_bytes(path.read_bytes())
    assert tune(data, out) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert word in error


def test_a_priors_place_does_not_depend_on_where_the_file_is_used(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert portable(Mmse(prior="a.safetensors"))["prior"] == str(tmp_path / "a.safetensors")
    assert portable(Mmse())["prior"] == "echo"
    assert "prior" not in portable(Rpca())


def test_the_figure_shows_every_trial_the_front_and_what_they_are_measured_by():
    points = [point("default", 0.6, 0.2), point(0, 0.9, 0.3), point(1, 0.7, 0.1), point(2, 0.5, 0.2)]
    (axes,) = draw_trials("rpca", trials_table(points, points[2]), 0.2, hazy=0.4).axes
    drawn = {str(line.get_label()): np.asarray(line.get_xydata()).tolist() for line in axes.lines}
    assert drawn["3 trials of Robust PCA"] == [[0.3, 0.9], [0.1, 0.7], [0.2, 0.5]]
    assert drawn["Pareto front"] == [[0.1, 0.7], [0.3, 0.9]]
    assert drawn["Default"] == [[0.2, 0.6]]
    assert drawn["Chosen"] == [[0.1, 0.7]]
    assert drawn["Hazy input"] == [[0, 0.4]]
    assert any(label.startswith("limit") for label in drawn)


# whole processes


@pytest.mark.slow
@pytest.mark.usefixtures("_no_figures_of_reports")
def test_evaluate_finds_the_held_out_numbers_of_the_report(data, out, calls):
    assert tune(data, out) == 0
    report = json.loads((out / "report.json").read_text())
    command = ["evaluate", str(data), "-o", str(out / "page"), "--methods", "rpca"]
    assert main([*command, "--settings", str(out / "settings.json"), "--patients", str(out / "held-out.txt")]) == 0
    with (out / "page" / "scores.csv").open() as file:
        rows = {(row["method"], row["score"]): row for row in csv.DictReader(file)}
    for (method, title), score in itertools.product({"hazy": "hazy", "rpca": "chosen"}.items(), ("gcnr", "ks_a")):
        (expected,) = [r for r in report["scores"]["held-out"] if (r["method"], r["score"]) == (title, score)]
        row, names = rows[method, score], ("mean", "mean_low", "mean_high")
        assert [float(row[name]) for name in names] == pytest.approx([expected[name] for name in names])


@pytest.mark.slow
def test_a_killed_search_goes_on_where_it_was_killed(data, tmp_path):

    def command(folder: Path) -> list[str]:
        return ["tune", str(data), "--method", "rpca", "--trials", "3", "-o", str(folder)]

    out = tmp_path / "killed"
    group = started(*command(out), stdout=subprocess.DEVNULL)
    assert stop(group, signal.SIGKILL, lambda: len(list(out.glob("results/*/rpca-*.json"))) >= 4) == -9
    kept = {path: path.stat().st_mtime_ns for path in out.glob("results/*/*") if path.name[0] != "."}
    assert not (out / "settings.json").exists()
    for folder in (out, tmp_path / "whole"):
        assert main(command(folder)) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    for name in ("trials.csv", "settings.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
