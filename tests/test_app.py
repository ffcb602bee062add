"""The app's server: who it answers, what it opens, and that its numbers are the library's."""

import asyncio
import io
import itertools
import json
import signal
import subprocess
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.routing import Route
from starlette.testclient import TestClient

import nuclear_diffusion as nd
from children import eventually, started, stop
from nuclear_diffusion.app import desk as desks
from nuclear_diffusion.app import server as servers
from nuclear_diffusion.app.desk import Desk
from nuclear_diffusion.app.export import KINDS
from nuclear_diffusion.app.regions import Regions, masks_zip
from nuclear_diffusion.app.server import Server
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import Clip, read_video, write_video
from nuclear_diffusion.io.recording import Recording
from nuclear_diffusion.measure.datasets import read_mask
from nuclear_diffusion.metrics import gcnr, ks
from nuclear_diffusion.paper.gaussian import Gaussian
from nuclear_diffusion.restore.clip import Dehazed, Piece
from nuclear_diffusion.restore.folder import About, result_folder, write_result
from nuclear_diffusion.restore.frames import fingerprint
from nuclear_diffusion.restore.methods import Nuclear, read_settings
from nuclear_diffusion.restore.render import render
from nuclear_diffusion.restore.run import LoadedPrior
from nuclear_diffusion.types import eight_bits

pytestmark = pytest.mark.usefixtures("_no_figures_of_results")

TOKEN = "a token"
SEPTUM = [(10.0, 10.0), (30.0, 10.0), (30.0, 30.0), (10.0, 30.0)]
VENTRICLE = [(35.0, 35.0), (55.0, 35.0), (55.0, 55.0), (35.0, 55.0)]


def made_clip(frames: int = 6, side: int = 64) -> Clip:
    """Bytes, so that the browser's input is the clip itself."""
    noise = np.random.default_rng(0).integers(1, 256, (frames, side, side))
    return Clip((noise / 255).astype(np.float32), 25.0, None, None, "patient-7", Path("patient-7.npz"))


def made_result(folder, frames: int = 6, strength: float = 0.5):
    """A finished result with a made-up haze fraction."""
    clip = made_clip(frames)
    share = np.random.default_rng(1).random(clip.shape, np.float32)
    signal = render(clip.frames, share, strength)
    sector = np.ones(clip.shape[1:], bool)
    found = Dehazed(signal, clip.frames - signal, None, sector, 1.0, share, signal)
    with result_folder(folder) as partial:
        about = About(Nuclear(strength=strength), "0" * 64, fingerprint(clip))
        write_result(partial, Recording.of(clip), [Piece(clip, found)], about)
    return clip, share


@pytest.mark.slow
def test_the_knob_of_a_page_starts_at_the_strength_of_the_result(tmp_path):
    made_result(tmp_path / "result", strength=0.7)
    assert '"strength": 0.7' in nd.show(tmp_path / "result").page
    assert '"strength": 0.7' in nd.show(tmp_path / "result" / "result.h5").page
    assert '"strength": 0.2' in nd.show(tmp_path / "result", strength=0.2).page
    with pytest.raises(InputError, match="does not exist"):
        nd.show(tmp_path / "none")


@pytest.fixture
def client(tmp_path):
    """A page's client; `tmp_path / "data"` is the folder that may be opened."""
    data = tmp_path / "data"
    data.mkdir()
    desk = Desk([data])
    with TestClient(Server(desk, TOKEN, upload_bytes=100_000).app(), base_url="http://127.0.0.1") as made:
        made.headers["x-token"] = TOKEN
        yield made
    desk.shut()


def uploaded(client, name="clip.npz", frames=None) -> dict:
    packed = io.BytesIO()
    values = np.rint(255 * made_clip().frames).astype(np.uint8) if frames is None else frames
    np.savez_compressed(packed, frames=values, fps=25.0)
    reply = client.post("/api/clips", params={"name": name}, content=packed.getvalue())
    assert reply.status_code == 200, reply.text
    return reply.json()


