"""FID against closed forms and an independent formula, with a tiny network in place of Inception."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper
from PIL import Image
from scipy.linalg import sqrtm

from nuclear_diffusion.cli import main
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.measure import study
from nuclear_diffusion.measure.challenge import challenge_note, challenge_points, challenge_table, fid_points
from nuclear_diffusion.measure.fid import BATCH, Distances, frechet_distance, moments, open_network
from nuclear_diffusion.simulation import write_dataset


def textbook(first: np.ndarray, second: np.ndarray) -> float:
    """FID of two sets of features by its definition."""
    shift = first.mean(axis=0) - second.mean(axis=0)
    one, two = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    return float(shift @ shift + np.trace(one + two - 2 * np.real(sqrtm(one @ two))))


def tiny(path: Path, *, shape=("N", 3, "height", "width"), kind=TensorProto.FLOAT, flat: bool = False) -> Path:
    """Write a network whose features are the mean and the mean square of red, green and blue."""
    nodes = [
        helper.make_node("ReduceMean", ["frames"], ["mean"], axes=[2, 3]),
        helper.make_node("Mul", ["frames", "frames"], ["squares"]),
        helper.make_node("ReduceMean", ["squares"], ["square"], axes=[2, 3]),
        helper.make_node("Concat", ["mean", "square"], ["pooled"], axis=1),
        helper.make_node("Flatten", ["pooled"], ["features"]),
    ]
    output = ("features", ("N", 6)) if flat else ("pooled", ("N", 6, 1, 1))
    return write(path, nodes[: 5 if flat else 4], shape, kind, output)


def write(path: Path, nodes, shape, kind, output) -> Path:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frames", kind, shape)],
        [helper.make_tensor_value_info(output[0], kind, output[1])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def by_hand(frames: np.ndarray) -> np.ndarray:
    """The tiny network's features of grey 8-bit frames, once in place of three times."""
    values = frames.reshape(len(frames), -1) / 255
    return np.stack([values.mean(1), (values**2).mean(1)], axis=1)


# the distance


@pytest.mark.parametrize(("first", "second", "features"), [(50, 40, 6), (5, 40, 12), (4, 6, 30)])
def test_fid_is_its_definition_also_with_fewer_frames_than_features(first, second, features):
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(features, features))
    one = rng.normal(size=(first, features)) @ mixing
    two = 1 + 2 * rng.normal(size=(second, features))
    assert frechet_distance(moments(one), moments(two)) == pytest.approx(textbook(one, two), rel=1e-5)


def test_fid_of_independent_features_is_that_of_each_alone():
    """Axis by axis, (m1 - m2)² + (s1 - s2)², of features whose sample covariances are exactly diagonal."""
    signs = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], float)  # orthogonal, mean 0
    means, spreads = np.array([[0, 1, 5], [2, 1, -1]]), np.array([[1, 2, 3], [4, 0, 0.5]])
    one, two = (mean + spread * np.sqrt(3 / 4) * signs for mean, spread in zip(means, spreads, strict=True))
    expected = np.sum((means[0] - means[1]) ** 2 + (spreads[0] - spreads[1]) ** 2)
    assert frechet_distance(moments(one), moments(two)) == pytest.approx(expected, rel=1e-12)


def test_identical_sets_have_none_and_a_shift_its_square():
    features = np.random.default_rng(1).normal(size=(30, 64))
    same = moments(features)
    assert frechet_distance(same, moments(features[::-1])) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(same, moments(features + 0.5)) == pytest.approx(64 * 0.25)
    grown = 4 * (np.trace(np.cov(features, rowvar=False)) + np.sum(features.mean(axis=0) ** 2))
    assert frechet_distance(same, moments(3 * features)) == pytest.approx(grown)


def test_one_frame_has_no_covariance():
    with pytest.raises(ValueError, match="two frames"):
        moments(np.zeros((1, 3)))


@pytest.mark.parametrize(("fid", "points"), [(200, 0), (150, 0), (105, 16.5), (60, 33), (0, 33)])
def test_the_fid_term_of_g1(fid, points):
    assert fid_points(fid) == pytest.approx(points)


def test_g1_is_whole_with_fid():
    planted = Distances({"hazy": 105.0, "rpca": 60.0}, 8, 9, 6, "5ec0de")
    means = {"hazy": (0.65, 1.25, 0.2, 0.25), "rpca": (0.8, 1.5, 0.3, 0.2)}
    scores = ("gcnr", "cnr", "ks_a", "ks_b")
    rows = [(method, *pair) for method, values in means.items() for pair in zip(scores, values, strict=True)]
    points = challenge_points(pd.DataFrame(rows, columns=["method", "score", "frame_mean"]), planted)
    assert challenge_table(points, planted) == (
        ["", "g1 (of 100)", "g2 (of 100)", "FID ↓ (n = 8, clean n = 9)", "g3"],
        [["Hazy input", "50.0", "50.0", "105.0", "missing"], ["Robust PCA", "100.0", "20.0", "60.0", "missing"]],
    )
    note = challenge_note(planted)
    assert note.startswith("Missing: g3")
    for word in ("8 frames of each method against 9 clean ones", "6 features", "5ec0de", "onnxruntime"):
        assert word in note


# the network


