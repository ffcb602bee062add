"""The dehazed clip in the forms that the user asks for: in the result folder, or alone under the input's name."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from nuclear_diffusion.errors import require
from nuclear_diffusion.files import followed
from nuclear_diffusion.io import KINDS, Recording, Writer, check_kind, open_writer
from nuclear_diffusion.io.write.source import is_dicom
from nuclear_diffusion.restore.clip import Piece
from nuclear_diffusion.restore.methods import Method
from nuclear_diffusion.restore.pictures import caption

STEM = "signal"  # name of the dehazed clip in a result folder
NAMES = {STEM + kind.suffix for kind in KINDS.values()}  # what a result folder may hold besides its usual files


@dataclass(frozen=True)
class Outputs:
    """Which forms of the dehazed clip are written."""

    kinds: tuple[str, ...] = ()  # names in `KINDS`
    flat: bool = False  # write them alone, without a result folder
    anonymize: bool = False  # remove what identifies the patient from DICOM headers

    def __post_init__(self) -> None:
        require(not self.flat or bool(self.kinds), "--flat writes what --write names: add --write mha, for example.")
        require(not self.anonymize or "dicom" in self.kinds, "--anonymize is for DICOM: add --write dicom.")
        for kind in self.kinds:
            check_kind(kind, anonymize=self.anonymize)

    @classmethod
    def parse(cls, text: str, *, flat: bool = False, anonymize: bool = False) -> "Outputs":
        """From the names on the command line, separated by commas."""
        names = (name.strip().lower() for name in text.split(","))
        return cls(tuple(dict.fromkeys(names)) if text.strip() else (), flat, anonymize)

    def paths(self, folder: Path) -> dict[str, tuple[Path, ...]]:
        """Where each kind goes in a result folder, without those that are there; MP4 always is."""
        paths = {kind: folder / (STEM + KINDS[kind].suffix) for kind in self.kinds if kind != "mp4"}
        return {kind: (path,) for kind, path in paths.items() if not path.exists()}

    def flat_paths(self, folder: Path, name: str, clip: Recording) -> dict[str, tuple[Path, ...]]:
        """Where each kind goes without a result folder.

        A clip of MHA or DICOM frames that are a file each becomes such files of the same names. Raises `InputError` if
        that would replace the input.
        """
        paths = {}
        for kind in self.kinds:
            whole = (folder / (name + KINDS[kind].suffix),)
            paths[kind] = tuple(folder / file.name for file in clip.files or ()) if _is_series(clip, kind) else whole
        inputs = {followed(file) for file in (clip.source, *(clip.files or ()))}
        for path in (path for listed in paths.values() for path in listed):
            require(followed(path) not in inputs, f"{path} is the input itself: choose another -o.")
        return paths

    def passing(
        self, pieces: Iterable[Piece], paths: dict[str, tuple[Path, ...]], source: Recording, method: Method
    ) -> Iterator[Piece]:
        """Consecutive pieces of a clip, each written to `paths` when it passes.

        A kind with one path is written as a whole clip, which appears after the last piece; with a path for each frame,
        each appears when its frame has passed.
        """
        shape = (*source.shape, 3) if source.colored else source.shape

        def writer(kind: str, path: Path, length: int, part: Recording) -> AbstractContextManager[Writer]:
            about = {"anonymize": self.anonymize, "description": caption(method)}
            return open_writer(path, kind, (length, *shape[1:]), source.fps, source=part, **about)

        numbers = itertools.count()
        with ExitStack() as stack:
            single = [kind for kind, files in paths.items() if len(files) == 1]
            several = [kind for kind in paths if kind not in single]
            whole = [stack.enter_context(writer(kind, paths[kind][0], shape[0], source)) for kind in single]
            for piece in pieces:
                block = piece.dehazed.pixels
                for sink in whole:
                    sink.append(block)
                for frame, number in zip(block, numbers, strict=False):
                    for kind in several:
                        with writer(kind, paths[kind][number], 1, _frame(source, number)) as sink:
                            sink.append(frame[None])
                yield piece


def _is_series(clip: Recording, kind: str) -> bool:
    """Whether each frame is a file of this kind."""
    if not clip.files or len(clip.files) != len(clip):
        return False
    if kind == "dicom":
        return is_dicom(clip.files[0])
    return kind == "mha" and all(file.suffix.lower() == ".mha" for file in clip.files)


def _frame(source: Recording, number: int) -> Recording:
    """The source of one frame: its file."""
    file = (source.files or ())[number]
    return dataclasses.replace(source, source=file, files=(file,))