def finished(client, key) -> dict:
    eventually(lambda: client.get("/api/runs").json()[key]["state"] not in ("waiting", "running"))
    return client.get("/api/runs").json()[key]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"x-token": ""}, 403),
        ({"x-token": "another"}, 403),
        ({"host": "evil.example"}, 400),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:1"}, 403),
        ({"origin": "http://127.0.0.1"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
    ],
)
def test_only_the_page_itself_is_answered(client, headers, status):
    assert client.get("/api/state", headers=headers).status_code == status


def test_the_page_needs_the_token_and_its_files_do_not(client):
    client.headers.pop("x-token")
    assert client.get("/").status_code == 403
    page = client.get("/", params={"token": TOKEN})
    assert page.status_code == 200
    assert "'unsafe-eval'" not in page.headers["content-security-policy"]
    assert client.get("/static/player.js").status_code == 200
    for name in ("..%2Fserver.py", "server.py", "film.py", "nothing.js"):
        assert client.get(f"/static/{name}").status_code == 404


def test_no_path_outside_of_the_folders_can_be_read(client, tmp_path):
    secret = tmp_path / "secret.npz"
    write_video(secret, made_clip().frames)
    (tmp_path / "data" / "link.npz").symlink_to(secret)
    for path in (secret, tmp_path / "data" / ".." / "secret.npz", tmp_path / "data" / "link.npz", "/etc/passwd"):
        reply = client.post("/api/open", json={"path": str(path)})
        assert reply.status_code == 400
        assert "outside" in reply.json()["error"]
        assert client.get("/api/file", params={"path": str(path)}).status_code == 400
    assert client.get("/api/files", params={"folder": str(tmp_path)}).status_code == 400
    made_result(tmp_path / "result")
    (tmp_path / "data" / "result").mkdir()
    (tmp_path / "data" / "result" / "result.h5").symlink_to(tmp_path / "result" / "result.h5")
    reply = client.post("/api/open", json={"path": str(tmp_path / "data" / "result")})
    assert (reply.status_code, "outside" in reply.json()["error"]) == (400, True)
    assert client.get("/api/state").json()["clips"] == {}


def test_a_clip_is_uploaded_and_its_pixels_come_back(client):
    about = uploaded(client, "Patient 7.npz")
    assert (about["name"], about["frames"], about["height"], about["fps"]) == ("Patient 7", 6, 64, 25.0)
    pixels = client.get(f"/api/clips/{about['key']}/planes/input").content
    assert pixels == np.rint(255 * made_clip().frames).astype(np.uint8).tobytes()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("bad.npz", b"not a clip", "bad.npz"),
        ("../../bad.mp4", b"", "bad.mp4"),
        ("large.npy", bytes(200_000), "larger than"),
    ],
)
def test_a_bad_upload_is_one_sentence(client, name, content, words):
    reply = client.post("/api/clips", params={"name": name}, content=content)
    assert reply.status_code == 400
    assert words in reply.json()["error"]
    assert "\n" not in reply.json()["error"]


def test_an_upload_is_named_as_the_user_knows_it_and_no_flag_is_advised(client):
    """Two arrays could be the clip: the command line has --dataset for that, the page has not."""
    packed = io.BytesIO()
    np.savez_compressed(packed, a=np.zeros((5, 20, 20), np.uint8), b=np.zeros((6, 20, 20), np.uint8))
    said = client.post("/api/clips", params={"name": "Anna & Bob.npz"}, content=packed.getvalue()).json()["error"]
    assert said == (
        "Anna & Bob.npz holds the arrays a, b. The command line has options for that: dehaze it there, and open the "
        "result here."
    )


def test_what_the_page_says_advises_nothing_that_only_the_command_line_has(client):
    """Notes and errors keep what is wrong; what the page can do stays as advice."""
    assert desks.without_flags("The range is shown; --db LOW HIGH shows another.") == "The range is shown."
    about = uploaded(client, frames=np.tile(np.arange(64, dtype=np.uint8), (4, 64, 1)))
    key = client.post("/api/runs", json={"clip": about["key"], "method": {"method": "rpca"}}).json()["key"]
    assert finished(client, key)["message"].endswith("give a moving clip, or use Nuclear Diffusion.")


def test_weights_outside_of_the_folders_are_not_read(client):
    about = uploaded(client)
    method = {"method": "nuclear", "prior": "/etc/passwd"}
    reply = client.post("/api/runs", json={"clip": about["key"], "method": method})
    assert (reply.status_code, "outside" in reply.json()["error"]) == (400, True)