@pytest.mark.parametrize("flat", [True, False])
def test_features_are_those_of_grey_frames_as_rgb_in_any_number(tmp_path, flat):
    network = open_network(tiny(tmp_path / "tiny.onnx", flat=flat))
    frames = np.random.default_rng(2).integers(0, 256, (2 * BATCH + 1, 9, 12), dtype=np.uint8)
    found = network.features(frames)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.repeat(by_hand(frames), 3, axis=1), rtol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": ("N", 1, "height", "width")},
        {"shape": ("N", 3, 64, 64)},
        {"shape": (1, 3, "height", "width")},
        {"kind": TensorProto.DOUBLE},
    ],
    ids=str,
)
def test_networks_that_do_not_take_frames_are_refused(tmp_path, wrong):
    with pytest.raises(InputError, match=r"not a network for FID.*\(N, 3, height, width\)"):
        open_network(tiny(tmp_path / "tiny.onnx", **wrong))


@pytest.mark.parametrize("name", ["Identity", "Flatten"])
def test_networks_that_do_not_pool_are_refused(tmp_path, name):
    path, shape = tmp_path / "tiny.onnx", ("N", 3, "height", "width")
    write(path, [helper.make_node(name, ["frames"], ["out"])], shape, TensorProto.FLOAT, ("out", None))
    with pytest.raises(InputError, match="not a network for FID"):
        open_network(path)


def test_features_must_be_finite(tmp_path):
    path, shape = tmp_path / "tiny.onnx", ("N", 3, "height", "width")
    nodes = [helper.make_node("GlobalAveragePool", ["frames"], ["mean"]), helper.make_node("Log", ["mean"], ["out"])]
    write(path, nodes, shape, TensorProto.FLOAT, ("out", None))
    with pytest.raises(InputError, match="not finite"):
        open_network(path)


# the command


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("fid")
    write_dataset(root, 2, seed=5, frames=4, size=64)
    return root


@pytest.mark.slow
@pytest.mark.usefixtures("_no_figures_of_reports")
def test_the_flag_puts_fid_into_the_tables_and_completes_g1(data, tmp_path, monkeypatch):
    network, out = tiny(tmp_path / "tiny.onnx"), tmp_path / "out"
    plain = ["evaluate", str(data), "-o", str(out), "--methods", "rpca"]
    assert main(plain) == 0
    with (out / "challenge.csv").open() as file:
        before = {row["method"]: row for row in csv.DictReader(file)}
    assert {row["fid"] for row in before.values()} == {"missing"}

    monkeypatch.setattr(study, "dehaze_clip", lambda *_, **__: pytest.fail("an answer was computed again"))
    assert main([*plain, "--inception", str(network)]) == 0
    with (out / "challenge.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    answers = {
        "hazy": pictures(data / "noisy"),
        "rpca": np.concatenate([np.load(path)["signal"] for path in (out / "results").glob("*/rpca-*.npz")]),
    }
    clean = by_hand(pictures(data / "clean"))
    for method, frames in answers.items():
        row, fid = rows[method], 3 * textbook(by_hand(frames), clean)  # each feature stands there three times
        assert float(row["fid"]) == pytest.approx(fid, rel=1e-3)
        assert (row["fid_frames"], row["fid_clean_frames"], row["g3"]) == ("8", "8", "missing")
        assert float(row["g1"]) == pytest.approx(float(row["g1_contrast"]) + fid_points(fid), abs=1e-6)
        for name in ("g1_contrast", "g2", "configuration"):
            assert row[name] == before[method][name]
    assert float(rows["hazy"]["fid"]) > 0
    read = json.loads((out / "tables.json").read_text())
    assert read["fid"]["values"].keys() == read["challenge"].keys() == answers.keys()
    for text in ((out / name).read_text(encoding="utf-8") for name in ("tables.md", "report.html")):
        assert "FID ↓ (n = 8, clean n = 8)" in text
        assert "g1 (of 100)" in text
        assert "Missing: g3" in text
        assert read["fid"]["network_sha256"] in text
        assert "Missing: FID" not in text
    assert f"--inception {network}" in (out / "report.html").read_text(encoding="utf-8")


def pictures(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path).convert("L")) for path in sorted(folder.glob("*.png"))])


def refused(capsys, command, *words):
    assert main(command) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    for word in words:
        assert word in said


@pytest.mark.slow
def test_what_fid_lacks_is_one_sentence_before_any_work(data, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("nuclear_diffusion.measure.evaluate.run_study", lambda *_, **__: pytest.fail("it worked"))
    out, network = tmp_path / "out", tiny(tmp_path / "tiny.onnx")
    command = ["evaluate", str(data), "-o", str(out), "--methods", "rpca", "--inception"]
    refused(capfd, [*command, str(tmp_path / "none.onnx")], "none.onnx is not a file", "--inception")
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    refused(capfd, [*command, str(tmp_path / "bad.onnx")], "bad.onnx cannot be opened")
    refused(capfd, [*command, str(tiny(tmp_path / "fixed.onnx", shape=(1, 3, 8, 8)))], "not a network for FID")
    (tmp_path / "only").mkdir()
    for name in ("noisy", "noisy_roi", "truth"):
        (tmp_path / "only" / name).symlink_to(data / name)
    command[1] = str(tmp_path / "only")
    refused(capfd, [*command, str(network)], "--clean", "clean frames")
    command[1] = str(data)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    refused(capfd, [*command, str(network)], "needs onnxruntime", "pip install")
    assert not out.exists()
