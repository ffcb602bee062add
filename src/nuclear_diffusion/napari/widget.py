"""The dock widget: choose a clip and a method, dehaze in a worker thread, change the strength, score drawn shapes."""

import threading
from typing import Any

import numpy as np
from napari.layers import Image, Shapes  # pyright: ignore[reportMissingImports]
from napari.qt.threading import thread_worker  # pyright: ignore[reportMissingImports]
from napari.viewer import Viewer  # pyright: ignore[reportMissingImports]
from qtpy.QtCore import Qt, Signal  # pyright: ignore[reportMissingImports,reportPrivateImportUsage,reportAttributeAccessIssue]
from qtpy.QtWidgets import (  # pyright: ignore[reportMissingImports]
    QComboBox,
    QFormLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)
from skimage.draw import polygon2mask

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import Clip
from nuclear_diffusion.measure.datasets import Annotation, Loaded
from nuclear_diffusion.measure.scores import SCORES, measure
from nuclear_diffusion.napari.layers import clip_of, result_layers
from nuclear_diffusion.restore.clip import Dehazed, dehaze_clip, rendered
from nuclear_diffusion.restore.methods import METHODS
from nuclear_diffusion.restore.run import prior_of
from nuclear_diffusion.sector import find_sector
from nuclear_diffusion.types import eight_bits

SHOWN = ("gcnr", "cnr", "ks_a", "ks_b", "flicker_a", "flicker_b")  # scores of the drawn shapes