@pytest.mark.slow
def test_a_run_gives_the_librarys_result(client):
    """Robust PCA of the uploaded clip through the page is that of the library."""
    from nuclear_diffusion.restore.clip import dehaze_clip
    from nuclear_diffusion.restore.methods import Rpca

    about = uploaded(client)
    started = client.post("/api/runs", json={"clip": about["key"], "method": {"method": "rpca"}}).json()
    run = finished(client, started["key"])
    assert run["state"] == "done", run
    shown = client.get(f"/api/runs/{started['key']}/planes/signal").content
    expected = dehaze_clip(made_clip(), Rpca()).signal
    assert shown == np.rint(255 * expected).astype(np.uint8).tobytes()
    assert client.get("/api/state").json()["runs"][started["key"]]["state"] == "done"  # a second tab sees it


def test_a_run_can_be_stopped_and_a_bad_setting_is_a_sentence(client, monkeypatch):
    about = uploaded(client)

    def slow(recording, seen, method, prior, sector, progress):
        while True:
            progress(1, 1000)
            time.sleep(0.01)
        yield

    monkeypatch.setattr(desks, "dehaze_recording", slow)
    key = client.post("/api/runs", json={"clip": about["key"], "method": {"method": "rpca"}}).json()["key"]
    assert not client.get("/api/runs").json()[key]["stopping"]
    waiting = client.post("/api/runs", json={"clip": about["key"], "method": {"method": "rpca"}}).json()["key"]
    assert client.post(f"/api/runs/{waiting}/stop").json()["state"] == "stopped"  # at once
    assert client.post(f"/api/runs/{key}/stop").json()["stopping"]
    assert finished(client, key)["state"] == "stopped"
    for _ in range(2):  # one that is gone is no error
        assert client.delete(f"/api/runs/{key}").status_code == 200
    assert list(client.get("/api/runs").json()) == [waiting]
    for method in ({"method": "magic"}, {"method": "rpca", "lam": -1}, {"method": "rpca", "strength": 1}):
        reply = client.post("/api/runs", json={"clip": about["key"], "method": method})
        assert reply.status_code == 400
        assert reply.json()["error"].endswith(".")


def test_a_run_is_stopped_within_a_window(client, monkeypatch):
    monkeypatch.setattr(desks, "prior_of", lambda method: LoadedPrior(Gaussian(20.0, 0.4), "0" * 64))
    wanted = {"clip": uploaded(client)["key"], "method": {"method": "paper", "steps": 1_000_000}}
    key = client.post("/api/runs", json=wanted).json()["key"]
    while (run := client.get("/api/runs").json()[key])["done"] < 2:
        assert run["state"] in ("waiting", "running"), run
        time.sleep(0.05)
    client.post(f"/api/runs/{key}/stop")
    assert finished(client, key).items() >= {"state": "stopped", "message": "", "frames": 0}.items()


@pytest.mark.slow
def test_scores_are_the_librarys_to_the_digit(client, tmp_path):
    clip, share = made_result(tmp_path / "data" / "result")
    about = client.post("/api/open", json={"path": str(tmp_path / "data" / "result")}).json()
    (run,) = about["runs"]
    regions = {"septum": [SEPTUM] * 6, "ventricle": [None, *[VENTRICLE] * 5]}
    found = client.post(
        "/api/score", json={"clip": about["key"], "runs": [run], "strength": 0.8, "regions": regions}
    ).json()
    masks = Regions(**regions).annotations((6, 64, 64))
    after = np.rint(255 * render(clip.frames, share, 0.8)).astype(np.uint8)
    assert found["results"][run]["frames"]["gcnr"]["3"] == gcnr(after[2], masks[3].septum, masks[3].ventricle)
    assert found["results"][run]["frames"]["ks_a"]["1"] == ks(clip.frames[0], after[0], masks[1].septum)
    assert found["results"][run]["frames"]["gcnr"]["1"] is None
    assert found["input"]["means"]["ks_a"] == 0
    jumps = list(found["results"][run]["frames"]["flicker_a"].values())
    assert found["results"][run]["means"]["flicker_a"] == pytest.approx(np.sqrt(np.mean(np.square(jumps))))


