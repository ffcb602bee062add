"""The napari plugin: its manifest, its layers, and the widget in a viewer that nobody sees."""

import dataclasses
import importlib.util
import os
from importlib.resources import files

import numpy as np
import pytest

from children import eventually
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.metrics import gcnr
from nuclear_diffusion.napari.layers import clip_layer, clip_of, demo_clip, get_reader, simulated_patient
from nuclear_diffusion.restore.clip import dehaze_clip
from nuclear_diffusion.restore.methods import Rpca
from nuclear_diffusion.restore.render import render
from nuclear_diffusion.types import eight_bits
from tests.test_app import made_clip, made_result

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),  # napari's and Qt's own
    pytest.mark.usefixtures("_no_figures_of_results"),
]
needs_napari = pytest.mark.skipif(importlib.util.find_spec("napari") is None, reason="needs napari")


@pytest.mark.slow
def test_a_result_opens_as_clip_background_fraction_and_signal(tmp_path):
    clip, share = made_result(tmp_path / "result")
    reader = get_reader(str(tmp_path / "result"))
    assert reader is not None
    layers = {look["name"]: data for data, look, _ in reader(str(tmp_path / "result"))}
    assert list(layers) == [clip.name, *(f"{clip.name}: {part}" for part in ("background", "haze fraction", "signal"))]
    np.testing.assert_array_equal(layers[f"{clip.name}: signal"], render(clip.frames, share, 0.5))
    assert get_reader([str(tmp_path / "result")] * 2) is None


def test_the_demo_clip_is_a_moving_picture():
    ((pixels, look, kind),) = demo_clip()
    assert (kind, look["rgb"], pixels.ndim) == ("image", True, 4)
    assert len(pixels) > 10


def test_a_clip_goes_through_a_layer_and_back():
    clip = made_clip()
    data, look, kind = clip_layer(clip)
    back = clip_of(data, look)
    assert (kind, back.fps, back.name) == ("image", clip.fps, clip.name)
    np.testing.assert_array_equal(back.frames, clip.frames)
    rgb = np.repeat(np.rint(255 * clip.frames).astype(np.uint8)[..., None], 3, axis=-1)
    np.testing.assert_allclose(clip_of(rgb, {"name": "a", "rgb": True}).frames, clip.frames, atol=1e-6)
    for bad in (clip.frames[0], 1000 * clip.frames, np.full_like(clip.frames, np.nan)):
        with pytest.raises(InputError):
            clip_of(bad, {"name": "a"})


@pytest.mark.slow
def test_the_sample_patient_has_its_truth_and_regions():
    (truth, *_), (hazy, *_), (labels, _, kind) = simulated_patient()
    assert truth.shape == hazy.shape == labels.shape
    assert kind == "labels"
    assert hazy[labels == 2].mean() > truth[labels == 2].mean()  # haze brightens the ventricle


@pytest.mark.slow
@needs_napari
def test_the_manifest_names_what_exists():
    from npe2 import PluginManifest

    manifest = PluginManifest.from_file(str(files("nuclear_diffusion.napari") / "napari.yaml"))
    manifest.validate_imports()


@needs_napari
@pytest.mark.slow
def test_the_widget_dehazes_turns_and_scores(tmp_path, monkeypatch):
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    pytest.importorskip("qtpy.QtWidgets", exc_type=ImportError)  # without Qt or its system libraries
    from napari.components import ViewerModel
    from qtpy.QtWidgets import QApplication

    from nuclear_diffusion.napari.widget import DehazeWidget

    application = QApplication.instance() or QApplication([])
    viewer = ViewerModel()
    clip, _ = made_result(tmp_path / "result")
    data, look, _ = clip_layer(clip)
    viewer.add_image(data, **look)
    widget = DehazeWidget(viewer)  # pyright: ignore[reportArgumentType]
    assert widget.layer.currentText() == clip.name
    widget.method.setCurrentText("rpca")
    widget.run()
    widget.method.setCurrentText("nuclear")  # chosen for the next run
    eventually(lambda: application.processEvents() or widget.start.isEnabled())
    expected = dehaze_clip(made_clip(), Rpca()).signal
    np.testing.assert_array_equal(viewer.layers[f"{clip.name} rpca: signal"].data, expected)
    square = np.array([[10, 10], [30, 10], [30, 30], [10, 30]]), np.array([[35, 35], [55, 35], [55, 55], [35, 55]])
    for name, polygon in zip(("septum", "ventricle"), square, strict=True):
        viewer.add_shapes([polygon], shape_type="polygon", name=name)  # pyright: ignore[reportAttributeAccessIssue]
    widget.score()
    masks = [np.zeros((64, 64), bool), np.zeros((64, 64), bool)]
    masks[0][10:31, 10:31] = masks[1][35:56, 35:56] = True
    value = gcnr(np.rint(255 * expected).astype(np.uint8), *masks)
    assert f"{value:.3f}" in widget.table.text()

    widget.clip = dataclasses.replace(made_clip(), color=np.repeat(eight_bits(made_clip().frames)[..., None], 3, -1))
    widget._show(dehaze_clip(widget.clip, Rpca()))  # a result in colour is scored by its brightness
    widget.score()
    assert f"{value:.3f}" in widget.table.text()
    assert os.environ["QT_QPA_PLATFORM"] == "offscreen"