class DehazeWidget(QWidget):
    """Dehaze an image layer. Shapes layers named "septum" and "ventricle" are scored while they are drawn."""

    told = Signal(int, int)
    """Windows done and their number, from the worker thread."""

    def __init__(self, napari_viewer: Viewer):
        super().__init__()
        self.viewer: Any = napari_viewer
        self.clip: Clip | None = None
        self.found: Dehazed | None = None  # at the strength that is shown
        self.signal: Any = None
        self.worker: Any = None
        self.ran = ""  # the method of the result
        self._stopped = threading.Event()
        self.told.connect(self._tell)
        self.layer, self.method = QComboBox(), QComboBox()
        self.method.addItems(list(METHODS))
        self.strength = QSlider(Qt.Orientation.Horizontal)
        self.strength.setRange(0, 100)
        self.strength.setValue(50)
        self.start, self.stop = QPushButton("Dehaze"), QPushButton("Stop")
        self.stop.setEnabled(False)
        self.bar, self.words, self.table = QProgressBar(), QLabel(), QLabel()
        self.words.setWordWrap(True)
        draw = QPushButton("Draw septum and ventricle")
        form = QFormLayout()
        for name, field in (("Clip", self.layer), ("Method", self.method), ("Strength", self.strength)):
            form.addRow(name, field)
        column = QVBoxLayout(self)
        column.addLayout(form)
        for part in (self.start, self.stop, self.bar, self.words, draw, self.table):
            column.addWidget(part)
        column.addStretch()
        self.start.clicked.connect(self.run)
        self.stop.clicked.connect(self.interrupt)
        self.strength.valueChanged.connect(self.turn)
        draw.clicked.connect(self.add_shapes)
        self.viewer.layers.events.inserted.connect(self._list)
        self.viewer.layers.events.removed.connect(self._list)
        self._list()

    def _list(self, event: object = None) -> None:
        chosen = self.layer.currentText()
        names = [layer.name for layer in self.viewer.layers if isinstance(layer, Image)]
        self.layer.clear()
        self.layer.addItems(names)
        if chosen in names:
            self.layer.setCurrentText(chosen)
        for layer in self.viewer.layers:
            if isinstance(layer, Shapes) and layer.name in ("septum", "ventricle"):
                layer.events.set_data.disconnect(self.score)
                layer.events.set_data.connect(self.score)

    def run(self) -> None:
        """Start the method on the chosen layer; the viewer stays alive."""
        try:
            layer = self.viewer.layers[self.layer.currentText()]
            self.clip = clip_of(layer.data, {"name": layer.name, "metadata": layer.metadata, "rgb": layer.rgb})
        except (KeyError, InputError) as error:
            self.words.setText(str(error) if isinstance(error, InputError) else "Open a clip first.")
            return
        self.found = self.signal = None
        self.ran = self.method.currentText()
        clip, method = self.clip, METHODS[self.ran]()

        self._stopped.clear()

        def progress(done: int, total: int) -> None:
            if self._stopped.is_set():
                raise InputError("Stopped.")
            self.told.emit(done, total)

        @thread_worker
        def separate() -> Dehazed:
            return dehaze_clip(clip, method, prior_of(method).prior, progress=progress)

        self.worker = separate()  # pyright: ignore[reportCallIssue]
        self.worker.returned.connect(self._show)
        self.worker.errored.connect(lambda error: self.words.setText(str(error)))
        self.worker.finished.connect(self._rest)
        self.start.setEnabled(False)
        self.stop.setEnabled(True)
        self.words.setText("")
        self.bar.setRange(0, 0)
        self.worker.start()

    def interrupt(self) -> None:
        """Stop the method at its next step."""
        self._stopped.set()
        self.words.setText("Stops at its next step.")

    def _tell(self, done: int, total: int) -> None:
        self.bar.setRange(0, total)
        self.bar.setValue(done)

    def _rest(self) -> None:
        self.start.setEnabled(True)
        self.stop.setEnabled(False)
        self.bar.setRange(0, 1)
        self.bar.setValue(0)

    def _show(self, found: Dehazed) -> None:
        assert self.clip is not None
        self.found = found
        for data, look, _ in result_layers(self.clip, found, self.ran):
            layer = self.viewer.add_image(data, **look)
            if look["name"].endswith("signal"):
                self.signal = layer
        self.words.setText(f"Done in {found.seconds:.1f} s.")
        self.strength.setEnabled(found.share is not None)
        self.turn()

    def turn(self) -> None:
        """Render at the slider's strength, without separating again."""
        if self.clip is None or self.found is None or self.found.share is None or self.signal is None:
            return
        self.found = rendered(self.clip, self.found, self.strength.value() / 100)
        self.signal.data = self.found.pixels
        self.score()

    def add_shapes(self) -> None:
        """Add the two layers to draw on; a shape counts in every frame."""
        for name, color in (("septum", "#f0e442"), ("ventricle", "#56b4e9")):
            if name not in self.viewer.layers:
                self.viewer.add_shapes(name=name, edge_color=color, face_color="transparent", edge_width=1)
        self.viewer.layers["septum"].mode = "add_polygon"

    def score(self, event: object = None) -> None:
        """The library's scores of the drawn shapes, of the clip and of the signal."""
        if self.clip is None or not all(name in self.viewer.layers for name in ("septum", "ventricle")):
            return
        shape = self.clip.shape[1:]
        masks = []
        for name in ("septum", "ventricle"):
            layer = self.viewer.layers[name]
            drawn = [np.asarray(polygon)[:, -2:] for polygon in layer.data]
            masks.append(np.any([np.zeros(shape, bool), *(polygon2mask(shape, each) for each in drawn)], axis=0))
        if not all(mask.any() for mask in masks):
            return
        numbers = tuple(range(1, len(self.clip) + 1))
        loaded = Loaded(self.clip, numbers, dict.fromkeys(numbers, Annotation(*masks)), None)
        sector = find_sector(self.clip.frames, self.clip.region) if self.found is None else self.found.sector
        lines = ["score: input, signal"]
        before = measure(loaded, eight_bits(self.clip.frames), sector)
        after = None if self.found is None else measure(loaded, eight_bits(self.found.signal), sector)
        for name in SHOWN:
            values = [_mean(found[name]) for found in (before, after) if found is not None]
            lines.append(f"{SCORES[name].title}: {', '.join(f'{value:.3f}' for value in values)}")
        self.table.setText("\n".join(lines))


def _mean(value: Any) -> float:
    return float(np.nanmean(list(value.values()))) if isinstance(value, dict) else float(value)