def test_masks_are_those_that_evaluate_reads(tmp_path):
    regions = Regions(septum=[SEPTUM, None], ventricle=[VENTRICLE, VENTRICLE])
    with zipfile.ZipFile(io.BytesIO(masks_zip(made_clip(), regions))) as packed:
        packed.extractall(tmp_path)
    expected = regions.annotations((6, 64, 64))
    for number in (1, 2):
        for path in (f"noisy_roi/patient-7-frame-{number}.png", f"labelme/patient-7-frame-{number}.json"):
            read = read_mask(tmp_path / path, (64, 64))
            np.testing.assert_array_equal(read.septum, expected[number].septum)
            np.testing.assert_array_equal(read.ventricle, expected[number].ventricle)
    assert expected[1].septum.sum() == 20 * 20


def test_results_are_saved_as_the_knob_shows_them(client, tmp_path):
    clip, share = made_result(tmp_path / "data" / "result")
    about = client.post("/api/open", json={"path": str(tmp_path / "data" / "result")}).json()
    (run,) = about["runs"]

    def save(kind: str) -> bytes:
        reply = client.post("/api/save", json={"clip": about["key"], "runs": [run], "strength": 0.8, "kind": kind})
        assert reply.status_code == 200, reply.text
        return reply.content

    (tmp_path / "settings.json").write_bytes(save("json"))
    assert read_settings(tmp_path / "settings.json") == Nuclear(strength=0.8)
    (tmp_path / "saved.h5").write_bytes(save("result.h5"))
    with h5py.File(tmp_path / "saved.h5") as file:
        np.testing.assert_array_equal(file["signal"][()], render(clip.frames, share, 0.8))  # pyright: ignore
    again = Desk()  # it is opened as the result that it is
    again.open(tmp_path / "saved.h5")
    (run_again,) = again.runs.values()
    assert (run_again.state, run_again.method) == ("done", Nuclear(strength=0.8))
    again.shut()
    assert '"strength": 0.8' in nd.show(tmp_path / "saved.h5").page
    (tmp_path / "saved.mp4").write_bytes(save("mp4"))
    assert read_video(tmp_path / "saved.mp4").shape == clip.shape
    with Image.open(io.BytesIO(save("comparison.gif"))) as picture:
        assert picture.n_frames == 6  # pyright: ignore[reportAttributeAccessIssue]
    (tmp_path / "saved.mkv").write_bytes(save("mkv"))
    expected = np.rint(255 * render(clip.frames, share, 0.8))
    np.testing.assert_allclose(255 * read_video(tmp_path / "saved.mkv").frames, expected, atol=0.6)
    dataset = pydicom.dcmread(io.BytesIO(save("dcm")))
    np.testing.assert_allclose(dataset.pixel_array, expected, atol=0.6)
    assert client.post("/api/save", json={"clip": about["key"], "runs": [run], "kind": "exe"}).status_code == 400


def test_an_uploaded_dicom_is_saved_with_its_own_header(client, tmp_path):
    write_video(tmp_path / "a.dcm", made_clip().frames, 25.0)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    dataset.PatientName = "Heart^Anna"
    dataset.save_as(tmp_path / "a.dcm")
    about = client.post("/api/clips", params={"name": "a.dcm"}, content=(tmp_path / "a.dcm").read_bytes()).json()
    key = client.post("/api/runs", json={"clip": about["key"], "method": {"method": "rpca"}}).json()["key"]
    assert finished(client, key)["state"] == "done"
    saved = client.post("/api/save", json={"clip": about["key"], "runs": [key], "kind": "dcm"})
    assert pydicom.dcmread(io.BytesIO(saved.content)).PatientName == "Heart^Anna"


def test_a_drawn_sector_is_the_one_that_is_dehazed(client):
    about = uploaded(client)
    client.post(f"/api/clips/{about['key']}/sector", json={"polygons": [SEPTUM]})
    key = client.post("/api/runs", json={"clip": about["key"], "method": {"method": "rpca"}}).json()["key"]
    assert finished(client, key)["state"] == "done"
    shown = np.frombuffer(client.get(f"/api/runs/{key}/planes/signal").content, np.uint8).reshape(6, 64, 64)
    changed = (shown != np.rint(255 * made_clip().frames)).any(axis=0)
    assert changed[10:30, 10:30].any()
    changed[10:30, 10:30] = False
    assert not changed.any()


