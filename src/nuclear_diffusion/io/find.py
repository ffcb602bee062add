"""The clips in a folder, and their patients."""

import re
from pathlib import Path

_PATIENT = re.compile(r"patient[-_ ]?\d+", re.IGNORECASE)


def patient_of(clip: str) -> str:
    """The patient of a clip, from its name: `patient-3` for `patient-3-...`; any other name is its own patient."""
    match = _PATIENT.match(clip)
    return match.group() if match else clip


def find_clips(folder: Path) -> list[Path]:
    """The clips in a folder: files, subfolders, and one `read_video` pattern for each series of numbered images."""
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    patterns = {path: re.sub(r"\d+(?=\.[^.]+$)", "*", path.name) for path in entries if path.is_file()}
    series = {path: name for path, name in patterns.items() if _is_image(path) and "*" in name}
    singles = [path for path in entries if path not in series]
    return sorted({folder / name for name in series.values()} | set(singles))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in {".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".webp"}