def test_the_sheet_lists_results_and_names_damaged_ones(client, tmp_path):
    made_result(tmp_path / "data" / "good")
    (tmp_path / "data" / "bad").mkdir()
    (tmp_path / "data" / "bad" / "report.json").write_text("{}")
    bad, good = client.get("/api/results", params={"folder": str(tmp_path / "data")}).json()
    assert good["name"] == "good"
    report = json.loads((tmp_path / "data" / "good" / "report.json").read_text())
    for name in ("haze_energy_removed", "bright_tissue_lost", "bright_tissue_changed"):
        assert good[name] == report[name]
    assert good["bright_tissue_changed"] > 0
    assert good["flicker"] == report["flicker"]["signal"] > 0
    assert client.get("/api/file", params={"path": good["video"]}).headers["content-type"] == "video/mp4"
    assert "problem" in bad


def test_a_run_that_fails_names_the_file_as_the_user_knows_it(client):
    about = uploaded(client, "a still.npz", np.full((1, 32, 32), 9, np.uint8) + np.eye(32, dtype=np.uint8))
    key = client.post("/api/runs", json={"clip": about["key"], "method": {"method": "rpca"}}).json()["key"]
    run = finished(client, key)
    assert (run["state"], run["message"].startswith("a still.npz does not move")) == ("failed", True)


def test_the_sector_and_the_frame_rate_can_be_corrected(client):
    about = uploaded(client)
    where = f"/api/clips/{about['key']}/sector"
    corrected = client.post(where, json={"polygons": [SEPTUM], "fps": 50.0}).json()
    assert (corrected["sector_pixels"], corrected["fps"]) == (20 * 20, 50.0)
    assert client.post(where, json={"polygons": [[(-9, -9), (-5, -9), (-5, -5)]]}).status_code == 400
    assert client.post(where, json={"fps": -1.0}).status_code == 400
    corrected = client.post(where, json={"fps": 40.0}).json()
    assert (corrected["sector_pixels"], corrected["fps"]) == (20 * 20, 40.0)
    corrected = client.post(where, json={"polygons": []}).json()
    assert (corrected["sector_pixels"], corrected["fps"]) == (about["sector_pixels"], 40.0)


def test_white_can_be_corrected(client):
    """A clip of 12 bits in 16 is read again with its own white; what else was corrected stays, results do not go."""
    values = np.round(4095 * made_clip().frames).astype(np.uint16)
    about = uploaded(client, frames=values)
    assert about["brightest"] < 17
    client.post(f"/api/clips/{about['key']}/sector", json={"polygons": [SEPTUM], "fps": 50.0})
    white = f"/api/clips/{about['key']}/white"
    found = client.post(white, json={"white": 4095}).json()
    assert (found["name"], found["white"], found["fps"], found["sector_pixels"]) == ("clip", 4095, 50, 20 * 20)
    shown = client.get(f"/api/clips/{about['key']}/planes/input").content
    np.testing.assert_array_equal(np.frombuffer(shown, np.uint8), np.rint(255 * made_clip().frames).ravel())
    for wrong in (-1.0, 1e-300):
        refused = client.post(white, json={"white": wrong})
        assert (refused.status_code, refused.json()["error"]) == (400, f"White must be a positive number, got {wrong}.")
    assert client.post("/api/runs", json={"clip": about["key"], "method": {"method": "rpca"}}).status_code == 200
    refused = client.post(white, json={"white": 4000})
    assert refused.status_code == 400
    assert "remove them" in refused.json()["error"]


def test_no_work_is_done_in_the_event_loop(client, tmp_path, monkeypatch):
    """So that the page is answered while a long clip is read, measured or encoded."""
    seen = set()

    def watched(place, name):
        work = getattr(place, name)

        def checked(*args, **kwargs):
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                seen.add(name)
            else:
                raise AssertionError(f"{name} is called in the event loop")
            return work(*args, **kwargs)

        monkeypatch.setattr(place, name, checked)

    def estimated(recording, seen, method, prior, sector, progress):
        clip = recording.read()
        yield Piece(clip, Dehazed(clip.frames, clip.frames, None, np.ones(clip.shape[1:], bool), 1.0))

    work = [(servers, ("export", "masks_zip", "read_report", "scores")), (desks.Opened, ("info",))]
    work += [(desks, ("film_of", "find_sector", "inside", "read_video")), (Desk, ("close", "start"))]
    monkeypatch.setattr(desks, "dehaze_recording", estimated)
    for place, names in work:
        for name in names:
            watched(place, name)
    (tmp_path / "data" / "old").mkdir()
    (tmp_path / "data" / "old" / "report.json").write_text("{}")
    clip = uploaded(client)["key"]
    key = client.post("/api/runs", json={"clip": clip, "method": {"method": "rpca"}}).json()["key"]
    assert finished(client, key)["state"] == "done"
    asked = {"clip": clip, "runs": [key], "regions": {"septum": [SEPTUM]}, "kind": "mp4"}
    for where in ("score", "masks", "save"):
        assert client.post(f"/api/{where}", json=asked).status_code == 200
    assert client.get(f"/api/runs/{key}/planes/signal").status_code == 200
    assert client.get("/api/results", params={"folder": str(tmp_path / "data")}).status_code == 200
    assert client.get("/api/state").status_code == 200
    assert client.post(f"/api/clips/{clip}/sector", json={"polygons": [SEPTUM]}).status_code == 200
    assert client.delete(f"/api/clips/{clip}").status_code == 200
    assert seen == {name for _, names in work for name in names}


def test_the_sector_of_a_result_stays_when_its_frame_rate_is_corrected(client, tmp_path):
    made_result(tmp_path / "data" / "result")
    with h5py.File(tmp_path / "data" / "result" / "result.h5", "a") as file:
        file["sector"][10:30] = False  # pyright: ignore
    about = client.post("/api/open", json={"path": str(tmp_path / "data" / "result")}).json()
    corrected = client.post(f"/api/clips/{about['key']}/sector", json={"fps": 50.0}).json()
    assert (corrected["sector_pixels"], corrected["fps"]) == (44 * 64, 50.0)


def test_closing_a_clip_forgets_it(client):
    about = uploaded(client)
    client.delete(f"/api/clips/{about['key']}")
    reply = client.get(f"/api/clips/{about['key']}")
    assert (reply.status_code, "open it again" in reply.json()["error"]) == (400, True)


# what nobody should ask


@pytest.mark.parametrize(
    ("where", "params"),
    [
        ("files", {}),
        ("files", {"folder": ""}),
        ("files", {"folder": "\0"}),
        ("files", {"folder": "~nobody"}),
        ("files", {"folder": "{data}/" + "a" * 5000}),
        ("results", {}),
        ("results", {"folder": "{data}/file.txt"}),
        ("file", {}),
        ("file", {"path": "{data}"}),
        ("file", {"path": "{data}/" + "a" * 5000 + ".mp4"}),
    ],
)
def test_a_senseless_question_is_refused_in_a_sentence(client, tmp_path, where, params):
    (tmp_path / "data" / "file.txt").write_text("no result")
    filled = {name: value.replace("{data}", str(tmp_path / "data")) for name, value in params.items()}
    reply = client.get(f"/api/{where}", params=filled)
    assert reply.status_code == 400
    assert reply.json()["error"].endswith(".")


@pytest.mark.parametrize("name", ["..", ".", "", "/", "a" * 300 + ".npz", "ä" * 250 + ".npz", "\0.npz", "clip"])
def test_an_upload_may_have_any_name(client, name):
    about = uploaded(client, name)
    assert len(about["name"]) > 0
    client.delete(f"/api/clips/{about['key']}")


def test_frames_that_are_one_clip_are_opened_by_one_name(client, tmp_path):
    """As `simulate` writes them; none of them may be a link out of the folder."""
    data = tmp_path / "data"
    (data / "more").mkdir()
    for patient, number in itertools.product((1, 2), range(1, 12)):
        Image.fromarray(eight_bits(made_clip().frames[number % 6])).save(
            data / f"patient-{patient}-4C-frame-{number}.png"
        )
    entries = client.get("/api/files", params={"folder": str(data)}).json()["entries"]
    names = ["more", "patient-1-4C-frame-*.png", "patient-2-4C-frame-*.png"]
    assert [(entry["name"], entry["folder"]) for entry in entries] == [(name, name == "more") for name in names]
    about = client.post("/api/open", json={"path": entries[1]["path"]}).json()
    assert (about["frames"], about["source"]) == (11, str(data / names[1]))
    (data / "patient-2-4C-frame-3.png").rename(tmp_path / "secret.png")
    (data / "patient-2-4C-frame-3.png").symlink_to(tmp_path / "secret.png")
    refused = client.post("/api/open", json={"path": entries[2]["path"]})
    assert (refused.status_code, "outside" in refused.json()["error"]) == (400, True)
    assert len(client.get("/api/state").json()["clips"]) == 1


def test_what_was_typed_is_opened(tmp_path):
    """`app frames-*.png clip.npz RESULT FOLDER`: the frames as one clip, and of the folder nothing yet."""
    made_result(tmp_path / "result")
    (tmp_path / "frames").mkdir()
    frames = [tmp_path / "frames" / f"{number}.png" for number in range(8, 12)]
    for file in frames:
        Image.fromarray(eight_bits(made_clip().frames[0])).save(file)
    np.savez(tmp_path / "clip.npz", made_clip().frames)
    desk = Desk()
    desk.open_all([*frames, tmp_path / "clip.npz", tmp_path / "result", tmp_path])
    desk.shut()
    assert [len(opened.clip) for opened in desk.clips.values()] == [6, 4, 6]
    assert [opened.source for opened in desk.clips.values()][1] == str(tmp_path / "frames")


def test_a_file_name_that_is_no_text_does_not_hide_the_others(client, tmp_path):
    (tmp_path / "data" / "good.npz").touch()
    (Path(str(tmp_path / "data")) / b"bad-\xff.npz".decode("utf-8", "surrogateescape")).touch()
    entries = client.get("/api/files", params={"folder": str(tmp_path / "data")}).json()["entries"]
    assert "good.npz" in [entry["name"] for entry in entries]
    assert len(entries) == 2


def test_results_are_compared_and_scored_only_with_their_own_clip(client, tmp_path):
    made_result(tmp_path / "data" / "result")
    mine = client.post("/api/open", json={"path": str(tmp_path / "data" / "result")}).json()
    other = uploaded(client, frames=np.zeros((3, 20, 30), np.uint8) + np.arange(30, dtype=np.uint8))
    (run,) = mine["runs"]
    for where, more in (("score", {}), ("masks", {}), ("save", {"kind": "comparison.mp4"})):
        reply = client.post(f"/api/{where}", json={"clip": other["key"], "runs": [run], **more})
        assert (reply.status_code, "another clip" in reply.json()["error"]) == (400, True)


@pytest.mark.parametrize("where", ["score", "masks"])
def test_regions_of_more_frames_than_the_clip_are_refused(client, where):
    about = uploaded(client)
    reply = client.post(f"/api/{where}", json={"clip": about["key"], "regions": {"septum": [SEPTUM] * 7}})
    assert (reply.status_code, "draw them again" in reply.json()["error"]) == (400, True)


WORDS = st.sampled_from(["", "\0", "..", "~", "~nobody", "/etc/passwd", "[", "*", "%00", "ä", "-1", "nan", "/"])
WORDS |= st.just(5000).map("a".__mul__)


def bodies(path: str, known: dict[str, str]) -> st.SearchStrategy[bytes]:
    """What a route asks for, right or wrong, and anything else."""
    words = st.one_of(WORDS, st.text(max_size=5))
    numbers = st.one_of(st.sampled_from([0, -1, 0.5, 1, 10**30, 1e308, -1e308]), st.integers(), st.floats(0, 100))
    corners = st.just(SEPTUM) | st.lists(st.tuples(numbers, numbers), max_size=5)
    regions = st.dictionaries(st.sampled_from(["septum", "ventricle"]), st.lists(st.none() | corners, max_size=4))
    names = st.sampled_from(["nuclear", "paper", "zea", "mmse", "aware", "rpca", "magic"])
    some = dict.fromkeys(("prior", "strength", "seed", "lam", "steps"), numbers | words)
    values = {
        "clip": st.just(known["clip"]) | words,
        "path": st.just(known["folder"]) | words,
        "method": st.fixed_dictionaries({"method": names}, optional=some),
        "runs": st.just([known["run"]]) | st.lists(words | st.just(known["run"]), max_size=3),
        "strength": numbers,
        "fps": numbers,
        "white": numbers,
        "polygons": st.lists(corners, max_size=3),
        "regions": regions,
        "kind": st.sampled_from([*KINDS, "exe"]),
    }
    fields = {
        "/api/clips/{clip}/white": ["white"],
        "/api/open": ["path"],
        "/api/runs": ["clip", "method"],
        "/api/clips/{clip}/sector": ["fps", "polygons"],
    }
    usual = fields.get(path, ["clip", "runs", "strength", "regions", "kind"])
    needed = [name for name in usual if name in ("clip", "path", "runs", "method")]
    asked = st.fixed_dictionaries(
        {name: values[name] for name in needed}, optional={name: values[name] for name in usual if name not in needed}
    )
    anything = st.recursive(st.none() | st.booleans() | numbers | words, lambda inner: st.lists(inner, max_size=3))
    other = st.dictionaries(st.sampled_from(list(values)), anything) | anything
    deep = st.sampled_from([b"", b'{"clip": "a", "method": {"a": ']).map(lambda begin: begin + b"[" * 50_000)
    texts = st.one_of(asked, asked, asked, other).map(lambda value: json.dumps(value).encode())
    return st.one_of(texts, texts, texts, st.binary(max_size=20), deep)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A client, the routes of the app, and what is open there; runs only wait."""
    data = tmp_path_factory.mktemp("asked")
    made_result(data / "result", frames=2)
    desk = Desk([data])
    app = Server(desk, TOKEN, upload_bytes=100_000).app()
    with pytest.MonkeyPatch.context() as patch, TestClient(app, base_url="http://127.0.0.1") as made:
        patch.setattr(Desk, "_separate", lambda *_: None)
        made.headers["x-token"] = TOKEN
        about = made.post("/api/open", json={"path": str(data / "result")}).json()
        known = {"clip": about["key"], "run": next(iter(about["runs"])), "plane": "share", "name": "app.js"}
        known |= {"folder": str(data), "path": str(data / "result" / "comparison.mp4")}
        known_routes = [route for route in app.routes if isinstance(route, Route)]
        routes = [(each.path, method) for each in known_routes for method in sorted((each.methods or set()) - {"HEAD"})]
        yield made, routes + 2 * [route for route in routes if route[1] == "POST"], known
    desk.shut()


@pytest.mark.slow
@settings(max_examples=300)
@given(data=st.data())
def test_no_question_at_all_is_answered_with_a_server_error(asked, data):
    """The client raises what the server does not handle."""
    client, routes, known = asked
    path, method = data.draw(st.sampled_from(routes))
    content = data.draw(bodies(path, known)) if method == "POST" else None
    for name in ("clip", "run", "plane", "name"):
        if f"{{{name}}}" in path:
            likely = [] if method == "DELETE" else [known[name]] * 3
            word = data.draw(st.sampled_from([*likely, "%00", "..", "a" * 5000, "%ff", "%5B", "*.js", "x.js"]))
            path = path.replace(f"{{{name}}}", word)
    names = st.sampled_from(["folder", "path", "name", "token"])
    params = data.draw(st.lists(st.tuples(names, WORDS | st.sampled_from(list(known.values()))), max_size=4))
    headers = data.draw(
        st.fixed_dictionaries(
            {},
            optional={"range": st.sampled_from(["bytes=5-1", "bytes=-", "x", "bytes=0-1,3-4"]), "cookie": st.just("=")},
        )
    )
    reply = client.request(method, path, params=params, headers=headers, content=content)
    assert reply.status_code < 500
    if reply.status_code == 400 and path.startswith("/api/"):
        assert "\n" not in reply.text


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_app(tmp_path, number, code):
    """Ctrl-C is how it ends, as it says when it starts."""
    with started("app", str(tmp_path), "--no-browser", stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Open http")
        assert stop(process, number, lambda: True) == code
